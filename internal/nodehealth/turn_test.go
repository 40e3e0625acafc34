package nodehealth_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weft-cni/weft/internal/nodehealth"
)

func nodes(n int) []nodehealth.Peer {
	var out []nodehealth.Peer
	for i := range n {
		out = append(out, nodehealth.Peer{Node: fmt.Sprintf("ip-10-0-%d-%d.us-west-2.compute.internal", i/256, i%256)})
	}
	return out
}

// Every pair is probed within the bound from any round on, nobody probes itself or anyone twice in a round,
// and nobody is probed by more than the sample, or by more than one and a half of it when clocks differ.
func TestTurnCoversAndBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 7, 8, 9, 10, 16, 33, 100} {
		for _, sample := range []int{1, 2, 3, 8, 32} {
			peers := nodes(n)
			rnd.Shuffle(n, func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
			ring := nodehealth.Ring(peers)
			start := rnd.Uint64()
			rounds := nodehealth.Rounds(n, sample)
			seen := map[[2]string]bool{}
			for r := range rounds {
				in, skewed := map[string]int{}, map[string]int{}
				for i, p := range ring {
					mine := map[string]bool{}
					for _, to := range nodehealth.Turn(p.Node, ring, start+uint64(r), sample) {
						if to.Node == p.Node || mine[to.Node] {
							t.Fatalf("%d nodes, sample %d: %s probes %s, itself or twice", n, sample, p.Node, to.Node)
						}
						mine[to.Node] = true
						in[to.Node]++
						seen[[2]string{p.Node, to.Node}] = true
					}
					if len(mine) != min(sample, n-1) {
						t.Fatalf("%d nodes, sample %d: %d probes in a round", n, sample, len(mine))
					}
					for _, to := range nodehealth.Turn(p.Node, ring, start+uint64(r)+uint64(i%2), sample) {
						skewed[to.Node]++
					}
				}
				for _, p := range ring {
					if in[p.Node] > min(sample, n-1) {
						t.Fatalf("%d nodes, sample %d: %s is probed by %d", n, sample, p.Node, in[p.Node])
					}
					if most := sample/2 + 2*(sample-sample/2); skewed[p.Node] > most {
						t.Fatalf("%d nodes, sample %d: %s is probed by %d, at most %d", n, sample, p.Node, skewed[p.Node], most)
					}
				}
			}
			if len(seen) != n*(n-1) {
				t.Errorf("%d nodes, sample %d: %d of %d pairs probed within %d rounds", n, sample, len(seen), n*(n-1), rounds)
			}
		}
	}
}

func TestRingIsOneForAll(t *testing.T) {
	a := nodes(50)
	b := append([]nodehealth.Peer(nil), a...)
	rand.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	if fmt.Sprint(nodehealth.Ring(a)) != fmt.Sprint(nodehealth.Ring(b)) {
		t.Error("the order depends on the order of the list")
	}
	if nodehealth.Turn("stranger", nodehealth.Ring(a), 1, 8) != nil {
		t.Error("who isn't in the ring has a turn")
	}
}
