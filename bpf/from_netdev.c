// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_netdev: ingress of an ENI. Nobody outside may speak as a pod of this node. Decapsulation,
 * reverse translation and ingress policy will stand here.
 */

#undef FILE_ID
#define FILE_ID FILE_FROM_NETDEV

static __always_inline __u32 from_netdev_decide(struct __sk_buff *skb)
{
	struct ethernet *eth = packet_head(skb, NETWORK_OFFSET);
	struct weft_address *address;
	struct weft_eni *eni;
	struct ipv4 *ip;
	struct flow f;
	__u32 code, id, fragment;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	/* The host's ARP and IPv6 are its own. */
	if (eth->type != bpf_htons(ETHERTYPE_IPV4))
		return REASON_OTHER_FAMILY;
	eth = packet_head(skb, IPV4_END);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;
	code = ipv4_parse(skb, &f, &id, &fragment);
	if (code != REASON_FORWARDED)
		return code;
	eth = packet_head(skb, IPV4_END);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;

	address = address_get4(ip->src);
	if (address && address->flags & ADDRESS_ENDPOINT)
		return DROP(REASON_SOURCE_IS_LOCAL);

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
