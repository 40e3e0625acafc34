/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <stdbool.h>

#include "ct_begin.h"
#include "ct_table.h"
#include "event.h"
#include "flow.h"
#include "maps.h"
#include "reason.h"
#include "ring.h"
#include "tcp_state.h"

/*
 * Connection tracking. Hooks run with bottom halves off, and so does the timer, so on one CPU
 * nothing comes between.
 */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_ct_stats);
	__uint(max_entries, 2);
} weft_ct_stats SEC(".maps");

/* An entry that is being made: too big for the stack of 6.1. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_ct_entry);
	__uint(max_entries, 1);
} weft_ct_scratch SEC(".maps");

/* What ct_lookup found. */
struct ct_hit {
	struct weft_ct_entry *entry;
	/* The endpoint of this node that the packet goes to, if the entry names one. */
	struct weft_endpoint *to;
	struct weft_ct_key key;
	__u32 now;	  /* jiffies */
	__u8 side;	  /* the sender's */
	bool established; /* entry is in weft_ct_est */
	bool stale;	  /* there is an entry, but it counts as none: ct_create replaces it */
};

/* What ct_create needs to know, as the sender sees it. */
struct ct_new {
	__u16 flags;
	__u16 from_slot; /* of the sender, if it is an endpoint of this node; else CT_NO_SLOT */
	__u16 to_slot;
	__u16 nat_eni;
	__u32 from_generation;
	__u32 to_generation;
	__u32 class;
	/* CT_NAT: the alias' generation, which the entry then has too; 0: any. */
	__u32 generation;
	struct weft_addr nat_addr;
	__be16 nat_port;
	__u16 reserved[3];
};

/* Where ct_insert has put an entry. */
#define CT_IN_NONE (-1)
#define CT_IN_NEW 0
#define CT_IN_EST 1

#define CT_COUNT(field)                                                                            \
	do {                                                                                       \
		__u32 zero_ = 0;                                                                   \
		struct weft_ct_stats *stats_ = bpf_map_lookup_elem(&weft_ct_stats, &zero_);        \
		if (stats_)                                                                        \
			stats_->field++;                                                           \
	} while (0)

/* Writes the normalised key and returns the side of the first address. */
static __always_inline __u8 ct_key_make(struct weft_ct_key *key, const struct weft_addr *from,
					__be16 from_port, const struct weft_addr *to,
					__be16 to_port, __u8 protocol)
{
	bool above;

	if (from->half[0] != to->half[0])
		above = from->half[0] > to->half[0];
	else if (from->half[1] != to->half[1])
		above = from->half[1] > to->half[1];
	else
		above = from_port > to_port;
	key->protocol = protocol;
	key->reserved = 0;
	key->zone = 0;
	if (above) {
		key->addr[0] = *to;
		key->addr[1] = *from;
		key->port[0] = to_port;
		key->port[1] = from_port;
		return 1;
	}
	key->addr[0] = *from;
	key->addr[1] = *to;
	key->port[0] = from_port;
	key->port[1] = to_port;
	return 0;
}

static __always_inline bool ct_expired(const struct weft_ct_entry *e, __u32 now)
{
	return (__s32)(now - e->expires) >= 0;
}

/*
 * The endpoint in a slot, if it still is the one that the entry was made for. A generation is the
 * address', so the address must be the same too.
 */
static __always_inline struct weft_endpoint *ct_endpoint(const struct weft_ct_side *side,
							 const struct weft_addr *addr)
{
	__u32 slot = side->slot;
	struct weft_endpoint *ep = bpf_map_lookup_elem(&weft_endpoints, &slot);
	const struct weft_addr *own;

	if (!ep || !(ep->flags & ENDPOINT_VALID) || ep->generation != side->generation)
		return NULL;
	own = addr->half[0] ? &ep->addr6 : &ep->addr;
	return addr_equal(own, addr) ? ep : NULL;
}

