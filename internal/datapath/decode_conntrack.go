package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
)

// Decoders of connection tracking.

// natScratch mirrors struct nat_scratch of bpf/include/nat.h.
type natScratch struct {
	Key   ctKey
	Flow  ctKey
	Entry ctEntry
	Tuple [36]byte
	_     [4]byte
}

func flowKey(k ctKey, origin int) inspect.Fields {
	return inspect.Fields{
		{Name: "protocol", Value: flow.ProtocolName(k.Protocol)},
		{Name: "from", Value: k.end(origin).String()},
		{Name: "to", Value: k.end(1 - origin).String()},
	}
}

func decodeConnection(x decoding, k ctKey, e ctEntry) (key, value inspect.Fields) {
	key = flowKey(k, int(e.Origin&1))
	if k.Zone != 0 {
		key = append(key, inspect.Field{Name: "zone", Value: k.Zone})
	}
	value = inspect.Fields{
		{Name: "state", Value: entryState(k.Protocol, e, x.jiffies)},
		{Name: "flags", Value: entryFlags(e.Flags)},
		{Name: "ageSeconds", Value: max(0, x.since(e.Created))},
		{Name: "expiresSeconds", Value: -x.since(e.Expires)}, // negative: expired, nobody has looked yet
		{Name: "generation", Value: e.Generation},
	}
	// Of a translated tuple it is whose it is; otherwise what the flow's own becomes.
	if e.Flags&(ctTranslated|ctAlias) != 0 {
		name := "translatedTo"
		switch {
		case e.Flags&ctAlias != 0:
			name = "aliasOf"
		case e.Flags&ctService != 0:
			name = "service"
		case e.Flags&ctMiddle != 0:
			name = "backend"
		}
		value = append(value, inspect.Field{Name: name, Value: netip.AddrPortFrom(fromWire(e.NATAddr), binary.BigEndian.Uint16(e.NATPort[:])).String()},
			inspect.Field{Name: "eni", Value: e.NATENI}, inspect.Field{Name: "eniID", Value: x.eni(uint32(e.NATENI))},
			inspect.Field{Name: "aliasSeenSeconds", Value: max(0, x.since(e.NATSeen))})
	}
	for _, s := range []struct {
		name string
		side ctSide
	}{{"from", e.Side[e.Origin&1]}, {"to", e.Side[1-e.Origin&1]}} {
		value = append(value, x.side(s.name, s.side)...)
	}
	value = append(value, inspect.Field{Name: "class", Value: class(e.Class)}, inspect.Field{Name: "told", Value: flagNames(e.Told, flagName{1, "closed"}, flagName{2, "closing"})})
	for i, direction := range []string{"egress", "ingress"} {
		if v := e.Verdict[i]; v != (ctVerdict{}) {
			value = append(value, inspect.Field{Name: direction + "Rule", Value: v.Rule},
				inspect.Field{Name: direction + "Epochs", Value: fmt.Sprintf("%d/%d", v.EndpointEpoch, v.ClassEpoch)})
		}
	}
	return key, value
}

func (x decoding) side(name string, s ctSide) inspect.Fields {
	out := inspect.Fields{{Name: name + "Packets", Value: s.Packets}, {Name: name + "Bytes", Value: s.Bytes}, {Name: name + "TCP", Value: flow.TCPFlags(s.TCP)}}
	if s.Slot != ctNoSlot {
		out = append(out, inspect.Field{Name: name + "Slot", Value: s.Slot}, inspect.Field{Name: name + "Generation", Value: s.Generation},
			inspect.Field{Name: name + "Pod", Value: x.endpoint(uint32(s.Slot), s.Generation)})
	}
	return out
}

func entryFlags(bits uint16) []string {
	return flagNames(uint32(bits), flagName{ctStack, "stack"}, flagName{ctAlias, "alias"}, flagName{ctNAT, "translated"}, flagName{ctAtNetdev, "at-interface"},
		flagName{ctMidstream, "midstream"}, flagName{ctNoPromotion, "table-full"}, flagName{ctEstablished, "established"}, flagName{ctAtToPod, "at-pod"}, flagName{ctBeginning, "beginning"},
		flagName{ctService, "service"}, flagName{ctMiddle, "service-twice"})
}

func ringNames() []string {
	return []string{ringNew: "new", ringEst: "established", ringClosed: "closed"}
}

