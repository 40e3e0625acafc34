/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "reason.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd

#define IP_PROTO_ICMP 1
#define IP_PROTO_TCP 6
#define IP_PROTO_UDP 17

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

#define NETWORK_OFFSET 14

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

#define ARP_END (NETWORK_OFFSET + sizeof(struct arp))
#define IPV4_END (NETWORK_OFFSET + sizeof(struct ipv4))

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

/* Is the header sane, and the packet as long as it says? FORWARDED if so. */
static __always_inline enum weft_reason ipv4_check(const struct __sk_buff *skb,
						   const struct ipv4 *ip)
{
	__u32 header = (ip->version_ihl & 0x0f) * 4;
	__u32 length = bpf_ntohs(ip->length);

	if (ip->version_ihl >> 4 != 4 || header < sizeof(*ip))
		return REASON_BAD_HEADER;
	/* A segmented packet above 64 KiB says 0. */
	if (length == 0 && skb->gso_size)
		length = skb->len - NETWORK_OFFSET;
	if (length < header)
		return REASON_BAD_HEADER;
	if (skb->len < NETWORK_OFFSET + length)
		return REASON_TRUNCATED;
	return REASON_FORWARDED;
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
