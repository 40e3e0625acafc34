/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"
#include "reason.h"

#define COUNTER_INDEX(hook, direction, reason)                                                     \
	(((__u32)(hook)*DIRECTION_MAX + (__u32)(direction)) * REASON_MAX + (__u32)(reason))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_endpoint);
	__uint(max_entries, MAX_ENDPOINTS);
} weft_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_bucket);
	__uint(max_entries, MAX_ENDPOINTS);
} weft_bandwidth SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct weft_addr);
	__type(value, struct weft_address);
	__uint(max_entries, MAX_ADDRESSES);
} weft_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_eni);
	__uint(max_entries, MAX_ENIS);
} weft_enis SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_counter);
	__uint(max_entries, HOOK_MAX *DIRECTION_MAX *REASON_MAX);
} weft_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct weft_config);
	__uint(max_entries, 1);
} weft_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct weft_ipcache_key);
	__type(value, struct weft_ipcache);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} weft_ipcache SEC(".maps");

static __always_inline struct weft_config *config_get(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&weft_config, &key);
}

static __always_inline struct weft_endpoint *endpoint_get(__u32 ifindex)
{
	__u32 slot = ifindex - IFINDEX_BASE;
	struct weft_endpoint *ep = bpf_map_lookup_elem(&weft_endpoints, &slot);

	if (!ep || !(ep->flags & ENDPOINT_VALID))
		return NULL;
	return ep;
}

static __always_inline struct weft_address *address_get4(__be32 addr)
{
	struct weft_addr key = {.word = {0, 0, bpf_htonl(0xffff), addr}};

	return bpf_map_lookup_elem(&weft_addresses, &key);
}

static __always_inline struct weft_address *address_get(const struct weft_addr *addr)
{
	return bpf_map_lookup_elem(&weft_addresses, addr);
}

/*
 * The endpoint that an address says holds it; NULL if it is gone. The slot may have another by now.
 */
static __always_inline struct weft_endpoint *endpoint_at(const struct weft_address *address,
							 const struct weft_addr *addr)
{
	__u32 slot = address->slot;
	struct weft_endpoint *ep = bpf_map_lookup_elem(&weft_endpoints, &slot);
	const struct weft_addr *own;

	if (!ep || !(ep->flags & ENDPOINT_VALID) || ep->generation != address->generation)
		return NULL;
	own = addr->half[0] ? &ep->addr6 : &ep->addr;
	return own->half[0] == addr->half[0] && own->half[1] == addr->half[1] ? ep : NULL;
}

static __always_inline struct weft_eni *eni_get(__u32 handle)
{
	struct weft_eni *eni = bpf_map_lookup_elem(&weft_enis, &handle);

	if (!eni || !(eni->flags & ENI_VALID))
		return NULL;
	return eni;
}

/* What is known of an address; NULL: nothing. */
static __always_inline struct weft_ipcache *ipcache_get(const struct weft_addr *addr)
{
	struct weft_ipcache_key key = {
		.prefixlen = IPCACHE_FIXED_BITS + 128,
		.addr = *addr,
	};

	return bpf_map_lookup_elem(&weft_ipcache, &key);
}
