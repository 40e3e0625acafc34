// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * to_netdev: egress of an ENI, after all translation by the stack. What the stack forwards for a
 * pod is translated here if it must be. The ENI that a packet leaves by is a function of its final
 * source address: a VPC drops what comes by another.
 */

#undef FILE_ID
#define FILE_ID FILE_TO_NETDEV

/* What a pod sends by the stack, under its own address: the handle of the ENI that it leaves by. */
static __noinline __u32 to_netdev_flow(struct __sk_buff *skb, const struct weft_config *config,
				       struct flow *f, const struct weft_address *address,
				       __u32 *handle)
{
	const struct weft_eni *eni = eni_get(address->eni);
	const struct weft_address *peer;
	bool known, translate = false;
	struct weft_ct_entry *e;
	struct ct_hit hit;
	struct service_scratch *s = service_scratch();
	struct ct_new *n;
	__u32 code;

	if (!eni || !s)
		return DROP(REASON_NO_ENI);
	/* Not on the stack, which is short in 6.1. */
	n = &s->begun;
	__builtin_memset(n, 0, sizeof(*n));
	n->flags = CT_STACK | CT_AT_NETDEV;
	n->from_slot = (__u16)address->slot;
	n->from_generation = address->generation;
	n->to_slot = CT_NO_SLOT;
	known = ct_lookup(f, &hit);
	if (known) {
		e = hit.entry;
		if (e->flags & CT_ALIAS)
			return REASON_FORWARDED;
		/*
		 * from_pod left it to the stack, which didn't translate it. Nothing has come back
		 * yet, so it still can be, by a packet that may begin a flow.
		 */
		if (e->flags & CT_SERVICE) {
			/* An answer that from_pod left to the stack, for its size. */
			if (hit.side == e->origin)
				return REASON_FORWARDED;
			*handle = e->nat_eni;
			return service_turn(skb, f, &hit.key, e, 0);
		}
		if (!(e->flags & CT_TRANSLATED) && hit.side == e->origin && f->kind != FLOW_ERROR &&
		    f->fragment != FRAGMENT_LATER &&
		    !(hit.side ? e->side[0].packets : e->side[1].packets)) {
			translate = route_translates(config, f, eni);
			n->flags = e->flags & ~(CT_ESTABLISHED | CT_NO_PROMOTION);
			n->class = e->class;
			hit.stale = true; /* to be made again */
		}
		if (!translate) {
			if (e->flags & CT_AT_NETDEV) {
				code = ct_update(f, &hit);
				if (code != REASON_FORWARDED)
					count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, code);
			}
			goto out;
		}
	} else {
		if (f->kind == FLOW_ERROR || f->fragment == FRAGMENT_LATER)
			return REASON_FORWARDED;
		if (f->protocol == IP_PROTO_TCP && !tcp_begins(f->tcp)) {
			if (f->tcp & (TCP_RST | TCP_FIN))
				return REASON_FORWARDED;
			count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, REASON_NOTE_MIDSTREAM);
			n->flags |= CT_MIDSTREAM;
		}
		translate = route_translates(config, f, eni);
	}
	if (translate) {
		code = nat_choose(skb, f, eni, n);
		if (code != REASON_FORWARDED)
			return code;
	}
	/* Routed out though it is for this node: nobody outside may go on with it. */
	peer = address_get(&f->dst);
	if (peer && peer->flags & ADDRESS_ENDPOINT) {
		n->to_slot = (__u16)peer->slot;
		n->to_generation = peer->generation;
	}
	if (ct_create(f, &hit, n)) {
		count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, REASON_NOTE_CT_FAILED);
		if (translate)
			return DROP(REASON_NAT_NO_STATE);
		return REASON_FORWARDED;
	}
out:
	e = hit.entry;
	if (!e || !(e->flags & CT_NAT))
		return REASON_FORWARDED;
	*handle = e->nat_eni;
	return nat_out(skb, f, e);
}

/* Reads the source, of whatever packet; false: it is none that an ENI can own. */
static __always_inline __u32 to_netdev_source(struct __sk_buff *skb, const bool six,
					      struct weft_addr *src, bool *local)
{
	struct ethernet *eth = packet_head(skb, six ? IPV6_END : IPV4_END);

	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (six) {
		struct ipv6 *ip = (void *)eth + NETWORK_OFFSET;

		addr_set6(src, ip->src);
		/* Not the owner of the IPv4 address. */
		if (ipv6_mapped(ip->src))
			__builtin_memset(src, 0, sizeof(*src));
		*local = ipv6_multicast(ip->dst) || ipv6_link_local(ip->src);
	} else {
		struct ipv4 *ip = (void *)eth + NETWORK_OFFSET;

		addr_set4(src, ip->src);
		/* A VPC carries no multicast; the host's own stays where the host sent it. */
		*local = ipv4_multicast(ip->dst);
	}
	return REASON_FORWARDED;
}

static __always_inline __u32 to_netdev_ip(struct __sk_buff *skb, const struct weft_config *config,
					  const struct weft_addr *src, bool local, bool six)
{
	bool from_pod = (skb->mark & MARK_KIND_MASK) == MARK_FROM_POD;
	const struct weft_address *address = address_get(src);
	const struct weft_eni *eni;
	struct flow f = {};
	__u32 code, handle;

	if (!address) {
		if (from_pod)
			return DROP(REASON_NO_OWNER);
		if (!(six && local))
			count(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, REASON_NOTE_HOST_SOURCE);
		return REASON_FORWARDED;
	}
	handle = address->eni;
	if (from_pod && address->flags & ADDRESS_ENDPOINT) {
		code = six ? flow_parse6(skb, &f) : flow_parse4(skb, &f);
		if (code != REASON_FORWARDED)
			return code;
		/* Of no use beyond the link, so never translated. */
		if (!six || f.kind != FLOW_NEIGHBOUR)
			code = to_netdev_flow(skb, config, &f, address, &handle);
		if (code != REASON_FORWARDED)
			return code;
	} else if (!local) {
		code = service_from_host(skb, &f, six, &handle);
		if (code != REASON_FORWARDED)
			return code;
		if (nat_answer_is_pods(skb, config, six))
			return DROP(REASON_NAT_HOST_PORT);
	}
	eni = eni_get(handle);
	if (!eni)
		return DROP(REASON_NO_ENI);
	if (eni->ifindex == skb->ifindex || local)
		return REASON_FORWARDED;
	return redirect_by(skb, six ? 6 : 4, eni);
}

static __always_inline __u32 to_netdev_decide(struct __sk_buff *skb)
{
	struct weft_config *config;
	struct ethernet *eth;
	struct weft_addr src;
	bool local, six;
	__u32 code;

	if ((skb->mark & MARK_KIND_MASK) == MARK_DECIDED)
		return REASON_FORWARDED;
	eth = packet_head(skb, NETWORK_OFFSET);
	config = config_get();
	if (!eth)
		return DROP(REASON_TRUNCATED);
	if (!config)
		return REASON_OTHER_FAMILY;
	six = eth->type == bpf_htons(ETHERTYPE_IPV6);
	if (six && config->families & FAMILY_IPV6)
		code = to_netdev_source(skb, true, &src, &local);
	else if (eth->type == bpf_htons(ETHERTYPE_IPV4))
		code = to_netdev_source(skb, false, &src, &local);
	else
		return REASON_OTHER_FAMILY;
	if (code != REASON_FORWARDED)
		return code;
	return to_netdev_ip(skb, config, &src, local, six);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	return verdict(skb, HOOK_TO_NETDEV, DIRECTION_EGRESS, to_netdev_decide(skb));
}
