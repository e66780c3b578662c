/* SPDX-License-Identifier: Apache-2.0
 *
 * span_set.c: disjoint spans of one job in order of their first index, in a red-black
 * tree, with running totals.
 *
 * Invariants (span_set_check): spans are valid in their counts, ascend and do not
 * overlap; items, tasks and bytes are the sums over the tree. Cutting makes every slice
 * and node before it changes anything, so running out of memory changes nothing. A few
 * nodes are kept for the next use, since sets are mostly taken from and added to by
 * turns. Spans are never merged: whoever wants fewer of them adds larger ones. */
#include "common/base/mem.h"
#include "common/base/span.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <string.h>

#define NODES_KEPT 8

struct node {
    struct span_item item; /* first: an item is its node */
    RB_ENTRY(node) entry;
};

RB_HEAD(tree, node);

struct span_set {
    struct tree tree;
    size_t items;
    uint64_t tasks, bytes;
    struct node *kept[NODES_KEPT];
    size_t kept_count;
};

static int compare(const struct node *a, const struct node *b)
{
    const uint64_t first_a = a->item.span.first, first_b = b->item.span.first;
    return (first_a > first_b) - (first_a < first_b);
}

/* Not RB_GENERATE_STATIC: it needs a macro __unused, which clashes with system headers.
 */
RB_GENERATE_INTERNAL(tree, node, entry, compare, FARPOOL_UNUSED static)

static struct node *node_get(struct span_set *set)
{
    if (set->kept_count)
        return set->kept[--set->kept_count];
    return mem_alloc(sizeof(struct node));
}

static void node_put(struct span_set *set, struct node *node)
{
    if (set->kept_count < NODES_KEPT)
        set->kept[set->kept_count++] = node;
    else
        mem_free(node);
}

static void count_in(struct span_set *set, const struct msg_span *span)
{
    set->items++;
    set->tasks += span->count;
    set->bytes += span_bytes(span);
}

static void count_out(struct span_set *set, const struct msg_span *span)
{
    set->items--;
    set->tasks -= span->count;
    set->bytes -= span_bytes(span);
}

int span_set_create(struct span_set **ret_set)
{
    struct span_set *set = mem_alloc(sizeof *set);
    if (!set)
        return FARPOOL_ENOMEM;
    RB_INIT(&set->tree);
    *ret_set = set;
    return 0;
}

void span_set_destroy(struct span_set *set)
{
    if (!set)
        return;
    struct node *node = RB_MIN(tree, &set->tree);
    while (node) {
        struct node *next = RB_NEXT(tree, &set->tree, node);
        RB_REMOVE(tree, &set->tree, node);
        span_fini(&node->item.span);
        mem_free(node);
        node = next;
    }
    while (set->kept_count)
        mem_free(set->kept[--set->kept_count]);
    mem_free(set);
}

size_t span_set_items(const struct span_set *set)
{
    return set->items;
}

uint64_t span_set_tasks(const struct span_set *set)
{
    return set->tasks;
}

uint64_t span_set_bytes(const struct span_set *set)
{
    return set->bytes;
}

static uint64_t node_end(const struct node *node)
{
    return node->item.span.first + node->item.span.count;
}

/* The lowest node that ends behind `index`: it holds it, or begins behind it. */
static struct node *at_or_after(const struct span_set *set, uint64_t index)
{
    struct node *node = RB_ROOT(&set->tree), *found = NULL;
    while (node) {
        if (node_end(node) > index) {
            found = node;
            node = RB_LEFT(node, entry);
        } else {
            node = RB_RIGHT(node, entry);
        }
    }
    return found;
}

static struct node *holding(const struct span_set *set, uint64_t index)
{
    struct node *node = at_or_after(set, index);
    return node && node->item.span.first <= index ? node : NULL;
}

static struct node *lowest(const struct span_set *set)
{
    struct node *node = RB_ROOT(&set->tree);
    while (node && RB_LEFT(node, entry))
        node = RB_LEFT(node, entry);
    return node;
}

