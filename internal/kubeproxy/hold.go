package kubeproxy

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// heldTable is weft's. On it hangs the kernel's translation of connections that are there when kube-proxy's rules go:
// the kernel tracks and translates only while a rule asks for it.
const heldTable = "weft-kept-connections"

// hold has the kernel go on with connections of the family, whatever other rules there are.
func hold(c *nftables.Conn, family nftables.TableFamily) error {
	tables, err := c.ListTablesOfFamily(family)
	if err != nil {
		return fmt.Errorf("nftables: tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == heldTable {
			return nil
		}
	}
	t := c.AddTable(&nftables.Table{Name: heldTable, Family: family})
	for _, at := range []struct {
		name     string
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
	}{
		{"prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest},
		{"input", nftables.ChainHookInput, nftables.ChainPriorityNATSource},
		{"output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest},
		{"postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource},
	} {
		ch := c.AddChain(&nftables.Chain{Name: at.name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: at.hook, Priority: at.priority})
		// It only asks for the connection's state, and does nothing with it.
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: table %s: %w", heldTable, err)
	}
	return nil
}

// Release ends what Remove left for connections that were there.
func Release() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("nftables: tables: %w", err)
	}
	var errs []error
	for _, t := range tables {
		if t.Name != heldTable || !ip(t) {
			continue
		}
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			errs = append(errs, fmt.Errorf("nftables: table %s: %w", heldTable, err))
		}
	}
	return errors.Join(errs...)
}
