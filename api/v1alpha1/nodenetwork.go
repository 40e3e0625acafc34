package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeNetwork is one node's network. Its name is the node's and the node owns it. spec is written by the
// operator alone, status by the node's agent, but for the conditions that the operator owns.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nn
// +kubebuilder:printcolumn:name="Instance",type=string,JSONPath=`.spec.instanceID`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.instanceType`
// +kubebuilder:printcolumn:name="Held",type=integer,JSONPath=`.status.held`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="AddressesAssigned")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeNetworkSpec   `json:"spec,omitempty"`
	Status NodeNetworkStatus `json:"status,omitempty"`
}

// NodeNetworkList is a list of NodeNetwork.
//
// +kubebuilder:object:root=true
type NodeNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeNetwork `json:"items"`
}

// Family is an address family.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type Family string

// The families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// NodeNetworkSpec is what the operator assigned to the node.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.generation) || (has(self.generation) && self.generation >= oldSelf.generation)",message="generation only grows"
type NodeNetworkSpec struct {
	// Families that the node's endpoints get addresses of, preferred first.
	Families []Family `json:"families,omitempty"`
	// InstanceID is the EC2 instance behind the node.
	InstanceID string `json:"instanceID,omitempty"`
	// InstanceType as EC2 names it: m5.xlarge.
	InstanceType string `json:"instanceType,omitempty"`
	// AvailabilityZone of the instance.
	AvailabilityZone string `json:"availabilityZone,omitempty"`
	// VPCID of the instance.
	VPCID string `json:"vpcID,omitempty"`
	// MaxInterfaces and MaxAddressesPerInterface are the instance type's limits on its first network
	// card. The second counts an ENI's own address.
	MaxInterfaces            int32 `json:"maxInterfaces,omitempty"`
	MaxAddressesPerInterface int32 `json:"maxAddressesPerInterface,omitempty"`
	// Generation is the highest generation handed out on this node: it only grows.
	Generation int64 `json:"generation,omitempty"`
	// Interfaces are the instance's ENIs, by device index.
	//
	// +listType=map
	// +listMapKey=id
	Interfaces []Interface `json:"interfaces,omitempty"`
}

// Interface is an ENI attached to the node.
type Interface struct {
	// ID is eni-….
	ID string `json:"id"`
	// MAC is how the agent finds the device: lower case, colons.
	MAC string `json:"mac"`
	// DeviceIndex is 0 for the primary ENI.
	DeviceIndex int32 `json:"deviceIndex"`
	// SubnetID and SubnetCIDR; the subnet's router is the CIDR's first address.
	SubnetID   string `json:"subnetID"`
	SubnetCIDR string `json:"subnetCIDR"`
	// PrimaryAddress is the ENI's own address, never an endpoint's.
	PrimaryAddress string `json:"primaryAddress"`
	// SecurityGroups of the ENI.
	//
	// +listType=set
	SecurityGroups []string `json:"securityGroups,omitempty"`
	// Addresses are the secondary addresses that endpoints may have.
	//
	// +listType=map
	// +listMapKey=address
	Addresses []Address `json:"addresses,omitempty"`
	// Foreign are secondary addresses that weft did not assign and no endpoint gets: another CNI's.
	//
	// +listType=set
	Foreign []string `json:"foreign,omitempty"`
	// Managed is false for an ENI that weft did not make and gives no addresses of.
	Managed bool `json:"managed,omitempty"`
}

// Address is one address of an ENI with the generation under which the node got it.
type Address struct {
	Address    string `json:"address"`
	Generation int64  `json:"generation"`
	// Release, in spec, asks for the address back: the agent fences it once no endpoint has it and it has
	// rested. An address that was fenced stays so under this generation, whatever becomes of the wish;
	// a newer generation gives it to the node again.
	Release bool `json:"release,omitempty"`
}

