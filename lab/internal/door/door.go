// Package door takes connections in and leads them to what is behind: by the name that a TLS client asks for,
// or all to one place.
package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Door is one address behind which AWS' endpoints and the API server's public endpoint are, told apart
// by the name that the client's greeting asks for. AWS' are ended here; the API server does its own TLS.
type Door struct {
	net.Listener
	api     string
	config  *tls.Config
	dialAPI func(context.Context) (net.Conn, error)

	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once
}

// New makes a door; Run opens it. What asks for the name api goes where dialAPI leads, all else is ended with
// the certificate and accepted.
func New(l net.Listener, api string, certificate tls.Certificate, dialAPI func(context.Context) (net.Conn, error)) *Door {
	return &Door{
		Listener: l, api: strings.ToLower(api), dialAPI: dialAPI,
		config:   &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		accepted: make(chan net.Conn), closed: make(chan struct{}),
	}
}

// Accept returns connections that are for AWS.
func (d *Door) Accept() (net.Conn, error) {
	select {
	case c := <-d.accepted:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting.
func (d *Door) Close() error {
	d.close.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

// Run sorts connections until ctx ends.
func (d *Door) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = d.Close() })
	defer stop()
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return errors.Join(err, work.Wait())
		}
		work.Go(func() error {
			d.admit(ctx, conn)
			return nil
		})
	}
}

func (d *Door) admit(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	name, replayed, err := greeting(conn)
	if err != nil {
		stop()
		_ = conn.Close()
		return
	}
	if strings.EqualFold(name, d.api) {
		defer stop()
		defer conn.Close()
		up, err := d.dialAPI(ctx)
		if err != nil {
			return // the client sees its connection close
		}
		defer up.Close()
		splice(replayed, up)
		return
	}
	stop()
	select {
	case d.accepted <- tls.Server(replayed, d.config):
	case <-d.closed:
		_ = conn.Close()
	}
}

const greetingTimeout = 10 * time.Second

var errGreeted = errors.New("greeting read")

// greeting reads the client's first message and returns the name in it, with a connection that begins with
// that message again.
func greeting(conn net.Conn) (string, net.Conn, error) {
	if err := conn.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return "", nil, err
	}
	var read bytes.Buffer
	name, greeted := "", false
	// The handshake is only a parser here: it is stopped before it would answer.
	err := tls.Server(listening{conn, io.TeeReader(conn, &read)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name, greeted = hello.ServerName, true
			return nil, errGreeted
		},
	}).Handshake()
	if !greeted {
		return "", nil, err
	}
	return name, replay{conn, io.MultiReader(&read, conn)}, conn.SetReadDeadline(time.Time{})
}

// listening is a connection on which nothing is said.
type listening struct {
	net.Conn
	r io.Reader
}

func (l listening) Read(p []byte) (int, error)     { return l.r.Read(p) }
func (listening) Write(p []byte) (int, error)      { return len(p), nil }
func (listening) Close() error                     { return nil }
func (listening) SetWriteDeadline(time.Time) error { return nil }

// replay is a connection whose first bytes were read already.
type replay struct {
	net.Conn
	r io.Reader
}

func (r replay) Read(p []byte) (int, error) { return r.r.Read(p) }

// CloseWrite says that all is said.
func (r replay) CloseWrite() error {
	if t, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}
