/* SPDX-License-Identifier: Apache-2.0
 *
 * spare.c: a few pieces of memory between payloads, the youngest on top.
 *
 * Sizes are rounded up to multiples of SPARE_LEAST, so that those of one stream are
 * mostly the same; a piece serves that size only. Who gives when there is no room drives
 * out the oldest, so pieces of a size that nobody wants any more do not stay. Nobody
 * waits for the lock: who finds it taken goes to malloc. */
#include "common/base/spare.h"

#include "common/base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* What is kept is nobody's: so that AddressSanitizer tells who uses it all the same. */
#if defined(__SANITIZE_ADDRESS__)
#define POISONED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONED 1
#endif
#endif
#ifdef POISONED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

/* glibc keeps twice as much free memory as the largest piece that it had mapped by
 * itself, once that was freed; 128 KiB before. */
#define EXAMPLE_BYTES (8u << 20)

#define PLACES (SPARE_KEPT_MAX / SPARE_LEAST)

static struct {
    atomic_flag taken;
    size_t count, bytes;
    struct spare {
        void *memory;
        size_t size;
    } pieces[PLACES]; /* from the oldest on */
} kept = {.taken = ATOMIC_FLAG_INIT};

static bool lock(void)
{
    return !atomic_flag_test_and_set_explicit(&kept.taken, memory_order_acquire);
}

static void unlock(void)
{
    atomic_flag_clear_explicit(&kept.taken, memory_order_release);
}

static bool is_kept(size_t size)
{
    return size >= SPARE_LEAST && size <= SPARE_MOST;
}

static size_t rounded(size_t size)
{
    return (size + SPARE_LEAST - 1) & ~(size_t)(SPARE_LEAST - 1);
}

static struct spare pick(size_t place)
{
    const struct spare piece = kept.pieces[place];
    ASAN_UNPOISON_MEMORY_REGION(piece.memory, piece.size);
    kept.count--;
    kept.bytes -= piece.size;
    memmove(&kept.pieces[place], &kept.pieces[place + 1],
            (kept.count - place) * sizeof piece);
    return piece;
}

static void *find(size_t size)
{
    for (size_t i = kept.count; i-- > 0;) {
        if (kept.pieces[i].size == size)
            return pick(i).memory;
    }
    return NULL;
}

/* Makes room for `size` bytes, with the lock. */
static void drive_out(size_t size)
{
    while (kept.bytes + size > SPARE_KEPT_MAX)
        mem_free(pick(0).memory);
}

void *spare_take(size_t size)
{
    if (!is_kept(size))
        return mem_realloc(NULL, size);
    size = rounded(size);
    void *memory = NULL;
    if (lock()) {
        memory = find(size);
        unlock();
    }
    return memory != NULL ? memory : mem_realloc(NULL, size);
}

void spare_give(void *memory, size_t size)
{
    if (!is_kept(size) || !lock()) {
        mem_free(memory);
        return;
    }
    size = rounded(size);
    drive_out(size);
    kept.pieces[kept.count++] = (struct spare){memory, size};
    kept.bytes += size;
    ASAN_POISON_MEMORY_REGION(memory, size);
    unlock();
}

void spare_empty(void)
{
    if (!lock())
        return; /* somebody else uses it */
    drive_out(SPARE_KEPT_MAX);
    unlock();
}

void spare_teach_malloc(void)
{
    static atomic_flag taught = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set_explicit(&taught, memory_order_relaxed))
        mem_free(mem_realloc(NULL, EXAMPLE_BYTES));
}
