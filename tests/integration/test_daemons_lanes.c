/* SPDX-License-Identifier: Apache-2.0
 *
 * test_daemons_lanes.c: a client that speaks the protocol by hand is introduced by a real
 * coordinator to a real worker, dials it, and is let in; without and with keys. Who was
 * not introduced is not. */
#include "daemons.h"

#include "common/base/mem.h"
#include "common/keys/keys.h"
#include "common/net/net.h"
#include "common/sys/program.h"
#include "common/sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

struct end {
    struct net *net;
    uint64_t link;
    bool refused, down;
    struct message *last; /* of the kind that is waited for */
    enum message_kind want;
};

static struct daemon *coordinator, *worker;
static struct end to_coordinator, to_worker;
static char folder[] = "/tmp/farpool-lanes-XXXXXX";
static bool keyed;
static struct key_file client_key, other_key;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void take(void *user, struct net_event *event)
{
    struct end *end = user;
    if (event->kind == NET_UP)
        end->link = event->link;
    else if (event->kind == NET_REFUSED)
        end->refused = true;
    else if (event->kind == NET_DOWN)
        end->down = true;
    else if (event->message->kind == end->want && end->last == NULL) {
        end->last = event->message;
        event->message = NULL;
    }
}

static void turn(void)
{
    struct end *ends[] = {&to_coordinator, &to_worker};
    struct pollfd fds[2 * NET_WAIT_FDS];
    int timeout_ms = 20, count = 0, at[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        if (ends[i]->net == NULL)
            continue;
        net_flush(ends[i]->net);
        at[i] = count;
        count += net_wait_begin(ends[i]->net, &fds[count], &timeout_ms);
    }
    poll(fds, (nfds_t)count, timeout_ms);
    for (int i = 0; i < 2; i++) {
        if (ends[i]->net == NULL)
            continue;
        net_wait_end(ends[i]->net, &fds[at[i]]);
        net_poll(ends[i]->net, now_ms(), take, ends[i]);
    }
}

