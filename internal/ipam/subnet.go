package ipam

import (
	"cmp"
	"slices"
)

// Subnet is a place where an ENI can be.
type Subnet struct {
	ID string
	// Zone is the availability zone: an ENI can't leave it.
	Zone string
	// Route is what the default route leads to; empty if that isn't known.
	Route string
	// Free addresses.
	Free int
}

// Refusal says why no ENI of a node goes into a subnet.
type Refusal struct {
	SubnetID string
	Reason   string
}

// Candidates are the subnets in which ENIs for a node may be made whose primary ENI is in the subnet
// primary: that one first, then those of the same zone with the same kind of default route. A pod on an ENI
// in a subnet of another kind would reach the world another way, or not at all.
func Candidates(primary string, subnets []Subnet) ([]string, []Refusal) {
	var own *Subnet
	for i := range subnets {
		if subnets[i].ID == primary {
			own = &subnets[i]
		}
	}
	if own == nil {
		return nil, nil
	}
	var others []Subnet
	var refused []Refusal
	for _, s := range subnets {
		switch {
		case s.ID == primary || s.Zone != own.Zone:
		case s.Route == "" || own.Route == "":
			refused = append(refused, Refusal{s.ID, "it isn't known where its default route or that of " + primary + " leads"})
		case s.Route != own.Route:
			refused = append(refused, Refusal{s.ID, "its default route is " + s.Route + ", that of " + primary + " is " + own.Route})
		default:
			others = append(others, s)
		}
	}
	slices.SortFunc(others, func(a, b Subnet) int {
		return cmp.Or(cmp.Compare(b.Free, a.Free), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(refused, func(a, b Refusal) int { return cmp.Compare(a.SubnetID, b.SubnetID) })
	out := []string{primary}
	for _, s := range others {
		out = append(out, s.ID)
	}
	return out, refused
}

// choose returns the first candidate with room for all, or else the one with the most room, if that is at
// least an ENI's own address and one more.
func choose(candidates []string, free map[string]int, all int) (string, bool) {
	best := ""
	for _, id := range candidates {
		if free[id] >= all {
			return id, true
		}
		if free[id] >= 2 && (best == "" || free[id] > free[best]) {
			best = id
		}
	}
	return best, best != ""
}
