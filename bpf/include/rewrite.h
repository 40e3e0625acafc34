/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Another address and port into a packet, with its checksums. Sums are one's complement and updated
 * by what changed, so a packet that was damaged on its way stays damaged. A transport's checksum is
 * changed by the helper that knows whether the device has yet to finish it.
 */

#include "flow.h"
#include "packet.h"
#include "verdict.h"

#undef FILE_ID
#define FILE_ID FILE_REWRITE

#define REWRITE_NOWHERE 0xffff

/* The protocols whose checksum lies at a fixed place; DCCP and UDP-Lite have UDP's. */
#define IP_PROTO_DCCP 33
#define IP_PROTO_UDPLITE 136

/* Which end of the packet gets another address. */
enum rewrite_end {
	REWRITE_SOURCE = 0,
	REWRITE_DEST = 1,
};

static __always_inline __u32 sum_fold64(__u64 s)
{
	s = (s & 0xffffffff) + (s >> 32);
	return (__u32)((s & 0xffffffff) + (s >> 32));
}

static __always_inline __u16 sum_fold(__u32 s)
{
	s = (s & 0xffff) + (s >> 16);
	return (__u16)((s & 0xffff) + (s >> 16));
}

/* By what a sum over the address changes. The words that IPv4 addresses share come to nothing. */
static __always_inline __u32 sum_addr(const struct weft_addr *from, const struct weft_addr *to)
{
	__u64 s = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		s += (__u64)to->word[i] + (__u32)~from->word[i];
	return sum_fold64(s);
}

static __always_inline __u32 sum_port(__be16 from, __be16 to)
{
	return (__u32)to + (__u16)~from;
}

static __always_inline __u16 sum_apply(__u16 checksum, __u32 change)
{
	return ~sum_fold((__u32)(__u16)~checksum + sum_fold(change));
}

static __always_inline __u32 rewrite_checksum_at(__u8 protocol)
{
	switch (protocol) {
	case IP_PROTO_TCP:
		return 16;
	case IP_PROTO_UDP:
	case IP_PROTO_UDPLITE:
	case IP_PROTO_DCCP:
		return 6;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		return 2;
	}
	return REWRITE_NOWHERE; /* none, or SCTP's, which knows no addresses */
}

/* Is a checksum of 0 none? It then stays 0, and one that comes out as 0 is written 0xffff. */
static __always_inline bool rewrite_sum_optional(__u8 protocol)
{
	return protocol == IP_PROTO_UDP || protocol == IP_PROTO_UDPLITE;
}

/* Where the port is that stands for this end; an ICMP query has one id for both. */
static __always_inline __u32 rewrite_port_at(__u8 protocol, enum rewrite_end end)
{
	switch (protocol) {
	case IP_PROTO_TCP:
	case IP_PROTO_UDP:
		return end == REWRITE_SOURCE ? 0 : 2;
	case IP_PROTO_ICMP:
	case IP_PROTO_ICMPV6:
		return 4;
	}
	return REWRITE_NOWHERE;
}

/* Protocols whose port or id can be another one: the others are translated by address alone. */
static __always_inline bool rewrite_has_port(__u8 protocol)
{
	return rewrite_port_at(protocol, REWRITE_SOURCE) != REWRITE_NOWHERE;
}

