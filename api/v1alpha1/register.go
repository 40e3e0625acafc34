package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every resource here.
var GroupVersion = schema.GroupVersion{Group: "weft.dev", Version: "v1alpha1"}

// AddToScheme registers the resources with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &NodeNetwork{}, &NodeNetworkList{}, &ClusterNetwork{}, &ClusterNetworkList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
