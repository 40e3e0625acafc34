package servicehealth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// ports stands for the node: number to where it really is.
type ports struct {
	mu    sync.Mutex
	at    map[uint16]string
	taken map[uint16]bool
}

func (p *ports) listen(n uint16) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[n] {
		return nil, errors.New("the port is somebody else's")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		p.at[n] = l.Addr().String()
	}
	return l, err
}

func (p *ports) addr(n uint16) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[n]
}

func (p *ports) take(n uint16, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[n] = taken
}

func (p *ports) ask(n uint16) (code int, header http.Header, body string, err error) {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.addr(n) + "/healthz")
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func start(t *testing.T) (*Checks, *ports, *atomic.Bool) {
	t.Helper()
	healthy := &atomic.Bool{}
	healthy.Store(true)
	p := &ports{at: map[uint16]string{}, taken: map[uint16]bool{}}
	c := New(healthy.Load, slog.New(slog.DiscardHandler))
	c.Listen = p.listen
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, p, healthy
}

var web = loadbalancer.Name{Namespace: "shop", Name: "web"}

func TestAnswers(t *testing.T) {
	c, p, healthy := start(t)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31000, Local: 2})
	expect := func(when string, port uint16, want int, endpoints int) {
		t.Helper()
		eventually(t, when, func() error {
			code, header, body, err := p.ask(port)
			if err != nil {
				return err
			}
			var a answer
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				return err
			}
			if code != want || a.LocalEndpoints != endpoints || a.Service.Name != "web" || a.Service.Namespace != "shop" || a.ServiceProxyHealthy != healthy.Load() {
				return fmt.Errorf("answered %d %s, expected %d with %d endpoints", code, body, want, endpoints)
			}
			if header.Get("Content-Type") != "application/json" || header.Get("X-Load-Balancing-Endpoint-Weight") != fmt.Sprint(endpoints) {
				return fmt.Errorf("headers %v", header)
			}
			return nil
		})
	}
	expect("two endpoints", 31000, 200, 2)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31000})
	expect("none", 31000, 503, 0)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31000, Local: 1})
	expect("one", 31000, 200, 1)
	healthy.Store(false)
	expect("tables that nobody keeps up to date", 31000, 503, 1)
	healthy.Store(true)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31001, Local: 1})
	expect("another port", 31001, 200, 1)
	closed := func(port uint16) {
		t.Helper()
		eventually(t, "the port is closed", func() error {
			if code, _, _, err := p.ask(port); err == nil {
				return fmt.Errorf("answered %d", code)
			}
			return nil
		})
	}
	closed(31000)
	c.Set(web, nil)
	closed(31001)
}

// A port that is somebody else's, such as kube-proxy's, is told, and opened once it's free.
func TestPortIsTaken(t *testing.T) {
	c, p, _ := start(t)
	p.take(31000, true)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31000, Local: 1})
	eventually(t, "told", func() error {
		if why := c.Failed()[web]; !strings.Contains(why, "somebody else's") {
			return fmt.Errorf("told %q", why)
		}
		return nil
	})
	p.take(31000, false)
	eventually(t, "opened", func() error {
		if len(c.Failed()) > 0 {
			return fmt.Errorf("failed still: %v", c.Failed())
		}
		_, _, _, err := p.ask(31000)
		return err
	})
}

// Clients that say nothing, or too much, keep no other from an answer for long.
func TestHostileClients(t *testing.T) {
	c, p, _ := start(t)
	c.Set(web, &loadbalancer.HealthCheck{Port: 31000, Local: 1})
	eventually(t, "opened", func() error { _, _, _, err := p.ask(31000); return err })
	for i := range 2 * maxClients {
		conn, err := net.Dial("tcp", p.addr(31000))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 100)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "answered", func() error {
		_, _, _, err := p.ask(31000)
		return err
	})
	conn, err := net.Dial("tcp", p.addr(31000))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// Written beside: who reads no more may not take all of it.
	go func() {
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
	}()
	b, err := io.ReadAll(conn)
	if err == nil && strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("a header of a megabyte was taken: %.100s", b)
	}
}
