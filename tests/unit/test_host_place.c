/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_place.c: what real processes find when they start: a folder of their own with
 * their program's files, variables, their slot's share of resources, their core; and what
 * is told when the folder cannot be made. */
#include "tests/unit/host_fixture.h"

#include "common/sys/affinity.h"
#include "farpool.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The current folder, TMPDIR, and what the program's file says. */
static int look(farpool_task *task)
{
    char text[1024], folder[512] = "", content[32] = "";
    const char *temporary = getenv("TMPDIR");
    FILE *file = fopen("model.txt", "r");
    if (file != NULL) {
        content[fread(content, 1, sizeof content - 1, file)] = '\0';
        fclose(file);
    }
    snprintf(text, sizeof text, "%s %s %s", getcwd(folder, sizeof folder),
             temporary != NULL ? temporary : "-", content);
    return farpool_task_write(task, text, strlen(text));
}
FARPOOL_BYTES_FUNCTION(look)

static const char *const names[] = {"FARPOOL_NODE",         "FARPOOL_SLOT",
                                    "FARPOOL_RESOURCE_GPU", "FARPOOL_RESOURCE_FAST_DISK",
                                    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                    "LD_LIBRARY_PATH",      "TEST_KEPT",
                                    "TEST_KEY_A",           "TEST_KEY_B"};

static int tell_variables(farpool_task *task)
{
    char text[2048] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s|",
                                 value != NULL ? value : "");
    }
    return farpool_task_write(task, text, used);
}
FARPOOL_BYTES_FUNCTION(tell_variables)

static int tell_cores(farpool_task *task)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return farpool_fail(task, "sched_getaffinity");
    return farpool_task_write(task, &set, sizeof set);
}
FARPOOL_BYTES_FUNCTION(tell_cores)

static int leave_a_file(farpool_task *task)
{
    (void)task;
    FILE *file = fopen("left-behind", "w");
    return file == NULL || fclose(file) != 0;
}
FARPOOL_BYTES_FUNCTION(leave_a_file)

static char base[64], root[80], program[80];

static int set_up(void **state)
{
    char path[160];
    (void)state;
    snprintf(base, sizeof base, "/tmp/farpool-place-XXXXXX");
    if (mkdtemp(base) == NULL)
        return -1;
    snprintf(root, sizeof root, "%s/root", base);
    snprintf(program, sizeof program, "%s/program", base);
    snprintf(path, sizeof path, "%s/model.txt", program);
    if (mkdir(program, 0700) != 0)
        return -1;
    FILE *file = fopen(path, "w");
    return file == NULL || fputs("weights", file) < 0 || fclose(file) != 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    umount2(root, MNT_DETACH); /* of the one test that mounts */
    snprintf(command, sizeof command, "rm -rf %.64s", base);
    return system(command);
}

static void start_at(struct fixture *fixture, uint64_t process, uint32_t slot)
{
    struct worker_effect effect;
    fixture_effect(fixture, WORKER_PROCESS_START, process, &effect);
    effect.slot = slot;
    host_apply(fixture->host, &effect);
    fixture_expect(fixture, WORKER_PROCESS_READY);
}

/* What one task of that function in that process writes, as text. */
static void ask(struct fixture *fixture, uint64_t process, const char *function,
                void *answer, size_t size)
{
    uint8_t input = 0;
    static uint64_t gives = 0;
    struct giving giving = giving_of(function, 1, &input, 1);
    giving.process = process;
    giving.give = ++gives;
    memset(answer, 0, size);
    fixture_give(fixture, &giving);
    fixture_collect(fixture, gives, 0, 1, answer, size - 1);
}

static int count_names(const char *path)
{
    int count = 0;
    DIR *listing = opendir(path);
    assert_non_null(listing);
    while (readdir(listing) != NULL)
        count++;
    closedir(listing);
    return count - 2;
}

/* ------------------------------------------------------------------------- folders */

static void open_with_folders(struct fixture *fixture)
{
    const struct host_config config = {.slots = 2, .scratch = root};
    fixture_open_config(fixture, config, "/proc/self/exe", program);
}

