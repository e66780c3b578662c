/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_payload.c: who keeps whose bytes alive, and for how long; and what becomes of
 * the memory of large ones. */
#include "common/base/mem.h"
#include "common/base/payload.h"
#include "common/base/spare.h"

#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB 1048576u

static void count_release(struct payload *payload)
{
    (*(int *)payload->owner)++;
}

static void own_bytes(void **state)
{
    (void)state;
    struct payload *payload = payload_create(100);
    assert_int_equal(payload->size, 100);
    assert_ptr_equal(payload->data, payload_bytes(payload));
    assert_int_equal((uintptr_t)payload->data % alignof(max_align_t), 0);
    memset(payload_bytes(payload), 7, 100);
    assert_int_equal(payload->data[99], 7);
    payload_unref(&payload);
    assert_null(payload);
    payload_unref(&payload);
}

static void one_allocation_each(void **state)
{
    (void)state;
    mem_fail_after(0);
    struct payload *payload = payload_copy("twelve bytes", 12);
    assert_int_equal(mem_fail_after(0), 1);
    assert_memory_equal(payload->data, "twelve bytes", 12);
    struct payload *slice = payload_slice(payload, 1, 3);
    assert_int_equal(mem_fail_after(0), 1);
    payload_unref(&slice);
    payload_unref(&payload);
}

static void empty_ones_have_no_data(void **state)
{
    (void)state;
    struct payload *empty = payload_create(0), *copy = payload_copy(NULL, 0);
    assert_null(empty->data);
    assert_null(copy->data);
    assert_int_equal(copy->size, 0);
    struct payload *slice = payload_slice(empty, 0, 0);
    assert_int_equal(slice->size, 0);
    payload_unref(&slice);
    payload_unref(&empty);
    payload_unref(&copy);
}

static void foreign_bytes_are_released_once(void **state)
{
    (void)state;
    static const char bytes[] = "foreign";
    int released = 0;
    struct payload *payload = payload_wrap(bytes, sizeof bytes, count_release, &released);
    struct payload *other = payload_ref(payload);
    assert_ptr_equal(other, payload);
    payload_unref(&payload);
    assert_int_equal(released, 0);
    assert_memory_equal(other->data, bytes, sizeof bytes);
    payload_unref(&other);
    assert_int_equal(released, 1);
    assert_null(payload_ref(NULL));
}

static void slices_keep_the_root_alive(void **state)
{
    (void)state;
    static const char bytes[] = "0123456789";
    int released = 0;
    struct payload *root = payload_wrap(bytes, 10, count_release, &released);
    struct payload *slice = payload_slice(root, 2, 6);
    struct payload *inner = payload_slice(slice, 1, 3);
    assert_ptr_equal(slice->parent, root);
    assert_ptr_equal(inner->parent, root);
    assert_memory_equal(inner->data, "345", 3);
    payload_unref(&root);
    payload_unref(&slice);
    assert_int_equal(released, 0);
    assert_memory_equal(inner->data, "345", 3);
    payload_unref(&inner);
    assert_int_equal(released, 1);
}

static void a_slice_of_all_is_the_payload(void **state)
{
    (void)state;
    int released = 0;
    struct payload *root = payload_wrap("abc", 3, count_release, &released);
    struct payload *all = payload_slice(root, 0, 3);
    assert_ptr_equal(all, root);
    payload_unref(&root);
    assert_int_equal(released, 0);
    payload_unref(&all);
    assert_int_equal(released, 1);
}

static void a_slice_of_nothing_keeps_nothing(void **state)
{
    (void)state;
    int released = 0;
    struct payload *root = payload_wrap("abc", 3, count_release, &released);
    struct payload *none = payload_slice(root, 3, 0);
    payload_unref(&root);
    assert_int_equal(released, 1);
    assert_int_equal(none->size, 0);
    payload_unref(&none);
}

static void no_memory_leaves_references_alone(void **state)
{
    (void)state;
    int released = 0;
    struct payload *root = payload_wrap("abc", 3, count_release, &released);
    mem_fail_after(1);
    assert_null(payload_slice(root, 0, 2));
    mem_fail_after(1);
    assert_null(payload_create(5));
    mem_fail_after(1);
    assert_null(payload_copy("x", 1));
    mem_fail_after(1);
    assert_null(payload_wrap("x", 1, count_release, &released));
    mem_fail_after(0);
    assert_null(payload_create(SIZE_MAX));
    assert_int_equal(atomic_load(&root->refs), 1);
    assert_int_equal(released, 0);
    payload_unref(&root);
    assert_int_equal(released, 1);
}