static struct node *highest(const struct span_set *set)
{
    struct node *node = RB_ROOT(&set->tree);
    while (node && RB_RIGHT(node, entry))
        node = RB_RIGHT(node, entry);
    return node;
}

static const struct span_item *item_of(const struct node *node)
{
    return node ? &node->item : NULL;
}

const struct span_item *span_set_first(const struct span_set *set)
{
    return item_of(lowest(set));
}

const struct span_item *span_set_last(const struct span_set *set)
{
    return item_of(highest(set));
}

const struct span_item *span_set_find(const struct span_set *set, uint64_t index)
{
    return item_of(holding(set, index));
}

const struct span_item *span_set_at_or_after(const struct span_set *set, uint64_t index)
{
    return item_of(at_or_after(set, index));
}

const struct span_item *span_set_next(const struct span_set *set,
                                      const struct span_item *item)
{
    /* Not by the tree's links: RB_NEXT wants a node that may be changed. */
    return item_of(at_or_after(set, item->span.first + item->span.count));
}

int span_set_add(struct span_set *set, struct msg_span *span, uint64_t tag, uint64_t tag2)
{
    if (span->count < 1 || span->first > UINT64_MAX - span->count)
        return FARPOOL_EINVAL;
    const struct node *behind = at_or_after(set, span->first);
    if (behind && behind->item.span.first < span->first + span->count)
        return FARPOOL_EINVAL;
    struct node *node = node_get(set);
    if (!node)
        return FARPOOL_ENOMEM;
    node->item = (struct span_item){.span = *span, .tag = tag, .tag2 = tag2};
    memset(span, 0, sizeof *span);
    RB_INSERT(tree, &set->tree, node);
    count_in(set, &node->item.span);
    return 0;
}

static void take_whole(struct span_set *set, struct node *node,
                       struct span_item *ret_item)
{
    count_out(set, &node->item.span);
    RB_REMOVE(tree, &set->tree, node);
    if (ret_item)
        *ret_item = node->item;
    else
        span_fini(&node->item.span);
    node_put(set, node);
}

/* A span in up to three: what lies before the part, the part, what lies behind it. */
struct cut {
    struct msg_span before, part, behind;
    struct node *extra; /* for `behind` where there is a `before` too */
};

static void cut_fini(struct span_set *set, struct cut *cut)
{
    span_fini(&cut->before);
    span_fini(&cut->part);
    span_fini(&cut->behind);
    if (cut->extra)
        node_put(set, cut->extra);
}

static int cut_make(struct span_set *set, const struct msg_span *span, uint64_t first,
                    uint32_t count, bool part_wanted, struct cut *ret_cut)
{
    struct cut cut = {.extra = NULL};
    const uint64_t end = first + count;
    const uint32_t before = (uint32_t)(first - span->first);
    const uint32_t behind = span->count - before - count;
    int error = part_wanted ? span_slice(span, first, count, &cut.part) : 0;
    if (!error && before)
        error = span_slice(span, span->first, before, &cut.before);
    if (!error && behind)
        error = span_slice(span, end, behind, &cut.behind);
    if (!error && before && behind && !(cut.extra = node_get(set)))
        error = FARPOOL_ENOMEM;
    if (error) {
        cut_fini(set, &cut);
        return error;
    }
    *ret_cut = cut;
    return 0;
}

int span_set_take(struct span_set *set, uint64_t first, uint32_t count,
                  struct span_item *ret_item)
{
    struct node *node = holding(set, first);
    if (!node || count < 1 || count > node_end(node) - first)
        return FARPOOL_EINVAL;
    if (count == node->item.span.count) {
        take_whole(set, node, ret_item);
        return 0;
    }
    struct cut cut;
    const int error =
        cut_make(set, &node->item.span, first, count, ret_item != NULL, &cut);
    if (error)
        return error;
    count_out(set, &node->item.span);
    span_fini(&node->item.span);
    /* The node keeps its place: what is left of it lies within what it held. */
    node->item.span = cut.before.count ? cut.before : cut.behind;
    count_in(set, &node->item.span);
    if (cut.extra) {
        cut.extra->item = node->item;
        cut.extra->item.span = cut.behind;
        RB_INSERT(tree, &set->tree, cut.extra);
        count_in(set, &cut.behind);
    }
    if (ret_item) {
        *ret_item = node->item;
        ret_item->span = cut.part;
    }
    return 0;
}

