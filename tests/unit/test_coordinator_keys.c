/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_keys.c: what each role's key may do, and whose a pool is. */
#include "tests/unit/coordinator_script.h"

static void refused_as(struct script *script, enum holder_role role,
                       struct message *hello)
{
    const uint64_t link = ++script->links;
    say_as(script, link, role, 9, hello);
    const struct message *message = script_refused(script, link, FARPOOL_EKEY);
    assert_non_null(strstr(message->refused.text, "\"key9\""));
    assert_non_null(strstr(message->refused.text, holder_role_name(role)));
    script_flush(script);
    script_quiet(script);
}

static void test_roles(void **state)
{
    struct script *script = *state;
    refused_as(script, HOLDER_CLIENT, hello_worker(script, 1, 2));
    refused_as(script, HOLDER_ADMIN, hello_worker(script, 1, 2));
    refused_as(script, HOLDER_RELAYED, hello_worker(script, 1, 2));
    refused_as(script, HOLDER_COORDINATOR, hello_worker(script, 1, 2));
    refused_as(script, HOLDER_WORKER, hello_client(1));
    refused_as(script, HOLDER_COORDINATOR, hello_client(1));
    assert_int_equal(script_counts(script).workers, 0);
    assert_int_equal(script_counts(script).clients, 0);
    join_as(script, HOLDER_WORKER, 1, hello_worker(script, 1, 2));
    join_as(script, HOLDER_CLIENT, 2, hello_client(2));
    join_as(script, HOLDER_ADMIN, 3, hello_client(3));
    assert_int_equal(script_counts(script).workers, 1);
    assert_int_equal(script_counts(script).clients, 2);
}

/* What counts is the key of a link's first message. */
static void test_first_message(void **state)
{
    struct script *script = *state;
    const uint64_t link = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    say_as(script, link, HOLDER_ADMIN, 2, keyed_open(1, 1));
    const uint64_t other = join_as(script, HOLDER_CLIENT, 2, hello_client(2));
    say_as(script, other, HOLDER_CLIENT, 1, message_create(MSG_STATUS_GET));
    assert_int_equal(script_take(script, other, MSG_STATUS)->status.pools_count, 0);
}

static const struct message *status_of(struct script *script, uint64_t link)
{
    script_forget(script);
    script_say(script, link, message_create(MSG_STATUS_GET));
    return script_take(script, link, MSG_STATUS);
}

static void test_status(void **state)
{
    struct script *script = *state;
    const uint64_t one = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    const uint64_t two = join_as(script, HOLDER_CLIENT, 2, hello_client(2));
    const uint64_t also = join_as(script, HOLDER_CLIENT, 2, hello_client(3));
    const uint64_t admin = join_as(script, HOLDER_ADMIN, 3, hello_client(4));
    const uint64_t fresh = join_as(script, HOLDER_CLIENT, 4, hello_client(5));
    join_as(script, HOLDER_WORKER, 5, hello_worker(script, 1, 2));
    script_say(script, one, keyed_open(1, 1));
    script_say(script, one, job_open(1, 1, 0, 0));
    script_say(script, two, keyed_open(2, 2));
    script_say(script, two, job_open(2, 1, 0, 0));
    script_say(script, also, keyed_open(2, 3));
    const struct message *status = status_of(script, one);
    assert_int_equal(status->status.pools_count, 1);
    assert_int_equal(status->status.jobs_count, 1);
    assert_true(
        id_equal(&status->status.pools[0].pool, &(struct id){.bytes = {1, 0xfa}}));
    assert_true(id_equal(&status->status.jobs[0].pool, &(struct id){.bytes = {1, 0xfa}}));
    status = status_of(script, two);
    assert_int_equal(status->status.pools_count, 2);
    assert_int_equal(status->status.jobs_count, 1);
    assert_true(id_equal(&status->status.jobs[0].pool, &(struct id){.bytes = {2, 0xfa}}));
    status = status_of(script, admin);
    assert_int_equal(status->status.pools_count, 3);
    assert_int_equal(status->status.jobs_count, 2);
    status = status_of(script, fresh);
    assert_int_equal(status->status.pools_count, 0);
    assert_int_equal(status->status.jobs_count, 0);
    assert_int_equal(status->status.nodes_count, 1);
}

