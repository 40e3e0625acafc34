package operator

import (
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// presence of another CNI that takes secondary addresses of a node's primary ENI: the AWS VPC CNI.
type presence int

const (
	// absent: its DaemonSet doesn't exist.
	absent presence = iota
	// gated: its DaemonSet exists, and doesn't run on the node.
	gated
	// active: it runs on the node, or will. Every address of the primary ENI that it didn't see before it
	// takes for its own.
	active
)

// others is what may hold addresses of a node's primary ENI beside weft.
type others struct {
	cni presence
	// pods are the addresses that the API shows of the node's pods, whoever gave them.
	pods map[netip.Addr]bool
}

// claim divides the secondary addresses of a primary ENI into weft's and others'. Nothing in EC2 says who
// assigned an address, so what weft told the node's agent before decides: told is the ENI in the spec of the
// same instance, nil if the ENI wasn't there or gave no addresses.
//
//   - What was told to be an endpoint's stays so, what was told to be another's stays that until its CNI is gone
//     and no pod has it.
//   - What appears later was assigned by weft, also if the answer was lost, unless the other CNI is active.
//   - What was there before weft first looked is taken over where the other CNI doesn't exist and no pod has it.
func claim(secondary []netip.Addr, told *v1alpha1.Interface, o others) (own, foreign []netip.Addr) {
	ours, theirs := map[string]bool{}, map[string]bool{}
	if told != nil {
		for _, a := range told.Addresses {
			ours[a.Address] = true
		}
		for _, a := range told.Foreign {
			theirs[a] = true
		}
	}
	for _, a := range secondary {
		text := a.String()
		free := o.cni == absent && !o.pods[a]
		mine := false
		switch {
		case ours[text]:
			mine = true
		case told == nil, theirs[text]:
			mine = free
		default:
			mine = o.cni != active && !o.pods[a]
		}
		if mine {
			own = append(own, a)
		} else {
			foreign = append(foreign, a)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	slices.SortFunc(foreign, netip.Addr.Compare)
	return own, foreign
}
