/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

/*
 * Services: which frontend has which backends, and how one of them is chosen. Mirrored in
 * internal/socklb.
 */

#define LB_REFUSE (1u << 0)   /* without a backend: refused at once, not left to the stack */
#define LB_MEMBERS (1u << 1)  /* weft_lb_members has the set's backends */
#define LB_AFFINITY (1u << 2) /* a client keeps its backend for so many seconds of idleness */
#define LB_OUTSIDE (1u << 3)  /* whoever comes from outside may use it, with the same backends */
/* Who comes from outside has backends of its own: those of LB_SCOPE_OUTSIDE. */
#define LB_OUTSIDE_OWN (1u << 4)
#define LB_RANGES (1u << 5)	 /* for clients of weft_lb_ranges alone */
#define LB_MAGLEV (1u << 6)	 /* packets choose by weft_lb_maglev */
#define LB_TCP_KEEP (1u << 7)	 /* reserved */
#define LB_RANGES_HOST (1u << 8) /* with LB_RANGES: the node's own address is within them */

/* Whose services: of pods and of this node, or of who comes in by an interface. */
enum weft_lb_scope {
	LB_SCOPE_CLUSTER = 0,
	LB_SCOPE_OUTSIDE = 1,
};

/*
 * weft_lb_frontends. Address 0 of a family (::ffff:0.0.0.0, ::) stands for every address that is
 * the node's own; it is asked after the address itself.
 */
struct weft_lb_key {
	struct weft_addr addr;
	__be16 port;
	__u8 protocol;
	__u8 scope;
	__u8 reserved[4];
};

struct weft_lb_frontend {
	__u32 set; /* its backends are weft_lb_backends[set, 0 … count - 1] */
	__u32 count;
	__u32 flags;
	__u32 affinity; /* seconds */
};

/* weft_lb_backends. */
struct weft_lb_slot {
	__u32 set;
	__u32 slot;
};

struct weft_lb_backend {
	struct weft_addr addr;
	__be16 port;
	__u16 reserved[3];
};

/* weft_lb_members: is this still a backend of the set? Only for sets with LB_MEMBERS. */
struct weft_lb_member {
	struct weft_addr addr;
	__u32 set;
	__be16 port;
	__u16 reserved;
};

/* weft_lb_ranges, a longest prefix match: clients of sets with LB_RANGES. */
struct weft_lb_range {
	__u32 prefixlen; /* LB_RANGE_FIXED_BITS + 96 + bits of an IPv4 prefix, or + bits of an IPv6
			    one */
	__u32 set;
	struct weft_addr addr;
};

#define LB_RANGE_FIXED_BITS 32

#define LB_HOST (1u << 0)	 /* sockets of the node's own namespace are translated, too */
#define LB_NORTH_SOUTH (1u << 1) /* packets from outside, and to what isn't a cluster's address */
#define LB_HOST_ONLY (1u << 2)	 /* of sockets, those of the node's own namespace alone */
#define LB_GUARD (1u << 3)	 /* the node's own sockets aren't bound to a node port */

/* weft_lb_config[0]. */
struct weft_lb_config {
	__u64 host; /* cookie of the node's own network namespace */
	__u32 flags;
	__u32 epoch; /* of the agent that may write */
	/* CLOCK_MONOTONIC, ns: until then the tables are as good as kube-proxy's rules */
	__u64 fresh;
};

#define LB_FRONTENDS 65536
#define LB_BACKENDS 262144
#define LB_RANGES_MAX 65536
#define LB_MAGLEV_SETS 16384

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_lb_key);
	__type(value, struct weft_lb_frontend);
	__uint(max_entries, LB_FRONTENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_frontends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_lb_slot);
	__type(value, struct weft_lb_backend);
	__uint(max_entries, LB_BACKENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_lb_member);
	__type(value, __u32);
	__uint(max_entries, LB_BACKENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_lb_config);
	__uint(max_entries, 1);
} weft_lb_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct weft_lb_range);
	__type(value, __u32);
	__uint(max_entries, LB_RANGES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_ranges SEC(".maps");

/*
 * Set → its table for choosing by a hash, replaced as a whole: [0] is its size, a prime; then come
 * the numbers of slots, four of 16 bits in each element. Tables may differ in size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__type(key, __u32);
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, LB_MAGLEV_SETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__type(key, __u32);
			__type(value, __u64);
			__uint(max_entries, 1);
			__uint(map_flags, BPF_F_INNER_MAP);
		});
} weft_lb_maglev SEC(".maps");

static __always_inline struct weft_lb_config *lb_config(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&weft_lb_config, &key);
}

/*
 * Are the tables as good as kube-proxy's rules? They are all there is if weft does its work.
 */
static __always_inline bool lb_fresh(const struct weft_lb_config *config)
{
	return config->flags & LB_HOST || bpf_ktime_get_coarse_ns() < config->fresh;
}

static __always_inline bool lb_same(const struct weft_addr *a, const struct weft_addr *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

/* Is it an address of IPv4? */
static __always_inline bool lb_mapped(const struct weft_addr *a)
{
	return !a->half[0] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline struct weft_lb_frontend *lb_frontend(const struct weft_addr *addr,
							    __be16 port, __u8 protocol)
{
	struct weft_lb_key key = {.addr = *addr, .port = port, .protocol = protocol};

	return bpf_map_lookup_elem(&weft_lb_frontends, &key);
}

static __always_inline bool lb_member(__u32 set, const struct weft_addr *addr, __be16 port)
{
	struct weft_lb_member key = {.addr = *addr, .set = set, .port = port};

	return bpf_map_lookup_elem(&weft_lb_members, &key);
}

/*
 * One of the frontend's backends. While a set shrinks, the count may be of a moment ago: a slot
 * that is gone is followed by another try, in the half that is written last to go.
 */
static __always_inline struct weft_lb_backend *lb_random(const struct weft_lb_frontend *fe)
{
	struct weft_lb_slot key = {.set = fe->set};
	__u32 count = fe->count, random = bpf_get_prandom_u32();
	struct weft_lb_backend *be;

	if (!count)
		return NULL;
	key.slot = random % count;
	be = bpf_map_lookup_elem(&weft_lb_backends, &key);
	if (be)
		return be;
	key.slot = random % (count / 2 + 1);
	be = bpf_map_lookup_elem(&weft_lb_backends, &key);
	if (be)
		return be;
	key.slot = 0;
	return bpf_map_lookup_elem(&weft_lb_backends, &key);
}
