package ipam

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// cloud applies plans as EC2 would and fails where EC2 would refuse.
type cloud struct {
	node Node
	next int
}

func (c *cloud) apply(a Action) error {
	free := func(id string) *Subnet {
		for i := range c.node.Subnets {
			if c.node.Subnets[i].ID == id {
				return &c.node.Subnets[i]
			}
		}
		return nil
	}
	slot := func(index int) error {
		n := 0
		for _, i := range c.node.Interfaces {
			if !i.Attached {
				continue
			}
			if n++; i.DeviceIndex == index {
				return fmt.Errorf("device index %d is taken", index)
			}
		}
		if n >= c.node.Limits.Interfaces {
			return fmt.Errorf("%d interfaces are attached, the limit is %d", n, c.node.Limits.Interfaces)
		}
		return nil
	}
	switch a.Kind {
	case Create:
		sub := free(a.SubnetID)
		if a.Addresses < 1 || sub == nil || sub.Free < a.Addresses+1 {
			return fmt.Errorf("create: %+v in %+v", a, sub)
		}
		if a.Addresses > c.node.Limits.Addresses-1 {
			return fmt.Errorf("create with %d addresses", a.Addresses)
		}
		if err := slot(a.DeviceIndex); err != nil {
			return err
		}
		if a.DeviceIndex < c.node.Watermarks.FirstInterfaceIndex || a.DeviceIndex == 0 {
			return fmt.Errorf("create at device index %d", a.DeviceIndex)
		}
		sub.Free -= a.Addresses + 1
		c.next++
		c.node.Interfaces = append(c.node.Interfaces, Interface{ID: fmt.Sprintf("eni-new%d", c.next), SubnetID: a.SubnetID,
			Attached: true, DeviceIndex: a.DeviceIndex, Usable: true, Available: a.Addresses, Occupied: a.Addresses})
		return nil
	}
	for k := range c.node.Interfaces {
		i := &c.node.Interfaces[k]
		if i.ID != a.InterfaceID {
			continue
		}
		if !i.Usable {
			return fmt.Errorf("%s an ENI that isn't ours", a.Kind)
		}
		if i.Closed && a.Kind == Assign {
			return fmt.Errorf("%s to an ENI that gets no more", a.Kind)
		}
		if a.Kind == Attach {
			if err := slot(a.DeviceIndex); err != nil {
				return err
			}
			i.Attached, i.DeviceIndex = true, a.DeviceIndex
			return nil
		}
		sub := free(i.SubnetID)
		if a.Addresses < 1 || sub.Free < a.Addresses || i.Occupied+a.Addresses > c.node.Limits.Addresses-1 {
			return fmt.Errorf("assign %d to %+v in %+v", a.Addresses, *i, *sub)
		}
		sub.Free -= a.Addresses
		i.Available += a.Addresses
		i.Occupied += a.Addresses
		return nil
	}
	return fmt.Errorf("unknown interface %s", a.InterfaceID)
}

func randomNode(r *rand.Rand) Node {
	routes := []string{"", "NATGateway", "InternetGateway"}
	n := Node{
		Limits: Limits{Interfaces: 1 + r.IntN(8), Addresses: 1 + r.IntN(30)},
		Watermarks: Watermarks{
			MinAllocate: r.IntN(20), PreAllocate: r.IntN(20), MaxAllocate: r.IntN(2) * r.IntN(60),
			MaxAboveWatermark: r.IntN(2) * r.IntN(20), FirstInterfaceIndex: r.IntN(3),
		},
	}
	for i := range 1 + r.IntN(5) {
		n.Subnets = append(n.Subnets, Subnet{ID: fmt.Sprintf("subnet-%d", i), Zone: "a", Route: routes[r.IntN(3)], Free: r.IntN(60)})
	}
	for i := range 1 + r.IntN(n.Limits.Interfaces) {
		usable := i >= n.Watermarks.FirstInterfaceIndex && r.IntN(4) > 0
		occupied := r.IntN(n.Limits.Addresses)
		available := 0
		if usable {
			available = r.IntN(occupied + 1)
		}
		n.Interfaces = append(n.Interfaces, Interface{ID: fmt.Sprintf("eni-%d", i), SubnetID: n.Subnets[r.IntN(len(n.Subnets))].ID,
			Attached: i == 0 || r.IntN(5) > 0, DeviceIndex: i, Usable: usable, Closed: i == 0 && r.IntN(4) == 0, Available: available, Occupied: occupied})
	}
	n.Used = r.IntN(n.Available() + 1)
	n.Demand = r.IntN(40)
	return n
}

