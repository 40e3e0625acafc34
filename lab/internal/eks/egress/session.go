package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/proto/client"
)

// Proxy serves one stream: one connection, from its DIAL_REQ to its CLOSE_RSP. The client makes a stream for
// each connection.
func (p *Proxy) Proxy(stream client.ProxyService_ProxyServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	s := &session{proxy: p, stream: stream, ctx: ctx, cancel: cancel}
	defer s.end()
	for {
		packet, err := stream.Recv()
		if err != nil {
			return nil // the client went away: nothing of its connection is left to report to
		}
		if done := s.take(packet); done {
			return nil
		}
	}
}

// session is the state of one stream. Its receiving side is one goroutine, the stream's; the copying side,
// begun once the connection is there, is another.
type session struct {
	proxy  *Proxy
	ctx    context.Context
	cancel context.CancelFunc
	work   errgroup.Group

	sending sync.Mutex // the stream allows one sender at a time
	stream  client.ProxyService_ProxyServer

	dialled bool  // a DIAL_REQ has been taken
	random  int64 // its id

	mu   sync.Mutex
	conn net.Conn
	id   int64 // the connection's id, never 0 once there is one
}

// end breaks what is under way and waits for it.
func (s *session) end() {
	s.cancel()
	if conn, _ := s.connection(); conn != nil {
		_ = conn.Close() // closing twice is an error, and no news
	}
	_ = s.work.Wait() // its functions report by the stream
}

func (s *session) connection() (net.Conn, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.id
}

// take acts on one packet and says whether the stream is done.
func (s *session) take(packet *client.Packet) (done bool) {
	switch packet.GetType() {
	case client.PacketType_DIAL_REQ:
		return s.dial(packet.GetDialRequest())
	case client.PacketType_DIAL_CLS:
		if r := packet.GetCloseDial(); r != nil && s.dialled && r.GetRandom() == s.random {
			return true
		}
		s.proxy.counters.stray.Add(1)
		return false
	case client.PacketType_DATA:
		return s.data(packet.GetData())
	case client.PacketType_CLOSE_REQ:
		return s.close(packet.GetCloseRequest())
	default:
		s.proxy.counters.stray.Add(1)
		return false
	}
}

func (s *session) dial(r *client.DialRequest) (done bool) {
	if r == nil {
		s.proxy.counters.stray.Add(1)
		return false
	}
	if s.dialled {
		s.proxy.counters.stray.Add(1)
		s.refuse(r.GetRandom(), "one connection for a stream")
		return false
	}
	s.dialled, s.random = true, r.GetRandom()
	s.proxy.counters.dials.Add(1)
	to, err := target(r.GetProtocol(), r.GetAddress(), s.proxy.cfg.Routes)
	if err != nil {
		s.proxy.counters.refused.Add(1)
		s.proxy.cfg.Log.Warn("egress refused", "address", r.GetAddress(), "reason", err)
		s.refuse(s.random, err.Error())
		return false // the client closes the stream when it has read the answer
	}
	// Not here: a CLOSE or a broken stream must be able to end a dial that nobody answers.
	s.work.Go(func() error {
		s.connect(to.String())
		return nil
	})
	return false
}

func (s *session) connect(address string) {
	ctx, cancel := context.WithTimeout(s.ctx, DialTimeout)
	defer cancel()
	conn, err := s.proxy.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		if s.ctx.Err() == nil { // else the caller gave up first
			s.proxy.counters.failed.Add(1)
			s.proxy.cfg.Log.Info("egress dial failed", "address", address, "reason", err)
		}
		s.refuse(s.random, dialText(err))
		return
	}
	defer conn.Close()
	// A peer that reads nothing blocks the stream's side in Write; the stream's end must free it.
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	id := s.proxy.counters.connected.Add(1)
	s.proxy.counters.open.Add(1)
	defer s.proxy.counters.open.Add(-1)
	s.mu.Lock()
	s.conn, s.id = conn, id
	s.mu.Unlock()
	if !s.send(&client.Packet{Type: client.PacketType_DIAL_RSP, Payload: &client.Packet_DialResponse{
		DialResponse: &client.DialResponse{Random: s.random, ConnectID: id},
	}}) {
		return
	}
	s.copy(conn, id)
}

// copy passes on what the peer sends until it ends. The protocol has no half-closed state: the peer's end is
// the connection's, as in konnectivity itself.
func (s *session) copy(conn net.Conn, id int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			s.proxy.counters.fromVPC.Add(int64(n))
			// A clone: gRPC may look at a message after Send has returned.
			if !s.send(&client.Packet{Type: client.PacketType_DATA, Payload: &client.Packet_Data{
				Data: &client.Data{ConnectID: id, Data: bytes.Clone(buffer[:n])},
			}}) {
				return
			}
		}
		if err != nil {
			text := ""
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				text = err.Error()
			}
			s.closed(id, text)
			return
		}
	}
}

func (s *session) data(d *client.Data) (done bool) {
	conn, id := s.connection()
	if d == nil || conn == nil || d.GetConnectID() != id {
		s.proxy.counters.stray.Add(1)
		s.closed(d.GetConnectID(), "no such connection")
		return false
	}
	n, err := conn.Write(d.GetData())
	s.proxy.counters.toVPC.Add(int64(n))
	if err != nil {
		// The reading side says why, with CLOSE_RSP; what still arrives for the connection goes nowhere.
		_ = conn.Close()
	}
	return false
}

func (s *session) close(r *client.CloseRequest) (done bool) {
	conn, id := s.connection()
	if r == nil || conn == nil || r.GetConnectID() != id {
		s.proxy.counters.stray.Add(1)
		s.closed(r.GetConnectID(), "no such connection")
		return false
	}
	_ = conn.Close()  // the peer may have closed before
	_ = s.work.Wait() // its CLOSE_RSP is the answer
	return true
}

func (s *session) refuse(random int64, text string) {
	s.send(&client.Packet{Type: client.PacketType_DIAL_RSP, Payload: &client.Packet_DialResponse{
		DialResponse: &client.DialResponse{Random: random, Error: text},
	}})
}

func (s *session) closed(id int64, text string) {
	s.send(&client.Packet{Type: client.PacketType_CLOSE_RSP, Payload: &client.Packet_CloseResponse{
		CloseResponse: &client.CloseResponse{ConnectID: id, Error: text},
	}})
}

// send reports whether the stream took the packet; if not, the stream is over and Recv says so too.
func (s *session) send(packet *client.Packet) bool {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.Send(packet) == nil
}
