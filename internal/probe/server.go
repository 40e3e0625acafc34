package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Server answers HTTP in the clear and, if a certificate is there, the API server's calls over TLS.
type Server struct {
	Addr     string // :8080
	TLSAddr  string // :8443
	CertFile string // "" serves no TLS
	KeyFile  string
	Log      *slog.Logger
}

// Run serves until ctx ends.
func (s Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	start := func(addr string, h http.Handler, cert, key string) {
		srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
		if cert != "" {
			// The API server would keep a connection for many calls, and one that is open outlives the rule that
			// let it in: each call must prove the path anew.
			srv.Protocols = new(http.Protocols)
			srv.Protocols.SetHTTP1(true)
			srv.SetKeepAlivesEnabled(false)
		}
		g.Go(func() error {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", addr, err)
			}
			s.Log.Info("serving", "address", addr, "tls", cert != "")
			if cert != "" {
				err = srv.ServeTLS(l, cert, key)
			} else {
				err = srv.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
		g.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			return srv.Shutdown(stop)
		})
	}
	start(s.Addr, echo(), "", "")
	if s.CertFile != "" {
		start(s.TLSAddr, controlPlane(), s.CertFile, s.KeyFile)
	}
	return g.Wait()
}

// echo tells the client what the server saw.
func echo() http.Handler {
	pod, node := Hostname(), os.Getenv("NODE_NAME")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A failed write means that the client is gone: nobody to tell.
		_ = json.NewEncoder(w).Encode(Reply{Pod: pod, Node: node, Client: r.RemoteAddr, Path: r.URL.Path})
	})
}
