package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// dump asks for a map as the command line does.
func (r *rig) dump(q url.Values) (shown []string, end inspect.DumpEnd) {
	r.t.Helper()
	for _, l := range lines[inspect.DumpLine](r, "/v1/datapath/map?"+q.Encode()) {
		if l.Entry != nil {
			shown = append(shown, l.Entry.Line())
		}
		if l.End != nil {
			end = *l.End
		}
	}
	return shown, end
}

// The agent decodes its maps, names pods and ENIs, and says where it has stopped.
func TestInspectMaps(t *testing.T) {
	r := newRig(t)
	r.start()
	web, db := r.add("web"), r.add("db")
	list := answer[[]inspect.Map](r, "/v1/datapath/maps")
	if len(list) != len(inspect.MapNames()) {
		t.Errorf("found %d maps, expected %d", len(list), len(inspect.MapNames()))
	}
	for _, m := range list {
		if m.Node != "node-1" || m.Name == "weft_endpoints" && m.Entries != 2 {
			t.Errorf("found %+v, expected two endpoints of node-1", m)
		}
	}
	shown, end := r.dump(url.Values{"name": {"endpoints"}, "limit": {"0"}})
	all := strings.Join(shown, "\n")
	for _, want := range []string{"address=" + web.addr.String() + " pod=shop/web", "address=" + db.addr.String() + " pod=shop/db", "eniID=eni-"} {
		if !strings.Contains(all, want) {
			t.Errorf("found\n%s\nexpected %q in it", all, want)
		}
	}
	if end.Shown != 2 || end.More || end.Map != "weft_endpoints" {
		t.Errorf("the end is %+v, expected two shown", end)
	}
	if shown, end = r.dump(url.Values{"name": {"weft_endpoints"}, "limit": {"1"}}); len(shown) != 1 || !end.More {
		t.Errorf("found %q, %+v; expected one, and that there are more", shown, end)
	}
	if shown, end = r.dump(url.Values{"name": {"weft_endpoints"}, "limit": {"1"}, "match": {"shop/DB"}}); len(shown) != 1 || end.More || !strings.Contains(shown[0], "shop/db") {
		t.Errorf("found %q, %+v; expected the one that matches", shown, end)
	}
	for path, want := range map[string]string{
		"/v1/datapath/map?name=nothing&limit=1":   `found \"nothing\", expected the name of a map: weft_addresses`,
		"/v1/datapath/map?name=endpoints&limit=x": "expected a number",
	} {
		if _, bad, err := r.ask(path); !errors.Is(err, ErrTold) || !strings.Contains(bad, want) {
			t.Errorf("%s: found %v, %s; expected %q", path, err, bad, want)
		}
	}
}

// answer asks and reads one JSON value.
func answer[T any](r *rig, path string) (v T) {
	r.t.Helper()
	out, bad, err := r.ask(path)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", path, err, bad)
	}
	r.must(json.Unmarshal([]byte(out), &v))
	return v
}

// lines reads an answer of a JSON value on each line.
func lines[T any](r *rig, path string) (all []T) {
	r.t.Helper()
	out, bad, err := r.ask(path)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", path, err, bad)
	}
	for _, b := range bytes.Split([]byte(out), []byte("\n")) {
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		var v T
		r.must(json.Unmarshal(b, &v))
		all = append(all, v)
	}
	return all
}

// Programs are listed in their order, others' beside ours, and measured on request.
func TestInspectPrograms(t *testing.T) {
	r := newRig(t)
	r.start()
	web := r.add("web")
	r.router.Serve(t, 8080)
	foreign := attachForeign(t, "eth0")
	list := lines[inspect.Program](r, "/v1/datapath/programs")
	hooks := map[string]int{}
	for _, p := range list {
		if p.Hook == "" {
			continue
		}
		hooks[p.Hook]++
		if !p.Current || p.Node != "node-1" || p.VerifiedInstructions == 0 || p.Tag == "" || p.Of == "" || p.Attached == "tcx" && p.Pin == "" {
			t.Errorf("found %+v, expected this agent's program, described", p)
		}
		if p.Device == "eth0" && p.Side == "ingress" && p.Chain != 2 {
			t.Errorf("found %d programs in the chain of %+v, expected the other one's too", p.Chain, p)
		}
	}
	for hook, want := range map[string]int{"from_pod": 1, "to_pod": 1, "from_netdev": 2, "to_netdev": 2} {
		if hooks[hook] != want {
			t.Errorf("%s runs on %d devices, expected %d: %v", hook, hooks[hook], want, hooks)
		}
	}
	if !slices.ContainsFunc(list, func(p inspect.Program) bool { return p.Name == foreign && p.Hook == "" && p.Device == "eth0" }) {
		t.Errorf("the foreign program %s isn't listed: %+v", foreign, list)
	}
	done := make(chan struct{})
	go func() { // traffic while it is measured
		defer close(done)
		for range 20 {
			if _, err := web.Ask(netip.MustParseAddr(world), 8080); err != nil {
				return
			}
		}
	}()
	measured := lines[inspect.Program](r, "/v1/datapath/programs?stats=2s")
	<-done
	if !slices.ContainsFunc(measured, func(p inspect.Program) bool {
		return p.Hook == "from_pod" && p.Runs > 0 && p.PerRun() > 0 && p.MeasuredSeconds >= 2
	}) {
		t.Errorf("from_pod wasn't measured: %+v", measured)
	}
	if _, bad, err := r.ask("/v1/datapath/programs?stats=1h"); err == nil || !strings.Contains(bad, "expected 100ms to 10m0s") {
		t.Errorf("an hour: found %v, %s", err, bad)
	}
}

