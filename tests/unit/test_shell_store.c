/* SPDX-License-Identifier: Apache-2.0
 *
 * test_shell_store.c: the store of shared inputs: only right pieces are kept, the bound,
 * and that nobody can write to what is sealed. */
#include "common/base/mem.h"
#include "common/base/shared.h"
#include "common/sys/sys.h"
#include "worker/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (SHARED_PIECE_BYTES + 1000) /* two pieces */

/* A content with its pieces, their hashes and its name. */
struct content {
    struct payload *pieces[2], *hashes;
    struct hash name;
};

static struct content make_content(uint8_t seed)
{
    struct content content;
    struct hash hash;
    content.hashes = payload_create(2 * sizeof hash);
    for (uint32_t i = 0; i < 2; i++) {
        content.pieces[i] = payload_create(shared_piece_bytes(SIZE, i));
        memset(payload_bytes(content.pieces[i]), seed + (int)i, content.pieces[i]->size);
        sys_hash(content.pieces[i]->data, content.pieces[i]->size, &hash);
        memcpy(payload_bytes(content.hashes) + i * sizeof hash, &hash, sizeof hash);
    }
    sys_hash(content.hashes->data, content.hashes->size, &content.name);
    return content;
}

static void free_content(struct content *content)
{
    payload_unref(&content->pieces[0]);
    payload_unref(&content->pieces[1]);
    payload_unref(&content->hashes);
}

static void pieces_are_kept_and_passed_on(void **state)
{
    struct content content = make_content(1);
    struct store *store = store_create("n", 1 << 30);
    farpool_error error;
    uint64_t size = 0;
    int code = -1;
    (void)state;
    assert_int_equal(store_open(store, &content.name, SIZE, content.hashes, &error), 0);
    assert_int_equal(store_write(store, &content.name, 1, content.pieces[1], &error), 0);
    struct payload *read =
        store_read(store, &content.name, SHARED_PIECE_BYTES, 1000, &code);
    assert_non_null(read); /* before all of it is there */
    assert_int_equal(code, 0);
    assert_memory_equal(read->data, content.pieces[1]->data, 1000);
    payload_unref(&read);
    assert_int_equal(store_write(store, &content.name, 0, content.pieces[0], &error), 0);
    const int fd = store_seal(store, &content.name, &size, &error);
    assert_true(fd >= 0);
    assert_int_equal(size, SIZE);
    const uint8_t *bytes = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(bytes[SIZE - 1], 2);
    /* Neither this process nor another can change it. */
    assert_true(pwrite(fd, "x", 1, 0) < 0 && ftruncate(fd, 1) < 0);
    assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
                     MAP_FAILED);
    assert_int_equal(store_write(store, &content.name, 0, content.pieces[0], &error), 0);
    store_destroy(store);
    assert_int_equal(bytes[SIZE - 1], 2); /* as long as somebody has it mapped */
    munmap((void *)(uintptr_t)bytes, SIZE);
    free_content(&content);
}

static void wrong_pieces_are_not(void **state)
{
    struct content content = make_content(1), other = make_content(7);
    struct store *store = store_create("n", 1 << 30);
    farpool_error error;
    int code = 0;
    (void)state;
    assert_int_equal(store_open(store, &content.name, SIZE, other.hashes, &error),
                     FARPOOL_EPROTOCOL);
    assert_int_equal(store_open(store, &content.name, SIZE, content.pieces[0], &error),
                     FARPOOL_EPROTOCOL);
    assert_int_equal(store_open(store, &content.name, SIZE, NULL, &error),
                     FARPOOL_EPROTOCOL);
    assert_int_equal(store_open(store, &content.name, SIZE, content.hashes, &error), 0);
    assert_int_equal(store_write(store, &content.name, 0, other.pieces[0], &error),
                     FARPOOL_EPROTOCOL);
    assert_int_equal(store_write(store, &content.name, 0, content.pieces[1], &error),
                     FARPOOL_EPROTOCOL);
    assert_int_equal(store_write(store, &content.name, 2, content.pieces[1], &error),
                     FARPOOL_EPROTOCOL);
    assert_null(store_read(store, &other.name, 0, 1, &code));
    assert_int_equal(code, FARPOOL_ENOTREADY);
    store_destroy(store);
    free_content(&content);
    free_content(&other);
}

static void there_is_a_bound(void **state)
{
    struct content content = make_content(1), other = make_content(7);
    struct store *store = store_create("node-7", SIZE + SIZE - 1);
    farpool_error error;
    (void)state;
    assert_int_equal(store_open(store, &content.name, SIZE, content.hashes, &error), 0);
    assert_int_equal(store_open(store, &other.name, SIZE, other.hashes, &error),
                     FARPOOL_ENOSPACE);
    assert_non_null(strstr(error.text, "node-7"));
    assert_non_null(strstr(error.text, "1049576")); /* wanted, and in use */
    assert_non_null(strstr(error.text, "2099151")); /* the limit */
    assert_non_null(strstr(error.text, "--share-max"));
    store_close(store, &content.name);
    store_close(store, &content.name);
    assert_int_equal(store_open(store, &other.name, SIZE, other.hashes, &error), 0);
    store_destroy(store);
    free_content(&content);
    free_content(&other);
}

static void memory_fails_at_every_place(void **state)
{
    struct content content = make_content(1);
    struct store *store = store_create("n", 1 << 30);
    farpool_error error;
    int result = FARPOOL_ENOMEM;
    (void)state;
    for (size_t place = 1; result != 0; place++) {
        assert_int_equal(result, FARPOOL_ENOMEM);
        mem_fail_after(place);
        result = store_open(store, &content.name, SIZE, content.hashes, &error);
        mem_fail_after(0);
    }
    store_destroy(store);
    free_content(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_kept_and_passed_on),
        cmocka_unit_test(wrong_pieces_are_not),
        cmocka_unit_test(there_is_a_bound),
        cmocka_unit_test(memory_fails_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
