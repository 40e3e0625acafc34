package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/inspect"
)

// Names are what an agent calls what maps have numbers for. Each may be nil, and returns nothing for what
// it doesn't know.
type Names struct {
	Endpoint func(slot, generation uint32) string // the pod
	Address  func(netip.Addr) string              // its pod
	ENI      func(handle uint32) string
	Device   func(ifindex int) string
}

func (n Names) endpoint(slot, generation uint32) string {
	if n.Endpoint == nil {
		return ""
	}
	return n.Endpoint(slot, generation)
}

func (n Names) address(a netip.Addr) string {
	if n.Address == nil {
		return ""
	}
	return n.Address(a)
}

func (n Names) eni(handle uint32) string {
	if n.ENI == nil {
		return ""
	}
	return n.ENI(handle)
}

func (n Names) device(ifindex uint32) string {
	if n.Device == nil {
		return ""
	}
	return n.Device(int(ifindex))
}

// decoding is what decoders know beside an entry.
type decoding struct {
	Names
	jiffies uint32        // now
	hz      uint32        // jiffies a second
	now     time.Duration // CLOCK_MONOTONIC
}

// since is how long ago a time in jiffies was, in seconds to a hundredth.
func (x decoding) since(then uint32) float64 {
	return seconds(time.Duration(int32(x.jiffies-then)) * time.Second / time.Duration(max(x.hz, 1)))
}

func (x decoding) lifetime(jiffies uint32) float64 {
	return seconds(time.Duration(jiffies) * time.Second / time.Duration(max(x.hz, 1)))
}

func seconds(d time.Duration) float64 { return float64(d/(10*time.Millisecond)) / 100 }

// A view is how a map is read for people.
type view interface {
	// each calls fn with the decoded entries that are in use until it returns false.
	each(d *Datapath, m *ebpf.Map, x decoding, fn func(key, value inspect.Fields) bool) error
	// count is how many entries are in use; fixed: all of them are, always.
	count(m *ebpf.Map) (n uint64, fixed bool, err error)
}

// viewBatch is how many entries are read at once.
const viewBatch = 1024

// walk reads a map in batches until fn returns false. Entries that come or go meanwhile may be missed.
func walk[K, V any](m *ebpf.Map, fn func(K, V) bool) error {
	size := int(min(viewBatch, m.MaxEntries()))
	for {
		again, err := walkBatches(m, make([]K, size), make([]V, size), 1, func(k K, v []V) bool { return fn(k, v[0]) })
		if again {
			size *= 4 // a bucket of the hash has more entries than fit
			continue
		}
		return err
	}
}

// walkCPUs is walk for a map with a value for each CPU.
func walkCPUs[V any](m *ebpf.Map, fn func(uint32, []V) bool) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	size := int(min(viewBatch, m.MaxEntries()))
	_, err = walkBatches(m, make([]uint32, size), make([]V, size*cpus), cpus, fn)
	return err
}

// walkBatches says whether to begin again with more room, which it does before fn was called only.
func walkBatches[K, V any](m *ebpf.Map, keys []K, values []V, each int, fn func(K, []V) bool) (again bool, err error) {
	var cursor ebpf.MapBatchCursor
	for called := false; ; called = true {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		end := errors.Is(err, ebpf.ErrKeyNotExist)
		switch {
		case errors.Is(err, unix.ENOSPC) && !called && n == 0:
			return true, nil
		case err != nil && !end:
			return false, err
		}
		for i := range n {
			if !fn(keys[i], values[i*each:(i+1)*each]) {
				return false, nil
			}
		}
		if end {
			return false, nil
		}
	}
}

// table is a hash or a trie: what is in it is in use.
type table[K, V any] struct {
	decode func(x decoding, k K, v V) (key, value inspect.Fields)
}

func (t table[K, V]) each(_ *Datapath, m *ebpf.Map, x decoding, fn func(key, value inspect.Fields) bool) error {
	return walk(m, func(k K, v V) bool { return fn(t.decode(x, k, v)) })
}

func (t table[K, V]) count(m *ebpf.Map) (n uint64, fixed bool, err error) {
	err = walk(m, func(K, V) bool { n++; return true })
	return n, false, err
}

// array is an array; used tells which of its entries mean something, nil: all.
type array[V any] struct {
	used   func(V) bool
	decode func(x decoding, index uint32, v V) (key, value inspect.Fields)
}

