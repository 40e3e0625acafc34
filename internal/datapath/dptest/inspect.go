package dptest

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/inspect"
)

// Maps is datapath.Datapath.Maps, of those maps that are more than memory of the programs.
func (d *Datapath) Maps() ([]inspect.Map, error) {
	done, err := d.begin("Maps")
	if err != nil {
		return nil, err
	}
	defer done()
	var out []inspect.Map
	for name, m := range d.kernel.maps() {
		out = append(out, inspect.Map{Name: name, Unit: "entries", Entries: uint64(len(m.entries)), MaxEntries: m.most, Layout: 1})
	}
	slices.SortFunc(out, func(a, b inspect.Map) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

type heldMap struct {
	most    uint64
	entries []inspect.Entry
}

func (k *Kernel) maps() map[string]heldMap {
	endpoints := heldMap{most: contract.MaxEndpoints}
	for _, slot := range slices.Sorted(maps.Keys(k.endpoints)) {
		e := k.endpoints[slot]
		endpoints.entries = append(endpoints.entries, inspect.Entry{Key: inspect.Fields{{Name: "slot", Value: slot}},
			Value: inspect.Fields{{Name: "address", Value: e.Addr.String()}, {Name: "generation", Value: e.Generation}, {Name: "eni", Value: e.ENI}}})
	}
	addresses := heldMap{most: 16384}
	for _, a := range slices.SortedFunc(maps.Keys(k.addresses), netip.Addr.Compare) {
		addresses.entries = append(addresses.entries, inspect.Entry{Key: inspect.Fields{{Name: "address", Value: a.String()}},
			Value: inspect.Fields{{Name: "eni", Value: k.addresses[a].ENI}}})
	}
	return map[string]heldMap{"weft_endpoints": endpoints, "weft_addresses": addresses}
}

// DumpMap is datapath.Datapath.DumpMap, of the maps that Maps lists.
func (d *Datapath) DumpMap(name string, _ datapath.Names, fn func(key, value inspect.Fields) bool) error {
	done, err := d.begin("DumpMap")
	if err != nil {
		return err
	}
	m, ok := d.kernel.maps()[name]
	done()
	if !ok {
		return fmt.Errorf("map %s: it isn't kept in memory", name)
	}
	for _, e := range m.entries {
		if !fn(e.Key, e.Value) {
			break
		}
	}
	return nil
}

// Programs is datapath.Datapath.Programs: ours, each alone on its side of a device.
func (d *Datapath) Programs() ([]inspect.Program, error) {
	attached, err := d.Attached()
	if err != nil {
		return nil, err
	}
	var out []inspect.Program
	for _, a := range attached {
		side := datapath.Egress
		if a.Hook == datapath.FromPod || a.Hook == datapath.FromNetdev {
			side = datapath.Ingress
		}
		out = append(out, inspect.Program{Ifindex: a.Ifindex, Side: side.String(), Hook: a.Hook.String(), Name: a.Hook.String(),
			ID: uint32(a.Hook) + 1, Current: true, Position: 1, Chain: 1, Attached: "memory"})
	}
	return out, nil
}

// Attached is datapath.Datapath.Attached.
func (d *Datapath) Attached() ([]datapath.Attachment, error) {
	done, err := d.begin("Attached")
	if err != nil {
		return nil, err
	}
	defer done()
	out := slices.Collect(maps.Keys(d.kernel.attached))
	datapath.SortAttachments(out)
	return out, nil
}

// Held is datapath.Datapath.Held; there are no devices that have an MTU.
func (d *Datapath) Held() (datapath.Held, error) {
	done, err := d.begin("Held")
	if err != nil {
		return datapath.Held{}, err
	}
	defer done()
	out := datapath.Held{Settings: d.kernel.settings, MTUs: map[uint32]int{}, Rates: map[uint32]uint64{}}
	for slot, e := range d.kernel.endpoints {
		if e.EgressRate > 0 {
			out.Rates[slot] = e.EgressRate
		}
	}
	return out, nil
}

// MeasurePrograms is datapath.Datapath.MeasurePrograms; nothing runs here.
func (d *Datapath) MeasurePrograms() (io.Closer, error) {
	done, err := d.begin("MeasurePrograms")
	if err != nil {
		return nil, err
	}
	defer done()
	return io.NopCloser(nil), nil
}

// Measured is datapath.Datapath.Measured.
func (d *Datapath) Measured() (bool, error) {
	done, err := d.begin("Measured")
	if err != nil {
		return false, err
	}
	defer done()
	return false, nil
}

// Runs is datapath.Datapath.Runs.
func (d *Datapath) Runs() ([]datapath.ProgramRuns, error) {
	done, err := d.begin("Runs")
	if err != nil {
		return nil, err
	}
	defer done()
	var out []datapath.ProgramRuns
	for _, h := range datapath.Hooks() {
		out = append(out, datapath.ProgramRuns{Hook: h})
	}
	return out, nil
}

// Fills is datapath.Datapath.Fills.
func (d *Datapath) Fills() ([]datapath.Fill, error) {
	s, err := d.ConntrackStats()
	if err != nil {
		return nil, err
	}
	return []datapath.Fill{{Map: "weft_ct_est", Entries: uint64(s.Established), Max: uint64(s.EstablishedMax)}}, nil
}

// WalkFills is datapath.Datapath.WalkFills.
func (d *Datapath) WalkFills(pause func() error) ([]datapath.Fill, error) {
	done, err := d.begin("WalkFills")
	if err != nil {
		return nil, err
	}
	var out []datapath.Fill
	for name, m := range d.kernel.maps() {
		out = append(out, datapath.Fill{Map: name, Entries: uint64(len(m.entries)), Max: m.most})
	}
	states := map[string]uint64{}
	for _, c := range d.kernel.connections {
		states[string(c.State)]++
	}
	out = append(out, datapath.Fill{Map: "weft_ct_new", Max: 262144, States: states})
	done()
	slices.SortFunc(out, func(a, b datapath.Fill) int { return cmp.Compare(a.Map, b.Map) })
	return out, pause()
}
