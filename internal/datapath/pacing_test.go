package datapath

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// monotonic is the clock of departure times.
func monotonic(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return uint64(ts.Nano())
}

const second = uint64(1e9)

// bucket reads a slot's, setNext says until when it has paid.
func bucket(t testing.TB, d *Datapath, slot uint32) bucketValue {
	t.Helper()
	var b bucketValue
	must(t, d.maps[weftMapWeftBandwidth].Lookup(slot, &b))
	return b
}

func setNext(t testing.TB, d *Datapath, slot uint32, next uint64) {
	t.Helper()
	b := bucket(t, d, slot)
	b.Next = next
	must(t, d.maps[weftMapWeftBandwidth].Put(slot, b))
}

// What leaves by an ENI with fq gets its departure time, from the same bucket that measures what stays on
// the node.
func TestDepartureTimes(t *testing.T) {
	r := newPathRig(t)
	for i := range r.enis {
		r.enis[i].Paced = true
	}
	r.addENIs(t)
	limited := r.a
	// Slow enough that its tolerance is far beyond the horizon, whatever this machine is busy with.
	limited.EgressRate = 100
	must(t, r.d.AddEndpoint(limited))
	slot := limited.Slot
	packet := func(f pathFamily, to netip.Addr) natPacket {
		return natPacket{src: f.pod, dst: to, protocol: protoUDP, sport: r.port(), dport: 53, data: make([]byte, 100)}
	}
	for name, f := range pathFamilies() {
		t.Run(name, func(t *testing.T) {
			r.enter(t)
			headers := uint64(14 + 20 + 8)
			if f.pod.Is6() {
				headers += 20
			}
			for _, c := range []struct {
				name    string
				to      netip.Addr
				outcome Reason
				how     []variation
				length  uint64
			}{
				{"into the VPC", f.far, ReasonSent, nil, headers + 100},
				{"to the world", f.world, ReasonSent, nil, headers + 100},
				{"to a service, by the stack", f.service, ReasonToStack, nil, headers + 100},
				{"two segments in one", f.far, ReasonSent, []variation{withGSO(50)}, headers + 100 + headers},
			} {
				t.Run(c.name, func(t *testing.T) {
					r.enter(t)
					for _, ahead := range []uint64{0, second} {
						before := monotonic(t)
						next := before + ahead
						setNext(t, r.d, slot, next)
						got := r.run(t, FromPod, packet(f, c.to), c.outcome, c.how...)
						after := monotonic(t)
						if got.tstamp < next || got.tstamp > max(next, after) {
							t.Errorf("leaves at %d, expected %d to %d", got.tstamp, next, max(next, after))
						}
						cost := c.length * second / limited.EgressRate
						if b := bucket(t, r.d, slot); b.Next != got.tstamp+cost {
							t.Errorf("costs %d ns, expected %d", b.Next-got.tstamp, cost)
						}
					}
				})
			}

			// Between the horizon and the tolerance.
			late := monotonic(t) + 300*second
			setNext(t, r.d, slot, late)
			r.run(t, FromPod, packet(f, f.far), ReasonBandwidth)
			if b := bucket(t, r.d, slot); b.Next != late {
				t.Errorf("what was dropped cost %d ns", b.Next-late)
			}
			if got := r.run(t, FromPod, packet(f, f.other), ReasonDelivered); got.tstamp != 0 {
				t.Errorf("a packet to a pod of the same node has the departure time %d", got.tstamp)
			}
			if b := bucket(t, r.d, slot); b.Next <= late {
				t.Error("what stays on the node costs nothing")
			}

			// Who has no limit has no departure time either.
			free := packet(f, f.far)
			free.src = f.other
			if got := r.run(t, FromPod, free, ReasonSent); got.tstamp != 0 {
				t.Errorf("a packet of a pod without a limit has the departure time %d", got.tstamp)
			}
		})
	}

	// As soon as there is no fq any more.
	r.enis[1].Paced = false
	r.addENIs(t)
	f := pathFamilies()["IPv4"]
	setNext(t, r.d, slot, monotonic(t)+300*second)
	if got := r.run(t, FromPod, packet(f, f.far), ReasonSent); got.tstamp != 0 {
		t.Errorf("a packet has the departure time %d, and nobody to wait for it", got.tstamp)
	}
	setNext(t, r.d, slot, monotonic(t)+3600*second)
	r.run(t, FromPod, packet(f, f.far), ReasonBandwidth)
}