/* The state of an entry that has one. SCTP may begin on a path that has seen no INIT. */
static __always_inline enum tcp_state ct_state(const struct weft_ct_key *key,
					       const struct weft_ct_entry *e)
{
	return tcp_state(e->side[0].tcp, e->side[1].tcp,
			 e->flags & CT_MIDSTREAM || key->protocol == IP_PROTO_SCTP);
}

/* The address of an endpoint on a side: of a service that is translated twice the backend's. */
static __always_inline const struct weft_addr *
ct_side_addr(const struct weft_ct_entry *e, const struct weft_ct_key *key, const __u8 side)
{
	return e->flags & CT_MIDDLE && e->origin != side ? &e->nat_addr : &key->addr[side];
}

/* Was the entry made for an endpoint that is gone since? Fills to with the endpoint of to_side. */
static __always_inline bool ct_stale(const struct weft_ct_entry *e, const struct weft_ct_key *key,
				     __u8 to_side, struct weft_endpoint **to)
{
	struct weft_endpoint *ep;

	if (e->side[0].slot != CT_NO_SLOT) {
		ep = ct_endpoint(&e->side[0], ct_side_addr(e, key, 0));
		if (!ep)
			return true;
		if (to_side == 0)
			*to = ep;
	}
	if (e->side[1].slot != CT_NO_SLOT) {
		ep = ct_endpoint(&e->side[1], ct_side_addr(e, key, 1));
		if (!ep)
			return true;
		if (to_side == 1)
			*to = ep;
	}
	return false;
}

static __always_inline bool ct_has_flags(const struct weft_ct_key *key)
{
	return key->protocol == IP_PROTO_TCP || key->protocol == IP_PROTO_SCTP;
}

/* A SYN on what was closed, or wasn't seen to begin, begins anew. */
static __always_inline bool ct_begins_anew(const struct flow *f, const struct weft_ct_entry *e)
{
	return tcp_begins(f->tcp) && f->kind == FLOW_PLAIN && f->fragment != FRAGMENT_LATER &&
	       (e->flags & CT_MIDSTREAM || tcp_closed(e->side[0].tcp, e->side[1].tcp));
}

/* The entry of a key, and the table it is in. */
static __always_inline struct weft_ct_entry *ct_find(const struct weft_ct_key *key,
						     bool *established)
{
	struct weft_ct_entry *e = NULL;

	if (ct_has_flags(key))
		e = ct_get(key, true);
	*established = !!e;
	return e ? e : ct_get(key, false);
}

/* What an entry says of one of its sides. */
static __always_inline struct weft_ct_side *ct_side(struct weft_ct_entry *e, __u8 side)
{
	return side ? &e->side[1] : &e->side[0];
}

/* An alias has no life of its own: whether its flow lives is asked with ct_lookup_primary. */
static __always_inline bool ct_lookup(const struct flow *f, struct ct_hit *hit)
{
	struct weft_ct_entry *e;

	hit->side = ct_key_make(&hit->key, &f->src, f->sport, &f->dst, f->dport, f->protocol);
	hit->now = bpf_jiffies64();
	hit->to = NULL;
	hit->stale = false;
	e = ct_find(&hit->key, &hit->established);
	hit->entry = e;
	if (!e)
		return false;
	if (e->flags & CT_ALIAS)
		return true;
	if (ct_expired(e, hit->now) || ct_stale(e, &hit->key, !hit->side, &hit->to)) {
		hit->stale = true;
		return false;
	}
	if (ct_has_flags(&hit->key) && ct_begins_anew(f, e)) {
		/* The translation of a flow outlives it, in the direction that it was made for. */
		if (e->flags & CT_NAT)
			return true;
		hit->stale = true;
		return false;
	}
	return true;
}

/* Which frontend an alias with CT_MIDDLE is of. */
static __always_inline void ct_alias_frontend(const struct weft_ct_entry *alias,
					      struct weft_addr *to)
{
	to->half[0] = alias->side[0].packets;
	to->half[1] = alias->side[0].bytes;
}

static __always_inline void ct_alias_set_frontend(struct weft_ct_entry *alias,
						  const struct weft_addr *from)
{
	alias->side[0].packets = from->half[0];
	alias->side[0].bytes = from->half[1];
}

