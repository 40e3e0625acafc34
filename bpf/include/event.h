/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <stdbool.h>

#include "maps.h"
#include "packet.h"

/*
 * What user space is told. Counting is done elsewhere and always; an event may be kept back,
 * because nothing that a pod sends may cost more than a share of a CPU: each type has a budget on
 * each CPU, and each endpoint a share of it. What is kept back is counted, and the next event says
 * how many.
 */

/* Its size is a setting. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} weft_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_event_budget);
	__uint(max_entries, EVENT_MAX);
} weft_event_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_event_share);
	__uint(max_entries, MAX_ENDPOINTS);
} weft_event_shares SEC(".maps");

/* One endpoint gets at most this part of a CPU's budget. */
#define EVENT_SHARE 4

/* The reader is woken when the ring has filled to this part, and looks by itself now and then. */
#define EVENT_WAKE_PART 16

#define EVENT_BIT(type) (1u << (type))

/* Refills for the time that has passed and takes one. */
static __always_inline bool event_take(__u32 *tokens, __u32 *refilled, __u32 now, __u32 rate,
				       __u32 hz)
{
	__u32 passed = now - *refilled;
	__u32 more;

	if (passed >= hz) {
		*tokens = rate;
		*refilled = now;
	} else if (passed) {
		more = (__u64)passed * rate / hz;
		if (more) {
			*tokens = *tokens + more > rate ? rate : *tokens + more;
			*refilled = now;
		}
	}
	if (!*tokens)
		return false;
	(*tokens)--;
	return true;
}

/* The budget of a type if an event may be sent; slot is the endpoint's whose doing it is. */
static __always_inline struct weft_event_budget *event_allow(const struct weft_config *config,
							     __u32 type, __u32 slot)
{
	struct weft_event_budget *budget;
	struct weft_event_share *share;
	__u32 rate = config->events_per_second;
	__u32 hz = config->jiffies_per_second;
	__u32 now;

	if (!(config->event_types & EVENT_BIT(type)) || !rate || !hz)
		return NULL;
	budget = bpf_map_lookup_elem(&weft_event_budgets, &type);
	if (!budget)
		return NULL;
	now = bpf_jiffies64();
	share = bpf_map_lookup_elem(&weft_event_shares, &slot);
	if ((share && !event_take(&share->tokens, &share->refilled, now,
				  rate / EVENT_SHARE ? rate / EVENT_SHARE : 1, hz)) ||
	    !event_take(&budget->tokens, &budget->refilled, now, rate, hz)) {
		budget->suppressed++;
		budget->since++;
		return NULL;
	}
	return budget;
}

static __always_inline void event_begin(struct weft_event *e, __u32 type,
					struct weft_event_budget *budget)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_ns();
	e->layout = EVENT_LAYOUT;
	e->type = type;
	e->hook = EVENT_NO_HOOK;
	e->slot[0] = e->slot[1] = CT_NO_SLOT;
	e->cpu = bpf_get_smp_processor_id();
	e->suppressed = budget->since;
	budget->since = 0;
}

/*
 * Whoever fills the ring past the mark wakes the reader, and nobody else: a wake-up for each event
 * costs more than the packet. The mark may be missed when CPUs cross it together; the reader's own
 * clock covers that.
 */
