/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.h: every allocation of the project's own goes through here, so that a test can
 * make the i-th one fail. Contents of fresh memory are zero. */
#ifndef FARPOOL_BASE_MEM_H
#define FARPOOL_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t size);                 /* zeroed; NULL: out of memory */
void *mem_realloc(void *memory, size_t size); /* not zeroed */
char *mem_strdup(const char *text);
void mem_free(void *memory); /* NULL allowed */

/* Makes room in a growing array for `need` elements of `size` bytes each: doubles
 * *capacity; the new elements are zero. false: out of memory, nothing changed. */
bool mem_reserve(void *array_pointer, size_t *capacity, size_t need, size_t size);

/* Tests only: the n-th allocation from now fails (1: the next; 0: none), once, on
 * whatever thread it is made. Returns how many allocations have been made since the last
 * call: exactly, if one was to fail, or if there is one thread. */
size_t mem_fail_after(size_t n);

#endif