// Every plan is one that EC2 accepts; carried out it leaves nothing more to do, and no excess that a next
// step would give back.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := cloud{node: randomNode(r)}
		before := c.node.Available()
		p := Compute(c.node)
		for _, a := range p.Actions {
			if err := c.apply(a); err != nil {
				t.Fatalf("seed %d: EC2 would refuse %+v: %v\n%+v", seed, a, err, c.node)
			}
		}
		gained := c.node.Available() - before
		if gained < p.Need-p.Shortfall {
			t.Fatalf("seed %d: needed %d, short of %d, got %d", seed, p.Need, p.Shortfall, gained)
		}
		if (p.Shortfall > 0) != (p.Reason != Satisfied) {
			t.Fatalf("seed %d: shortfall %d with reason %q", seed, p.Shortfall, p.Reason)
		}
		again := Compute(c.node)
		if len(again.Actions) > 0 {
			t.Fatalf("seed %d: doesn't converge: %+v then %+v\n%+v", seed, p.Actions, again.Actions, c.node)
		}
		if again.Need != p.Shortfall {
			t.Fatalf("seed %d: shortfall was to be %d, is %d", seed, p.Shortfall, again.Need)
		}
		// ENIs that waited bring all their addresses: only those may lead above the watermarks.
		attached := 0
		for _, a := range p.Actions {
			if a.Kind == Attach {
				attached++
			}
		}
		if p.Need > 0 && attached == 0 {
			if x := excess(c.node.Watermarks, c.node.Available(), c.node.Used, c.node.Demand); x > 0 && before+p.Need-p.Shortfall < c.node.Available()-c.node.Watermarks.MaxAboveWatermark {
				t.Fatalf("seed %d: %d too many: would be given back and fetched again", seed, x)
			}
		}
		if p.Capacity < c.node.Available() && p.Capacity != c.node.Watermarks.MaxAllocate && attached == 0 {
			t.Fatalf("seed %d: capacity %d, but holds %d", seed, p.Capacity, c.node.Available())
		}
	}
}

// excess is how many of the available addresses are above every watermark.
func excess(w Watermarks, available, used, demand int) int {
	inUse := used + demand
	if inUse+w.PreAllocate <= w.MinAllocate {
		return max(available-w.MinAllocate-w.MaxAboveWatermark, 0)
	}
	return max(available-inUse-w.PreAllocate-w.MaxAboveWatermark, 0)
}

// Needing and giving back are never both true: else a node would fetch and return for ever.
func TestNoOscillation(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		w := Watermarks{MinAllocate: r.IntN(30), PreAllocate: r.IntN(30), MaxAllocate: r.IntN(2) * r.IntN(60), MaxAboveWatermark: r.IntN(2) * r.IntN(10)}
		available, used, demand := r.IntN(60), 0, r.IntN(20)
		if available > 0 {
			used = r.IntN(available)
		}
		need, above := Need(w, available, used, demand), excess(w, available, used, demand)
		if need > 0 && above > 0 {
			t.Fatalf("%+v available %d used %d demand %d: needs %d and could give %d", w, available, used, demand, need, above)
		}
		if above > available-used {
			t.Fatalf("%+v available %d used %d: %d to give back, more than are free", w, available, used, above)
		}
		if above > 0 && Need(w, available-above, used, demand) > 0 {
			t.Fatalf("%+v available %d used %d demand %d: after giving back %d it needs some", w, available, used, demand, above)
		}
	}
}
