package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/fabric"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

type recordingWire struct {
	states []fabric.State
	err    error
}

func (w *recordingWire) Apply(_ context.Context, s fabric.State) error {
	if w.err != nil {
		return w.err
	}
	w.states = append(w.states, s)
	return nil
}

func (w *recordingWire) last() fabric.State { return w.states[len(w.states)-1] }

// newTestCloud has a cluster "c" with a public node group "pub" and a private one "priv" of the given type.
func newTestCloud(t *testing.T, instanceType string) (*Cloud, *clock, *recordingWire) {
	t.Helper()
	clk := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	wire := &recordingWire{}
	c := New(Config{Lab: "weft-t", Seed: 7, Now: clk.now, Wire: wire, Latency: DefaultLatency()})
	ctx := t.Context()
	if _, err := c.CreateCluster(ctx, ClusterSpec{Name: "c", Version: "1.36", WithOIDC: true}); err != nil {
		t.Fatal(err)
	}
	for _, private := range []bool{false, true} {
		name := "pub"
		if private {
			name = "priv"
		}
		if _, err := c.CreateNodegroup(ctx, "c", NodegroupSpec{Name: name, InstanceType: instanceType, Private: private}); err != nil {
			t.Fatal(err)
		}
	}
	return c, clk, wire
}

func run(t *testing.T, c *Cloud, group string) Node {
	t.Helper()
	n, err := c.RunInstance(t.Context(), "c", group)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if apierror.Code(err) != code {
		t.Fatalf("got %v, want the code %q", err, code)
	}
}

