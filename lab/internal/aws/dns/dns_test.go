package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

func newCloud(t *testing.T) (*cloud.Cloud, cloud.Node) {
	t.Helper()
	c := cloud.New(cloud.Config{Lab: "weft-t", Seed: 11})
	if _, err := c.CreateCluster(t.Context(), cloud.ClusterSpec{Name: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateNodegroup(t.Context(), "c", cloud.NodegroupSpec{Name: "ng"}); err != nil {
		t.Fatal(err)
	}
	n, err := c.RunInstance(t.Context(), "c", "ng")
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

func servers(t *testing.T) (inside, outside *Server, node cloud.Node, endpoint string) {
	t.Helper()
	c, n := newCloud(t)
	cl, _ := c.Cluster("c")
	endpoint = cl.Endpoint[len("https://"):]
	cfg := Config{Cloud: c, AWS: netip.MustParseAddr("198.51.100.2"), Inside: true, Names: func(name string) []netip.Addr {
		switch name {
		case "one.lab.example":
			return []netip.Addr{netip.MustParseAddr("198.51.100.80")}
		case lower(endpoint):
			return c.ControlPlane("c").Endpoints
		}
		return nil
	}}
	inside = New(cfg)
	cfg.Inside = false
	return inside, New(cfg), n, endpoint
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

func ask(s *Server, name string, kind uint16) (int, []string) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	m := s.Answer(q)
	var out []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, rr.A.String())
		case *dns.PTR:
			out = append(out, rr.Ptr)
		}
	}
	return m.Rcode, out
}

func TestNames(t *testing.T) {
	inside, outside, n, endpoint := servers(t)
	reverse := func(a netip.Addr) string {
		name, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tc := range []struct {
		view  *Server
		name  string
		kind  uint16
		rcode int
		want  []string
	}{
		{inside, "ec2.us-west-2.amazonaws.com", dns.TypeA, dns.RcodeSuccess, []string{"198.51.100.2"}},
		{inside, "EC2.US-West-2.amazonaws.com", dns.TypeA, dns.RcodeSuccess, []string{"198.51.100.2"}},
		{inside, "ec2.us-west-2.amazonaws.com", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{outside, "oidc.eks.us-west-2.amazonaws.com", dns.TypeA, dns.RcodeSuccess, []string{"198.51.100.2"}},
		{inside, n.PrivateDNSName, dns.TypeA, dns.RcodeSuccess, []string{n.PrivateIP.String()}},
		{outside, n.PrivateDNSName, dns.TypeA, dns.RcodeNameError, nil},
		{inside, "ip-10-0-0-1.us-west-2.compute.internal", dns.TypeA, dns.RcodeNameError, nil},
		{inside, n.PublicDNSName, dns.TypeA, dns.RcodeSuccess, []string{n.PrivateIP.String()}},
		{outside, n.PublicDNSName, dns.TypeA, dns.RcodeSuccess, []string{n.PublicIP.String()}},
		{outside, "ec2-203-0-113-200.us-west-2.compute.amazonaws.com", dns.TypeA, dns.RcodeNameError, nil},
		{inside, "one.lab.example", dns.TypeA, dns.RcodeSuccess, []string{"198.51.100.80"}},
		{inside, endpoint, dns.TypeA, dns.RcodeSuccess, []string{inside.cfg.Cloud.ControlPlane("c").Endpoints[0].String()}},
		{inside, "FFFF.gr7.us-west-2.eks.amazonaws.com", dns.TypeA, dns.RcodeNameError, nil},
		{inside, "example.org", dns.TypeA, dns.RcodeNameError, nil},
		{inside, reverse(n.PrivateIP), dns.TypePTR, dns.RcodeSuccess, []string{n.PrivateDNSName + "."}},
		{outside, reverse(n.PrivateIP), dns.TypePTR, dns.RcodeNameError, nil},
		{outside, reverse(n.PublicIP), dns.TypePTR, dns.RcodeSuccess, []string{n.PublicDNSName + "."}},
	} {
		if rcode, got := ask(tc.view, tc.name, tc.kind); rcode != tc.rcode || !slices.Equal(got, tc.want) {
			t.Errorf("inside %t, %s: %s %v, want %s %v", tc.view.cfg.Inside, tc.name, dns.RcodeToString[rcode], got, dns.RcodeToString[tc.rcode], tc.want)
		}
	}
}

func TestServe(t *testing.T) {
	s, _, n, _ := servers(t)
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, packets, stream) }()
	for network, addr := range map[string]string{"udp": packets.LocalAddr().String(), "tcp": stream.Addr().String()} {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(n.PrivateDNSName), dns.TypeA)
		m, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).Exchange(q, addr)
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("%s: %v %v", network, m, err)
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not end")
	}
}
