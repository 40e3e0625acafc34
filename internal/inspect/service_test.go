package inspect

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"172.20.0.10:80":                    "172.20.0.10:80",
		"172.20.0.10:80/tcp":                "172.20.0.10:80/tcp",
		"172.20.0.10:53/UDP":                "172.20.0.10:53/udp",
		"[fd00::1]:80/sctp":                 "[fd00::1]:80/sctp",
		"[::ffff:10.0.0.1]:80":              "10.0.0.1:80",
		"0.0.0.0:30080":                     "0.0.0.0:30080",
		"web":                               "web",
		"web:80":                            "web:80",
		"shop/web":                          "shop/web",
		"shop/web:http":                     "shop/web:http",
		"shop/web:53/udp":                   "shop/web:53/udp",
		"web.shop":                          "shop/web",
		"web.shop.svc.cluster.local:80/tcp": "shop/web:80/tcp",
	} {
		got, err := ParseTarget(text)
		if err != nil || got.String() != want {
			t.Errorf("%s: found %q, %v, expected %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                  "expected a frontend",
		"172.20.0.10":       "without a port, expected for example 172.20.0.10:80",
		"fd00::1":           "expected for example [fd00::1]:80",
		"172.20.0.10:0":     "expected a frontend",
		"172.20.0.10:70000": "expected 1 to 65535",
		"web:70000":         "found port 70000",
		"web:80/icmp":       `found protocol "icmp"`,
		"web:":              "expected a frontend",
		"/web":              "expected a frontend",
		"a/b/c":             "expected a frontend",
		"web.shop.pod":      "expected a frontend",
		"a b":               "expected a frontend",
	} {
		if got, err := ParseTarget(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: found %v, %v, expected %q", text, got, err, want)
		}
	}
}

// What was read is read again as the same, and nothing makes it panic.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"172.20.0.10:80/tcp", "[fd00::1]:80", "shop/web:http", "web.shop.svc:53/udp", "a:b:c", "[", "/", ":/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseTarget(text)
		if err != nil {
			return
		}
		again, err := ParseTarget(first.String())
		if err != nil || again != first {
			t.Errorf("%q: read as %+v, written %q, read again as %+v, %v", text, first, first, again, err)
		}
	})
}

func TestNamed(t *testing.T) {
	for target, want := range map[string]bool{
		"web": true, "shop/web": true, "shop/web:80": true, "shop/web:http": true, "shop/web:80/tcp": true, "shop/web:80/udp": false,
		"shop/web:81": false, "other/web": false, "db": false, "172.20.0.1:80": false,
	} {
		got, err := ParseTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		if named := got.Named("shop", "web", "http", 80, "TCP"); named != want {
			t.Errorf("%s: found %v, expected %v", target, named, want)
		}
	}
}

// Names that kube-proxy has on every cluster.
func TestKubeProxyNames(t *testing.T) {
	for _, c := range []struct {
		namespace, name, port, protocol string
		outside                         bool
		iptables, nftables              string
	}{
		{"default", "kubernetes", "https", "TCP", false, "KUBE-SVC-NPX46M4PTMTKRN6Y", ""},
		{"kube-system", "kube-dns", "dns", "UDP", false, "KUBE-SVC-TCOU7JCQXEZGVUNU", ""},
		{"kube-system", "kube-dns", "dns-tcp", "TCP", false, "KUBE-SVC-ERIFXISQEP7F7OF4", "service-NWBZK7IH-kube-system/kube-dns/tcp/dns-tcp"},
		{"ns1", "svc1", "p80", "TCP", true, "", "external-ULMVA6XW-ns1/svc1/tcp/p80"},
	} {
		got := KubeProxyNames(c.namespace, c.name, c.port, c.protocol, c.outside)
		if c.iptables != "" && got.IPTables != c.iptables || c.nftables != "" && got.NFTables != c.nftables {
			t.Errorf("%s/%s: found %+v, expected %s and %s", c.namespace, c.name, got, c.iptables, c.nftables)
		}
	}
}

func balanced(backends ...string) *Balance {
	return &Balance{Backends: backends, Flags: []string{"refuse"}}
}

