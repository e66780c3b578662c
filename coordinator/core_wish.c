/* SPDX-License-Identifier: Apache-2.0
 *
 * core_wish.c: what an operator asked for and was passed on, but whose effect was not
 * heard of yet: that a worker drains (until it says DRAIN), that a client ends a job
 * (until it says JOB_CLOSE). The link that it was passed on over may end first; so when
 * the same worker, or the same job's client, comes back, it is told again.
 *
 * A wish belongs to its worker or job, and is here between their lives. It is made before
 * the step changes anything, so that leaving it here needs no memory; a step that fails
 * unmakes what is `fresh`. Those of who never comes back end after WISH_MS. */
#include "coordinator/core_internal.h"

int kwish_make(struct wish **wish, const struct id *id, uint64_t job)
{
    if (*wish)
        return 0;
    struct wish *made = mem_alloc(sizeof *made);
    if (!made)
        return FARPOOL_ENOMEM;
    made->id = *id;
    made->job = job;
    made->fresh = true;
    *wish = made;
    return 0;
}

void kwish_unmake(struct wish **wish)
{
    if (*wish && (*wish)->fresh)
        kwish_free(wish);
}

void kwish_free(struct wish **wish)
{
    mem_free(*wish);
    *wish = NULL;
}

static void take_out(struct coordinator_core *core, struct wish *wish)
{
    TAILQ_REMOVE(&core->wishes, wish, entry);
    core->wishes_count--;
}

static void forget_first(struct coordinator_core *core)
{
    struct wish *wish = TAILQ_FIRST(&core->wishes);
    take_out(core, wish);
    mem_free(wish);
}

void kwish_leave(struct coordinator_core *core, struct wish **wish)
{
    if (!*wish)
        return;
    if (core->wishes_count == WISHES_MAX)
        forget_first(core);
    (*wish)->expires_ms = add_saturated(core->now_ms, WISH_MS);
    TAILQ_INSERT_TAIL(&core->wishes, *wish, entry);
    core->wishes_count++;
    *wish = NULL;
}

struct wish *kwish_find(const struct coordinator_core *core, const struct id *id,
                        uint64_t job)
{
    struct wish *wish;
    TAILQ_FOREACH (wish, &core->wishes, entry)
        if (wish->job == job && id_equal(&wish->id, id) &&
            core->now_ms < wish->expires_ms)
            return wish;
    return NULL;
}

struct wish *kwish_take(struct coordinator_core *core, struct wish *wish)
{
    if (wish)
        take_out(core, wish);
    return wish;
}

void kwish_flush(struct coordinator_core *core)
{
    const struct wish *wish;
    while ((wish = TAILQ_FIRST(&core->wishes)) && core->now_ms >= wish->expires_ms)
        forget_first(core);
}

void kwish_fini(struct coordinator_core *core)
{
    while (!TAILQ_EMPTY(&core->wishes))
        forget_first(core);
}
