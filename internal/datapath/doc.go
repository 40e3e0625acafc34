// Package datapath loads weft's eBPF programs, keeps their maps and attaches them to the node's devices.
//
// Maps and links are pinned, so that traffic goes on while no agent runs; Open takes over what an earlier
// agent left. The programs are in bpf/, whose README describes hooks, maps, marks and reasons.
package datapath
