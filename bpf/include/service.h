/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Services, for packets whose socket nobody connected to a backend: who comes in by an ENI, and
 * what a pod sends that the programs of sockets don't see. A flow to a frontend F gets a backend B.
 *
 * - CT_SERVICE: the client C keeps its address. The entry is of (C, B), as policy sees it; its
 *   alias is (C, F). Both ends or one are of this node.
 *
 * - CT_MIDDLE: the client becomes C', a port of this node's, because answers would otherwise not
 *   come back this way: the backend is another node's, or the client itself. The entry is of
 *   (C, F); its alias is (C', B).
 */

#include "conntrack.h"
#include "deliver.h"
#include "lb.h"
#include "nat.h"
#include "rewrite.h"
#include "route.h"
#include "service_choose.h"

#undef FILE_ID
#define FILE_ID FILE_SERVICE

/*
 * Ports of the node's own addresses that a translated flow was ever made for: a bit each. What the
 * host itself sends and gets by others is looked up nowhere.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 65536 / 64);
} weft_lb_ports SEC(".maps");

/* Removes an entry that counts as none, for another that is to be made. */
static __noinline int service_forget(struct ct_hit *hit)
{
	if (hit->stale && hit->entry) {
		ct_remove(&hit->key, hit->entry, hit->established);
		CT_COUNT(replaced);
	}
	hit->entry = NULL;
	hit->stale = false;
	return 0;
}

/* May a translated flow have this port of the node's? */
static __always_inline bool service_port(__be16 port)
{
	__u32 p = bpf_ntohs(port), key = p >> 6;
	__u64 *word = bpf_map_lookup_elem(&weft_lb_ports, &key);

	return word && *word >> (p & 63) & 1;
}

static __always_inline void service_port_used(__be16 port)
{
	__u32 p = bpf_ntohs(port), key = p >> 6;
	__u64 *word = bpf_map_lookup_elem(&weft_lb_ports, &key);

	if (word && !(*word >> (p & 63) & 1))
		__sync_fetch_and_or(word, 1ull << (p & 63));
}

/* Neither is a code of verdict.h. */
#define SERVICE_NOT 0xffffffff /* no frontend: the packet is as it was */
/* It goes to a backend by now: enter it as the struct says, and send it. */
#define SERVICE_TURNED 0xfffffffe
/* The same, and service_begin_twice has the rest. */
#define SERVICE_TWICE 0xfffffffd

static __always_inline bool service_is_node(const struct weft_config *config,
					    const struct weft_addr *addr)
{
	return addr_equal(addr, &config->node_addr) || addr_equal(addr, &config->node_addr6);
}

/* The ENI that a frontend's answers leave by: its owner, or the one that the packet came in on. */
__noinline __u32 service_eni(const struct weft_addr *addr, __u32 ifindex)
{
	struct weft_addr own; /* 6.1 takes no key from a caller's memory */
	const struct weft_address *address;
	const struct weft_config *config = config_get();
	const struct weft_eni *eni;

	if (!addr)
		return 0;
	own = *addr;
	address = address_get(&own);
	if (address)
		return address->eni;

		/* Few: in the order in which they were attached, so the first is mostly it. */
#pragma unroll
	for (__u32 i = 1; i <= 4; i++) {
		eni = eni_get(i);
		if (eni && eni->ifindex == ifindex)
			return i;
	}
	if (!config)
		return 0;
	address = address_get(addr_mapped(&own) ? &config->node_addr : &config->node_addr6);
	return address ? address->eni : 0;
}

/* The backend that nothing listens on: the host's stack refuses, as its protocol has it. */
static __always_inline bool service_refuse(struct service_scratch *s,
					   const struct weft_config *config, const struct flow *f)
{
	const struct weft_addr *node = f->family == 4 ? &config->node_addr : &config->node_addr6;

	if (f->protocol == IP_PROTO_SCTP || addr_null(node))
		return false;
	s->backend.addr = *node;
	s->backend.port = 0;
	return true;
}

/* Where a backend is. */
enum service_where {
	SERVICE_AT_GONE = 0,
	SERVICE_AT_POD = 1,  /* an endpoint of this node */
	SERVICE_AT_HOST = 2, /* the node itself */
	SERVICE_AT_OTHER = 3,
};

static __always_inline enum service_where
service_where(const struct weft_config *config, const struct weft_addr *addr, struct ct_new *n)
{
	const struct weft_address *address;

	if (service_is_node(config, addr))
		return SERVICE_AT_HOST;
	address = address_get(addr);
	if (!address)
		return SERVICE_AT_OTHER;
	if (address->flags & ADDRESS_ENDPOINT) {
		n->to_slot = (__u16)address->slot;
		n->to_generation = address->generation;
		return endpoint_at(address, addr) ? SERVICE_AT_POD : SERVICE_AT_GONE;
	}
	return address->flags & ADDRESS_HOST ? SERVICE_AT_HOST : SERVICE_AT_GONE;
}

static __always_inline void service_note(struct __sk_buff *skb, __u32 how, __u32 code)
{
	if (how & SERVICE_OUTSIDE)
		count(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, code);
	else
		count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, code);
}

