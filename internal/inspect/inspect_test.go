package inspect

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
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
