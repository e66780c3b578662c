/* SPDX-License-Identifier: Apache-2.0
 *
 * memory.c: see memory.h.
 *
 * ZeroMQ asks malloc for the memory of each frame. glibc gives large pieces back to the
 * system when they are freed, at once or as soon as some lie together, so that each
 * megabyte comes as fresh pages: 256 page faults, which cost more than the frame's way
 * through the daemon. So up to KEPT_BYTES of free memory (in each of malloc's arenas; one
 * a thread, and a daemon has two threads with large frames) stay while there are tasks.
 */
#include "common/sys/memory.h"

#include "common/base/spare.h"

#include <malloc.h>

#define KEPT_BYTES (32 << 20)
#define IDLE_MS 2000

void memory_open(struct memory *memory)
{
    memory->due_ms = UINT64_MAX;
#ifdef M_TRIM_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES); /* glibc takes no more than that */
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
#endif
}

void memory_turn(struct memory *memory, bool busy, uint64_t now_ms)
{
    if (busy) {
        memory->due_ms = now_ms + IDLE_MS;
    } else if (now_ms >= memory->due_ms) {
        memory->due_ms = UINT64_MAX;
        spare_empty();
#ifdef M_TRIM_THRESHOLD
        malloc_trim(0);
#endif
    }
}
