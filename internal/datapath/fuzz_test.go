package datapath

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/contract"
)

// seeds are packets that get far into the programs, for the fuzzer to spoil.
func seeds(r *fuzzRig) [][]byte {
	g := generator{rand.New(rand.NewPCG(1, 2)), r}
	var out [][]byte
	for range 64 {
		out = append(out, g.begin().frame)
	}
	return out
}

// FuzzPrograms gives each packet to every program, on every device, with and without the host's marks.
func FuzzPrograms(f *testing.F) {
	needRoot(f)
	r := newFuzzRig(f)
	for i, s := range seeds(r) {
		f.Add(s, byte(i))
	}
	marks := []uint32{0, contract.MarkFromPod, contract.MarkDecided, contract.MarkFromNetdev}
	f.Fuzz(func(t *testing.T, frame []byte, choice byte) {
		r.enter(t) // each input has a goroutine of its own
		for _, h := range Hooks() {
			r.fire(t, shot{hook: h, ep: int(choice & 1), eni: int(choice >> 1 & 1), mark: marks[choice>>2&3], frame: frame})
		}
	})
}

var randomFor = flag.Duration("random-packets", 2*time.Second, "how long TestRandomPackets runs")

// Fuzzing without coverage of the programs finds little by itself; so packets that are nearly right, and
// what comes after them.
func TestRandomPackets(t *testing.T) {
	r := newFuzzRig(t)
	seed := rand.Uint64()
	g := generator{rand.New(rand.NewPCG(seed, 0)), r}
	n := 0
	t.Cleanup(func() { t.Logf("seed %d, %d packets, of services: %v", seed, n, r.services.ways) })
	// At least some, however slow the machine.
	for deadline := time.Now().Add(*randomFor); n < 200 || time.Now().Before(deadline); n++ {
		r.fire(t, g.next())
	}
	if n > 5000 && len(r.services.ways) == 0 {
		t.Error("no packet was a service's, of so many")
	}
}
