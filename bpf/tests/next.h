/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* A version with other entries of connections; included before anything else. */

#define WEFT_NEXT
#define CT_PREVIOUS

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define NEXT_MAGIC 0x7765667432ull

static __always_inline void ct_from_previous(struct weft_ct_entry *to,
					     const struct weft_ct_entry_previous *from)
{
	to->next = NEXT_MAGIC;
	__builtin_memcpy((void *)to + sizeof(to->next), from, sizeof(*from));
}

static __always_inline void ct_to_previous(struct weft_ct_entry_previous *to,
					   const struct weft_ct_entry *from)
{
	__builtin_memcpy(to, (const void *)from + sizeof(from->next), sizeof(*to));
}