// attachForeign puts a program that isn't weft's in front of the device's ingress and returns its name.
func attachForeign(t *testing.T, device string) string {
	t.Helper()
	const name = "theirs"
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	l, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	at, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("no tcx")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { at.Close() })
	return name
}

func TestInspectRoutes(t *testing.T) {
	r := newRig(t)
	r.start()
	web := r.add("web")
	var got inspect.Routes
	nstest.Eventually(t, 30*time.Second, "everything is as it should be", func() error {
		got = answer[inspect.Routes](r, "/v1/datapath/routes")
		for _, h := range got.NextHops {
			if h.State != inspect.OK {
				return fmt.Errorf("next hop is %+v", h)
			}
		}
		return nil
	})
	var b bytes.Buffer
	r.must(inspect.DrawRoutes(&b, got))
	for _, want := range []string{"from " + web.addr.String() + " lookup 7", "pod shop/web", "Table 7700, pods of this node", "default via 10.20.0.1 dev ens6", "from all lookup 7700"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("found\n%s\nexpected %q in it", b.String(), want)
		}
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "+ ") || strings.HasPrefix(line, "! ") {
			t.Errorf("found %q, expected no difference", line)
		}
	}
	for _, d := range got.Devices {
		if d.MTU != 1500 || !d.Up || strings.HasPrefix(d.Of, "ENI") != (d.MapMTU == 1500) {
			t.Errorf("device is %+v, expected an MTU of 1500, also in the map", d)
		}
	}
}

// A check finds what somebody has changed, and what the agent has put back is told of.
func TestCheckFindsWhatDiffers(t *testing.T) {
	r := newRig(t)
	r.start()
	r.add("web")
	check := func() inspect.Check { return answer[inspect.Check](r, "/v1/datapath/check") }
	nstest.Eventually(t, 60*time.Second, "there is no difference", func() error {
		if c := check(); len(c.Differences) > 0 {
			return fmt.Errorf("found %+v", c.Differences)
		}
		return nil
	})
	device, err := netlink.LinkByIndex(contract.IfindexBase + int(r.slotOf("shop/web")))
	r.must(err)
	r.must(netlink.LinkSetMTU(device, 1400))
	dp := r.datapath.Load()
	// Behind the agent's back: it doesn't know that these have changed.
	state, err := dp.Dump()
	r.must(err)
	wrong := map[netip.Prefix]datapath.PrefixInfo{netip.MustParsePrefix("10.77.0.0/16"): {Stack: true}}
	for p, info := range state.Prefixes {
		wrong[p] = info
	}
	delete(wrong, netip.MustParsePrefix("10.20.0.0/16"))
	r.must(dp.SetPrefixes(wrong))
	settings := dp.Settings()
	settings.MetadataClosed = true
	r.must(dp.Configure(settings))
	c := check()
	var b bytes.Buffer
	inspect.DrawCheck(&b, c, time.Now())
	for _, want := range []string{
		"of pod shop/web: found MTU 1400, expected 1500 -> delete the pod",
		"prefix 10.20.0.0/16 in weft_ipcache: found none, expected reached natively",
		"prefix 10.77.0.0/16 in weft_ipcache: found by the kernel's stack, expected none",
		"settings in weft_config: found",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("found\n%s\nexpected %q in it", b.String(), want)
		}
	}
	if len(c.Differences) != 4 {
		t.Errorf("found %d differences, expected the 4 that were made:\n%s", len(c.Differences), b.String())
	}
	// What the agent mends by itself it tells of.
	r.must(os.Remove(filepath.Join(r.bpf, "maps", "weft_addresses")))
	nstest.Eventually(t, 30*time.Second, "the pin is back", func() error {
		if c := check(); c.LastRepair == nil || !strings.Contains(strings.Join(c.LastRepair.What, " "), "weft_addresses") {
			return fmt.Errorf("last repair is %+v", c.LastRepair)
		}
		return nil
	})
	var detached time.Time
	nstest.Eventually(t, 90*time.Second, "the programs are back, and that is told", func() error {
		c := check()
		if strings.Contains(strings.Join(c.LastRepair.What, " "), "program from_pod at device "+device.Attrs().Name+" of pod shop/web") {
			return nil
		}
		// What is taken off between the agent's look and its putting back comes back untold.
		if time.Since(detached) > 5*time.Second {
			r.detachAll(device)
			detached = time.Now()
		}
		return fmt.Errorf("last repair is %+v", c.LastRepair)
	})
	nstest.Eventually(t, 30*time.Second, "a warning", func() error {
		if !r.cluster.warned("ProgramsRestored: ") {
			return errors.New("nobody was told that programs had been taken off")
		}
		return nil
	})
}

// slotOf is the slot of a pod's endpoint.
func (r *rig) slotOf(pod string) uint32 {
	r.t.Helper()
	found, _ := r.dump(url.Values{"name": {"endpoints"}, "limit": {"0"}, "match": {"pod=" + pod}})
	var slot uint32
	if len(found) != 1 {
		r.t.Fatalf("endpoints of %s are %q, expected one", pod, found)
	}
	_, err := fmt.Sscan(found[0], &slot)
	r.must(err)
	return slot
}

// detachAll takes every program off a device, as another program's author may.
func (r *rig) detachAll(device netlink.Link) {
	r.t.Helper()
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		list, err := link.QueryPrograms(link.QueryOptions{Target: device.Attrs().Index, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) {
			r.t.Skip("no tcx")
		}
		r.must(err)
		for _, p := range list.Programs {
			id, _ := p.LinkID()
			l, err := link.NewFromID(id)
			r.must(err)
			r.must(l.Detach(), l.Close())
		}
	}
}
