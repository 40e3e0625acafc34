// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * from_netdev: ingress of an ENI. Nobody outside may speak as a pod of this node; what is for a pod
 * goes straight into it, unless its flow is the stack's; answers to translated flows are translated
 * back; the host's own is the host's.
 */

#undef FILE_ID
#define FILE_ID FILE_FROM_NETDEV

/* A VPC delivers by the owner only; elsewhere it is a fault worth seeing, not worth a drop. */
static __always_inline void note_wrong_eni(struct __sk_buff *skb, __u32 handle)
{
	const struct weft_eni *eni = eni_get(handle);

	if (!eni || eni->ifindex != skb->ifindex)
		count(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, REASON_NOTE_WRONG_ENI_IN);
}

/* A packet of no flow that is known, for a pod of this node. */
static __always_inline __u32 from_netdev_begin(struct __sk_buff *skb, const struct flow *f,
					       struct ct_hit *hit,
					       const struct weft_address *address)
{
	const struct weft_endpoint *to = endpoint_at(address, &f->dst);
	struct ct_new n = {
		.from_slot = CT_NO_SLOT,
		.to_slot = (__u16)address->slot,
		.to_generation = address->generation,
	};

	if (!to)
		return DROP(REASON_ENDPOINT_GONE);
	if (f->kind == FLOW_ERROR || f->fragment == FRAGMENT_LATER || f->ttl <= 1)
		return REASON_TO_STACK;
	/* to_pod makes the entry, if it is to have one. */
	if (f->protocol == IP_PROTO_TCP && !tcp_begins(f->tcp))
		return REASON_TO_STACK;
	if (ct_create(f, hit, &n)) {
		count(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, REASON_NOTE_CT_FAILED);
		return REASON_TO_STACK;
	}
	return deliver(skb, f, to);
}

/* To a service, from outside: to a pod of this node, to the node itself or to another node. */
__noinline __u32 from_netdev_service(struct __sk_buff *skb, struct flow *f, __u32 own)
{
	struct service_scratch *s = service_scratch();
	const struct weft_endpoint *to = NULL;
	const struct weft_address *address;
	__u32 zero = 0, code, side;
	struct nat_scratch *nat;
	struct ct_new *n;

	nat = bpf_map_lookup_elem(&weft_nat_scratch, &zero);
	if (!f || !s || !nat || f->fragment == FRAGMENT_LATER ||
	    (f->protocol == IP_PROTO_TCP && !tcp_begins(f->tcp)))
		return REASON_FORWARDED;
	n = &s->begun;
	__builtin_memset(n, 0, sizeof(*n));
	n->from_slot = n->to_slot = CT_NO_SLOT;
	code = service_begin(skb, f, n, SERVICE_OUTSIDE | (own ? SERVICE_OWN : 0));
	if (code == SERVICE_NOT)
		return REASON_FORWARDED;
	if (code != SERVICE_TURNED)
		return code;
	if (n->to_slot != CT_NO_SLOT) {
		address = address_get(&s->backend.addr);
		to = address ? endpoint_at(address, &s->backend.addr) : NULL;
		if (!to)
			return DROP(REASON_ENDPOINT_GONE);
	} else {
		n->flags |= CT_STACK;
		service_port_used(f->dport);
	}
	side = ct_key_make(&nat->key, &f->src, f->sport, &f->dst, f->dport, f->protocol);
	service_remove(nat);
	if (ct_insert(f, &nat->key, n, side, (__u32)bpf_jiffies64()) == CT_IN_NONE)
		return DROP(REASON_NAT_NO_STATE);
	return to ? deliver(skb, f, to) : REASON_TO_STACK;
}

/* Not of a pod's flow that is known. SERVICE_NOT: to no pod, so it may be to a service. */
static __noinline __u32 from_netdev_unknown(struct __sk_buff *skb, const struct weft_config *config,
					    struct flow *f, struct ct_hit *hit, bool *own)
{
	const struct weft_address *source = address_get(&f->src), *address;

	if (source && source->flags & ADDRESS_ENDPOINT)
		return DROP(REASON_SOURCE_IS_LOCAL);
	address = address_get(&f->dst);
	if (address)
		note_wrong_eni(skb, address->eni);
	if (!address || !(address->flags & ADDRESS_ENDPOINT)) {
		/* The node's own are no clients that come from outside. */
		if (source || f->kind != FLOW_PLAIN)
			return REASON_FORWARDED;
		*own = service_own(config, &f->dst, address);
		return SERVICE_NOT;
	}
	/* The stack would refuse it too, as it does for itself. */
	if (source)
		return DROP(REASON_SOURCE_IS_LOCAL);
	return from_netdev_begin(skb, f, hit, address);
}

/* Who sent an ICMP error; its flow says whom it is about. */
static __noinline __u32 from_netdev_error(struct __sk_buff *skb, const struct flow *f)
{
	const struct weft_address *address;
	struct weft_addr src = {};
	__be32 src4 = 0;

	if (f->family == 4) {
		if (bpf_skb_load_bytes(skb, NETWORK_OFFSET + offsetof(struct ipv4, src), &src4,
				       sizeof(src4)))
			return DROP(REASON_TRUNCATED);
		addr_set4(&src, src4);
	} else if (bpf_skb_load_bytes(skb, NETWORK_OFFSET + offsetof(struct ipv6, src), &src,
				      sizeof(src))) {
		return DROP(REASON_TRUNCATED);
	}
	address = address_get(&src);
	return address && address->flags & ADDRESS_ENDPOINT ? DROP(REASON_SOURCE_IS_LOCAL)
							    : REASON_FORWARDED;
}

