package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
)

// Decoders of services.

func decodeServiceKey(k lbKey) inspect.Fields {
	address, scope := "any of the node's", "cluster"
	if a := fromWire(k.Addr); a.IsValid() && !a.IsUnspecified() {
		address = a.String()
	}
	if k.Scope == lbScopeOutside {
		scope = "outside"
	}
	return inspect.Fields{{Name: "protocol", Value: flow.ProtocolName(k.Protocol)}, {Name: "address", Value: address},
		{Name: "port", Value: binary.BigEndian.Uint16(k.Port[:])}, {Name: "scope", Value: scope}}
}

func decodeFrontend(_ decoding, k lbKey, v lbFrontend) (key, value inspect.Fields) {
	return decodeServiceKey(k), inspect.Fields{
		{Name: "set", Value: v.Set},
		{Name: "backends", Value: v.Count},
		{Name: "flags", Value: flagNames(v.Flags, flagName{lbRefuse, "refuse"}, flagName{lbMembers, "members"}, flagName{lbAffinity, "affinity"},
			flagName{lbOutside, "outside"}, flagName{lbOutsideOwn, "outside-own"}, flagName{lbRanges, "ranges"}, flagName{lbMaglev, "maglev"}, flagName{lbTCPKeep, "tcp-keep"})},
		{Name: "affinitySeconds", Value: v.Affinity},
	}
}

func decodeBackend(x decoding, k lbSlot, v lbBackend) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "set", Value: k.Set}, {Name: "slot", Value: k.Slot}}, inspect.Fields{
		{Name: "backend", Value: v.addrPort().String()}, {Name: "pod", Value: x.address(fromWire(v.Addr))}}
}

func decodeMember(x decoding, k lbMember, _ uint32) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "set", Value: k.Set}, {Name: "backend", Value: lbBackend{Addr: k.Addr, Port: k.Port}.addrPort().String()}},
		inspect.Fields{{Name: "pod", Value: x.address(fromWire(k.Addr))}}
}

func decodeRange(_ decoding, k lbRange, _ uint32) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "set", Value: k.Set}, {Name: "prefix", Value: k.prefix().String()}}, nil
}

func (k lbRange) prefix() netip.Prefix {
	a, bits := fromWire(k.Addr), int(k.Prefixlen)-lbRangeFixedBits
	if a.Is4() {
		bits -= mappedBits
	}
	return netip.PrefixFrom(a, bits)
}

func decodeHashTable(_ decoding, set, id uint32) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "set", Value: set}}, inspect.Fields{{Name: "map", Value: id}}
}

func decodeServiceConfig(x decoding, index uint32, v lbConfig) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "index", Value: index}}, inspect.Fields{
		{Name: "hostCookie", Value: v.Host},
		{Name: "flags", Value: flagNames(v.Flags, flagName{lbHost, "host"}, flagName{lbNorthSouth, "north-south"})},
		{Name: "agentEpoch", Value: v.Epoch},
		{Name: "freshSeconds", Value: seconds(time.Duration(v.Fresh) - x.now)}, // negative: kube-proxy serves, if it runs
	}
}

func decodeKept(x decoding, k lbKeeper, v lbKept) (key, value inspect.Fields) {
	client := fromWire(k.Addr)
	return inspect.Fields{{Name: "client", Value: client.String()}, {Name: "set", Value: k.Set}}, inspect.Fields{
		{Name: "pod", Value: x.address(client)},
		{Name: "backend", Value: v.Backend.addrPort().String()},
		{Name: "usedSeconds", Value: max(0, seconds(x.now-time.Duration(v.Used)))},
	}
}

func decodeServicePorts(_ decoding, index uint32, bits uint64) (key, value inspect.Fields) {
	var ports []string
	for i := range uint32(64) {
		if bits>>i&1 != 0 {
			ports = append(ports, fmt.Sprint(index*64+i))
		}
	}
	return inspect.Fields{{Name: "from", Value: index * 64}}, inspect.Fields{{Name: "ports", Value: ports}}
}

func decodeServiceScratch(_ decoding, index uint32, cpus []serviceScratch, fn func(key, value inspect.Fields) bool) bool {
	for cpu, s := range cpus {
		if s == (serviceScratch{}) {
			continue
		}
		key := append(inspect.Fields{{Name: "index", Value: index}, {Name: "cpu", Value: cpu}}, decodeServiceKey(s.Key)...)
		if !fn(key, inspect.Fields{{Name: "set", Value: s.Frontend.Set}, {Name: "backend", Value: s.Backend.addrPort().String()}}) {
			return false
		}
	}
	return true
}
