package status

import (
	"strings"
	"testing"

	"github.com/weft-cni/weft/api/v1alpha1"
)

func TestVariantsOfTheDatapath(t *testing.T) {
	network := func(attach string, fallbacks ...string) *v1alpha1.NodeNetwork {
		n := &v1alpha1.NodeNetwork{}
		kernel := map[string]string{"tcx": "6.12.1", "clsact": "6.1.3"}[attach]
		if attach != "" {
			n.Status.Datapath = &v1alpha1.NodeDatapath{Kernel: kernel, Attach: attach, Fallbacks: fallbacks}
		}
		return n
	}
	pending := network("tcx")
	pending.Status.Datapath.Pending = []string{"a table keeps its size"}
	netkit := network("tcx")
	netkit.Status.Datapath.PodDevice = "netkit"
	veth := network("tcx")
	veth.Status.Datapath.PodDevice = "veth"
	for _, test := range []struct {
		name         string
		in           map[string]*v1alpha1.NodeNetwork
		detail, note string
	}{
		{name: "agents that don't tell", in: map[string]*v1alpha1.NodeNetwork{"a": network("")}},
		{name: "all the same", in: map[string]*v1alpha1.NodeNetwork{"a": network("tcx"), "b": network("tcx")}, detail: "tcx, kernel 6.12.1"},
		{name: "two devices of pods", in: map[string]*v1alpha1.NodeNetwork{"a": netkit, "b": veth, "c": network("tcx")},
			detail: "tcx, kernel 6.12.1 on 2 of 3 nodes; tcx, pods on netkit, kernel 6.12.1 on 1 of 3 nodes"},
		{name: "two kernels", in: map[string]*v1alpha1.NodeNetwork{"a": network("clsact", "clsact instead of tcx"), "b": network("tcx"), "c": network("tcx")},
			detail: "tcx, kernel 6.12.1 on 2 of 3 nodes; clsact, kernel 6.1.3 on 1 of 3 nodes", note: "node a: clsact instead of tcx"},
		{name: "many without", in: map[string]*v1alpha1.NodeNetwork{"a": network("clsact", "x"), "b": network("clsact", "x")},
			detail: "clsact, kernel 6.1.3", note: "2 nodes, such as a: x"},
		{name: "a size that waits", in: map[string]*v1alpha1.NodeNetwork{"a": network("tcx"), "b": pending},
			detail: "tcx, kernel 6.12.1", note: "node b: a table keeps its size -> drain and reboot, or leave it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &evaluation{networks: test.in}
			e.datapath()
			detail, notes := "", []string{}
			for _, c := range e.report.Components {
				detail = c.Detail
			}
			for _, n := range e.report.Notes {
				notes = append(notes, n.Line())
			}
			if detail != test.detail || strings.Join(notes, "\n") != test.note {
				t.Errorf("detail is %q and notes are %q, expected %q and %q", detail, notes, test.detail, test.note)
			}
		})
	}
}

func TestPacingOfNodes(t *testing.T) {
	fq := Datapath{Pacing: "fq", PacingReason: "eth0 has fq"}
	queue := Datapath{Pacing: "queue and policer", PacingReason: "eth0 has mq with fq_codel"}
	for _, test := range []struct {
		name string
		in   []Datapath
		want string
	}{
		{name: "nobody tells", in: []Datapath{{}, {}}},
		{name: "all the same", in: []Datapath{fq, fq}, want: "pacing: fq (eth0 has fq)"},
		{name: "two ways, and an agent that doesn't tell", in: []Datapath{queue, fq, {}, fq},
			want: "pacing: fq (eth0 has fq) on 2 of 3 nodes; queue and policer (eth0 has mq with fq_codel) on 1 of 3 nodes"},
	} {
		if got := pacing(test.in); got != test.want {
			t.Errorf("%s: %q, expected %q", test.name, got, test.want)
		}
	}
}
