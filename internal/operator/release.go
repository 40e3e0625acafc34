package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
)

// Release gives back to EC2 what weft took: for uninstalling.
type Release struct {
	Client  client.Client
	EC2     ec2.API
	Cluster string
	Out     io.Writer
	Timeout time.Duration
	// Settle is how long a change that a running operator just made may take to show.
	Settle, Poll time.Duration
	Now          func() time.Time
}

// Run prints a line for each thing that was given back, or why not, and returns how many were not.
func (r *Release) Run(ctx context.Context) (left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if err := r.pause(ctx); err != nil {
		return 0, err
	}
	if err := r.sleep(ctx, r.Settle); err != nil {
		return 0, err
	}
	left, err = r.interfaces(ctx)
	if err != nil {
		return left, err
	}
	n, err := r.primaries(ctx)
	return left + n, err
}

// pause keeps a running operator from making anew what is given back.
func (r *Release) pause(ctx context.Context) error {
	var cn v1alpha1.ClusterNetwork
	err := r.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ClusterNetwork: %w", err)
	}
	before := cn.DeepCopy()
	if cn.Annotations == nil {
		cn.Annotations = map[string]string{}
	}
	cn.Annotations[ReleaseUntil] = r.Now().Add(r.Timeout + 2*time.Minute).UTC().Format(time.RFC3339)
	if err := r.Client.Patch(ctx, &cn, client.MergeFrom(before), client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("ClusterNetwork: %w", err)
	}
	return nil
}

// interfaces detaches and deletes every ENI that weft made for the cluster.
func (r *Release) interfaces(ctx context.Context) (left int, err error) {
	query := ec2.InterfaceQuery{Tags: map[string]string{ec2.TagManaged: "true", ec2.TagCluster: r.Cluster}}
	failed := map[string]error{}
	seen := map[string]ec2.Interface{}
	gone := map[string]bool{}
	for {
		found, err := r.EC2.DescribeInterfaces(ctx, query)
		if err != nil {
			return 0, err
		}
		open := 0
		for _, e := range found {
			if !e.Managed(r.Cluster) || gone[e.ID] {
				continue
			}
			seen[e.ID] = e
			if failed[e.ID] != nil {
				continue
			}
			done, err := r.one(ctx, e)
			switch {
			case err != nil:
				failed[e.ID] = err
			case done:
				gone[e.ID] = true
				fmt.Fprintf(r.Out, "deleted %s of node %s with %d addresses\n", e.ID, e.Tags[ec2.TagNode], 1+len(e.Secondary))
			default:
				open++
			}
		}
		if open == 0 {
			break
		}
		if err := r.sleep(ctx, r.Poll); err != nil {
			break // what is open is reported below
		}
	}
	for id, e := range seen {
		if gone[id] {
			continue
		}
		left++
		reason := failed[id]
		if reason == nil {
			reason = fmt.Errorf("it was still being detached when the time was up")
		}
		fmt.Fprintf(r.Out, "not given back: %s of node %s: %v\n", id, e.Tags[ec2.TagNode], reason)
	}
	return left, nil
}

// one brings an ENI a step further. done: it is deleted.
func (r *Release) one(ctx context.Context, e ec2.Interface) (done bool, err error) {
	if a := e.Attachment; a != nil {
		if a.Status != ec2.AttachmentAttached && a.Status != ec2.AttachmentAttaching {
			return false, nil
		}
		err := r.EC2.DetachInterface(ctx, a.ID, false)
		if errors.Is(err, ec2.ErrConflict) || errors.Is(err, ec2.ErrNotFound) {
			err = nil // on its way already
		}
		return false, err
	}
	err = r.EC2.DeleteInterface(ctx, e.ID)
	switch {
	case err == nil, errors.Is(err, ec2.ErrNotFound):
		return true, nil
	case errors.Is(err, ec2.ErrInUse):
		return false, nil
	}
	return false, err
}

// primaries unassigns the addresses that nodes hold on the ENIs that came with their instances.
func (r *Release) primaries(ctx context.Context) (left int, err error) {
	var list v1alpha1.NodeNetworkList
	if err := r.Client.List(ctx, &list); err != nil {
		if meta.IsNoMatchError(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("NodeNetworks: %w", err)
	}
	for i := range list.Items {
		nn := &list.Items[i]
		for _, e := range nn.Spec.Interfaces {
			if e.DeviceIndex != 0 || !e.Managed || len(e.Addresses) == 0 {
				continue
			}
			n, err := r.primary(ctx, e)
			switch {
			case err != nil:
				left++
				fmt.Fprintf(r.Out, "not given back: %d addresses of %s of node %s: %v; they go when the instance ends\n", n, e.ID, nn.Name, err)
			case n > 0:
				fmt.Fprintf(r.Out, "unassigned %d addresses of %s of node %s\n", n, e.ID, nn.Name)
			}
		}
	}
	return left, nil
}

func (r *Release) primary(ctx context.Context, e v1alpha1.Interface) (int, error) {
	found, err := r.EC2.DescribeInterfaces(ctx, ec2.InterfaceQuery{IDs: []string{e.ID}})
	if err != nil {
		return len(e.Addresses), err
	}
	ours := map[string]bool{}
	for _, a := range e.Addresses {
		ours[a.Address] = true
	}
	var give []netip.Addr
	for _, f := range found {
		for _, a := range f.Secondary {
			if ours[a.String()] {
				give = append(give, a)
			}
		}
	}
	if len(give) == 0 {
		return 0, nil
	}
	return len(give), r.EC2.UnassignAddresses(ctx, e.ID, give)
}

func (r *Release) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
