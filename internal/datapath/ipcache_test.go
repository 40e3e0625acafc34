package datapath

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

func prefixes(list map[string]PrefixInfo) map[netip.Prefix]PrefixInfo {
	out := map[netip.Prefix]PrefixInfo{}
	for p, info := range list {
		out[netip.MustParsePrefix(p)] = info
	}
	return out
}

// lookupPrefix asks as the programs do.
func lookupPrefix(d *Datapath, addr string) (PrefixInfo, bool, error) {
	var v ipcacheValue
	key := ipcacheKey{Prefixlen: ipcacheFixedBits + 128, Addr: toWire(netip.MustParseAddr(addr))}
	err := d.maps[weftMapWeftIpcache].Lookup(key, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return PrefixInfo{}, false, nil
	}
	return v.info(), err == nil, err
}

func TestTheLongestPrefixIsFound(t *testing.T) {
	newSpace(t).enter(t)
	d := openDatapath(t, testConfig(t))
	native, stack := PrefixInfo{Native: true}, PrefixInfo{Stack: true, Class: 7}
	must(t, d.SetPrefixes(prefixes(map[string]PrefixInfo{
		"10.0.0.0/8": native, "10.100.0.1/32": stack, "fd00::/8": stack, "::/0": native,
	})))
	for addr, want := range map[string]PrefixInfo{
		"10.1.2.3": native, "10.100.0.1": stack, "10.100.0.2": native, "11.0.0.1": {}, "fd00::1": stack, "fe00::1": native,
	} {
		if got, _, err := lookupPrefix(d, addr); err != nil || got != want {
			t.Errorf("%s: found %+v (%v), expected %+v", addr, got, err, want)
		}
	}
	must(t, d.SetPrefixes(prefixes(map[string]PrefixInfo{"10.0.0.0/8": stack})))
	for addr, want := range map[string]PrefixInfo{"10.100.0.1": stack, "fd00::1": {}} {
		if got, _, err := lookupPrefix(d, addr); err != nil || got != want {
			t.Errorf("after the change, %s: found %+v (%v), expected %+v", addr, got, err, want)
		}
	}
}

func TestPrefixesThatAreRefused(t *testing.T) {
	newSpace(t).enter(t)
	d := openDatapath(t, testConfig(t))
	must(t, d.SetPrefixes(prefixes(map[string]PrefixInfo{"10.0.0.0/8": {Native: true}})))
	for _, bad := range []map[netip.Prefix]PrefixInfo{
		{netip.Prefix{}: {}},
		{netip.MustParsePrefix("::ffff:10.0.0.0/104"): {}},
		{netip.MustParsePrefix("10.1.0.0/16"): {Native: true}, netip.MustParsePrefix("10.1.0.1/16"): {Stack: true}},
	} {
		if err := d.SetPrefixes(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, ok, err := lookupPrefix(d, "10.1.1.1"); err != nil || !ok {
		t.Errorf("what was there before a refused table is gone (%v)", err)
	}
}

// However a table becomes another one, no step gives an address less than both of them say, as long as
// wider prefixes aren't taken from under it.
func TestPrefixesChangeInOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	table := func() map[ipcacheKey]ipcacheValue {
		out := map[ipcacheKey]ipcacheValue{}
		for range random.IntN(30) {
			addr := netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(3)), byte(random.IntN(3))})
			key, err := newIPCacheKey(netip.PrefixFrom(addr, 8*random.IntN(5)))
			must(t, err)
			out[key] = ipcacheValue{Flags: uint32(random.IntN(4))}
		}
		return out
	}
	match := func(m map[ipcacheKey]ipcacheValue, a netip.Addr) (v ipcacheValue, ok bool) {
		longest := uint32(0)
		for key, value := range m {
			if key.prefix().Contains(a) && key.Prefixlen >= longest {
				longest, v, ok = key.Prefixlen, value, true
			}
		}
		return v, ok
	}
	for range 300 {
		have, want := table(), table()
		c, now := diffPrefixes(have, want), maps.Clone(have)
		check := func() {
			a := netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(3)), byte(random.IntN(3))})
			got, ok := match(now, a)
			before, wasThere := match(have, a)
			after, willBe := match(want, a)
			if ok == wasThere && got == before || ok == willBe && got == after {
				return
			}
			t.Fatalf("%s: on the way %+v (%v), before %+v (%v), after %+v (%v)", a, got, ok, before, wasThere, after, willBe)
		}
		for i, key := range c.put {
			now[key] = c.values[i]
			check()
		}
		for _, key := range c.remove {
			delete(now, key)
			check()
		}
		if !maps.Equal(now, want) {
			t.Fatalf("became %v, expected %v", now, want)
		}
	}
}

func TestManyPrefixes(t *testing.T) {
	newSpace(t).enter(t)
	d := openDatapath(t, testConfig(t))
	want := map[netip.Prefix]PrefixInfo{}
	for i := range 10000 {
		want[netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)}), 32)] = PrefixInfo{Stack: true}
	}
	must(t, d.SetPrefixes(want))
	s, err := d.Dump()
	must(t, err)
	if !maps.Equal(s.Prefixes, want) {
		t.Errorf("%d prefixes were read back, expected the %d given", len(s.Prefixes), len(want))
	}
	must(t, d.SetPrefixes(nil))
	s, err = d.Dump()
	must(t, err)
	if len(s.Prefixes) > 0 {
		t.Errorf("%d prefixes are left, expected none", len(s.Prefixes))
	}
}
