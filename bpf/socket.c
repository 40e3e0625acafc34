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

static __always_inline void address4(const struct bpf_sock_addr *ctx, struct weft_addr *a)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ctx->user_ip4;
}

static __always_inline void address6(const struct bpf_sock_addr *ctx, struct weft_addr *a)
{
	a->word[0] = ctx->user_ip6[0];
	a->word[1] = ctx->user_ip6[1];
	a->word[2] = ctx->user_ip6[2];
	a->word[3] = ctx->user_ip6[3];
}

static __always_inline void set4(struct bpf_sock_addr *ctx, const struct weft_addr *a, __be16 port)
{
	ctx->user_ip4 = a->word[3];
	ctx->user_port = port;
}

static __always_inline void set6(struct bpf_sock_addr *ctx, const struct weft_addr *a, __be16 port)
{
	ctx->user_ip6[0] = a->word[0];
	ctx->user_ip6[1] = a->word[1];
	ctx->user_ip6[2] = a->word[2];
	ctx->user_ip6[3] = a->word[3];
	ctx->user_port = port;
}

/*
 * Sockets of the node itself have their services by kube-proxy, unless weft does its work. Where
 * it doesn't, kube-proxy also has what tables that nobody looks after may be wrong about: its
 * rules are kept up to date.
 */
static __always_inline bool translates(struct bpf_sock_addr *ctx, __u64 *client)
{
	__u32 key = 0;
	struct weft_lb_config *config = bpf_map_lookup_elem(&weft_lb_config, &key);

	if (!config)
		return false;
	*client = bpf_get_netns_cookie(ctx);
	if (config->flags & LB_HOST)
		return true;
	return *client != config->host;
}

static __always_inline bool fresh(void)
{
	__u32 key = 0;
	struct weft_lb_config *config = bpf_map_lookup_elem(&weft_lb_config, &key);

	return config && (config->flags & LB_HOST || bpf_ktime_get_coarse_ns() < config->fresh);
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
 * Whom the socket shall talk to instead of a frontend. Connected sockets of datagrams are left to
 * the stack: the hook doesn't see what they send later, so they would stay with a backend that is
 * gone.
 */
static __always_inline enum answer forward(struct bpf_sock_addr *ctx, const struct weft_addr *addr,
					   bool connect, struct weft_lb_backend *be)
{
	__u32 protocol = ctx->protocol == MPTCP ? IPPROTO_TCP : ctx->protocol;
	struct weft_lb_socket *s = NULL;
	struct weft_lb_frontend *fe;
	struct weft_lb_peer *p = NULL;
	bool found = false;
	__be16 port = ctx->user_port;
	__u64 client;

	if (connect && protocol != IPPROTO_TCP)
		return ANSWER_NONE;
	if (!translates(ctx, &client))
		return ANSWER_NONE;
	fe = lb_frontend(addr, port, protocol);
	if (!fe)
		return ANSWER_NONE;
	if (!fresh()) {
		lb_count(LB_STALE);
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

static __always_inline int towards4(struct bpf_sock_addr *ctx, bool connect)
{
	struct weft_lb_backend be = {};
	struct weft_addr addr;

	address4(ctx, &addr);
	switch (forward(ctx, &addr, connect, &be)) {
	case ANSWER_BACKEND:
		set4(ctx, &be.addr, be.port);
		return PASS;
	case ANSWER_REFUSED:
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	default:
		return PASS;
	}
}

static __always_inline int towards6(struct bpf_sock_addr *ctx, bool connect)
{
	struct weft_lb_backend be = {};
	struct weft_addr addr;

	address6(ctx, &addr);
	switch (forward(ctx, &addr, connect, &be)) {
	case ANSWER_BACKEND:
		set6(ctx, &be.addr, be.port);
		return PASS;
	case ANSWER_REFUSED:
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	default:
		return PASS;
	}
}

static __always_inline int from4(struct bpf_sock_addr *ctx)
{
	struct weft_lb_backend fe = {};
	struct weft_addr addr;

	address4(ctx, &addr);
	if (backward(ctx, &addr, &fe))
		set4(ctx, &fe.addr, fe.port);
	return PASS;
}

static __always_inline int from6(struct bpf_sock_addr *ctx)
{
	struct weft_lb_backend fe = {};
	struct weft_addr addr;

	address6(ctx, &addr);
	if (backward(ctx, &addr, &fe))
		set6(ctx, &fe.addr, fe.port);
	return PASS;
}

SEC("cgroup/connect4") int sock_connect4(struct bpf_sock_addr *ctx)
{
	return towards4(ctx, true);
}

SEC("cgroup/connect6") int sock_connect6(struct bpf_sock_addr *ctx)
{
	return towards6(ctx, true);
}

SEC("cgroup/sendmsg4") int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return towards4(ctx, false);
}

SEC("cgroup/sendmsg6") int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return towards6(ctx, false);
}

SEC("cgroup/recvmsg4") int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return from4(ctx);
}

SEC("cgroup/recvmsg6") int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return from6(ctx);
}

SEC("cgroup/getpeername4") int sock_peername4(struct bpf_sock_addr *ctx)
{
	return from4(ctx);
}

SEC("cgroup/getpeername6") int sock_peername6(struct bpf_sock_addr *ctx)
{
	return from6(ctx);
}

char weft_license[] SEC("license") = "Dual BSD/GPL";
