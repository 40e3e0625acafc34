package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/masquerade"
	"github.com/weft-cni/weft/internal/nodenet"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func awaitPrefixes(t *testing.T, r *rig, want map[string]datapath.PrefixInfo) {
	t.Helper()
	wanted := map[netip.Prefix]datapath.PrefixInfo{}
	for _, linkLocal := range masquerade.Native(false, masquerade.Exceptions{}) {
		wanted[linkLocal] = datapath.PrefixInfo{Native: true}
	}
	for p, info := range want {
		wanted[netip.MustParsePrefix(p)] = info
	}
	nstest.Eventually(t, 15*time.Second, "the datapath knows the prefixes", func() error {
		s, err := r.datapath.Load().Dump()
		if err != nil {
			return err
		}
		if !maps.Equal(s.Prefixes, wanted) {
			return fmt.Errorf("prefixes are %v, expected %v", s.Prefixes, wanted)
		}
		return nil
	})
}

// Services are known while they are there, and those of an earlier agent until the API server tells.
func TestServicesReachTheDatapath(t *testing.T) {
	native, stack := datapath.PrefixInfo{Native: true}, datapath.PrefixInfo{Stack: true}
	service, ranged := netip.MustParsePrefix("203.0.113.9/32"), netip.MustParsePrefix("10.100.0.0/16")
	r := newRig(t)
	r.cluster.setService("service default/a", service)
	r.cluster.setService("servicecidr kubernetes", ranged)
	r.start()
	awaitPrefixes(t, r, map[string]datapath.PrefixInfo{"10.20.0.0/16": native, "203.0.113.9/32": stack, "10.100.0.0/16": stack})

	r.stop()
	r.cluster.mu.Lock()
	r.cluster.services = nil // the API server is silent
	r.cluster.mu.Unlock()
	r.start()
	awaitPrefixes(t, r, map[string]datapath.PrefixInfo{"10.20.0.0/16": native, "203.0.113.9/32": stack, "10.100.0.0/16": stack})
	r.cluster.setService("servicecidr kubernetes", ranged)
	awaitPrefixes(t, r, map[string]datapath.PrefixInfo{"10.20.0.0/16": native, "10.100.0.0/16": stack})

	cn := r.clusterNetwork()
	cn.Status.VPCCIDRs = append(cn.Status.VPCCIDRs, "100.64.0.0/16")
	r.cluster.set(r.nodeNetwork(2), cn)
	awaitPrefixes(t, r, map[string]datapath.PrefixInfo{"10.20.0.0/16": native, "100.64.0.0/16": native, "10.100.0.0/16": stack})
	if s := r.datapath.Load().Settings(); s.NodeAddr.String() != eniOwn[0] {
		t.Errorf("the programs know %s as the node's address, expected %s", s.NodeAddr, eniOwn[0])
	}
}

func TestPrefixesOfTheView(t *testing.T) {
	vpc := netip.MustParsePrefix("10.0.0.0/16")
	v := view{desired: nodenet.Desired{Direct: []netip.Prefix{vpc}}}
	inside := netip.MustParsePrefix("10.0.7.7/32")
	got := prefixes(v, []netip.Prefix{inside})
	want := map[netip.Prefix]datapath.PrefixInfo{vpc: {Native: true}, inside: {Native: true, Stack: true}}
	if !maps.Equal(got, want) {
		t.Errorf("prefixes are %v, expected %v", got, want)
	}
}
