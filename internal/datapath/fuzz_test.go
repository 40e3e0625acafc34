package datapath

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

// seeds are packets that get far into the programs, for the fuzzer to spoil.
func seeds(r *rig) [][]byte {
	ip := func(p ipv4Packet) []byte { return ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0800, p.bytes()) }
	return [][]byte{
		ip(ipv4Packet{src: podAddr, dst: farAddr, protocol: 17, payload: udpPayload(1, 53, []byte("query"))}),
		ip(ipv4Packet{src: podAddr, dst: farAddr, protocol: 17, headerLen: 8, payload: udpPayload(1, 4789, nil)}),
		ip(ipv4Packet{src: podAddr, dst: farAddr, protocol: 6, payload: tcpPayload(40000, 80, tcpSYN, nil)}),
		ip(ipv4Packet{src: podAddr, dst: farAddr, protocol: 1, fragment: 0x2000, payload: make([]byte, 8)}),
		ip(ipv4Packet{src: farAddr, dst: podAddr, protocol: 17, payload: udpPayload(53, 1, nil)}),
		ip(ipv4Packet{src: nodeAddr, dst: podAddr, protocol: 17, payload: udpPayload(53, 1, nil)}),
		ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0806, arpPacket(1, r.ep.PodMAC, podAddr, make([]byte, 6), "169.254.1.1")),
		ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x86dd, make([]byte, 48)),
	}
}

// checkPacket gives the packet to every program and holds it to what must never happen.
func checkPacket(t testing.TB, r *rig, frame []byte) {
	t.Helper()
	if len(frame) < 34 || len(frame) > 4000 {
		return // the kernel runs no shorter ones by hand
	}
	for _, h := range Hooks() {
		in := skbContext{Ifindex: uint32(r.ep.Ifindex)}
		if h == FromNetdev || h == ToNetdev {
			in.Ifindex = uint32(r.eni1.Ifindex)
		}
		var ret uint32
		var data []byte
		var out skbContext
		var err error
		diff := counted(t, r.d, func() { ret, data, out, err = runProgram(r.d.programs[h], slices.Clone(frame), in) })
		if errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v\n%x", h, err, frame)
		}
		reason, _, err := outcome(diff)
		if err != nil {
			t.Fatalf("%s: %v\n%x", h, err, frame)
		}
		if want := actionFor(reason); ret != want {
			t.Fatalf("%s: counted %s and returned %d\n%x", h, reason, int32(ret), frame)
		}
		if fault := violation(r, h, reason, frame, data, out); fault != "" {
			t.Fatalf("%s: %s, counted as %s\n%x", h, fault, reason, frame)
		}
	}
}

// violation says what is wrong with the outcome, in terms of the packet alone.
func violation(r *rig, h Hook, reason Reason, frame, data []byte, out skbContext) string {
	if reason.Drop() {
		return ""
	}
	ethertype := binary.BigEndian.Uint16(frame[12:])
	src, dst := netip.AddrFrom4([4]byte(frame[26:30])), netip.AddrFrom4([4]byte(frame[30:34]))
	passed := reason == ReasonToStack || reason == ReasonDelivered || reason == ReasonSent
	if reason == ReasonDelivered && (ethertype != 0x0800 || dst != r.ep.Addr || !slices.Equal(data[:6], r.ep.PodMAC)) {
		return "delivered to the wrong endpoint"
	}
	if (reason == ReasonDelivered || reason == ReasonSent) && data[22] != frame[22]-1 {
		return "redirected with its time to live"
	}
	switch h {
	case FromPod:
		switch {
		case !slices.Equal(frame[6:12], r.ep.PodMAC):
			return "passed another's MAC"
		case reason == ReasonAnswered && (ethertype != 0x0806 || !slices.Equal(frame[38:42], contract.Gateway.AsSlice())):
			return "answered what isn't ARP for the gateway"
		case reason == ReasonAnswered && (!slices.Equal(data[:6], r.ep.PodMAC) || !slices.Equal(data[22:28], r.ep.HostMAC)):
			return "answered with false MACs"
		case reason == ReasonToStack && out.Mark != contract.MarkFromPod:
			return "passed without its mark"
		case passed && ethertype == 0x0800 && (src != r.ep.Addr || dst.IsMulticast() || dst.IsLoopback() || dst.IsUnspecified()):
			return "passed forged or to nowhere"
		case passed && ethertype != 0x0800 && ethertype != 0x0806:
			return "passed a family that is off"
		case passed && ethertype == 0x0806 && !slices.Equal(frame[28:32], r.ep.Addr.AsSlice()):
			return "passed ARP in another's name"
		case !passed && reason != ReasonAnswered:
			return "ended in no way that from_pod knows"
		}
	case ToPod:
		if ethertype == 0x0800 && dst != r.ep.Addr {
			return "delivered to the wrong endpoint"
		}
	case FromNetdev:
		if ethertype == 0x0800 && src == r.ep.Addr {
			return "let somebody outside speak as the pod"
		}
	case ToNetdev:
		if ethertype == 0x0800 && src == r.ep.Addr && !dst.IsMulticast() && dst != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && reason != ReasonRedirected {
			return "left by an ENI that doesn't own its source"
		}
	}
	return ""
}

func FuzzPrograms(f *testing.F) {
	needRoot(f)
	r := newRig(f)
	for _, s := range seeds(r) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r.enter(t) // each input has a goroutine of its own
		checkPacket(t, r, frame)
	})
}

var randomFor = flag.Duration("random-packets", 2*time.Second, "how long TestRandomPackets runs")

// Fuzzing without coverage of the programs finds little by itself; so packets that are nearly right.
func TestRandomPackets(t *testing.T) {
	r := newRig(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	good := seeds(r)
	interesting := []byte{0, 1, 4, 5, 6, 8, 15, 17, 0x20, 0x45, 0x46, 0x4f, 0x60, 127, 169, 192, 224, 255}
	// At least some, however slow the machine.
	for n, deadline := 0, time.Now().Add(*randomFor); n < 100 || time.Now().Before(deadline); n++ {
		frame := slices.Clone(good[random.IntN(len(good))])
		for range random.IntN(4) {
			i := random.IntN(len(frame))
			if random.IntN(2) == 0 {
				frame[i] = interesting[random.IntN(len(interesting))]
			} else {
				frame[i] = byte(random.Uint32())
			}
		}
		switch random.IntN(4) {
		case 0:
			frame = frame[:random.IntN(len(frame)+1)]
		case 1:
			frame = append(frame, make([]byte, random.IntN(100))...)
		}
		checkPacket(t, r, frame)
	}
}
