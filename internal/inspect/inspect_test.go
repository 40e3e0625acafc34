package inspect

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestFieldsKeepTheirOrder(t *testing.T) {
	in := Fields{{"zone", 1}, {"address", "10.0.0.1"}, {"flags", []string{"a", "b"}}, {"ageSeconds", 1.5}, {"drop", true}, {"none", 0}, {"empty", ""}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"zone":1,"address":"10.0.0.1","flags":["a","b"],"ageSeconds":1.5,"drop":true,"none":0,"empty":""}`; string(b) != want {
		t.Errorf("found %s, expected %s", b, want)
	}
	var out Fields
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	want := "zone=1 address=10.0.0.1 flags=a,b ageSeconds=1.5 drop=yes"
	for _, f := range []Fields{in, out} {
		if got := f.String(); got != want {
			t.Errorf("found %q, expected %q", got, want)
		}
	}
	for _, bad := range []string{`[]`, `1`, `{"a"`, `{"a":}`, `{1:2}`, ``} {
		if err := new(Fields).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// An agent of another version may answer anything.
func FuzzFields(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":["x"],"c":{"d":null}}`))
	f.Add([]byte(`{"a":1e999}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l DumpLine
		if json.Unmarshal(b, &l) == nil && l.Entry != nil {
			_ = l.Entry.Line()
		}
		var fields Fields
		if json.Unmarshal(b, &fields) != nil {
			return
		}
		again, err := json.Marshal(fields)
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		var second Fields
		if err := json.Unmarshal(again, &second); err != nil || second.String() != fields.String() {
			t.Errorf("%s became %s: %v", b, again, err)
		}
	})
}

func TestMatches(t *testing.T) {
	e := Entry{Key: Fields{{"protocol", "tcp"}, {"to", "10.0.0.1:443"}}, Value: Fields{{"fromPod", "shop/Web"}}}
	for text, want := range map[string]bool{"": true, "shop/web": true, ":443": true, "to=10.0.0.1": true, "fromPod=": true, "udp": false} {
		if got := e.Matches([]string{text}); got != want {
			t.Errorf("%q: found %v, expected %v", text, got, want)
		}
	}
	if e.Matches([]string{"tcp", "udp"}) {
		t.Error("one of two is enough, expected that both must match")
	}
	if got := e.Line(); got != "tcp 10.0.0.1:443  fromPod=shop/Web" {
		t.Errorf("found %q", got)
	}
	if got := (Entry{Key: Fields{{"slot", 0}}}).Line(); got != "0" {
		t.Errorf("found %q, expected the slot", got)
	}
}

func TestFindMap(t *testing.T) {
	for _, name := range []string{"ct_est", "weft_ct_est"} {
		if m, err := FindMap(name); err != nil || m.Name != "weft_ct_est" {
			t.Errorf("%s: found %+v, %v", name, m, err)
		}
	}
	if _, err := FindMap("ct"); err == nil || !strings.Contains(err.Error(), "weft_ct_new") {
		t.Errorf("found %v, expected an error with the names", err)
	}
}

func TestDrawMaps(t *testing.T) {
	var b bytes.Buffer
	err := DrawMaps(&b, []Map{
		{Node: "n1", Name: "weft_ct_new", Type: "lruhash", KeyBytes: 40, ValueBytes: 112, Unit: "entries", Entries: 512, MaxEntries: 1024, Evicts: true, MemoryBytes: 3 << 20, Pin: "/p", Layout: 1, UsedBy: []string{"from_pod"}, WrittenBy: "w"},
		{Node: "n1", Name: "weft_events", Unit: "bytes", Entries: 0, MaxEntries: 4 << 20, Pin: "/e", PinMissing: true, Layout: 1},
		{Node: "n1", Name: "weft_config", Unit: "entries", Entries: 1, MaxEntries: 1, Fixed: true, Layout: 2},
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NODE", "50.0 % (evicts)", "3.0 MiB", "4.0 MiB", "/e (missing)", "all", "none", "112 B"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("found\n%s\nexpected %q in it", b.String(), want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 40: "5.0 TiB", 1 << 60: "1048576.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: found %s, expected %s", n, got, want)
		}
	}
}

func TestLasting(t *testing.T) {
	a, b, c := Difference{What: "a"}, Difference{What: "b"}, Difference{What: "c"}
	got := Lasting([]Difference{c, a, b}, []Difference{c, b})
	if len(got) != 2 || got[0] != b || got[1] != c {
		t.Errorf("found %+v, expected b and c", got)
	}
	if got := Lasting([]Difference{a}, []Difference{b}); len(got) != 0 {
		t.Errorf("found %+v, expected none: what changes is on its way", got)
	}
}

func TestMeasured(t *testing.T) {
	before := []Program{{ID: 1, Runs: 10, RunNanoseconds: 1000}}
	after := []Program{{ID: 1, Runs: 15, RunNanoseconds: 2000}, {ID: 2, Runs: 3, RunNanoseconds: 30}}
	got := Measured(before, after, 2*time.Second)
	if got[0].Runs != 5 || got[0].PerRun() != 200 || got[1].Runs != 3 || got[1].PerRun() != 10 || got[0].MeasuredSeconds != 2 {
		t.Errorf("found %+v", got)
	}
	if after[0].Runs != 15 || (Program{}).PerRun() != 0 {
		t.Error("what was given is changed")
	}
}

func TestDrawings(t *testing.T) {
	var b bytes.Buffer
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(DrawPrograms(&b, []Program{
		{Node: "n", Device: "eth0", Ifindex: 2, Of: "ENI eni-1", Side: "ingress", Attached: "tcx", Position: 1, Chain: 2, ID: 9, Name: "theirs"},
		{Device: "eth0", Position: 2, Chain: 2, Hook: "from_netdev", Current: true, Tag: "abc", VerifiedInstructions: 1000, JITedBytes: 2048, Runs: 4, RunNanoseconds: 400, Link: 5, Pin: "/p", MeasuredSeconds: 2},
		{Device: "weft1", Position: 1, Chain: 1, Hook: "from_pod"},
	}, true))
	r := Routes{Node: "n", Rules: []Rule{{Priority: 77, Rule: "from all lookup 7700", State: Missing}, {Priority: 100, Rule: "theirs", State: Foreign}},
		Tables:   []Table{{Number: 7700, Of: "pods", Routes: []Route{{Route: "10.0.0.9/32 dev x", Of: "pod shop/web", State: Surplus}}}},
		NextHops: []NextHop{{ENI: "eni-1", Address: "10.0.0.2", Wanted: "10.0.0.1", MAC: "02:00:00:00:00:01", Kernel: "reachable", Kept: true}, {ENI: "eni-2", Address: "10.0.0.1", Wanted: "10.0.0.1", MAC: "02:00:00:00:00:01", Kept: true}},
		Devices:  []Device{{Device: "eth0", Of: "ENI eni-1", Up: true, MTU: 9001, WantMTU: 9001, MapMTU: 1500}, {Device: "weft1", Of: "pod", Up: true, MTU: 9001, WantMTU: 9001}}}
	r.Settle()
	must(DrawRoutes(&b, r))
	now := time.Unix(1000, 0)
	DrawCheck(&b, Check{Node: "n1", Since: now.Add(-time.Hour), Compared: Fields{{"maps", 19}}}, now)
	DrawCheck(&b, Check{Node: "n2", Differences: []Difference{{"x", "1", "2", "mend it"}}, LastRepair: &Repair{Time: now.Add(-time.Minute), What: []string{"a", "b", "c", "d", "e", "f", "g"}}}, now)
	DumpEnd{Node: "n", Map: "m", Shown: 100, More: true}.Write(&b)
	DumpEnd{Node: "n", Map: "m"}.Write(&b)
	for _, want := range []string{
		"theirs (not weft's)", "2 of 2", "from_netdev", "abc", "1000 insns", "2.0 KiB", "100 ns", "5 pinned", "from_pod (another version's)", "Runs are those of 2 s",
		"- 77:", "  100:", "theirs                foreign", "+ 10.0.0.9/32 dev x", "pod shop/web, surplus", "! eni-1", "  eni-2", "! eth0", "  weft1",
		"n1: as it should be (maps=19)", "nothing to put back since it began 1h0m0s ago", "n2: x: found 1, expected 2 -> mend it", "1m0s ago: a; b; c; d; e; 2 more",
		"the first 100 entries of m are shown, there are more", "m has no such entry",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("found\n%s\nexpected %q in it", b.String(), want)
		}
	}
}
