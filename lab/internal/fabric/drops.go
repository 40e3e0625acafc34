package fabric

import (
	"cmp"
	"context"
	"slices"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// Kind says why a packet was dropped.
type Kind string

// The kinds of drops.
const (
	// KindMAC: the frame's source isn't the interface's MAC.
	KindMAC Kind = "mac"
	// KindSourceCheck: the packet's source isn't an address of the interface, whose source/destination check is on.
	KindSourceCheck Kind = "sourcecheck"
	// KindSecurityGroup: no rule of the interface's groups allows it; Out at the sender's, In at the receiver's.
	KindSecurityGroup Kind = "securitygroup"
	// KindGateway: the internet gateway has no public address for the source, or there is no NAT gateway.
	KindGateway Kind = "gateway"
	// KindUnassigned: the destination is in the VPC or link-local, and nobody has it.
	KindUnassigned Kind = "unassigned"
)

// Direction is a packet's as its interface sees it.
type Direction string

// The directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Drop counts what one interface lost to one cause since it was attached.
type Drop struct {
	ENI       string
	Kind      Kind
	Direction Direction
	Packets   uint64
	Bytes     uint64
}

// Drops reads the counters of the interfaces that are attached now, in a stable order.
func (f *Fabric) Drops(ctx context.Context) ([]Drop, error) {
	ns := VPCNamespace(f.lab)
	counters, err := firewall{namespace: ns, log: f.log}.counters(ctx)
	if err != nil {
		return nil, err
	}
	h, err := netns.Netlink(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := listENIs(h)
	if err != nil {
		return nil, err
	}
	var drops []Drop
	for kind, byDirection := range dropSets {
		for direction, set := range byDirection {
			for _, l := range links {
				if c, ok := counters[set][l.name]; ok {
					drops = append(drops, Drop{ENI: l.tag.eni, Kind: kind, Direction: direction, Packets: c.Packets, Bytes: c.Bytes})
				}
			}
		}
	}
	slices.SortFunc(drops, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(a.ENI, b.ENI), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Direction, b.Direction))
	})
	return drops, nil
}
