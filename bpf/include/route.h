/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"

/* Where a new flow of an endpoint goes, if its destination is no address of this node. */

enum route {
	ROUTE_STACK = 0,
	ROUTE_SEND = 1,	     /* by the ENI of its own address, which it keeps */
	ROUTE_TRANSLATE = 2, /* by the ENI of the address that it gets */
};

/* An address that a service may have before the agent has heard of it; or one that never leaves. */
static __always_inline bool addr_private(const struct flow *f)
{
	if (f->family == 4) {
		__u32 a = bpf_ntohl(f->dst.word[3]);

		return a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 || /* RFC 1918 */
		       a >> 22 == 0x191 ||					 /* 100.64.0.0/10 */
		       a >> 16 == 0xa9fe || /* 169.254.0.0/16 */
		       a >> 17 == 0x6309 || /* 198.18.0.0/15 */
		       a >> 28 == 15;	    /* 240.0.0.0/4 */
	}
	return (f->dst.word[0] & bpf_htonl(0xfe000000)) == bpf_htonl(0xfc000000) ||
	       ipv6_link_local(f->dst.word);
}

static __always_inline bool addr_link_local(const struct flow *f)
{
	if (f->family == 4)
		return (f->dst.word[3] & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
	return ipv6_link_local(f->dst.word);
}

__noinline enum route route_get(const struct weft_config *config, const struct flow *f,
				const struct weft_eni *eni)
{
	const struct weft_ipcache *known;

	if (!config || !f || !eni)
		return ROUTE_STACK;
	/* The node's own services: instance metadata, Pod Identity, node-local DNS. */
	if (addr_link_local(f))
		return ROUTE_STACK;
	known = ipcache_get(&f->dst);
	if (known && known->flags & IPCACHE_STACK)
		return ROUTE_STACK;
	if (known && known->flags & IPCACHE_NATIVE)
		return ROUTE_SEND;
	/* Somebody else may have to translate it. */
	if (addr_private(f) || !(config->flags & CONFIG_MASQUERADE))
		return ROUTE_STACK;
	return nat_source(f, eni) ? ROUTE_TRANSLATE : ROUTE_SEND;
}

/* Must what the stack sends out be translated? */
__noinline int route_translates(const struct weft_config *config, const struct flow *f,
				const struct weft_eni *eni)
{
	const struct weft_ipcache *known;

	if (!config || !f || !eni || !(config->flags & CONFIG_MASQUERADE) || !nat_source(f, eni))
		return false;
	known = ipcache_get(&f->dst);
	return !known || !(known->flags & IPCACHE_NATIVE);
}
