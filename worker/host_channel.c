/* SPDX-License-Identifier: Apache-2.0
 *
 * host_channel.c: the memory shared with one process, from the host's side.
 *
 * It is a memfd of fixed size, sealed against shrinking, so that no process can make the
 * host fault; sparse, so that it takes what is touched. The mapping is counted by
 * reference: an output that was written there is read in place, perhaps long after its
 * process and the host itself are gone, and its block is given back by whichever thread
 * lets go of it last. Hence release and wake are the only calls here that any thread may
 * make. What the records mean is left to host_feed.c and host_results.c. */
#include "worker/host_internal.h"

#include "common/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_KEPT_BYTES 8388608u /* of the in arena, kept warm when it is trimmed */

static int system_error(farpool_error *error, const char *what)
{
    int number = errno;
    char call[64];
    snprintf(call, sizeof call, "cannot start a process: %s", what);
    return host_system_error(error, number, call);
}

static int make_memory(uint64_t size, farpool_error *error)
{
    int fd = memfd_create("farpool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return system_error(error, "memfd_create");
    if (ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int code = system_error(error, "sizing the shared memory");
        close(fd);
        return code;
    }
    return fd;
}

static void fill_control(struct channel_control *control, const struct host *host,
                         const struct id *pool, uint32_t generation)
{
    control->magic = CHANNEL_MAGIC;
    control->version = CHANNEL_VERSION;
    control->generation = generation;
    control->payload_max = host->config.payload_max;
    control->spin = host->config.spin;
    control->parent = (uint32_t)getpid();
    control->captured = host->config.capture_output;
    control->pool = *pool;
    memcpy(control->node, host->node, sizeof control->node);
    for (unsigned i = 0; i < CHANNEL_CANCELS; i++)
        atomic_store(&control->cancels[i].give, UINT64_MAX);
    atomic_store(&control->running.give, UINT64_MAX);
    atomic_store(&control->running.since, UINT64_MAX);
}

int host_map_create(const struct host *host, const struct id *pool, uint32_t generation,
                    struct host_map **ret_map, int *ret_fd, farpool_error *error)
{
    struct host_map *map = mem_alloc(sizeof *map);
    if (map == NULL)
        return error_set(error, FARPOOL_ENOMEM, "starting a process: out of memory");
    map->at = channel_layout(host->config.payload_max);
    int fd = make_memory(map->at.size, error);
    if (fd < 0) {
        mem_free(map);
        return fd;
    }
    void *base = mmap(NULL, map->at.size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        int code = system_error(error, "mapping the shared memory");
        close(fd);
        mem_free(map);
        return code;
    }
    /* Not in the host's core dumps, and not in children of the embedding program. */
    madvise(base, map->at.size, MADV_DONTDUMP);
    madvise(base, map->at.size, MADV_DONTFORK);
    atomic_init(&map->refs, 1);
    map->base = base;
    map->control = base;
    pthread_mutex_init(&map->release_lock, NULL);
    fill_control(map->control, host, pool, generation);
    *ret_map = map;
    *ret_fd = fd;
    return 0;
}

void host_map_unref(struct host_map *map)
{
    if (map == NULL ||
        atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) != 1)
        return;
    munmap(map->base, map->at.size);
    pthread_mutex_destroy(&map->release_lock);
    mem_free(map);
}

void host_map_wake(struct host_map *map, uint32_t least)
{
    struct channel_control *control = map->control;
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t asleep = atomic_load_explicit(&control->asleep, memory_order_relaxed);
    do {
        if (asleep < least)
            return;
    } while (!atomic_compare_exchange_weak(&control->asleep, &asleep, CHANNEL_AWAKE));
    /* Who changed it wakes, so that a sleep is ended by one call, whatever else comes. */
    atomic_fetch_add_explicit(&control->wake, 1, memory_order_relaxed);
    syscall(SYS_futex, (uintptr_t)&control->wake, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* A process that does not read its queue loses the block, which is its own affair. */
void host_map_release(struct host_map *map, uint64_t offset)
{
    struct channel_control *control = map->control;
    pthread_mutex_lock(&map->release_lock);
    uint64_t tail = atomic_load_explicit(&control->release_tail, memory_order_acquire);
    if (map->release_head - tail < CHANNEL_RELEASES) {
        uint64_t *slots = (uint64_t *)(void *)(map->base + map->at.releases);
        slots[map->release_head % CHANNEL_RELEASES] = offset;
        map->release_head++;
        atomic_store_explicit(&control->release_head, map->release_head,
                              memory_order_release);
    }
    pthread_mutex_unlock(&map->release_lock);
    host_map_wake(map, CHANNEL_WAITS_ROOM);
}

static void release_payload(struct payload *payload)
{
    struct host_map *map = payload->owner;
    host_map_release(map, (uint64_t)(payload->data - map->base) - map->at.out_arena);
    host_map_unref(map);
}

struct payload *host_map_wrap(struct host_map *map, uint64_t offset, uint64_t bytes)
{
    struct payload *payload =
        payload_wrap(map->base + map->at.out_arena + offset, bytes, release_payload, map);
    if (payload != NULL)
        atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
    return payload;
}

static void punch(void *user, uint64_t offset, uint64_t size)
{
    struct host_map *map = user;
    madvise(map->base + map->at.in_arena + offset, size, MADV_REMOVE);
}

void host_map_trim_in(struct host_map *map, struct arena *arena)
{
    arena_trim(arena, IN_KEPT_BYTES, punch, map);
}
