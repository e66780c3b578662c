/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of detached jobs: what is in it comes back, what is removed is gone, two do
 * not share a folder, its limit, and the attempts of tasks. */
#include "store_fixture.h"

static void test_comes_back(void **state)
{
    (void)state;
    fill();
    assert_done(read_all());
}

static void test_removed(void **state)
{
    (void)state;
    struct msg_file file = make_file(program, sizeof program);
    uint64_t have = 0;
    int64_t id;
    fill();
    assert_done(open_store());
    assert_int_equal(add_job("a", &id), FARPOOL_EEXISTS);
    assert_done(store_job_remove(store, 1, &error));
    assert_done(store_commit(store, &error));
    assert_done(add_job("a", &id));
    assert_true(id > 1);
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(have, 0);
}

static void test_content_is_checked(void **state)
{
    (void)state;
    struct msg_file file = make_file(program, sizeof program);
    uint8_t other[sizeof program] = {9};
    struct payload *piece = payload_copy(other, sizeof other);
    uint64_t have = 1;
    int64_t id;
    assert_done(open_store());
    assert_done(add_job("a", &id));
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(store_file_add(store, &file, 0, piece, &error), FARPOOL_EPROGRAM);
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(have, 0);
    payload_unref(&piece);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct store *second = NULL;
    assert_done(open_store());
    assert_int_equal(store_open(folder, BYTES_MAX, &second, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "another coordinator"));
}

/* ---------------------------------------------------------------------- attempts */

static int see_try(void *user, const struct store_try *again)
{
    uint64_t *seen = user;
    assert_int_equal(again->attempt, *seen + 2); /* in their order */
    assert_int_equal(again->first, 10 * *seen);
    assert_int_equal(again->count, 5);
    assert_int_equal(again->losses, 1);
    assert_int_equal(again->failures, *seen);
    ++*seen;
    return 0;
}

static void test_attempts(void **state)
{
    (void)state;
    struct store_try again = {.count = 5, .attempt = 3, .losses = 1, .failures = 1};
    uint64_t seen = 0;
    fill();
    assert_done(open_store());
    again.first = 10;
    assert_done(store_try_add(store, 1, &again, &error));
    again = (struct store_try){.count = 5, .attempt = 2, .losses = 1};
    assert_done(store_try_add(store, 1, &again, &error));
    struct store_job job = {.id = 1, .state = STORE_OPEN, .tasks = TASKS, .done = TASKS};
    job.tries = 2;
    assert_done(store_job_update(store, &job, &error));
    assert_done(store_commit(store, &error));
    close_store();
    assert_done(read_all()); /* as many as the job's state says */
    assert_done(open_store());
    assert_done(store_tries_read(store, 1, see_try, &seen, &error));
    assert_int_equal(seen, 2);
    job.tries = 3;
    assert_done(store_job_update(store, &job, &error));
    assert_done(store_commit(store, &error));
    close_store();
    assert_int_equal(read_all(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "attempts are missing"));
}

static void test_limit(void **state)
{
    (void)state;
    int64_t id;
    int code = 0;
    store_set_page_bytes(4096);
    assert_done(store_open(folder, 1u << 20, &store, &error));
    assert_done(add_job("a", &id));
    assert_done(store_commit(store, &error));
    for (uint64_t i = 0; code == 0 && i < 100000; i += 10) {
        code = add_result(id, i, 10);
        if (code == 0)
            code = store_commit(store, &error);
    }
    assert_int_equal(code, FARPOOL_EFULL);
    assert_non_null(strstr(error.text, "1048576"));
    store_rollback(store);
    assert_true(store_bytes(store) <= 1u << 20);
    assert_done(store_job_remove(store, id, &error)); /* and room is made again */
    assert_done(store_commit(store, &error));
    assert_true(store_bytes(store) < 200000);
    assert_done(add_job("b", &id));
    assert_done(add_result(id, 0, 1000));
    assert_done(store_commit(store, &error));
}

static int see_unchecked(void *user, struct store_job *job)
{
    assert_false(job->is_checked);
    assert_done(store_job_check(store, job, &error));
    assert_true(job->is_checked);
    ++*(unsigned *)user;
    return 0;
}

/* A large store is opened before all of it was looked at, and its jobs are later. */
static void test_large(void **state)
{
    (void)state;
    const uint64_t end = sys_now_ms() + 20000;
    unsigned jobs = 0;
    int64_t id;
    assert_done(open_store());
    assert_done(add_job("a", &id));
    for (uint64_t first = 0; first < 800000; first += 1000)
        assert_done(add_result(id, first, 1000));
    assert_done(count_job(id, "a", 0, 800000));
    assert_done(store_commit(store, &error));
    close_store();
    store_set_check_ms(1);
    for (;;) { /* until the thread that looks at the clock was not too late */
        assert_done(open_store());
        if (!store_is_checked(store))
            break;
        close_store();
        assert_true(sys_now_ms() < end);
    }
    assert_done(store_jobs_read(store, see_unchecked, &jobs, &error));
    assert_int_equal(jobs, 1);
    store_set_check_ms(60000);
    close_store();
    assert_done(open_store());
    assert_true(store_is_checked(store));
    store_set_check_ms(5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_content_is_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attempts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
