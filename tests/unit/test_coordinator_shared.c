/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_shared.c: shared inputs in the coordinator's core: who is told, which
 * piece goes where, and what becomes of it when a worker goes, gives a wrong piece or
 * comes from another coordinator. */
#include "tests/unit/coordinator_script.h"

#include "common/base/shared.h"

#define CLIENT 1
#define POOL 1

static struct message *share(uint64_t number, uint32_t pieces)
{
    struct message *message = message_create(MSG_SHARE);
    message->share.pool = make_id(POOL);
    message->share.number = number;
    message->share.content.bytes[0] = (uint8_t)number;
    message->share.size = (uint64_t)pieces * SHARED_PIECE_BYTES;
    return message;
}

static struct message *unshare(uint64_t number)
{
    struct message *message = message_create(MSG_UNSHARE);
    message->unshare.pool = make_id(POOL);
    message->unshare.number = number;
    return message;
}

/* What a worker has of it, one piece a bit. */
static struct message *answer(uint64_t number, uint32_t pieces, uint32_t have)
{
    struct message *message = message_create(MSG_PULLED);
    message->pulled.pool = make_id(POOL);
    message->pulled.number = number;
    message->pulled.answer = true;
    message->pulled.have = payload_create((pieces + 7) / 8);
    for (uint32_t i = 0; i < (pieces + 7) / 8; i++)
        payload_bytes(message->pulled.have)[i] = (uint8_t)(have >> 8 * i);
    return message;
}

static struct message *pulled(uint64_t number, uint32_t piece, int code)
{
    struct message *message = message_create(MSG_PULLED);
    message->pulled.pool = make_id(POOL);
    message->pulled.number = number;
    message->pulled.piece = piece;
    message->pulled.code = code;
    return message;
}

/* A client with a pool that every worker is told of; its link is CLIENT. */
static void begin_with(struct script *script,
                       void (*ticket)(const struct hash *secret, uint64_t number,
                                      struct id *ret_ticket))
{
    *script = (struct script){.now_ms = 0};
    coordinator_config_init(&script->config);
    script->config.ticket = ticket;
    script_begin(script);
    add_client(script, 1);
    script_say_last(script, CLIENT, pool_open(POOL, 16));
    script_say(script, CLIENT, resumed(POOL));
    script_forget(script);
}

static void begin(struct script *script)
{
    begin_with(script, NULL);
}

static uint64_t join_worker(struct script *script, uint8_t id)
{
    const uint64_t link = add_worker(script, id, 2);
    script_flush(script);
    script_take(script, link, MSG_POOL_OPEN);
    return link;
}

/* It has answered SHARE, with nothing there. */
static uint64_t join_empty(struct script *script, uint8_t id, uint32_t pieces)
{
    const uint64_t link = join_worker(script, id);
    script_take(script, link, MSG_SHARE);
    script_say(script, link, answer(1, pieces, 0));
    return link;
}

static const struct message *take_pull(struct script *script, uint64_t link)
{
    return script_take(script, link, MSG_PULL);
}

static bool is_client(const struct message *pull)
{
    return id_is_zero(&pull->pull.source);
}

static void all_are_told_before_tasks(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    const uint64_t early = join_worker(&s, 10);
    script_say_last(&s, CLIENT, share(1, 2));
    script_say_last(&s, CLIENT, share(2, 1));
    assert_int_equal(script_take(&s, early, MSG_SHARE)->share.number, 1);
    assert_int_equal(script_take(&s, early, MSG_SHARE)->share.number, 2);
    const uint64_t late = join_worker(&s, 11);
    assert_int_equal(script_take(&s, late, MSG_SHARE)->share.number, 1);
    assert_int_equal(script_take(&s, late, MSG_SHARE)->share.number, 2);
    script_say_last(&s, CLIENT, unshare(1));
    assert_int_equal(script_take(&s, early, MSG_UNSHARE)->unshare.number, 1);
    assert_int_equal(script_take(&s, late, MSG_UNSHARE)->unshare.number, 1);
    script_say_last(&s, CLIENT, unshare(1));
    script_quiet(&s);
    script_end(&s);
}

static void the_client_gives_each_piece_once(void **state)
{
    struct script s;
    uint32_t given = 0;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 4));
    const uint64_t a = join_worker(&s, 10), b = join_worker(&s, 11);
    script_forget(&s);
    script_say(&s, a, answer(1, 4, 0));
    script_say_last(&s, b, answer(1, 4, 0));
    for (int i = 0; i < 2; i++) {
        const struct message *of_a = take_pull(&s, a), *of_b = take_pull(&s, b);
        assert_true(is_client(of_a) && is_client(of_b));
        given |= 1u << of_a->pull.piece | 1u << of_b->pull.piece;
    }
    assert_int_equal(given, 15); /* each to one of them, as many to each */
    script_quiet(&s);
    script_end(&s);
}

