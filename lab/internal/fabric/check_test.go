package fabric

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// sound is a state with nothing wrong.
func sound() State {
	return State{
		Lab: "lab", VPC: netip.MustParsePrefix("192.168.0.0/16"), NATGateway: netip.MustParseAddr("203.0.113.250"),
		Subnets: []Subnet{
			{ID: "subnet-a", CIDR: netip.MustParsePrefix("192.168.0.0/19"), Public: true},
			{ID: "subnet-b", CIDR: netip.MustParsePrefix("192.168.32.0/19")},
		},
		Namespaces: []string{"lab-i-1", "lab-i-2"},
		ENIs: []ENI{
			{ID: "eni-0123456789abcdef0", MAC: "02:00:00:00:00:01", SubnetID: "subnet-a", Namespace: "lab-i-1", Device: "eth0",
				Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.10"), netip.MustParseAddr("192.168.0.11")},
				Prefixes:  []netip.Prefix{netip.MustParsePrefix("192.168.1.16/28")},
				Public:    map[netip.Addr]netip.Addr{netip.MustParseAddr("192.168.0.10"): netip.MustParseAddr("203.0.113.10")},
				Groups:    []string{"sg-1"}, SourceDestCheck: true, Configure: true},
			{ID: "eni-0123456789abcdef1", MAC: "02:00:00:00:00:02", SubnetID: "subnet-b",
				Addresses: []netip.Addr{netip.MustParseAddr("192.168.32.10")}, Groups: []string{"sg-1"}},
		},
		Groups: map[string]Group{"sg-1": {
			Ingress: []Rule{{Protocol: "-1", FromPort: -1, ToPort: -1, Group: "sg-1"}},
			Egress:  []Rule{{Protocol: "tcp", FromPort: 443, ToPort: 443, CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
		}},
	}
}

func TestCheck(t *testing.T) {
	if err := sound().Check(); err != nil {
		t.Fatal(err)
	}
	group := func(s *State, r Rule) { s.Groups["sg-1"] = Group{Ingress: []Rule{r}} }
	world := netip.MustParsePrefix("0.0.0.0/0")
	for name, c := range map[string]struct {
		spoil func(*State)
		want  string
	}{
		"lab":                 {func(s *State) { s.Lab = "a/b" }, `lab "a/b"`},
		"vpc":                 {func(s *State) { s.VPC = netip.MustParsePrefix("fd00::/8") }, "vpc fd00::/8"},
		"nat in the vpc":      {func(s *State) { s.NATGateway = netip.MustParseAddr("192.168.0.9") }, "nat gateway 192.168.0.9"},
		"foreign namespace":   {func(s *State) { s.Namespaces[1] = "other-i-2" }, `namespace "other-i-2"`},
		"own namespace":       {func(s *State) { s.Namespaces[1] = "lab-vpc" }, "the fabric's own"},
		"namespace twice":     {func(s *State) { s.Namespaces[1] = "lab-i-1" }, "there twice"},
		"subnet outside":      {func(s *State) { s.Subnets[1].CIDR = netip.MustParsePrefix("10.0.0.0/24") }, "subnet subnet-b"},
		"subnets overlap":     {func(s *State) { s.Subnets[1].CIDR = netip.MustParsePrefix("192.168.16.0/20") }, "overlaps"},
		"unknown subnet":      {func(s *State) { s.ENIs[0].SubnetID = "subnet-x" }, `no subnet "subnet-x"`},
		"unknown namespace":   {func(s *State) { s.ENIs[0].Namespace = "lab-i-3" }, `namespace "lab-i-3"`},
		"device":              {func(s *State) { s.ENIs[0].Device = `x"; y` }, "interface's name"},
		"device taken":        {func(s *State) { s.ENIs[1].Namespace, s.ENIs[1].Device = "lab-i-1", "eth0" }, "lab-i-1 eth0"},
		"two first":           {func(s *State) { s.ENIs[1].Namespace, s.ENIs[1].Device, s.ENIs[1].Configure = "lab-i-1", "ens6", true }, "only a first interface"},
		"mac":                 {func(s *State) { s.ENIs[0].MAC = "2" }, `MAC "2"`},
		"same device name":    {func(s *State) { s.ENIs[1].ID = "eni-f123456789abcdef0" }, "eni-6789abcdef0"},
		"no address":          {func(s *State) { s.ENIs[1].Addresses = nil }, "no primary address"},
		"address elsewhere":   {func(s *State) { s.ENIs[1].Addresses[0] = netip.MustParseAddr("192.168.0.12") }, "isn't in subnet"},
		"address twice":       {func(s *State) { s.ENIs[0].Addresses[1] = netip.MustParseAddr("192.168.1.17") }, "belongs to"},
		"router's address":    {func(s *State) { s.ENIs[0].Addresses[1] = netip.MustParseAddr("192.168.0.1") }, "the VPC's own"},
		"prefix too wide":     {func(s *State) { s.ENIs[0].Prefixes[0] = netip.MustParsePrefix("192.168.0.0/20") }, "prefix 192.168.0.0/20"},
		"public in vpc":       {func(s *State) { s.ENIs[0].Public[s.ENIs[0].Addresses[0]] = s.ENIs[0].Addresses[1] }, "outside of the VPC"},
		"public of nobody":    {func(s *State) { s.ENIs[0].Public[s.NATGateway.Next()] = s.NATGateway.Prev() }, "isn't the interface's"},
		"public is the nat's": {func(s *State) { s.ENIs[0].Public[s.ENIs[0].Addresses[0]] = s.NATGateway }, "in use"},
		"unknown group":       {func(s *State) { s.ENIs[0].Groups = []string{"sg-2"} }, `no group "sg-2"`},
		"rule's group":        {func(s *State) { group(s, Rule{Protocol: "-1", Group: "sg-2"}) }, `no group "sg-2"`},
		"rule's protocol":     {func(s *State) { group(s, Rule{Protocol: "tcp; drop", CIDR: world}) }, "protocol"},
		"rule's port":         {func(s *State) { group(s, Rule{Protocol: "tcp", FromPort: 0, ToPort: 65536, CIDR: world}) }, "ports"},
		"rule without a peer": {func(s *State) { group(s, Rule{Protocol: "-1"}) }, "neither"},
		"rule with two peers": {func(s *State) { group(s, Rule{Protocol: "-1", CIDR: world, Group: "sg-1"}) }, "both"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sound()
			c.spoil(&s)
			if err := s.Check(); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an ErrState with %q", err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for id, want := range map[string]string{
		"eni-0123456789abcdef0": "eni-6789abcdef0",
		"eni-1a":                "eni-1a",
		"x":                     "eni-x",
	} {
		if got := deviceName(id); got != want || len(got) > 15 {
			t.Errorf("deviceName(%s) = %s, want %s", id, got, want)
		}
	}
	if a, b := routerMAC("subnet-a"), routerMAC("subnet-b"); a.String() == b.String() || a[0]&3 != 2 {
		t.Errorf("router MACs %s and %s: want two, local and unicast", a, b)
	}
	if got := VPCResolver(netip.MustParsePrefix("10.0.0.0/16")); got != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("resolver %s", got)
	}
}
