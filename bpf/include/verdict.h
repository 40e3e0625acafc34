/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/pkt_cls.h>

#include "maps.h"

/* Other people's programs behind ours see the packet, in tcx and in clsact alike. */
#define VERDICT_NEXT (-1)

static __always_inline void count(struct __sk_buff *skb, enum weft_hook hook,
				  enum weft_direction direction, enum weft_reason reason)
{
	__u32 key = COUNTER_INDEX(hook, direction, reason);
	struct weft_counter *c = bpf_map_lookup_elem(&weft_counters, &key);

	/* Hooks run with bottom halves off, so nothing else writes this CPU's counter meanwhile. */
	if (c) {
		c->packets++;
		c->bytes += skb->len;
	}
}

/* The one place where a hook ends: nothing is dropped or passed uncounted. */
static __always_inline int verdict(struct __sk_buff *skb, enum weft_hook hook,
				   enum weft_direction direction, enum weft_reason reason)
{
	count(skb, hook, direction, reason);
	if (reason >= REASON_FIRST_DROP)
		return TC_ACT_SHOT;
	if (reason == REASON_REDIRECTED || reason == REASON_ANSWERED)
		return TC_ACT_REDIRECT;
	return VERDICT_NEXT;
}
