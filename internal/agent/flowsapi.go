package agent

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/flow"
)

// registerFlows answers what happened to packets and connections.
func (a *agent) registerFlows(s *agentapi.Server) {
	s.Stream("GET /v1/flows", func(r *http.Request, send func(any) error) error {
		if err := a.whenServing(); err != nil {
			return err
		}
		return a.flows.stream(r, send)
	})
	s.JSON("GET /v1/flows/stats", func(*http.Request) (any, error) {
		if err := a.whenServing(); err != nil {
			return nil, err
		}
		return a.flows.stats()
	})
}

// flowQuery is what a person asks for beside the filter.
type flowQuery struct {
	filter  flow.Filter
	last    int  // of those that match; negative: all that are kept
	follow  bool // then what comes
	capture int  // bytes of each packet from now on
}

func parseFlowQuery(r *http.Request) (flowQuery, error) {
	v := r.URL.Query()
	f, err := flow.ParseFilter(v)
	if err != nil {
		return flowQuery{}, agentapi.BadRequest("%v", err)
	}
	q := flowQuery{filter: f, last: -1, follow: v.Get("follow") == "true"}
	for name, to := range map[string]*int{"last": &q.last, "capture": &q.capture} {
		if s := v.Get(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || name == "capture" && n > datapath.MaxCapture {
				return q, agentapi.BadRequest("%s: found %q, expected a number from 0 on, for capture at most %d", name, s, datapath.MaxCapture)
			}
			*to = n
		}
	}
	return q, nil
}

func (f *flows) stream(r *http.Request, send func(any) error) error {
	q, err := parseFlowQuery(r)
	if err != nil {
		return err
	}
	if q.follow {
		release, err := f.watch(datapath.Watch{Trace: slices.Contains(q.filter.Types, flow.Trace), Capture: q.capture})
		if err != nil {
			return err
		}
		defer release()
	}
	cursor := f.ring.All()
	end := f.ring.Tail(0)
	chunk := make([]flow.Record, streamChunk)
	// What is kept first: only the last that match, so they are found before the first is sent.
	var past []flow.Record
	for cursor.Before(end) {
		n, _, _ := f.ring.Read(&cursor, chunk)
		for _, rec := range chunk[:n] {
			if q.filter.Match(rec) {
				past = append(past, rec)
			}
		}
		if q.last >= 0 && len(past) > q.last+streamChunk {
			past = slices.Delete(past, 0, len(past)-q.last)
		}
	}
	if q.last >= 0 && len(past) > q.last {
		past = past[len(past)-q.last:]
	}
	for _, rec := range past {
		if err := send(rec); err != nil {
			return err
		}
	}
	if !q.follow {
		return nil
	}
	for {
		n, lost, changed := f.ring.Read(&cursor, chunk)
		if lost > 0 {
			if err := send(flow.Record{Time: time.Now(), Node: f.node, Type: flow.Lost, Count: lost, Text: "this reader was too slow"}); err != nil {
				return err
			}
		}
		for _, rec := range chunk[:n] {
			if !q.filter.Match(rec) {
				continue
			}
			if err := send(rec); err != nil {
				return err
			}
		}
		if n > 0 {
			continue
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// FlowStats is what /v1/flows/stats shows.
type FlowStats struct {
	Events []EventStat `json:"events"`
	// Unreadable records were none that this version understands.
	Unreadable uint64 `json:"unreadable"`
	Watchers   int    `json:"watchers"`
}

// EventStat is what became of one type's events.
type EventStat struct {
	Type       string `json:"type"`
	Sent       uint64 `json:"sent"`
	Suppressed uint64 `json:"suppressed"`
	Lost       uint64 `json:"lost"`
}

func (f *flows) stats() (FlowStats, error) {
	stats, err := f.dp.EventStats()
	if err != nil {
		return FlowStats{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := FlowStats{Unreadable: f.unreadable, Watchers: len(f.watchers)}
	for _, s := range stats {
		out.Events = append(out.Events, EventStat{Type: s.Type.String(), Sent: s.Sent, Suppressed: s.Suppressed, Lost: s.Lost})
	}
	return out, nil
}
