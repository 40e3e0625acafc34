package socklb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/loadbalancer"
)

// Config says where the programs are attached and pinned.
type Config struct {
	PinDir string // on a BPF file system that is mounted; by default contract.PinDir
	// Cgroup is the directory of the control group whose sockets are connected: the node's root.
	Cgroup string
	// WithoutSockets opens the tables alone, which the programs of packets read, too.
	WithoutSockets bool
	// HostToo has the node's own sockets connected, not only those of other network namespaces.
	HostToo bool
	// HostOnly leaves pods' sockets to the programs of packets.
	HostOnly bool
	// NorthSouth has the programs serve what isn't a ClusterIP, too.
	NorthSouth bool
	// GuardNodePorts keeps the node's own processes from listening where a node port is served.
	GuardNodePorts bool
	// MaglevSize is that of Maglev's tables, a prime; 0: DefaultMaglevSize.
	MaglevSize int
}

func (c Config) flags() uint32 {
	var flags uint32
	for flag, is := range map[uint32]bool{flagHost: c.HostToo, flagHostOnly: c.HostOnly, flagNorthSouth: c.NorthSouth, flagGuard: c.GuardNodePorts} {
		if is {
			flags |= flag
		}
	}
	return flags
}

// maps are those that Go writes or reads.
type maps struct {
	frontends, backends, members, ranges, maglev, config, outcomes, own, connected *ebpf.Map
}

// places are where maps and links are pinned and programs attached.
type places struct {
	maps, links, cgroup string
	id                  uint64 // the control group's
}

// A Balancer is the loaded programs and their maps. It acts for the network namespace that it was opened in.
type Balancer struct {
	all   map[string]*ebpf.Map
	maps  maps
	links map[string]link.Link
	// programs are those that links run, to attach them again.
	programs map[string]*ebpf.Program
	at       places

	mu     sync.Mutex
	table  *table
	config configValue
	writes uint64
}

// hooks are the programs and where they run.
func hooks() map[string]ebpf.AttachType {
	return map[string]ebpf.AttachType{
		socketProgSockConnect4:  ebpf.AttachCGroupInet4Connect,
		socketProgSockConnect6:  ebpf.AttachCGroupInet6Connect,
		socketProgSockSendmsg4:  ebpf.AttachCGroupUDP4Sendmsg,
		socketProgSockSendmsg6:  ebpf.AttachCGroupUDP6Sendmsg,
		socketProgSockRecvmsg4:  ebpf.AttachCGroupUDP4Recvmsg,
		socketProgSockRecvmsg6:  ebpf.AttachCGroupUDP6Recvmsg,
		socketProgSockPeername4: ebpf.AttachCgroupInet4GetPeername,
		socketProgSockPeername6: ebpf.AttachCgroupInet6GetPeername,
		socketProgSockBind4:     ebpf.AttachCGroupInet4PostBind,
		socketProgSockBind6:     ebpf.AttachCGroupInet6PostBind,
	}
}

