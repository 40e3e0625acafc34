package inspect

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A Map is one of the datapath's maps as it is on a node.
type Map struct {
	Node       string `json:"node"`
	Name       string `json:"name"`
	About      string `json:"about"`
	ID         uint32 `json:"id"`
	Type       string `json:"type"`
	KeyBytes   uint32 `json:"keyBytes"`
	ValueBytes uint32 `json:"valueBytes"`
	PerCPU     bool   `json:"perCPU,omitempty"` // a value for each CPU
	// Unit is what Entries and MaxEntries count: entries, or a ring's bytes.
	Unit       string `json:"unit"`
	Entries    uint64 `json:"entries"`
	MaxEntries uint64 `json:"maxEntries"`
	// Fixed maps have all of their entries always.
	Fixed bool `json:"fixed,omitempty"`
	// Evicts: when the map is full, what was used least recently makes room. Being full is its normal state.
	Evicts      bool     `json:"evicts,omitempty"`
	MemoryBytes uint64   `json:"memoryBytes"` // 0: it grows with what is put into it
	Pin         string   `json:"pin"`         // empty: none, it ends with its programs
	PinMissing  bool     `json:"pinMissing,omitempty"`
	Layout      int      `json:"layout"`
	UsedBy      []string `json:"usedBy"`    // programs
	WrittenBy   string   `json:"writtenBy"` // in words
}

// Pressure is how full the map is, from 0 to 1; 0 for a fixed one.
func (m Map) Pressure() float64 {
	if m.Fixed || m.MaxEntries == 0 {
		return 0
	}
	return float64(m.Entries) / float64(m.MaxEntries)
}

// A Description is what is known of a map without looking at it.
type Description struct {
	Name, About, WrittenBy string
}

// Descriptions of every map, by name.
func Descriptions() []Description {
	return []Description{
		{"weft_addresses", "addresses of this node's ENIs, and which endpoint has each", "the agent"},
		{"weft_bandwidth", "what endpoints with limited bandwidth may send", "the agent; from_pod, what was sent"},
		{"weft_config", "settings that the programs follow", "the agent"},
		{"weft_counters", "packets and bytes by hook, direction and reason", "every program"},
		{"weft_ct_beginning", "how many TCP connections haven't ended their handshake, and how many may", "every program; the agent, what it removed and the limit"},
		{"weft_ct_est", "TCP connections, with aliases of translated ones", "every program, the timer"},
		{"weft_ct_new", "datagram flows, and TCP flows that begin and are translated or found no room, with aliases", "every program, the timer; evicts what was used least recently"},
		{"weft_ct_rings", "heads and tails of the rings of what may expire", "every program, the timer; the agent, once"},
		{"weft_ct_scratch", "an entry that is being made, for the time of one packet", "every program"},
		{"weft_ct_slots", "the rings' slots: connections to be looked at when they may have expired", "every program, the timer"},
		{"weft_ct_stats", "what happened to connections", "every program; the agent, what it removed"},
		{"weft_ct_timers", "the timer that removes what has expired", "the timer"},
		{"weft_endpoints", "endpoints by slot: their devices, addresses and MACs", "the agent"},
		{"weft_enis", "ENIs by handle: their devices, next hops and masquerading sources", "the agent"},
		{"weft_event_budgets", "how many events each CPU may still tell", "every program"},
		{"weft_event_shares", "each endpoint's share of a CPU's budget of events", "every program"},
		{"weft_events", "the ring of events between programs and agent", "every program; the agent reads"},
		{"weft_fragments", "ports of datagrams whose later fragments may follow", "every program; evicts what was used least recently"},
		{"weft_ipcache", "what is known of addresses that are no endpoint's of this node", "the agent"},
		{"weft_lb_backends", "backends of services, by set and slot", "the agent"},
		{"weft_lb_clients", "which backend a client has that keeps it, if its socket wasn't connected to one", "from_pod, from_netdev; evicts what was used least recently"},
		{"weft_lb_config", "what of services weft does", "the agent"},
		{"weft_lb_frontends", "addresses and ports of services, and which set of backends each has", "the agent"},
		{"weft_lb_maglev", "tables for choosing a backend by a hash, by set", "the agent"},
		{"weft_lb_members", "backends of sets whose clients keep theirs", "the agent"},
		{"weft_lb_ports", "ports of the node that flows of services ever had", "from_pod, from_netdev"},
		{"weft_lb_ranges", "clients that services with source ranges are for", "the agent"},
		{"weft_lb_scratch", "a service's flow that is being made, for the time of one packet", "from_pod, from_netdev"},
		{"weft_nat_scratch", "a translation that is being made, for the time of one packet", "from_pod, from_netdev, to_netdev"},
	}
}

// MapNames are the names of every map.
func MapNames() []string {
	var out []string
	for _, d := range Descriptions() {
		out = append(out, d.Name)
	}
	return out
}

// FindMap takes a map's name, with or without its prefix.
func FindMap(name string) (Description, error) {
	for _, d := range Descriptions() {
		if name == d.Name || "weft_"+name == d.Name {
			return d, nil
		}
	}
	return Description{}, fmt.Errorf("found %q, expected the name of a map: %s", name, strings.Join(MapNames(), ", "))
}

// DrawMaps writes the table.
func DrawMaps(out io.Writer, maps []Map, nodes bool) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if nodes {
		fmt.Fprint(t, "NODE\t")
	}
	fmt.Fprintln(t, "NAME\tTYPE\tKEY\tVALUE\tENTRIES\tMAX\tFULL\tMEMORY\tLAYOUT\tPIN\tUSED BY\tWRITTEN BY")
	for _, m := range maps {
		if nodes {
			fmt.Fprintf(t, "%s\t", m.Node)
		}
		entries, full := fmt.Sprint(m.Entries), fmt.Sprintf("%.1f %%", 100*m.Pressure())
		maximum := fmt.Sprint(m.MaxEntries)
		if m.Unit == "bytes" {
			entries, maximum = Bytes(m.Entries), Bytes(m.MaxEntries)
		}
		if m.Fixed {
			entries, full = "all", "-"
		}
		if m.Evicts {
			full += " (evicts)"
		}
		memory, pin, value := "by entry", m.Pin, fmt.Sprintf("%d B", m.ValueBytes)
		if m.MemoryBytes > 0 {
			memory = Bytes(m.MemoryBytes)
		}
		if m.PerCPU {
			value += " per CPU"
		}
		switch {
		case m.Pin == "":
			pin = "none"
		case m.PinMissing:
			pin += " (missing)"
		}
		fmt.Fprintf(t, "%s\t%s\t%d B\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.Name, m.Type, m.KeyBytes, value, entries, maximum, full, memory,
			m.Layout, pin, strings.Join(m.UsedBy, ","), m.WrittenBy)
	}
	return t.Flush()
}

// Bytes are a number of bytes for a person.
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for value >= unit && i < 3 {
		value, i = value/unit, i+1
	}
	return fmt.Sprintf("%.1f %s", value, [...]string{"KiB", "MiB", "GiB", "TiB"}[i])
}
