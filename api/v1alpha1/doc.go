// Package v1alpha1 holds the resources of weft.dev: what the operator decides about a node's network
// and what the node's agent reports back.
//
// +kubebuilder:object:generate=true
// +groupName=weft.dev
package v1alpha1
