package egress

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	konnectivity "sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/proto/client"
)

func loopback(a netip.Addr) bool { return a.IsLoopback() }

func dialer(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("namespace lab-xeni: %w", err) // what a dialer into a namespace may add
	}
	return c, nil
}

// start runs a proxy until the test ends and checks that nothing of it is left.
func start(t *testing.T, dial func(context.Context, string, string) (net.Conn, error)) *Proxy {
	t.Helper()
	p, err := New(Config{Socket: filepath.Join(t.TempDir(), "proxy.sock"), Routes: loopback, Dial: dial, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("run: %v", err)
		}
		if _, err := os.Stat(p.cfg.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left over: %v", err)
		}
		if n := p.Counts().Open; n != 0 {
			t.Errorf("%d connections are open after the end", n)
		}
	})
	return p
}

// dialThrough connects as the API server does.
func dialThrough(ctx context.Context, p *Proxy, address string) (net.Conn, error) {
	tunnel, err := konnectivity.CreateSingleUseGrpcTunnelWithContext(ctx, context.Background(), "unix://"+p.cfg.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithLocalDNSResolution())
	if err != nil {
		return nil, err
	}
	return tunnel.DialContext(ctx, "tcp", address)
}

// peer is a server in the VPC: it handles each connection and stops with the test.
func peer(t *testing.T, handle func(net.Conn) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error {
		for {
			c, err := l.Accept()
			if err != nil {
				return nil
			}
			g.Go(func() error {
				defer c.Close()
				return handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		if err := g.Wait(); err != nil {
			t.Errorf("peer: %v", err)
		}
	})
	return l.Addr().String()
}

func echo(c net.Conn) error {
	_, err := io.Copy(c, c)
	return err
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

func TestSocketIsPrivate(t *testing.T) {
	p := start(t, dialer)
	info, err := os.Stat(p.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode(); m.Perm() != 0o600 || m&os.ModeSocket == 0 {
		t.Errorf("mode %v, expected a socket with 0600", m)
	}
}

func TestSocketOfADeadProxyIsReplaced(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Socket: filepath.Join(dir, "s"), Routes: loopback, Dial: dialer, Log: slog.New(slog.DiscardHandler)}
	dead, err := New(cfg) // never run: its socket stays, as after kill -9
	if err != nil {
		t.Fatal(err)
	}
	dead.listener.Close()
	p, err := New(cfg)
	if err != nil {
		t.Fatalf("beside a dead socket: %v", err)
	}
	p.listener.Close()
}

func TestWhatUsersSee(t *testing.T) {
	p := start(t, dialer)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	for address, want := range map[string]string{
		"10.244.2.3:8443":          "Address is not allowed",
		"[fd00::1]:443":            "Address is not allowed",
		"[::ffff:10.244.2.3]:8443": "Address is not allowed",
		"[fe80::1%eth0]:443":       "Address is not allowed",
		"169.254.169.254:80":       "Address is not allowed",
		"ip-n2:10250":              "not an address: ip-n2",
		"127.0.0.1":                "not an address: 127.0.0.1",
		"127.0.0.1:0":              "not a port: 0",
		"127.0.0.1:http":           "not a port: http",
		nobody:                     "dial tcp " + nobody + ": connect: connection refused",
	} {
		_, err := dialThrough(soon(t), p, address)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, expected exactly %q", address, err, want)
		}
	}
	if c := p.Counts(); c.Refused != 9 || c.Failed != 1 || c.Dials != 10 || c.Connected != 0 {
		t.Errorf("counts %+v, expected 10 dials, 9 refused, 1 failed", c)
	}
}

func TestMappedAddressReachesTheSamePeer(t *testing.T) {
	p := start(t, dialer)
	_, port, err := net.SplitHostPort(peer(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	c, err := dialThrough(soon(t), p, "[::ffff:127.0.0.1]:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestLargeTransferBothWays(t *testing.T) {
	p := start(t, dialer)
	sum := sha256.New()
	content := make([]byte, 50<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	sum.Write(content)
	c, err := dialThrough(soon(t), p, peer(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var g errgroup.Group
	g.Go(func() error {
		for at := 0; at < len(content); {
			n := min(100_000, len(content)-at)
			if _, err := c.Write(content[at : at+n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	})
	back := sha256.New()
	if _, err := io.CopyN(back, c, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sum.Sum(nil), back.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
	if c := p.Counts(); c.ToVPC != 50<<20 || c.FromVPC != 50<<20 {
		t.Errorf("counted %d bytes there and %d back, expected %d", c.ToVPC, c.FromVPC, 50<<20)
	}
}

func TestOnePacketOfManyMegabytes(t *testing.T) {
	p := start(t, dialer)
	const size = 20 << 20 // far above gRPC's usual limit of 4 MB: clients don't split what they write
	got := make(chan int64, 1)
	c, err := dialThrough(soon(t), p, peer(t, func(c net.Conn) error {
		n, err := io.Copy(io.Discard, c)
		got <- n
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case n := <-got:
		if n != size {
			t.Errorf("the peer got %d bytes before the end, expected %d", n, size)
		}
	case <-soon(t).Done():
		t.Fatal("the peer saw no end")
	}
}

func TestPeersHalfCloseDeliversEverythingThenEnds(t *testing.T) {
	p := start(t, dialer)
	c, err := dialThrough(soon(t), p, peer(t, func(c net.Conn) error {
		// The client asks first, as HTTP does: konnectivity's client loses what arrives before it has noted
		// the connection that it was just told of.
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c) // still reading: the proxy must end this side too
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || len(got) != 1<<20 {
		t.Errorf("read %d bytes, %v; expected %d and the end", len(got), err, 1<<20)
	}
	eventually(t, "connection gone", func() bool { return p.Counts().Open == 0 })
}

func TestManyConcurrentConnections(t *testing.T) {
	p := start(t, dialer)
	address := peer(t, echo)
	ctx := soon(t)
	var g errgroup.Group
	for i := range 200 {
		g.Go(func() error {
			c, err := dialThrough(ctx, p, address)
			if err != nil {
				return err
			}
			want := bytes.Repeat([]byte(fmt.Sprintf("%03d", i)), 10_000)
			if _, err := c.Write(want); err != nil {
				return err
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("connection %d got another's bytes", i)
			}
			return c.Close()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "200 connections gone", func() bool { return p.Counts().Open == 0 })
	if c := p.Counts(); c.Connected != 200 || c.Stray != 0 {
		t.Errorf("counts %+v, expected 200 connected and nothing stray", c)
	}
}

func TestGivingUpEndsTheDial(t *testing.T) {
	ended := make(chan error, 1)
	p := start(t, func(ctx context.Context, _, _ string) (net.Conn, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) < 30*time.Second {
			t.Errorf("deadline %v: the proxy would give up before its caller", d)
		}
		<-ctx.Done() // a security group drops the packets
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := dialThrough(ctx, p, "127.0.0.1:9"); err == nil {
		t.Fatal("connected to nobody")
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the dial ended with %v, expected that it was cancelled", err)
		}
	case <-soon(t).Done():
		t.Fatal("the dial goes on after its caller gave up")
	}
}

func TestPeerThatReadsNothingIsLetGo(t *testing.T) {
	hold := make(chan struct{})
	p := start(t, dialer)
	address := peer(t, func(net.Conn) error { <-hold; return nil })
	defer close(hold)
	stream, stop := raw(t, p)
	id := rawDial(t, stream, address)
	big := make([]byte, 1<<20)
	var g errgroup.Group
	g.Go(func() error { // until flow control stops it, then until the stream is broken
		for {
			if err := stream.Send(data(id, big)); err != nil {
				return nil
			}
		}
	})
	eventually(t, "bytes on their way", func() bool { return p.Counts().ToVPC > 0 })
	stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connection gone", func() bool { return p.Counts().Open == 0 })
}

// raw opens a stream without the well-behaved client.
func raw(t *testing.T, p *Proxy) (client.ProxyService_ProxyClient, context.CancelFunc) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+p.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(func() { cancel(); conn.Close() })
	stream, err := client.NewProxyServiceClient(conn).Proxy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream, cancel
}

func dialRequest(address string, random int64) *client.Packet {
	return &client.Packet{Type: client.PacketType_DIAL_REQ, Payload: &client.Packet_DialRequest{
		DialRequest: &client.DialRequest{Protocol: "tcp", Address: address, Random: random}}}
}

func data(id int64, content []byte) *client.Packet {
	return &client.Packet{Type: client.PacketType_DATA, Payload: &client.Packet_Data{Data: &client.Data{ConnectID: id, Data: content}}}
}

func rawDial(t *testing.T, stream client.ProxyService_ProxyClient, address string) int64 {
	t.Helper()
	if err := stream.Send(dialRequest(address, 7)); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	r := got.GetDialResponse()
	if r == nil || r.Error != "" || r.Random != 7 || r.ConnectID == 0 {
		t.Fatalf("answer to a dial: %v", got)
	}
	return r.ConnectID
}

func TestHostilePackets(t *testing.T) {
	p := start(t, dialer)
	address := peer(t, echo) // before the stream: what is made last ends first
	stream, _ := raw(t, p)
	answered := []*client.Packet{
		data(0, []byte("before any dial")),
		data(99, []byte("before any dial")),
		{Type: client.PacketType_DATA}, // no payload
		{Type: client.PacketType_CLOSE_REQ},
		{Type: client.PacketType_CLOSE_REQ, Payload: &client.Packet_CloseRequest{CloseRequest: &client.CloseRequest{ConnectID: 1}}},
		{Type: client.PacketType_DATA, Payload: &client.Packet_CloseRequest{CloseRequest: &client.CloseRequest{ConnectID: 1}}}, // type and payload disagree
	}
	ignored := []*client.Packet{
		{},
		{Type: client.PacketType_DIAL_REQ},
		{Type: client.PacketType_DIAL_RSP},
		{Type: client.PacketType_CLOSE_RSP},
		{Type: client.PacketType_DRAIN},
		{Type: client.PacketType_DIAL_CLS},
		{Type: client.PacketType_DIAL_CLS, Payload: &client.Packet_CloseDial{CloseDial: &client.CloseDial{Random: 0}}},
		{Type: 77},
	}
	for _, packet := range append(answered, ignored...) {
		if err := stream.Send(packet); err != nil {
			t.Fatal(err)
		}
	}
	for range answered {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetCloseResponse().GetError() != "no such connection" {
			t.Errorf("answer %v, expected CLOSE_RSP with an error", got)
		}
	}
	// After all that, the same stream still carries a connection, and only one.
	id := rawDial(t, stream, address)
	if err := stream.Send(dialRequest("127.0.0.1:1", 8)); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || got.GetDialResponse().GetError() == "" || got.GetDialResponse().GetRandom() != 8 {
		t.Fatalf("second dial on a stream: %v, %v; expected a refusal", got, err)
	}
	if err := stream.Send(data(id+1, []byte("someone else's"))); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.GetCloseResponse().GetConnectID() != id+1 {
		t.Fatalf("data for another connection: %v, %v", got, err)
	}
	if err := stream.Send(data(id, []byte("mine"))); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || string(got.GetData().GetData()) != "mine" {
		t.Fatalf("echo: %v, %v", got, err)
	}
	if n := p.Counts().Stray; n != int64(len(answered)+len(ignored)+2) {
		t.Errorf("%d stray packets counted, expected %d", n, len(answered)+len(ignored)+2)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	address := peer(t, echo)
	cfg := Config{Socket: filepath.Join(dir, "s"), Routes: loopback, Dial: dialer, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var g errgroup.Group
		g.Go(func() error { return p.Run(ctx) })
		c, err := dialThrough(soon(t), p, address)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes through a stopped proxy", n)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"10.0.0.1:443", "[::1]:443", "[::ffff:1.2.3.4]:1", "name:1", "1.2.3.4", "[fe80::1%eth0]:5", ":", "1.2.3.4:99999", "01.2.3.4:5"} {
		f.Add("tcp", seed)
	}
	f.Fuzz(func(t *testing.T, protocol, address string) {
		vpc := netip.MustParsePrefix("192.168.0.0/16")
		to, err := target(protocol, address, vpc.Contains)
		if err != nil {
			return
		}
		if protocol != "tcp" || !vpc.Contains(to.Addr()) || to.Addr().Is4In6() || to.Port() == 0 {
			t.Errorf("%s %q is allowed as %v", protocol, address, to)
		}
		if strings.ContainsAny(to.String(), " \n%") {
			t.Errorf("%q becomes %q", address, to)
		}
	})
}
