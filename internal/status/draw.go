package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Draw writes the table for a person.
func Draw(out io.Writer, r Report, color bool) error {
	paint := func(s State) string {
		code := map[State]string{OK: "32", Disabled: "2", Waiting: "33", Failed: "31"}[s]
		if !color || code == "" {
			return string(s)
		}
		return "\x1b[" + code + "m" + string(s) + "\x1b[0m"
	}
	var b strings.Builder
	title := "weft in namespace " + r.Namespace
	if r.Cluster != "" {
		title += " of cluster " + r.Cluster
	}
	fmt.Fprintf(&b, "%s\n\n", title)
	for _, c := range r.Components {
		fmt.Fprintf(&b, "  %-14s %s", c.Name, paint(c.State))
		if c.Detail != "" {
			fmt.Fprintf(&b, "  (%s)", c.Detail)
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, w := range r.Workloads {
		fmt.Fprintf(t, "  %s\t%s\tDesired: %d\tReady: %d/%d\tAvailable: %d/%d\n", w.Kind, w.Name, w.Desired, w.Ready, w.Desired, w.Available, w.Desired)
	}
	for _, c := range r.Containers {
		fmt.Fprintf(t, "  Containers\t%s\tRunning: %d", c.Name, c.Running)
		if c.Other > 0 {
			fmt.Fprintf(t, "\tNot running: %d", c.Other)
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(t, "  Cluster Pods\t%d/%d managed\n", r.Pods.Managed, r.Pods.Total)
	for _, i := range r.Images {
		ref := i.Reference
		if i.Digest != "" && !strings.Contains(ref, "@") {
			ref += "@" + i.Digest
		}
		fmt.Fprintf(t, "  Image\t%s\t%s: %d\n", i.Component, ref, i.Count)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, list := range []struct {
		title, code string
		findings    []Finding
	}{{"Errors", "31", r.Errors}, {"Warnings", "33", r.Warnings}, {"Notes", "2", r.Notes}} {
		if len(list.findings) == 0 {
			continue
		}
		heading := list.title
		if color {
			heading = "\x1b[" + list.code + "m" + heading + "\x1b[0m"
		}
		fmt.Fprintf(&b, "\n%s\n", heading)
		for _, f := range list.findings {
			fmt.Fprintf(&b, "  %s\n", f.Line())
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// Line is a finding for a person.
func (f Finding) Line() string {
	line := f.Where + ": " + f.What
	if f.Do != "" {
		line += " -> " + f.Do
	}
	return line
}
