// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * to_pod: egress of the host side of an endpoint's device, so what the stack delivers to the pod,
 * what passes the device's queue because the pod's bandwidth is limited, and what another pod sends
 * by netkit. There, the packet has the pod's side as its device already, so both sides of a netkit
 * pair have the same interface index, each in its namespace.
 */

#undef FILE_ID
#define FILE_ID FILE_TO_POD

/* A packet of no flow that is known: its answers are to go by the stack too. */
static __noinline void to_pod_begin(struct __sk_buff *skb, const struct weft_endpoint *ep,
				    const struct flow *f, struct ct_hit *hit)
{
	struct ct_new n = {
		.flags = CT_STACK,
		.from_slot = CT_NO_SLOT,
		.to_slot = (__u16)(ep->ifindex - IFINDEX_BASE),
		.to_generation = ep->generation,
	};
	const struct weft_address *address;

	if (f->kind == FLOW_ERROR || f->fragment == FRAGMENT_LATER)
		return;
	if (f->protocol == IP_PROTO_TCP && !tcp_begins(f->tcp)) {
		if (f->tcp & (TCP_RST | TCP_FIN))
			return;
		count(skb, HOOK_TO_POD, DIRECTION_INGRESS, REASON_NOTE_MIDSTREAM);
		n.flags |= CT_MIDSTREAM;
	}
	/* Nobody outside is ever to go on with what has a pod of this node as its sender. */
	address = address_get(&f->src);
	if (address && address->flags & ADDRESS_ENDPOINT) {
		n.from_slot = address->slot;
		n.from_generation = address->generation;
		/* from_pod has made an entry for what the pod sent: the stack has translated it. */
		if ((skb->mark & MARK_KIND_MASK) == MARK_FROM_POD)
			n.flags |= CT_AT_TO_POD;
	}
	if (ct_create(f, hit, &n))
		count(skb, HOOK_TO_POD, DIRECTION_INGRESS, REASON_NOTE_CT_FAILED);
}

static __always_inline __u32 to_pod_flow(struct __sk_buff *skb, const struct weft_endpoint *ep,
					 struct flow *f)
{
	struct ct_hit hit;
	__u16 flags, slot;
	__u32 note, code = REASON_FORWARDED;

	if (!ct_lookup(f, &hit)) {
		to_pod_begin(skb, ep, f, &hit);
		return REASON_FORWARDED;
	}
	flags = hit.entry->flags;
	if (flags & (CT_ALIAS | CT_AT_NETDEV))
		return REASON_FORWARDED;
	if (flags & CT_SERVICE && hit.side != hit.entry->origin)
		code = service_turn(skb, f, &hit.key, hit.entry, 0);
	if (code != REASON_FORWARDED)
		return code;
	/* from_pod has counted it already. */
	slot = ct_side(hit.entry, hit.side)->slot;
	if ((skb->mark & MARK_KIND_MASK) == MARK_FROM_POD && slot != CT_NO_SLOT &&
	    !(flags & CT_AT_TO_POD))
		return REASON_FORWARDED;
	note = ct_update(f, &hit);
	if (note != REASON_FORWARDED)
		count(skb, HOOK_TO_POD, DIRECTION_INGRESS, note);
	return REASON_FORWARDED;
}

static __always_inline __u32 to_pod_ip(struct __sk_buff *skb, const struct weft_endpoint *ep,
				       const struct weft_config *config, const bool six)
{
	struct flow f = {};
	__u32 code;

	code = six ? flow_parse6(skb, &f) : flow_parse4(skb, &f);
	if (code != REASON_FORWARDED && CODE_REASON(code) != REASON_FRAGMENT_UNKNOWN)
		return code;
	if (six && f.kind == FLOW_NEIGHBOUR)
		return neighbour_to_pod(skb, ep, config, &f);
	if (!addr_equal(&f.dst, six ? &ep->addr6 : &ep->addr) || addr_null(&f.dst))
		return DROP(REASON_NOT_FOR_ENDPOINT);
	/* Checked and counted by the hook that sent it through the queue. */
	if ((skb->mark & MARK_KIND_MASK) == MARK_DECIDED)
		return REASON_FORWARDED;
	if (code != REASON_FORWARDED)
		return code;
	return to_pod_flow(skb, ep, &f);
}

static __always_inline __u32 to_pod_decide(struct __sk_buff *skb)
{
	struct weft_endpoint *ep = endpoint_get(skb->ifindex);
	struct weft_config *config = config_get();
	struct ethernet *eth;

	if (!ep || !config)
		return DROP(REASON_NO_ENDPOINT);
	eth = packet_head(skb, NETWORK_OFFSET);
	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (skb->vlan_present)
		return DROP(REASON_VLAN);
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_ARP):
		return arp_to_pod(skb, ep, config);
	case bpf_htons(ETHERTYPE_IPV4):
		return to_pod_ip(skb, ep, config, false);
	case bpf_htons(ETHERTYPE_IPV6):
		if (!(config->families & FAMILY_IPV6))
			return DROP(REASON_FAMILY_OFF);
		return to_pod_ip(skb, ep, config, true);
	}
	return DROP(REASON_ETHERTYPE);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	__u32 code = to_pod_decide(skb);

	/* Ours, and none of the pod's business: netkit leaves it on, so that it can be read here.
	 */
	skb->mark = 0;
	return verdict(skb, HOOK_TO_POD, DIRECTION_INGRESS, code);
}
