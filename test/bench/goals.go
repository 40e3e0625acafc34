package main

import "github.com/weft-cni/weft/test/bench/ratio"

// tolerance is what a median may be below its goal: so much the same two networks differ on a busy machine.
const tolerance = 0.05

// goal is what a measure's median is to be. A strict one allows for nothing.
type goal struct {
	least  float64
	strict bool
}

// goals were set by prototypes before the first line: see docs/results. Rows that have none are there to explain.
func goals() map[string]goal {
	return map[string]goal{
		"rr/cross/vs-ptp":              {least: 1.08},
		"crr/cross/vs-ptp":             {least: 1.05},
		"udp/cross/vs-ptp":             {least: 1.15},
		"stream/cross/vs-ptp":          {least: 1.02},
		"crr/local/vs-ptp":             {least: 1.08},
		"rr/cross/vs-veth":             {least: 0.84},
		"stream/cross/vs-veth":         {least: 0.92},
		"rr/cross/vs-iptables-1":       {least: 1.22},
		"crr/cross/vs-iptables-1":      {least: 1.40},
		"udp/cross/vs-iptables-1":      {least: 1.45},
		"stream/cross/vs-iptables-1":   {least: 1.10},
		"crr/local/vs-iptables-1":      {least: 1.25},
		"crr/cross/vs-iptables-5000":   {least: 1.70},
		"crr/cross/vs-nftables-5000":   {least: 1.30},
		"crr/service/vs-iptables-1":    {least: 1.40},
		"crr/service/vs-iptables-5000": {least: 1.70},
		"crr/service/20000-vs-1":       {least: 0.97, strict: true},
		"masquerade/crr/vs-nftables":   {least: 1.20},
		"masquerade/udp/vs-nftables":   {least: 1.35},
		"events/crr/on-vs-off":         {least: 0.98, strict: true},
	}
}

// judge says what a ratio makes of the goal.
func (g goal) judge(r ratio.Ratio) string {
	switch {
	case r.Median >= g.least:
		return "met"
	case !g.strict && r.Median >= g.least*(1-tolerance):
		return "met within 5 %"
	}
	return "MISSED"
}
