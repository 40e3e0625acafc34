/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

/*
 * Services: which frontend has which backends, and how one of them is chosen. Mirrored in
 * internal/socklb.
 */

#define LB_REFUSE (1u << 0)   /* without a backend: refused at once, not left to the stack */
#define LB_MEMBERS (1u << 1)  /* weft_lb_members has the set's backends */
#define LB_AFFINITY (1u << 2) /* a client keeps its backend for so many seconds of idleness */

/* weft_lb_frontends. */
struct weft_lb_key {
	struct weft_addr addr;
	__be16 port;
	__u8 protocol;
	__u8 reserved[5];
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

/* weft_lb_affinity, an LRU: which backend a client has, a client being a network namespace. */
struct weft_lb_client {
	__u64 netns; /* cookie */
	__u32 set;
	__u32 reserved;
};

struct weft_lb_choice {
	struct weft_lb_backend backend;
	__u64 used; /* CLOCK_MONOTONIC, ns */
};

#define LB_SOCKET_PEERS 4

/* What an address that a socket was given stands for. */
struct weft_lb_peer {
	struct weft_addr frontend;
	struct weft_addr backend;
	__be16 frontend_port;
	__be16 backend_port;
	__u32 set;
	__u32 used; /* weft_lb_socket.uses when it last was; 0: never */
	__u32 reserved;
};

/* weft_lb_sockets, with the socket: the last translations of it. */
struct weft_lb_socket {
	struct weft_lb_peer peer[LB_SOCKET_PEERS];
	__u32 uses;
	__u32 reserved;
};

#define LB_HOST (1u << 0) /* sockets of the node's own namespace are translated, too */

/* weft_lb_config[0]. */
struct weft_lb_config {
	__u64 host; /* cookie of the node's own network namespace */
	__u32 flags;
	__u32 epoch; /* of the agent that may write */
	/* CLOCK_MONOTONIC, ns: until then the tables are as good as kube-proxy's rules */
	__u64 fresh;
};

enum weft_lb_outcome {
	LB_TRANSLATED = 0,
	LB_KEPT = 1,	   /* a datagram to the backend that the socket had */
	LB_REFUSED = 2,	   /* no backend */
	LB_LEFT = 3,	   /* no backend, and the stack has the answer */
	LB_INCOMPLETE = 4, /* the frontend's backends were being written: left to the stack */
	LB_REVERSED = 5,   /* a backend's address was told as the frontend's */
	LB_STALE = 6,	   /* no agent looks after the tables: left to the stack */
	LB_OUTCOMES = 8,
};

#define LB_FRONTENDS 65536
#define LB_BACKENDS 262144
#define LB_CLIENTS 65536

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
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_lb_client);
	__type(value, struct weft_lb_choice);
	__uint(max_entries, LB_CLIENTS);
} weft_lb_affinity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct weft_lb_socket);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_lb_config);
	__uint(max_entries, 1);
} weft_lb_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, LB_OUTCOMES);
} weft_lb_outcomes SEC(".maps");

static __always_inline void lb_count(__u32 outcome)
{
	__u64 *n = bpf_map_lookup_elem(&weft_lb_outcomes, &outcome);

	if (n)
		(*n)++;
}

static __always_inline bool lb_same(const struct weft_addr *a, const struct weft_addr *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
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

/* The backend for a client, the one that it has if it keeps it. */
static __always_inline bool lb_choose(const struct weft_lb_frontend *fe, __u64 client,
				      struct weft_lb_backend *out)
{
	struct weft_lb_client key = {.netns = client, .set = fe->set};
	struct weft_lb_choice made = {};
	struct weft_lb_backend *be;

	if (fe->flags & LB_AFFINITY) {
		struct weft_lb_choice *had = bpf_map_lookup_elem(&weft_lb_affinity, &key);
		__u64 now = bpf_ktime_get_ns();

		if (had && now - had->used < (__u64)fe->affinity * 1000000000ull &&
		    lb_member(fe->set, &had->backend.addr, had->backend.port)) {
			had->used = now;
			*out = had->backend;
			return true;
		}
		made.used = now;
	}
	be = lb_random(fe);
	if (!be)
		return false;
	*out = *be;
	if (fe->flags & LB_AFFINITY) {
		made.backend = *be;
		bpf_map_update_elem(&weft_lb_affinity, &key, &made, BPF_ANY);
	}
	return true;
}