static void workers_give_them_to_each_other(void **state)
{
    struct script s;
    const struct id first = make_id(10);
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 2));
    const uint64_t a = join_empty(&s, 10, 2);
    script_flush(&s);
    const uint32_t piece = take_pull(&s, a)->pull.piece;
    const uint32_t other = take_pull(&s, a)->pull.piece;
    const uint64_t b = join_empty(&s, 11, 2);
    script_flush(&s);
    assert_true(script_is_quiet(&s, b)); /* both are on their way already */
    script_say_last(&s, a, pulled(1, piece, 0));
    const struct message *pull = take_pull(&s, b);
    assert_int_equal(pull->pull.piece, piece);
    assert_true(id_equal(&pull->pull.source, &first));
    /* The first one gives a wrong piece: it is not asked again, but the client. */
    script_say_last(&s, b, pulled(1, piece, FARPOOL_EPROTOCOL));
    pull = take_pull(&s, b);
    assert_true(is_client(pull) && pull->pull.piece == piece);
    script_say_last(&s, a, pulled(1, other, 0));
    pull = take_pull(&s, b);
    assert_true(is_client(pull) && pull->pull.piece == other);
    script_say_last(&s, b, pulled(1, piece, 0));
    script_say_last(&s, b, pulled(1, other, 0));
    script_quiet(&s);
    script_end(&s);
}

static void what_only_a_lost_worker_had_is_given_again(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 1));
    const uint64_t a = join_empty(&s, 10, 1);
    script_flush(&s);
    take_pull(&s, a);
    script_say_last(&s, a, pulled(1, 0, 0));
    const uint64_t b = join_empty(&s, 11, 1);
    script_flush(&s);
    assert_false(is_client(take_pull(&s, b)));
    script_down(&s, a);
    script_flush(&s);
    const struct message *pull = take_pull(&s, b);
    assert_true(is_client(pull) && pull->pull.piece == 0);
    script_say_last(&s, b, pulled(1, 0, 0));
    script_quiet(&s);
    script_end(&s);
}

static void who_gives_up_is_left_alone(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 3));
    const uint64_t a = join_empty(&s, 10, 3);
    script_flush(&s);
    for (int i = 0; i < 3; i++)
        take_pull(&s, a);
    struct message *message = answer(1, 3, 0);
    message->pulled.given_up = true;
    message->pulled.code = FARPOOL_ENOSPACE;
    script_say_last(&s, a, message);
    script_quiet(&s);
    const uint64_t b = join_empty(&s, 11, 3);
    script_flush(&s);
    for (int i = 0; i < 3; i++)
        assert_true(is_client(take_pull(&s, b)));
    script_end(&s);
}

/* What came first was on its way when the pool was closed there and opened again. */
static void the_last_answer_holds(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 3));
    const uint64_t a = join_worker(&s, 10);
    script_take(&s, a, MSG_SHARE);
    script_say_last(&s, a, answer(1, 3, 7));
    script_quiet(&s);
    script_say_last(&s, a, answer(1, 3, 2));
    assert_int_equal(take_pull(&s, a)->pull.piece, 0);
    assert_int_equal(take_pull(&s, a)->pull.piece, 2);
    script_quiet(&s);
    const uint64_t b = join_worker(&s, 11);
    script_take(&s, b, MSG_SHARE);
    struct message *message = answer(1, 3, 0);
    message->pulled.given_up = true;
    script_say_last(&s, b, message);
    script_quiet(&s);
    script_say_last(&s, b, answer(1, 3, 5));
    assert_int_equal(take_pull(&s, b)->pull.piece, 1);
    script_quiet(&s);
    script_end(&s);
}

/* The same where others have it: what was passed over is looked at again. */
static void the_last_answer_holds_among_workers(void **state)
{
    struct script s;
    uint32_t pieces = 0;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 3));
    const uint64_t a = join_worker(&s, 10), b = join_worker(&s, 11);
    script_take(&s, a, MSG_SHARE);
    script_take(&s, b, MSG_SHARE);
    script_say_last(&s, a, answer(1, 3, 7));
    script_say_last(&s, b, answer(1, 3, 3));
    assert_int_equal(take_pull(&s, b)->pull.piece, 2);
    script_say_last(&s, b, pulled(1, 2, 0));
    script_quiet(&s);
    script_say_last(&s, b, answer(1, 3, 0));
    for (int i = 0; i < 3; i++) {
        const struct message *pull = take_pull(&s, b);
        assert_false(is_client(pull));
        pieces |= 1u << pull->pull.piece;
    }
    assert_int_equal(pieces, 7);
    script_quiet(&s);
    script_end(&s);
}

