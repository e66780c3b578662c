/* SPDX-License-Identifier: Apache-2.0
 *
 * The program cache on a real disk: fetching, damage, lists that lie, other machines, a
 * full disk, and two workers in one folder. */
#include "worker/cache.h"
#include "worker/cache_internal.h"

#include "common/base/mem.h"
#include "common/sys/program.h"
#include "common/sys/sys.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECE 1000

/* A program of a script and data, with their contents. */
static struct source {
    struct msg_file files[3];
    uint8_t *contents[3];
    uint32_t count;
    struct hash program;
} source;

static char folder[] = "/tmp/farpool-cache-XXXXXX";
static struct cache *cache, *second;
static struct cache_answer answer;

static void rehash(void)
{
    sys_hash_program(source.files, source.count, &source.program);
}

static void set_file(uint32_t place, const char *name, size_t size, bool executable)
{
    struct msg_file *file = &source.files[place];
    free(source.contents[place]);
    source.contents[place] = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        source.contents[place][i] = (uint8_t)(i * 13 + place);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size = size;
    file->executable = executable;
    sys_hash(source.contents[place], size, &file->content);
}

static int set_up(void **state)
{
    (void)state;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL)
        return -1;
    source.count = 3;
    set_file(0, "main", 4500, true);
    set_file(1, "empty", 0, false);
    set_file(2, "data", 2000, false);
    rehash();
    return cache_open(folder, "n7", 0, &cache, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    cache_close(cache);
    cache_close(second);
    cache = second = NULL;
    for (int i = 0; i < 3; i++) {
        free(source.contents[i]);
        source.contents[i] = NULL;
    }
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void open_in(struct cache *where)
{
    struct hash program = source.program;
    bool answered =
        cache_open_program(where, &source.program, source.files, source.count, &answer);
    while (!answered && cache_is_busy(where))
        answered = cache_work(where, &program, &answer);
    assert_true(answered);
    assert_true(hash_equal(&program, &source.program));
}

/* Answers one NEEDS as the client does. */
static void feed(struct cache *where)
{
    assert_int_equal(answer.kind, WORKER_PROGRAM_NEEDS);
    uint32_t place = answer.file;
    uint64_t left = source.files[place].size - answer.offset;
    struct payload *piece =
        payload_copy(source.contents[place] + answer.offset, left < PIECE ? left : PIECE);
    assert_true(
        cache_write(where, &source.program, place, answer.offset, piece, 0, &answer));
    payload_unref(&piece);
}

/* How many pieces were asked for until it was there, or failed. */
static int feed_all(struct cache *where)
{
    int pieces = 0;
    for (; answer.kind == WORKER_PROGRAM_NEEDS; pieces++)
        feed(where);
    return pieces;
}

static void check_ready(void)
{
    if (answer.kind != WORKER_PROGRAM_READY)
        fail_msg("failed: %s", answer.error.text);
    char path[CACHE_PATH_MAX + 300];
    assert_int_equal(answer.path[0], '/');
    for (uint32_t i = 0; i < source.count; i++) {
        struct hash hash;
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", answer.folder, source.files[i].name);
        assert_int_equal(sys_hash_file(path, &hash, NULL, NULL), 0);
        assert_true(hash_equal(&hash, &source.files[i].content));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal((status.st_mode & 0100) != 0, source.files[i].executable);
        assert_int_equal(status.st_mode & 0277, 0);
        if (i == 0)
            assert_string_equal(path, answer.path);
    }
}

static void check_failed(int code, const char *text)
{
    assert_int_equal(answer.kind, WORKER_PROGRAM_FAILED);
    if (answer.error.code != code || strstr(answer.error.text, text) == NULL)
        fail_msg("%s \"%s\" does not say \"%s\"", farpool_error_name(answer.error.code),
                 answer.error.text, text);
}

static void check_tmp_is_empty(void)
{
    char command[120];
    snprintf(command, sizeof command, "test -z \"$(ls -A %s/tmp)\"", folder);
    assert_int_equal(system(command), 0);
}

static void a_program_is_fetched_once(void **state)
{
    (void)state;
    open_in(cache);
    assert_int_equal(answer.file, 0);
    assert_int_equal(answer.offset, 0);
    assert_int_equal(feed_all(cache), 5 + 2);
    check_ready();
    check_tmp_is_empty();
    open_in(cache);
    check_ready();
    cache_close_program(cache, &source.program);
    cache_close(cache);
    assert_int_equal(cache_open(folder, "n7", 0, &cache, NULL), 0);
    open_in(cache);
    check_ready();
}

static void files_are_shared_by_content(void **state)
{
    (void)state;
    open_in(cache);
    feed_all(cache);
    snprintf(source.files[2].name, sizeof source.files[2].name, "renamed");
    rehash();
    open_in(cache);
    check_ready();
}

static void a_damaged_file_is_fetched_again(void **state)
{
    (void)state;
    open_in(cache);
    feed_all(cache);
    check_ready();
    assert_int_equal(chmod(answer.path, 0700), 0);
    int fd = open(answer.path, O_WRONLY);
    assert_int_equal(pwrite(fd, "damage", 6, 100), 6);
    close(fd);
    open_in(cache);
    assert_int_equal(feed_all(cache), 5);
    check_ready();
    assert_int_equal(truncate(answer.path, 3), 0);
    open_in(cache);
    assert_int_equal(feed_all(cache), 5);
    check_ready();
}

/* Old files are hashed once; a change that leaves size and modification time as they were
 * is still seen, by the change time. */
static void an_unchanged_file_is_not_hashed_again(void **state)
{
    (void)state;
    struct verified *table = NULL;
    struct hash content = source.files[0].content, other = source.files[1].content;
    struct stat status = {
        .st_ino = 5, .st_dev = 6, .st_size = 7, .st_mtim = {.tv_sec = 8}};
    status.st_ctim.tv_sec = 9;
    assert_false(verified_knows(table, &status, &content));
    verified_add(&table, &status, &content);
    assert_true(verified_knows(table, &status, &content));
    assert_false(verified_knows(table, &status, &other));
#define CHANGED(field)                                                                   \
    status.field++;                                                                      \
    assert_false(verified_knows(table, &status, &content));                              \
    status.field--
    CHANGED(st_ino);
    CHANGED(st_dev);
    CHANGED(st_size);
    CHANGED(st_mtim.tv_nsec);
    CHANGED(st_ctim.tv_sec);
    assert_true(verified_knows(table, &status, &content));
    status.st_ctim.tv_sec = time(NULL); /* just changed: may change again unseen */
    verified_add(&table, &status, &content);
    assert_false(verified_knows(table, &status, &content));
    for (status.st_ino = 100, status.st_ctim.tv_sec = 9; status.st_ino < 10000;
         status.st_ino++)
        verified_add(&table, &status, &content);
    status.st_ino--;
    assert_true(verified_knows(table, &status, &content));
    verified_fini(&table);
    assert_null(table);
}

static void a_content_that_comes_wrong_is_asked_for_once_more(void **state)
{
    (void)state;
    open_in(cache);
    source.contents[0][4400] ^= 1;
    for (int i = 0; i < 5; i++)
        feed(cache);
    assert_int_equal(answer.kind, WORKER_PROGRAM_NEEDS);
    assert_int_equal(answer.file, 0);
    assert_int_equal(answer.offset, 0);
    source.contents[0][4400] ^= 1;
    feed_all(cache);
    check_ready();

    source.files[2].content.bytes[0] ^= 1; /* and one that never comes right */
    rehash();
    open_in(cache);
    assert_int_equal(feed_all(cache), 4);
    check_failed(FARPOOL_EPROGRAM, "another content");
    check_tmp_is_empty();
}

static void a_client_that_cannot_read_ends_it(void **state)
{
    (void)state;
    open_in(cache);
    feed(cache);
    assert_true(
        cache_write(cache, &source.program, 0, 1000, NULL, FARPOOL_ESYSTEM, &answer));
    check_failed(FARPOOL_ESYSTEM, "the client cannot read main");
    assert_false(cache_write(cache, &source.program, 0, 1000, NULL, 0, &answer));
    check_tmp_is_empty();
}

static void pieces_that_do_not_fit(void **state)
{
    (void)state;
    struct payload *piece = payload_copy(source.contents[0], 1000);
    open_in(cache);
    /* Not the one that was asked for: asked for again. */
    assert_true(cache_write(cache, &source.program, 0, 1000, piece, 0, &answer));
    assert_int_equal(answer.kind, WORKER_PROGRAM_NEEDS);
    assert_int_equal(answer.offset, 0);
    assert_true(cache_write(cache, &source.program, 0, 0, NULL, 0, &answer));
    check_failed(FARPOOL_EPROGRAM, "main changed while it was fetched");
    payload_unref(&piece);
    open_in(cache);
    piece = payload_create(4501);
    assert_true(cache_write(cache, &source.program, 0, 0, piece, 0, &answer));
    check_failed(FARPOOL_EPROGRAM, "4500 bytes were promised");
    payload_unref(&piece);
    check_tmp_is_empty();
}

static void lists_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", ".", "..", "a/b", "/etc/passwd", "../up", ".farpool-xy", "main", NULL};
    source.program.bytes[3] ^= 1;
    open_in(cache);
    check_failed(FARPOOL_EPROGRAM, "does not match its hash");
    for (int i = 0; names[i] != NULL; i++) {
        snprintf(source.files[2].name, sizeof source.files[2].name, "%s", names[i]);
        rehash();
        open_in(cache);
        check_failed(FARPOOL_EPROGRAM, i < 7 ? "is no name for a file" : "listed twice");
    }
    set_file(2, "data", 2000, false);
    source.files[0].executable = false;
    rehash();
    open_in(cache);
    check_failed(FARPOOL_EPROGRAM, "may not be executed");
    source.count = 0;
    rehash();
    open_in(cache);
    check_failed(FARPOOL_EPROGRAM, "0 files");
}

