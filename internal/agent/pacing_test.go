package agent

import (
	"net/netip"
	"testing"

	"github.com/weft-cni/weft/internal/nodenet"
)

func TestPacingOfANode(t *testing.T) {
	found := func(list ...nodenet.Pacing) (out []nodenet.Found) {
		for i, p := range list {
			out = append(out, nodenet.Found{Name: []string{"eth0", "ens6"}[i], Pacing: p})
		}
		return out
	}
	fq, own := nodenet.Pacing{FQ: true, Queue: "mq with fq"}, nodenet.Pacing{FQ: true, Own: true, Queue: "mq with fq"}
	other, none := nodenet.Pacing{Queue: "mq with fq_codel"}, nodenet.Pacing{Queue: "pfifo_fast", Why: "the kernel has no fq"}
	for _, c := range []struct {
		name     string
		found    []nodenet.Found
		enabled  bool
		way, why string
	}{
		{name: "not known yet"},
		{name: "fq that was there", found: found(fq), way: "fq", why: "eth0 has mq with fq"},
		{name: "fq that weft set", found: found(own, own), enabled: true, way: "fq", why: "eth0 has mq with fq, set by weft; ens6 has mq with fq, set by weft"},
		{name: "none", found: found(other), way: "queue and policer", why: "eth0 has mq with fq_codel; bandwidthManager.enabled=true sets fq"},
		{name: "wanted in vain", found: found(none), enabled: true, way: "queue and policer", why: "eth0: the kernel has no fq, it has pfifo_fast"},
		{name: "one of two", found: found(fq, other), way: "fq on 1 of 2 interfaces, otherwise queue and policer", why: "eth0 has mq with fq; ens6 has mq with fq_codel; bandwidthManager.enabled=true sets fq"},
	} {
		way, why := pacing(c.found, c.enabled)
		if way != c.way || why != c.why {
			t.Errorf("%s: %q because %q, expected %q because %q", c.name, way, why, c.way, c.why)
		}
	}
}

// What is translated leaves by another ENI: it is paced if both are.
func TestPacedENIs(t *testing.T) {
	fq := nodenet.Pacing{FQ: true}
	for _, c := range []struct {
		name       string
		first, own nodenet.Pacing
		programs   bool // translate, not nftables
		want       bool
	}{
		{"both", fq, fq, true, true}, {"only its own", nodenet.Pacing{}, fq, true, false}, {"only the one that translates", fq, nodenet.Pacing{}, true, false},
		{"both, nftables", fq, fq, false, true}, {"only its own, nftables", nodenet.Pacing{}, fq, false, false},
	} {
		primary := netip.MustParseAddr("10.20.0.10")
		v := view{masquerade: c.programs, owners: map[netip.Addr]int32{primary: 0}}
		v.desired.Masquerade = !c.programs
		v.desired.Interfaces = []nodenet.Interface{{DeviceIndex: 0, Primary: primary, MasqueradeTo: primary}, {DeviceIndex: 1, MasqueradeTo: primary}}
		got := wantENIs([]nodenet.Found{
			{Interface: v.desired.Interfaces[0], Pacing: c.first}, {Interface: v.desired.Interfaces[1], Pacing: c.own},
		}, v)
		if got[2].Paced != c.want || got[1].Paced != c.first.FQ {
			t.Errorf("%s: paced are %t and %t", c.name, got[1].Paced, got[2].Paced)
		}
	}
}
