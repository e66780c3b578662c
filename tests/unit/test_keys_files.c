/* SPDX-License-Identifier: Apache-2.0
 *
 * test_keys_files.c: key files and the coordinator's folder: what is written is read
 * again, whatever others could get at is refused, and every wrong line is told by its
 * number. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], keys[80], out[96];

static int set_up(void **state)
{
    farpool_error error;
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/farpool-keys-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(keys, sizeof keys, "%s/keys", folder);
    snprintf(out, sizeof out, "%s/out.key", folder);
    assert_int_equal(keys_init(keys, &error), 0);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"keys/coordinator.key",
                                        "keys/authorized",
                                        "keys/authorized.new",
                                        "keys",
                                        "out.key",
                                        "b.key",
                                        ""};
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (unlink(path) != 0)
            rmdir(path);
    }
    assert_int_not_equal(access(folder, F_OK), 0);
    return 0;
}

static void check_error(int result, int code, const farpool_error *error, const char *why)
{
    assert_int_equal(result, code);
    assert_int_equal(error->code, code);
    if (strstr(error->text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error->text, why);
}

/* --------------------------------------------------------------------- pairs */

static void what_is_made_is_read(void **state)
{
    farpool_error error;
    struct key_file own, file;
    struct key_list list;
    struct stat found;
    (void)state;
    assert_int_equal(keys_add(keys, HOLDER_WORKER, "node-1", out, &error), 0);
    assert_int_equal(stat(out, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(stat(keys, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0700);
    assert_int_equal(keys_load_own(keys, &own, &error), 0);
    assert_int_equal(key_load(out, &file, &error), 0);
    assert_int_equal(file.holder.role, HOLDER_WORKER);
    assert_string_equal(file.holder.name, "node-1");
    assert_true(hash_equal(&file.server, &own.holder.key));
    assert_true(hash_equal(&own.server, &own.holder.key));
    assert_int_equal(keys_load(keys, &list, NULL, &error), 0);
    assert_int_equal(list.count, 1);
    assert_true(holder_equal(&keys_find(&list, &file.holder.key)->holder, &file.holder));
    assert_ptr_equal(keys_find_name(&list, "node-1"), &list.items[0]);
    assert_null(keys_find(&list, &own.holder.key));
    key_list_fini(&list);
}

static void nothing_is_overwritten(void **state)
{
    farpool_error error;
    struct key_file before, after;
    char other[96];
    (void)state;
    assert_int_equal(keys_load_own(keys, &before, &error), 0);
    check_error(keys_init(keys, &error), FARPOOL_EKEY, &error, "is there already");
    assert_int_equal(keys_load_own(keys, &after, &error), 0);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(keys_add(keys, HOLDER_CLIENT, "a", out, &error), 0);
    assert_int_equal(key_load(out, &before, &error), 0);
    check_error(keys_add(keys, HOLDER_CLIENT, "b", out, &error), FARPOOL_EKEY, &error,
                "is there already");
    snprintf(other, sizeof other, "%s/b.key", folder);
    check_error(keys_add(keys, HOLDER_ADMIN, "a", other, &error), FARPOOL_EKEY, &error,
                "a key named \"a\" already");
    assert_int_not_equal(access(other, F_OK), 0);
    assert_int_equal(key_load(out, &after, &error), 0);
    assert_memory_equal(&before, &after, sizeof before);
    struct key_list list;
    assert_int_equal(keys_load(keys, &list, NULL, &error), 0);
    assert_int_equal(list.count, 1);
    key_list_fini(&list);
}

static void revoking_takes_one_line(void **state)
{
    static const char text[] =
        "# client b is away\nclient a %s\n\n  worker\tb %s\n#end\n";
    farpool_error error;
    struct key_file a, b;
    struct key_list list;
    struct key_stamp stamp;
    char path[128], a_text[KEY_TEXT_SIZE], b_text[KEY_TEXT_SIZE], line[200] = "";
    (void)state;
    assert_int_equal(key_make(HOLDER_CLIENT, "a", &a, &error), 0);
    assert_int_equal(key_make(HOLDER_WORKER, "b", &b, &error), 0);
    snprintf(path, sizeof path, "%s/authorized", keys);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, text, key_text(&a.holder.key, a_text), key_text(&b.holder.key, b_text));
    fclose(file);
    assert_int_equal(keys_load(keys, &list, &stamp, &error), 0);
    assert_int_equal(list.count, 2);
    key_list_fini(&list);
    assert_false(keys_changed(keys, &stamp));
    check_error(keys_revoke(keys, "c", &error), FARPOOL_EKEY, &error, "named \"c\"");
    assert_false(keys_changed(keys, &stamp));
    assert_int_equal(keys_revoke(keys, "b", &error), 0);
    assert_true(keys_changed(keys, &stamp));
    assert_int_equal(keys_load(keys, &list, &stamp, &error), 0);
    assert_int_equal(list.count, 1);
    assert_true(holder_equal(&list.items[0].holder, &a.holder));
    key_list_fini(&list);
    file = fopen(path, "r");
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_string_equal(line, "# client b is away\n");
    unlink(path);
    assert_true(keys_changed(keys, &stamp));
}

static void names_have_a_rule(void **state)
{
    farpool_error error;
    struct key_file file;
    char name[66];
    (void)state;
    memset(name, 'n', sizeof name);
    name[64] = '\0';
    assert_false(key_name_valid(name));
    name[63] = '\0';
    assert_true(key_name_valid(name));
    assert_true(key_name_valid("A-b_c.9"));
    static const char *const bad[] = {"", "a b", "a/b", "a\n", "\xc3\xa4", "a#"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(key_name_valid(bad[i]));
        check_error(key_make(HOLDER_CLIENT, bad[i], &file, &error), FARPOOL_EINVAL,
                    &error, "1 to 63 letters");
    }
}

/* --------------------------------------------------------------- permissions */

static void check_modes(const char *path, int (*use)(farpool_error *), mode_t good)
{
    static const mode_t bad[] = {0640, 0620, 0604, 0602, 0601, 0666};
    farpool_error error;
    char mode[16];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const mode_t tried = bad[i] | good;
        assert_int_equal(chmod(path, tried), 0);
        snprintf(mode, sizeof mode, "%04o", (unsigned)tried);
        check_error(use(&error), FARPOOL_EKEY, &error, mode);
        assert_non_null(strstr(error.text, path));
    }
    assert_int_equal(chmod(path, good), 0);
    assert_int_equal(use(&error), 0);
}

static int use_file(farpool_error *error)
{
    struct key_file file;
    return key_load(out, &file, error);
}

static int use_own(farpool_error *error)
{
    struct key_file file;
    return keys_load_own(keys, &file, error);
}

static int use_list(farpool_error *error)
{
    struct key_list list = {.items = NULL};
    const int result = keys_load(keys, &list, NULL, error);
    key_list_fini(&list);
    return result;
}

static void what_others_can_read_is_refused(void **state)
{
    farpool_error error;
    char path[128];
    (void)state;
    assert_int_equal(keys_add(keys, HOLDER_CLIENT, "a", out, &error), 0);
    check_modes(out, use_file, 0600);
    check_modes(keys, use_own, 0700);
    check_modes(keys, use_list, 0700);
    snprintf(path, sizeof path, "%s/coordinator.key", keys);
    check_modes(path, use_own, 0600);
    snprintf(path, sizeof path, "%s/authorized", keys);
    check_modes(path, use_list, 0600);
    if (geteuid() == 0) {
        assert_int_equal(chown(out, 12345, (gid_t)-1), 0);
        check_error(use_file(&error), FARPOOL_EKEY, &error, "belongs to user 12345");
        assert_int_equal(chown(keys, 12345, (gid_t)-1), 0);
        check_error(use_list(&error), FARPOOL_EKEY, &error, "belongs to user 12345");
    }
}

static void what_is_no_file_is_refused(void **state)
{
    farpool_error error;
    (void)state;
    check_error(use_file(&error), FARPOOL_EKEY, &error, "No such file");
    assert_int_equal(mkfifo(out, 0600), 0);
    check_error(use_file(&error), FARPOOL_EKEY, &error, "not a regular file");
    unlink(out);
    assert_int_equal(mkdir(out, 0700), 0);
    check_error(use_file(&error), FARPOOL_EKEY, &error, "not a regular file");
}

/* --------------------------------------------------------------- wrong lines */

static void wrong_lines_of_a_list_are_told(void **state)
{
#define GOOD "yJ@wb<<%zHLs:[S(Zn&e^5MDrhl#K!h-?&tMKx3["
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"client a " GOOD "\nx", "line 2: the role"},
        {"coordinator a " GOOD, "line 1: the role"},
        {"CLIENT a " GOOD, "line 1: the role"},
        {"#\n\nclient", "line 3: the name"},
        {"client a/b " GOOD, "line 1: the name"},
        {"\n\nclient a", "line 3: the public key"},
        {"client a tooshort", "line 1: the public key"},
        {"client a " GOOD "0", "line 1: the public key"},
        {"client a ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", "line 1: the public key"},
        {"client a ########################################", "line 1: the public key"},
        {"client a " GOOD " more", "line 1: what follows the public key"},
        {"client a " GOOD " expires=soon", "line 1: expires= is not a time"},
        {"client a " GOOD " expires=2026-02-31T00:00:00Z", "expires= is not a time"},
        {"client a " GOOD " expires=2026-5-04T00:00:00Z", "expires= is not a time"},
        {"client a " GOOD " expires=2026-05-04T00:00:00Zx", "expires= is not a time"},
        {"client a " GOOD " expires=2026-05-04T00:00:00Z expires=2026-05-04T00:00:00Z",
         "a second expires="},
        {"client a " GOOD " token=123", "token= is not 16"},
        {"client a " GOOD " token=0123456789abcdeF", "token= is not 16"},
        {"client a " GOOD " token=0123456789abcdef token=0123456789abcdef",
         "a second token="},
        {"worker a " GOOD " expires=2026-05-04T00:00:00Z\n"
         "client a rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
         "line 2: the name is there already, with another role"},
        {"worker a " GOOD "\nclient a rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
         "line 2: the name is there"},
        {"worker a " GOOD "\nclient b " GOOD, "line 2: the key is there"},
    };
    farpool_error error;
    struct key_list list = {.items = NULL};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int result =
            keys_parse(cases[i].text, strlen(cases[i].text), "LIST", &list, &error);
        check_error(result, FARPOOL_EKEY, &error, cases[i].why);
        assert_int_equal(strncmp(error.text, "LIST, line ", 11), 0);
        assert_null(list.items);
    }
    check_error(keys_parse("a\0b", 3, "LIST", &list, &error), FARPOOL_EKEY, &error,
                "not a text");
    char wide[400];
    snprintf(wide, sizeof wide, "client a %300s", GOOD);
    check_error(keys_parse(wide, strlen(wide), "LIST", &list, &error), FARPOOL_EKEY,
                &error, "line 1: it is too long");
    static const char good[] = " # x\r\n\tclient a " GOOD " \r\n";
    assert_int_equal(keys_parse(good, strlen(good), "LIST", &list, &error), 0);
    assert_int_equal(list.count, 1);
    key_list_fini(&list);
}

