package inspect

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// An Explanation says of each endpoint of a service whether clients of a frontend may be connected to it.
type Explanation struct {
	Node   string `json:"node"`
	Zone   string `json:"zone,omitempty"`
	Client string `json:"client"`
	// Frontend is the one that these clients meet.
	Frontend  Frontend               `json:"frontend"`
	Endpoints []loadbalancer.Verdict `json:"endpoints"`
	// Nobody says why there is no backend; empty: there is one.
	Nobody string `json:"nobody,omitempty"`
}

// Draw writes it for a person.
func (x Explanation) Draw(out io.Writer) error {
	zone := "zone unknown"
	if x.Zone != "" {
		zone = "zone " + x.Zone
	}
	DrawFrontend(out, x.Frontend, false)
	fmt.Fprintf(out, "for %s on node %s (%s):\n", x.Client, x.Node, zone)
	if x.Nobody != "" {
		fmt.Fprintf(out, "no backend: %s\n", x.Nobody)
	}
	if len(x.Endpoints) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\tENDPOINT\tPOD\tNODE\tHINTS\tSTATE\t")
	for _, v := range x.Endpoints {
		mark := "-"
		if v.Chosen {
			mark = "+"
		}
		hints := append([]string{}, v.Zones...)
		for _, n := range v.Nodes {
			hints = append(hints, "node "+n)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark, orNone(v.Endpoint), orNone(v.Pod), orNone(v.Node), orNone(strings.Join(hints, ",")), v.State, v.Reason)
	}
	return t.Flush()
}
