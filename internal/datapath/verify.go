package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// A Program is what the kernel made of one program.
type Program struct {
	Name       string `json:"name"`
	Verified   uint32 `json:"verified"`   // instructions that the verifier walked
	Translated int    `json:"translated"` // bytes
	JITed      uint32 `json:"jited"`      // bytes; 0 without a compiler in the kernel
}

// Verify has this kernel's verifier check every program of an object, over maps that end with it; nothing is
// pinned or attached.
func Verify(o *Object) (Features, []Program, error) {
	f, err := probe()
	if err != nil {
		return f, nil, err
	}
	spec, err := o.Load()
	if err != nil {
		return f, nil, err
	}
	// The verifier doesn't look at the tables' sizes, and the machine may be small.
	if err := (Sizes{ConntrackTCP: 1024, ConntrackAny: 1024}).apply(spec); err != nil {
		return f, nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return f, nil, fmt.Errorf("load the programs: %w", err)
	}
	defer coll.Close()
	var out []Program
	for _, h := range Hooks() {
		prog := coll.Programs[h.String()]
		if prog == nil {
			return f, nil, fmt.Errorf("program %s is missing from the object", h)
		}
		info, err := prog.Info()
		if err != nil {
			return f, nil, fmt.Errorf("program %s: %w", h, err)
		}
		p := Program{Name: h.String()}
		p.Verified, _ = info.VerifiedInstructions()
		if p.Translated, err = info.TranslatedSize(); err != nil {
			return f, nil, fmt.Errorf("program %s: %w", h, err)
		}
		if p.JITed, err = info.JitedSize(); err != nil {
			return f, nil, fmt.Errorf("program %s: %w", h, err)
		}
		out = append(out, p)
	}
	return f, out, nil
}
