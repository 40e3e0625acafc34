/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "verdict.h"

#undef FILE_ID
#define FILE_ID FILE_NEIGHBOUR

/*
 * A pod's only neighbour is its gateway, which is answered here. Of itself a pod may tell the host
 * the truth; all else that pods say about neighbours ends here.
 */

#define ARP_REQUEST 1
#define ARP_REPLY 2

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_REDIRECT 137

#define ND_SOURCE_MAC 1
#define ND_TARGET_MAC 2

/* Router, solicited, override. */
#define ND_ANSWER_FLAGS 0xe0000000

/* A solicitation or an advertisement with one option, a MAC address. */
struct neighbour {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__be32 target[4];
	__u8 option;
	__u8 option_words; /* of 8 bytes */
	__u16 mac[3];
};

#define NEIGHBOUR_SHORT offsetof(struct neighbour, option)
#define NEIGHBOUR_END (IPV6_END + sizeof(struct neighbour))

static __always_inline __u32 arp_from_pod(struct __sk_buff *skb, const struct weft_endpoint *ep,
					  const struct weft_config *config)
{
	struct ethernet *eth = packet_head(skb, ARP_END);
	struct arp *arp;
	__be32 sender, target;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	arp = (void *)eth + NETWORK_OFFSET;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_len != 6 || arp->protocol_len != 4)
		return DROP(REASON_BAD_HEADER);
	sender = arp->sender[0] | (__u32)arp->sender[1] << 16;
	target = arp->target[0] | (__u32)arp->target[1] << 16;
	/* A null sender is a probe, which claims nothing. */
	if (!mac_equal(arp->sender_mac, ep->pod_mac) || (sender && sender != ep->addr.word[3]))
		return DROP(REASON_ARP_BAD);

	/* The truth about itself, told to the host that asked. */
	if (arp->operation == bpf_htons(ARP_REPLY) && sender && mac_equal(eth->dst, ep->host_mac))
		return REASON_TO_STACK;
	if (arp->operation != bpf_htons(ARP_REQUEST) || target != config->gateway.word[3])
		return DROP(REASON_ARP_TARGET);

	arp->operation = bpf_htons(ARP_REPLY);
	mac_copy(arp->target_mac, ep->pod_mac);
	arp->target[0] = (__be16)sender;
	arp->target[1] = (__be16)(sender >> 16);
	mac_copy(arp->sender_mac, ep->host_mac);
	arp->sender[0] = (__be16)target;
	arp->sender[1] = (__be16)(target >> 16);
	mac_copy(eth->dst, ep->pod_mac);
	mac_copy(eth->src, ep->host_mac);
	if (bpf_redirect(skb->ifindex, 0) != TC_ACT_REDIRECT)
		return DROP(REASON_REDIRECT_FAILED);
	return REASON_ANSWERED;
}

static __always_inline __u32 arp_to_pod(struct __sk_buff *skb, const struct weft_endpoint *ep,
					const struct weft_config *config)
{
	struct ethernet *eth = packet_head(skb, ARP_END);
	struct arp *arp;
	__be32 sender, target;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	arp = (void *)eth + NETWORK_OFFSET;
	if (!mac_equal(arp->sender_mac, ep->host_mac))
		return DROP(REASON_ARP_BAD);
	sender = arp->sender[0] | (__u32)arp->sender[1] << 16;
	target = arp->target[0] | (__u32)arp->target[1] << 16;
	/* from_pod's own answer, or the host that asks for this pod. */
	if (arp->operation == bpf_htons(ARP_REPLY) && sender == config->gateway.word[3])
		return REASON_FORWARDED;
	if (arp->operation == bpf_htons(ARP_REQUEST) && target == ep->addr.word[3])
		return REASON_FORWARDED;
	return DROP(REASON_ARP_TARGET);
}

/* Turns the pod's question into its answer and sends it back. */
static __noinline __u32 neighbour_answer(struct __sk_buff *skb, const struct weft_endpoint *ep,
					 const struct weft_config *config, const struct flow *f)
{
	/* As the checksum sees it: the addresses, the length, the protocol, the message. */
	struct {
		struct weft_addr src;
		struct weft_addr dst;
		__be32 length;
		__be32 next;
		struct neighbour message;
	} sum = {
		.src = config->gateway6,
		.dst = f->src,
		.length = bpf_htonl(sizeof(struct neighbour)),
		.next = bpf_htonl(IP_PROTO_ICMPV6),
		.message =
			{
				.type = ND_ADVERTISEMENT,
				.flags = bpf_htonl(ND_ANSWER_FLAGS),
				.option = ND_TARGET_MAC,
				.option_words = 1,
			},
	};
	struct ethernet *eth;
	struct ipv6 *ip;
	__s64 folded;

	__builtin_memcpy(sum.message.target, &config->gateway6, sizeof(sum.message.target));
	__builtin_memcpy(sum.message.mac, ep->host_mac, sizeof(sum.message.mac));
	folded = bpf_csum_diff(NULL, 0, (__be32 *)&sum, sizeof(sum), 0);
	folded = (folded & 0xffff) + (folded >> 16 & 0xffff);
	folded = (folded & 0xffff) + (folded >> 16);
	sum.message.checksum = (__u16)~folded;

	if (skb->len != NEIGHBOUR_END && bpf_skb_change_tail(skb, NEIGHBOUR_END, 0))
		return DROP(REASON_REDIRECT_FAILED);
	eth = packet_head(skb, NEIGHBOUR_END);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;
	ip->version_class_label = bpf_htonl(0x60000000);
	ip->payload = bpf_htons(sizeof(struct neighbour));
	ip->next = IP_PROTO_ICMPV6;
	ip->ttl = 255;
	__builtin_memcpy(ip->src, &sum.src, sizeof(ip->src));
	__builtin_memcpy(ip->dst, &sum.dst, sizeof(ip->dst));
	__builtin_memcpy((void *)ip + sizeof(*ip), &sum.message, sizeof(sum.message));
	mac_copy(eth->dst, ep->pod_mac);
	mac_copy(eth->src, ep->host_mac);
	if (bpf_redirect(skb->ifindex, 0) != TC_ACT_REDIRECT)
		return DROP(REASON_REDIRECT_FAILED);
	return REASON_ANSWERED;
}

