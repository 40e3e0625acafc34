package nodenet

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestMasqueradeConverges: whatever stood there, one pass makes the table right and the next changes
// nothing; what is not ours is not touched.
func TestMasqueradeConverges(t *testing.T) {
	nstest.NeedRoot(t)
	m := newMasquerade()
	one, two, to := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.200")
	want := ruleset{sources: map[netip.Addr]netip.Addr{one: to}, direct: spans(prefixes("10.0.0.0/16", "224.0.0.0/4"))}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	other := c.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyIPv4})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.DelTable(other); _ = c.Flush() })
	sync := func(what string, rebuilds bool) {
		t.Helper()
		rebuilt, err := m.sync(want)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if rebuilt != rebuilds {
			t.Errorf("%s: rebuilt is %t", what, rebuilt)
		}
	}
	elements := func(set *nftables.Set) []string {
		t.Helper()
		got, err := c.GetSetElements(set)
		if err != nil {
			t.Fatal(err)
		}
		return elementKeys(got)
	}
	sync("nothing stood there", true)
	sync("again", false)
	want.direct = spans(prefixes("10.0.0.0/16", "10.9.0.0/16", "0.0.0.0/8", "240.0.0.0/4"))
	sync("the VPC grew", false)
	if got, exp := elements(directSet(weftTable())), elementKeys(directElements(want.direct)); len(got) != len(exp) {
		t.Errorf("direct has %v, expected %v", got, exp)
	}
	want.sources[two] = to
	if err := m.set(two, to); err != nil {
		t.Fatal(err)
	}
	if err := m.set(two, one); err != nil { // another source
		t.Fatal(err)
	}
	sync("a wrong source", false)
	if got, exp := elements(sourcesMap(weftTable())), elementKeys(sourceElements(want.sources)); len(got) != 2 || got[0] != exp[0] || got[1] != exp[1] {
		t.Errorf("sources has %v, expected %v", got, exp)
	}
	c.FlushTable(weftTable())
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	sync("somebody flushed the rules", true)
	if err := m.unset(netip.MustParseAddr("10.0.0.99")); err != nil {
		t.Errorf("unset of what isn't there: %v", err)
	}
	if err := m.remove(); err != nil {
		t.Fatal(err)
	}
	if err := m.remove(); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil || len(tables) != 1 || tables[0].Name != "other" {
		t.Errorf("tables are %v, %v", tables, err)
	}
}
