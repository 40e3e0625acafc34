package matrix

import (
	"os"
	"strings"
	"testing"
)

func TestEachPairOnce(t *testing.T) {
	seen := map[[2]Party]bool{}
	for _, c := range Cells() {
		pair := [2]Party{c.From, c.To}
		if seen[pair] {
			t.Errorf("%s to %s is there twice", c.From, c.To)
		}
		seen[pair] = true
		if (c.Pending == "") != (len(c.Request) > 0 && len(c.Reply) > 0) {
			t.Errorf("%s to %s: pending %q with %d and %d steps", c.From, c.To, c.Pending, len(c.Request), len(c.Reply))
		}
		if c.Class == "" {
			t.Errorf("%s to %s: nothing says whose class it is", c.From, c.To)
		}
	}
}

// Every source and every service is in the table.
func TestNobodyIsForgotten(t *testing.T) {
	from, to := map[Party]bool{}, map[Party]bool{}
	for _, c := range Cells() {
		if c.Pending == "" {
			from[c.From], to[c.To] = true, true
		}
	}
	for _, p := range []Party{Pod, Host, RemotePod, RemoteNode, ControlPlane, World} {
		if !from[p] {
			t.Errorf("nothing is from %s", p)
		}
	}
	for _, p := range []Party{Pod, OtherPod, Host, RemotePod, RemoteNode, ControlPlane, World, Metadata} {
		if !to[p] {
			t.Errorf("nothing is to %s", p)
		}
	}
	for _, s := range Services() {
		if !to[s.Name] {
			t.Errorf("nothing is to %s", s.Name)
		}
	}
}

func TestTheDocumentIsTheTable(t *testing.T) {
	have, err := os.ReadFile("../../../docs/datapath-matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Markdown(Cells()) {
		t.Error("docs/datapath-matrix.md isn't what the table says: run go generate ./internal/datapath")
	}
}

func TestMarkdown(t *testing.T) {
	got := Markdown([]Cell{
		{From: Pod, To: RemotePod, Class: "a class", Request: path(here(fromPod, sent), peer(fromNetdev, delivered)), Reply: path(here(toNetdev, forwarded))},
		{From: Pod, To: "later", Class: "a class", Pending: "reasons"},
	})
	for _, want := range []string{
		"| pod | remote pod | **`from_pod`** sent, ***`from_netdev`*** delivered | `to_netdev` forwarded | a class |\n",
		"| pod | later | pending | reasons | a class |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
}
