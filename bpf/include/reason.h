/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What became of a packet. Numbers are append-only: dashboards, captures and an agent of another
 * version rely on them; a number that is no longer used stays reserved. Go's names and texts are
 * generated from the lines between the markers: X(number, NAME, "text", "what to do").
 *
 *    0..15   outcomes: exactly one for each packet and hook, unless it was dropped
 *   16..31   notes: beside an outcome
 *   32..127  drops
 */
/* clang-format off */
#define WEFT_REASONS(X) \
	/* begin reasons */ \
	X(0, FORWARDED, "passed on", "") \
	X(1, REDIRECTED, "sent out by the interface that owns its source address", "") \
	X(2, ANSWERED, "answered by the datapath", "") \
	X(3, OTHER_FAMILY, "neither IPv4 nor an enabled IPv6, left to the host", "") \
	X(4, TO_STACK, "left to the kernel's stack", "") \
	X(5, DELIVERED, "delivered into the pod", "") \
	X(6, SENT, "sent out by its ENI", "") \
	X(7, IGNORED, "neighbour, router or listener discovery that needs no answer", "") \
	X(16, NOTE_WRONG_ENI_IN, "came in by an interface that does not own the destination", "compare the ENI's addresses in EC2 with the node's NodeNetwork") \
	X(17, NOTE_HOST_SOURCE, "left with a source that is no ENI address of this node", "look for a container bridge or a tunnel on the node that does not masquerade") \
	X(18, NOTE_MIDSTREAM, "a TCP packet of a flow that was not seen to begin", "expected after an upgrade or after the connection table was lost; otherwise look for asymmetric routes") \
	X(19, NOTE_CT_FULL, "the table of established connections is full", "raise bpf.ctTcpMax") \
	X(20, NOTE_CT_FAILED, "no connection entry could be made", "raise bpf.ctAnyMax; look for memory pressure on the node") \
	X(21, NOTE_SERVICE_REFUSED, "for a service without a backend: refused", "look at the service's endpoints: none is ready") \
	X(32, NO_ENDPOINT, "the device belongs to no endpoint", "look in the agent's log for the endpoint; recreate the pod if it stays") \
	X(33, TRUNCATED, "shorter than its headers say", "look for the program that sends malformed packets") \
	X(34, BAD_HEADER, "malformed header", "look for the program that sends malformed packets") \
	X(35, SOURCE_MAC, "sent with another's MAC address", "only the MAC address that weft gave is allowed: look for a bridge or macvlan inside the pod") \
	X(36, DEST_MAC, "sent to a MAC address other than the gateway's", "a pod's only neighbour is its gateway: look for static neighbour entries in the pod") \
	X(37, SOURCE_ADDRESS, "sent with another's address", "only the pod's own address is allowed: look for a forgotten NAT or a spoofing process in the pod") \
	X(38, ARP_TARGET, "ARP for an address other than the gateway's", "pods reach everything by their gateway: look for routes without a gateway in the pod") \
	X(39, ARP_BAD, "ARP with a false sender", "look for the program in the pod that forges ARP") \
	X(40, MULTICAST, "multicast or broadcast", "a VPC does not carry multicast to pods; use unicast") \
	X(41, LOOPBACK_DEST, "sent to a loopback or null address", "a pod must not reach the node's loopback; use the node's address") \
	X(42, TUNNEL_PORT, "UDP to a tunnel port of the node network", "ports 6081, 8472 and 4789 are reserved for overlays; use another port") \
	X(43, FAMILY_OFF, "an address family that is off", "IPv6 is off in this cluster; use IPv4") \
	X(44, ETHERTYPE, "a protocol that is neither ARP nor an enabled address family", "pods may send IPv4 and ARP only") \
	X(45, VLAN, "VLAN tag", "pods may not send tagged frames") \
	X(46, NOT_FOR_ENDPOINT, "delivered to a device whose endpoint has another address", "look for foreign routes to the pod's device on the node") \
	X(47, SOURCE_IS_LOCAL, "came from outside with an address of this node or of a pod on it", "the sender forges, or a load balancer with client addresses preserved returns a pod's own connection to its node") \
	X(48, NO_OWNER, "a pod's packet whose source belongs to no ENI of this node", "compare the ENI's addresses in EC2 with the node's NodeNetwork") \
	X(49, NO_ENI, "the ENI that owns the source is not attached", "see whether the ENI is still attached in EC2 and in the node's NodeNetwork") \
	X(50, REDIRECT_FAILED, "the kernel refused to redirect", "report it with the kernel's version") \
	X(51, NAT_NO_PORT, "no source port is free for a translated connection", "too many connections from this node to one destination: spread them, or give pods more ENIs") \
	X(52, FRAGMENT_UNKNOWN, "a later fragment whose first was not seen", "lower the sender's MTU so that it needs no fragments") \
	X(53, METADATA_CLOSED, "instance metadata is closed to pods", "use IRSA or Pod Identity, or set podMetadataAccess") \
	X(54, ND_BAD, "neighbour discovery with a false sender or for an address other than the gateway's", "look for the program in the pod that forges neighbour discovery") \
	X(55, EXTENSION_HEADER, "too many or malformed IPv6 extension headers", "look for the program that sends them") \
	X(56, NAT_NO_STATE, "an ICMP error or fragment that belongs to no translated connection", "expected after an upgrade or a lost table; otherwise look for the sender of stray ICMP errors") \
	X(57, NO_NEXT_HOP, "the ENI has no next hop for this family", "see whether the subnet has this family and the node's NodeNetwork names its router") \
	X(58, TTL, "its time to live ended", "look for a routing loop") \
	X(59, TOO_BIG, "larger than the interface's MTU", "compare the MTU of the pod's device with the ENI's (ip link)") \
	X(60, ENDPOINT_GONE, "the pod it belongs to is gone", "the peer still uses the address of a deleted pod") \
	X(61, BANDWIDTH, "above the pod's bandwidth limit", "raise the annotation kubernetes.io/egress-bandwidth or ingress-bandwidth") \
	X(62, NAT_HOST_PORT, "the host's own packet with a port that a pod's translated connection has", "bind the host's program to a port outside of the masqueraded range, see bpf.masqueradePorts") \
	X(63, SERVICE_NO_BACKEND, "for a service that has no backend for this client", "with a traffic policy Local, send to a node that has a ready pod of the service, or set the policy to Cluster") \
	X(64, SERVICE_SOURCE_RANGE, "the client is not in the source ranges of the service", "add the client to spec.loadBalancerSourceRanges of the service") \
	X(65, SERVICE_SCTP_PORT, "an SCTP service whose target port differs from its port", "give the service of SCTP the same port as its pods") \
	/* end reasons */

