package agent

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why"
)

// maxTold bounds the connections of one answer.
const maxTold = 50

// registerWhy answers what a node knows of a flow.
func (a *agent) registerWhy(s *agentapi.Server) {
	s.JSON("GET /v1/why", func(r *http.Request) (any, error) {
		if err := a.whenServing(); err != nil {
			return nil, err
		}
		q := r.URL.Query()
		var ends [2]netip.Addr
		for i, name := range []string{"from", "to"} {
			addr, err := netip.ParseAddr(q.Get(name))
			if err != nil {
				return nil, agentapi.BadRequest("%s: found %q, expected an address", name, q.Get(name))
			}
			ends[i] = addr.Unmap()
		}
		protocol, err := flow.ParseProtocol(q.Get("protocol"))
		if err != nil {
			return nil, agentapi.BadRequest("%v", err)
		}
		port, err := strconv.ParseUint(q.Get("port"), 10, 16)
		if err != nil {
			return nil, agentapi.BadRequest("port: found %q, expected a number, 0 for any", q.Get("port"))
		}
		return a.whyNode(ends[0], ends[1], protocol, uint16(port))
	})
}

func (a *agent) whyNode(from, to netip.Addr, protocol string, port uint16) (why.Witness, error) {
	out := why.Witness{Node: why.Node{Name: a.Node}, Endpoints: map[netip.Addr]string{}, MTU: map[netip.Addr]int{}}
	for _, e := range a.manager.Endpoints() {
		if e.Address == from || e.Address == to {
			out.Endpoints[e.Address] = e.Pod
		}
	}
	a.mu.Lock()
	out.Missing = a.report.Missing
	for _, addr := range []netip.Addr{from, to} {
		index, ok := a.view.owners[addr]
		for _, f := range a.report.Found {
			if ok && f.DeviceIndex == index {
				out.MTU[addr] = f.MTU
			}
		}
	}
	a.mu.Unlock()
	stats, err := a.programs.dp.ConntrackStats()
	if err != nil {
		return out, fmt.Errorf("connection tables of %s: %w", a.Node, err)
	}
	// What is beginning takes room in the same table.
	out.Established, out.EstablishedMax = stats.Established+stats.Beginning, stats.EstablishedMax
	out.Refused, out.Failed = stats.Refused, stats.Failed
	now := time.Now()
	err = a.programs.dp.Connections(func(c datapath.Connection) bool {
		if c.From.Addr() != from || c.To.Addr() != to || flow.ProtocolName(c.Protocol) != protocol || port != 0 && c.To.Port() != port || c.State == datapath.ConnExpired {
			return true
		}
		out.Connections = append(out.Connections, why.Connection{
			Node: a.Node, From: c.From, To: c.To, Protocol: protocol, State: string(c.State), Sent: c.Sent.Packets, Received: c.Received.Packets,
			SentBytes: c.Sent.Bytes, Translated: c.Translated, Refused: c.Refused, Began: now.Add(-c.Age),
		})
		if len(out.Connections) == 2*maxTold {
			out.Connections = lastBegun(out.Connections)
		}
		return true
	})
	if err != nil {
		return out, fmt.Errorf("connections of %s: %w", a.Node, err)
	}
	out.Connections = lastBegun(out.Connections)
	return out, nil
}

// lastBegun are at most maxTold connections, those that began last first: what is asked is why the flow
// doesn't work now.
func lastBegun(all []why.Connection) []why.Connection {
	slices.SortStableFunc(all, func(a, b why.Connection) int { return b.Began.Compare(a.Began) })
	return all[:min(len(all), maxTold)]
}
