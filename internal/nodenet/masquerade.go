package nodenet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is weft's own nftables table, of family ip.
const tableName = "weft"

// layout names the form of the table: another one is rebuilt in a single transaction.
const layout = "weft masquerade 1"

// neverMasqueraded whatever is desired: multicast.
var neverMasqueraded = netip.MustParsePrefix("224.0.0.0/4")

// beforeKubeProxy is just below the priority of everybody's source translation, so that one address is
// chosen for a pod by us and never by the device that it happens to be routed to.
const beforeKubeProxy = nftables.ChainPriority(99)

// ruleset is what the table says.
type ruleset struct {
	sources map[netip.Addr]netip.Addr
	direct  []span
}

// masquerade writes the table. Every change is one transaction.
type masquerade struct {
	mu     sync.Mutex
	looked time.Time // by retire, for connections that the table still serves
}

func newMasquerade() *masquerade { return &masquerade{} }

func weftTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
}

func sourcesMap(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "sources", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeIPAddr}
}

func directSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "direct", Interval: true, KeyType: nftables.TypeIPAddr}
}

// sync makes the table match and reports whether it had to be made from nothing.
func (m *masquerade) sync(want ruleset) (rebuilt bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	t := weftTable()
	whole, err := m.whole(c, t)
	if err != nil {
		return false, err
	}
	if !whole {
		return true, m.build(c, t, want)
	}
	changed := false
	for _, part := range []struct {
		set  *nftables.Set
		want []nftables.SetElement
	}{
		{sourcesMap(t), sourceElements(want.sources)},
		{directSet(t), directElements(want.direct)},
	} {
		differs, err := replaceElements(c, part.set, part.want)
		if err != nil {
			return false, err
		}
		changed = changed || differs
	}
	if !changed {
		return false, nil
	}
	return false, c.Flush()
}

// whole says whether table, sets, chain and rules are all there in today's layout.
func (m *masquerade) whole(c *nftables.Conn, t *nftables.Table) (bool, error) {
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.Name }) {
		return false, nil
	}
	chains, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(chains, func(o *nftables.Chain) bool { return o.Table.Name == t.Name && o.Name == "postrouting" })
	if i < 0 || chains[i].Hooknum == nil || *chains[i].Hooknum != *nftables.ChainHookPostrouting ||
		chains[i].Priority == nil || *chains[i].Priority != beforeKubeProxy {
		return false, nil
	}
	rules, err := c.GetRules(t, chains[i])
	if err != nil {
		return false, err
	}
	want := ruleMarks()
	if len(rules) != len(want) {
		return false, nil
	}
	for i, r := range rules {
		if !bytes.Equal(r.UserData, want[i]) {
			return false, nil
		}
	}
	sets, err := c.GetSets(t)
	if err != nil {
		return false, err
	}
	return len(sets) == 2, nil
}

// isWhole says whether the table is there, whole and in today's layout.
func (m *masquerade) isWhole() (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	return m.whole(c, weftTable())
}

// ruleMarks are the user data by which rules are told: how a rule reads back differs between kernels.
func ruleMarks() [][]byte { return [][]byte{[]byte(layout + " direct"), []byte(layout + " snat")} }

// build makes the whole table in one transaction that also removes what stood there.
func (m *masquerade) build(c *nftables.Conn, t *nftables.Table, want ruleset) error {
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	sources, direct := sourcesMap(t), directSet(t)
	err := errors.Join(
		c.AddSet(sources, sourceElements(want.sources)),
		c.AddSet(direct, directElements(want.direct)),
	)
	if err != nil {
		return err
	}
	priority := beforeKubeProxy
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: &priority,
	})
	marks := ruleMarks()
	add := func(exprs ...expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs, UserData: marks[0]})
		marks = marks[1:]
	}
	add(
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: direct.Name, SetID: direct.ID},
		&expr.Verdict{Kind: expr.VerdictReturn},
	)
	add(
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: sources.Name, SetID: sources.ID},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, FullyRandom: true},
	)
	return c.Flush()
}

