package bpfcover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
)

// A Recorder remembers what ran of the programs that it has instrumented, however often they are loaded.
type Recorder struct {
	marks *ebpf.Map

	mu      sync.Mutex
	used    uint32
	objects map[string]map[string]program // by object and program
}

type program struct {
	base   uint32
	blocks []block
}

const maxBlocks = 1 << 17

// NewRecorder has room for the blocks of all programs.
func NewRecorder() (*Recorder, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "bpfcover", Type: ebpf.Array, KeySize: 4, ValueSize: maxBlocks, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("make the map of marks: %w", err)
	}
	return &Recorder{marks: m, objects: map[string]map[string]program{}}, nil
}

// Close ends the recording.
func (r *Recorder) Close() error { return r.marks.Close() }

// Instrument makes the object's programs tell what of them runs. An object is always the same one under the
// same name.
func (r *Recorder) Instrument(object string, spec *ebpf.CollectionSpec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.objects[object]
	if known == nil {
		known = map[string]program{}
		r.objects[object] = known
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		p, ok := known[name]
		if !ok {
			p.base = r.used
		}
		insns, blocks, err := instrument(spec.Programs[name].Instructions, r.marks.FD(), p.base)
		if err != nil {
			return fmt.Errorf("program %s: %w", name, err)
		}
		switch {
		case !ok:
			p.blocks = blocks
			r.used += uint32(len(blocks))
		case len(p.blocks) != len(blocks):
			return fmt.Errorf("program %s has %d blocks, and had %d before", name, len(blocks), len(p.blocks))
		}
		if r.used > maxBlocks {
			return errors.New("there are more blocks than marks")
		}
		known[name] = p
		spec.Programs[name].Instructions = insns
	}
	return nil
}

// Profile is what ran so far of the object's programs.
func (r *Recorder) Profile(object string) (Profile, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value := make([]byte, maxBlocks)
	if err := r.marks.Lookup(uint32(0), &value); err != nil {
		return Profile{}, fmt.Errorf("read the marks: %w", err)
	}
	p := Profile{}
	for _, prog := range r.objects[object] {
		for i, b := range prog.blocks {
			ran := value[prog.base+uint32(i)] != 0
			for _, l := range b.lines {
				p[l] = p[l] || ran
			}
		}
	}
	return p, nil
}
