package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/listener"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/masquerade"
	"github.com/weft-cni/weft/internal/nodehealth"
	"github.com/weft-cni/weft/internal/nodenet"
	"github.com/weft-cni/weft/internal/runtimeservice"
	"github.com/weft-cni/weft/internal/service"
)

// Cluster is the Kubernetes API, as far as the agent needs it.
type Cluster interface {
	// Watch calls changed with the newest objects, nil where there is none, until ctx ends. It calls
	// only once it knows; until then it calls waits with what it waits for.
	Watch(ctx context.Context, changed func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork), waits func(reason string)) error
	// WatchServices keeps t and lb equal to the cluster's services and endpoints until ctx ends, and calls
	// synced once they have all of them.
	WatchServices(ctx context.Context, t *service.Table, lb *loadbalancer.Table, synced func()) error
	// WatchPeers calls changed with all nodes that have an agent, this one included, until ctx ends.
	WatchPeers(ctx context.Context, changed func([]nodehealth.Peer)) error
	// ApplyStatus writes the agent's part of the NodeNetwork's status.
	ApplyStatus(ctx context.Context, status v1alpha1.NodeNetworkStatus) error
	// Warn tells people what happened on this node.
	Warn(reason, message string)
	// WarnAbout tells whoever looks at the object. Many nodes may say the same of it: that is one event.
	WarnAbout(ctx context.Context, object corev1.ObjectReference, reason, message string) error
}

// Runtime lists the sandboxes that the container runtime has.
type Runtime interface {
	Sandboxes(ctx context.Context) (map[string]runtimeservice.Sandbox, error)
}

// Options are what the agent is made of.
type Options struct {
	Config config.Config
	Node   string

	RunDir, StateDir string
	ProcSysNet       string
	Install          Install

	// Exceptions is the file with what isn't masqueraded, if the configuration says that there is one.
	Exceptions string

	Cluster  Cluster
	Runtime  Runtime
	Instance func(context.Context) (string, error)
	Datapath func() (Datapath, error)
	Balancer func() (Balancer, error)
	// KubeProxy is what the node has of kube-proxy; nil: nobody looks.
	KubeProxy KubeProxy
	// ProbeNetkit finds out whether pods can have netkit's devices, with MACs or without.
	ProbeNetkit func(l2 bool) error

	HealthAddress, MetricsAddress string
	// AddWait bounds how long an ADD waits for a free address; CollectEvery is the period of the
	// comparison with the runtime, GuardEvery that of looking whether the programs are attached. Neither
	// may be 0: it would be all that a processor does.
	AddWait, CollectEvery, GuardEvery time.Duration
	Version                           string
	Log                               *slog.Logger
}

// agent is the process's state. Fields are written by Run before anything that reads them starts, but
// for those with a lock of their own.
type agent struct {
	Options
	paths    paths
	instance string
	progress *progress
	node     *nodenet.Node
	programs *programs
	device   deviceChoice
	manager  *endpoint.Manager
	queue    cni.Queue
	source   source
	services *services
	balance  *balance
	flows    *flows
	// exceptions from masquerading, and the ports that it gives.
	exceptions exceptions
	ports      masquerade.Ports
	strays     strays
	repairs    *repairs
	fills      *fills
	takeover   takeover

	peers   atomic.Pointer[nodehealth.Monitor]
	nodes   atomic.Pointer[[]nodehealth.Peer] // with an agent, this one included
	tried   bool                              // a trial endpoint could be made
	serving atomic.Bool                       // commands are answered
	ready   atomic.Bool                       // and the runtime knows
	tell    chan struct{}                     // a token: the status may differ

	settling sync.Mutex
	// tellingHostPorts is held while the host ports of pods are told.
	tellingHostPorts sync.Mutex
	mu               sync.Mutex
	view             view
	report           nodenet.Report
	reconcileErr     error
	programsErr      error
}

// Run is the agent's life. It ends with ctx or with an error; pods go on either way.
func Run(ctx context.Context, o Options) error {
	if o.CollectEvery <= 0 || o.GuardEvery <= 0 {
		return fmt.Errorf("the period of the comparison with the runtime is %s and that of the look at the programs %s, expected more than 0", o.CollectEvery, o.GuardEvery)
	}
	a := &agent{
		Options: o, paths: paths{run: o.RunDir, state: o.StateDir}, progress: newProgress(),
		queue: cni.Queue{Dir: paths{state: o.StateDir}.deletes()}, tell: make(chan struct{}, 1),
		services: newServices(), balance: newBalance(o.Log), repairs: newRepairs(), fills: newFills(),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.serveHealth(ctx) })
	g.Go(func() error { return a.serveMetrics(ctx) })
	g.Go(func() error { return a.live(ctx) })
	return g.Wait()
}

