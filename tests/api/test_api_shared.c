/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_shared.c: shared inputs: read in place by all processes of a node, once in its
 * memory, told clearly where they cannot be had, and gone when nobody wants them. */
#include "tests/api/gate.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BYTES (5 * 1048576 + 12345) /* pieces of which the last is shorter */

static uint8_t byte_at(uint64_t place)
{
    return (uint8_t)(place * 31 + place / 4096 + place / 1048576 * 7);
}

static uint8_t *make_bytes(size_t size)
{
    uint8_t *bytes = malloc(size);

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(i);
    return bytes;
}

/* A part of it, by every seventh task. */
typedef struct look {
    farpool_shared shared;
    uint64_t seed;
} look;

/* 0: all is right; else the code of shared_get, or what is wrong. */
static int64_t compare(look input)
{
    farpool_bytes bytes;
    int code = farpool_shared_get(&input.shared, &bytes, NULL);
    const uint8_t *data = bytes.data;

    if (code != 0)
        return code;
    if (bytes.size != input.shared.size)
        return 1;
    for (size_t i = input.seed % 7; i < bytes.size; i += 7)
        if (data[i] != byte_at(i))
            return 2;
    return 0;
}
FARPOOL_FUNCTION(compare, int64_t, look)

#define LOOKS 64

static void assert_compared(farpool_pool *pool, const farpool_shared *shared,
                            int64_t expected)
{
    look inputs[LOOKS];
    int64_t outputs[LOOKS];
    farpool_error error;

    for (uint64_t i = 0; i < LOOKS; i++)
        inputs[i] = (look){*shared, i};
    assert_code(farpool_map(pool, compare, inputs, LOOKS, outputs, &error), 0, &error);
    for (int i = 0; i < LOOKS; i++)
        assert_int_equal(outputs[i], expected);
}

static void share_bytes(farpool_pool *pool, size_t size, farpool_shared *ret_shared)
{
    uint8_t *bytes = make_bytes(size);
    farpool_error error;

    assert_code(farpool_share(pool, bytes, size, ret_shared, &error), 0, &error);
    memset(bytes, 0, size); /* it may be reused at once */
    free(bytes);
}

static void all_tasks_read_it(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_shared shared, small;

    (void)state;
    share_bytes(pool, BYTES, &shared);
    assert_int_equal(shared.size, BYTES);
    assert_compared(pool, &shared, 0);
    share_bytes(pool, 1, &small); /* while processes run already */
    assert_compared(pool, &small, 0);
    assert_compared(pool, &shared, 0);
    fixture_close(pool);
}

static void a_file_is_shared(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint8_t *bytes = make_bytes(BYTES);
    farpool_shared shared;
    farpool_error error;
    char path[512];
    FILE *file;

    (void)state;
    snprintf(path, sizeof path, "%s/shared", fixture_folder());
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, BYTES, file), BYTES);
    fclose(file);
    free(bytes);
    assert_code(farpool_share_file(pool, path, &shared, &error), 0, &error);
    assert_compared(pool, &shared, 0);
    assert_code(farpool_share_file(pool, "/nowhere", &shared, &error), FARPOOL_ESYSTEM,
                &error);
    assert_text(&error, "/nowhere");
    assert_code(farpool_share_file(pool, "/dev/null", &shared, &error), FARPOOL_EINVAL,
                &error);
    fixture_close(pool);
}

/* ------------------------------------------------------------------ once a node */

/* Where the bytes lie, and how much of them this process counts as its own. */
typedef struct place {
    char node[64];
    uint64_t inode, private_kb, rss_kb;
} place;

static void read_smaps(const void *data, place *ret_place)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long begin, end, inode, kb;
    bool here = false;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &begin, &end, &inode) == 3) {
            here = begin == (unsigned long)data;
            if (here)
                ret_place->inode = inode;
        }
        if (here && sscanf(line, "Rss: %lu kB", &kb) == 1)
            ret_place->rss_kb = kb;
        if (here && (sscanf(line, "Private_Clean: %lu kB", &kb) == 1 ||
                     sscanf(line, "Private_Dirty: %lu kB", &kb) == 1))
            ret_place->private_kb += kb;
    }
    if (file != NULL)
        fclose(file);
}

typedef struct meeting {
    farpool_shared shared;
    struct sign begun, go, measured, end;
} meeting;

/* Touches all of it, waits until the others have, and measures before any of them ends.
 */
static place measure(meeting input)
{
    place found = {.node = ""};
    farpool_bytes bytes;
    volatile uint8_t sum = 0;

    if (farpool_shared_get(&input.shared, &bytes, NULL) != 0)
        return found;
    for (size_t i = 0; i < bytes.size; i += 512)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes.data)[i]);
    sign_post(&input.begun, 1);
    sign_wait_in_task(&input.go);
    snprintf(found.node, sizeof found.node, "%s",
             farpool_task_node(farpool_task_current()));
    read_smaps(bytes.data, &found);
    sign_post(&input.measured, 1);
    sign_wait_in_task(&input.end);
    return found;
}
FARPOOL_FUNCTION(measure, place, meeting)

