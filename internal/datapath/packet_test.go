package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
)

// skbContext is struct __sk_buff as BPF_PROG_TEST_RUN takes and returns it.
type skbContext struct {
	Len, PktType, Mark, QueueMapping, Protocol, VlanPresent, VlanTCI, VlanProto uint32
	Priority, IngressIfindex, Ifindex, TCIndex                                  uint32
	CB                                                                          [5]uint32
	Hash, TCClassid, Data, DataEnd, NapiID, Family, RemoteIP4, LocalIP4         uint32
	RemoteIP6, LocalIP6                                                         [4]uint32
	RemotePort, LocalPort, DataMeta                                             uint32
	FlowKeys, Tstamp                                                            uint64
	WireLen, GSOSegs                                                            uint32
	Sk                                                                          uint64
	GSOSize                                                                     uint32
	TstampType                                                                  uint8
	_                                                                           [3]byte
	Hwtstamp                                                                    uint64
}

// Return values of the programs.
const (
	actNext     = ^uint32(0)
	actShot     = 2
	actRedirect = 7
)

// notReceived is a packet that no interface has received yet: what a pod sends by netkit.
const notReceived = ^uint32(0)

// runProgram gives one packet to a program as if it passed the device.
func runProgram(p *ebpf.Program, frame []byte, in skbContext) (ret uint32, data []byte, out skbContext, err error) {
	switch in.IngressIfindex {
	case 0:
		in.IngressIfindex = in.Ifindex
	case notReceived:
		in.IngressIfindex = 0
	}
	opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: &in, ContextOut: &out, Repeat: 1}
	ret, err = p.Run(opts)
	return ret, opts.DataOut, out, err
}

func ethernetFrame(dst, src net.HardwareAddr, ethertype uint16, payload []byte) []byte {
	b := append(append([]byte{}, dst...), src...)
	b = binary.BigEndian.AppendUint16(b, ethertype)
	return append(b, payload...)
}

// ipv4Packet describes an IPv4 packet; zero fields get sane values.
type ipv4Packet struct {
	src, dst  string
	protocol  byte
	fragment  uint16
	version   byte
	headerLen byte // in words
	length    int
	payload   []byte
}

func (p ipv4Packet) bytes() []byte {
	if p.version == 0 {
		p.version = 4
	}
	if p.headerLen == 0 {
		p.headerLen = 5
	}
	if p.length == 0 {
		p.length = int(max(p.headerLen, 5))*4 + len(p.payload)
	}
	b := make([]byte, int(max(p.headerLen, 5))*4)
	for i := 20; i < len(b); i++ {
		b[i] = 1 // no operation
	}
	b[0] = p.version<<4 | p.headerLen
	binary.BigEndian.PutUint16(b[2:], uint16(p.length))
	binary.BigEndian.PutUint16(b[6:], p.fragment)
	b[8], b[9] = 64, p.protocol
	copy(b[12:16], netip.MustParseAddr(p.src).AsSlice())
	copy(b[16:20], netip.MustParseAddr(p.dst).AsSlice())
	return append(b, p.payload...)
}

func udpPayload(src, dst uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

func tcpPayload(src, dst uint16, flags byte, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 2, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(b, data...)
}

func arpPacket(operation uint16, senderMAC net.HardwareAddr, sender string, targetMAC net.HardwareAddr, target string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(b, senderMAC...)
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	b = append(b, targetMAC...)
	return append(b, netip.MustParseAddr(target).AsSlice()...)
}
