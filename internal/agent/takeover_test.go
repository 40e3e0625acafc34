package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/kubeproxy"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/runtimeservice"
	"github.com/weft-cni/weft/internal/socklb"
)

// heldTables are a Balancer whose tables have what was applied, but for the services that it refuses.
type heldTables struct {
	Balancer
	frontends map[loadbalancer.Key]socklb.Held
}

func (h heldTables) Held() (socklb.State, error) { return socklb.State{Frontends: h.frontends}, nil }

// leftover is a node's kube-proxy.
type leftover struct {
	found   kubeproxy.Found
	removed int
}

func (l *leftover) Find() (kubeproxy.Found, error) { return l.found, nil }
func (l *leftover) Remove() (int, error) {
	n := l.found.Chains
	l.removed += n
	l.found = kubeproxy.Found{}
	return n, nil
}

// TestTakeOver: kube-proxy's rules stay while it runs, while weft lacks what they serve, and while it may come back; then
// they go, once.
func TestTakeOver(t *testing.T) {
	web := loadbalancer.Address{AddrPort: netip.MustParseAddrPort("10.100.0.1:80"), Protocol: "TCP"}
	rules := map[kubeproxy.Frontend]bool{{AddrPort: web.AddrPort, Protocol: "TCP"}: true, {AddrPort: netip.MustParseAddrPort("10.100.0.9:80"), Protocol: "TCP"}: true}
	left := &leftover{found: kubeproxy.Found{Kinds: []string{kubeproxy.KindIPTables}, Chains: 7, Frontends: rules}}
	cluster, runtime := newFakeCluster(), &fakeRuntime{all: map[string]runtimeservice.Sandbox{"p": {ID: "p", Namespace: "kube-system", Name: "kube-proxy-x7k2p"}}}
	held := heldTables{frontends: map[loadbalancer.Key]socklb.Held{}}
	a := &agent{balance: newBalance(slog.New(slog.DiscardHandler)), tell: make(chan struct{}, 1)}
	a.Config, a.Cluster, a.Runtime, a.KubeProxy, a.Log = config.Default(), cluster, runtime, left, slog.New(slog.DiscardHandler)
	a.Config.KubeProxyReplacement = true
	a.balance.lb, a.balance.done = held, true
	a.balance.table.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.100.0.1", Ports: []corev1.ServicePort{{Port: 80}}}})
	a.balance.table.Take(a.here())

	now := time.Unix(1_700_000_000, 0)
	look := func(after time.Duration, says string) {
		t.Helper()
		now = now.Add(after)
		if err := a.lookAtKubeProxy(context.Background(), now); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(a.takeover.all(), "\n"); (text == "") != (says == "") || !strings.Contains(text, says) {
			t.Fatalf("it says %q, expected %q", text, says)
		}
	}
	look(0, "leave it where it is: weft doesn't serve 10.100.0.1:80/TCP,")
	held.frontends[loadbalancer.Key{Address: web}] = socklb.Held{}
	look(kubeProxyRulesEvery, "has each of the 2 addresses")
	delete(held.frontends, loadbalancer.Key{Address: web})
	// Its pod has ended; the runtime lists it until kubelet removes it.
	runtime.all["p"] = runtimeservice.Sandbox{ID: "p", Namespace: "kube-system", Name: "kube-proxy-x7k2p", Ended: true}
	look(kubeProxyEvery, "stay although it has gone")
	look(time.Hour, "stay although it has gone")
	held.frontends[loadbalancer.Key{Address: web}] = socklb.Held{}
	runtime.put("kube-proxy-other-namespace")
	if left.removed != 0 {
		t.Fatal("rules were removed too early")
	}
	look(kubeProxyRulesEvery, "")
	look(kubeProxyEvery, "")
	look(time.Hour, "")
	if left.removed != 7 || len(cluster.events) != 1 || !strings.Contains(cluster.events[0], "KubeProxyRulesRemoved") {
		t.Errorf("%d chains were removed, with the events %q", left.removed, cluster.events)
	}

	// It comes back and goes: its rules are looked at again, but not before it might be back once more.
	left.found = kubeproxy.Found{Kinds: []string{kubeproxy.KindNFTables}, Chains: 3, Frontends: rules}
	runtime.all["p"] = runtimeservice.Sandbox{ID: "p", Namespace: "kube-system", Name: "kube-proxy-1"}
	look(kubeProxyEvery, "kube-proxy runs beside weft")
	runtime.drop("p")
	look(kubeProxyEvery, "")
	look(kubeproxy.Grace-time.Second, "")
	if left.removed != 7 {
		t.Fatal("rules were removed before kube-proxy could be back")
	}
	look(time.Second, "")
	if left.removed != 10 {
		t.Errorf("%d chains were removed, expected 10", left.removed)
	}
}
