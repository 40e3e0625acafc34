package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
)

// ReleaseUntil is the annotation of the ClusterNetwork that `weft-operator release` sets: until that time
// nothing is assigned and nothing collected, so that what is given back stays so. It ends by itself, in case
// the release is killed.
const ReleaseUntil = "weft.dev/release-until"

// releasing: addresses are being given back.
func releasing(ctx context.Context, c client.Reader, now time.Time) (bool, error) {
	var cn v1alpha1.ClusterNetwork
	if err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	until, err := time.Parse(time.RFC3339, cn.Annotations[ReleaseUntil])
	return err == nil && now.Before(until), nil
}

// optional are the actions without which a feature is off, and which.
var optional = map[string]string{
	ec2.ActionDescribeRouteTables: "new interfaces go only into the subnet of the node's primary one, what pods send to the world leaves by the primary one, and what they send to peered networks is masqueraded",
	ec2.ActionUnassignAddresses:   "addresses of a node's primary interface aren't given back to EC2 before the node ends",
	ec2.ActionDetachInterface:     "interfaces aren't given back to EC2 by weft uninstall",
	ec2.ActionDeleteInterface:     "leaked interfaces aren't deleted",
}

// Surroundings keeps the ClusterNetwork: facts of the VPC, the control plane's addresses, what the role may
// not do.
type Surroundings struct {
	Client  client.Client
	EC2     ec2.API
	Facts   *Facts
	Cluster string
	Region  string
	Log     *slog.Logger
	Now     func() time.Time

	Interval time.Duration

	// absent counts reads in a row in which the control plane's ENIs were fewer than before.
	absent int
	// probed is when the permissions were asked for.
	probed time.Time
}

// probeInterval is how often permissions are asked for: each denied question is a line in the account's
// audit log.
const probeInterval = 5 * time.Minute

// Start keeps it until ctx ends.
func (s *Surroundings) Start(ctx context.Context) error {
	for {
		wait := s.Interval
		done, err := s.Sync(ctx)
		if err != nil {
			s.Log.Warn("the cluster's surroundings could not be read", "error", err)
		}
		if !done {
			wait = min(wait, 2*time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Surroundings) NeedLeaderElection() bool { return true }

// Sync reads the facts once. done is false while no node says in which VPC the cluster is.
func (s *Surroundings) Sync(ctx context.Context) (done bool, err error) {
	cn, err := s.ensure(ctx)
	if err != nil {
		return false, err
	}
	status := *cn.Status.DeepCopy()
	status.Region = s.Region
	reading := s.read(ctx, &status)
	if reading != nil {
		if errors.Is(reading, errNoNode) {
			return false, nil
		}
		if status.StaleSince == nil {
			now := metav1.NewTime(s.Now().Truncate(time.Second))
			status.StaleSince = &now
		}
	} else {
		status.StaleSince = nil
	}
	s.judge(ctx, &status, cn, reading)
	if equality.Semantic.DeepEqual(cn.Status, status) {
		return reading == nil, reading
	}
	if err := applyFacts(ctx, s.Client, status); err != nil {
		return false, fmt.Errorf("ClusterNetwork: %w", err)
	}
	return reading == nil, reading
}

func (s *Surroundings) ensure(ctx context.Context) (*v1alpha1.ClusterNetwork, error) {
	var cn v1alpha1.ClusterNetwork
	err := s.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn)
	if !apierrors.IsNotFound(err) {
		return &cn, err
	}
	cn = v1alpha1.ClusterNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterNetworkName},
		Spec:       v1alpha1.ClusterNetworkSpec{ClusterName: s.Cluster},
	}
	if err := s.Client.Create(ctx, &cn, client.FieldOwner(fieldManager)); err != nil {
		return nil, fmt.Errorf("ClusterNetwork: %w", err)
	}
	return &cn, nil
}

var errNoNode = errors.New("no node of the cluster is an EC2 instance that EC2 knows, yet")

