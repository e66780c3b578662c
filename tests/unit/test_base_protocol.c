/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_protocol.c: docs/protocol.md is what the tables say. If this fails after a
 * change of messages.def: `protocol_page >docs/protocol.md`, and read the difference. */
#include "common/base/mem.h"
#include "common/base/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct text {
    char *bytes;
    size_t size, capacity;
};

static void append(void *user, const char *piece)
{
    struct text *text = user;
    const size_t size = strlen(piece);
    assert_true(mem_reserve(&text->bytes, &text->capacity, text->size + size + 1, 1));
    memcpy(text->bytes + text->size, piece, size + 1);
    text->size += size;
}

/* Ends of the lines that `a` and `b` stand in. */
static bool same_line(const char *a, const char *b, size_t *ret_a, size_t *ret_b)
{
    *ret_a = strcspn(a, "\n");
    *ret_b = strcspn(b, "\n");
    return *ret_a == *ret_b && memcmp(a, b, *ret_a) == 0 && a[*ret_a] == b[*ret_b];
}

static void assert_same_lines(const char *wanted, const char *found)
{
    size_t wanted_size, found_size;
    for (int line = 1;; line++) {
        if (!same_line(wanted, found, &wanted_size, &found_size))
            fail_msg("line %d is\n%.*s\nand should be\n%.*s", line, (int)found_size,
                     found, (int)wanted_size, wanted);
        if (!wanted[wanted_size])
            return;
        wanted += wanted_size + 1;
        found += found_size + 1;
    }
}

static void the_page_is_up_to_date(void **state)
{
    (void)state;
    struct text wanted = {NULL, 0, 0}, found = {NULL, 0, 0};
    message_write_page(append, &wanted);
    FILE *file = fopen(PROTOCOL_PAGE, "r");
    assert_non_null(file);
    char line[1000];
    append(&found, "");
    while (fgets(line, sizeof line, file))
        append(&found, line);
    assert_int_equal(fclose(file), 0);
    assert_same_lines(wanted.bytes, found.bytes);
    mem_free(wanted.bytes);
    mem_free(found.bytes);
}

static void the_page_names_everything(void **state)
{
    (void)state;
    struct text page = {NULL, 0, 0};
    message_write_page(append, &page);
    char heading[100];
    for (int kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        snprintf(heading, sizeof heading, "\n### %d %s\n", kind,
                 message_name((enum message_kind)kind));
        assert_non_null(strstr(page.bytes, heading));
    }
    assert_null(strstr(page.bytes, "%"));
    mem_free(page.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_up_to_date),
        cmocka_unit_test(the_page_names_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