enum weft_reason {
#define X(number, name, text, advice) REASON_##name = number,
	WEFT_REASONS(X)
#undef X
};

/* Where a drop was decided: F(number, NAME, "path"), append-only too. */
#define WEFT_FILES(F) \
	/* begin files */ \
	F(1, FROM_POD, "bpf/from_pod.c") \
	F(2, TO_POD, "bpf/to_pod.c") \
	F(3, FROM_NETDEV, "bpf/from_netdev.c") \
	F(4, TO_NETDEV, "bpf/to_netdev.c") \
	F(5, PACKET, "bpf/include/packet.h") \
	F(6, PARSE, "bpf/include/parse.h") \
	F(7, DELIVER, "bpf/include/deliver.h") \
	F(8, NEIGHBOUR, "bpf/include/neighbour.h") \
	F(9, CONNTRACK, "bpf/include/conntrack.h") \
	F(10, NAT, "bpf/include/nat.h") \
	F(11, ROUTE, "bpf/include/route.h") \
	F(12, BANDWIDTH, "bpf/include/bandwidth.h") \
	F(13, REWRITE, "bpf/include/rewrite.h") \
	F(14, SERVICE, "bpf/include/service.h") \
	/* end files */

enum weft_file {
#define F(number, name, path) FILE_##name = number,
	WEFT_FILES(F)
#undef F
};
/* clang-format on */

#define REASON_FIRST_DROP 32
#define REASON_MAX 128

enum weft_hook {
	HOOK_FROM_POD = 0,
	HOOK_TO_POD = 1,
	HOOK_FROM_NETDEV = 2,
	HOOK_TO_NETDEV = 3,
	HOOK_MAX = 8,
};

/* As the endpoint or the host sees it. */
enum weft_direction {
	DIRECTION_INGRESS = 0,
	DIRECTION_EGRESS = 1,
	DIRECTION_MAX = 2,
};