// live goes through the start in the order that makes a restart safe: nothing is removed before
// everything that could want it is known.
func (a *agent) live(ctx context.Context) error {
	a.progress.begin(stepLock)
	unlock, err := lockNode(ctx, a.paths.lock())
	if err != nil {
		return err
	}
	defer func() {
		if err := unlock(); err != nil {
			a.Log.Warn("lock not released", "err", err)
		}
	}()
	boot, err := bootToken(a.paths.boot())
	if err != nil {
		return err
	}
	a.progress.done(stepLock)

	a.progress.begin(stepDatapath)
	dp, err := a.Datapath()
	if err != nil {
		return fmt.Errorf("open the datapath: %w", err)
	}
	defer func() {
		if err := dp.Close(); err != nil {
			a.Log.Warn("datapath not closed", "err", err)
		}
	}()
	a.programs = newPrograms(dp)
	defer a.openBalancer()()
	if a.device, err = chooseDevice(a.Config.BPF.DatapathMode, dp.Probe().Kernel, a.ProbeNetkit); err != nil {
		return err
	}
	if err := a.rememberServices(); err != nil {
		return err
	}
	if a.node, err = nodenet.New(a.ProcSysNet, a.Log); err != nil {
		return err
	}
	defer a.node.Close()
	a.progress.done(stepDatapath)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.serveAPI(ctx) })
	g.Go(func() error { return a.Cluster.Watch(ctx, a.source.put, a.source.waits) })
	synced := make(chan struct{})
	g.Go(func() error {
		return a.watchServices(ctx, sync.OnceFunc(func() { close(synced) }))
	})
	g.Go(func() error {
		if err := a.start(ctx, boot); err != nil {
			return err
		}
		return a.serve(ctx, synced)
	})
	return g.Wait()
}

// start brings back what an earlier agent had, up to the last step before commands are answered.
func (a *agent) start(ctx context.Context, boot string) error {
	a.progress.begin(stepInstance)
	a.instance = a.learnInstance(ctx)
	a.progress.done(stepInstance)

	a.readExceptions()
	ports, err := masqueradePorts(a.Config, a.ProcSysNet)
	if err != nil {
		return err
	}
	a.ports = ports
	a.progress.begin(stepSources)
	v, err := a.firstView(ctx)
	if err != nil {
		return err
	}
	a.progress.done(stepSources)

	a.progress.begin(stepJournal)
	if err := a.readJournal(boot); err != nil {
		return err
	}
	a.progress.done(stepJournal)

	a.progress.begin(stepInterfaces)
	if err := a.recover(ctx, v); err != nil {
		return err
	}
	a.node.Adopt(append(a.manager.Endpoints(), a.strays.endpoints()...))
	// What nftables has translated so far goes on until the programs do it.
	before := v.desired
	before.LeaveMasquerade = v.masquerade
	a.node.SetDesired(before)
	if err := a.firstPass(ctx); err != nil {
		return err
	}
	a.progress.done(stepInterfaces)

	a.progress.begin(stepPrograms)
	if err := a.firstPrograms(ctx); err != nil {
		return err
	}
	a.node.SetDesired(v.desired)
	a.progress.done(stepPrograms)
	return nil
}

// learnInstance asks the instance's metadata. Where they don't answer, the NodeNetwork says which
// instance the node is.
func (a *agent) learnInstance(ctx context.Context) string {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	id, err := a.Instance(asked)
	if err != nil {
		a.Log.Warn("instance metadata does not answer, the NodeNetwork's instance is taken", "err", err)
		return ""
	}
	return id
}

// firstView waits until the sources are complete.
func (a *agent) firstView(ctx context.Context) (view, error) {
	said := ""
	for {
		nn, cn, changed := a.source.get()
		v, err := compute(a.Config, a.exceptions.get(), a.instance, nn, cn)
		if err == nil {
			if a.instance == "" {
				a.instance = nn.Spec.InstanceID
			}
			a.mu.Lock()
			a.view = v
			a.mu.Unlock()
			return v, nil
		}
		reason := err.Error()
		if why := a.source.why(); why != "" {
			reason = why
		}
		a.progress.waits(stepSources, reason)
		if reason != said {
			a.Log.Info("waiting for the sources", "reason", reason)
			said = reason
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-changed:
		}
	}
}

