/* SPDX-License-Identifier: Apache-2.0
 *
 * reach.h: why nobody answers at an address, as far as the system knows. */
#ifndef FARPOOL_SYS_REACH_H
#define FARPOOL_SYS_REACH_H

#include <stddef.h>

/* tcp://HOST:PORT or ipc://PATH. Resolves the name and connects once, for up to a second
 * beyond what the resolver takes. What is wrong and what to do, for people; "" when
 * somebody listens there. Returns text. */
const char *sys_reach(const char *address, char *text, size_t size);

#endif
