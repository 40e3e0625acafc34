package cni

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-cni/weft/internal/listener"
)

// recorder is a handler that remembers.
type recorder struct {
	mu   sync.Mutex
	seen []Request
	ns   []byte
	err  error
}

func (h *recorder) note(r Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, r)
	return h.err
}

func (h *recorder) Add(_ context.Context, r Request, _ NetConf, ns *os.File) (types.Result, error) {
	b := make([]byte, 16)
	n, _ := ns.Read(b)
	h.ns = b[:n]
	return nil, h.note(r)
}
func (h *recorder) Del(_ context.Context, r Request, _ NetConf) error { return h.note(r) }
func (h *recorder) Check(_ context.Context, r Request, _ NetConf, _ *os.File) error {
	return h.note(r)
}
func (h *recorder) GC(_ context.Context, r Request, _ NetConf) error { return h.note(r) }
func (h *recorder) Status(context.Context) error                     { return h.note(Request{Command: Status}) }

func serve(t *testing.T, h Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cni.sock")
	l, err := listener.Unix(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewServer(h, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func conf(t *testing.T, socket string) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(map[string]string{"cniVersion": Version, "name": "weft", "type": "weft-cni", "socket": socket, "deletes": filepath.Join(filepath.Dir(socket), "deletes")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFileTravels: the namespace arrives as an open file, and the socket is nobody else's.
func TestFileTravels(t *testing.T) {
	h := &recorder{}
	socket := serve(t, h)
	fi, err := os.Stat(socket)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, mode %v", err, fi.Mode())
	}
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, []byte("namespace"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := Request{Command: Add, ContainerID: "c", IfName: "eth0", Config: conf(t, socket)}
	reply, err := NewShim().call(socket, r, f)
	if err != nil || reply.Error != nil {
		t.Fatal(err, reply.Error)
	}
	if string(h.ns) != "namespace" {
		t.Errorf("the agent read %q", h.ns)
	}
	if reply, err = NewShim().call(socket, r, nil); err != nil || reply.Error == nil || reply.Error.Code != types.ErrInvalidNetNS {
		t.Errorf("ADD without a namespace: %v, %v", reply.Error, err)
	}
	h.err = types.NewError(types.ErrTryAgainLater, "later", "why")
	r.Command = Del
	if reply, err = NewShim().call(socket, r, nil); err != nil || reply.Error == nil || reply.Error.Code != types.ErrTryAgainLater {
		t.Errorf("a handler's error came as %v, %v", reply.Error, err)
	}
	h.err = errors.New("plain")
	if reply, err = NewShim().call(socket, r, nil); err != nil || reply.Error == nil || reply.Error.Code != types.ErrInternal {
		t.Errorf("a plain error came as %v, %v", reply.Error, err)
	}
	r.Command = "DANCE"
	if reply, err = NewShim().call(socket, r, nil); err != nil || reply.Error == nil || reply.Error.Code != types.ErrInvalidEnvironmentVariables {
		t.Errorf("an unknown command: %v, %v", reply.Error, err)
	}
}

// TestHostileClients: what isn't a request is refused and the next client is served.
func TestHostileClients(t *testing.T) {
	h := &recorder{}
	socket := serve(t, h)
	for name, b := range map[string][]byte{
		"nothing": {}, "half a length": {0, 0}, "a length alone": {0, 0, 0, 9},
		"far too long": binary.BigEndian.AppendUint32(nil, 1<<31), "no JSON": {0, 0, 0, 3, 'a', 'b', 'c'},
		"other JSON": append([]byte{0, 0, 0, 2}, "[]"...),
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	// Three descriptors where one is expected.
	before := openFiles(t)
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.WriteMsgUnix([]byte("\x00\x00\x00\x02{}"), syscall.UnixRights(0, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	var reply Reply
	if _, err := readMessage(c, &reply); err == nil {
		t.Errorf("three descriptors were answered with %+v", reply)
	}
	c.Close()
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
	if reply, err := NewShim().call(socket, Request{Command: Status, Config: conf(t, socket)}, nil); err != nil || reply.Error != nil {
		t.Errorf("after hostile clients: %v, %v", reply.Error, err)
	}
	if len(h.seen) != 1 {
		t.Errorf("the handler saw %v", h.seen)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestQueue(t *testing.T) {
	q := Queue{Dir: filepath.Join(t.TempDir(), "deletes")}
	ctx := context.Background()
	if n, err := q.Replay(ctx, nil); n != 0 || err != nil {
		t.Fatalf("without a directory: %d, %v", n, err)
	}
	for _, id := range []string{"a", "b", "a"} {
		if err := q.Put("weft", Request{Command: Del, ContainerID: id, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(q.Dir, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(q.Dir, ".x.json.tmp-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var done []string
	refuse := errors.New("refused")
	n, err := q.Replay(ctx, func(_ context.Context, r Request) error {
		if r.ContainerID == "b" {
			return refuse
		}
		done = append(done, r.ContainerID)
		return nil
	})
	if n != 1 || !errors.Is(err, refuse) || len(done) != 1 {
		t.Errorf("replayed %d: %v, %v", n, done, err)
	}
	if err := q.ReplayOne(ctx, "weft", "b", "eth0", func(context.Context, Request) error { return nil }); err != nil {
		t.Error(err)
	}
	if n, err := q.Replay(ctx, func(context.Context, Request) error { return refuse }); n != 0 || err != nil {
		t.Errorf("what was done came back: %d, %v", n, err)
	}
}

func TestReadyLately(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	now := time.Now()
	if ReadyLately(path, now) {
		t.Error("ready without a file")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !ReadyLately(path, now) || ReadyLately(path, now.Add(AwayBound+time.Minute)) {
		t.Error("the bound isn't kept")
	}
	if !ReadyLately(path, now.Add(time.Hour+time.Minute)) {
		t.Error("an agent that is away for an hour costs the node its pods")
	}
}

// TestConflistParses: what the agent writes is what the plugin reads, and another socket is honoured.
func TestConflistParses(t *testing.T) {
	b, err := Conflist("/tmp/x/cni.sock", "/tmp/x/deletes", true)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion string            `json:"cniVersion"`
		Plugins    []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(b, &list); err != nil || len(list.Plugins) != 2 || list.CNIVersion != "1.1.0" {
		t.Fatalf("%v: %s", err, b)
	}
	c, err := ParseNetConf(list.Plugins[0])
	if err != nil || c.Socket != "/tmp/x/cni.sock" || c.ReadyFile() != "/tmp/x/ready" || c.Deletes != "/tmp/x/deletes" {
		t.Errorf("%+v, %v", c, err)
	}
	if !bytes.Contains(list.Plugins[1], []byte("portMappings")) {
		t.Errorf("portmap is %s", list.Plugins[1])
	}
}

func FuzzNetConf(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"weft","socket":"/run/weft/cni.sock"}`))
	f.Add([]byte(`{"socket":"relative"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseNetConf(b)
		if err == nil && (!filepath.IsAbs(c.Socket) || !filepath.IsAbs(c.Deletes)) {
			t.Errorf("accepted %q", b)
		}
	})
}

// FuzzRequest sends any bytes to the server's reader.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := net.Dial("unix", filepath.Join(dir, "s"))
			if err == nil {
				_, _ = c.Write(b)
				c.Close()
			}
		}()
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var r Request
		file, err := readMessage(c, &r)
		if file != nil {
			t.Error("a file out of nothing")
		}
		if err == nil && len(b) < 4 {
			t.Errorf("%q was read as a request", b)
		}
	})
}