/* Names are 1 to 5 digits, and keys any 40 characters that differ. */
static char *write_list(size_t count, size_t *ret_size)
{
    enum { LINE_MOST = 64 };
    char *text = malloc(count * LINE_MOST);
    size_t size = 0;
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, LINE_MOST, "worker n%zu %05zu%s\n", i, i,
                                 &GOOD[5]);
    *ret_size = size;
    return text;
}

/* Compared each with all before, these would take minutes: ctest would end it. */
static void a_full_list_is_read(void **state)
{
    size_t size, cut;
    char *text = write_list(KEYS_MAX, &size), *more;
    struct key_list list;
    farpool_error error;
    struct timespec began, ended;
    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &began);
    assert_int_equal(keys_parse(text, size, "LIST", &list, &error), 0);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    print_message("%d keys are read in %ld ms\n", KEYS_MAX,
                  (long)(ended.tv_sec - began.tv_sec) * 1000 +
                      (ended.tv_nsec - began.tv_nsec) / 1000000);
    assert_int_equal(list.count, KEYS_MAX);
    assert_string_equal(list.items[0].holder.name, "n0");
    assert_string_equal(list.items[KEYS_MAX - 1].holder.name, "n99999");
    key_list_fini(&list);
    cut = (size_t)(strstr(text, "worker n99999 ") - text);
    assert_true(asprintf(&more, "%.*s\nworker n7 %s\n?\n", (int)cut, text, GOOD) > 0);
    check_error(keys_parse(more, strlen(more), "LIST", &list, &error), FARPOOL_EKEY,
                &error, "LIST, line 100001: the name is there already");
    free(more);
    assert_true(asprintf(&more, "%sworker x %s\n", text, GOOD) > 0);
    check_error(keys_parse(more, strlen(more), "LIST", &list, &error), FARPOOL_EKEY,
                &error, "LIST, line 100001: one key too many");
    free(more);
    free(text);
}

