/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_span_set.c: a span_set against a naive model: an array that says for each of
 * a few hundred indices whether its task is there, where its span begins, and its tags.
 * Sizes of tasks follow from the index, so bytes can be checked too. */
#include "common/base/mem.h"
#include "common/base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define INDICES 300

struct cell {
    bool present;
    uint64_t first; /* of the span that it is in */
    uint64_t tag, tag2;
    uint32_t attempt;
};

struct model {
    struct cell cells[INDICES];
    struct span_set *set;
    bool even;
    uint64_t rng;
};

static size_t task_size(const struct model *model, uint64_t index)
{
    return model->even ? 2 : index % 4;
}

static struct msg_span make_span(const struct model *model, uint64_t first,
                                 uint32_t count)
{
    struct msg_span span = {.first = first, .count = count, .attempt = 1};
    size_t total = 0;
    uint8_t sizes[4 * INDICES] = {0};
    for (uint32_t i = 0; i < count; i++) {
        sizes[4 * i] = (uint8_t)task_size(model, first + i);
        total += sizes[4 * i];
    }
    if (!model->even)
        span.sizes = payload_copy(sizes, (size_t)4 * count);
    span.data = payload_create(total);
    uint8_t *at = payload_bytes(span.data);
    for (uint32_t i = 0; i < count; i++) {
        memset(at, (int)(first + i) & 0xff, sizes[4 * i]);
        at += sizes[4 * i];
    }
    return span;
}

static void check_bytes(const struct model *model, const struct msg_span *span)
{
    assert_true(span_valid(span));
    for (uint32_t place = 0; place < span->count; place++) {
        const uint8_t *data;
        size_t size;
        span_task(span, place, &data, &size);
        assert_int_equal(size, task_size(model, span->first + place));
        for (size_t i = 0; i < size; i++)
            assert_int_equal(data[i], (span->first + place) & 0xff);
    }
}

/* Indices of the model's span that begins at `first`: [first, result). */
static uint64_t model_end(const struct model *model, uint64_t first)
{
    uint64_t end = first;
    while (end < INDICES && model->cells[end].present && model->cells[end].first == first)
        end++;
    return end;
}

static uint64_t model_at_or_after(const struct model *model, uint64_t index)
{
    while (index < INDICES && !model->cells[index].present)
        index++;
    return index;
}

static void check_item(const struct model *model, const struct span_item *item,
                       uint64_t first)
{
    assert_non_null(item);
    const struct cell *cell = &model->cells[first];
    assert_true(item->span.first == first);
    assert_true(item->span.first + item->span.count == model_end(model, first));
    assert_true(item->tag == cell->tag && item->tag2 == cell->tag2);
    assert_int_equal(item->span.attempt, cell->attempt);
}

static void check_queries(const struct model *model)
{
    for (uint64_t index = 0; index < INDICES; index++) {
        const struct span_item *found = span_set_find(model->set, index);
        if (model->cells[index].present)
            check_item(model, found, model->cells[index].first);
        else
            assert_null(found);
        const uint64_t behind = model_at_or_after(model, index);
        const struct span_item *item = span_set_at_or_after(model->set, index);
        if (behind < INDICES)
            check_item(model, item, model->cells[behind].first);
        else
            assert_null(item);
    }
}

static void check_all(const struct model *model)
{
    span_set_check(model->set);
    size_t items = 0;
    uint64_t tasks = 0, bytes = 0, last = 0;
    const struct span_item *item = span_set_first(model->set);
    for (uint64_t at = model_at_or_after(model, 0); at < INDICES;
         at = model_at_or_after(model, model_end(model, at))) {
        check_item(model, item, at);
        check_bytes(model, &item->span);
        items++;
        tasks += item->span.count;
        bytes += span_bytes(&item->span);
        last = at;
        item = span_set_next(model->set, item);
    }
    assert_null(item);
    assert_int_equal(span_set_items(model->set), items);
    assert_true(span_set_tasks(model->set) == tasks);
    assert_true(span_set_bytes(model->set) == bytes);
    if (items)
        check_item(model, span_set_last(model->set), last);
    else
        assert_null(span_set_last(model->set));
}

