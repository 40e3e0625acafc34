package why

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why/vpc"
)

func TestParse(t *testing.T) {
	addr := netip.MustParseAddr
	for s, want := range map[string]Question{
		"shop/web-0 -> 10.1.2.3:80/tcp":      {From: End{Pod: "shop/web-0"}, To: End{Addr: addr("10.1.2.3")}, Protocol: "tcp", Port: 80},
		"shop/web-0->shop/db-0:5432":         {From: End{Pod: "shop/web-0"}, To: End{Pod: "shop/db-0"}, Protocol: "tcp", Port: 5432},
		"10.0.0.1 -> shop/db-0:53/udp":       {From: End{Addr: addr("10.0.0.1")}, To: End{Pod: "shop/db-0"}, Protocol: "udp", Port: 53},
		"shop/web-0 -> 10.1.2.3":             {From: End{Pod: "shop/web-0"}, To: End{Addr: addr("10.1.2.3")}, Protocol: "icmp"},
		"shop/web-0 -> shop/tcp":             {From: End{Pod: "shop/web-0"}, To: End{Pod: "shop/tcp"}, Protocol: "icmp"},
		"shop/web-0 -> shop/db-0/icmp":       {From: End{Pod: "shop/web-0"}, To: End{Pod: "shop/db-0"}, Protocol: "icmp"},
		"fd00::1 -> [fd00::2]:443/tcp":       {From: End{Addr: addr("fd00::1")}, To: End{Addr: addr("fd00::2")}, Protocol: "tcp", Port: 443},
		"fd00::1 -> fd00::2":                 {From: End{Addr: addr("fd00::1")}, To: End{Addr: addr("fd00::2")}, Protocol: "icmp"},
		"::ffff:10.0.0.1 -> 10.0.0.2:9/sctp": {From: End{Addr: addr("10.0.0.1")}, To: End{Addr: addr("10.0.0.2")}, Protocol: "sctp", Port: 9},
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v; expected %+v", s, got, err, want)
		}
	}
	for _, bad := range []string{"", "shop/web-0", "web-0 -> 10.0.0.1:80", "a/b -> c/d:0", "a/b -> c/d:70000", "a/b -> c/d:", "a/b -> 10.0.0.1/tcp", "a/b -> 10.0.0.1:80/icmp", "a/b -> [::1", "a/b -> 10.0.0.1:80/nonsense"} {
		if q, err := Parse(bad); err == nil || !strings.Contains(err.Error(), "expected") && !strings.Contains(err.Error(), "found") {
			t.Errorf("%q: %+v, %v; expected an error that says what was found", bad, q, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("shop/web-0 -> [fd00::2]:443/tcp")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := Parse(s)
		if err == nil && (q.Protocol == "" || flow.HasPorts(q.Protocol) != (q.Port != 0) || q.From == (End{}) || q.To == (End{})) {
			t.Errorf("%q: %+v", s, q)
		}
	})
}