static void each_process_has_a_folder_of_its_own(void **state)
{
    char first[1024], second[1024], temporary[1024], content[1024];
    struct fixture fixture;
    struct stat status;
    uint32_t leftovers = 7;
    (void)state;
    open_with_folders(&fixture);
    const char *own = host_scratch_folder(fixture.host, &leftovers);
    assert_memory_equal(own, root, strlen(root));
    assert_int_equal(leftovers, 0);
    start_at(&fixture, 1, 0);
    start_at(&fixture, 2, 1);
    ask(&fixture, 1, "look", second, sizeof second);
    assert_int_equal(sscanf(second, "%1023s %1023s %1023s", first, temporary, content),
                     3);
    assert_string_equal(first, temporary);
    assert_string_equal(content, "weights");
    assert_int_equal(stat(first, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    ask(&fixture, 2, "look", second, sizeof second);
    second[strcspn(second, " ")] = '\0';
    assert_string_not_equal(first, second);
    ask(&fixture, 1, "leave_a_file", content, sizeof content);
    ask(&fixture, 2, "leave_a_file", content, sizeof content);

    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0);
    fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(stat(first, &status), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(stat(second, &status), 0);
    assert_int_equal(count_names(second), 2); /* the link, and what was left */
    fixture_close(&fixture);
    assert_int_equal(count_names(root), 1);    /* its lock */
    assert_int_equal(count_names(program), 1); /* as it was */
}

static void without_a_scratch_folder_it_is_the_programs(void **state)
{
    char text[1024], wanted[256];
    struct fixture fixture;
    (void)state;
    const struct host_config config = {.slots = 1};
    fixture_open_config(&fixture, config, "/proc/self/exe", program);
    setenv("TMPDIR", "/tmp", 1); /* too late for what was copied */
    start_at(&fixture, 1, 0);
    ask(&fixture, 1, "look", text, sizeof text);
    snprintf(wanted, sizeof wanted, "%s ", program);
    assert_memory_equal(text, wanted, strlen(wanted));
    assert_null(host_scratch_folder(fixture.host, NULL));
    unsetenv("TMPDIR");
    fixture_close(&fixture);
}

static void a_folder_that_cannot_be_made_is_named(void **state)
{
    char path[512];
    struct fixture fixture;
    uint32_t leftovers;
    (void)state;
    open_with_folders(&fixture);
    snprintf(path, sizeof path, "%s/p1", host_scratch_folder(fixture.host, &leftovers));
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_start(&fixture, 1, NULL, NULL);
    const struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_ESYSTEM);
    assert_non_null(strstr(told->text, path));
    assert_non_null(strstr(told->text, "File exists"));
    assert_int_equal(rmdir(path), 0);
    fixture_close(&fixture);
}

/* On a file system of this test's own, where that may be had. */
static void a_full_disk_is_named(void **state)
{
    struct fixture fixture;
    (void)state;
    assert_int_equal(mkdir(root, 0700), 0);
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") != 0 ||
        mount("none", root, "tmpfs", 0, "size=64k,nr_inodes=7,mode=0700") != 0)
        skip();
    open_with_folders(&fixture); /* root, lock, folder, lock */
    start_at(&fixture, 1, 0);    /* folder, link */
    fixture_start(&fixture, 2, NULL, NULL);
    const struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_ENOSPACE);
    assert_non_null(strstr(told->text, "/p2: No space left on device"));
    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0);
    fixture_expect(&fixture, WORKER_PROCESS_GONE);
    start_at(&fixture, 3, 0); /* there is room again, all of it */
    fixture_close(&fixture);
    assert_int_equal(count_names(root), 1);
}

/* ----------------------------------------------------------------------- variables */

static void variables_are_passed_withheld_and_set(void **state)
{
    static const char *const pass[] = {"TEST_KE*", "PATH", NULL};
    static const char *const withhold[] = {"TEST_KEY_*", "NOWHERE", NULL};
    static const char *const set[] = {"TEST_KEPT=old", "LD_LIBRARY_PATH=/lib/x",
                                      "FARPOOL_SLOT=99", "TEST_KEPT=new", NULL};
    const struct {
        struct host_config config;
        const char *wanted;
    } rows[] = {
        {{.slots = 1}, "here|0|||||%s|kept|a|b|"},
        {{.slots = 1, .withhold = withhold}, "here|0|||||%s|kept|||"},
        {{.slots = 1, .pass = pass, .withhold = withhold}, "here|0|||||%s|kept|a|b|"},
        {{.slots = 1, .pass = withhold}, "here|0|||||%s||a|b|"},
        {{.slots = 1, .withhold = withhold, .set = set}, "here|0|||||%s:/lib/x|new|||"},
    };
    char text[2048], wanted[2048];
    (void)state;
    setenv("TEST_KEPT", "kept", 1);
    setenv("TEST_KEY_A", "a", 1);
    setenv("TEST_KEY_B", "b", 1);
    setenv("FARPOOL_SLOT", "77", 1);
    unsetenv("LD_LIBRARY_PATH");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fixture fixture;
        fixture_open_config(&fixture, rows[i].config, "/proc/self/exe", program);
        start_at(&fixture, 1, 0);
        ask(&fixture, 1, "tell_variables", text, sizeof text);
        snprintf(wanted, sizeof wanted, rows[i].wanted, program);
        assert_string_equal(text, wanted);
        fixture_close(&fixture);
    }
    unsetenv("FARPOOL_SLOT");
}

