package datapath

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// An Object is a version of the compiled programs, and how its maps are pinned. Programs of two versions
// share a map as long as both give it the same layout; a layout that changed gets the next number, which
// is in the name of the pin.
type Object struct {
	Load func() (*ebpf.CollectionSpec, error)
	// Layouts of maps whose layout isn't the first.
	Layouts map[string]int
	// Previous names maps of this object that are, by their own layout, maps of the version before: their
	// contents are taken over and kept up to date. The values are the names that those have there.
	Previous map[string]string
}

// ThisVersion is the object that this version of weft attaches.
func ThisVersion() *Object {
	return &Object{Load: loadWeft, Layouts: map[string]int{weftMapWeftEnis: 2, weftMapWeftConfig: 2}}
}

// Successor is a later version's object: the maps that changed have the next layout, and previous takes
// over what this one leaves.
func (o *Object) Successor(load func() (*ebpf.CollectionSpec, error), changed []string, previous map[string]string) *Object {
	out := &Object{Load: load, Layouts: maps.Clone(o.Layouts), Previous: previous}
	for _, name := range changed {
		out.Layouts[name] = o.layoutOf(name) + 1
	}
	return out
}

func (o *Object) layoutOf(name string) int { return max(1, o.Layouts[name]) }

// pinName is the map's name with its layout's number, where it isn't the first one.
func (o *Object) pinName(name string) string {
	number := o.layoutOf(name)
	if base, ok := o.Previous[name]; ok {
		name, number = base, o.layoutOf(base)-1
	}
	if number > 1 {
		return fmt.Sprintf("%s_%d", name, number)
	}
	return name
}

// foreign are those of the pins that are of other versions' layouts of this object's maps. Once this
// version's programs are loaded nobody opens them any more: a version that is gone back to makes its own
// anew, and must not find what was true before. What programs on devices use lives as long as they do.
func (o *Object) foreign(spec *ebpf.CollectionSpec, pins []string) []string {
	own := map[string]bool{}
	for name := range spec.Maps {
		own[o.pinName(name)] = true
	}
	var out []string
	for _, pin := range pins {
		if own[pin] {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
			if pin == name || isLayoutOf(pin, name) {
				out = append(out, pin)
				break
			}
		}
	}
	return out
}

// lost are those of the missing maps that have no pin of any layout: an upgrade would have left one.
func (o *Object) lost(missing, pins []string) []string {
	var out []string
	for _, name := range missing {
		base := name
		if b, ok := o.Previous[name]; ok {
			base = b
		}
		if !slices.ContainsFunc(pins, func(pin string) bool { return pin == base || isLayoutOf(pin, base) }) {
			out = append(out, name)
		}
	}
	return out
}

// namesInUse are the names that the map may have where it is in use: a version that took it over calls it
// otherwise.
func (o *Object) namesInUse(name string) []string {
	if base, ok := o.Previous[name]; ok {
		return []string{name, base}
	}
	return []string{name, name + "_prev"}
}

// isLayoutOf tells whether pin is name with a layout's number.
func isLayoutOf(pin, name string) bool {
	number, ok := strings.CutPrefix(pin, name+"_")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}
