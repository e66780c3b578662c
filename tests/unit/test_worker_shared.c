/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_shared.c: shared inputs in a worker's core: room, pieces, who asks whom,
 * when tasks may begin, and how they end. */
#include "tests/unit/worker_script.h"

#include "common/base/shared.h"

#define SIZE (2 * SHARED_PIECE_BYTES + 100) /* three pieces */

static const struct id nobody;

static struct hash content_of(uint8_t number)
{
    return (struct hash){.bytes = {number, 0xc0}};
}

static void share_of(struct fake *f, uint8_t pool, uint64_t number, uint8_t content)
{
    struct message *message = message_create(MSG_SHARE);
    message->share.pool = fake_id(pool);
    message->share.number = number;
    message->share.content = content_of(content);
    message->share.size = SIZE;
    fake_message(f, message);
}

static void opened(struct fake *f, uint8_t content, int code, bool whole)
{
    struct worker_event event = {.kind = WORKER_SHARED_OPENED,
                                 .program = content_of(content),
                                 .serial = f->opening,
                                 .code = code,
                                 .text = "no room on node n",
                                 .whole = whole};
    fake_step(f, &event);
    fake_settle(f);
}

static void wrote(struct fake *f, uint8_t content, uint32_t piece, int code)
{
    struct worker_event event = {.kind = WORKER_SHARED_WROTE,
                                 .program = content_of(content),
                                 .serial = f->opening,
                                 .offset = piece,
                                 .code = code,
                                 .text = "the disk is on fire"};
    fake_step(f, &event);
    fake_settle(f);
}

static void unshare(struct fake *f, uint64_t number)
{
    struct message *message = message_create(MSG_UNSHARE);
    message->unshare.pool = fake_id(1);
    message->unshare.number = number;
    fake_message(f, message);
    fake_settle(f);
}

static void pull(struct fake *f, uint64_t number, uint32_t piece, struct id source)
{
    struct message *message = message_create(MSG_PULL);
    message->pull.pool = fake_id(1);
    message->pull.number = number;
    message->pull.piece = piece;
    message->pull.source = source;
    fake_message(f, message);
    fake_settle(f);
}

static struct message *blob_message(uint32_t piece, struct id source, size_t bytes)
{
    struct message *message = message_create(MSG_BLOB);
    message->blob.pool = fake_id(1);
    message->blob.source = source;
    message->blob.content = content_of(9);
    message->blob.offset = (uint64_t)piece * SHARED_PIECE_BYTES;
    message->blob.data = payload_create(bytes);
    memset(payload_bytes(message->blob.data), 3, bytes);
    return message;
}

static void blob(struct fake *f, uint32_t piece, struct id source)
{
    fake_message(f, blob_message(piece, source, shared_piece_bytes(SIZE, piece)));
    fake_settle(f);
}

static const struct message *last_pulled(const struct fake *f)
{
    return fake_nth(f, MSG_PULLED, fake_sent(f, MSG_PULLED) - 1);
}

/* What it said last of all that it has. */
static const struct message *last_answer(const struct fake *f)
{
    for (size_t i = fake_sent(f, MSG_PULLED); i-- > 0;)
        if (fake_nth(f, MSG_PULLED, i)->pulled.answer)
            return fake_nth(f, MSG_PULLED, i);
    fail_msg("it did not say what it has");
    return NULL;
}

static void assert_pulled(const struct fake *f, uint32_t piece, int code)
{
    const struct message *message = last_pulled(f);
    assert_false(message->pulled.answer);
    assert_int_equal(message->pulled.piece, piece);
    assert_int_equal(message->pulled.code, code);
}

/* So many seconds, in which the coordinator says that it is there. */
static void pass_heard(struct fake *f, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        fake_message(f, message_create(MSG_HEARTBEAT));
        fake_pass(f, 1000);
    }
}

/* Pool 1 shares content 9 as number 1, for which there is room. */
static void start_shared(struct fake *f)
{
    fake_start(f, 2);
    share_of(f, 1, 1, 9);
    fake_settle(f);
    assert_int_equal(fake_effect(f, WORKER_SHARED_OPEN, 0)->offset, SIZE);
    assert_int_equal(fake_sent(f, MSG_PULLED), 0); /* not known yet */
    opened(f, 9, 0, false);
    assert_non_null(last_answer(f));
    assert_int_equal(last_answer(f)->pulled.have->data[0], 0);
    fake_forget(f);
}

