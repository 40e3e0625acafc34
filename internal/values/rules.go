package values

import (
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/masquerade"
)

// kind is what an implemented value holds.
type kind int

const (
	text kind = iota + 1
	boolean
	integer
	port // integer or text
	list
	tree        // whatever Kubernetes takes there
	textOrList  // one string, or a list of them
	only        // one of few values; rule.oneOf
	replacedBy  // an old spelling; rule.to
	superfluous // values that ask for what weft does anyway, or for less than it has; rule.means
	options     // an object of the agent's own options by name; rule.options
)

// rule is what weft does with a name. A name without one is known at most.
type rule struct {
	kind     kind
	nullable bool
	oneOf    []any
	// check refuses a value of the right kind.
	check func(v any) error
	// to turns an old spelling into the values that it stands for.
	to func(v any) (set map[string]any, note string, err error)
	// means says why each accepted value changes nothing; keyed by its text.
	means map[string]string
	// whole says why no number changes anything.
	whole string
	// accepts are the values of an old spelling, for the schema.
	accepts []any
	// old are retired spellings of a value that acts, by their text.
	old map[string]spelling
	// because says, by a value's text, why it is refused; of a value that isn't among oneOf.
	because map[string]string
	// options are those that act; each refuses a value that isn't right.
	options map[string]func(v any) error
}

// spelling is what a retired value stands for, and why.
type spelling struct {
	to  any
	why string
}

