// Package clusterconfig reads eksctl's ClusterConfig and says what cluster it asks for, with eksctl's
// defaults where it is silent.
package clusterconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Config is the cluster that is asked for.
type Config struct {
	Name   string
	Region string
	// Version is what the file asks for, empty if it doesn't say.
	Version     string
	Tags        map[string]string
	VPC         netip.Prefix
	ServiceCIDR netip.Prefix
	WithOIDC    bool
	Addons      []Addon
	NodeGroups  []NodeGroup
	// Notices are what the person should know: what was accepted but has no effect.
	Notices []string
}

// Addon is one that the cluster gets.
type Addon struct {
	Name, Version       string
	ConfigurationValues string
	// Default: the file doesn't name it.
	Default bool
}

// NodeGroup is a group of instances.
type NodeGroup struct {
	Name              string
	InstanceType      string
	Desired, Min, Max int
	Private           bool
	Zones             []string
	Labels            map[string]string
	Taints            []Taint
	Tags              map[string]string
	// MaxPods overrides what follows from the instance type; 0 if it doesn't.
	MaxPods int
	// HopLimit overrides the metadata service's; 0 if it doesn't.
	HopLimit int
	Spot     bool
	// Managed is EKS' own kind of group.
	Managed bool
}

// Taint is one that nodes register with.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Effect string `json:"effect"`
}

// DefaultRegion is eksctl's.
const DefaultRegion = "us-west-2"

const (
	apiVersion          = "eksctl.io/v1alpha5"
	kind                = "ClusterConfig"
	defaultInstanceType = "m5.large"
	defaultNodeCount    = 2
	defaultVPC          = "192.168.0.0/16"
)

// Problem is something wrong with the file, at a path in it.
type Problem struct{ Path, Text string }

func (p *Problem) Error() string { return p.Path + ": " + p.Text }

func problem(path, format string, args ...any) error {
	return &Problem{Path: path, Text: fmt.Sprintf(format, args...)}
}

// Parse reads a ClusterConfig. Every problem that it has is in the error.
func Parse(data []byte) (Config, error) {
	doc, err := decode(data)
	if err != nil {
		return Config{}, err
	}
	c, err := doc.config()
	if err != nil {
		return Config{}, err
	}
	return c, nil
}

