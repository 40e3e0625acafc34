// Package listener opens sockets for weft's own servers and answers HTTP on them until a context ends.
package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Unix opens a socket with mode 0600, under another name first, so that nobody meets it with another mode. One that
// a killed process left is replaced: its owner's lock must make sure that it is nobody's.
func Unix(path string) (*net.UnixListener, error) {
	fail := func(err error) (*net.UnixListener, error) { return nil, fmt.Errorf("socket %s: %w", path, err) }
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	return l, nil
}

// HTTP answers on the listener until ctx ends, which ends the requests too.
func HTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	g, ctx := errgroup.WithContext(ctx)
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		}
		return nil
	})
	return g.Wait()
}

// HTTPAt answers at a TCP address until ctx ends. An empty address is nowhere: nothing is served.
func HTTPAt(ctx context.Context, addr string, h http.Handler) error {
	if addr == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return HTTP(ctx, l, h)
}