/* Who waits for a piece of another is not given it a second time, by the client, when
 * that one says that it has it no more: it is told so. */
static void a_source_that_has_it_no_more(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 1));
    const uint64_t b = join_worker(&s, 11), a = join_worker(&s, 10);
    script_take(&s, a, MSG_SHARE);
    script_take(&s, b, MSG_SHARE);
    script_say_last(&s, a, answer(1, 1, 1));
    script_say_last(&s, b, answer(1, 1, 0));
    assert_false(is_client(take_pull(&s, b)));
    script_say_last(&s, a, answer(1, 1, 0));
    assert_true(is_client(take_pull(&s, a)));
    script_quiet(&s);
    script_say_last(&s, a, pulled(1, 0, 0));
    script_say_last(&s, b, pulled(1, 0, FARPOOL_EPROTOCOL));
    assert_int_equal(take_pull(&s, b)->pull.piece, 0);
    script_end(&s);
}

static void pieces_pass_between_workers_of_one_pool_only(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(1, 1));
    const uint64_t a = join_empty(&s, 10, 1), b = join_empty(&s, 11, 1);
    script_flush(&s);
    script_forget(&s);
    struct message *fetch = message_create(MSG_FETCH);
    fetch->fetch.pool = make_id(POOL);
    fetch->fetch.worker = make_id(11);
    fetch->fetch.source = make_id(10);
    struct message *strange = message_copy(fetch);
    strange->fetch.pool = make_id(77);
    script_say(&s, b, fetch);
    assert_true(id_equal(&script_take(&s, a, MSG_FETCH)->fetch.worker,
                         &(struct id){.bytes = {11, 0xfa}}));
    struct message *blob = message_create(MSG_BLOB);
    blob->blob.pool = make_id(POOL);
    blob->blob.worker = make_id(11);
    blob->blob.source = make_id(10);
    struct message *forged = message_copy(blob);
    script_say(&s, a, blob);
    script_take(&s, b, MSG_BLOB);
    script_quiet(&s);
    script_say(&s, b, forged);
    script_dropped(&s, b, FARPOOL_EPROTOCOL);
    message_free(&strange);
    script_end(&s);
}

/* A worker that served another coordinator has inputs that the client shares no more. */
static void what_was_unshared_meanwhile_is_told(void **state)
{
    struct script s;
    (void)state;
    begin(&s);
    script_say(&s, CLIENT, share(3, 1));
    s.previous = make_id(0x77);
    const uint64_t a = join_worker(&s, 10);
    script_take(&s, a, MSG_SHARE);
    script_say_last(&s, a, answer(2, 1, 1));
    assert_int_equal(script_take(&s, a, MSG_UNSHARE)->unshare.number, 2);
    script_say_last(&s, a, answer(3, 1, 1));
    script_quiet(&s);
    script_end(&s);
}

/* A client comes back at once, and its pool has not been opened again where it is just
 * being closed: what that worker says of it meanwhile is of the life before. */
static void what_is_said_of_a_life_that_is_over(void **state)
{
    struct script s = {.now_ms = 0};
    (void)state;
    coordinator_config_init(&s.config);
    script_begin(&s);
    const uint64_t client = add_client(&s, 1), worker = add_worker(&s, 10, 2);
    script_say(&s, client, pool_open(POOL, 0));
    script_say(&s, client, share(1, 1));
    script_say(&s, client, job_open(POOL, 1, 0, 0));
    script_say_last(&s, client, tasks(POOL, 1, 0, 1));
    script_take(&s, worker, MSG_POOL_OPEN);
    script_take(&s, worker, MSG_SHARE);
    assert_int_equal(script_given(&s, worker), 1);
    script_down(&s, client);
    script_flush(&s);
    script_take(&s, worker, MSG_POOL_CLOSE);
    const uint64_t again = add_client(&s, 1);
    script_say(&s, again, pool_open(POOL, 0));
    script_say(&s, again, share(1, 1));
    script_say(&s, again, job_resumed(POOL, 1));
    script_say(&s, again, resumed(POOL));
    script_forget(&s);
    script_say(&s, worker, done(&s, 10, POOL, 1, 0, 1, 5));
    script_say(&s, worker, answer(1, 1, 0));
    assert_true(script_is_quiet(&s, worker));
    script_end(&s);
}

