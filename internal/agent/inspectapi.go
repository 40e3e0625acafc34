package agent

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/inspect"
)

// registerInspect answers how the datapath is.
func (a *agent) registerInspect(s *agentapi.Server) {
	s.JSON("GET /v1/datapath/maps", func(*http.Request) (any, error) {
		if err := a.whenServing(); err != nil {
			return nil, err
		}
		return a.inspectMaps()
	})
	s.Stream("GET /v1/datapath/map", func(r *http.Request, send func(any) error) error {
		if err := a.whenServing(); err != nil {
			return err
		}
		return a.dumpMap(r, send)
	})
}

func (a *agent) inspectMaps() ([]inspect.Map, error) {
	list, err := a.programs.dp.Maps()
	for i := range list {
		list[i].Node = a.Node
	}
	return list, err
}

// dumpMap sends the entries of the map that is named, up to a limit, and then what it has sent.
func (a *agent) dumpMap(r *http.Request, send func(any) error) error {
	q := r.URL.Query()
	m, err := inspect.FindMap(q.Get("name"))
	if err != nil {
		return agentapi.NotFound("map: %v", err)
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 0 {
		return agentapi.BadRequest("limit: found %q, expected a number, 0 for all", q.Get("limit"))
	}
	end := inspect.DumpEnd{Node: a.Node, Map: m.Name}
	var failed error
	err = a.programs.dp.DumpMap(m.Name, a.names(), func(key, value inspect.Fields) bool {
		e := inspect.Entry{Node: a.Node, Map: m.Name, Key: key, Value: value}
		if !e.Matches(q["match"]) {
			failed = r.Context().Err()
			return failed == nil
		}
		if limit > 0 && end.Shown == limit {
			end.More = true
			return false
		}
		end.Shown++
		failed = send(inspect.DumpLine{Entry: &e})
		return failed == nil
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("map %s: %w", m.Name, err)
	}
	return send(inspect.DumpLine{End: &end})
}

// names are what this node calls what the datapath's maps have numbers for, as of now.
func (a *agent) names() datapath.Names {
	pods, slots := map[netip.Addr]string{}, map[tenure]string{}
	devices := map[int]string{}
	for _, e := range a.manager.Endpoints() {
		pods[e.Address], slots[tenure{e.Slot, e.Epoch}], devices[e.Ifindex()] = e.Pod, e.Pod, e.Device()
	}
	enis := map[uint32]string{}
	a.mu.Lock()
	for _, i := range a.view.desired.Interfaces {
		enis[uint32(i.DeviceIndex)+1] = i.ID
	}
	for _, f := range a.report.Found {
		devices[f.Ifindex] = f.Name
	}
	a.mu.Unlock()
	return datapath.Names{
		Endpoint: func(slot, generation uint32) string { return slots[tenure{slot, generation}] },
		Address:  func(addr netip.Addr) string { return pods[addr] },
		ENI:      func(handle uint32) string { return enis[handle] },
		Device:   func(ifindex int) string { return devices[ifindex] },
	}
}
