/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>

#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "verdict.h"

#undef FILE_ID
#define FILE_ID FILE_DELIVER

/*
 * Past the stack: into a pod of this node, or out by an ENI. A redirect takes nothing off the time
 * to live and looks at no MTU, so both are done here, as a router does: once a node and direction.
 */

#define ADDRESS_FAMILY_IPV4 2
#define ADDRESS_FAMILY_IPV6 10

/* One hop less; the caller has seen that there is one left. The start of the packet, or NULL. */
static __always_inline struct ethernet *ttl_decrement(struct __sk_buff *skb, const struct flow *f)
{
	struct ethernet *eth;

	if (f->family == 4) {
		struct ipv4 *ip;
		__u32 sum;

		eth = packet_head(skb, IPV4_END);
		if (!eth)
			return NULL;
		ip = (void *)eth + NETWORK_OFFSET;
		/* One less in the upper byte of a word is one more in the upper byte of its sum. */
		sum = ip->checksum;
		sum += bpf_htons(0x0100);
		ip->checksum = (__u16)(sum + (sum >= 0xffff));
		ip->ttl--;
		return eth;
	}
	eth = packet_head(skb, IPV6_END);
	if (!eth)
		return NULL;
	((struct ipv6 *)((void *)eth + NETWORK_OFFSET))->ttl--;
	/* No checksum in the header makes up for it: a sum that the device took is told. */
	bpf_csum_update(skb, bpf_htons(0xffff - 1));
	return eth;
}

/*
 * Must the stack see it, because it answers with an ICMP error? Its time ends here, or it is larger
 * than what it would leave by.
 */
static __always_inline bool needs_answer(const struct __sk_buff *skb, const struct flow *f,
					 __u32 mtu)
{
	__u32 length = f->length;

	if (f->ttl <= 1)
		return true;
	if (skb->gso_size)
		length = f->headers + skb->gso_size;
	return length > mtu;
}

/*
 * Into the pod. A pod with limited bandwidth is reached through the queue of its device. What a pod
 * sends by netkit has come in by no interface yet, and from there no redirect leads into another
 * namespace: it goes by the other pod's device, where to_pod lets it pass.
 */
static __always_inline __u32 deliver(struct __sk_buff *skb, const struct flow *f,
				     const struct weft_endpoint *ep)
{
	struct ethernet *eth;
	long action;

	if (f->ttl <= 1)
		return REASON_TO_STACK;
	eth = ttl_decrement(skb, f);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	mac_copy(eth->dst, ep->pod_mac);
	mac_copy(eth->src, ep->host_mac);
	if (ep->flags & ENDPOINT_QUEUED || !skb->ingress_ifindex) {
		skb->mark = MARK_DECIDED;
		action = bpf_redirect(ep->ifindex, 0);
	} else {
		/* A mark says things about the node that are none of the pod's business. */
		skb->mark = 0;
		action = bpf_redirect_peer(ep->ifindex, 0);
	}
	if (action != TC_ACT_REDIRECT)
		return DROP(REASON_REDIRECT_FAILED);
	return REASON_DELIVERED;
}

/*
 * To the subnet's router of an ENI. The next hop is given: the kernel would otherwise look for the
 * destination on the link.
 */
static __always_inline __u32 redirect_by(struct __sk_buff *skb, __u8 family,
					 const struct weft_eni *eni)
{
	struct bpf_redir_neigh next = {};

	if (family == 4) {
		if (!eni->next_hop.word[3])
			return DROP(REASON_NO_NEXT_HOP);
		next.nh_family = ADDRESS_FAMILY_IPV4;
		next.ipv4_nh = eni->next_hop.word[3];
	} else {
		if (addr_null(&eni->next_hop6))
			return DROP(REASON_NO_NEXT_HOP);
		next.nh_family = ADDRESS_FAMILY_IPV6;
		__builtin_memcpy(next.ipv6_nh, &eni->next_hop6, sizeof(next.ipv6_nh));
	}
	skb->mark = MARK_DECIDED;
	if (bpf_redirect_neigh(eni->ifindex, &next, sizeof(next), 0) != TC_ACT_REDIRECT)
		return DROP(REASON_REDIRECT_FAILED);
	return REASON_REDIRECTED;
}

/* A pod's packet that needs no answer, by the ENI that owns its source. */
static __always_inline __u32 send(struct __sk_buff *skb, const struct flow *f,
				  const struct weft_eni *eni)
{
	__u32 code;

	if (!ttl_decrement(skb, f))
		return DROP(REASON_TRUNCATED);
	code = redirect_by(skb, f->family, eni);
	return code == REASON_REDIRECTED ? REASON_SENT : code;
}
