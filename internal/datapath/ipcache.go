package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// PrefixInfo is what is known of the addresses of a prefix that no endpoint of this node holds. It stands
// for itself: nothing is inherited from a wider prefix.
type PrefixInfo struct {
	Native bool   // reached with the pod's own address
	Stack  bool   // the kernel's stack decides: a service's
	Class  uint32 // handle; 0: unknown
}

// mappedBits are those of ::ffff:0:0 before an IPv4 address.
const mappedBits = 96

// SetPrefixes makes the table hold exactly these prefixes: what is new or different first, then what is
// gone. What it couldn't do is done by the next call.
func (d *Datapath) SetPrefixes(want map[netip.Prefix]PrefixInfo) error {
	wire, err := wirePrefixes(want)
	if err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	have, err := d.readPrefixes()
	if err != nil {
		return err
	}
	return d.writePrefixes(diffPrefixes(have, wire))
}

// wirePrefixes are the table's entries. An IPv6 prefix of less than 96 bits may cover the mapped IPv4
// addresses too, which it doesn't mean: all of IPv4 gets an entry of its own then.
func wirePrefixes(want map[netip.Prefix]PrefixInfo) (map[ipcacheKey]ipcacheValue, error) {
	out := make(map[ipcacheKey]ipcacheValue, len(want))
	wide := false
	for p, info := range want {
		key, err := newIPCacheKey(p)
		if err != nil {
			return nil, err
		}
		wide = wide || coversMapped(p)
		value := newIPCacheValue(info)
		if other, ok := out[key]; ok && other != value {
			return nil, fmt.Errorf("prefix %s is given twice and differently", p)
		}
		out[key] = value
	}
	if value, ok := out[everyIPv4()]; !ok && wide {
		out[everyIPv4()] = ipcacheValue{}
	} else if ok && !wide && value == (ipcacheValue{}) {
		delete(out, everyIPv4())
	}
	return out, nil
}

func everyIPv4() ipcacheKey {
	return ipcacheKey{Prefixlen: ipcacheFixedBits + mappedBits, Addr: toWire(netip.IPv4Unspecified())}
}

// prefixChange is how a table becomes another one, in order.
type prefixChange struct {
	put    []ipcacheKey
	values []ipcacheValue // of put
	remove []ipcacheKey
}

// diffPrefixes keeps the longest prefixes first among what is put, so that an exception is there before
// what it is an exception from; and among what is removed the shortest, for the same reason.
func diffPrefixes(have, want map[ipcacheKey]ipcacheValue) prefixChange {
	var c prefixChange
	longest := func(a, b ipcacheKey) int {
		if a.Prefixlen != b.Prefixlen {
			return int(b.Prefixlen) - int(a.Prefixlen)
		}
		return bytes.Compare(a.Addr[:], b.Addr[:])
	}
	for _, key := range slices.SortedFunc(maps.Keys(want), longest) {
		if old, ok := have[key]; !ok || old != want[key] {
			c.put, c.values = append(c.put, key), append(c.values, want[key])
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(have), func(a, b ipcacheKey) int { return -longest(a, b) }) {
		if _, ok := want[key]; !ok {
			c.remove = append(c.remove, key)
		}
	}
	return c
}

func (d *Datapath) writePrefixes(c prefixChange) error {
	m := d.maps[weftMapWeftIpcache]
	if len(c.put) > 0 {
		if n, err := m.BatchUpdate(c.put, c.values, nil); err != nil {
			return fmt.Errorf("write %d prefixes to %s, %d written: %w", len(c.put), weftMapWeftIpcache, n, err)
		}
	}
	if len(c.remove) > 0 {
		if n, err := m.BatchDelete(c.remove, nil); err != nil {
			return fmt.Errorf("delete %d prefixes from %s, %d deleted: %w", len(c.remove), weftMapWeftIpcache, n, err)
		}
	}
	return nil
}

func (d *Datapath) readPrefixes() (map[ipcacheKey]ipcacheValue, error) {
	const chunk = 4096
	out := map[ipcacheKey]ipcacheValue{}
	keys, values := make([]ipcacheKey, chunk), make([]ipcacheValue, chunk)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := d.maps[weftMapWeftIpcache].BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("read %s: %w", weftMapWeftIpcache, err)
		}
		for i := range n {
			out[keys[i]] = values[i]
		}
		if err != nil {
			return out, nil
		}
	}
}

// ValidatePrefix reports why the datapath can't take p.
func ValidatePrefix(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().Is6() && mapped().Overlaps(p) && !coversMapped(p) {
		return fmt.Errorf("prefix is %q, expected an IPv4 or IPv6 prefix", p)
	}
	return nil
}

// mapped are IPv4's addresses as the table's keys have them.
func mapped() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), mappedBits)
}

func coversMapped(p netip.Prefix) bool {
	return p.Addr().Is6() && p.Bits() < mappedBits && p.Overlaps(mapped())
}

func newIPCacheKey(p netip.Prefix) (ipcacheKey, error) {
	if err := ValidatePrefix(p); err != nil {
		return ipcacheKey{}, err
	}
	p = p.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return ipcacheKey{Prefixlen: uint32(ipcacheFixedBits + bits), Addr: toWire(p.Addr())}, nil
}

func (k ipcacheKey) prefix() netip.Prefix {
	addr, bits := netip.AddrFrom16(k.Addr), int(k.Prefixlen)-ipcacheFixedBits
	if addr.Is4In6() && bits >= mappedBits {
		return netip.PrefixFrom(addr.Unmap(), bits-mappedBits)
	}
	return netip.PrefixFrom(addr, bits)
}

func newIPCacheValue(i PrefixInfo) ipcacheValue {
	v := ipcacheValue{Class: i.Class}
	if i.Native {
		v.Flags |= ipcacheNative
	}
	if i.Stack {
		v.Flags |= ipcacheStack
	}
	return v
}

func (v ipcacheValue) info() PrefixInfo {
	return PrefixInfo{Native: v.Flags&ipcacheNative != 0, Stack: v.Flags&ipcacheStack != 0, Class: v.Class}
}
