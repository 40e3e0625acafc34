package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"syscall"
	"time"
)

// HTTP gets a URL once, with a connection of its own. Any status but want is BadStatus; 0 wants 200.
func HTTP(ctx context.Context, url string, want int, timeout time.Duration) Result {
	if want == 0 {
		want = http.StatusOK
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var r Result
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		r.Local, r.Remote = i.Conn.LocalAddr().String(), i.Conn.RemoteAddr().String()
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, url, nil)
	if err != nil {
		return Result{Kind: Other, Error: err.Error()}
	}
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		// The certificate is the test's own; the API server is who must verify it.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	started := time.Now()
	resp, err := c.Do(req)
	r.Took = time.Since(started)
	if err != nil {
		r.Kind, r.Error = kindOf(err), err.Error()
		return r
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	r.Status, r.Body, r.Took = resp.StatusCode, string(b), time.Since(started)
	switch {
	case err != nil:
		r.Kind, r.Error = kindOf(err), err.Error()
	case resp.StatusCode != want:
		r.Kind, r.Error = BadStatus, resp.Status
	}
	return r
}

// Lookup resolves a name with the system's resolver.
func Lookup(ctx context.Context, name string, timeout time.Duration) Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started := time.Now()
	addrs, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, name)
	r := Result{Names: addrs, Took: time.Since(started)}
	if err != nil {
		r.Kind, r.Error = NameError, err.Error()
	}
	return r
}

// kindOf classifies by type and error number.
func kindOf(err error) Kind {
	var dns *net.DNSError
	var nerr net.Error
	switch {
	case errors.As(err, &dns):
		return NameError
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return Unreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &nerr) && nerr.Timeout():
		return Timeout
	}
	return Other
}
