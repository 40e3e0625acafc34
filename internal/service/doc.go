// Package service says which addresses belong to Kubernetes services, and so may be translated by whoever
// serves them.
package service