// set gives one endpoint's source; it changes nothing else.
func (m *masquerade) set(addr, to netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	s := sourcesMap(weftTable())
	if err := c.SetAddElements(s, sourceElements(map[netip.Addr]netip.Addr{addr: to})); err != nil {
		return err
	}
	err = c.Flush()
	if errors.Is(err, unix.EEXIST) {
		// Another source stands there, of an endpoint before this one.
		if err := c.SetDeleteElements(s, []nftables.SetElement{{Key: addr.AsSlice()}}); err != nil {
			return err
		}
		if err := c.SetAddElements(s, sourceElements(map[netip.Addr]netip.Addr{addr: to})); err != nil {
			return err
		}
		err = c.Flush()
	}
	return err
}

// unset forgets an endpoint.
func (m *masquerade) unset(addr netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	if err := c.SetDeleteElements(sourcesMap(weftTable()), []nftables.SetElement{{Key: addr.AsSlice()}}); err != nil {
		return err
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// retireEvery is how often retire looks for connections: it reads the kernel's whole table of them.
const retireEvery = time.Minute

// retire has the table translate nothing new, and removes it once no connection of an endpoint is left that it
// translated. Without any rule that needs them the kernel would end both: the tracking of connections and their
// translation.
func (m *masquerade) retire(now time.Time, ours map[netip.Addr]bool) error {
	there, err := m.there()
	if err != nil || !there {
		return err
	}
	if _, err := m.sync(ruleset{}); err != nil {
		return err
	}
	if now.Sub(m.looked) < retireEvery {
		return nil
	}
	m.looked = now
	serves, err := translatedFlows(ours)
	if err != nil {
		return fmt.Errorf("look for translated connections: %w", err)
	}
	if serves {
		return nil
	}
	return m.remove()
}

func (m *masquerade) there() (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	return slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == tableName }), nil
}

// remove deletes the table.
func (m *masquerade) remove() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == tableName }) {
		return nil
	}
	c.DelTable(weftTable())
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: remove table %s: %w", tableName, err)
	}
	return nil
}

// replaceElements queues what makes the set's elements equal to want.
func replaceElements(c *nftables.Conn, s *nftables.Set, want []nftables.SetElement) (bool, error) {
	have, err := c.GetSetElements(s)
	if err != nil {
		return false, err
	}
	if slices.Equal(elementKeys(have), elementKeys(want)) {
		return false, nil
	}
	c.FlushSet(s)
	if len(want) == 0 {
		return true, nil
	}
	return true, c.SetAddElements(s, want)
}

// elementKeys brings elements into comparable form. The kernel adds an open end at 0.0.0.0 to some
// interval sets; it means nothing.
func elementKeys(in []nftables.SetElement) []string {
	var out []string
	for _, e := range in {
		if e.IntervalEnd && bytes.Equal(e.Key, []byte{0, 0, 0, 0}) {
			continue
		}
		out = append(out, fmt.Sprintf("%x:%x:%t", e.Key, e.Val, e.IntervalEnd))
	}
	slices.Sort(out)
	return out
}

func sourceElements(m map[netip.Addr]netip.Addr) []nftables.SetElement {
	var out []nftables.SetElement
	for _, a := range slices.SortedFunc(maps.Keys(m), netip.Addr.Compare) {
		out = append(out, nftables.SetElement{Key: a.AsSlice(), Val: m[a].AsSlice()})
	}
	return out
}

// directElements renders ranges as pairs of first and one past the last; a range up to the highest
// address has no end.
func directElements(in []span) []nftables.SetElement {
	var out []nftables.SetElement
	for _, s := range in {
		out = append(out, nftables.SetElement{Key: s.from.AsSlice()})
		if end := s.to.Next(); end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}