func everything() vpc.Rule {
	return vpc.Rule{Protocol: "-1", From: -1, To: -1, Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
}

// fine are the facts of a flow between two pods on two nodes of which nothing is wrong, but that nobody has
// answered yet.
func fine() Facts {
	web, db := netip.MustParseAddr("10.0.1.5"), netip.MustParseAddr("10.0.2.6")
	all := []vpc.Rule{everything()}
	yes := true
	pass := []vpc.Entry{{Number: 100, Allow: true, Protocol: "-1", From: -1, To: -1, Prefix: netip.MustParsePrefix("0.0.0.0/0")}}
	local := []vpc.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Target: "local"}, {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Target: "nat-1"}}
	return Facts{
		Question: Question{From: End{Pod: "shop/web", Addr: web}, To: End{Pod: "shop/db", Addr: db}, Protocol: "tcp", Port: 5432},
		From:     Party{Kind: KindPod, Node: "n1", Phase: "Running", ENI: "eni-1", Endpoint: &yes, MTU: 9001},
		To:       Party{Kind: KindPod, Node: "n2", Phase: "Running", ENI: "eni-2", Endpoint: &yes, MTU: 9001},
		Connections: []Connection{{Node: "n1", From: netip.AddrPortFrom(web, 4242), To: netip.AddrPortFrom(db, 5432), Protocol: "tcp", State: "opening", Sent: 3,
			Began: time.Date(2026, 7, 1, 12, 0, 10, 0, time.UTC)}},
		Nodes: []Node{{Name: "n1", Established: 10, EstablishedMax: 100}, {Name: "n2", EstablishedMax: 100}},
		VPC: &vpc.Network{
			CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
			Interfaces: []vpc.Interface{
				{ID: "eni-1", Subnet: "subnet-1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.2"), web}, Groups: []string{"sg-1"}, SourceCheck: true, Attached: true},
				{ID: "eni-2", Subnet: "subnet-2", Addresses: []netip.Addr{netip.MustParseAddr("10.0.2.2"), db}, Groups: []string{"sg-2"}, SourceCheck: true, Attached: true},
			},
			Groups: []vpc.Group{{ID: "sg-1", Name: "nodes", Egress: all, Ingress: all}, {ID: "sg-2", Name: "dbs", Egress: all, Ingress: all}},
			Routes: []vpc.RouteTable{{ID: "rtb-1", Subnet: "subnet-1", Routes: local}, {ID: "rtb-2", Subnet: "subnet-2", Routes: local}},
			ACLs:   []vpc.ACL{{ID: "acl-1", Subnet: "subnet-1", Ingress: pass, Egress: pass}, {ID: "acl-2", Subnet: "subnet-2", Ingress: pass, Egress: pass}},
		},
	}
}

// toService makes it a flow to a service, of which nothing was seen.
func toService(f *Facts, s *Service) {
	f.Question.To, f.To = End{Addr: netip.MustParseAddr("172.20.0.9")}, Party{Kind: KindService}
	f.Connections, f.VPC, f.Service = nil, nil, s
}

