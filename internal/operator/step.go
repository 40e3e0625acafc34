package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ipam"
)

// step is one call that changes EC2. Each is derived from what is found, so that whoever comes after a crash
// goes on where it ended.
type step struct {
	action    string
	eni       ec2.Interface
	subnet    string
	index     int
	addresses int
	release   []netip.Addr
}

// nextStep of an instance. What was begun is finished first: an ENI that stays behind when its instance ends
// is a leak, so the attribute that prevents it comes before anything new.
func nextStep(v View, plan ipam.Plan, nn *v1alpha1.NodeNetwork, deleteOnTermination bool, cluster string, skip map[string]bool) (step, bool) {
	byID := map[string]ec2.Interface{}
	for _, i := range v.Interfaces {
		byID[i.ID] = i
		if !skip[ec2.ActionModifyInterface] && i.Attachment != nil && i.Attachment.ID != "" && i.Managed(cluster) && i.Attachment.Status == ec2.AttachmentAttached && i.Attachment.DeleteOnTermination != deleteOnTermination {
			return step{action: ec2.ActionModifyInterface, eni: i}, true
		}
	}
	for _, a := range plan.Actions {
		switch a.Kind {
		case ipam.Attach:
			return step{action: ec2.ActionAttachInterface, eni: byID[a.InterfaceID], index: a.DeviceIndex}, true
		case ipam.Assign:
			return step{action: ec2.ActionAssignAddresses, eni: byID[a.InterfaceID], addresses: a.Addresses}, true
		case ipam.Create:
			return step{action: ec2.ActionCreateInterface, subnet: a.SubnetID, index: a.DeviceIndex, addresses: a.Addresses}, true
		}
	}
	if skip[ec2.ActionUnassignAddresses] {
		return step{}, false
	}
	given := map[string]bool{}
	for _, l := range releasable(nn) {
		given[l.Address] = true
	}
	for _, i := range v.Interfaces {
		var release []netip.Addr
		for _, a := range i.Secondary {
			if given[a.String()] {
				release = append(release, a)
			}
		}
		if len(release) > 0 {
			return step{action: ec2.ActionUnassignAddresses, eni: i, release: release}, true
		}
	}
	return step{}, false
}

// carryOut makes the call and notes what it changed. After a failure the view of the instance is in doubt.
func (r *Nodes) carryOut(ctx context.Context, node *corev1.Node, nn *v1alpha1.NodeNetwork, v View, s step) error {
	err := r.call(ctx, node, nn, v, s)
	if err == nil {
		r.Log.Info("EC2 changed", "node", node.Name, "instance", v.Instance.ID, "action", s.action, "interface", s.eni.ID, "addresses", s.addresses)
		return nil
	}
	r.Inventory.Doubt(v.Instance.ID)
	switch {
	case errors.Is(err, ec2.ErrSubnetFull):
		// Another subnet may do: the next round plans without this one.
		subnet := s.subnet
		if subnet == "" {
			subnet = s.eni.SubnetID
		}
		r.Facts.Full(subnet)
		r.Log.Info("subnet is full", "subnet", subnet, "node", node.Name)
		return nil
	case errors.Is(err, ec2.ErrLimit) && s.action == ec2.ActionAttachInterface:
		// Others attach ENIs too.
		r.Inventory.Limit(v.Instance.ID, attachedCount(v))
	}
	return err
}

func (r *Nodes) call(ctx context.Context, node *corev1.Node, nn *v1alpha1.NodeNetwork, v View, s step) error {
	id := v.Instance.ID
	switch s.action {
	case ec2.ActionCreateInterface:
		e, err := r.EC2.CreateInterface(ctx, ec2.CreateInterface{
			SubnetID: s.subnet, Groups: groups(v), Description: ec2.Description(id), Addresses: s.addresses,
			Tags: r.tags(node.Name, id),
			// The NodeNetwork's UID: generations begin anew with another install on the same nodes, and EC2
			// still knows the tokens of the first, whose ENIs are gone.
			Token: ec2.ClientToken(string(node.UID)+"/"+string(nn.UID), s.index, nn.Spec.Generation<<16|v.Epoch),
		})
		if err != nil {
			return err
		}
		if len(e.Tags) == 0 {
			e.Tags = r.tags(node.Name, id)
		}
		r.Inventory.Created(id, e)
		r.Facts.Took(v.Instance.VPCID, s.subnet, s.addresses+1)
		return nil
	case ec2.ActionAttachInterface:
		attachment, err := r.EC2.AttachInterface(ctx, s.eni.ID, id, s.index)
		if err != nil {
			return err
		}
		r.Inventory.Attached(id, s.eni.ID, ec2.Attachment{ID: attachment, InstanceID: id, DeviceIndex: s.index, Status: ec2.AttachmentAttaching})
		return nil
	case ec2.ActionModifyInterface:
		on := r.Config.ENI.DeleteOnTermination
		if err := r.EC2.SetDeleteOnTermination(ctx, s.eni.ID, s.eni.Attachment.ID, on); err != nil {
			return err
		}
		r.Inventory.DeletedOnTermination(id, s.eni.ID, on)
		return nil
	case ec2.ActionAssignAddresses:
		added, err := r.EC2.AssignAddresses(ctx, s.eni.ID, s.addresses)
		if err != nil {
			return err
		}
		r.Inventory.Assigned(id, s.eni.ID, added)
		r.Facts.Took(v.Instance.VPCID, s.eni.SubnetID, len(added))
		return nil
	case ec2.ActionUnassignAddresses:
		if err := r.EC2.UnassignAddresses(ctx, s.eni.ID, s.release); err != nil {
			return err
		}
		r.Inventory.Unassigned(id, s.eni.ID, s.release)
		return nil
	}
	return fmt.Errorf("step %q is not known", s.action)
}

func (r *Nodes) tags(node, instanceID string) map[string]string {
	out := maps.Clone(r.Config.ENI.Tags)
	if out == nil {
		out = map[string]string{}
	}
	out[ec2.TagManaged], out[ec2.TagCluster], out[ec2.TagNode], out[ec2.TagInstance] = "true", r.Cluster, node, instanceID
	// The AWS VPC CNI leaves such an ENI alone, also if it comes to the node later.
	out[ec2.TagNoManage] = "true"
	return out
}

// groups of a new ENI are those of the primary one.
func groups(v View) []string {
	for _, i := range v.Interfaces {
		if i.Attachment != nil && i.Attachment.DeviceIndex == 0 && i.Attachment.CardIndex == 0 {
			return i.Groups
		}
	}
	return nil
}

func attachedCount(v View) int {
	n := 0
	for _, i := range v.Interfaces {
		if i.Attachment != nil {
			n++
		}
	}
	return n
}
