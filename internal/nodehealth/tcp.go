package nodehealth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// probeTCP connects and reads whether it is an agent that answers.
func probeTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (Outcome, time.Duration) {
	begin := time.Now()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return outcome(err), 0
	}
	defer c.Close()
	latency := time.Since(begin)
	if at, ok := ctx.Deadline(); ok {
		if err := c.SetReadDeadline(at); err != nil {
			return Failed, 0
		}
	}
	b := make([]byte, len(answer))
	_, err = io.ReadFull(c, b)
	switch {
	case err == nil && string(b) == answer:
		return OK, latency
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Foreign, 0
	}
	return outcome(err), 0
}

func outcome(err error) Outcome {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return NoRoute
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Failed
}