static void a_client_that_breaks_the_rules_is_dropped(void **state)
{
    (void)state;
    for (int fault = 0; fault < 4; fault++) {
        struct script s;
        begin(&s);
        struct message *message = share(5, 1);
        if (fault == 0)
            message->share.size = 0;
        if (fault == 1)
            message->share.size = SHARED_BYTES_MAX + 1;
        if (fault == 2)
            message->share.hashes = payload_create(31);
        if (fault == 3)
            script_say(&s, CLIENT, share(5, 1));
        script_say_last(&s, CLIENT, message);
        script_dropped(&s, CLIENT, FARPOOL_EPROTOCOL);
        script_end(&s);
    }
}

static uint64_t join_host(struct script *script, uint8_t id, uint32_t pieces)
{
    struct message *hello = hello_worker(script, id, 2);
    snprintf(hello->hello_worker.lanes, sizeof hello->hello_worker.lanes,
             "tcp://10.0.0.%d:41000", id);
    const uint64_t link = ++script->links;
    script_say_last(script, link, hello);
    script_take(script, link, MSG_WELCOME);
    script_take(script, link, MSG_POOL_OPEN);
    script_take(script, link, MSG_SHARE);
    script_say_last(script, link, answer(1, pieces, 0));
    return link;
}

static void tell_lane(struct script *script, uint64_t dialer, const struct id *ticket,
                      bool up)
{
    struct message *message = message_create(MSG_LANE);
    message->lane.ticket = *ticket;
    message->lane.up = up;
    script_say_last(script, dialer, message);
}

/* Two workers are introduced to each other, and no piece passes here meanwhile. */
static void larger_ones_go_over_lanes(void **state)
{
    struct script s;
    (void)state;
    begin_with(&s, script_ticket);
    script_say(&s, CLIENT, share(1, 4));
    const uint64_t a = join_host(&s, 10, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(take_pull(&s, a)->pull.piece, i);
    const uint64_t b = join_host(&s, 11, 4);
    script_flush(&s);
    const struct id ticket = script_take(&s, a, MSG_INTRODUCE)->introduce.ticket;
    struct message *expected = message_create(MSG_EXPECTED);
    expected->expected.ticket = ticket;
    script_say_last(&s, a, expected);
    script_take(&s, b, MSG_INTRODUCED); /* the younger one dials */
    script_say_last(&s, a, pulled(1, 0, 0));
    assert_true(script_is_quiet(&s, b)); /* it is about to have a lane; */
    script_pass(&s, 2000);
    assert_int_equal(take_pull(&s, b)->pull.piece, 0); /* but that takes long */
    script_say_last(&s, a, pulled(1, 1, 0));
    script_say_last(&s, a, pulled(1, 2, 0));
    assert_true(script_is_quiet(&s, b));
    tell_lane(&s, b, &ticket, true);
    assert_int_equal(take_pull(&s, b)->pull.piece, 1);
    assert_int_equal(take_pull(&s, b)->pull.piece, 2);
    /* Without one, pieces pass here. */
    script_say_last(&s, a, pulled(1, 3, 0));
    assert_int_equal(take_pull(&s, b)->pull.piece, 3);
    tell_lane(&s, b, &ticket, false);
    script_take(&s, a, MSG_WITHDRAW);
    for (uint32_t i = 0; i < 4; i++)
        script_say_last(&s, b, pulled(1, i, 0));
    script_quiet(&s);
    script_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_told_before_tasks),
        cmocka_unit_test(the_client_gives_each_piece_once),
        cmocka_unit_test(workers_give_them_to_each_other),
        cmocka_unit_test(what_only_a_lost_worker_had_is_given_again),
        cmocka_unit_test(the_last_answer_holds),
        cmocka_unit_test(the_last_answer_holds_among_workers),
        cmocka_unit_test(who_gives_up_is_left_alone),
        cmocka_unit_test(a_source_that_has_it_no_more),
        cmocka_unit_test(pieces_pass_between_workers_of_one_pool_only),
        cmocka_unit_test(what_was_unshared_meanwhile_is_told),
        cmocka_unit_test(what_is_said_of_a_life_that_is_over),
        cmocka_unit_test(a_client_that_breaks_the_rules_is_dropped),
        cmocka_unit_test(larger_ones_go_over_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
