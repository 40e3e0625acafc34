package nodehealth

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Types of ICMP messages.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

const (
	headerLength = 8
	echoLength   = headerLength + 16 // a random number and its negation
)

// pinger sends echo requests by a ping socket, which needs no capability, only a group that
// net.ipv4.ping_group_range has. The kernel fills in the identifier and the checksum, and gives it nothing
// but the answers to what it sent.
type pinger struct {
	conn net.PacketConn
	six  bool

	mu      sync.Mutex
	waiting map[uint64]echo
	seq     uint16
}

type echo struct {
	to     netip.Addr
	answer chan time.Time
}

// newPinger opens a socket that sends from addr.
func newPinger(addr netip.Addr) (*pinger, error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var sa unix.Sockaddr = &unix.SockaddrInet4{}
	if addr = addr.Unmap(); addr.Is4() {
		sa = &unix.SockaddrInet4{Addr: addr.As4()}
	} else {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		sa = &unix.SockaddrInet6{Addr: addr.As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("ping socket: %w", os.NewSyscallError("socket", err))
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, errors.Join(fmt.Errorf("ping socket of %s: %w", addr, os.NewSyscallError("bind", err)), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("ping socket of %s: %w", addr, err)
	}
	return &pinger{conn: c, six: domain == unix.AF_INET6, waiting: map[uint64]echo{}}, nil
}

// receive hands answers to those who wait for them, until the socket is closed.
func (p *pinger) receive() error {
	b := make([]byte, 256)
	for {
		n, from, err := p.conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // an ICMP error about an earlier request; its probe times out
		}
		at := time.Now()
		token, ok := parseEcho(b[:n], p.six)
		if !ok {
			continue
		}
		p.mu.Lock()
		e, ok := p.waiting[token]
		if a, is := from.(*net.UDPAddr); ok && is && a.AddrPort().Addr().Unmap() == e.to {
			delete(p.waiting, token)
			e.answer <- at // has room for the one answer
		}
		p.mu.Unlock()
	}
}

// probe sends one request and waits for its answer.
func (p *pinger) probe(ctx context.Context, to netip.Addr) (Outcome, time.Duration) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Failed, 0
	}
	token := binary.BigEndian.Uint64(random[:])
	e := echo{to: to.Unmap(), answer: make(chan time.Time, 1)}
	p.mu.Lock()
	p.seq++
	b := makeEcho(token, p.seq, p.six)
	p.waiting[token] = e
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, token)
		p.mu.Unlock()
	}()
	begin := time.Now()
	if _, err := p.conn.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0))); err != nil {
		return outcome(err), 0
	}
	select {
	case <-ctx.Done():
		return TimedOut, 0
	case at := <-e.answer:
		return OK, at.Sub(begin)
	}
}

func makeEcho(token uint64, seq uint16, six bool) []byte {
	b := make([]byte, headerLength, echoLength)
	if b[0] = echoRequest4; six {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[6:], seq)
	b = binary.BigEndian.AppendUint64(b, token)
	return binary.BigEndian.AppendUint64(b, ^token)
}

// parseEcho reads the number out of an answer.
func parseEcho(b []byte, six bool) (token uint64, ok bool) {
	want := byte(echoReply4)
	if six {
		want = echoReply6
	}
	if len(b) != echoLength || b[0] != want || b[1] != 0 {
		return 0, false
	}
	token = binary.BigEndian.Uint64(b[headerLength:])
	return token, binary.BigEndian.Uint64(b[headerLength+8:]) == ^token
}
