// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_netdev: ingress of an ENI. Nobody outside may speak as a pod of this node. Decapsulation,
 * reverse translation and ingress policy will stand here.
 */

static __always_inline enum weft_reason from_netdev_decide(struct __sk_buff *skb)
{
	struct ethernet *eth = packet_head(skb, NETWORK_OFFSET);
	struct weft_address *address;
	struct weft_eni *eni;
	struct ipv4 *ip;
	enum weft_reason reason;

	if (!eth)
		return REASON_TRUNCATED;
	/* The host's ARP and IPv6 are its own. */
	if (eth->type != bpf_htons(ETHERTYPE_IPV4))
		return REASON_OTHER_FAMILY;
	eth = packet_head(skb, IPV4_END);
	if (!eth)
		return REASON_TRUNCATED;
	ip = (void *)eth + NETWORK_OFFSET;
	reason = ipv4_check(skb, ip);
	if (reason != REASON_FORWARDED)
		return reason;

	address = address_get4(ip->src);
	if (address && address->flags & ADDRESS_ENDPOINT)
		return REASON_SOURCE_IS_LOCAL;

	/* A VPC delivers by the owner only; elsewhere it is a fault worth seeing, not worth a drop.
	 */
	address = address_get4(ip->dst);
	if (address) {
		eni = eni_get(address->eni);
		if (!eni || eni->ifindex != skb->ifindex)
			count(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, REASON_NOTE_WRONG_ENI_IN);
	}
	return REASON_FORWARDED;
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	return verdict(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, from_netdev_decide(skb));
}
