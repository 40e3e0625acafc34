package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// datapath lists which variant runs where. What a kernel lacks is as expected of that kernel: a note.
func (e *evaluation) datapath() {
	for _, name := range slices.Sorted(maps.Keys(e.networks)) {
		d := e.networks[name].Status.Datapath
		if d == nil {
			continue
		}
		e.report.Datapaths = append(e.report.Datapaths, Datapath{Node: name, Kernel: d.Kernel, Attach: d.Attach, PodDevice: d.PodDevice, Fallbacks: d.Fallbacks,
			Pending: d.Pending, Pacing: d.Pacing, PacingReason: d.PacingReason})
	}
	if len(e.report.Datapaths) == 0 {
		return
	}
	e.report.Components = append(e.report.Components, Component{Name: "datapath", State: OK, Detail: variants(e.report.Datapaths)})
	if detail := pacing(e.report.Datapaths); detail != "" {
		e.report.Components = append(e.report.Components, Component{Name: "bandwidth", State: OK, Detail: detail})
	}
	e.noteByNode(func(d Datapath) []string { return d.Fallbacks }, "")
	e.noteByNode(func(d Datapath) []string { return d.Pending }, "drain and reboot, or leave it")
}

// noteByNode notes each text once, with the nodes that say it.
func (e *evaluation) noteByNode(texts func(Datapath) []string, todo string) {
	nodes := map[string][]string{}
	for _, d := range e.report.Datapaths {
		for _, text := range texts(d) {
			nodes[text] = append(nodes[text], d.Node)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(nodes)) {
		e.note(where(nodes[text]), text, todo)
	}
}

// variants counts nodes by how programs are attached and by kernel, the most first.
func variants(list []Datapath) string {
	return counted(list, func(d Datapath) string {
		device := ""
		if d.PodDevice != "" && d.PodDevice != "veth" {
			device = ", pods on " + d.PodDevice
		}
		return fmt.Sprintf("%s%s, kernel %s", d.Attach, device, d.Kernel)
	})
}

// pacing counts nodes by how limited pods are kept to their limit; empty: no agent tells.
func pacing(list []Datapath) string {
	list = slices.DeleteFunc(slices.Clone(list), func(d Datapath) bool { return d.Pacing == "" })
	if len(list) == 0 {
		return ""
	}
	return "pacing: " + counted(list, func(d Datapath) string { return fmt.Sprintf("%s (%s)", d.Pacing, d.PacingReason) })
}

// counted tells of how many nodes which is true, the most first.
func counted(list []Datapath, what func(Datapath) string) string {
	count := map[string]int{}
	for _, d := range list {
		count[what(d)]++
	}
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	if len(names) == 1 {
		return names[0]
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s on %d of %d nodes", name, count[name], len(list))
	}
	return strings.Join(names, "; ")
}

func where(nodes []string) string {
	if len(nodes) == 1 {
		return "node " + nodes[0]
	}
	return fmt.Sprintf("%d nodes, such as %s", len(nodes), nodes[0])
}
