// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_pod: ingress of the host side of an endpoint's veth, so what the pod sends. Checks that it
 * is the pod's, answers ARP for the gateway, hands the rest to the stack.
 */

static __always_inline enum weft_reason from_pod_arp(struct __sk_buff *skb,
						     const struct weft_endpoint *ep,
						     const struct weft_config *config)
{
	struct ethernet *eth = packet_head(skb, ARP_END);
	struct arp *arp;
	__be32 sender, target;

	if (!eth)
		return REASON_TRUNCATED;
	arp = (void *)eth + NETWORK_OFFSET;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_len != 6 || arp->protocol_len != 4)
		return REASON_BAD_HEADER;
	sender = arp->sender[0] | (__u32)arp->sender[1] << 16;
	target = arp->target[0] | (__u32)arp->target[1] << 16;
	/* A null sender is a probe, which claims nothing. */
	if (!mac_equal(arp->sender_mac, ep->pod_mac) || (sender && sender != ep->addr.word[3]))
		return REASON_ARP_BAD;

	/* The truth about itself, told to the host that asked. */
	if (arp->operation == bpf_htons(2) && sender && mac_equal(eth->dst, ep->host_mac))
		return REASON_FORWARDED;
	if (arp->operation != bpf_htons(1) || target != config->gateway.word[3])
		return REASON_ARP_TARGET;

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
		return REASON_REDIRECT_FAILED;
	return REASON_ANSWERED;
}

/* The transport header of a first or only fragment. */
static __always_inline enum weft_reason from_pod_transport(struct __sk_buff *skb,
							   const struct weft_config *config,
							   __u8 protocol, __u32 offset,
							   __u32 payload)
{
	__be16 ports[2];

	if (protocol == IP_PROTO_TCP)
		return payload < 20 ? REASON_TRUNCATED : REASON_FORWARDED;
	if (protocol == IP_PROTO_ICMP)
		return payload < 8 ? REASON_TRUNCATED : REASON_FORWARDED;
	if (protocol != IP_PROTO_UDP)
		return REASON_FORWARDED;
	if (payload < 8 || bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return REASON_TRUNCATED;
		/* An encapsulated packet that is then masqueraded to a node's address could claim
		 * any source. */
#pragma unroll
	for (int i = 0; i < TUNNEL_PORTS; i++)
		if (config->tunnel_ports[i] && config->tunnel_ports[i] == ports[1])
			return REASON_TUNNEL_PORT;
	return REASON_FORWARDED;
}

static __always_inline enum weft_reason from_pod_ipv4(struct __sk_buff *skb,
						      const struct weft_endpoint *ep,
						      const struct weft_config *config)
{
	struct ethernet *eth = packet_head(skb, IPV4_END);
	struct ipv4 *ip;
	enum weft_reason reason;
	__u32 header, length, fragment;

	if (!eth)
		return REASON_TRUNCATED;
	if (!mac_equal(eth->dst, ep->host_mac))
		return eth->dst[0] & bpf_htons(0x0100) ? REASON_MULTICAST : REASON_DEST_MAC;
	ip = (void *)eth + NETWORK_OFFSET;
	reason = ipv4_check(skb, ip);
	if (reason != REASON_FORWARDED)
		return reason;
	if (ip->src != ep->addr.word[3])
		return REASON_SOURCE_ADDRESS;
	if (ipv4_multicast(ip->dst))
		return REASON_MULTICAST;
	if (ipv4_loopback(ip->dst))
		return REASON_LOOPBACK_DEST;

	header = (ip->version_ihl & 0x0f) * 4;
	length = bpf_ntohs(ip->length);
	if (length == 0)
		length = skb->len - NETWORK_OFFSET;
	fragment = bpf_ntohs(ip->fragment);
	if (fragment & IP_OFFSET_MASK) {
		/* A second fragment at offset 8 would rewrite TCP's flags. */
		if (ip->protocol == IP_PROTO_TCP && (fragment & IP_OFFSET_MASK) == 1)
			return REASON_BAD_HEADER;
		return REASON_FORWARDED;
	}
	return from_pod_transport(skb, config, ip->protocol, NETWORK_OFFSET + header,
				  length - header);
}

static __always_inline enum weft_reason from_pod_decide(struct __sk_buff *skb)
{
	struct weft_endpoint *ep = endpoint_get(skb->ifindex);
	struct weft_config *config = config_get();
	struct ethernet *eth;

	if (!ep || !config)
		return REASON_NO_ENDPOINT;
	eth = packet_head(skb, NETWORK_OFFSET);
	if (!eth)
		return REASON_TRUNCATED;
	if (!mac_equal(eth->src, ep->pod_mac))
		return REASON_SOURCE_MAC;
	if (skb->vlan_present)
		return REASON_VLAN;
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_IPV4):
		if (!(config->families & FAMILY_IPV4))
			return REASON_FAMILY_OFF;
		return from_pod_ipv4(skb, ep, config);
	case bpf_htons(ETHERTYPE_ARP):
		if (!(config->families & FAMILY_IPV4))
			return REASON_FAMILY_OFF;
		return from_pod_arp(skb, ep, config);
	case bpf_htons(ETHERTYPE_IPV6):
		return REASON_FAMILY_OFF;
	case bpf_htons(0x8100):
	case bpf_htons(0x88a8):
		return REASON_VLAN;
	}
	return REASON_ETHERTYPE;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	enum weft_reason reason = from_pod_decide(skb);

	if (reason == REASON_FORWARDED)
		skb->mark = MARK_FROM_POD;
	return verdict(skb, HOOK_FROM_POD, DIRECTION_EGRESS, reason);
}