// readJournal restores the endpoints. Those of an earlier boot are released at once, unless their
// devices are there: then it was not a boot that emptied the directory.
func (a *agent) readJournal(boot string) error {
	j, l, err := endpoint.OpenJournal(a.paths.journal(), a.instance, boot)
	if err != nil {
		return err
	}
	for _, name := range l.Bad {
		a.Log.Error("journal entry unreadable, set aside", "file", name)
	}
	if l.SetAside > 0 {
		a.Log.Warn("journal of another instance set aside", "entries", l.SetAside)
	}
	for _, e := range l.OldBoot {
		exists, err := a.node.Exists(e)
		if err != nil {
			return err
		}
		if exists && e.Released.IsZero() {
			if err := j.Put(e); err != nil {
				return err
			}
			l.Endpoints = append(l.Endpoints, e)
			continue
		}
		if err := j.Remove(e.Key); err != nil {
			return err
		}
	}
	a.Log.Info("journal read", "endpoints", len(l.Endpoints), "oldBoot", len(l.OldBoot))
	fences, written, err := a.openFences()
	if err != nil {
		return err
	}
	a.manager = endpoint.NewManager(endpoint.Config{
		Devices: a.node, Programs: a.programs, Journal: j, Fences: fences, Log: a.Log, Now: time.Now, Wait: a.AddWait,
		Kind: a.device.kind,
	}, l.Endpoints)
	a.flows = newFlows(a.Node, a.Config.Events.Keep, a.programs.dp, newJoiner(a.manager.Endpoints, a.eniNames), a.Log)
	nn, _, _ := a.source.get()
	a.manager.Recover(written, toldFences(nn, a.instance))
	return nil
}

// firstPass repeats a pass until the primary ENI is set up. A secondary one that is missing keeps only
// its own addresses from being given.
func (a *agent) firstPass(ctx context.Context) error {
	said := ""
	for {
		rep, err := a.node.Reconcile(ctx)
		a.note(rep, err)
		if err == nil && len(rep.Found) > 0 && rep.Found[0].DeviceIndex == 0 {
			return nil
		}
		if err == nil {
			err = errors.New("no device has the MAC of the primary ENI")
		}
		a.progress.waits(stepInterfaces, err.Error())
		if err.Error() != said {
			a.Log.Warn("interfaces not set up yet", "err", err)
			said = err.Error()
		}
		if err := pause(ctx, startEvery); err != nil {
			return err
		}
	}
}

// firstPrograms attaches this version's programs to everything that is there, then removes the rest.
func (a *agent) firstPrograms(ctx context.Context) error {
	said := ""
	for {
		err := a.attachAll()
		if err == nil {
			return nil
		}
		a.mu.Lock()
		a.programsErr = err
		a.mu.Unlock()
		a.progress.waits(stepPrograms, err.Error())
		if err.Error() != said {
			a.Log.Warn("programs not attached yet", "err", err)
			said = err.Error()
		}
		if err := pause(ctx, startEvery); err != nil {
			return err
		}
	}
}

func (a *agent) attachAll() error {
	a.mu.Lock()
	v, rep := a.view, a.report
	a.mu.Unlock()
	known := append(a.manager.Endpoints(), a.strays.endpoints()...)
	// Before the first program: it forwards by what it knows.
	if err := a.programs.tell(settings(a.Config, v, a.ports), prefixes(v, a.services.all())); err != nil {
		return err
	}
	there, err := a.existing(known)
	if err != nil {
		return err
	}
	if err := a.programs.prepare(rep.Found, v, known, there); err != nil {
		a.Log.Warn("not everything is known to the datapath before its programs are replaced", "err", err)
	}
	if err := a.programs.sync(rep.Found, v, known); err != nil {
		return err
	}
	for _, e := range there {
		if err := a.programs.Attach(e); err != nil {
			return err
		}
	}
	return a.programs.prune(there)
}

// existing are those of the endpoints whose device is there.
func (a *agent) existing(known []endpoint.Endpoint) ([]endpoint.Endpoint, error) {
	var there []endpoint.Endpoint
	for _, e := range known {
		exists, err := a.node.Exists(e)
		if err != nil {
			return nil, err
		}
		if exists {
			there = append(there, e)
		}
	}
	return there, nil
}

