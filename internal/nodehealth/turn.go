package nodehealth

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Peer is another node with an agent.
type Peer struct {
	Node string
	Addr netip.Addr
}

// Ring puts peers into an order that every agent finds by itself. It is by a hash, so that neighbours in it
// are in different zones and of different ages as often as not.
func Ring(peers []Peer) []Peer {
	type place struct {
		at   uint64
		peer Peer
	}
	places := make([]place, 0, len(peers))
	for _, p := range peers {
		h := fnv.New64a()
		h.Write([]byte(p.Node))
		places = append(places, place{mix(h.Sum64()), p})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.peer.Node, b.peer.Node))
	})
	out := make([]Peer, len(places))
	for i, p := range places {
		out[i] = p.peer
	}
	return out
}

// mix spreads what differs in the last letters only over the whole number.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Turn returns whom self probes in a round; self is in the ring. Up to sample others: all of them. Beyond,
// sample others each round: the half of them that follow self in the ring, always, so that every node has
// somebody who notices soon; and of the rest the next ones in rotation. Who has the same ring and round
// takes the same distances, so every node is probed by sample others, and every pair is probed within
// Rounds rounds.
func Turn(self string, ring []Peer, round uint64, sample int) []Peer {
	at := slices.IndexFunc(ring, func(p Peer) bool { return p.Node == self })
	if at < 0 {
		return nil
	}
	others := len(ring) - 1
	far := func(d int) Peer { return ring[(at+d)%len(ring)] }
	out := make([]Peer, 0, min(others, sample))
	if others <= sample {
		for d := 1; d <= others; d++ {
			out = append(out, far(d))
		}
		return out
	}
	near := sample / 2
	for d := 1; d <= near; d++ {
		out = append(out, far(d))
	}
	rest, each := uint64(others-near), uint64(sample-near)
	begin := round % rest * each % rest
	for j := range each {
		out = append(out, far(near+1+int((begin+j)%rest)))
	}
	return out
}

// Rounds is within how many rounds every pair of n nodes is probed.
func Rounds(n, sample int) int {
	if n-1 <= sample {
		return 1
	}
	rest, each := n-1-sample/2, sample-sample/2
	return (rest + each - 1) / each
}
