package agent

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/flow"
)

// joinEvery is how often the names are read again at most; one that isn't known is no reason to read them
// more often, or a flood of such events would be.
const joinEvery = 50 * time.Millisecond

// tenure is an endpoint's hold of its slot.
type tenure struct{ slot, generation uint32 }

// joiner gives what the datapath tells the names that it had at that time.
type joiner struct {
	endpoints func() []endpoint.Endpoint
	enis      func() map[int]string // by interface index

	mu      sync.Mutex
	read    time.Time
	slots   map[uint32]endpoint.Endpoint
	addrs   map[netip.Addr]endpoint.Endpoint
	devices map[int]string
	// known are all that were ever seen here, so that an event of one that has left is named too.
	known map[tenure]string
}

func newJoiner(endpoints func() []endpoint.Endpoint, enis func() map[int]string) *joiner {
	return &joiner{endpoints: endpoints, enis: enis, known: map[tenure]string{}}
}

// refresh reads the names if they may be old.
func (j *joiner) refresh(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Sub(j.read) < joinEvery && now.After(j.read) {
		return
	}
	j.read = now
	all := j.endpoints()
	j.slots, j.addrs, j.devices = make(map[uint32]endpoint.Endpoint, len(all)), make(map[netip.Addr]endpoint.Endpoint, len(all)), j.enis()
	for _, e := range all {
		j.slots[e.Slot], j.addrs[e.Address] = e, e
	}
	if len(j.known)+len(all) > forgottenEnd {
		clear(j.known)
	}
	for _, e := range all {
		j.known[tenure{e.Slot, e.Epoch}] = e.Pod
	}
}

func (j *joiner) side(s datapath.EventSide) flow.Side {
	out := flow.Side{Addr: s.Addr, Port: s.Port, Packets: s.Packets, Bytes: s.Bytes, TCP: flow.TCPFlags(s.TCP)}
	if !s.Local {
		return out
	}
	out.Pod = j.known[tenure{s.Slot, s.Generation}]
	if now, ok := j.slots[s.Slot]; !ok || now.Epoch != s.Generation {
		out.Gone = true
	}
	return out
}

// record is the event but for its time and node.
func (j *joiner) record(e datapath.Event) flow.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := flow.Record{
		Type: flow.Type(e.Type.String()), From: j.side(e.Side[0]), To: j.side(e.Side[1]), Length: e.Length,
		Direction: e.Direction.String(), Suppressed: e.Suppressed, Data: e.Data, Connection: e.Connection(), Seconds: e.Age.Seconds(),
	}
	switch {
	case e.Family == 4:
		r.Family = "ipv4"
	case e.Family == 6:
		r.Family = "ipv6"
	case e.Ethertype == 0x0806:
		r.Family = "arp"
	case e.Ethertype != 0:
		r.Family = fmt.Sprintf("0x%04x", e.Ethertype)
	}
	if e.Family != 0 {
		r.Protocol = flow.ProtocolName(e.Protocol)
	}
	icmp := r.Protocol == "icmp" || r.Protocol == "icmpv6"
	if e.NAT.IsValid() {
		r.NAT = e.NAT.String()
	}
	if e.Hook == datapath.HookNone {
		return r
	}
	if icmp {
		// Type and code stand where others have ports.
		r.ICMP = strconv.Itoa(int(e.Side[0].Port>>8)) + "/" + strconv.Itoa(int(e.Side[0].Port&0xff))
		r.From.Port, r.To.Port = 0, 0
	}
	r.Hook, r.Reason, r.Text = e.Hook.String(), e.Reason.String(), e.Reason.Text()
	if e.Reason.Drop() {
		r.Advice, r.Object = e.Reason.Advice(), j.object(e)
	}
	if e.File != "" {
		r.Where = e.File + ":" + strconv.Itoa(e.Line)
	}
	return r
}

// object is what the decision was about: whose rights were asked, or what was missing.
func (j *joiner) object(e datapath.Event) string {
	switch e.Reason {
	case datapath.ReasonNoOwner, datapath.ReasonNoENI:
		return "address " + e.Side[0].Addr.String()
	case datapath.ReasonFamilyOff:
		return "setting ipv6.enabled"
	case datapath.ReasonTunnelPort:
		return "tunnel port " + strconv.Itoa(int(e.Side[1].Port))
	case datapath.ReasonEndpointGone, datapath.ReasonNotForEndpoint:
		return "address " + e.Side[1].Addr.String()
	}
	if e.Hook == datapath.FromPod || e.Hook == datapath.ToPod {
		s := e.Side[0]
		if e.Hook == datapath.ToPod {
			s = e.Side[1]
		}
		if pod := j.known[tenure{s.Slot, s.Generation}]; s.Local && pod != "" {
			return "pod " + pod
		}
		return "device with index " + strconv.Itoa(e.Ifindex)
	}
	if id := j.devices[e.Ifindex]; id != "" {
		return "ENI " + id
	}
	return "device with index " + strconv.Itoa(e.Ifindex)
}

// eniNames are the ENIs of this node by interface index.
func (a *agent) eniNames() map[int]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	byIndex := map[int32]string{}
	for _, i := range a.view.desired.Interfaces {
		byIndex[i.DeviceIndex] = i.ID
	}
	out := map[int]string{}
	for _, f := range a.report.Found {
		out[f.Ifindex] = byIndex[f.DeviceIndex]
	}
	return out
}