func TestCompareFrontends(t *testing.T) {
	for name, c := range map[string]struct {
		wanted, held *Balance
		state        State
		want         string
	}{
		"as it should be": {balanced("a", "b"), balanced("a", "b"), OK, ""},
		"missing":         {balanced("a"), nil, Missing, "found none in the maps, expected it, with 1 backend"},
		"surplus":         {nil, balanced("a"), Surplus, "expected none: no service has this address"},
		"one lacks":       {balanced("a", "b"), balanced("a"), Differs, "expected 2 backends, of which the maps lack: b"},
		"one too many":    {balanced("a"), balanced("a", "b"), Differs, "found 2 backends, of which too many: b"},
		"flags":           {balanced("a"), &Balance{Backends: []string{"a"}}, Differs, "found flags none, expected flags refuse"},
		"affinity":        {&Balance{AffinitySeconds: 10}, &Balance{}, Differs, "for 0 s, expected for 10 s"},
	} {
		f := Frontend{Service: "shop/web", Address: "172.20.0.10:80/TCP", Wanted: c.wanted, Held: c.held}
		f.Compare()
		var lines []string
		for _, d := range f.Differences() {
			lines = append(lines, d.Line())
		}
		if all := strings.Join(lines, "\n"); f.State != c.state || !strings.Contains(all, c.want) || (c.want == "") != (all == "") {
			t.Errorf("%s: found %s, %q, expected %s, %q", name, f.State, all, c.state, c.want)
		}
		var out bytes.Buffer
		DrawFrontend(&out, f, true)
		if err := DrawFrontends(&out, []Frontend{f}, false); err != nil || !strings.Contains(out.String(), "172.20.0.10:80/TCP") {
			t.Errorf("%s: drawn as %s, %v", name, out.String(), err)
		}
	}
}

