package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// childArg makes the program an end of a connection: see Child.
const childArg = "traffic-end"

// Child runs an end if the arguments ask for it, and says whether they did. A main calls it first.
func Child(args []string) (bool, error) {
	if len(args) != 6 || args[1] != childArg {
		return false, nil
	}
	addr, err := netip.ParseAddr(args[4])
	if err != nil {
		return true, err
	}
	cpu, err := strconv.Atoi(args[5])
	if err != nil {
		return true, err
	}
	// One for the thread that waits in the kernel without telling Go, one for what else there is.
	runtime.GOMAXPROCS(2)
	e := &end{kind: Kind(args[3]), addr: addr, buf: make([]byte, chunk), report: json.NewEncoder(os.Stdout)}
	run := e.serve
	if args[2] == "client" {
		run = e.ask
	}
	ended := make(chan error, 1)
	var g errgroup.Group
	g.Go(func() error {
		runtime.LockOSThread()
		// A profile tells the ends from the agents by this name.
		err := errors.Join(pin(cpu), os.WriteFile("/proc/thread-self/comm", []byte("bench-"+args[2]), 0o644))
		if err == nil {
			err = run()
		}
		if err != nil {
			err = errors.Join(err, e.report.Encode(report{Error: err.Error()}))
		}
		ended <- err
		return err
	})
	if args[2] == "client" {
		return true, g.Wait()
	}
	// The server waits for packets only; who measures ends it by its input.
	g.Go(func() error {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
		return err
	})
	return true, <-ended
}

// pin keeps the thread on one CPU and puts it before others, who would otherwise spoil a batch each time that
// they come in between.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
		return fmt.Errorf("highest priority: %w", err)
	}
	return nil
}

// end is a client or a server.
type end struct {
	kind   Kind
	addr   netip.Addr
	buf    []byte
	conn   int
	report *json.Encoder
}

func (e *end) sockaddr() *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: Port, Addr: e.addr.As4()}
}

func (e *end) socketType() int {
	if e.kind == UDP {
		return unix.SOCK_DGRAM
	}
	return unix.SOCK_STREAM
}

// serve answers until the process ends.
func (e *end) serve() error {
	fd, err := socket(e.socketType())
	if err != nil {
		return err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, e.sockaddr())); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if e.kind == UDP {
		if err := e.report.Encode(report{}); err != nil {
			return err
		}
		return e.takeDatagrams(fd)
	}
	if err := errors.Join(unix.Listen(fd, 64), e.report.Encode(report{})); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		if e.conn, err = accept(fd); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if err := e.answer(); err != nil {
			return err
		}
		if err := closeSocket(e.conn); err != nil {
			return err
		}
	}
}

// answer serves one connection until the client has what it wanted.
func (e *end) answer() error {
	if e.kind != CRR {
		if err := unix.SetsockoptInt(e.conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	for {
		want := e.kind.work()
		for want > 0 {
			n, err := read(e.conn, e.buf[:min(want, len(e.buf))])
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if n == 0 {
				return nil
			}
			want -= n
		}
		if _, err := write(e.conn, e.buf[:1]); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if e.kind == CRR {
			return nil
		}
	}
}

// takeDatagrams answers the last of each row to whoever sent it.
func (e *end) takeDatagrams(fd int) error {
	for row := 0; ; row++ {
		for range datagrams - 1 {
			if _, err := read(fd, e.buf); err != nil {
				return fmt.Errorf("receive: %w", err)
			}
		}
		if row == 0 {
			_, from, err := unix.Recvfrom(fd, e.buf, 0)
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if err := unix.Connect(fd, from); err != nil {
				return err
			}
		} else if _, err := read(fd, e.buf); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if _, err := write(fd, e.buf[:1]); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// ask is the client: a turn for each byte of its input.
func (e *end) ask() error {
	op := e.exchange
	if e.kind == CRR {
		op = e.connectExchangeClose
	} else {
		fd, err := socket(e.socketType())
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, e.sockaddr()); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		if e.kind != UDP {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				return err
			}
		}
		e.conn = fd
	}
	if err := e.report.Encode(report{}); err != nil {
		return err
	}
	var rates []float64
	one := make([]byte, 1)
	for {
		if n, err := read(0, one); err != nil || n == 0 {
			return err
		}
		var err error
		if rates, err = e.turn(op, rates[:0]); err != nil {
			return err
		}
		if err := e.report.Encode(report{Rates: rates}); err != nil {
			return err
		}
	}
}

// turn repeats batches for a while. The first ones bring back what the other path's turn has driven out of the
// caches, and don't count.
func (e *end) turn(op func() error, rates []float64) ([]float64, error) {
	for until, n := time.Now().Add(turnTime), 0; n < warmUp+minBatches || time.Now().Before(until); n++ {
		began := time.Now()
		for range e.kind.batch() {
			if err := op(); err != nil {
				return nil, err
			}
		}
		if n >= warmUp {
			rates = append(rates, float64(e.kind.batch()*e.kind.work())/time.Since(began).Seconds())
		}
	}
	return rates, nil
}

// exchange sends what an operation is made of and takes the answer to it.
func (e *end) exchange() error {
	switch e.kind {
	case UDP:
		for range datagrams {
			if _, err := write(e.conn, e.buf[:64]); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	default:
		for left := e.kind.work(); left > 0; {
			n, err := write(e.conn, e.buf[:left])
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
			left -= n
		}
	}
	n, err := read(e.conn, e.buf[:1])
	if err != nil || n != 1 {
		return fmt.Errorf("answer of %d bytes: %w", n, errors.Join(err, unix.ECONNRESET))
	}
	return nil
}

// connectExchangeClose is a connection for one byte each way, closed as connections usually are, by FIN, the
// server first. Namespaces that keep nothing in TIME_WAIT don't run out of ports.
func (e *end) connectExchangeClose() (err error) {
	if e.conn, err = socket(unix.SOCK_STREAM); err != nil {
		return err
	}
	if err := unix.Connect(e.conn, e.sockaddr()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return errors.Join(e.exchange(), closeSocket(e.conn))
}
