package flow

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Line is the record on one line. Advice stands on drops only, and only if asked for.
func Line(r Record, advice bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %-5s ", r.Time.Local().Format("15:04:05.000000"), r.Node, strings.ToUpper(string(r.Type)))
	if r.Type == Lost {
		fmt.Fprintf(&b, "%d records: %s", r.Count, r.Text)
		return b.String()
	}
	fmt.Fprintf(&b, "%s -> %s %s", side(r.From, r.Protocol), side(r.To, r.Protocol), what(r))
	switch r.Type {
	case Drop:
		fmt.Fprintf(&b, ": %s (%s) at %s %s", r.Text, r.Reason, r.Hook, r.Direction)
		if r.Object != "" {
			fmt.Fprintf(&b, ", %s", r.Object)
		}
		if r.Where != "" {
			fmt.Fprintf(&b, " [%s]", r.Where)
		}
		if advice && r.Advice != "" {
			fmt.Fprintf(&b, "; %s", r.Advice)
		}
	case Trace, Verdict:
		fmt.Fprintf(&b, ": %s at %s %s", r.Text, r.Hook, r.Direction)
	case Close:
		fmt.Fprintf(&b, ": sent %d packets, %s; received %d packets, %s; %s", r.From.Packets, amount(r.From.Bytes),
			r.To.Packets, amount(r.To.Bytes), time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	}
	if r.NAT != "" {
		fmt.Fprintf(&b, ", outside as %s", r.NAT)
	}
	if len(r.Connection) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(r.Connection, ", "))
	}
	if r.Suppressed > 0 {
		fmt.Fprintf(&b, " (+%d more, only counted)", r.Suppressed)
	}
	return b.String()
}

func side(s Side, protocol string) string {
	addr := "?"
	if s.Addr.IsValid() {
		addr = s.Addr.String()
		if HasPorts(protocol) {
			addr = netip.AddrPortFrom(s.Addr, s.Port).String()
		}
	}
	switch {
	case s.Pod != "" && s.Gone:
		return fmt.Sprintf("%s (%s, gone)", s.Pod, addr)
	case s.Pod != "":
		return fmt.Sprintf("%s (%s)", s.Pod, addr)
	}
	return addr
}

func what(r Record) string {
	parts := []string{}
	switch {
	case r.Protocol != "":
		parts = append(parts, r.Protocol)
	case r.Family != "":
		parts = append(parts, r.Family)
	}
	if r.ICMP != "" {
		parts = append(parts, r.ICMP)
	}
	if r.From.TCP != "" && r.Type != Close {
		parts = append(parts, r.From.TCP)
	}
	if r.Length > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes", r.Length))
	}
	return strings.Join(parts, " ")
}

func amount(n uint64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 10_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
