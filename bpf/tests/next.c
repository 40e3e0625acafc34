// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * The whole datapath as a version with other entries of connections would have it: the tests of
 * upgrading and going back put it in the place of the present one.
 */

#include "next.h"

#include "../weft.c"
