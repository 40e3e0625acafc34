package datapath

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const mapPrefix = "weft_"

// kernelName is how the kernel has a name: at most 15 bytes.
func kernelName(name string) string {
	const most = 15
	return name[:min(len(name), most)]
}

// isOurs tells whether a program is one of ours for the hook, of whatever version: it has the hook's name
// and uses maps of ours. One that is gone meanwhile isn't.
func isOurs(id ebpf.ProgramID, hook Hook) (bool, error) {
	info, maps, err := programMaps(id)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer closeAll(maps)
	if info.Name != kernelName(hook.String()) {
		return false, nil
	}
	for _, m := range maps {
		if info, err := m.Info(); err == nil && strings.HasPrefix(info.Name, mapPrefix) {
			return true, nil
		}
	}
	return false, nil
}

// programMaps opens the maps that a program uses.
func programMaps(id ebpf.ProgramID) (*ebpf.ProgramInfo, []*ebpf.Map, error) {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, nil, fmt.Errorf("program %d: %w", id, err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil, nil, fmt.Errorf("program %d: %w", id, err)
	}
	ids, _ := info.MapIDs()
	var out []*ebpf.Map
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(out)
			return nil, nil, fmt.Errorf("map %d: %w", id, err)
		}
		out = append(out, m)
	}
	return info, out, nil
}

func closeAll(maps []*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// runningPrograms are our programs on the devices of this network namespace.
func runningPrograms(tcx bool) ([]ebpf.ProgramID, error) {
	list, err := devices()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []ebpf.ProgramID
	for _, d := range list {
		for _, h := range Hooks() {
			ids, err := programsAt(h, d, tcx)
			if err != nil {
				return nil, fmt.Errorf("programs of %s: %w", d.Attrs().Name, err)
			}
			for _, id := range ids {
				ours, err := isOurs(id, h)
				if err != nil {
					return nil, err
				}
				if ours {
					out = append(out, id)
				}
			}
		}
	}
	return out, nil
}

// programsAt are all programs at the hook's place on a device, by netkit, tcx or clsact.
func programsAt(hook Hook, device netlink.Link, tcx bool) ([]ebpf.ProgramID, error) {
	var out []ebpf.ProgramID
	var places []ebpf.AttachType
	if tcx {
		places = append(places, tcxPlace(hook))
	}
	if hook.ofPods() && device.Type() == netkitType {
		places = append(places, netkitPlace(hook))
	}
	for _, place := range places {
		list, err := link.QueryPrograms(link.QueryOptions{Target: device.Attrs().Index, Attach: place})
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return nil, err
		}
		if err == nil {
			for _, p := range list.Programs {
				out = append(out, p.ID)
			}
		}
	}
	filters, err := ourFilters(hook, device)
	if err != nil {
		return nil, err
	}
	for _, f := range filters {
		out = append(out, ebpf.ProgramID(f.Id))
	}
	return out, nil
}

// survivors are the maps that our running programs use, by the kernel's name: where pins are gone, they are
// how what is known of connections lives on. Of several with one name the one that most programs use.
func survivors(tcx bool) (map[string]*ebpf.Map, error) {
	programs, err := runningPrograms(tcx)
	if err != nil {
		return nil, err
	}
	uses := map[ebpf.MapID]int{}
	byName := map[string]ebpf.MapID{}
	found := map[ebpf.MapID]*ebpf.Map{}
	for _, id := range programs {
		_, maps, err := programMaps(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, m := range maps {
			info, err := m.Info()
			if err != nil {
				return nil, err
			}
			id, ok := info.ID()
			if !ok || !strings.HasPrefix(info.Name, mapPrefix) {
				m.Close()
				continue
			}
			if found[id] != nil {
				m.Close()
			} else {
				found[id] = m
			}
			uses[id]++
			if best, ok := byName[info.Name]; !ok || uses[id] > uses[best] || uses[id] == uses[best] && id > best {
				byName[info.Name] = id
			}
		}
	}
	out := map[string]*ebpf.Map{}
	for name, id := range byName {
		out[name] = found[id]
		delete(found, id)
	}
	for _, m := range found {
		m.Close()
	}
	return out, nil
}
