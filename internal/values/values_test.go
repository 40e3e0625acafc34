package values

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func load(t testing.TB) *Catalogue {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parse(t testing.TB, doc string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCheck(t *testing.T) {
	c := load(t)
	for _, test := range []struct {
		name, in, want string
		errors, notes  []string
	}{
		{name: "empty", in: `{}`, want: `{}`},
		{name: "implemented", in: `{cluster: {name: c1, id: "7"}}`, want: `{cluster: {name: c1, id: 7}}`},
		{name: "null is the default", in: `{affinity: null, eni: null, hubble: {relay: null}}`, want: `{}`},
		{name: "tunnel", in: `{tunnel: disabled}`, want: `{routingMode: native}`, notes: []string{"tunnel=disabled is taken as routingMode=native"}},
		{name: "tunnel beside its successor", in: `{tunnel: disabled, routingMode: native}`, want: `{routingMode: native}`, notes: []string{"tunnel=disabled is taken as routingMode=native"}},
		{name: "overlay by the old name", in: `{tunnel: geneve}`, errors: []string{`tunnel: "geneve" asks for an overlay`}},
		{name: "overlay", in: `{routingMode: tunnel}`, errors: []string{`routingMode: is "tunnel", expected native`}},
		{name: "aws.enabled", in: `{aws: {enabled: true}}`, want: `{eni: {enabled: true}}`, notes: []string{"aws.enabled=true is taken as eni.enabled=true"}},
		{name: "eni off", in: `{eni: {enabled: false}}`, errors: []string{"eni.enabled: is false, expected true"}},
		{name: "aws.region", in: `{aws: {region: us-west-2}}`, want: `{operator: {extraEnv: [{name: AWS_REGION, value: us-west-2}]}}`, notes: []string{"aws.region=us-west-2 is taken as AWS_REGION"}},
		{name: "aws.region beside the environment", in: `{aws: {region: r1}, operator: {extraEnv: [{name: AWS_REGION, value: r1}]}}`, want: `{operator: {extraEnv: [{name: AWS_REGION, value: r1}]}}`, notes: []string{"aws.region=r1 is what AWS_REGION"}},
		{name: "aws.region against the environment", in: `{aws: {region: r1}, operator: {extraEnv: [{name: AWS_REGION, value: r2}]}}`, errors: []string{`aws.region: is "r1", but AWS_REGION in operator.extraEnv is "r2"`}},
		{name: "known, at its default", in: `{hubble: {relay: {enabled: false}}, encryption: {nodeEncryption: "false"}}`, want: `{}`},
		{name: "known, not implemented", in: `{encryption: {enabled: true}, bpf: {tproxy: true}}`, errors: []string{"bpf.tproxy: true is not implemented", "encryption.enabled: true is not implemented"}},
		{name: "masquerading", in: `{bpf: {masquerade: false, masqueradePorts: 1024-9999}, ipMasqAgent: {enabled: true, config: {nonMasqueradeCIDRs: [10.0.0.0/8], masqLinkLocal: true}}}`,
			want: `{bpf: {masquerade: false, masqueradePorts: 1024-9999}, ipMasqAgent: {enabled: true, config: {nonMasqueradeCIDRs: [10.0.0.0/8], masqLinkLocal: true}}}`},
		{name: "masquerading, wrong", in: `{bpf: {masqueradePorts: 1024}, ipMasqAgent: {config: {nonMasqueradeCIDRs: [10.0.0.0]}}}`,
			errors: []string{"bpf.masqueradePorts: is", `ipMasqAgent.config.nonMasqueradeCIDRs: has "10.0.0.0"`}},
		{name: "sizes", in: `{bpf: {mapDynamicSizeRatio: "0.08", ctTcpMax: 65536, natMax: 524288, neighMax: "1024"}}`, want: `{bpf: {mapDynamicSizeRatio: "0.08", ctTcpMax: 65536}}`,
			notes: []string{"bpf.natMax=524288 changes nothing: translated", "bpf.neighMax=1024 changes nothing: weft has no"}},
		{name: "sizes, wrong", in: `{bpf: {mapDynamicSizeRatio: 2, ctTcpMax: 10, ctAnyMax: many, natMax: many}}`,
			errors: []string{`bpf.ctAnyMax: is "many", expected a whole number`, "bpf.ctTcpMax: is 10, expected 1024", "bpf.mapDynamicSizeRatio: is 2, expected a part", "bpf.natMax: \"many\" is not"}},
		{name: "a ratio that isn't a number", in: `{bpf: {mapDynamicSizeRatio: NaN}}`, errors: []string{"bpf.mapDynamicSizeRatio: is"}},
		{name: "lifetimes", in: `{extraConfig: {bpf-ct-timeout-regular-tcp: 6h0m0s, bpf-ct-timeout-regular-any: null}}`, want: `{extraConfig: {bpf-ct-timeout-regular-tcp: 6h0m0s}}`},
		{name: "lifetimes, wrong", in: `{extraConfig: {bpf-ct-timeout-regular-tcp: 21600, bpf-ct-timeout-regular-tcp-syn: 10ms, bpf-ct-timeout-regular-tcp-fin: 400h, bpf-ct-timeout-regular-any: -1m}}`,
			errors: []string{`extraConfig.bpf-ct-timeout-regular-any: is "-1m", expected a duration from 1s`, `extraConfig.bpf-ct-timeout-regular-tcp: is 21600, expected`, `-fin: is "400h"`, `-syn: is "10ms"`}},
		{name: "options that it doesn't have", in: `{extraConfig: {bpf-ct-timeout-service-tcp: 1h}}`, errors: []string{"extraConfig.bpf-ct-timeout-service-tcp: is not an option of this version, which has bpf-ct-timeout-regular-any, "}},
		{name: "options of another kind", in: `{extraConfig: [a]}`, errors: []string{`extraConfig: is ["a"], expected an object`}},
		{name: "known tree", in: `{eni: {gcTags: {a: b}}}`, errors: []string{`eni.gcTags: {"a":"b"} is not implemented`}},
		{name: "off is what it is", in: `{hubble: {enabled: false}, l7Proxy: false}`, want: `{}`, notes: []string{"hubble.enabled=false changes nothing", "l7Proxy=false changes nothing"}},
		{name: "without kube-proxy", in: `{kubeProxyReplacement: true, k8sServiceHost: ABC.gr7.us-west-2.eks.amazonaws.com, nodePort: {enabled: true}, socketLB: {enabled: true}}`,
			want:  `{kubeProxyReplacement: "true", k8sServiceHost: ABC.gr7.us-west-2.eks.amazonaws.com}`,
			notes: []string{"nodePort.enabled=true changes nothing", "socketLB.enabled=true changes nothing"}},
		{name: "with kube-proxy", in: `{kubeProxyReplacement: "false"}`, want: `{kubeProxyReplacement: "false"}`},
		{name: "in older charts' words", in: `{kubeProxyReplacement: strict}`, want: `{kubeProxyReplacement: "true"}`, notes: []string{"kubeProxyReplacement=strict is taken as true: weft serves"}},
		{name: "disabled", in: `{kubeProxyReplacement: disabled}`, want: `{kubeProxyReplacement: "false"}`, notes: []string{"kubeProxyReplacement=disabled is taken as false: kube-proxy keeps"}},
		{name: "hybrid", in: `{kubeProxyReplacement: partial}`, want: `{kubeProxyReplacement: "false"}`, notes: []string{"kubeProxyReplacement=partial is taken as false: it was for"}},
		{name: "probing", in: `{kubeProxyReplacement: probe}`, want: `{kubeProxyReplacement: "false"}`, notes: []string{"kubeProxyReplacement=probe is taken as false: it was for"}},
		{name: "neither", in: `{kubeProxyReplacement: maybe}`, errors: []string{`kubeProxyReplacement: is "maybe", expected true or false`}},
		{name: "one kind beside kube-proxy", in: `{kubeProxyReplacement: partial, hostPort: {enabled: true}}`, errors: []string{"hostPort.enabled: asks for one kind of service beside kube-proxy"},
			notes: []string{"hostPort.enabled=true", "kubeProxyReplacement=partial"}},
		{name: "an address of the API server", in: `{k8sServiceHost: 52.1.2.3}`, errors: []string{`k8sServiceHost: is "52.1.2.3", an address: those of an EKS API server change`}},
		{name: "an address in brackets", in: `{k8sServiceHost: "[fd00::1]"}`, errors: []string{`k8sServiceHost: is "[fd00::1]", an address`}},
		{name: "a URL of the API server", in: `{k8sServiceHost: "https://api.example.com"}`, errors: []string{"expected the name of a host alone"}},
		{name: "modes", in: `{loadBalancer: {mode: dsr, acceleration: native}}`, errors: []string{"loadBalancer.acceleration: is \"native\": weft has no XDP", "loadBalancer.mode: is \"dsr\": AWS drops what a node sends"}},
		{name: "hybrid mode", in: `{loadBalancer: {mode: hybrid}}`, errors: []string{"source/destination check"}},
		{name: "acceleration if possible", in: `{loadBalancer: {acceleration: best-effort, mode: snat}}`, want: `{loadBalancer: {acceleration: disabled, mode: snat}}`, notes: []string{"acceleration=best-effort is taken as disabled"}},
		{name: "choice", in: `{loadBalancer: {algorithm: maglev, serviceTopology: false}, maglev: {tableSize: 65521}}`, want: `{loadBalancer: {algorithm: maglev, serviceTopology: false}, maglev: {tableSize: 65521}}`},
		{name: "choice, wrong", in: `{loadBalancer: {algorithm: best}, maglev: {tableSize: 65536}, nodePort: {range: many}, serviceNoBackendResponse: lie}`,
			errors: []string{`loadBalancer.algorithm: is "best", expected random or maglev`, "maglev.tableSize: is 65536, expected a prime", `nodePort.range: is "many"`, "serviceNoBackendResponse: is \"lie\""}},
		{name: "another mode", in: `{ipam: {mode: cluster-pool}}`, errors: []string{`ipam.mode: is "cluster-pool", expected eni`}},
		{name: "chaining", in: `{cni: {chainingMode: aws-cni}}`, errors: []string{`cni.chainingMode: "aws-cni" is not implemented`}},
		{name: "typo at the top", in: `{opertor: {replicas: 1}}`, errors: []string{"opertor: is not a value of this chart; did you mean operator?"}},
		{name: "typo inside", in: `{eni: {iamrole: x}}`, errors: []string{"eni.iamrole: is not a value of this chart; did you mean eni.iamRole?"}},
		{name: "swapped letters", in: `{ipam: {mdoe: eni}}`, errors: []string{"did you mean ipam.mode?"}},
		{name: "in the wrong section", in: `{replicas: 2}`, errors: []string{"did you mean operator.replicas?"}},
		{name: "like nothing", in: `{zzzzzzzzzzzz: 2}`, errors: []string{"no value has a name like it"}},
		{name: "a value for a section", in: `{cluster: c1}`, errors: []string{`cluster: is "c1", expected an object with`}},
		{name: "wrong kinds", in: `{operator: {replicas: many}, debug: {enabled: "yes"}, tolerations: {}, affinity: []}`,
			errors: []string{"affinity: is [], expected an object", `debug.enabled: is "yes", expected true or false`, `operator.replicas: is "many", expected a whole number`, "tolerations: is {}, expected a list"}},
		{name: "bounds", in: `{MTU: 100, cluster: {id: 256}, operator: {replicas: -1}}`, errors: []string{"MTU: is 100", "cluster.id: is 256, expected 0 to 255", "operator.replicas: is -1"}},
		{name: "placeholders", in: `{cluster: {name: <cluster-name>}, operator: {extraEnv: [{name: A, value: <region>}]}}`, errors: []string{"cluster.name: holds <cluster-name>", "operator.extraEnv: holds <region>"}},
		{name: "role", in: `{eni: {iamRole: my-role}}`, errors: []string{`eni.iamRole: is "my-role", expected a role's ARN`}},
		{name: "prefix", in: `{ipv4NativeRoutingCIDR: "10.0.0.0"}`, errors: []string{"ipv4NativeRoutingCIDR: is"}},
		{name: "interfaces", in: `{egressMasqueradeInterfaces: eth0}`, want: `{egressMasqueradeInterfaces: eth0}`},
		{name: "interfaces as a list", in: `{egressMasqueradeInterfaces: [eth0, ens6]}`, want: `{egressMasqueradeInterfaces: [eth0, ens6]}`},
		{name: "service accounts", in: `{serviceAccounts: {cilium: {name: cilium}, operator: {name: cilium-operator}}}`, want: `{serviceAccounts: {cilium: {name: cilium}, operator: {name: cilium-operator}}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := parse(t, test.in)
			r := c.Check(in, Options{})
			if !reflect.DeepEqual(in, parse(t, test.in)) {
				t.Errorf("the values given were changed to %v", in)
			}
			contain(t, "errors", problems(r), test.errors)
			contain(t, "notes", r.Notes, test.notes)
			if len(test.errors) == 0 {
				got, _ := json.Marshal(r.Values)
				want, _ := json.Marshal(parse(t, test.want))
				if !bytes.Equal(got, want) {
					t.Errorf("values %s, expected %s", got, want)
				}
			}
		})
	}
}

func problems(r Result) []string {
	out := make([]string, 0, len(r.Errors))
	for _, p := range r.Errors {
		out = append(out, p.Error())
	}
	return out
}

// contain wants as many lines as parts, in order, each with its part.
func contain(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d %s, expected %d: %q", len(got), what, len(want), got)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%s: found %q, expected %q in it", what, got[i], want[i])
		}
	}
}

func TestAllowUnknown(t *testing.T) {
	in := parse(t, `{opertor: {replicas: 1}, hubble: {relay: {enabled: true}}, extraConfig: {enable-foo: "true"}, tunnel: vxlan, cluster: {name: c1}}`)
	r := load(t).Check(in, Options{AllowUnknown: true})
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	contain(t, "warnings", r.Warnings, []string{"extraConfig.enable-foo is ignored", "hubble.relay.enabled is ignored", "opertor is ignored", "tunnel is ignored"})
	if got, _ := json.Marshal(r.Values); string(got) != `{"cluster":{"name":"c1"}}` {
		t.Errorf("ignored values reach the chart: %s", got)
	}
	// What is known and wrong stays refused.
	r = load(t).Check(parse(t, `{MTU: 3}`), Options{AllowUnknown: true})
	if r.Err() == nil {
		t.Error("MTU=3 was taken")
	}
}

// TestDefaultsAreAccepted: a file that only repeats the newest chart's defaults asks for nothing, except in
// the names whose default weft doesn't share.
func TestDefaultsAreAccepted(t *testing.T) {
	c := load(t)
	differ := map[string]bool{"eni.enabled": true, "ipam.mode": true}
	for name, k := range c.names {
		if k.last != "" || differ[name] || k.def == nil {
			continue
		}
		v := map[string]any{}
		set(v, name, k.def)
		if r := c.Check(v, Options{}); r.Err() != nil {
			t.Errorf("%s=%v, the chart's default, is refused: %v", name, k.def, r.Err())
		}
	}
	if len(c.names) < 1200 {
		t.Errorf("%d names, expected those of nine charts", len(c.names))
	}
}

// TestEveryChartValueActs: the chart's own values.yaml has no name that nothing is said about.
func TestEveryChartValueActs(t *testing.T) {
	b, err := os.ReadFile("../../charts/weft/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := load(t)
	v := parse(t, string(b))
	seen := map[string]bool{}
	var walk func(string, map[string]any)
	walk = func(path string, m map[string]any) {
		for key, x := range m {
			name := join(path, key)
			r, ok := c.rules[name]
			if section, isMap := x.(map[string]any); isMap && !ok {
				walk(name, section)
				continue
			}
			if !ok {
				t.Errorf("%s is in values.yaml but has no rule", name)
			}
			if r.kind == superfluous {
				t.Errorf("%s is in values.yaml but has no effect", name)
			}
			seen[name] = true
		}
	}
	walk("", v)
	for name, r := range c.rules {
		if r.kind != superfluous && r.kind != replacedBy && !seen[name] {
			t.Errorf("%s has a rule but no default in values.yaml", name)
		}
	}
}

func TestSchemaIsFresh(t *testing.T) {
	want, err := load(t).Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../charts/weft/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("charts/weft/values.schema.json is old; run go generate ./internal/values")
	}
}

func TestNearest(t *testing.T) {
	c := load(t)
	for name, want := range map[string]string{
		"eni.Enabled":               "eni.enabled",
		"ipam.moed":                 "ipam.mode",
		"operator.relicas":          "operator.replicas",
		"kubeproxyreplacement":      "kubeProxyReplacement",
		"egressMasqueradeInterface": "egressMasqueradeInterfaces",
		"iamRole":                   "eni.iamRole",
		"qqqqqqqqqqqqqqqq":          "",
	} {
		if got := c.Nearest(name); got != want {
			t.Errorf("%s: found %q, expected %q", name, got, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{}`, `{cluster: {name: c1}}`, `{a: {b: [1, {c: d}]}}`, `{tunnel: [x], aws: {region: {}}, operator: {extraEnv: [1]}}`, `{hubble: 3, eni: []}`} {
		f.Add(seed)
	}
	c := load(f)
	f.Fuzz(func(t *testing.T, doc string) {
		v := map[string]any{}
		if yaml.Unmarshal([]byte(doc), &v) != nil || v == nil {
			return
		}
		before, err := json.Marshal(v)
		if err != nil {
			return
		}
		r := c.Check(v, Options{})
		if after, _ := json.Marshal(v); !bytes.Equal(before, after) {
			t.Fatalf("%s became %s", before, after)
		}
		if r.Err() != nil {
			return
		}
		// What was accepted is accepted again, unchanged and without a word.
		again := c.Check(r.Values, Options{})
		if again.Err() != nil {
			t.Fatalf("%s was accepted as %v, which is refused: %v", before, r.Values, again.Err())
		}
		if len(again.Notes) > 0 || !reflect.DeepEqual(again.Values, r.Values) {
			t.Fatalf("%v became %v, %v", r.Values, again.Values, again.Notes)
		}
	})
}
