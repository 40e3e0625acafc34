package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/rig"
)

// member is a backend of a service, and behaves well: told to end, it takes connections for as long as some may
// still be sent to it, asks those that are there to go elsewhere, and waits until they have.
type member struct {
	name     string
	at       netip.AddrPort
	listener net.Listener
	datagram net.PacketConn
	group    errgroup.Group

	mu      sync.Mutex
	ending  bool
	conns   map[net.Conn]bool
	answers uint64
}

func newMember(s rig.Space, name string, addr netip.Addr) (*member, error) {
	m := &member{name: name, at: netip.AddrPortFrom(addr, port), conns: map[net.Conn]bool{}}
	err := s.Do(func() (err error) {
		if m.listener, err = net.Listen("tcp", m.at.String()); err != nil {
			return err
		}
		if m.datagram, err = net.ListenPacket("udp", m.at.String()); err != nil {
			err = errors.Join(err, m.listener.Close())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", name, err)
	}
	m.group.Go(m.run)
	m.group.Go(m.runDatagrams)
	return m, nil
}

func (m *member) run() error {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return nil //nolint:nilerr // closed
		}
		m.mu.Lock()
		m.conns[c] = true
		m.mu.Unlock()
		m.group.Go(func() error {
			m.serve(c)
			m.mu.Lock()
			delete(m.conns, c)
			m.mu.Unlock()
			return c.Close()
		})
	}
}

// serve answers until the client closes. Answers of one that ends ask for that.
func (m *member) serve(c net.Conn) {
	b := make([]byte, headerSize)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		h := decode(b)
		if _, err := c.Write(m.answer(h.seq)); err != nil {
			return
		}
	}
}

// An answer says who gives it, and by a length of 1 that the connection should end.
func (m *member) answer(seq uint64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers++
	h := header{name: m.name, seq: seq}
	if m.ending {
		h.length = 1
	}
	return h.encode()
}

func (m *member) runDatagrams() error {
	b := make([]byte, headerSize+1)
	for {
		n, from, err := m.datagram.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil || n != headerSize {
			continue
		}
		m.datagram.WriteTo(m.answer(decode(b).seq), from) //nolint:errcheck // the client's to see
	}
}

// answered is how often it has.
func (m *member) answered() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answers
}

// end is what a process does with its time after it was told to end.
func (m *member) end(ctx context.Context, grace time.Duration) error {
	m.mu.Lock()
	m.ending = true
	m.mu.Unlock()
	wait(ctx, grace)
	err := rig.Await(ctx, patience, "connections of "+m.name+" have ended", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.conns) > 0 {
			return fmt.Errorf("%d are open", len(m.conns))
		}
		return nil
	})
	return errors.Join(err, m.close())
}

func (m *member) close() error {
	err := errors.Join(m.listener.Close(), m.datagram.Close())
	m.mu.Lock()
	for c := range m.conns {
		c.SetDeadline(time.Now())
	}
	m.mu.Unlock()
	m.group.Wait() //nolint:errcheck // ends of connections, which the clients judge
	return err
}
