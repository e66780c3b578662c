/* SPDX-License-Identifier: Apache-2.0
 *
 * What the shells ask of the system: cgroup limits in made-up trees, sizes, the limit of
 * open files, identities, the log's lines, and what becomes of a daemon's free memory. */
#include "common/sys/affinity.h"
#include "common/sys/cores.h"
#include "common/sys/log.h"
#include "common/sys/memory.h"
#include "common/sys/sys.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/farpool-cgroup-XXXXXX";

static int make_root(void **state)
{
    (void)state;
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

/* Writes a file below the root, with its folders. */
static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + sizeof root, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void check_limits(uint32_t cores, uint64_t memory_bytes)
{
    struct cgroup_limits limits;
    cgroup_read_limits(root, &limits);
    assert_int_equal(limits.cores, cores);
    assert_int_equal(limits.memory_bytes, memory_bytes);
}

static void nothing_limits_nothing(void **state)
{
    (void)state;
    check_limits(UINT32_MAX, UINT64_MAX);
    put("/proc/self/cgroup", "nonsense\n0:\n\n");
    put("/proc/self/mountinfo", "more nonsense - cgroup2\n - \n");
    check_limits(UINT32_MAX, UINT64_MAX);
}

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"

static void v2_takes_the_least_on_the_way_up(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/user.slice/job\n");
    put("/proc/self/mountinfo", "22 1 0:2 / / rw - ext4 /dev/sda rw\n" V2_MOUNT);
    put("/sys/fs/cgroup/user.slice/job/cpu.max", "250000 100000\n");
    put("/sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    check_limits(3, UINT64_MAX);
    put("/sys/fs/cgroup/user.slice/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/user.slice/memory.max", "1048576\n");
    check_limits(1, 1048576);
    put("/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/user.slice/job/cpu.max", "1 100000\n");
    check_limits(1, 1048576);
}

/* A container: the path is the host's, the mount shows only its own cgroup. */
static void v2_in_a_container(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abc\n");
    put("/proc/self/mountinfo",
        "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/memory.max", "536870912\n");
    check_limits(2, 536870912);
    put("/proc/self/cgroup", "0::/../elsewhere\n");
    check_limits(2, 536870912);
}

static void v1_has_a_hierarchy_a_controller(void **state)
{
    (void)state;
    put("/proc/self/cgroup",
        "9:memory:/box\n4:cpu,cpuacct:/docker/abc\n2:cpuset:/\n0::/\n");
    put("/proc/self/mountinfo",
        "31 30 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "32 30 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup "
        "rw,cpu,cpuacct\n"
        "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1000000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    check_limits(4, 1000000);
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    check_limits(UINT32_MAX, 1000000);
}

static void this_machine_has_cores_and_memory(void **state)
{
    (void)state;
    assert_true(sys_cores() >= 1);
    assert_true(sys_cores() <= (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(sys_memory_bytes() > 1048576);
    char host[64], machine[32], cut[3];
    assert_true(strlen(sys_host(host, sizeof host)) > 0);
    assert_true(strlen(sys_machine(machine, sizeof machine)) > 0);
    assert_int_equal(strlen(sys_host(cut, 2)), 1);
}

/* In a process of its own, which may use one core of those that this one may. */
static int use_one_core(void)
{
    cpu_set_t all, now;
    struct affinity *affinity = NULL;
    uint32_t count = affinity_count();
    if (sched_getaffinity(0, sizeof all, &all) != 0 ||
        count != (uint32_t)CPU_COUNT(&all) || affinity_read(&affinity, NULL) != 0)
        return 1;
    for (uint32_t place = 0; place < 2 * count; place++) {
        uint32_t left = place % count;
        int core = 0;
        while (!CPU_ISSET(core, &all) || left-- > 0)
            core++;
        if (affinity_bind(affinity, place) != 0 || sys_cores() != 1 ||
            sched_getaffinity(0, sizeof now, &now) != 0 || CPU_COUNT(&now) != 1 ||
            !CPU_ISSET(core, &now))
            return 2;
        affinity_restore(affinity);
        if (sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &all))
            return 3;
    }
    affinity_free(affinity);
    return 0;
}

static void affinity_limits_cores(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(use_one_core());
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void sizes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t size;
    } good[] = {{"0", 0},
                {"17", 17},
                {"1K", 1024},
                {"64m", 67108864},
                {"3G", 3221225472},
                {"2T", UINT64_C(2) << 40},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",    " 1",        "-1",  "+1",
                                      "1KB", "K",         "1.5", "0x1",
                                      "1 ",  "16777216T", "1P",  "18446744073709551616"};
    uint64_t size = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (sys_parse_size(bad[i], &size) || size != 5)
            fail_msg("\"%s\" was taken", bad[i]);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(sys_parse_size(good[i].text, &size));
        assert_true(size == good[i].size);
    }
}

/* In a process of its own: a hard limit cannot be raised again. */
/* Whose a process's memory is, as /proc tells it. */
static uid_t owner_of_memory(bool hide)
{
    struct stat status;
    char path[64];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        if (getuid() == 0 && setuid(65534) != 0)
            _exit(1);
        prctl(PR_SET_DUMPABLE, 1); /* as after exec: setuid has hidden it too */
        if (hide)
            sys_hide_memory();
        close(ends[1]); /* done */
        pause();
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], path, 1), 0);
    close(ends[0]);
    snprintf(path, sizeof path, "/proc/%d/environ", (int)child);
    assert_int_equal(stat(path, &status), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return status.st_uid;
}

