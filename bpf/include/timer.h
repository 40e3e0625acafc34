/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "conntrack.h"

/*
 * Expiry with nobody in user space: one timer walks the rings. It lives in a pinned map and goes on
 * with the program that was set last, whoever else ends.
 */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_ct_timer);
	__uint(max_entries, 1);
} weft_ct_timers SEC(".maps");

#define TIMER_CLOCK_MONOTONIC 1
#define TIMER_BUSY (10 * 1000 * 1000ull)
#define TIMER_IDLE (200 * 1000 * 1000ull)
#define TIMER_SLOTS 128

struct timer_walk {
	const struct weft_config *config;
	__u32 ring;
	__u32 now;
	bool pressed; /* the ring is nearly full: don't wait until slots are due */
};

/* True: to be looked at again. */
static __always_inline bool timer_visit(const struct timer_walk *w, const struct weft_ct_key *key,
					__u32 generation)
{
	struct weft_ct_entry *e = NULL;
	struct weft_endpoint *to;
	bool established = false;

	if (w->ring != CT_RING_NEW) {
		e = ct_get(key, true);
		established = !!e;
	}
	if (!e && w->ring != CT_RING_EST)
		e = ct_get(key, false);
	if (!e || e->generation != generation)
		return false;
	/*
	 * A second after lookups count it as none, so that no hook has it in its hands when its
	 * memory becomes another flow's.
	 */
	if (ct_expired(e, w->now - w->config->jiffies_per_second) || ct_stale(e, key, 2, &to)) {
		ct_remove(key, e, established);
		CT_COUNT(expired);
		return false;
	}
	return w->ring != CT_RING_CLOSED || tcp_closed(e->side[0].tcp, e->side[1].tcp);
}

static long timer_slot(__u32 i __attribute__((unused)), struct timer_walk *w)
{
	__u32 name = w->ring;
	struct weft_ct_ring *ring = bpf_map_lookup_elem(&weft_ct_rings, &name);
	struct weft_ct_slot *slot;
	struct weft_ct_key key;
	__u32 index, generation;

	if (!ring || !ring->size || ring->tail == *(volatile __u64 *)&ring->head)
		return 1;
	index = ring->base + ring->tail % ring->size;
	slot = bpf_map_lookup_elem(&weft_ct_slots, &index);
	if (!slot)
		return 1;
	if (!slot->generation) {
		/* Somebody is about to write it, or the slots were lost. */
		if (ring->tail >= ring->settled)
			return 1;
		ring->tail++;
		return 0;
	}
	if (!w->pressed && (__s32)(w->now - slot->due) < 0)
		return 1;
	key = slot->key;
	generation = __sync_lock_test_and_set(&slot->generation, 0);
	ring->tail++;
	if (timer_visit(w, &key, generation))
		ring_push(name, &key, generation, w->now + ring_wait(w->config, name), 0);
	return 0;
}

/* Walks a ring and returns how many slots it looked at. */
static __noinline __u32 timer_ring(struct timer_walk *w, __u32 name)
{
	struct weft_ct_ring *ring = bpf_map_lookup_elem(&weft_ct_rings, &name);
	__u64 head;
	long looked;

	if (!ring)
		return 0;
	head = *(volatile __u64 *)&ring->head;
	if (ring->tail == head)
		return 0;
	w->ring = name;
	w->pressed = head - ring->tail > ring->size / 4 * 3;
	looked = bpf_loop(TIMER_SLOTS, timer_slot, w, 0);
	ring->settled = head;
	return looked < 0 ? 0 : looked;
}

static int timer_tick(void *map __attribute__((unused)), __u32 *key __attribute__((unused)),
		      struct weft_ct_timer *t)
{
	struct timer_walk w = {.config = config_get(), .now = bpf_jiffies64()};
	__u32 looked = 0;

	if (w.config) {
		looked += timer_ring(&w, CT_RING_NEW);
		looked += timer_ring(&w, CT_RING_EST);
		looked += timer_ring(&w, CT_RING_CLOSED);
	}
	t->ticks++;
	t->looked += looked;
	t->last = w.now;
	/* The last slot that a walk of a ring looked at may be one that isn't due. */
	bpf_timer_start(&t->timer, looked > CT_RING_MAX ? TIMER_BUSY : TIMER_IDLE, 0);
	return 0;
}

/*
 * Run by hand, by each agent when it starts. The timer of an earlier one goes on with this
 * program's tick.
 */
SEC("tc")
int ct_start(struct __sk_buff *skb __attribute__((unused)))
{
	__u32 key = 0;
	struct weft_ct_timer *t = bpf_map_lookup_elem(&weft_ct_timers, &key);
	long err;

	if (!t)
		return 1;
	/* User space reads the clock here, and may do so before the first tick. */
	t->last = bpf_jiffies64();
	/* Busy: it was made before. */
	err = bpf_timer_init(&t->timer, &weft_ct_timers, TIMER_CLOCK_MONOTONIC);
	if (err && err != -EBUSY)
		return -err;
	err = bpf_timer_set_callback(&t->timer, timer_tick);
	if (err)
		return -err;
	return -bpf_timer_start(&t->timer, TIMER_BUSY, 0);
}
