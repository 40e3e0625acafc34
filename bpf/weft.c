// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* One object, so that all hooks share one set of maps; one file for each hook. */

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bandwidth.h"
#include "conntrack.h"
#include "deliver.h"
#include "event.h"
#include "layout.h"
#include "lb.h"
#include "maps.h"
#include "nat.h"
#include "neighbour.h"
#include "packet.h"
#include "parse.h"
#include "reason.h"
#include "route.h"
#include "service.h"
#include "timer.h"
#include "verdict.h"

#include "from_pod.c"
#include "to_pod.c"

#include "from_netdev.c"
#include "to_netdev.c"

char weft_license[] SEC("license") = "Dual BSD/GPL";
