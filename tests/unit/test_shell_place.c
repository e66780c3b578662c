/* SPDX-License-Identifier: Apache-2.0
 *
 * test_shell_place.c: the worker's options about where processes run and what they are
 * told: what is taken, and what is refused, naming it. */
#include "worker/shell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 200

/* Reads a command line, the words after the program's name; what it says on stderr goes
 * into a file of this test's. The words stay, as options borrow from them. */
static int read_line(const char *line, struct worker_options *ret_options, char *said,
                     size_t size)
{
    static char text[16384];
    char *words[WORDS_MAX] = {(char[]){"farpool-worker"}}, *rest = text, *word;
    int count = 1, kept = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    assert_true(file != NULL && strlen(line) < sizeof text);
    snprintf(text, sizeof text, "%s", line);
    while ((word = strsep(&rest, " ")) != NULL && count < WORDS_MAX - 1)
        if (word[0] != '\0')
            words[count++] = word;
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    int code = worker_read_options(count, words, ret_options);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    said[fread(said, 1, size - 1, file)] = '\0';
    fclose(file);
    return code;
}

static void expect_wrong(const char *line, const char *text)
{
    struct worker_options options;
    char said[1024];
    assert_int_equal(read_line(line, &options, said, sizeof said), EXIT_USAGE);
    if (strstr(said, text) == NULL)
        fail_msg("%s: %s", line, said);
}

static struct worker_options expect_taken(const char *line)
{
    struct worker_options options;
    char said[1024];
    if (read_line(line, &options, said, sizeof said) != -1)
        fail_msg("%s: %s", line, said);
    return options;
}

static void nothing_given_is_the_default(void **state)
{
    char wanted[64];
    (void)state;
    setenv("TMPDIR", "/somewhere", 1);
    struct worker_options options = expect_taken("");
    snprintf(wanted, sizeof wanted, "/somewhere/farpool-%u", (unsigned)geteuid());
    assert_string_equal(options.place.scratch, wanted);
    unsetenv("TMPDIR");
    options = expect_taken("");
    snprintf(wanted, sizeof wanted, "/tmp/farpool-%u", (unsigned)geteuid());
    assert_string_equal(options.place.scratch, wanted);
    assert_int_equal(options.place.pass_count + options.place.set_count, 0);
    assert_false(options.place.bind);
    assert_true(options.place.groups);
    assert_int_equal(options.place.resources_count, 0);
    assert_int_equal(options.place.slots_asked, 0);
}

static void what_is_given_is_taken(void **state)
{
    (void)state;
    struct worker_options options =
        expect_taken("--slots 4 --scratch /a/b --pass PATH,LC_*,_x --pass HOME --set A= "
                     "--set B=c=d --bind core --labels kind=big --resources "
                     "gpu=8,Fast_2=1024");
    const struct worker_place *place = &options.place;
    static const char *const pass[] = {"PATH", "LC_*", "_x", "HOME"};
    assert_string_equal(place->scratch, "/a/b");
    assert_int_equal(place->pass_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(place->pass[i], pass[i]);
    assert_int_equal(place->set_count, 2);
    assert_string_equal(place->set[0], "A=");
    assert_string_equal(place->set[1], "B=c=d");
    assert_true(place->bind);
    assert_int_equal(place->resources_count, 2);
    assert_string_equal(place->resources[1].name, "Fast_2");
    assert_int_equal(place->resources[1].count, 1024);
    assert_string_equal(options.core.labels, "kind=big,gpu=8,Fast_2=1024");
    assert_int_equal(options.core.slots, 4);
    assert_int_equal(place->slots_asked, 0);
    assert_false(expect_taken("--bind core --bind none").place.bind);
    assert_false(expect_taken("--groups none").place.groups);
    assert_true(expect_taken("--groups none --groups auto").place.groups);
}

static void resources_limit_the_slots(void **state)
{
    (void)state;
    struct worker_options options = expect_taken("--resources gpu=3,disk=2 --slots 8");
    assert_int_equal(options.core.slots, 2);
    assert_int_equal(options.place.slots_asked, 8);
    assert_string_equal(options.core.labels, "gpu=3,disk=2");
}

static void what_is_wrong_is_named(void **state)
{
    static const char *const rows[][2] = {
        {"--pass A,,B", "--pass \"\""},
        {"--pass 1A", "--pass \"1A\""},
        {"--pass A=b", "--pass \"A=b\""},
        {"--pass A*B", "--pass \"A*B\""},
        {"--pass *", "--pass \"*\""},
        {"--set A", "--set \"A\": NAME=VALUE"},
        {"--set =b", "--set \"=b\""},
        {"--set A-B=c", "--set \"A-B=c\""},
        {"--set FARPOOL_SLOT=1", "FARPOOL_SLOT=1\": the worker gives this"},
        {"--set TMPDIR=/x", "TMPDIR=/x\": the worker gives this"},
        {"--set FARPOOL_RESOURCE_GPU=1", "the worker gives this"},
        {"--bind cores", "--bind \"cores\": core or none"},
        {"--groups v1", "--groups \"v1\": auto or none"},
        {"--scratch=", "--scratch \"\": a folder"},
        {"--resources gpu", "\"gpu\": NAME=COUNT"},
        {"--resources gpu=0", "\"gpu=0\""},
        {"--resources gpu=1025", "from 1 to 1024"},
        {"--resources gpu=1K", "\"gpu=1K\""},
        {"--resources gpu=1,=2", "\"=2\""},
        {"--resources g-u=1", "\"g-u=1\""},
        {"--resources abcdefghijklmnopqrstuvwxyzabcdef=1", "1 to 31"},
        {"--resources gpu=1,GPU=2", "\"GPU\": it is given twice"},
        {"--resources gpu=1 --labels a=b,gpu=x", "--labels has this name"},
        {"--resources a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1,"
         "q=1",
         "no more than 16"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_wrong(rows[i][0], rows[i][1]);
}

static void too_many_are_refused(void **state)
{
    char line[4096] = "--pass A", labels[512] = "--resources gpu=1 --labels k=";
    (void)state;
    for (int i = 1; i < PLACE_VARIABLES_MAX; i++)
        strcat(line, ",A");
    assert_int_equal(expect_taken(line).place.pass_count, PLACE_VARIABLES_MAX);
    strcat(line, ",A");
    expect_wrong(line, "no more than 64 names");
    snprintf(line, sizeof line, "--set A=b");
    for (int i = 1; i < PLACE_VARIABLES_MAX; i++)
        strcat(line, " --set A=b");
    assert_int_equal(expect_taken(line).place.set_count, PLACE_VARIABLES_MAX);
    strcat(line, " --set A=b");
    expect_wrong(line, "no more than 64");
    memset(labels + strlen(labels), 'v', 250);
    expect_wrong(labels, "longer than 255 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_is_the_default),
        cmocka_unit_test(what_is_given_is_taken),
        cmocka_unit_test(resources_limit_the_slots),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(too_many_are_refused),
    };
    unsetenv("FARPOOL_COORDINATOR");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
