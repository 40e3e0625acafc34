package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/inspect"
)

// dump asks for a map as the command line does.
func (r *rig) dump(q url.Values) (lines []string, end inspect.DumpEnd) {
	r.t.Helper()
	out, bad, err := r.ask("/v1/datapath/map?" + q.Encode())
	if err != nil {
		r.t.Fatalf("%v: %s", err, bad)
	}
	for _, b := range bytes.Split([]byte(out), []byte("\n")) {
		var l inspect.DumpLine
		if len(b) == 0 {
			continue
		}
		r.must(json.Unmarshal(b, &l))
		if l.Entry != nil {
			lines = append(lines, l.Entry.Line())
		}
		if l.End != nil {
			end = *l.End
		}
	}
	return lines, end
}

// The agent decodes its maps, names pods and ENIs, and says where it has stopped.
func TestInspectMaps(t *testing.T) {
	r := newRig(t)
	r.start()
	web, db := r.add("web"), r.add("db")
	out, _, err := r.ask("/v1/datapath/maps")
	r.must(err)
	var list []inspect.Map
	r.must(json.Unmarshal([]byte(out), &list))
	if len(list) != len(inspect.MapNames()) {
		t.Errorf("found %d maps, expected %d", len(list), len(inspect.MapNames()))
	}
	for _, m := range list {
		if m.Node != "node-1" || m.Name == "weft_endpoints" && m.Entries != 2 {
			t.Errorf("found %+v, expected two endpoints of node-1", m)
		}
	}
	lines, end := r.dump(url.Values{"name": {"endpoints"}, "limit": {"0"}})
	all := strings.Join(lines, "\n")
	for _, want := range []string{"address=" + web.addr.String() + " pod=shop/web", "address=" + db.addr.String() + " pod=shop/db", "eniID=eni-"} {
		if !strings.Contains(all, want) {
			t.Errorf("found\n%s\nexpected %q in it", all, want)
		}
	}
	if end.Shown != 2 || end.More || end.Map != "weft_endpoints" {
		t.Errorf("the end is %+v, expected two shown", end)
	}
	if lines, end = r.dump(url.Values{"name": {"weft_endpoints"}, "limit": {"1"}}); len(lines) != 1 || !end.More {
		t.Errorf("found %q, %+v; expected one, and that there are more", lines, end)
	}
	if lines, end = r.dump(url.Values{"name": {"weft_endpoints"}, "limit": {"1"}, "match": {"shop/DB"}}); len(lines) != 1 || end.More || !strings.Contains(lines[0], "shop/db") {
		t.Errorf("found %q, %+v; expected the one that matches", lines, end)
	}
	for path, want := range map[string]string{
		"/v1/datapath/map?name=nothing&limit=1":   `found \"nothing\", expected the name of a map: weft_addresses`,
		"/v1/datapath/map?name=endpoints&limit=x": "expected a number",
	} {
		if _, bad, err := r.ask(path); !errors.Is(err, ErrTold) || !strings.Contains(bad, want) {
			t.Errorf("%s: found %v, %s; expected %q", path, err, bad, want)
		}
	}
}
