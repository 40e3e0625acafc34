package operator

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/ec2"
)

// VPC is what is known of a VPC.
type VPC struct {
	ID      string
	CIDRs   []netip.Prefix
	Subnets []VPCSubnet
	// Peers are blocks beyond peerings and transit gateways.
	Peers []netip.Prefix
	// RoutesDenied: the role may not read route tables, so no default route and no peer is known.
	RoutesDenied bool
	ReadAt       time.Time
}

// VPCSubnet is a subnet and what its default route leads to.
type VPCSubnet struct {
	ec2.Subnet
	Route ec2.DefaultRoute
}

// Facts of VPCs, as they last were known to be good.
type Facts struct {
	api ec2.API
	now func() time.Time

	reading sync.Mutex // one reader at a time, so that a hundred new nodes cause one describe
	mu      sync.Mutex
	vpcs    map[string]VPC
	full    map[string]time.Time // subnets that EC2 said are full, and until when that counts
}

// NewFacts knows nothing.
func NewFacts(api ec2.API, now func() time.Time) *Facts {
	return &Facts{api: api, now: now, vpcs: map[string]VPC{}, full: map[string]time.Time{}}
}

// errImplausible: an empty list where there must be something.
var errImplausible = errors.New("EC2 described a VPC without a block or without subnets")

// VPC returns what is known, read anew if it is older than maxAge. With an error, what was known before is
// returned too.
func (f *Facts) VPC(ctx context.Context, id string, maxAge time.Duration) (VPC, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	f.mu.Lock()
	known, ok := f.vpcs[id]
	f.mu.Unlock()
	if ok && f.now().Sub(known.ReadAt) < maxAge {
		return f.adjusted(known), nil
	}
	read, err := f.read(ctx, id)
	if err != nil {
		return f.adjusted(known), err
	}
	f.mu.Lock()
	f.vpcs[id] = read
	f.mu.Unlock()
	return f.adjusted(read), nil
}

func (f *Facts) read(ctx context.Context, id string) (VPC, error) {
	out := VPC{ID: id, ReadAt: f.now()}
	var err error
	if out.CIDRs, err = f.api.DescribeVPC(ctx, id); err != nil {
		return VPC{}, err
	}
	subnets, err := f.api.DescribeSubnets(ctx, id)
	if err != nil {
		return VPC{}, err
	}
	if len(out.CIDRs) == 0 || len(subnets) == 0 {
		return VPC{}, errImplausible
	}
	tables, err := f.api.DescribeRouteTables(ctx, id)
	switch {
	case errors.Is(err, ec2.ErrUnauthorized):
		out.RoutesDenied = true
	case err != nil:
		return VPC{}, err
	}
	out.Peers = ec2.Peers(tables)
	for _, s := range subnets {
		out.Subnets = append(out.Subnets, VPCSubnet{Subnet: s, Route: ec2.RouteOf(s.ID, tables)})
	}
	return out, nil
}

// Full notes that EC2 found no address in a subnet, whatever its count says.
func (f *Facts) Full(subnetID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full[subnetID] = f.now().Add(time.Minute)
}

// Took notes that n addresses of a subnet were taken since it was described.
func (f *Facts) Took(vpcID, subnetID string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.vpcs[vpcID]
	for i := range v.Subnets {
		if v.Subnets[i].ID == subnetID {
			v.Subnets[i].Free = max(v.Subnets[i].Free-n, 0)
		}
	}
}

func (f *Facts) adjusted(v VPC) VPC {
	f.mu.Lock()
	defer f.mu.Unlock()
	v.Subnets = append([]VPCSubnet(nil), v.Subnets...)
	for i := range v.Subnets {
		if f.now().Before(f.full[v.Subnets[i].ID]) {
			v.Subnets[i].Free = 0
		}
	}
	return v
}
