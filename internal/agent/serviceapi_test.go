package agent

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
	"github.com/weft-cni/weft/internal/socklb"
)

func (r *rig) frontends(of string) map[string]inspect.Frontend {
	r.t.Helper()
	out := map[string]inspect.Frontend{}
	for _, f := range lines[inspect.Frontend](r, "/v1/services?"+url.Values{"of": {of}}.Encode()) {
		out[f.Service+" "+f.Address] = f
	}
	return out
}

// The agent tells its table, the maps beside it, what each endpoint is to a client, and the way there.
func TestServicesAreTold(t *testing.T) {
	r := newRig(t)
	r.giveCgroup()
	r.start()
	if _, bad, err := r.ask("/v1/services"); !errors.Is(err, ErrTold) || !strings.Contains(bad, "doesn't know all services yet") {
		t.Errorf("before the API server told: found %v, %s", err, bad)
	}
	web := r.add("web")
	r.setBalanced(map[string]int{"a": 3})
	r.awaitBalanced(1, 3)
	nstest.Eventually(t, 30*time.Second, "the services are told", func() error {
		_, _, err := r.ask("/v1/services")
		return err
	})
	const name = "default/a 10.100.0.1:80/TCP"
	if f := r.frontends("")[name]; f.State != inspect.OK || len(f.Held.Backends) != 3 || f.Kind != "ClusterIP" {
		t.Errorf("found %+v, expected three backends, as they should be", f)
	}
	for of, want := range map[string]int{"default/a": 1, "a:80/tcp": 1, "10.100.0.1:80": 1, "10.100.0.1:81": 0, "default/b": 0, "a:80/udp": 0} {
		if got := r.frontends(of); len(got) != want {
			t.Errorf("%s: found %v, expected %d", of, got, want)
		}
	}
	if s := answer[socklb.Stats](r, "/v1/services/stats"); s.Frontends != 1 || s.Backends != 3 || s.Writes != 4 {
		t.Errorf("found %+v, expected one frontend and three backends, each written once", s)
	}
	r.sameByPins()
	x := answer[[]inspect.Explanation](r, "/v1/services/explain?of=default/a")
	if len(x) != 1 || len(x[0].Endpoints) != 3 || !x[0].Endpoints[0].Chosen || x[0].Nobody != "" {
		t.Errorf("found %+v, expected three endpoints that may be chosen", x)
	}
	for host, by := range map[string]inspect.By{"": inspect.BySocket, "&host=1": inspect.ByKubeProxy} {
		way := answer[[]inspect.Trace](r, "/v1/services/trace?of=default/a&from=shop/web"+host)
		if len(way) != 1 || way[0].By != by || len(way[0].Backends) != 3 || host == "" && !strings.Contains(way[0].Words(), "out by ENI eni-") {
			t.Errorf("from %s%s: found %+v, expected by %s", web.addr, host, way, by)
		}
	}
	for path, want := range map[string]string{
		"/v1/services/explain?of=default/nothing": "has no frontend default/nothing for clients inside",
		"/v1/services/explain?of=":                "expected a frontend such as",
		"/v1/services/trace?of=10.100.0.1":        "without a port",
	} {
		if _, bad, err := r.ask(path); !errors.Is(err, ErrTold) || !strings.Contains(bad, want) {
			t.Errorf("%s: found %v, %s; expected %q", path, err, bad, want)
		}
	}
}

// sameByPins reads the tables as somebody does who has the pins alone.
func (r *rig) sameByPins() {
	r.t.Helper()
	tables, err := socklb.OpenTables(r.bpf)
	r.must(err)
	defer tables.Close()
	key := func(at string) loadbalancer.Key {
		return loadbalancer.Key{Address: loadbalancer.Address{AddrPort: netip.MustParseAddrPort(at), Protocol: "TCP"}}
	}
	if got, ok, err := tables.Backends(key("10.100.0.1:80")); err != nil || !ok || len(got) != 3 {
		r.t.Errorf("found %v, %v, %v, expected three backends", got, ok, err)
	}
	if _, ok, err := tables.Backends(key("10.100.0.1:81")); err != nil || ok {
		r.t.Errorf("found %v, %v, expected no frontend", ok, err)
	}
	confirmed, err := tables.Confirmed()
	memory, merr := tables.Memory()
	if err := errors.Join(err, merr); err != nil || confirmed == 0 || memory["weft_lb_backends"] == 0 {
		r.t.Errorf("found %d, %v, %v, expected tables that are confirmed, with their memory", confirmed, memory, err)
	}
}

// What the maps have otherwise is told.
func TestServicesThatDiffer(t *testing.T) {
	r := newRig(t)
	r.giveCgroup()
	r.setBalanced(map[string]int{"a": 2, "b": 1})
	r.start()
	r.awaitBalanced(2, 3)
	r.spoil("weft_lb_backends")
	nstest.Eventually(t, 30*time.Second, "the difference is told", func() error {
		bad := 0
		for _, f := range r.frontends("") {
			if f.State == inspect.Differs {
				bad++
			}
		}
		if bad != 1 {
			return errors.New("no frontend differs")
		}
		return nil
	})
	if c := answer[inspect.Check](r, "/v1/datapath/check"); !slices.ContainsFunc(c.Differences, func(d inspect.Difference) bool {
		return strings.Contains(d.Line(), "of which the maps lack: ") || strings.Contains(d.Line(), "of which too many: ")
	}) {
		t.Errorf("found %+v, expected the backend that isn't there", c)
	}
	r.spoil("weft_lb_frontends")
	missing := 0
	for _, f := range r.frontends("") {
		if f.State == inspect.Missing {
			missing++
		}
	}
	if missing != 1 {
		t.Errorf("found %d missing frontends, expected one", missing)
	}
}

// spoil removes the first entry of a pinned map, behind the agent's back.
func (r *rig) spoil(name string) {
	r.t.Helper()
	m, err := ebpf.LoadPinnedMap(r.bpf+"/maps/"+name, nil)
	r.must(err)
	defer m.Close()
	key, err := m.NextKeyBytes(nil)
	r.must(err)
	r.must(m.Delete(key))
}

func TestServesPackets(t *testing.T) {
	for name, c := range map[string]struct {
		maps []inspect.Map
		want bool
	}{
		"none":         {nil, false},
		"not by these": {[]inspect.Map{{Name: "weft_lb_frontends"}, {Name: "weft_config", UsedBy: []string{"from_pod"}}}, false},
		"yes":          {[]inspect.Map{{Name: "weft_lb_frontends", UsedBy: []string{"from_netdev", "from_pod"}}}, true},
	} {
		if got := servesPackets(c.maps); got != c.want {
			t.Errorf("%s: found %v", name, got)
		}
	}
}
