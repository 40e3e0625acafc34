package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"
)

// Annotations of a service that choose its algorithm, "random" or "maglev": weft's own, and Cilium's, which is
// looked at after it.
const (
	AnnotationAlgorithm       = "weft.dev/lb-algorithm"
	AnnotationAlgorithmCilium = "service.cilium.io/lb-algorithm"
)

// algorithm tells whether the service's backends are chosen by Maglev's table.
func (r *resolution) algorithm() bool {
	for _, key := range []string{AnnotationAlgorithm, AnnotationAlgorithmCilium} {
		switch v := r.service.Annotations[key]; v {
		case "":
			continue
		case "random":
			return false
		case "maglev":
			return true
		case "least-connections", "leastconn":
			r.problem(Address{}, fmt.Sprintf("annotation %s: %q isn't there, as no node knows of another's connections; expected random or maglev", key, v))
		default:
			r.problem(Address{}, fmt.Sprintf("annotation %s is %q, expected random or maglev", key, v))
		}
	}
	return r.node.Settings.Maglev
}

func parseRange(text string) (netip.Prefix, error) { return netip.ParsePrefix(strings.TrimSpace(text)) }
