/* SPDX-License-Identifier: Apache-2.0
 *
 * spare.h: memory of large payloads, kept for the next ones. What is given back to the
 * system comes again as fresh pages, and touching these first costs several times what
 * copying the bytes does. Any thread may call. */
#ifndef FARPOOL_BASE_SPARE_H
#define FARPOOL_BASE_SPARE_H

#include <stddef.h>

#define SPARE_LEAST 65536u         /* smaller memory is malloc's affair, */
#define SPARE_MOST (17u << 20)     /* and so is larger */
#define SPARE_KEPT_MAX (34u << 20) /* bytes kept in all */

/* At least `size` bytes, not zeroed; NULL: out of memory. */
void *spare_take(size_t size);
/* Of spare_take, with the same size. */
void spare_give(void *memory, size_t size);
/* Frees all that is kept: nothing large is under way. */
void spare_empty(void);
/* Large memory comes from malloc too, through a library that asks it: from now on more of
 * what is freed is kept there. Once a process; a program that has told malloc what it
 * wants (mallopt) keeps its word. */
void spare_teach_malloc(void);

#endif