func TestExplain(t *testing.T) {
	drop := func(reason, text, object string) flow.Record {
		return flow.Record{Time: time.Date(2026, 7, 1, 12, 0, 5, 0, time.UTC), Node: "n1", Type: flow.Drop, Hook: "from_pod", Direction: "egress",
			Reason: reason, Text: text, Object: object, Advice: "do this", Where: "bpf/from_pod.c:83"}
	}
	no, open := false, everything()
	for _, tc := range []struct {
		name   string
		change func(*Facts)
		cause  Cause
		want   string // in reason, object and advice
	}{
		{"nothing is wrong", func(*Facts) {}, Unanswered, "nothing that was looked at"},
		{"a drop", func(f *Facts) {
			f.Connections = nil
			f.Drops = []flow.Record{drop("source-address", "sent with another's address", "pod shop/web")}
		}, Dropped, "sent with another's address (source-address) pod shop/web do this"},
		{"an old drop, and it works since", func(f *Facts) {
			f.Drops = []flow.Record{drop("endpoint-gone", "x", "y")}
			f.Connections[0].Received, f.Connections[0].State = 4, "established"
		}, Works, "established"},
		{"a drop of a connection that was answered before", func(f *Facts) {
			f.Drops = []flow.Record{drop("ttl", "its time to live ended", "y")}
			f.Connections[0].Received, f.Connections[0].Began = 4, time.Date(2026, 7, 1, 11, 0, 0, 0, time.UTC)
		}, Dropped, "time to live"},
		{"too big", func(f *Facts) {
			f.Connections[0].Began = time.Date(2026, 7, 1, 12, 0, 1, 0, time.UTC)
			f.Drops = []flow.Record{drop("too-big", "larger than the interface's MTU", "ENI eni-1")}
		}, MTU, "larger than"},
		{"to a pod that went meanwhile", func(f *Facts) {
			f.Connections = nil
			f.Drops = []flow.Record{drop("endpoint-gone", "the pod is gone", "a")}
		}, DeadPod, "gone"},
		{"MTUs differ", func(f *Facts) {
			f.Connections[0].Received, f.Connections[0].State, f.To.MTU = 4, "established", 1500
		}, MTU, "1500 on n2, 9001 on n1"},
		{"MTUs differ, and it isn't open", func(f *Facts) { f.To.MTU = 1500 }, Unanswered, ""},
		{"a service without a backend here", func(f *Facts) {
			f.Connections, f.Drops = nil, []flow.Record{drop("service-no-backend", "for a service that has no backend for this client", "service")}
		}, NoBackendHere, "no backend for this client"},
		{"a service for others", func(f *Facts) {
			f.Connections, f.Drops = nil, []flow.Record{drop("service-source-range", "the client is not in the source ranges", "service")}
		}, SourceRange, "source ranges"},
		{"a service that nobody stands behind", func(f *Facts) {
			toService(f, &Service{Name: "shop/db", Node: "n1", Nobody: "3 of 3: it isn't ready", Refused: true})
		},
			NoBackend, "so senders are refused: 3 of 3: it isn't ready service shop/db look why its pods aren't ready: weft service explain shop/db"},
		{"a service with pods elsewhere", func(f *Facts) {
			toService(f, &Service{Name: "shop/db", Node: "n1", Nobody: "2 of 2: it is on another node"})
		},
			NoBackendHere, "none for a sender on node n1: 2 of 2: it is on another node"},
		{"a service without the port", func(f *Facts) { toService(f, &Service{Absent: "node n1 has no frontend 172.20.0.9:81/tcp"}) },
			NoBackend, "has no frontend 172.20.0.9:81/tcp service look at the service's ports"},
		{"a service by sockets", func(f *Facts) {
			toService(f, &Service{Name: "shop/db", Node: "n1", Backends: []string{"10.0.2.6:5432", "b", "c", "d"}})
		},
			NotSeen, "one of its 4 backends, 10.0.2.6:5432, b, c and 1 more service shop/db ask about a backend: weft why 'shop/web -> 10.0.2.6:5432/tcp'"},
		{"a service by packets", func(f *Facts) {
			c := f.Connections
			toService(f, &Service{Name: "shop/db", Node: "n1", Backends: []string{"10.0.2.6:5432"}})
			c[0].Received, c[0].State = 4, "established"
			f.Connections = c
		}, Works, "established"},
		{"refused by the host", func(f *Facts) { f.Connections[0].Received, f.Connections[0].State = 1, "reset" }, NotAnswering, "nothing listens"},
		{"no such receiver", func(f *Facts) { f.To.Phase, f.To.Kind = "", KindInside }, DeadPod, "there is no pod shop/db"},
		{"the receiver ended", func(f *Facts) { f.To.Phase = "Failed" }, DeadPod, "has ended (Failed)"},
		{"an address that nobody has", func(f *Facts) { f.To, f.Question.To.Pod = Party{Kind: KindFree, Node: "n2", LastPod: "shop/old"}, "" }, DeadPod, "no pod has the receiver's address 10.0.2.6; shop/old had it last"},
		{"no endpoint", func(f *Facts) { f.To.Endpoint = &no }, DeadPod, "the agent of n2 has no endpoint"},
		{"not on an ENI of the node", func(f *Facts) { f.From.ENI = "" }, AddressNotOnENI, "no ENI of node n1"},
		{"taken off the ENI in EC2", func(f *Facts) { f.VPC.Interfaces[1].Addresses = f.VPC.Interfaces[1].Addresses[:1] }, AddressNotOnENI, "isn't on ENI eni-2 in EC2"},
		{"moved to another ENI in EC2", func(f *Facts) {
			f.VPC.Interfaces[1].Addresses = f.VPC.Interfaces[1].Addresses[:1]
			f.VPC.Interfaces[0].Addresses = append(f.VPC.Interfaces[0].Addresses, f.Question.To.Addr)
		}, AddressNotOnENI, "is on ENI eni-1 in EC2, but the node sends by eni-2"},
		{"the table is full", func(f *Facts) { f.Nodes[0].Established, f.Nodes[0].Refused = 100, 7 }, TableFull, "100 of 100, 7 refused"},
		{"the table is full, and the VPC drops it anyway", func(f *Facts) {
			f.Nodes[0].Established, f.Nodes[0].Refused = 100, 7
			f.VPC.Groups[1].Ingress = nil
		}, SecurityGroup, "no inbound rule"},
		{"it works though the table was full", func(f *Facts) { f.Connections[0].Received, f.Connections[0].Refused = 3, true }, Works, "was full when it opened"},
		{"another node's table is full", func(f *Facts) { f.Nodes = append(f.Nodes, Node{Name: "n9", Established: 1, EstablishedMax: 1}) }, Unanswered, ""},
		{"this connection was refused", func(f *Facts) { f.Connections[0].Refused = true }, TableFull, "bpf.ctTcpMax"},
		{"no entry can be made", func(f *Facts) { f.Connections, f.Nodes[1].Failed = nil, 3 }, TableFull, "n2 could not make entries for 3"},
		{"security group, inbound", func(f *Facts) { f.VPC.Groups[1].Ingress = nil }, SecurityGroup, "no inbound rule of 10.0.2.6's ENI eni-2 allows tcp port 5432 with 10.0.1.5 security group sg-2 dbs allow it: aws ec2 authorize-security-group-ingress --group-id sg-2 --protocol tcp --port 5432 --cidr 10.0.1.5/32"},
		{"security group, another port", func(f *Facts) {
			f.VPC.Groups[1].Ingress = []vpc.Rule{{Protocol: "tcp", From: 80, To: 443, Prefixes: open.Prefixes}}
		}, SecurityGroup, "inbound"},
		{"security group, by group", func(f *Facts) {
			f.VPC.Groups[1].Ingress = []vpc.Rule{{Protocol: "tcp", From: 5432, To: 5432, Groups: []string{"sg-1"}}}
		}, Unanswered, ""},
		{"security group, by another's group", func(f *Facts) {
			f.VPC.Groups[1].Ingress = []vpc.Rule{{Protocol: "tcp", From: 5432, To: 5432, Groups: []string{"sg-9"}}}
		}, SecurityGroup, "inbound"},
		{"security group, outbound", func(f *Facts) { f.VPC.Groups[0].Egress = nil }, SecurityGroup, "authorize-security-group-egress --group-id sg-1"},
		{"security group, a prefix list", func(f *Facts) {
			f.VPC.Groups[1].Ingress = []vpc.Rule{{Protocol: "-1", From: -1, To: -1, Lists: []string{"pl-1"}}}
		}, Unanswered, ""},
		{"source check", func(f *Facts) { f.Connections[0].Translated = netip.MustParseAddrPort("192.0.2.9:1024") }, SourceCheck, "source/destination check of ENI eni-1 drops packets from 192.0.2.9"},
		{"source check of a forwarding node", func(f *Facts) {
			f.Connections, f.Question.From = nil, End{Addr: netip.MustParseAddr("172.17.0.2")}
			f.From = Party{Kind: KindOutside, Node: "n1", ENI: "eni-1"}
		}, SourceCheck, "drops packets from 172.17.0.2"},
		{"source check is off", func(f *Facts) {
			f.Connections[0].Translated = netip.MustParseAddrPort("192.0.2.9:1024")
			f.VPC.Interfaces[0].SourceCheck = false
		}, Unanswered, ""},
		{"no route", func(f *Facts) { f.VPC.Routes[0].Routes = nil }, NoRoute, "subnet subnet-1 has no route for 10.0.2.6"},
		{"a black hole", func(f *Facts) {
			f.VPC.Routes[0].Routes = append(slices.Clone(f.VPC.Routes[0].Routes), vpc.Route{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Target: "pcx-1", Blackhole: true})
		}, NoRoute, "10.0.2.0/24 by pcx-1) leads nowhere"},
		{"a route by prefix list", func(f *Facts) { f.VPC.Routes[0].Routes, f.VPC.Routes[0].Lists = nil, []string{"pl-2"} }, Unanswered, ""},
		{"no way back", func(f *Facts) { f.VPC.Routes[1].Routes = nil }, NoRoute, "subnet subnet-2 has no route for 10.0.1.5"},
		{"ACL", func(f *Facts) {
			f.VPC.ACLs[1].Ingress = []vpc.Entry{{Number: 50, Protocol: "tcp", From: 5432, To: 5432, Prefix: netip.MustParsePrefix("10.0.1.0/24")}, f.VPC.ACLs[1].Ingress[0]}
		}, NetworkACL, "rule 50 of the inbound rules of subnet subnet-2 denies tcp port 5432 with 10.0.1.5"},
		{"ACL of another port", func(f *Facts) {
			f.VPC.ACLs[1].Ingress = []vpc.Entry{{Number: 50, Protocol: "tcp", From: 1, To: 100, Prefix: netip.MustParsePrefix("10.0.1.0/24")}, f.VPC.ACLs[1].Ingress[0]}
		}, Unanswered, ""},
		{"ACL, answers", func(f *Facts) {
			f.VPC.ACLs[1].Egress = []vpc.Entry{{Number: 10, Allow: true, Protocol: "tcp", From: 5432, To: 5432, Prefix: netip.MustParsePrefix("0.0.0.0/0")}}
		}, NetworkACL, "the default of the outbound rules of subnet subnet-2 denies answers to tcp port 5432"},
		{"on one node the VPC has no say", func(f *Facts) { f.To.Node, f.VPC.Groups[1].Ingress, f.Connections[0].Node = "n1", nil, "n1" }, NotAnswering, "reached the receiver's node"},
		{"it arrived", func(f *Facts) {
			f.Connections = append(f.Connections, f.Connections[0])
			f.Connections[1].Node = "n2"
		}, NotAnswering, "3 packets reached the receiver's node n2"},
		{"without the VPC", func(f *Facts) { f.VPC, f.Unknown = nil, []string{"security groups: no credentials"} }, Unanswered, "make the checks below"},
		{"an older one was answered", func(f *Facts) {
			old := f.Connections[0]
			old.From, old.Received, old.State, old.Began = netip.MustParseAddrPort("10.0.1.5:1"), 9, "ended", old.Began.Add(-time.Minute)
			f.Connections = append(f.Connections, old)
			f.VPC.Groups[1].Ingress = nil
		}, SecurityGroup, ""},
		{"the last one ended well", func(f *Facts) { f.Connections[0].Received, f.Connections[0].State = 9, "ended" }, Works, "ended"},
		{"nobody could be asked", func(f *Facts) { f.Connections, f.Nodes = nil, nil }, Unknown, "could not be asked"},
		{"nobody sent", func(f *Facts) { f.Connections = nil }, NotSeen, "no packet"},
	} {
		f := fine()
		tc.change(&f)
		a := Explain(f)
		if a.Cause != tc.cause || !strings.Contains(strings.Join([]string{a.Reason, a.Object, a.Advice}, " "), tc.want) {
			t.Errorf("%s: %s: %s | %s | %s\nexpected %s: %s", tc.name, a.Cause, a.Reason, a.Object, a.Advice, tc.cause, tc.want)
		}
		if a.Cause != Works && a.Advice == "" {
			t.Errorf("%s: no advice", tc.name)
		}
		for _, u := range f.Unknown {
			if !slices.Contains(a.Unchecked, u) {
				t.Errorf("%s: it isn't said that %q", tc.name, u)
			}
		}
	}
	lists := fine()
	lists.VPC.Groups[1].Ingress = []vpc.Rule{{Protocol: "-1", From: -1, To: -1, Lists: []string{"pl-1"}}}
	if a := Explain(lists); len(a.Unchecked) != 1 || !strings.Contains(a.Unchecked[0], "pl-1") {
		t.Errorf("a prefix list that may allow it: %+v", a.Unchecked)
	}
}
