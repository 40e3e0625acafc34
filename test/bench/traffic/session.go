package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// session is the sockets of one measurement. All are non-blocking: what was sent has usually arrived when
// the call returns, since a veth delivers on the same CPU.
type session struct {
	path                     Path
	listener, client, server int
	buf                      []byte
	op                       func() (int, error)
}

func sockaddr(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Port: Port, Addr: a.As4()} }

func socket(typ int) (int, error) {
	return unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// prepare opens what the kind needs and chooses the operation, which says how much it did. The thread is in
// the client's namespace afterwards; a socket stays in the one that it was made in.
func (s *session) prepare(k Kind) error {
	typ := unix.SOCK_STREAM
	if k == UDP {
		typ = unix.SOCK_DGRAM
	}
	if err := s.path.Server.Enter(); err != nil {
		return err
	}
	fd, err := socket(typ)
	if err != nil {
		return err
	}
	if k == UDP {
		s.server = fd
	} else {
		s.listener = fd
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sockaddr(s.path.Address))); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if k != UDP {
		if err := unix.Listen(fd, 64); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	if err := s.path.Client.Enter(); err != nil {
		return err
	}
	switch k {
	case CRR:
		s.op = s.crr
		return nil
	case UDP:
		if s.client, err = socket(typ); err != nil {
			return err
		}
		s.op = s.udp
		return unix.Connect(s.client, sockaddr(s.path.dial()))
	}
	if err := s.connect(); err != nil {
		return err
	}
	for _, fd := range []int{s.client, s.server} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	s.op = s.rr
	if k == Stream {
		s.op = s.stream
	}
	return nil
}

// connect makes client and server of the listener's next connection.
func (s *session) connect() error {
	var err error
	if s.client, err = socket(unix.SOCK_STREAM); err != nil {
		return err
	}
	if err := unix.Connect(s.client, sockaddr(s.path.dial())); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return retry(func() error {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == nil {
			s.server = fd
		}
		return err
	})
}

// rr sends a byte there and back.
func (s *session) rr() (int, error) {
	return 1, errors.Join(pass(s.client, s.server, s.buf[:1]), pass(s.server, s.client, s.buf[:1]))
}

// crr opens a connection, sends a byte there and back, and closes it as connections usually are, the server
// first. Namespaces that keep nothing in TIME_WAIT don't run out of ports.
func (s *session) crr() (int, error) {
	if err := s.connect(); err != nil {
		return 0, err
	}
	if _, err := s.rr(); err != nil {
		return 0, err
	}
	server, client := s.server, s.client
	s.server, s.client = -1, -1
	return 1, errors.Join(unix.Shutdown(server, unix.SHUT_WR), unix.Close(client), unix.Close(server))
}

// udp sends a row of datagrams and takes them.
func (s *session) udp() (int, error) {
	for range datagrams {
		if err := retry(func() error { _, err := unix.Write(s.client, s.buf[:64]); return err }); err != nil {
			return 0, err
		}
	}
	for range datagrams {
		if err := retry(func() error { _, err := unix.Read(s.server, s.buf); return err }); err != nil {
			return 0, fmt.Errorf("a datagram is lost: %w", err)
		}
	}
	return datagrams, nil
}

// stream sends a chunk, taking at the other end what arrives.
func (s *session) stream() (int, error) {
	sent, got := 0, 0
	end := time.Now().Add(patience)
	for got < chunk {
		progress := false
		if sent < chunk {
			n, err := unix.Write(s.client, s.buf[sent:])
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				return 0, fmt.Errorf("send: %w", err)
			}
			if n > 0 {
				sent, progress = sent+n, true
			}
		}
		n, err := unix.Read(s.server, s.buf)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return 0, fmt.Errorf("receive: %w", err)
		}
		if n > 0 {
			got, progress = got+n, true
		}
		if !progress {
			if time.Now().After(end) {
				return 0, fmt.Errorf("%d of %d bytes arrived: %w", got, sent, unix.ETIMEDOUT)
			}
			yield()
		}
	}
	return got, nil
}

func pass(from, to int, b []byte) error {
	if err := retry(func() error { _, err := unix.Write(from, b); return err }); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return retry(func() error {
		n, err := unix.Read(to, b)
		if err == nil && n == 0 {
			return fmt.Errorf("receive: %w", unix.ECONNRESET)
		}
		return err
	})
}

// retry repeats what would block, giving the CPU to whoever delivers.
func retry(f func() error) error {
	err := f()
	if err == nil || !wouldBlock(err) {
		return err
	}
	for end := time.Now().Add(patience); wouldBlock(err) && time.Now().Before(end); {
		yield()
		err = f()
	}
	return err
}

// wouldBlock holds for a connection that is still being made, too.
func wouldBlock(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTCONN) }

func yield() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func (s *session) close() error {
	var errs []error
	for _, fd := range []int{s.client, s.server, s.listener} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
