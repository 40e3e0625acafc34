package connectivity

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-cni/weft/internal/probe"
)

// world is a network in memory: it answers probes as a healthy cluster would, but for what a test breaks.
type network struct {
	mu     sync.Mutex
	env    *Env
	broken func(from Pod, args []string) (probe.Result, bool)
	asked  int

	webhook, aggregated, logs error
	rewrite                   string // source address that servers see instead
}

func (n *network) Probe(_ context.Context, from Pod, args ...string) (probe.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.broken != nil {
		if r, hit := n.broken(from, args); hit {
			return r, nil
		}
	}
	if args[0] != "http" {
		return probe.Result{}, nil
	}
	target := args[len(args)-1]
	client := from.IP
	if n.rewrite != "" {
		client = n.rewrite
	}
	pod := ""
	for _, p := range append(append([]Pod{}, n.env.Echoes...), n.env.Hosts...) {
		if strings.Contains(target, "//"+p.IP+":") {
			pod = p.Name
		}
	}
	for _, s := range n.env.Services {
		if strings.Contains(target, "//"+s.ClusterIP+":") || strings.Contains(target, fmt.Sprintf(":%d/", s.NodePort)) {
			pod = s.Backend.Name
		}
	}
	return probe.Result{Status: 200, Body: fmt.Sprintf(`{"pod":%q,"client":"%s:40000"}`, pod, client)}, nil
}

func (n *network) AskWebhook(_ context.Context, deny bool) error {
	if n.webhook == nil && deny {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "x", errors.New("denied"))
	}
	return n.webhook
}
func (n *network) AskAggregated(context.Context) (string, error) {
	return n.env.Webhook.Name, n.aggregated
}
func (n *network) Logs(context.Context, Pod) (string, error) { return "serving", n.logs }

// cluster is two nodes, the first with a public address.
func cluster() (*Env, *network) {
	e := &Env{Timeout: time.Second, ExternalName: "one.example", ExternalAddress: "1.1.1.1",
		Nodes:   []Node{{Name: "n1", Internal: []string{"192.168.1.1"}, External: []string{"203.0.113.1"}}, {Name: "n2", Internal: []string{"192.168.1.2"}}},
		Webhook: Pod{Name: "webhook-1", Node: "n1", IP: "192.168.1.99"}}
	for i, n := range []string{"n1", "n2"} {
		ip := func(last int) string { return fmt.Sprintf("192.168.%d.%d", 10+i, last) }
		e.Clients = append(e.Clients, Pod{Name: "client-" + n, Node: n, IP: ip(1)})
		echo := Pod{Name: "echo-" + n, Node: n, IP: ip(2)}
		e.Echoes = append(e.Echoes, echo)
		e.Hosts = append(e.Hosts, Pod{Name: "host-" + n, Node: n, IP: e.Nodes[i].Internal[0], HostNetwork: true})
		e.Services = append(e.Services,
			Service{Name: "echo-" + n, ClusterIP: fmt.Sprintf("10.100.0.%d", i+1), Port: echoPort, NodePort: int32(30001 + i), Backend: echo},
			Service{Name: "echo-local-" + n, ClusterIP: fmt.Sprintf("10.100.0.%d", i+11), Port: echoPort, NodePort: int32(30011 + i), Backend: echo, Local: true})
	}
	n := &network{env: e}
	e.Prober, e.ControlPlane = n, n
	return e, n
}

func TestHealthyClusterPasses(t *testing.T) {
	e, n := cluster()
	var b bytes.Buffer
	sum := Run(t.Context(), Tests(), Selection{}, e, &b)
	sum.Report(&b)
	if !sum.OK() {
		t.Fatalf("a healthy network failed:\n%s", b.String())
	}
	c := sum.Count()
	want := fmt.Sprintf("All %d tests (%d actions) successful, 0 tests skipped, 0 scenarios skipped.", len(Tests()), c.Actions)
	if !strings.Contains(b.String(), want) || n.asked == 0 {
		t.Fatalf("no line %q in:\n%s", want, b.String())
	}
}