static void the_first_wrong_line_is_told(void **state)
{
#define OTHER "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define THIRD "yJ@wb<<%zHLs:[S(Zn&e^5MDrhl#K!h-?&tMKx3]"
#define END " expires=2026-05-04T00:00:00Z\n"
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"client a " GOOD "\nclient a " OTHER "\nnobody\n",
         "line 2: the name is there already"},
        {"client a " GOOD "\nnobody\nclient a " OTHER "\n", "line 2: the role"},
        {"client a " GOOD "\n\n#\nclient a " GOOD "\n", "line 4: the key is there"},
        {"client z " GOOD "\nclient z " OTHER "\nclient b " GOOD "\n",
         "line 2: the name is there already"},
        {"client z " GOOD "\nclient b " GOOD "\nclient z " OTHER "\n",
         "line 2: the key is there already"},
        {"client a " GOOD "\nclient a " OTHER END "worker a " THIRD END,
         "line 3: the name is there already, with another role"},
        {"client a " GOOD "\nclient a " OTHER END "client a " THIRD "\n",
         "line 3: the name is there already"},
    };
    farpool_error error;
    struct key_list list = {.items = NULL};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        check_error(keys_parse(text, strlen(text), "LIST", &list, &error), FARPOOL_EKEY,
                    &error, cases[i].why);
    }
    static const char good[] =
        "client a " GOOD END "client a " OTHER END "client a " THIRD "\n";
    assert_int_equal(keys_parse(good, strlen(good), "LIST", &list, &error), 0);
    assert_int_equal(list.count, 3);
    key_list_fini(&list);
}

