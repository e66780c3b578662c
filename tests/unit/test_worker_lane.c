/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_lane.c: lanes of a worker's core: whom it lets in, whom it dials, and how a
 * lane ends. */
#include "tests/unit/worker_script.h"

#define LINK 41 /* of who dials, numbered by the shell */

static const struct hash peer_key = {.bytes = {7, 7}}, other_key = {.bytes = {8}};

static void introduce(struct fake *f, uint8_t ticket, uint8_t pool, bool worker)
{
    struct message *message = message_create(MSG_INTRODUCE);
    message->introduce.ticket = fake_id(ticket);
    message->introduce.pool = fake_id(pool);
    message->introduce.peer = fake_id(0x55);
    message->introduce.key = peer_key;
    message->introduce.worker = worker;
    message->introduce.wait_ms = 5000;
    fake_message(f, message);
}

static void introduced(struct fake *f, uint8_t ticket, uint8_t pool)
{
    struct message *message = message_create(MSG_INTRODUCED);
    message->introduced.ticket = fake_id(ticket);
    message->introduced.pool = fake_id(pool);
    message->introduced.worker = fake_id(0x66);
    message->introduced.key = peer_key;
    message->introduced.wait_ms = 5000;
    snprintf(message->introduced.address, sizeof message->introduced.address,
             "tcp://10.0.0.1:41000");
    fake_message(f, message);
}

static void withdraw(struct fake *f, uint8_t ticket)
{
    struct message *message = message_create(MSG_WITHDRAW);
    message->withdraw.ticket = fake_id(ticket);
    snprintf(message->withdraw.text, sizeof message->withdraw.text, "gone");
    fake_message(f, message);
}

static void say(struct fake *f, uint64_t lane, const struct hash *key,
                struct message *message)
{
    struct worker_event event = {
        .kind = WORKER_MESSAGE, .message = message, .lane = lane, .key = key};
    fake_step(f, &event);
}

static void hello(struct fake *f, uint64_t lane, uint8_t ticket, const struct hash *key,
                  bool worker)
{
    struct message *message = message_create(MSG_HELLO_LANE);
    message->hello_lane.protocol = PROTOCOL_VERSION;
    message->hello_lane.ticket = fake_id(ticket);
    message->hello_lane.worker = worker;
    say(f, lane, key, message);
}

static void link_event(struct fake *f, enum worker_event_kind kind, uint64_t lane)
{
    struct worker_event event = {.kind = kind, .lane = lane, .text = "it closed"};
    fake_step(f, &event);
}

static bool expects(const struct fake *f, const struct hash *key)
{
    struct holder holder;
    return worker_core_expects(f->core, key, &holder);
}

/* What was said was refused, and its link dropped. */
static void assert_refused(struct fake *f, uint64_t lane, int code)
{
    assert_int_equal(fake_nth(f, MSG_REFUSED, 0)->refused.code, code);
    assert_int_equal(fake_effect(f, WORKER_HANG_UP, 0)->lane, lane);
    fake_forget(f);
}

/* Ticket 1's lane of pool 1 is up, on LINK. */
static void start_up(struct fake *f, bool worker)
{
    fake_start(f, 2);
    introduce(f, 1, 1, worker);
    hello(f, LINK, 1, &peer_key, worker);
    fake_settle(f);
    fake_forget(f);
}

/* The same of one that was dialled; its number. */
static uint64_t start_dialled(struct fake *f)
{
    fake_start(f, 2);
    introduced(f, 1, 1);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    link_event(f, WORKER_LINK_UP, lane);
    struct message *welcome = message_create(MSG_WELCOME_LANE);
    welcome->welcome_lane.worker = fake_id(0x66);
    welcome->welcome_lane.heartbeat_ms = 1000;
    welcome->welcome_lane.silence_ms = 5000;
    say(f, lane, NULL, welcome);
    fake_settle(f);
    return lane;
}

/* ------------------------------------------------------------------ being dialled */

static void tells_where_it_may_be_dialled(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    struct worker_event up = {.kind = WORKER_LINK_UP, .text = "tcp://10.0.0.7:4"};
    fake_step(f, &up);
    assert_string_equal(fake_nth(f, MSG_HELLO_WORKER, 0)->hello_worker.lanes,
                        "tcp://10.0.0.7:4");
}

