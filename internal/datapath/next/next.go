// Package next is the datapath as a later version might have it, with another layout of connections and
// of endpoints: tests upgrade to it and go back.
package next

import "github.com/cilium/ebpf"

// Load returns that version's programs.
func Load() (*ebpf.CollectionSpec, error) { return loadNext() }

// Changed names the maps with another layout. Those of endpoints have the same bytes, but a later version's
// needn't have.
func Changed() []string {
	return []string{nextMapWeftEndpoints, nextMapWeftCtNew, nextMapWeftCtEst, nextMapWeftCtStats}
}

// Previous names the maps that are taken over from the version before.
func Previous() map[string]string {
	return map[string]string{nextMapWeftCtNewPrev: nextMapWeftCtNew, nextMapWeftCtEstPrev: nextMapWeftCtEst}
}