/* The address in the IP header, if it is the one that is expected there. */
static __always_inline __u32 rewrite_header(struct __sk_buff *skb, __u8 family,
					    enum rewrite_end end, const struct weft_addr *from,
					    const struct weft_addr *to)
{
	if (family == 4) {
		void *head = packet_head(skb, IPV4_END);
		struct ipv4 *ip;
		__be32 *addr;

		if (!head)
			return DROP(REASON_TRUNCATED);
		ip = head + NETWORK_OFFSET;
		addr = end == REWRITE_SOURCE ? &ip->src : &ip->dst;
		if (*addr != from->word[3])
			return DROP(REASON_BAD_HEADER);
		*addr = to->word[3];
		ip->checksum = sum_apply(ip->checksum, sum_addr(from, to));
		return REASON_FORWARDED;
	}
	/* Version and length before, then the two addresses: no checksum. */
	void *head = packet_head(skb, NETWORK_OFFSET + 40);
	struct weft_addr *addr;

	if (!head)
		return DROP(REASON_TRUNCATED);
	addr = head + NETWORK_OFFSET + (end == REWRITE_SOURCE ? 8 : 24);
	if (!addr_equal(addr, from))
		return DROP(REASON_BAD_HEADER);
	*addr = *to;
	return REASON_FORWARDED;
}

/* A packet of the flow itself. */
static __always_inline __u32 rewrite_packet(struct __sk_buff *skb, const struct flow *f,
					    enum rewrite_end end, const struct weft_addr *to,
					    __be16 to_port)
{
	const struct weft_addr *from = end == REWRITE_SOURCE ? &f->src : &f->dst;
	__be16 port = end == REWRITE_SOURCE ? f->sport : f->dport;
	__u32 sum = rewrite_checksum_at(f->protocol);

	if (f->fragment != FRAGMENT_LATER && sum != REWRITE_NOWHERE) {
		__u32 at = f->l4 + sum;
		__u64 flags = rewrite_sum_optional(f->protocol) ? BPF_F_MARK_MANGLED_0 : 0;

		/* ICMP knows no addresses. ICMPv6 does, but no device finishes its checksum. */
		if (f->protocol != IP_PROTO_ICMP &&
		    bpf_l4_csum_replace(
			    skb, at, 0, sum_addr(from, to),
			    flags | (f->protocol == IP_PROTO_ICMPV6 ? 0 : BPF_F_PSEUDO_HDR)))
			return DROP(REASON_TRUNCATED);
		/* ICMP that is no query has something else where its id would be. */
		if (port != to_port && rewrite_has_port(f->protocol) &&
		    (f->kind == FLOW_QUERY ||
		     (f->protocol != IP_PROTO_ICMP && f->protocol != IP_PROTO_ICMPV6))) {
			if (bpf_l4_csum_replace(skb, at, port, to_port, flags | sizeof(port)) ||
			    bpf_skb_store_bytes(skb, f->l4 + rewrite_port_at(f->protocol, end),
						&to_port, sizeof(to_port), 0))
				return DROP(REASON_TRUNCATED);
		}
	}
	return rewrite_header(skb, f->family, end, from, to);
}

/* Changes a checksum inside an error; returns by what it changed, nothing if it isn't quoted. */
static __always_inline __u32 rewrite_quoted_sum(struct __sk_buff *skb, __u32 at, __u32 change,
						bool optional)
{
	__u16 have, want;

	if (bpf_skb_load_bytes(skb, at, &have, sizeof(have)) || (optional && !have))
		return 0;
	want = sum_apply(have, change);
	if (optional && !want)
		want = 0xffff;
	if (bpf_skb_store_bytes(skb, at, &want, sizeof(want), 0))
		return 0;
	return sum_port(have, want);
}

/*
 * An ICMP error about a packet of the flow: the packet inside went the other way, so its other end
 * is the one that changes. The error's own checksum covers all of it. Who sent it may be a router
 * on the way: it gets the new address as well, since a node can't send with a router's.
 */