static void model_remove(struct model *model, uint64_t first, uint64_t count)
{
    const uint64_t begin = model->cells[first].first, end = model_end(model, begin);
    for (uint64_t i = first; i < first + count; i++)
        model->cells[i].present = false;
    for (uint64_t i = first + count; i < end; i++)
        model->cells[i].first = first + count;
}

/* What the next steps below do with an allocation that fails. */
static size_t fail_next(struct model *model)
{
    return rng_below(&model->rng, 3) ? 0 : 1 + rng_below(&model->rng, 6);
}

static void step_add(struct model *model)
{
    const uint64_t first = rng_below(&model->rng, INDICES);
    const uint32_t count = (uint32_t)(1 + rng_below(&model->rng, 40));
    if (first + count > INDICES)
        return;
    bool taken = false;
    for (uint64_t i = first; i < first + count; i++)
        taken = taken || model->cells[i].present;
    struct msg_span span = make_span(model, first, count), same = span;
    const uint64_t tag = rng_below(&model->rng, 9), tag2 = rng_below(&model->rng, 9);
    mem_fail_after(fail_next(model));
    const int error = span_set_add(model->set, &span, tag, tag2);
    mem_fail_after(0);
    if (error) {
        assert_int_equal(error, taken ? FARPOOL_EINVAL : FARPOOL_ENOMEM);
        assert_memory_equal(&span, &same, sizeof span);
        span_fini(&span);
        return;
    }
    assert_false(taken);
    assert_null(span.data);
    assert_null(span.sizes);
    for (uint64_t i = first; i < first + count; i++)
        model->cells[i] = (struct cell){true, first, tag, tag2, 1};
}

static void check_taken(struct model *model, struct span_item *item)
{
    const struct cell *cell = &model->cells[item->span.first];
    assert_true(cell->present);
    assert_true(item->tag == cell->tag && item->tag2 == cell->tag2);
    assert_int_equal(item->span.attempt, cell->attempt);
    assert_true(item->span.first + item->span.count <= model_end(model, cell->first));
    check_bytes(model, &item->span);
    model_remove(model, item->span.first, item->span.count);
    span_fini(&item->span);
}

static void step_take(struct model *model)
{
    const uint64_t first = rng_below(&model->rng, INDICES);
    const uint32_t count = (uint32_t)rng_below(&model->rng, 30);
    bool within = count > 0 && model->cells[first].present &&
                  first + count <= model_end(model, model->cells[first].first);
    const bool drop = rng_below(&model->rng, 4) == 0;
    struct span_item item = {.tag = 123}, same = item;
    mem_fail_after(fail_next(model));
    const int error = span_set_take(model->set, first, count, drop ? NULL : &item);
    mem_fail_after(0);
    if (error || drop)
        assert_memory_equal(&item, &same, sizeof item);
    if (error) {
        assert_int_equal(error, within ? FARPOOL_ENOMEM : FARPOOL_EINVAL);
        return;
    }
    assert_true(within);
    if (drop) {
        model_remove(model, first, count);
        return;
    }
    assert_true(item.span.first == first && item.span.count == count);
    check_taken(model, &item);
}