// rules are the names that act; every leaf of the chart's values.yaml has one, which a test holds.
func rules() map[string]rule {
	r := map[string]rule{
		"cluster.name":                                {kind: text, check: checkClusterName},
		"cluster.id":                                  {kind: integer, check: between(0, 255)},
		"eni.enabled":                                 {kind: only, oneOf: []any{true}},
		"eni.iamRole":                                 {kind: text, check: checkRole},
		"eni.eniTags":                                 {kind: tree},
		"eni.gcInterval":                              {kind: text, check: checkDuration(true)},
		"eni.nodeSpec.firstInterfaceIndex":            {kind: integer, nullable: true, check: between(0, 14)},
		"eni.nodeSpec.deleteOnTermination":            {kind: boolean, nullable: true},
		"ipam.mode":                                   {kind: only, oneOf: []any{"eni"}},
		"ipam.nodeSpec.ipamMinAllocate":               {kind: integer, nullable: true, check: between(0, 1000)},
		"ipam.nodeSpec.ipamPreAllocate":               {kind: integer, nullable: true, check: between(0, 1000)},
		"ipam.nodeSpec.ipamMaxAllocate":               {kind: integer, nullable: true, check: between(0, 1000)},
		"routingMode":                                 {kind: only, oneOf: []any{"native", ""}},
		"ipv4NativeRoutingCIDR":                       {kind: text, check: checkPrefix},
		"enableIPv4Masquerade":                        {kind: boolean},
		"egressMasqueradeInterfaces":                  {kind: textOrList, nullable: true},
		"bandwidthManager.enabled":                    {kind: boolean},
		"bpf.masquerade":                              {kind: boolean, nullable: true},
		"bpf.masqueradePorts":                         {kind: text, check: checkPorts},
		"bpf.mapDynamicSizeRatio":                     {kind: text, nullable: true, check: checkRatio},
		"bpf.natMax":                                  {kind: superfluous, whole: "translated connections stand in the tables of all connections; bpf.ctTcpMax and bpf.ctAnyMax size them"},
		"bpf.neighMax":                                {kind: superfluous, whole: "weft has no table of neighbours: each ENI's next hop is known"},
		"bpf.programStatistics":                       {kind: boolean},
		"bpf.datapathMode":                            {kind: only, oneOf: []any{"veth", "netkit", "netkit-l2", "auto"}},
		"bpf.ctTcpMax":                                {kind: integer, nullable: true, check: between(1024, 1<<24)},
		"bpf.ctAnyMax":                                {kind: integer, nullable: true, check: between(1024, 1<<24)},
		"extraConfig":                                 {kind: options, options: agentOptions()},
		"bpf.events.default.rateLimit":                {kind: integer, nullable: true, check: between(0, 1_000_000)},
		"bpf.eventRingSize":                           {kind: integer, nullable: true, check: checkRing},
		"hubble.eventBufferCapacity":                  {kind: integer, nullable: true, check: between(1, 1<<20)},
		"ipMasqAgent.enabled":                         {kind: boolean},
		"ipMasqAgent.config.nonMasqueradeCIDRs":       {kind: list, nullable: true, check: checkPrefixes},
		"ipMasqAgent.config.masqLinkLocal":            {kind: boolean, nullable: true},
		"ipMasqAgent.config.masqLinkLocalIPv6":        {kind: boolean, nullable: true},
		"MTU":                                         {kind: integer, check: checkMTU},
		"podMetadataAccess":                           {kind: boolean},
		"healthChecking":                              {kind: boolean},
		"healthCheckICMPFailureThreshold":             {kind: integer, check: between(1, 100)},
		"nodeHealth.interval":                         {kind: text, check: checkDurationFrom(time.Second)},
		"nodeHealth.timeout":                          {kind: text, check: checkDurationFrom(10 * time.Millisecond)},
		"nodeHealth.sample":                           {kind: integer, check: between(2, 1000)},
		"cni.confPath":                                {kind: text, check: checkPath},
		"cni.binPath":                                 {kind: text, check: checkPath},
		"agentNotReadyTaintKey":                       {kind: text, check: checkTaint},
		"debug.enabled":                               {kind: boolean},
		"k8sServiceHost":                              {kind: text, check: checkAPIHost},
		"k8sServicePort":                              {kind: port},
		"imagePullSecrets":                            {kind: list},
		"commonLabels":                                {kind: tree},
		"annotations":                                 {kind: tree},
		"podAnnotations":                              {kind: tree},
		"podLabels":                                   {kind: tree},
		"podSecurityContext":                          {kind: tree},
		"securityContext.privileged":                  {kind: boolean},
		"affinity":                                    {kind: tree},
		"nodeSelector":                                {kind: tree},
		"tolerations":                                 {kind: list},
		"priorityClassName":                           {kind: text},
		"resources":                                   {kind: tree},
		"updateStrategy":                              {kind: tree},
		"terminationGracePeriodSeconds":               {kind: integer, check: between(0, 3600)},
		"extraArgs":                                   {kind: list},
		"extraEnv":                                    {kind: list},
		"prometheus.enabled":                          {kind: boolean},
		"operator.enabled":                            {kind: boolean},
		"operator.replicas":                           {kind: integer, check: between(0, 16)},
		"operator.removeNodeTaints":                   {kind: boolean},
		"operator.syncInterval":                       {kind: text, check: checkDuration(false)},
		"operator.annotations":                        {kind: tree},
		"operator.podAnnotations":                     {kind: tree},
		"operator.podLabels":                          {kind: tree},
		"operator.podSecurityContext":                 {kind: tree},
		"operator.affinity":                           {kind: tree},
		"operator.nodeSelector":                       {kind: tree},
		"operator.tolerations":                        {kind: list},
		"operator.topologySpreadConstraints":          {kind: list},
		"operator.priorityClassName":                  {kind: text},
		"operator.resources":                          {kind: tree},
		"operator.updateStrategy":                     {kind: tree},
		"operator.podDisruptionBudget.enabled":        {kind: boolean},
		"operator.podDisruptionBudget.minAvailable":   {kind: port, nullable: true},
		"operator.podDisruptionBudget.maxUnavailable": {kind: port, nullable: true},
		"operator.extraArgs":                          {kind: list},
		"operator.extraEnv":                           {kind: list},
		"operator.prometheus.enabled":                 {kind: boolean},

		"tunnel": {kind: replacedBy, accepts: []any{"disabled", "", nil}, to: fromTunnel},
		"aws.enabled": {kind: replacedBy, accepts: []any{true, false, nil}, to: func(v any) (map[string]any, string, error) {
			if asText(v) == "true" {
				return map[string]any{"eni.enabled": true}, "eni.enabled=true", nil
			}
			return nil, "nothing: false is what an absent value means", nil
		}},
		"aws.region": {kind: text},
		"nativeRoutingCIDR": {kind: replacedBy, accepts: []any{"", nil}, to: func(v any) (map[string]any, string, error) {
			return map[string]any{"ipv4NativeRoutingCIDR": v}, "ipv4NativeRoutingCIDR=" + asText(v), nil
		}},

		"rollOutCiliumPods":              always("true", "a change of the configuration always restarts weft's pods"),
		"operator.rollOutPods":           always("true", "a change of the configuration always restarts weft's pods"),
		"cni.exclusive":                  always("false", "other plugins' files stay as they are; weft's own sorts first"),
		"hubble.enabled":                 always("false", "this version has no Hubble"),
		"hubble.relay.enabled":           always("false", "this version has no relay"),
		"hubble.ui.enabled":              always("false", "this version has no UI"),
		"hubble.tls.enabled":             always("false", "this version has no Hubble"),
		"envoy.enabled":                  always("false", "this version has no proxy"),
		"l7Proxy":                        always("false", "this version has no proxy"),
		"endpointHealthChecking.enabled": always("false", "this version probes nodes, no endpoint on them"),
		"enableIPv6Masquerade":           always("false", "this version has IPv4 only"),
		"ipv6.enabled":                   always("false", "this version has IPv4 only"),
		"identityAllocationMode":         always("crd", "weft has no identity store"),
	}
	maps.Copy(r, serviceRules())
	for _, image := range []string{"image", "operator.image"} {
		r[image+".override"] = rule{kind: text, nullable: true}
		r[image+".repository"] = rule{kind: text}
		r[image+".tag"] = rule{kind: text}
		r[image+".digest"] = rule{kind: text}
		r[image+".useDigest"] = rule{kind: boolean}
		r[image+".pullPolicy"] = rule{kind: only, oneOf: []any{"Always", "IfNotPresent", "Never"}}
	}
	for _, account := range []string{"serviceAccounts.cilium", "serviceAccounts.operator"} {
		r[account+".create"] = rule{kind: boolean}
		r[account+".name"] = rule{kind: text}
		r[account+".automount"] = rule{kind: boolean}
		r[account+".annotations"] = rule{kind: tree}
	}
	return r
}

