/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_memory.c: one long scripted scenario, run again and again with the
 * i-th allocation failing, for every i: a step that fails changes nothing and succeeds
 * when it is tried again, and what comes out in the end is the same. And run twice
 * without: the same effects, byte by byte as they print. */
#include "tests/unit/coordinator_script.h"

#define LOG_BYTES (1 << 20)
#define KINDS 9

struct run {
    struct script script;
    size_t fail_after; /* this allocation; 0: none */
    size_t made;       /* allocations of all steps */
    uint64_t failures;
    char *log; /* every effect, a line each */
    size_t log_size;
    uint64_t told[KINDS]; /* messages, see note() */
    uint64_t tasks;
    struct id ticket; /* of the last INTRODUCE */
};

static void note(struct run *run, const struct coordinator_effect *effect)
{
    char line[2048];
    static const enum message_kind kinds[KINDS] = {
        MSG_TASKS,      MSG_DONE,      MSG_LOST,       MSG_JOB_CLOSE, MSG_POOL_CLOSED,
        MSG_POOL_CLOSE, MSG_INTRODUCE, MSG_INTRODUCED, MSG_WITHDRAW};
    if (effect->kind == COORDINATOR_DROP)
        snprintf(line, sizeof line, "drop %d %s", effect->code, effect->text);
    else
        message_print(effect->message, line, sizeof line);
    const size_t left = LOG_BYTES - run->log_size;
    const int size = snprintf(run->log + run->log_size, left, "%llu %s\n",
                              (unsigned long long)effect->link, line);
    assert_true(size > 0 && (size_t)size < left);
    run->log_size += (size_t)size;
    if (effect->kind == COORDINATOR_DROP)
        return;
    for (int i = 0; i < KINDS; i++)
        run->told[i] += effect->message->kind == kinds[i];
    if (effect->message->kind == MSG_INTRODUCE)
        run->ticket = effect->message->introduce.ticket;
    if (effect->message->kind == MSG_TASKS)
        run->tasks += tasks_in(effect->message);
}

static void step(struct run *run, struct coordinator_event *event)
{
    struct script *script = &run->script;
    const size_t before = script->effects.count;
    const struct message *message = event->message;
    event->now_ms = script->now_ms;
    mem_fail_after(run->fail_after > run->made ? run->fail_after - run->made : 0);
    int result = coordinator_core_step(script->core, event, &script->effects);
    run->made += mem_fail_after(0);
    coordinator_core_check(script->core);
    if (result) {
        assert_int_equal(result, FARPOOL_ENOMEM);
        assert_int_equal(script->effects.count, before);
        assert_ptr_equal(event->message, message);
        run->failures++;
        result = coordinator_core_step(script->core, event, &script->effects);
        coordinator_core_check(script->core);
    }
    assert_int_equal(result, 0);
    assert_null(event->message);
}

static void say(struct run *run, uint64_t link, struct message *message)
{
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = link, .message = message};
    if (link > run->script.links)
        run->script.links = link;
    step(run, &event);
}

static void down(struct run *run, uint64_t link)
{
    struct coordinator_event event = {.kind = COORDINATOR_LINK_DOWN, .link = link};
    step(run, &event);
}

/* FLUSH until nothing is left that had no memory. */
static void flush(struct run *run)
{
    struct script *script = &run->script;
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH};
    const size_t made = run->made;
    step(run, &event);
    if (run->fail_after > made && run->fail_after <= run->made) {
        assert_true(coordinator_core_deadline(script->core) <= script->now_ms + 10);
        run->failures++;
        step(run, &event);
    }
    for (size_t i = 0; i < script->effects.count; i++)
        note(run, &script->effects.items[i]);
    script_forget(script);
}

static void pass(struct run *run, uint64_t ms)
{
    run->script.now_ms += ms;
    flush(run);
}

static struct message *with_argument(struct message *open)
{
    open->pool_open.argument = payload_copy("abc", 3);
    open->pool_open.files = mem_alloc(sizeof *open->pool_open.files);
    open->pool_open.files_count = 1;
    return open;
}