static void set_machine(uint16_t machine, uint8_t class)
{
    set_file(0, "main", 4500, true);
    uint8_t head[20] = {0x7f, 'E', 'L', 'F', class, ELFDATA2LSB, 1};
    head[18] = (uint8_t)machine;
    head[19] = (uint8_t)(machine >> 8);
    memcpy(source.contents[0], head, sizeof head);
    sys_hash(source.contents[0], 4500, &source.files[0].content);
    rehash();
}

static void another_machine_is_told_before_the_rest_is_fetched(void **state)
{
    (void)state;
    set_machine(EM_SPARC, ELFCLASS32);
    open_in(cache);
    assert_int_equal(feed_all(cache), 5);
    check_failed(FARPOOL_EMACHINE, "node n7 is");
    set_machine(EM_S390, ELFCLASS64);
    open_in(cache);
    feed_all(cache);
    check_failed(FARPOOL_EMACHINE, "main is built for s390 (64-bit");

    struct hash hash;
    struct msg_file own = {.name = "own", .executable = true};
    assert_int_equal(sys_hash_file("/proc/self/exe", &hash, &own.size, NULL), 0);
    own.content = hash;
    FILE *file = fopen("/proc/self/exe", "re");
    free(source.contents[0]);
    source.contents[0] = malloc(own.size);
    assert_int_equal(fread(source.contents[0], 1, own.size, file), own.size);
    fclose(file);
    source.files[0] = own;
    rehash();
    open_in(cache);
    feed_all(cache);
    check_ready();
}

