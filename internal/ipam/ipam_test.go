package ipam

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeed(t *testing.T) {
	for _, c := range []struct {
		name                    string
		w                       Watermarks
		available, used, demand int
		want                    int
	}{
		{"fresh node", Watermarks{PreAllocate: 8}, 0, 0, 0, 8},
		{"warm", Watermarks{PreAllocate: 8}, 8, 0, 0, 0},
		{"one used", Watermarks{PreAllocate: 8}, 8, 1, 0, 1},
		{"above the watermark", Watermarks{PreAllocate: 8}, 14, 3, 0, 0},
		{"minimum wins", Watermarks{PreAllocate: 8, MinAllocate: 20}, 0, 0, 0, 20},
		{"minimum reached", Watermarks{PreAllocate: 8, MinAllocate: 20}, 20, 12, 0, 0},
		{"minimum reached, reserve gone", Watermarks{PreAllocate: 8, MinAllocate: 20}, 20, 13, 0, 1},
		{"capped", Watermarks{PreAllocate: 8, MaxAllocate: 10}, 6, 6, 0, 4},
		{"at the cap", Watermarks{PreAllocate: 8, MaxAllocate: 10}, 10, 10, 5, 0},
		{"above the cap", Watermarks{PreAllocate: 8, MaxAllocate: 10}, 12, 12, 0, 0},
		{"waiting pods come on top of the reserve", Watermarks{PreAllocate: 8}, 8, 0, 110, 110},
		{"no reserve, only demand", Watermarks{}, 0, 0, 3, 3},
	} {
		if got := Need(c.w, c.available, c.used, c.demand); got != c.want {
			t.Errorf("%s: need %d, want %d", c.name, got, c.want)
		}
	}
}

func TestReleasable(t *testing.T) {
	assigned := []Lease{{"10.0.0.1", 1}, {"10.0.0.2", 2}, {"10.0.0.3", 3}, {"10.0.0.4", 4}}
	fenced := []Lease{{"10.0.0.1", 1}, {"10.0.0.2", 1}, {"10.0.0.3", 3}, {"10.0.0.9", 9}}
	used := []Lease{{"10.0.0.3", 2}}
	want := []Lease{{"10.0.0.1", 1}}
	if diff := cmp.Diff(want, Releasable(assigned, fenced, used)); diff != "" {
		t.Errorf("an old fence, or one under a live endpoint, released something (-want +got):\n%s", diff)
	}
	if got := Releasable(assigned, nil, nil); got != nil {
		t.Errorf("without a fence %v was released", got)
	}
}

var (
	large    = Limits{Interfaces: 3, Addresses: 10} // m5.large
	standard = Watermarks{PreAllocate: 8}
	subnets  = []Subnet{
		{ID: "subnet-a", Zone: "a", Route: "NATGateway", Free: 250},
		{ID: "subnet-a2", Zone: "a", Route: "NATGateway", Free: 4000},
		{ID: "subnet-a3", Zone: "a", Route: "NATGateway", Free: 9},
		{ID: "subnet-apub", Zone: "a", Route: "InternetGateway", Free: 8000},
		{ID: "subnet-aunknown", Zone: "a", Free: 8000},
		{ID: "subnet-b", Zone: "b", Route: "NATGateway", Free: 8000},
	}
)

func primary(available int) Interface {
	return Interface{ID: "eni-0", SubnetID: "subnet-a", Attached: true, Usable: true, Available: available, Occupied: available}
}

func withFree(id string, free int) []Subnet {
	out := append([]Subnet(nil), subnets...)
	for i := range out {
		if out[i].ID == id {
			out[i].Free = free
		}
	}
	return out
}

