/* SPDX-License-Identifier: Apache-2.0
 *
 * test_sys_memory.c: a daemon keeps memory while there are tasks, and gives all of it
 * back once when there have been none for a while. Linked with --wrap of what gives. */
#include "common/base/mem.h"
#include "common/base/payload.h"
#include "common/base/spare.h"
#include "common/sys/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MIB 1048576u

static int trims;

int __wrap_malloc_trim(size_t keep);

int __wrap_malloc_trim(size_t keep)
{
    assert_int_equal(keep, 0);
    trims++;
    return 1;
}

/* Whether a large payload was made of memory that was kept. */
static bool is_kept(void)
{
    mem_fail_after(0);
    struct payload *payload = payload_create(MIB);
    payload_unref(&payload);
    return mem_fail_after(0) == 0;
}

static void nothing_is_due_before_there_were_tasks(void **state)
{
    struct memory memory;
    (void)state;
    memory_open(&memory);
    assert_int_equal(memory_deadline(&memory), UINT64_MAX);
    trims = 0;
    memory_turn(&memory, false, UINT64_MAX - 1);
    assert_int_equal(trims, 0);
}

static void it_is_given_back_once_behind_the_last_task(void **state)
{
    struct memory memory;
    (void)state;
    memory_open(&memory);
    trims = 0;
    memory_turn(&memory, true, 1000);
    is_kept();
    const uint64_t due_ms = memory_deadline(&memory);
    assert_true(due_ms > 1000);
    memory_turn(&memory, false, due_ms - 1);
    assert_true(is_kept());
    memory_turn(&memory, true, due_ms - 1); /* another task */
    memory_turn(&memory, false, due_ms);
    assert_true(is_kept());
    assert_int_equal(trims, 0);
    memory_turn(&memory, false, memory_deadline(&memory));
    assert_int_equal(trims, 1);
    assert_false(is_kept());
    assert_int_equal(memory_deadline(&memory), UINT64_MAX);
    memory_turn(&memory, false, UINT64_MAX - 1);
    assert_int_equal(trims, 1);
    spare_empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_before_there_were_tasks),
        cmocka_unit_test(it_is_given_back_once_behind_the_last_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