/* The text of what a link was refused with, for a pool number. */
static void attach_refused(struct script *script, uint8_t key, uint8_t client,
                           uint8_t pool, char text[256])
{
    const uint64_t link = join_as(script, HOLDER_CLIENT, key, hello_client(client));
    script_say(script, link, pool_attach(pool));
    snprintf(text, 256, "%s",
             script_refused(script, link, FARPOOL_ENOPOOL)->refused.text);
}

static void test_whose_pool(void **state)
{
    struct script *script = *state;
    char others[256], nobodys[256];
    const uint64_t owner = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    script_say(script, owner, keyed_open(1, 1));
    script_pass(script, 3600000 < script->config.silence_ms ? 0 : 4000);
    script_forget(script);
    attach_refused(script, 2, 2, 1, others);
    attach_refused(script, 2, 3, 77, nobodys);
    assert_string_equal(others, nobodys);
    /* The owner's own key may, and so may what runs inside. */
    const uint64_t own = join_as(script, HOLDER_CLIENT, 1, hello_client(4));
    script_say(script, own, pool_attach(1));
    const uint64_t inside = join_as(script, HOLDER_RELAYED, 5, hello_client(5));
    script_say(script, inside, pool_attach(1));
    script_forget(script);
    /* Closing a pool, and opening a job in it, that another key has: as for none. */
    static const uint8_t pools[] = {1, 77};
    for (size_t i = 0; i < 2; i++) {
        uint64_t link =
            join_as(script, HOLDER_CLIENT, 2, hello_client((uint8_t)(20 + i)));
        script_say(script, link, pool_close(pools[i], true));
        script_dropped(script, link, FARPOOL_EPROTOCOL);
        link = join_as(script, HOLDER_CLIENT, 2, hello_client((uint8_t)(30 + i)));
        script_say(script, link, keyed_open(2, (uint8_t)(40 + i)));
        script_say(script, link, job_open(pools[i], 1, 0, 0));
        script_dropped(script, link, FARPOOL_EPROTOCOL);
    }
    assert_int_equal(script_counts(script).pools, 1);
}

/* The text of what a key is refused with that opens another's pool. */
static void open_refused(struct script *script, uint8_t client, uint8_t pool,
                         char text[256])
{
    const uint64_t link = join_as(script, HOLDER_CLIENT, 2, hello_client(client));
    script_say(script, link, keyed_open(1, pool));
    snprintf(text, 256, "%s", script_refused(script, link, FARPOOL_EKEY)->refused.text);
}

/* A coordinator that was started empty, a worker that holds a pool, and somebody who
 * names it before its client is back. */
static void test_whose_pool_after_restart(void **state)
{
    struct script *script = *state;
    char held_before[256], held_after[256], open[256], nobodys[256], attached[256];
    script->previous = make_id(99);
    open_refused(script, 2, 1, held_before);
    const uint64_t worker = join_as(script, HOLDER_WORKER, 5, hello_worker(script, 1, 2));
    script_say(script, worker, held(1, 1, 0, 3));
    script_say(script, worker, done(script, 1, 1, 1, 3, 2, 5));
    open_refused(script, 3, 1, held_after);
    attach_refused(script, 2, 4, 1, attached);
    attach_refused(script, 2, 5, 77, nobodys);
    assert_string_equal(attached, nobodys);
    open_refused(script, 6, 77, nobodys);
    const struct message *status =
        status_of(script, join_as(script, HOLDER_CLIENT, 2, hello_client(7)));
    assert_int_equal(status->status.pools_count + status->status.jobs_count, 0);
    assert_true(script_is_quiet(script, worker));
    /* Its client comes, and has all that is there. */
    const uint64_t owner = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    script_say(script, owner, keyed_open(1, 1));
    open_refused(script, 8, 1, open);
    script_say(script, owner, job_resumed(1, 1));
    script_say(script, owner, tasks(1, 1, 0, 5));
    script_say(script, owner, resumed(1));
    script_pass(script, 2 * script->config.settle_ms);
    assert_int_equal(script_take(script, owner, MSG_DONE)->done.results[0].count, 2);
    assert_int_equal(script_counts(script).assigned, 3);
    assert_string_equal(held_before, held_after);
    assert_string_equal(held_before, open);
    assert_string_equal(held_before, nobodys);
}

