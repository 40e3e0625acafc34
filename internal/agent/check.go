package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/inspect"
)

// What to do about what only an agent's start writes anew, and about what the guard puts back.
const (
	writtenAtStart = "restart the agent, which writes it anew: kubectl -n NAMESPACE delete pod, of weft-agent on this node"
	guarded        = "the agent puts it back within 10 s; if it stays, look in its log for why it can't"
)

// checkPause is between the two looks of a check: longer than the agent needs for what is on its way.
const checkPause = 2 * time.Second

// check looks twice, if at first something differs, and tells what stays.
func (a *agent) check(ctx context.Context) (inspect.Check, error) {
	out := inspect.Check{Node: a.Node, Differences: []inspect.Difference{}}
	first, compared, err := a.differences(ctx)
	if err != nil {
		return out, err
	}
	if len(first) > 0 {
		if err := pause(ctx, checkPause); err != nil {
			return out, err
		}
		second, again, err := a.differences(ctx)
		if err != nil {
			return out, err
		}
		compared = again
		out.Differences = append(out.Differences, inspect.Lasting(first, second)...)
	}
	out.Compared = compared
	out.Since, out.LastRepair, _ = a.repairs.get()
	return out, nil
}

func (a *agent) differences(ctx context.Context) ([]inspect.Difference, inspect.Fields, error) {
	fail := func(err error) ([]inspect.Difference, inspect.Fields, error) { return nil, nil, err }
	kernel, err := a.node.Inspect()
	if err != nil {
		return fail(err)
	}
	have, err := a.programs.dp.Dump()
	if err != nil {
		return fail(err)
	}
	held, err := a.programs.dp.Held()
	if err != nil {
		return fail(err)
	}
	list, err := a.programs.dp.Maps()
	if err != nil {
		return fail(err)
	}
	chains, err := a.programs.dp.Programs()
	if err != nil {
		return fail(err)
	}
	attached, err := a.wantAttached()
	if err != nil {
		return fail(err)
	}
	there, err := a.existing(append(a.manager.Endpoints(), a.strays.endpoints()...))
	if err != nil {
		return fail(err)
	}
	known := append(a.manager.Endpoints(), a.strays.endpoints()...)
	a.mu.Lock()
	v, rep := a.view, a.report
	a.mu.Unlock()
	w := wanted{
		endpoints: there, enis: wantENIs(rep.Found, v), mtus: wantMTUs(rep.Found), addrs: wantAddrs(v.owners, known),
		prefixes: prefixes(v, a.services.all()), settings: settings(a.Config, v, a.ports), attached: attached,
	}
	out := kernel.Differences
	out = append(out, w.entries(have, held)...)
	out = append(out, w.config(have, held)...)
	out = append(out, w.programs(chains)...)
	out = append(out, pins(list)...)
	served, frontends, err := a.serviceDifferences()
	if err != nil {
		return fail(err)
	}
	out = append(out, served...)
	stuck, err := a.timer(ctx)
	if err != nil {
		return fail(err)
	}
	return append(out, stuck...), inspect.Fields{
		{Name: "endpoints", Value: len(w.endpoints)}, {Name: "enis", Value: len(w.enis)}, {Name: "addresses", Value: len(w.addrs)},
		{Name: "prefixes", Value: len(w.prefixes)}, {Name: "maps", Value: len(list)}, {Name: "programs", Value: len(w.attached)}, {Name: "rules", Value: kernel.Rules},
		{Name: "routes", Value: kernel.Routed}, {Name: "devices", Value: kernel.Devices}, {Name: "settings", Value: kernel.Settings}, {Name: "frontends", Value: frontends},
	}, nil
}

// timer looks whether what expires is still removed: the timer ticks five times a second at least.
func (a *agent) timer(ctx context.Context) ([]inspect.Difference, error) {
	before, err := a.programs.dp.ConntrackStats()
	if err != nil {
		return nil, err
	}
	const looks = 20
	for range looks {
		now, err := a.programs.dp.ConntrackStats()
		if err != nil || now.Ticks != before.Ticks {
			return nil, err
		}
		if err := pause(ctx, checkPause/looks); err != nil {
			return nil, err
		}
	}
	return []inspect.Difference{{What: "timer of connections (map weft_ct_timers)", Found: fmt.Sprintf("no tick within %s", checkPause), Expected: "five a second", Do: writtenAtStart}}, nil
}

// wanted is what the datapath should hold.
type wanted struct {
	endpoints []endpoint.Endpoint
	enis      map[uint32]datapath.ENI
	mtus      map[uint32]int
	addrs     map[netip.Addr]uint32
	prefixes  map[netip.Prefix]datapath.PrefixInfo
	settings  datapath.Settings
	attached  map[datapath.Attachment]string // on which device, in words
}