/* In a child, without its message and core file. */
static void assert_slice_aborts(struct payload *payload, size_t offset, size_t size)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        payload_slice(payload, offset, size);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_slice_must_be_within(void **state)
{
    (void)state;
    struct payload *payload = payload_copy("abc", 3);
    assert_slice_aborts(payload, 1, 3);
    assert_slice_aborts(payload, 4, 0);
    assert_slice_aborts(payload, 1, SIZE_MAX);
    payload_unref(&payload);
}

/* Makes and drops `count` payloads of that size, all alive at once; how many allocations
 * that took. */
static size_t pass(size_t count, size_t size)
{
    struct payload *payloads[64];
    assert_true(count <= 64);
    mem_fail_after(0);
    for (size_t i = 0; i < count; i++) {
        payloads[i] = payload_create(size);
        payload_bytes(payloads[i])[size - 1] = (uint8_t)i;
    }
    const size_t made = mem_fail_after(0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(payloads[i]->data[size - 1], i);
        payload_unref(&payloads[i]);
    }
    return made;
}

static void large_memory_is_used_again(void **state)
{
    (void)state;
    spare_empty();
    assert_int_equal(pass(3, MIB), 3);
    assert_int_equal(pass(3, MIB), 0);
    assert_int_equal(pass(5, MIB + 4000), 2); /* nearly the same size */
    assert_int_equal(pass(1, 2 * MIB), 1);
    spare_empty();
    assert_int_equal(pass(3, MIB), 3);
    spare_empty();
}

static void small_and_huge_memory_is_not_kept(void **state)
{
    (void)state;
    const size_t sizes[] = {SPARE_LEAST / 2, SPARE_MOST};
    spare_empty();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pass(2, sizes[i]), 2);
        assert_int_equal(pass(2, sizes[i]), 2);
    }
}

static void what_is_kept_is_bounded_and_of_late(void **state)
{
    (void)state;
    const size_t most = SPARE_KEPT_MAX / (MIB + SPARE_LEAST);
    spare_empty();
    pass(40, MIB);
    assert_int_equal(pass(40, MIB), 40 - most);
    pass(64, MIB / 2); /* drives the others out */
    assert_int_equal(pass(1, MIB), 1);
    spare_empty();
}

static void *pass_often(void *failures)
{
    for (int i = 0; i < 2000; i++) {
        struct payload *payload = payload_create(SPARE_LEAST + i % 3 * SPARE_LEAST);
        memset(payload_bytes(payload), i, 64);
        for (int k = 0; k < 64; k++)
            *(int *)failures += payload->data[k] != (uint8_t)i;
        payload_unref(&payload);
    }
    return NULL;
}

static void threads_do_not_share_memory(void **state)
{
    (void)state;
    pthread_t threads[3];
    int failures[3] = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pass_often, &failures[i]), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(failures[i], 0);
    }
    spare_empty();
}

static void a_part_of_what_is_lent_is_lent(void **state)
{
    (void)state;
    struct payload *lent = payload_wrap("abc", 3, NULL, NULL), *part;
    lent->lent = true;
    part = payload_slice(lent, 1, 1);
    assert_true(part->lent);
    payload_unref(&part);
    payload_unref(&lent);
    lent = payload_copy("abc", 3);
    assert_false(lent->lent);
    payload_unref(&lent);
}

/* A sanitizer's malloc tells nothing of what it has mapped, and learns nothing. */
static void malloc_is_taught_to_keep_large_pieces(void **state)
{
    (void)state;
    const size_t before = mallinfo2().hblks;
    void *first = malloc(4 * MIB);
    assert_non_null(first);
    const bool is_glibc = mallinfo2().hblks == before + 1;
    spare_teach_malloc();
    void *second = malloc(4 * MIB);
    assert_non_null(second);
    assert_int_equal(mallinfo2().hblks, before + (is_glibc ? 1 : 0));
    free(first);
    free(second);
    mem_fail_after(0);
    spare_teach_malloc(); /* once is enough */
    assert_int_equal(mem_fail_after(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            malloc_is_taught_to_keep_large_pieces), /* before large ones are freed */
        cmocka_unit_test(own_bytes),
        cmocka_unit_test(one_allocation_each),
        cmocka_unit_test(empty_ones_have_no_data),
        cmocka_unit_test(foreign_bytes_are_released_once),
        cmocka_unit_test(slices_keep_the_root_alive),
        cmocka_unit_test(a_slice_of_all_is_the_payload),
        cmocka_unit_test(a_slice_of_nothing_keeps_nothing),
        cmocka_unit_test(a_slice_must_be_within),
        cmocka_unit_test(no_memory_leaves_references_alone),
        cmocka_unit_test(large_memory_is_used_again),
        cmocka_unit_test(small_and_huge_memory_is_not_kept),
        cmocka_unit_test(what_is_kept_is_bounded_and_of_late),
        cmocka_unit_test(threads_do_not_share_memory),
        cmocka_unit_test(a_part_of_what_is_lent_is_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