func TestLayout(t *testing.T) {
	c, _, wire := newTestCloud(t, "m5.large")
	s := wire.last()
	if s.Lab != "weft-t" || s.VPC.String() != "192.168.0.0/16" || s.NATGateway.String() != "203.0.113.1" {
		t.Fatalf("state: %+v", s)
	}
	public := map[string]bool{}
	for _, sub := range s.Subnets {
		public[sub.CIDR.String()] = sub.Public
	}
	want := map[string]bool{"192.168.0.0/19": true, "192.168.32.0/19": true, "192.168.64.0/19": true, "192.168.96.0/19": false, "192.168.128.0/19": false, "192.168.160.0/19": false}
	if !reflect.DeepEqual(public, want) {
		t.Fatalf("subnets %v, want %v", public, want)
	}
	if !slices.Equal(s.Namespaces, []string{"weft-t-cp", "weft-t-xeni"}) {
		t.Fatalf("namespaces %v", s.Namespaces)
	}
	cp := c.ControlPlane("c")
	if len(cp.Endpoints) != 1 || len(cp.Callers) != 1 || cp.Endpoints[0] == cp.Callers[0] {
		t.Fatalf("control plane %+v", cp)
	}
	next, err := c.RotateControlPlane(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if next.Endpoints[0] != cp.Endpoints[0] || next.Callers[0] == cp.Callers[0] {
		t.Fatalf("rotation: %+v then %+v", cp, next)
	}
}

func TestRunInstance(t *testing.T) {
	c, _, wire := newTestCloud(t, "m5.large")
	pub, priv := run(t, c, "pub"), run(t, c, "priv")
	if !pub.PublicIP.IsValid() || pub.PublicDNSName != PublicDNSName("us-west-2", pub.PublicIP) || priv.PublicIP.IsValid() || priv.PublicDNSName != "" {
		t.Fatalf("public %+v private %+v", pub, priv)
	}
	if pub.Namespace != "weft-t-"+pub.ID || pub.PrivateDNSName != PrivateDNSName("us-west-2", pub.PrivateIP) || pub.Metadata.HopLimit != 2 {
		t.Fatalf("node %+v", pub)
	}
	i := slices.IndexFunc(wire.last().ENIs, func(e fabric.ENI) bool { return e.Namespace == pub.Namespace })
	if i < 0 {
		t.Fatalf("no interface in %s", pub.Namespace)
	}
	e := wire.last().ENIs[i]
	if e.Device != "eth0" || !e.Configure || !e.SourceDestCheck || e.MAC != pub.MAC || e.Public[pub.PrivateIP] != pub.PublicIP {
		t.Fatalf("wire %+v", e)
	}
	zones := map[string]int{pub.AZ: 1}
	zones[run(t, c, "pub").AZ]++
	zones[run(t, c, "pub").AZ]++
	if len(zones) != 3 {
		t.Fatalf("three instances are in %v", zones)
	}
}

func TestAttachDetach(t *testing.T) {
	c, clk, wire := newTestCloud(t, "m5.large")
	ctx := t.Context()
	n := run(t, c, "pub")
	e, err := c.CreateENI(ctx, CreateENIInput{SubnetID: n.SubnetID, SecondaryCount: 3})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Attach(ctx, AttachInput{ENI: e.ID, Instance: n.ID, DeviceIndex: 1})
	if err != nil {
		t.Fatal(err)
	}
	place := func() (string, string) {
		for _, f := range wire.last().ENIs {
			if f.ID == e.ID {
				return f.Namespace, f.Device
			}
		}
		return "gone", ""
	}
	if ns, _ := place(); a.Status != Attaching || ns != "" {
		t.Fatalf("attachment %+v, already in %q", a, ns)
	}
	wantCode(t, c.DeleteENI(ctx, e.ID), "InvalidParameterValue")
	clk.advance(time.Second)
	if err := c.Resync(ctx); err != nil {
		t.Fatal(err)
	}
	c.Read(func(m *Model) {
		if m.ENIs[e.ID].Attachment.Status != Attached {
			t.Fatalf("still %s", m.ENIs[e.ID].Attachment.Status)
		}
	})
	if err := c.follow(ctx, false); err != nil {
		t.Fatal(err)
	}
	if ns, dev := place(); ns != n.Namespace || dev != "ens6" {
		t.Fatalf("interface is in %q as %q", ns, dev)
	}
	if err := c.SetDeleteOnTermination(ctx, e.ID, a.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Detach(ctx, a.ID, false); err != nil {
		t.Fatal(err)
	}
	clk.advance(2 * time.Second)
	if err := c.DeleteENI(ctx, e.ID); err != nil {
		t.Fatal(err)
	}
	if ns, _ := place(); ns != "gone" {
		t.Fatalf("a deleted interface is in %q", ns)
	}
	wantCode(t, c.DeleteENI(ctx, e.ID), "InvalidNetworkInterfaceID.NotFound")
	primary := n.ENIs[0]
	var at string
	c.Read(func(m *Model) { at = m.ENIs[primary].Attachment.ID })
	wantCode(t, c.Detach(ctx, at, true), "OperationNotPermitted")
}

func TestLimits(t *testing.T) {
	c, _, _ := newTestCloud(t, "m5.large")
	c.SetLatency(Latency{})
	ctx := t.Context()
	n := run(t, c, "pub")
	attach := func(index int, in CreateENIInput) error {
		in.SubnetID = n.SubnetID
		e, err := c.CreateENI(ctx, in)
		if err != nil {
			return err
		}
		_, err = c.Attach(ctx, AttachInput{ENI: e.ID, Instance: n.ID, DeviceIndex: index})
		return err
	}
	wantCode(t, attach(0, CreateENIInput{}), "InvalidParameterValue")
	wantCode(t, attach(1, CreateENIInput{SecondaryCount: 10}), "PrivateIpAddressLimitExceeded")
	for i := 1; i <= 2; i++ {
		if err := attach(i, CreateENIInput{SecondaryCount: 9}); err != nil {
			t.Fatal(err)
		}
	}
	err := attach(3, CreateENIInput{})
	wantCode(t, err, "AttachmentLimitExceeded")
	if want := "Interface count 4 exceeds the limit for m5.large"; apierror.From(err).Message != want {
		t.Fatalf("message %q, want %q", apierror.From(err).Message, want)
	}
	primary := n.ENIs[0]
	got, err := c.Assign(ctx, AssignInput{ENI: primary, Count: 9})
	if err != nil || len(got.Addresses) != 9 {
		t.Fatalf("assign: %v %v", got, err)
	}
	_, err = c.Assign(ctx, AssignInput{ENI: primary, Count: 1})
	wantCode(t, err, "PrivateIpAddressLimitExceeded")
	_, err = c.Assign(ctx, AssignInput{ENI: primary})
	wantCode(t, err, "MissingParameter")
	wantCode(t, c.Unassign(ctx, primary, []netip.Addr{n.PrivateIP}, nil), "InvalidParameterValue")
	if err := c.Unassign(ctx, primary, got.Addresses, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.Unassign(ctx, primary, got.Addresses[:1], nil), "InvalidParameterValue")
	blocks, err := c.Assign(ctx, AssignInput{ENI: primary, PrefixCount: 9})
	if err != nil || len(blocks.Prefixes) != 9 {
		t.Fatalf("prefixes: %v %v", blocks, err)
	}
}

func TestSmallSubnet(t *testing.T) {
	for _, tc := range []struct {
		cidr             string
		addresses, block int
	}{{"192.168.192.0/28", 11, 0}, {"192.168.192.0/27", 27, 0}, {"192.168.192.0/26", 59, 2}, {"192.168.192.0/24", 251, 14}} {
		t.Run(tc.cidr, func(t *testing.T) {
			c, _, _ := newTestCloud(t, "m5.large")
			ctx := t.Context()
			vpc := ""
			c.Read(func(m *Model) { vpc = Sorted(m.VPCs)[0].ID })
			id, err := c.CreateSubnet(ctx, vpc, netip.MustParsePrefix(tc.cidr), "us-west-2a", nil)
			if err != nil {
				t.Fatal(err)
			}
			free := func() int {
				n := 0
				c.Read(func(m *Model) { n = m.Subnets[id].Free() })
				return n
			}
			if free() != tc.addresses {
				t.Fatalf("%d free, want %d", free(), tc.addresses)
			}
			var made []string
			for free() > 0 {
				e, err := c.CreateENI(ctx, CreateENIInput{SubnetID: id, SecondaryCount: min(free()-1, 49)})
				if err != nil {
					t.Fatal(err)
				}
				made = append(made, e.ID)
			}
			_, err = c.CreateENI(ctx, CreateENIInput{SubnetID: id})
			wantCode(t, err, "InsufficientFreeAddressesInSubnet")
			for _, e := range made {
				if err := c.DeleteENI(ctx, e); err != nil {
					t.Fatal(err)
				}
			}
			var s *Subnet
			c.Read(func(m *Model) { s = m.Subnets[id] })
			if _, err := s.pickBlocks(c.rng, tc.block, nil); err != nil {
				t.Fatal(err)
			}
			_, err = s.pickBlocks(c.rng, tc.block+1, nil)
			wantCode(t, err, "InsufficientCidrBlocks")
		})
	}
}

func TestTerminate(t *testing.T) {
	c, clk, wire := newTestCloud(t, "m5.large")
	ctx := t.Context()
	n := run(t, c, "pub")
	ids := map[bool]string{}
	for i, dies := range []bool{true, false} {
		e, err := c.CreateENI(ctx, CreateENIInput{SubnetID: n.SubnetID})
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Attach(ctx, AttachInput{ENI: e.ID, Instance: n.ID, DeviceIndex: i + 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeleteOnTermination(ctx, e.ID, a.ID, dies); err != nil {
			t.Fatal(err)
		}
		ids[dies] = e.ID
	}
	_, err := c.TerminateInstances(ctx, []string{n.ID, "i-00000000000000000"})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	got, err := c.TerminateInstances(ctx, []string{n.ID})
	if err != nil || got[0] != (StateChange{n.ID, Running, ShuttingDown}) {
		t.Fatalf("%v %v", got, err)
	}
	clk.advance(3 * time.Second)
	c.Read(func(m *Model) {
		if m.Instances[n.ID].State != Terminated || len(m.Instances[n.ID].ENIs) != 0 {
			t.Errorf("instance %+v", m.Instances[n.ID])
		}
		if m.ENIs[ids[true]] != nil || m.ENIs[n.ENIs[0]] != nil {
			t.Error("an interface with DeleteOnTermination is left")
		}
		if e := m.ENIs[ids[false]]; e == nil || e.Status() != "available" {
			t.Errorf("the other interface is %+v", e)
		}
		if len(m.Public.Taken) != 0 {
			t.Errorf("public addresses left: %v", m.Public.Taken)
		}
	})
	if err := c.follow(ctx, false); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(wire.last().Namespaces, n.Namespace) {
		t.Error("the namespace is left")
	}
	clk.advance(2 * time.Hour)
	c.Read(func(m *Model) {
		if m.Instances[n.ID] != nil {
			t.Error("still described after two hours")
		}
	})
}

func TestClientToken(t *testing.T) {
	c, _, _ := newTestCloud(t, "m5.large")
	n := run(t, c, "pub")
	in := CreateENIInput{SubnetID: n.SubnetID, Token: "tok", Fingerprint: "a"}
	one, err := c.CreateENI(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.CreateENI(t.Context(), in)
	if err != nil || one.ID != two.ID {
		t.Fatalf("%s then %s, %v", one.ID, two.ID, err)
	}
	in.Fingerprint = "b"
	_, err = c.CreateENI(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
}

func TestReassignment(t *testing.T) {
	c, _, _ := newTestCloud(t, "m5.large")
	ctx := t.Context()
	n := run(t, c, "pub")
	from, err := c.CreateENI(ctx, CreateENIInput{SubnetID: n.SubnetID, SecondaryCount: 1})
	if err != nil {
		t.Fatal(err)
	}
	a := from.Addresses[1].IP
	_, err = c.Assign(ctx, AssignInput{ENI: n.ENIs[0], Addresses: []netip.Addr{a}})
	wantCode(t, err, "InvalidParameterValue")
	if _, err := c.Assign(ctx, AssignInput{ENI: n.ENIs[0], Addresses: []netip.Addr{a}, Reassignment: true}); err != nil {
		t.Fatal(err)
	}
	c.Read(func(m *Model) {
		if m.ENIByAddress(a).ID != n.ENIs[0] || len(m.ENIs[from.ID].Addresses) != 1 {
			t.Error("the address did not move")
		}
	})
	_, err = c.Assign(ctx, AssignInput{ENI: n.ENIs[0], Addresses: []netip.Addr{from.Primary()}, Reassignment: true})
	wantCode(t, err, "InvalidParameterValue")
}

func TestSnapshot(t *testing.T) {
	c, clk, _ := newTestCloud(t, "m5.large")
	ctx := t.Context()
	n := run(t, c, "pub")
	e, err := c.CreateENI(ctx, CreateENIInput{SubnetID: n.SubnetID, SecondaryCount: 2, PrefixCount: 0})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(ctx, AttachInput{ENI: e.ID, Instance: n.ID, DeviceIndex: 1}); err != nil {
		t.Fatal(err)
	}
	data, err := c.Export()
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Lab: "other"}).Import(ctx, data); err == nil {
		t.Error("another lab's cloud was imported")
	}
	d := New(Config{Lab: "weft-t", Seed: 9, Now: clk.now})
	if err := d.Import(ctx, data); err != nil {
		t.Fatal(err)
	}
	clk.advance(time.Minute)
	again, err := d.Export()
	if err != nil {
		t.Fatal(err)
	}
	settled, err := c.Export()
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(settled) {
		t.Error("an imported cloud went another way than the original")
	}
}

func TestWireFailureIsRetried(t *testing.T) {
	c, _, wire := newTestCloud(t, "m5.large")
	wire.err = fmt.Errorf("no netlink today")
	if _, err := c.RunInstance(t.Context(), "c", "pub"); err == nil {
		t.Fatal("an instance without a network was reported as running")
	}
	wire.err = nil
	before := len(wire.states)
	if err := c.follow(t.Context(), false); err != nil || len(wire.states) != before+1 {
		t.Fatalf("%v, %d applies", err, len(wire.states)-before)
	}
}

func TestShortRegion(t *testing.T) {
	for region, want := range map[string]string{"us-west-2": "usw2", "us-east-1": "use1", "eu-central-1": "euc1", "ap-southeast-1": "apse1", "ap-northeast-2": "apne2", "us-gov-west-1": "usgw1", "ap-south-1": "aps1", "eu-north-1": "eun1"} {
		if got := shortRegion(region); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
	}
}

func TestTypesTable(t *testing.T) {
	table, err := parseTypes(instanceTypesCSV)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.order) < 60 {
		t.Fatalf("%d types", len(table.order))
	}
	for name, want := range map[string]int{"t2.micro": 4, "t3.small": 11, "t3.large": 35, "m4.large": 20, "m4.xlarge": 58, "i3.large": 29, "m5.large": 29, "g4dn.xlarge": 29,
		"m5.2xlarge": 58, "m5.4xlarge": 234, "m5.metal": 737, "m6g.medium": 8, "p4d.24xlarge": 737, "p5.48xlarge": 100} {
		if got, _ := TypeByName(name); got.MaxPods() != want {
			t.Errorf("%s: %d pods, want %d", name, got.MaxPods(), want)
		}
	}
}
