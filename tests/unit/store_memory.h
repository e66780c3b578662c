/* SPDX-License-Identifier: Apache-2.0
 *
 * store_memory.h: the store of detached jobs, in memory, for tests of the service: what
 * was committed outlives store_close, what was not is gone with it, and each of its calls
 * can be made to fail, or to be the last one. It takes the place of detached/store*.c. */
#ifndef FARPOOL_TESTS_STORE_MEMORY_H
#define FARPOOL_TESTS_STORE_MEMORY_H

#include "detached/store.h"

/* The n-th call from now that writes or commits fails with this code; 0: none. */
void memory_store_fail(unsigned n, int code);
/* The machine stops in the n-th such call, before or behind what it does: of the calls
 * from there on none does anything, and all fail. 0: it runs (again). */
void memory_store_stop(unsigned n);
bool memory_store_has_stopped(void);
/* Forgets all. */
void memory_store_clear(void);

/* What is committed of the job with this id of its SUBMIT; NULL: of the first one. */
const struct store_job *memory_store_job(const struct id *submit); /* NULL: none */
bool memory_store_has_result(const struct id *submit, uint64_t index);
/* The highest attempt noted; 1: none. */
uint32_t memory_store_attempt(const struct id *submit, uint64_t index);
/* Breaks its word: a result of the job, if it has one, is there no more. */
bool memory_store_lose_result(const struct id *submit);

#endif