/* A coordinator that cannot tell whose an id is lets nobody with a key open a pool. */
static void test_no_pool_ids(void **state)
{
    (void)state;
    struct script script = {.links = 0};
    script_begin(&script);
    const uint64_t link = join_as(&script, HOLDER_CLIENT, 1, hello_client(1));
    script_say(&script, link, keyed_open(1, 1));
    script_refused(&script, link, FARPOOL_EKEY);
    script_end(&script);
}

static void test_inside_a_worker(void **state)
{
    struct script *script = *state;
    const uint64_t first = join_as(script, HOLDER_RELAYED, 5, hello_client(1));
    script_say(script, first, pool_open(1, 0));
    script_refused(script, first, FARPOOL_EKEY);
    const uint64_t second = join_as(script, HOLDER_RELAYED, 5, hello_client(2));
    script_say(script, second, message_create(MSG_STATUS_GET));
    script_refused(script, second, FARPOOL_EKEY);
    assert_int_equal(script_counts(script).pools, 0);
}

/* An id that another key has is not taken over; the same key comes back. */
static void test_takeover(void **state)
{
    struct script *script = *state;
    const uint64_t client = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    const uint64_t worker = join_as(script, HOLDER_WORKER, 2, hello_worker(script, 1, 2));
    uint64_t link = ++script->links;
    say_as(script, link, HOLDER_CLIENT, 3, hello_client(1));
    script_refused(script, link, FARPOOL_EKEY);
    link = ++script->links;
    say_as(script, link, HOLDER_WORKER, 3, hello_worker(script, 1, 2));
    script_refused(script, link, FARPOOL_EKEY);
    assert_true(script_is_quiet(script, client));
    assert_true(script_is_quiet(script, worker));
    join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    script_dropped(script, client, FARPOOL_ECLOSED);
    join_as(script, HOLDER_WORKER, 2, hello_worker(script, 1, 2));
    script_dropped(script, worker, FARPOOL_ECLOSED);
}

static int asked_to_cancel(struct script *script, uint64_t link, uint64_t job)
{
    struct message *message = message_create(MSG_CANCEL_JOB);
    message->cancel_job.pool = make_id(1);
    message->cancel_job.job = job;
    script_say(script, link, message);
    return script_take(script, link, MSG_ANSWER)->answer.code;
}

static int asked_to_drain(struct script *script, uint64_t link)
{
    struct message *message = message_create(MSG_DRAIN_NODE);
    snprintf(message->drain_node.node, sizeof message->drain_node.node, "node1");
    script_say(script, link, message);
    return script_take(script, link, MSG_ANSWER)->answer.code;
}

static void test_operators(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_as(script, HOLDER_WORKER, 5, hello_worker(script, 1, 2));
    const uint64_t owner = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    const uint64_t same = join_as(script, HOLDER_CLIENT, 1, hello_client(2));
    const uint64_t other = join_as(script, HOLDER_CLIENT, 2, hello_client(3));
    const uint64_t admin = join_as(script, HOLDER_ADMIN, 3, hello_client(4));
    script_say(script, owner, keyed_open(1, 1));
    script_say(script, owner, job_open(1, 1, 0, 0));
    script_flush(script);
    script_forget(script);
    /* To others it is as if it were not there. */
    assert_int_equal(asked_to_cancel(script, other, 1), FARPOOL_ENOPOOL);
    assert_true(script_is_quiet(script, owner));
    assert_int_equal(asked_to_cancel(script, same, 1), 0);
    script_take(script, owner, MSG_CANCEL_JOB);
    assert_int_equal(asked_to_cancel(script, admin, 0), 0);
    script_take(script, owner, MSG_CANCEL_JOB);
    assert_int_equal(asked_to_drain(script, same), FARPOOL_EKEY);
    assert_true(script_is_quiet(script, worker));
    assert_int_equal(asked_to_drain(script, admin), 0);
    script_take(script, worker, MSG_DRAIN);
}

