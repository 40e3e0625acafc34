package endpoint

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func assigned(eni int, n int) []Assigned {
	var out []Assigned
	for i := range n {
		out = append(out, Assigned{
			Address: netip.AddrFrom4([4]byte{10, 0, byte(eni), byte(i + 1)}), Generation: int64(i),
			ENI: fmt.Sprintf("eni-%d", eni), DeviceIndex: int32(eni),
		})
	}
	return out
}

// TestPoolNeverTwice runs random commands against the pool and a plain record of who has what since when.
func TestPoolNeverTwice(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1_700_000_000, 0)
		p := NewPool()
		all := append(assigned(0, 6), assigned(1, 6)...)
		held := all
		p.Assign(held)
		has := map[netip.Addr]bool{}
		freed := map[netip.Addr]time.Time{}
		for step := range 400 {
			now = now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
			switch r.IntN(5) {
			case 0, 1, 2:
				a, ok := p.Allocate(now)
				if !ok {
					for _, h := range held {
						since, was := freed[h.Address]
						if !has[h.Address] && (!was || now.Sub(since) >= ShortRest) {
							t.Fatalf("seed %d step %d: nothing given though %s is free", seed, step, h.Address)
						}
					}
					continue
				}
				if has[a.Address] {
					t.Fatalf("seed %d step %d: %s given twice", seed, step, a.Address)
				}
				if since, was := freed[a.Address]; was && now.Sub(since) < CoolDown {
					if now.Sub(since) < ShortRest {
						t.Fatalf("seed %d step %d: %s given %s after its release", seed, step, a.Address, now.Sub(since))
					}
					for _, h := range held {
						since, was := freed[h.Address]
						if h != a && !has[h.Address] && (!was || now.Sub(since) >= CoolDown) {
							t.Fatalf("seed %d step %d: %s given after a short rest though %s has rested", seed, step, a.Address, h.Address)
						}
					}
				}
				has[a.Address] = true
			case 3:
				for a := range has {
					p.Release(a, now)
					delete(has, a)
					freed[a] = now
					break
				}
			case 4:
				held = nil
				for _, a := range all {
					if r.IntN(4) > 0 {
						held = append(held, a)
					}
				}
				p.Assign(held)
				p.Forget(now)
			}
			if c := p.Counts(now); c.Used != len(has) || c.Held != len(held) || c.Free+c.Resting > c.Held {
				t.Fatalf("seed %d step %d: counts %+v with %d used and %d held", seed, step, c, len(has), len(held))
			}
		}
	}
}

func TestPoolSpreads(t *testing.T) {
	p := NewPool()
	p.Assign(append(assigned(0, 4), assigned(1, 4)...))
	now := time.Unix(1_700_000_000, 0)
	count := map[string]int{}
	for range 6 {
		a, _ := p.Allocate(now)
		count[a.ENI]++
	}
	if count["eni-0"] != 3 || count["eni-1"] != 3 {
		t.Errorf("endpoints by ENI: %v, expected three each", count)
	}
}

// TestPoolClockSetBack: no address rests for longer than it should because the clock moved.
func TestPoolClockSetBack(t *testing.T) {
	p := NewPool()
	p.Assign(assigned(0, 1))
	now := time.Unix(1_700_000_000, 0)
	a, _ := p.Allocate(now)
	p.Release(a.Address, now)
	back := now.Add(-time.Hour)
	if next, any := p.Forget(back); !any || next > CoolDown {
		t.Errorf("after the clock was set back the address rests for %s", next)
	}
}