static void lets_in_whom_it_expects(void **state)
{
    struct fake *f = *state;
    struct holder holder;
    fake_start(f, 2);
    assert_false(expects(f, &peer_key));
    introduce(f, 1, 1, false);
    const struct id ticket = fake_id(1);
    assert_true(id_equal(&fake_nth(f, MSG_EXPECTED, 0)->expected.ticket, &ticket));
    assert_true(worker_core_expects(f->core, &peer_key, &holder));
    assert_int_equal(holder.role, HOLDER_CLIENT);
    assert_false(expects(f, &other_key));
    hello(f, LINK, 1, &peer_key, false);
    const struct message *welcome = fake_nth(f, MSG_WELCOME_LANE, 0);
    assert_true(id_equal(&welcome->welcome_lane.worker, &f->config.worker));
    assert_true(welcome->welcome_lane.silence_ms > welcome->welcome_lane.heartbeat_ms);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
}

static void a_wrong_word_is_refused(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduce(f, 1, 1, false);
    fake_forget(f);
    hello(f, LINK, 2, &peer_key, false); /* another ticket */
    assert_refused(f, LINK, FARPOOL_EKEY);
    hello(f, LINK + 1, 1, &other_key, false); /* another key */
    assert_refused(f, LINK + 1, FARPOOL_EKEY);
    hello(f, LINK + 2, 1, NULL, false); /* none */
    assert_refused(f, LINK + 2, FARPOOL_EKEY);
    hello(f, LINK + 3, 1, &peer_key, true); /* another kind of peer */
    assert_refused(f, LINK + 3, FARPOOL_EKEY);
    struct message *old = message_create(MSG_HELLO_LANE);
    old->hello_lane.protocol = PROTOCOL_VERSION + 1;
    old->hello_lane.ticket = fake_id(1);
    say(f, LINK + 4, &peer_key, old);
    assert_refused(f, LINK + 4, FARPOOL_EVERSION);
    hello(f, LINK + 5, 1, &peer_key, false); /* and it is good still */
    assert_int_equal(fake_sent(f, MSG_WELCOME_LANE), 1);
}

static void a_ticket_is_good_once(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    hello(f, LINK + 1, 1, &peer_key, false);
    assert_refused(f, LINK + 1, FARPOOL_EKEY);
    introduce(f, 1, 1, false); /* told again: nothing new */
    assert_int_equal(fake_sent(f, MSG_EXPECTED), 0);
}

static void nobody_comes_in_time(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduce(f, 1, 1, false);
    fake_pass(f, 4999);
    assert_true(expects(f, &peer_key));
    fake_pass(f, 1);
    assert_false(expects(f, &peer_key));
    fake_forget(f);
    hello(f, LINK, 1, &peer_key, false);
    assert_refused(f, LINK, FARPOOL_EKEY);
}

static void assert_not_let_in(struct fake *f, const char *why)
{
    assert_int_equal(fake_sent(f, MSG_EXPECTED), 0);
    const struct message *message = fake_nth(f, MSG_LANE, 0);
    assert_false(message->lane.up);
    assert_string_equal(message->lane.text, why);
    assert_false(expects(f, &peer_key));
}

static void only_for_pools_that_are_open(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduce(f, 1, 9, false);
    assert_not_let_in(f, "the pool is not open there");
}

static void not_while_it_drains(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1);
    fake_event(f, WORKER_DRAIN);
    introduce(f, 1, 1, false);
    assert_not_let_in(f, "the worker drains");
}

static void only_so_many(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    f->config.lanes_max = 2;
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    for (uint8_t ticket = 1; ticket <= 3; ticket++)
        introduce(f, ticket, 1, false);
    assert_int_equal(fake_sent(f, MSG_EXPECTED), 2);
    assert_string_equal(fake_nth(f, MSG_LANE, 0)->lane.text,
                        "the worker has lanes enough");
}

/* ------------------------------------------------------------------------- its end */

static void assert_hung_up(struct fake *f, uint64_t lane, const char *why)
{
    fake_settle(f);
    const struct worker_effect *effect = fake_effect(f, WORKER_HANG_UP, 0);
    assert_int_equal(effect->lane, lane);
    assert_string_equal(effect->text, why);
    assert_false(expects(f, &peer_key));
}

