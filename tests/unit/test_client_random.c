/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_random.c: a client core against a coordinator that does at random what a
 * coordinator may do, and what it may not: results in pieces, twice, stale or invented,
 * failures, losses, links that come and go. Whatever happens, each task ends exactly
 * once, the window is kept, and the same seed gives the same effects. The same is run
 * with each allocation failing in turn: a step that had no memory changed nothing. */
#include "tests/unit/client_script.h"

#define JOBS 6
#define TASKS 60      /* of a job at most */
#define RECEIVED 4000 /* spans that the coordinator remembers */
#define WINDOW 40

enum outcome { NONE, ENDED };

struct model_job {
    uint64_t number;
    uint64_t next, consumed, ended_count;
    bool lazy, input_ended, over, freed;
    uint8_t outcome[TASKS];
    bool done[TASKS];
};

struct received {
    uint64_t job, first;
    uint32_t count, attempt;
};

struct model {
    struct script script;
    uint64_t random, trace;
    struct model_job jobs[JOBS];
    size_t jobs_count;
    struct received received[RECEIVED];
    size_t received_count;
    bool up, pool_ended;
};

static void note(uint64_t *trace, uint64_t value)
{
    *trace = (*trace ^ value) * 1099511628211u;
}

static struct model_job *find(struct model *model, uint64_t number)
{
    for (size_t i = 0; i < model->jobs_count; i++)
        if (model->jobs[i].number == number)
            return &model->jobs[i];
    return NULL;
}

static void end_task(struct model_job *job, uint64_t index, bool done)
{
    assert_non_null(job);
    assert_false(job->freed || job->over);
    assert_true(index < job->next);
    assert_int_equal(job->outcome[index], NONE); /* exactly once */
    job->outcome[index] = ENDED;
    job->done[index] = done;
    job->ended_count++;
}

static void take_tasks(struct model *model, const struct message *message)
{
    for (uint32_t i = 0; i < message->tasks.spans_count; i++) {
        const struct msg_span *span = &message->tasks.spans[i];
        assert_true(model->received_count < RECEIVED);
        model->received[model->received_count++] = (struct received){
            message->tasks.job, span->first, span->count, span->attempt};
    }
}

static void take_ended(struct model *model, uint64_t number)
{
    struct model_job *job = find(model, number);
    assert_true(job && job->input_ended && !job->over && !job->freed);
    assert_int_equal(job->ended_count, job->next); /* behind its last result */
    job->over = true;
}

static void take_message(struct model *model, const struct message *message)
{
    char text[512];
    message_print(message, text, sizeof text);
    for (const char *c = text; *c; c++)
        note(&model->trace, (uint8_t)*c);
    if (message->kind == MSG_TASKS)
        take_tasks(model, message);
}

static void take_effect(struct model *model, const struct client_effect *effect)
{
    note(&model->trace, effect->kind);
    note(&model->trace, effect->job ^ effect->first << 20 ^ effect->count << 40);
    switch (effect->kind) {
    case CLIENT_SEND:
        take_message(model, effect->message);
        break;
    case CLIENT_DONE:
        for (uint64_t i = 0; i < effect->count; i++) {
            end_task(find(model, effect->job), effect->first + i, true);
            assert_int_equal(effect->data->data[i * (effect->data->size / effect->count)],
                             (effect->first + i) & 255);
        }
        break;
    case CLIENT_FAILED:
        if (!effect->count)
            end_task(find(model, effect->job), effect->failed.index, false);
        for (uint64_t i = 0; i < effect->count; i++)
            end_task(find(model, effect->job), effect->first + i, false);
        break;
    case CLIENT_JOB_ENDED:
        take_ended(model, effect->job);
        break;
    case CLIENT_RELINK:
        model->up = false;
        break;
    case CLIENT_POOL_ENDED:
        model->pool_ended = true;
        break;
    default:
        break;
    }
}

/* What can be seen of the core, as one number. */
static uint64_t look(const struct model *model)
{
    uint64_t seen = 0;
    struct client_pool_counts pool;
    client_core_pool_counts(model->script.core, &pool);
    note(&seen, pool.connected);
    note(&seen, client_core_deadline(model->script.core));
    for (size_t i = 0; i < model->jobs_count; i++) {
        struct client_job_counts job;
        if (!client_core_job_counts(model->script.core, model->jobs[i].number, &job))
            continue;
        note(&seen, i << 32 | job.pulled);
        note(&seen, job.done << 32 | job.failed);
        note(&seen, job.waiting << 1 | job.input_ended);
    }
    return seen;
}

