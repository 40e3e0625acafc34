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
	// beside lets tests have two versions open at once.
	beside bool
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
	object   *Object
	bpffs    string
	pinDir   string              // of maps
	lock     *os.File            // nil: none
	hz       uint32              // jiffies per second
	epoch    uint32              // of this opening
	usedBy   map[string][]string // programs by map
	kept     []KeptSize

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
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	links := filepath.Join(cfg.PinDir, "links")
	d.bpffs, d.pinDir = cfg.BPFFS, filepath.Join(cfg.PinDir, "maps")
	if err := ensureBPFFS(d.bpffs, d.pinDir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(links, 0o700); err != nil {
		return nil, err
	}
	if !cfg.beside {
		if d.lock, err = lockPins(d.pinDir); err != nil {
			return nil, err
		}
	}
	if d.attacher, err = newAttacher(cfg.Attach, links, d.features); err != nil {
		return nil, err
	}
	if d.object = cfg.Object; d.object == nil {
		d.object = ThisVersion()
	}
	spec, err := d.object.Load()
	if err != nil {
		return nil, err
	}
	if err := cfg.Sizes.apply(spec); err != nil {
		return nil, err
	}
	if err := d.openMaps(spec); err != nil {
		return nil, err
	}
	if err := d.writeRings(); err != nil {
		return nil, err
	}
	if d.settings, err = d.firstSettings(cfg.Settings); err != nil {
		return nil, err
	}
	have, err := d.readConfig()
	if err != nil {
		return nil, err
	}
	d.epoch = have.Epoch + 1
	if err := d.writeConfig(d.settings, d.watch); err != nil {
		return nil, err
	}
	if err := d.load(spec); err != nil {
		return nil, err
	}
	d.usedBy = users(spec)
	if err := retire(d.object, spec, d.pinDir, d.log); err != nil {
		return nil, err
	}
	return d, nil
}

func newAttacher(mode AttachMode, links string, f Features) (attacher, error) {
	var others attacher
	switch mode {
	case AttachAuto:
		others = &clsactAttacher{}
		if f.TCX {
			others = newLinkAttacher(tcxLinks(), links)
		}
	case AttachTCX:
		if !f.TCX {
			return nil, errors.New("attach mode is tcx, which this kernel lacks; expected kernel 6.6 or attach mode clsact")
		}
		others = newLinkAttacher(tcxLinks(), links)
	case AttachClsact:
		others = &clsactAttacher{}
	default:
		return nil, fmt.Errorf("attach mode is %q, expected tcx, clsact or nothing", mode)
	}
	if !f.Netkit {
		return others, nil
	}
	return &mixedAttacher{others: others, netkit: newLinkAttacher(netkitLinks(), links)}, nil
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
	if d.attacher != nil {
		errs = append(errs, d.attacher.close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	return errors.Join(errs...)
}