// TestEveryScenarioCanFail breaks the network for each scenario in turn and sees just it fail.
func TestEveryScenarioCanFail(t *testing.T) {
	timeout := probe.Result{Kind: probe.Timeout, Error: "deadline"}
	to := func(verb string, hosts ...string) func(Pod, []string) (probe.Result, bool) {
		return func(_ Pod, args []string) (probe.Result, bool) {
			if args[0] != verb {
				return timeout, false
			}
			for _, h := range hosts {
				if strings.Contains(args[len(args)-1], h) {
					return timeout, true
				}
			}
			return timeout, false
		}
	}
	between := func(same bool) func(Pod, []string) (probe.Result, bool) {
		return func(from Pod, args []string) (probe.Result, bool) {
			last := args[len(args)-1]
			onN1 := strings.Contains(last, "192.168.10.2")
			onN2 := strings.Contains(last, "192.168.11.2")
			return timeout, !from.HostNetwork && strings.HasPrefix(from.Name, "client") && (onN1 && (from.Node == "n1") == same || onN2 && (from.Node == "n2") == same)
		}
	}
	for scenario, broken := range map[string]func(*Env, *network){
		"pod-to-pod-same-node":  func(_ *Env, n *network) { n.broken = between(true) },
		"pod-to-pod-other-node": func(_ *Env, n *network) { n.broken = between(false) },
		"pod-to-host":           func(_ *Env, n *network) { n.broken = to("icmp", "203.0.113.1") },
		"host-to-pod": func(_ *Env, n *network) {
			n.broken = func(from Pod, args []string) (probe.Result, bool) {
				return timeout, from.HostNetwork && args[0] == "icmp"
			}
		},
		"pod-to-service": func(_ *Env, n *network) { n.broken = to("http", "10.100.0.1:") },
		"pod-to-itself-by-service": func(e *Env, n *network) {
			n.broken = func(from Pod, args []string) (probe.Result, bool) {
				return timeout, strings.HasPrefix(from.Name, "echo")
			}
		},
		"node-port":                    func(_ *Env, n *network) { n.broken = to("http", "203.0.113.1:30001") },
		"node-port-local-policy":       func(_ *Env, n *network) { n.broken = to("http", ":30011/") },
		"dns-cluster":                  func(_ *Env, n *network) { n.broken = to("dns", "kubernetes.default") },
		"dns-world":                    func(_ *Env, n *network) { n.broken = to("dns", "one.example") },
		"pod-to-world-address":         func(_ *Env, n *network) { n.broken = to("icmp", "1.1.1.1") },
		"pod-to-world-name":            func(_ *Env, n *network) { n.broken = to("http", "one.example") },
		"no-masquerade-inside-vpc":     func(_ *Env, n *network) { n.rewrite = "192.168.1.1" },
		"api-server-to-webhook":        func(_ *Env, n *network) { n.webhook = errors.New("Address is not allowed") },
		"api-server-to-aggregated-api": func(_ *Env, n *network) { n.aggregated = errors.New("Address is not allowed") },
		"api-server-to-kubelet":        func(_ *Env, n *network) { n.logs = errors.New("refused") },
	} {
		t.Run(scenario, func(t *testing.T) {
			e, n := cluster()
			broken(e, n)
			sum := Run(t.Context(), Tests(), Selection{}, e, new(bytes.Buffer))
			var b bytes.Buffer
			sum.Report(&b)
			failedHere := false
			for _, tr := range sum.Tests {
				for _, s := range tr.Scenarios {
					for _, a := range s.Actions {
						if a.Outcome.OK {
							continue
						}
						failedHere = failedHere || s.Name == scenario
						if a.Outcome.Seen == "" || a.Outcome.Want == "" || a.Outcome.Cause == "" {
							t.Errorf("%s: the report says too little: %+v", a.Action, a.Outcome)
						}
					}
				}
			}
			if !failedHere || sum.OK() || !strings.Contains(b.String(), "tests failed") {
				t.Fatalf("%s did not fail:\n%s", scenario, b.String())
			}
		})
	}
	seen := map[string]bool{}
	for _, tr := range Tests() {
		for _, s := range tr.Scenarios {
			if seen[s.Name()] {
				t.Errorf("two scenarios are called %s", s.Name())
			}
			seen[s.Name()] = true
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d scenarios are registered and 16 are broken above: add the new one", len(seen))
	}
}

func TestJUnit(t *testing.T) {
	e, n := cluster()
	n.logs = errors.New("refused <&>")
	sum := Run(t.Context(), Tests(), Selection{}, e, new(bytes.Buffer))
	var b bytes.Buffer
	if err := sum.JUnit(&b); err != nil {
		t.Fatal(err)
	}
	var doc junitSuites
	if err := xml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	failures := 0
	for _, s := range doc.Suites {
		failures += s.Failures
	}
	if failures != 2 {
		t.Fatalf("found %d failures, expected one for each node's kubelet", failures)
	}
}

// TestNoNodeReady: the test says at once that its pods would wait for nothing.
func TestNoNodeReady(t *testing.T) {
	node := func(name string, s corev1.ConditionStatus) corev1.Node {
		n := corev1.Node{}
		n.Name = name
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: s, Message: "cni plugin not initialized"}}
		return n
	}
	for want, nodes := range map[string][]corev1.Node{
		"has no nodes": nil,
		"none of 2 nodes is Ready (node b: cni plugin not initialized); install weft first": {node("a", corev1.ConditionUnknown), node("b", corev1.ConditionFalse)},
		"": {node("a", corev1.ConditionFalse), node("b", corev1.ConditionTrue)},
	} {
		err := ready(nodes)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("found %v, expected %q", err, want)
		}
	}
}

