package loadbalancer

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// MaglevSizes are the table sizes that there are: primes, as the method needs, of which one should be at least a
// hundred times as large as the largest number of backends.
func MaglevSizes() []int {
	return []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}
}

// Maglev fills a table of the size with indexes of backends: each has nearly the same part of it, and a backend that
// comes or goes changes little of the others'. It depends on nothing but which backends there are, not on their order:
// every node has the same. size is a prime.
func Maglev(backends []netip.AddrPort, size int) []uint32 {
	n := len(backends)
	if n == 0 || size < 2 {
		return nil
	}
	// Each backend goes through the table in an order of its own: from an offset, by a step that meets every entry
	// because the size is a prime.
	next, step := make([]uint32, n), make([]uint32, n)
	for i, b := range backends {
		h := maglevHash(b)
		next[i] = uint32(h % uint64(size))
		step[i] = uint32((h>>32)%uint64(size-1)) + 1
	}
	const free = ^uint32(0)
	table := make([]uint32, size)
	for i := range table {
		table[i] = free
	}
	// In each round every backend takes the first free entry of its order. Whose turn it is must not depend on the
	// order in which they are given.
	turns := sortedByAddress(backends)
	for filled := 0; ; {
		for _, i := range turns {
			at := next[i]
			for table[at] != free {
				at = advance(at, step[i], uint32(size))
			}
			table[at] = uint32(i)
			next[i] = advance(at, step[i], uint32(size))
			if filled++; filled == size {
				return table
			}
		}
	}
}

func advance(at, step, size uint32) uint32 {
	if at += step; at >= size {
		at -= size
	}
	return at
}

// maglevHash spreads addresses that differ in a bit over all 64: FNV alone leaves the upper ones alike.
func maglevHash(a netip.AddrPort) uint64 {
	h := fnv.New64a()
	addr := a.Addr().As16()
	h.Write(addr[:])
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], a.Port())
	h.Write(port[:])
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// sortedByAddress are the backends' indexes in the order of their addresses.
func sortedByAddress(backends []netip.AddrPort) []int {
	out := make([]int, len(backends))
	for i := range out {
		out[i] = i
	}
	slices.SortFunc(out, func(a, b int) int { return backends[a].Compare(backends[b]) })
	return out
}