static void fetch_all(struct fake *f)
{
    for (uint32_t piece = 0; piece < 3; piece++) {
        pull(f, 1, piece, nobody);
        blob(f, piece, nobody);
        wrote(f, 9, piece, 0);
    }
}

static void it_is_fetched_piece_by_piece(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    fake_tasks(f, 1, 1, 0, 4);
    fake_settle(f);
    assert_int_equal(fake_running(f), 0); /* until it is there */
    pull(f, 1, 2, nobody);
    const struct message *fetch = fake_nth(f, MSG_FETCH, 0);
    assert_true(id_is_zero(&fetch->fetch.source));
    assert_int_equal(fetch->fetch.offset, 2 * SHARED_PIECE_BYTES);
    assert_int_equal(fetch->fetch.bytes, 100);
    blob(f, 2, nobody);
    assert_int_equal(fake_effect(f, WORKER_SHARED_WRITE, 0)->offset, 2);
    assert_int_equal(fake_sent(f, MSG_PULLED), 0);
    wrote(f, 9, 2, 0);
    assert_pulled(f, 2, 0);
    pull(f, 1, 2, nobody); /* once more: it is there */
    assert_int_equal(fake_sent(f, MSG_PULLED), 2);
    assert_int_equal(fake_sent(f, MSG_FETCH), 1);
    fetch_all(f);
    const struct worker_effect *map = fake_effect(f, WORKER_SHARED_MAP, 0);
    assert_int_equal(map->shared, 1);
    assert_int_equal(map->code, 0);
    assert_int_equal(last_answer(f)->pulled.have->data[0], 7);
    assert_int_equal(fake_running(f), 2);
}

static void what_is_there_for_another_pool_is_mapped_at_once(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    fetch_all(f);
    fake_message(f, fake_pool_open(2, 0));
    fake_forget(f);
    share_of(f, 2, 5, 9);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_SHARED_OPEN), 0);
    assert_int_equal(fake_effect(f, WORKER_SHARED_MAP, 0)->shared, 5);
    assert_int_equal(last_answer(f)->pulled.have->data[0], 7);
    fake_forget(f);
    unshare(f, 1); /* of pool 1: the other one has it still */
    assert_int_equal(fake_logged(f, WORKER_SHARED_UNMAP), 1);
    assert_int_equal(fake_logged(f, WORKER_SHARED_CLOSE), 0);
    fake_close_pool(f, 2, true);
    fake_reap(f);
    assert_int_equal(fake_logged(f, WORKER_SHARED_UNMAP), 2);
    assert_int_equal(fake_logged(f, WORKER_SHARED_CLOSE), 1);
}

static void without_room_tasks_are_told(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    share_of(f, 1, 1, 9);
    fake_tasks(f, 1, 1, 0, 1);
    fake_settle(f);
    assert_int_equal(fake_running(f), 0);
    opened(f, 9, FARPOOL_ENOSPACE, false);
    const struct worker_effect *map = fake_effect(f, WORKER_SHARED_MAP, 0);
    assert_int_equal(map->code, FARPOOL_ENOSPACE);
    assert_string_equal(map->text, "no room on node n");
    assert_true(last_answer(f)->pulled.given_up);
    assert_int_equal(fake_running(f), 1);
    assert_int_equal(fake_logged(f, WORKER_SHARED_CLOSE), 1);
    share_of(f, 1, 2, 9); /* once more: there may be room by now */
    assert_int_equal(fake_logged(f, WORKER_SHARED_OPEN), 2);
    opened(f, 9, 0, true);
    assert_int_equal(fake_effect(f, WORKER_SHARED_MAP, 1)->code, 0);
    unshare(f, 1);
    unshare(f, 2);
    assert_int_equal(fake_logged(f, WORKER_SHARED_CLOSE), 2);
}

