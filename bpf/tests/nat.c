// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Translation without hooks: what they do with a packet of an endpoint to the world, and with what
 * comes back. cb[0] is the handle of the endpoint's ENI.
 */

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "conntrack.h"
#include "layout.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"

SEC("tc")
int nat_egress(struct __sk_buff *skb)
{
	struct weft_eni *eni = eni_get(skb->cb[0]);
	struct ct_new new = {.from_slot = CT_NO_SLOT, .to_slot = CT_NO_SLOT};
	struct ct_hit hit = {};
	struct flow f = {};
	__u32 code;

	if (!eni)
		return REASON_NO_ENI;
	code = flow_parse(skb, &f);
	if (CODE_REASON(code) != REASON_FORWARDED)
		return code;
	if (ct_lookup(&f, &hit)) {
		ct_update(&f, &hit);
	} else {
		if (f.kind == FLOW_ERROR)
			return REASON_NAT_NO_STATE;
		code = nat_choose(skb, &f, eni, &new);
		if (CODE_REASON(code) != REASON_FORWARDED)
			return code;
		if (ct_create(&f, &hit, &new))
			return REASON_NOTE_CT_FAILED;
	}
	if (!hit.entry)
		return REASON_NAT_NO_STATE;
	return nat_out(skb, &f, hit.entry);
}

SEC("tc")
int nat_ingress(struct __sk_buff *skb)
{
	struct ct_hit alias = {}, hit = {};
	struct flow f = {};
	__u32 code;

	code = flow_parse(skb, &f);
	if (CODE_REASON(code) != REASON_FORWARDED)
		return code;
	if (!ct_lookup(&f, &alias) || !alias.entry || !(alias.entry->flags & CT_ALIAS) ||
	    !ct_lookup_primary(&f, &alias, &hit))
		return REASON_NAT_NO_STATE;
	code = nat_in(skb, &f, alias.entry);
	if (CODE_REASON(code) == REASON_FORWARDED)
		ct_update(&f, &hit);
	return code;
}

/* A packet of the host itself. */
SEC("tc")
int nat_host(struct __sk_buff *skb)
{
	struct weft_config *config = config_get();
	bool six = skb->protocol == bpf_htons(ETHERTYPE_IPV6);

	if (config && nat_answer_is_pods(skb, config, six))
		return REASON_NAT_HOST_PORT;
	return REASON_FORWARDED;
}

char nat_license[] SEC("license") = "Dual BSD/GPL";
