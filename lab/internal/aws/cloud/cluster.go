package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Cluster is an EKS cluster.
type Cluster struct {
	Name    string
	Version string
	Created time.Time
	Status  string
	// ID is the 32 digits in its endpoint's and its issuer's names.
	ID            string
	Endpoint      string
	Issuer        string
	CA            []byte
	JWKS          []byte
	ServiceCIDR   netip.Prefix
	VPCID         string
	Subnets       []string
	SecurityGroup string
	// ControlPlaneGroup is the additional security group that eksctl makes.
	ControlPlaneGroup string
	RoleARN           string
	Nodegroups        map[string]*Nodegroup
	Addons            map[string]*Addon
	Tags              map[string]string
}

// ARN is the cluster's name for policies.
func (m *Model) ClusterARN(name string) string {
	return fmt.Sprintf("arn:aws:eks:%s:%s:cluster/%s", m.Region, m.Account, name)
}

// Taint is one of a node group, its effect as EKS spells it.
type Taint struct{ Key, Value, Effect string }

// Nodegroup is a managed node group.
type Nodegroup struct {
	Name              string
	ID                string
	InstanceType      string
	Min, Max, Desired int
	Subnets           []string
	Labels            map[string]string
	Taints            []Taint
	Profile           string
	RoleARN           string
	ImageID           string
	AMIType           string
	Version           string
	AutoScaling       string
	Metadata          Metadata
	Tags              map[string]string
	Created           time.Time
}

// Addon is one that the cluster has.
type Addon struct {
	Name    string
	Version string
	Status  string
	RoleARN string
	Issues  []AddonIssue
	Created time.Time
}

// AddonIssue is a reason why an add-on isn't healthy.
type AddonIssue struct{ Code, Message string }

// ClusterSpec asks for a cluster with a VPC of its own.
type ClusterSpec struct {
	Name    string
	Version string
	// ServiceCIDR is 10.100.0.0/16 if invalid.
	ServiceCIDR netip.Prefix
	// WithOIDC registers the cluster's issuer with IAM.
	WithOIDC bool
	Tags     map[string]string
}

// NodegroupSpec asks for a managed node group.
type NodegroupSpec struct {
	Name              string
	InstanceType      string // m5.large if empty
	Min, Max, Desired int
	Private           bool
	Zones             []string // all if empty
	Labels            map[string]string
	Taints            []Taint
	Tags              map[string]string
	// Metadata options; the zero value is EKS's: tokens required, hop limit 2.
	Metadata Metadata
}