func (d document) config() (Config, error) {
	c := Config{
		Name: d.Metadata.Name, Region: d.Metadata.Region, Version: strings.TrimPrefix(d.Metadata.Version, "v"), Tags: d.Metadata.Tags,
		WithOIDC: d.IAM.WithOIDC != nil && *d.IAM.WithOIDC,
	}
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	if d.APIVersion != apiVersion {
		add(problem("apiVersion", "found %q, expected %s", d.APIVersion, apiVersion))
	}
	if d.Kind != kind {
		add(problem("kind", "found %q, expected %s", d.Kind, kind))
	}
	if c.Region == "" {
		c.Region = DefaultRegion
	}
	if !regionName.MatchString(c.Region) {
		add(problem("metadata.region", "found %q, expected a region such as %s", c.Region, DefaultRegion))
	}
	switch {
	case c.Name == "":
		add(problem("metadata.name", "is missing: give the cluster a name"))
	case !clusterName.MatchString(c.Name):
		add(problem("metadata.name", "found %q, expected a letter or digit and then at most 99 letters, digits, - and _", c.Name))
	}
	if c.Version != "" && !versionNumber.MatchString(c.Version) {
		add(problem("metadata.version", "found %q, expected a version such as \"1.31\"", c.Version))
	}
	c.VPC = prefixOr(d.VPC.CIDR, defaultVPC, "vpc.cidr", 16, 24, add)
	c.ServiceCIDR = prefixOr(d.KubernetesNetworkConfig.ServiceIPv4CIDR, serviceRange(c.VPC), "kubernetesNetworkConfig.serviceIPv4CIDR", 12, 24, add)
	if c.VPC.IsValid() && c.ServiceCIDR.IsValid() && c.VPC.Overlaps(c.ServiceCIDR) {
		add(problem("kubernetesNetworkConfig.serviceIPv4CIDR", "%s overlaps the VPC's %s", c.ServiceCIDR, c.VPC))
	}
	c.Addons = d.addons(add)
	c.Notices = d.notices()
	names := map[string]string{}
	for _, list := range []struct {
		path    string
		groups  []nodeGroup
		managed bool
	}{{"managedNodeGroups", d.ManagedNodeGroups, true}, {"nodeGroups", d.NodeGroups, false}} {
		for i, g := range list.groups {
			path := fmt.Sprintf("%s[%d]", list.path, i)
			n := g.nodeGroup(path, list.managed, add)
			if first, ok := names[n.Name]; ok && n.Name != "" {
				add(problem(path+".name", "%q is the name of %s too", n.Name, first))
			}
			names[n.Name] = path
			c.NodeGroups = append(c.NodeGroups, n)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// serviceRange is what EKS takes when it isn't told: the one that the VPC doesn't use.
func serviceRange(vpc netip.Prefix) string {
	if vpc.IsValid() && netip.MustParsePrefix("10.0.0.0/8").Overlaps(vpc) {
		return "172.20.0.0/16"
	}
	return "10.100.0.0/16"
}

func prefixOr(text, fallback, path string, least, most int, add func(error)) netip.Prefix {
	if text == "" {
		text = fallback
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		add(problem(path, "found %q, expected an IPv4 network such as %s", text, fallback))
	case p.Masked() != p:
		add(problem(path, "found %s, expected the network's own address %s", p, p.Masked()))
	case !p.Addr().IsPrivate():
		add(problem(path, "found %s, expected a private network (RFC 1918)", p))
	case p.Bits() < least || p.Bits() > most:
		add(problem(path, "found %s, expected a size of /%d to /%d", p, least, most))
	default:
		return p
	}
	return netip.Prefix{}
}

// defaultAddons are those that eksctl gives to a cluster whose file doesn't forbid it.
var defaultAddons = []string{"vpc-cni", "coredns", "kube-proxy"}

func (d document) addons(add func(error)) []Addon {
	var out []Addon
	for i, a := range d.Addons {
		path := fmt.Sprintf("addons[%d].name", i)
		switch {
		case a.Name == "":
			add(problem(path, "is missing"))
		case slices.ContainsFunc(out, func(o Addon) bool { return o.Name == a.Name }):
			add(problem(path, "%q is there twice", a.Name))
		default:
			out = append(out, Addon{Name: a.Name, Version: a.Version, ConfigurationValues: a.ConfigurationValues})
		}
	}
	if d.AddonsConfig.DisableDefaultAddons {
		return out
	}
	for _, name := range defaultAddons {
		if !slices.ContainsFunc(out, func(o Addon) bool { return o.Name == name }) {
			out = append(out, Addon{Name: name, Default: true})
		}
	}
	return out
}

// Has says whether the cluster gets an add-on.
func (c Config) Has(addon string) bool {
	return slices.ContainsFunc(c.Addons, func(a Addon) bool { return a.Name == addon })
}

// Nodes is the number of instances.
func (c Config) Nodes() int {
	n := 0
	for _, g := range c.NodeGroups {
		n += g.Desired
	}
	return n
}

// notices name what would change a real cluster but has no effect here.
func (d document) notices() []string {
	var out []string
	say := func(set bool, path, text string) {
		if set {
			out = append(out, path+": "+text)
		}
	}
	say(strings.EqualFold(d.KubernetesNetworkConfig.IPFamily, "IPv6"), "kubernetesNetworkConfig.ipFamily", "the lab has IPv4 only; taken as IPv4")
	say(len(d.FargateProfiles) > 0, "fargateProfiles", "the lab has no Fargate; ignored")
	say(d.AutoModeConfig.Enabled, "autoModeConfig", "the lab has no Auto Mode; ignored")
	say(d.PrivateCluster.Enabled, "privateCluster", "the lab's API server is always reachable from this machine; ignored")
	say(d.VPC.ID != "" || d.VPC.Subnets != nil, "vpc", "the lab makes a VPC of its own; the one that is named is ignored")
	say(d.Karpenter != nil, "karpenter", "the lab doesn't run it; ignored")
	for i, g := range d.NodeGroups {
		say(g.KubeletExtraConfig != nil, fmt.Sprintf("nodeGroups[%d].kubeletExtraConfig", i), "ignored")
	}
	return out
}