#define MET 4 /* two processes on each of the cluster's nodes */

static void it_is_in_memory_once_a_node(void **state)
{
    farpool_pool *pool = fixture_open_processes(MET);
    meeting inputs[MET];
    place places[MET];
    farpool_shared shared;
    farpool_error error;
    farpool_job *job;

    (void)state;
    share_bytes(pool, BYTES, &shared);
    memset(inputs, 0, sizeof inputs);
    for (int i = 0; i < MET; i++) {
        inputs[i].shared = shared;
        inputs[i].begun = sign_create();
        inputs[i].go = sign_create();
        inputs[i].measured = sign_create();
        inputs[i].end = sign_create();
    }
    job = farpool_map_async(pool, measure, inputs, MET, NULL, &error);
    assert_non_null(job);
    for (int i = 0; i < MET; i++)
        sign_wait(&inputs[i].begun);
    for (int i = 0; i < MET; i++)
        sign_post(&inputs[i].go, 1);
    for (int i = 0; i < MET; i++)
        sign_wait(&inputs[i].measured);
    for (int i = 0; i < MET; i++)
        sign_post(&inputs[i].end, 1);
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    for (int i = 0; i < MET; i++) {
        size_t size;
        memcpy(&places[i], farpool_job_output(job, (uint64_t)i, &size), sizeof places[i]);
        assert_int_not_equal(places[i].inode, 0);
        assert_true(places[i].rss_kb >= BYTES / 1024);
        for (int other = 0; other < i; other++)
            if (strcmp(places[other].node, places[i].node) == 0)
                assert_int_equal(places[other].inode, places[i].inode);
    }
    for (int i = 0; i < MET; i++) {
        int here = 0;
        for (int other = 0; other < MET; other++)
            here += strcmp(places[other].node, places[i].node) == 0;
        if (here > 1)
            assert_int_equal(places[i].private_kb, 0);
    }
    farpool_job_free(job);
    fixture_close(pool);
}

/* Whether writing to it fails in each of the ways that a process has. */
static int64_t attack(look input)
{
    farpool_bytes bytes;
    char path[64];
    unsigned long begin, end, inode;
    char line[512];
    FILE *file;
    int64_t found = 1, fd;

    if (farpool_shared_get(&input.shared, &bytes, NULL) != 0)
        return 1;
    file = fopen("/proc/self/maps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &begin, &end, &inode) == 3 &&
            begin == (unsigned long)bytes.data)
            found = 0;
    if (file != NULL)
        fclose(file);
    if (found != 0 ||
        mprotect((void *)(uintptr_t)bytes.data, 4096, PROT_READ | PROT_WRITE) == 0)
        return 2;
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)bytes.data,
             ((unsigned long)bytes.data + bytes.size + 4095) / 4096 * 4096);
    fd = open(path, O_RDWR);
    if (fd >= 0 && pwrite((int)fd, "x", 1, 0) == 1)
        return 3;
    return 0;
}
FARPOOL_FUNCTION(attack, int64_t, look)

static void no_process_can_change_it(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_shared shared;
    farpool_error error;
    int64_t output = -1;

    (void)state;
    share_bytes(pool, BYTES, &shared);
    assert_code(farpool_apply(pool, attack, ((look){shared, 0}), &output, &error), 0,
                &error);
    assert_int_equal(output, 0);
    assert_compared(pool, &shared, 0);
    fixture_close(pool);
}

/* ------------------------------------------------------------------------ ends */

/* How many of this process's mappings are shared inputs. */
static int64_t count_mapped(int64_t nothing)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    int64_t count = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        count += strstr(line, "farpool-shared") != NULL;
    if (file != NULL)
        fclose(file);
    return count + 0 * nothing;
}
FARPOOL_FUNCTION(count_mapped, int64_t, int64_t)

static void what_is_unshared_is_gone(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    farpool_shared shared, other;
    farpool_error error;
    int64_t count = -1;

    (void)state;
    share_bytes(pool, BYTES, &shared);
    share_bytes(pool, 4096, &other);
    assert_compared(pool, &shared, 0);
    assert_code(farpool_apply(pool, count_mapped, 0, &count, &error), 0, &error);
    assert_int_equal(count, 1);
    assert_code(farpool_unshare(pool, &shared, &error), 0, &error);
    assert_code(farpool_apply(pool, count_mapped, 0, &count, &error), 0, &error);
    assert_int_equal(count, 0);
    assert_compared(pool, &shared, FARPOOL_EINVAL);
    assert_compared(pool, &other, 0);
    assert_code(farpool_unshare(pool, &shared, &error), FARPOOL_EINVAL, &error);
    assert_text(&error, "unshared before");
    fixture_close(pool);
}

