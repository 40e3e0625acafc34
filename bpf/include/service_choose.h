/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "conntrack.h"
#include "lb.h"

/*
 * Which frontend a packet is for and which of its backends the client gets: by affinity, by the
 * hash of the flow, else at random. Needs no packet, so what is found is left in a scratch.
 */

/* weft_lb_clients, an LRU: which backend who keeps its own has. */
struct weft_lb_keeper {
	struct weft_addr addr;
	__u32 set;
	__u32 reserved;
};

struct weft_lb_kept {
	struct weft_lb_backend backend;
	__u64 used; /* CLOCK_MONOTONIC, ns */
};

#define LB_KEEPERS 65536

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_lb_keeper);
	__type(value, struct weft_lb_kept);
	__uint(max_entries, LB_KEEPERS);
} weft_lb_clients SEC(".maps");

/* Too big for the stack of 6.1. */
struct service_scratch {
	struct weft_lb_key key;
	struct weft_lb_frontend frontend;
	struct weft_lb_backend backend;
	struct weft_lb_slot slot;
	struct weft_lb_member member;
	struct weft_lb_range range;
	struct weft_lb_keeper keeper;
	struct weft_lb_kept kept;
	struct weft_addr frontend_addr; /* of the packet that is looked at */
	__be16 frontend_port;
	__u16 reserved[3];
	struct ct_new begun;	  /* of a flow whose client is translated, too, */
	struct weft_ct_key tuple; /* and its key */
	__u32 side;
	__u32 reserved1;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct service_scratch);
	__uint(max_entries, 1);
} weft_lb_scratch SEC(".maps");

static __always_inline struct service_scratch *service_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weft_lb_scratch, &zero);
}

/* How a frontend is looked for. */
#define SERVICE_OUTSIDE (1u << 0) /* the client comes in by an ENI */
#define SERVICE_OWN (1u << 1)	  /* the destination is the node's own */

/* What service_find found. */
#define SERVICE_NONE 0
#define SERVICE_FOUND 1

/* A frontend that serves this kind of client; the scratch has it then. */
static __always_inline int service_frontend(struct service_scratch *s, const struct flow *f,
					    const struct weft_lb_config *config, __u32 how)
{
	struct weft_lb_frontend *fe;

	__builtin_memset(&s->key, 0, sizeof(s->key));
	s->key.addr = f->dst;
	s->key.port = f->dport;
	s->key.protocol = f->protocol;
	fe = bpf_map_lookup_elem(&weft_lb_frontends, &s->key);
	if (!fe && how & SERVICE_OWN) {
		if (f->family == 4)
			s->key.addr.word[3] = 0;
		else
			__builtin_memset(&s->key.addr, 0, sizeof(s->key.addr));
		fe = bpf_map_lookup_elem(&weft_lb_frontends, &s->key);
	}
	if (!fe)
		return SERVICE_NONE;
	if (fe->flags & (LB_OUTSIDE | LB_OUTSIDE_OWN)) {
		if (!(config->flags & LB_NORTH_SOUTH))
			return SERVICE_NONE;
	} else if (how & SERVICE_OUTSIDE) {
		return SERVICE_NONE; /* the cluster's alone */
	}
	if (how & SERVICE_OUTSIDE && fe->flags & LB_OUTSIDE_OWN) {
		s->key.scope = LB_SCOPE_OUTSIDE;
		fe = bpf_map_lookup_elem(&weft_lb_frontends, &s->key);
		if (!fe)
			return SERVICE_NONE;
	}
	s->frontend = *fe;
	return SERVICE_FOUND;
}

/* Is the client one of those that the frontend in the scratch is for? */
static __always_inline bool service_allows(struct service_scratch *s, const struct flow *f)
{
	if (!(s->frontend.flags & LB_RANGES))
		return true;
	s->range.prefixlen = LB_RANGE_FIXED_BITS + 128;
	s->range.set = s->frontend.set;
	s->range.addr = f->src;
	return bpf_map_lookup_elem(&weft_lb_ranges, &s->range);
}

static __always_inline __u32 service_mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

/* The same for a flow on every node, whatever address it comes to. */
static __always_inline __u32 service_hash(const struct flow *f, bool ports)
{
	__u32 hash = service_mix(f->protocol, f->dport);

#pragma unroll
	for (int i = 0; i < 4; i++)
		hash = service_mix(hash, f->src.word[i]);
	return ports ? service_mix(hash, f->sport) : hash;
}

static __always_inline struct weft_lb_backend *service_maglev(struct service_scratch *s,
							      const struct flow *f)
{
	__u32 set = s->frontend.set, at = 0, hash;
	__u64 *size, *word;
	void *table;

	table = bpf_map_lookup_elem(&weft_lb_maglev, &set);
	if (!table)
		return NULL;
	size = bpf_map_lookup_elem(table, &at);
	if (!size || !(__u32)*size)
		return NULL;
	hash = service_hash(f, !(s->frontend.flags & LB_AFFINITY)) % (__u32)*size;
	at = 1 + hash / 4;
	word = bpf_map_lookup_elem(table, &at);
	if (!word)
		return NULL;
	s->slot.set = set;
	s->slot.slot = *word >> 16 * (hash & 3) & 0xffff;
	return bpf_map_lookup_elem(&weft_lb_backends, &s->slot);
}

static __always_inline bool service_member(struct service_scratch *s, const struct weft_addr *addr,
					   __be16 port)
{
	__builtin_memset(&s->member, 0, sizeof(s->member));
	s->member.addr = *addr;
	s->member.set = s->frontend.set;
	s->member.port = port;
	return bpf_map_lookup_elem(&weft_lb_members, &s->member);
}

/* A backend of the frontend in the scratch, for this client: it is there afterwards. */
__noinline int service_choose(const struct flow *f)
{
	struct service_scratch *s = service_scratch();
	struct weft_lb_backend *be = NULL;
	struct weft_lb_kept *kept;
	__u64 now = 0;

	if (!f || !s)
		return false;
	if (s->frontend.flags & LB_AFFINITY) {
		__builtin_memset(&s->keeper, 0, sizeof(s->keeper));
		s->keeper.addr = f->src;
		s->keeper.set = s->frontend.set;
		now = bpf_ktime_get_ns();
		kept = bpf_map_lookup_elem(&weft_lb_clients, &s->keeper);
		if (kept && now - kept->used < (__u64)s->frontend.affinity * 1000000000ull &&
		    service_member(s, &kept->backend.addr, kept->backend.port)) {
			kept->used = now;
			s->backend = kept->backend;
			return true;
		}
	}
	if (s->frontend.flags & LB_MAGLEV)
		be = service_maglev(s, f);
	if (!be)
		be = lb_random(&s->frontend);
	if (!be)
		return false;
	s->backend = *be;
	if (s->frontend.flags & LB_AFFINITY) {
		s->kept.backend = s->backend;
		s->kept.used = now;
		bpf_map_update_elem(&weft_lb_clients, &s->keeper, &s->kept, BPF_ANY);
	}
	return true;
}