static __always_inline __u32 from_netdev_flow(struct __sk_buff *skb,
					      const struct weft_config *config, struct flow *f)
{
	const struct weft_ct_entry *alias;
	const struct weft_endpoint *to;
	struct ct_hit hit;
	bool own = false;
	__u32 code;
	__u16 flags;

	if (f->kind == FLOW_ERROR) {
		code = from_netdev_error(skb, f);
		if (code != REASON_FORWARDED)
			return code;
	}
	/*
	 * Most of what comes for the host can't be an answer to a translated flow, nor a service's.
	 * Flows outlive the setting.
	 */
	hit.entry = NULL;
	hit.stale = false;
	if (addr_equal(&f->dst, f->family == 4 ? &config->node_addr : &config->node_addr6) &&
	    !nat_port_given(config, f, f->dport) && !service_port(f->dport))
		goto unknown;
	if (!ct_lookup(f, &hit))
		goto unknown;

	flags = hit.entry->flags;
	if (flags & (CT_SERVICE | CT_MIDDLE)) {
		code = service_packet(skb, f, &hit, SERVICE_OUTSIDE, 0);
		if (code == SERVICE_NOT)
			goto unknown;
		return code;
	}
	if (flags & CT_ALIAS) {
		alias = hit.entry;
		if (!ct_lookup_primary(f, &hit, &hit) || !hit.to) {
			hit.entry = NULL;
			hit.stale = false;
			goto unknown;
		}
		/* The stack would take it for the host's. */
		if (f->ttl <= 1)
			return DROP(REASON_TTL);
		flags = hit.entry->flags;
		code = nat_in(skb, f, alias);
		if (code != REASON_FORWARDED)
			return code;
	} else {
		if (ct_side(hit.entry, hit.side)->slot != CT_NO_SLOT)
			return DROP(REASON_SOURCE_IS_LOCAL);
	}
	to = hit.to;
	/* No entry is without a local endpoint, and the sender is none. */
	if (!to)
		return REASON_TO_STACK;
	if (!(flags & CT_NAT))
		note_wrong_eni(skb, to->eni);
	/* to_pod counts what is the stack's, unless the stack is to translate it. */
	if (!(flags & CT_STACK) || flags & CT_AT_NETDEV) {
		code = ct_update(f, &hit);
		if (code != REASON_FORWARDED)
			count(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, code);
	}
	if (flags & CT_STACK)
		return REASON_TO_STACK;
	return deliver(skb, f, to);
unknown:
	code = from_netdev_unknown(skb, config, f, &hit, &own);
	if (code == SERVICE_NOT) {
		service_forget(&hit);
		code = from_netdev_service(skb, f, own);
	}
	return code == SERVICE_TWICE ? service_begin_twice(skb, f) : code;
}

/* The host's own, without a flow, unless somebody outside claims to be a pod of this node. */
static __noinline __u32 from_netdev_host(const struct flow *f)
{
	const struct weft_address *address = address_get(&f->src);

	if (address && address->flags & ADDRESS_ENDPOINT)
		return DROP(REASON_SOURCE_IS_LOCAL);
	return REASON_FORWARDED;
}

/* A later fragment whose first wasn't seen: the host puts its own together. */
static __noinline __u32 from_netdev_fragment(const struct flow *f, __u32 code)
{
	const struct weft_address *address = address_get(&f->dst);

	if (address && address->flags & ADDRESS_ENDPOINT && from_netdev_host(f) == REASON_FORWARDED)
		return code;
	return from_netdev_host(f);
}

static __always_inline __u32 from_netdev_decide(struct __sk_buff *skb)
{
	struct ethernet *eth = packet_head(skb, NETWORK_OFFSET);
	struct weft_config *config = config_get();
	struct flow f = {};
	__u32 code;

	if (!eth)
		return DROP(REASON_TRUNCATED);
	/* The host's ARP and disabled families are its own. */
	if (!config)
		return REASON_OTHER_FAMILY;
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_IPV4):
		code = flow_parse4(skb, &f);
		break;
	case bpf_htons(ETHERTYPE_IPV6):
		if (!(config->families & FAMILY_IPV6))
			return REASON_OTHER_FAMILY;
		code = flow_parse6(skb, &f);
		if (code == REASON_FORWARDED &&
		    (f.kind == FLOW_NEIGHBOUR || ipv6_multicast(f.dst.word) ||
		     ipv6_link_local(f.src.word)))
			return from_netdev_host(&f);
		break;
	default:
		return REASON_OTHER_FAMILY;
	}
	if (CODE_REASON(code) == REASON_FRAGMENT_UNKNOWN)
		return from_netdev_fragment(&f, code);
	if (code != REASON_FORWARDED)
		return code;
	return from_netdev_flow(skb, config, &f);
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	__u32 code = from_netdev_decide(skb);

	if (code == REASON_TO_STACK || code == REASON_FORWARDED)
		skb->mark = (skb->mark & ~(__u32)MARK_KIND_MASK) | MARK_FROM_NETDEV;
	return verdict(skb, HOOK_FROM_NETDEV, DIRECTION_INGRESS, code);
}
