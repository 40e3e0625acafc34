package kubeproxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// A layout is how the kernel's older iptables stores rules of a family: linux/netfilter_ipv4/ip_tables.h and
// linux/netfilter_ipv6/ip6_tables.h.
type layout struct {
	address                     int // bytes of an address
	destination, mask, protocol int // offsets in an entry
	target, next, size          int
}

func ipv4() layout {
	return layout{address: 4, destination: 4, mask: 12, protocol: 80, target: 88, next: 90, size: 112}
}

func ipv6() layout {
	return layout{address: 16, destination: 16, mask: 48, protocol: 128, target: 140, next: 142, size: 168}
}

const (
	hooks       = 5
	extension   = 32 // struct xt_entry_match and xt_entry_target before their data
	errorTarget = "ERROR"
)

// A table is what the kernel has of one.
type table struct {
	layout layout
	name   string
	// valid has a bit for each hook; entry and underflow are offsets of its first and last rule.
	valid            uint32
	entry, underflow [hooks]uint32
	rules            []rule
}

// A rule is an entry. Before the rules of a chain that no packet comes in by stands one that only names it.
type rule struct {
	offset  uint32
	raw     []byte
	chain   string
	base    bool
	head    bool
	verdict int32 // an offset, if it isn't negative
	decides bool  // has a verdict
}

func errCut(t string) error { return fmt.Errorf("table %s is cut short", t) }

// parse splits the kernel's bytes into rules.
func (t *table) parse(b []byte) error {
	chain, base := "", false
	for at := 0; at < len(b); {
		if at+t.layout.size > len(b) {
			return errCut(t.name)
		}
		next := int(binary.NativeEndian.Uint16(b[at+t.layout.next:]))
		target := int(binary.NativeEndian.Uint16(b[at+t.layout.target:]))
		if next < t.layout.size || at+next > len(b) || target < t.layout.size || target+extension > next {
			return errCut(t.name)
		}
		r := rule{offset: uint32(at), raw: b[at : at+next]}
		name, data := extensionAt(r.raw, target)
		switch {
		case name == errorTarget:
			chain, base, r.head = cString(data), false, true
		case name == "" && len(data) >= 4:
			r.decides, r.verdict = true, int32(binary.NativeEndian.Uint32(data))
		}
		for h := range hooks {
			if t.valid&(1<<h) != 0 && t.entry[h] == r.offset {
				chain, base = "", true
			}
		}
		r.chain, r.base = chain, base
		t.rules = append(t.rules, r)
		at += next
	}
	if len(t.rules) == 0 {
		return errCut(t.name)
	}
	return nil
}

// extensionAt is a match or target: its name and data.
func extensionAt(b []byte, at int) (string, []byte) {
	size := int(binary.NativeEndian.Uint16(b[at:]))
	if size < extension || at+size > len(b) {
		size = len(b) - at
	}
	return cString(b[at+2 : at+31]), b[at+extension : at+size]
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// leads is the chain that the rule at i leads to.
func (t *table) leads(i int) (string, bool) {
	r := t.rules[i]
	if !r.decides || r.verdict < 0 {
		return "", false
	}
	if i+1 < len(t.rules) && uint32(r.verdict) == t.rules[i+1].offset {
		return "", false // goes on with the next
	}
	for j, to := range t.rules {
		if to.offset == uint32(r.verdict) {
			return to.chain, j > 0 && t.rules[j-1].head
		}
	}
	return "", false
}

// frontend is the address that a rule of kube-proxy is for.
func (t *table) frontend(r rule, isNodePort bool) (Frontend, bool) {
	target := int(binary.NativeEndian.Uint16(r.raw[t.layout.target:]))
	proto := protocolName(r.raw[t.layout.protocol])
	var addr netip.Addr
	if m := r.raw[t.layout.mask : t.layout.mask+t.layout.address]; bytes.Count(m, []byte{0xff}) == len(m) {
		addr, _ = netip.AddrFromSlice(r.raw[t.layout.destination : t.layout.destination+t.layout.address])
	}
	var port uint16
	for at := t.layout.size; at+extension <= target; {
		size := int(binary.NativeEndian.Uint16(r.raw[at:]))
		if size < extension || at+size > target {
			break
		}
		// Ranges of source ports, then of destination ports, in the machine's byte order.
		if name, data := extensionAt(r.raw, at); (name == "tcp" || name == "udp" || name == "sctp") && len(data) >= 8 {
			port = binary.NativeEndian.Uint16(data[4:])
		}
		at += size
	}
	if port == 0 || proto == "" || addr.IsValid() == isNodePort {
		return Frontend{}, false
	}
	return Frontend{netip.AddrPortFrom(addr, port), proto}, true
}

// without is the table without kube-proxy's chains and what leads to them. from says which rule of the old table each
// of the new one is.
func (t *table) without() (out *table, from []int, chains int, err error) {
	var jumps []jump
	for i, r := range t.rules {
		if to, ok := t.leads(i); ok {
			jumps = append(jumps, jump{r.chain, to, r.base})
		}
	}
	stay := kept(jumps)
	goes := func(chain string) bool { return isOwn(chain) && !stay[chain] }
	out = &table{layout: t.layout, name: t.name, valid: t.valid}
	moved := map[uint32]uint32{}
	var size uint32
	for i, r := range t.rules {
		to, leads := t.leads(i)
		if !r.base && goes(r.chain) || leads && goes(to) {
			if r.head {
				chains++
			}
			continue
		}
		moved[r.offset] = size
		r.raw = bytes.Clone(r.raw)
		r.offset = size
		size += uint32(len(r.raw))
		out.rules, from = append(out.rules, r), append(from, i)
	}
	// What led to a rule that is gone leads to the first that is left after it.
	relocate := func(old uint32) (uint32, error) {
		for _, r := range t.rules {
			if r.offset < old {
				continue
			}
			if n, ok := moved[r.offset]; ok {
				return n, nil
			}
		}
		return 0, errors.New("a rule leads behind the table's end")
	}
	for i := range out.rules {
		r := &out.rules[i]
		if !r.decides || r.verdict < 0 {
			continue
		}
		n, err := relocate(uint32(r.verdict))
		if err != nil {
			return nil, nil, 0, fmt.Errorf("table %s: %w", t.name, err)
		}
		r.verdict = int32(n)
		target := int(binary.NativeEndian.Uint16(r.raw[t.layout.target:]))
		binary.NativeEndian.PutUint32(r.raw[target+extension:], n)
	}
	for h := range hooks {
		if t.valid&(1<<h) == 0 {
			continue
		}
		if out.entry[h], err = relocate(t.entry[h]); err != nil {
			return nil, nil, 0, fmt.Errorf("table %s: %w", t.name, err)
		}
		if out.underflow[h], err = relocate(t.underflow[h]); err != nil {
			return nil, nil, 0, fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return out, from, chains, nil
}

// bytes are the rules as the kernel wants them.
func (t *table) bytes() []byte {
	var out []byte
	for _, r := range t.rules {
		out = append(out, r.raw...)
	}
	return out
}
