/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "packet.h"

/*
 * A pod with limited bandwidth sends through the queue of its own device, which paces it. That
 * queue is the pod's: who has CAP_NET_ADMIN there can remove it, and a kernel may lack it. So what
 * comes out of it is measured here too, with some tolerance, and what is above is dropped.
 */

/* Every segment of a large packet has headers of its own on the wire. */
static __always_inline __u32 wire_length(const struct __sk_buff *skb, const struct flow *f)
{
	__u32 segments = skb->gso_segs;

	return skb->len + (segments > 1 ? (segments - 1) * (NETWORK_OFFSET + f->headers) : 0);
}

/* May the endpoint send this now? What it may not send costs it nothing. */
static __always_inline bool bandwidth_take(const struct __sk_buff *skb, const struct flow *f,
					   const struct weft_endpoint *ep)
{
	__u32 slot = ep->ifindex - IFINDEX_BASE;
	struct weft_bucket *b = bpf_map_lookup_elem(&weft_bandwidth, &slot);
	__u64 now, next, cost;
	bool ok;

	if (!b || !b->rate)
		return true;
	cost = (__u64)wire_length(skb, f) * 1000000000ull / b->rate;
	now = bpf_ktime_get_ns();
	bpf_spin_lock(&b->lock);
	next = b->next;
	if (next < now)
		next = now;
	ok = next - now <= b->tolerance;
	if (ok)
		b->next = next + cost;
	bpf_spin_unlock(&b->lock);
	return ok;
}