static void step_take_first(struct model *model)
{
    const uint32_t tasks = (uint32_t)rng_below(&model->rng, 20);
    const uint32_t chunk = (uint32_t)(1 + rng_below(&model->rng, 10));
    struct span_item item;
    const uint64_t lowest = model_at_or_after(model, 0);
    mem_fail_after(fail_next(model));
    const int error = span_set_take_first(model->set, tasks, chunk, &item);
    mem_fail_after(0);
    assert_int_equal(error == FARPOOL_END, lowest == INDICES);
    assert_true(error == 0 || error == FARPOOL_END || error == FARPOOL_ENOMEM);
    if (error)
        return;
    const uint64_t end = model_end(model, lowest),
                   taken = item.span.first + item.span.count;
    const uint64_t limit = lowest + (tasks ? tasks : 1);
    assert_true(item.span.first == lowest && taken <= limit);
    if (taken != end && taken % chunk)
        assert_true(taken == limit && limit - limit % chunk <= lowest);
    if (taken != end)
        assert_true(taken + chunk > limit);
    check_taken(model, &item);
}

static void step_take_last(struct model *model)
{
    const uint32_t tasks = (uint32_t)rng_below(&model->rng, 20);
    const uint32_t chunk = (uint32_t)(1 + rng_below(&model->rng, 10));
    struct span_item item;
    const struct span_item *last = span_set_last(model->set);
    const uint64_t first = last ? last->span.first : 0;
    const uint64_t end = last ? first + last->span.count : 0;
    mem_fail_after(fail_next(model));
    const int error = span_set_take_last(model->set, tasks, chunk, &item);
    mem_fail_after(0);
    assert_int_equal(error == FARPOOL_END, last == NULL);
    assert_true(error == 0 || error == FARPOOL_END || error == FARPOOL_ENOMEM);
    if (error)
        return;
    const uint64_t begin = item.span.first, most = tasks ? tasks : 1;
    assert_true(begin + item.span.count == end && item.span.count <= most);
    if (begin != first && begin % chunk)
        assert_true(item.span.count == most && begin - begin % chunk + chunk >= end);
    if (begin != first)
        assert_true(item.span.count + chunk > most);
    check_taken(model, &item);
}

static void step_cut(struct model *model)
{
    const uint64_t index = rng_below(&model->rng, INDICES);
    mem_fail_after(fail_next(model));
    const int error = span_set_cut(model->set, index);
    mem_fail_after(0);
    if (error) {
        assert_int_equal(error, FARPOOL_ENOMEM);
        return;
    }
    if (!model->cells[index].present)
        return;
    const uint64_t end = model_end(model, model->cells[index].first);
    for (uint64_t i = index; i < end; i++)
        model->cells[i].first = index;
}

/* Over to another set and back, with other tags. */
static void step_move(struct model *model)
{
    const uint64_t at = model_at_or_after(model, rng_below(&model->rng, INDICES));
    if (at == INDICES)
        return;
    const uint64_t first = model->cells[at].first, end = model_end(model, first);
    struct span_set *other;
    assert_int_equal(span_set_create(&other), 0);
    const uint64_t tag = rng_below(&model->rng, 9);
    mem_fail_after(1);
    span_set_move(model->set, first, other, 6, 7, 8);
    span_set_check(model->set);
    assert_true(span_set_tasks(other) == end - first);
    span_set_move(other, first, model->set, 2, tag, 4);
    if (rng_below(&model->rng, 2))
        span_set_move(model->set, first, model->set, 2, tag, 4);
    assert_int_equal(mem_fail_after(0), 0);
    span_set_destroy(other);
    for (uint64_t i = first; i < end; i++)
        model->cells[i] = (struct cell){true, first, tag, 4, 2};
}

static void random_operations(void **state)
{
    (void)state;
    void (*const steps[])(struct model *) = {step_add,       step_add,  step_add,
                                             step_take,      step_take, step_take_first,
                                             step_take_last, step_cut,  step_move};
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct model model = {.rng = seed, .even = seed % 2};
        assert_int_equal(span_set_create(&model.set), 0);
        for (int i = 0; i < 400; i++) {
            steps[rng_below(&model.rng, sizeof steps / sizeof steps[0])](&model);
            check_all(&model);
            if (i % 20 == 0)
                check_queries(&model);
        }
        span_set_destroy(model.set);
    }
}

