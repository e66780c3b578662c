/* SPDX-License-Identifier: Apache-2.0
 *
 * detached/detached.h: detached jobs, seen from the coordinator's loop: a service on a
 * thread of its own, so that no other client waits while a disk syncs. All calls here are
 * the loop's; what passes to and fro is moved. */
#ifndef FARPOOL_DETACHED_DETACHED_H
#define FARPOOL_DETACHED_DETACHED_H

#include "common/base/holder.h"
#include "common/base/message.h"

struct detached;

struct detached_config {
    const char *folder; /* borrowed for its life */
    uint64_t bytes_max, keep_s;
};

/* Waits until the store has been opened, or could not be (which the log tells). ENOMEM,
 * ESYSTEM. */
int detached_open(const struct detached_config *config, struct detached **ret_detached,
                  farpool_error *error);
/* Ends the thread; what was not answered is not done. NULL allowed. */
void detached_close(struct detached *detached);

/* Readable when detached_serve has something to do. */
int detached_fd(const struct detached *detached);

/* What a client asked (taken over). false: too much is waiting, and its link is to be
 * dropped: it asks again. */
bool detached_ask(struct detached *detached, uint64_t link, const struct holder *holder,
                  struct message **message);
/* The same question, where no detached jobs are kept: its answer. NULL: no memory. */
struct message *detached_refuse(const struct message *question, int code,
                                const char *text);

/* Whether a link is one of a client inside: true of no connection's number. */
bool detached_is_link(uint64_t link);
void detached_send(struct detached *detached, uint64_t link, struct message **message);
void detached_drop(struct detached *detached, uint64_t link);

/* What the service has done since. */
struct detached_calls {
    void (*answer)(void *user, uint64_t link, struct message **message);
    void (*say)(void *user, uint64_t link, const struct holder *holder,
                struct message **message); /* holder NULL: no keys */
    void (*hang_up)(void *user, uint64_t link);
    void (*drop)(void *user, uint64_t link); /* a client's: no memory for its answer */
    void *user;
};
void detached_serve(struct detached *detached, const struct detached_calls *calls);

#endif
