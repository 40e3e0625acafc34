/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <stdbool.h>

#include "maps.h"
#include "ring.h"

/*
 * Where a TCP flow begins. Most become established, so they are entered where those are: to move
 * them later costs more than all their other packets. But only so many may be there before their
 * handshake is over; further ones begin in the LRU, where a flood evicts nothing but itself.
 */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __s64);
	__uint(max_entries, CT_BEGINNING_MAX);
} weft_ct_beginning SEC(".maps");

static __always_inline __s64 *beginning_get(__u32 index)
{
	return bpf_map_lookup_elem(&weft_ct_beginning, &index);
}

/* Counts one more; false: there may be no more. CPUs that ask at once may all get the last place.
 */
static __always_inline bool beginning_enter(void)
{
	__s64 *count = beginning_get(CT_BEGINNING_COUNT), *removed, *most;
	__u32 est = CT_RING_EST;
	struct weft_ct_ring *ring;

	removed = beginning_get(CT_BEGINNING_REMOVED);
	most = beginning_get(CT_BEGINNING_MOST);
	ring = bpf_map_lookup_elem(&weft_ct_rings, &est);
	if (!count || !removed || !most || !ring)
		return false;
	if (*(volatile __s64 *)count - *removed >= *most || ring_full(ring, RING_RESERVE))
		return false;
	__sync_fetch_and_add(count, 1);
	return true;
}

static __always_inline void beginning_cancel(void)
{
	__s64 *count = beginning_get(CT_BEGINNING_COUNT);

	if (count)
		__sync_fetch_and_add(count, -1);
}

/* An entry that is established, or about to be removed. True: it was counted until now. */
static __always_inline bool beginning_leave(struct weft_ct_entry *e)
{
	__u32 *word = (__u32 *)&e->flags; /* the smallest that can be exchanged */
	__u32 had = *(volatile __u32 *)word;

	if (!(had & CT_BEGINNING))
		return false;
	/* Whoever takes the flag off counts it. */
	if (__sync_val_compare_and_swap(word, had, had & ~CT_BEGINNING) != had)
		return false;
	beginning_cancel();
	return true;
}
