/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The tables of the version before, whose entries have another layout. Included by ct_table.h of a
 * version that is built with CT_PREVIOUS, which says struct weft_ct_entry_previous,
 * ct_from_previous and ct_to_previous; keys, generations and rings are the same in both.
 *
 * A flow that only the old tables know is copied when somebody asks for it: a packet, or the timer.
 * Whatever is entered or removed here, is so there too. While the programs of two versions run
 * beside each other, on different devices, each sees packets that the other doesn't: ct_touch joins
 * what they know.
 */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_ct_key);
	__type(value, struct weft_ct_entry_previous);
	__uint(max_entries, 262144);
} weft_ct_new_prev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_ct_key);
	__type(value, struct weft_ct_entry_previous);
	__uint(max_entries, 524288);
} weft_ct_est_prev SEC(".maps");

/* Too big for the stack of 6.1. */
struct ct_previous_scratch {
	struct weft_ct_entry entry;
	struct weft_ct_entry_previous previous;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ct_previous_scratch);
	__uint(max_entries, 1);
} weft_ct_scratch_prev SEC(".maps");

static __always_inline struct weft_ct_entry_previous *
ct_previous_lookup(const struct weft_ct_key *key, bool established)
{
	if (established)
		return bpf_map_lookup_elem(&weft_ct_est_prev, key);
	return bpf_map_lookup_elem(&weft_ct_new_prev, key);
}

static __always_inline bool ct_previous_has(const struct weft_ct_key *key, bool established)
{
	return !!ct_previous_lookup(key, established);
}

/* Copies the flow into the table of the same kind and returns the copy. */
static __noinline struct weft_ct_entry *ct_previous_get(const struct weft_ct_key *key,
							bool established)
{
	struct weft_ct_entry_previous *p = ct_previous_lookup(key, established);
	struct ct_previous_scratch *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&weft_ct_scratch_prev, &zero);
	if (!p || !s)
		return NULL;
	ct_from_previous(&s->entry, p);
	/* There already: another CPU was faster. Full: the flow is looked for here again. */
	if (established) {
		bpf_map_update_elem(&weft_ct_est, key, &s->entry, BPF_NOEXIST);
		return bpf_map_lookup_elem(&weft_ct_est, key);
	}
	bpf_map_update_elem(&weft_ct_new, key, &s->entry, BPF_NOEXIST);
	return bpf_map_lookup_elem(&weft_ct_new, key);
}

static __noinline int ct_previous_write(const struct weft_ct_key *key,
					const struct weft_ct_entry *e, bool established)
{
	struct ct_previous_scratch *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&weft_ct_scratch_prev, &zero);
	if (!s || !e)
		return 0;
	ct_to_previous(&s->previous, e);
	/* A full table there costs a flow its way back, not its life. */
	if (established)
		bpf_map_update_elem(&weft_ct_est_prev, key, &s->previous, BPF_ANY);
	else
		bpf_map_update_elem(&weft_ct_new_prev, key, &s->previous, BPF_ANY);
	return 0;
}

static __always_inline void ct_previous_put(const struct weft_ct_key *key,
					    const struct weft_ct_entry *e, bool established)
{
	ct_previous_write(key, e, established);
}

static __always_inline void ct_previous_delete(const struct weft_ct_key *key, bool established)
{
	if (established)
		bpf_map_delete_elem(&weft_ct_est_prev, key);
	else
		bpf_map_delete_elem(&weft_ct_new_prev, key);
}

static __noinline int ct_previous_touch(const struct weft_ct_key *key, struct weft_ct_entry *e,
					bool established)
{
	struct weft_ct_entry_previous *p = ct_previous_lookup(key, established);
	struct ct_previous_scratch *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&weft_ct_scratch_prev, &zero);
	if (!s || !e)
		return 0;
	if (p) {
		ct_from_previous(&s->entry, p);
		/* A later flow with the same tuple, which only the other version has seen. */
		if (s->entry.generation != e->generation)
			return 0;
		e->side[0].tcp |= s->entry.side[0].tcp;
		e->side[1].tcp |= s->entry.side[1].tcp;
	}
	return ct_previous_write(key, e, established);
}