// read fills in what is found; what can't be read stays as it was.
func (s *Surroundings) read(ctx context.Context, status *v1alpha1.ClusterNetworkStatus) error {
	id, err := s.vpc(ctx)
	if err != nil {
		return err
	}
	vpc, err := s.Facts.VPC(ctx, id, s.Interval/2)
	if err != nil {
		return err
	}
	control, err := s.EC2.DescribeInterfaces(ctx, ec2.InterfaceQuery{VPCID: id, Description: ec2.ControlPlaneDescription(s.Cluster)})
	if err != nil {
		return err
	}
	status.VPCID = id
	status.VPCCIDRs = nil
	for _, p := range slices.SortedFunc(slices.Values(vpc.CIDRs), comparePrefix) {
		status.VPCCIDRs = append(status.VPCCIDRs, p.String())
	}
	if !vpc.RoutesDenied {
		status.Peers = nil
		for _, p := range vpc.Peers {
			status.Peers = append(status.Peers, p.String())
		}
	}
	status.Subnets = nil
	for _, b := range vpc.Subnets {
		status.Subnets = append(status.Subnets, v1alpha1.Subnet{
			ID: b.ID, CIDR: b.CIDR.String(), AvailabilityZone: b.Zone, DefaultRoute: v1alpha1.SubnetRoute(b.Route), FreeAddresses: int32(b.Free),
		})
	}
	slices.SortFunc(status.Subnets, func(a, b v1alpha1.Subnet) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	var addresses []string
	for _, e := range control {
		for _, a := range append([]netip.Addr{e.Primary}, e.Secondary...) {
			addresses = append(addresses, a.String())
		}
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	// An answer without what was there is believed when it is repeated.
	lost := slices.ContainsFunc(status.ControlPlane, func(a string) bool { return !slices.Contains(addresses, a) })
	if s.absent++; !lost {
		s.absent = 0
	}
	if lost && s.absent < 2 {
		addresses = append(addresses, status.ControlPlane...)
		slices.Sort(addresses)
		addresses = slices.Compact(addresses)
	}
	status.ControlPlane = addresses
	return nil
}

// vpc of the cluster is that of its nodes' instances.
func (s *Surroundings) vpc(ctx context.Context) (string, error) {
	ids, _, err := instanceIDs(ctx, s.Client)
	if err != nil {
		return "", err
	}
	if len(ids) == 0 {
		return "", errNoNode
	}
	slices.Sort(ids)
	instances, err := s.EC2.DescribeInstances(ctx, ids[:min(len(ids), 20)])
	if err != nil {
		return "", err
	}
	for _, i := range instances {
		if i.VPCID != "" && !i.Gone() {
			return i.VPCID, nil
		}
	}
	return "", errNoNode
}

// judge sets the conditions: one for each action that is denied, and one if the cluster was installed under
// another name.
func (s *Surroundings) judge(ctx context.Context, status *v1alpha1.ClusterNetworkStatus, cn *v1alpha1.ClusterNetwork, reading error) {
	set := func(kind string, bad bool, reason, message string) {
		if !bad {
			meta.RemoveStatusCondition(&status.Conditions, kind)
			return
		}
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message})
	}
	probe := s.Now().Sub(s.probed) >= probeInterval
	if probe {
		s.probed = s.Now()
	}
	for action, feature := range optional {
		var err error
		if action == ec2.ActionDescribeRouteTables {
			if status.VPCID == "" || reading != nil {
				continue
			}
			if vpc, _ := s.Facts.VPC(ctx, status.VPCID, s.Interval); vpc.RoutesDenied {
				err = ec2.ErrUnauthorized
			}
		} else if !probe {
			continue
		} else {
			err = s.EC2.Permitted(ctx, action)
		}
		if err != nil && !errors.Is(err, ec2.ErrUnauthorized) {
			continue // unknown: what was known stays
		}
		set(action, err != nil, "UnauthorizedOperation",
			fmt.Sprintf("ec2:%s: the role of the operator may not call it, so %s; add the action to the operator's IAM policy", action, feature))
	}
	set("ClusterName", cn.Spec.ClusterName != s.Cluster, "Changed",
		fmt.Sprintf("cluster.name is %q, but weft was installed as %q: identities and tags are made of it; set it back", s.Cluster, cn.Spec.ClusterName))
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