// agentOptions are the options of Cilium's agent that its chart takes by extraConfig alone.
func agentOptions() map[string]func(any) error {
	lifetime := func(v any) error {
		if d, err := time.ParseDuration(asText(v)); err != nil || d < config.MinLifetime || d > config.MaxLifetime {
			return fmt.Errorf("is %s, expected a duration from %s to %s, such as 2h", show(v), config.MinLifetime, config.MaxLifetime)
		}
		return nil
	}
	return map[string]func(any) error{
		"bpf-ct-timeout-regular-tcp":     lifetime,
		"bpf-ct-timeout-regular-tcp-syn": lifetime,
		"bpf-ct-timeout-regular-tcp-fin": lifetime,
		"bpf-ct-timeout-regular-any":     lifetime,
	}
}

func always(value, why string) rule {
	return rule{kind: superfluous, means: map[string]string{value: why}}
}

func fromTunnel(v any) (map[string]any, string, error) {
	switch asText(v) {
	case "disabled":
		return map[string]any{"routingMode": "native"}, "routingMode=native", nil
	case "":
		return nil, "nothing: empty is what an absent value means", nil
	}
	return nil, "", fmt.Errorf("%s asks for an overlay, which this version doesn't have; expected disabled", show(v))
}

func checkRing(v any) error {
	if n, ok := asInt(v); !ok || n < 64<<10 || n > 1<<30 || n&(n-1) != 0 {
		return fmt.Errorf("is %s, expected a power of two from 65536 to %d", show(v), 1<<30)
	}
	return nil
}

