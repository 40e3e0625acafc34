/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "maps.h"

/*
 * Rings of (key, generation, due): how the timer finds what may have expired without walking a
 * table. All slots of a ring wait equally long, so the one at the tail is due first. A slot whose
 * entry has gone by then is dropped; one whose entry lives goes to the head again.
 */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_ct_ring);
	__uint(max_entries, CT_RING_MAX);
} weft_ct_rings SEC(".maps");

/* Its size follows from those of the tables; the agent sets it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_ct_slot);
	__uint(max_entries, 1024);
} weft_ct_slots SEC(".maps");

/*
 * Kept free of what programs add: several may find the last free slot at once, and the timer must
 * always be able to put back what it took.
 */
#define RING_RESERVE 256

/* How long the slots of a ring wait. Short enough that what has expired isn't kept much longer. */
static __always_inline __u32 ring_wait(const struct weft_config *config, __u32 ring)
{
	__u32 hz = config->jiffies_per_second;
	__u32 wait;

	switch (ring) {
	case CT_RING_EST:
		wait = config->lifetime[LIFETIME_TCP] / 16;
		break;
	case CT_RING_CLOSED:
		return config->lifetime[LIFETIME_FIN] + hz;
	default:
		wait = config->lifetime[LIFETIME_ANY] / 2;
	}
	if (wait < hz)
		return hz;
	return wait > 60 * hz ? 60 * hz : wait;
}

static __always_inline bool ring_full(const struct weft_ct_ring *ring, __u32 reserve)
{
	return *(volatile __u64 *)&ring->head - *(volatile __u64 *)&ring->tail + reserve >=
	       ring->size;
}

/* Puts a key into a ring. reserve is RING_RESERVE for all but the timer. False: the ring is full.
 */
__noinline int ring_push(__u32 name, const struct weft_ct_key *key, __u32 generation, __u32 due,
			 __u32 reserve)
{
	struct weft_ct_ring *ring = bpf_map_lookup_elem(&weft_ct_rings, &name);
	struct weft_ct_slot *slot;
	__u32 index;

	if (!key || !ring || !ring->size)
		return false;
	if (ring_full(ring, reserve))
		return false;
	index = ring->base + __sync_fetch_and_add(&ring->head, 1) % ring->size;
	slot = bpf_map_lookup_elem(&weft_ct_slots, &index);
	if (!slot)
		return false;
	slot->key = *key;
	slot->due = due;
	/* An exchange is a full barrier: who sees the generation sees the key. */
	__sync_lock_test_and_set(&slot->generation, generation);
	return true;
}
