// Package variants shows every variant of the datapath's programs to this kernel's verifier.
package variants

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/datapath/next"
	"github.com/weft-cni/weft/internal/netkit"
	"github.com/weft-cni/weft/test/kernels/report"
)

// Devices are the kinds that pods can have on this kernel.
func Devices() ([]string, error) {
	out := []string{"veth"}
	for name, l2 := range map[string]bool{"netkit": false, "netkit-l2": true} {
		err := netkit.Probe(l2)
		var missing *netkit.MissingError
		switch {
		case err == nil:
			out = append(out, name)
		case !errors.As(err, &missing):
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	slices.Sort(out[1:])
	return out, nil
}

// Load tries all of them, whatever becomes of the others.
func Load() (datapath.Features, []report.Variant) {
	var features datapath.Features
	var out []report.Variant
	for _, name := range report.Variants() {
		var err error
		v := report.Variant{Name: name}
		if features, v.Programs, err = datapath.Verify(object(name)); err != nil {
			v.Error = err.Error()
		}
		out = append(out, v)
	}
	return features, out
}

func object(name string) *datapath.Object {
	o := datapath.ThisVersion()
	if name == report.Next {
		return o.Successor(next.Load, next.Changed(), next.Previous())
	}
	return o
}
