// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_pod: ingress of the host side of an endpoint's veth, so what the pod sends. Checks that it
 * is the pod's, answers ARP for the gateway, hands the rest to the stack.
 */

#undef FILE_ID
#define FILE_ID FILE_FROM_POD

static __always_inline __u32 from_pod_arp(struct __sk_buff *skb, const struct weft_endpoint *ep,
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
	if (arp->operation == bpf_htons(2) && sender && mac_equal(eth->dst, ep->host_mac))
		return REASON_FORWARDED;
	if (arp->operation != bpf_htons(1) || target != config->gateway.word[3])
		return DROP(REASON_ARP_TARGET);

	arp->operation = bpf_htons(2);
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

static __always_inline __u32 from_pod_ipv4(struct __sk_buff *skb, const struct weft_endpoint *ep,
					   const struct weft_config *config)
{
	struct ethernet *eth = packet_head(skb, IPV4_END);
	struct flow f;
	struct ipv4 *ip;
	__u32 code;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (!mac_equal(eth->dst, ep->host_mac))
		return eth->dst[0] & bpf_htons(0x0100) ? DROP(REASON_MULTICAST)
						       : DROP(REASON_DEST_MAC);
	code = flow_parse4(skb, &f);
	if (code != REASON_FORWARDED && CODE_REASON(code) != REASON_FRAGMENT_UNKNOWN)
		return code;
	eth = packet_head(skb, IPV4_END);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	ip = (void *)eth + NETWORK_OFFSET;
	if (ip->src != ep->addr.word[3])
		return DROP(REASON_SOURCE_ADDRESS);
	if (ipv4_multicast(ip->dst))
		return DROP(REASON_MULTICAST);
	if (ipv4_loopback(ip->dst))
		return DROP(REASON_LOOPBACK_DEST);
	/* An encapsulated packet that is then masqueraded to a node's address could claim any
	 * source. */
	if (f.protocol == IP_PROTO_UDP && f.kind == FLOW_PLAIN) {
#pragma unroll
		for (int i = 0; i < TUNNEL_PORTS; i++)
			if (config->tunnel_ports[i] && config->tunnel_ports[i] == f.dport)
				return DROP(REASON_TUNNEL_PORT);
	}
	return REASON_FORWARDED;
}

static __always_inline __u32 from_pod_decide(struct __sk_buff *skb)
{
	struct weft_endpoint *ep = endpoint_get(skb->ifindex);
	struct weft_config *config = config_get();
	struct ethernet *eth;

	if (!ep || !config)
		return DROP(REASON_NO_ENDPOINT);
	eth = packet_head(skb, NETWORK_OFFSET);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (!mac_equal(eth->src, ep->pod_mac))
		return DROP(REASON_SOURCE_MAC);
	if (skb->vlan_present)
		return DROP(REASON_VLAN);
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_IPV4):
		if (!(config->families & FAMILY_IPV4))
			return DROP(REASON_FAMILY_OFF);
		return from_pod_ipv4(skb, ep, config);
	case bpf_htons(ETHERTYPE_ARP):
		if (!(config->families & FAMILY_IPV4))
			return DROP(REASON_FAMILY_OFF);
		return from_pod_arp(skb, ep, config);
	case bpf_htons(ETHERTYPE_IPV6):
		return DROP(REASON_FAMILY_OFF);
	case bpf_htons(0x8100):
	case bpf_htons(0x88a8):
		return DROP(REASON_VLAN);
	}
	return DROP(REASON_ETHERTYPE);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	__u32 code = from_pod_decide(skb);

	if (code == REASON_FORWARDED)
		skb->mark = MARK_FROM_POD;
	return verdict(skb, HOOK_FROM_POD, DIRECTION_EGRESS, code);
}
