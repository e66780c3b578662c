/* SPDX-License-Identifier: Apache-2.0
 *
 * store_memory.h: the store of detached jobs, in memory, for tests of the service: what
 * was committed outlives store_close, what was not is gone with it, and each of its calls
 * can be made to fail. It takes the place of detached/store*.c. */
#ifndef FARPOOL_TESTS_STORE_MEMORY_H
#define FARPOOL_TESTS_STORE_MEMORY_H

#include "detached/store.h"

/* The n-th call from now that writes or commits fails with this code; 0: none. */
void memory_store_fail(unsigned n, int code);
/* Forgets all. */
void memory_store_clear(void);

/* What is committed, of the first job. */
const struct store_job *memory_store_job(void); /* NULL: none */
bool memory_store_has_result(uint64_t index);
/* The highest attempt noted; 1: none. */
uint32_t memory_store_attempt(uint64_t index);

#endif