func (a array[V]) each(_ *Datapath, m *ebpf.Map, x decoding, fn func(key, value inspect.Fields) bool) error {
	return walk(m, func(i uint32, v V) bool {
		if a.used != nil && !a.used(v) {
			return true
		}
		return fn(a.decode(x, i, v))
	})
}

func (a array[V]) count(m *ebpf.Map) (n uint64, fixed bool, err error) {
	if a.used == nil {
		return uint64(m.MaxEntries()), true, nil
	}
	err = walk(m, func(_ uint32, v V) bool {
		if a.used(v) {
			n++
		}
		return true
	})
	return n, false, err
}

// perCPU is an array with a value for each CPU, of which decode makes any number of entries.
type perCPU[V any] struct {
	decode func(x decoding, index uint32, cpus []V, fn func(key, value inspect.Fields) bool) bool
}

func (p perCPU[V]) each(_ *Datapath, m *ebpf.Map, x decoding, fn func(key, value inspect.Fields) bool) error {
	return walkCPUs(m, func(i uint32, cpus []V) bool { return p.decode(x, i, cpus, fn) })
}

func (p perCPU[V]) count(m *ebpf.Map) (uint64, bool, error) { return uint64(m.MaxEntries()), true, nil }

// views are how every map is read.
func views() map[string]view {
	return map[string]view{
		weftMapWeftAddresses:    table[wireAddr, addressValue]{decodeAddress},
		weftMapWeftBandwidth:    array[bucketValue]{func(v bucketValue) bool { return v.Rate != 0 }, decodeBucket},
		weftMapWeftConfig:       array[configValue]{nil, decodeConfig},
		weftMapWeftCounters:     perCPU[counterValue]{decodeCounter},
		weftMapWeftCtBeginning:  array[int64]{nil, decodeBeginning},
		weftMapWeftCtEst:        table[ctKey, ctEntry]{decodeConnection},
		weftMapWeftCtNew:        table[ctKey, ctEntry]{decodeConnection},
		weftMapWeftCtRings:      array[ctRing]{nil, decodeRing},
		weftMapWeftCtScratch:    perCPU[ctEntry]{decodeScratch},
		weftMapWeftCtSlots:      array[ctSlot]{func(v ctSlot) bool { return v.Generation != 0 }, decodeSlot},
		weftMapWeftCtStats:      perCPU[ctStats]{decodeStats},
		weftMapWeftCtTimers:     array[ctTimer]{nil, decodeTimer},
		weftMapWeftEndpoints:    array[endpointValue]{func(v endpointValue) bool { return v.Flags&endpointValid != 0 }, decodeEndpoint},
		weftMapWeftEnis:         array[eniValue]{func(v eniValue) bool { return v.Flags&eniValid != 0 }, decodeENI},
		weftMapWeftEventBudgets: perCPU[budgetValue]{decodeBudget},
		weftMapWeftEventShares:  perCPU[shareValue]{decodeShare},
		weftMapWeftEvents:       eventRing{},
		weftMapWeftFragments:    table[fragmentKey, fragmentValue]{decodeFragment},
		weftMapWeftIpcache:      table[ipcacheKey, ipcacheValue]{decodePrefix},
		weftMapWeftLbBackends:   table[lbSlot, lbBackend]{decodeBackend},
		weftMapWeftLbClients:    table[lbKeeper, lbKept]{decodeKept},
		weftMapWeftLbConfig:     array[lbConfig]{nil, decodeServiceConfig},
		weftMapWeftLbFrontends:  table[lbKey, lbFrontend]{decodeFrontend},
		weftMapWeftLbMaglev:     table[uint32, uint32]{decodeHashTable},
		weftMapWeftLbMembers:    table[lbMember, uint32]{decodeMember},
		weftMapWeftLbPorts:      array[uint64]{func(v uint64) bool { return v != 0 }, decodeServicePorts},
		weftMapWeftLbRanges:     table[lbRange, uint32]{decodeRange},
		weftMapWeftLbScratch:    perCPU[serviceScratch]{decodeServiceScratch},
		weftMapWeftNatScratch:   perCPU[natScratch]{decodeTranslation},
	}
}

func flagNames(bits uint32, names ...flagName) []string {
	var out []string
	for _, f := range names {
		if bits&f.bit != 0 {
			out = append(out, f.name)
			bits &^= f.bit
		}
	}
	if bits != 0 {
		out = append(out, fmt.Sprintf("0x%x", bits))
	}
	return out
}

type flagName struct {
	bit  uint32
	name string
}

func address(w wireAddr) string {
	if a := fromWire(w); a.IsValid() {
		return a.String()
	}
	return ""
}