static void withdrawing_ends_it(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    withdraw(f, 1);
    assert_hung_up(f, LINK, "gone");
}

static void withdrawing_ends_what_is_expected(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduce(f, 1, 1, false);
    withdraw(f, 1);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0); /* it has no link */
    assert_false(expects(f, &peer_key));
}

static void the_end_of_its_pool_ends_it(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    fake_close_pool(f, 1, false);
    assert_hung_up(f, LINK, "its pool has ended");
}

static void what_is_not_for_lanes_ends_it(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    say(f, LINK, &peer_key, message_create(MSG_HEARTBEAT));
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
    hello(f, LINK, 1, &peer_key, false);
    assert_hung_up(f, LINK, "HELLO_LANE is not for a lane");
}

static void silence_ends_it(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    for (int i = 0; i < 4; i++) {
        fake_message(f, message_create(MSG_HEARTBEAT)); /* of the coordinator */
        fake_pass(f, 1000);
    }
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
    size_t beats = 0;
    for (size_t i = 0; i < f->sent_count; i++)
        beats += f->sent[i]->kind == MSG_HEARTBEAT;
    assert_true(beats >= 6); /* to the coordinator, and on the lane */
    fake_message(f, message_create(MSG_HEARTBEAT));
    f->now += 1000;
    assert_hung_up(f, LINK, "silent for too long");
}

static void its_connection_ends(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    link_event(f, WORKER_LINK_DOWN, LINK);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
    assert_int_equal(fake_sent(f, MSG_LANE), 0); /* who dialled tells it */
    assert_false(expects(f, &peer_key));
    link_event(f, WORKER_LINK_DOWN, LINK + 1); /* of one that was refused */
}

/* ------------------------------------------------------------------ tasks and results */

/* All that processes have, until nothing is left. */
static void finish_all(struct fake *f)
{
    bool more = true;
    while (more) {
        more = false;
        for (uint64_t n = 1; n <= f->processes_max; n++) {
            if (f->processes[n].ranges_count == 0)
                continue;
            fake_finish(f, n, 1, 1000);
            more = true;
        }
    }
}

/* Job 2 of pool 1 is opened on the lane, and has these tasks. */
static void give(struct fake *f, uint64_t first, uint32_t count)
{
    say(f, LINK, &peer_key, fake_job_open(1, 2));
    say(f, LINK, &peer_key, fake_tasks_message(1, 2, first, count, 1));
    fake_settle(f);
}

static void tasks_come_on_it_and_results_go_back(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 4);
    fake_finish(f, 1, 1, 1000);
    fake_settle(f);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.job, 2);
    assert_int_equal(fake_lane_of(f, MSG_DONE, 0), LINK);
    fake_tasks(f, 1, 1, 0, 2); /* another job's, by the coordinator */
    fake_settle(f);
    fake_forget(f);
    finish_all(f);
    for (size_t i = 0; i < fake_sent(f, MSG_DONE); i++)
        assert_int_equal(fake_lane_of(f, MSG_DONE, i),
                         fake_nth(f, MSG_DONE, i)->done.job == 2 ? LINK : 0);
    assert_int_equal(fake_sent(f, MSG_DONE), 5);
}

static struct message *ack(const struct fake *f, uint64_t first, uint64_t count)
{
    struct message *message = message_create(MSG_ACK);
    message->ack.pool = fake_id(1);
    message->ack.worker = f->config.worker;
    message->ack.results = mem_alloc(sizeof *message->ack.results);
    message->ack.results_count = 1;
    message->ack.results[0] = (struct msg_seqs){first, count};
    return message;
}

/* The one process prints in its first task. */
static void print(struct fake *f, const char *text)
{
    struct worker_event event = {.kind = WORKER_PROCESS_OUTPUT,
                                 .process = 1,
                                 .pid = 1001,
                                 .fd = 1,
                                 .output = text,
                                 .output_bytes = strlen(text),
                                 .give = f->processes[1].ranges[0].give,
                                 .first = f->processes[1].ranges[0].first,
                                 .count = 1};
    fake_step(f, &event);
}

