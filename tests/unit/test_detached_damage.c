/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage of the store of detached jobs: its file or its log cut at any byte, or with a
 * bit flipped in any: it is opened right, or named as damaged. So is one whose last
 * commits are gone, and one that is gone while what belongs to it is there. */
#include "store_fixture.h"

/* Each byte; where each takes long, every seventh, so that all bits have their turn. */
#ifndef STEP
#define STEP 1
#endif

struct copy {
    uint8_t *bytes;
    size_t size;
};

static struct copy load_copy(const char *name)
{
    struct stat about;
    struct copy copy = {NULL, 0};
    const int fd = open(name, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    copy.size = (size_t)about.st_size;
    copy.bytes = malloc(copy.size);
    assert_int_equal(read(fd, copy.bytes, copy.size), (ssize_t)copy.size);
    close(fd);
    return copy;
}

static void write_file(const char *name, const struct copy *copy, size_t size)
{
    const int fd = open(name, O_WRONLY | O_TRUNC | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, copy->bytes, size), (ssize_t)size);
    close(fd);
}

static const char *beside(const char *suffix)
{
    static char name[200];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return name;
}

static void put_back(const struct copy *copy, size_t size)
{
    write_file(path, copy, size);
    unlink(beside("-wal"));
    unlink(beside("-shm"));
}

static void check_named(const char *how, size_t where)
{
    if (strstr(error.text, STORE_FILE) == NULL)
        fail_msg("%s at %zu: \"%s\" does not name the file", how, where, error.text);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    fill();
    const struct copy whole = load_copy(path);
    for (size_t size = 0; size < whole.size; size += STEP) {
        put_back(&whole, size);
        if (read_all() != 0)
            check_named("cut", size);
        else if (size + 512 <
                 whole.size) /* what is not there reads as zeros, in a page */
            fail_msg("cut at %zu of %zu bytes, and nothing is said", size, whole.size);
    }
    put_back(&whole, whole.size);
    assert_done(read_all());
    free(whole.bytes);
}

static void test_flipped_anywhere(void **state)
{
    (void)state;
    size_t named = 0;
    fill();
    const struct copy whole = load_copy(path);
    for (size_t at = 0; at < whole.size; at += STEP) {
        whole.bytes[at] ^= (uint8_t)(1u << at % 8);
        put_back(&whole, whole.size);
        if (read_all() != 0) { /* else all of it was right */
            check_named("flipped", at);
            named++;
        }
        whole.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    assert_true(named >
                TASKS * 2 * OUTPUT_BYTES / STEP); /* each byte of inputs and results */
    free(whole.bytes);
}

/* ---------------------------------------------------------------------- its log */

/* The files of a store as a crash leaves them, behind several commits. */
struct crash {
    struct copy file, log, last;
};

static struct crash crash_store(void)
{
    int64_t id = 1;
    fill();
    assert_done(open_store());
    assert_done(add_job("b", &id));
    assert_done(store_commit(store, &error));
    assert_done(store_job_remove(store, id, &error)); /* so that all is known of it */
    assert_done(store_commit(store, &error));
    const struct crash crash = {load_copy(path), load_copy(beside("-wal")),
                                load_copy(beside("-acknowledged"))};
    close_store();
    assert_true(crash.log.size > 3000);
    return crash;
}

static void free_crash(struct crash *crash)
{
    free(crash->file.bytes);
    free(crash->log.bytes);
    free(crash->last.bytes);
}

static void put_crash(const struct crash *crash, size_t log_size)
{
    put_back(&crash->file, crash->file.size);
    write_file(beside("-wal"), &crash->log, log_size);
    write_file(beside("-acknowledged"), &crash->last, crash->last.size);
}

static void test_log_is_used(void **state)
{
    (void)state;
    struct crash crash = crash_store();
    put_crash(&crash, crash.log.size);
    assert_done(read_all());
    free_crash(&crash);
}

/* Each commit was acknowledged, so less than all of them is damage. */
static void test_log_cut_anywhere(void **state)
{
    (void)state;
    struct crash crash = crash_store();
    for (size_t size = 0; size < crash.log.size; size += STEP) {
        put_crash(&crash, size);
        if (read_all() != 0)
            check_named("log cut", size);
        else if (size + 1024 < crash.log.size) /* less than its last commit */
            fail_msg("log cut at %zu of %zu, and nothing is said", size, crash.log.size);
    }
    free_crash(&crash);
}

static void test_log_flipped_anywhere(void **state)
{
    (void)state;
    struct crash crash = crash_store();
    size_t named = 0;
    for (size_t at = 0; at < crash.log.size; at += STEP) {
        crash.log.bytes[at] ^= (uint8_t)(1u << at % 8);
        put_crash(&crash, crash.log.size);
        if (read_all() != 0) { /* else all of it was right */
            check_named("log flipped", at);
            named++;
        }
        crash.log.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    assert_true(named > (crash.log.size - 64) / STEP); /* the header counts for little */
    free_crash(&crash);
}

/* And nothing of it is touched: with the right log all is there again. */
static void test_damage_is_not_touched(void **state)
{
    (void)state;
    struct crash crash = crash_store();
    put_crash(&crash, crash.log.size / 2);
    assert_int_equal(read_all(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "commits that were acknowledged are missing"));
    write_file(beside("-wal"), &crash.log, crash.log.size);
    unlink(beside("-shm"));
    assert_done(read_all());
    free_crash(&crash);
}

static void test_acknowledged_file(void **state)
{
    (void)state;
    struct crash crash = crash_store();
    put_crash(&crash, crash.log.size / 2);
    unlink(beside("-acknowledged")); /* as the text says */
    assert_done(open_store());
    close_store();
    put_crash(&crash, crash.log.size);
    for (size_t at = 0; at < 40; at++) { /* one slot: the other one counts */
        crash.last.bytes[at] ^= 1;
        put_crash(&crash, crash.log.size);
        assert_done(read_all());
        crash.last.bytes[at] ^= 1;
    }
    memset(crash.last.bytes, 0, crash.last.size);
    put_crash(&crash, crash.log.size);
    assert_int_equal(read_all(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, STORE_LAST_FILE " is damaged"));
    free_crash(&crash);
}

static void test_other_files(void **state)
{
    (void)state;
    char log[160];
    fill();
    snprintf(log, sizeof log, "%s-wal", path);
    assert_int_equal(rename(path, log), 0);
    assert_int_equal(open_store(), FARPOOL_ESYSTEM); /* its log without it */
    assert_non_null(strstr(error.text, "it is gone"));
    assert_int_equal(rename(log, path), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(open_store(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "nobody else"));
    assert_int_equal(chmod(folder, 0700), 0);
    assert_done(read_all());
    assert_int_equal(unlink(path), 0); /* the number of its last commit without it */
    assert_int_equal(open_store(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "it is gone"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flipped_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_is_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_cut_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_flipped_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_not_touched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_acknowledged_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_files, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
