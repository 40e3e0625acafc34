package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrNotLiteral says that an address has a name where an IP address must be.
var ErrNotLiteral = errors.New("the address must be an IP address and a port: names aren't resolved inside a namespace")

// DialContext returns a dial function, as net/http's Transport takes it, whose sockets are in the namespace.
func DialContext(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return Dial(ctx, name, d, network, address)
	}
}

// Dial is DialContext for a dialer with a local address, a timeout or a control function.
func Dial(ctx context.Context, name string, d net.Dialer, network, address string) (net.Conn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := Do(name, func() error {
		var err error
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Listen is net.Listen inside the namespace.
func Listen(name, network, address string) (net.Listener, error) {
	return ListenWith(context.Background(), name, net.ListenConfig{}, network, address)
}

// ListenWith is Listen with a configuration.
func ListenWith(ctx context.Context, name string, lc net.ListenConfig, network, address string) (net.Listener, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var l net.Listener
	err := Do(name, func() error {
		var err error
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return l, nil
}

// ListenPacket is net.ListenPacket inside the namespace.
func ListenPacket(name, network, address string) (net.PacketConn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var pc net.PacketConn
	err := Do(name, func() error {
		var err error
		var lc net.ListenConfig
		pc, err = lc.ListenPacket(context.Background(), network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return pc, nil
}

// literal refuses names: Go's resolver would look them up on other threads, outside the namespace.
func literal(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		// Raw sockets (ip4:icmp) have no port.
		host = address
	}
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("address %q: %w", address, ErrNotLiteral)
	}
	return nil
}