static struct message *finished(uint8_t pool)
{
    struct message *message = message_create(MSG_RESUMED);
    message->resumed.pool = make_id(pool);
    return message;
}

/* A restart: two workers, one of which held tasks, then their client. */
static void play_restart(struct run *run)
{
    struct script *script = &run->script;
    script->previous = make_id(99);
    say(run, 1, hello_worker(script, 10, 2));
    say(run, 1, held(1, 1, 5, 10));
    say(run, 1, held(1, 3, 0, 2));
    say(run, 1, done(script, 10, 1, 1, 15, 3, 1000));
    script->previous = script->config.coordinator;
    say(run, 2, hello_worker(script, 11, 1));
    flush(run);
    say(run, 3, hello_client(1));
    say(run, 3, with_argument(pool_open(1, 0)));
    say(run, 3, job_resumed(1, 1));
    say(run, 3, tasks(1, 1, 0, 12));
    say(run, 3, tasks(1, 1, 12, 100));
    say(run, 3, tasks_try(1, 1, 200, 3, 8, 2));
    say(run, 1, held(1, 1, 199, 5));
    say(run, 3, finished(1));
    flush(run);
    pass(run, 1500);
    say(run, 1, returned(1, 1, 7, 1));
    say(run, 1, returned(1, 1, 203, 1)); /* without input */
    pass(run, 1000);
    for (uint64_t link = 1; link <= 3; link++)
        say(run, link, message_create(MSG_HEARTBEAT));
    pass(run, 600); /* job 3 is not wanted */
}

/* Not what it does, which test_coordinator_admin.c tells: that it is all or nothing. */
static void play_operator(struct run *run)
{
    struct script *script = &run->script;
    say(run, 9, hello_client(9));
    struct message *cancel_job = message_create(MSG_CANCEL_JOB);
    cancel_job->cancel_job.pool = make_id(2); /* both of its clients are told */
    say(run, 9, cancel_job);
    script->previous = (struct id){{0}};
    say(run, 10, hello_worker(script, 13, 1));
    struct message *drain = message_create(MSG_DRAIN_NODE);
    snprintf(drain->drain_node.node, sizeof drain->drain_node.node, "node13");
    say(run, 9, drain);
    say(run, 9, message_create(MSG_STATUS_GET));
    flush(run);
    down(run, 10);
    down(run, 9);
    flush(run);
}

static void play_work(struct run *run)
{
    struct script *script = &run->script;
    say(run, 4, hello_client(2));
    say(run, 4, pool_open(2, 2)); /* with a limit */
    say(run, 4, job_open(2, 1, 5, 10));
    say(run, 4, tasks(2, 1, 0, 55));
    flush(run);
    say(run, 5, hello_client(3));
    say(run, 5, pool_attach(2));
    say(run, 5, job_open(2, 70, 0, 0));
    say(run, 5, tasks(2, 70, 0, 4));
    flush(run);
    say(run, 1, load(3, 5, 2, 1, 2, 1000));
    say(run, 1, done_try(script, 10, 2, 1, 3, 4, 2000, 1));
    say(run, 2, failed(script, 11, 2, 1, 10, FARPOOL_EFUNCTION));
    flush(run);
    say(run, 4, ack(2, 10, 0, 3));
    say(run, 4, cancel(2, 1, 1, 30));
    say(run, 4, cancel(2, 1, 52, 1));
    struct message *get = message_create(MSG_STATUS_GET);
    say(run, 4, get);
    flush(run);
    play_operator(run);
    script->previous = script->config.coordinator;
    say(run, 6, hello_worker(script, 12, 4)); /* shares move, tasks are called back */
    flush(run);
    say(run, 2, pool_failed(2, FARPOOL_ELIBRARY));
    say(run, 2, returned(2, 1, 0, 100));
    flush(run);
    say(run, 1, message_create(MSG_DRAIN));
    flush(run);
}

