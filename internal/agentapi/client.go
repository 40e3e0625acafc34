package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// maxError is more than any error that an agent tells.
const maxError = 64 << 10

// Client asks the agent whose socket it is.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient doesn't connect yet.
func NewClient(socket string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
		DisableKeepAlives:  true,
	}
	return &Client{socket: socket, http: &http.Client{Transport: t}}
}

// Get copies the answer to w as it comes. An answer that is an error is returned as *Error.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return BadRequest("%v", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return Unavailable("no agent answers at %s: it is starting, or another one holds the node", c.socket)
	case err != nil:
		return fmt.Errorf("ask the agent at %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
		if err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		return ParseError(resp.StatusCode, b)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// ParseError reads an error as it stands on the wire; anything else becomes one of that code.
func ParseError(code int, b []byte) *Error {
	var e Error
	if err := json.Unmarshal(b, &e); err != nil || e.Message == "" {
		return &Error{Code: code, Message: strings.TrimSpace(string(b))}
	}
	return &e
}