/* In front of the result of the task that printed it, and the same way. */
static void lines_go_the_way_of_results(void **state)
{
    struct fake *f = *state;
    struct message *open = fake_pool_open(1, 0);
    open->pool_open.output = true;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, open);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    introduce(f, 1, 1, false);
    hello(f, LINK, 1, &peer_key, false);
    give(f, 0, 1);
    print(f, "on the lane\n");
    finish_all(f);
    assert_int_equal(fake_sent(f, MSG_OUTPUT), 1);
    assert_int_equal(fake_lane_of(f, MSG_OUTPUT, 0), LINK);
    fake_tasks(f, 1, 2, 1, 1);
    fake_settle(f);
    print(f, "by the coordinator\n");
    finish_all(f);
    assert_int_equal(fake_lane_of(f, MSG_OUTPUT, 1), 0);
    assert_int_equal(fake_lane_of(f, MSG_DONE, 1), 0);
}

static void results_go_on_without_a_coordinator(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 2);
    fake_event(f, WORKER_LINK_DOWN);
    finish_all(f);
    assert_true(fake_sent(f, MSG_DONE) > 0);
    assert_int_equal(fake_lane_of(f, MSG_DONE, 0), LINK);
    say(f, LINK, &peer_key, ack(f, 0, 10));
    assert_int_equal(fake_counts(f).unacked, 0);
}

/* What was not ACKed goes again, by the coordinator. */
/* What the client has, or wants no more; but not what goes by the coordinator again. */
static void what_it_took_is_counted(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 4);
    finish_all(f);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    const uint32_t count = done->done.results[0].count;
    say(f, LINK, &peer_key, ack(f, done->done.results[0].seq, 1));
    fake_pass(f, 1000);
    const struct message *last = fake_nth(f, MSG_LOAD, fake_sent(f, MSG_LOAD) - 1);
    assert_int_equal(last->load.lane_done, count);
    link_event(f, WORKER_LINK_DOWN, LINK);
    fake_settle(f);
    fake_forget(f);
    fake_message(f, ack(f, 0, 100));
    fake_pass(f, 1000);
    assert_int_equal(fake_counts(f).unacked, 0);
    assert_int_equal(fake_sent(f, MSG_LOAD), 0);
}

static void a_lane_that_ends_leaves_its_work(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 6);
    fake_finish(f, 1, 1, 1000);
    fake_settle(f);
    assert_int_equal(fake_lane_of(f, MSG_DONE, 0), LINK);
    fake_forget(f);
    link_event(f, WORKER_LINK_DOWN, LINK);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
    assert_int_equal(fake_lane_of(f, MSG_DONE, 0), 0);
    assert_int_equal(fake_ranges(f, MSG_HELD), 0); /* its client tells what is here */
    fake_forget(f);
    finish_all(f);
    assert_true(fake_sent(f, MSG_DONE) > 0);
    for (size_t i = 0; i < fake_sent(f, MSG_DONE); i++)
        assert_int_equal(fake_lane_of(f, MSG_DONE, i), 0);
}

static void what_is_cancelled_on_it_is_dropped(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 100);
    struct message *cancel = message_create(MSG_CANCEL);
    cancel->cancel.pool = fake_id(1);
    cancel->cancel.job = 2;
    cancel->cancel.ranges = mem_alloc(sizeof *cancel->cancel.ranges);
    cancel->cancel.ranges_count = 1;
    cancel->cancel.ranges[0] = (struct msg_range){2, 98, 0};
    say(f, LINK, &peer_key, cancel);
    fake_settle(f);
    assert_true(fake_counts(f).held <= 2);
}

static struct message *recall(uint64_t tasks)
{
    struct message *message = message_create(MSG_RECALL);
    message->recall.pool = fake_id(1);
    message->recall.job = 2;
    message->recall.tasks = tasks;
    return message;
}

/* Of what came there, and it is told there; whatever the coordinator's link does. */
static void what_is_called_back_on_it_goes_back(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 100);
    fake_event(f, WORKER_LINK_DOWN);
    say(f, LINK, &peer_key, recall(10));
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_lane_of(f, MSG_RETURNED, 0), LINK);
    const struct message *back = fake_nth(f, MSG_RETURNED, 0);
    assert_int_equal(back->returned.ranges_count, 1);
    assert_int_equal(back->returned.ranges[0].first, 90);
    assert_int_equal(back->returned.ranges[0].count, 10);
}