/* One event, tried again as long as there is no memory for it. */
static int act(struct model *model, struct client_event *event)
{
    script_forget(&model->script);
    const uint64_t before = look(model);
    int result = script_step(&model->script, event);
    while (result == FARPOOL_ENOMEM) {
        assert_true(look(model) == before);
        assert_int_equal(model->script.effects.count, 0);
        result = script_step(&model->script, event);
    }
    for (size_t i = 0; i < model->script.effects.count; i++)
        take_effect(model, &model->script.effects.items[i]);
    return result;
}

/* Of a job, or of none (0). */
static void act_kind(struct model *model, enum client_event_kind kind, uint64_t job)
{
    assert_int_equal(act(model, &(struct client_event){.kind = kind, .job = job}), 0);
}

static void act_message(struct model *model, struct message *message)
{
    struct client_event event = {.kind = CLIENT_MESSAGE, .message = message};
    assert_int_equal(act(model, &event), 0);
}

/* More inputs of a job. */
static void act_input(struct model *model, struct model_job *job, uint64_t count)
{
    struct client_event event = {.kind = CLIENT_JOB_INPUT,
                                 .job = job->number,
                                 .span = script_span(job->next, (uint32_t)count, 10)};
    job->next += count;
    assert_int_equal(act(model, &event), 0);
}

static uint64_t below(struct model *model, uint64_t bound)
{
    return rng_below(&model->random, bound);
}

/* ------------------------------------------------------------------- actions */

static void link_up(struct model *model)
{
    act_kind(model, CLIENT_LINK_UP, 0);
    act_message(model, script_make_welcome(WINDOW, 100000));
    model->up = true;
}

static void open_job(struct model *model)
{
    if (model->jobs_count == JOBS)
        return;
    struct client_job_options *options = &model->script.options;
    options->losses_max = 1 + (uint32_t)below(model, 3);
    options->retries = (uint32_t)below(model, 3);
    options->priority = (int32_t)below(model, 3);
    options->chunk = below(model, 2) ? 0 : 1 + (uint32_t)below(model, 9);
    options->lazy = below(model, 3) == 0;
    options->tasks_under_way = below(model, 2) ? 0 : 1 + below(model, 30);
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = options};
    assert_int_equal(act(model, &event), 0);
    model->jobs[model->jobs_count++] =
        (struct model_job){.number = event.job, .lazy = options->lazy};
}

static struct model_job *any_job(struct model *model)
{
    return model->jobs_count ? &model->jobs[below(model, model->jobs_count)] : NULL;
}

static void add_input(struct model *model, struct model_job *job)
{
    const uint64_t room = TASKS - job->next;
    if (job->lazy || job->input_ended || job->freed || !room)
        return;
    act_input(model, job, 1 + below(model, room));
}

static void end_input(struct model *model, struct model_job *job)
{
    if (job->input_ended || job->freed)
        return;
    job->input_ended = true;
    act_kind(model, CLIENT_JOB_INPUT_END, job->number);
}

/* Answers what a FLUSH wanted, if anything. */
static void feed(struct model *model)
{
    struct client_effects *effects = &model->script.effects;
    uint64_t number = 0, count = 0;
    for (size_t i = 0; i < effects->count; i++)
        if (effects->items[i].kind == CLIENT_INPUT_WANTED) {
            number = effects->items[i].job;
            count = effects->items[i].count;
        }
    struct model_job *job = number ? find(model, number) : NULL;
    if (!job)
        return;
    if (count > TASKS - job->next)
        count = TASKS - job->next;
    if (count)
        act_input(model, job, count);
    else
        end_input(model, job);
}

static void flush(struct model *model)
{
    act_kind(model, CLIENT_FLUSH, 0);
    feed(model);
}

/* The reader takes what has ended; it goes by counts, the order is no matter here. */
static void consume(struct model *model, struct model_job *job)
{
    if (!job->lazy || job->over || job->freed || job->consumed == job->ended_count)
        return;
    struct client_event event = {.kind = CLIENT_JOB_CONSUMED,
                                 .job = job->number,
                                 .count = job->ended_count - job->consumed};
    job->consumed = job->ended_count;
    assert_int_equal(act(model, &event), 0);
}

static void cancel(struct model *model, struct model_job *job)
{
    if (job->over || job->freed)
        return;
    const uint64_t before = job->ended_count;
    struct client_event event = {.kind = CLIENT_JOB_CANCEL,
                                 .job = job->number,
                                 .first = below(model, TASKS),
                                 .count = 1 + below(model, 5),
                                 .kill = below(model, 2)};
    assert_int_equal(act(model, &event), 0);
    assert_int_equal(event.count, job->ended_count - before);
}

static void free_job(struct model *model, struct model_job *job)
{
    if (job->over || job->freed)
        return;
    act_kind(model, CLIENT_JOB_FREE, job->number);
    job->freed = true;
}

