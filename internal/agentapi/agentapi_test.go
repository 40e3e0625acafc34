package agentapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/agentapi"
)

// serve runs a server until the test ends and returns a client of it.
func serve(t *testing.T, register func(*agentapi.Server)) (*agentapi.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	s := agentapi.NewServer(slog.New(slog.NewTextHandler(io.Discard, nil)))
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket stayed: %v", err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(path); err == nil {
			return agentapi.NewClient(path), path
		}
		if time.Now().After(deadline) {
			t.Fatal("no socket")
		}
	}
}

func TestAnswersAndErrors(t *testing.T) {
	c, path := serve(t, func(s *agentapi.Server) {
		s.JSON("GET /v1/fine", func(r *http.Request) (any, error) { return map[string]string{"q": r.FormValue("q")}, nil })
		s.JSON("GET /v1/bad", func(*http.Request) (any, error) { return nil, agentapi.BadRequest("port is %q", "x") })
		s.JSON("GET /v1/broken", func(*http.Request) (any, error) { return nil, errors.New("map is gone") })
	})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; expected mode 0600", info, err)
	}
	for _, tc := range []struct {
		path, body string
		code       int
		message    string
	}{
		{"/v1/fine?q=a%20b", "{\"q\":\"a b\"}\n", 0, ""},
		{"v1/fine", "{\"q\":\"\"}\n", 0, ""},
		{"/v1/bad", "", 400, `port is "x"`},
		{"/v1/broken", "", 500, "map is gone"},
		{"/v2/none", "", 404, "/v2/none"},
	} {
		var b bytes.Buffer
		err := c.Get(t.Context(), tc.path, &b)
		var e *agentapi.Error
		if tc.code == 0 {
			if err != nil || b.String() != tc.body {
				t.Errorf("%s: %q, %v; expected %q", tc.path, b.String(), err, tc.body)
			}
			continue
		}
		if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Message, tc.message) || b.Len() > 0 {
			t.Errorf("%s: %#v and %q, expected code %d with %q", tc.path, err, b.String(), tc.code, tc.message)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	err := agentapi.NewClient(filepath.Join(t.TempDir(), "agent.sock")).Get(t.Context(), "/v1/status", io.Discard)
	var e *agentapi.Error
	if !errors.As(err, &e) || e.Code != http.StatusServiceUnavailable {
		t.Errorf("got %#v, expected an answer of code 503", err)
	}
}

func TestStream(t *testing.T) {
	gone := make(chan struct{})
	c, _ := serve(t, func(s *agentapi.Server) {
		s.Stream("GET /v1/three", func(_ *http.Request, send func(any) error) error {
			for i := range 3 {
				if err := send(i); err != nil {
					return err
				}
			}
			return nil
		})
		s.Stream("GET /v1/never", func(*http.Request, func(any) error) error { return agentapi.NotFound("no such pod") })
		s.Stream("GET /v1/cut", func(_ *http.Request, send func(any) error) error {
			return errors.Join(send(1), errors.New("ring is gone"))
		})
		s.Stream("GET /v1/endless", func(r *http.Request, send func(any) error) error {
			defer close(gone)
			err := send("first")
			<-r.Context().Done()
			return err
		})
	})
	var b bytes.Buffer
	if err := c.Get(t.Context(), "/v1/three", &b); err != nil || b.String() != "0\n1\n2\n" {
		t.Errorf("got %q, %v", b.String(), err)
	}
	var e *agentapi.Error
	if err := c.Get(t.Context(), "/v1/never", io.Discard); !errors.As(err, &e) || e.Code != http.StatusNotFound {
		t.Errorf("an error before the first line came as %v", err)
	}
	b.Reset()
	if err := c.Get(t.Context(), "/v1/cut", &b); err == nil || b.String() != "1\n" {
		t.Errorf("a stream that was cut off: %q, %v; expected its line and an error", b.String(), err)
	}
	// A reader that goes away ends the producer.
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- c.Get(ctx, "/v1/endless", w) }()
	if line := make([]byte, 8); true {
		if n, err := io.ReadFull(r, line); err != nil || string(line[:n]) != "\"first\"\n" {
			t.Errorf("first line is %q, %v", line[:n], err)
		}
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the producer goes on without a reader")
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("reader ended with %v", err)
	}
}
