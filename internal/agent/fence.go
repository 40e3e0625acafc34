package agent

import (
	"net/netip"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/endpoint"
)

// openFences reads what an earlier agent gave up.
func (a *agent) openFences() (endpoint.FenceStore, []endpoint.Fence, error) {
	f, written, aside, err := endpoint.OpenFences(a.paths.fences(), a.instance)
	if err != nil {
		return nil, nil, err
	}
	if aside != "" {
		a.Log.Warn("fences unreadable or of another instance, set aside", "file", aside)
	}
	return f, written, nil
}

// toldFences are those that this instance's status has.
func toldFences(nn *v1alpha1.NodeNetwork, instance string) []endpoint.Fence {
	if nn == nil || nn.Status.InstanceID != instance {
		return nil
	}
	var out []endpoint.Fence
	for _, f := range nn.Status.Fenced {
		if a, err := netip.ParseAddr(f.Address); err == nil {
			out = append(out, endpoint.Fence{Address: a.Unmap(), Generation: f.Generation})
		}
	}
	return out
}

// fence gives up what the operator wants back, as far as it is free. An address of an interface whose device is
// missing counts, too: nobody can have it.
func (a *agent) fence() {
	a.mu.Lock()
	all := a.view.assigned
	a.mu.Unlock()
	if err := a.manager.Fence(all); err != nil {
		a.Log.Error("addresses that the operator wants back not given up", "err", err)
	}
}

func fencedAddresses(all []endpoint.Fence) []v1alpha1.Address {
	var out []v1alpha1.Address
	for _, f := range all {
		out = append(out, v1alpha1.Address{Address: f.Address.String(), Generation: f.Generation})
	}
	return out
}
