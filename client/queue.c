/* SPDX-License-Identifier: Apache-2.0
 *
 * queue.c: a queue of messages in one growing array, which is reused: it starts again
 * from its front whenever it has been emptied, which is at the end of each turn. */
#include "client/queue.h"
#include "common/base/mem.h"

bool queue_empty(const struct queue *queue)
{
    return queue->first == queue->end;
}

int queue_push(struct queue *queue, uint64_t link, struct message **message)
{
    if (!mem_reserve(&queue->posts, &queue->capacity, queue->end + 1,
                     sizeof *queue->posts))
        return FARPOOL_ENOMEM;
    queue->posts[queue->end].link = link;
    queue->posts[queue->end].message = *message;
    queue->end++;
    *message = NULL;
    return 0;
}

struct message *queue_pop(struct queue *queue, uint64_t *ret_link)
{
    struct message *message = NULL;

    /* A dropped message leaves a hole. */
    while (message == NULL && queue->first < queue->end) {
        struct queue_post *post = &queue->posts[queue->first++];

        message = post->message;
        if (ret_link != NULL)
            *ret_link = post->link;
    }
    if (queue_empty(queue))
        queue->first = queue->end = 0;
    return message;
}

void queue_drop(struct queue *queue, uint64_t link)
{
    for (size_t i = queue->first; i < queue->end; i++)
        if (link == 0 || queue->posts[i].link == link)
            message_free(&queue->posts[i].message);
}

void queue_fini(struct queue *queue)
{
    queue_drop(queue, 0);
    mem_free(queue->posts);
    *queue = (struct queue){0};
}
