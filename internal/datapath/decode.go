package datapath

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
)

// Decoders of what the agent writes, and of counters. Names of fields are JSON's, and carry their unit.

func decodeEndpoint(x decoding, slot uint32, v endpointValue) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "slot", Value: slot}}, inspect.Fields{
		{Name: "address", Value: address(v.Addr)},
		{Name: "address6", Value: address(v.Addr6)},
		{Name: "pod", Value: x.endpoint(slot, v.Generation)},
		{Name: "flags", Value: flagNames(v.Flags, flagName{endpointValid, "valid"}, flagName{endpointQueued, "queued"}, flagName{endpointLimited, "limited"})},
		{Name: "generation", Value: v.Generation},
		{Name: "eni", Value: v.ENI},
		{Name: "eniID", Value: x.eni(v.ENI)},
		{Name: "ifindex", Value: v.Ifindex},
		{Name: "device", Value: x.device(v.Ifindex)},
		{Name: "podMAC", Value: fromMAC(v.PodMAC).String()},
		{Name: "hostMAC", Value: fromMAC(v.HostMAC).String()},
		{Name: "class", Value: class(v.Class)},
	}
}

// class is the handle of an identity's class.
func class(handle uint32) string {
	if handle == 0 {
		return "unknown"
	}
	return fmt.Sprint(handle)
}

func decodeBucket(x decoding, slot uint32, v bucketValue) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "slot", Value: slot}}, inspect.Fields{
		{Name: "rateBytesPerSecond", Value: v.Rate},
		{Name: "toleranceSeconds", Value: seconds(time.Duration(v.Tolerance))},
		// What it has sent is paid for by then.
		{Name: "aheadSeconds", Value: max(0, seconds(time.Duration(v.Next)-x.now))},
	}
}

func decodeAddress(x decoding, k wireAddr, v addressValue) (key, value inspect.Fields) {
	value = inspect.Fields{
		{Name: "eni", Value: v.ENI},
		{Name: "eniID", Value: x.eni(v.ENI)},
		{Name: "flags", Value: flagNames(v.Flags, flagName{addressEndpoint, "endpoint"}, flagName{addressHost, "host"})},
	}
	if v.Flags&addressEndpoint != 0 {
		value = append(value, inspect.Field{Name: "slot", Value: v.Slot}, inspect.Field{Name: "generation", Value: v.Generation},
			inspect.Field{Name: "pod", Value: x.endpoint(v.Slot, v.Generation)})
	}
	return inspect.Fields{{Name: "address", Value: address(k)}}, value
}

func decodeENI(x decoding, handle uint32, v eniValue) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "handle", Value: handle}}, inspect.Fields{
		{Name: "id", Value: x.eni(handle)},
		{Name: "flags", Value: flagNames(v.Flags, flagName{eniValid, "valid"}, flagName{eniPaced, "paced"})},
		{Name: "ifindex", Value: v.Ifindex},
		{Name: "device", Value: x.device(v.Ifindex)},
		{Name: "mac", Value: fromMAC(v.MAC).String()},
		{Name: "mtuBytes", Value: v.MTU},
		{Name: "nextHop", Value: address(v.NextHop)},
		{Name: "nextHop6", Value: address(v.NextHop6)},
		{Name: "masquerade", Value: address(v.Masquerade)},
		{Name: "masquerade6", Value: address(v.Masquerade6)},
		{Name: "masqueradeENI", Value: v.MasqueradeENI},
	}
}

func decodeConfig(x decoding, index uint32, v configValue) (key, value inspect.Fields) {
	var types, ports []string
	for t := range EventType(eventMax) {
		if v.EventTypes&(1<<t) != 0 {
			types = append(types, t.String())
		}
	}
	for _, p := range v.TunnelPorts {
		if n := binary.BigEndian.Uint16(p[:]); n != 0 {
			ports = append(ports, fmt.Sprint(n))
		}
	}
	value = inspect.Fields{
		{Name: "layout", Value: v.Layout},
		{Name: "families", Value: flagNames(v.Families, flagName{familyIPv4, "ipv4"}, flagName{familyIPv6, "ipv6"})},
		{Name: "flags", Value: flagNames(v.Flags, flagName{configMasquerade, "masquerade"}, flagName{configMetadataClosed, "metadata-closed"}, flagName{configTrace, "trace"})},
		{Name: "gateway", Value: address(v.Gateway)},
		{Name: "gateway6", Value: address(v.Gateway6)},
		{Name: "nodeAddress", Value: address(v.NodeAddr)},
		{Name: "nodeAddress6", Value: address(v.NodeAddr6)},
		{Name: "tunnelPorts", Value: ports},
		{Name: "masqueradePorts", Value: fmt.Sprintf("%d-%d", v.MasqueradePortMin, v.MasqueradePortMax)},
	}
	for _, l := range []struct {
		name  string
		index int
	}{{"tcpSeconds", lifetimeTCP}, {"synSeconds", lifetimeSYN}, {"finSeconds", lifetimeFIN}, {"anySeconds", lifetimeAny}, {"stackSeconds", lifetimeStack}} {
		value = append(value, inspect.Field{Name: l.name, Value: decoding{hz: v.JiffiesPerSecond}.lifetime(v.Lifetime[l.index])})
	}
	return inspect.Fields{{Name: "index", Value: index}}, append(value,
		inspect.Field{Name: "jiffiesPerSecond", Value: v.JiffiesPerSecond},
		inspect.Field{Name: "events", Value: types},
		inspect.Field{Name: "eventsPerSecond", Value: v.EventsPerSecond},
		inspect.Field{Name: "eventCaptureBytes", Value: v.EventCapture},
		inspect.Field{Name: "agentEpoch", Value: v.Epoch},
	)
}

func decodePrefix(_ decoding, k ipcacheKey, v ipcacheValue) (key, value inspect.Fields) {
	return inspect.Fields{{Name: "prefix", Value: k.prefix().String()}}, inspect.Fields{
		{Name: "cluster", Value: k.Cluster},
		{Name: "flags", Value: flagNames(v.Flags, flagName{ipcacheNative, "native"}, flagName{ipcacheStack, "stack"})},
		{Name: "class", Value: class(v.Class)},
		{Name: "epoch", Value: v.Epoch},
	}
}

func decodeCounter(_ decoding, index uint32, cpus []counterValue, fn func(key, value inspect.Fields) bool) bool {
	var sum counterValue
	for _, c := range cpus {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
	}
	if sum.Packets == 0 {
		return true
	}
	hook, direction, reason := counterOf(index)
	return fn(
		inspect.Fields{{Name: "hook", Value: hook.String()}, {Name: "direction", Value: direction.String()}, {Name: "reason", Value: reason.String()}},
		inspect.Fields{{Name: "packets", Value: sum.Packets}, {Name: "bytes", Value: sum.Bytes}, {Name: "drop", Value: reason.Drop()}},
	)
}

func decodeFragment(x decoding, k fragmentKey, v fragmentValue) (key, value inspect.Fields) {
	src, dst := fromWire(k.Src), fromWire(k.Dst)
	return inspect.Fields{{Name: "protocol", Value: flow.ProtocolName(uint8(k.Protocol))}, {Name: "source", Value: src.String()}, {Name: "destination", Value: dst.String()}, {Name: "id", Value: k.ID}},
		inspect.Fields{
			{Name: "sourcePort", Value: binary.BigEndian.Uint16(v.Sport[:])},
			{Name: "destinationPort", Value: binary.BigEndian.Uint16(v.Dport[:])},
			{Name: "sourcePod", Value: x.address(src)},
			{Name: "destinationPod", Value: x.address(dst)},
		}
}