/*
 * Neighbour, router and listener discovery of a pod. Link-local addresses are the pod's own affair:
 * nobody but the gateway hears of them.
 */
__noinline __u32 neighbour_from_pod(struct __sk_buff *skb, const struct weft_endpoint *ep,
				    const struct weft_config *config, const struct flow *f)
{
	struct neighbour message;
	struct weft_addr target;
	struct ethernet *eth;
	bool unicast;
	__u8 type;

	if (!ep || !config || !f)
		return DROP(REASON_TRUNCATED);
	if (bpf_skb_load_bytes(skb, f->l4, &type, sizeof(type)))
		return DROP(REASON_TRUNCATED);
	switch (type) {
	case ND_SOLICITATION:
	case ND_ADVERTISEMENT:
		break;
	case ND_ROUTER_ADVERTISEMENT:
	case ND_REDIRECT:
		return DROP(REASON_ND_BAD);
	default:
		return REASON_IGNORED;
	}
	if (f->l4 != IPV6_END || f->fragment || f->length < sizeof(struct ipv6) + NEIGHBOUR_SHORT ||
	    bpf_skb_load_bytes(skb, IPV6_END, &message, NEIGHBOUR_SHORT))
		return DROP(REASON_TRUNCATED);
	if (f->ttl != 255 || message.code)
		return DROP(REASON_ND_BAD);
	addr_set6(&target, message.target);
	if (!addr_null(&f->src) && !ipv6_link_local(f->src.word) &&
	    !addr_equal(&f->src, &ep->addr6))
		return DROP(REASON_ND_BAD);

	if (type == ND_SOLICITATION) {
		if (addr_equal(&target, &config->gateway6))
			return addr_null(&f->src) ? DROP(REASON_ND_BAD)
						  : neighbour_answer(skb, ep, config, f);
		/* Is the address that it gives itself taken? Silence means no. */
		if (addr_null(&f->src) &&
		    (addr_equal(&target, &ep->addr6) || ipv6_link_local(target.word)))
			return REASON_IGNORED;
		return DROP(REASON_ND_BAD);
	}

	if (addr_equal(&target, &config->gateway6) ||
	    (!addr_equal(&target, &ep->addr6) && !ipv6_link_local(target.word)))
		return DROP(REASON_ND_BAD);
	eth = packet_head(skb, NETWORK_OFFSET);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	unicast = mac_equal(eth->dst, ep->host_mac);
	if (!unicast || ipv6_link_local(target.word))
		return REASON_IGNORED;
	/* The truth about itself, told to the host that asked. */
	if (f->length != sizeof(struct ipv6) + sizeof(message))
		return f->length == sizeof(struct ipv6) + NEIGHBOUR_SHORT ? REASON_TO_STACK
									  : DROP(REASON_ND_BAD);
	if (bpf_skb_load_bytes(skb, IPV6_END, &message, sizeof(message)))
		return DROP(REASON_TRUNCATED);
	if (message.option != ND_TARGET_MAC || message.option_words != 1 ||
	    !mac_equal(message.mac, ep->pod_mac))
		return DROP(REASON_ND_BAD);
	return REASON_TO_STACK;
}

/* from_pod's own answer, or the host that asks for this pod. */
__noinline __u32 neighbour_to_pod(struct __sk_buff *skb, const struct weft_endpoint *ep,
				  const struct weft_config *config, const struct flow *f)
{
	struct neighbour message;
	struct weft_addr target;
	__u8 type;

	if (!ep || !config || !f)
		return DROP(REASON_TRUNCATED);
	if (bpf_skb_load_bytes(skb, f->l4, &type, sizeof(type)))
		return DROP(REASON_TRUNCATED);
	/* What the host says on every link of its own. */
	if (type != ND_SOLICITATION && type != ND_ADVERTISEMENT)
		return REASON_IGNORED;
	if (f->l4 != IPV6_END || f->length < sizeof(struct ipv6) + NEIGHBOUR_SHORT ||
	    bpf_skb_load_bytes(skb, IPV6_END, &message, NEIGHBOUR_SHORT))
		return DROP(REASON_TRUNCATED);
	addr_set6(&target, message.target);
	if (type == ND_ADVERTISEMENT)
		return addr_equal(&target, &config->gateway6) ? REASON_FORWARDED : REASON_IGNORED;
	return addr_equal(&target, &ep->addr6) ? REASON_FORWARDED : REASON_IGNORED;
}