// entries compares endpoints, ENIs and addresses.
func (w wanted) entries(have datapath.State, held datapath.Held) []inspect.Difference {
	var out []inspect.Difference
	differ := func(what, found, expected, do string) {
		out = append(out, inspect.Difference{What: what, Found: found, Expected: expected, Do: do})
	}
	slots := map[uint32]datapath.Endpoint{}
	for _, e := range have.Endpoints {
		slots[e.Slot] = e
	}
	for _, e := range w.endpoints {
		want := datapathEndpoint(e)
		what := fmt.Sprintf("entry of pod %s in weft_endpoints (slot %d)", e.Pod, e.Slot)
		got, ok := slots[e.Slot]
		delete(slots, e.Slot)
		if !ok {
			differ(what, "none", endpointWords(want), guarded)
			continue
		}
		got.EgressRate = held.Rates[e.Slot]
		if f, x := endpointWords(got), endpointWords(want); f != x {
			differ(what, f, x, guarded)
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		differ(fmt.Sprintf("slot %d of weft_endpoints", slot), endpointWords(slots[slot]), "none: no pod has it", writtenAtStart)
	}
	handles := map[uint32]datapath.ENI{}
	for _, e := range have.ENIs {
		handles[e.Handle] = e
	}
	for _, h := range slices.Sorted(maps.Keys(w.enis)) {
		want := w.enis[h]
		what := fmt.Sprintf("entry of the ENI with MAC %s in weft_enis (handle %d)", want.MAC, h)
		got, ok := handles[h]
		delete(handles, h)
		if !ok {
			differ(what, "none", eniWords(want, w.mtus[h]), guarded)
			continue
		}
		if f, x := eniWords(got, held.MTUs[h]), eniWords(want, w.mtus[h]); f != x {
			differ(what, f, x, guarded)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(handles)) {
		if slices.Contains(slices.Collect(maps.Values(w.addrs)), h) {
			continue // its device is gone, its addresses aren't
		}
		differ(fmt.Sprintf("handle %d of weft_enis", h), eniWords(handles[h], held.MTUs[h]), "none: the node has no such ENI", writtenAtStart)
	}
	for _, addr := range slices.SortedFunc(maps.Keys(w.addrs), netip.Addr.Compare) {
		got, ok := have.Addresses[addr]
		switch {
		case !ok:
			differ(fmt.Sprintf("address %s in weft_addresses", addr), "none", fmt.Sprintf("ENI handle %d", w.addrs[addr]), writtenAtStart)
		case got.ENI != w.addrs[addr]:
			differ(fmt.Sprintf("address %s in weft_addresses", addr), fmt.Sprintf("ENI handle %d", got.ENI), fmt.Sprint(w.addrs[addr]), writtenAtStart)
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(have.Addresses), netip.Addr.Compare) {
		if _, ok := w.addrs[addr]; !ok {
			differ(fmt.Sprintf("address %s in weft_addresses", addr), fmt.Sprintf("ENI handle %d", have.Addresses[addr].ENI), "none: it isn't this node's", writtenAtStart)
		}
	}
	for _, e := range w.endpoints {
		got, ok := have.Addresses[e.Address]
		if ok && (!got.Endpoint || got.Slot != e.Slot || got.Generation != e.Epoch) {
			differ(fmt.Sprintf("holder of address %s in weft_addresses", e.Address), fmt.Sprintf("slot %d, generation %d (endpoint: %v)", got.Slot, got.Generation, got.Endpoint),
				fmt.Sprintf("slot %d, generation %d: pod %s", e.Slot, e.Epoch, e.Pod), guarded)
		}
	}
	return out
}

func endpointWords(e datapath.Endpoint) string {
	return fmt.Sprintf("%s on index %d, MACs %s and %s, generation %d, ENI handle %d, queued %v, egress %d B/s", e.Addr.Unmap(), e.Ifindex, e.PodMAC, e.HostMAC, e.Generation, e.ENI, e.Queued, e.EgressRate)
}

func eniWords(e datapath.ENI, mtu int) string {
	s := fmt.Sprintf("index %d, MTU %d, next hop %s", e.Ifindex, mtu, e.NextHop.Unmap())
	if e.Masquerade.IsValid() {
		s += fmt.Sprintf(", masquerading to %s by handle %d", e.Masquerade.Unmap(), e.MasqueradeENI)
	}
	return s
}

// config compares prefixes and settings.
func (w wanted) config(have datapath.State, held datapath.Held) []inspect.Difference {
	var out []inspect.Difference
	differ := func(what, found, expected, do string) {
		out = append(out, inspect.Difference{What: what, Found: found, Expected: expected, Do: do})
	}
	order := func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) }
	for _, p := range slices.SortedFunc(maps.Keys(w.prefixes), order) {
		got, ok := have.Prefixes[p]
		switch {
		case !ok:
			differ(fmt.Sprintf("prefix %s in weft_ipcache", p), "none", prefixWords(w.prefixes[p]), writtenAtStart)
		case got != w.prefixes[p]:
			differ(fmt.Sprintf("prefix %s in weft_ipcache", p), prefixWords(got), prefixWords(w.prefixes[p]), writtenAtStart)
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(have.Prefixes), order) {
		if _, ok := w.prefixes[p]; !ok {
			differ(fmt.Sprintf("prefix %s in weft_ipcache", p), prefixWords(have.Prefixes[p]), "none", writtenAtStart)
		}
	}
	if held.Settings != w.settings {
		differ("settings in weft_config", fmt.Sprintf("%+v", held.Settings), fmt.Sprintf("%+v", w.settings), writtenAtStart)
	}
	if held.Epoch != held.Own {
		differ("owner of the datapath in weft_config", fmt.Sprintf("agent %d", held.Epoch), fmt.Sprintf("this one, %d", held.Own), "see which other weft-agent runs on this node; one must go")
	}
	return out
}

func prefixWords(p datapath.PrefixInfo) string {
	switch {
	case p.Stack:
		return "by the kernel's stack"
	case p.Native:
		return "reached natively"
	}
	return "nothing known"
}

// programs compares what runs at the devices' hooks.
func (w wanted) programs(list []inspect.Program) []inspect.Difference {
	var out []inspect.Difference
	left := maps.Clone(w.attached)
	hooks := map[string]datapath.Hook{}
	for _, h := range datapath.Hooks() {
		hooks[h.String()] = h
	}
	for _, p := range list {
		h, ours := hooks[p.Hook]
		if !ours {
			continue
		}
		what := fmt.Sprintf("program %s of device %s", p.Hook, p.Device)
		at := datapath.Attachment{Hook: h, Ifindex: p.Ifindex}
		if _, ok := w.attached[at]; !ok {
			if !isPodDevice(p.Ifindex) { // a pod that comes or goes has one for a moment
				out = append(out, inspect.Difference{What: what, Found: "it", Expected: "none: the device is none of weft's", Do: writtenAtStart})
			}
			continue
		}
		if _, first := left[at]; !first {
			out = append(out, inspect.Difference{What: what, Found: "a second one, of id " + fmt.Sprint(p.ID), Expected: "one", Do: guarded})
			continue
		}
		delete(left, at)
		if !p.Current {
			out = append(out, inspect.Difference{What: what, Found: "another version's, of tag " + p.Tag, Expected: "this agent's", Do: guarded})
		}
		if p.Link != 0 && p.Pin == "" {
			out = append(out, inspect.Difference{What: fmt.Sprintf("link %d of %s at device %s", p.Link, p.Hook, p.Device), Found: "no pin of it", Expected: "one: without it the program ends with the agent", Do: guarded})
		}
	}
	for at, device := range left {
		out = append(out, inspect.Difference{What: fmt.Sprintf("program %s of device %s", at.Hook, device), Found: "none", Expected: "it", Do: guarded})
	}
	return out
}

// pins compares maps with their pins.
func pins(list []inspect.Map) []inspect.Difference {
	var out []inspect.Difference
	for _, m := range list {
		if m.PinMissing {
			out = append(out, inspect.Difference{What: "pin of map " + m.Name, Found: "none of it at " + m.Pin, Expected: "it: without it the next agent begins with an empty map", Do: guarded})
		}
	}
	return out
}

// routes are the kernel's, with what the programs have beside them.
func (a *agent) routes() (inspect.Routes, error) {
	kernel, err := a.node.Inspect()
	if err != nil {
		return inspect.Routes{}, err
	}
	have, err := a.programs.dp.Dump()
	if err != nil {
		return inspect.Routes{}, err
	}
	held, err := a.programs.dp.Held()
	if err != nil {
		return inspect.Routes{}, err
	}
	out := kernel.Routes
	out.Node = a.Node
	hops, mtus := map[string]string{}, map[int]int{}
	names := a.names()
	for _, e := range have.ENIs {
		hops[names.ENI(e.Handle)], mtus[e.Ifindex] = e.NextHop.Unmap().String(), held.MTUs[e.Handle]
	}
	for i := range out.NextHops {
		out.NextHops[i].Address = hops[out.NextHops[i].ENI]
	}
	for i := range out.Devices {
		out.Devices[i].MapMTU = mtus[out.Devices[i].Ifindex]
	}
	out.Settle()
	return out, nil
}
