// Package dns is the VPC's resolver and the internet's: AWS's names, the names of instances, and those that
// the lab is told. Everything else does not exist.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

// Config is one view of the names: inside the VPC and outside they differ.
type Config struct {
	Cloud *cloud.Cloud
	// AWS is where all of AWS's endpoints are.
	AWS netip.Addr
	// Names are looked up first: lower-case, without the dot at the end.
	Names func(name string) []netip.Addr
	// Inside: public names of instances stand for private addresses, and private names exist.
	Inside bool
}

// Server answers queries.
type Server struct{ cfg Config }

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Names == nil {
		cfg.Names = func(string) []netip.Addr { return nil }
	}
	return &Server{cfg: cfg}
}

const ttl = 5

// Serve answers on a packet connection and a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, packets net.PacketConn, stream net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, srv := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: stream, Handler: s}} {
		g.Go(func() error {
			if err := srv.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
				return fmt.Errorf("resolver: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			// One that has not started yet refuses; closing the socket ends it all the same.
			_ = srv.Shutdown()
			if srv.PacketConn != nil {
				_ = srv.PacketConn.Close()
			}
			if srv.Listener != nil {
				_ = srv.Listener.Close()
			}
			return nil
		})
	}
	return g.Wait()
}

// ServeDNS answers one query.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	reply := s.Answer(q)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil && int(o.UDPSize()) > size {
			size = int(o.UDPSize())
		}
		reply.Truncate(size)
	}
	// A client that went away needs no answer.
	_ = w.WriteMsg(reply)
}

// Answer is the reply to a query.
func (s *Server) Answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	if strings.HasSuffix(name, ".in-addr.arpa") {
		s.reverse(m, question, name)
		return m
	}
	addresses := s.Lookup(name)
	if len(addresses) == 0 {
		m.Rcode = dns.RcodeNameError
		return m
	}
	for _, a := range addresses {
		switch {
		case question.Qtype == dns.TypeA && a.Is4():
			m.Answer = append(m.Answer, &dns.A{Hdr: header(question.Name, dns.TypeA), A: a.AsSlice()})
		case question.Qtype == dns.TypeAAAA && a.Is6():
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(question.Name, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return m
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// Lookup finds the addresses of a name; none if it does not exist.
func (s *Server) Lookup(name string) []netip.Addr {
	if a := s.cfg.Names(name); len(a) > 0 {
		return a
	}
	region := s.cfg.Cloud.Region()
	if a, ok := embedded(name, "ip-", privateZone(region)); ok {
		if s.cfg.Inside && s.inVPC(a) {
			return []netip.Addr{a}
		}
		return nil
	}
	if a, ok := embedded(name, "ec2-", publicZone(region)); ok {
		return s.public(a)
	}
	// Names of clusters' API servers are not AWS's other endpoints': what they stand for is the lab's to say.
	if strings.HasSuffix(name, ".eks.amazonaws.com") && strings.Contains(name, ".gr7.") {
		return nil
	}
	if name == "amazonaws.com" || strings.HasSuffix(name, ".amazonaws.com") || strings.HasSuffix(name, ".api.aws") {
		return []netip.Addr{s.cfg.AWS}
	}
	return nil
}

func privateZone(region string) string {
	if region == "us-east-1" {
		return ".ec2.internal"
	}
	return "." + region + ".compute.internal"
}

func publicZone(region string) string {
	if region == "us-east-1" {
		return ".compute-1.amazonaws.com"
	}
	return "." + region + ".compute.amazonaws.com"
}

// embedded takes the address out of names such as ip-192-168-0-9.us-west-2.compute.internal.
func embedded(name, prefix, zone string) (netip.Addr, bool) {
	host, ok := strings.CutSuffix(name, zone)
	if !ok {
		return netip.Addr{}, false
	}
	text, ok := strings.CutPrefix(host, prefix)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(text, "-", "."))
	return a, err == nil && a.Is4()
}

func (s *Server) inVPC(a netip.Addr) bool {
	in := false
	s.cfg.Cloud.Read(func(m *cloud.Model) {
		for _, v := range m.VPCs {
			in = in || v.CIDR.Contains(a)
		}
	})
	return in
}

// public is what a public name stands for: the private address inside the VPC, the public one outside.
func (s *Server) public(a netip.Addr) []netip.Addr {
	var out []netip.Addr
	s.cfg.Cloud.Read(func(m *cloud.Model) {
		e := m.ENIs[m.Public.Taken[a]]
		if e == nil {
			return
		}
		for _, x := range e.Addresses {
			if x.Public != a {
				continue
			}
			if s.cfg.Inside {
				out = append(out, x.IP)
			} else {
				out = append(out, a)
			}
		}
	})
	return out
}

func (s *Server) reverse(m *dns.Msg, question dns.Question, name string) {
	parts := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
	m.Rcode = dns.RcodeNameError
	if len(parts) != 4 {
		return
	}
	a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	if err != nil {
		return
	}
	target := ""
	switch {
	case s.cfg.Inside && s.inVPC(a):
		target = cloud.PrivateDNSName(s.cfg.Cloud.Region(), a)
	case len(s.public(a)) > 0:
		target = cloud.PublicDNSName(s.cfg.Cloud.Region(), a)
	default:
		return
	}
	m.Rcode = dns.RcodeSuccess
	if question.Qtype == dns.TypePTR {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: header(question.Name, dns.TypePTR), Ptr: dns.Fqdn(target)})
	}
}
