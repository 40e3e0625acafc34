package listener

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestASocketThatWasLeftIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "socket")
	for range 2 { // the first isn't removed, as if its process had been killed
		l, err := Unix(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Fatalf("%v %v, expected a socket with mode 0600", info, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		inside := make(chan struct{})
		go func() {
			done <- HTTP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/waits" {
					close(inside)
					<-r.Context().Done()
					return
				}
				_, _ = io.WriteString(w, "here")
			}))
		}()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
		resp, err := client.Get("http://socket/")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "here" {
			t.Errorf("got %q, %v", b, err)
		}
		resp.Body.Close()
		go func() {
			if resp, err := client.Get("http://socket/waits"); err == nil {
				resp.Body.Close()
			}
		}()
		<-inside // the end of the context ends the request that waits
		cancel()
		if err := <-done; err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestAnAddressThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := HTTPAt(t.Context(), l.Addr().String(), http.NotFoundHandler()); err == nil {
		t.Error("served at an address that somebody else has")
	}
	if err := HTTPAt(t.Context(), "", http.NotFoundHandler()); err != nil {
		t.Errorf("without an address: %v", err)
	}
}
