package inspect

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Frontend is an address of a service as a node has it: what Services and EndpointSlices say, and what the maps
// that connections go by say.
type Frontend struct {
	Node    string `json:"node"`
	Service string `json:"service"` // NAMESPACE/NAME
	Port    string `json:"port,omitempty"`
	Kind    string `json:"kind"`
	Address string `json:"address"` // with port and protocol
	// Clients are whom it is for: "inside", or "outside" for a set of backends that only those have.
	Clients string `json:"clients"`
	// Wanted is what it should be, Held what the maps have; the backends of both are sorted.
	Wanted *Balance `json:"wanted,omitempty"`
	Held   *Balance `json:"held,omitempty"`
	State  State    `json:"state"`
	// Problem is why the node doesn't have it as it should be, if it knows.
	Problem string `json:"problem,omitempty"`
}

// Unserved is the state of what a service asks for and doesn't get.
const Unserved State = "not served"

// A Balance is who may answer at a frontend, and how one of them is chosen.
type Balance struct {
	Backends []string `json:"backends"`
	Flags    []string `json:"flags"`
	// AffinitySeconds is how long an idle client keeps its backend.
	AffinitySeconds int `json:"affinitySeconds,omitempty"`
}

// Compare sets the state. Without maps (a node whose programs couldn't be had) nothing is held, and that is told
// once, elsewhere.
func (f *Frontend) Compare() {
	switch {
	case f.Wanted == nil:
		f.State = Surplus
	case f.Held == nil:
		f.State = Missing
	case len(f.Differences()) > 0:
		f.State = Differs
	default:
		f.State = OK
	}
}

// Differences are what the maps have otherwise than they should.
func (f *Frontend) Differences() []Difference {
	what := fmt.Sprintf("service %s, frontend %s for clients %s", f.Service, f.Address, f.Clients)
	one := func(found, expected string) Difference {
		return Difference{What: what, Found: found, Expected: expected, Do: f.remedy()}
	}
	switch {
	case f.Wanted == nil && f.Held == nil:
		return nil
	case f.Wanted == nil:
		return []Difference{one("it, with "+count(f.Held.Backends), "none: no service has this address")}
	case f.Held == nil:
		return []Difference{one("none in the maps", "it, with "+count(f.Wanted.Backends))}
	}
	var out []Difference
	missing, surplus := minus(f.Wanted.Backends, f.Held.Backends), minus(f.Held.Backends, f.Wanted.Backends)
	if len(missing)+len(surplus) > 0 {
		found := count(f.Held.Backends)
		if len(surplus) > 0 {
			found += ", of which too many: " + some(surplus)
		}
		expected := count(f.Wanted.Backends)
		if len(missing) > 0 {
			expected += ", of which the maps lack: " + some(missing)
		}
		out = append(out, one(found, expected))
	}
	if !slices.Equal(f.Wanted.Flags, f.Held.Flags) {
		out = append(out, one("flags "+words(f.Held.Flags), "flags "+words(f.Wanted.Flags)))
	}
	if f.Wanted.AffinitySeconds != f.Held.AffinitySeconds {
		out = append(out, one(fmt.Sprintf("clients keep their backend for %d s", f.Held.AffinitySeconds), fmt.Sprintf("for %d s", f.Wanted.AffinitySeconds)))
	}
	return out
}

func (f *Frontend) remedy() string {
	if f.Problem != "" {
		return f.Problem
	}
	return "the agent writes it within 5 s if the maps have room; if it stays, look in its log for why it can't"
}

func words(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ",")
}

func count(list []string) string {
	if len(list) == 1 {
		return "1 backend"
	}
	return fmt.Sprintf("%d backends", len(list))
}

// some names a few.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

func minus(a, b []string) []string {
	there := make(map[string]bool, len(b))
	for _, x := range b {
		there[x] = true
	}
	var out []string
	for _, x := range a {
		if !there[x] {
			out = append(out, x)
		}
	}
	return out
}

// Has is what connections go by: the maps, if they have it.
func (f *Frontend) Has() *Balance {
	if f.Held != nil {
		return f.Held
	}
	return f.Wanted
}

// CompareFrontends orders by service, then by address.
func CompareFrontends(a, b Frontend) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Clients, b.Clients), cmp.Compare(a.Node, b.Node))
}

// DrawFrontends writes a line for each.
func DrawFrontends(out io.Writer, all []Frontend, nodes bool) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if nodes {
		fmt.Fprint(t, "NODE\t")
	}
	fmt.Fprintln(t, "SERVICE\tPORT\tKIND\tFRONTEND\tCLIENTS\tBACKENDS\tFLAGS\tSTATE")
	for _, f := range all {
		if nodes {
			fmt.Fprintf(t, "%s\t", f.Node)
		}
		has := f.Has()
		if has == nil {
			has = &Balance{}
		}
		state := string(f.State)
		if f.Problem != "" {
			state += ": " + f.Problem
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", orNone(f.Service), orNone(f.Port), f.Kind, orNone(f.Address), f.Clients, len(has.Backends), orNone(strings.Join(has.Flags, ",")), state)
	}
	return t.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// DrawFrontend writes everything that is known of one.
func DrawFrontend(out io.Writer, f Frontend, nodes bool) {
	where := ""
	if nodes {
		where = f.Node + ": "
	}
	port := ""
	if f.Port != "" {
		port = " port " + f.Port
	}
	fmt.Fprintf(out, "%s%s%s  %s  %s, for clients %s: %s\n", where, orNone(f.Service), port, orNone(f.Address), f.Kind, f.Clients, f.State)
	if has := f.Has(); has != nil {
		if len(has.Flags) > 0 {
			fmt.Fprintf(out, "  flags    %s\n", strings.Join(has.Flags, ", "))
		}
		if has.AffinitySeconds > 0 {
			fmt.Fprintf(out, "  affinity a client keeps its backend for %d s of idleness\n", has.AffinitySeconds)
		}
		for _, b := range has.Backends {
			fmt.Fprintf(out, "  backend  %s\n", b)
		}
		if len(has.Backends) == 0 {
			fmt.Fprintln(out, "  backend  none")
		}
	}
	for _, d := range f.Differences() {
		fmt.Fprintf(out, "  differs  found %s, expected %s -> %s\n", d.Found, d.Expected, d.Do)
	}
	if f.Problem != "" && len(f.Differences()) == 0 {
		fmt.Fprintf(out, "  problem  %s\n", f.Problem)
	}
}