/* What a client becomes that is translated, too. */
static __always_inline const struct weft_addr *ct_middle_addr(const struct weft_config *config,
							      const struct weft_addr *backend)
{
	return addr_mapped(backend) ? &config->node_addr : &config->node_addr6;
}

/*
 * The alias of an entry that has one. One end of it is the entry's: of a masqueraded flow the one
 * that didn't begin, of a service's the client.
 */
static __always_inline void ct_alias_key(const struct weft_ct_key *key,
					 const struct weft_ct_entry *e, struct weft_ct_key *alias)
{
	bool side = e->flags & CT_SERVICE ? e->origin : !e->origin;
	__be16 port = side ? key->port[1] : key->port[0];

	if (e->flags & CT_MIDDLE) {
		const struct weft_config *config = config_get();

		if (config)
			ct_key_make(alias, ct_middle_addr(config, &e->nat_addr), e->nat_eni,
				    &e->nat_addr, e->nat_port, key->protocol);
		else
			*alias = *key;
		return;
	}
	if (key->protocol == IP_PROTO_ICMP || key->protocol == IP_PROTO_ICMPV6)
		port = e->nat_port; /* both ports are the id */
	ct_key_make(alias, side ? &key->addr[1] : &key->addr[0], port, &e->nat_addr, e->nat_port,
		    key->protocol);
}

/*
 * A packet that is of a translated flow by its alias, which is the hit of the packet as it came;
 * hit becomes that of the flow, whose sender is the same: an answer, or what a service's client
 * sends. False: the flow is gone, and so the alias is as good as none.
 */
static __always_inline bool ct_lookup_primary(const struct flow *f, const struct ct_hit *alias,
					      struct ct_hit *hit)
{
	struct weft_ct_entry *a = alias->entry;
	__be16 own = a->nat_port;
	__be16 remote = f->sport;
	struct weft_addr frontend;
	struct weft_ct_entry *e;
	bool middle = a->flags & CT_MIDDLE;

	if (f->kind != FLOW_PLAIN &&
	    (f->protocol == IP_PROTO_ICMP || f->protocol == IP_PROTO_ICMPV6))
		remote = own; /* both ports are the id */
	if (middle) {
		ct_alias_frontend(a, &frontend);
		hit->side = ct_key_make(&hit->key, &frontend, a->nat_eni, &a->nat_addr, own,
					f->protocol);
	} else {
		hit->side = ct_key_make(&hit->key, &f->src, remote, &a->nat_addr, own, f->protocol);
	}
	hit->now = alias->now;
	hit->to = NULL;
	hit->stale = false;
	e = ct_find(&hit->key, &hit->established);
	hit->entry = e;
	if (!e || e->generation != a->generation || ct_expired(e, hit->now))
		return false;
	/* The backend's doing, and not of who has the node's address. */
	if (middle && (e->nat_port != f->sport || !addr_equal(&e->nat_addr, &f->src)))
		return false;
	return !ct_stale(e, &hit->key, !hit->side, &hit->to);
}

/*
 * What isn't static is looked at by the verifier once, and not once for each way that leads there.
 */
__noinline int ct_alias_delete(const struct weft_ct_key *key, const struct weft_ct_entry *e)
{
	struct weft_ct_key alias;
	struct weft_ct_entry *a;

	if (!key || !e)
		return 0;
	ct_alias_key(key, e, &alias);
	a = ct_get(&alias, true);
	if (a && a->generation == e->generation && !ct_take_out(&alias, true))
		CT_COUNT(removed);
	a = ct_get(&alias, false);
	if (a && a->generation == e->generation)
		ct_take_out(&alias, false);
	return 0;
}

/* Tells once that the flow has ended, though its entry may live on for its last packets. */
static __always_inline void ct_closed(const struct weft_ct_key *key, struct weft_ct_entry *e)
{
	if (e->told & CT_TOLD_CLOSED)
		return;
	e->told |= CT_TOLD_CLOSED;
	event_close(key, e);
}

