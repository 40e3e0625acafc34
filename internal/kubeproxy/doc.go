// Package kubeproxy finds what kube-proxy left in a network namespace, says which services its rules serve, and
// removes its rules alone, so that connections that they translated go on.
package kubeproxy
