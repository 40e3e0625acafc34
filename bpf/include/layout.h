/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

/*
 * Layouts of map keys and values. They are shared with the agent, with an older and a newer version
 * of it, and with programs that stay attached while neither runs: a change needs a new pin
 * directory. Go mirrors them in internal/datapath; a test compares sizes and offsets by BTF.
 */

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d, in network byte order. */
struct weft_addr {
	union {
		__be32 word[4];
		__u64 half[2]; /* compared and copied by halves; also aligns it on the stack */
	};
};

#define ENDPOINT_VALID (1u << 0)
#define ENDPOINT_QUEUED (1u << 1)  /* limited bandwidth: delivered through its device's queue */
#define ENDPOINT_LIMITED (1u << 2) /* what it sends is measured: weft_bandwidth */

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

/* weft_bandwidth[ifindex - IFINDEX_BASE]: what a limited endpoint may send. */
struct weft_bucket {
	struct bpf_spin_lock lock;
	__u32 reserved;
	__u64 rate;	 /* bytes a second; 0: not limited */
	__u64 tolerance; /* ns that it may be ahead */
	__u64 next;	 /* ns: when it has paid for what it sent */
};

#define ADDRESS_ENDPOINT (1u << 0) /* held by the endpoint in `slot` */
#define ADDRESS_HOST (1u << 1)	   /* a device of the host has it: the node's own */

/* weft_addresses[addr]: every address of every ENI of this node. */
struct weft_address {
	__u32 eni; /* handle */
	__u32 flags;
	__u32 slot;
	__u32 generation;
};

#define ENI_VALID (1u << 0)
/* Its queue is fq, and so is that of the ENI which its translated packets leave by. */
#define ENI_PACED (1u << 1)

