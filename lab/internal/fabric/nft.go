package fabric

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os/exec"
	"sort"
	"strings"
	"time"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// nftTimeout bounds one run of nft, which takes milliseconds.
const nftTimeout = 20 * time.Second

// firewall is nftables in one namespace, by way of the nft program: what it reads is text that a person can read
// too, and the kernel takes a whole ruleset in one transaction.
type firewall struct {
	namespace string
	log       *slog.Logger
}

func (f firewall) run(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// The child is forked from the thread that is in the namespace.
	if err := netns.Do(f.namespace, cmd.Run); err != nil {
		return nil, fmt.Errorf("nft %s in %s: %w: %s", strings.Join(args, " "), f.namespace, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// apply makes the kernel's ruleset the wanted one, if it isn't.
func (f firewall) apply(ctx context.Context, want ruleset) error {
	found, err := f.list(ctx)
	if err != nil {
		return err
	}
	if !found.hops {
		if _, err := f.run(ctx, hops(), "-f", "-"); err != nil {
			return err
		}
	}
	if found.chains[want.revision] {
		return nil
	}
	_, err = f.run(ctx, replacement(found, want), "-f", "-")
	if err == nil || !found.present {
		return err
	}
	// A ruleset of another version of this program can have sets of the same name and another type.
	f.log.Warn("ruleset can't be changed in place, replacing it; drop counters begin anew", "namespace", f.namespace, "error", err)
	_, err = f.run(ctx, fmt.Sprintf("delete table inet %s\n", table)+replacement(inventory{}, want), "-f", "-")
	return err
}

// inventory is what the kernel has: table inet fabric and what is in it, and whether table ip hops is there.
type inventory struct {
	present bool
	hops    bool
	chains  map[string]bool
	sets    map[string]string // name to "set" or "map"
}

// replacement is a transaction that leaves nothing of what was found but the counters of drops.
func replacement(found inventory, want ruleset) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	// Adding first makes the transaction the same whether the tables are there or not.
	line("add table inet %s\nflush table inet %s", table, table)
	line("add table arp %s\ndelete table arp %s", table, table)
	keep := map[string]bool{}
	for _, name := range sortedDropSets() {
		keep[name] = true
	}
	// Elements of verdict maps hold chains, rules (flushed above) hold sets: in this order nothing is in use.
	for _, name := range sortedKeys(found.sets) {
		if !keep[name] {
			line("flush %s inet %s %s", found.sets[name], table, name)
		}
	}
	for _, name := range sortedKeys(found.chains) {
		if !want.chains[name] {
			line("delete chain inet %s %s", table, name)
		}
	}
	for _, name := range sortedKeys(found.sets) {
		if !keep[name] && !want.sets[name] {
			line("delete %s inet %s %s", found.sets[name], table, name)
		}
	}
	b.WriteString(want.text)
	return b.String()
}

// object is one entry of nft's JSON.
type object struct {
	Family string            `json:"family"`
	Table  string            `json:"table"`
	Name   string            `json:"name"`
	Elem   []json.RawMessage `json:"elem"`
}

type listing struct {
	Objects []map[string]json.RawMessage `json:"nftables"`
}

// each calls fn for each table, chain, set and map.
func (l listing) each(fn func(kind string, o object) error) error {
	for _, entry := range l.Objects {
		for kind, raw := range entry {
			if kind != "table" && kind != "chain" && kind != "set" && kind != "map" {
				continue
			}
			var o object
			if err := json.Unmarshal(raw, &o); err != nil {
				return fmt.Errorf("nft: %s: %w", kind, err)
			}
			if err := fn(kind, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f firewall) list(ctx context.Context) (inventory, error) {
	// nft says of a missing table only by an error's text that it's missing, so ask for the names first.
	out, err := f.run(ctx, "", "-j", "list", "tables")
	if err != nil {
		return inventory{}, err
	}
	inv, err := parseInventory(out)
	if err != nil || !inv.present {
		return inv, err
	}
	if out, err = f.run(ctx, "", "-j", "-t", "list", "table", "inet", table); err != nil {
		return inventory{}, err
	}
	hops := inv.hops
	inv, err = parseInventory(out)
	inv.hops = hops
	return inv, err
}

func parseInventory(out []byte) (inventory, error) {
	inv := inventory{chains: map[string]bool{}, sets: map[string]string{}}
	var l listing
	if err := json.Unmarshal(out, &l); err != nil {
		return inv, fmt.Errorf("nft: %w", err)
	}
	err := l.each(func(kind string, o object) error {
		switch {
		case kind == "table" && o.Family == "ip" && o.Name == hopsTable:
			inv.hops = true
		case kind == "table" && o.Family == "inet" && o.Name == table:
			inv.present = true
		case o.Family != "inet" || o.Table != table:
		case kind == "chain":
			inv.chains[o.Name] = true
		case kind == "set" || kind == "map":
			inv.sets[o.Name] = kind
		}
		return nil
	})
	return inv, err
}

// counters reads the sets of drops: by set, by interface.
func (f firewall) counters(ctx context.Context) (map[string]map[string]counter, error) {
	out, err := f.run(ctx, "", "-j", "list", "table", "inet", table)
	if err != nil {
		return nil, err
	}
	return parseCounters(out)
}

type counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func parseCounters(out []byte) (map[string]map[string]counter, error) {
	var l listing
	if err := json.Unmarshal(out, &l); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	names := sortedDropSets()
	found := map[string]map[string]counter{}
	err := l.each(func(kind string, o object) error {
		if i := sort.SearchStrings(names, o.Name); kind != "set" || o.Table != table || i == len(names) || names[i] != o.Name {
			return nil
		}
		byInterface := map[string]counter{}
		for _, raw := range o.Elem {
			var e struct {
				Elem struct {
					Val     string  `json:"val"`
					Counter counter `json:"counter"`
				} `json:"elem"`
			}
			if err := json.Unmarshal(raw, &e); err != nil {
				return fmt.Errorf("nft: set %s: %w", o.Name, err)
			}
			byInterface[e.Elem.Val] = e.Elem.Counter
		}
		found[o.Name] = byInterface
		return nil
	})
	return found, err
}
