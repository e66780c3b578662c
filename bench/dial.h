/* SPDX-License-Identifier: Apache-2.0
 *
 * dial.h: thousands of links to a coordinator in one process, for benchmarks: each is a
 * socket of its own that speaks the protocol's envelopes, and one thread looks at all of
 * them. What goes wrong ends the program. One thread only. */
#ifndef FARPOOL_BENCH_DIAL_H
#define FARPOOL_BENCH_DIAL_H

#include "common/base/message.h"

#include <stdbool.h>
#include <stddef.h>

/* Room for so many links to that address, borrowed. */
void dial_start(size_t count, const char *address);
/* A new link, which dials; dial_wait tells `tag` when something came for it. The caller
 * keeps the result for the calls below; it lives as long as the process. */
void *dial_open(void *tag);
/* Whether its handshake is over and it takes what is sent. */
bool dial_is_up(void *link);
/* Packs the message, which is freed, for the next dial_send; messages for one link at a
 * time. What does not fit with those before sends these first. */
void dial_say(void *link, struct message *message);
/* Sends what was packed; false: there was nothing. */
bool dial_send(void *link);
/* Reads all that has come for the link, and calls take(user, message) for each message,
 * which the callee owns. */
void dial_read(void *link, void (*take)(void *user, struct message *message), void *user);
/* Also waits for that descriptor, and tells its tag. */
void dial_watch(int fd, void *tag);
/* Waits until something has come, or for so long; fills in the tags, at most `most`. */
size_t dial_wait(int timeout_ms, void **ret_tags, size_t most);

_Noreturn void dial_fail(const char *what, const char *why);
void *dial_need(void *memory); /* not NULL, or the program ends */

#endif