static void ends_of_the_index_range(void **state)
{
    (void)state;
    struct span_set *set;
    assert_int_equal(span_set_create(&set), 0);
    struct msg_span none = {.first = 1, .count = 0},
                    over = {.first = UINT64_MAX, .count = 1};
    assert_int_equal(span_set_add(set, &none, 0, 0), FARPOOL_EINVAL);
    assert_int_equal(span_set_add(set, &over, 0, 0), FARPOOL_EINVAL);
    struct msg_span top = {.first = UINT64_MAX - 2, .count = 2};
    assert_int_equal(span_set_add(set, &top, 0, 0), 0);
    assert_non_null(span_set_find(set, UINT64_MAX - 1));
    assert_null(span_set_find(set, UINT64_MAX));
    assert_null(span_set_next(set, span_set_first(set)));
    assert_int_equal(span_set_take(set, UINT64_MAX - 1, 2, NULL), FARPOOL_EINVAL);
    struct span_item item;
    assert_int_equal(span_set_take_first(set, 1, 1000, &item), 0);
    assert_true(item.span.first == UINT64_MAX - 2);
    assert_int_equal(span_set_take_last(set, 1, 1000, &item), 0);
    assert_true(item.span.first == UINT64_MAX - 1);
    assert_int_equal(span_set_take_first(set, 1, 1, &item), FARPOOL_END);
    assert_int_equal(span_set_take_last(set, 1, 1, &item), FARPOOL_END);
    span_set_destroy(set);
    span_set_destroy(NULL);
}

static void taking_whole_spans_needs_no_memory(void **state)
{
    (void)state;
    struct model model = {.even = false};
    assert_int_equal(span_set_create(&model.set), 0);
    for (uint64_t first = 0; first < 100; first += 10) {
        struct msg_span span = make_span(&model, first, 10);
        assert_int_equal(span_set_add(model.set, &span, 0, 0), 0);
    }
    mem_fail_after(1);
    for (int i = 0; i < 10; i++) {
        struct span_item item;
        assert_int_equal(span_set_take_first(model.set, 10, 1, &item), 0);
        assert_int_equal(item.span.count, 10);
        assert_int_equal(span_set_add(model.set, &item.span, 1, 1), 0);
        assert_int_equal(span_set_take_last(model.set, 10, 1, &item), 0);
        span_fini(&item.span);
    }
    assert_int_equal(mem_fail_after(0), 0);
    span_set_destroy(model.set);
}

/* A long span of unequal sizes taken from either end in small pieces must not be summed
 * up anew each time: this would take minutes. */
static void small_pieces_of_a_long_span(void **state)
{
    (void)state;
    const uint32_t count = SPAN_TASKS_MAX;
    struct msg_span span = {.count = count, .attempt = 1};
    span.sizes = payload_create((size_t)4 * count);
    uint8_t *sizes = payload_bytes(span.sizes);
    memset(sizes, 0, (size_t)4 * count);
    for (uint32_t i = 0; i < count; i++)
        sizes[4 * i] = i & 1;
    span.data = payload_create(count / 2);
    memset(payload_bytes(span.data), 0, count / 2);
    struct span_set *set;
    assert_int_equal(span_set_create(&set), 0);
    assert_int_equal(span_set_add(set, &span, 0, 0), 0);
    uint64_t tasks = 0;
    struct span_item item;
    while (span_set_take_first(set, 20, 1, &item) == 0) {
        tasks += item.span.count;
        span_fini(&item.span);
        if (span_set_take_last(set, 20, 1, &item) == 0) {
            tasks += item.span.count;
            span_fini(&item.span);
        }
    }
    assert_true(tasks == count);
    assert_true(span_set_bytes(set) == 0);
    span_set_destroy(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(ends_of_the_index_range),
        cmocka_unit_test(taking_whole_spans_needs_no_memory),
        cmocka_unit_test(small_pieces_of_a_long_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