// serve answers commands and keeps everything as it should be.
func (a *agent) serve(ctx context.Context, synced <-chan struct{}) error {
	a.settle()
	a.tellHostPorts()
	a.progress.begin(stepServing)
	l, err := listener.Unix(a.paths.socket())
	if err != nil {
		return err
	}
	defer os.Remove(a.paths.socket())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cni.NewServer(handler{a}, a.Log).Serve(ctx, l) })
	g.Go(func() error { return a.node.Run(ctx, a.passed) })
	g.Go(func() error { return a.flows.run(ctx) })
	g.Go(func() error { return a.follow(ctx) })
	g.Go(func() error { return a.followExceptions(ctx) })
	g.Go(func() error { return a.followServices(ctx, synced) })
	g.Go(func() error { return a.followBackends(ctx, synced) })
	g.Go(func() error { return a.tellProblems(ctx) })
	g.Go(func() error { return a.balance.checks.Run(ctx) })
	g.Go(func() error { return a.takeOver(ctx, synced) })
	g.Go(func() error { return a.replay(ctx) })
	g.Go(func() error { return a.compare(ctx) })
	g.Go(func() error { return a.guard(ctx) })
	g.Go(func() error { return a.countFills(ctx) })
	g.Go(func() error { return a.measureAlways(ctx) })
	g.Go(func() error { return a.tellStatus(ctx) })
	g.Go(func() error { return a.lookAtPeers(ctx) })
	g.Go(func() error { return a.installAndKeep(ctx) })
	a.serving.Store(true)
	a.progress.done(stepServing)
	return g.Wait()
}

// note remembers the outcome of a pass.
func (a *agent) note(rep nodenet.Report, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report, a.reconcileErr = rep, err
	a.tellSoon()
}

// tellSoon asks for a look at the status.
func (a *agent) tellSoon() {
	select {
	case a.tell <- struct{}{}:
	default:
	}
}

// passed runs after each pass of the node.
func (a *agent) passed(rep nodenet.Report, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	a.note(rep, err)
	if err != nil {
		a.Log.Error("node not as it should be", "err", err)
	}
	if len(rep.Restored) > 0 {
		a.repairs.note(rep.Restored...)
		a.Log.Warn("something else removed what pods need, it was put back", "what", rep.Restored)
		a.Cluster.Warn("NetworkRestored", restoredMessage(rep.Restored))
	}
	a.settle()
}

// settle gives the datapath and the pool what the node has now. Addresses of an ENI whose device isn't
// there yet are not given.
func (a *agent) settle() {
	a.settling.Lock() // or an older view would be written after a newer one
	defer a.settling.Unlock()
	a.mu.Lock()
	v, rep := a.view, a.report
	a.mu.Unlock()
	err := errors.Join(
		a.programs.tell(settings(a.Config, v, a.ports), prefixes(v, a.services.all())),
		a.programs.sync(rep.Found, v, append(a.manager.Endpoints(), a.strays.endpoints()...)),
	)
	a.mu.Lock()
	changed := (err == nil) != (a.programsErr == nil)
	a.programsErr = err
	a.tellSoon()
	a.mu.Unlock()
	if err != nil && changed {
		a.Log.Error("programs not as they should be", "err", err)
	}
	here := map[int32]bool{}
	for _, f := range rep.Found {
		here[f.DeviceIndex] = true
	}
	var usable []endpoint.Assigned
	for _, as := range v.assigned {
		if here[as.DeviceIndex] {
			usable = append(usable, as)
		}
	}
	a.manager.Assign(usable)
	a.fence()
}

// replay runs the DELs that came while no agent was there.
func (a *agent) replay(ctx context.Context) error {
	for {
		n, err := a.queue.Replay(ctx, handler{a}.delQueued)
		if err != nil && ctx.Err() == nil {
			a.Log.Error("queued deletes not all replayed", "err", err)
		}
		if n > 0 {
			a.Log.Info("queued deletes replayed", "count", n)
		}
		if err := a.manager.Tidy(); err != nil {
			a.Log.Warn("journal not tidied", "err", err)
		}
		a.fence()
		if pause(ctx, 5*time.Second) != nil {
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// restoredMessage keeps an event short.
func restoredMessage(what []string) string {
	const most = 5
	if len(what) <= most {
		return fmt.Sprintf("something else on this node removed, and weft put back: %v", what)
	}
	return fmt.Sprintf("something else on this node removed, and weft put back: %v and %d more", what[:most], len(what)-most)
}
