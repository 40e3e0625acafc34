/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/pkt_cls.h>

#include "event.h"
#include "maps.h"

/*
 * A decision is a code: the reason in its low byte, and for a drop the file and the line that made
 * it. Every file that decides says who it is: FILE_ID is a number of WEFT_FILES.
 */
#define DROP(reason) ((__u32)(reason) | (__u32)(FILE_ID) << 8 | (__u32)__LINE__ << 16)
#define CODE_REASON(code) ((code)&0xff)
#define CODE_FILE(code) ((code) >> 8 & 0xff)
#define CODE_LINE(code) ((code) >> 16)

/* Other people's programs behind ours see the packet, in tcx and in clsact alike. */
#define VERDICT_NEXT (-1)

static __always_inline void count(struct __sk_buff *skb, enum weft_hook hook,
				  enum weft_direction direction, __u32 reason)
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
				   enum weft_direction direction, __u32 code)
{
	__u32 reason = CODE_REASON(code);

	count(skb, hook, direction, reason);
	if (reason >= REASON_FIRST_DROP) {
		event_drop(skb, hook, direction, code);
		return TC_ACT_SHOT;
	}
	event_trace(skb, hook, direction, code);
	switch (reason) {
	case REASON_REDIRECTED:
	case REASON_ANSWERED:
	case REASON_DELIVERED:
	case REASON_SENT:
		return TC_ACT_REDIRECT;
	case REASON_IGNORED:
		return TC_ACT_SHOT;
	}
	return VERDICT_NEXT;
}
