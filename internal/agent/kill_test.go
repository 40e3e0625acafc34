package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// Environment of a child that runs the agent of a rig made by its parent.
const (
	killDir  = "WEFT_KILL_DIR"
	killBPF  = "WEFT_KILL_BPF"
	killStep = "WEFT_KILL_STEP"
)

// dyingDatapath kills its own process just before or just after it did something for an endpoint: the
// instants that divide an ADD as the kernel sees it.
type dyingDatapath struct {
	Datapath
	step  string
	armed *atomic.Bool
}

func (d dyingDatapath) die(step string) {
	if d.step == step && d.armed.Load() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d dyingDatapath) AddEndpoint(e datapath.Endpoint) error {
	d.die("created") // journal and device are there, programs are not
	err := d.Datapath.AddEndpoint(e)
	d.die("attached") // programs are there, routes are not
	return err
}

func (d dyingDatapath) DeleteEndpoint(slot uint32) error {
	d.die("removed") // of a DEL: the device is gone, programs and journal are not
	err := d.Datapath.DeleteEndpoint(slot)
	d.die("detached")
	return err
}

// TestKillChild is the agent that TestKill kills.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("runs inside TestKill")
	}
	r := &rig{t: t, dir: dir, bpf: os.Getenv(killBPF), cluster: newFakeCluster(), addWait: 2 * time.Second,
		runtime: &fakeRuntime{err: errors.New("no comparison in this test")}}
	r.plugin = filepath.Join(dir, "weft-cni") // the parent's: this process is killed and removes nothing
	r.conf = testConfig()
	r.cluster.set(r.nodeNetwork(2), r.clusterNetwork())
	o := r.options()
	armed := &atomic.Bool{}
	open := o.Datapath
	o.Datapath = func() (Datapath, error) {
		dp, err := open()
		return dyingDatapath{dp, os.Getenv(killStep), armed}, err
	}
	go func() {
		// The parent ends this process if it takes too long.
		for tick := time.Tick(20 * time.Millisecond); ; <-tick {
			if _, err := os.Stat(filepath.Join(dir, "run", "ready")); err == nil && r.cluster.lastStatus().AgentVersion != "" {
				break
			}
		}
		armed.Store(true)
		fmt.Println("child ready")
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
		cancel()
	}()
	if err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
}

// child starts an agent in a process of its own, in the namespaces of this one.
func (r *rig) child(step string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKillChild$", "-test.v")
	cmd.Env = append(os.Environ(), killDir+"="+r.dir, killBPF+"="+r.bpf, killStep+"="+step, testLogs+"=1")
	var logs bytes.Buffer
	cmd.Stderr = &logs
	_, inErr := cmd.StdinPipe() // its end tells the child that this process is gone
	out, err := cmd.StdoutPipe()
	r.must(inErr, err, cmd.Start())
	r.t.Cleanup(func() { _ = cmd.Process.Kill() }) // mostly dead by then
	slow := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer slow.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "child ready" {
			return cmd
		}
	}
	err = cmd.Wait()
	r.t.Fatalf("the agent that is to die at %q did not become ready (%v); it said\n%s", step, err, logs.String())
	return nil
}

// TestKill kills the agent in the middle of ADD and DEL, and between them. Then a new agent serves the
// same command that the runtime's plugin still repeats, nothing is given twice and nothing is lost.
func TestKill(t *testing.T) {
	for _, step := range []string{"created", "attached", "removed", "detached", "idle"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			copyFile(t, plugin(t), filepath.Join(r.dir, "weft-cni"))
			r.router.Serve(t, port)
			cmd := r.child("never")
			p := r.add("before")
			kept, err := p.Dial(netip.MustParseAddr(world), port)
			r.must(err)
			defer kept.Close()
			r.must(cmd.Process.Kill())
			_ = cmd.Wait() // killed

			cmd = r.child(step)
			q := &pod{Space: nstest.New(t), id: "middle"}
			done := make(chan error, 1)
			switch step {
			case "removed", "detached":
				victim := r.add("victim")
				go func() { done <- r.del(victim) }()
			case "idle":
				r.must(cmd.Process.Kill())
				go func() { done <- r.addTo(q) }()
			default:
				go func() { done <- r.addTo(q) }()
			}
			_ = cmd.Wait() // it kills itself, or was killed
			if _, err := nstest.AskOn(kept); err != nil {
				t.Errorf("connection without an agent: %v", err)
			}
			r.start()
			if err := <-done; err != nil {
				t.Errorf("command that met the kill: %v", err)
			}
			if _, err := nstest.AskOn(kept); err != nil {
				t.Errorf("connection with a new agent: %v", err)
			}
			if q.addr.IsValid() {
				expectSource(t, "pod to the world", q.Space, world, eniOwn[0])
			}
			if victim := endpoint.DeviceName("victim", "eth0"); q.addr == (netip.Addr{}) {
				nstest.Eventually(t, 10*time.Second, "the victim is gone", func() error {
					if _, err := netlink.LinkByName(victim); err == nil {
						return fmt.Errorf("device %s is there", victim)
					}
					if n := len(r.cluster.lastStatus().UsedAddresses); n != 1 {
						return fmt.Errorf("%d addresses in use, expected 1", n)
					}
					return nil
				})
			}
			seen := map[netip.Addr]string{p.addr: p.id, q.addr: q.id}
			for i := range 3 {
				n := r.add(fmt.Sprintf("after-%d", i))
				if who, ok := seen[n.addr]; ok {
					t.Errorf("%s has the address %s of %s", n.id, n.addr, who)
				}
				seen[n.addr] = n.id
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCleanup leaves nothing but the pods' devices.
func TestCleanup(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("left")
	o := r.options()
	c := CleanupOptions{Install: o.Install, RunDir: o.RunDir, StateDir: o.StateDir, PinDir: r.bpf, Datapath: o.Datapath, Log: slog.New(slog.DiscardHandler)}
	if err := Cleanup(context.Background(), c); err == nil {
		t.Error("cleanup ran beside an agent")
	}
	r.stop()
	r.must(Cleanup(context.Background(), c), Cleanup(context.Background(), c))
	if _, err := os.Stat(r.bpf); err == nil {
		t.Error("pins are left")
	}
	for _, path := range []string{"conf/05-weft.conflist", "bin/weft-cni", "run/ready", "run/cni.sock"} {
		if _, err := os.Stat(filepath.Join(r.dir, path)); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	for _, rule := range r.rules() {
		if rule.Priority != 0 && rule.Priority < 32766 {
			t.Errorf("%s is left", rule)
		}
	}
	for _, rt := range r.routes(&netlink.Route{Protocol: 119}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE) {
		t.Errorf("route %s is left", rt)
	}
	if _, err := netlink.LinkByName(p.device()); err != nil {
		t.Errorf("the pod's device: %v", err)
	}
}
