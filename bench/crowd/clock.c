/* SPDX-License-Identifier: Apache-2.0
 *
 * clock.c: the timers of a crowd and its loop. Virtual time jumps from timer to timer,
 * those of one instant in the order in which they were set; real time is waited for. */
#include "crowd.h"

#include "common/sys/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED 0x9e3779b97f4a7c15u

_Noreturn void crowd_fail(const char *what, const char *why)
{
    fprintf(stderr, "farpool-bench: %s: %s\n", what, why);
    exit(1);
}

void *crowd_need(void *memory)
{
    if (memory == NULL)
        crowd_fail("memory", "there is none");
    return memory;
}

void *crowd_add(struct list *list, size_t size)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity > 0 ? 2 * list->capacity : 4;
        list->items = crowd_need(realloc(list->items, list->capacity * size));
    }
    void *element = (char *)list->items + list->count++ * size;
    return memset(element, 0, size);
}

uint64_t crowd_now_ms(const struct crowd *crowd)
{
    return crowd->now_us / 1000;
}

struct id crowd_id(struct crowd *crowd)
{
    struct id id;
    for (size_t i = 0; i < sizeof id.bytes; i++)
        id.bytes[i] = (uint8_t)rng_next(&crowd->rng);
    return id;
}

/* -------------------------------------------------------------------- timers */

static bool is_before(const struct timer *a, const struct timer *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct timer *a, struct timer *b)
{
    const struct timer other = *a;
    *a = *b;
    *b = other;
}

void crowd_at(struct crowd *crowd, uint64_t at_us,
              void (*call)(struct crowd *, void *, uint64_t, uint64_t), void *object,
              uint64_t number, uint64_t epoch)
{
    if (crowd->heap_count == crowd->heap_capacity) {
        crowd->heap_capacity = crowd->heap_capacity > 0 ? 2 * crowd->heap_capacity : 1024;
        crowd->heap =
            crowd_need(realloc(crowd->heap, crowd->heap_capacity * sizeof *crowd->heap));
    }
    size_t place = crowd->heap_count++;
    crowd->heap[place] = (struct timer){at_us < crowd->now_us ? crowd->now_us : at_us,
                                        crowd->order++,
                                        call,
                                        object,
                                        number,
                                        epoch};
    while (place > 0 && is_before(&crowd->heap[place], &crowd->heap[(place - 1) / 2])) {
        swap(&crowd->heap[place], &crowd->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
}

static struct timer take(struct crowd *crowd)
{
    struct timer *heap = crowd->heap;
    const struct timer first = heap[0];
    size_t place = 0, least = 0;
    heap[0] = heap[--crowd->heap_count];
    do {
        swap(&heap[place], &heap[least]);
        place = least;
        for (size_t child = 2 * place + 1; child <= 2 * place + 2; child++)
            if (child < crowd->heap_count && is_before(&heap[child], &heap[least]))
                least = child;
    } while (least != place);
    return first;
}

uint64_t crowd_deadline_us(const struct crowd *crowd)
{
    return crowd->heap_count > 0 ? crowd->heap[0].at_us : CROWD_FOREVER;
}

/* ---------------------------------------------------------------------- loop */

bool crowd_turn(struct crowd *crowd)
{
    const bool real = crowd->wire != NULL;
    if (crowd->heap_count == 0 || (real && crowd->heap[0].at_us > crowd->now_us))
        return false;
    const struct timer timer = take(crowd);
    if (!real)
        crowd->now_us = timer.at_us;
    timer.call(crowd, timer.object, timer.number, timer.epoch);
    return true;
}

void crowd_run(struct crowd *crowd, uint64_t until_us, bool (*stop)(struct crowd *))
{
    while (crowd->now_us < until_us && !(stop != NULL && stop(crowd))) {
        if (crowd->wire != NULL) {
            crowd_wire_wait(crowd, until_us);
            while (crowd_turn(crowd))
                ;
        } else if (crowd_deadline_us(crowd) >= until_us) {
            crowd->now_us = until_us;
        } else {
            crowd_turn(crowd);
        }
    }
}

void crowd_create(const struct crowd_options *options, struct crowd *ret_crowd)
{
    *ret_crowd = (struct crowd){.options = *options, .rng = SEED};
    ret_crowd->nodes = crowd_need(calloc(options->nodes + 1, sizeof *ret_crowd->nodes));
    ret_crowd->apps = crowd_need(calloc(options->apps + 1, sizeof *ret_crowd->apps));
    for (uint32_t i = 0; i < options->nodes + options->apps; i++) {
        struct peer *peer = crowd_peer(ret_crowd, i);
        *peer = (struct peer){.crowd = ret_crowd,
                              .place = i,
                              .worker = i < options->nodes,
                              .wake_at_us = CROWD_FOREVER};
    }
    if (options->address != NULL)
        crowd_wire_start(ret_crowd);
    else
        crowd_hub_start(ret_crowd);
    for (uint32_t i = 0; i < options->nodes; i++)
        crowd_node_start(ret_crowd, &ret_crowd->nodes[i]);
    for (uint32_t i = 0; i < options->apps; i++)
        crowd_app_start(ret_crowd, &ret_crowd->apps[i]);
}