func checkRatio(v any) error {
	if r, err := strconv.ParseFloat(asText(v), 64); err != nil || !(r >= 0 && r <= config.MaxSizeRatio) {
		return fmt.Errorf("is %s, expected a part of the node's memory from 0 to %g, such as 0.0025", show(v), config.MaxSizeRatio)
	}
	return nil
}

func between(low, high int64) func(any) error {
	return func(v any) error {
		if n, ok := asInt(v); !ok || n < low || n > high {
			return fmt.Errorf("is %s, expected %d to %d", show(v), low, high)
		}
		return nil
	}
}

func checkClusterName(v any) error {
	s := asText(v)
	if s == "" {
		return fmt.Errorf("is empty: identities are made of it, so every cluster needs its own")
	}
	if len(s) > 63 {
		return fmt.Errorf("is %d characters, at most 63", len(s))
	}
	return nil
}

func checkRole(v any) error {
	s := asText(v)
	if s == "" {
		return nil
	}
	// arn:PARTITION:iam::ACCOUNT:role/NAME
	part := strings.SplitN(s, ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[2] != "iam" || !strings.HasPrefix(part[5], "role/") || strings.ContainsAny(s, "<> ") {
		return fmt.Errorf("is %s, expected a role's ARN such as arn:aws:iam::111122223333:role/NAME", show(v))
	}
	return nil
}

func checkDuration(emptyOK bool) func(any) error {
	return func(v any) error {
		s := asText(v)
		if s == "" && emptyOK {
			return nil
		}
		if d, err := time.ParseDuration(s); err != nil || d < 0 {
			return fmt.Errorf("is %s, expected a duration such as 5m", show(v))
		}
		return nil
	}
}

func checkDurationFrom(least time.Duration) func(any) error {
	return func(v any) error {
		if d, err := time.ParseDuration(asText(v)); err != nil || d < least {
			return fmt.Errorf("is %s, expected a duration of %s or more", show(v), least)
		}
		return nil
	}
}

func checkPrefix(v any) error {
	s := asText(v)
	if s == "" {
		return nil
	}
	if p, err := netip.ParsePrefix(s); err != nil || !p.Addr().Is4() {
		return fmt.Errorf("is %s, expected an IPv4 prefix such as 10.0.0.0/8", show(v))
	}
	return nil
}

func checkPrefixes(v any) error {
	list, _ := v.([]any)
	for _, one := range list {
		if _, err := netip.ParsePrefix(asText(one)); err != nil {
			return fmt.Errorf("has %s, expected prefixes such as 10.0.0.0/8", show(one))
		}
	}
	return nil
}

func checkPorts(v any) error {
	if s := asText(v); s != "" {
		if _, err := masquerade.ParsePorts(s); err != nil {
			return fmt.Errorf("is %s, expected a range of ports such as 1024-29999", show(v))
		}
	}
	return nil
}

func checkMTU(v any) error {
	if n, ok := asInt(v); !ok || n != 0 && (n < 1280 || n > 9001) {
		return fmt.Errorf("is %s, expected 0 (the ENI's own) or 1280 to 9001", show(v))
	}
	return nil
}

func checkPath(v any) error {
	if !strings.HasPrefix(asText(v), "/") {
		return fmt.Errorf("is %s, expected an absolute path on the node", show(v))
	}
	return nil
}

func checkTaint(v any) error {
	if s := asText(v); s == "" || strings.ContainsAny(s, " =:") {
		return fmt.Errorf("is %s, expected a taint's key such as node.cilium.io/agent-not-ready", show(v))
	}
	return nil
}
