// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* conntrack.c with the entries of next.h. */

#include "next.h"

#include "conntrack.c"
