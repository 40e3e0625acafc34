// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_pod: ingress of the host side of an endpoint's veth, or what the pod's side of its netkit
 * sends: what comes from the pod. Checks that it is the pod's, answers for the gateway, and sends
 * it where it goes: into another pod, out by the ENI, or up the stack.
 */

#undef FILE_ID
#define FILE_ID FILE_FROM_POD

/* Out by an ENI, translated if it must be: a flow's first packet. */
static __always_inline __u32 from_pod_begin_out(struct __sk_buff *skb, const struct flow *f,
						struct ct_hit *hit, struct ct_new *n,
						const struct weft_eni *eni, bool translate)
{
	const struct weft_eni *out = eni;
	__u32 code;

	if (translate) {
		out = eni_get(eni->masquerade_eni);
		if (!out)
			return DROP(REASON_NO_ENI);
	}
	/* What is a service's goes to its backend by now, so the answer needs its entry. */
	if (!(n->flags & CT_SERVICE) && needs_answer(skb, f, out->mtu))
		return REASON_TO_STACK;
	if (translate) {
		code = nat_choose(skb, f, eni, n);
		if (code != REASON_FORWARDED)
			return code;
	}
	/* Another CPU was faster: the stack's way leads to what it has made. */
	if (ct_create(f, hit, n)) {
		count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, REASON_NOTE_CT_FAILED);
		return n->flags & CT_SERVICE ? DROP(REASON_NAT_NO_STATE) : REASON_TO_STACK;
	}
	if (n->flags & CT_SERVICE && needs_answer(skb, f, out->mtu))
		return REASON_TO_STACK;
	if (translate) {
		if (!hit->entry)
			return DROP(REASON_NAT_NO_STATE);
		code = nat_out(skb, f, hit->entry);
		if (code != REASON_FORWARDED)
			return code;
	}
	return send(skb, f, out);
}

/* A packet of no flow that is known. */
static __noinline __u32 from_pod_begin(struct __sk_buff *skb, const struct weft_endpoint *ep,
				       const struct weft_config *config, struct flow *f,
				       struct ct_hit *hit)
{
	struct service_scratch *s = service_scratch();
	const struct weft_endpoint *to = NULL;
	const struct weft_address *address;
	const struct weft_eni *eni;
	enum route route;
	struct ct_new *n;
	__u32 code;

	if (!s)
		return DROP(REASON_NAT_NO_STATE);
	/* Neither begins a flow. */
	if (f->kind == FLOW_ERROR || f->fragment == FRAGMENT_LATER)
		return REASON_TO_STACK;
	/* Not on the stack, which is short in 6.1. */
	n = &s->begun;
	__builtin_memset(n, 0, sizeof(*n));
	n->from_slot = (__u16)(ep->ifindex - IFINDEX_BASE);
	n->from_generation = ep->generation;
	n->to_slot = CT_NO_SLOT;
	n->class = ep->class;
	n->nat_eni = (__u16)ep->eni;
	if (f->protocol == IP_PROTO_TCP && !tcp_begins(f->tcp)) {
		if (f->tcp & (TCP_RST | TCP_FIN))
			return REASON_TO_STACK;
		count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, REASON_NOTE_MIDSTREAM);
		n->flags = CT_MIDSTREAM;
	}
	address = address_get(&f->dst);
	/* No service has a pod's address. */
	if (!(n->flags & CT_MIDSTREAM) && !(address && address->flags & ADDRESS_ENDPOINT)) {
		service_forget(hit);
		code = service_begin(skb, f, n,
				     service_own(config, &f->dst, address) ? SERVICE_OWN : 0);
		if (code == SERVICE_TURNED) {
			address = address_get(&f->dst);
			/* What is left of an earlier flow has ended, even if this may begin none.
			 */
			ct_lookup(f, hit);
			hit->stale = true;
		} else if (code != SERVICE_NOT) {
			return code;
		}
		n->nat_eni = 0; /* only what comes in from outside has one */
	}
	if (service_is_node(config, &f->dst))
		goto stack;
	if (address && address->flags & ADDRESS_ENDPOINT) {
		to = endpoint_at(address, &f->dst);
		if (!to)
			return DROP(REASON_ENDPOINT_GONE);
		n->to_slot = (__u16)address->slot;
		n->to_generation = address->generation;
	}
	if (n->flags & CT_MIDSTREAM)
		goto stack;
	if (to) {
		if (f->ttl <= 1)
			return REASON_TO_STACK;
		if (!ct_create(f, hit, n))
			return deliver(skb, f, to);
		count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, REASON_NOTE_CT_FAILED);
		return n->flags & CT_SERVICE ? DROP(REASON_NAT_NO_STATE) : REASON_TO_STACK;
	}
	if (address)
		goto stack;
	eni = eni_get(ep->eni);
	if (!eni)
		return DROP(REASON_NO_ENI);
	route = route_get(config, f, eni);
	if (route != ROUTE_STACK)
		return from_pod_begin_out(skb, f, hit, n, eni, route == ROUTE_TRANSLATE);
