// Package ipam is the arithmetic of addresses: how many a node needs, which of them it may give back, and
// which changes in EC2 lead there. It does no I/O and reads no clock.
package ipam

// Watermarks are the knobs of a node, with the meaning they have in Cilium.
type Watermarks struct {
	// MinAllocate addresses are held from the start, PreAllocate free ones at any time.
	MinAllocate int
	PreAllocate int
	// MaxAllocate addresses at most; 0 is no limit.
	MaxAllocate int
	// MaxAboveWatermark more are taken whenever some are taken anyway, to save calls.
	MaxAboveWatermark int
	// FirstInterfaceIndex is the first device index whose addresses endpoints get.
	FirstInterfaceIndex int
}

// Need is how many more addresses a node wants that holds available ones, of which used are given to
// endpoints, while demand endpoints wait for one. A waiting endpoint counts as if it had its address: what
// it takes must not eat the reserve.
func Need(w Watermarks, available, used, demand int) int {
	need := max(w.PreAllocate-(available-used-demand), w.MinAllocate-available)
	if w.MaxAllocate > 0 {
		need = min(need, w.MaxAllocate-available)
	}
	return max(need, 0)
}

// Lease is an address under the generation in which a node got it.
type Lease struct {
	Address    string
	Generation int64
}

// Releasable are the assigned addresses that may be taken from the node: those that its agent fenced under
// the very generation it holds them in, and that no endpoint has. Nothing else ever is, however long the
// agent is silent.
func Releasable(assigned, fenced, used []Lease) []Lease {
	inUse := make(map[string]bool, len(used))
	for _, u := range used {
		// Of whatever generation: an endpoint with the address has the last word.
		inUse[u.Address] = true
	}
	given := make(map[Lease]bool, len(fenced))
	for _, f := range fenced {
		given[f] = true
	}
	var out []Lease
	for _, a := range assigned {
		if given[a] && !inUse[a.Address] {
			out = append(out, a)
		}
	}
	return out
}