static int64_t die_unless_first(look input)
{
    farpool_bytes bytes;

    if (farpool_shared_get(&input.shared, &bytes, NULL) != 0)
        return -1;
    if (farpool_task_attempt(farpool_task_current()) == 1)
        abort();
    return compare(input);
}
FARPOOL_FUNCTION(die_unless_first, int64_t, look)

static void a_replacement_process_has_it_too(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_shared shared;
    farpool_error error;
    farpool_pool *pool;
    int64_t output = -1;

    (void)state;
    options.processes = 1;
    pool = fixture_open(&options);
    share_bytes(pool, BYTES, &shared);
    assert_code(
        farpool_apply(pool, die_unless_first, ((look){shared, 3}), &output, &error), 0,
        &error);
    assert_int_equal(output, 0);
    fixture_close(pool);
}

/* Passes the handle on to a pool of its own. */
static int64_t nest(look input)
{
    farpool_pool *pool = farpool_open(NULL, NULL, NULL);
    int64_t outputs[2] = {-1, -1};
    look inputs[2] = {input, input};
    farpool_shared shared;

    if (pool == NULL || farpool_share(pool, "x", 1, &shared, NULL) != FARPOOL_EINVAL ||
        farpool_map(pool, compare, inputs, 2, outputs, NULL) != 0)
        return 3;
    farpool_pool_free(pool);
    return outputs[0] + outputs[1];
}
FARPOOL_FUNCTION(nest, int64_t, look)

static void nested_tasks_read_it(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_shared shared;
    farpool_error error;
    int64_t output = -1;

    (void)state;
    share_bytes(pool, BYTES, &shared);
    assert_code(farpool_apply(pool, nest, ((look){shared, 0}), &output, &error), 0,
                &error);
    assert_int_equal(output, 0);
    fixture_close(pool);
}

/* ----------------------------------------------------------------------- errors */

static void another_pools_is_refused(void **state)
{
    farpool_pool *pool = fixture_open(NULL), *other = fixture_open(NULL);
    farpool_shared shared;
    farpool_error error;

    (void)state;
    share_bytes(pool, 100, &shared);
    assert_compared(other, &shared, FARPOOL_ENOPOOL);
    assert_code(farpool_unshare(other, &shared, &error), FARPOOL_ENOPOOL, &error);
    shared.number = 77;
    assert_compared(pool, &shared, FARPOOL_EINVAL);
    fixture_close(other);
    fixture_close(pool);
}

static void bad_arguments(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_shared shared;
    farpool_bytes bytes;
    farpool_error error;

    (void)state;
    assert_code(farpool_share(NULL, "x", 1, &shared, &error), FARPOOL_EINVAL, &error);
    assert_code(farpool_share(pool, NULL, 1, &shared, &error), FARPOOL_EINVAL, &error);
    assert_code(farpool_share(pool, "x", 1, NULL, &error), FARPOOL_EINVAL, &error);
    assert_code(farpool_share(pool, "x", 0, &shared, &error), FARPOOL_EINVAL, &error);
    assert_code(farpool_share(pool, "x", ((size_t)256 << 30) + 1, &shared, &error),
                FARPOOL_ETOOBIG, &error);
    assert_text(&error, "274877906944");
    assert_code(farpool_unshare(pool, NULL, &error), FARPOOL_EINVAL, &error);
    assert_code(farpool_shared_get(&shared, &bytes, &error), FARPOOL_EINVAL, &error);
    assert_text(&error, "inside a function");
    assert_code(farpool_close(pool, &error), 0, &error);
    assert_code(farpool_share(pool, "x", 1, &shared, &error), FARPOOL_ECLOSED, &error);
    assert_code(farpool_join(pool, DEADLINE_MS, &error), 0, &error);
    farpool_pool_free(pool);
}

static void so_many_at_a_time(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_shared shared[257];
    farpool_error error;

    (void)state;
    for (int i = 0; i < 256; i++)
        share_bytes(pool, 10, &shared[i]);
    assert_code(farpool_share(pool, "x", 1, &shared[256], &error), FARPOOL_EFULL, &error);
    assert_compared(pool, &shared[0], 0);
    assert_compared(pool, &shared[255], 0);
    assert_code(farpool_unshare(pool, &shared[17], &error), 0, &error);
    share_bytes(pool, 10, &shared[256]);
    assert_compared(pool, &shared[256], 0);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(all_tasks_read_it),
    cmocka_unit_test(a_file_is_shared),
    cmocka_unit_test(it_is_in_memory_once_a_node),
    cmocka_unit_test(no_process_can_change_it),
    cmocka_unit_test(what_is_unshared_is_gone),
    cmocka_unit_test(a_replacement_process_has_it_too),
    cmocka_unit_test(nested_tasks_read_it),
    cmocka_unit_test(another_pools_is_refused),
    cmocka_unit_test(bad_arguments),
    cmocka_unit_test(so_many_at_a_time),
};

FIXTURE_MAIN(tests)
