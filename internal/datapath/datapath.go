package datapath

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/contract"
)

// Config says where the datapath keeps its pins and how it attaches.
type Config struct {
	Log    *slog.Logger // nil: silent
	BPFFS  string       // BPF file system, mounted if absent; by default /sys/fs/bpf
	PinDir string       // below BPFFS; by default contract.PinDir
	Attach AttachMode
	// Settings that the programs begin with; zero: those that they follow, or DefaultSettings.
	Settings Settings
	// Sizes of maps that are made anew.
	Sizes Sizes
	// Object is attached; nil: this version's.
	Object *Object
}

// AttachMode chooses how programs are attached.
type AttachMode string

// tcx where the kernel has it, unless told otherwise.
const (
	AttachAuto   AttachMode = ""
	AttachTCX    AttachMode = "tcx"
	AttachClsact AttachMode = "clsact"
)

// A Datapath is the loaded programs and their maps. Its methods act in the network namespace of the
// calling thread, and may be called from several goroutines.
type Datapath struct {
	log      *slog.Logger
	features Features
	maps     map[string]*ebpf.Map
	programs map[Hook]*ebpf.Program
	attacher attacher
	hz       uint32 // jiffies per second

	mu       sync.Mutex // one writer at a time: entries are read, changed and written back
	settings Settings
	watch    Watch
}

// Open loads the programs over the maps that an earlier agent left pinned, or over new ones. Devices keep
// running what they run until SetENI and AddEndpoint name them.
func Open(cfg Config) (_ *Datapath, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.BPFFS == "" {
		cfg.BPFFS = "/sys/fs/bpf"
	}
	if cfg.PinDir == "" {
		cfg.PinDir = contract.PinDir
	}
	d := &Datapath{log: cfg.Log, programs: map[Hook]*ebpf.Program{}}
	if d.hz, err = jiffiesPerSecond(); err != nil {
		return nil, err
	}
	if d.features, err = probe(); err != nil {
		return nil, err
	}
	maps, links := filepath.Join(cfg.PinDir, "maps"), filepath.Join(cfg.PinDir, "links")
	if err := ensureBPFFS(cfg.BPFFS, maps); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(links, 0o700); err != nil {
		return nil, err
	}
	if d.attacher, err = newAttacher(cfg.Attach, links, d.features); err != nil {
		return nil, err
	}
	if cfg.Object == nil {
		cfg.Object = ThisVersion()
	}
	spec, err := cfg.Object.Load()
	if err != nil {
		return nil, err
	}
	if err := cfg.Sizes.apply(spec); err != nil {
		return nil, err
	}
	if d.maps, err = openMaps(cfg.Object, spec, maps, cfg.Log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if err := d.writeRings(); err != nil {
		return nil, err
	}
	if d.settings, err = d.firstSettings(cfg.Settings); err != nil {
		return nil, err
	}
	if err := d.writeConfig(d.settings, d.watch); err != nil {
		return nil, err
	}
	if err := d.load(spec); err != nil {
		return nil, err
	}
	if err := retire(cfg.Object, spec, maps, cfg.Log); err != nil {
		return nil, err
	}
	return d, nil
}

func newAttacher(mode AttachMode, links string, f Features) (attacher, error) {
	switch mode {
	case AttachAuto:
		if f.TCX {
			return &tcxAttacher{dir: links}, nil
		}
		return &clsactAttacher{}, nil
	case AttachTCX:
		if !f.TCX {
			return nil, errors.New("attach mode is tcx, which this kernel lacks; expected kernel 6.6 or attach mode clsact")
		}
		return &tcxAttacher{dir: links}, nil
	case AttachClsact:
		return &clsactAttacher{}, nil
	}
	return nil, fmt.Errorf("attach mode is %q, expected tcx, clsact or nothing", mode)
}

func (d *Datapath) load(spec *ebpf.CollectionSpec) error {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: d.maps})
	if err != nil {
		return fmt.Errorf("load the programs: %w", err)
	}
	defer coll.Close()
	if err := startTimer(coll.Programs[weftProgCtStart]); err != nil {
		return err
	}
	for _, h := range Hooks() {
		prog := coll.DetachProgram(h.String())
		if prog == nil {
			return fmt.Errorf("program %s is missing from the object", h)
		}
		d.programs[h] = prog
	}
	return nil
}

// Probe is what the kernel was found to have when the datapath was opened.
func (d *Datapath) Probe() Features { return d.features }

// Close lets go of maps and programs. Pins, links and so the traffic stay.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, p := range d.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range d.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