// Open takes over the maps that an earlier agent left pinned, or makes them, and attaches this version's programs in
// place of an earlier one's without a gap.
func Open(cfg Config) (_ *Balancer, err error) {
	if cfg.PinDir == "" {
		cfg.PinDir = contract.PinDir
	}
	if cfg.Cgroup == "" && !cfg.WithoutSockets {
		return nil, errors.New("no control group is given, expected the root of the node's")
	}
	b := &Balancer{all: map[string]*ebpf.Map{}, links: map[string]link.Link{}, programs: map[string]*ebpf.Program{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	mapDir, linkDir := filepath.Join(cfg.PinDir, "maps"), filepath.Join(cfg.PinDir, "links")
	for _, dir := range []string{mapDir, linkDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	spec, err := loadSocket()
	if err != nil {
		return nil, err
	}
	if err := b.openMaps(spec, mapDir); err != nil {
		return nil, err
	}
	if cfg.MaglevSize == 0 {
		cfg.MaglevSize = DefaultMaglevSize
	}
	b.table = newTable(stores{b.maps.frontends, b.maps.backends, b.maps.members, b.maps.ranges, maglevMap{b.maps.maglev}}.count(&b.writes), cfg.MaglevSize)
	if err := b.table.recover(b.maps); err != nil {
		return nil, err
	}
	if err := b.configure(cfg.flags()); err != nil {
		return nil, err
	}
	b.at = places{maps: mapDir, links: linkDir}
	if cfg.WithoutSockets {
		return b, nil
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: b.all})
	if err != nil {
		return nil, fmt.Errorf("load the programs of sockets: %w", err)
	}
	defer coll.Close()
	id, err := cgroupID(cfg.Cgroup)
	if err != nil {
		return nil, err
	}
	b.at = places{maps: mapDir, links: linkDir, cgroup: cfg.Cgroup, id: id}
	for name, at := range hooks() {
		if prog := coll.Programs[name]; prog != nil {
			if b.programs[name], err = prog.Clone(); err != nil {
				return nil, err
			}
		}
		if err := b.attach(cfg.Cgroup, id, linkDir, name, at, coll.Programs[name]); err != nil {
			return nil, fmt.Errorf("attach %s to %s: %w", name, cfg.Cgroup, err)
		}
	}
	return b, nil
}

// openMaps opens what is pinned and makes the rest. Most are shared with the programs of packets, which open or make
// them in the same way (internal/datapath): whoever comes first makes them.
func (b *Balancer) openMaps(spec *ebpf.CollectionSpec, dir string) error {
	for name, ms := range spec.Maps {
		path := filepath.Join(dir, name)
		m, err := ebpf.LoadPinnedMap(path, nil)
		switch {
		case err == nil:
			ms.MaxEntries = m.MaxEntries() // a map keeps its size
			if err := ms.Compatible(m); err != nil {
				return errors.Join(fmt.Errorf("map pinned at %s is another version's: %w", path, err), m.Close())
			}
		case errors.Is(err, os.ErrNotExist):
			if m, err = ebpf.NewMap(ms); err != nil {
				return fmt.Errorf("make map %s: %w", name, err)
			}
			if err := m.Pin(path); err != nil {
				return errors.Join(fmt.Errorf("pin map %s: %w", name, err), m.Close())
			}
		default:
			return fmt.Errorf("open the map pinned at %s: %w", path, err)
		}
		b.all[name] = m
	}
	b.maps = maps{b.all[socketMapWeftLbFrontends], b.all[socketMapWeftLbBackends], b.all[socketMapWeftLbMembers],
		b.all[socketMapWeftLbRanges], b.all[socketMapWeftLbMaglev], b.all[socketMapWeftLbConfig], b.all[socketMapWeftLbOutcomes],
		b.all[socketMapWeftLbOwn], b.all[socketMapWeftLbConnected]}
	return nil
}

// configure tells the programs which sockets are the node's own.
func (b *Balancer) configure(flags uint32) error {
	cookie, err := netnsCookie()
	if err != nil {
		return fmt.Errorf("cookie of the network namespace: %w", err)
	}
	var have configValue
	if err := b.maps.config.Lookup(uint32(0), &have); err != nil {
		return fmt.Errorf("read %s: %w", socketMapWeftLbConfig, err)
	}
	b.config = configValue{Host: cookie, Flags: flags, Epoch: have.Epoch + 1, Fresh: have.Fresh}
	return b.writeConfig()
}

func (b *Balancer) writeConfig() error {
	if err := b.maps.config.Put(uint32(0), b.config); err != nil {
		return fmt.Errorf("write %s: %w", socketMapWeftLbConfig, err)
	}
	return nil
}

// Freshen says that the tables are as they should be, for so long. After that, until the next call, pods'
// connections are left to kube-proxy; unless weft does its work: then they go by the tables as they are.
func (b *Balancer) Freshen(d time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config.Fresh = uint64(now.Nano() + d.Nanoseconds())
	return b.writeConfig()
}

// netnsCookie is the calling thread's network namespace as the programs see it.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// Apply makes services what the changes say, with writes only for what differs. It returns the services that it
// couldn't, with why: what they had before stands, as far as it could.
func (b *Balancer) Apply(changes []loadbalancer.Change) map[loadbalancer.Name]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.apply(changes)
}

// Prune removes what an earlier agent left and no service has that was applied since.
func (b *Balancer) Prune() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.prune()
}

// Stats are the tables' fill and what became of connections.
type Stats struct {
	Services                  int // with a frontend
	Frontends, Backends       int
	MaxFrontends, MaxBackends int
	Ranges, MaxRanges         int    // prefixes of clients
	Tables, MaxTables         int    // of Maglev
	Writes                    uint64 // to the maps, removals too, since they were opened
	Outcomes                  map[string]uint64
}

// outcomeNames are those of enum weft_lb_outcome.
func outcomeNames() []string {
	return []string{"translated", "kept", "refused", "left", "incomplete", "reversed", "stale", "guarded"}
}

// Stats reads them.
func (b *Balancer) Stats() (Stats, error) {
	b.mu.Lock()
	s := Stats{Writes: b.writes, Frontends: len(b.table.entries), MaxFrontends: int(b.maps.frontends.MaxEntries()),
		MaxBackends: int(b.maps.backends.MaxEntries()), Outcomes: map[string]uint64{}}
	s.Services, s.MaxRanges, s.MaxTables = len(b.table.of), int(b.maps.ranges.MaxEntries()), int(b.maps.maglev.MaxEntries())
	for _, e := range b.table.entries {
		s.Backends += len(e.slots)
		s.Ranges += len(e.ranges)
		if e.chosen {
			s.Tables++
		}
	}
	b.mu.Unlock()
	for i, name := range outcomeNames() {
		var per []uint64
		if err := b.maps.outcomes.Lookup(uint32(i), &per); err != nil {
			return s, fmt.Errorf("read %s: %w", socketMapWeftLbOutcomes, err)
		}
		for _, n := range per {
			s.Outcomes[name] += n
		}
	}
	return s, nil
}

// Close lets go of maps and programs. Pins, links and so the services stay.
func (b *Balancer) Close() error {
	var errs []error
	for _, l := range b.links {
		errs = append(errs, l.Close())
	}
	for _, m := range b.all {
		errs = append(errs, m.Close())
	}
	for _, p := range b.programs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
