// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Connection tracking without hooks: the frame that a program gets is a struct, not a packet. What
 * the tests see is what the hooks run.
 */

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "conntrack.h"
#include "layout.h"
#include "maps.h"
#include "timer.h"

/* In the frame, and written back. */
struct track {
	__u8 ethernet[14];
	__u16 reserved;
	struct flow flow;
	struct ct_new new;
	__u8 hit; /* out: ct_lookup's answer */
	__u8 stale;
	__u8 side;
	__u8 established; /* after the update */
	__u8 entry;	  /* is there one after the update */
	__u8 create;	  /* in: make one if there is none */
	__u8 to;	  /* out: is there an endpoint to deliver to */
	__u8 failed;
	__u32 now;
	__u32 reserved2;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct track);
	__uint(max_entries, 1);
} track_scratch SEC(".maps");

SEC("tc")
int track(struct __sk_buff *skb)
{
	struct ct_hit hit = {};
	struct track *t;
	__u32 zero = 0;

	t = bpf_map_lookup_elem(&track_scratch, &zero);
	if (!t || bpf_skb_load_bytes(skb, 0, t, sizeof(*t)))
		return 1;
	t->hit = ct_lookup(&t->flow, &hit);
	t->stale = hit.stale;
	t->side = hit.side;
	t->to = !!hit.to;
	t->now = hit.now;
	t->failed = 0;
	if (t->hit)
		ct_update(&t->flow, &hit);
	else if (t->create)
		t->failed = !!ct_create(&t->flow, &hit, &t->new);
	t->established = hit.established;
	t->entry = !!hit.entry;
	return bpf_skb_store_bytes(skb, 0, t, sizeof(*t), 0) ? 1 : 0;
}

char track_license[] SEC("license") = "Dual BSD/GPL";
