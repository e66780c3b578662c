/* SPDX-License-Identifier: Apache-2.0
 *
 * test_detached_thread.c: who asks the service of detached jobs hears from it at once,
 * also where memory is lacking at any place on the way. */
#include "store_fixture.h"

#include "detached/detached.h"

#include <poll.h>

#define LINK 7
#define PATIENCE_MS 2000
#define PLACES_MAX 1000

static int answers;

static void on_answer(void *user, uint64_t link, struct message **message)
{
    (void)user;
    (void)message;
    if (link == LINK)
        answers++;
}

static void on_say(void *user, uint64_t link, const struct holder *holder,
                   struct message **message)
{
    (void)user;
    (void)link;
    (void)holder;
    (void)message;
    fail_msg("no job is there that says anything");
}

static void on_hang_up(void *user, uint64_t link)
{
    (void)user;
    (void)link;
    fail_msg("no job is there that hangs up");
}

/* It asks again, then. */
static void on_drop(void *user, uint64_t link)
{
    (void)user;
    if (link == LINK)
        answers++;
}

static void wait_for_answer(struct detached *detached)
{
    const struct detached_calls calls = {
        .answer = on_answer, .say = on_say, .hang_up = on_hang_up, .drop = on_drop};
    const uint64_t until_ms = sys_now_ms() + PATIENCE_MS;
    while (answers == 0 && sys_now_ms() < until_ms) {
        struct pollfd fd = {.fd = detached_fd(detached), .events = POLLIN};
        poll(&fd, 1, PATIENCE_MS / 10);
        detached_serve(detached, &calls);
    }
}

/* Whether all allocations were made. */
static bool ask_where_one_fails(size_t n)
{
    const struct detached_config config = {folder, BYTES_MAX, 3600};
    struct detached *detached = NULL;
    struct message *question = message_create(MSG_DETACHED_GET);
    assert_done(detached_open(&config, &detached, &error));
    answers = 0;
    mem_fail_after(n);
    if (detached_ask(detached, LINK, NULL, &question))
        wait_for_answer(detached);
    else
        answers++; /* its link is dropped, which tells it */
    const bool was_last = mem_fail_after(0) < n;
    if (answers != 1)
        fail_msg("allocation %zu: %d answers within %d ms", n, answers, PATIENCE_MS);
    message_free(&question);
    detached_close(detached);
    return was_last;
}

static void an_answer_comes_wherever_memory_is_lacking(void **state)
{
    size_t n = 1;
    (void)state;
    while (!ask_where_one_fails(n))
        assert_true(++n < PLACES_MAX);
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_comes_wherever_memory_is_lacking,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