/* weft_enis[handle]. */
struct weft_eni {
	__u32 flags;
	__u32 ifindex; /* changes when the ENI is attached again */
	__u32 mtu;
	/* Handle of the ENI that owns `masquerade`, by which a translated packet leaves. */
	__u32 masquerade_eni;
	struct weft_addr next_hop; /* the subnet's router; null: this family isn't routed here */
	struct weft_addr next_hop6;
	/* Source of what this ENI's endpoints send to the world; null: not translated here. */
	struct weft_addr masquerade;
	struct weft_addr masquerade6;
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

#define CONFIG_MASQUERADE (1u << 0) /* translation by these programs, not by nftables */
#define CONFIG_METADATA_CLOSED                                                                     \
	(1u << 1)	       /* pods get nothing from 169.254.169.254 and fd00:ec2::254 */
#define CONFIG_TRACE (1u << 2) /* an event for every packet that passes */

/* Lifetimes in jiffies, by what is known of a flow. */
enum weft_lifetime {
	LIFETIME_TCP = 0, /* established */
	LIFETIME_SYN = 1, /* not answered, or not confirmed yet */
	LIFETIME_FIN = 2, /* closed or reset */
	LIFETIME_ANY = 3, /* other protocols */
	LIFETIME_STACK =
		4, /* other protocols through the stack: not shorter than the kernel's own */
	LIFETIME_MAX = 8,
};

/* weft_config[0]. */
struct weft_config {
	__u32 layout;
	__u32 families;
	struct weft_addr gateway;
	struct weft_addr gateway6;
	__be16 tunnel_ports[TUNNEL_PORTS]; /* 0: unused */
	__u32 flags;
	__u16 masquerade_port_min; /* source ports of translated flows, both included */
	__u16 masquerade_port_max;
	__u32 lifetime[LIFETIME_MAX];
	__u32 jiffies_per_second;
	__u32 events_per_second;    /* per CPU and kind of event; more are only counted */
	struct weft_addr node_addr; /* the node's own: most packets to the host go there */
	struct weft_addr node_addr6;
	__u32 event_types;   /* bits 1 << enum weft_event_type: those that are told */
	__u32 event_capture; /* bytes of each packet that go along, at most EVENT_DATA_MAX */
	__u32 epoch;	     /* of the agent that may write */
	__u32 reserved[5];
};

#define IPCACHE_NATIVE (1u << 0) /* reached with the pod's own address, never translated */
/*
 * The stack decides, because kube-proxy may translate it: the addresses and ranges of services. It
 * wins over everything but a local endpoint.
 */
#define IPCACHE_STACK (1u << 1)

/* Bits of the key before the address. */
#define IPCACHE_FIXED_BITS 32

/*
 * weft_ipcache, a longest prefix match: what is known of an address that isn't a local endpoint's.
 * A prefix's entry holds all that is true of it: it inherits from those around it when it is
 * written.
 */
struct weft_ipcache_key {
	__u32 prefixlen; /* IPCACHE_FIXED_BITS + 96 + bits of an IPv4 prefix, or + bits of an IPv6
			    one */
	__u16 cluster;	 /* 0: this one */
	__u16 reserved;
	struct weft_addr addr;
};

struct weft_ipcache {
	__u32 class;
	__u32 flags;
	__u32 epoch;
	__u32 reserved;
};

/*
 * One flow, whichever side sends: side 0 is the lower of the two addresses (as two 64-bit numbers
 * in memory order, low words first), then of the ports. ICMP queries have their id in both ports.
 */
struct weft_ct_key {
	struct weft_addr addr[2];
	__be16 port[2];
	__u8 protocol;
	__u8 reserved;
	__u16 zone; /* 0 */
};

#define CT_STACK (1u << 0) /* both directions go by the kernel's stack */
#define CT_ALIAS                                                                                   \
	(1u                                                                                        \
	 << 1) /* the key is the translated tuple: nat_* is the endpoint's own address and port */
#define CT_NAT (1u << 2) /* nat_* is what the endpoint's address and port are translated to */
#define CT_AT_NETDEV                                                                               \
	(1u << 3) /* made by to_netdev for a flow that the stack translated; counted there */
#define CT_MIDSTREAM (1u << 4)	  /* began with a packet that begins no flow */
#define CT_NO_PROMOTION (1u << 5) /* the table of established flows was full */
#define CT_ESTABLISHED (1u << 6)  /* in weft_ct_est */

/* made by to_pod for what a local pod sent and the stack translated; the sender is counted there */
#define CT_AT_TO_POD (1u << 7)

#define CT_BEGINNING (1u << 8) /* in weft_ct_est before its handshake is over; counted as such */

/*
 * A service's flow. The client has its own address, nat_* is the frontend that the backend was
 * chosen for; its alias is what the client sends, and nat_* there the backend.
 */
#define CT_SERVICE (1u << 9)
/*
 * The same with another client's address: the key is of client and frontend, nat_* is the backend
 * and nat_eni the port that the client has on this node. Its alias is what the backend sends; nat_*
 * there is the client, nat_eni the frontend's port, and the frontend's address stands in what
 * side 0 has sent: an alias counts nothing.
 */
#define CT_MIDDLE (1u << 10)
/* There is an alias. */
#define CT_TRANSLATED (CT_NAT | CT_SERVICE | CT_MIDDLE)

#define CT_NO_SLOT 0xffff

/* weft_ct_entry.told */
#define CT_TOLD_CLOSED (1u << 0)  /* the event that it closed */
#define CT_TOLD_CLOSING (1u << 1) /* its key is in the ring of closed flows */

/* A side of a flow is written by the packets that this side sends, and by nobody else. */
struct weft_ct_side {
	__u64 packets;
	__u64 bytes;
	__u32 generation; /* of the local endpoint on this side */
	__u16 slot;	  /* of the local endpoint on this side; CT_NO_SLOT: none */
	__u8 tcp;	  /* every TCP flag that this side has sent */
	__u8 reserved;
};

/* What policy said, and by which state of the policy. */
struct weft_ct_verdict {
	__u16 endpoint_epoch;
	__u16 class_epoch;
	__u32 rule; /* 0: no policy */
};

/*
 * weft_ct_new (an LRU: datagram flows, and those that begin and find no room in the other),
 * weft_ct_est (TCP flows).
 */
#ifdef WEFT_NEXT
#define weft_ct_entry weft_ct_entry_previous
#endif
struct weft_ct_entry {
	__u32 expires;	  /* jiffies */
	__u32 generation; /* of this entry: tells it from a later one with the same key */
	__u16 flags;
	__u8 origin; /* side that began */
	__u8 asked;  /* seconds, their lowest bits: whether its backend still is one was asked */
	__u32 class; /* of the source */
	struct weft_ct_side side[2];
	struct weft_ct_verdict verdict[2]; /* egress, ingress */
	struct weft_addr nat_addr;
	__be16 nat_port;
	__u16 nat_eni;
	__u32 created;	/* jiffies */
	__u32 told;	/* what events have been sent of this flow */
	__u32 nat_seen; /* jiffies: its alias was looked for */
};
#ifdef WEFT_NEXT
/* For the tests of an upgrade: as if a version with another layout came next. */
#undef weft_ct_entry
struct weft_ct_entry {
	__u64 next;
	struct weft_ct_entry_previous;
};
#endif

/* Rings of keys of entries that have to be looked at when they may have expired. */
enum weft_ct_ring_name {
	CT_RING_NEW = 0,    /* of weft_ct_new: flows with an alias or without TCP's flags */
	CT_RING_EST = 1,    /* of weft_ct_est: every flow */
	CT_RING_CLOSED = 2, /* of both: closed flows that live on for a moment */
	CT_RING_MAX = 3,
};

/* weft_ct_beginning: how many entries of weft_ct_est have CT_BEGINNING. */
enum weft_ct_beginning_index {
	CT_BEGINNING_COUNT = 0,	  /* kept by the programs, */
	CT_BEGINNING_REMOVED = 1, /* less what user space removed, */
	CT_BEGINNING_MOST = 2,	  /* and how many there may be */
	CT_BEGINNING_MAX = 3,
};

/* weft_ct_rings[name]. Programs write at head, the timer alone reads at tail. */
struct weft_ct_ring {
	__u64 head;
	__u64 reserved0[7]; /* a cache line of its own */
	__u64 tail;
	__u32 size; /* slots of weft_ct_slots from base on */
	__u32 base;
	__u64 settled; /* head at the tick before: what isn't written by now never will be */
	__u64 reserved1[5];
};

/* weft_ct_slots, the slots of all rings. */
struct weft_ct_slot {
	struct weft_ct_key key;
	__u32 generation; /* of the entry; 0: not written yet. Written last, cleared by the timer */
	__u32 due;	  /* jiffies */
};

/* weft_ct_timers[0]. */
struct weft_ct_timer {
	struct bpf_timer timer;
	__u64 ticks;
	__u64 looked; /* slots */
	__u32 last;   /* jiffies */
	__u32 reserved;
};

/* weft_ct_stats, per CPU: [0] of the programs, [1] of user space. */
struct weft_ct_stats {
	__u64 created;
	__u64 failed;	 /* no entry could be made */
	__u64 promoted;	 /* established: moved to weft_ct_est, or there already */
	__u64 full;	 /* promotions that failed */
	__u64 closed;	 /* removed at the last ACK */
	__u64 expired;	 /* removed by the timer */
	__u64 replaced;	 /* expired, stale or closed, and removed for a new one */
	__u64 inserted;	 /* into weft_ct_est, with aliases */
	__u64 removed;	 /* from weft_ct_est, for whatever reason */
	__u64 unwatched; /* the ring was full: expires, but nobody looks */
};

/* Fragments after the first have no ports: weft_fragments, an LRU. */
struct weft_fragment_key {
	struct weft_addr src;
	struct weft_addr dst;
	__u32 id;
	__u32 protocol;
};

struct weft_fragment {
	__be16 sport;
	__be16 dport;
};

enum weft_event_type {
	EVENT_DROP = 1,
	EVENT_TRACE = 2,   /* a packet that passed, with CONFIG_TRACE */
	EVENT_VERDICT = 3, /* what policy said */
	EVENT_NEW = 4,	   /* first packet of a flow */
	EVENT_CLOSE = 5,   /* end of a flow, with what was sent */
	EVENT_MAX = 8,
};

#define EVENT_LAYOUT 1
#define EVENT_DATA_MAX 128

/* Hook of an event that no hook saw: a flow that expired. */
#define EVENT_NO_HOOK 0xff

/*
 * weft_events, a ring buffer; the last field is there only if packets are captured. Side 0 is who
 * sent the packet, or began the flow.
 */
struct weft_event {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u8 layout;
	__u8 type;
	__u8 hook;
	__u8 direction;
	__u8 reason;
	__u8 file;
	__u16 line;
	struct weft_addr addr[2];
	__be16 port[2];
	__u8 protocol;
	__u8 family; /* 4, 6; 0: neither */
	__u8 tcp;    /* flags of the packet; of a flow: all that side 0 has sent */
	__u8 tcp_reply;
	__be16 ethertype;
	__u16 flags; /* of the connection entry */
	__u32 ifindex;
	__u32 length;  /* of the packet, with its Ethernet header */
	__u16 slot[2]; /* of local endpoints; CT_NO_SLOT */
	__u32 generation[2];
	__u32 rule; /* that decided; 0: none */
	__u32 reserved;
	__u64 packets[2];
	__u64 bytes[2];
	struct weft_addr nat_addr;
	__be16 nat_port;
	__u16 nat_eni;
	__u32 age;	  /* of the flow, in jiffies */
	__u32 suppressed; /* events of this type that this CPU kept back since the last one */
	__u16 captured;	  /* bytes of data */
	__u16 cpu;
};

struct weft_event_captured {
	struct weft_event head;
	__u8 data[EVENT_DATA_MAX];
};

/* weft_event_budgets[type], per CPU. */
struct weft_event_budget {
	__u32 tokens;
	__u32 refilled; /* jiffies */
	__u32 since;	/* suppressed since the last event */
	__u32 reserved;
	__u64 sent;
	__u64 suppressed;
	__u64 lost; /* the ring was full */
};

/* weft_event_endpoints[slot], per CPU: so that one endpoint doesn't hide the others. */
struct weft_event_share {
	__u32 tokens;
	__u32 refilled;
};

/* The same as in internal/contract. */
#define IFINDEX_BASE 0x100000
#define MAX_ENDPOINTS 4096
/* Forwarded from an endpoint of this node by the stack, source checked. */
#define MARK_FROM_POD 0x00000100
/* Sent to the ENI by from_pod or from_netdev: nothing is left to decide. */
#define MARK_DECIDED 0x00000200
/* Came in by an ENI and goes up the stack. */
#define MARK_FROM_NETDEV 0x00000300
#define MARK_KIND_MASK 0x00000f00

#define MAX_ADDRESSES 16384
#define MAX_FRAGMENTS 8192
#define MAX_ENIS 65 /* handles 1..64 */
/* A bound only: memory is taken by entry. */
#define MAX_PREFIXES 512000
