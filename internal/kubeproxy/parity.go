package kubeproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// frontendOf is how kube-proxy's rules would have an address; the node ports of both families are one.
func frontendOf(a loadbalancer.Address) Frontend {
	f := Frontend{a.AddrPort, string(a.Protocol)}
	if a.Addr().IsUnspecified() {
		f = nodePort(a.Port(), f.Protocol)
	}
	return f
}

// Lacks are those of the frontends that rules serve, that a node doesn't have and should: those of wanted that aren't
// among served. What isn't wanted is of a service that has gone since.
func Lacks(rules map[Frontend]bool, served, wanted []loadbalancer.Address) []Frontend {
	have, want := map[Frontend]bool{}, map[Frontend]bool{}
	for _, a := range served {
		have[frontendOf(a)] = true
	}
	for _, a := range wanted {
		want[frontendOf(a)] = true
	}
	var out []Frontend
	for f := range rules {
		if want[f] && !have[f] {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b Frontend) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// Situation is what a node that is to serve services in kube-proxy's place knows of it.
type Situation struct {
	// Runs: kube-proxy does, on this node.
	Runs bool
	// Gone is for how long it hasn't.
	Gone  time.Duration
	Found Found
	// Filled: the node's own tables have every service.
	Filled bool
	Lacks  []Frontend
}

// Grace is how long kube-proxy must be gone until its rules go: one that is replaced by its next version is back
// before.
const Grace = 15 * time.Second

// Decide says whether the rules go now, and what people should know.
func Decide(s Situation) (remove bool, says []string) {
	rules := strings.Join(s.Found.Kinds, " and ")
	if s.Runs {
		text := "kube-proxy runs beside weft, which serves all services in its place"
		switch {
		case !s.Filled:
			text += "; weft's tables aren't filled yet, so leave it where it is"
		case len(s.Lacks) > 0:
			text += "; leave it where it is: " + lacks(s.Lacks)
		default:
			text += fmt.Sprintf(", and has each of the %d addresses that kube-proxy's rules have; take it away: aws eks delete-addon --addon-name kube-proxy, or kubectl -n kube-system delete daemonset kube-proxy", len(s.Found.Frontends))
		}
		return false, append([]string{text}, s.Found.Stays...)
	}
	if !s.Found.Any() {
		return false, nil
	}
	switch {
	case len(s.Lacks) > 0:
		return false, append([]string{fmt.Sprintf("kube-proxy's rules (%s) stay although it has gone: %s", rules, lacks(s.Lacks))}, s.Found.Stays...)
	case !s.Filled || s.Gone < Grace:
		return false, s.Found.Stays
	}
	return s.Found.Chains > 0, s.Found.Stays
}

func lacks(f []Frontend) string {
	text := fmt.Sprintf("weft doesn't serve %s", f[0])
	if len(f) > 1 {
		text += fmt.Sprintf(" and %d more", len(f)-1)
	}
	return text + ", which they do; weft service list says why"
}
