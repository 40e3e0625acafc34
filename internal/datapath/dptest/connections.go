package dptest

import (
	"slices"

	"github.com/weft-cni/weft/internal/datapath"
)

// Track puts connections into the tables, as the programs would.
func (k *Kernel) Track(c ...datapath.Connection) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.connections = append(k.connections, c...)
}

// Connections is datapath.Datapath.Connections.
func (d *Datapath) Connections(fn func(datapath.Connection) bool) error {
	done, err := d.begin("Connections")
	if err != nil {
		return err
	}
	all := slices.Clone(d.kernel.connections)
	done()
	for _, c := range all {
		if !fn(c) {
			break
		}
	}
	return nil
}

// ConntrackStats is datapath.Datapath.ConntrackStats.
func (d *Datapath) ConntrackStats() (datapath.ConntrackStats, error) {
	done, err := d.begin("ConntrackStats")
	if err != nil {
		return datapath.ConntrackStats{}, err
	}
	defer done()
	s := datapath.ConntrackStats{EstablishedMax: 524288, OtherMax: 262144, Created: uint64(len(d.kernel.connections))}
	for _, c := range d.kernel.connections {
		if c.Established {
			s.Established++
		}
		if c.Refused {
			s.Refused++
		}
	}
	return s, nil
}
