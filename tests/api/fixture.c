/* SPDX-License-Identifier: Apache-2.0
 *
 * fixture.c: what the tests of the public API share: where pools are opened, signs
 * between tests and tasks, and looking at processes. */
#include "tests/api/fixture.h"
#include "common/keys/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct cluster *cluster;
static char folder[64] = "/tmp/farpool-api-XXXXXX";

bool fixture_is_cluster(void)
{
    return cluster != NULL;
}

struct cluster *fixture_cluster(void)
{
    return cluster;
}

const char *fixture_address(void)
{
    return cluster != NULL ? cluster_address(cluster) : NULL;
}

const char *fixture_folder(void)
{
    return folder;
}

uint64_t fixture_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ----------------------------------------------------------------------- pools */

farpool_pool *fixture_open(const farpool_pool_options *options)
{
    farpool_pool_options two = FARPOOL_POOL_OPTIONS;
    farpool_error error;
    farpool_pool *pool;

    two.processes = 2;
    pool = farpool_open(fixture_address(), options != NULL ? options : &two, &error);
    if (pool == NULL)
        fail_msg("cannot open a pool: %s", error.text);
    return pool;
}

farpool_pool *fixture_open_processes(int64_t processes)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;

    options.processes = processes;
    return fixture_open(&options);
}

static void join(farpool_pool *pool)
{
    farpool_error error;
    int code = farpool_join(pool, DEADLINE_MS, &error);

    assert_code(code, 0, &error);
    farpool_pool_free(pool);
}

void fixture_close(farpool_pool *pool)
{
    farpool_error error;

    assert_code(farpool_close(pool, &error), 0, &error);
    join(pool);
}

void fixture_terminate(farpool_pool *pool)
{
    farpool_error error;

    assert_code(farpool_terminate(pool, &error), 0, &error);
    join(pool);
}

void fixture_assert_code(int code, int expected, const farpool_error *error,
                         const char *file, int line)
{
    if (code == expected)
        return;
    print_error("%s, but expected %s: %s\n", farpool_error_name(code),
                farpool_error_name(expected),
                code != 0 && error != NULL ? error->text : "");
    _fail(file, line);
}

void fixture_assert_text(const char *text, const char *words, const char *file, int line)
{
    if (strstr(text, words) != NULL)
        return;
    print_error("\"%s\" does not say \"%s\"\n", text, words);
    _fail(file, line);
}

/* ----------------------------------------------------------------------- signs */

struct sign sign_create(void)
{
    static int count;
    struct sign sign;

    snprintf(sign.path, sizeof sign.path, "%s/sign-%d", folder, count++);
    if (mkfifo(sign.path, 0600) != 0)
        fail_msg("cannot make %s: %s", sign.path, strerror(errno));
    /* Kept open at both ends: so nobody meets the end of the file, and what was posted
     * stays until it is read. */
    if (open(sign.path, O_RDWR | O_CLOEXEC | O_NONBLOCK) < 0)
        fail_msg("cannot open %s: %s", sign.path, strerror(errno));
    return sign;
}

void sign_post(const struct sign *sign, int64_t number)
{
    int fd = open(sign->path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, &number, sizeof number) != sizeof number)
        abort();
    close(fd);
}

/* Waits for a record; false when the time is over (-1: never). */
static bool wait_for(const struct sign *sign, int timeout_ms, int64_t *ret_number)
{
    int fd = open(sign->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    uint64_t until_ms = fixture_now_ms() + (uint64_t)timeout_ms;
    bool found = false;

    if (fd < 0)
        abort();
    while (!found) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        uint64_t now_ms = fixture_now_ms();

        if (timeout_ms >= 0 && now_ms >= until_ms)
            break;
        poll(&item, 1, timeout_ms < 0 ? -1 : (int)(until_ms - now_ms));
        found = read(fd, ret_number, sizeof *ret_number) == sizeof *ret_number;
    }
    close(fd);
    return found;
}

int64_t sign_wait(const struct sign *sign)
{
    int64_t number;

    if (!wait_for(sign, DEADLINE_MS, &number))
        fail_msg("no sign within %d ms", DEADLINE_MS);
    return number;
}

int64_t sign_wait_in_task(const struct sign *sign)
{
    int64_t number;

    wait_for(sign, -1, &number);
    return number;
}

/* ------------------------------------------------------------------- processes */

static bool is_zombie(int pid)
{
    char path[64], text[512] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "r");
    if (file == NULL)
        return true;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    state = strrchr(text, ')');
    return state != NULL && state[1] != '\0' && state[2] == 'Z';
}

bool process_wait_gone(int pid, int timeout_ms)
{
    struct pollfd item = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool gone;

    if (item.fd < 0)
        return errno == ESRCH;
    gone = poll(&item, 1, timeout_ms) == 1 || is_zombie(pid);
    close(item.fd);
    return gone;
}

uint64_t fixture_memory(void)
{
    unsigned long resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    malloc_trim(0); /* what malloc keeps for the next one does not count */
    if (file == NULL || fscanf(file, "%*u %lu %lu", &resident, &shared) != 2)
        abort();
    fclose(file);
    return FIXTURE_SANITIZED
               ? 0
               : (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---------------------------------------------------------------------- stderr */

static int stderr_before = -1;

void stderr_begin(void)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/stderr", folder);
    fflush(stderr);
    stderr_before = dup(STDERR_FILENO);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

const char *stderr_end(void)
{
    static char text[4096];
    ssize_t size;

    fflush(stderr);
    size = pread(STDERR_FILENO, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    dup2(stderr_before, STDERR_FILENO);
    close(stderr_before);
    return text;
}

/* ------------------------------------------------------------------------ main */

static void remove_folder(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", folder);
}

/* A cluster with keys: one for the workers, one for this program. */
static int start_keyed(void)
{
    static char keys[128], worker[128], client[128];
    static const char *const coordinator_arguments[] = {"--keys", keys, NULL};
    static const char *const worker_arguments[] = {"--key", worker, NULL};
    farpool_error error;

    snprintf(keys, sizeof keys, "%s/keys", folder);
    snprintf(worker, sizeof worker, "%s/worker.key", folder);
    snprintf(client, sizeof client, "%s/client.key", folder);
    if (keys_init(keys, &error) != 0 ||
        keys_add(keys, HOLDER_WORKER, "worker", worker, &error) != 0 ||
        keys_add(keys, HOLDER_CLIENT, "client", client, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return -1;
    }
    setenv("FARPOOL_KEY", client, 1);
    return cluster_start_with(2, 2, coordinator_arguments, worker_arguments, &cluster);
}

int fixture_run(int argc, char **argv, const struct CMUnitTest *tests, size_t count)
{
    bool keyed = argc > 1 && strcmp(argv[1], "keyed") == 0;
    bool clustered = keyed || (argc > 1 && strcmp(argv[1], "cluster") == 0);
    int failed;

    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    unsetenv("FARPOOL_COORDINATOR");
    if (mkdtemp(folder) == NULL || (keyed && start_keyed() != 0) ||
        (clustered && !keyed && cluster_start(2, 2, &cluster) != 0)) {
        fprintf(stderr, "cannot start the fixture\n");
        return 1;
    }
    failed = _cmocka_run_group_tests(clustered ? argv[1] : "embedded", tests, count, NULL,
                                     NULL);
    cluster_stop(&cluster);
    remove_folder();
    return failed;
}
