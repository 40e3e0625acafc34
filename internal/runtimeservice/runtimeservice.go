// Package runtimeservice asks the container runtime which sandboxes it has.
package runtimeservice

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Client speaks the Container Runtime Interface over a unix socket.
type Client struct {
	conn *grpc.ClientConn
	cri  runtimev1.RuntimeServiceClient
}

// Sandbox is a pod's sandbox in any state: one that stopped counts until the runtime forgets it.
type Sandbox struct {
	ID, Namespace, Name, UID string
	// Ended: its containers do not run, and it is listed still.
	Ended bool
}

// New returns a client of the socket at path; it connects when first asked.
func New(path string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("container runtime: %w", err)
	}
	return &Client{conn: conn, cri: runtimev1.NewRuntimeServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Sandboxes lists all sandboxes by id.
func (c *Client) Sandboxes(ctx context.Context) (map[string]Sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := c.cri.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("container runtime: list sandboxes: %w", err)
	}
	out := make(map[string]Sandbox, len(r.Items))
	for _, s := range r.Items {
		sb := Sandbox{ID: s.Id, Ended: s.State == runtimev1.PodSandboxState_SANDBOX_NOTREADY}
		if m := s.Metadata; m != nil {
			sb.Namespace, sb.Name, sb.UID = m.Namespace, m.Name, m.Uid
		}
		out[s.Id] = sb
	}
	return out, nil
}