/* Is it an address of the node itself? */
static __always_inline bool service_own(const struct weft_config *config,
					const struct weft_addr *addr,
					const struct weft_address *address)
{
	return service_is_node(config, addr) || (address && address->flags & ADDRESS_HOST);
}

/* Which frontend and backend a packet has; a code of verdict.h if it is to go no further. */
__noinline __u32 service_find(const struct flow *f, __u32 how)
{
	const struct weft_config *config = config_get();
	const struct weft_lb_config *lb = lb_config();
	struct service_scratch *s = service_scratch();

	if (!f || !config || !lb || !s)
		return SERVICE_NOT;
	if (f->kind != FLOW_PLAIN || (f->protocol != IP_PROTO_TCP && f->protocol != IP_PROTO_UDP &&
				      f->protocol != IP_PROTO_SCTP))
		return SERVICE_NOT;
	if (how & SERVICE_OUTSIDE && !(lb->flags & LB_NORTH_SOUTH))
		return SERVICE_NOT;
	if (service_frontend(s, f, lb, how) == SERVICE_NONE || !lb_fresh(lb))
		return SERVICE_NOT;
	if (!service_allows(s, f))
		return DROP(REASON_SERVICE_SOURCE_RANGE);
	if (service_choose(f)) {
		/* No helper computes SCTP's checksum, which covers its ports. */
		if (f->protocol == IP_PROTO_SCTP && s->backend.port != f->dport)
			return lb->flags & LB_HOST ? DROP(REASON_SERVICE_SCTP_PORT) : SERVICE_NOT;
		if (s->backend.port == f->dport && addr_equal(&s->backend.addr, &f->dst))
			return SERVICE_NOT;
		return SERVICE_TURNED;
	}
	/* kube-proxy, where it runs, does the same. */
	if (!(lb->flags & LB_HOST))
		return SERVICE_NOT;
	if (s->frontend.flags & LB_REFUSE && service_refuse(s, config, f))
		return REASON_NOTE_SERVICE_REFUSED;
	return DROP(REASON_SERVICE_NO_BACKEND);
}

/* An alias in weft_nat_scratch, of a flow whose alias says to be of addr and port. */
static __always_inline void service_alias(struct nat_scratch *s, __u16 flags, __u32 generation,
					  __u32 now, const struct weft_addr *addr, __be16 port)
{
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.generation = generation;
	s->entry.expires = now;
	s->entry.created = now;
	s->entry.flags = CT_ALIAS | flags;
	s->entry.side[0].slot = CT_NO_SLOT;
	s->entry.side[1].slot = CT_NO_SLOT;
	s->entry.nat_addr = *addr;
	s->entry.nat_port = port;
}

/*
 * A port of this node's for the client, and the alias with it. The packet goes to its backend
 * already; the scratch of services has the frontend.
 */
__noinline __u32 service_middle(struct __sk_buff *skb, const struct flow *f, struct ct_new *n)
{
	__u32 zero = 0, now = (__u32)bpf_jiffies64();
	const struct weft_config *config = config_get();
	struct service_scratch *s = service_scratch();
	struct nat_scratch *nat = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	const struct weft_addr *to;
	__be16 port = 0;

	if (!f || !n || !config || !s || !nat)
		return DROP(REASON_NAT_NO_PORT);
	to = ct_middle_addr(config, &f->dst);
	if (addr_null(to))
		return DROP(REASON_NAT_NO_PORT);
	n->generation = bpf_get_prandom_u32() | 1;
	service_alias(nat, CT_MIDDLE, n->generation, now, &f->src, f->sport);
	nat->entry.nat_eni = s->frontend_port;
	ct_alias_set_frontend(&nat->entry, &s->frontend_addr);
	if (!nat_find(skb, f, to, now, &port))
		return DROP(REASON_NAT_NO_PORT);
	n->flags |= CT_MIDDLE;
	n->nat_addr = f->dst;
	n->nat_port = f->dport;
	n->nat_eni = port;
	return REASON_FORWARDED;
}