/* Removes an entry and its alias, and tells what its flow has sent. */
static __always_inline void ct_remove(const struct weft_ct_key *key, struct weft_ct_entry *e,
				      bool established)
{
	ct_closed(key, e);
	if (e->flags & CT_TRANSLATED)
		ct_alias_delete(key, e);
	if (established) {
		beginning_leave(e);
		if (!ct_take_out(key, true))
			CT_COUNT(removed);
	} else {
		ct_take_out(key, false);
	}
}

static __always_inline void ct_delete(struct ct_hit *hit)
{
	if (hit->entry)
		ct_remove(&hit->key, hit->entry, hit->established);
	hit->entry = NULL;
}

/* How long an entry lives after its last packet. */
static __always_inline __u32 ct_lifetime(const struct weft_config *config,
					 const struct weft_ct_key *key,
					 const struct weft_ct_entry *e)
{
	__u32 which;

	if (ct_has_flags(key))
		switch (ct_state(key, e)) {
		case TCP_ESTABLISHED:
			which = LIFETIME_TCP;
			break;
		case TCP_CLOSED:
			which = LIFETIME_FIN;
			break;
		default:
			which = LIFETIME_SYN;
		}
	else
		which = e->flags & CT_STACK ? LIFETIME_STACK : LIFETIME_ANY;
	return config->lifetime[which];
}

/* Has the timer look at an entry of weft_ct_new. */
static __always_inline void ct_watch(const struct weft_config *config,
				     const struct weft_ct_key *key, struct weft_ct_entry *e,
				     __u32 now)
{
	if (!ring_push(CT_RING_NEW, key, e->generation, now + ring_wait(config, CT_RING_NEW),
		       RING_RESERVE))
		CT_COUNT(unwatched);
}

/* Enters a flow where established ones are; CT_IN_NEW: it has to begin there. */
static __always_inline int ct_enter(const struct weft_config *config, const struct weft_ct_key *key,
				    struct weft_ct_entry *e, __u32 now)
{
	long err;

	if (!beginning_enter())
		return CT_IN_NEW;
	e->flags |= CT_ESTABLISHED | CT_BEGINNING;
	err = ct_put(key, e, true);
	if (!err) {
		if (ring_push(CT_RING_EST, key, e->generation, now + ring_wait(config, CT_RING_EST),
			      RING_RESERVE)) {
			CT_COUNT(inserted);
			return CT_IN_EST;
		}
		ct_take_out(key, true);
	}
	beginning_cancel();
	e->flags &= ~(CT_ESTABLISHED | CT_BEGINNING);
	/* Another CPU may have made it meanwhile: what its packet said must not be lost. */
	return err == -EEXIST ? CT_IN_NONE : CT_IN_NEW;
}

/*
 * Writes the entry in weft_ct_scratch and puts it into a table: CT_IN_EST or CT_IN_NEW. side is the
 * sender's.
 */
__noinline int ct_insert(const struct flow *f, const struct weft_ct_key *tuple,
			 const struct ct_new *n, __u32 side, __u32 now)
{
	struct weft_ct_key own, *key = &own; /* 6.1 takes no key from a caller's memory */
	struct weft_config *config = config_get();
	struct weft_ct_entry *e;
	int in = CT_IN_NEW;
	__u32 zero = 0;

	e = bpf_map_lookup_elem(&weft_ct_scratch, &zero);
	if (!e || !config || !f || !tuple || !n)
		return CT_IN_NONE;
	own = *tuple;
	__builtin_memset(e, 0, sizeof(*e));
	e->generation = n->generation ? n->generation : bpf_get_prandom_u32() | 1;
	e->flags = n->flags & ~(CT_ESTABLISHED | CT_NO_PROMOTION | CT_ALIAS);
	e->origin = (__u8)side;
	e->class = n->class;
	e->nat_addr = n->nat_addr;
	e->nat_port = n->nat_port;
	e->nat_eni = n->nat_eni;
	e->created = now;
	if (side) {
		e->side[1].slot = n->from_slot;
		e->side[1].generation = n->from_generation;
		e->side[0].slot = n->to_slot;
		e->side[0].generation = n->to_generation;
		e->side[1].packets = 1;
		e->side[1].bytes = f->length;
		e->side[1].tcp = f->tcp;
	} else {
		e->side[0].slot = n->from_slot;
		e->side[0].generation = n->from_generation;
		e->side[1].slot = n->to_slot;
		e->side[1].generation = n->to_generation;
		e->side[0].packets = 1;
		e->side[0].bytes = f->length;
		e->side[0].tcp = f->tcp;
	}
	e->expires = now + ct_lifetime(config, key, e);
	/* An alias is in the same table as its flow, and begins in the LRU. */
	if (ct_has_flags(key) && !(n->flags & CT_TRANSLATED))
		in = ct_enter(config, key, e, now);
	if (in == CT_IN_NEW) {
		if (key->protocol != IP_PROTO_TCP || n->flags & CT_TRANSLATED)
			ct_watch(config, key, e, now);
		if (ct_put(key, e, false))
			in = CT_IN_NONE;
	}
	if (in == CT_IN_NONE) {
		CT_COUNT(failed);
		return in;
	}
	CT_COUNT(created);
	event_new(key, e);
	return in;
}

