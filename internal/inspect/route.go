package inspect

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A State says how something is against how it should be.
type State string

// What isn't weft's is Foreign: it is shown where it stands between.
const (
	OK      State = "ok"
	Missing State = "missing"
	Surplus State = "surplus"
	Differs State = "differs"
	Foreign State = "foreign"
)

func (s State) mark() string {
	switch s {
	case Missing:
		return "- "
	case Surplus:
		return "+ "
	case Differs:
		return "! "
	}
	return "  "
}

// Routes are how a node's kernel forwards for weft.
type Routes struct {
	Node     string    `json:"node"`
	Rules    []Rule    `json:"rules"`
	Tables   []Table   `json:"tables"`
	NextHops []NextHop `json:"nextHops"`
	Devices  []Device  `json:"devices"`
}

// A Rule is a routing rule, in the order of priorities.
type Rule struct {
	Priority int    `json:"priority"`
	Rule     string `json:"rule"`
	Of       string `json:"of,omitempty"` // whose source it selects
	State    State  `json:"state"`
}

// A Table is one of weft's routing tables.
type Table struct {
	Number int     `json:"number"`
	Of     string  `json:"of"`
	Routes []Route `json:"routes"`
}

// A Route is one route of a table.
type Route struct {
	Route string `json:"route"`
	Of    string `json:"of,omitempty"`
	State State  `json:"state"`
}

// A NextHop is what an ENI sends by.
type NextHop struct {
	ENI     string `json:"eni"`
	Device  string `json:"device"`
	Address string `json:"address"`      // as the datapath's map has it
	Wanted  string `json:"wanted"`       // the subnet's router
	MAC     string `json:"mac"`          // empty: not resolved
	Kernel  string `json:"kernel"`       // state of the neighbour entry
	Kept    bool   `json:"keptResolved"` // the kernel resolves it again by itself
	State   State  `json:"state"`
}

// A Device is an ENI's, or the node's side of a pod's.
type Device struct {
	Device  string `json:"device"`
	Ifindex int    `json:"ifindex"`
	Of      string `json:"of"`
	Up      bool   `json:"up"`
	MTU     int    `json:"mtuBytes"`
	WantMTU int    `json:"wantMTUBytes"`
	MapMTU  int    `json:"mapMTUBytes,omitempty"` // as the programs have it, of an ENI
	State   State  `json:"state"`
}

// Settle computes the states of what is compared field by field.
func (r *Routes) Settle() {
	for i := range r.NextHops {
		h := &r.NextHops[i]
		if h.State = OK; h.Address != h.Wanted || h.MAC == "" || !h.Kept {
			h.State = Differs
		}
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		if d.State = OK; !d.Up || d.MTU != d.WantMTU || d.MapMTU != 0 && d.MapMTU != d.MTU {
			d.State = Differs
		}
	}
}

// DrawRoutes writes what one node has, differences marked: - is missing, + shouldn't be there, ! is otherwise
// than it should be.
func DrawRoutes(out io.Writer, r Routes) error {
	fmt.Fprintf(out, "node %s (- missing, + shouldn't be there, ! otherwise than wanted)\n\nRules\n", r.Node)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, x := range r.Rules {
		fmt.Fprintf(t, "%s%d:\t%s\t%s\n", x.State.mark(), x.Priority, x.Rule, note(x.Of, x.State))
	}
	for _, table := range r.Tables {
		fmt.Fprintf(t, "\nTable %d, %s\n", table.Number, table.Of)
		for _, x := range table.Routes {
			fmt.Fprintf(t, "%s%s\t%s\n", x.State.mark(), x.Route, note(x.Of, x.State))
		}
	}
	fmt.Fprintf(t, "\nNext hops\n  ENI\tDEVICE\tADDRESS\tWANTED\tMAC\tNEIGHBOUR\tKEPT RESOLVED\n")
	for _, h := range r.NextHops {
		fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\t%s\t%v\n", h.State.mark(), h.ENI, h.Device, orDash(h.Address), h.Wanted, orDash(h.MAC), orDash(h.Kernel), h.Kept)
	}
	fmt.Fprintf(t, "\nDevices\n  DEVICE\tOF\tUP\tMTU\tWANTED\tIN THE MAP\n")
	for _, d := range r.Devices {
		in := "-"
		if d.MapMTU != 0 {
			in = fmt.Sprintf("%d B", d.MapMTU)
		}
		fmt.Fprintf(t, "%s%s (%d)\t%s\t%v\t%d B\t%d B\t%s\n", d.State.mark(), d.Device, d.Ifindex, d.Of, d.Up, d.MTU, d.WantMTU, in)
	}
	return t.Flush()
}

func note(of string, s State) string {
	parts := []string{}
	if of != "" {
		parts = append(parts, of)
	}
	if s != OK {
		parts = append(parts, string(s))
	}
	return strings.Join(parts, ", ")
}
