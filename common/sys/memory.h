/* SPDX-License-Identifier: Apache-2.0
 *
 * memory.h: a daemon's own memory while large messages pass: what is freed is kept for
 * the next ones, and given back to the system when nothing has passed for a while. */
#ifndef FARPOOL_SYS_MEMORY_H
#define FARPOOL_SYS_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct memory {
    uint64_t due_ms; /* when what is free goes back; UINT64_MAX: there is nothing */
};

/* Once, when the daemon starts: it is the allocator of the whole process that is told. */
void memory_open(struct memory *memory);
/* In each turn of the loop; busy: there are tasks. */
void memory_turn(struct memory *memory, bool busy, uint64_t now_ms);
static inline uint64_t memory_deadline(const struct memory *memory)
{
    return memory->due_ms;
}

#endif
