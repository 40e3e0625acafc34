/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "packet.h"

/*
 * The state of a TCP connection as a function of the flags that both sides have sent so far.
 * Whether a reset is inside the window isn't looked at: one that the receiver ignores shortens the
 * life of the entry to that of a closed one, which every further packet renews.
 *
 * SCTP's chunks that open and close an association are taken for TCP's flags, so one function
 * serves both.
 */

enum tcp_state {
	TCP_OPENING = 0,
	TCP_ESTABLISHED = 1, /* or half closed: the other side may send as long as it likes */
	TCP_CLOSED = 2,	     /* by both or by a reset */
};

static __always_inline bool tcp_begins(__u8 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline bool tcp_closed(__u8 a, __u8 b)
{
	return (a | b) & TCP_RST || (a & b & TCP_FIN);
}

static __always_inline enum tcp_state tcp_state(__u8 a, __u8 b, bool midstream)
{
	__u8 handshake = midstream ? TCP_ACK : TCP_SYN | TCP_ACK;

	if (tcp_closed(a, b))
		return TCP_CLOSED;
	return (a & b & handshake) == handshake ? TCP_ESTABLISHED : TCP_OPENING;
}

/* Both have sent their FIN, and this is no FIN: it acknowledges the later one. */
static __always_inline bool tcp_last(__u8 flags, __u8 a, __u8 b)
{
	return a & b & TCP_FIN && !((a | b) & TCP_RST) &&
	       (flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK;
}

/* What the first chunk of an SCTP packet would be in TCP. */
static __always_inline __u8 sctp_flags(__u8 chunk)
{
	switch (chunk) {
	case 1: /* INIT */
		return TCP_SYN;
	case 2: /* INIT ACK */
		return TCP_SYN | TCP_ACK;
	case 6: /* ABORT */
		return TCP_RST;
	case 7: /* SHUTDOWN */
		return TCP_FIN;
	case 8: /* SHUTDOWN ACK */
		return TCP_FIN | TCP_ACK;
	}
	return TCP_ACK;
}