// NodeDatapath says how the programs run on a node.
type NodeDatapath struct {
	// Kernel is its release.
	Kernel string `json:"kernel"`
	// Attach is how programs are attached: tcx, or clsact on a kernel that has no tcx.
	Attach string `json:"attach"`
	// PodDevice is what new pods get: veth, netkit or netkit-l2. Programs are attached to netkit by itself.
	PodDevice string `json:"podDevice,omitempty"`
	// Fallbacks name what the kernel lacks, what stands in for it, and what that costs.
	//
	// +listType=atomic
	Fallbacks []string `json:"fallbacks,omitempty"`
	// Pending names settings that take effect when the node is rebooted.
	//
	// +listType=atomic
	Pending []string `json:"pending,omitempty"`
	// Pacing is how what pods with limited bandwidth send is kept to its limit: by fq, or by a queue and
	// a policer.
	Pacing string `json:"pacing,omitempty"`
	// PacingReason says why it is so.
	PacingReason string `json:"pacingReason,omitempty"`
}

// NodeNetworkStatus is what the agent reports.
type NodeNetworkStatus struct {
	// InstanceID that the agent found in its metadata: a status of another instance is stale.
	InstanceID string `json:"instanceID,omitempty"`
	// ObservedGeneration is the spec.generation that the agent's pool reflects.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Held, Used and Waiting count addresses in the pool, addresses given to endpoints, and ADDs that
	// wait for one.
	Held    int32 `json:"held,omitempty"`
	Used    int32 `json:"used,omitempty"`
	Waiting int32 `json:"waiting,omitempty"`
	// Datapath is the variant of the programs that runs.
	Datapath *NodeDatapath `json:"datapath,omitempty"`
	// Resting counts addresses that were released a moment ago and that no endpoint gets yet: to the
	// operator they are as good as used.
	Resting int32 `json:"resting,omitempty"`
	// UsedAddresses are the addresses given to endpoints.
	//
	// +listType=map
	// +listMapKey=address
	UsedAddresses []UsedAddress `json:"usedAddresses,omitempty"`
	// Fenced are addresses that the agent gave up for ever, under these generations: they are out of its
	// pool, it wrote that to disk, and the operator may unassign them.
	//
	// +listType=map
	// +listMapKey=address
	Fenced []Address `json:"fenced,omitempty"`
	// Capacity is how many endpoints the node can hold in the end.
	Capacity int32 `json:"capacity,omitempty"`
	// AgentVersion is the version of the agent that wrote this.
	AgentVersion string `json:"agentVersion,omitempty"`
	// UnreachedPeers counts the nodes that this node's agent doesn't reach, and Unreached names them,
	// MaxUnreached at most.
	UnreachedPeers int32 `json:"unreachedPeers,omitempty"`
	// +listType=map
	// +listMapKey=node
	Unreached []UnreachedPeer `json:"unreached,omitempty"`
	// Conditions. Of the agent: Ready, DatapathReady, InterfacesReady. Of the operator:
	// AddressesAssigned.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// UsedAddress says which pod has an address.
type UsedAddress struct {
	Address    string `json:"address"`
	Generation int64  `json:"generation"`
	// Pod is namespace/name.
	Pod string `json:"pod,omitempty"`
}

// MaxUnreached bounds what one status names.
const MaxUnreached = 16

// UnreachedPeer says what an agent saw of another node.
type UnreachedPeer struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	// ICMP and TCP are what became of the probes: ok, timed out, refused, no route, not probed, failed,
	// answered by something else.
	ICMP  string      `json:"icmp"`
	TCP   string      `json:"tcp"`
	Since metav1.Time `json:"since"`
}

// Condition types of a NodeNetwork.
const (
	// ConditionReady (agent): endpoints can be made. The operator removes the start-up taint on it.
	ConditionReady = "Ready"
	// ReasonStarting of a Ready that is False: the agent is on its way, the message says how far.
	ReasonStarting = "Starting"
	// ConditionDatapathReady (agent): programs are loaded and attached.
	ConditionDatapathReady = "DatapathReady"
	// ReasonInterfaceMissing of ConditionInterfacesReady: the node has no device with the MAC of an ENI that it was
	// assigned. The operator asks EC2 at once what became of it.
	ReasonInterfaceMissing = "InterfaceMissing"
	// ConditionInterfacesReady (agent): every assigned ENI has been found and set up.
	ConditionInterfacesReady = "InterfacesReady"
	// ConditionAddressesAssigned (operator): EC2 gave what the node needs. When False, reason is the EC2
	// error code, such as UnauthorizedOperation, and message names the action.
	ConditionAddressesAssigned = "AddressesAssigned"
)
