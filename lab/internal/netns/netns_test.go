package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func newNS(t *testing.T, suffix string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making network namespaces needs root")
	}
	name := fmt.Sprintf("nst-%d-%s", os.Getpid(), suffix)
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func current(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCreateListDelete(t *testing.T) {
	before := current(t)
	name := newNS(t, "a")
	if err := Create(name); !errors.Is(err, ErrExist) {
		t.Errorf("second Create: got %v, want ErrExist", err)
	}
	if !Exists(name) {
		t.Error("created namespace doesn't exist")
	}
	names, err := List(name[:len(name)-1])
	if err != nil || !slices.Contains(names, name) {
		t.Errorf("List: %v, %v; want it to have %s", names, err, name)
	}
	if out, err := exec.Command("ip", "netns", "list").CombinedOutput(); err == nil && !strings.Contains(string(out), name) {
		t.Errorf("ip netns list doesn't know %s:\n%s", name, out)
	}
	for range 2 {
		if err := Delete(name); err != nil {
			t.Fatal(err)
		}
	}
	if Exists(name) {
		t.Error("deleted namespace exists")
	}
	if err := Do(name, func() error { return nil }); !errors.Is(err, ErrNotExist) {
		t.Errorf("Do in a deleted namespace: got %v, want ErrNotExist", err)
	}
	if after := current(t); after != before {
		t.Errorf("the test's thread moved from %s to %s", before, after)
	}
}

func TestCreateAfterCrash(t *testing.T) {
	name := newNS(t, "crash")
	if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if Exists(name) {
		t.Fatal("a plain file counts as a namespace")
	}
	if err := Create(name); err != nil {
		t.Fatalf("Create over the file that a crash left: %v", err)
	}
	if !Exists(name) {
		t.Error("namespace doesn't exist")
	}
}

func TestCreateWith(t *testing.T) {
	name := newNS(t, "first")
	first, err := Inode(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	want := errors.New("refused")
	if err := CreateWith(name, func() error { return want }); !errors.Is(err, want) {
		t.Errorf("CreateWith: got %v, want the setup's error", err)
	}
	if _, err := os.Lstat(Path(name)); err == nil {
		t.Error("a failed setup leaves the name behind")
	}
	var seen bool
	if err := CreateWith(name, func() error { seen = !Exists(name); return nil }); err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Error("the setup ran after the namespace had its name")
	}
	if second, err := Inode(name); err != nil || second == 0 {
		t.Errorf("Inode: %d, %v (the first had %d)", second, err, first)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../run"} {
		if err := Create(name); !errors.Is(err, ErrName) {
			t.Errorf("Create(%q): got %v, want ErrName", name, err)
		}
		if err := Delete(name); !errors.Is(err, ErrName) {
			t.Errorf("Delete(%q): got %v, want ErrName", name, err)
		}
	}
}

func TestDoReturnsAndKeepsOthersOut(t *testing.T) {
	name := newNS(t, "do")
	home := current(t)
	var inside string
	want := errors.New("from inside")
	if err := Do(name, func() error { inside = current(t); return want }); !errors.Is(err, want) {
		t.Errorf("Do: got %v, want the function's error", err)
	}
	if inside == home {
		t.Error("Do didn't change the namespace")
	}
	done := make(chan string)
	for range 50 {
		go func() { s, _ := os.Readlink("/proc/thread-self/ns/net"); done <- s }()
	}
	for range 50 {
		if s := <-done; s != home {
			t.Errorf("a goroutine runs in %s, want %s", s, home)
		}
	}
}

func TestSockets(t *testing.T) {
	name := newNS(t, "sock")
	h, err := Netlink(name)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(198, 18, 0, 1), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(name, "tcp", "198.18.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := DialContext(name)(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	pc, err := ListenPacket(name, "udp", "198.18.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := net.ListenPacket("udp", "198.18.0.1:0"); err == nil {
		t.Error("the namespace's address can be used outside of it")
	}
	if _, err := DialContext(name)(ctx, "tcp", "localhost:80"); !errors.Is(err, ErrNotLiteral) {
		t.Errorf("dialling a name: got %v, want ErrNotLiteral", err)
	}
}
