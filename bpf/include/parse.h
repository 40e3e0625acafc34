/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "tcp_state.h"
#include "verdict.h"

#undef FILE_ID
#define FILE_ID FILE_PARSE

/*
 * From a packet to a struct flow. The common packet (TCP or UDP, no fragment, no extension header)
 * is read in place; what is rare stands in functions of its own, so that it is verified once and
 * costs the common one nothing.
 */

/* More than any honest sender uses; what carries more is dropped. */
#define EXTENSIONS_MAX 6

/* How far the extension headers of an IPv6 packet reach. */
struct extensions {
	__u32 offset; /* of the first header that is none */
	__be32 id;
	__u16 fragment; /* offset of the fragment, in bytes */
	__u8 next;
	bool fragmented;
	bool more;
};

/* One header further: 1; 0 where there is none to pass any more; -1 for what is refused. */
static __always_inline int extensions_step(struct __sk_buff *skb, struct extensions *x, bool first)
{
	__u8 head[8];

	switch (x->next) {
	case IP_PROTO_HOPOPTS:
		if (!first)
			return -1;
		break;
	case IP_PROTO_ROUTING:
	case IP_PROTO_DSTOPTS:
	case IP_PROTO_MOBILITY:
	case IP_PROTO_FRAGMENT:
	case IP_PROTO_AH:
		break;
	default:
		return 0;
	}
	/* A later fragment: its headers came with the first. */
	if (x->fragment)
		return 0;
	if (x->offset > PACKET_OFFSET_MAX || bpf_skb_load_bytes(skb, x->offset, head, sizeof(head)))
		return -1;
	switch (x->next) {
	case IP_PROTO_FRAGMENT:
		if (x->fragmented)
			return -1;
		x->fragment = ((__u16)head[2] << 8 | head[3]) & 0xfff8;
		x->more = head[3] & 1;
		x->fragmented = x->fragment || x->more;
		__builtin_memcpy(&x->id, head + 4, sizeof(x->id));
		x->offset += 8;
		break;
	case IP_PROTO_AH:
		x->offset += ((__u32)head[1] + 2) * 4;
		break;
	case IP_PROTO_ROUTING:
		/* Segments left: it would go on to an address that nobody has looked at. */
		if (head[3])
			return -1;
		/* fall through */
	default:
		x->offset += ((__u32)head[1] + 1) * 8;
	}
	x->next = head[0];
	return 1;
}

__noinline int extensions_walk(struct __sk_buff *skb, struct extensions *x)
{
	int more;

	if (!x)
		return -1;
		/* The verifier of 6.1 refuses a loop that ends with a call. */
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		more = extensions_step(skb, x, i == 0);
		if (more <= 0)
			return more;
	}
	/* One more than allowed? */
	return extensions_step(skb, x, false) ? -1 : 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct weft_fragment_key);
	__type(value, struct weft_fragment);
	__uint(max_entries, MAX_FRAGMENTS);
} weft_fragments SEC(".maps");

/* Ports of a later fragment. */
static __noinline __u32 fragment_recall(struct flow *f, __u32 id)
{
	struct weft_fragment_key key = {
		.src = f->src, .dst = f->dst, .id = id, .protocol = f->protocol};
	struct weft_fragment *first = bpf_map_lookup_elem(&weft_fragments, &key);

	f->fragment = FRAGMENT_LATER;
	if (f->protocol == IP_PROTO_ICMP || f->protocol == IP_PROTO_ICMPV6)
		f->kind = FLOW_QUERY;
	if (!first)
		return DROP(REASON_FRAGMENT_UNKNOWN);
	f->sport = first->sport;
	f->dport = first->dport;
	return REASON_FORWARDED;
}

static __noinline void fragment_record(const struct flow *f, __u32 id)
{
	struct weft_fragment_key key = {
		.src = f->src, .dst = f->dst, .id = id, .protocol = f->protocol};
	struct weft_fragment first = {.sport = f->sport, .dport = f->dport};

	bpf_map_update_elem(&weft_fragments, &key, &first, BPF_ANY);
}

static __always_inline __u8 icmp4_kind(__u8 type)
{
	switch (type) {
	case 0: /* echo */
	case 8:
	case 13: /* time stamp */
	case 14:
	case 15: /* information */
	case 16:
	case 17: /* address mask */
	case 18:
		return FLOW_QUERY;
	case 3:	 /* unreachable, too big */
	case 4:	 /* source quench */
	case 5:	 /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		return FLOW_ERROR;
	}
	return FLOW_PLAIN;
}

