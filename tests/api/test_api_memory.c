/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_memory.c: a whole life of a pool (open, map, imap, apply with a callback,
 * close, join, free) in which the n-th allocation of the library fails, for every n: each
 * call ends as promised or with ENOMEM, nothing hangs, and under AddressSanitizer nothing
 * leaks. Which allocation is the n-th differs a little from life to life, since the
 * pool's own thread makes some of them: what counts is that the last life had none that
 * failed. */
#include "tests/api/fixture.h"

#include "common/base/mem.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIFE_S 30 /* one that hangs ends the test */
#define TASKS 40
#define LIVES_MIN 50 /* that fail: fewer would mean that the hook does not work */
#define LIVES_WITHOUT                                                                    \
    3 /* in a row that end before the n-th allocation, by timing or at last */

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

struct life {
    farpool_pool *pool;
    int64_t next, given; /* imap's input */
    atomic_int called;   /* callbacks */
    int failures;        /* calls that told ENOMEM */
};

static size_t present; /* life, for whoever looks at one that hangs */

static void hangs(int number)
{
    char text[64];
    int size = snprintf(text, sizeof text, "it hangs: allocation %zu\n", present);

    (void)number;
    if (write(STDERR_FILENO, text, (size_t)size) == size)
        abort();
    _exit(1);
}

/* 0, or what lack of memory may cause; anything else fails the test. */
static int check(struct life *life, int code, const farpool_error *error)
{
    if (code != 0 && code != FARPOOL_ENOMEM)
        fail_msg("allocation %zu: %s: %s", present, farpool_error_name(code),
                 error->text);
    if (code == FARPOOL_ENOMEM && strstr(error->text, "memory") == NULL)
        fail_msg("allocation %zu: this does not speak of memory: %s", present,
                 error->text);
    life->failures += code != 0;
    return code;
}

static void map(struct life *life)
{
    int64_t inputs[TASKS], outputs[TASKS];
    farpool_error error;

    for (int i = 0; i < TASKS; i++)
        inputs[i] = i;
    if (check(life, farpool_map(life->pool, square, inputs, TASKS, outputs, &error),
              &error) != 0)
        return;
    for (int i = 0; i < TASKS; i++)
        assert_int_equal(outputs[i], i * i);
}

static int give(void *user, farpool_bytes *ret_item, char message[256])
{
    struct life *life = user;

    (void)message;
    if (life->next == TASKS)
        return FARPOOL_END;
    life->given = life->next++;
    *ret_item = (farpool_bytes){&life->given, sizeof life->given};
    return 0;
}

/* Reads all results; what failed is told one by one, and the input, if it was cut off,
 * too. */
static void iterate(struct life *life, farpool_iterator *iterator)
{
    farpool_error error;
    uint64_t count = 0;
    int code, failures = life->failures;

    while (count <= TASKS + 1) {
        farpool_bytes bytes;
        uint64_t index;
        int64_t output;

        code = farpool_next(iterator, -1, &bytes, &index, &error);
        if (code == FARPOOL_END)
            break;
        count++;
        if (check(life, code, &error) != 0)
            continue;
        assert_int_equal(bytes.size, sizeof output);
        memcpy(&output, bytes.data, sizeof output);
        assert_int_equal(output, (int64_t)(index * index));
    }
    assert_int_equal(code, FARPOOL_END);
    if (life->failures == failures)
        assert_int_equal(count, TASKS);
}

static void imap(struct life *life)
{
    farpool_error error;
    farpool_iterator *iterator =
        farpool_imap(life->pool, FARPOOL_REF(square), give, life, NULL, &error);

    if (iterator == NULL) {
        check(life, error.code, &error);
        return;
    }
    iterate(life, iterator);
    farpool_iterator_free(iterator);
}

static void called(farpool_job *job, void *user)
{
    struct life *life = user;

    (void)job;
    atomic_fetch_add(&life->called, 1);
}

static void error_called(farpool_job *job, const farpool_error *error, void *user)
{
    struct life *life = user;

    (void)job;
    (void)error;
    atomic_fetch_add(&life->called, 1);
}

static void apply(struct life *life)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    farpool_job *job;

    options.callback = called;
    options.error_callback = error_called;
    options.user = life;
    job = farpool_apply_async(life->pool, square, 7, &options, &error);
    if (job == NULL) {
        check(life, error.code, &error);
        return;
    }
    if (check(life, farpool_job_get(job, -1, &error), &error) == 0)
        assert_int_equal(*(const int64_t *)farpool_job_outputs(job), 49);
    assert_int_equal(atomic_load(&life->called), 1);
    farpool_job_free(job);
}

static void use(struct life *life)
{
    farpool_error error;

    map(life);
    imap(life);
    apply(life);
    assert_code(farpool_close(life->pool, &error), 0, &error);
    assert_code(farpool_join(life->pool, DEADLINE_MS, &error), 0, &error);
    farpool_pool_free(life->pool);
}

/* One life; returns whether it had an n-th allocation. */
static bool live(size_t n, int *ret_failures)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct life life = {.next = 0};
    farpool_error error;
    bool failed;

    present = n;
    options.processes = 1;
    alarm(LIFE_S);
    mem_fail_after(n);
    life.pool = farpool_open(fixture_address(), &options, &error);
    if (life.pool == NULL)
        check(&life, error.code, &error);
    else
        use(&life);
    failed = mem_fail_after(0) >= n;
    alarm(0);
    *ret_failures = life.failures;
    return failed;
}

static void each_allocation_may_fail(void **state)
{
    size_t n = 0;
    int failures, told = 0, without = 0;

    (void)state;
    signal(SIGALRM, hangs);
    while (without < LIVES_WITHOUT) {
        bool failed = live(++n, &failures);

        told += failures > 0;
        without = failed ? 0 : without + 1;
        assert_true(failed || failures == 0);
    }
    assert_true(told >= LIVES_MIN);
    print_message("%zu allocations, %d told as ENOMEM\n", n - LIVES_WITHOUT, told);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_allocation_may_fail),
};
FIXTURE_MAIN(tests)
