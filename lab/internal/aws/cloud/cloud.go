// Package cloud is the model of one AWS account in one region: VPC, subnets, interfaces, instances, roles
// and EKS clusters, with AWS's rules and limits. The protocol servers read and change it; after each change
// the wire is told the state that follows from it.
package cloud

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a cloud is made with. The zero value of each field has a sensible meaning.
type Config struct {
	// Lab prefixes the names of the network namespaces: <Lab>-vpc, <Lab>-i-0123….
	Lab string
	// Region is us-west-2 if empty.
	Region string
	// Account is 111122223333 if empty, the number of AWS's own examples.
	Account string
	// VPC is 192.168.0.0/16 if invalid, eksctl's.
	VPC netip.Prefix
	// PublicPool gives public addresses; 203.0.113.0/24 if invalid. Its address +1 is the NAT gateway's.
	PublicPool netip.Prefix
	// Seed makes ids and addresses repeatable; 0 takes a random one.
	Seed uint64
	// AttachLatency and DetachLatency are the times that an attachment stays attaching or detaching;
	// TerminateLatency that an instance is shutting-down. Settable later by SetLatency.
	Latency Latency
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Wire is told the fabric's state after each change; nil for a model without a network.
	Wire Wire
	// Machines stops what runs in an instance before its network goes; nil if nothing does.
	Machines Machines
	Log      *slog.Logger
}

// Latency is how long AWS takes for what it does after its answer.
type Latency struct {
	Attach, Detach, Terminate time.Duration
}

// DefaultLatency is the short end of what EC2 shows.
func DefaultLatency() Latency {
	return Latency{Attach: time.Second, Detach: 2 * time.Second, Terminate: 2 * time.Second}
}

// Machines is what runs instances.
type Machines interface {
	// Stop powers the instance off and returns when nothing of it runs any more. It may be asked twice.
	Stop(ctx context.Context, instance Instance) error
}

// Cloud is a Model behind one lock, with its clock and its wire.
type Cloud struct {
	cfg Config
	log *slog.Logger
	// kick wakes what follows the timeline, kickMachines what stops machines.
	kick         chan struct{}
	kickMachines chan struct{}

	mu      sync.Mutex
	m       *Model
	rng     *rand.Rand
	latency Latency
	// generation counts changes; the wire has seen all up to the one kept under wireMu.
	generation uint64
	due        timeline
	stopping   map[string]bool

	wireMu sync.Mutex
	wired  uint64
	last   *wireMemory
}

// New makes a cloud with an account, its default policies and nothing else.
func New(cfg Config) *Cloud {
	if cfg.Region == "" {
		cfg.Region = "us-west-2"
	}
	if cfg.Account == "" {
		cfg.Account = "111122223333"
	}
	if !cfg.VPC.IsValid() {
		cfg.VPC = netip.MustParsePrefix("192.168.0.0/16")
	}
	if !cfg.PublicPool.IsValid() {
		cfg.PublicPool = netip.MustParsePrefix("203.0.113.0/24")
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cloud{
		cfg:          cfg,
		log:          cfg.Log,
		kick:         make(chan struct{}, 1),
		kickMachines: make(chan struct{}, 1),
		m:            newModel(cfg),
		rng:          rand.New(rand.NewPCG(cfg.Seed, 0x77656674)),
		latency:      cfg.Latency,
		stopping:     map[string]bool{},
	}
	c.m.addManagedPolicies(cfg.Now())
	return c
}

// Region is the region's name.
func (c *Cloud) Region() string { return c.cfg.Region }

// Account is the account's number.
func (c *Cloud) Account() string { return c.cfg.Account }

// Lab is the prefix of the namespaces' names.
func (c *Cloud) Lab() string { return c.cfg.Lab }

// Now is the cloud's clock.
func (c *Cloud) Now() time.Time { return c.cfg.Now() }

// SetLatency changes how long what follows takes.
func (c *Cloud) SetLatency(l Latency) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = l
}

// Read calls f with the model as it is now. f must not change it, nor keep pointers into it.
func (c *Cloud) Read(f func(m *Model)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	f(c.m)
}

// change runs f on the model; if it succeeds the wire follows before change returns. f validates before it
// alters anything, so that an error leaves the model as it was.
func (c *Cloud) change(ctx context.Context, f func(m *Model) error) error {
	c.mu.Lock()
	c.settle()
	if err := f(c.m); err != nil {
		c.mu.Unlock()
		return err
	}
	c.generation++
	c.mu.Unlock()
	c.wake()
	// AWS has answered once its own state is changed: a network that fails is mended by Run, and
	// Resync tells whoever needs to know.
	if err := c.follow(ctx, false); err != nil {
		c.log.Error("the network did not follow a change", "err", err)
	}
	return nil
}

func (c *Cloud) wake() { notify(c.kick) }

// settle does what has become due. Callers hold mu.
func (c *Cloud) settle() {
	now := c.cfg.Now()
	for {
		t, ok := c.due.pop(now)
		if !ok {
			return
		}
		if t.act(c) {
			c.generation++
		}
	}
}

// retry is the pause before something that failed is tried again.
const retry = 500 * time.Millisecond

// Run carries out what is due at its time, stops machines, and mends the wire, until ctx ends.
func (c *Cloud) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.runTimeline(ctx) })
	// A machine that is slow to stop must not keep other instances' interfaces waiting.
	g.Go(func() error { return c.runMachines(ctx) })
	return g.Wait()
}

func (c *Cloud) runTimeline(ctx context.Context) error {
	for {
		c.mu.Lock()
		c.settle()
		wait := time.Hour
		if next, ok := c.due.next(); ok {
			wait = max(next.Sub(c.cfg.Now()), 0)
		}
		stopping := len(c.stopping) > 0
		c.mu.Unlock()
		if err := c.follow(ctx, false); err != nil && ctx.Err() == nil {
			c.log.Error("the network did not follow a change, trying again", "err", err)
			wait = min(wait, retry)
		}
		if stopping {
			notify(c.kickMachines)
		}
		if !pause(ctx, c.kick, wait) {
			return nil
		}
	}
}

func (c *Cloud) runMachines(ctx context.Context) error {
	wait := time.Hour
	for pause(ctx, c.kickMachines, wait) {
		wait = time.Hour
		if !c.stopMachines(ctx) {
			wait = retry
		}
	}
	return nil
}

// pause waits for a kick or a time; false if ctx ended.
func pause(ctx context.Context, kick <-chan struct{}, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-kick:
	case <-timer.C:
	}
	return true
}

func notify(kick chan<- struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}

// stopMachines powers off what is shutting down; false if something must be tried again.
func (c *Cloud) stopMachines(ctx context.Context) bool {
	c.mu.Lock()
	var list []Instance
	for id := range c.stopping {
		if i := c.m.Instances[id]; i != nil {
			list = append(list, i.clone())
		}
	}
	c.mu.Unlock()
	ok := true
	for _, i := range list {
		if err := c.cfg.Machines.Stop(ctx, i); err != nil {
			c.log.Error("an instance cannot be stopped, trying again", "instance", i.ID, "err", err)
			ok = false
			continue
		}
		c.mu.Lock()
		delete(c.stopping, i.ID)
		c.terminated(i.ID)
		c.generation++
		c.mu.Unlock()
		c.wake()
	}
	return ok
}