static void a_wrong_piece_is_asked_for_elsewhere(void **state)
{
    struct fake *f = *state;
    const struct id peer = fake_id(0x66), other = fake_id(0x67);
    start_shared(f);
    pull(f, 1, 0, peer);
    blob(f, 0, other); /* nobody asked that one */
    assert_int_equal(fake_logged(f, WORKER_SHARED_WRITE), 0);
    blob(f, 0, peer);
    wrote(f, 9, 0, FARPOOL_EPROTOCOL);
    assert_pulled(f, 0, FARPOOL_EPROTOCOL);
    pull(f, 1, 0, peer);
    fake_message(f, blob_message(0, peer, 17)); /* not all of it */
    fake_settle(f);
    assert_pulled(f, 0, FARPOOL_EPROTOCOL);
    pull(f, 1, 0, peer);
    pull(f, 1, 0, other); /* the coordinator knows better */
    assert_int_equal(fake_sent(f, MSG_FETCH), 4);
    blob(f, 0, peer);
    blob(f, 0, other);
    wrote(f, 9, 0, 0);
    assert_pulled(f, 0, 0);
    pull(f, 1, 1, peer);
    pass_heard(f, 29);
    assert_pulled(f, 0, 0);
    pass_heard(f, 1);
    assert_pulled(f, 1, FARPOOL_ETIMEDOUT);
    assert_int_equal(fake_logged(f, WORKER_SHARED_MAP), 0);
}

static void a_client_that_cannot_give_it_ends_it(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fake_logged(f, WORKER_SHARED_MAP), 0);
        pull(f, 1, 0, nobody);
        blob(f, 0, nobody);
        wrote(f, 9, 0, FARPOOL_EPROTOCOL);
    }
    assert_int_equal(fake_effect(f, WORKER_SHARED_MAP, 0)->code, FARPOOL_EPROGRAM);
    assert_true(last_answer(f)->pulled.given_up);
    pull(f, 1, 1, nobody);
    assert_int_equal(fake_sent(f, MSG_FETCH), 3);
}

static void others_are_given_what_is_there(void **state)
{
    struct fake *f = *state;
    struct message *fetch = message_create(MSG_FETCH);
    start_shared(f);
    fetch->fetch.pool = fake_id(1);
    fetch->fetch.worker = fake_id(0x66);
    fetch->fetch.content = content_of(9);
    fetch->fetch.offset = 2 * SHARED_PIECE_BYTES;
    fetch->fetch.bytes = 100;
    struct message *again = message_copy(fetch);
    fake_message(f, fetch);
    assert_int_equal(fake_nth(f, MSG_BLOB, 0)->blob.code, FARPOOL_ENOTREADY);
    fetch_all(f);
    fake_message(f, again);
    const struct worker_effect *read = fake_effect(f, WORKER_SHARED_READ, 0);
    assert_int_equal(read->count, 100);
    assert_true(id_equal(&read->worker,
                         &(struct id){{0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                       0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66}}));
}

/* A lane of pool 1 to worker 0x66, which is up. */
static uint64_t bring_up_lane(struct fake *f)
{
    struct message *message = message_create(MSG_INTRODUCED);
    message->introduced.ticket = fake_id(1);
    message->introduced.pool = fake_id(1);
    message->introduced.worker = fake_id(0x66);
    message->introduced.wait_ms = 5000;
    fake_message(f, message);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    struct worker_event up = {.kind = WORKER_LINK_UP, .lane = lane};
    fake_step(f, &up);
    struct message *welcome = message_create(MSG_WELCOME_LANE);
    welcome->welcome_lane.worker = fake_id(0x66);
    welcome->welcome_lane.heartbeat_ms = 1000;
    welcome->welcome_lane.silence_ms = 5000;
    struct worker_event event = {
        .kind = WORKER_MESSAGE, .message = welcome, .lane = lane};
    fake_step(f, &event);
    fake_settle(f);
    fake_forget(f);
    return lane;
}

static void say_on(struct fake *f, uint64_t lane, struct message *message)
{
    struct worker_event event = {
        .kind = WORKER_MESSAGE, .message = message, .lane = lane};
    fake_step(f, &event);
    fake_settle(f);
}

