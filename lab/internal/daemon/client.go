package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/process"
)

// Client talks to a lab's daemon.
type Client struct {
	lab  labstate.Lab
	http *http.Client
}

// NewClient makes a client; nothing is dialled yet.
func NewClient(lab labstate.Lab) *Client {
	return &Client{lab: lab, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", lab.AdminSocket())
		},
	}}}
}

// DownError says that the lab's daemon doesn't answer.
type DownError struct {
	Lab   string
	Cause error
}

func (e *DownError) Error() string {
	return fmt.Sprintf("the daemon of lab %s doesn't answer (%v): a lab whose daemon is gone can't be mended; remove it with: lab delete cluster --name %s", e.Lab, e.Cause, e.Lab)
}

func (e *DownError) Unwrap() error { return e.Cause }

// Spawn starts a lab's daemon from this executable and waits until it answers.
func Spawn(ctx context.Context, lab labstate.Lab) (*Client, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	group, err := cgroup.Create(lab.Cgroup("daemon"))
	if err != nil {
		return nil, fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	log := LogPath(lab)
	cmd, err := process.Start(process.Command{
		Name: "daemon of lab " + lab.Name, Path: exe, Args: []string{"lab", "daemon", "--name", lab.Name},
		Env: os.Environ(), Cgroup: group, Log: log,
	})
	if err != nil {
		return nil, err
	}
	client := NewClient(lab)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", lab.AdminSocket())
		if err == nil {
			// It outlives this process.
			return client, errors.Join(conn.Close(), cmd.Process.Release())
		}
		var how unix.WaitStatus
		if pid, err := unix.Wait4(cmd.Process.Pid, &how, unix.WNOHANG, nil); err != nil || pid == cmd.Process.Pid {
			return nil, fmt.Errorf("daemon of lab %s ended with status %d; the end of its log:\n%s", lab.Name, how.ExitStatus(), process.Tail(log, 15))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("daemon of lab %s: %w", lab.Name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// LogPath is the daemon's log.
func LogPath(lab labstate.Lab) string { return filepath.Join(lab.LogDir(), "daemon.log") }

// Create brings the cluster up and tells each stage that is done.
func (c *Client) Create(ctx context.Context, req CreateRequest, stage func(Event)) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, "/cluster", bytes.NewReader(body), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("answer of the daemon: %w", err)
		}
		switch {
		case e.Done && e.Error != "":
			return errors.New(e.Error)
		case e.Done:
			return nil
		default:
			stage(e)
		}
	}
	if err := lines.Err(); err != nil {
		return &DownError{Lab: c.lab.Name, Cause: err}
	}
	return &DownError{Lab: c.lab.Name, Cause: io.ErrUnexpectedEOF}
}

// Status asks how everything is.
func (c *Client) Status(ctx context.Context) (cluster.Status, error) {
	var s cluster.Status
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// AddNode boots another instance.
func (c *Client) AddNode(ctx context.Context, group string, timeout time.Duration) (labstate.Node, error) {
	var n labstate.Node
	return n, c.call(ctx, http.MethodPost, "/nodes/add", NodeRequest{NodeGroup: group, Timeout: timeout}, &n)
}

// DeleteNode terminates a node's instance.
func (c *Client) DeleteNode(ctx context.Context, name string, timeout time.Duration) error {
	return c.call(ctx, http.MethodPost, "/nodes/delete", NodeRequest{Name: name, Timeout: timeout}, nil)
}

// RebootNode powers a node off and on.
func (c *Client) RebootNode(ctx context.Context, name string, timeout time.Duration) error {
	return c.call(ctx, http.MethodPost, "/nodes/reboot", NodeRequest{Name: name, Timeout: timeout}, nil)
}

// LoadImage puts an archive's images into the lab's registry and returns their names.
func (c *Client) LoadImage(ctx context.Context, archive string) ([]string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	resp, err := c.do(ctx, http.MethodPost, "/images", f, http.Header{"X-Archive": {archive}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var refs []string
	return refs, json.NewDecoder(resp.Body).Decode(&refs)
}

func (c *Client) call(ctx context.Context, method, path string, req, into any) error {
	var body io.Reader
	if req != nil {
		b, err := json.Marshal(req)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("answer of the daemon: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &DownError{Lab: c.lab.Name, Cause: err}
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e Event
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Error == "" {
		return nil, fmt.Errorf("the daemon answered %s", resp.Status)
	}
	return nil, errors.New(e.Error)
}