/*
 * Makes the entry of a flow that ct_lookup had none for, and counts its first packet. The entry
 * that hit then has is for reading. Not 0: there is none.
 */
static __always_inline int ct_create(const struct flow *f, struct ct_hit *hit,
				     const struct ct_new *n)
{
	__u32 zero = 0;
	int in;

	if (hit->stale && hit->entry) {
		ct_closed(&hit->key, hit->entry);
		ct_remove(&hit->key, hit->entry, hit->established);
		CT_COUNT(replaced);
	}
	hit->stale = false;
	hit->entry = bpf_map_lookup_elem(&weft_ct_scratch, &zero);
	in = ct_insert(f, &hit->key, n, hit->side, hit->now);
	hit->established = in == CT_IN_EST;
	return in == CT_IN_NONE;
}

/*
 * Moves a flow to the table of established ones, with its alias. The alias goes first and leaves
 * last: whoever looks for it finds it in one of the tables.
 */
__noinline int ct_promote(const struct weft_ct_key *tuple, __u32 now)
{
	struct weft_ct_key own, *key = &own; /* 6.1 takes no key from a caller's memory */
	struct weft_config *config = config_get();
	struct weft_ct_key alias;
	struct weft_ct_entry *a, *e;
	bool translated;
	long err;

	if (!tuple || !config)
		return false;
	own = *tuple;
	e = ct_get(key, false);
	/* It was evicted meanwhile. */
	if (!e)
		return true;
	translated = e->flags & CT_TRANSLATED;
	e->flags |= CT_ESTABLISHED;
	e->flags &= ~CT_NO_PROMOTION;
	if (translated) {
		ct_alias_key(key, e, &alias);
		a = ct_get(&alias, false);
		if (!a || a->generation != e->generation || ct_put(&alias, a, true))
			goto full;
	}
	err = ct_put(key, e, true);
	if (err == -EEXIST)
		goto other; /* another CPU is at it, with the other side's packet */
	if (err)
		goto full_alias;
	/* What isn't in the ring would never leave. */
	if (!ring_push(CT_RING_EST, key, e->generation, now + ring_wait(config, CT_RING_EST),
		       RING_RESERVE)) {
		ct_take_out(key, true);
		goto full_alias;
	}
	if (translated) {
		ct_take_out(&alias, false);
		CT_COUNT(inserted);
	}
	ct_take_out(key, false);
	CT_COUNT(promoted);
	CT_COUNT(inserted);
other:
	return true;
full_alias:
	if (translated)
		ct_take_out(&alias, true);
full:
	e->flags &= ~CT_ESTABLISHED;
	/* Every packet would try again; as it is, one does each second. */
	e->flags |= CT_NO_PROMOTION;
	CT_COUNT(full);
	return false;
}

