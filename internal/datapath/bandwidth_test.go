package datapath

import (
	"testing"
	"time"
)

// What a limited endpoint sends above its rate and its tolerance is dropped, costs it nothing, and is no
// matter of others.
func TestBandwidthIsMeasured(t *testing.T) {
	r := newRig(t)
	frame := ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0800,
		ipv4Packet{src: podAddr, dst: worldAddr, protocol: 17, payload: udpPayload(40000, 53, make([]byte, 1000))}.bytes())
	drop := Counter{Hook: FromPod, Direction: Egress, Reason: ReasonBandwidth}
	send := func(n int) uint64 {
		return counted(t, r.d, func() {
			for range n {
				r.send(t, frame)
			}
		})[drop]
	}
	r.up(t)
	if n := send(200); n != 0 {
		t.Fatalf("%d of 200 dropped without a limit", n)
	}
	// So slow that what the test's own time pays for is less than a packet: 64 KiB may pass at once.
	limited := r.ep
	limited.EgressRate = 100
	must(t, r.d.AddEndpoint(limited))
	passes := uint64(bucketBytes/len(frame) + 1)
	if n := send(200); n < 200-passes-1 || n > 200-passes+1 {
		t.Errorf("%d of 200 dropped, expected %d", n, 200-passes)
	}
	// The same limit again, as after a restart of the agent, is no new allowance.
	must(t, r.d.AddEndpoint(limited))
	if n := send(10); n != 10 {
		t.Errorf("%d of 10 dropped after the endpoint was written again", n)
	}
	limited.EgressRate = 0
	must(t, r.d.AddEndpoint(limited))
	if n := send(10); n != 0 {
		t.Errorf("%d of 10 dropped after the limit was taken away", n)
	}
}

func TestBucketValue(t *testing.T) {
	for rate, tolerance := range map[uint64]time.Duration{
		1: 65536 * time.Second, 125_000: 524_288 * time.Microsecond, 1 << 40: 100 * time.Millisecond,
	} {
		if b := newBucketValue(rate); b.Rate != rate || b.Tolerance != uint64(tolerance) {
			t.Errorf("rate %d: %+v, expected tolerance %s", rate, b, tolerance)
		}
	}
	if b := newBucketValue(0); b != (bucketValue{}) {
		t.Errorf("no rate: %+v", b)
	}
}