/* Not who is introduced to whom, which test_coordinator_lane.c tells. */
static void play_lanes(struct run *run)
{
    struct script *script = &run->script;
    struct message *worker = hello_worker(script, 14, 1), *client = hello_client(5);
    snprintf(worker->hello_worker.lanes, sizeof worker->hello_worker.lanes, "tcp://a:1");
    client->hello_client.lanes = true;
    say(run, 11, worker);
    say(run, 12, client);
    say(run, 12, pool_open(5, 3));
    flush(run);
    struct message *expected = message_create(MSG_EXPECTED);
    expected->expected.ticket = run->ticket;
    say(run, 11, expected);
    struct message *lane = message_create(MSG_LANE);
    lane->lane.ticket = run->ticket;
    lane->lane.up = true;
    say(run, 12, lane);
    flush(run);
    down(run, 11);
    down(run, 12);
    flush(run);
}

static void play_ends(struct run *run)
{
    struct script *script = &run->script;
    down(run, 5);                             /* the nested client */
    say(run, 7, hello_worker(script, 12, 4)); /* again, on another link */
    flush(run);
    down(run, 2);
    flush(run);
    say(run, 3, job_close(1, 1));
    say(run, 3, pool_close(1, false));
    flush(run);
    say(run, 1, held(77, 0, 0, 0)); /* of a pool that nobody opens */
    say(run, 1, pool_closed(1));
    say(run, 7, pool_closed(1));
    flush(run);
    say(run, 8, hello_client(2)); /* again, too */
    say(run, 8, pool_open(2, 0));
    flush(run);
    say(run, 7, message_create(MSG_HEARTBEAT));
    pass(run, 4999);
    say(run, 7, tasks(1, 1, 0, 1)); /* breaks a rule */
    pass(run, 5000);
}

static void play(struct run *run, size_t fail_after)
{
    *run = (struct run){.fail_after = fail_after};
    run->log = mem_alloc(LOG_BYTES);
    coordinator_config_init(&run->script.config);
    run->script.config.ticket = script_ticket;
    script_begin(&run->script);
    play_restart(run);
    play_work(run);
    play_lanes(run);
    play_ends(run);
    const struct coordinator_counts counts = script_counts(&run->script);
    assert_int_equal(counts.workers + counts.clients + counts.pools + counts.jobs, 0);
    assert_int_equal(counts.waiting + counts.assigned, 0);
    script_end(&run->script);
}

static void test_every_allocation(void **state)
{
    struct run plain, run;
    uint64_t failures = 0;
    (void)state;
    play(&plain, 0);
    assert_int_equal(plain.failures, 0);
    assert_true(plain.made > 200);
    for (int i = 0; i < KINDS; i++)
        assert_true(plain.told[i] > 0); /* the scenario is what it claims to be */
    for (size_t i = 1; i <= plain.made; i++) {
        play(&run, i);
        /* Openings may be told in another order or once more, but not what counts. */
        for (int k = 1; k < KINDS; k++)
            assert_int_equal(run.told[k], plain.told[k]);
        assert_int_equal(run.tasks, plain.tasks);
        failures += run.failures;
        mem_free(run.log);
    }
    assert_true(failures >= plain.made / 2);
    mem_free(plain.log);
}

static void test_deterministic(void **state)
{
    struct run first, second;
    (void)state;
    play(&first, 0);
    play(&second, 0);
    assert_true(first.log_size > 5000);
    assert_string_equal(first.log, second.log);
    mem_free(first.log);
    mem_free(second.log);
}

static void test_create(void **state)
{
    struct coordinator_config config;
    struct coordinator_core *core = NULL;
    (void)state;
    coordinator_config_init(&config);
    mem_fail_after(1);
    assert_int_equal(coordinator_core_create(&config, 0, &core), FARPOOL_ENOMEM);
    mem_fail_after(0);
    assert_null(core);
    coordinator_core_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