// Each cell is a client, a kind of service and a node's programs: who gives it its backend, and what is said.
func TestFollow(t *testing.T) {
	base := func(change func(*TraceFacts)) TraceFacts {
		b := &Balance{Backends: []string{"10.0.0.1:8080", "10.0.0.2:8080"}}
		f := TraceFacts{
			Node: "n1", From: "shop/web", Protocol: "TCP", Sockets: true, Packets: true, Fresh: true, SourceENI: "eni-1", NodeAddress: "10.0.0.9",
			Frontend:  Frontend{Service: "shop/db", Kind: "ClusterIP", Address: "172.20.0.10:80/TCP", Wanted: b, Held: b},
			Backends:  []TraceBackend{{Address: "10.0.0.1:8080", Where: Here}, {Address: "10.0.0.2:8080", Where: Elsewhere}},
			KubeProxy: KubeProxyRules{IPTables: "KUBE-SVC-X", NFTables: "service-X"},
		}
		if change != nil {
			change(&f)
		}
		return f
	}
	flags := func(f *TraceFacts, flags ...string) {
		held := *f.Frontend.Held
		held.Flags = flags
		f.Frontend.Held = &held
	}
	for name, c := range map[string]struct {
		change func(*TraceFacts)
		by     By
		want   string
		never  string
	}{
		"TCP at the socket":    {nil, BySocket, "gives one of 2 backends at random", "source becomes"},
		"a local backend":      {nil, BySocket, "1 of 2 backends are pods of this node: straight into the pod", "netfilter"},
		"a remote one":         {nil, BySocket, "out by ENI eni-1, source unchanged", ""},
		"affinity":             {func(f *TraceFacts) { flags(f, "affinity") }, BySocket, "the backend that this client has", ""},
		"UDP":                  {func(f *TraceFacts) { f.Protocol = "UDP" }, BySocket, "connected isn't seen here, its packets are translated by packet programs", ""},
		"UDP without packets":  {func(f *TraceFacts) { f.Protocol, f.Packets = "UDP", false }, BySocket, "translated by kube-proxy", ""},
		"SCTP":                 {func(f *TraceFacts) { f.Protocol = "SCTP" }, ByPacket, "from_pod: replaces the destination", ""},
		"SCTP with Maglev":     {func(f *TraceFacts) { f.Protocol = "SCTP"; flags(f, "maglev") }, ByPacket, "Maglev", ""},
		"no socket programs":   {func(f *TraceFacts) { f.Sockets, f.NoSockets = false, "no cgroup" }, ByPacket, "no programs at sockets on this node: no cgroup", ""},
		"no programs at all":   {func(f *TraceFacts) { f.Sockets, f.Packets = false, false }, ByKubeProxy, "chain KUBE-SVC-X of table nat", ""},
		"not in the maps":      {func(f *TraceFacts) { f.Frontend.Held = nil }, ByKubeProxy, "the maps don't have this frontend", ""},
		"stale":                {func(f *TraceFacts) { f.Fresh, f.Packets = false, false }, ByKubeProxy, "hasn't confirmed the tables", ""},
		"the host":             {func(f *TraceFacts) { f.HostNetwork = true }, ByKubeProxy, "as long as kube-proxy isn't replaced", ""},
		"the host, replaced":   {func(f *TraceFacts) { f.HostNetwork, f.HostSockets = true, true }, BySocket, "the stack routes to the pod's device", ""},
		"refused":              {func(f *TraceFacts) { f.Backends, f.Nobody = nil, "none ready"; flags(f, "refuse") }, ByNobody, "ECONNREFUSED: none ready", "from_pod"},
		"local, none here":     {func(f *TraceFacts) { f.Backends, f.Nobody = nil, "none here" }, ByNobody, "from_pod: drops it: none here", ""},
		"ranges":               {func(f *TraceFacts) { f.NorthSouth = true; f.Frontend.Kind = "LoadBalancer"; flags(f, "source-ranges") }, ByPacket, "drops it if the client's address is in none", ""},
		"a node port, kept":    {func(f *TraceFacts) { f.Protocol, f.Frontend.Kind = "SCTP", "NodePort" }, ByKubeProxy, "a NodePort is left to kube-proxy", ""},
		"outside, kept":        {func(f *TraceFacts) { f.Outside, f.Frontend.Kind = true, "NodePort" }, ByKubeProxy, "from_netdev: lets it by", ""},
		"outside":              {func(f *TraceFacts) { f.Outside, f.NorthSouth, f.Frontend.Kind = true, true, "NodePort" }, ByPacket, "source becomes the node's 10.0.0.9", ""},
		"outside, a ClusterIP": {func(f *TraceFacts) { f.Outside, f.NorthSouth = true, true }, ByNobody, "doesn't answer for a ClusterIP", ""},
		"outside, nobody": {func(f *TraceFacts) {
			f.Outside, f.NorthSouth, f.Frontend.Kind, f.Backends = true, true, "NodePort", nil
			flags(f, "refuse")
		}, ByNobody, "answers with a reset", ""},
		"outside, none here": {func(f *TraceFacts) {
			f.Outside, f.NorthSouth, f.Frontend.Kind, f.Backends = true, true, "NodePort", nil
		}, ByNobody, "drops it", ""},
		"outside, not held": {func(f *TraceFacts) {
			f.Outside, f.NorthSouth, f.Frontend.Kind, f.Frontend.Held = true, true, "NodePort", nil
		}, ByKubeProxy, "doesn't know this frontend", ""},
		"outside, this node": {func(f *TraceFacts) {
			f.Outside, f.NorthSouth, f.Frontend.Kind = true, true, "NodePort"
			f.Backends[0].Where = Itself
		}, ByPacket, "this node itself: up the stack", ""},
		"the node is a backend": {func(f *TraceFacts) { f.Backends[0].Where = Itself }, BySocket, "stack: 1 of 2 backends are this node itself", ""},
	} {
		got := Follow(base(c.change))
		if got.By != c.by || !strings.Contains(got.Words(), c.want) || c.never != "" && strings.Contains(got.Words(), c.never) {
			t.Errorf("%s: found by %s\n%s\nexpected by %s, %q, never %q", name, got.By, got.Words(), c.by, c.want, c.never)
		}
		var out bytes.Buffer
		got.Draw(&out)
		if !strings.Contains(out.String(), "shop/web -> 172.20.0.10:80/TCP (shop/db)") {
			t.Errorf("%s: drawn as %s", name, out.String())
		}
	}
}
