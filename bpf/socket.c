// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Services, where a socket is connected or a datagram sent: the socket itself has the backend's
 * address, and no packet needs to be translated. Attached to the node's root control group.
 */

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"
#include "lb_socket.h"

#define PASS 1
#define REFUSE 0

#define MPTCP 262 /* a socket of it connects to a service of TCP */

static __always_inline __u32 service_protocol(__u32 protocol)
{
	return protocol == MPTCP ? IPPROTO_TCP : protocol;
}

/* The address that the socket was given; of both families one form, so that all else is one. */
static __always_inline void address(const struct bpf_sock_addr *ctx, bool v6, struct weft_addr *a)
{
	if (v6) {
		a->word[0] = ctx->user_ip6[0];
		a->word[1] = ctx->user_ip6[1];
		a->word[2] = ctx->user_ip6[2];
		a->word[3] = ctx->user_ip6[3];
	} else {
		a->word[0] = 0;
		a->word[1] = 0;
		a->word[2] = bpf_htonl(0xffff);
		a->word[3] = ctx->user_ip4;
	}
}

static __always_inline void set_address(struct bpf_sock_addr *ctx, bool v6,
					const struct weft_lb_backend *be)
{
	if (v6) {
		ctx->user_ip6[0] = be->addr.word[0];
		ctx->user_ip6[1] = be->addr.word[1];
		ctx->user_ip6[2] = be->addr.word[2];
		ctx->user_ip6[3] = be->addr.word[3];
	} else {
		ctx->user_ip4 = be->addr.word[3];
	}
	ctx->user_port = be->port;
}

/* The form of the address's family that stands for every address of the node. */
static __always_inline struct weft_addr wildcard(const struct weft_addr *a)
{
	struct weft_addr any = {};

	if (lb_mapped(a))
		any.word[2] = bpf_htonl(0xffff);
	return any;
}

static __always_inline bool loopback(const struct weft_addr *a)
{
	if (lb_mapped(a))
		return (bpf_ntohl(a->word[3]) >> 24) == 127;
	return !a->half[0] && !a->word[2] && a->word[3] == bpf_htonl(1);
}

/*
 * The frontend of an address. Node ports are served at all addresses of the node, for the node
 * itself also at those of its loopback. No address at all means the socket's own loopback, which
 * is the node's for the node's alone.
 */
static __always_inline struct weft_lb_frontend *frontend(const struct weft_lb_config *config,
							 const struct weft_addr *addr, __be16 port,
							 __u8 protocol, bool host)
{
	struct weft_addr any = wildcard(addr);
	struct weft_lb_frontend *fe;

	if (!lb_same(addr, &any)) {
		fe = lb_frontend(addr, port, protocol);
		if (fe)
			return fe;
		if (!(config->flags & LB_NORTH_SOUTH))
			return NULL;
		if (!(host && loopback(addr)) && !bpf_map_lookup_elem(&weft_lb_own, addr))
			return NULL;
	} else if (!host || !(config->flags & LB_NORTH_SOUTH)) {
		return NULL;
	}
	return lb_frontend(&any, port, protocol);
}

/* The translation that the socket has for a frontend, else the one that it used least recently. */
static __always_inline struct weft_lb_peer *
peer_of(struct weft_lb_socket *s, const struct weft_addr *addr, __be16 port, bool *found)
{
	__u32 at = 0, least = 0xffffffff;

	*found = false;
#pragma unroll
	for (int i = 0; i < LB_SOCKET_PEERS; i++) {
		const struct weft_lb_peer *p = &s->peer[i];

		if (*found)
			continue;
		if (p->used && p->frontend_port == port && lb_same(&p->frontend, addr)) {
			*found = true;
			at = i;
		} else if (p->used < least) {
			least = p->used;
			at = i;
		}
	}
	return &s->peer[at & (LB_SOCKET_PEERS - 1)];
}

