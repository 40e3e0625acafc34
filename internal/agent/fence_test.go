package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestFence: an address that the operator wants back is fenced once no pod has it, and stays so through a
// restart, whatever becomes of the wish; a newer generation is the node's again.
func TestFence(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("first")
	spec := r.nodeNetwork(1)
	free := v1alpha1.Address{}
	for i := range spec.Spec.Interfaces[0].Addresses {
		a := &spec.Spec.Interfaces[0].Addresses[i]
		if a.Release = a.Address == p.addr.String() || free.Address == ""; a.Release && a.Address != p.addr.String() {
			free = v1alpha1.Address{Address: a.Address, Generation: a.Generation}
		}
	}
	told := func(what string, want ...v1alpha1.Address) {
		t.Helper()
		nstest.Eventually(t, 10*time.Second, what, func() error {
			s := r.cluster.lastStatus()
			if !slices.Equal(s.Fenced, want) || s.AgentVersion == "" {
				return fmt.Errorf("fenced are %v, expected %v", s.Fenced, want)
			}
			return nil
		})
	}
	both := r.nodeNetwork(2)
	both.Spec.Interfaces[0] = spec.Spec.Interfaces[0]
	r.cluster.set(both, r.clusterNetwork())
	told("the free one is fenced, the used one isn't", free)
	if held := r.cluster.lastStatus().Held; held != 5 {
		t.Errorf("%d addresses are held, expected 5", held)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "state", "fences.json")); err != nil {
		t.Error(err)
	}

	r.stop()
	r.cluster.set(r.nodeNetwork(2), r.clusterNetwork())
	r.must(r.cluster.ApplyStatus(t.Context(), v1alpha1.NodeNetworkStatus{}))
	r.start()
	told("the wish is withdrawn, the agent another", free)
	for i := range 4 {
		if q := r.add(fmt.Sprintf("more-%d", i)); q.addr.String() == free.Address {
			t.Errorf("%s was given though it is fenced", q.addr)
		}
	}

	anew := r.nodeNetwork(2)
	for i := range anew.Spec.Interfaces[0].Addresses {
		if a := &anew.Spec.Interfaces[0].Addresses[i]; a.Address == free.Address {
			a.Generation = 100
		}
	}
	r.cluster.set(anew, r.clusterNetwork())
	told("a newer generation")
	if q := r.add("last"); q.addr.String() != free.Address {
		t.Errorf("the last pod has %s, expected %s", q.addr, free.Address)
	}
}
