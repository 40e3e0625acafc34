// Package imds is the instance metadata service, version 2: who asks is known by the source address, and the
// answer to the request for a token lives no more hops than the instance allows.
package imds

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

// Server answers on 169.254.169.254.
type Server struct {
	cloud  *cloud.Cloud
	logger *slog.Logger
	key    []byte
}

// New makes a server. Its tokens are worthless to another one.
func New(c *cloud.Cloud, logger *slog.Logger) (*Server, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("metadata service: make a key: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cloud: c, logger: logger, key: key}, nil
}

type connKey struct{}

// ConnContext lets a handler reach its connection. An http.Server that uses a Server as its handler needs it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Serve answers on a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second,
		ConnContext: ConnContext,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metadata service on %s: %w", l.Addr(), err)
	}
	return nil
}

const (
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	maxTTL      = 21600
)

// caller is the instance that a request comes from.
type caller struct {
	id      string
	options cloud.Metadata
}

func (s *Server) caller(r *http.Request) (caller, bool) {
	var out caller
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return out, false
	}
	found := false
	s.cloud.Read(func(m *cloud.Model) {
		e := m.ENIByAddress(from.Addr().Unmap())
		if e == nil || e.Attachment == nil {
			return
		}
		if i := m.Instances[e.Attachment.InstanceID]; i != nil && i.State != cloud.Terminated {
			out, found = caller{i.ID, i.Metadata}, true
		}
	})
	return out, found
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	who, ok := s.caller(r)
	if !ok {
		s.logger.Warn("metadata asked from an address that no instance has", "from", r.RemoteAddr)
		fail(w, http.StatusNotFound)
		return
	}
	if who.options.HTTPEndpoint == "disabled" {
		fail(w, http.StatusForbidden)
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	if path == "/latest/api/token" {
		s.token(w, r, who)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	token := r.Header.Get(tokenHeader)
	if token == "" && who.options.HTTPTokens == "required" || token != "" && !s.valid(token, who.id) {
		fail(w, http.StatusUnauthorized)
		return
	}
	s.get(w, r, who, path)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request, who caller) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", "OPTIONS, PUT")
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("X-Forwarded-For") != "" {
		fail(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTTL {
		fail(w, http.StatusBadRequest)
		return
	}
	if err := limitHops(r.Context(), who.options.HopLimit); err != nil {
		s.logger.Error("the hop limit cannot be set, so no token is given", "instance", who.id, "err", err)
		fail(w, http.StatusInternalServerError)
		return
	}
	// A later reply on this connection would lift the limit again and let a retransmitted token out with it.
	w.Header().Set("Connection", "close")
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	s.text(w, s.sign(who.id, s.cloud.Now().Add(time.Duration(ttl)*time.Second)))
}

// limitHops sets the TTL of what is sent on the request's connection from now on.
func limitHops(ctx context.Context, hops int) error {
	c, ok := ctx.Value(connKey{}).(syscall.Conn)
	if !ok {
		return errors.New("the connection gives no access to its socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, max(hops, 1))
	}); err != nil {
		return err
	}
	return set
}

func (s *Server) sign(instance string, end time.Time) string {
	text := instance + "|" + strconv.FormatInt(end.Unix(), 10)
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(text))
	return base64.URLEncoding.EncodeToString(append(m.Sum(nil), text...))
}

// valid says whether a token was given to this instance and has not ended.
func (s *Server) valid(token, instance string) bool {
	raw, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size {
		return false
	}
	m := hmac.New(sha256.New, s.key)
	m.Write(raw[sha256.Size:])
	if !hmac.Equal(m.Sum(nil), raw[:sha256.Size]) {
		return false
	}
	id, end, _ := strings.Cut(string(raw[sha256.Size:]), "|")
	n, err := strconv.ParseInt(end, 10, 64)
	return err == nil && id == instance && s.cloud.Now().Before(time.Unix(n, 0))
}

func fail(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	text := http.StatusText(status)
	// A client that went away needs no answer.
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>%d - %s</title>
 </head>
 <body>
  <h1>%d - %s</h1>
 </body>
</html>
`, status, text, status, text)
}

func (s *Server) text(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	// A client that went away needs no answer.
	_, _ = w.Write([]byte(text))
}
