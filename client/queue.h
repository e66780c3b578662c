/* SPDX-License-Identifier: Apache-2.0
 *
 * client/queue.h: messages in order, each with the link it belongs to. */
#ifndef FARPOOL_CLIENT_QUEUE_H
#define FARPOOL_CLIENT_QUEUE_H

#include "common/base/message.h"

struct queue {
    struct queue_post {
        uint64_t link;
        struct message *message;
    } * posts;
    size_t first, end, capacity; /* posts[first .. end) */
};

/* Takes the message over. ENOMEM: nothing has changed. */
int queue_push(struct queue *queue, uint64_t link, struct message **message);
/* The oldest one, now the caller's; NULL: empty. */
struct message *queue_pop(struct queue *queue, uint64_t *ret_link);
bool queue_empty(const struct queue *queue);
/* Drops what is queued for a link (0: all). */
void queue_drop(struct queue *queue, uint64_t link);
void queue_fini(struct queue *queue);

#endif