/* --------------------------------------------------------------- join tokens */

static struct message *enrol(uint8_t key)
{
    struct message *message = message_create(MSG_ENROL);
    message->enrol.protocol = PROTOCOL_VERSION;
    message->enrol.key.bytes[0] = key;
    snprintf(message->enrol.node, sizeof message->enrol.node, "node%d", key);
    return message;
}

/* What is the keeper's to do; taken. */
static const struct message *passed_on(struct script *script, uint64_t link,
                                       enum message_kind kind)
{
    struct coordinator_effect *effect = script_next(script, link, MESSAGE_NONE);
    assert_non_null(effect);
    assert_int_equal(effect->kind, COORDINATOR_KEYS);
    assert_int_equal(effect->message->kind, kind);
    effect->link = 0;
    return effect->message;
}

static void keys_done(struct script *script, uint64_t link, uint32_t request, int code,
                      const char *text)
{
    struct coordinator_keys keys = {
        .request = request, .code = code, .name = "n1", .left_s = 60};
    struct coordinator_event event = {
        .kind = COORDINATOR_KEYS_DONE, .link = link, .keys = &keys};
    snprintf(keys.text, sizeof keys.text, "%s", text);
    assert_int_equal(script_step(script, &event), 0);
}

static void test_enrol(void **state)
{
    struct script *script = *state;
    const uint64_t good = ++script->links, bad = ++script->links;
    say_as(script, good, HOLDER_TOKEN, 1, enrol(7));
    assert_int_equal(passed_on(script, good, MSG_ENROL)->enrol.key.bytes[0], 7);
    say_as(script, bad, HOLDER_TOKEN, 1, enrol(8));
    passed_on(script, bad, MSG_ENROL);
    script_flush(script);
    script_quiet(script);
    keys_done(script, good, 0, 0, "");
    const struct message *told = script_take(script, good, MSG_ENROLLED);
    assert_string_equal(told->enrolled.name, "n1");
    assert_int_equal(told->enrolled.left_s, 60);
    script_dropped(script, good, FARPOOL_OK);
    keys_done(script, bad, 0, FARPOOL_EKEY, "it expired");
    assert_string_equal(script_refused(script, bad, FARPOOL_EKEY)->refused.text,
                        "it expired");
    script_flush(script);
    /* Who has gone is told nothing. */
    keys_done(script, bad, 0, 0, "");
    const uint64_t gone = ++script->links;
    say_as(script, gone, HOLDER_TOKEN, 1, enrol(9));
    script_down(script, gone);
    keys_done(script, gone, 0, 0, "");
    script_forget(script);
    script_quiet(script);
    assert_int_equal(script_counts(script).workers, 0);
}

/* A token is good for one word, and nobody else may say it. */
static void test_enrol_is_for_tokens(void **state)
{
    static const enum holder_role roles[] = {HOLDER_CLIENT, HOLDER_WORKER, HOLDER_ADMIN,
                                             HOLDER_RELAYED, HOLDER_COORDINATOR};
    struct script *script = *state;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        refused_as(script, roles[i], enrol(1));
    refused_as(script, HOLDER_TOKEN, hello_client(1));
    refused_as(script, HOLDER_TOKEN, hello_worker(script, 1, 2));
    const uint64_t keyless = ++script->links;
    script_say(script, keyless, enrol(1));
    assert_non_null(strstr(script_refused(script, keyless, FARPOOL_EKEY)->refused.text,
                           "uses no keys"));
    const uint64_t old = ++script->links;
    struct message *message = enrol(1);
    message->enrol.protocol++;
    say_as(script, old, HOLDER_TOKEN, 1, message);
    script_refused(script, old, FARPOOL_EVERSION);
    for (enum message_kind kind = 1; kind < MESSAGE_KINDS; kind++) {
        const uint64_t link = ++script->links;
        say_as(script, link, HOLDER_TOKEN, 1, enrol(1));
        passed_on(script, link, MSG_ENROL);
        say_as(script, link, HOLDER_TOKEN, 1, message_create(kind));
        script_dropped(script, link, FARPOOL_EPROTOCOL);
        script_flush(script);
        keys_done(script, link, 0, 0, "");
        assert_true(script_is_quiet(script, link));
    }
    /* Nor may a worker's link go on with it. */
    const uint64_t worker = join_as(script, HOLDER_WORKER, 5, hello_worker(script, 1, 2));
    say_as(script, worker, HOLDER_WORKER, 5, enrol(1));
    script_dropped(script, worker, FARPOOL_EPROTOCOL);
}

