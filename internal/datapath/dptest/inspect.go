package dptest

import (
	"cmp"
	"fmt"
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