int span_set_take_first(struct span_set *set, uint32_t tasks, uint32_t chunk,
                        struct span_item *ret_item)
{
    const struct node *node = lowest(set);
    if (!node)
        return FARPOOL_END;
    const uint64_t first = node->item.span.first;
    uint32_t count = node->item.span.count;
    if (tasks < count) {
        const uint64_t end = first + (tasks ? tasks : 1);
        const uint64_t boundary = end - end % chunk;
        count = (uint32_t)((boundary > first ? boundary : end) - first);
    }
    return span_set_take(set, first, count, ret_item);
}

int span_set_take_last(struct span_set *set, uint32_t tasks, uint32_t chunk,
                       struct span_item *ret_item)
{
    const struct node *node = highest(set);
    if (!node)
        return FARPOOL_END;
    const uint64_t end = node_end(node);
    uint64_t first = node->item.span.first;
    if (tasks < node->item.span.count) {
        first = end - (tasks ? tasks : 1);
        const uint64_t ahead = (chunk - first % chunk) % chunk;
        if (ahead < end - first)
            first += ahead;
    }
    return span_set_take(set, first, (uint32_t)(end - first), ret_item);
}

int span_set_cut(struct span_set *set, uint64_t index)
{
    struct node *node = holding(set, index);
    if (!node || node->item.span.first == index)
        return 0;
    struct node *extra = node_get(set);
    if (!extra)
        return FARPOOL_ENOMEM;
    struct cut cut;
    const uint32_t behind = (uint32_t)(node_end(node) - index);
    const int error = cut_make(set, &node->item.span, index, behind, true, &cut);
    if (error) {
        node_put(set, extra);
        return error;
    }
    count_out(set, &node->item.span);
    span_fini(&node->item.span);
    node->item.span = cut.before;
    count_in(set, &node->item.span);
    extra->item = node->item;
    extra->item.span = cut.part;
    RB_INSERT(tree, &set->tree, extra);
    count_in(set, &extra->item.span);
    return 0;
}

void span_set_move(struct span_set *from, uint64_t first, struct span_set *to,
                   uint32_t attempt, uint64_t tag, uint64_t tag2)
{
    struct node *node = holding(from, first);
    assert(node && node->item.span.first == first);
    count_out(from, &node->item.span);
    RB_REMOVE(tree, &from->tree, node);
    const struct node *behind = at_or_after(to, first); /* `to` may be `from` */
    assert(!behind || behind->item.span.first >= node_end(node));
    node->item.span.attempt = attempt;
    node->item.tag = tag;
    node->item.tag2 = tag2;
    RB_INSERT(tree, &to->tree, node);
    count_in(to, &node->item.span);
}

void span_set_check(const struct span_set *set)
{
    size_t items = 0;
    uint64_t tasks = 0, bytes = 0, end = 0;
    for (const struct span_item *item = span_set_first(set); item;
         item = span_set_next(set, item)) {
        const struct msg_span *span = &item->span;
        assert(span->count >= 1 && span->first <= UINT64_MAX - span->count);
        assert(!items || span->first >= end);
        assert(!span->sizes || span->sizes->size == (uint64_t)4 * span->count);
        assert(span->sizes || span_bytes(span) % span->count == 0);
        end = span->first + span->count;
        items++;
        tasks += span->count;
        bytes += span_bytes(span);
    }
    assert(items == set->items && tasks == set->tasks && bytes == set->bytes);
}
