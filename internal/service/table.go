package service

import (
	"net/netip"
	"slices"
	"sync"
)

// Table holds the prefixes of many owners, each of which may change or go.
type Table struct {
	mu      sync.Mutex
	owners  map[string][]netip.Prefix
	changed chan struct{}
}

// NewTable is empty.
func NewTable() *Table {
	return &Table{owners: map[string][]netip.Prefix{}, changed: make(chan struct{}, 1)}
}

// Set makes these the owner's prefixes; none forgets it.
func (t *Table) Set(owner string, prefixes []netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(t.owners[owner], prefixes) {
		return
	}
	if len(prefixes) == 0 {
		delete(t.owners, owner)
	} else {
		t.owners[owner] = prefixes
	}
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Changed has a token when the table isn't what it was when All was last called after a token.
func (t *Table) Changed() <-chan struct{} { return t.changed }

// All are the prefixes of every owner, sorted, each once.
func (t *Table) All() []netip.Prefix {
	t.mu.Lock()
	out := make([]netip.Prefix, 0, len(t.owners))
	for _, prefixes := range t.owners {
		out = append(out, prefixes...)
	}
	t.mu.Unlock()
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// Hosts are the prefixes of single addresses.
func Hosts(addrs []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}