static void resources_are_shared_out_by_slot(void **state)
{
    static const struct host_resource resources[] = {{.name = "gpu", .count = 5},
                                                     {.name = "fast_disk", .count = 3}};
    const struct host_config config = {
        .slots = 3, .resources = resources, .resources_count = 2};
    static const char *const wanted[] = {"here|0|0|0|0|0|", "here|1|1,2|1|1,2|1,2|",
                                         "here|2|3,4|2|3,4|3,4|"};
    char text[2048];
    struct fixture fixture;
    (void)state;
    setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4", 1);
    fixture_open_config(&fixture, config, "/proc/self/exe", NULL);
    for (uint32_t slot = 0; slot < 3; slot++) {
        start_at(&fixture, slot + 1, slot);
        ask(&fixture, slot + 1, "tell_variables", text, sizeof text);
        assert_memory_equal(text, wanted[slot], strlen(wanted[slot]));
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
    fixture_close(&fixture);
}

/* Devices that are not called 0, 1 ...: the index is told as it is, the device by name.
 */
static void devices_have_names(void **state)
{
    static const struct host_resource resources[] = {
        {.name = "gpu", .count = 3, .ids = "7,GPU-8f,MIG-1"}};
    const struct host_config config = {
        .slots = 2, .resources = resources, .resources_count = 1};
    static const char *const wanted[] = {"here|0|0||7|7|", "here|1|1,2||GPU-8f,MIG-1|"};
    char text[2048];
    struct fixture fixture;
    (void)state;
    fixture_open_config(&fixture, config, "/proc/self/exe", NULL);
    for (uint32_t slot = 0; slot < 2; slot++) {
        start_at(&fixture, slot + 1, slot);
        ask(&fixture, slot + 1, "tell_variables", text, sizeof text);
        assert_memory_equal(text, wanted[slot], strlen(wanted[slot]));
    }
    fixture_close(&fixture);
}

static void each_process_is_bound_to_its_slots_core(void **state)
{
    const struct host_config config = {.slots = 3, .bind = true};
    cpu_set_t before, after, expected;
    struct {
        cpu_set_t set;
        char end;
    } answer;
    struct fixture fixture;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    fixture_open_config(&fixture, config, "/proc/self/exe", NULL);
    for (uint32_t slot = 0; slot < 3; slot++) {
        start_at(&fixture, slot + 1, slot);
        ask(&fixture, slot + 1, "tell_cores", &answer, sizeof answer);
        int left = (int)slot % CPU_COUNT(&before), core = 0;
        while (!CPU_ISSET(core, &before) || left-- > 0)
            core++;
        CPU_ZERO(&expected);
        CPU_SET(core, &expected);
        assert_true(CPU_EQUAL(&answer.set, &expected));
        assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
        assert_true(CPU_EQUAL(&before, &after));
    }
    fixture_close(&fixture);
}

/* -------------------------------------------------------------------------- memory */

static void every_allocation_may_fail(void **state)
{
    static const struct host_resource resources[] = {
        {.name = "gpu", .count = 4, .ids = "2,5,11,12"}};
    static const char *const set[] = {"A=b", "LD_LIBRARY_PATH=/lib", NULL};
    const struct host_config config = {.node = "here",
                                       .slots = 2,
                                       .scratch = root,
                                       .set = set,
                                       .bind = true,
                                       .resources = resources,
                                       .resources_count = 1};
    bool failed = true;
    size_t refused = 0, unborn = 0;
    (void)state;
    struct fixture first;
    open_with_folders(&first); /* makes the root */
    fixture_close(&first);
    for (size_t n = 1; failed; n++) {
        struct fixture fixture = {0};
        struct worker_effect start = {.kind = WORKER_PROCESS_START, .process = 1};
        farpool_error error;
        start.program = fixture_program;
        mem_fail_after(n);
        int code = host_create(&config, &fixture.host, &error);
        if (code == 0)
            code = host_set_program(fixture.host, &fixture_program, "/proc/self/exe",
                                    program);
        if (code == 0) {
            host_apply(fixture.host, &start);
            const struct told *told = fixture_next(&fixture);
            unborn += told->event.kind == WORKER_PROCESS_GONE;
            if (told->event.kind == WORKER_PROCESS_GONE)
                assert_int_equal(told->event.code, FARPOOL_ENOMEM);
        } else {
            assert_int_equal(code, FARPOOL_ENOMEM);
            refused++;
        }
        failed = mem_fail_after(0) >= n;
        fixture_close(&fixture);
        assert_int_equal(count_names(root), 1);
        assert_true(n < 1000);
    }
    assert_true(refused > 10 && unborn > 10);
}

int main(int argc, char **argv)
{
#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        PLACE_TEST(each_process_has_a_folder_of_its_own),
        PLACE_TEST(without_a_scratch_folder_it_is_the_programs),
        PLACE_TEST(a_folder_that_cannot_be_made_is_named),
        PLACE_TEST(variables_are_passed_withheld_and_set),
        PLACE_TEST(resources_are_shared_out_by_slot),
        PLACE_TEST(devices_have_names),
        PLACE_TEST(each_process_is_bound_to_its_slots_core),
        PLACE_TEST(every_allocation_may_fail),
        PLACE_TEST(a_full_disk_is_named), /* last: it goes into a mount namespace */
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
