// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * to_pod: egress of the host side of an endpoint's veth, so what the stack delivers to the pod.
 * Ingress policy will stand here.
 */

#undef FILE_ID
#define FILE_ID FILE_TO_POD

static __always_inline __u32 to_pod_arp(struct __sk_buff *skb, const struct weft_endpoint *ep,
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
	if (arp->operation == bpf_htons(2) && sender == config->gateway.word[3])
		return REASON_FORWARDED;
	if (arp->operation == bpf_htons(1) && target == ep->addr.word[3])
		return REASON_FORWARDED;
	return DROP(REASON_ARP_TARGET);
}

static __always_inline __u32 to_pod_decide(struct __sk_buff *skb)
{
	struct weft_endpoint *ep = endpoint_get(skb->ifindex);
	struct weft_config *config = config_get();
	struct ethernet *eth;
	struct ipv4 *ip;
	struct flow f;
	__u32 code, id, fragment;

	if (!ep || !config)
		return DROP(REASON_NO_ENDPOINT);
	eth = packet_head(skb, NETWORK_OFFSET);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (skb->vlan_present)
		return DROP(REASON_VLAN);
	if (eth->type == bpf_htons(ETHERTYPE_ARP))
		return to_pod_arp(skb, ep, config);
	if (eth->type == bpf_htons(ETHERTYPE_IPV6))
		return DROP(REASON_FAMILY_OFF);
	if (eth->type != bpf_htons(ETHERTYPE_IPV4))
		return DROP(REASON_ETHERTYPE);

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
	if (ip->dst != ep->addr.word[3])
		return DROP(REASON_NOT_FOR_ENDPOINT);
	return REASON_FORWARDED;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return verdict(skb, HOOK_TO_POD, DIRECTION_INGRESS, to_pod_decide(skb));
}
