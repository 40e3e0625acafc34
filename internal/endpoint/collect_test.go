package endpoint

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestCollect releases only what is absent, without a device, and older than the question.
func TestCollect(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 8)
	for _, id := range []string{"listed", "device", "gone"} {
		if _, err := m.Add(context.Background(), k(id), Pod{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	asked := c.Now().Add(time.Second)
	c.advance(2 * time.Second)
	if _, err := m.Add(context.Background(), k("young"), Pod{}, nil); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"listed", "gone", "young"} {
		delete(sim.devices, DeviceName(id, "eth0"))
	}
	n, err := m.Collect(context.Background(), asked, func(e Endpoint) bool { return e.ContainerID == "listed" })
	if err != nil || n != 1 || len(m.Endpoints()) != 3 {
		t.Errorf("released %d, %v, left %v", n, err, m.Endpoints())
	}
}

// slowKernel holds the making of devices.
type slowKernel struct {
	*simKernel
	begun, goOn chan struct{}
}

func (k slowKernel) Create(ctx context.Context, e Endpoint, ns *os.File) error {
	close(k.begun)
	<-k.goOn
	return k.simKernel.Create(ctx, e, ns)
}

// An endpoint whose ADD is on its way has no device yet, and no runtime lists its sandbox: a comparison at
// that moment leaves it alone.
func TestCollectDuringAdd(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 8)
	slow := slowKernel{sim, make(chan struct{}), make(chan struct{})}
	m.devices = slow
	added, collected := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := m.Add(context.Background(), k("coming"), Pod{}, nil)
		added <- err
	}()
	<-slow.begun
	asked := c.Now().Add(time.Second)
	go func() {
		_, err := m.Collect(context.Background(), asked, func(Endpoint) bool { return false })
		collected <- err
	}()
	// Both want the key: the ADD has it, the comparison waits for it.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
		m.keys.mu.Lock()
		users := m.keys.held[k("coming")].users
		m.keys.mu.Unlock()
		if users == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the comparison doesn't wait for the ADD")
		}
	}
	close(slow.goOn)
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	if err := <-collected; err != nil {
		t.Fatal(err)
	}
	if len(m.Endpoints()) != 1 || len(sim.devices) != 1 {
		t.Errorf("the comparison took an endpoint that was just made: endpoints %v, devices %v", m.Endpoints(), sim.devices)
	}
}
