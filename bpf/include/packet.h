/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

/* Headers on the wire, and how to get at them. */

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd

#define IP_PROTO_HOPOPTS 0
#define IP_PROTO_ICMP 1
#define IP_PROTO_TCP 6
#define IP_PROTO_UDP 17
#define IP_PROTO_IPV6 41
#define IP_PROTO_ROUTING 43
#define IP_PROTO_FRAGMENT 44
#define IP_PROTO_AH 51
#define IP_PROTO_ICMPV6 58
#define IP_PROTO_NONE 59
#define IP_PROTO_DSTOPTS 60
#define IP_PROTO_SCTP 132
#define IP_PROTO_MOBILITY 135

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000
#define IP_DONT_FRAGMENT 0x4000

#define NETWORK_OFFSET 14

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct ethernet {
	__u16 dst[3];
	__u16 src[3];
	__be16 type;
};

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u16 sender_mac[3];
	__be16 sender[2];
	__u16 target_mac[3];
	__be16 target[2];
};

struct ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

struct ipv6 {
	__be32 version_class_label;
	__be16 payload;
	__u8 next;
	__u8 ttl;
	__be32 src[4];
	__be32 dst[4];
};

struct tcp {
	__be16 sport;
	__be16 dport;
	__be32 sequence;
	__be32 acknowledged;
	__u8 offset; /* in the upper half, words */
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

#define ARP_END (NETWORK_OFFSET + sizeof(struct arp))
#define IPV4_END (NETWORK_OFFSET + sizeof(struct ipv4))
#define IPV6_END (NETWORK_OFFSET + sizeof(struct ipv6))

/*
 * The compiler may compute with the context's pointer before it loads from it, which the verifier
 * refuses after a helper changed the packet; a load written out in assembly leaves it no choice.
 */
static __always_inline void *packet_start(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(p)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return p;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(p)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return p;
}

/* The first len bytes, made linear if they aren't; NULL if the packet is shorter. len is constant.
 */
static __always_inline void *packet_head(struct __sk_buff *skb, const __u32 len)
{
	void *start = packet_start(skb);

	if (start + len <= packet_end(skb))
		return start;
	if (bpf_skb_pull_data(skb, len))
		return NULL;
	start = packet_start(skb);
	if (start + len > packet_end(skb))
		return NULL;
	return start;
}

/* The verifier must see a bound; no header that the programs look at begins behind it. */
#define PACKET_OFFSET_MAX 0x3ff

/* len bytes at an offset that isn't constant. */
static __always_inline void *packet_at(struct __sk_buff *skb, __u32 offset, const __u32 len)
{
	void *start;

	if (offset > PACKET_OFFSET_MAX)
		return NULL;
	/* The compiler knows by now; the verifier may have forgotten. */
	asm volatile("%0 &= %1" : "+r"(offset) : "i"(PACKET_OFFSET_MAX));
	start = packet_start(skb) + offset;
	if (start + len <= packet_end(skb))
		return start;
	if (bpf_skb_pull_data(skb, offset + len))
		return NULL;
	start = packet_start(skb) + offset;
	if (start + len > packet_end(skb))
		return NULL;
	return start;
}

static __always_inline bool mac_equal(const __u16 *a, const __u8 *b)
{
	const __u16 *w = (const __u16 *)b;

	return a[0] == w[0] && a[1] == w[1] && a[2] == w[2];
}

static __always_inline void mac_copy(__u16 *to, const __u8 *from)
{
	const __u16 *w = (const __u16 *)from;

	to[0] = w[0];
	to[1] = w[1];
	to[2] = w[2];
}

static __always_inline bool addr_equal(const struct weft_addr *a, const struct weft_addr *b)
{
	return a->half[1] == b->half[1] && a->half[0] == b->half[0];
}

static __always_inline bool addr_null(const struct weft_addr *a)
{
	return !(a->half[0] | a->half[1]);
}

static __always_inline bool ipv6_equal(const __be32 *a, const struct weft_addr *b)
{
	return a[3] == b->word[3] && a[2] == b->word[2] && a[1] == b->word[1] && a[0] == b->word[0];
}

static __always_inline void addr_set4(struct weft_addr *to, __be32 from)
{
	to->word[0] = 0;
	to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = from;
}

static __always_inline void addr_set6(struct weft_addr *to, const __be32 *from)
{
	to->word[0] = from[0];
	to->word[1] = from[1];
	to->word[2] = from[2];
	to->word[3] = from[3];
}

/* Is it an IPv4 address? */
static __always_inline bool addr_mapped(const struct weft_addr *a)
{
	return !a->half[0] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool ipv4_multicast(__be32 addr)
{
	return (addr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || addr == 0xffffffff;
}

/* 127.0.0.0/8, which a node may route while kube-proxy serves node ports on it, and 0.0.0.0/8. */
static __always_inline bool ipv4_loopback(__be32 addr)
{
	__be32 net = addr & bpf_htonl(0xff000000);

	return net == bpf_htonl(0x7f000000) || net == 0;
}

static __always_inline bool ipv6_multicast(const __be32 *addr)
{
	return (addr[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* fe80::/10 */
static __always_inline bool ipv6_link_local(const __be32 *addr)
{
	return (addr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* ::ffff:0:0/96: IPv4 in IPv6's clothes. */
static __always_inline bool ipv6_mapped(const __be32 *addr)
{
	return !(addr[0] | addr[1]) && addr[2] == bpf_htonl(0xffff);
}

/* ::/96, with the null and the loopback address. */
static __always_inline bool ipv6_loopback(const __be32 *addr)
{
	return !(addr[0] | addr[1] | addr[2]);
}
