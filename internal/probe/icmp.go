package probe

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// ICMP sends count echo requests with size bytes of payload and waits for each answer. One answer is
// success: a single lost packet isn't a broken path. A payload over the path's MTU goes in fragments.
func ICMP(ctx context.Context, addr string, count, size int, timeout time.Duration) Result {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return Result{Kind: Other, Error: fmt.Sprintf("found %q, expected an address: %v", addr, err)}
	}
	p, err := listen(ip)
	if err != nil {
		return Result{Kind: Other, Error: err.Error()}
	}
	defer p.conn.Close()
	started := time.Now()
	r := Result{Remote: addr}
	payload := bytes.Repeat([]byte("weft"), size/4+1)[:size]
	for seq := 1; seq <= count && ctx.Err() == nil; seq++ {
		r.Sent++
		ok, err := p.echo(seq, payload, timeout/time.Duration(count))
		switch {
		case err != nil:
			r.Kind, r.Error = kindOf(err), err.Error()
		case ok:
			r.Received++
		}
	}
	r.Took = time.Since(started)
	if r.Received > 0 {
		r.Kind, r.Error = OK, ""
	} else if r.Kind == OK {
		r.Kind, r.Error = Timeout, fmt.Sprintf("no answer to %d echo requests in %s", r.Sent, timeout)
	}
	return r
}

type pinger struct {
	conn   *icmp.PacketConn
	dst    net.Addr
	proto  int
	ask    icmp.Type
	answer icmp.Type
	id     int
	raw    bool
}

// listen opens a ping socket, which needs no right where the runtime allows it, else a raw one.
func listen(ip netip.Addr) (*pinger, error) {
	p := &pinger{proto: 1, ask: ipv4.ICMPTypeEcho, answer: ipv4.ICMPTypeEchoReply, id: rand.IntN(1 << 16)}
	networks, any := []string{"udp4", "ip4:icmp"}, "0.0.0.0"
	if ip.Is6() {
		p.proto, p.ask, p.answer = 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		networks, any = []string{"udp6", "ip6:ipv6-icmp"}, "::"
	}
	var first error
	for i, n := range networks {
		conn, err := icmp.ListenPacket(n, any)
		if err == nil {
			p.conn, p.raw = conn, i == 1
			p.dst = &net.UDPAddr{IP: ip.AsSlice()}
			if p.raw {
				p.dst = &net.IPAddr{IP: ip.AsSlice()}
			}
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("no ICMP socket: give the pod NET_RAW, or net.ipv4.ping_group_range its group: %w", first)
}

// echo sends one request and waits for its answer; false is silence.
func (p *pinger) echo(seq int, payload []byte, wait time.Duration) (bool, error) {
	m := icmp.Message{Type: p.ask, Body: &icmp.Echo{ID: p.id, Seq: seq, Data: payload}}
	b, err := m.Marshal(nil)
	if err != nil {
		return false, err
	}
	if _, err := p.conn.WriteTo(b, p.dst); err != nil {
		return false, err
	}
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			if k := kindOf(err); k == Timeout {
				return false, nil
			}
			return false, err
		}
		got, err := icmp.ParseMessage(p.proto, buf[:n])
		if err != nil || got.Type != p.answer {
			continue
		}
		// A ping socket's id is the kernel's and it hands us only our own answers.
		if e, ok := got.Body.(*icmp.Echo); ok && e.Seq == seq && (!p.raw || e.ID == p.id) {
			return true, nil
		}
	}
}

// Hostname is the pod's name, from POD_NAME or the system.
func Hostname() string {
	if n := os.Getenv("POD_NAME"); n != "" {
		return n
	}
	n, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return n
}