static __noinline __u32 rewrite_error(struct __sk_buff *skb, const struct flow *f,
				      enum rewrite_end end, const struct weft_addr *to,
				      __be16 to_port)
{
	const struct weft_addr *from = end == REWRITE_SOURCE ? &f->src : &f->dst;
	__be16 port = end == REWRITE_SOURCE ? f->sport : f->dport;
	enum rewrite_end inner = end == REWRITE_SOURCE ? REWRITE_DEST : REWRITE_SOURCE;
	__u32 at_sum = rewrite_checksum_at(f->protocol);
	__u32 at_port = rewrite_port_at(f->protocol, inner);
	__u32 by_addr = sum_addr(from, to), by_port = 0;
	__u64 change = 0; /* of the error's checksum */
	struct weft_addr quoted, outer = *from;
	__u32 at;

	if (f->family == 4) {
		at = f->inner_ip + (inner == REWRITE_SOURCE ? 12 : 16);
		if (end == REWRITE_SOURCE &&
		    bpf_skb_load_bytes(skb, NETWORK_OFFSET + 12, &outer.word[3], 4))
			return DROP(REASON_TRUNCATED);
		if (bpf_skb_load_bytes(skb, at, &quoted.word[3], 4))
			return DROP(REASON_TRUNCATED);
		if (quoted.word[3] != from->word[3])
			return DROP(REASON_BAD_HEADER);
		if (bpf_skb_store_bytes(skb, at, &to->word[3], 4, 0))
			return DROP(REASON_TRUNCATED);
		change += by_addr;
		change += rewrite_quoted_sum(skb, f->inner_ip + 10, by_addr, false);
	} else {
		at = f->inner_ip + (inner == REWRITE_SOURCE ? 8 : 24);
		if (end == REWRITE_SOURCE &&
		    bpf_skb_load_bytes(skb, NETWORK_OFFSET + 8, &outer, sizeof(outer)))
			return DROP(REASON_TRUNCATED);
		if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)))
			return DROP(REASON_TRUNCATED);
		if (!addr_equal(&quoted, from))
			return DROP(REASON_BAD_HEADER);
		if (bpf_skb_store_bytes(skb, at, to, sizeof(*to), 0))
			return DROP(REASON_TRUNCATED);
		change += by_addr; /* inside, */
		/* and the error's own address, which ICMPv6 sums up too */
		change += sum_addr(&outer, to);
	}

	if (f->fragment != FRAGMENT_LATER) {
		if (port != to_port && at_port != REWRITE_NOWHERE) {
			if (bpf_skb_store_bytes(skb, f->inner_l4 + at_port, &to_port,
						sizeof(to_port), 0))
				return DROP(REASON_TRUNCATED);
			by_port = sum_port(port, to_port);
			change += by_port;
		}
		/* What follows the packet in its frame is no part of what it quotes. */
		if (at_sum != REWRITE_NOWHERE &&
		    f->inner_l4 + at_sum + 2 <= NETWORK_OFFSET + f->length)
			change += rewrite_quoted_sum(
				skb, f->inner_l4 + at_sum,
				sum_fold64((__u64)by_port +
					   (f->protocol == IP_PROTO_ICMP ? 0 : by_addr)),
				rewrite_sum_optional(f->protocol));
	}
	if (bpf_l4_csum_replace(skb, f->l4 + 2, 0, sum_fold64(change), 0))
		return DROP(REASON_TRUNCATED);
	return rewrite_header(skb, f->family, end, &outer, to);
}

/* Not static: the verifier looks at it once, not once for each way that leads here. */
__noinline __u32 rewrite(struct __sk_buff *skb, const struct flow *f, enum rewrite_end end,
			 const struct weft_addr *to, __be16 to_port)
{
	if (!f || !to)
		return DROP(REASON_TRUNCATED);
	if (f->kind == FLOW_ERROR)
		return rewrite_error(skb, f, end, to, to_port);
	return rewrite_packet(skb, f, end, to, to_port);
}

/* The same of what is no ICMP error: less of the stack where that is short. */
__noinline __u32 rewrite_plain(struct __sk_buff *skb, const struct flow *f, enum rewrite_end end,
			       const struct weft_addr *to, __be16 to_port)
{
	if (!f || !to || f->kind == FLOW_ERROR)
		return DROP(REASON_TRUNCATED);
	return rewrite_packet(skb, f, end, to, to_port);
}
