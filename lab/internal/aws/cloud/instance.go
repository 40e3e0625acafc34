package cloud

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Instance states.
const (
	Pending      = "pending"
	Running      = "running"
	ShuttingDown = "shutting-down"
	Terminated   = "terminated"
)

// Instance is a virtual machine. What runs it is the lab's business.
type Instance struct {
	ID           string
	Type         string
	AZ           string
	SubnetID     string
	VPCID        string
	State        string
	Reason       string
	LaunchTime   time.Time
	TerminatedAt time.Time
	ImageID      string
	Profile      string
	Cluster      string
	Nodegroup    string
	Reservation  string
	Tags         map[string]string
	// ENIs are the ids of its interfaces.
	ENIs     []string
	Metadata Metadata
	// PrivateIP, PublicIP and MAC are the primary interface's at launch; they stay in the description of a
	// running instance only.
	PrivateIP netip.Addr
	PublicIP  netip.Addr
	MAC       string
	UserData  string
	// Token is the launch's client token.
	Token string
}

// Metadata are an instance's metadata options.
type Metadata struct {
	// HTTPTokens is required or optional; HTTPEndpoint enabled or disabled.
	HTTPTokens   string
	HTTPEndpoint string
	HopLimit     int
	InstanceTags bool
}

func (i *Instance) clone() Instance {
	out := *i
	out.Tags = cloneTags(i.Tags)
	out.ENIs = slices.Clone(i.ENIs)
	return out
}

// Namespace is the network namespace in which an instance's interfaces end.
func (m *Model) Namespace(instance string) string { return m.Lab + "-" + instance }

// Node is what the lab needs to start an instance.
type Node struct {
	Instance
	Region         string
	Account        string
	ZoneID         string
	PrivateDNSName string
	// PublicDNSName is empty without a public address.
	PublicDNSName string
	Namespace     string
	Subnet        netip.Prefix
	Router        netip.Addr
	TypeInfo      InstanceType
}

func (m *Model) node(i *Instance) Node {
	n := Node{
		Instance: i.clone(), Region: m.Region, Account: m.Account, ZoneID: m.ZoneID(i.AZ),
		PrivateDNSName: PrivateDNSName(m.Region, i.PrivateIP), Namespace: m.Namespace(i.ID),
	}
	if i.PublicIP.IsValid() {
		n.PublicDNSName = PublicDNSName(m.Region, i.PublicIP)
	}
	if s := m.Subnets[i.SubnetID]; s != nil {
		n.Subnet, n.Router = s.CIDR, s.at(1)
	}
	n.TypeInfo, _ = TypeByName(i.Type)
	return n
}

// Node looks an instance up.
func (c *Cloud) Node(id string) (Node, error) {
	var n Node
	err := apierror.New("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	found := false
	c.Read(func(m *Model) {
		if i := m.Instances[id]; i != nil {
			n, found = m.node(i), true
		}
	})
	if !found {
		return n, err
	}
	return n, nil
}

// Nodes are all instances that are not terminated.
func (c *Cloud) Nodes() []Node {
	var out []Node
	c.Read(func(m *Model) {
		for _, i := range Sorted(m.Instances) {
			if i.State != Terminated {
				out = append(out, m.node(i))
			}
		}
	})
	return out
}

// RunInstance adds an instance to a node group, in the group's subnet that has the fewest of its instances,
// as an Auto Scaling group balances zones. When it returns without error its network exists.
func (c *Cloud) RunInstance(ctx context.Context, cluster, nodegroup string) (Node, error) {
	var out Node
	err := c.change(ctx, func(m *Model) error {
		cl := m.Clusters[cluster]
		if cl == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No cluster found for name: %s.", cluster)
		}
		g := cl.Nodegroups[nodegroup]
		if g == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No node group found for name: %s.", nodegroup)
		}
		i, err := c.runInstance(m, cl, g)
		if err != nil {
			return err
		}
		out = m.node(i)
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("node group %s: run an instance: %w", nodegroup, err)
	}
	if err := c.follow(ctx, false); err != nil {
		return out, fmt.Errorf("instance %s: its network: %w", out.ID, err)
	}
	return out, nil
}