static void try_file(const char *text, const char *why)
{
    farpool_error error;
    unlink(out);
    FILE *file = fopen(out, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(out, 0600), 0);
    check_error(use_file(&error), FARPOOL_EKEY, &error, why);
    assert_null(strstr(error.text, "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"));
}

static void wrong_lines_of_a_key_are_told(void **state)
{
#define HEAD "farpool-key 1\nrole client\nname a\n"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs" /* of ZeroMQ's own tests */
#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
    (void)state;
    try_file("", "farpool-key 1\" is missing");
    try_file("farpool-key 2\n", "line 1: \"farpool-key 1\" is wanted");
    try_file("farpool-key 1\nrole nobody\n", "line 2: not a valid \"role\"");
    try_file("farpool-key 1\nrole client\nname a b\n", "line 3: not a valid \"name\"");
    try_file(HEAD "public x\n", "line 4: not a valid \"public\"");
    try_file(HEAD "secret " SECRET "x\n", "line 4: not a valid \"secret\"");
    try_file(HEAD "secret\n", "line 4: not a valid \"secret\"");
    try_file(HEAD SECRET "\n", "line 4: no field");
    try_file(HEAD "address tcp://a b\n", "line 4: not a valid \"address\"");
    try_file(HEAD "name a\n", "line 4: a second \"name\"");
    try_file(HEAD "public " PUBLIC "\nserver " PUBLIC "\n", "\"secret\" is missing");
    try_file(HEAD "public " GOOD "\nsecret " SECRET "\nserver " PUBLIC "\n",
             "not that of the secret");
    char big[6000];
    memset(big, '#', sizeof big);
    big[sizeof big - 1] = '\0';
    try_file(big, "limit: 4096");
}

static void memory_that_runs_out_is_told(void **state)
{
    farpool_error error;
    (void)state;
    assert_int_equal(keys_add(keys, HOLDER_CLIENT, "a", out, &error), 0);
    for (uint64_t n = 1; n <= 3; n++) {
        mem_fail_after(n);
        const int result = use_list(&error);
        if (mem_fail_after(0) == 0 && result == 0)
            break;
        assert_int_equal(result, FARPOOL_ENOMEM);
    }
    mem_fail_after(0);
    assert_int_equal(use_list(&error), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_made_is_read),
        TEST(nothing_is_overwritten),
        TEST(revoking_takes_one_line),
        TEST(names_have_a_rule),
        TEST(what_others_can_read_is_refused),
        TEST(what_is_no_file_is_refused),
        TEST(wrong_lines_of_a_list_are_told),
        TEST(the_first_wrong_line_is_told),
        TEST(a_full_list_is_read),
        TEST(wrong_lines_of_a_key_are_told),
        TEST(memory_that_runs_out_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
