package agent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/inspect"
)

// repairs remembers what the agent has put back after somebody took it away.
type repairs struct {
	mu     sync.Mutex
	since  time.Time
	last   *inspect.Repair
	counts map[string]uint64 // by kind, the first word of what it was
}

// repairKinds are what can be put back.
func repairKinds() []string {
	return []string{"route", "rule", "address", "device", "nftables", "pin", "program"}
}

// newRepairs counts from zero, so that the first repair is seen to be one.
func newRepairs() *repairs {
	r := &repairs{since: time.Now(), counts: map[string]uint64{}}
	for _, k := range repairKinds() {
		r.counts[k] = 0
	}
	return r
}

// note remembers these; each begins with its kind.
func (r *repairs) note(what ...string) {
	if len(what) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &inspect.Repair{Time: time.Now().UTC(), What: what}
	for _, w := range what {
		kind, _, _ := strings.Cut(w, " ")
		r.counts[kind]++
	}
}

func (r *repairs) get() (since time.Time, last *inspect.Repair, counts map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts = make(map[string]uint64, len(r.counts))
	for k, n := range r.counts {
		counts[k] = n
	}
	return r.since, r.last, counts
}

// pinned are pins in the words of a repair.
func pinned(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, "pin "+p)
	}
	return out
}

// wantAttached are the programs that should run: two on each device that is there.
func (a *agent) wantAttached() (map[datapath.Attachment]string, error) {
	there, err := a.existing(append(a.manager.Endpoints(), a.strays.endpoints()...))
	if err != nil {
		return nil, err
	}
	out := map[datapath.Attachment]string{}
	for _, e := range there {
		for _, h := range []datapath.Hook{datapath.FromPod, datapath.ToPod} {
			out[datapath.Attachment{Hook: h, Ifindex: e.Ifindex()}] = fmt.Sprintf("%s of pod %s", e.Device(), e.Pod)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.report.Found {
		for _, h := range []datapath.Hook{datapath.FromNetdev, datapath.ToNetdev} {
			out[datapath.Attachment{Hook: h, Ifindex: f.Ifindex}] = fmt.Sprintf("%s of ENI %s", f.Name, f.ID)
		}
	}
	return out, nil
}

// running are those of the programs that should run that do, with their devices.
func (a *agent) running() (map[datapath.Attachment]string, error) {
	want, err := a.wantAttached()
	if err != nil {
		return nil, err
	}
	have, err := a.programs.dp.Attached()
	if err != nil {
		return nil, err
	}
	out := map[datapath.Attachment]string{}
	for _, at := range have {
		if device, ok := want[at]; ok {
			out[at] = device
		}
	}
	return out, nil
}

// takenOff are those that ran before, run no more, and do again after: by the name of their device, which isn't
// another pod's with the same index.
func takenOff(before, found, after map[datapath.Attachment]string) []string {
	var out []string
	for at, device := range before {
		if found[at] != device && after[at] == device {
			out = append(out, fmt.Sprintf("program %s at device %s", at.Hook, device))
		}
	}
	slices.Sort(out)
	return out
}

// isPodDevice tells whether the index is one that weft gives to pods' devices.
func isPodDevice(ifindex int) bool {
	return ifindex >= contract.IfindexBase && ifindex < contract.IfindexBase+contract.MaxEndpoints
}
