/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Masquerading: what endpoints send to the world gets an address of the node and a port of a range
 * that nothing else on the node takes its ports from. The translated tuple is an entry of its own
 * in the tables of connections, an alias, that says whose the answers are. An alias is made before
 * its flow's entry and belongs to whoever could insert it, so no two flows ever have the same one.
 */

#include "conntrack.h"
#include "maps.h"
#include "rewrite.h"

#undef FILE_ID
#define FILE_ID FILE_NAT

#define NAT_TRIES 16

/* Too big for the stack of 6.1. */
struct nat_scratch {
	struct weft_ct_key key;	 /* an alias' */
	struct weft_ct_key flow; /* whose alias it is */
	struct weft_ct_entry entry;
	struct bpf_sock_tuple tuple;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_scratch);
	__uint(max_entries, 1);
} weft_nat_scratch SEC(".maps");

/* What an endpoint's packets to the world get as their source; NULL: they keep theirs. */
static __always_inline const struct weft_addr *nat_source(const struct flow *f,
							  const struct weft_eni *eni)
{
	const struct weft_addr *to = f->family == 4 ? &eni->masquerade : &eni->masquerade6;

	return addr_null(to) || addr_equal(to, &f->src) ? NULL : to;
}

/* An ICMP query has one id, which stands for both ports. */
static __always_inline bool nat_one_id(const struct flow *f)
{
	return f->protocol == IP_PROTO_ICMP || f->protocol == IP_PROTO_ICMPV6;
}

/* Can the flow get another port? ICMP that is no query has none. */
static __always_inline bool nat_has_port(const struct flow *f)
{
	if (nat_one_id(f))
		return (f->kind == FLOW_ERROR ? f->inner_kind : f->kind) == FLOW_QUERY;
	return rewrite_has_port(f->protocol);
}

/* May translation have given the port? A flow that keeps its own, or has none, may have any. */
static __always_inline bool nat_port_given(const struct weft_config *config, const struct flow *f,
					   __be16 port)
{
	__u16 p = bpf_ntohs(port);

	if (!nat_has_port(f))
		return true;
	return p >= config->masquerade_port_min && p <= config->masquerade_port_max;
}

/* The key that the flow's answers come back with. */
static __always_inline void nat_key(const struct flow *f, const struct weft_addr *to, __be16 port,
				    struct weft_ct_key *key)
{
	ct_key_make(key, &f->dst, nat_one_id(f) ? port : f->dport, to, port, f->protocol);
}

static __always_inline void nat_alias(struct weft_ct_entry *e, const struct flow *f,
				      __u32 generation, __u32 now)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->generation = generation;
	e->expires = now; /* it lives as long as its flow */
	e->created = now;
	e->flags = CT_ALIAS;
	e->side[0].slot = CT_NO_SLOT;
	e->side[1].slot = CT_NO_SLOT;
	e->nat_addr = f->src;
	e->nat_port = f->sport;
}

/* Does the flow live whose alias s->key is, if this side of it is the one that the flow has too? */
static __noinline bool nat_lives(struct nat_scratch *s, const struct weft_ct_entry *alias,
				 __u32 now, bool side)
{
	__be16 port = side ? s->key.port[1] : s->key.port[0];
	struct weft_ct_entry *e;
	bool established;

	if (alias->flags & CT_MIDDLE) {
		struct weft_addr frontend;

		ct_alias_frontend(alias, &frontend);
		ct_key_make(&s->flow, &frontend, alias->nat_eni, &alias->nat_addr, alias->nat_port,
			    s->key.protocol);
	} else {
		if (s->key.protocol == IP_PROTO_ICMP || s->key.protocol == IP_PROTO_ICMPV6)
			port = alias->nat_port; /* both ports are the id */
		ct_key_make(&s->flow, side ? &s->key.addr[1] : &s->key.addr[0], port,
			    &alias->nat_addr, alias->nat_port, s->key.protocol);
	}
	e = ct_find(&s->flow, &established);
	return e && e->generation == alias->generation && !ct_expired(e, now);
}

/* Is the alias in s->key that of a flow that has ended? */
static __always_inline bool nat_left(struct nat_scratch *s, const struct weft_ct_entry *alias,
				     __u32 now)
{
	const struct weft_config *config = config_get();

	/* Its flow's own entry may be about to be made. */
	if (!config || now - alias->created < config->jiffies_per_second)
		return false;
	return !nat_lives(s, alias, now, false) && !nat_lives(s, alias, now, true);
}

/*
 * Makes the alias in s, unless another flow has it. The table of established flows is looked at
 * last: an alias that moves there is in both for a moment, so it can't be missed.
 */