/* A socket that sends datagrams to a frontend stays with a backend as long as that is one. */
static __always_inline bool keeps(const struct weft_lb_peer *p, const struct weft_lb_frontend *fe,
				  struct weft_lb_backend *out)
{
	if (!(fe->flags & LB_MEMBERS) || p->set != fe->set ||
	    !lb_member(fe->set, &p->backend, p->backend_port))
		return false;
	out->addr = p->backend;
	out->port = p->backend_port;
	return true;
}

enum answer { ANSWER_NONE, ANSWER_BACKEND, ANSWER_REFUSED };

/*
 * What a socket is connected to is followed by nobody: the agent ends it when its backend is gone.
 */
static __always_inline void remember(struct bpf_sock_addr *ctx, __u32 set,
				     const struct weft_lb_backend *be)
{
	struct weft_lb_connection c = {.backend = be->addr, .set = set, .port = be->port};
	__u64 cookie = bpf_get_socket_cookie(ctx);

	bpf_map_update_elem(&weft_lb_connected, &cookie, &c, BPF_ANY);
}

/*
 * Whom the socket shall talk to instead of a frontend. A pod's socket of datagrams that connects is
 * left to the programs of packets, or the stack: the hook doesn't see what it sends later, so it
 * would stay with a backend that is gone. Nobody else sees the node's own.
 */
