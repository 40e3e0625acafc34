package socklb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// Held is a frontend as the maps have it, or should.
type Held struct {
	Backends []netip.AddrPort // sorted; invalid ones stand for slots that are empty
	Flags    []string
	Affinity time.Duration
}

// A State is what is in the maps.
type State struct {
	Frontends map[loadbalancer.Key]Held
	// Host: sockets of the node's own namespace are connected, too. NorthSouth: packets from outside are translated.
	// HostOnly: sockets of pods are left to packets.
	Host, NorthSouth, HostOnly bool
	// Fresh: the tables were said to be right, and that is so still.
	Fresh bool
}

// Expected is what the maps should have for a frontend.
func Expected(f loadbalancer.Frontend) Held {
	return Held{Backends: f.Backends, Flags: flagNames(wantFlags(f)), Affinity: f.Affinity}
}

func flagNames(flags uint32) []string {
	names, out := []string{"refuse", "members", "affinity", "outside", "outside-own", "source-ranges", "maglev", "tcp-keep", "host-in-ranges"}, []string{}
	for i := range 32 {
		switch {
		case flags&(1<<i) == 0:
		case i < len(names):
			out = append(out, names[i])
		default:
			out = append(out, fmt.Sprintf("%#x", uint32(1)<<i))
		}
	}
	return out
}

// Held reads the maps, not what this process believes to have written.
func (b *Balancer) Held() (State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := State{Frontends: map[loadbalancer.Key]Held{}}
	var config configValue
	if err := b.maps.config.Lookup(uint32(0), &config); err != nil {
		return out, fmt.Errorf("read %s: %w", socketMapWeftLbConfig, err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return out, fmt.Errorf("clock: %w", err)
	}
	out.Host, out.NorthSouth, out.HostOnly = config.Flags&flagHost != 0, config.Flags&flagNorthSouth != 0, config.Flags&flagHostOnly != 0
	out.Fresh = config.Fresh > uint64(now.Nano())
	slots := map[slotKey]netip.AddrPort{}
	err := walk(b.maps.backends, func(k slotKey, v backendValue) { slots[k] = addrPort(v.Addr, v.Port) })
	if err != nil {
		return out, fmt.Errorf("read %s: %w", socketMapWeftLbBackends, err)
	}
	err = walk(b.maps.frontends, func(k keyValue, v frontendValue) {
		h := Held{Flags: flagNames(v.Flags), Affinity: time.Duration(v.Affinity) * time.Second}
		for i := range v.Count {
			h.Backends = append(h.Backends, slots[slotKey{v.Set, i}])
		}
		slices.SortFunc(h.Backends, netip.AddrPort.Compare)
		out.Frontends[k.key()] = h
	})
	if err != nil {
		return out, fmt.Errorf("read %s: %w", socketMapWeftLbFrontends, err)
	}
	return out, nil
}

// walk reads a map in batches.
func walk[K, V any](m *ebpf.Map, fn func(K, V)) error {
	size := 4096
	for {
		keys, values := make([]K, size), make([]V, size)
		var cursor ebpf.MapBatchCursor
		for called := false; ; called = true {
			n, err := m.BatchLookup(&cursor, keys, values, nil)
			if errors.Is(err, unix.ENOSPC) && !called {
				break // a bucket of the hash has more entries than fit
			}
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return err
			}
			for i := range n {
				fn(keys[i], values[i])
			}
			if err != nil {
				return nil //nolint:nilerr // that was the last batch
			}
		}
		size *= 4
	}
}