/* Out by the ENI that owns the packet's source by now. */
__noinline __u32 service_send(struct __sk_buff *skb, const struct flow *f, __u32 handle)
{
	const struct weft_eni *eni = eni_get(handle);

	if (!f || !eni)
		return DROP(REASON_NO_ENI);
	if (f->ttl <= 1)
		return DROP(REASON_TTL);
	if (needs_answer(skb, f, eni->mtu))
		return DROP(REASON_TOO_BIG);
	return send(skb, f, eni);
}

/* As rewrite does, with less of the stack. */
static __always_inline __u32 service_rewrite(struct __sk_buff *skb, const struct flow *f,
					     enum rewrite_end end, const struct weft_addr *to,
					     __be16 port)
{
	return f->kind == FLOW_ERROR ? rewrite_error(skb, f, end, to, port)
				     : rewrite_plain(skb, f, end, to, port);
}

/* The client's address becomes the node's. */
static __always_inline __u32 service_middle_out(struct __sk_buff *skb, struct flow *f,
						const struct weft_config *config, __be16 port)
{
	const struct weft_addr *to = ct_middle_addr(config, &f->dst);
	__u32 code = service_rewrite(skb, f, REWRITE_SOURCE, to, port);

	f->src = *to;
	f->sport = port;
	return code;
}

/* Is it an entry that nothing more is to be expected of? */
static __always_inline bool service_ended(const struct weft_ct_key *key,
					  const struct weft_ct_entry *e, __u32 now)
{
	struct weft_endpoint *to;

	return ct_expired(e, now) || ct_stale(e, key, 2, &to) ||
	       (ct_has_flags(key) && tcp_closed(e->side[0].tcp, e->side[1].tcp));
}

/* Has a flow that lives the tuple in nat->key? An alias of one that doesn't is removed. */
static __noinline bool service_taken(struct nat_scratch *nat, __u32 now)
{
	struct weft_ct_entry *e;
	bool established;

	e = ct_find(&nat->key, &established);
	if (!e)
		return false;
	if (!(e->flags & CT_ALIAS))
		return !service_ended(&nat->key, e, now);
	if (!nat_left(nat, e, now))
		return true;
	ct_take_out(&nat->key, established);
	return false;
}

/* Removes the entry of nat->key, whose flow has ended. */
static __noinline int service_remove(struct nat_scratch *nat)
{
	struct weft_ct_entry *e;
	bool established;

	e = ct_find(&nat->key, &established);
	if (e && !(e->flags & CT_ALIAS)) {
		ct_remove(&nat->key, e, established);
		CT_COUNT(replaced);
	}
	return 0;
}

/*
 * The rest of a new flow whose client is translated, too. A function of its own that service_begin
 * doesn't call, as the stack of 6.1 is short.
 */
__noinline __u32 service_begin_twice(struct __sk_buff *skb, struct flow *f)
{
	__u32 zero = 0, code, now = (__u32)bpf_jiffies64();
	const struct weft_config *config = config_get();
	struct service_scratch *s = service_scratch();
	const struct weft_address *address;
	const struct weft_endpoint *to;
	struct nat_scratch *nat;

	nat = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	if (!f || !config || !s || !nat)
		return DROP(REASON_NAT_NO_STATE);
	nat->key = s->tuple;
	if (service_taken(nat, now))
		return DROP(REASON_NAT_NO_STATE);
	service_remove(nat);
	code = service_middle(skb, f, &s->begun);
	if (code != REASON_FORWARDED)
		return code;
	if (ct_insert(f, &s->tuple, &s->begun, s->side, now) == CT_IN_NONE)
		return DROP(REASON_NAT_NO_STATE);
	code = service_middle_out(skb, f, config, s->begun.nat_eni);
	if (code != REASON_FORWARDED)
		return code;
	if (s->begun.to_slot != CT_NO_SLOT) {
		address = address_get(&s->backend.addr);
		to = address ? endpoint_at(address, &s->backend.addr) : NULL;
		return to ? deliver(skb, f, to) : DROP(REASON_ENDPOINT_GONE);
	}
	return service_send(skb, f, service_eni(&f->src, 0));
}

/*
 * The first packet of a flow, or one whose backend has gone. n says who sends it, n->nat_eni by
 * which ENI (0: it came in by one).
 */