// TestFinalAnswers: what asking again doesn't change ends a wait at once, with what to do.
func TestFinalAnswers(t *testing.T) {
	asked := 0
	err := until(t.Context(), "namespace x", func() (string, error) {
		asked++
		return "", apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "x", errors.New("no"))
	})
	if asked != 1 || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "cluster administrator's rights") {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked = 0
	if err := until(t.Context(), "it", func() (string, error) {
		if asked++; asked == 1 {
			return "", errors.New("not yet")
		}
		return "", nil
	}); err != nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// TestSaying: a long wait tells what it lacks, once for each thing; a short one nothing.
func TestSaying(t *testing.T) {
	var b bytes.Buffer
	at := time.Unix(0, 0)
	lacks := []string{"a", "a", "a", "b", "b", "", "b"}
	step := saying(&b, "it", func() time.Time { return at }, func() (string, error) {
		m := lacks[0]
		lacks = lacks[1:]
		return m, nil
	})
	for _, after := range []time.Duration{0, sayAfter - 1, sayAfter, sayAfter + 1, sayAfter + 2, sayAfter + 3, sayAfter + 4} {
		at = time.Unix(0, 0).Add(after)
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "waiting for it: a\nwaiting for it: b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEndedRun: what wasn't tried any more says so.
func TestEndedRun(t *testing.T) {
	e, n := cluster()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sum := Run(ctx, Tests(), Selection{}, e, new(bytes.Buffer))
	var b bytes.Buffer
	sum.Report(&b)
	if n.asked != 0 || sum.OK() || !strings.Contains(b.String(), "it was not tried") || !strings.Contains(b.String(), "the run was ended: context canceled") {
		t.Errorf("asked %d times:\n%.600s", n.asked, b.String())
	}
}

func TestSelection(t *testing.T) {
	e, _ := cluster()
	sel, err := Select("^dns/|aggregated")
	if err != nil {
		t.Fatal(err)
	}
	c := Run(t.Context(), Tests(), sel, e, new(bytes.Buffer)).Count()
	if c.Tests != 2 || c.Scenarios != 3 || c.SkippedTests != len(Tests())-2 {
		t.Fatalf("got %+v", c)
	}
	if _, err := Select("("); err == nil {
		t.Fatal("a broken expression was taken")
	}
	none, err := Select("nothing-of-the-kind")
	if err != nil {
		t.Fatal(err)
	}
	if sum := Run(t.Context(), Tests(), none, e, new(bytes.Buffer)); sum.OK() {
		t.Fatal("a run that tested nothing passed")
	}
}