static __always_inline __u64 event_wake(__u64 before, __u64 size)
{
	__u64 mark = bpf_ringbuf_query(&weft_events, BPF_RB_RING_SIZE) / EVENT_WAKE_PART;

	return before < mark && before + size >= mark ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Addresses and ports of a packet that need not be sane. */
static __noinline void event_tuple(struct __sk_buff *skb, struct weft_event *e)
{
	__u32 l4 = NETWORK_OFFSET;
	__be16 ports[2] = {};
	__u8 first = 0;

	if (bpf_skb_load_bytes(skb, 12, &e->ethertype, sizeof(e->ethertype)))
		return;
	if (e->ethertype == bpf_htons(ETHERTYPE_IPV4)) {
		struct ipv4 ip;

		if (bpf_skb_load_bytes(skb, NETWORK_OFFSET, &ip, sizeof(ip)))
			return;
		e->family = 4;
		e->addr[0].word[2] = e->addr[1].word[2] = bpf_htonl(0xffff);
		e->addr[0].word[3] = ip.src;
		e->addr[1].word[3] = ip.dst;
		e->protocol = ip.protocol;
		l4 += (ip.version_ihl & 0x0f) * 4;
		if (ip.fragment & bpf_htons(IP_OFFSET_MASK))
			return;
	} else if (e->ethertype == bpf_htons(ETHERTYPE_IPV6)) {
		if (bpf_skb_load_bytes(skb, NETWORK_OFFSET + 6, &e->protocol, 1) ||
		    bpf_skb_load_bytes(skb, NETWORK_OFFSET + 8, e->addr, 32))
			return;
		e->family = 6;
		l4 += 40;
	} else if (e->ethertype == bpf_htons(ETHERTYPE_ARP)) {
		/* Who asks, and for whom. */
		e->addr[0].word[2] = e->addr[1].word[2] = bpf_htonl(0xffff);
		bpf_skb_load_bytes(skb, NETWORK_OFFSET + 14, &e->addr[0].word[3], 4);
		bpf_skb_load_bytes(skb, NETWORK_OFFSET + 24, &e->addr[1].word[3], 4);
		return;
	} else {
		return;
	}
	switch (e->protocol) {
	case IP_PROTO_TCP:
		bpf_skb_load_bytes(skb, l4 + 13, &e->tcp, 1);
		/* fall through */
	case IP_PROTO_UDP:
	case IP_PROTO_SCTP:
		if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return;
		e->port[0] = ports[0];
		e->port[1] = ports[1];
		return;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6: /* type and code stand where others have ports */
		if (bpf_skb_load_bytes(skb, l4, &first, 1) || bpf_skb_load_bytes(skb, l4, ports, 2))
			return;
		e->port[0] = ports[0];
	}
}

/* Names the endpoints of this node that the packet is between. */
static __always_inline void event_endpoints(const struct __sk_buff *skb, struct weft_event *e)
{
	struct weft_address *address;
	struct weft_endpoint *ep;
	struct weft_addr addr;
	__u32 side = e->hook == HOOK_FROM_POD ? 0 : 1;

	if (e->hook == HOOK_FROM_POD || e->hook == HOOK_TO_POD) {
		__u32 slot = skb->ifindex - IFINDEX_BASE;

		if (slot < MAX_ENDPOINTS)
			e->slot[side & 1] = slot;
		ep = bpf_map_lookup_elem(&weft_endpoints, &slot);
		if (ep)
			e->generation[side & 1] = ep->generation;
		side ^= 1;
	}
	if (!e->family)
		return;
	/* The other side; on an ENI whichever is local. Kernels before 6.2 take no key from the
	 * ring. */
	addr = e->addr[side & 1];
	address = bpf_map_lookup_elem(&weft_addresses, &addr);
	if (!address || !(address->flags & ADDRESS_ENDPOINT)) {
		side ^= 1;
		if (e->slot[side & 1] != CT_NO_SLOT)
			return;
		addr = e->addr[side & 1];
		address = bpf_map_lookup_elem(&weft_addresses, &addr);
		if (!address || !(address->flags & ADDRESS_ENDPOINT))
			return;
	}
	e->slot[side & 1] = address->slot;
	e->generation[side & 1] = address->generation;
}

static __always_inline void event_packet_fill(struct __sk_buff *skb, struct weft_event *e,
					      __u32 where, __u32 code)
{
	e->hook = where;
	e->direction = where >> 8;
	e->reason = code;
	e->file = code >> 8;
	e->line = code >> 16;
	e->ifindex = skb->ifindex;
	e->length = skb->len;
	event_tuple(skb, e);
	event_endpoints(skb, e);
}

/* One packet that was dropped or passed. where is hook | direction << 8. */
__noinline int event_packet(struct __sk_buff *skb, __u32 type, __u32 where, __u32 code)
{
	struct weft_config *config = config_get();
	struct weft_event_budget *budget;
	struct weft_event_captured *big;
	struct weft_event *e;
	__u32 slot = skb->ifindex - IFINDEX_BASE;
	__u64 before, wake;
	__u32 want;

	if (!config)
		return 0;
	budget = event_allow(config, type, slot);
	if (!budget)
		return 0;
	before = bpf_ringbuf_query(&weft_events, BPF_RB_AVAIL_DATA);
	want = config->event_capture;
	if (!want) {
		wake = event_wake(before, sizeof(*e));
		e = bpf_ringbuf_reserve(&weft_events, sizeof(*e), 0);
		if (!e) {
			budget->lost++;
			return 0;
		}
		event_begin(e, type, budget);
		event_packet_fill(skb, e, where, code);
		budget->sent++;
		bpf_ringbuf_submit(e, wake);
		return 0;
	}
	wake = event_wake(before, sizeof(*big));
	big = bpf_ringbuf_reserve(&weft_events, sizeof(*big), 0);
	if (!big) {
		budget->lost++;
		return 0;
	}
	event_begin(&big->head, type, budget);
	event_packet_fill(skb, &big->head, where, code);
	__builtin_memset(big->data, 0, sizeof(big->data));
	if (want > EVENT_DATA_MAX)
		want = EVENT_DATA_MAX;
	if (want > skb->len)
		want = skb->len;
	/* 1 to EVENT_DATA_MAX, as the verifier of old kernels understands it. */
	want--;
	asm volatile("" : "+r"(want));
	want = (want & (EVENT_DATA_MAX - 1)) + 1;
	if (!bpf_skb_load_bytes(skb, 0, big->data, want))
		big->head.captured = want;
	budget->sent++;
	bpf_ringbuf_submit(big, wake);
	return 0;
}

static __always_inline void event_drop(struct __sk_buff *skb, __u32 hook, __u32 direction,
				       __u32 code)
{
	event_packet(skb, EVENT_DROP, hook | direction << 8, code);
}

/* A packet that passed; asks first whether anybody wants to know. */
static __always_inline void event_trace(struct __sk_buff *skb, __u32 hook, __u32 direction,
					__u32 code)
{
	struct weft_config *config = config_get();

	if (config && config->flags & CONFIG_TRACE)
		event_packet(skb, EVENT_TRACE, hook | direction << 8, code);
}

/* A flow that began or ended: what its entry says of it. */
__noinline int event_flow(__u32 type, const struct weft_ct_key *key,
			  const struct weft_ct_entry *entry)
{
	struct weft_config *config = config_get();
	struct weft_event_budget *budget;
	const struct weft_ct_side *from, *to;
	struct weft_event *e;
	__u64 wake;

	if (!config || !key || !entry)
		return 0;
	from = entry->origin ? &entry->side[1] : &entry->side[0];
	to = entry->origin ? &entry->side[0] : &entry->side[1];
	budget = event_allow(config, type, from->slot != CT_NO_SLOT ? from->slot : to->slot);
	if (!budget)
		return 0;
	wake = event_wake(bpf_ringbuf_query(&weft_events, BPF_RB_AVAIL_DATA), sizeof(*e));
	e = bpf_ringbuf_reserve(&weft_events, sizeof(*e), 0);
	if (!e) {
		budget->lost++;
		return 0;
	}
	event_begin(e, type, budget);
	e->direction = from->slot != CT_NO_SLOT ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	if (entry->origin) {
		e->addr[0] = key->addr[1];
		e->addr[1] = key->addr[0];
		e->port[0] = key->port[1];
		e->port[1] = key->port[0];
	} else {
		e->addr[0] = key->addr[0];
		e->addr[1] = key->addr[1];
		e->port[0] = key->port[0];
		e->port[1] = key->port[1];
	}
	e->family = key->addr[0].word[0] || key->addr[0].word[1] ||
				    key->addr[0].word[2] != bpf_htonl(0xffff)
			    ? 6
			    : 4;
	e->protocol = key->protocol;
	e->tcp = from->tcp;
	e->tcp_reply = to->tcp;
	e->flags = entry->flags;
	e->slot[0] = from->slot;
	e->slot[1] = to->slot;
	e->generation[0] = from->generation;
	e->generation[1] = to->generation;
	e->packets[0] = from->packets;
	e->packets[1] = to->packets;
	e->bytes[0] = from->bytes;
	e->bytes[1] = to->bytes;
	e->nat_addr = entry->nat_addr;
	e->nat_port = entry->nat_port;
	e->nat_eni = entry->nat_eni;
	e->rule = entry->verdict[0].rule ? entry->verdict[0].rule : entry->verdict[1].rule;
	e->age = (__u32)bpf_jiffies64() - entry->created;
	budget->sent++;
	bpf_ringbuf_submit(e, wake);
	return 0;
}

static __always_inline void event_new(const struct weft_ct_key *key,
				      const struct weft_ct_entry *entry)
{
	event_flow(EVENT_NEW, key, entry);
}

static __always_inline void event_close(const struct weft_ct_key *key,
					const struct weft_ct_entry *entry)
{
	event_flow(EVENT_CLOSE, key, entry);
}
