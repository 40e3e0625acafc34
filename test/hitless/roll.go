package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/test/rig"
)

// The service whose backends are replaced.
var serviceAt = netip.MustParseAddrPort("172.20.0.10:7171")

const rolled = "rolled"

// deployment is the service's backends, as its controllers keep them.
type deployment struct {
	n     *network
	specs []rig.Spec // of nodes whose agents are told
	grace time.Duration

	mu      sync.Mutex
	version int
	members []*replica // in service or ending
	gone    []*member
	made    int
}

// replica is a backend with its pod.
type replica struct {
	*pod
	member *member
	ending bool
}

// add makes a backend on a node and has it in the service once it answers.
func (d *deployment) add(ctx context.Context, on *node) error {
	d.mu.Lock()
	d.made++
	name := fmt.Sprintf("b%d", d.made)
	d.mu.Unlock()
	p, err := on.bare(ctx, name)
	if err != nil {
		return err
	}
	m, err := newMember(p.space, p.name, p.addr)
	if err != nil {
		return errors.Join(err, p.space.Close())
	}
	d.mu.Lock()
	d.members = append(d.members, &replica{pod: p, member: m})
	d.mu.Unlock()
	return d.tell()
}

// replace makes another backend on the node of the oldest one and has that one end, which goes on in g: the next may be
// replaced meanwhile, as in a cluster.
func (d *deployment) replace(ctx context.Context, g *errgroup.Group) error {
	d.mu.Lock()
	i := slices.IndexFunc(d.members, func(r *replica) bool { return !r.ending })
	old := d.members[i]
	d.mu.Unlock()
	if err := d.add(ctx, old.node); err != nil {
		return err
	}
	d.mu.Lock()
	old.ending = true
	d.mu.Unlock()
	if err := d.tell(); err != nil {
		return err
	}
	g.Go(func() error {
		if err := old.member.end(ctx, d.grace); err != nil {
			return err
		}
		d.mu.Lock()
		d.members = slices.DeleteFunc(d.members, func(r *replica) bool { return r == old })
		d.gone = append(d.gone, old.member)
		d.mu.Unlock()
		return errors.Join(d.tell(), old.give(ctx))
	})
	return nil
}

// tell writes the service and its slices as they are now.
func (d *deployment) tell() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	meta := metav1.ObjectMeta{Namespace: "shop", Name: rolled, ResourceVersion: "1"}
	s := &corev1.Service{ObjectMeta: meta}
	s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeClusterIP, serviceAt.Addr().String(), []string{serviceAt.Addr().String()}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
	slice.ResourceVersion, slice.Labels = strconv.Itoa(d.version), map[string]string{discoveryv1.LabelServiceName: rolled}
	for name, proto := range map[string]corev1.Protocol{"tcp": corev1.ProtocolTCP, "udp": corev1.ProtocolUDP} {
		number := int32(port)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(serviceAt.Port()), Protocol: proto})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &proto})
	}
	for _, r := range d.members {
		ready, yes, ending, at := !r.ending, true, r.ending, r.node.spec.Name
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{r.addr.String()}, NodeName: &at,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &yes, Terminating: &ending}})
	}
	var errs []error
	for _, spec := range d.specs {
		errs = append(errs, spec.PutServices(rig.Services{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{slice}}))
	}
	return errors.Join(errs...)
}

// close ends what is left.
func (d *deployment) close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, r := range d.members {
		errs = append(errs, r.member.close(), r.space.Close())
		d.gone = append(d.gone, r.member)
	}
	d.members = nil
	return errors.Join(errs...)
}

// idle are backends that have answered nobody.
func (d *deployment) idle() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, m := range d.gone {
		if m.answered() == 0 {
			out = append(out, m.name)
		}
	}
	return out
}
