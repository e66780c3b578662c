/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.c: allocation, with a hook that makes the n-th one fail.
 *
 * Unless a test has set the hook, the counter is loaded and stored without a locked
 * instruction, so that it costs next to nothing: threads may lose counts of each other.
 */
#include "common/base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE_FIRST 8 /* elements that an array begins with */

/* So small ones are cleared here: of glibc's calls only malloc takes what the thread
 * itself has freed, without a lock and without searching. */
#define CLEARED_HERE 1024

static atomic_size_t made;    /* allocations since the last mem_fail_after */
static atomic_size_t fail_at; /* the one that fails; 0: none */

static bool refuse(void)
{
    const size_t wanted = atomic_load_explicit(&fail_at, memory_order_relaxed);
    if (wanted != 0)
        return atomic_fetch_add(&made, 1) + 1 == wanted;
    const size_t number = atomic_load_explicit(&made, memory_order_relaxed) + 1;
    atomic_store_explicit(&made, number, memory_order_relaxed);
    return false;
}

size_t mem_fail_after(size_t n)
{
    const size_t count = atomic_exchange(&made, 0);
    atomic_store(&fail_at, n);
    return count;
}

void *mem_alloc(size_t size)
{
    if (refuse())
        return NULL;
    if (size > CLEARED_HERE)
        return calloc(1, size);
    void *memory = malloc(size ? size : 1);
    return memory ? memset(memory, 0, size) : NULL;
}

void *mem_realloc(void *memory, size_t size)
{
    return refuse() ? NULL : realloc(memory, size ? size : 1);
}

char *mem_strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = mem_realloc(NULL, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void mem_free(void *memory)
{
    free(memory);
}

bool mem_reserve(void *array_pointer, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return true;
    size_t wanted = *capacity ? *capacity : RESERVE_FIRST;
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2)
            return false;
        wanted *= 2;
    }
    if (size && wanted > SIZE_MAX / size)
        return false;
    /* The caller's pointer is of any type: read and written as bytes. */
    uint8_t *array;
    memcpy(&array, array_pointer, sizeof array);
    array = mem_realloc(array, wanted * size);
    if (!array)
        return false;
    memset(array + *capacity * size, 0, (wanted - *capacity) * size);
    memcpy(array_pointer, &array, sizeof array);
    *capacity = wanted;
    return true;
}
