/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "lb.h"

/* What the programs of sockets remember of services, and count. */

#define LB_CLIENTS 65536

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

/*
 * weft_lb_connected, an LRU: sockets of datagrams that were connected to a backend, by their
 * cookies. No hook sees what they send: the agent ends those whose backend is gone.
 */
struct weft_lb_connection {
	struct weft_addr backend;
	__u32 set;
	__be16 port;
	__u16 reserved;
};

enum weft_lb_outcome {
	LB_TRANSLATED = 0,
	LB_KEPT = 1,	   /* a datagram to the backend that the socket had */
	LB_REFUSED = 2,	   /* no backend */
	LB_LEFT = 3,	   /* no backend, and the stack has the answer */
	LB_INCOMPLETE = 4, /* the frontend's backends were being written: left to the stack */
	LB_REVERSED = 5,   /* a backend's address was told as the frontend's */
	LB_STALE = 6,	   /* no agent looks after the tables: left to the stack */
	LB_GUARDED = 7,	   /* a socket that was to be bound to a node port */
	LB_OUTCOMES = 8,
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_lb_client);
	__type(value, struct weft_lb_choice);
	__uint(max_entries, LB_CLIENTS);
} weft_lb_affinity SEC(".maps");

#define LB_CONNECTED 16384

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, struct weft_lb_connection);
	__uint(max_entries, LB_CONNECTED);
} weft_lb_connected SEC(".maps");

#define LB_OWN 4096

/* The node's own addresses: frontends of address 0 are reached there. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_addr);
	__type(value, __u32);
	__uint(max_entries, LB_OWN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct weft_lb_socket);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_lb_sockets SEC(".maps");

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
