/* SPDX-License-Identifier: Apache-2.0
 *
 * fixture.h: one body, two fixtures: every test of the public API runs once on an
 * embedded pool of two processes and once on a real cluster of two workers, as the
 * program's first argument says ("embedded", "cluster"). Nothing sleeps: tests and tasks
 * tell each other by signs, which are named pipes. */
#ifndef FARPOOL_TESTS_API_FIXTURE_H
#define FARPOOL_TESTS_API_FIXTURE_H

#include "farpool.h"
#include "tests/integration/daemons.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DEADLINE_MS 20000 /* for what should take milliseconds */

/* main() of every test program, behind farpool_init. */
int fixture_run(int argc, char **argv, const struct CMUnitTest *tests, size_t count);

#define FIXTURE_MAIN(tests)                                                              \
    int main(int argc, char **argv)                                                      \
    {                                                                                    \
        if (farpool_init(&argc, &argv) != 0)                                             \
            return 2;                                                                    \
        return fixture_run(argc, argv, tests, sizeof(tests) / sizeof((tests)[0]));       \
    }

bool fixture_is_cluster(void);
struct cluster *fixture_cluster(void);
/* Where pools are opened: NULL, or the cluster's address. */
const char *fixture_address(void);
/* A folder for this program's files. */
const char *fixture_folder(void);

/* Opens a pool; the test fails if it cannot be opened. options NULL: two processes. */
farpool_pool *fixture_open(const farpool_pool_options *options);
farpool_pool *fixture_open_processes(int64_t processes);
/* Closes, joins within the deadline, frees. */
void fixture_close(farpool_pool *pool);
/* Terminates, joins within the deadline, frees. */
void fixture_terminate(farpool_pool *pool);

/* Fails with the error's text unless the code is the expected one. */
#define assert_code(code, expected, error)                                               \
    fixture_assert_code(code, expected, error, __FILE__, __LINE__)
void fixture_assert_code(int code, int expected, const farpool_error *error,
                         const char *file, int line);

/* Whether the error's text has these words in it. */
#define assert_text(error, words)                                                        \
    fixture_assert_text((error)->text, words, __FILE__, __LINE__)
void fixture_assert_text(const char *text, const char *words, const char *file, int line);

uint64_t fixture_now_ms(void);

/* ---------------------------------------------------------------------- signs */

#define SIGN_PATH 100

/* A named pipe: records of one number each, read in order. */
struct sign {
    char path[SIGN_PATH];
};
struct sign sign_create(void);
void sign_post(const struct sign *sign, int64_t number);
/* Waits for a number; the test fails at the deadline. */
int64_t sign_wait(const struct sign *sign);
/* The same, for ever: in a task. */
int64_t sign_wait_in_task(const struct sign *sign);

/* Waits until a process is gone (or a zombie); false at the deadline. */
bool process_wait_gone(int pid, int timeout_ms);

/* Sanitizers catch crashes themselves, and use memory of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIXTURE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FIXTURE_SANITIZED 1
#endif
#endif
#ifndef FIXTURE_SANITIZED
#define FIXTURE_SANITIZED 0
#endif

/* This process's own memory in use (not what it shares with others), in bytes; 0 where it
 * cannot be told (see above). */
uint64_t fixture_memory(void);

/* Turns stderr into a file while a call is made: begin, then the text that came. */
void stderr_begin(void);
const char *stderr_end(void);

#endif
