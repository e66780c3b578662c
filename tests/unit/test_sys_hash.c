/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes of bytes, files and programs: against published values, and the byte string of a
 * program's hash as program.h tells it. */
#include "common/sys/program.h"
#include "common/sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *hex(const struct hash *hash)
{
    static char text[65];
    return hash_text(hash, text);
}

/* BLAKE2b-256, from the reference implementation (b2sum -l 256). */
#define HASH_OF_NOTHING "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
#define HASH_OF_ABC "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"

static void bytes_hash_as_published(void **state)
{
    (void)state;
    struct hash hash;
    sys_hash("", 0, &hash);
    assert_string_equal(hex(&hash), HASH_OF_NOTHING);
    sys_hash("abc", 3, &hash);
    assert_string_equal(hex(&hash), HASH_OF_ABC);
}

static void a_file_hashes_as_its_bytes(void **state)
{
    (void)state;
    char path[] = "/tmp/farpool-hash-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static uint8_t bytes[200001];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    struct hash from_file, from_bytes;
    uint64_t size = 0;
    assert_int_equal(sys_hash_file(path, &from_file, &size, NULL), 0);
    sys_hash(bytes, sizeof bytes, &from_bytes);
    assert_true(hash_equal(&from_file, &from_bytes));
    assert_int_equal(size, sizeof bytes);
    assert_int_equal(unlink(path), 0);
    farpool_error error = {0};
    assert_int_equal(sys_hash_file(path, &from_file, &size, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, path));
    assert_non_null(strstr(error.text, "No such file"));
    assert_int_equal(sys_hash_file("/", &from_file, &size, &error), FARPOOL_ESYSTEM);
}

static void a_program_hashes_its_list(void **state)
{
    (void)state;
    struct msg_file files[2] = {{.name = "main", .size = 0x0102, .executable = true},
                                {.name = "b.so", .size = 3}};
    memset(files[0].content.bytes, 0xaa, 32);
    memset(files[1].content.bytes, 0xbb, 32);
    uint8_t text[200];
    size_t used = 0;
#define ADD(literal)                                                                     \
    memcpy(text + used, literal, sizeof(literal) - 1), used += sizeof(literal) - 1
    ADD("farpool program 1\n");
    ADD("\2\0\0\0");
    ADD("\4\0\0\0main");
    memset(text + used, 0xaa, 32), used += 32;
    ADD("\2\1\0\0\0\0\0\0\1");
    ADD("\4\0\0\0b.so");
    memset(text + used, 0xbb, 32), used += 32;
    ADD("\3\0\0\0\0\0\0\0\0");
    struct hash expected, hash;
    sys_hash(text, used, &expected);
    sys_hash_program(files, 2, &hash);
    assert_string_equal(hex(&hash), hex(&expected));
}

static void every_part_of_the_list_counts(void **state)
{
    (void)state;
    struct msg_file files[2] = {{.name = "a", .size = 1, .executable = true},
                                {.name = "bc", .size = 2}};
    struct hash first, other;
    sys_hash_program(files, 2, &first);
    sys_hash_program(files, 1, &other);
    assert_false(hash_equal(&first, &other));
    struct msg_file changed[2];
#define DIFFERS(change)                                                                  \
    memcpy(changed, files, sizeof files);                                                \
    change;                                                                              \
    sys_hash_program(changed, 2, &other);                                                \
    assert_false(hash_equal(&first, &other))
    DIFFERS(strcpy(changed[0].name, "ab"); strcpy(changed[1].name, "c"));
    DIFFERS(changed[1].content.bytes[31] = 1);
    DIFFERS(changed[1].size = 3);
    DIFFERS(changed[1].executable = true);
    DIFFERS(changed[0] = files[1]; changed[1] = files[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_hash_as_published),
        cmocka_unit_test(a_file_hashes_as_its_bytes),
        cmocka_unit_test(a_program_hashes_its_list),
        cmocka_unit_test(every_part_of_the_list_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
