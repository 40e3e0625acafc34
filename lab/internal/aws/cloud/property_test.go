package cloud

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// checkInvariants looks at the whole model: what must hold whatever was called.
func checkInvariants(t *testing.T, m *Model) {
	t.Helper()
	owner := map[netip.Addr]string{}
	claim := func(a netip.Addr, eni string) {
		if before, twice := owner[a]; twice {
			t.Fatalf("%s belongs to %s and %s", a, before, eni)
		}
		owner[a] = eni
	}
	addresses, blocks := map[string]int{}, map[string]int{}
	public := map[netip.Addr]bool{}
	for _, e := range m.ENIs {
		s := m.Subnets[e.SubnetID]
		if len(e.Addresses) == 0 {
			t.Fatalf("%s has no primary address", e.ID)
		}
		for _, a := range e.Addresses {
			claim(a.IP, e.ID)
			if !s.CIDR.Contains(a.IP) || s.reserved(a.IP) || s.taken[a.IP] != e.ID {
				t.Fatalf("%s: address %s is not the subnet's to give", e.ID, a.IP)
			}
			if a.Public.IsValid() {
				if public[a.Public] || m.Public.Taken[a.Public] != e.ID {
					t.Fatalf("%s: public address %s", e.ID, a.Public)
				}
				public[a.Public] = true
			}
		}
		for _, p := range e.Prefixes {
			for a, i := p.Addr(), 0; i < blockSize; a, i = a.Next(), i+1 {
				claim(a, e.ID)
				if s.reserved(a) {
					t.Fatalf("%s: prefix %s holds the reserved %s", e.ID, p, a)
				}
			}
			if s.blocks[p] != e.ID {
				t.Fatalf("%s: prefix %s is unknown to its subnet", e.ID, p)
			}
		}
		addresses[s.ID] += len(e.Addresses)
		blocks[s.ID] += len(e.Prefixes)
		limit, _ := m.limitOf(e)
		if e.used() > limit {
			t.Fatalf("%s has %d addresses, its limit is %d", e.ID, e.used(), limit)
		}
		if a := e.Attachment; a != nil && a.InstanceID != "" {
			i := m.Instances[a.InstanceID]
			if i == nil || i.State == Terminated {
				t.Fatalf("%s is attached to the dead %s", e.ID, a.InstanceID)
			}
			if i.AZ != e.AZ {
				t.Fatalf("%s in %s is attached to %s in %s", e.ID, e.AZ, i.ID, i.AZ)
			}
		}
	}
	if len(public) != len(m.Public.Taken) {
		t.Fatalf("%d public addresses are used, %d taken", len(public), len(m.Public.Taken))
	}
	for _, s := range m.Subnets {
		if len(s.taken) != addresses[s.ID] || len(s.blocks) != blocks[s.ID] || s.Free() < 0 {
			t.Fatalf("%s counts %d addresses and %d blocks, its interfaces %d and %d", s.ID, len(s.taken), len(s.blocks), addresses[s.ID], blocks[s.ID])
		}
	}
	for _, i := range m.Instances {
		it, _ := TypeByName(i.Type)
		index := map[int]bool{}
		for _, e := range m.InstanceENIs(i.ID) {
			if e.Attachment == nil || e.Attachment.InstanceID != i.ID || index[e.Attachment.DeviceIndex] {
				t.Fatalf("%s: interface %s with %+v", i.ID, e.ID, e.Attachment)
			}
			index[e.Attachment.DeviceIndex] = true
		}
		if len(index) > it.Cards[0] {
			t.Fatalf("%s has %d interfaces, a %s may have %d", i.ID, len(index), i.Type, it.Cards[0])
		}
	}
}

