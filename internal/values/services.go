package values

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-cni/weft/internal/config"
)

// serviceRules are the names that say how services are served, and by whom.
func serviceRules() map[string]rule {
	sourceCheck := "AWS drops what a node sends from an address that isn't its own (the source/destination check), and with it every answer of a backend that isn't on the node that was asked; expected snat"
	return map[string]rule{
		"kubeProxyReplacement": {kind: only, oneOf: []any{"true", "false", ""}, old: map[string]spelling{
			"disabled": {"false", "kube-proxy keeps the services"},
			"strict":   {"true", "weft serves every kind of service, and needs no kube-proxy"},
			"partial":  {"false", "it was for clusters with kube-proxy; pods' sockets are connected to services either way, and kube-proxy keeps the rest"},
			"probe":    {"false", "it was for clusters with kube-proxy; pods' sockets are connected to services either way, and kube-proxy keeps the rest"},
		}},
		"loadBalancer.algorithm": {kind: only, oneOf: []any{config.AlgorithmRandom, config.AlgorithmMaglev, ""}},
		"loadBalancer.mode": {kind: only, oneOf: []any{"snat", ""}, because: map[string]string{
			"dsr": sourceCheck, "hybrid": sourceCheck, "annotation": "modes of single services need one beside snat; expected snat",
		}},
		"loadBalancer.acceleration": {kind: only, oneOf: []any{"disabled", ""}, because: map[string]string{
			"native":       "weft has no XDP program yet; expected disabled",
			"testing-only": "weft has no XDP program yet; expected disabled",
		}, old: map[string]spelling{"best-effort": {"disabled", "it is for where XDP can be had, and weft has no XDP program yet"}}},
		"loadBalancer.serviceTopology":  {kind: boolean},
		"maglev.tableSize":              {kind: integer, nullable: true, check: checkMaglev},
		"serviceNoBackendResponse":      {kind: only, oneOf: []any{config.NoBackendReject, config.NoBackendDrop}},
		"bpf.lbExternalClusterIP":       {kind: boolean},
		"nodePort.range":                {kind: text, nullable: true, check: checkNodePorts},
		"nodePort.addresses":            {kind: list, nullable: true, check: checkPrefixes},
		"nodePort.bindProtection":       {kind: boolean},
		"socketLB.hostNamespaceOnly":    {kind: boolean, nullable: true},
		"nodePort.autoProtectPortRange": always("false", "the node's own settings of ports stay as they are"),
		"nodePort.enabled":              always("true", "kubeProxyReplacement=true has node ports"),
		"hostPort.enabled":              always("true", "kubeProxyReplacement=true has host ports"),
		"externalIPs.enabled":           always("true", "kubeProxyReplacement=true has external addresses"),
		"socketLB.enabled":              always("true", "pods' sockets are always connected to services"),
	}
}

// kinds refuses single kinds of services beside kube-proxy: weft serves all or leaves all but pods' sockets.
func (k *check) kinds() {
	if replace, _ := get(k.result.Values, "kubeProxyReplacement"); asText(replace) == "true" {
		return
	}
	for _, name := range []string{"nodePort.enabled", "hostPort.enabled", "externalIPs.enabled"} {
		if k.asked[name] {
			k.ignore(name, "asks for one kind of service beside kube-proxy, which this version doesn't have; leave it out, or set kubeProxyReplacement=true, which has every kind")
		}
	}
}

func checkMaglev(v any) error {
	if n, ok := asInt(v); !ok || !slices.Contains(config.MaglevSizes(), int(n)) {
		return fmt.Errorf("is %s, expected a prime number among %v", show(v), config.MaglevSizes())
	}
	return nil
}

func checkNodePorts(v any) error {
	if s := asText(v); s != "" {
		if _, err := config.ParseNodePorts(s); err != nil {
			return fmt.Errorf("is %s, expected the range that the API server gives node ports from, such as 30000,32767", show(v))
		}
	}
	return nil
}

// checkAPIHost refuses an address. The host's name is asked again for each connection.
func checkAPIHost(v any) error {
	s := asText(v)
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return fmt.Errorf("is %s, an address: those of an EKS API server change at any time, and no node would find it again; expected its name, such as that of aws eks describe-cluster --query cluster.endpoint", show(v))
	}
	if strings.ContainsAny(s, "/: ") {
		return fmt.Errorf("is %s, expected the name of a host alone, without scheme and port", show(v))
	}
	return nil
}