static void what_came_another_way_is_not_called_back(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 4);
    fake_tasks(f, 1, 2, 50, 50); /* of the same job, by the coordinator */
    fake_settle(f);
    fake_forget(f);
    say(f, LINK, &peer_key, recall(10));
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_lane_of(f, MSG_RETURNED, 0), LINK);
    assert_int_equal(fake_nth(f, MSG_RETURNED, 0)->returned.ranges_count, 0);
}

static void a_job_that_ends_answers(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 100);
    say(f, LINK, &peer_key, recall(10));
    struct message *close = message_create(MSG_JOB_CLOSE);
    close->job_close.pool = fake_id(1);
    close->job_close.job = 2;
    say(f, LINK, &peer_key, close);
    assert_int_equal(fake_lane_of(f, MSG_RETURNED, 0), LINK);
}

/* Nobody is left to be answered. */
static void a_lane_that_ends_calls_nothing_back(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    give(f, 0, 100);
    say(f, LINK, &peer_key, recall(10));
    link_event(f, WORKER_LINK_DOWN, LINK);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 0);
    fake_recall(f, 1, 2, 10);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_lane_of(f, MSG_RETURNED, 0), 0);
}

/* It may fill half as much again as the window, and then the coordinator still has its
 * own. */
static void who_sends_too_much_loses_the_lane_alone(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    enum { EACH = 1 << 17 };
    const uint64_t window = f->config.tasks_max, most = window + window / 2;
    for (uint64_t first = 0; first < most; first += EACH)
        give(f, first, EACH);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
    give(f, most, 8);
    assert_hung_up(f, LINK, "TASKS beyond this worker's window of tasks");
    fake_forget(f);
    for (uint64_t i = 0; i < window; i += EACH)
        fake_tasks(f, 1, 2, 2 * most + i, EACH);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    assert_int_equal(fake_counts(f).held, most + window);
}

static void another_pools_tasks_break_it(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    fake_message(f, fake_pool_open(2, 0));
    fake_message(f, fake_job_open(2, 1));
    say(f, LINK, &peer_key, fake_tasks_message(2, 1, 0, 1, 1));
    assert_hung_up(f, LINK, "TASKS is not for this pool's lane");
    assert_int_equal(fake_counts(f).held, 0);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
}

static void wrong_tasks_break_the_lane_and_not_the_link(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    say(f, LINK, &peer_key, fake_job_open(1, 2));
    say(f, LINK, &peer_key, fake_tasks_message(1, 2, 0, 1, 0));
    assert_hung_up(f, LINK, "TASKS with a bad span");
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
}

static void a_workers_lane_has_no_tasks(void **state)
{
    struct fake *f = *state;
    start_up(f, true);
    say(f, LINK, &peer_key, fake_job_open(1, 2));
    assert_hung_up(f, LINK, "JOB_OPEN is not for a lane");
}

/* The coordinator has closed the job, and was quicker. */
static void tasks_of_a_closed_job_are_nobodys(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    say(f, LINK, &peer_key, fake_job_open(1, 2));
    fake_close_job(f, 1, 2);
    say(f, LINK, &peer_key, fake_tasks_message(1, 2, 0, 3, 1));
    fake_settle(f);
    assert_int_equal(fake_counts(f).held, 0);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
}

/* ------------------------------------------------------------------- coordinators */

static void the_link_to_the_coordinator_may_go(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    fake_event(f, WORKER_LINK_DOWN);
    fake_settle(f);
    assert_true(expects(f, &peer_key));
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
}

static void another_coordinator_ends_those_of_clients(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    introduce(f, 2, 1, false); /* and has not come */
    fake_event(f, WORKER_LINK_DOWN);
    fake_welcome(f, 2, 0);
    assert_hung_up(f, LINK, "the coordinator was started anew");
    fake_forget(f);
    hello(f, LINK + 1, 2, &peer_key, false);
    assert_refused(f, LINK + 1, FARPOOL_EKEY);
}

static void another_coordinator_ends_those_of_workers(void **state)
{
    struct fake *f = *state;
    start_up(f, true);
    fake_event(f, WORKER_LINK_DOWN);
    fake_welcome(f, 2, 0);
    assert_hung_up(f, LINK, "the coordinator was started anew");
}

