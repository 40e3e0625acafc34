package datapath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/inspect"
)

// Programs are all programs on the devices of this network namespace that traffic meets, weft's and others',
// in the order they run.
func (d *Datapath) Programs() ([]inspect.Program, error) {
	devices, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	pins, err := d.linkPins()
	if err != nil {
		return nil, err
	}
	var out []inspect.Program
	known := map[ebpf.ProgramID]inspect.Program{}
	for _, device := range devices {
		for _, ingress := range []bool{true, false} {
			chain, err := d.chain(device, ingress, known)
			if errors.Is(err, unix.ENODEV) {
				continue // it went meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("programs of %s: %w", device.Attrs().Name, err)
			}
			for i := range chain {
				chain[i].Position, chain[i].Chain, chain[i].Pin = i+1, len(chain), pins[link.ID(chain[i].Link)]
			}
			out = append(out, chain...)
		}
	}
	return out, nil
}

// linkPins are the paths of pinned links.
func (d *Datapath) linkPins() (map[link.ID]string, error) {
	dir := filepath.Join(filepath.Dir(d.pinDir), "links")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out := map[link.ID]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		l, err := link.LoadPinnedLink(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		info, err := l.Info()
		if err := errors.Join(err, l.Close()); err != nil {
			return nil, fmt.Errorf("link %s: %w", path, err)
		}
		out[info.ID] = path
	}
	return out, nil
}

// A place is where programs are attached to a device.
type place struct {
	by      string
	at      ebpf.AttachType
	ingress bool // as the device sees it
}

func (d *Datapath) places(device netlink.Link) []place {
	var out []place
	if device.Type() == "netkit" {
		// What the pod's side sends comes in by the host's.
		out = append(out, place{"netkit", ebpf.AttachNetkitPeer, true}, place{"netkit", ebpf.AttachNetkitPrimary, false})
	}
	if d.features.TCX {
		out = append(out, place{"tcx", ebpf.AttachTCXIngress, true}, place{"tcx", ebpf.AttachTCXEgress, false})
	}
	return out
}

// chain are the programs of one side of a device. The kernel runs links' programs first, then the filters of
// clsact by their preference.
func (d *Datapath) chain(device netlink.Link, ingress bool, known map[ebpf.ProgramID]inspect.Program) ([]inspect.Program, error) {
	var out []inspect.Program
	add := func(by string, id ebpf.ProgramID, link link.ID) error {
		p, err := d.look(id, known)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		p.Device, p.Ifindex, p.Attached, p.Link, p.Side = device.Attrs().Name, device.Attrs().Index, by, uint32(link), Egress.String()
		if ingress {
			p.Side = Ingress.String()
		}
		out = append(out, p)
		return nil
	}
	for _, at := range d.places(device) {
		if at.ingress != ingress {
			continue
		}
		list, err := link.QueryPrograms(link.QueryOptions{Target: device.Attrs().Index, Attach: at.at})
		if err != nil {
			return nil, err
		}
		for _, p := range list.Programs {
			id, _ := p.LinkID()
			if err := add(at.by, p.ID, id); err != nil {
				return nil, err
			}
		}
	}
	parent := uint32(netlink.HANDLE_MIN_EGRESS)
	if ingress {
		parent = netlink.HANDLE_MIN_INGRESS
	}
	filters, err := netlink.FilterList(device, parent)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	slices.SortStableFunc(filters, func(a, b netlink.Filter) int { return int(a.Attrs().Priority) - int(b.Attrs().Priority) })
	for _, f := range filters {
		b, ok := f.(*netlink.BpfFilter)
		if !ok || b.Id == 0 {
			continue
		}
		if err := add("clsact", ebpf.ProgramID(b.Id), 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// look describes a program, once for all devices that it is on.
func (d *Datapath) look(id ebpf.ProgramID, known map[ebpf.ProgramID]inspect.Program) (inspect.Program, error) {
	if p, ok := known[id]; ok {
		return p, nil
	}
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return inspect.Program{}, fmt.Errorf("program %d: %w", id, err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return inspect.Program{}, fmt.Errorf("program %d: %w", id, err)
	}
	p := inspect.Program{ID: uint32(id), Name: info.Name, Tag: info.Tag}
	p.VerifiedInstructions, _ = info.VerifiedInstructions()
	if p.JITedBytes, err = info.JitedSize(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, ebpf.ErrRestrictedKernel) {
		return p, fmt.Errorf("program %d: %w", id, err)
	}
	stats, err := prog.Stats()
	if err != nil {
		return p, fmt.Errorf("program %d: %w", id, err)
	}
	p.Runs, p.RunNanoseconds = stats.RunCount, uint64(stats.Runtime.Nanoseconds())
	for _, h := range Hooks() {
		ours, err := isOurs(id, h)
		if err != nil {
			return p, err
		}
		if !ours {
			continue
		}
		p.Hook = h.String()
		loaded, _ := programID(d.programs[h])
		p.Current = loaded == id
	}
	known[id] = p
	return p, nil
}

// Attached are our programs that run.
func (d *Datapath) Attached() ([]Attachment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attachments()
}

func (d *Datapath) attachments() ([]Attachment, error) {
	attached, err := d.attacher.attached()
	if err != nil {
		return nil, fmt.Errorf("list attached programs: %w", err)
	}
	var out []Attachment
	for _, a := range attached {
		out = append(out, Attachment{Hook: a.hook, Ifindex: a.ifindex})
	}
	SortAttachments(out)
	return out, nil
}

// MeasurePrograms has the kernel count the runs of all of its programs, and what they take, until the result is
// closed. It makes each run a little dearer.
func (d *Datapath) MeasurePrograms() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("measure programs: %w", err)
	}
	return c, nil
}

// Measured tells whether the kernel measures programs because a setting of the machine says so.
func (d *Datapath) Measured() (bool, error) {
	b, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled")
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(string(b)) != "0", nil
}

// ProgramRuns is what a hook's program has run since it was loaded, as far as the kernel has measured it.
type ProgramRuns struct {
	Hook Hook
	Runs uint64
	Time time.Duration
}

// Runs are those of this agent's programs, each on all of its devices together.
func (d *Datapath) Runs() ([]ProgramRuns, error) {
	var out []ProgramRuns
	for _, h := range Hooks() {
		s, err := d.programs[h].Stats()
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", h, err)
		}
		out = append(out, ProgramRuns{Hook: h, Runs: s.RunCount, Time: s.Runtime})
	}
	return out, nil
}
