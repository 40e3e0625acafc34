package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/rig"
)

// port is every server's, patience how long anybody waits before it counts as a time-out.
const (
	port     = 7171
	patience = 5 * time.Second
)

// header goes before every payload and is every answer: for whom, and which.
type header struct {
	name   string // at most nameSize bytes
	seq    uint64
	length uint32
}

const (
	nameSize   = 24
	headerSize = nameSize + 12
)

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b[:nameSize], h.name)
	binary.BigEndian.PutUint64(b[nameSize:], h.seq)
	binary.BigEndian.PutUint32(b[nameSize+8:], h.length)
	return b
}

func decode(b []byte) header {
	n := 0
	for n < nameSize && b[n] != 0 {
		n++
	}
	return header{string(b[:n]), binary.BigEndian.Uint64(b[nameSize:]), binary.BigEndian.Uint32(b[nameSize+8:])}
}

// server answers with its own name, and notes what was meant for another.
type server struct {
	name     string
	listener net.Listener
	datagram net.PacketConn
	wrong    *atomic.Uint64
	group    errgroup.Group

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func serve(s rig.Space, name string, addr netip.Addr, wrong *atomic.Uint64) (*server, error) {
	out := &server{name: name, wrong: wrong, conns: map[net.Conn]bool{}}
	err := s.Do(func() (err error) {
		if out.listener, err = net.Listen("tcp", netip.AddrPortFrom(addr, port).String()); err != nil {
			return err
		}
		if out.datagram, err = net.ListenPacket("udp", netip.AddrPortFrom(addr, port).String()); err != nil {
			err = errors.Join(err, out.listener.Close())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", name, err)
	}
	out.group.Go(out.run)
	out.group.Go(out.runDatagrams)
	return out, nil
}

func (s *server) run() error {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return nil //nolint:nilerr // closed
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.group.Go(func() error {
			s.answer(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			return c.Close()
		})
	}
}

// runDatagrams answers each by one; the client judges whether it comes.
func (s *server) runDatagrams() error {
	b := make([]byte, headerSize+1)
	for {
		n, from, err := s.datagram.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil || n != headerSize {
			continue
		}
		h := decode(b)
		if h.name != s.name {
			s.wrong.Add(1)
		}
		s.datagram.WriteTo(header{name: s.name, seq: h.seq}.encode(), from) //nolint:errcheck // the client's to see
	}
}

// answer serves a connection until it ends; the client judges how.
func (s *server) answer(c net.Conn) {
	b := make([]byte, headerSize)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		h := decode(b)
		if h.name != s.name {
			s.wrong.Add(1)
		}
		if _, err := io.CopyN(io.Discard, c, int64(h.length)); err != nil {
			return
		}
		if _, err := c.Write(header{name: s.name, seq: h.seq}.encode()); err != nil {
			return
		}
	}
}

func (s *server) close() error {
	err := errors.Join(s.listener.Close(), s.datagram.Close())
	s.mu.Lock()
	for c := range s.conns {
		c.SetDeadline(time.Now())
	}
	s.mu.Unlock()
	s.group.Wait() //nolint:errcheck // ends of connections, which the clients judge
	return err
}

var errWrong = errors.New("answered by another than was asked")

// ask sends a payload and waits for the answer to it.
func ask(c net.Conn, name string, seq uint64, payload []byte) error {
	return askWithin(c, patience, name, seq, payload)
}

func askWithin(c net.Conn, within time.Duration, name string, seq uint64, payload []byte) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write(append(header{name, seq, uint32(len(payload))}.encode(), payload...)); err != nil {
		return err
	}
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if got := decode(b); got.name != name || got.seq != seq {
		return fmt.Errorf("%w: asked %s for %d, found %s and %d", errWrong, name, seq, got.name, got.seq)
	}
	return nil
}

func (s *server) at() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }
