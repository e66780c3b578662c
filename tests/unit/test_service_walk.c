/* SPDX-License-Identifier: Apache-2.0
 *
 * The service of detached jobs in random walks: a job is submitted, run and collected
 * while its coordinator crashes (all but what was committed is gone), its store fails at
 * any call, its allocations fail, its link is cut, workers lose tasks, and tasks fail.
 * Checked on the way: nothing is ACKed and no attempt sent that is not on the disk; in
 * each life the pool, the job and the attempts are those of the last. At the end each
 * task has one result; of a job that must run no task twice none was begun twice. */
#include "service_world.h"

#define WALKS 400
#define STEPS 400

static uint64_t wall_ms(void)
{
    return 1;
}

static void start(struct world *world)
{
    struct service_config config = {.folder = "",
                                    .bytes_max = 1 << 30,
                                    .keep_s = 1000000,
                                    .first_link = world->links,
                                    .seed = world_dice(world, UINT64_MAX),
                                    .wall_ms = wall_ms};
    int code;
    do {
        world_arm(world);
        code = service_create(&config, world->now_ms, &world->service);
        world_disarm(world);
    } while (code == FARPOOL_ENOMEM);
    assert_int_equal(code, 0);
}

/* What the worker has stays with it. */
static void crash(struct world *world)
{
    service_destroy(world->service);
    for (size_t i = 0; i < TASKS; i++)
        if (world->tasks[i].place == WAITING || world->tasks[i].place == MAYBE)
            world->tasks[i].place = NOWHERE;
    world->link = 0;
    world->closed = world->answered = world->waits = false;
    start(world);
}

/* ------------------------------------------------------------------------- who asks */

static void ask(struct world *world, struct message *message)
{
    struct service_in in = {.kind = SERVICE_REQUEST, .link = 7, .message = message};
    while (world->waits)
        world_turn(world);
    world->answered = false;
    world_arm(world);
    world->waits = service_take(world->service, &in, world->now_ms);
    world_disarm(world);
    message_free(&in.message);
}

static struct id submit_id(void)
{
    return (struct id){{5}};
}

static struct message *make_submit(const struct world *world)
{
    struct message *submit = message_create(MSG_SUBMIT);
    submit->submit.submit = submit_id();
    snprintf(submit->submit.name, sizeof submit->submit.name, "walk");
    snprintf(submit->submit.function, sizeof submit->submit.function, "f");
    submit->submit.losses_max = world->once ? 1 : LOSSES_MAX;
    submit->submit.retries = world->once ? 0 : RETRIES;
    submit->submit.files = mem_alloc(sizeof *submit->submit.files);
    submit->submit.files_count = 1;
    submit->submit.files[0].size = 8;
    snprintf(submit->submit.files[0].name, sizeof submit->submit.files[0].name, "f");
    return submit;
}

static struct message *make_tasks(void)
{
    struct message *tasks = message_create(MSG_SUBMIT_TASKS);
    struct payload *data = payload_create(TASKS * sizeof(uint64_t));
    for (uint64_t i = 0; i < TASKS; i++)
        memcpy(payload_bytes(data) + i * sizeof i, &i, sizeof i);
    tasks->submit_tasks.submit = submit_id();
    tasks->submit_tasks.spans = mem_alloc(sizeof *tasks->submit_tasks.spans);
    tasks->submit_tasks.spans_count = 1;
    tasks->submit_tasks.spans[0] =
        (struct msg_span){.count = TASKS, .attempt = 1, .data = data};
    return tasks;
}

static struct message *make_piece(void)
{
    struct message *blob = message_create(MSG_BLOB);
    blob->blob.pool = submit_id();
    blob->blob.data = payload_copy("program.", 8);
    return blob;
}

static struct message *make_end(void)
{
    struct message *end = message_create(MSG_SUBMIT_END);
    end->submit_end.submit = submit_id();
    end->submit_end.tasks = TASKS;
    return end;
}

/* The next word of a submission, by what was answered to the last. */
static void submit(struct world *world)
{
    const struct message *answer = world->answered ? world->answer : NULL;
    if (answer == NULL || (answer->kind == MSG_ANSWER && answer->answer.code != 0))
        ask(world, make_submit(world));
    else if (answer->kind == MSG_FETCH)
        ask(world, make_piece());
    else if (answer->answer.concerned)
        world->submit_stage = 1;
    else if (answer->answer.tasks < TASKS)
        ask(world, make_tasks());
    else
        ask(world, make_end());
}

/* --------------------------------------------------------------------- what happens */

static void begin(struct world *world, uint64_t index)
{
    struct world_task *task = &world->tasks[index];
    if (task->place == WAITING) {
        task->place = QUEUED;
    } else if (task->place == QUEUED) {
        task->place = RUNNING;
        if (!world->narrow) /* what is held is not run again */
            assert_true(task->attempt > task->begun);
        task->begun = task->attempt;
        task->begins++;
        if (world->once)
            assert_int_equal(task->begins, 1);
    }
}

static void end(struct world *world, uint64_t index)
{
    struct world_task *task = &world->tasks[index];
    static uint64_t seq;
    if (task->place != RUNNING || world->results_count == RESULTS_MAX)
        return;
    const uint64_t dice = world_dice(world, 10);
    task->place = NOWHERE;
    struct world_result *result = &world->results[world->results_count++];
    *result = (struct world_result){.seq = ++seq,
                                    .index = index,
                                    .attempt = task->attempt,
                                    .code = dice == 0   ? FARPOOL_EFUNCTION
                                            : dice == 1 ? FARPOOL_EPROCESSLOST
                                                        : 0};
    if (world->link != 0 && world->resumed) {
        const struct world_result copy = *result;
        world_tell_result(world, &copy);
    }
}

static void lose(struct world *world, uint64_t index)
{
    const enum place place = world->tasks[index].place;
    if (world->link == 0 || !world->resumed)
        return;
    if (place == QUEUED)
        world_lose(world, index, FARPOOL_EDRAINED);
    else if (place == RUNNING)
        world_lose(world, index, FARPOOL_ENODELOST);
}

static void cut(struct world *world)
{
    struct service_in in = {.kind = SERVICE_INNER_DOWN, .link = world->link};
    if (world->link == 0)
        return;
    world_kill_pool(world);
    service_take(world->service, &in, world->now_ms);
}

static void fail_store(struct world *world)
{
    static const int codes[] = {FARPOOL_EFULL, FARPOOL_ENOSPACE, FARPOOL_ESYSTEM,
                                FARPOOL_ENOMEM};
    memory_store_fail(1 + (unsigned)world_dice(world, 20), codes[world_dice(world, 4)]);
}

static void step(struct world *world, bool faults)
{
    const uint64_t index = world_dice(world, TASKS);
    switch (world_dice(world, faults ? 16 : 10)) {
    case 10:
        crash(world);
        break;
    case 11:
        cut(world);
        break;
    case 12:
        fail_store(world);
        break;
    case 13:
    case 14:
        lose(world, index);
        break;
    case 0:
    case 1:
        if (world->submit_stage == 0)
            submit(world);
        break;
    case 2:
        world->now_ms += world_dice(world, 2000);
        break;
    case 3:
    case 4:
    case 5:
        end(world, index);
        break;
    default:
        begin(world, index);
    }
    world_turn(world);
}

/* ------------------------------------------------------------------------- the end */

static void check_span(const struct msg_span *span, uint64_t *expected)
{
    for (uint32_t i = 0; i < span->count; i++) {
        const uint8_t *data;
        size_t size;
        uint64_t value;
        span_task(span, i, &data, &size);
        assert_int_equal(size, sizeof value);
        memcpy(&value, data, sizeof value);
        assert_int_equal(value, span->first + i + 1);
        ++*expected;
    }
}

static void check_failure(const struct world *world, const struct msg_failed *failed)
{
    const bool possible = failed->code == FARPOOL_EFUNCTION ||
                          failed->code == FARPOOL_EPROCESSLOST ||
                          failed->code == FARPOOL_ENODELOST;
    assert_true(world->once && possible); /* others are tried again */
}

static struct message *make_collect(const char *name)
{
    struct message *question = message_create(MSG_COLLECT);
    snprintf(question->collect.name, sizeof question->collect.name, "%s", name);
    question->collect.bytes = 1 << 20;
    return question;
}

static void collect(struct world *world)
{
    uint64_t count = 0;
    ask(world, make_collect("walk"));
    world_turn(world);
    assert_true(world->answered && world->answer->kind == MSG_COLLECTED);
    const struct message *answer = world->answer;
    assert_int_equal(answer->collected.code, 0);
    assert_int_equal(answer->collected.next, TASKS);
    assert_int_equal(answer->collected.rest_code, 0);
    for (uint32_t i = 0; i < answer->collected.spans_count; i++)
        check_span(&answer->collected.spans[i], &count);
    for (uint32_t i = 0; i < answer->collected.failures_count; i++, count++)
        check_failure(world, &answer->collected.failures[i]);
    assert_int_equal(count, TASKS);
}

static bool is_over(void)
{
    const struct store_job *job = memory_store_job(NULL);
    return job != NULL && job->state == STORE_ENDED;
}

static void tell_stuck(const struct world *world, uint64_t seed)
{
    const struct store_job *job = memory_store_job(NULL);
    char text[200] = "nothing";
    if (world->answer != NULL)
        message_print(world->answer, text, sizeof text);
    for (uint64_t i = 0; job != NULL && i < TASKS; i++)
        if (!memory_store_has_result(NULL, i))
            print_error("task %d: place %d, attempt %u, in the store %u\n", (int)i,
                        (int)world->tasks[i].place, world->tasks[i].attempt,
                        memory_store_attempt(NULL, i));
    fail_msg("walk %llu does not end: state %d, submitted %u, link %llu, answered %s",
             (unsigned long long)seed, job != NULL ? (int)job->state : -1,
             world->submit_stage, (unsigned long long)world->link, text);
}

/* A job's life; faults for so many steps. */
static bool walk(uint64_t seed, int faults, bool oom, size_t fail_at)
{
    static struct world world;
    world = (struct world){.rng = seed, .now_ms = 1000, .links = 1000, .oom = oom};
    world.once = seed % 2 == 0;
    world.narrow = seed % 5 == 0;
    world.left = fail_at;
    memory_store_clear();
    start(&world);
    for (int i = 0; i < faults && !is_over(); i++)
        step(&world, true);
    memory_store_fail(0, 0);
    world.oom = false;
    if (fail_at != 0) { /* in both lives */
        for (int i = 0; i < 400; i++)
            step(&world, false);
        crash(&world);
    }
    for (int i = 0; i < 100000 && !is_over(); i++)
        step(&world, false);
    if (!is_over())
        tell_stuck(&world, seed);
    world.now_ms += 10000; /* whatever has failed is tried again */
    world_turn(&world);
    const bool failed = fail_at != 0 && world.left == 0;
    world.left = 0;
    collect(&world);
    service_destroy(world.service);
    message_free(&world.answer);
    memory_store_clear();
    return failed;
}

static void test_walks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= WALKS; seed++)
        walk(seed, STEPS, false, 0);
}

static void test_walks_without_memory(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= WALKS; seed++)
        walk(seed, STEPS, true, 0);
}

static void test_each_allocation(void **state)
{
    (void)state;
    size_t at = 1;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        for (at = 1; walk(seed, 0, false, at); at++)
            ;
        print_message("seed %d: %zu allocations\n", (int)seed, at - 1);
        assert_true(at > 300);
    }
}

static void open_world(struct world *world)
{
    *world = (struct world){.rng = 1, .now_ms = 1000, .links = 1000};
    memory_store_clear();
    start(world);
}

static void close_world(struct world *world)
{
    world->left = 0;
    service_destroy(world->service);
    message_free(&world->answer);
    memory_store_clear();
}

/* A job that is cancelled when some of its tasks have ended. */
static void cancel_some(struct world *world)
{
    struct message *question = message_create(MSG_DETACHED_END);
    for (int i = 0; i < 400; i++)
        step(world, false);
    snprintf(question->detached_end.name, sizeof question->detached_end.name, "walk");
    ask(world, question);
    world_turn(world);
    assert_int_equal(memory_store_job(NULL)->state, STORE_CANCELLED);
    assert_true(memory_store_job(NULL)->done > 0);
}

/* An answer is whole, or tells why not. */
static void test_collects_without_memory(void **state)
{
    (void)state;
    static struct world world;
    size_t at = 1;
    open_world(&world);
    cancel_some(&world);
    do {
        world.left = 0;
        ask(&world, make_collect("none")); /* whose answer is not this one's */
        world_turn(&world);
        assert_int_equal(world.answer->collected.code, FARPOOL_ENOJOB);
        world.left = at++;
        ask(&world, make_collect("walk"));
        world_turn(&world);
        if (!world.answered) /* without memory for that: it is asked again */
            continue;
        assert_int_equal(world.answer->kind, MSG_COLLECTED);
        if (world.answer->collected.code != FARPOOL_ENOMEM) {
            assert_int_equal(world.answer->collected.code, 0);
            assert_int_equal(world.answer->collected.next, TASKS);
        }
    } while (world.left == 0);
    assert_true(at > 10);
    close_world(&world);
}

/* ------------------------------------------------------------------- a long list */

#define LISTED (LIST_MAX + 2) /* in two messages */

static void submit_many(struct world *world)
{
    for (unsigned i = 0; i < LISTED; i++) {
        struct message *message = make_submit(world);
        message->submit.submit = (struct id){{(uint8_t)i, (uint8_t)(i >> 8), 1}};
        snprintf(message->submit.name, sizeof message->submit.name, "job%u", i);
        ask(world, message);
        world_turn(world);
        assert_int_equal(world->answer->kind, MSG_FETCH);
    }
}

/* How many jobs a whole answer tells of; 0: the link was dropped. */
static size_t list(struct world *world)
{
    struct service_in in = {
        .kind = SERVICE_REQUEST, .link = 7, .message = message_create(MSG_DETACHED_GET)};
    size_t jobs = 0, count;
    bool more = true, dropped = false;
    world_arm(world);
    if (service_take(world->service, &in, world->now_ms))
        service_turn(world->service, world->now_ms);
    else
        dropped = true;
    world_disarm(world);
    message_free(&in.message);
    /* What had no memory to be handed over is, by the next turn. */
    service_turn(world->service, world->now_ms);
    const struct service_out *outs = service_outs(world->service, &count);
    for (size_t i = 0; i < count; i++) {
        dropped |= outs[i].kind == SERVICE_DROP;
        if (outs[i].kind != SERVICE_ANSWER)
            continue;
        assert_true(more);
        more = outs[i].message->detached.more;
        jobs += outs[i].message->detached.jobs_count;
    }
    service_clear(world->service);
    assert_true(dropped || !more);
    return dropped ? 0 : jobs;
}

/* Whole, or not at all: nobody takes a part of it for all, or waits for the rest. */
static void test_lists_without_memory(void **state)
{
    (void)state;
    static struct world world;
    size_t at = 1, dropped = 0, whole;
    open_world(&world);
    submit_many(&world);
    assert_int_equal(list(&world), LISTED);
    do {
        world.left = at++;
        whole = list(&world);
        assert_true(whole == 0 || whole == LISTED);
        dropped += whole == 0;
    } while (world.left == 0);
    print_message("%zu allocations\n", at - 2);
    assert_true(dropped >= 3);
    close_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_walks_without_memory),
        cmocka_unit_test(test_each_allocation),
        cmocka_unit_test(test_collects_without_memory),
        cmocka_unit_test(test_lists_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