/* A file size limit stands for the disk's: the write fails for lack of room. */
static void no_room_is_told_with_path_node_and_size(void **state)
{
    (void)state;
    source.files[0].size = UINT64_MAX; /* as a liar may claim */
    rehash();
    open_in(cache);
    check_failed(FARPOOL_ENOSPACE, "no space left on node n7");
    assert_non_null(strstr(answer.error.text, folder));
    assert_non_null(strstr(answer.error.text, "18446744073709551615 bytes"));
    source.files[0].size = UINT64_C(1) << 60;
    rehash();
    open_in(cache);
    check_failed(FARPOOL_ENOSPACE, "1152921504606846976 bytes");
    check_tmp_is_empty();
}

/* Both fetch the same at the same time, and neither sees the other's half. */
static void two_workers_share_a_folder(void **state)
{
    (void)state;
    assert_int_equal(cache_open(folder, "n8", 0, &second, NULL), 0);
    open_in(cache);
    struct cache_answer first = answer;
    open_in(second);
    struct cache_answer other = answer;
    while (first.kind == WORKER_PROGRAM_NEEDS || other.kind == WORKER_PROGRAM_NEEDS) {
        answer = first;
        if (answer.kind == WORKER_PROGRAM_NEEDS)
            feed(cache);
        first = answer;
        answer = other;
        if (answer.kind == WORKER_PROGRAM_NEEDS)
            feed(second);
        other = answer;
    }
    check_ready();
    answer = first;
    check_ready();
    assert_string_equal(first.path, other.path);
    check_tmp_is_empty();
}

