package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// names answers every question for an address with the one that it is told.
type names struct {
	mu    sync.Mutex
	addr  netip.Addr
	asked int
}

func (n *names) lead(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = netip.MustParseAddr(addr)
}

func (n *names) answer(query []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	if m.Questions[0].Type == dnsmessage.TypeA {
		n.asked++
		m.Answers = []dnsmessage.Resource{{
			// A resolver that remembered would, for this long.
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 3600},
			Body:   &dnsmessage.AResource{A: n.addr.As4()},
		}}
	}
	return m.Pack()
}

// resolver asks n.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := n.answer(buf[:size]); err == nil {
				c.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", c.LocalAddr().String())
	}}
}

// serve is an API server at an address that tells its name as its version.
func serve(t *testing.T, addr, version string) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"gitVersion":%q}`, version)
	})}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// TestNameLeadsElsewhere: when an API server's address changes, the next connection goes to the new one.
func TestNameLeadsElsewhere(t *testing.T) {
	first := serve(t, "127.0.0.1:0", "first")
	_, port, err := net.SplitHostPort(first.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	serve(t, "127.0.0.2:"+port, "second")
	var n names
	n.lead("127.0.0.1")
	c, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://api.example.test:" + port, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, Dial: Dial(n.resolver(t)), Timeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (string, error) {
		b, err := c.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(t.Context())
		return string(b), err
	}
	for range 3 {
		if got, err := ask(); err != nil || got != `{"gitVersion":"first"}` {
			t.Fatalf("found %s, %v", got, err)
		}
	}
	n.lead("127.0.0.2")
	first.CloseClientConnections()
	first.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, err := ask()
		if err == nil && got == `{"gitVersion":"second"}` {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %s, %v, expected the second", got, err)
		}
	}
	if n.asked < 2 {
		t.Errorf("the name was asked for %d times", n.asked)
	}
}

// A connection that nobody answers is given up soon: after a boot only a new one gets through.
func TestGivesUpSoon(t *testing.T) {
	// A listener whose queue is full doesn't answer, as a service's address before kube-proxy is there.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for range 8 {
		began := time.Now()
		c, err := Dial(nil)(t.Context(), "tcp", address)
		if err == nil {
			defer c.Close()
			continue
		}
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("dial: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("given up after %s", took)
		}
		return
	}
	t.Fatal("a full queue still took connections")
}
