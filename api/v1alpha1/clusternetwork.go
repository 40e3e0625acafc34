package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ClusterNetworkName is the name of the one ClusterNetwork.
const ClusterNetworkName = "default"

// ClusterNetwork holds the facts about the cluster's surroundings that only the operator can learn, as
// they last were known to be good.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cn
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="there is one ClusterNetwork and its name is default"
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterName`
// +kubebuilder:printcolumn:name="VPC",type=string,JSONPath=`.status.vpcID`
// +kubebuilder:printcolumn:name="CIDRs",type=string,JSONPath=`.status.vpcCIDRs`
// +kubebuilder:printcolumn:name="Stale-Since",type=date,JSONPath=`.status.staleSince`
type ClusterNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterNetworkSpec   `json:"spec,omitempty"`
	Status ClusterNetworkStatus `json:"status,omitempty"`
}

// ClusterNetworkList is a list of ClusterNetwork.
//
// +kubebuilder:object:root=true
type ClusterNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterNetwork `json:"items"`
}

// ClusterNetworkSpec is set at install.
//
// +kubebuilder:validation:XValidation:rule="self.clusterName == oldSelf.clusterName",message="clusterName can't change after install: identities are made of it"
type ClusterNetworkSpec struct {
	// ClusterName is part of every identity.
	ClusterName string `json:"clusterName"`
}

// ClusterNetworkStatus is what the operator found.
type ClusterNetworkStatus struct {
	Region string `json:"region,omitempty"`
	VPCID  string `json:"vpcID,omitempty"`
	// VPCCIDRs are the VPC's IPv4 blocks: traffic to them is never masqueraded.
	//
	// +listType=set
	VPCCIDRs []string `json:"vpcCIDRs,omitempty"`
	// Peers are the IPv4 blocks that the VPC's route tables lead to by a peering or a transit gateway: traffic
	// to them isn't masqueraded either.
	//
	// +listType=set
	Peers []string `json:"peers,omitempty"`
	// Subnets of the VPC.
	//
	// +listType=map
	// +listMapKey=id
	Subnets []Subnet `json:"subnets,omitempty"`
	// ControlPlane are the addresses of the control plane's ENIs.
	//
	// +listType=set
	ControlPlane []string `json:"controlPlane,omitempty"`
	// StaleSince is set while the facts could not be read anew.
	StaleSince *metav1.Time `json:"staleSince,omitempty"`
	// Conditions: one whose type is the EC2 action (UnassignPrivateIpAddresses), status False, for each
	// that the role may not call and only a feature needs; message says which feature is off.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SubnetRoute is what a subnet's default route leads to.
//
// +kubebuilder:validation:Enum=InternetGateway;NATGateway;TransitGateway;None;Unknown
type SubnetRoute string

// The kinds of default route.
const (
	RouteInternetGateway SubnetRoute = "InternetGateway"
	RouteNATGateway      SubnetRoute = "NATGateway"
	RouteTransitGateway  SubnetRoute = "TransitGateway"
	RouteNone            SubnetRoute = "None"
	RouteUnknown         SubnetRoute = "Unknown"
)

// Subnet is a subnet of the VPC.
type Subnet struct {
	ID               string      `json:"id"`
	CIDR             string      `json:"cidr"`
	AvailabilityZone string      `json:"availabilityZone,omitempty"`
	DefaultRoute     SubnetRoute `json:"defaultRoute"`
	// FreeAddresses as EC2 counts them.
	FreeAddresses int32 `json:"freeAddresses"`
}
