package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admission "k8s.io/api/admission/v1"
)

func TestHTTPKinds(t *testing.T) {
	good := httptest.NewServer(echo())
	defer good.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct {
		name, url string
		want      Kind
	}{
		{"answers", good.URL, OK},
		{"another status", bad.URL, BadStatus},
		{"no answer", "http://" + silent.Addr().String(), Timeout},
		{"nothing listens", "http://" + closed.Addr().String(), Refused},
		{"no such name", "http://no-such-name.invalid/", NameError},
		{"no URL", "http://%zz", Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := HTTP(t.Context(), c.url, 0, 500*time.Millisecond)
			if r.Kind != c.want {
				t.Fatalf("got %q (%s), want %q", r.Kind, r.Error, c.want)
			}
			if reply, ok := r.ReplyOf(); c.want == OK && (!ok || reply.Client != r.Local) {
				t.Fatalf("the server saw %+v, the client was %s", reply, r.Local)
			}
		})
	}
}

func TestICMPLoopback(t *testing.T) {
	r := ICMP(t.Context(), "127.0.0.1", 2, 1400, 2*time.Second)
	if r.Kind == Other {
		t.Skipf("no right to an ICMP socket here: %s", r.Error)
	}
	if r.Kind != OK || r.Received != 2 {
		t.Fatalf("got %+v", r)
	}
	if r := ICMP(t.Context(), "not an address", 1, 56, time.Second); r.Kind != Other {
		t.Fatalf("got %+v", r)
	}
}

func TestServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Server{Addr: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}.Run(ctx)
	}()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server did not end")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := (Server{Addr: taken.Addr().String(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}).Run(t.Context()); err == nil {
		t.Fatal("a taken port is no error")
	}
}

// TestEachCallIsAConnection: the API server's calls don't share one, whatever its client would like.
func TestEachCallIsAConnection(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	pair := s.TLS.Certificates[0]
	s.Close()
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := filepath.Join(dir, "tls.crt")
	for name, b := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "tls.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Server{Addr: "127.0.0.1:0", TLSAddr: addr, CertFile: cert, KeyFile: filepath.Join(dir, "tls.key"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}.Run(ctx)
	}()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	locals := map[string]bool{}
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { locals[i.Conn.LocalAddr().String()] = true }}
	deadline := time.Now().Add(10 * time.Second)
	for calls := 0; calls < 3; {
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, "https://"+addr+"/apis", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue // it doesn't listen yet
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ProtoMajor != 1 {
			t.Fatalf("got HTTP/%d, %v", resp.ProtoMajor, err)
		}
		resp.Body.Close()
		calls++
	}
	if len(locals) != 3 {
		t.Errorf("3 calls took %d connections", len(locals))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWebhook(t *testing.T) {
	s := httptest.NewTLSServer(controlPlane())
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(body string) (*http.Response, error) {
		return client.Post(s.URL+WebhookPath, "application/json", strings.NewReader(body))
	}
	for _, c := range []struct {
		object  string
		allowed bool
	}{
		{`{"metadata":{"name":"a"}}`, true},
		{`{"metadata":{"name":"a","annotations":{"` + DenyAnnotation + `":"true"}}}`, false},
	} {
		resp, err := ask(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","object":` + c.object + `}}`)
		if err != nil {
			t.Fatal(err)
		}
		var out admission.AdmissionReview
		err = json.NewDecoder(resp.Body).Decode(&out)
		resp.Body.Close()
		if err != nil || out.Response == nil || out.Response.UID != "u" || out.Response.Allowed != c.allowed {
			t.Fatalf("%s: got %+v, %v", c.object, out.Response, err)
		}
	}
	resp, err := ask("{")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("half an object: status %d", resp.StatusCode)
	}
	resp, err = client.Get(s.URL + "/apis/" + APIGroup + "/" + APIVersion + "/probes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), Hostname()) {
		t.Fatalf("got %s, %v", b, err)
	}
}
