package socklb

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// Tables are the pinned maps of services, for whoever looks at them beside the agent and without it.
type Tables struct {
	maps map[string]*ebpf.Map
	all  maps
}

// OpenTables opens those below the pin directory, read only.
func OpenTables(pinDir string) (_ *Tables, err error) {
	t := &Tables{maps: map[string]*ebpf.Map{}}
	for name, to := range map[string]**ebpf.Map{
		socketMapWeftLbFrontends: &t.all.frontends, socketMapWeftLbBackends: &t.all.backends, socketMapWeftLbMembers: &t.all.members, socketMapWeftLbConfig: &t.all.config,
	} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, "maps", name), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open map %s: %w", name, err), t.Close())
		}
		*to, t.maps[name] = m, m
	}
	return t, nil
}

// Confirmed tells until when an agent has said that the tables are right, by CLOCK_MONOTONIC in ns; 0: none has.
func (t *Tables) Confirmed() (uint64, error) {
	var config configValue
	if err := t.all.config.Lookup(uint32(0), &config); err != nil {
		return 0, fmt.Errorf("read %s: %w", socketMapWeftLbConfig, err)
	}
	return config.Fresh, nil
}

// Backends are those of a frontend, sorted; ok: there is one.
func (t *Tables) Backends(key loadbalancer.Key) (_ []netip.AddrPort, ok bool, err error) {
	var fe frontendValue
	err = t.all.frontends.Lookup(newFrontendKey(key), &fe)
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read %s: %w", socketMapWeftLbFrontends, err)
	}
	var out []netip.AddrPort
	for i := range fe.Count {
		var be backendValue
		err := t.all.backends.Lookup(slotKey{fe.Set, i}, &be)
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist): // it shrinks just now
		case err != nil:
			return nil, false, fmt.Errorf("read %s: %w", socketMapWeftLbBackends, err)
		default:
			out = append(out, addrPort(be.Addr, be.Port))
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out, true, nil
}

// Memory is what the kernel says that each map takes, in bytes; 0: it doesn't say.
func (t *Tables) Memory() (map[string]uint64, error) {
	out := map[string]uint64{}
	for name, m := range t.maps {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		out[name], _ = info.Memlock()
	}
	return out, nil
}

// Close lets go of them.
func (t *Tables) Close() error {
	var errs []error
	for _, m := range t.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