/* Part of something that was sent at some time, with its attempt or another. */
static bool any_part(struct model *model, struct received *ret_part)
{
    if (!model->received_count || !model->up)
        return false;
    struct received part = model->received[below(model, model->received_count)];
    const uint32_t skip = (uint32_t)below(model, part.count);
    part.first += skip;
    part.count = 1 + (uint32_t)below(model, part.count - skip);
    if (below(model, 10) == 0)
        part.attempt = 1 + (uint32_t)below(model, 3);
    if (below(model, 20) == 0)
        part.count += 10;
    *ret_part = part;
    return true;
}

static void result(struct model *model)
{
    struct received part;
    if (any_part(model, &part))
        act_message(model, script_make_done(&model->script, part.job, part.first,
                                            part.count, part.attempt, 3));
}

static void failure(struct model *model)
{
    static const int codes[] = {FARPOOL_EFUNCTION, FARPOOL_EPROCESSLOST,
                                FARPOOL_ETASKTIMEOUT, FARPOOL_ETOOBIG};
    struct received part;
    if (any_part(model, &part))
        act_message(model, script_make_failed(&model->script, part.job, part.first,
                                              part.attempt, codes[below(model, 4)]));
}

static void loss(struct model *model)
{
    struct received part;
    if (any_part(model, &part))
        act_message(model, script_make_lost(part.job, part.first, part.count,
                                            below(model, 2) ? part.attempt : 0,
                                            below(model, 2) ? FARPOOL_ENODELOST
                                                            : FARPOOL_EDRAINED));
}

static void change_link(struct model *model)
{
    if (!model->up) {
        link_up(model);
    } else {
        model->up = false;
        act_kind(model, CLIENT_LINK_DOWN, 0);
    }
}

static void any_action(struct model *model)
{
    struct model_job *job = any_job(model);
    model->script.now_ms += below(model, 20);
    switch (below(model, 16)) {
    case 0:
        open_job(model);
        break;
    case 1:
    case 2:
        if (job)
            add_input(model, job);
        break;
    case 3:
        if (job && below(model, 8) == 0)
            end_input(model, job);
        break;
    case 4:
        if (job)
            consume(model, job);
        break;
    case 5:
        if (job)
            cancel(model, job);
        break;
    case 6:
        if (job && below(model, 12) == 0)
            free_job(model, job);
        break;
    case 7:
    case 8:
        failure(model);
        break;
    case 9:
        loss(model);
        break;
    case 10:
        if (below(model, 4) == 0)
            change_link(model);
        break;
    case 11:
    case 12:
        result(model);
        break;
    default:
        flush(model);
        break;
    }
}

/* --------------------------------------------------------------------- a run */

static bool all_over(const struct model *model)
{
    for (size_t i = 0; i < model->jobs_count; i++)
        if (!model->jobs[i].over && !model->jobs[i].freed)
            return false;
    return true;
}

/* A coordinator that does its work: everything it ever got succeeds. */
static void finish(struct model *model)
{
    if (!model->up)
        link_up(model);
    for (size_t i = 0; i < model->jobs_count; i++)
        end_input(model, &model->jobs[i]);
    act_kind(model, CLIENT_CLOSE, 0);
    for (int round = 0; round < 200 && !all_over(model); round++) {
        flush(model);
        for (size_t i = 0; i < model->received_count; i++) {
            const struct received *part = &model->received[i];
            act_message(model, script_make_done(&model->script, part->job, part->first,
                                                part->count, part->attempt, 3));
        }
        model->received_count = 0;
        model->script.now_ms += 20;
    }
    assert_true(all_over(model));
    flush(model);
    flush(model);
    struct message *closed = script_make(MSG_POOL_CLOSED);
    closed->pool_closed.pool = SCRIPT_POOL;
    act_message(model, closed);
    flush(model);
    assert_true(model->pool_ended);
}

/* Returns the trace, as one number. */
static uint64_t run(uint64_t seed, int actions, size_t fail_at, size_t *ret_allocations)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.random = seed;
    script_create(&model.script, false);
    mem_fail_after(fail_at);
    link_up(&model);
    for (int i = 0; i < actions; i++)
        any_action(&model);
    finish(&model);
    *ret_allocations = mem_fail_after(0);
    script_fini(&model.script);
    return model.trace;
}

static void test_each_task_ends_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        size_t allocations;
        run(seed, 400, 0, &allocations);
    }
}

static void test_same_seed_same_effects(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        size_t allocations;
        const uint64_t trace = run(seed, 400, 0, &allocations);
        assert_true(trace == run(seed, 400, 0, &allocations));
        assert_true(trace != last);
        last = trace;
    }
}

static void test_each_allocation_fails(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        size_t total, again;
        run(seed, 120, 0, &total);
        assert_true(total > 100);
        for (size_t i = 1; i <= total; i++)
            run(seed, 120, i, &again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_task_ends_once),
        cmocka_unit_test(test_same_seed_same_effects),
        cmocka_unit_test(test_each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