// CreateCluster makes eksctl's VPC and an EKS cluster in it, with the control plane's interfaces.
func (c *Cloud) CreateCluster(ctx context.Context, spec ClusterSpec) (Cluster, error) {
	var out Cluster
	err := c.change(ctx, func(m *Model) error {
		if m.Clusters[spec.Name] != nil {
			return apierror.WithStatus(409, "ResourceInUseException", "Cluster already exists with name: %s", spec.Name)
		}
		if spec.Name == "" {
			return apierror.New("InvalidParameterException", "the cluster has no name")
		}
		if !spec.ServiceCIDR.IsValid() {
			spec.ServiceCIDR = netip.MustParsePrefix("10.100.0.0/16")
		}
		v, subnets, err := c.newVPC(m, spec.Name)
		if err != nil {
			return err
		}
		id := strings.ToUpper(fmt.Sprintf("%016x%016x", c.rng.Uint64(), c.rng.Uint64()))
		cl := &Cluster{
			Name: spec.Name, Version: spec.Version, Created: c.cfg.Now(), Status: "ACTIVE", ID: id,
			Endpoint: fmt.Sprintf("https://%s.gr7.%s.eks.amazonaws.com", id, m.Region),
			Issuer:   fmt.Sprintf("https://oidc.eks.%s.amazonaws.com/id/%s", m.Region, id), ServiceCIDR: spec.ServiceCIDR,
			VPCID: v.ID, Subnets: subnets, Nodegroups: map[string]*Nodegroup{}, Addons: map[string]*Addon{}, Tags: cloneTags(spec.Tags),
		}
		group := c.newGroup(m, v.ID, fmt.Sprintf("eks-cluster-sg-%s-%d", spec.Name, 1000000000+c.rng.IntN(1000000000)),
			"EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
			map[string]string{"Name": "eks-cluster-sg-" + spec.Name, "kubernetes.io/cluster/" + spec.Name: "owned", "aws:eks:cluster-name": spec.Name})
		c.allowGroup(group, group.ID)
		cl.SecurityGroup = group.ID
		control := c.newGroup(m, v.ID, "eksctl-"+spec.Name+"-cluster-ControlPlaneSecurityGroup", "Communication between the control plane and worker nodegroups",
			map[string]string{"Name": "eksctl-" + spec.Name + "-cluster/ControlPlaneSecurityGroup", "alpha.eksctl.io/cluster-name": spec.Name})
		cl.ControlPlaneGroup = control.ID
		role := c.newRole(m, "/", "eksctl-"+spec.Name+"-cluster-ServiceRole-"+randomText(c.rng, upper, 12), serviceTrust("eks.amazonaws.com"))
		role.Attached = []string{"arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"}
		cl.RoleARN = role.ARN
		// What others see of the control plane: one interface under the API server, one from which the
		// API server calls webhooks, in different zones.
		for i, ns := range []string{"cp", "xeni"} {
			if _, err := c.controlPlaneENI(m, cl, m.Lab+"-"+ns, subnets[3+i]); err != nil {
				return err
			}
		}
		m.Clusters[spec.Name] = cl
		if spec.WithOIDC {
			m.addOIDCProvider(cl.Issuer, []string{"sts.amazonaws.com"}, nil, c.cfg.Now())
		}
		out = cl.clone()
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("cluster %s: create: %w", spec.Name, err)
	}
	if err := c.follow(ctx, false); err != nil {
		return out, fmt.Errorf("cluster %s: its network: %w", spec.Name, err)
	}
	return out, nil
}

func (c *Cloud) controlPlaneENI(m *Model, cl *Cluster, namespace, subnet string) (*ENI, error) {
	e, err := c.createENI(m, CreateENIInput{SubnetID: subnet, Description: "Amazon EKS " + cl.Name, Groups: []string{cl.SecurityGroup, cl.ControlPlaneGroup}})
	if err != nil {
		return nil, err
	}
	e.Requester = "AmazonEKS"
	e.Namespace, e.Device = namespace, "eth0"
	e.Attachment = &Attachment{ID: newID(c.rng, "eni-attach"), InstanceOwner: "amazon-eks", DeviceIndex: 1, Status: Attached, Since: c.cfg.Now()}
	return e, nil
}

// ControlPlane are the addresses of the control plane's interfaces: Endpoints are where nodes find the API
// server, Callers where its webhook calls come from.
type ControlPlane struct{ Endpoints, Callers []netip.Addr }

// ControlPlane looks the control plane's addresses up.
func (c *Cloud) ControlPlane(cluster string) ControlPlane {
	var out ControlPlane
	c.Read(func(m *Model) {
		for _, e := range Sorted(m.ENIs) {
			if e.Description != "Amazon EKS "+cluster || e.Requester == "" {
				continue
			}
			switch e.Namespace {
			case m.Lab + "-cp":
				out.Endpoints = append(out.Endpoints, e.Primary())
			case m.Lab + "-xeni":
				out.Callers = append(out.Callers, e.Primary())
			}
		}
	})
	return out
}

// RotateControlPlane replaces the interface from which webhook calls come, as EKS does when it replaces its
// machines, and returns the new addresses.
func (c *Cloud) RotateControlPlane(ctx context.Context, cluster string) (ControlPlane, error) {
	err := c.change(ctx, func(m *Model) error {
		cl := m.Clusters[cluster]
		if cl == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No cluster found for name: %s.", cluster)
		}
		for _, old := range Sorted(m.ENIs) {
			if old.Namespace != m.Lab+"-xeni" || old.Description != "Amazon EKS "+cluster {
				continue
			}
			if _, err := c.controlPlaneENI(m, cl, old.Namespace, old.SubnetID); err != nil {
				return err
			}
			old.Attachment = nil
			m.dropENI(old)
		}
		return nil
	})
	if err != nil {
		return ControlPlane{}, fmt.Errorf("cluster %s: rotate the control plane's interfaces: %w", cluster, err)
	}
	return c.ControlPlane(cluster), nil
}

