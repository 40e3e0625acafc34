/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/types.h>

/*
 * Layouts of map keys and values. They are shared with the agent, with an older and a newer version
 * of it, and with programs that stay attached while neither runs: a change needs a new pin
 * directory. Go mirrors them in internal/datapath; a test compares sizes and offsets by BTF.
 */

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d, in network byte order. */
struct weft_addr {
	__be32 word[4];
};

#define ENDPOINT_VALID (1u << 0)

/* weft_endpoints[ifindex - IFINDEX_BASE]; one cache line. */
struct weft_endpoint {
	struct weft_addr addr;	/* IPv4 */
	struct weft_addr addr6; /* null: none */
	__u32 flags;
	__u32 generation; /* of the address: what was learned of its last holder must not match */
	__u32 eni;	  /* handle */
	__u32 ifindex;
	__u8 pod_mac[6];
	__u8 host_mac[6];
	__u32 class; /* handle of the endpoint's class; 0 = unknown */
};

#define ADDRESS_ENDPOINT (1u << 0) /* held by the endpoint in `slot` */

/* weft_addresses[addr]: every address of every ENI of this node. */
struct weft_address {
	__u32 eni; /* handle */
	__u32 flags;
	__u32 slot;
	__u32 generation;
};

#define ENI_VALID (1u << 0)

/* weft_enis[handle]. */
struct weft_eni {
	__u32 flags;
	__u32 ifindex; /* changes when the ENI is attached again */
	__u32 mtu;
	__u32 reserved0;
	struct weft_addr next_hop; /* the subnet's router */
	struct weft_addr next_hop6;
	__u8 mac[6];
	__u8 reserved1[10];
};

/* weft_counters[COUNTER_INDEX(hook, direction, reason)], per CPU. */
struct weft_counter {
	__u64 packets;
	__u64 bytes;
};

#define FAMILY_IPV4 (1u << 0)
#define FAMILY_IPV6 (1u << 1)

#define TUNNEL_PORTS 8

/* weft_config[0]. */
struct weft_config {
	__u32 layout;
	__u32 families;
	struct weft_addr gateway;
	struct weft_addr gateway6;
	__be16 tunnel_ports[TUNNEL_PORTS]; /* 0: unused */
};

/* The same as in internal/contract. */
#define IFINDEX_BASE 0x100000
#define MAX_ENDPOINTS 4096
#define MARK_FROM_POD 0x00000100
#define MARK_KIND_MASK 0x00000f00

#define MAX_ADDRESSES 16384
#define MAX_ENIS 65 /* handles 1..64 */
