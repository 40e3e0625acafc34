package operator

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ipam"
)

// usable: endpoints get the ENI's secondary addresses. The primary ENI comes with the instance, every other
// has to be one that weft made.
func usable(i ec2.Interface, cluster string, first int) bool {
	if i.Attachment == nil {
		return i.Managed(cluster)
	}
	if i.Attachment.CardIndex != 0 || i.Attachment.DeviceIndex < first {
		return false
	}
	return i.Attachment.DeviceIndex == 0 || i.Managed(cluster)
}

// buildSpec computes what the node's agent is told. An address keeps its generation as long as it stays on
// its ENI; each new one gets the next.
func buildSpec(old v1alpha1.NodeNetworkSpec, v View, t ec2.InstanceType, vpc VPC, o others, cluster string, first int) v1alpha1.NodeNetworkSpec {
	spec := v1alpha1.NodeNetworkSpec{
		Families: []v1alpha1.Family{v1alpha1.IPv4}, InstanceID: v.Instance.ID, InstanceType: v.Instance.Type,
		AvailabilityZone: v.Instance.Zone, VPCID: v.Instance.VPCID,
		MaxInterfaces: int32(t.Interfaces), MaxAddressesPerInterface: int32(t.AddressesPerInterface),
		Generation: old.Generation,
	}
	type place struct{ eni, address string }
	had := map[place]v1alpha1.Address{}
	told := map[string]*v1alpha1.Interface{}
	if old.InstanceID == v.Instance.ID {
		for _, i := range old.Interfaces {
			if i.Managed {
				told[i.ID] = &i
			}
			for _, a := range i.Addresses {
				had[place{i.ID, a.Address}] = a
			}
		}
	}
	for _, i := range v.Interfaces {
		if i.Attachment == nil || i.Attachment.Status != ec2.AttachmentAttached {
			continue
		}
		out := v1alpha1.Interface{
			ID: i.ID, MAC: i.MAC, DeviceIndex: int32(i.Attachment.DeviceIndex), SubnetID: i.SubnetID, SubnetCIDR: subnetCIDR(vpc, i.SubnetID),
			PrimaryAddress: i.Primary.String(), SecurityGroups: slices.Sorted(slices.Values(i.Groups)), Managed: usable(i, cluster, first),
		}
		if out.SubnetCIDR == "" {
			// A subnet that was just made: told once it is described.
			continue
		}
		if out.Managed {
			own := slices.SortedFunc(slices.Values(i.Secondary), netip.Addr.Compare)
			if i.Attachment.DeviceIndex == 0 {
				// Every other ENI of weft's is weft's alone.
				var foreign []netip.Addr
				own, foreign = claim(i.Secondary, told[i.ID], o)
				for _, a := range foreign {
					out.Foreign = append(out.Foreign, a.String())
				}
			}
			for _, a := range own {
				address, ok := had[place{i.ID, a.String()}]
				if !ok {
					spec.Generation++
					address = v1alpha1.Address{Address: a.String(), Generation: spec.Generation}
				}
				out.Addresses = append(out.Addresses, address)
			}
		}
		spec.Interfaces = append(spec.Interfaces, out)
	}
	slices.SortFunc(spec.Interfaces, func(a, b v1alpha1.Interface) int {
		return cmp.Or(cmp.Compare(a.DeviceIndex, b.DeviceIndex), cmp.Compare(a.ID, b.ID))
	})
	return spec
}

func subnetCIDR(vpc VPC, id string) string {
	for _, s := range vpc.Subnets {
		if s.ID == id {
			return s.CIDR.String()
		}
	}
	return ""
}

// ipamNode is the input of the plan for a node whose spec is written. Addresses that its agent gave up, and
// another CNI's, count against the limits only.
func ipamNode(v View, t ec2.InstanceType, vpc VPC, o others, w ipam.Watermarks, cluster string, nn *v1alpha1.NodeNetwork, demand int) ipam.Node {
	n := ipam.Node{
		Limits:     ipam.Limits{Interfaces: t.Interfaces, Addresses: t.AddressesPerInterface},
		Watermarks: w, Used: int(nn.Status.Used + nn.Status.Resting), Demand: demand,
	}
	if v.InterfaceLimit > 0 {
		n.Limits.Interfaces = min(n.Limits.Interfaces, v.InterfaceLimit)
	}
	fenced := map[string]bool{}
	for _, l := range releasable(nn) {
		fenced[l.Address] = true
	}
	foreign := foreignOf(nn.Spec)
	for _, i := range v.Interfaces {
		e := ipam.Interface{
			ID: i.ID, SubnetID: i.SubnetID, Attached: i.Attachment != nil, Usable: usable(i, cluster, w.FirstInterfaceIndex),
			Occupied: len(i.Secondary) + len(i.Prefixes),
		}
		if i.Attachment != nil {
			if i.Attachment.CardIndex != 0 {
				continue
			}
			e.DeviceIndex = i.Attachment.DeviceIndex
			// What weft assigned there now, the other CNI would take for its own.
			e.Closed = e.DeviceIndex == 0 && o.cni == active
			if i.Attachment.Status == ec2.AttachmentDetaching {
				e.Usable = false
			}
		}
		if e.Usable {
			for _, a := range i.Secondary {
				if !fenced[a.String()] && !foreign[a.String()] {
					e.Available++
				}
			}
		}
		n.Interfaces = append(n.Interfaces, e)
	}
	for _, s := range vpc.Subnets {
		route := string(s.Route)
		if s.Route == ec2.Unknown {
			route = ""
		}
		n.Subnets = append(n.Subnets, ipam.Subnet{ID: s.ID, Zone: s.Zone, Route: route, Free: s.Free})
	}
	return n
}

// foreignOf are the addresses of another CNI that the agent is told of.
func foreignOf(spec v1alpha1.NodeNetworkSpec) map[string]bool {
	out := map[string]bool{}
	for _, i := range spec.Interfaces {
		for _, a := range i.Foreign {
			out[a] = true
		}
	}
	return out
}

// releasable are the addresses that may be taken from the node.
func releasable(nn *v1alpha1.NodeNetwork) []ipam.Lease {
	var assigned, fenced, used []ipam.Lease
	for _, i := range nn.Spec.Interfaces {
		for _, a := range i.Addresses {
			assigned = append(assigned, ipam.Lease{Address: a.Address, Generation: a.Generation})
		}
	}
	for _, a := range nn.Status.Fenced {
		fenced = append(fenced, ipam.Lease{Address: a.Address, Generation: a.Generation})
	}
	for _, a := range nn.Status.UsedAddresses {
		used = append(used, ipam.Lease{Address: a.Address, Generation: a.Generation})
	}
	return ipam.Releasable(assigned, fenced, used)
}

// demand counts the endpoints of a node that have no address: those that wait in its agent, or the pods
// bound to it that have none yet, whichever are more: the two are mostly the same pods.
func demand(nn *v1alpha1.NodeNetwork, pods []podRef) int {
	served := map[string]bool{}
	for _, u := range nn.Status.UsedAddresses {
		served[u.Pod] = true
	}
	pending := 0
	for _, p := range pods {
		if p.pending && !served[p.name] {
			pending++
		}
	}
	return max(pending, int(nn.Status.Waiting))
}
