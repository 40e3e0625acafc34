// Package ec2 is the part of Amazon EC2 that owns a node's interfaces and addresses, with one typed error
// for each outcome that weft decides on and a rate limit for each action.
package ec2

import (
	"context"
	"net/netip"
)

// API is what the operator asks of EC2. Describes take filters, never ids: an id that EC2 doesn't know (yet)
// fails a whole call, a filter just finds nothing.
type API interface {
	DescribeInstances(ctx context.Context, ids []string) ([]Instance, error)
	DescribeInstanceTypes(ctx context.Context, names []string) ([]InstanceType, error)
	DescribeInterfaces(ctx context.Context, q InterfaceQuery) ([]Interface, error)
	DescribeSubnets(ctx context.Context, vpcID string) ([]Subnet, error)
	DescribeRouteTables(ctx context.Context, vpcID string) ([]RouteTable, error)
	// DescribeVPC returns the VPC's IPv4 blocks.
	DescribeVPC(ctx context.Context, vpcID string) ([]netip.Prefix, error)

	CreateInterface(ctx context.Context, in CreateInterface) (Interface, error)
	// AttachInterface returns the attachment's id.
	AttachInterface(ctx context.Context, interfaceID, instanceID string, deviceIndex int) (string, error)
	SetDeleteOnTermination(ctx context.Context, interfaceID, attachmentID string, on bool) error
	// AssignAddresses returns the new addresses only. After a lost answer it isn't known how many there
	// are: describe before asking again.
	AssignAddresses(ctx context.Context, interfaceID string, n int) ([]netip.Addr, error)
	UnassignAddresses(ctx context.Context, interfaceID string, addresses []netip.Addr) error
	DetachInterface(ctx context.Context, attachmentID string, force bool) error
	DeleteInterface(ctx context.Context, interfaceID string) error

	// Permitted finds out whether the role may call the action, without changing anything. Its error is
	// ErrUnauthorized if not, anything else if that could not be found out.
	Permitted(ctx context.Context, action string) error
}

// The actions, as IAM spells them after "ec2:".
const (
	ActionDescribeInstances     = "DescribeInstances"
	ActionDescribeInstanceTypes = "DescribeInstanceTypes"
	ActionDescribeInterfaces    = "DescribeNetworkInterfaces"
	ActionDescribeSubnets       = "DescribeSubnets"
	ActionDescribeRouteTables   = "DescribeRouteTables"
	ActionDescribeVPCs          = "DescribeVpcs"
	ActionCreateInterface       = "CreateNetworkInterface"
	ActionAttachInterface       = "AttachNetworkInterface"
	ActionModifyInterface       = "ModifyNetworkInterfaceAttribute"
	ActionAssignAddresses       = "AssignPrivateIpAddresses"
	ActionUnassignAddresses     = "UnassignPrivateIpAddresses"
	ActionDetachInterface       = "DetachNetworkInterface"
	ActionDeleteInterface       = "DeleteNetworkInterface"
)

// States of an instance, an ENI and an attachment, as EC2 spells them.
const (
	StateRunning        = "running"
	StateShuttingDown   = "shutting-down"
	StateTerminated     = "terminated"
	StatusAvailable     = "available"
	StatusPending       = "pending"
	StatusInUse         = "in-use"
	AttachmentAttaching = "attaching"
	AttachmentAttached  = "attached"
	AttachmentDetaching = "detaching"
)

// Tags of the ENIs that weft makes.
const (
	TagManaged  = "weft.dev/managed"  // "true"
	TagCluster  = "weft.dev/cluster"  // the cluster's name
	TagNode     = "weft.dev/node"     // the node's name
	TagInstance = "weft.dev/instance" // the instance that it was made for
	// TagNoManage is the AWS VPC CNI's: "true" keeps it off an ENI.
	TagNoManage = "node.k8s.amazonaws.com/no_manage"
)

// Description of an ENI that weft makes for an instance.
func Description(instanceID string) string { return "weft " + instanceID }

// ControlPlaneDescription of the ENIs that EKS puts into the VPC for a cluster's control plane.
func ControlPlaneDescription(cluster string) string { return "Amazon EKS " + cluster }

// Instance is an EC2 instance.
type Instance struct {
	ID     string
	Type   string
	State  string
	Zone   string
	VPCID  string
	Subnet string
}

// Gone: the instance will never run again.
func (i Instance) Gone() bool { return i.State == StateShuttingDown || i.State == StateTerminated }

// InstanceType is what a type allows on its default network card.
type InstanceType struct {
	Name       string
	Interfaces int
	// AddressesPerInterface counts an ENI's own address.
	AddressesPerInterface int
}

// Interface is an ENI.
type Interface struct {
	ID          string
	MAC         string
	SubnetID    string
	VPCID       string
	Zone        string
	Description string
	Status      string
	Groups      []string
	Primary     netip.Addr
	Secondary   []netip.Addr
	// Prefixes delegated to it; each counts like an address.
	Prefixes   []netip.Prefix
	Tags       map[string]string
	Attachment *Attachment
}

// Attachment of an ENI to an instance.
type Attachment struct {
	ID                  string
	InstanceID          string
	DeviceIndex         int
	CardIndex           int
	Status              string
	DeleteOnTermination bool
}

// Managed: weft made the ENI for this cluster.
func (i Interface) Managed(cluster string) bool {
	return i.Tags[TagManaged] == "true" && i.Tags[TagCluster] == cluster
}

// Instance that the ENI is attached to, or was made for.
func (i Interface) Instance() string {
	if i.Attachment != nil {
		return i.Attachment.InstanceID
	}
	return i.Tags[TagInstance]
}

// InterfaceQuery selects ENIs: those that match every field that is set.
type InterfaceQuery struct {
	IDs         []string // any of them
	InstanceIDs []string // attached to any of them
	MadeFor     []string // tagged with any of these instances
	VPCID       string
	Status      string
	Description string
	Tags        map[string]string
}

// CreateInterface asks for an ENI with secondary addresses and tags, in one call.
type CreateInterface struct {
	SubnetID    string
	Groups      []string
	Description string
	Addresses   int
	Tags        map[string]string
	// Token makes a repeated call return the same ENI.
	Token string
}

// Subnet of a VPC.
type Subnet struct {
	ID   string
	CIDR netip.Prefix
	Zone string
	Free int
}

// RouteTable of a VPC.
type RouteTable struct {
	ID string
	// Main is the table of every subnet that has no association.
	Main    bool
	Subnets []string
	Routes  []Route
}

// Route of a route table.
type Route struct {
	Destination string
	// Target is the id of what it leads to: igw-…, nat-…, tgw-…, eni-…
	Target string
	// Active is false for a route whose target is gone.
	Active bool
}
