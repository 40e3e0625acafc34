package cloud

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/fabric"
)

// network is a wire that may be asked from several sides and keeps the last state.
type network struct {
	mu    sync.Mutex
	state fabric.State
	calls int
}

func (n *network) Apply(_ context.Context, s fabric.State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = s
	n.calls++
	return nil
}

func (n *network) in(namespace string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, e := range n.state.ENIs {
		if e.Namespace == namespace {
			count++
		}
	}
	return count
}

// machine refuses to stop the first time.
type machine struct {
	mu    sync.Mutex
	asked int
}

func (m *machine) Stop(context.Context, Instance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.asked == 1 {
		return errors.New("it hangs")
	}
	return nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

// TestRun lets time pass for real: several callers at once, interfaces that arrive later, a machine that is
// hard to stop.
func TestRun(t *testing.T) {
	wire, m := &network{}, &machine{}
	c := New(Config{Lab: "weft-t", Seed: 17, Wire: wire, Machines: m, Latency: Latency{Attach: 30 * time.Millisecond, Detach: 30 * time.Millisecond, Terminate: 30 * time.Millisecond}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if _, err := c.CreateCluster(ctx, ClusterSpec{Name: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateNodegroup(ctx, "c", NodegroupSpec{Name: "ng"}); err != nil {
		t.Fatal(err)
	}
	var nodes [4]Node
	var g errgroup.Group
	for i := range nodes {
		g.Go(func() error {
			n, err := c.RunInstance(ctx, "c", "ng")
			if err != nil {
				return err
			}
			nodes[i] = n
			for index := 1; index <= 2; index++ {
				e, err := c.CreateENI(ctx, CreateENIInput{SubnetID: n.SubnetID, SecondaryCount: 5})
				if err != nil {
					return err
				}
				if _, err := c.Attach(ctx, AttachInput{ENI: e.ID, Instance: n.ID, DeviceIndex: index}); err != nil {
					return err
				}
				if _, err := c.Assign(ctx, AssignInput{ENI: e.ID, Count: 2}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		eventually(t, "three interfaces in "+n.Namespace, func() bool { return wire.in(n.Namespace) == 3 })
	}
	if _, err := c.TerminateInstances(ctx, []string{nodes[0].ID}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the instance's interfaces go", func() bool { return wire.in(nodes[0].Namespace) == 0 })
	m.mu.Lock()
	asked := m.asked
	m.mu.Unlock()
	if asked != 2 {
		t.Errorf("the machine was asked %d times to stop", asked)
	}
	c.Read(func(m *Model) { checkInvariants(t, m) })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
