package kubeproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Frontend is an address and port at which rules serve a service. A node port has no address.
type Frontend struct {
	netip.AddrPort
	Protocol string // as in Kubernetes: TCP, UDP or SCTP
}

func (f Frontend) String() string {
	if !f.Addr().IsValid() {
		return fmt.Sprintf("node port %d/%s", f.Port(), f.Protocol)
	}
	return fmt.Sprintf("%s/%s", f.AddrPort, f.Protocol)
}

func nodePort(port uint16, protocol string) Frontend {
	return Frontend{netip.AddrPortFrom(netip.Addr{}, port), protocol}
}

// Found is what there is of kube-proxy in a network namespace.
type Found struct {
	// Kinds name where its rules are: see the constants.
	Kinds []string
	// Chains counts those of kube-proxy, and tables of its own.
	Chains    int
	Frontends map[Frontend]bool
	// Stays says what Remove can't take away, and how it goes.
	Stays []string
}

// Kinds of rules.
const (
	KindIPTables = "iptables"
	KindLegacy   = "iptables-legacy"
	KindNFTables = "nftables"
	KindIPVS     = "ipvs"
)

// Any tells whether there is something.
func (f Found) Any() bool { return len(f.Kinds) > 0 }

func (f *Found) add(kind string, chains int) {
	if !slices.Contains(f.Kinds, kind) {
		f.Kinds = append(f.Kinds, kind)
	}
	f.Chains += chains
}

// Find looks at the network namespace of the calling thread.
func Find() (Found, error) {
	out := Found{Frontends: map[Frontend]bool{}}
	return out, errors.Join(findNFTables(&out), findLegacy(&out), findIPVS(&out))
}

// Remove takes kube-proxy's rules away, in an order in which no packet meets half of them: first what leads to
// them, then they themselves. Chains that another's rules lead to stay, and so does what kubelet made. Connections
// that the rules translated go on: see hold.
func Remove() (removed int, err error) {
	n, err := removeNFTables()
	m, lerr := removeLegacy()
	return n + m, errors.Join(err, lerr)
}

// chains of kube-proxy in its modes iptables and ipvs. kubelet's own (KUBE-FIREWALL, KUBE-MARK-DROP, KUBE-KUBELET-CANARY,
// KUBE-IPTABLES-HINT) aren't among them.
func isOwn(chain string) bool {
	switch chain {
	case "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD",
		"KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-LOCAL",
		"KUBE-SOURCE-RANGES-FIREWALL", "KUBE-NODE-PORT", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER":
		return true
	}
	for _, prefix := range []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"} {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

// A rule is what leads from one chain to another.
type jump struct {
	from, to string
	base     bool // from is where packets come in
}

// kept are chains of kube-proxy that stay because rules of others lead to them, with all that they lead to.
// Base chains' jumps are kube-proxy's own.
func kept(jumps []jump) map[string]bool {
	out := map[string]bool{}
	leads := map[string][]string{}
	var next []string
	for _, j := range jumps {
		leads[j.from] = append(leads[j.from], j.to)
		if isOwn(j.to) && !isOwn(j.from) && !j.base {
			next = append(next, j.to)
		}
	}
	for len(next) > 0 {
		chain := next[0]
		next = next[1:]
		if out[chain] {
			continue
		}
		out[chain] = true
		if chain == "KUBE-MARK-MASQ" {
			next = append(next, "KUBE-POSTROUTING") // what acts on the mark
		}
		for _, to := range leads[chain] {
			if isOwn(to) {
				next = append(next, to)
			}
		}
	}
	return out
}