__noinline __u32 service_begin(struct __sk_buff *skb, struct flow *f, struct ct_new *n, __u32 how)
{
	__u32 zero = 0, code, own, now = (__u32)bpf_jiffies64();
	const struct weft_config *config = config_get();
	struct service_scratch *s = service_scratch();
	bool middle = false, refused;
	const struct weft_eni *eni;
	enum service_where where;
	struct nat_scratch *nat;

	nat = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	if (!f || !n || !config || !s || !nat)
		return SERVICE_NOT;
	own = n->nat_eni;
	code = service_find(f, how);
	refused = code == REASON_NOTE_SERVICE_REFUSED;
	if (code != SERVICE_TURNED && !refused)
		return code;
	if (f->ttl <= 1)
		return how & SERVICE_OUTSIDE ? DROP(REASON_TTL) : REASON_TO_STACK;
	where = service_where(config, &s->backend.addr, n);
	if (where == SERVICE_AT_GONE)
		return DROP(REASON_ENDPOINT_GONE);
	if (refused)
		service_note(skb, how, code);
	s->side = ct_key_make(&s->tuple, &f->src, f->sport, &f->dst, f->dport, f->protocol);
	s->frontend_addr = f->dst;
	s->frontend_port = f->dport;
	if (how & SERVICE_OUTSIDE && how & SERVICE_OWN)
		service_port_used(f->dport);
	code = rewrite_plain(skb, f, REWRITE_DEST, &s->backend.addr, s->backend.port);
	if (code != REASON_FORWARDED)
		return code;
	f->dst = s->backend.addr;
	f->dport = s->backend.port;
	if (where == SERVICE_AT_POD) {
		middle = addr_equal(&f->dst, &f->src);
	} else if (where == SERVICE_AT_OTHER) {
		eni = eni_get(own);
		middle = how & SERVICE_OUTSIDE ||
			 (eni && route_get(config, f, eni) == ROUTE_TRANSLATE);
	}
	/* The client may talk to the backend itself, or by another service. */
	if (!middle) {
		ct_key_make(&nat->key, &f->src, f->sport, &f->dst, f->dport, f->protocol);
		middle = service_taken(nat, now);
	}
	if (middle) {
		if (where == SERVICE_AT_HOST)
			return DROP(REASON_NAT_NO_PORT);
		s->begun = *n;
		return SERVICE_TWICE;
	}
	n->generation = bpf_get_prandom_u32() | 1;
	nat->key = s->tuple;
	service_alias(nat, CT_SERVICE, n->generation, now, &f->dst, f->dport);
	if (!nat_take(nat, now))
		return DROP(REASON_NAT_NO_STATE);
	n->flags |= CT_SERVICE;
	n->nat_addr = s->frontend_addr;
	n->nat_port = s->frontend_port;
	n->nat_eni =
		how & SERVICE_OUTSIDE ? (__u16)service_eni(&s->frontend_addr, skb->ifindex) : 0;
	return SERVICE_TURNED;
}

/*
 * Has the backend of a flow gone from its service? Asked once a second of what has no connections:
 * those go on until they end.
 */
__noinline int service_left(const struct flow *f, struct weft_ct_entry *e,
			    const struct weft_addr *backend, __be16 port, __u32 how)
{
	const struct weft_config *config = config_get();
	const struct weft_lb_config *lb = lb_config();
	struct service_scratch *s = service_scratch();
	__u8 second;

	if (!f || !e || !backend || !config || !lb || !s || f->protocol == IP_PROTO_TCP ||
	    !config->jiffies_per_second)
		return false;
	second = (__u32)bpf_jiffies64() / config->jiffies_per_second;
	if (e->asked == second)
		return false;
	e->asked = second;
	if (!lb_fresh(lb))
		return false;
	s->key.addr = f->dst; /* 6.1 takes no key from a caller's memory */
	if (service_own(config, &f->dst, address_get(&s->key.addr)))
		how |= SERVICE_OWN;
	if (service_frontend(s, f, lb, how) == SERVICE_NONE)
		return true;
	return s->frontend.flags & LB_MEMBERS && !service_member(s, backend, port);
}

/*
 * Makes the alias of a flow again that was evicted, at most once a second, where packets come that
 * don't need it.
 */
