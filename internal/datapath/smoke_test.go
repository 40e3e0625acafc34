package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/datapath/matrix"
)

// A little of everything, for kernels on which the rest takes too long: both families, datagrams and
// streams, within a node, between nodes, to the host, to the world and from there.
func TestSmoke(t *testing.T) {
	needRoot(t)
	for _, device := range append([]podDevice{vethPods}, netkitDevices(t)...) {
		t.Run(variant{attach: "veth", device: device}.String(), func(t *testing.T) { smoke(t, newVPC(t, device)) })
	}
}

func smoke(t *testing.T, v *vpc) {
	for _, protocol := range []struct {
		name         string
		kind, number int
	}{
		{"UDP", unix.SOCK_DGRAM, unix.IPPROTO_UDP}, {"TCP", unix.SOCK_STREAM, unix.IPPROTO_TCP}, {"SCTP", unix.SOCK_STREAM, unix.IPPROTO_SCTP},
	} {
		if !supported(protocol.kind, protocol.number) {
			t.Logf("this kernel has no %s", protocol.name)
			continue
		}
		for _, six := range []bool{false, true} {
			for i, pair := range [][2]matrix.Party{
				{matrix.Pod, matrix.OtherPod}, {matrix.Pod, matrix.RemotePod}, {matrix.Pod, matrix.Host}, {matrix.Pod, matrix.RemoteNode},
				{matrix.Pod, matrix.World}, {matrix.World, matrix.Pod}, {matrix.Host, matrix.Pod}, {matrix.ControlPlane, matrix.Pod},
			} {
				from, to := v.parties[pair[0]], v.parties[pair[1]]
				name := fmt.Sprintf("%s from %s to %s, IPv6 %v", protocol.name, pair[0], pair[1], six)
				c := conversation{kind: protocol.kind, number: protocol.number, from: from, to: to, six: six, port: uint16(9000 + i)}
				if err := c.run(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	dropped := map[Counter]uint64{}
	for _, n := range v.nodes {
		for c, packets := range readCounters(t, n.d) {
			// Where this takes more than 5 s, a pod's kernel looks whether the node's link-local address, which
			// asked for it, is still there. It hears of no neighbour but its gateway.
			if c.Reason.Drop() && packets > 0 && c.Reason != ReasonNdBad {
				dropped[c] += packets
			}
		}
	}
	if len(dropped) > 0 {
		t.Errorf("dropped on the way: %v", dropped)
	}
}

func supported(kind, number int) bool {
	fd, err := unix.Socket(unix.AF_INET, kind, number)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// A conversation is one message and its answer over any protocol that has sockets.
type conversation struct {
	kind, number int
	from, to     party
	six          bool
	port         uint16
}

func socketAddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// open makes a bound socket in the party's namespace that gives up after a while.
func (c conversation) open(p party, port uint16) (int, error) {
	family := unix.AF_INET
	if c.six {
		family = unix.AF_INET6
	}
	fd := -1
	err := p.try(func() (err error) {
		fd, err = unix.Socket(family, c.kind|unix.SOCK_CLOEXEC, c.number)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	limit := unix.Timeval{Sec: 10}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.Bind(fd, socketAddr(netip.AddrPortFrom(p.in(c.six), port))),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

func (c conversation) run() error {
	server, err := c.open(c.to, c.port)
	if err != nil {
		return err
	}
	defer unix.Close(server)
	client, err := c.open(c.from, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	if c.kind == unix.SOCK_STREAM {
		if err := unix.Listen(server, 1); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	if err := unix.Connect(client, socketAddr(netip.AddrPortFrom(c.to.in(c.six), c.port))); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	answering := server
	if c.kind == unix.SOCK_STREAM {
		if answering, _, err = unix.Accept(server); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		defer unix.Close(answering)
	}
	if _, err := unix.Write(client, []byte("question")); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	b := make([]byte, 64)
	n, peer, err := unix.Recvfrom(answering, b, 0)
	if err != nil || string(b[:n]) != "question" {
		return fmt.Errorf("hear the question: %q, %w", b[:max(n, 0)], err)
	}
	if c.kind == unix.SOCK_DGRAM {
		err = unix.Sendto(answering, []byte("answer"), 0, peer)
	} else {
		_, err = unix.Write(answering, []byte("answer"))
	}
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if n, err := unix.Read(client, b); err != nil || string(b[:max(n, 0)]) != "answer" {
		return fmt.Errorf("hear the answer: %q, %w", b[:max(n, 0)], err)
	}
	return nil
}
