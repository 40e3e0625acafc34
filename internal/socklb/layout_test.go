package socklb

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

func TestLayoutsAreTheSameInGoAndC(t *testing.T) {
	spec, err := loadSocket()
	if err != nil {
		t.Fatal(err)
	}
	for name, mirror := range map[string]struct{ key, value any }{
		socketMapWeftLbFrontends: {keyValue{}, frontendValue{}},
		socketMapWeftLbBackends:  {slotKey{}, backendValue{}},
		socketMapWeftLbMembers:   {memberKey{}, uint32(0)},
		socketMapWeftLbRanges:    {rangeKey{}, uint32(0)},
		socketMapWeftLbOwn:       {[16]byte{}, uint32(0)},
		socketMapWeftLbConnected: {uint64(0), connectionValue{}},
		socketMapWeftLbConfig:    {uint32(0), configValue{}},
		socketMapWeftLbOutcomes:  {uint32(0), uint64(0)},
	} {
		m := spec.Maps[name]
		if m == nil {
			t.Errorf("the object has no map %s", name)
			continue
		}
		compare(t, name+" key", m.Key, reflect.TypeOf(mirror.key))
		compare(t, name+" value", m.Value, reflect.TypeOf(mirror.value))
	}
	if n := int(spec.Maps[socketMapWeftLbOutcomes].MaxEntries); n < len(outcomeNames()) {
		t.Errorf("C counts %d outcomes, Go names %d", n, len(outcomeNames()))
	}
}

func TestMaglevTablesAreReadBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make maps")
	}
	for _, size := range []int{1, 3, 4, 5, 251} {
		slots := make([]uint16, size)
		for i := range slots {
			slots[i] = uint16(i * 257)
		}
		m, err := newMaglev(slots)
		if err != nil {
			t.Fatalf("table of %d: %v", size, err)
		}
		var n uint64
		if err := m.Lookup(uint32(0), &n); err != nil || n != uint64(size) {
			t.Errorf("table of %d: says it has %d (%v)", size, n, err)
		}
		for i, want := range slots {
			var word uint64
			if err := m.Lookup(uint32(1+i/4), &word); err != nil || uint16(word>>(16*(i%4))) != want {
				t.Errorf("table of %d: slot of hash %d is %d (%v), expected %d", size, i, uint16(word>>(16*(i%4))), err, want)
			}
		}
		m.Close()
	}
}

func TestRangesCoverTheirPrefixAlone(t *testing.T) {
	for prefix, bits := range map[string]uint32{"10.1.2.3/8": 32 + 96 + 8, "0.0.0.0/0": 32 + 96, "2001:db8::1/32": 32 + 32, "192.0.2.1/32": 32 + 128} {
		p := netip.MustParsePrefix(prefix)
		k := newRange(7, p)
		if k.Prefixlen != bits || k.Set != 7 || netip.AddrFrom16(k.Addr).Unmap() != p.Masked().Addr() {
			t.Errorf("key of %s is %+v, expected %d bits of set 7", prefix, k, bits)
		}
	}
}

// compare sizes and, of structs, each field's name and offset.
func compare(t *testing.T, what string, c btf.Type, g reflect.Type) {
	t.Helper()
	size, err := btf.Sizeof(c)
	if err != nil || uintptr(size) != g.Size() {
		t.Errorf("%s has %d bytes in C (%v), %d in Go", what, size, err, g.Size())
	}
	s, ok := btf.UnderlyingType(c).(*btf.Struct)
	if !ok || g.Kind() != reflect.Struct {
		return
	}
	for _, m := range s.Members {
		if m.Name == "reserved" {
			continue
		}
		f, ok := g.FieldByName(strings.ToUpper(m.Name[:1]) + m.Name[1:])
		if !ok || f.Offset != uintptr(m.Offset.Bytes()) {
			t.Errorf("%s: field %s is at byte %d in C, Go has %+v", what, m.Name, m.Offset.Bytes(), f)
		}
	}
}