/* Another program, of one file of that size; its folder's time of use is `seconds` ago
 * when it has been fetched and closed again. */
static void fetch_another(const char *name, size_t size, int seconds)
{
    char path[200], hash[65];
    const struct timespec ago = {.tv_sec = time(NULL) - seconds};
    const struct timespec times[2] = {ago, ago};
    set_file(0, name, size, true);
    source.count = 1;
    rehash();
    open_in(cache);
    feed_all(cache);
    check_ready();
    cache_close_program(cache, &source.program);
    snprintf(path, sizeof path, "%s/programs/%s", folder,
             hash_text(&source.program, hash));
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_there(const struct hash *program)
{
    char path[200], hash[65];
    snprintf(path, sizeof path, "%s/programs/%s", folder, hash_text(program, hash));
    return access(path, F_OK) == 0;
}

static void reopen(uint64_t bytes_max)
{
    cache_close(cache);
    assert_int_equal(cache_open(folder, "n7", bytes_max, &cache, NULL), 0);
}

static void what_was_used_longest_ago_leaves_a_full_cache(void **state)
{
    (void)state;
    fetch_another("a", 4000, 300);
    const struct hash a = source.program;
    fetch_another("b", 5000, 100);
    const struct hash b = source.program;
    fetch_another("c", 6000, 200);
    const struct hash c = source.program;
    reopen(15000);
    assert_true(is_there(&a) && is_there(&b) && is_there(&c));
    reopen(14999);
    assert_true(!is_there(&a) && is_there(&b) && is_there(&c));
    fetch_another("d", 4001, 0); /* and when something new has come */
    assert_true(is_there(&b) && !is_there(&c) && is_there(&source.program));
    const struct disk *disk = (const struct disk *)(const void *)cache; /* its first */
    assert_int_equal(disk_bytes(disk), 9001);
    check_tmp_is_empty();
}

static void what_a_worker_has_open_stays(void **state)
{
    (void)state;
    fetch_another("a", 4000, 300);
    assert_int_equal(cache_open(folder, "n8", 0, &second, NULL), 0);
    open_in(second);
    check_ready();
    const struct hash a = source.program;
    fetch_another("b", 5000, 100);
    const struct hash b = source.program;
    reopen(1);
    assert_true(is_there(&a) && !is_there(&b));
    cache_close_program(second, &a);
    reopen(1);
    assert_false(is_there(&a));
}

/* A file that another program has too stays until neither is there. */
static void a_shared_content_stays_with_the_program_that_stays(void **state)
{
    (void)state;
    fetch_another("a", 4000, 300);
    const struct hash a = source.program;
    snprintf(source.files[0].name, sizeof source.files[0].name, "renamed");
    rehash();
    open_in(cache);
    check_ready(); /* nothing was to be fetched */
    reopen(3999);
    assert_true(!is_there(&a) && !is_there(&source.program));
    fetch_another("a", 4000, 300);
    snprintf(source.files[0].name, sizeof source.files[0].name, "renamed");
    rehash();
    assert_int_equal(cache_open(folder, "n8", 0, &second, NULL), 0);
    open_in(second);
    check_ready();
    reopen(3999);
    assert_true(!is_there(&a) && is_there(&source.program));
    cache_close_program(second, &source.program);
    open_in(second);
    check_ready();
}

/* Many megabytes take several turns, in which the worker does other things. */
static void a_large_file_is_hashed_a_piece_at_a_time(void **state)
{
    (void)state;
    fetch_another("large", 9u << 20, 0);
    reopen(0);
    int turns = 0;
    bool answered = cache_open_program(cache, &source.program, source.files, 1, &answer);
    struct hash program = {{0}};
    for (; !answered; turns++)
        answered = cache_work(cache, &program, &answer);
    check_ready();
    assert_int_equal(turns, 2);
    assert_true(hash_equal(&program, &source.program));
    assert_false(cache_is_busy(cache));
    reopen(0);
    assert_false(cache_open_program(cache, &source.program, source.files, 1, &answer));
    cache_close_program(cache, &source.program);
    assert_false(cache_is_busy(cache));
    assert_false(cache_work(cache, &program, &answer));
}

static void a_folder_that_others_can_write_is_refused(void **state)
{
    (void)state;
    farpool_error error = {0};
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(cache_open(folder, "n8", 0, &second, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "writable by nobody else"));
    assert_int_equal(chmod(folder, 0700), 0);
    char path[80];
    snprintf(path, sizeof path, "%s/deep/er", folder);
    assert_int_equal(cache_open(path, "n8", 0, &second, &error), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    struct cache *third = NULL;
    assert_int_equal(cache_open("/proc/nowhere", "n8", 0, &third, &error),
                     FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "/proc/nowhere"));
}

static void the_default_folder_is_the_users(void **state)
{
    (void)state;
    char path[80];
    farpool_error error = {0};
    setenv("HOME", folder, 1);
    unsetenv("XDG_CACHE_HOME");
    assert_int_equal(cache_open(NULL, "n8", 0, &second, &error), 0);
    snprintf(path, sizeof path, "%s/.cache/farpool", folder);
    assert_string_equal(cache_folder(second), path);
    cache_close(second);
    second = NULL;
    snprintf(path, sizeof path, "%s/xdg", folder);
    setenv("XDG_CACHE_HOME", path, 1);
    assert_int_equal(cache_open(NULL, "n8", 0, &second, &error), 0);
    strcat(path, "/farpool");
    assert_string_equal(cache_folder(second), path);
    cache_close(second);
    second = NULL;
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_int_equal(cache_open(NULL, "n8", 0, &second, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "--cache"));
}

static void out_of_memory_anywhere(void **state)
{
    (void)state;
    for (size_t n = 1; n < 8; n++) {
        mem_fail_after(n);
        open_in(cache);
        mem_fail_after(0);
        if (answer.kind == WORKER_PROGRAM_FAILED)
            check_failed(FARPOOL_ENOMEM, "out of memory on node n7");
    }
    assert_int_equal(answer.kind, WORKER_PROGRAM_NEEDS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_program_is_fetched_once),
        TEST(files_are_shared_by_content),
        TEST(a_damaged_file_is_fetched_again),
        TEST(an_unchanged_file_is_not_hashed_again),
        TEST(a_content_that_comes_wrong_is_asked_for_once_more),
        TEST(a_client_that_cannot_read_ends_it),
        TEST(pieces_that_do_not_fit),
        TEST(lists_that_lie_are_refused),
        TEST(another_machine_is_told_before_the_rest_is_fetched),
        TEST(no_room_is_told_with_path_node_and_size),
        TEST(two_workers_share_a_folder),
        TEST(what_was_used_longest_ago_leaves_a_full_cache),
        TEST(what_a_worker_has_open_stays),
        TEST(a_shared_content_stays_with_the_program_that_stays),
        TEST(a_large_file_is_hashed_a_piece_at_a_time),
        TEST(a_folder_that_others_can_write_is_refused),
        TEST(the_default_folder_is_the_users),
        TEST(out_of_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
