/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "packet.h"

/*
 * A pod with limited bandwidth sends through the queue of its own device. That queue is the pod's:
 * who has CAP_NET_ADMIN there can remove it, and a kernel may lack it. So what comes out of it is
 * measured here too. What leaves by an ENI with fq gets the time at which it may leave, and fq
 * holds it until then; what nobody would hold is dropped if it is above, with some tolerance.
 */

/* What would have to wait longer is dropped: fq, too, holds only so much. */
#define BANDWIDTH_HORIZON 2000000000ull

/* Every segment of a large packet has headers of its own on the wire. */
static __always_inline __u32 wire_length(const struct __sk_buff *skb, const struct flow *f)
{
	__u32 segments = skb->gso_segs;

	return skb->len + (segments > 1 ? (segments - 1) * (NETWORK_OFFSET + f->headers) : 0);
}

/*
 * Will fq hold it? Not what stays on this node. What goes up the stack keeps its time on the way to
 * the ENI; a service that turns out to be on this node is measured with the same bucket.
 */
static __always_inline bool bandwidth_paced(const struct flow *f, const struct weft_endpoint *ep)
{
	const struct weft_eni *eni = eni_get(ep->eni);

	return eni && eni->flags & ENI_PACED && !address_get(&f->dst);
}

/* May the endpoint send this? What it may not send costs it nothing. */
static __noinline bool bandwidth_take(struct __sk_buff *skb, const struct flow *f,
				      const struct weft_endpoint *ep)
{
	__u32 slot = ep->ifindex - IFINDEX_BASE;
	struct weft_bucket *b = bpf_map_lookup_elem(&weft_bandwidth, &slot);
	__u64 now, next, cost, ahead = BANDWIDTH_HORIZON;
	bool paced, ok;

	if (!b || !b->rate)
		return true;
	paced = bandwidth_paced(f, ep);
	if (!paced)
		ahead = b->tolerance;
	cost = (__u64)wire_length(skb, f) * 1000000000ull / b->rate;
	now = bpf_ktime_get_ns();
	bpf_spin_lock(&b->lock);
	next = b->next;
	if (next < now)
		next = now;
	ok = next - now <= ahead;
	if (ok)
		b->next = next + cost;
	bpf_spin_unlock(&b->lock);
	if (!ok || !paced)
		return ok;
	/* Of this kind it survives redirects, forwarding and other namespaces. */
	return !bpf_skb_set_tstamp(skb, next, BPF_SKB_TSTAMP_DELIVERY_MONO);
}
