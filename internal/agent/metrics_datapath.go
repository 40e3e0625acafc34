package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-cni/weft/internal/datapath"
)

// datapathMetrics are numbers of packets, events, maps, connections and programs.
type datapathMetrics struct {
	packets, bytes, events        *prometheus.Desc
	entries, maxEntries, pressure *prometheus.Desc
	connections, happened         *prometheus.Desc
	ringEntries, ringMax          *prometheus.Desc
	programRuns, programSeconds   *prometheus.Desc
}

func newDatapathMetrics(d *descriptions) datapathMetrics {
	packet := []string{"hook", "direction", "outcome", "reason"}
	return datapathMetrics{
		packets:        d.add("weft_datapath_packets_total", "Packets by hook, direction and what became of them; outcome is forward, drop, handled (by the programs themselves), or note: beside one of the others.", packet...),
		bytes:          d.add("weft_datapath_bytes_total", "Bytes likewise.", packet...),
		events:         d.add("weft_datapath_events_total", "Events by type and what became of them: suppressed ones were only counted, lost ones found the ring full.", "type", "outcome"),
		entries:        d.add("weft_bpf_map_entries", "Entries in use of each map that can be full; of the ring of events its bytes.", "map"),
		maxEntries:     d.add("weft_bpf_map_max_entries", "The most that fit into the map.", "map"),
		pressure:       d.add("weft_bpf_map_pressure_ratio", "How full the map is, from 0 to 1. Of weft_ct_new and weft_fragments 1 is normal: they evict what was used least recently.", "map"),
		connections:    d.add("weft_conntrack_entries", "Entries of the tables of connections by state.", "table", "state"),
		happened:       d.add("weft_conntrack_events_total", "What happened to connections.", "event"),
		ringEntries:    d.add("weft_conntrack_ring_entries", "Connections that wait to be looked at for expiry, by ring.", "ring"),
		ringMax:        d.add("weft_conntrack_ring_max_entries", "The most that fit into the ring.", "ring"),
		programRuns:    d.add("weft_bpf_program_runs_total", "Runs of the programs by hook, while they are measured (bpf.programStatistics).", "hook"),
		programSeconds: d.add("weft_bpf_program_run_seconds_total", "Time that those runs took.", "hook"),
	}
}

// collect reads each subject by itself: that one can't be read keeps none of the others back.
func (m datapathMetrics) collect(a *agent, ch chan<- prometheus.Metric) {
	for _, s := range []struct {
		what string
		read func(*agent, chan<- prometheus.Metric) error
	}{
		{"counters of packets", m.collectPackets}, {"statistics of events", m.collectEvents}, {"maps", m.collectMaps},
		{"statistics of connections", m.collectConnections}, {"statistics of programs", m.collectPrograms},
	} {
		if err := s.read(a, ch); err != nil {
			a.Log.Warn("metrics not read", "what", s.what, "err", err)
		}
	}
}

func outcome(r datapath.Reason) string {
	switch {
	case r.Drop():
		return "drop"
	case r.Note():
		return "note"
	case r == datapath.ReasonAnswered || r == datapath.ReasonIgnored:
		return "handled"
	}
	return "forward"
}

func (m datapathMetrics) collectPackets(a *agent, ch chan<- prometheus.Metric) error {
	counters, err := a.programs.dp.Counters()
	for _, c := range counters {
		labels := []string{c.Hook.String(), c.Direction.String(), outcome(c.Reason), c.Reason.String()}
		counter(ch, m.packets, float64(c.Packets), labels...)
		counter(ch, m.bytes, float64(c.Bytes), labels...)
	}
	return err
}

func (m datapathMetrics) collectEvents(a *agent, ch chan<- prometheus.Metric) error {
	stats, err := a.flows.stats()
	for _, s := range stats.Events {
		for outcome, n := range map[string]uint64{"sent": s.Sent, "suppressed": s.Suppressed, "lost": s.Lost} {
			counter(ch, m.events, float64(n), s.Type, outcome)
		}
	}
	return err
}

func (m datapathMetrics) collectMaps(a *agent, ch chan<- prometheus.Metric) error {
	fills, err := a.programs.dp.Fills()
	counted := map[string]bool{}
	put := func(f datapath.Fill) {
		gauge(ch, m.entries, float64(f.Entries), f.Map)
		gauge(ch, m.maxEntries, float64(f.Max), f.Map)
		gauge(ch, m.pressure, float64(f.Entries)/float64(max(f.Max, 1)), f.Map)
	}
	for _, f := range fills {
		counted[f.Map] = true
		put(f)
	}
	for _, f := range a.fills.get() {
		if !counted[f.Map] {
			put(f)
		}
		for state, n := range f.States {
			gauge(ch, m.connections, float64(n), f.Map, state)
		}
	}
	return err
}

func (m datapathMetrics) collectConnections(a *agent, ch chan<- prometheus.Metric) error {
	s, err := a.programs.dp.ConntrackStats()
	if err != nil {
		return err
	}
	for event, n := range map[string]uint64{
		"created": s.Created, "failed": s.Failed, "promoted": s.Promoted, "refused": s.Refused, "closed": s.Closed, "expired": s.Expired,
		"replaced": s.Replaced, "unwatched": s.Unwatched,
	} {
		counter(ch, m.happened, float64(n), event)
	}
	for _, r := range s.Rings {
		gauge(ch, m.ringEntries, float64(r.Used), r.Name)
		gauge(ch, m.ringMax, float64(r.Size), r.Name)
	}
	return nil
}

// collectPrograms tells nothing while nobody measures: numbers that stand still would be mistaken for a node
// without traffic.
func (m datapathMetrics) collectPrograms(a *agent, ch chan<- prometheus.Metric) error {
	measured := a.Config.BPF.ProgramStatistics
	if !measured {
		var err error
		if measured, err = a.programs.dp.Measured(); err != nil || !measured {
			return err
		}
	}
	runs, err := a.programs.dp.Runs()
	for _, r := range runs {
		counter(ch, m.programRuns, float64(r.Runs), r.Hook.String())
		counter(ch, m.programSeconds, r.Time.Seconds(), r.Hook.String())
	}
	return err
}
