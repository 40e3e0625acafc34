package nodenet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of a connection that the netlink library doesn't name, and the flag by which a filter compares
// the source of a tuple.
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	filterSource        = 1 << 0
)

// An endpoint's connection has its address as the source of the first packet, if the endpoint began it, or
// as the source of the answer, if it came to the endpoint: whatever was translated, by whomever.
func speakers() []uint16 { return []uint16{nl.CTA_TUPLE_ORIG, nl.CTA_TUPLE_REPLY} }

// forgetFlows removes the kernel's connections of an address, so that its next endpoint meets none of them:
// neither a translation that was another's nor a state that lets packets pass.
func forgetFlows(addr netip.Addr) (int, error) {
	n := 0
	if !addr.IsValid() {
		return n, nil
	}
	for _, tuple := range speakers() {
		flows, err := listFlows(addr, tuple)
		if err != nil {
			return n, fmt.Errorf("list connections of %s: %w", addr, err)
		}
		for _, raw := range flows {
			// A kernel that knows no such filter lists everything.
			if len(raw) < nl.SizeofNfgenmsg || !ofSpeaker(raw[nl.SizeofNfgenmsg:], addr) {
				continue
			}
			req := flowRequest(addr, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
			req.AddRawData(raw[nl.SizeofNfgenmsg:])
			_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return n, fmt.Errorf("remove a connection of %s: %w", addr, err)
			}
			n++
		}
	}
	return n, nil
}

// listFlows asks for the connections with the address as the source of a tuple. The kernel picks them: a busy
// node has hundreds of thousands, and a pod that ends must not wait for all to be copied.
func listFlows(addr netip.Addr, tuple uint16) ([][]byte, error) {
	flags := func(of uint16) []byte {
		if of != tuple {
			return binary.NativeEndian.AppendUint32(nil, 0)
		}
		return binary.NativeEndian.AppendUint32(nil, filterSource)
	}
	return dump(func() ([][]byte, error) {
		req := flowRequest(addr, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
		want := nl.NewRtAttr(int(tuple)|unix.NLA_F_NESTED, nil)
		want.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil).AddRtAttr(int(sourceAttr(addr)), addr.AsSlice())
		filter := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
		filter.AddRtAttr(ctaFilterOrigFlags, flags(nl.CTA_TUPLE_ORIG))
		filter.AddRtAttr(ctaFilterReplyFlags, flags(nl.CTA_TUPLE_REPLY))
		req.AddData(want)
		req.AddData(filter)
		return req.Execute(unix.NETLINK_NETFILTER, 0)
	})
}

func flowRequest(addr netip.Addr, operation, flags int) *nl.NetlinkRequest {
	family := uint8(unix.AF_INET)
	if addr.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|operation, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return req
}

// sourceAttr is the attribute that holds a tuple's source.
func sourceAttr(addr netip.Addr) uint16 {
	if addr.Is4() {
		return nl.CTA_IP_V4_SRC
	}
	return nl.CTA_IP_V6_SRC
}

// ofSpeaker says whether a connection is one of the address's. flow are its attributes.
func ofSpeaker(flow []byte, addr netip.Addr) bool {
	for _, tuple := range speakers() {
		ip := attribute(attribute(flow, tuple), nl.CTA_TUPLE_IP)
		if got, ok := netip.AddrFromSlice(attribute(ip, sourceAttr(addr))); ok && got == addr {
			return true
		}
	}
	return false
}

// attribute is the value of the first attribute of a kind.
func attribute(b []byte, kind uint16) []byte {
	const header = unix.SizeofNlAttr
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint16(b))
		if size < header || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return b[header:size]
		}
		b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
	return nil
}

// translatedFlows says whether the kernel translates the source of a connection that one of these began.
func translatedFlows(ours map[netip.Addr]bool) (bool, error) {
	flows, err := dump(func() ([][]byte, error) {
		req := flowRequest(netip.IPv4Unspecified(), nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
		return req.Execute(unix.NETLINK_NETFILTER, 0)
	})
	if err != nil {
		return false, err
	}
	for _, raw := range flows {
		if len(raw) < nl.SizeofNfgenmsg {
			continue
		}
		original := attribute(attribute(raw[nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG), nl.CTA_TUPLE_IP)
		reply := attribute(attribute(raw[nl.SizeofNfgenmsg:], nl.CTA_TUPLE_REPLY), nl.CTA_TUPLE_IP)
		from, ok := netip.AddrFromSlice(attribute(original, nl.CTA_IP_V4_SRC))
		to, known := netip.AddrFromSlice(attribute(reply, nl.CTA_IP_V4_DST))
		if ok && known && from != to && ours[from] {
			return true, nil
		}
	}
	return false, nil
}
