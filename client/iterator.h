/* SPDX-License-Identifier: Apache-2.0
 *
 * client/iterator.h: what the two files of imap share. */
#ifndef FARPOOL_CLIENT_ITERATOR_H
#define FARPOOL_CLIENT_ITERATOR_H

#include "client/failure.h"
#include "client/pool.h"

/* Tasks that ended together: their outputs, or why they failed. */
struct piece {
    TAILQ_ENTRY(piece) entry;
    uint64_t first;
    uint32_t count, read; /* tasks, and how many of them were read */
    size_t offset;        /* of the next one in data */
    struct payload *sizes, *data;
    struct failure failure; /* code 0: they succeeded */
};

struct farpool_iterator {
    struct pool_job base;
    bool ordered;
    farpool_input input;
    void *user;
    uint32_t input_size; /* of a typed function */
    bool typed;

    bool pulling; /* a thread is in the input callback */
    bool input_ended;
    bool core_ended; /* no more results will come */
    uint64_t wanted_tasks, wanted_bytes;
    uint64_t pulled;              /* the next input's index */
    struct failure input_failure; /* code 0: none; told behind the last result */

    TAILQ_HEAD(pieces, piece) pieces;
    struct piece *current;               /* the last output that was read lies here */
    uint64_t read;                       /* results read; ordered: the next one's index */
    uint64_t untold_tasks, untold_bytes; /* of them, not told to the core yet */
    uint64_t done, failed;
    bool no_memory; /* a piece could not be kept */

    /* What is being pulled. */
    uint8_t *bytes;
    size_t bytes_size, bytes_capacity;
    uint32_t *sizes;
    size_t sizes_count, sizes_capacity;
    struct payload *large; /* a large input behind these, or NULL */
};

/* Whether it is time to call iterator_pull. With the mutex, as all of these. */
bool iterator_wants_input(const farpool_iterator *iterator);
/* Calls the user, without the mutex, for about a millisecond's worth of input. */
void iterator_pull(farpool_iterator *iterator);

#endif