static __always_inline bool nat_take(struct nat_scratch *s, __u32 now)
{
	if (ct_put(&s->key, &s->entry, false)) {
		struct weft_ct_entry *other = ct_get(&s->key, false);
		__u32 generation;

		if (!other)
			return false;
		generation = other->generation;
		if (!(other->flags & CT_ALIAS) || !nat_left(s, other, now))
			return false;
		/* It stays until somebody wants it or the LRU evicts it. Who marks it has it. */
		if (__sync_val_compare_and_swap(&other->generation, generation,
						s->entry.generation) != generation)
			return false;
		ct_take_out(&s->key, false);
		if (ct_put(&s->key, &s->entry, false))
			return false;
	}
	if (ct_has_flags(&s->key) && ct_get(&s->key, true)) {
		ct_take_out(&s->key, false);
		return false;
	}
	return true;
}

/* Would the answers reach a socket of the host? */
static __always_inline bool nat_host_has(struct __sk_buff *skb, const struct flow *f,
					 const struct weft_addr *to, __be16 port,
					 struct bpf_sock_tuple *t)
{
	struct bpf_sock *sk;

	if (f->protocol != IP_PROTO_TCP && f->protocol != IP_PROTO_UDP)
		return false;
	if (f->family == 4) {
		t->ipv4.saddr = f->dst.word[3];
		t->ipv4.daddr = to->word[3];
		t->ipv4.sport = f->dport;
		t->ipv4.dport = port;
		sk = f->protocol == IP_PROTO_TCP
			     ? bpf_skc_lookup_tcp(skb, t, sizeof(t->ipv4), BPF_F_CURRENT_NETNS, 0)
			     : bpf_sk_lookup_udp(skb, t, sizeof(t->ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(t->ipv6.saddr, &f->dst, sizeof(f->dst));
		__builtin_memcpy(t->ipv6.daddr, to, sizeof(*to));
		t->ipv6.sport = f->dport;
		t->ipv6.dport = port;
		sk = f->protocol == IP_PROTO_TCP
			     ? bpf_skc_lookup_tcp(skb, t, sizeof(t->ipv6), BPF_F_CURRENT_NETNS, 0)
			     : bpf_sk_lookup_udp(skb, t, sizeof(t->ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* A source port to try; a flow that can't have another has its own. */
static __always_inline __be16 nat_candidate(const struct weft_config *config, const struct flow *f,
					    __u32 try, __u32 start)
{
	__u32 count = (__u32)config->masquerade_port_max - config->masquerade_port_min + 1;
	__u32 at;

	/* What a program chose for itself may matter to somebody: it is kept if it can be. */
	if (try == 0 && nat_port_given(config, f, f->sport))
		return f->sport;
	at = count <= NAT_TRIES ? start % NAT_TRIES +
	try : bpf_get_prandom_u32()
		;
	return bpf_htons((__u16)(config->masquerade_port_min + at % count));
}

/* What a try needs: verified once, as the body of a loop. */
struct nat_try {
	struct __sk_buff *skb;
	const struct flow *f;
	const struct weft_addr *to;
	__u32 start;
	__u32 now;
	__be16 port; /* out */
	bool taken;
};

static long nat_try(__u32 i, struct nat_try *t)
{
	const struct weft_config *config = config_get();
	struct nat_scratch *s;
	__u32 zero = 0;
	__be16 port;

	s = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	if (!s || !config)
		return 1;
	port = nat_candidate(config, t->f, i, t->start);
	if (nat_host_has(t->skb, t->f, t->to, port, &s->tuple))
		return 0;
	nat_key(t->f, t->to, port, &s->key);
	if (!nat_take(s, t->now))
		return 0;
	t->port = port;
	t->taken = true;
	return 1;
}

/*
 * Finds a port for a flow whose source becomes to, and enters the alias that is prepared in
 * weft_nat_scratch. Protocols whose port can't be another one (SCTP, whose checksum no helper
 * computes, and those without) get the address alone, if their tuple is free.
 */
static __always_inline bool nat_find(struct __sk_buff *skb, const struct flow *f,
				     const struct weft_addr *to, __u32 now, __be16 *port)
{
	struct nat_try t = {.skb = skb, .f = f, .to = to, .now = now};
	const struct weft_config *config = config_get();

	if (!config || config->masquerade_port_max < config->masquerade_port_min)
		return false;
	t.start = bpf_get_prandom_u32();
	bpf_loop(nat_has_port(f) ? NAT_TRIES : 1, nat_try, &t, 0);
	*port = t.port;
	return t.taken;
}

/* Chooses what the flow's source becomes and makes the alias. */
__noinline __u32 nat_choose(struct __sk_buff *skb, const struct flow *f, const struct weft_eni *eni,
			    struct ct_new *n)
{
	const struct weft_addr *to;
	struct nat_scratch *s;
	__u32 zero = 0, now = (__u32)bpf_jiffies64();
	__be16 port = 0;

	if (!f || !eni || !n)
		return DROP(REASON_NAT_NO_PORT);
	s = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	to = nat_source(f, eni);
	if (!s || !to)
		return DROP(REASON_NAT_NO_PORT);
	n->generation = bpf_get_prandom_u32() | 1;
	nat_alias(&s->entry, f, n->generation, now);
	if (!nat_find(skb, f, to, now, &port))
		return DROP(REASON_NAT_NO_PORT);
	n->flags |= CT_NAT;
	n->nat_addr = *to;
	n->nat_port = port;
	n->nat_eni = (__u16)eni->masquerade_eni;
	return REASON_FORWARDED;
}

/*
 * Looks after the alias of a flow that isn't in the table of established ones, at most once a
 * second: one that was evicted is made again. Another flow may have taken it meanwhile: then this
 * one ends, and its next packet begins another.
 */
__noinline __u32 nat_keep(const struct flow *f, struct weft_ct_entry *entry)
{
	__u32 zero = 0, now = (__u32)bpf_jiffies64();
	const struct weft_config *config = config_get();
	struct nat_scratch *s = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	struct weft_ct_entry *alias;

	if (!f || !entry || !s || !config || now - entry->created < config->jiffies_per_second ||
	    now - entry->nat_seen < config->jiffies_per_second)
		return REASON_FORWARDED;
	entry->nat_seen = now;
	nat_key(f, &entry->nat_addr, entry->nat_port, &s->key);
	alias = ct_get(&s->key, false);
	if (alias && alias->generation == entry->generation)
		return REASON_FORWARDED;
	nat_alias(&s->entry, f, entry->generation, now);
	if (nat_take(s, now))
		return REASON_FORWARDED;
	entry->expires = now;
	return DROP(REASON_NAT_NO_PORT);
}

/* From an endpoint to the world: the source becomes the node's. */
static __always_inline __u32 nat_out(struct __sk_buff *skb, const struct flow *f,
				     struct weft_ct_entry *entry)
{
	__u32 code;

	/*
	 * ICMP that is no query has the key of the query with id 0, and no place for the id that
	 * this one got: what it would become may be another flow's.
	 */
	if (nat_one_id(f) && !nat_has_port(f) && f->sport != entry->nat_port)
		return DROP(REASON_NAT_NO_PORT);
	/* Nothing evicts those. */
	if (!(entry->flags & CT_ESTABLISHED)) {
		code = nat_keep(f, entry);
		if (code != REASON_FORWARDED)
			return code;
	}
	return rewrite(skb, f, REWRITE_SOURCE, &entry->nat_addr, entry->nat_port);
}

/* From the world to an endpoint: alias is what the packet's tuple was found as. */
static __always_inline __u32 nat_in(struct __sk_buff *skb, struct flow *f,
				    const struct weft_ct_entry *alias)
{
	__u32 code = rewrite(skb, f, REWRITE_DEST, &alias->nat_addr, alias->nat_port);

	f->dst = alias->nat_addr;
	f->dport = alias->nat_port;
	if (nat_one_id(f))
		f->sport = alias->nat_port;
	return code;
}

/*
 * The host's own packet, with an address that pods are translated to: would its answer be taken for
 * a pod's? Only a program that binds to a port of the range can ask for that, after a pod was given
 * it; of TCP what begins a connection is looked at. Headers with options are the host's business.
 */
static __noinline bool nat_answer_is_pods(struct __sk_buff *skb, const struct weft_config *config,
					  bool six)
{
	struct ct_hit hit; /* one for both: the stack of 6.1 is short */
	struct flow f = {};
	__be16 head[8] = {};
	void *start;

	start = packet_head(skb, six ? IPV6_END : IPV4_END);
	if (!start)
		return false;
	if (six) {
		struct ipv6 *ip = start + NETWORK_OFFSET;

		addr_set6(&f.src, ip->dst);
		addr_set6(&f.dst, ip->src);
		f.protocol = ip->next;
		f.family = 6;
		f.l4 = IPV6_END;
	} else {
		struct ipv4 *ip = start + NETWORK_OFFSET;

		if ((ip->version_ihl & 0x0f) != 5 ||
		    ip->fragment & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS))
			return false;
		addr_set4(&f.src, ip->dst);
		addr_set4(&f.dst, ip->src);
		f.protocol = ip->protocol;
		f.family = 4;
		f.l4 = IPV4_END;
	}
	if (bpf_skb_load_bytes(skb, f.l4, head, f.protocol == IP_PROTO_TCP ? 16 : 8))
		return false;
	switch (f.protocol) {
	case IP_PROTO_TCP:
		if (!tcp_begins(bpf_ntohs(head[6]) & 0xff))
			return false;
		/* fall through */
	case IP_PROTO_UDP:
		f.sport = head[1];
		f.dport = head[0];
		break;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		if (bpf_ntohs(head[0]) >> 8 != (six ? 128 : 8))
			return false;
		f.kind = FLOW_QUERY;
		f.sport = f.dport = head[2];
		break;
	default:
		return false;
	}
	if (!nat_port_given(config, &f, f.dport) || !ct_lookup(&f, &hit) ||
	    !(hit.entry->flags & CT_ALIAS))
		return false;
	return ct_lookup_primary(&f, &hit, &hit);
}