stack:
	n->flags |= CT_STACK;
	if (ct_create(f, hit, n)) {
		count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, REASON_NOTE_CT_FAILED);
		if (n->flags & CT_SERVICE)
			return DROP(REASON_NAT_NO_STATE);
	}
	return REASON_TO_STACK;
}

static __always_inline __u32 from_pod_flow(struct __sk_buff *skb, const struct weft_endpoint *ep,
					   const struct weft_config *config, struct flow *f)
{
	const struct weft_endpoint *to;
	const struct weft_eni *eni;
	struct ct_hit hit;
	__u32 code, handle;
	__u16 flags;

	if (!ct_lookup(f, &hit))
		goto begin;
	flags = hit.entry->flags;
	if (flags & (CT_SERVICE | CT_MIDDLE)) {
		code = service_packet(skb, f, &hit, 0, ep->eni);
		if (code == SERVICE_NOT)
			goto begin;
		return code;
	}
	if (flags & CT_ALIAS)
		return REASON_TO_STACK;
	handle = flags & CT_NAT ? hit.entry->nat_eni : ep->eni;
	to = hit.to;
	if (!(flags & CT_AT_NETDEV)) {
		code = ct_update(f, &hit);
		if (code != REASON_FORWARDED)
			count(skb, HOOK_FROM_POD, DIRECTION_EGRESS, code);
	}
	if (flags & CT_STACK)
		return REASON_TO_STACK;
	if (to)
		return deliver(skb, f, to);
	eni = eni_get(handle);
	if (!eni)
		return DROP(REASON_NO_ENI);
	if (needs_answer(skb, f, eni->mtu))
		return REASON_TO_STACK;
	if (flags & CT_NAT) {
		/* Translated flows outlive their last packet. */
		if (!hit.entry)
			return DROP(REASON_NAT_NO_STATE);
		code = nat_out(skb, f, hit.entry);
		if (code != REASON_FORWARDED)
			return code;
	}
	return send(skb, f, eni);
begin:
	code = from_pod_begin(skb, ep, config, f, &hit);
	return code == SERVICE_TWICE ? service_begin_twice(skb, f) : code;
}

/* The instance's own metadata, by either family: 169.254.169.254 and fd00:ec2::254. */
static __always_inline bool metadata(const struct flow *f)
{
	if (f->family == 4)
		return f->dst.word[3] == bpf_htonl(0xa9fea9fe);
	return f->dst.word[0] == bpf_htonl(0xfd000ec2) && !f->dst.word[1] && !f->dst.word[2] &&
	       f->dst.word[3] == bpf_htonl(0x0254);
}

/* Was an ICMP error sent by the pod itself? Its flow says whom it is about. */
static __always_inline bool error_from(struct __sk_buff *skb, const struct weft_addr *own,
				       const bool six)
{
	struct ethernet *eth = packet_head(skb, six ? IPV6_END : IPV4_END);

	if (!eth)
		return false;
	if (six)
		return ipv6_equal(((struct ipv6 *)((void *)eth + NETWORK_OFFSET))->src, own);
	return ((struct ipv4 *)((void *)eth + NETWORK_OFFSET))->src == own->word[3];
}

