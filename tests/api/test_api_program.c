/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_program.c: another program than this one, files beside it, and programs that
 * cannot be run: each is told in the client, naming what is wrong. */
#include "tests/api/fixture.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

/* As the other program registers them. */
static farpool_function cube = {"cube", FARPOOL_TYPED, 8, 8, NULL, NULL, NULL, NULL};
static farpool_function number = {"number", FARPOOL_TYPED, 8, 8, NULL, NULL, NULL, NULL};
static farpool_function read_beside = {"read_beside", FARPOOL_BYTES, 0,    0,
                                       NULL,          NULL,          NULL, NULL};

/* A copy of a file in the test's folder, with its machine type changed if asked for. */
static const char *copy_of(const char *from, const char *name, int machine)
{
    static char path[256];
    static char bytes[1 << 16];
    FILE *in = fopen(from, "r"), *out;
    size_t count;
    bool first = true;

    snprintf(path, sizeof path, "%s/%s", fixture_folder(), name);
    out = fopen(path, "w");
    if (in == NULL || out == NULL)
        fail_msg("cannot copy %s to %s", from, path);
    while ((count = fread(bytes, 1, sizeof bytes, in)) > 0) {
        if (first && machine != 0)
            ((Elf64_Ehdr *)(void *)bytes)->e_machine = (uint16_t)machine;
        first = false;
        assert_int_equal(fwrite(bytes, 1, count, out), count);
    }
    fclose(in);
    fclose(out);
    chmod(path, 0755);
    return path;
}

/* One call of `function` in a pool of that program; the code and text of what went wrong,
 * wherever that was. */
static int run(const char *program, const farpool_function *function, int64_t input,
               int64_t *output, farpool_error *ret_error)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    int code;

    options.processes = 2;
    options.program = program;
    pool = farpool_open(fixture_address(), &options, ret_error);
    if (pool == NULL)
        return ret_error->code;
    code = farpool_map_typed(pool, function, &input, 1, output, NULL, ret_error);
    fixture_close(pool);
    return code;
}

static void functions_of_another_program(void **state)
{
    int64_t output = 0;
    farpool_error error;

    (void)state;
    assert_code(run(OTHER_PROGRAM, &cube, 3, &output, &error), 0, &error);
    assert_int_equal(output, 27);
}

static void function_that_the_other_program_lacks(void **state)
{
    int64_t output;
    farpool_error error;

    (void)state;
    assert_code(run(OTHER_PROGRAM, FARPOOL_REF(square), 3, &output, &error),
                FARPOOL_ENOFUNCTION, &error);
    assert_text(&error, "square");
}

static void files_beside_the_program(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    char path[256];
    const char *files[] = {path, NULL};
    farpool_pool *pool;
    farpool_error error;
    farpool_job *job;
    size_t size;
    FILE *file;

    (void)state;
    snprintf(path, sizeof path, "%s/model.txt", fixture_folder());
    file = fopen(path, "w");
    fputs("weights", file);
    fclose(file);
    options.processes = 2;
    options.program = OTHER_PROGRAM;
    options.files = files;
    pool = fixture_open(&options);
    assert_code(farpool_apply_bytes(pool, &read_beside, "model.txt", 9, &job, &error), 0,
                &error);
    assert_memory_equal(farpool_job_output(job, 0, &size), "weights", 7);
    assert_int_equal(size, 7);
    farpool_job_free(job);
    fixture_close(pool);
}

static void bad_files(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    const char *missing[] = {"/nowhere/model.txt", NULL};
    const char *twice[] = {OTHER_PROGRAM, OTHER_PROGRAM, NULL};
    farpool_error error;

    (void)state;
    options.files = missing;
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_int_equal(error.code, FARPOOL_EPROGRAM);
    assert_text(&error,
                "open: cannot read /nowhere/model.txt: No such file or directory");
    options.files = twice;
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_int_equal(error.code, FARPOOL_EINVAL);
    assert_text(&error, "have the same name");
}

static void program_that_is_not_there(void **state)
{
    int64_t output;
    farpool_error error;

    (void)state;
    assert_code(run("/nowhere/program", &cube, 3, &output, &error), FARPOOL_EPROGRAM,
                &error);
    assert_text(&error, "open: cannot read /nowhere/program: No such file or directory");
    assert_code(run("/tmp", &cube, 3, &output, &error), FARPOOL_EPROGRAM, &error);
    assert_text(&error, "open: /tmp is not a file");
}

static void program_that_may_not_be_executed(void **state)
{
    const char *path = copy_of(OTHER_PROGRAM, "plain", 0);
    int64_t output;
    farpool_error error;

    (void)state;
    chmod(path, 0644);
    assert_code(run(path, &cube, 3, &output, &error), FARPOOL_EPROGRAM, &error);
    assert_text(&error, "may not be executed");
}

static void program_that_is_not_farpools(void **state)
{
    int64_t output;
    farpool_error error;

    (void)state;
    assert_code(run(STRANGER_PROGRAM, &cube, 3, &output, &error), FARPOOL_ENOTFARPOOL,
                &error);
    assert_text(&error, "farpool_init");
}

static void program_for_another_machine(void **state)
{
    const char *path = copy_of(OTHER_PROGRAM, "foreign", EM_AARCH64);
    int64_t output;
    farpool_error error;

    (void)state;
    assert_code(run(path, &cube, 3, &output, &error), FARPOOL_EMACHINE, &error);
    assert_text(&error, "aarch64");
}

static void program_with_a_missing_library(void **state)
{
    const char *path = copy_of(LONELY_PROGRAM, "lonely", 0);
    int64_t output;
    farpool_error error;

    (void)state;
    assert_code(run(path, &number, 3, &output, &error), FARPOOL_ELIBRARY, &error);
    assert_text(&error, "libmissing.so");
}

static void missing_library_sent_along(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    const char *files[] = {MISSING_LIBRARY, NULL};
    farpool_pool *pool;
    farpool_error error;
    int64_t input = 1, output = 0;

    (void)state;
    options.processes = 2;
    options.program = copy_of(LONELY_PROGRAM, "less-lonely", 0);
    options.files = files;
    pool = fixture_open(&options);
    assert_code(farpool_map_typed(pool, &number, &input, 1, &output, NULL, &error), 0,
                &error);
    assert_int_equal(output, 42);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(functions_of_another_program),
    cmocka_unit_test(function_that_the_other_program_lacks),
    cmocka_unit_test(files_beside_the_program),
    cmocka_unit_test(bad_files),
    cmocka_unit_test(program_that_is_not_there),
    cmocka_unit_test(program_that_may_not_be_executed),
    cmocka_unit_test(program_that_is_not_farpools),
    cmocka_unit_test(program_for_another_machine),
    cmocka_unit_test(program_with_a_missing_library),
    cmocka_unit_test(missing_library_sent_along),
};
FIXTURE_MAIN(tests)