// TestRandomCalls makes calls that mostly make sense and some that don't; whatever they answer, the model
// stays whole.
func TestRandomCalls(t *testing.T) {
	for seed := range uint64(6) {
		c, clk, _ := newTestCloud(t, []string{"m5.large", "t3.small", "i3.large"}[seed%3])
		rng := rand.New(rand.NewPCG(seed, 1))
		ctx := context.Background()
		vpc := ""
		c.Read(func(m *Model) { vpc = Sorted(m.VPCs)[0].ID })
		small, err := c.CreateSubnet(ctx, vpc, netip.MustParsePrefix("192.168.192.0/26"), "us-west-2a", nil)
		if err != nil {
			t.Fatal(err)
		}
		pickENI := func() *ENI {
			var out *ENI
			c.Read(func(m *Model) {
				if all := Sorted(m.ENIs); len(all) > 0 {
					e := all[rng.IntN(len(all))].clone()
					out = &e
				}
			})
			return out
		}
		pickInstance := func() *Instance {
			var out *Instance
			c.Read(func(m *Model) {
				if all := Sorted(m.Instances); len(all) > 0 {
					i := all[rng.IntN(len(all))].clone()
					out = &i
				}
			})
			return out
		}
		run(t, c, "pub")
		succeeded := map[int]int{}
		for step := range 1500 {
			e, i := pickENI(), pickInstance()
			if i == nil {
				run(t, c, "pub")
				continue
			}
			op := rng.IntN(11)
			var err error
			switch op {
			case 0:
				_, err = c.RunInstance(ctx, "c", []string{"pub", "priv"}[rng.IntN(2)])
			case 1:
				if rng.IntN(6) == 0 {
					_, err = c.TerminateInstances(ctx, []string{i.ID})
				}
			case 2, 3:
				in := CreateENIInput{SubnetID: i.SubnetID}
				if rng.IntN(4) == 0 {
					in.SubnetID = small
				}
				if rng.IntN(2) == 0 {
					in.SecondaryCount = rng.IntN(14)
				} else {
					in.PrefixCount = rng.IntN(4)
				}
				_, err = c.CreateENI(ctx, in)
			case 4, 5:
				_, err = c.Attach(ctx, AttachInput{ENI: e.ID, Instance: i.ID, DeviceIndex: rng.IntN(4)})
			case 6:
				in := AssignInput{ENI: e.ID, Reassignment: rng.IntN(2) == 0}
				switch rng.IntN(4) {
				case 0:
					in.Count = 1 + rng.IntN(8)
				case 1:
					in.PrefixCount = 1 + rng.IntN(3)
				case 2:
					if other := pickENI(); other != nil {
						in.Addresses = []netip.Addr{other.Addresses[rng.IntN(len(other.Addresses))].IP}
					}
				default:
					c.Read(func(m *Model) {
						s := m.Subnets[e.SubnetID]
						in.Prefixes = []netip.Prefix{netip.PrefixFrom(s.at(16*rng.IntN(s.size()/16)), 28)}
					})
				}
				_, err = c.Assign(ctx, in)
			case 7:
				var addresses []netip.Addr
				if len(e.Addresses) > 1 {
					addresses = []netip.Addr{e.Addresses[1+rng.IntN(len(e.Addresses)-1)].IP}
				}
				err = c.Unassign(ctx, e.ID, addresses, e.Prefixes)
			case 8:
				if e.Attachment != nil {
					err = c.Detach(ctx, e.Attachment.ID, rng.IntN(2) == 0)
				}
			case 9:
				err = c.DeleteENI(ctx, e.ID)
			default:
				clk.advance(time.Duration(rng.IntN(1500)) * time.Millisecond)
			}
			if err == nil {
				succeeded[op]++
			}
			if step%10 == 0 {
				c.Read(func(m *Model) { checkInvariants(t, m) })
			}
		}
		c.Read(func(m *Model) { checkInvariants(t, m) })
		for op := range 11 {
			if succeeded[op] == 0 {
				t.Errorf("seed %d: operation %d never succeeded: the test proves nothing about it", seed, op)
			}
		}
	}
}