/* Is it from the pod, and for somebody that a pod may speak to? */
static __always_inline __u32 from_pod_check(struct __sk_buff *skb, const struct weft_endpoint *ep,
					    const struct weft_config *config, const struct flow *f,
					    const bool six)
{
	const struct weft_addr *own = six ? &ep->addr6 : &ep->addr;

	if (!addr_equal(&f->src, own) || addr_null(own))
		return DROP(REASON_SOURCE_ADDRESS);
	if (f->kind == FLOW_ERROR && !error_from(skb, own, six))
		return DROP(REASON_SOURCE_ADDRESS);
	if (six) {
		if (ipv6_multicast(f->dst.word))
			return DROP(REASON_MULTICAST);
		if (ipv6_loopback(f->dst.word))
			return DROP(REASON_LOOPBACK_DEST);
	} else {
		if (ipv4_multicast(f->dst.word[3]))
			return DROP(REASON_MULTICAST);
		if (ipv4_loopback(f->dst.word[3]))
			return DROP(REASON_LOOPBACK_DEST);
	}
	/*
	 * An encapsulated packet that is then masqueraded to a node's address could claim any
	 * source.
	 */
	if (f->protocol == IP_PROTO_UDP && f->kind == FLOW_PLAIN) {
#pragma unroll
		for (int i = 0; i < TUNNEL_PORTS; i++)
			if (config->tunnel_ports[i] && config->tunnel_ports[i] == f->dport)
				return DROP(REASON_TUNNEL_PORT);
	}
	if (config->flags & CONFIG_METADATA_CLOSED && metadata(f))
		return DROP(REASON_METADATA_CLOSED);
	return REASON_FORWARDED;
}

/* An IP packet up to its flow: whose it is, and whether it may be sent at all. */
static __always_inline __u32 from_pod_ip(struct __sk_buff *skb, const struct weft_endpoint *ep,
					 const struct weft_config *config, struct flow *f,
					 const bool six)
{
	struct ethernet *eth = packet_head(skb, six ? IPV6_END : IPV4_END);
	__u32 parsed, code;
	bool direct;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	direct = mac_equal(eth->dst, ep->host_mac);
	if (!direct && !(eth->dst[0] & bpf_htons(0x0100)))
		return DROP(REASON_DEST_MAC);
	if (!direct && !six)
		return DROP(REASON_MULTICAST);
	parsed = six ? flow_parse6(skb, f) : flow_parse4(skb, f);
	if (parsed != REASON_FORWARDED && CODE_REASON(parsed) != REASON_FRAGMENT_UNKNOWN)
		return parsed;
	if (six && f->kind == FLOW_NEIGHBOUR)
		return neighbour_from_pod(skb, ep, config, f);
	if (!direct)
		return DROP(REASON_MULTICAST);
	code = from_pod_check(skb, ep, config, f, six);
	return code != REASON_FORWARDED ? code : parsed;
}

static __always_inline __u32 from_pod_decide(struct __sk_buff *skb)
{
	struct weft_endpoint *ep = endpoint_get(skb->ifindex);
	struct weft_config *config = config_get();
	struct ethernet *eth;
	struct flow f = {};
	__u32 code;

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
		code = from_pod_ip(skb, ep, config, &f, false);
		break;
	case bpf_htons(ETHERTYPE_IPV6):
		if (!(config->families & FAMILY_IPV6))
			return DROP(REASON_FAMILY_OFF);
		code = from_pod_ip(skb, ep, config, &f, true);
		break;
	case bpf_htons(ETHERTYPE_ARP):
		if (!(config->families & FAMILY_IPV4))
			return DROP(REASON_FAMILY_OFF);
		return arp_from_pod(skb, ep, config);
	case bpf_htons(0x8100):
	case bpf_htons(0x88a8):
		return DROP(REASON_VLAN);
	default:
		return DROP(REASON_ETHERTYPE);
	}
	if (code != REASON_FORWARDED)
		return code;
	if (ep->flags & ENDPOINT_LIMITED && !bandwidth_take(skb, &f, ep))
		return DROP(REASON_BANDWIDTH);
	return from_pod_flow(skb, ep, config, &f);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	__u32 code = from_pod_decide(skb);

	/* The whole mark: nothing that a pod put there survives. */
	if (code == REASON_TO_STACK)
		skb->mark = MARK_FROM_POD;
	return verdict(skb, HOOK_FROM_POD, DIRECTION_EGRESS, code);
}