func TestCompute(t *testing.T) {
	foreign := func(index int) Interface {
		return Interface{ID: "eni-f", SubnetID: "subnet-a", Attached: true, DeviceIndex: index}
	}
	for _, c := range []struct {
		name      string
		n         Node
		actions   []Action
		shortfall int
		reason    Reason
		capacity  int
	}{
		{
			name:     "a fresh node fills its primary ENI first",
			n:        Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(0)}, Subnets: subnets},
			actions:  []Action{{Kind: Assign, InterfaceID: "eni-0", SubnetID: "subnet-a", Addresses: 8}},
			capacity: 27,
		},
		{
			name: "a closed primary ENI keeps what it has and gets no more",
			n: Node{Limits: large, Watermarks: standard, Interfaces: []Interface{
				{ID: "eni-0", SubnetID: "subnet-a", Attached: true, Usable: true, Closed: true, Available: 2, Occupied: 5},
			}, Subnets: subnets},
			actions:  []Action{{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 6}},
			capacity: 20,
		},
		{
			name: "what doesn't fit goes on a new ENI, made with all its addresses",
			n:    Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(8)}, Used: 6, Demand: 4, Subnets: subnets},
			actions: []Action{
				{Kind: Assign, InterfaceID: "eni-0", SubnetID: "subnet-a", Addresses: 1},
				{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 9},
			},
			capacity: 27,
		},
		{
			name: "110 pods on a fresh m5.xlarge",
			n:    Node{Limits: Limits{4, 15}, Watermarks: standard, Interfaces: []Interface{primary(0)}, Demand: 110, Subnets: subnets},
			actions: []Action{
				{Kind: Assign, InterfaceID: "eni-0", SubnetID: "subnet-a", Addresses: 14},
				{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 14},
				{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 2, Addresses: 14},
				{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 3, Addresses: 14},
			},
			shortfall: 62, reason: InstanceLimit, capacity: 56,
		},
		{
			name: "first interface index 1 leaves the primary alone",
			n: Node{Limits: large, Watermarks: Watermarks{PreAllocate: 8, FirstInterfaceIndex: 1},
				Interfaces: []Interface{{ID: "eni-0", SubnetID: "subnet-a", Attached: true}}, Subnets: subnets},
			actions:  []Action{{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 8}},
			capacity: 18,
		},
		{
			name: "other people's ENIs count",
			n:    Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(9), foreign(1)}, Used: 9, Subnets: subnets},
			actions: []Action{
				{Kind: Create, SubnetID: "subnet-a", DeviceIndex: 2, Addresses: 8},
			},
			capacity: 18,
		},
		{
			name: "an ENI that waits is attached before another is made",
			n: Node{Limits: large, Watermarks: standard, Used: 9, Subnets: subnets,
				Interfaces: []Interface{primary(9), {ID: "eni-1", SubnetID: "subnet-a", Usable: true, Available: 5, Occupied: 5}}},
			actions: []Action{
				{Kind: Attach, InterfaceID: "eni-1", SubnetID: "subnet-a", DeviceIndex: 1},
				{Kind: Assign, InterfaceID: "eni-1", SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 3},
			},
			capacity: 27,
		},
		{
			name: "full subnet: the biggest of the same zone and route",
			n:    Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(0)}, Subnets: withFree("subnet-a", 0)},
			actions: []Action{
				{Kind: Create, SubnetID: "subnet-a2", DeviceIndex: 1, Addresses: 8},
			},
			capacity: 27,
		},
		{
			name: "nowhere a free address",
			n: Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(0)},
				Subnets: []Subnet{{ID: "subnet-a", Zone: "a", Route: "NATGateway"}, {ID: "subnet-b", Zone: "b", Route: "NATGateway", Free: 8000}}},
			shortfall: 8, reason: SubnetFull, capacity: 27,
		},
		{
			name: "one address left is none for an ENI",
			n: Node{Limits: large, Watermarks: standard, Interfaces: []Interface{primary(9)}, Used: 9,
				Subnets: []Subnet{{ID: "subnet-a", Zone: "a", Route: "NATGateway", Free: 1}}},
			shortfall: 8, reason: SubnetFull, capacity: 27,
		},
		{
			name:      "a full instance",
			n:         Node{Limits: Limits{1, 10}, Watermarks: standard, Interfaces: []Interface{primary(9)}, Used: 9, Subnets: subnets},
			shortfall: 8, reason: InstanceLimit, capacity: 9,
		},
		{
			name: "surplus only where addresses are taken anyway",
			n: Node{Limits: large, Watermarks: Watermarks{PreAllocate: 4, MaxAboveWatermark: 20},
				Interfaces: []Interface{primary(4)}, Used: 1, Subnets: subnets},
			actions:  []Action{{Kind: Assign, InterfaceID: "eni-0", SubnetID: "subnet-a", Addresses: 5}},
			capacity: 27,
		},
		{
			name:      "no primary seen yet: nothing is made",
			n:         Node{Limits: large, Watermarks: standard, Subnets: subnets},
			shortfall: 8, reason: NoPrimary, capacity: 27,
		},
		{
			name:     "maximum",
			n:        Node{Limits: large, Watermarks: Watermarks{PreAllocate: 8, MaxAllocate: 10, MaxAboveWatermark: 9}, Interfaces: []Interface{primary(8)}, Used: 8, Subnets: subnets},
			actions:  []Action{{Kind: Assign, InterfaceID: "eni-0", SubnetID: "subnet-a", Addresses: 1}, {Kind: Create, SubnetID: "subnet-a", DeviceIndex: 1, Addresses: 1}},
			capacity: 10,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Compute(c.n)
			if diff := cmp.Diff(c.actions, p.Actions); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if p.Shortfall != c.shortfall || p.Reason != c.reason {
				t.Errorf("shortfall %d (%q), want %d (%q)", p.Shortfall, p.Reason, c.shortfall, c.reason)
			}
			if p.Capacity != c.capacity {
				t.Errorf("capacity %d, want %d", p.Capacity, c.capacity)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	got, refused := Candidates("subnet-a", subnets)
	if diff := cmp.Diff([]string{"subnet-a", "subnet-a2", "subnet-a3"}, got); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	want := []Refusal{
		{"subnet-apub", "its default route is InternetGateway, that of subnet-a is NATGateway"},
		{"subnet-aunknown", "it isn't known where its default route or that of subnet-a leads"},
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if got, _ := Candidates("subnet-aunknown", subnets); len(got) != 1 {
		t.Errorf("with an unknown default route only the node's own subnet will do, got %v", got)
	}
}
