package nodehealth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// answer is all that is ever said: an HTTP response, for whoever looks with curl, that no request is read
// for.
const answer = "HTTP/1.0 200 OK\r\nServer: weft\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"

const (
	lingering = 32 // connections at once whose sender isn't done
	linger    = time.Second
	most      = 4 << 10 // bytes that a sender may still send meanwhile
)

// Listen opens the port that Serve answers on.
func Listen(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("node health: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// Serve answers every connection at once, whatever it sends, until ctx ends. Nobody can keep another from
// being answered: an answer fits the socket's buffer, and who lingers beyond a number is cut off.
func Serve(ctx context.Context, l *net.TCPListener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return l.Close()
	})
	g.Go(func() error {
		var rest errgroup.Group
		rest.SetLimit(lingering)
		defer rest.Wait() //nolint:errcheck // they return none
		for {
			c, err := l.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				// The process is out of files, or the peer is gone already: the next one may do.
				if pause(ctx, 10*time.Millisecond) != nil {
					return nil
				}
				continue
			}
			if !reply(c) || !rest.TryGo(func() error { drain(c); return nil }) {
				c.Close()
			}
		}
	})
	return g.Wait()
}

func reply(c *net.TCPConn) bool {
	if c.SetDeadline(time.Now().Add(linger)) != nil {
		return false
	}
	if _, err := io.WriteString(c, answer); err != nil {
		return false
	}
	return c.CloseWrite() == nil
}

// drain waits for the sender's end: a close with something unread would reset the connection, and the
// answer with it.
func drain(c *net.TCPConn) {
	io.CopyN(io.Discard, c, most) //nolint:errcheck // its end, whichever way
	c.Close()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