__noinline int service_keep(const struct weft_ct_key *key, struct weft_ct_entry *e)
{
	__u32 zero = 0, now = (__u32)bpf_jiffies64();
	const struct weft_config *config = config_get();
	struct nat_scratch *s = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	struct weft_ct_entry *alias;
	struct weft_addr addr;
	bool side;

	if (!key || !e || !config || !s || now - e->created < config->jiffies_per_second ||
	    now - e->nat_seen < config->jiffies_per_second)
		return 0;
	e->nat_seen = now;
	ct_alias_key(key, e, &s->key);
	alias = ct_get(&s->key, false);
	if (alias && alias->generation == e->generation)
		return 0;
	/* Whose it is: of a service's flow the backend's, else the client's. */
	side = e->flags & CT_SERVICE ? !e->origin : e->origin;
	addr = side ? key->addr[1] : key->addr[0];
	service_alias(s, e->flags & (CT_SERVICE | CT_MIDDLE), e->generation, now, &addr,
		      side ? key->port[1] : key->port[0]);
	if (e->flags & CT_MIDDLE) {
		addr = side ? key->addr[0] : key->addr[1];
		ct_alias_set_frontend(&s->entry, &addr);
		s->entry.nat_eni = side ? key->port[0] : key->port[1];
	}
	nat_take(s, now);
	return 0;
}

/* How a known flow's packet came. */
#define SERVICE_FORWARD (1u << 2) /* from who began it */
#define SERVICE_ALIASED (1u << 3) /* it was found by its alias */

/* The packet gets the addresses that the other end knows. */
__noinline __u32 service_turn(struct __sk_buff *skb, struct flow *f, const struct weft_ct_key *key,
			      const struct weft_ct_entry *e, __u32 how)
{
	const struct weft_config *config = config_get();
	struct weft_addr to;
	__be16 port;
	__u32 code;
	bool side;

	if (!f || !key || !config || !e)
		return DROP(REASON_NAT_NO_STATE);
	if (e->flags & CT_SERVICE) {
		if (how & SERVICE_FORWARD) {
			if (!(how & SERVICE_ALIASED))
				return REASON_FORWARDED;
			to = e->origin ? key->addr[0] : key->addr[1];
			port = e->origin ? key->port[0] : key->port[1];
			code = service_rewrite(skb, f, REWRITE_DEST, &to, port);
			f->dst = to;
			f->dport = port;
			return code;
		}
		code = service_rewrite(skb, f, REWRITE_SOURCE, &e->nat_addr, e->nat_port);
		f->src = e->nat_addr;
		f->sport = e->nat_port;
		return code;
	}
	if (how & SERVICE_FORWARD) {
		__be16 own = e->nat_eni;

		to = e->nat_addr;
		port = e->nat_port;
		code = service_rewrite(skb, f, REWRITE_DEST, &to, port);
		f->dst = to;
		f->dport = port;
		return code == REASON_FORWARDED ? service_middle_out(skb, f, config, own) : code;
	}
	/* Nobody speaks as the frontend. */
	if (!(how & SERVICE_ALIASED))
		return DROP(REASON_SOURCE_IS_LOCAL);
	side = e->origin;
	to = side ? key->addr[1] : key->addr[0];
	port = side ? key->port[1] : key->port[0];
	code = service_rewrite(skb, f, REWRITE_DEST, &to, port);
	if (code != REASON_FORWARDED)
		return code;
	f->dst = to;
	f->dport = port;
	to = side ? key->addr[0] : key->addr[1];
	port = side ? key->port[0] : key->port[1];
	code = service_rewrite(skb, f, REWRITE_SOURCE, &to, port);
	f->src = to;
	f->sport = port;
	return code;
}

/*
 * A packet of a service's flow, at from_pod or from_netdev: hit is what it was found as. how says
 * where it came in; own is the ENI of the pod that sent it. SERVICE_NOT: the flow is over, the
 * packet may begin another.
 */