// CreateNodegroup makes a node group with a role and an instance profile of its own, without instances.
func (c *Cloud) CreateNodegroup(ctx context.Context, cluster string, spec NodegroupSpec) (Nodegroup, error) {
	var out Nodegroup
	err := c.change(ctx, func(m *Model) error {
		cl := m.Clusters[cluster]
		if cl == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No cluster found for name: %s.", cluster)
		}
		if cl.Nodegroups[spec.Name] != nil {
			return apierror.WithStatus(409, "ResourceInUseException", "NodeGroup already exists with name %s and cluster name %s", spec.Name, cluster)
		}
		if spec.InstanceType == "" {
			spec.InstanceType = "m5.large"
		}
		it, ok := TypeByName(spec.InstanceType)
		if !ok {
			return apierror.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", spec.InstanceType)
		}
		md := spec.Metadata
		if md.HTTPTokens == "" {
			md.HTTPTokens = "required"
		}
		if md.HTTPEndpoint == "" {
			md.HTTPEndpoint = "enabled"
		}
		if md.HopLimit == 0 {
			md.HopLimit = 2
		}
		id := newUUID(c.rng)
		role := c.newRole(m, "/", "eksctl-"+cluster+"-nodegroup-"+spec.Name+"-NodeInstanceRole-"+randomText(c.rng, upper, 12), serviceTrust("ec2.amazonaws.com"))
		for _, p := range []string{"AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly", "AmazonSSMManagedInstanceCore"} {
			role.Attached = append(role.Attached, "arn:aws:iam::aws:policy/"+p)
		}
		profile := &InstanceProfile{Name: "eks-" + id, Role: role.Name, ID: "AIPA" + randomText(c.rng, upper, 17), Created: c.cfg.Now(),
			ARN: fmt.Sprintf("arn:aws:iam::%s:instance-profile/eks-%s", m.Account, id)}
		m.InstanceProfile[profile.Name] = profile
		ami := "AL2023_x86_64_STANDARD"
		if it.Arch == "arm64" {
			ami = "AL2023_ARM_64_STANDARD"
		}
		g := &Nodegroup{
			Name: spec.Name, ID: id, InstanceType: spec.InstanceType, Min: spec.Min, Max: spec.Max, Desired: spec.Desired,
			Labels: cloneTags(spec.Labels), Taints: slices.Clone(spec.Taints), Profile: profile.Name, RoleARN: role.ARN,
			ImageID: newID(c.rng, "ami"), AMIType: ami, Version: cl.Version, AutoScaling: "eks-" + spec.Name + "-" + id, Metadata: md,
			Tags: cloneTags(spec.Tags), Created: c.cfg.Now(),
		}
		g.Tags["alpha.eksctl.io/cluster-name"], g.Tags["alpha.eksctl.io/nodegroup-name"] = cluster, spec.Name
		for _, sid := range cl.Subnets {
			s := m.Subnets[sid]
			if m.IsPublic(s) == !spec.Private && (len(spec.Zones) == 0 || slices.Contains(spec.Zones, s.AZ)) {
				g.Subnets = append(g.Subnets, sid)
			}
		}
		if len(g.Subnets) == 0 {
			return apierror.New("InvalidParameterException", "node group %s: no subnet is in the zones %v of region %s", spec.Name, spec.Zones, m.Region)
		}
		cl.Nodegroups[spec.Name] = g
		out = g.clone()
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("node group %s: create: %w", spec.Name, err)
	}
	return out, nil
}

func (g *Nodegroup) instanceTags(cluster string) map[string]string {
	t := cloneTags(g.Tags)
	t["Name"] = cluster + "-" + g.Name + "-Node"
	t["eks:cluster-name"], t["eks:nodegroup-name"] = cluster, g.Name
	t["aws:eks:cluster-name"] = cluster
	t["kubernetes.io/cluster/"+cluster] = "owned"
	t["k8s.io/cluster-autoscaler/"+cluster], t["k8s.io/cluster-autoscaler/enabled"] = "owned", "true"
	t["aws:autoscaling:groupName"] = g.AutoScaling
	return t
}

func (g *Nodegroup) clone() Nodegroup {
	out := *g
	out.Subnets, out.Labels, out.Taints, out.Tags = slices.Clone(g.Subnets), cloneTags(g.Labels), slices.Clone(g.Taints), cloneTags(g.Tags)
	return out
}

func (cl *Cluster) clone() Cluster {
	out := *cl
	out.Subnets, out.Tags = slices.Clone(cl.Subnets), cloneTags(cl.Tags)
	out.Nodegroups, out.Addons = map[string]*Nodegroup{}, map[string]*Addon{}
	for k, v := range cl.Nodegroups {
		g := v.clone()
		out.Nodegroups[k] = &g
	}
	for k, v := range cl.Addons {
		a := *v
		a.Issues = slices.Clone(v.Issues)
		out.Addons[k] = &a
	}
	return out
}

// Cluster looks a cluster up.
func (c *Cloud) Cluster(name string) (Cluster, bool) {
	var out Cluster
	ok := false
	c.Read(func(m *Model) {
		if cl := m.Clusters[name]; cl != nil {
			out, ok = cl.clone(), true
		}
	})
	return out, ok
}

// SetClusterTrust gives the cluster the certificate authority that DescribeCluster shows, and the keys that
// its tokens are verified with; nil leaves what is there.
func (c *Cloud) SetClusterTrust(ctx context.Context, name string, caPEM, jwks []byte) error {
	return c.change(ctx, func(m *Model) error {
		cl := m.Clusters[name]
		if cl == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No cluster found for name: %s.", name)
		}
		if caPEM != nil {
			cl.CA = slices.Clone(caPEM)
		}
		if jwks != nil {
			cl.JWKS = slices.Clone(jwks)
		}
		return nil
	})
}

// SetAddon records an add-on of the cluster with its state.
func (c *Cloud) SetAddon(ctx context.Context, cluster string, a Addon) error {
	return c.change(ctx, func(m *Model) error {
		cl := m.Clusters[cluster]
		if cl == nil {
			return apierror.WithStatus(404, "ResourceNotFoundException", "No cluster found for name: %s.", cluster)
		}
		if a.Created.IsZero() {
			a.Created = c.cfg.Now()
		}
		if old := cl.Addons[a.Name]; old != nil {
			a.Created = old.Created
		}
		cl.Addons[a.Name] = &a
		return nil
	})
}