func (c *Cloud) runInstance(m *Model, cl *Cluster, g *Nodegroup) (*Instance, error) {
	if _, ok := TypeByName(g.InstanceType); !ok {
		return nil, apierror.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", g.InstanceType)
	}
	count := map[string]int{}
	for _, i := range m.Instances {
		if i.State == Running && i.Cluster == cl.Name && i.Nodegroup == g.Name {
			count[i.SubnetID]++
		}
	}
	if len(g.Subnets) == 0 {
		return nil, apierror.New("InvalidParameterValue", "node group %s has no subnets", g.Name)
	}
	subnet := slices.MinFunc(g.Subnets, func(a, b string) int { return count[a] - count[b] })
	s := m.Subnets[subnet]
	e, err := c.createENI(m, CreateENIInput{SubnetID: subnet, Groups: []string{cl.SecurityGroup}})
	if err != nil {
		return nil, err
	}
	if s.MapPublicIP {
		a, ok := m.Public.take(e.ID)
		if !ok {
			m.dropENI(e)
			return nil, apierror.New("InsufficientAddressCapacity", "There are no public addresses left in the lab's pool %s", m.Public.CIDR)
		}
		e.Addresses[0].Public = a
	}
	now := c.cfg.Now()
	i := &Instance{
		ID: newID(c.rng, "i"), Type: g.InstanceType, AZ: s.AZ, SubnetID: s.ID, VPCID: s.VPCID, State: Running, LaunchTime: now,
		ImageID: g.ImageID, Profile: g.Profile, Cluster: cl.Name, Nodegroup: g.Name, Reservation: newID(c.rng, "r"),
		ENIs: []string{e.ID}, Metadata: g.Metadata, PrivateIP: e.Primary(), PublicIP: e.Addresses[0].Public, MAC: e.MAC,
		Token: newUUID(c.rng), Tags: map[string]string{},
	}
	maps.Copy(i.Tags, g.instanceTags(cl.Name))
	maps.Copy(e.Tags, map[string]string{"eks:cluster-name": cl.Name, "eks:nodegroup-name": g.Name})
	e.Attachment = &Attachment{ID: newID(c.rng, "eni-attach"), InstanceID: i.ID, InstanceOwner: m.Account, Status: Attached, Since: now, DeleteOnTermination: true}
	m.Instances[i.ID] = i
	return i, nil
}

// StateChange is what TerminateInstances answers for each instance.
type StateChange struct{ ID, Before, Now string }

// TerminateInstances begins to terminate instances: all of them, or none if one does not exist. It may be
// repeated.
func (c *Cloud) TerminateInstances(ctx context.Context, ids []string) ([]StateChange, error) {
	var out []StateChange
	err := c.change(ctx, func(m *Model) error {
		for _, id := range ids {
			if m.Instances[id] == nil {
				return notFound("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
			}
		}
		for _, id := range ids {
			i := m.Instances[id]
			before := i.State
			if i.State != Terminated && i.State != ShuttingDown {
				i.State, i.Reason = ShuttingDown, "User initiated"
				c.planTermination(id, c.cfg.Now().Add(c.latency.Terminate))
			}
			out = append(out, StateChange{ID: id, Before: before, Now: i.State})
		}
		c.settle()
		return nil
	})
	return out, err
}

func (c *Cloud) planTermination(id string, at time.Time) {
	c.due.add(at, func(c *Cloud) bool {
		i := c.m.Instances[id]
		if i == nil || i.State != ShuttingDown {
			return false
		}
		if c.cfg.Machines != nil {
			c.stopping[id] = true
			return false
		}
		c.terminated(id)
		return true
	})
}

// terminated takes the instance's interfaces away; it stays described for an hour. Callers hold mu.
func (c *Cloud) terminated(id string) {
	i := c.m.Instances[id]
	if i == nil || i.State == Terminated {
		return
	}
	for _, eni := range slices.Clone(i.ENIs) {
		e := c.m.ENIs[eni]
		if e == nil {
			continue
		}
		goes := e.Attachment.DeleteOnTermination
		c.m.unplug(e)
		if goes {
			c.m.dropENI(e)
		}
	}
	now := c.cfg.Now()
	i.State, i.TerminatedAt = Terminated, now
	i.PublicIP = netip.Addr{}
	c.planForget(id, now.Add(pastHour))
}

func (c *Cloud) planForget(id string, at time.Time) {
	c.due.add(at, func(c *Cloud) bool {
		if i := c.m.Instances[id]; i != nil && i.State == Terminated {
			delete(c.m.Instances, id)
			return true
		}
		return false
	})
}

// SetMetadataOptions changes an instance's metadata options; zero fields stay.
func (c *Cloud) SetMetadataOptions(ctx context.Context, id string, o Metadata) (Metadata, error) {
	var out Metadata
	err := c.change(ctx, func(m *Model) error {
		i := m.Instances[id]
		if i == nil {
			return notFound("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		if o.HopLimit != 0 && (o.HopLimit < 1 || o.HopLimit > 64) {
			return apierror.New("InvalidParameterValue", "The value for HttpPutResponseHopLimit must be between 1 and 64")
		}
		if o.HTTPTokens != "" && o.HTTPTokens != "required" && o.HTTPTokens != "optional" {
			return apierror.New("InvalidParameterValue", "The value '%s' for HttpTokens is not valid", o.HTTPTokens)
		}
		if o.HTTPEndpoint != "" && o.HTTPEndpoint != "enabled" && o.HTTPEndpoint != "disabled" {
			return apierror.New("InvalidParameterValue", "The value '%s' for HttpEndpoint is not valid", o.HTTPEndpoint)
		}
		if o.HopLimit != 0 {
			i.Metadata.HopLimit = o.HopLimit
		}
		if o.HTTPTokens != "" {
			i.Metadata.HTTPTokens = o.HTTPTokens
		}
		if o.HTTPEndpoint != "" {
			i.Metadata.HTTPEndpoint = o.HTTPEndpoint
		}
		out = i.Metadata
		return nil
	})
	return out, err
}