static __always_inline enum answer forward(struct bpf_sock_addr *ctx, const struct weft_addr *addr,
					   bool connect, struct weft_lb_backend *be)
{
	__u32 protocol = service_protocol(ctx->protocol);
	const struct weft_lb_config *config = lb_config();
	struct weft_lb_socket *s = NULL;
	struct weft_lb_frontend *fe;
	struct weft_lb_peer *p = NULL;
	bool found = false, host;
	__be16 port = ctx->user_port;
	__u64 client;

	if (!config)
		return ANSWER_NONE;
	client = bpf_get_netns_cookie(ctx);
	host = client == config->host;
	/* Without LB_HOST the node's own have their services by kube-proxy. */
	if (host ? !(config->flags & LB_HOST) : config->flags & LB_HOST_ONLY)
		return ANSWER_NONE;
	if (connect && protocol != IPPROTO_TCP && !(host && protocol == IPPROTO_UDP))
		return ANSWER_NONE;
	fe = frontend(config, addr, port, protocol, host);
	if (!fe)
		return ANSWER_NONE;
	if (!lb_fresh(config)) {
		lb_count(LB_STALE);
		return ANSWER_NONE;
	}
	/* What source a pod's packet will have is seen where it leaves the pod. */
	if (fe->flags & LB_RANGES && !(host && fe->flags & LB_RANGES_HOST)) {
		lb_count(LB_LEFT);
		return ANSWER_NONE;
	}
	if (!fe->count) {
		bool refuse = fe->flags & LB_REFUSE;

		lb_count(refuse ? LB_REFUSED : LB_LEFT);
		return refuse ? ANSWER_REFUSED : ANSWER_NONE;
	}
	if (ctx->sk)
		s = bpf_sk_storage_get(&weft_lb_sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (s)
		p = peer_of(s, addr, port, &found);
	if (s && p && found && protocol == IPPROTO_UDP && keeps(p, fe, be)) {
		p->used = ++s->uses;
		if (connect)
			remember(ctx, fe->set, be);
		lb_count(LB_KEPT);
		return ANSWER_BACKEND;
	}
	if (!lb_choose(fe, client, be)) {
		lb_count(LB_INCOMPLETE);
		return ANSWER_NONE;
	}
	if (s && p) {
		p->frontend = *addr;
		p->backend = be->addr;
		p->frontend_port = port;
		p->backend_port = be->port;
		p->set = fe->set;
		p->used = ++s->uses;
	}
	if (connect && protocol == IPPROTO_UDP)
		remember(ctx, fe->set, be);
	lb_count(LB_TRANSLATED);
	return ANSWER_BACKEND;
}

/*
 * The frontend that the socket knows a backend by. If it talks to one backend as two services, the
 * answer may be to either: it is taken for the last one's.
 */
static __always_inline bool backward(struct bpf_sock_addr *ctx, const struct weft_addr *addr,
				     struct weft_lb_backend *out)
{
	__be16 port = ctx->user_port;
	struct weft_lb_socket *s;
	__u32 latest = 0;

	if (!ctx->sk)
		return false;
	s = bpf_sk_storage_get(&weft_lb_sockets, ctx->sk, 0, 0);
	if (!s)
		return false;
#pragma unroll
	for (int i = 0; i < LB_SOCKET_PEERS; i++) {
		const struct weft_lb_peer *p = &s->peer[i];

		if (p->used > latest && p->backend_port == port && lb_same(&p->backend, addr)) {
			latest = p->used;
			out->addr = p->frontend;
			out->port = p->frontend_port;
		}
	}
	if (latest)
		lb_count(LB_REVERSED);
	return latest;
}

static __always_inline int towards(struct bpf_sock_addr *ctx, bool v6, bool connect)
{
	struct weft_lb_backend be = {};
	struct weft_addr addr;

	address(ctx, v6, &addr);
	switch (forward(ctx, &addr, connect, &be)) {
	case ANSWER_BACKEND:
		set_address(ctx, v6, &be);
		return PASS;
	case ANSWER_REFUSED:
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	default:
		return PASS;
	}
}

static __always_inline int from(struct bpf_sock_addr *ctx, bool v6)
{
	struct weft_lb_backend fe = {};
	struct weft_addr addr;

	address(ctx, v6, &addr);
	if (backward(ctx, &addr, &fe))
		set_address(ctx, v6, &fe);
	return PASS;
}

static __always_inline bool served(const struct weft_addr *addr, __be16 port, __u8 protocol)
{
	const struct weft_lb_frontend *fe = lb_frontend(addr, port, protocol);

	return fe && fe->flags & (LB_OUTSIDE | LB_OUTSIDE_OWN);
}

/*
 * A process of the node that listens at a node port would be heard by nobody. An IPv6 socket may
 * take IPv4 as well: which it does isn't seen here.
 */
static __always_inline int bound(struct bpf_sock *ctx, bool v6)
{
	__u32 protocol = service_protocol(ctx->protocol);
	const struct weft_lb_config *config = lb_config();
	__be16 port = bpf_htons((__u16)ctx->src_port);
	struct weft_addr any4 = {}, any6 = {};

	any4.word[2] = bpf_htonl(0xffff);
	if (!config || !(config->flags & LB_GUARD) || !port)
		return PASS;
	if (bpf_get_netns_cookie(ctx) != config->host)
		return PASS;
	if (!served(&any4, port, protocol) && !(v6 && served(&any6, port, protocol)))
		return PASS;
	lb_count(LB_GUARDED);
	bpf_set_retval(-EADDRINUSE);
	return REFUSE;
}

SEC("cgroup/connect4") int sock_connect4(struct bpf_sock_addr *ctx)
{
	return towards(ctx, false, true);
}

SEC("cgroup/connect6") int sock_connect6(struct bpf_sock_addr *ctx)
{
	return towards(ctx, true, true);
}

SEC("cgroup/sendmsg4") int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return towards(ctx, false, false);
}

SEC("cgroup/sendmsg6") int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return towards(ctx, true, false);
}

SEC("cgroup/recvmsg4") int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return from(ctx, false);
}

SEC("cgroup/recvmsg6") int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return from(ctx, true);
}

SEC("cgroup/getpeername4") int sock_peername4(struct bpf_sock_addr *ctx)
{
	return from(ctx, false);
}

SEC("cgroup/getpeername6") int sock_peername6(struct bpf_sock_addr *ctx)
{
	return from(ctx, true);
}

SEC("cgroup/post_bind4") int sock_bind4(struct bpf_sock *ctx)
{
	return bound(ctx, false);
}

SEC("cgroup/post_bind6") int sock_bind6(struct bpf_sock *ctx)
{
	return bound(ctx, true);
}

char weft_license[] SEC("license") = "Dual BSD/GPL";