static __noinline __u32 service_packet(struct __sk_buff *skb, struct flow *f, struct ct_hit *hit,
				       __u32 how, __u32 own)
{
	const struct weft_endpoint *to;
	struct weft_ct_entry *e = hit->entry;
	__u32 generation = e->generation, code, handle = own;
	bool service = e->flags & CT_SERVICE;
	__u16 flags;

	if (e->flags & CT_ALIAS) {
		how |= SERVICE_ALIASED;
		if (!ct_lookup_primary(f, hit, hit)) {
			/* Its pod has gone: nothing is left of it. */
			if (service && hit->entry && hit->entry->generation == generation)
				ct_delete(hit);
			goto over;
		}
		e = hit->entry;
	}
	flags = e->flags;
	to = hit->to;
	/* Nobody outside ends a pod's flow, nor has the stack answer for it. */
	if (how & SERVICE_OUTSIDE && ct_side(e, hit->side)->slot != CT_NO_SLOT)
		return DROP(REASON_SOURCE_IS_LOCAL);
	if (hit->side == e->origin) {
		how |= SERVICE_FORWARD;
		if (service && how & SERVICE_ALIASED &&
		    ((ct_has_flags(&hit->key) && ct_begins_anew(f, e)) ||
		     service_left(f, e, hit->side ? &hit->key.addr[0] : &hit->key.addr[1],
				  hit->side ? hit->key.port[0] : hit->key.port[1], how))) {
			ct_delete(hit);
			goto over;
		}
		if (!service && service_left(f, e, &e->nat_addr, e->nat_port, how)) {
			ct_delete(hit);
			goto over;
		}
	}
	/* What the stack answers it answers to the pod, whose packet it must be still. */
	if (!(flags & CT_STACK) && !to && service && !(how & SERVICE_FORWARD)) {
		const struct weft_eni *eni = eni_get(e->nat_eni);

		handle = e->nat_eni;
		if (eni && needs_answer(skb, f, eni->mtu))
			return REASON_TO_STACK;
	} else if (!(flags & CT_STACK) && f->ttl <= 1) {
		return DROP(REASON_TTL);
	}
	/* What leaves its answers to to_pod and to to_netdev isn't turned here. */
	if (!(flags & CT_STACK) || how & SERVICE_FORWARD) {
		code = service_turn(skb, f, &hit->key, e, how);
		if (code != REASON_FORWARDED)
			return code;
	}
	if (!(flags & CT_ESTABLISHED))
		service_keep(&hit->key, e);
	/* to_pod counts what the stack brings. */
	if (!(flags & CT_STACK) || how & SERVICE_FORWARD) {
		code = ct_update(f, hit);
		if (code != REASON_FORWARDED)
			service_note(skb, how, code);
	}
	if (flags & CT_STACK)
		return REASON_TO_STACK;
	if (to)
		return deliver(skb, f, to);
	if (!service)
		handle = service_eni(&f->src, skb->ifindex);
	else if (how & SERVICE_FORWARD) {
		const struct weft_eni *eni = eni_get(handle);

		/* It goes to its backend by now, as what the stack answers is turned back. */
		if (eni && needs_answer(skb, f, eni->mtu))
			return REASON_TO_STACK;
	}
	return service_send(skb, f, handle);
over:
	hit->entry = NULL;
	hit->stale = false;
	return SERVICE_NOT;
}

/* A packet of the host itself: the answer of one of its programs to a client of a service? */
static __noinline __u32 service_from_host(struct __sk_buff *skb, struct flow *f, bool six,
					  __u32 *handle)
{
	const struct weft_lb_config *lb = lb_config();
	__u32 l4 = IPV6_END, at = NETWORK_OFFSET + 6, code;
	struct ct_hit hit;
	__be16 port = 0;
	__u8 byte = 0;

	if (!lb || !(lb->flags & LB_NORTH_SOUTH))
		return REASON_FORWARDED;
	if (!six) {
		if (bpf_skb_load_bytes(skb, NETWORK_OFFSET, &byte, sizeof(byte)))
			return REASON_FORWARDED;
		l4 = NETWORK_OFFSET + (byte & 0x0f) * 4;
		at = NETWORK_OFFSET + 9;
	}
	if (bpf_skb_load_bytes(skb, at, &byte, sizeof(byte)) ||
	    bpf_skb_load_bytes(skb, l4, &port, sizeof(port)))
		return REASON_FORWARDED;
	/*
	 * An error has its ports inside. What stands there of a later fragment is no port: a few
	 * are looked up in vain.
	 */
	if (byte != IP_PROTO_ICMP && byte != IP_PROTO_ICMPV6 && !service_port(port))
		return REASON_FORWARDED;
	code = six ? flow_parse6(skb, f) : flow_parse4(skb, f);
	if (code != REASON_FORWARDED || f->kind == FLOW_NEIGHBOUR || !ct_lookup(f, &hit) ||
	    !(hit.entry->flags & CT_SERVICE) || hit.entry->flags & CT_ALIAS ||
	    hit.side == hit.entry->origin)
		return REASON_FORWARDED;
	*handle = hit.entry->nat_eni;
	code = service_turn(skb, f, &hit.key, hit.entry, 0);
	if (code == REASON_FORWARDED) {
		__u32 note = ct_update(f, &hit);

		if (note != REASON_FORWARDED)
			count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, note);
	}
	return code;
}
