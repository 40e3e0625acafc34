// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * to_netdev: egress of an ENI, after all translation. The ENI that a packet leaves by is a function
 * of its final source address: a VPC drops what comes by another. A redirected packet passes this
 * hook once more, on the owner, where it matches: there is no loop.
 */

#undef FILE_ID
#define FILE_ID FILE_TO_NETDEV

#define ADDRESS_FAMILY_IPV4 2

static __always_inline __u32 to_netdev_decide(struct __sk_buff *skb)
{
	struct ethernet *eth = packet_head(skb, NETWORK_OFFSET);
	struct bpf_redir_neigh next = {};
	struct weft_address *address;
	struct weft_eni *eni;
	struct ipv4 *ip;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (eth->type != bpf_htons(ETHERTYPE_IPV4))
		return REASON_OTHER_FAMILY;
	eth = packet_head(skb, IPV4_END);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;

	address = address_get4(ip->src);
	if (!address) {
		if ((skb->mark & MARK_KIND_MASK) == MARK_FROM_POD)
			return DROP(REASON_NO_OWNER);
		count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, REASON_NOTE_HOST_SOURCE);
		return REASON_FORWARDED;
	}
	eni = eni_get(address->eni);
	if (!eni)
		return DROP(REASON_NO_ENI);
	/* A VPC carries no multicast; the host's own stays where the host sent it. */
	if (eni->ifindex == skb->ifindex || ipv4_multicast(ip->dst))
		return REASON_FORWARDED;

	/* The next hop is given: the kernel would otherwise look for the destination on the link.
	 */
	next.nh_family = ADDRESS_FAMILY_IPV4;
	next.ipv4_nh = eni->next_hop.word[3];
	if (bpf_redirect_neigh(eni->ifindex, &next, sizeof(next), 0) != TC_ACT_REDIRECT)
		return DROP(REASON_REDIRECT_FAILED);
	return REASON_REDIRECTED;
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	return verdict(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, to_netdev_decide(skb));
}