func decodeRing(_ decoding, index uint32, r ctRing) (key, value inspect.Fields) {
	name := fmt.Sprint(index)
	if names := ringNames(); int(index) < len(names) {
		name = names[index]
	}
	return inspect.Fields{{Name: "ring", Value: name}}, inspect.Fields{
		{Name: "used", Value: r.Head - r.Tail},
		{Name: "size", Value: r.Size},
		{Name: "firstSlot", Value: r.Base},
		{Name: "head", Value: r.Head},
		{Name: "tail", Value: r.Tail},
		{Name: "settled", Value: r.Settled},
	}
}

func decodeSlot(x decoding, index uint32, s ctSlot) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "slot", Value: index}}, append(inspect.Fields{
		{Name: "dueSeconds", Value: -x.since(s.Due)},
		{Name: "generation", Value: s.Generation},
	}, flowKey(s.Key, 0)...)
}

func decodeTimer(x decoding, index uint32, t ctTimer) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "index", Value: index}}, inspect.Fields{
		{Name: "ticks", Value: t.Ticks},
		{Name: "lookedAtSlots", Value: t.Looked},
		{Name: "lastTickJiffies", Value: t.Last},
	}
}

func decodeBeginning(_ decoding, index uint32, n int64) (key, value inspect.Fields) {
	name := fmt.Sprint(index)
	if names := []string{beginningCount: "counted", beginningRemoved: "removedByAgent", beginningMost: "most"}; int(index) < len(names) {
		name = names[index]
	}
	return inspect.Fields{{Name: "what", Value: name}}, inspect.Fields{{Name: "connections", Value: n}}
}

func decodeStats(_ decoding, who uint32, cpus []ctStats, fn func(key, value inspect.Fields) bool) bool {
	var s ctStats
	for _, c := range cpus {
		s.add(c)
	}
	name := "programs"
	if who == 1 {
		name = "agent"
	}
	return fn(inspect.Fields{{Name: "by", Value: name}}, inspect.Fields{
		{Name: "created", Value: s.Created},
		{Name: "failed", Value: s.Failed},
		{Name: "promoted", Value: s.Promoted},
		{Name: "refused", Value: s.Full},
		{Name: "closed", Value: s.Closed},
		{Name: "expired", Value: s.Expired},
		{Name: "replaced", Value: s.Replaced},
		{Name: "inserted", Value: s.Inserted},
		{Name: "removed", Value: s.Removed},
		{Name: "unwatched", Value: s.Unwatched},
	})
}

func (s *ctStats) add(c ctStats) {
	s.Created += c.Created
	s.Failed += c.Failed
	s.Promoted += c.Promoted
	s.Full += c.Full
	s.Closed += c.Closed
	s.Expired += c.Expired
	s.Replaced += c.Replaced
	s.Inserted += c.Inserted
	s.Removed += c.Removed
	s.Unwatched += c.Unwatched
}

func decodeScratch(x decoding, index uint32, cpus []ctEntry, fn func(key, value inspect.Fields) bool) bool {
	for cpu, e := range cpus {
		if e == (ctEntry{}) {
			continue
		}
		_, value := decodeConnection(x, ctKey{}, e)
		// Its key is elsewhere, and without the protocol there is no state.
		if !fn(inspect.Fields{{Name: "index", Value: index}, {Name: "cpu", Value: cpu}}, value[1:]) {
			return false
		}
	}
	return true
}

func decodeTranslation(x decoding, index uint32, cpus []natScratch, fn func(key, value inspect.Fields) bool) bool {
	for cpu, s := range cpus {
		if s == (natScratch{}) {
			continue
		}
		alias, value := decodeConnection(x, s.Key, s.Entry)
		for i := range alias {
			alias[i].Name = "alias-" + alias[i].Name
		}
		key := append(inspect.Fields{{Name: "index", Value: index}, {Name: "cpu", Value: cpu}}, alias...)
		if !fn(key, append(flowKey(s.Flow, 0), value...)) {
			return false
		}
	}
	return true
}

// statsOf sums what programs and user space have counted.
func statsOf(m *ebpf.Map) (ctStats, error) {
	var sum ctStats
	for who := range uint32(2) {
		var cpus []ctStats
		if err := m.Lookup(who, &cpus); err != nil {
			return sum, fmt.Errorf("read %s: %w", weftMapWeftCtStats, err)
		}
		for _, c := range cpus {
			sum.add(c)
		}
	}
	return sum, nil
}