static void memory_is_hidden(void **state)
{
    (void)state;
    assert_int_equal(owner_of_memory(false), getuid() == 0 ? 65534 : getuid());
    assert_int_equal(owner_of_memory(true), 0);
}

static void open_files_are_raised_or_refused(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {64, 128};
        farpool_error error = {0};
        int wrong = setrlimit(RLIMIT_NOFILE, &limit) != 0;
        wrong |= sys_need_files(129, &error) != FARPOOL_ENOFILES;
        wrong |= strstr(error.text, "129") == NULL || strstr(error.text, "128") == NULL;
        wrong |= sys_need_files(128, &error) != 0;
        wrong |= getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur != 128;
        _exit(wrong);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void ids_and_clock_differ(void **state)
{
    (void)state;
    struct id a, b;
    sys_random_id(&a);
    sys_random_id(&b);
    assert_false(id_equal(&a, &b));
    assert_true(sys_random() != sys_random());
    uint64_t before = sys_now_ns();
    assert_true(sys_now_ns() >= before);
    assert_true(sys_now_ms() >= before / 1000000);
}

/* What log_event writes on stderr. */
static void logged(char *text, size_t size, enum log_level level, const char *value)
{
    int ends[2], kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    log_open("tester", LOG_INFO);
    log_event(level, "thing-done", "node=%s count=%d", value, 3);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(ends[1]);
    close(kept);
    ssize_t n = read(ends[0], text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(ends[0]);
}

static void a_log_line_is_one_line(void **state)
{
    (void)state;
    char text[20000];
    logged(text, sizeof text, LOG_INFO, "n1");
    assert_int_equal(text[4], '-');
    assert_non_null(strstr(text, "Z tester info thing-done node=n1 count=3\n"));
    logged(text, sizeof text, LOG_ERROR, "a\nb\033[31m\tc");
    assert_non_null(strstr(text, "Z tester error thing-done node=a b [31m c count=3\n"));
    logged(text, sizeof text, LOG_DEBUG, "n1");
    assert_string_equal(text, "");
    static char large[10000];
    memset(large, 'x', sizeof large - 1);
    logged(text, sizeof text, LOG_WARNING, large);
    assert_int_equal(strlen(text), 4096); /* what a pipe takes at once */
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

/* A pipe that nobody reads: logging goes on, and says later what is missing. */
/* Also what is not printed, but for traces. */
static void log_lines_are_kept(void **state)
{
    struct logs *logs = logs_create(1000, 0);
    struct message *get = message_create(MSG_LOGS_GET);
    struct message *answer = message_create(MSG_LOGS);
    struct logs_reader reader;
    (void)state;
    log_open("tester", LOG_ERROR);
    log_keep(logs);
    log_event(LOG_DEBUG, "kept", "text=\"%s\"", "a\nb");
    log_event(LOG_INFO, "alone", "%s", "");
    log_event(LOG_TRACE, "traced", "%s", "x");
    log_print(LOG_INFO, "printed", "%s", "x");
    log_keep(NULL);
    log_event(LOG_DEBUG, "late", "%s", "x");
    get->logs_get.lines = 10;
    logs_read_begin(logs, get, &(struct id){{1}}, &reader);
    assert_int_equal(logs_read(&reader, answer), 0);
    assert_int_equal(answer->logs.lines_count, 2);
    assert_string_equal(answer->logs.lines[0].text, "kept text=\"a b\"");
    assert_int_equal(answer->logs.lines[0].level, LOG_DEBUG);
    assert_true(log_time_ms() - answer->logs.lines[0].time_ms < 60000);
    assert_string_equal(answer->logs.lines[1].text, "alone");
    message_free(&answer);
    message_free(&get);
    logs_destroy(logs);
}

static void a_full_log_is_not_waited_for(void **state)
{
    (void)state;
    int ends[2], kept = dup(STDERR_FILENO);
    static char text[200000];
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    log_open("tester", LOG_INFO);
    for (int i = 0; i < 3000; i++)
        log_event(LOG_INFO, "again", "number=%d and some more text to fill the pipe", i);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    log_event(LOG_INFO, "last", "%s", "");
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(ends[1]);
    close(kept);
    assert_true(n > 10000);
    n = read(ends[0], text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    close(ends[0]);
    assert_non_null(strstr(text, "tester warning log-lines-lost count="));
    assert_non_null(strstr(text, "tester info last"));
}

static void free_memory_is_kept_while_there_are_tasks(void **state)
{
    (void)state;
    struct memory memory;
    memory_open(&memory);
    assert_int_equal(memory_deadline(&memory), UINT64_MAX);
    memory_turn(&memory, false, 1000);
    assert_int_equal(memory_deadline(&memory), UINT64_MAX);
    const size_t mapped = mallinfo2().hblks;
    void *large = malloc(1 << 20);
    assert_non_null(large);
    assert_int_equal(mallinfo2().hblks, mapped); /* not a mapping that goes when freed */
    free(large);
    memory_turn(&memory, true, 2000);
    assert_int_equal(memory_deadline(&memory), 4000);
    memory_turn(&memory, true, 3000);
    memory_turn(&memory, false, 4999);
    assert_int_equal(memory_deadline(&memory), 5000);
    memory_turn(&memory, false, 5000);
    assert_int_equal(memory_deadline(&memory), UINT64_MAX);
}

int main(void)
{
#define TREE(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        TREE(nothing_limits_nothing),
        TREE(v2_takes_the_least_on_the_way_up),
        TREE(v2_in_a_container),
        TREE(v1_has_a_hierarchy_a_controller),
        cmocka_unit_test(this_machine_has_cores_and_memory),
        cmocka_unit_test(affinity_limits_cores),
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(memory_is_hidden),
        cmocka_unit_test(open_files_are_raised_or_refused),
        cmocka_unit_test(ids_and_clock_differ),
        cmocka_unit_test(a_log_line_is_one_line),
        cmocka_unit_test(log_lines_are_kept),
        cmocka_unit_test(a_full_log_is_not_waited_for),
        cmocka_unit_test(free_memory_is_kept_while_there_are_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
