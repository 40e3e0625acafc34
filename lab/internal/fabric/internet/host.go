// Package internet is a host somewhere in the world: HTTP that says whom it saw, and DNS for names of its own.
package internet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// Zone is the domain that the host is authoritative for: it, and every name in it that Names doesn't say otherwise
// of, is the host.
const Zone = "lab.example."

// clientName answers TXT with the address of who asks.
const clientName = "client." + Zone

const (
	ttl         = 30
	httpTimeout = 30 * time.Second
	stopTimeout = 2 * time.Second
)

// Seen is what the host answers to HTTP: the client's address as it saw it, and the name it was called by.
type Seen struct {
	Client string `json:"client"`
	Host   string `json:"host"`
}

// Host is the machine.
type Host struct {
	// Address is what its names resolve to.
	Address netip.Addr
	// Names are further names, fully qualified, with a dot at the end.
	Names map[string]netip.Addr
	Log   *slog.Logger
}

// Sockets are what it listens on. The caller may add to HTTP, a TLS listener for one.
type Sockets struct {
	HTTP   []net.Listener
	DNS    net.Listener
	DNSUDP net.PacketConn
}

// Listen opens the host's ports, 80 and 53, in a namespace that has its address.
func (h Host) Listen(namespace string) (Sockets, error) {
	at := func(port uint16) string { return netip.AddrPortFrom(h.Address, port).String() }
	var s Sockets
	web, err := netns.Listen(namespace, "tcp", at(80))
	if err != nil {
		return s, fmt.Errorf("internet host: %w", err)
	}
	s.HTTP = []net.Listener{web}
	if s.DNS, err = netns.Listen(namespace, "tcp", at(53)); err != nil {
		return s, errors.Join(fmt.Errorf("internet host: %w", err), s.Close())
	}
	if s.DNSUDP, err = netns.ListenPacket(namespace, "udp", at(53)); err != nil {
		return s, errors.Join(fmt.Errorf("internet host: %w", err), s.Close())
	}
	return s, nil
}

// Close closes those that are open.
func (s Sockets) Close() error {
	var errs error
	for _, l := range s.HTTP {
		errs = errors.Join(errs, l.Close())
	}
	if s.DNS != nil {
		errs = errors.Join(errs, s.DNS.Close())
	}
	if s.DNSUDP != nil {
		errs = errors.Join(errs, s.DNSUDP.Close())
	}
	return errs
}

// Run serves until the context ends, and closes the sockets.
func (h Host) Run(ctx context.Context, s Sockets) error {
	g, ctx := errgroup.WithContext(ctx)
	web := &http.Server{Handler: http.HandlerFunc(h.web), ReadHeaderTimeout: httpTimeout,
		ErrorLog: slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug)}
	for _, l := range s.HTTP {
		g.Go(func() error {
			if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("internet host: http: %w", err)
			}
			return nil
		})
	}
	servers := []*dns.Server{
		{Listener: s.DNS, Handler: dns.HandlerFunc(h.resolve)},
		{PacketConn: s.DNSUDP, Handler: dns.HandlerFunc(h.resolve)},
	}
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		g.Go(func() error {
			err := srv.ActivateAndServe()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("internet host: dns: %w", err)
		})
		g.Go(func() error {
			<-ctx.Done()
			// A server that has not begun can't be shut down.
			select {
			case <-started:
			case <-time.After(stopTimeout):
			}
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			return srv.ShutdownContext(stop)
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	return g.Wait()
}

func (h Host) web(w http.ResponseWriter, r *http.Request) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// What a client that went away doesn't read is no concern of ours.
	_ = json.NewEncoder(w).Encode(Seen{Client: client, Host: r.Host})
}

// resolve answers one question from what the host knows; it asks nobody else.
func (h Host) resolve(w dns.ResponseWriter, r *dns.Msg) {
	if err := w.WriteMsg(h.answer(r, w.RemoteAddr())); err != nil {
		h.Log.Debug("dns answer not sent", "error", err)
	}
}

func (h Host) answer(r *dns.Msg, client net.Addr) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	if len(r.Question) != 1 || r.Opcode != dns.OpcodeQuery {
		m.SetRcode(r, dns.RcodeNotImplemented)
		return m
	}
	q := r.Question[0]
	name := strings.ToLower(q.Name)
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	if name == clientName {
		if q.Qtype == dns.TypeTXT {
			host, _, _ := net.SplitHostPort(client.String())
			m.Answer = []dns.RR{&dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{host}}}
		}
		return m
	}
	addr, ok := h.Names[name]
	if !ok && dns.IsSubDomain(Zone, name) {
		addr, ok = h.Address, true
	}
	if !ok {
		m.SetRcode(r, dns.RcodeNameError)
		return m
	}
	switch {
	case q.Qtype == dns.TypeA && addr.Is4():
		m.Answer = []dns.RR{&dns.A{Hdr: header(dns.TypeA), A: addr.AsSlice()}}
	case q.Qtype == dns.TypeAAAA && addr.Is6():
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: addr.AsSlice()}}
	}
	return m
}