static __always_inline __u8 icmp6_kind(__u8 type)
{
	if (type < 128)
		return FLOW_ERROR;
	if (type == 128 || type == 129)
		return FLOW_QUERY;
	/* Listener, router and neighbour discovery. */
	if ((type >= 130 && type <= 137) || type == 143)
		return FLOW_NEIGHBOUR;
	return FLOW_PLAIN;
}

/* One family's ICMP inside the other's packets is a protocol like any other. */
static __always_inline bool icmp_own(const struct flow *f)
{
	return (f->protocol == IP_PROTO_ICMP) == (f->family == 4);
}

/*
 * The packet that an ICMP error is about was sent by the one who gets the error, or somebody forges
 * it. inner is the offset of its IP header.
 */
static __noinline __u32 error_parse(struct __sk_buff *skb, struct flow *f)
{
	__u32 inner = (f->inner_ip = f->l4 + sizeof(struct icmp));
	__u32 l4 = 0;
	__be16 ports[4];

	if (inner > PACKET_OFFSET_MAX)
		return DROP(REASON_TRUNCATED);
	/* The reversal below: what the error is about came from dst. */
	if (f->family == 4) {
		struct ipv4 ip;

		if (f->headers + sizeof(ip) > f->length ||
		    bpf_skb_load_bytes(skb, inner, &ip, sizeof(ip)))
			return DROP(REASON_TRUNCATED);
		if (ip.version_ihl >> 4 != 4 || (ip.version_ihl & 0x0f) < 5)
			return DROP(REASON_BAD_HEADER);
		if (ip.src != f->dst.word[3])
			return DROP(REASON_BAD_HEADER);
		addr_set4(&f->src, ip.dst);
		f->protocol = ip.protocol;
		l4 = inner + (ip.version_ihl & 0x0f) * 4;
		/* Nobody is told of a later fragment by itself. */
		if (ip.fragment & bpf_htons(IP_OFFSET_MASK))
			return DROP(REASON_FRAGMENT_UNKNOWN);
	} else {
		struct extensions x = {};
		struct ipv6 ip;

		if (f->headers + sizeof(ip) > f->length ||
		    bpf_skb_load_bytes(skb, inner, &ip, sizeof(ip)))
			return DROP(REASON_TRUNCATED);
		if ((ip.version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
			return DROP(REASON_BAD_HEADER);
		if (ip.src[0] != f->dst.word[0] || ip.src[1] != f->dst.word[1] ||
		    ip.src[2] != f->dst.word[2] || ip.src[3] != f->dst.word[3])
			return DROP(REASON_BAD_HEADER);
		addr_set6(&f->src, ip.dst);
		x.offset = inner + sizeof(ip);
		x.next = ip.next;
		if (extensions_walk(skb, &x))
			return DROP(REASON_EXTENSION_HEADER);
		f->protocol = x.next;
		l4 = x.offset;
		if (x.fragment)
			return DROP(REASON_FRAGMENT_UNKNOWN);
	}
	f->inner_l4 = l4;
	switch (f->protocol) {
	case IP_PROTO_TCP:
	case IP_PROTO_UDP:
	case IP_PROTO_SCTP:
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		/* Behind the packet there may be bytes that are none of it. */
		if (l4 + sizeof(ports) > NETWORK_OFFSET + f->length)
			return DROP(REASON_TRUNCATED);
	}
	switch (f->protocol) {
	case IP_PROTO_TCP:
	case IP_PROTO_UDP:
	case IP_PROTO_SCTP:
		if (l4 > PACKET_OFFSET_MAX || bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return DROP(REASON_TRUNCATED);
		f->sport = ports[1];
		f->dport = ports[0];
		break;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		if (l4 > PACKET_OFFSET_MAX || bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
			return DROP(REASON_TRUNCATED);
		if (!icmp_own(f))
			break;
		/* Only a query has its id there. */
		f->inner_kind =
			f->family == 4 ? icmp4_kind(*(__u8 *)ports) : icmp6_kind(*(__u8 *)ports);
		if (f->inner_kind == FLOW_QUERY)
			f->sport = f->dport = ports[2];
		break;
	}
	return REASON_FORWARDED;
}

/* The header behind IP's, of a packet that isn't a later fragment. */
static __always_inline __u32 transport_parse(struct __sk_buff *skb, struct flow *f)
{
	__u32 offset = f->l4;
	__u32 payload = f->length - (offset - NETWORK_OFFSET);
	struct icmp *icmp;
	struct tcp *tcp;
	__be16 *ports;
	__u32 words;

	f->headers = offset - NETWORK_OFFSET;
	switch (f->protocol) {
	case IP_PROTO_TCP:
		if (payload < sizeof(*tcp))
			return DROP(REASON_TRUNCATED);
		tcp = packet_at(skb, offset, sizeof(*tcp));
		if (!tcp)
			return DROP(REASON_TRUNCATED);
		words = tcp->offset >> 4;
		if (words < 5 || words * 4 > payload)
			return DROP(REASON_BAD_HEADER);
		f->sport = tcp->sport;
		f->dport = tcp->dport;
		f->tcp = tcp->flags;
		f->headers += words * 4;
		return REASON_FORWARDED;
	case IP_PROTO_UDP:
	case IP_PROTO_SCTP:
		if (payload < (f->protocol == IP_PROTO_UDP ? 8 : 12))
			return DROP(REASON_TRUNCATED);
		ports = packet_at(skb, offset, 8);
		if (!ports)
			return DROP(REASON_TRUNCATED);
		f->sport = ports[0];
		f->dport = ports[1];
		f->headers += f->protocol == IP_PROTO_UDP ? 8 : 12;
		if (f->protocol == IP_PROTO_SCTP && payload >= 16) {
			__u8 *chunk = packet_at(skb, offset + 12, 1);

			if (!chunk)
				return DROP(REASON_TRUNCATED);
			f->tcp = sctp_flags(*chunk);
		}
		return REASON_FORWARDED;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		if (!icmp_own(f))
			return REASON_FORWARDED;
		if (payload < sizeof(*icmp))
			return DROP(REASON_TRUNCATED);
		icmp = packet_at(skb, offset, sizeof(*icmp));
		if (!icmp)
			return DROP(REASON_TRUNCATED);
		f->headers += sizeof(*icmp);
		f->kind = f->family == 4 ? icmp4_kind(icmp->type) : icmp6_kind(icmp->type);
		if (f->kind == FLOW_QUERY)
			f->sport = f->dport = icmp->id;
		else if (f->kind == FLOW_ERROR)
			return error_parse(skb, f);
		return REASON_FORWARDED;
	}
	return REASON_FORWARDED;
}

/* First or later fragment; offset in bytes. */
static __always_inline __u32 fragment_parse(struct __sk_buff *skb, struct flow *f, __u32 id,
					    __u32 offset)
{
	__u32 code;

	f->headers = f->l4 - NETWORK_OFFSET;
	if (offset) {
		/* A second fragment at offset 8 would rewrite TCP's flags. */
		if (f->protocol == IP_PROTO_TCP && offset == 8)
			return DROP(REASON_BAD_HEADER);
		return fragment_recall(f, id);
	}
	f->fragment = FRAGMENT_FIRST;
	code = transport_parse(skb, f);
	if (code == REASON_FORWARDED && f->kind != FLOW_ERROR)
		fragment_record(f, id);
	return code;
}

/* What every packet of the family has in struct flow, whatever its transport. */
static __always_inline __u32 ipv4_parse(struct __sk_buff *skb, struct flow *f, __u32 *id,
					__u32 *fragment)
{
	struct ethernet *eth = packet_head(skb, IPV4_END);
	__u32 header, length;
	struct ipv4 *ip;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;
	header = (ip->version_ihl & 0x0f) * 4;
	if (ip->version_ihl >> 4 != 4 || header < sizeof(*ip))
		return DROP(REASON_BAD_HEADER);
	length = bpf_ntohs(ip->length);
	/* A segmented packet above 64 KiB says 0. */
	if (length == 0 && skb->gso_size)
		length = skb->len - NETWORK_OFFSET;
	if (length < header)
		return DROP(REASON_BAD_HEADER);
	if (skb->len < NETWORK_OFFSET + length)
		return DROP(REASON_TRUNCATED);
	addr_set4(&f->src, ip->src);
	addr_set4(&f->dst, ip->dst);
	f->sport = 0;
	f->dport = 0;
	f->protocol = ip->protocol;
	f->family = 4;
	f->kind = FLOW_PLAIN;
	f->fragment = FRAGMENT_NONE;
	f->tcp = 0;
	f->ttl = ip->ttl;
	f->l4 = NETWORK_OFFSET + header;
	f->inner_ip = 0;
	f->inner_l4 = 0;
	f->length = length;
	f->headers = header;
	*id = ip->id;
	*fragment = bpf_ntohs(ip->fragment);
	return REASON_FORWARDED;
}

static __always_inline __u32 ipv6_parse(struct __sk_buff *skb, struct flow *f)
{
	struct ethernet *eth = packet_head(skb, IPV6_END);
	struct ipv6 *ip;
	__u32 length;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;
	if ((ip->version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return DROP(REASON_BAD_HEADER);
	length = sizeof(*ip) + bpf_ntohs(ip->payload);
	if (length == sizeof(*ip) && skb->gso_size)
		length = skb->len - NETWORK_OFFSET;
	if (skb->len < NETWORK_OFFSET + length)
		return DROP(REASON_TRUNCATED);
	addr_set6(&f->src, ip->src);
	addr_set6(&f->dst, ip->dst);
	f->sport = 0;
	f->dport = 0;
	f->protocol = ip->next;
	f->family = 6;
	f->kind = FLOW_PLAIN;
	f->fragment = FRAGMENT_NONE;
	f->tcp = 0;
	f->ttl = ip->ttl;
	f->l4 = IPV6_END;
	f->inner_ip = 0;
	f->inner_l4 = 0;
	f->length = length;
	f->headers = sizeof(*ip);
	return REASON_FORWARDED;
}

/*
 * Not static: the verifier looks at them once, not once for each caller and each way through it.
 * FORWARDED if the packet is sane, a drop if it isn't; whatever the answer, f holds what was read
 * so far. A later fragment whose first isn't known is FRAGMENT_UNKNOWN and has all but its ports.
 */
__noinline __u32 flow_parse4(struct __sk_buff *skb, struct flow *f)
{
	__u32 id, fragment, code;

	if (!f)
		return DROP(REASON_TRUNCATED);

	code = ipv4_parse(skb, f, &id, &fragment);
	if (code != REASON_FORWARDED)
		return code;
	if (fragment & (IP_OFFSET_MASK | IP_MORE_FRAGMENTS))
		return fragment_parse(skb, f, id, (fragment & IP_OFFSET_MASK) * 8);
	return transport_parse(skb, f);
}

__noinline __u32 flow_parse6(struct __sk_buff *skb, struct flow *f)
{
	struct extensions x = {};
	__u32 code;

	if (!f)
		return DROP(REASON_TRUNCATED);

	code = ipv6_parse(skb, f);
	if (code != REASON_FORWARDED)
		return code;
	/* An IPv4 address in IPv6's clothes would meet the keys of IPv4. */
	if (ipv6_mapped(f->src.word) || ipv6_mapped(f->dst.word))
		return DROP(REASON_BAD_HEADER);
	switch (f->protocol) {
	case IP_PROTO_TCP:
	case IP_PROTO_UDP:
	case IP_PROTO_ICMPV6:
		return transport_parse(skb, f);
	}
	x.offset = IPV6_END;
	x.next = f->protocol;
	if (extensions_walk(skb, &x))
		return DROP(REASON_EXTENSION_HEADER);
	if (x.offset - NETWORK_OFFSET > f->length)
		return DROP(REASON_TRUNCATED);
	f->protocol = x.next;
	f->l4 = x.offset;
	if (x.fragmented)
		return fragment_parse(skb, f, x.id, x.fragment);
	return transport_parse(skb, f);
}

/* f must be initialised: the verifier of older kernels wants it so. */
static __always_inline __u32 flow_parse(struct __sk_buff *skb, struct flow *f)
{
	struct ethernet *eth = packet_head(skb, NETWORK_OFFSET);

	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (eth->type == bpf_htons(ETHERTYPE_IPV4))
		return flow_parse4(skb, f);
	if (eth->type == bpf_htons(ETHERTYPE_IPV6))
		return flow_parse6(skb, f);
	return DROP(REASON_ETHERTYPE);
}