/* It had given this worker up, and told so: everything is dropped. */
static void the_same_coordinator_ends_all(void **state)
{
    struct fake *f = *state;
    start_up(f, false);
    fake_event(f, WORKER_LINK_DOWN);
    fake_welcome(f, 1, 0);
    assert_hung_up(f, LINK, "its pool has ended");
}

/* ------------------------------------------------------------------------- dialling */

static void dials_whom_it_is_introduced_to(void **state)
{
    struct fake *f = *state;
    const uint64_t lane = start_dialled(f);
    assert_true((lane & WORKER_LANE_DIALLED) != 0);
    const struct worker_effect *dial = fake_effect(f, WORKER_DIAL, 0);
    assert_string_equal(dial->text, "tcp://10.0.0.1:41000");
    assert_true(hash_equal(&dial->key, &peer_key));
    const struct message *said = fake_nth(f, MSG_HELLO_LANE, 0);
    assert_true(
        id_equal(&said->hello_lane.ticket, &fake_nth(f, MSG_LANE, 0)->lane.ticket));
    assert_true(said->hello_lane.worker);
    assert_true(fake_nth(f, MSG_LANE, 0)->lane.up);
    assert_false(expects(f, &peer_key)); /* whom it dials, it does not let in */
}

static void assert_told_down(struct fake *f, const char *why)
{
    fake_settle(f);
    const struct message *message = fake_nth(f, MSG_LANE, 0);
    assert_false(message->lane.up);
    assert_string_equal(message->lane.text, why);
}

static void nobody_answers(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduced(f, 1, 1);
    fake_pass(f, 4000);
    fake_message(f, message_create(MSG_HEARTBEAT)); /* of the coordinator */
    fake_pass(f, 999);
    assert_int_equal(fake_sent(f, MSG_LANE), 0);
    fake_pass(f, 1);
    assert_told_down(f, "nobody came, or answered, in time");
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 1);
}

static void the_host_refuses(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduced(f, 1, 1);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    link_event(f, WORKER_LINK_UP, lane);
    struct message *refused = message_create(MSG_REFUSED);
    snprintf(refused->refused.text, sizeof refused->refused.text, "you are late");
    say(f, lane, NULL, refused);
    assert_told_down(f, "you are late");
}

static void another_answers(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduced(f, 1, 1);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    link_event(f, WORKER_LINK_UP, lane);
    struct message *welcome = message_create(MSG_WELCOME_LANE);
    welcome->welcome_lane.worker = fake_id(0x67);
    say(f, lane, NULL, welcome);
    assert_told_down(f, "another worker answers there");
}

/* Else it would send heartbeats without end. */
static void an_answer_has_its_times(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduced(f, 1, 1);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    link_event(f, WORKER_LINK_UP, lane);
    struct message *welcome = message_create(MSG_WELCOME_LANE);
    welcome->welcome_lane.worker = fake_id(0x66);
    welcome->welcome_lane.silence_ms = 5000;
    say(f, lane, NULL, welcome);
    assert_told_down(f, "WELCOME_LANE without its times");
}

static void what_was_dialled_breaks(void **state)
{
    struct fake *f = *state;
    const uint64_t lane = start_dialled(f);
    fake_forget(f);
    link_event(f, WORKER_LINK_DOWN, lane);
    assert_told_down(f, "it closed");
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 0);
}

static void what_was_dialled_is_withdrawn(void **state)
{
    struct fake *f = *state;
    const uint64_t lane = start_dialled(f);
    fake_forget(f);
    withdraw(f, 1);
    assert_hung_up(f, lane, "gone");
    assert_int_equal(fake_sent(f, MSG_LANE), 0); /* the coordinator knows */
}

static void cannot_dial_for_a_pool_that_is_not_here(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    introduced(f, 1, 9);
    assert_told_down(f, "the pool is not open there");
    assert_int_equal(fake_logged(f, WORKER_DIAL), 0);
}

static void dials_so_many_at_a_time(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    for (uint8_t ticket = 1; ticket <= WORKER_DIALS_MAX + 1; ticket++)
        introduced(f, ticket, 1);
    assert_int_equal(fake_logged(f, WORKER_DIAL), WORKER_DIALS_MAX);
    assert_told_down(f, "the worker has dialled others enough");
}

/* ------------------------------------------------------------------------- memory */

