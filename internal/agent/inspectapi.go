package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

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
	s.Stream("GET /v1/datapath/programs", func(r *http.Request, send func(any) error) error {
		if err := a.whenServing(); err != nil {
			return err
		}
		return a.listPrograms(r, send)
	})
	s.JSON("GET /v1/datapath/routes", func(*http.Request) (any, error) {
		if err := a.whenServing(); err != nil {
			return nil, err
		}
		return a.routes()
	})
	s.JSON("GET /v1/datapath/check", func(r *http.Request) (any, error) {
		if err := a.whenServing(); err != nil {
			return nil, err
		}
		return a.check(r.Context())
	})
}

// listPrograms sends the programs at the devices' hooks, after having measured them for as long as is asked.
func (a *agent) listPrograms(r *http.Request, send func(any) error) error {
	var list []inspect.Program
	var err error
	if s := r.URL.Query().Get("stats"); s != "" {
		d, parsed := time.ParseDuration(s)
		if parsed != nil || d < inspect.LeastMeasure || d > inspect.MostMeasure {
			return agentapi.BadRequest("stats: found %q, expected %s to %s", s, inspect.LeastMeasure, inspect.MostMeasure)
		}
		list, err = a.measure(r.Context(), d)
	} else {
		list, err = a.programs.dp.Programs()
	}
	if err != nil {
		return err
	}
	whose := a.whose()
	for _, p := range list {
		p.Node, p.Of = a.Node, whose[p.Ifindex]
		if err := send(p); err != nil {
			return err
		}
	}
	return nil
}

// measure counts what programs run during d.
func (a *agent) measure(ctx context.Context, d time.Duration) ([]inspect.Program, error) {
	stop, err := a.programs.dp.MeasurePrograms()
	if err != nil {
		return nil, err
	}
	before, err := a.programs.dp.Programs()
	if err != nil {
		return nil, errors.Join(err, stop.Close())
	}
	began := time.Now()
	waited := pause(ctx, d)
	after, err := a.programs.dp.Programs()
	took := time.Since(began)
	if err := errors.Join(waited, err, stop.Close()); err != nil {
		return nil, err
	}
	return inspect.Measured(before, after, took), nil
}

// whose are devices' owners in words, by index.
func (a *agent) whose() map[int]string {
	out := map[int]string{}
	for _, e := range append(a.manager.Endpoints(), a.strays.endpoints()...) {
		out[e.Ifindex()] = "pod " + e.Pod
	}
	for index, id := range a.eniNames() {
		out[index] = "ENI " + id
	}
	return out
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
