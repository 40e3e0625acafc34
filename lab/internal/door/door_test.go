package door

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/pki"
)

func TestDoorTellsAWSFromTheAPIServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ca, err := pki.NewAuthority("aws")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Subject{CommonName: "aws", DNSNames: []string{"ec2.example"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "api") }))
	defer api.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := New(l, "Cluster.example", cert, func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", api.Listener.Addr().String())
	})
	life, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return d.Run(life) })
	aws := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "aws "+r.TLS.ServerName) })}
	g.Go(func() error { return aws.Serve(d) })
	defer func() {
		stop()
		_ = aws.Close()
		_ = g.Wait()
	}()

	apiPool := api.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, tt := range []struct {
		server string
		config *tls.Config
		want   string
	}{
		{"ec2.example", &tls.Config{RootCAs: ca.Pool()}, "aws ec2.example"},
		// The API server ends its own TLS: the certificate is its, not AWS'.
		{"cluster.example", &tls.Config{RootCAs: apiPool, InsecureSkipVerify: true}, "api"},
	} {
		tt.config.ServerName = tt.server
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: tt.config, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var dialer net.Dialer
				return dialer.DialContext(ctx, "tcp", l.Addr().String())
			},
		}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+tt.server+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", tt.server, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != tt.want {
			t.Errorf("%s answered %q, want %q", tt.server, b, tt.want)
		}
	}
	// Whoever doesn't greet is let go, and others still get in.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") || len(b) > 0 {
		t.Errorf("plain HTTP got %q, %v; want a closed connection", b, err)
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		var g errgroup.Group
		g.Go(func() error {
			_, _ = client.Write(b)
			return client.Close()
		})
		if name, _, err := greeting(server); err == nil && len(name) > len(b) {
			t.Errorf("a name of %d bytes from %d", len(name), len(b))
		}
		_ = server.Close()
		_ = g.Wait()
	})
}
