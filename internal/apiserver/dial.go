// Package apiserver connects weft's own processes to the Kubernetes API server, wherever its name leads to at the
// moment.
package apiserver

import (
	"context"
	"net"
	"time"
)

// Dial opens connections whose name is asked anew each time: the addresses of an EKS API server change, and one that was
// remembered would be nobody's. Nil is the system's resolver.
//
// It gives up early. Where the address is that of a service, the first packet after a boot leaves before kube-proxy is
// there, the kernel remembers the flow as not translated, and only a new flow, from a new port, gets through. The usual
// 30 seconds would be a node's whole start.
func Dial(r *net.Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 30 * time.Second, Resolver: r}
	return d.DialContext
}
