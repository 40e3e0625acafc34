/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/errno.h>
#include <stdbool.h>

#include "layout.h"
#include "maps.h"
#include "reason.h"

/*
 * The tables of connections and the only way to them. weft_ct_new is an LRU of flows that begin and
 * of flows without an established state; weft_ct_est holds established ones, which no flood of new
 * ones can evict. A version whose entries have another layout than those of the version before is
 * built with CT_PREVIOUS: ct_previous.h takes over what the one before left, and keeps it up to
 * date, so that going back loses nothing either.
 */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_ct_key);
	__type(value, struct weft_ct_entry);
	__uint(max_entries, 262144);
} weft_ct_new SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_ct_key);
	__type(value, struct weft_ct_entry);
	__uint(max_entries, 524288);
} weft_ct_est SEC(".maps");

#ifdef CT_PREVIOUS
#include "ct_previous.h"
#else
static __always_inline struct weft_ct_entry *ct_previous_get(const struct weft_ct_key *key
							     __attribute__((unused)),
							     bool established
							     __attribute__((unused)))
{
	return NULL;
}

static __always_inline bool ct_previous_has(const struct weft_ct_key *key __attribute__((unused)),
					    bool established __attribute__((unused)))
{
	return false;
}

static __always_inline void ct_previous_put(const struct weft_ct_key *key __attribute__((unused)),
					    const struct weft_ct_entry *e __attribute__((unused)),
					    bool established __attribute__((unused)))
{
}

static __always_inline void ct_previous_delete(const struct weft_ct_key *key
					       __attribute__((unused)),
					       bool established __attribute__((unused)))
{
}

static __always_inline void ct_previous_touch(const struct weft_ct_key *key __attribute__((unused)),
					      struct weft_ct_entry *e __attribute__((unused)),
					      bool established __attribute__((unused)))
{
}
#endif

/* The entry in one of the tables; NULL: none. established is constant. */
static __always_inline struct weft_ct_entry *ct_get(const struct weft_ct_key *key,
						    const bool established)
{
	struct weft_ct_entry *e = established ? bpf_map_lookup_elem(&weft_ct_est, key)
					      : bpf_map_lookup_elem(&weft_ct_new, key);

	return e ? e : ct_previous_get(key, established);
}

/* Enters what isn't there yet; -EEXIST if it is. */
static __always_inline long ct_put(const struct weft_ct_key *key, const struct weft_ct_entry *e,
				   const bool established)
{
	long err;

	if (ct_previous_has(key, established))
		return -EEXIST;
	err = established ? bpf_map_update_elem(&weft_ct_est, key, e, BPF_NOEXIST)
			  : bpf_map_update_elem(&weft_ct_new, key, e, BPF_NOEXIST);
	if (!err)
		ct_previous_put(key, e, established);
	return err;
}

/* Not 0: it wasn't there. */
static __always_inline long ct_take_out(const struct weft_ct_key *key, const bool established)
{
	ct_previous_delete(key, established);
	return established ? bpf_map_delete_elem(&weft_ct_est, key)
			   : bpf_map_delete_elem(&weft_ct_new, key);
}

/*
 * Called when an entry's state has changed, and otherwise once a second while packets come: what a
 * program of another version knows of the flow and what this one knows become the same.
 */
static __always_inline void ct_touch(const struct weft_ct_key *key, struct weft_ct_entry *e,
				     bool established)
{
	ct_previous_touch(key, e, established);
}