static void test_silent_enrolling_ends(void **state)
{
    struct script *script = *state;
    const uint64_t link = ++script->links;
    say_as(script, link, HOLDER_TOKEN, 1, enrol(1));
    script_forget(script);
    script_pass(script, script->config.silence_ms);
    script_dropped(script, link, FARPOOL_ETIMEDOUT);
}

static int asked_for_token(struct script *script, uint64_t link, enum message_kind kind)
{
    struct message *message = message_create(kind);
    if (kind == MSG_TOKEN_MAKE)
        message->token_make.request = 5;
    else
        message->token_revoke.request = 5;
    script_say(script, link, message);
    const struct coordinator_effect *effect = script_next(script, link, MSG_ANSWER);
    assert_non_null(effect);
    if (effect->kind == COORDINATOR_SEND) {
        const struct message *answer = script_take(script, link, MSG_ANSWER);
        assert_int_equal(answer->answer.request, 5);
        return answer->answer.code;
    }
    passed_on(script, link, kind);
    keys_done(script, link, 5, FARPOOL_EFULL, "so it is");
    const struct message *answer = script_take(script, link, MSG_ANSWER);
    assert_int_equal(answer->answer.request, 5);
    assert_string_equal(answer->answer.text, "so it is");
    return answer->answer.code;
}

static void test_who_makes_tokens(void **state)
{
    static const enum message_kind kinds[] = {MSG_TOKEN_MAKE, MSG_TOKEN_REVOKE};
    struct script *script = *state;
    const uint64_t client = join_as(script, HOLDER_CLIENT, 1, hello_client(1));
    const uint64_t inside = join_as(script, HOLDER_RELAYED, 2, hello_client(2));
    const uint64_t admin = join_as(script, HOLDER_ADMIN, 3, hello_client(3));
    const uint64_t keyless = ++script->links;
    script_say(script, keyless, hello_client(4));
    script_take(script, keyless, MSG_WELCOME);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(asked_for_token(script, client, kinds[i]), FARPOOL_EKEY);
        assert_int_equal(asked_for_token(script, inside, kinds[i]), FARPOOL_EKEY);
        assert_int_equal(asked_for_token(script, keyless, kinds[i]), FARPOOL_EKEY);
        assert_int_equal(asked_for_token(script, admin, kinds[i]), FARPOOL_EFULL);
    }
    script_say(script, admin, keyed_open(3, 1));
    script_say(script, admin, message_create(MSG_TOKEN_MAKE));
    script_dropped(script, admin, FARPOOL_EPROTOCOL);
}

int main(void)
{
#define TEST(name)                                                                       \
    cmocka_unit_test_setup_teardown(name, script_set_up_keyed, script_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_roles),
        TEST(test_first_message),
        TEST(test_status),
        TEST(test_whose_pool),
        TEST(test_inside_a_worker),
        TEST(test_takeover),
        TEST(test_operators),
        TEST(test_whose_pool_after_restart),
        cmocka_unit_test(test_no_pool_ids),
        TEST(test_enrol),
        TEST(test_enrol_is_for_tokens),
        TEST(test_silent_enrolling_ends),
        TEST(test_who_makes_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
