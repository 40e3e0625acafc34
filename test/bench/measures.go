package main

import (
	"fmt"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/netkit"
	"github.com/weft-cni/weft/test/bench/paths"
	"github.com/weft-cni/weft/test/bench/traffic"
)

// stage is two networks side by side: weft's, and what it is compared with.
type stage struct {
	name       string
	weft, peer paths.Plan
	// able says why this kernel can't have it; nil: any can.
	able func() error
}

// trafficMeasure is one kind of traffic on one path of a stage's networks.
type trafficMeasure struct {
	name, stage string
	kind        traffic.Kind
	path        func(*paths.Network) traffic.Path
	// flows are alive beside those that are measured.
	flows int
}

func cross(n *paths.Network) traffic.Path   { return n.Cross }
func local(n *paths.Network) traffic.Path   { return n.Local }
func service(n *paths.Network) traffic.Path { return n.Service }
func near(n *paths.Network) traffic.Path    { return n.ServiceLocal }

// orDirect is by a service's address, or straight where there is none.
func orDirect(n *paths.Network) traffic.Path {
	if n.Service.Address.IsValid() {
		return n.Service
	}
	return n.Cross
}

// Beside kube-proxy, but for services that weft connects to itself, both networks have its rules, as they would have on a cluster.
func stages(base string) []stage {
	weft := paths.Plan{Kind: paths.Weft}
	with := func(p paths.Plan, mode paths.Mode, services int) paths.Plan {
		p.Rules = paths.Rules{Mode: mode, Services: services}
		return p
	}
	ptp := paths.Plan{Kind: paths.PTP}
	world := func(p paths.Plan) paths.Plan {
		p.World = true
		return p
	}
	events := func(perSecond int) paths.Plan {
		return paths.Plan{Kind: paths.Weft, Change: func(c *config.Config) { c.Events.PerSecond = perSecond }}
	}
	served := func(services int) paths.Plan { return paths.Plan{Kind: paths.Weft, Services: services} }
	device := func(mode string) paths.Plan {
		return paths.Plan{Kind: paths.Weft, Change: func(c *config.Config) { c.BPF.DatapathMode = mode }}
	}
	list := []stage{
		{name: "ptp", weft: weft, peer: ptp},
		{name: "veth", weft: weft, peer: paths.Plan{Kind: paths.Veth}},
		{name: "bridge", weft: weft, peer: paths.Plan{Kind: paths.Bridge}},
		{name: "iptables-1", weft: with(weft, paths.IPTables, 1), peer: with(ptp, paths.IPTables, 1)},
		{name: "iptables-5000", weft: with(weft, paths.IPTables, 5000), peer: with(ptp, paths.IPTables, 5000)},
		{name: "nftables-5000", weft: with(weft, paths.NFTables, 5000), peer: with(ptp, paths.NFTables, 5000)},
		{name: "masquerade", weft: world(weft), peer: with(world(ptp), paths.Masquerade, 0)},
		{name: "no-masquerade", weft: paths.Plan{Kind: paths.Weft, Change: func(c *config.Config) { c.EnableIPv4Masquerade = false }}, peer: ptp},
		{name: "events", weft: weft, peer: events(0)},
		{name: "every-event", weft: events(1_000_000), peer: events(0)},
		{name: "netkit", weft: device(config.DatapathNetkit), peer: device(config.DatapathVeth), able: func() error { return netkit.Probe(false) }},
		// What differs between two that are the same is what the other figures may be wrong by.
		{name: "self", weft: weft, peer: paths.Plan{Kind: paths.Weft, Program: base}},
		{name: "masquerade-self", weft: world(weft), peer: world(paths.Plan{Kind: paths.Weft, Program: base})},
		{name: "services-vs-direct", weft: served(1), peer: weft},
		{name: "services-20000-vs-1", weft: served(20000), peer: served(1)},
	}
	// Where weft connects to services there are no rules of kube-proxy.
	for _, n := range serviceCounts() {
		for _, mode := range []paths.Mode{paths.IPTables, paths.NFTables} {
			list = append(list, stage{name: fmt.Sprintf("services-%s-%d", mode, n), weft: served(n), peer: with(ptp, mode, n)})
		}
	}
	return list
}

func serviceCounts() []int { return []int{1, 100, 5000, 20000} }

func trafficMeasures() []trafficMeasure {
	all := []traffic.Kind{traffic.RR, traffic.CRR, traffic.UDP, traffic.Stream}
	var out []trafficMeasure
	add := func(stage, format string, path func(*paths.Network) traffic.Path, kinds ...traffic.Kind) {
		for _, k := range kinds {
			out = append(out, trafficMeasure{name: fmt.Sprintf(format, k), stage: stage, kind: k, path: path})
		}
	}
	add("ptp", "%s/cross/vs-ptp", cross, all...)
	add("ptp", "%s/local/vs-ptp", local, all...)
	for _, flows := range []int{1000, 100_000} {
		for _, k := range []traffic.Kind{traffic.RR, traffic.CRR, traffic.UDP} {
			out = append(out, trafficMeasure{fmt.Sprintf("%s/cross/vs-ptp/%d-flows", k, flows), "ptp", k, cross, flows})
		}
	}
	add("veth", "%s/cross/vs-veth", cross, all...)
	add("bridge", "%s/cross/vs-bridge", cross, all...)
	add("bridge", "%s/local/vs-bridge", local, all...)
	for _, rules := range []string{"iptables-1", "iptables-5000", "nftables-5000"} {
		add(rules, "%s/cross/vs-"+rules, cross, all...)
		add(rules, "%s/local/vs-"+rules, local, traffic.RR, traffic.CRR)
	}
	for _, n := range serviceCounts() {
		for _, mode := range []paths.Mode{paths.IPTables, paths.NFTables} {
			of := fmt.Sprintf("%s-%d", mode, n)
			add("services-"+of, "%s/service/vs-"+of, service, traffic.RR, traffic.CRR)
			add("services-"+of, "%s/service-local/vs-"+of, near, traffic.RR, traffic.CRR)
		}
	}
	add("services-vs-direct", "%s/service/vs-direct", orDirect, traffic.RR, traffic.CRR)
	add("services-20000-vs-1", "%s/service/20000-vs-1", service, traffic.RR, traffic.CRR)
	add("masquerade", "masquerade/%s/vs-nftables", cross, all...)
	add("no-masquerade", "%s/cross/vs-ptp/no-masquerade", cross, traffic.RR, traffic.CRR)
	add("events", "events/%s/on-vs-off", cross, traffic.RR, traffic.CRR)
	add("every-event", "events/%s/every-one-vs-off", cross, traffic.CRR)
	add("netkit", "netkit/%s/cross/vs-veth", cross, all...)
	add("netkit", "netkit/%s/local/vs-veth", local, all...)
	add("self", "self/%s/cross", cross, all...)
	add("self", "self/%s/local", local, traffic.RR, traffic.CRR)
	add("masquerade-self", "self/masquerade/%s", cross, traffic.RR, traffic.CRR, traffic.UDP)
	return out
}
