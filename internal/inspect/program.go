package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Program is one of the programs at a hook of a device, weft's or another's, in the order they run.
type Program struct {
	Node     string `json:"node"`
	Device   string `json:"device"`
	Ifindex  int    `json:"ifindex"`
	Of       string `json:"of,omitempty"` // whose device it is: a pod's, an ENI's
	Side     string `json:"side"`         // ingress or egress, as the device sees it
	Attached string `json:"attached"`     // tcx, clsact, netkit
	// Position among Chain programs of that device and side, from 1.
	Position int `json:"position"`
	Chain    int `json:"chain"`
	// Hook is weft's; empty: somebody else's program.
	Hook string `json:"hook,omitempty"`
	// Current: it is the one that this agent loaded.
	Current              bool   `json:"current,omitempty"`
	ID                   uint32 `json:"id"`
	Name                 string `json:"name"`
	Tag                  string `json:"tag,omitempty"`
	VerifiedInstructions uint32 `json:"verifiedInstructions,omitempty"`
	JITedBytes           uint32 `json:"jitedBytes,omitempty"`
	Link                 uint32 `json:"link,omitempty"`
	Pin                  string `json:"pin,omitempty"` // of the link
	// Runs of the program on all devices together, counted only while the kernel measures programs.
	Runs           uint64 `json:"runs,omitempty"`
	RunNanoseconds uint64 `json:"runNanoseconds,omitempty"`
	// MeasuredSeconds: Runs are those of so long, not since the program was loaded.
	MeasuredSeconds float64 `json:"measuredSeconds,omitempty"`
}

// PerRun is what a run takes.
func (p Program) PerRun() time.Duration {
	if p.Runs == 0 {
		return 0
	}
	return time.Duration(p.RunNanoseconds / p.Runs)
}

// Bounds of how long programs are measured.
const (
	LeastMeasure = 100 * time.Millisecond
	MostMeasure  = 10 * time.Minute
)

// Measured are the programs as they were after a while, with the runs of that while.
func Measured(before, after []Program, took time.Duration) []Program {
	old := map[uint32]Program{}
	for _, p := range before {
		old[p.ID] = p
	}
	out := slices.Clone(after)
	for i := range out {
		p := &out[i]
		// One that came meanwhile has begun at zero.
		p.Runs -= min(p.Runs, old[p.ID].Runs)
		p.RunNanoseconds -= min(p.RunNanoseconds, old[p.ID].RunNanoseconds)
		p.MeasuredSeconds = took.Seconds()
	}
	return out
}

// DrawPrograms writes the table.
func DrawPrograms(out io.Writer, programs []Program, nodes bool) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if nodes {
		fmt.Fprint(t, "NODE\t")
	}
	fmt.Fprintln(t, "DEVICE\tOF\tSIDE\tBY\tPLACE\tPROGRAM\tID\tTAG\tVERIFIED\tJITED\tRUNS\tPER RUN\tLINK")
	for _, p := range programs {
		if nodes {
			fmt.Fprintf(t, "%s\t", p.Node)
		}
		name := p.Hook
		switch {
		case name == "":
			name = p.Name + " (not weft's)"
		case !p.Current:
			name += " (another version's)"
		}
		link := "-"
		if p.Link != 0 {
			link = fmt.Sprint(p.Link)
			if p.Pin != "" {
				link += " pinned"
			}
		}
		runs, per := "-", "-"
		if p.Runs > 0 {
			runs, per = fmt.Sprint(p.Runs), fmt.Sprintf("%d ns", p.PerRun().Nanoseconds())
		}
		fmt.Fprintf(t, "%s (%d)\t%s\t%s\t%s\t%d of %d\t%s\t%d\t%s\t%s insns\t%s\t%s\t%s\t%s\n", p.Device, p.Ifindex, orDash(p.Of), p.Side, p.Attached, p.Position, p.Chain, name,
			p.ID, orDash(p.Tag), orDash(text(p.VerifiedInstructions)), Bytes(uint64(p.JITedBytes)), runs, per, link)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range programs {
		if p.MeasuredSeconds > 0 {
			_, err := fmt.Fprintf(out, "Runs are those of %.3g s, of the same program on all devices of a node together.\n", p.MeasuredSeconds)
			return err
		}
	}
	return nil
}

func orDash(s string) string {
	if strings.TrimSpace(s) == "" {
		return "-"
	}
	return s
}
