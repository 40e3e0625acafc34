package socklb

import (
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

// compare sizes and, of structs, each field's name and offset.
func compare(t *testing.T, what string, c btf.Type, g reflect.Type) {
	t.Helper()
	size, err := btf.Sizeof(c)
	if err != nil || uintptr(size) != g.Size() {
		t.Errorf("%s has %d bytes in C (%v), %d in Go", what, size, err, g.Size())
	}
	s, ok := btf.UnderlyingType(c).(*btf.Struct)
	if !ok {
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
