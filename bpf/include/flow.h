/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "layout.h"

enum flow_kind {
	FLOW_PLAIN = 0, /* TCP, UDP, SCTP: with ports; other protocols: without */
	FLOW_QUERY = 1, /* an ICMP query or its answer: both ports are its id */
	FLOW_ERROR = 2, /* an ICMP error: the tuple is that of a reply to the packet it is about */
	FLOW_NEIGHBOUR = 3, /* ICMPv6 neighbour, router or listener discovery: stays on its link */
};

enum flow_fragment {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1,
	FRAGMENT_LATER = 2, /* no header of the transport: ports are from weft_fragments */
};

/* A packet as the hooks see it, of either family. src is who sends it. */
struct flow {
	struct weft_addr src;
	struct weft_addr dst;
	__be16 sport;
	__be16 dport;
	__u8 protocol; /* ICMP errors: that of the packet the error is about */
	__u8 family;   /* 4 or 6 */
	__u8 kind;
	__u8 fragment;
	__u8 tcp; /* flags */
	__u8 ttl;
	__u16 l4;	 /* offset of the transport's header from the start of the frame */
	__u16 inner_ip;	 /* ICMP errors: offset of the IP header inside, */
	__u16 inner_l4;	 /* and of the transport's header inside */
	__u32 length;	 /* from the IP header on */
	__u16 headers;	 /* of it, what is no payload: what every segment of it carries */
	__u8 inner_kind; /* ICMP errors about ICMP: that of the packet inside */
	__u8 reserved;
};
