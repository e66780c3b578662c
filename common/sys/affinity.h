/* SPDX-License-Identifier: Apache-2.0
 *
 * affinity.h: the cores that a thread may use, and binding it to one of them. */
#ifndef FARPOOL_SYS_AFFINITY_H
#define FARPOOL_SYS_AFFINITY_H

#include "farpool.h"

#include <stdint.h>

struct affinity; /* the cores that a thread might use when it was asked */

/* Those of the calling thread. ENOMEM, ESYSTEM. */
int affinity_read(struct affinity **ret_affinity, farpool_error *error);
void affinity_free(struct affinity *affinity); /* NULL allowed */

/* Binds the calling thread to one of the cores: the place-th from the lowest, and from
 * the lowest again when there are fewer. 0 or an errno: that core is not there any more.
 */
int affinity_bind(const struct affinity *affinity, uint32_t place);
/* Lets the calling thread use all of them again. */
void affinity_restore(const struct affinity *affinity);

/* How many cores the calling thread may use; at least 1. */
uint32_t affinity_count(void);

#endif
