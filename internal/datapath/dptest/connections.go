package dptest

import (
	"net/netip"
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

// ForgetOthers is datapath.Datapath.ForgetOthers.
func (d *Datapath) ForgetOthers(e datapath.Endpoint) (int, error) {
	done, err := d.begin("ForgetOthers")
	if err != nil {
		return 0, err
	}
	defer done()
	before := len(d.kernel.connections)
	d.kernel.connections = slices.DeleteFunc(d.kernel.connections, func(c datapath.Connection) bool {
		for addr, t := range map[netip.Addr]datapath.Traffic{c.From.Addr(): c.Sent, c.To.Addr(): c.Received} {
			if (addr == e.Addr || e.Addr6.IsValid() && addr == e.Addr6) && (t.Slot != int(e.Slot) || t.Generation != e.Generation) {
				return true
			}
		}
		return false
	})
	return before - len(d.kernel.connections), nil
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