#define TURN_UNTIL(condition)                                                            \
    do {                                                                                 \
        const uint64_t limit_ms = now_ms() + WAIT_MS;                                    \
        while (!(condition)) {                                                           \
            if (now_ms() > limit_ms)                                                     \
                fail_msg("never came true: %s\n%s", #condition, daemon_output(worker));  \
            turn();                                                                      \
        }                                                                                \
    } while (0)

static const struct message *hear(struct end *end, enum message_kind kind)
{
    message_free(&end->last);
    end->want = kind;
    TURN_UNTIL(end->last != NULL);
    return end->last;
}

static void say(const struct end *end, struct message *message)
{
    assert_non_null(message);
    assert_int_equal(net_send(end->net, end->link, &message), 0);
}

/* ------------------------------------------------------------------------- set-up */

static const char *path_of(const char *name)
{
    static char paths[4][80];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void add_key(enum holder_role role, const char *name)
{
    farpool_error error;
    if (keys_add(path_of("keys"), role, name, path_of(name), &error) != 0)
        fail_msg("%s", error.text);
}

static void make_keys(void)
{
    farpool_error error;
    assert_int_equal(keys_init(path_of("keys"), &error), 0);
    add_key(HOLDER_WORKER, "worker");
    add_key(HOLDER_CLIENT, "client");
    add_key(HOLDER_CLIENT, "other");
    assert_int_equal(key_load(path_of("client"), &client_key, &error), 0);
    assert_int_equal(key_load(path_of("other"), &other_key, &error), 0);
}

/* What a line says behind "name=". */
static void value_in(const char *line, const char *name, char *value, size_t size)
{
    const char *at = strstr(line, name);
    assert_non_null(at);
    at += strlen(name);
    snprintf(value, size, "%.*s", (int)strcspn(at, " \n"), at);
}

static void start(const char *const *argv, struct daemon **daemon, const char *until,
                  const char *name, char *value, size_t size)
{
    const char *line;
    assert_int_equal(daemon_start(argv, daemon), 0);
    assert_int_equal(daemon_wait_line(*daemon, until, WAIT_MS, &line), 0);
    value_in(line, name, value, size);
}

static char coordinator_address[128], lanes_address[128];

static void start_daemons(void)
{
    const char *const plain_coordinator[] = {FARPOOL_COORDINATOR_PATH, "--listen",
                                             "tcp://127.0.0.1:*", NULL};
    const char *const keyed_coordinator[] = {FARPOOL_COORDINATOR_PATH, "--listen",
                                             "tcp://127.0.0.1:*",      "--keys",
                                             path_of("keys"),          NULL};
    start(keyed ? keyed_coordinator : plain_coordinator, &coordinator, "listening",
          "address=", coordinator_address, sizeof coordinator_address);
    const char *argv[] = {FARPOOL_WORKER_PATH,
                          "-c",
                          coordinator_address,
                          "--cache",
                          path_of("cache"),
                          "--scratch",
                          folder,
                          keyed ? "--key" : NULL,
                          path_of("worker"),
                          NULL};
    start(argv, &worker, " lanes address=", "address=", lanes_address,
          sizeof lanes_address);
}

static int set_up(void **state)
{
    keyed = *state != NULL;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    unsetenv("FARPOOL_COORDINATOR");
    unsetenv("FARPOOL_KEY");
    assert_non_null(mkdtemp(folder));
    if (keyed)
        make_keys();
    start_daemons();
    return 0;
}

static void close_end(struct end *end)
{
    net_close(end->net, 0);
    message_free(&end->last);
    *end = (struct end){.net = NULL};
}

static int tear_down(void **state)
{
    char command[80];
    (void)state;
    close_end(&to_worker);
    close_end(&to_coordinator);
    daemon_close(&worker);
    daemon_close(&coordinator);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void dial(struct end *end, const char *address, char peer,
                 const struct key_file *key, const struct hash *server)
{
    struct net_keys keys = {.server = *server};
    if (keyed) {
        keys.own = key->holder.key;
        memcpy(keys.secret, key->secret, sizeof keys.secret);
    }
    const struct net_config config = {.address = address,
                                      .keys = keyed ? &keys : NULL,
                                      .role = 'C',
                                      .peer = peer,
                                      .queue_bytes_max = 1u << 20,
                                      .redial_first_ms = 10,
                                      .redial_max_ms = 40};
    farpool_error error;
    *end = (struct end){.want = MESSAGE_NONE};
    if (net_dial(&config, &end->net, &error) != 0)
        fail_msg("%s", error.text);
}

static const struct id pool_seed = {.bytes = {3, 1, 4}};

static void pool_id(struct id *ret_pool)
{
    *ret_pool = pool_seed;
    if (keyed)
        sys_pool_id(&client_key.holder.key, &pool_seed, ret_pool);
}

/* Its share is told to the worker at once, which so knows the pool. */
static struct message *open_pool(void)
{
    struct message *open = message_create(MSG_POOL_OPEN);
    assert_non_null(open);
    pool_id(&open->pool_open.pool);
    open->pool_open.seed = pool_seed;
    open->pool_open.processes = 1;
    sys_machine(open->pool_open.machine, sizeof open->pool_open.machine);
    open->pool_open.files = mem_alloc(sizeof *open->pool_open.files);
    open->pool_open.files_count = 1;
    snprintf(open->pool_open.files[0].name, sizeof open->pool_open.files[0].name, "p");
    open->pool_open.files[0].size = 1; /* which is asked for, and never comes */
    open->pool_open.files[0].executable = true;
    sys_hash_program(open->pool_open.files, 1, &open->pool_open.program);
    return open;
}

/* The client's, until it is introduced. */
static const struct message *come_in(void)
{
    dial(&to_coordinator, coordinator_address, 'K', &client_key, &client_key.server);
    TURN_UNTIL(to_coordinator.link != 0);
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    assert_non_null(hello);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    hello->hello_client.client = (struct id){.bytes = {9}};
    hello->hello_client.lanes = true;
    say(&to_coordinator, hello);
    hear(&to_coordinator, MSG_WELCOME);
    say(&to_coordinator, open_pool());
    return hear(&to_coordinator, MSG_INTRODUCED);
}

static void say_hello(const struct id *ticket)
{
    struct message *hello = message_create(MSG_HELLO_LANE);
    assert_non_null(hello);
    hello->hello_lane.protocol = PROTOCOL_VERSION;
    hello->hello_lane.ticket = *ticket;
    say(&to_worker, hello);
}

/* -------------------------------------------------------------------------- tests */

static void who_is_introduced_is_let_in(void **state)
{
    (void)state;
    const struct message *introduced = come_in();
    const struct id ticket = introduced->introduced.ticket;
    const struct id id = introduced->introduced.worker;
    assert_string_equal(introduced->introduced.address, lanes_address);
    dial(&to_worker, introduced->introduced.address, 'W', &client_key,
         &introduced->introduced.key);
    TURN_UNTIL(to_worker.link != 0);
    say_hello(&ticket);
    const struct message *welcome = hear(&to_worker, MSG_WELCOME_LANE);
    assert_true(id_equal(&welcome->welcome_lane.worker, &id));
    /* The client goes: so does its lane, though the connection stands. */
    close_end(&to_coordinator);
    TURN_UNTIL(to_worker.down);
}

static void a_ticket_of_chance_is_refused(void **state)
{
    (void)state;
    const struct message *introduced = come_in();
    const struct id ticket = {.bytes = {1, 2, 3}};
    dial(&to_worker, introduced->introduced.address, 'W', &client_key,
         &introduced->introduced.key);
    TURN_UNTIL(to_worker.link != 0);
    say_hello(&ticket);
    assert_int_equal(hear(&to_worker, MSG_REFUSED)->refused.code, FARPOOL_EKEY);
    TURN_UNTIL(to_worker.down);
}

/* One that the coordinator knows, and who has the ticket. */
static void another_key_is_not_let_in(void **state)
{
    (void)state;
    const struct message *introduced = come_in();
    dial(&to_worker, introduced->introduced.address, 'W', &other_key,
         &introduced->introduced.key);
    TURN_UNTIL(to_worker.refused);
    assert_int_equal(to_worker.link, 0);
}

static void a_revoked_key_has_no_lane(void **state)
{
    (void)state;
    farpool_error error;
    const struct message *introduced = come_in();
    const struct id ticket = introduced->introduced.ticket;
    dial(&to_worker, introduced->introduced.address, 'W', &client_key,
         &introduced->introduced.key);
    TURN_UNTIL(to_worker.link != 0);
    say_hello(&ticket);
    hear(&to_worker, MSG_WELCOME_LANE);
    assert_int_equal(keys_revoke(path_of("keys"), "client", &error), 0);
    TURN_UNTIL(to_worker.down);
}

static void the_coordinator_may_go(void **state)
{
    (void)state;
    const struct message *introduced = come_in();
    const struct id ticket = introduced->introduced.ticket;
    dial(&to_worker, introduced->introduced.address, 'W', &client_key,
         &introduced->introduced.key);
    TURN_UNTIL(to_worker.link != 0);
    say_hello(&ticket);
    hear(&to_worker, MSG_WELCOME_LANE);
    daemon_close(&coordinator);
    TURN_UNTIL(to_coordinator.down);
    hear(&to_worker, MSG_HEARTBEAT); /* it goes on */
    assert_false(to_worker.down);
}

int main(void)
{
    static int with_keys;
#define PLAIN(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define KEYED(name)                                                                      \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, tear_down, &with_keys)
    const struct CMUnitTest tests[] = {
        PLAIN(who_is_introduced_is_let_in),   KEYED(who_is_introduced_is_let_in),
        PLAIN(a_ticket_of_chance_is_refused), KEYED(a_ticket_of_chance_is_refused),
        KEYED(another_key_is_not_let_in),     KEYED(a_revoked_key_has_no_lane),
        PLAIN(the_coordinator_may_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
