package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/weft-cni/weft/lab/internal/fabric"
	"github.com/weft-cni/weft/lab/internal/netns"
)

// serveNames runs the resolvers: the VPC's, and the one of the internet's side.
func (c *Cluster) serveNames(context.Context) error {
	endpoint := strings.TrimPrefix(c.eks.Endpoint, "https://")
	for _, at := range []struct {
		namespace string
		addr      netip.Addr
		api       []netip.Addr
	}{
		{c.lab.Netns("vpc"), fabric.VPCResolver(c.opts.Config.VPC), c.cloud.ControlPlane(c.eks.Name).Endpoints},
		{c.lab.Netns("vpc"), dnsAddress, c.cloud.ControlPlane(c.eks.Name).Endpoints},
		{c.lab.Netns("inet"), awsAddress, []netip.Addr{awsAddress}},
	} {
		if err := c.resolver(at.namespace, at.addr, names{endpoint: endpoint, api: at.api}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) resolver(namespace string, addr netip.Addr, h dns.Handler) error {
	at := netip.AddrPortFrom(addr, 53).String()
	pc, err := netns.ListenPacket(namespace, "udp", at)
	if err != nil {
		return fmt.Errorf("resolver: %w", err)
	}
	l, err := netns.Listen(namespace, "tcp", at)
	if err != nil {
		return errors.Join(fmt.Errorf("resolver: %w", err), pc.Close())
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		c.background("resolver "+at, func(ctx context.Context) error {
			stop := context.AfterFunc(ctx, func() { _ = s.Shutdown() })
			defer stop()
			return s.ActivateAndServe()
		})
	}
	return nil
}

// names answers for the lab's names only.
type names struct {
	endpoint string
	api      []netip.Addr
}

func (n names) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	if len(r.Question) == 1 {
		q := r.Question[0]
		name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
		var addrs []netip.Addr
		switch {
		case name == strings.ToLower(n.endpoint):
			addrs = n.api
		case strings.HasSuffix(name, ".amazonaws.com"):
			addrs = []netip.Addr{awsAddress}
		default:
			m.Rcode = dns.RcodeNameError
		}
		if q.Qtype == dns.TypeA {
			for _, a := range addrs {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: a.AsSlice()})
			}
		}
	}
	_ = w.WriteMsg(m)
}
