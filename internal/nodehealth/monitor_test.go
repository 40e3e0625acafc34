package nodehealth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

const port = 4240

// run calls fn until the test ends.
func run(t *testing.T, fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// peer is another node: a namespace with an address that answers.
func peer(t *testing.T, i int) (nstest.Space, netip.Addr, func() (stop func())) {
	t.Helper()
	s := nstest.New(t)
	dev := fmt.Sprintf("nh%d", i)
	here := netip.AddrFrom4([4]byte{10, 9, byte(i), 1})
	there := netip.AddrFrom4([4]byte{10, 9, byte(i), 2})
	for _, err := range []error{
		nstest.Pair(nstest.Space{}, dev, net.HardwareAddr{2, 0, 0, 0, byte(i), 1}, s, "eth0"),
		nstest.Space{}.Up(dev, here.String()+"/24"), s.Up("eth0", there.String()+"/24"),
		// The monitor's own address is that of the first peer's subnet.
		s.Route(netip.MustParsePrefix("10.9.0.0/24"), here, "eth0"),
	} {
		if err != nil && !strings.Contains(err.Error(), "file exists") {
			t.Fatal(err)
		}
	}
	return s, there, func() func() {
		var l *net.TCPListener
		if err := s.Do(func() (err error) {
			l, err = Listen(context.Background(), netip.AddrPortFrom(there, port))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return run(t, func(ctx context.Context) error { return Serve(ctx, l) })
	}
}

func TestMonitor(t *testing.T) {
	nstest.NeedRoot(t)
	_, addrA, answerA := peer(t, 0)
	spaceB, addrB, answerB := peer(t, 1)
	answerA()
	stopB := answerB()
	var changes atomic.Int32
	m := &Monitor{
		Node: "here", Addr: netip.MustParseAddr("10.9.0.1"),
		Settings: Settings{Interval: 200 * time.Millisecond, Timeout: 150 * time.Millisecond, Failures: 3, Sample: 8, Port: port},
		OpenPing: func() error { return OpenPing("/proc/sys/net") },
		Changed:  func() { changes.Add(1) }, Log: slog.New(slog.DiscardHandler),
	}
	m.SetPeers([]Peer{{"here", m.Addr}, {"a", addrA}, {"b", addrB}})
	run(t, m.Run)
	want := func(what string, a, b [2]Outcome) {
		t.Helper()
		nstest.Eventually(t, 20*time.Second, what, func() error {
			r := m.Report()
			if r.Listening != "" || r.Pinging != "" || len(r.Peers) != 2 {
				return fmt.Errorf("%+v", r)
			}
			for i, w := range [][2]Outcome{a, b} {
				if p := r.Peers[i]; p.ICMP.Outcome != w[0] || p.TCP.Outcome != w[1] {
					return fmt.Errorf("%s: %s", p.Node, Seen(p.ICMP.Outcome, p.TCP.Outcome, port))
				}
			}
			return nil
		})
	}
	well := [2]Outcome{OK, OK}
	want("both are reached", well, well)
	if p := m.Report().Peers[0]; p.ICMP.Latency <= 0 || p.TCP.Latency <= 0 || p.ICMP.Since.IsZero() {
		t.Errorf("no latency or time: %+v", p)
	}
	if n := changes.Load(); n != 0 {
		t.Errorf("%d changes told before there was one", n)
	}
	stopB()
	want("no agent on b", well, [2]Outcome{OK, Refused})
	if err := spaceB.Set("ipv4/icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	answerB()
	want("b answers no ICMP", well, [2]Outcome{TimedOut, OK})
	if u := m.Unreached(); len(u) != 1 || u[0].Node != "b" || u[0].Since().IsZero() {
		t.Errorf("not reached: %+v", u)
	}
	if err := spaceB.Set("ipv4/icmp_echo_ignore_all", "0"); err != nil {
		t.Fatal(err)
	}
	want("b is back", well, well)
	nstest.Eventually(t, 10*time.Second, "changes are told", func() error {
		if changes.Load() < 2 {
			return fmt.Errorf("%d", changes.Load())
		}
		return nil
	})
	m.SetPeers([]Peer{{"a", addrA}})
	if r := m.Report(); r.Known != 1 || len(r.Peers) != 1 || r.Reached != 1 {
		t.Errorf("after b has gone: %+v", r)
	}
}

// TestResponder is about those who don't behave: none keeps an honest one from its answer.
func TestResponder(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	run(t, func(ctx context.Context) error { return Serve(ctx, l) })
	for range 3 * lingering {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if o, latency := probeTCP(ctx, netip.MustParseAddr("127.0.0.1"), at); o != OK || latency <= 0 {
		t.Errorf("beside those that linger: %s after %s", o, latency)
	}
	// One that speaks first gets the answer, too, once there is room for its manners.
	nstest.Eventually(t, 20*time.Second, "an HTTP client is answered", func() error {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		if err == nil && string(b) != answer {
			err = fmt.Errorf("answer is %q", b)
		}
		return err
	})
}

func TestForeign(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "SSH-2.0-x\r\n")
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if o, _ := probeTCP(ctx, netip.MustParseAddr("127.0.0.1"), l.Addr().(*net.TCPAddr).AddrPort()); o != Foreign {
		t.Errorf("got %q", o)
	}
}

func TestOpenPing(t *testing.T) {
	for _, tc := range []struct {
		have, want string
		bad        bool
	}{{"1\t0\n", "0 0", false}, {"0\t2147483647\n", "0\t2147483647\n", false}, {"100\t200\n", "100\t200\n", true}, {"x\n", "x\n", true}} {
		root := t.TempDir()
		path := filepath.Join(root, "ipv4", "ping_group_range")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(tc.have), 0o644); err != nil {
			t.Fatal(err)
		}
		err := OpenPing(root)
		if b, _ := os.ReadFile(path); (err != nil) != tc.bad || string(b) != tc.want {
			t.Errorf("%q became %q, %v", tc.have, b, err)
		}
	}
}