/* One of each, and how they end; returns the allocations that it made. */
static uint64_t live(struct fake *f, uint64_t fail_at)
{
    fake_start(f, 2);
    const uint64_t before = f->allocations;
    f->fail_at = fail_at;
    introduce(f, 1, 1, false);
    hello(f, LINK, 1, &peer_key, false);
    introduce(f, 3, 1, true);
    introduced(f, 2, 1);
    const uint64_t lane = fake_effect(f, WORKER_DIAL, 0)->lane;
    link_event(f, WORKER_LINK_UP, lane);
    hello(f, LINK + 1, 9, NULL, false);
    struct message *welcome = message_create(MSG_WELCOME_LANE);
    welcome->welcome_lane.worker = fake_id(0x66);
    welcome->welcome_lane.heartbeat_ms = 1000;
    welcome->welcome_lane.silence_ms = 5000;
    say(f, lane, NULL, welcome);
    fake_pass(f, 1500);
    link_event(f, WORKER_LINK_DOWN, lane);
    withdraw(f, 1);
    fake_settle(f);
    f->fail_at = 0;
    return f->allocations - before;
}

static void any_allocation_may_fail(void **state)
{
    struct fake *f = *state;
    const uint64_t allocations = live(f, 0);
    const size_t sent = f->sent_count;
    assert_true(allocations > 10);
    assert_int_equal(fake_logged(f, WORKER_HANG_UP), 2);
    for (uint64_t i = 1; i <= allocations; i++) {
        fake_destroy(f);
        live(f, i);
        assert_int_equal(f->sent_count, sent);
        assert_int_equal(fake_logged(f, WORKER_HANG_UP), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(tells_where_it_may_be_dialled),
        FAKE_TEST(lets_in_whom_it_expects),
        FAKE_TEST(a_wrong_word_is_refused),
        FAKE_TEST(a_ticket_is_good_once),
        FAKE_TEST(nobody_comes_in_time),
        FAKE_TEST(only_for_pools_that_are_open),
        FAKE_TEST(not_while_it_drains),
        FAKE_TEST(only_so_many),
        FAKE_TEST(withdrawing_ends_it),
        FAKE_TEST(withdrawing_ends_what_is_expected),
        FAKE_TEST(the_end_of_its_pool_ends_it),
        FAKE_TEST(what_is_not_for_lanes_ends_it),
        FAKE_TEST(silence_ends_it),
        FAKE_TEST(its_connection_ends),
        FAKE_TEST(tasks_come_on_it_and_results_go_back),
        FAKE_TEST(lines_go_the_way_of_results),
        FAKE_TEST(results_go_on_without_a_coordinator),
        FAKE_TEST(what_it_took_is_counted),
        FAKE_TEST(a_lane_that_ends_leaves_its_work),
        FAKE_TEST(what_is_cancelled_on_it_is_dropped),
        FAKE_TEST(what_is_called_back_on_it_goes_back),
        FAKE_TEST(what_came_another_way_is_not_called_back),
        FAKE_TEST(a_job_that_ends_answers),
        FAKE_TEST(a_lane_that_ends_calls_nothing_back),
        FAKE_TEST(who_sends_too_much_loses_the_lane_alone),
        FAKE_TEST(another_pools_tasks_break_it),
        FAKE_TEST(wrong_tasks_break_the_lane_and_not_the_link),
        FAKE_TEST(a_workers_lane_has_no_tasks),
        FAKE_TEST(tasks_of_a_closed_job_are_nobodys),
        FAKE_TEST(the_link_to_the_coordinator_may_go),
        FAKE_TEST(another_coordinator_ends_those_of_clients),
        FAKE_TEST(another_coordinator_ends_those_of_workers),
        FAKE_TEST(the_same_coordinator_ends_all),
        FAKE_TEST(dials_whom_it_is_introduced_to),
        FAKE_TEST(nobody_answers),
        FAKE_TEST(the_host_refuses),
        FAKE_TEST(another_answers),
        FAKE_TEST(an_answer_has_its_times),
        FAKE_TEST(what_was_dialled_breaks),
        FAKE_TEST(what_was_dialled_is_withdrawn),
        FAKE_TEST(cannot_dial_for_a_pool_that_is_not_here),
        FAKE_TEST(dials_so_many_at_a_time),
        FAKE_TEST(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
