package door

import (
	"context"
	"errors"
	"io"
	"net"

	"golang.org/x/sync/errgroup"
)

// Forward copies between each accepted connection and one that dial makes.
func Forward(ctx context.Context, l net.Listener, dial func(context.Context) (net.Conn, error)) error {
	work, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return work.Wait()
			}
			return errors.Join(err, work.Wait())
		}
		work.Go(func() error {
			defer conn.Close()
			up, err := dial(ctx)
			if err != nil {
				return nil // the client sees its connection close
			}
			defer up.Close()
			stop := context.AfterFunc(ctx, func() { _, _ = conn.Close(), up.Close() })
			defer stop()
			splice(conn, up)
			return nil
		})
	}
}

// splice copies both ways until both are done. A side that has said all can still listen.
func splice(a, b net.Conn) {
	var g errgroup.Group
	half := func(dst, src net.Conn) func() error {
		return func() error {
			_, err := io.Copy(dst, src)
			if t, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
				return t.CloseWrite()
			}
			return errors.Join(err, dst.Close())
		}
	}
	g.Go(half(a, b))
	g.Go(half(b, a))
	// A broken connection is the end of a connection.
	_ = g.Wait()
}
