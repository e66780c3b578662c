/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_fresh.c: the memory of large outputs that was never touched is provided in
 * one go before the function gets it, once; and where the kernel cannot do that (before
 * Linux 5.14), all is as it is with it. Linked with --wrap=madvise. */
#include "tests/unit/host_fixture.h"

#include "client/process_internal.h"
#include "farpool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define REFUSED "TEST_NO_POPULATE" /* a variable, which processes inherit */
#define LARGE 3000000u             /* below what stays warm when a process is idle */

int __real_madvise(void *memory, size_t size, int advice);
int __wrap_madvise(void *memory, size_t size, int advice);

/* The last of a process's, in the arena of its outputs. */
static struct asked {
    uint32_t times;
    uint64_t first, bytes; /* into the arena */
} asked;

int __wrap_madvise(void *memory, size_t size, int advice)
{
    const struct process *self = &process_self;
    const uint8_t *arena = self->base != NULL ? self->base + self->at.out_arena : NULL;
    if (advice != MADV_POPULATE_WRITE)
        return __real_madvise(memory, size, advice);
    if (arena != NULL && (const uint8_t *)memory >= arena)
        asked =
            (struct asked){asked.times + 1, (uint64_t)((uint8_t *)memory - arena), size};
    if (getenv(REFUSED) == NULL)
        return __real_madvise(memory, size, advice);
    errno = EINVAL;
    return -1;
}

/* Fills an output, and tells in its first bytes what was asked of the kernel for it, and
 * where it is. */
static int fill(farpool_task *task)
{
    size_t size;
    const uint8_t *input = farpool_task_input(task, &size);
    const size_t bytes = LARGE * (1u + input[0]);
    uint8_t *output = farpool_task_output(task, bytes);
    const uint64_t at =
        (uint64_t)(output - (process_self.base + process_self.at.out_arena));
    memset(output, 7, bytes);
    memcpy(output, &asked, sizeof asked);
    memcpy(output + sizeof asked, &at, sizeof at);
    return 0;
}
FARPOOL_BYTES_FUNCTION(fill)

static struct payload *run(struct fixture *fixture, uint8_t more, struct asked *ret_asked,
                           uint64_t *ret_at)
{
    struct giving giving = giving_of("fill", 1, &more, 1);
    fixture_give(fixture, &giving);
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_DONE);
    struct payload *output = told->event.data;
    told->event.data = NULL;
    assert_int_equal(output->size, LARGE * (1u + more));
    memcpy(ret_asked, output->data, sizeof *ret_asked);
    memcpy(ret_at, output->data + sizeof *ret_asked, sizeof *ret_at);
    for (size_t i = sizeof *ret_asked + sizeof *ret_at; i < output->size; i += 1000)
        assert_int_equal(output->data[i], 7);
    return output;
}

static void what_is_fresh_is_provided_once(void **state)
{
    struct asked first, again, more;
    uint64_t at, at_again, at_more;
    struct payload *output = run(*state, 0, &first, &at);
    assert_int_equal(first.times, 1);
    assert_true(first.first <= at && first.first + first.bytes >= at + LARGE);
    payload_unref(&output);
    output = run(*state, 0, &again, &at_again);
    payload_unref(&output);
    assert_int_equal(at_again, at);
    assert_int_equal(again.times, 1); /* nothing of it is fresh */
    output = run(*state, 1, &more, &at_more);
    assert_int_equal(at_more, at);
    assert_int_equal(more.times, 2); /* what lies behind alone */
    assert_int_equal(more.first, first.first + first.bytes);
    assert_true(more.first + more.bytes >= at_more + 2u * LARGE);
    payload_unref(&output);
}

/* A block behind one that is still held is fresh in all. */
static void beside_what_is_held_it_is_fresh_again(void **state)
{
    struct asked asked_held, asked_other;
    uint64_t at_held, at_other;
    struct payload *held = run(*state, 0, &asked_held, &at_held);
    struct payload *other = run(*state, 0, &asked_other, &at_other);
    assert_int_equal(asked_other.times, 2);
    assert_true(at_other >= at_held + LARGE);
    assert_true(asked_other.first <= at_other &&
                asked_other.first + asked_other.bytes >= at_other + LARGE);
    payload_unref(&other);
    payload_unref(&held);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(what_is_fresh_is_provided_once),
        FIXTURE_TEST(beside_what_is_held_it_is_fresh_again),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 2;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    setenv(REFUSED, "1", 1);
    failed += cmocka_run_group_tests_name("refused", tests, NULL, NULL);
    return failed;
}