static void lanes_carry_pieces_both_ways(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    const uint64_t lane = bring_up_lane(f);
    pull(f, 1, 0, fake_id(0x66));
    assert_int_equal(fake_sent(f, MSG_FETCH), 1);
    say_on(f, lane, blob_message(0, fake_id(0x66), shared_piece_bytes(SIZE, 0)));
    wrote(f, 9, 0, 0);
    assert_pulled(f, 0, 0);
    struct message *fetch = message_create(MSG_FETCH);
    fetch->fetch.pool = fake_id(1);
    fetch->fetch.worker = fake_id(0x66);
    fetch->fetch.content = content_of(9);
    fetch->fetch.bytes = SHARED_PIECE_BYTES;
    say_on(f, lane, fetch);
    assert_int_equal(fake_effect(f, WORKER_SHARED_READ, 0)->lane, lane);
    /* In another's name: the lane ends. */
    say_on(f, lane, blob_message(1, fake_id(0x67), 17));
    assert_int_equal(fake_effect(f, WORKER_HANG_UP, 0)->lane, lane);
}

static void what_was_under_way_on_a_lane_is_asked_again(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    const uint64_t lane = bring_up_lane(f);
    pull(f, 1, 0, fake_id(0x66));
    struct worker_event down = {
        .kind = WORKER_LINK_DOWN, .lane = lane, .text = "it closed"};
    fake_step(f, &down);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_FETCH), 2);
    blob(f, 0, fake_id(0x66)); /* through the coordinator */
    wrote(f, 9, 0, 0);
    assert_pulled(f, 0, 0);
}

static void another_coordinator_hears_of_it(void **state)
{
    struct fake *f = *state;
    start_shared(f);
    pull(f, 1, 0, nobody);
    fake_event(f, WORKER_LINK_DOWN);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    assert_non_null(last_answer(f)); /* and again, until it says a word */
    const size_t told = fake_sent(f, MSG_PULLED);
    fake_message(f, fake_pool_open(1, 0));
    fake_pass(f, 1000);
    assert_int_equal(fake_sent(f, MSG_PULLED), told + 1);
    share_of(f, 1, 1, 9);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_PULLED), told + 2);
    fake_pass(f, 1000);
    assert_int_equal(fake_sent(f, MSG_PULLED), told + 2);
    fake_forget(f);
    unshare(f, 1);
    assert_int_equal(fake_logged(f, WORKER_SHARED_CLOSE), 1);
}

/* It was unshared and shared again before the first opening was answered. */
static void an_earlier_openings_answers_are_not_its(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    share_of(f, 1, 1, 9);
    fake_settle(f);
    const uint64_t first = f->opening;
    unshare(f, 1);
    share_of(f, 1, 2, 9);
    fake_settle(f);
    const uint64_t second = f->opening;
    assert_true(second > first);
    f->opening = first;
    opened(f, 9, 0, true);
    assert_int_equal(fake_logged(f, WORKER_SHARED_MAP), 0);
    f->opening = second;
    opened(f, 9, 0, true);
    assert_int_equal(fake_logged(f, WORKER_SHARED_MAP), 1);
}

/* The at-th allocation of a short life fails; false: it has not so many. */
static bool fails_at(struct fake *f, uint64_t at)
{
    fake_start(f, 1);
    f->fail_at = at;
    share_of(f, 1, 1, 9);
    opened(f, 9, 0, false);
    bring_up_lane(f);
    fetch_all(f);
    fake_tasks(f, 1, 1, 0, 1);
    fake_settle(f);
    assert_int_equal(fake_running(f), 1);
    unshare(f, 1);
    const bool has_failed = f->fail_at == 0;
    f->fail_at = 0;
    return has_failed;
}

static void memory_fails_at_every_place(void **state)
{
    struct fake *f = *state;
    uint64_t at = 1;
    while (fails_at(f, at)) {
        fake_destroy(f);
        at++;
    }
    assert_true(at > 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(it_is_fetched_piece_by_piece),
        FAKE_TEST(what_is_there_for_another_pool_is_mapped_at_once),
        FAKE_TEST(without_room_tasks_are_told),
        FAKE_TEST(a_wrong_piece_is_asked_for_elsewhere),
        FAKE_TEST(a_client_that_cannot_give_it_ends_it),
        FAKE_TEST(others_are_given_what_is_there),
        FAKE_TEST(lanes_carry_pieces_both_ways),
        FAKE_TEST(what_was_under_way_on_a_lane_is_asked_again),
        FAKE_TEST(another_coordinator_hears_of_it),
        FAKE_TEST(an_earlier_openings_answers_are_not_its),
        FAKE_TEST(memory_fails_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