/* A packet that changes what is known of its flow, or may do so. */
static __noinline int ct_advance(const struct weft_config *config, const struct flow *f,
				 struct ct_hit *hit)
{
	struct weft_ct_entry *e = hit->entry;
	__u8 a = e->side[0].tcp, b = e->side[1].tcp;

	switch (ct_state(&hit->key, e)) {
	case TCP_ESTABLISHED:
		if (hit->established) {
			if (beginning_leave(e))
				CT_COUNT(promoted);
			break;
		}
		if (!ct_promote(&hit->key, hit->now))
			return REASON_NOTE_CT_FULL;
		e = ct_get(&hit->key, true);
		if (e) {
			hit->entry = e;
			hit->established = true;
		}
		break;
	case TCP_CLOSED:
		if ((a | b) & TCP_RST) {
			ct_closed(&hit->key, e);
		} else if (tcp_last(f->tcp, a, b)) {
			ct_closed(&hit->key, e);
			if (!(e->flags & (CT_STACK | CT_TRANSLATED))) {
				CT_COUNT(closed);
				ct_delete(hit);
				break;
			}
		} else if (hit->established && !(e->flags & (CT_STACK | CT_TRANSLATED))) {
			/* The last ACK removes it; without one the ring of all that are there. */
			break;
		}
		if (!(e->told & CT_TOLD_CLOSING) &&
		    ring_push(CT_RING_CLOSED, &hit->key, e->generation,
			      hit->now + ring_wait(config, CT_RING_CLOSED), RING_RESERVE))
			e->told |= CT_TOLD_CLOSING;
		break;
	default:
		break;
	}
	return REASON_FORWARDED;
}

/* A new flow on an old one's entry: the translation stays, and so does who is whose. */
__noinline int ct_again(const struct weft_ct_key *key, struct weft_ct_entry *e, __u32 now)
{
	if (!key || !e)
		return 0;
	ct_closed(key, e);
	e->side[0].tcp = e->side[1].tcp = 0;
	e->side[0].packets = e->side[1].packets = 0;
	e->side[0].bytes = e->side[1].bytes = 0;
	e->flags &= ~(CT_MIDSTREAM | CT_NO_PROMOTION);
	e->told &= ~CT_TOLD_CLOSED;
	e->created = now;
	return 0;
}

/*
 * Counts a packet of a flow that ct_lookup found. Afterwards hit may have another entry (it was
 * promoted) or none (it ended): what is still needed of the entry is read before. Returns FORWARDED
 * or a note.
 */
static __always_inline int ct_update(const struct flow *f, struct ct_hit *hit)
{
	struct weft_config *config = config_get();
	struct weft_ct_entry *e = hit->entry;
	struct weft_ct_side *own;
	bool renewed = false;
	__u32 lifetime, rest;

	/* An error is about a flow, not of it. */
	if (!e || !config || f->kind == FLOW_ERROR)
		return REASON_FORWARDED;
	if (ct_has_flags(&hit->key) && tcp_begins(f->tcp) && ct_begins_anew(f, e) &&
	    hit->side == e->origin)
		ct_again(&hit->key, e, hit->now);
	own = ct_side(e, hit->side);
	own->packets++;
	own->bytes += f->length;
	own->tcp |= f->tcp;
	lifetime = ct_lifetime(config, &hit->key, e);
	rest = e->expires - hit->now;
	/* Now and then is enough, at most once a second, unless what is left got shorter. */
	if (rest > lifetime || lifetime - rest >= config->jiffies_per_second ||
	    lifetime - rest >= lifetime / 8) {
		e->expires = hit->now + lifetime;
		renewed = true;
	}
	if (renewed)
		ct_touch(&hit->key, e, hit->established);
	if (!ct_has_flags(&hit->key))
		return REASON_FORWARDED;
	if (tcp_closed(e->side[0].tcp, e->side[1].tcp) || e->flags & CT_BEGINNING ||
	    (!hit->established && (renewed || !(e->flags & CT_NO_PROMOTION)))) {
		if (!renewed)
			ct_touch(&hit->key, e, hit->established);
		return ct_advance(config, f, hit);
	}
	return REASON_FORWARDED;
}
