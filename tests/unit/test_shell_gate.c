/* SPDX-License-Identifier: Apache-2.0
 *
 * test_shell_gate.c: who the coordinator's gate lets in as its files change, and what it
 * carries out for the core. */
#include "common/base/mem.h"
#include "common/sys/log.h"
#include "coordinator/gate.h"
#include "tests/unit/keys_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct gate *gate;
static struct holder asker;

static int set_up(void **state)
{
    farpool_error error;
    (void)state;
    keys_folder_make();
    assert_int_equal(gate_open(folder, 0, &gate, &error), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    gate_close(gate);
    keys_folder_remove();
    return 0;
}

static enum holder_role role_of(const struct hash *key)
{
    struct holder holder;
    const struct net_keys *keys = gate_keys(gate);
    return keys->authorize(keys->user, key, &holder) ? holder.role : HOLDER_NONE;
}

static struct hash make_key(void)
{
    struct key_file file;
    farpool_error error;
    assert_int_equal(key_make(HOLDER_WORKER, "x", &file, &error), 0);
    return file.holder.key;
}

/* ------------------------------------------------------------------- asking */

static size_t answers;
static uint64_t answered;
static struct coordinator_keys answer;

static void on_done(void *user, uint64_t link, const struct coordinator_keys *keys)
{
    (void)user;
    answers++;
    answered = link;
    answer = *keys;
}

static void ask(struct message *message, uint64_t link, enum holder_role role,
                const struct hash *key)
{
    asker = (struct holder){.role = role, .name = "asker", .key = *key};
    assert_int_equal(gate_ask(gate, link, &asker, message, 0), 0);
    message_free(&message);
}

static int serve(uint64_t now_ms)
{
    answers = 0;
    if (!gate_serve(gate, now_ms, on_done, NULL))
        return 1;
    assert_true(answers > 0);
    return answer.code;
}

static struct hash make_token(uint32_t expires_s, uint32_t uses, bool ephemeral)
{
    const struct hash key = make_key(), admin = {.bytes = {1}};
    struct message *message = message_create(MSG_TOKEN_MAKE);
    message->token_make.request = 7;
    message->token_make.key = key;
    message->token_make.expires_s = expires_s;
    message->token_make.uses = uses;
    message->token_make.ephemeral = ephemeral;
    ask(message, 3, HOLDER_ADMIN, &admin);
    assert_int_equal(serve(0), 0);
    assert_int_equal(answered, 3);
    assert_int_equal(answer.request, 7);
    return key;
}

static void ask_enrol(const struct hash *token, const struct hash *key, uint64_t link)
{
    struct message *message = message_create(MSG_ENROL);
    message->enrol.key = *key;
    snprintf(message->enrol.node, sizeof message->enrol.node, "n");
    ask(message, link, HOLDER_TOKEN, token);
}

static void a_token_made_is_let_in_and_so_is_its_key(void **state)
{
    const struct hash token = make_token(60, 2, false), key = make_key();
    (void)state;
    assert_int_equal(role_of(&token), HOLDER_TOKEN);
    assert_int_equal(role_of(&key), HOLDER_NONE);
    ask_enrol(&token, &key, 4);
    assert_int_equal(serve(0), 0);
    assert_string_equal(answer.name, "n");
    assert_int_equal(answered, 4);
    assert_int_equal(role_of(&key), HOLDER_WORKER);
    assert_int_equal(serve(0), 1); /* nothing is left */
    assert_int_equal(gate_deadline(gate), 1000);
}

static void all_of_a_batch_are_answered(void **state)
{
    const struct hash token = make_token(60, 2, false);
    struct hash keys[3];
    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        keys[i] = make_key();
        ask_enrol(&token, &keys[i], 10 + i);
    }
    assert_int_equal(serve(0), FARPOOL_EKEY);
    assert_int_equal(answers, 3);
    assert_int_equal(answered, 12);
    assert_non_null(strstr(answer.text, "as many workers"));
    assert_int_equal(role_of(&keys[1]), HOLDER_WORKER);
    assert_int_equal(role_of(&keys[2]), HOLDER_NONE);
}

/* What a command has just written is known when somebody comes with it. */
static void what_is_new_is_known_at_once(void **state)
{
    farpool_error error;
    struct key_file file;
    (void)state;
    assert_int_equal(keys_add(folder, HOLDER_CLIENT, "anna", out, &error), 0);
    assert_int_equal(key_load(out, &file, &error), 0);
    assert_int_equal(role_of(&file.holder.key), HOLDER_CLIENT);
    assert_true(gate_look(gate, 1)); /* and the others are looked at again */
    assert_false(gate_look(gate, 2));
}

static void a_revoked_token_ends_its_keys(void **state)
{
    const struct hash token = make_token(60, 2, true), key = make_key();
    const struct hash admin = {.bytes = {1}};
    char id[TOKEN_ID_SIZE + 1];
    (void)state;
    ask_enrol(&token, &key, 4);
    assert_int_equal(serve(0), 0);
    assert_true(answer.left_s > 0 && answer.left_s <= 60);
    assert_int_equal(role_of(&key), HOLDER_WORKER);
    struct message *revoke = message_create(MSG_TOKEN_REVOKE);
    snprintf(revoke->token_revoke.token, sizeof revoke->token_revoke.token, "%s",
             token_id(&token, id));
    ask(revoke, 5, HOLDER_ADMIN, &admin);
    assert_int_equal(serve(0), 0);
    assert_int_equal(role_of(&key), HOLDER_NONE);
    assert_true(gate_look(gate, 1));
    assert_int_equal(role_of(&token), HOLDER_TOKEN); /* to be told why */
    ask_enrol(&token, &key, 6);
    assert_int_equal(serve(0), FARPOOL_EKEY);
    assert_non_null(strstr(answer.text, "was revoked"));
}

static void write_list(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/authorized", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A timer of the system's clock; time() may be a tick behind it. */
static void wait_until(int64_t when_s)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)when_s, .tv_nsec = 50000000}};
    uint64_t fired;
    const int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL), 0);
    assert_int_equal(read(fd, &fired, sizeof fired), sizeof fired);
    close(fd);
}

/* The clock is the event: a key ends while nothing else happens. */
static void an_end_that_comes_is_noticed(void **state)
{
    const struct hash key = make_key();
    char key_line[KEY_TEXT_SIZE], when[WHEN_TEXT_SIZE], text[256];
    const int64_t end_s = (int64_t)time(NULL) + 2;
    (void)state;
    snprintf(text, sizeof text, "worker n %s expires=%s\n", key_text(&key, key_line),
             when_text(end_s, when));
    write_list(text);
    assert_true(gate_look(gate, 1000));
    assert_int_equal(role_of(&key), HOLDER_WORKER);
    assert_false(gate_look(gate, 2000));
    wait_until(end_s);
    assert_int_equal(role_of(&key), HOLDER_NONE);
    assert_true(gate_look(gate, 3000));
    assert_false(gate_look(gate, 4000));
}

static void a_broken_list_of_tokens_changes_nothing(void **state)
{
    const struct hash token = make_token(60, 2, false);
    char path[128];
    (void)state;
    gate_look(gate, 0); /* the token itself */
    snprintf(path, sizeof path, "%s/tokens", folder);
    FILE *file = fopen(path, "a");
    fputs("nonsense\n", file);
    fclose(file);
    assert_false(gate_look(gate, 1000));
    assert_int_equal(role_of(&token), HOLDER_TOKEN); /* to be told that it is so */
    const struct hash key = make_key();
    ask_enrol(&token, &key, 4);
    assert_int_equal(serve(0), FARPOOL_EKEY);
    assert_non_null(strstr(answer.text, "its log says why"));
    assert_null(strstr(answer.text, folder));
    unlink(path);
    assert_true(gate_look(gate, 2000));
    assert_int_equal(role_of(&token), HOLDER_NONE);
}

static void a_locked_folder_is_not_waited_for(void **state)
{
    const struct hash token = make_token(60, 2, false), key = make_key();
    const int fd = open(folder, O_RDONLY | O_DIRECTORY);
    (void)state;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    ask_enrol(&token, &key, 4);
    assert_int_equal(serve(0), 1);
    assert_int_equal(gate_deadline(gate), 20);
    assert_int_equal(serve(3000), FARPOOL_ENOTREADY);
    ask_enrol(&token, &key, 5);
    assert_int_equal(serve(0), 1);
    close(fd);
    assert_int_equal(serve(19), 1);
    assert_int_equal(serve(20), 0);
    assert_int_equal(answered, 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_token_made_is_let_in_and_so_is_its_key),
        TEST(all_of_a_batch_are_answered),
        TEST(what_is_new_is_known_at_once),
        TEST(a_revoked_token_ends_its_keys),
        TEST(an_end_that_comes_is_noticed),
        TEST(a_broken_list_of_tokens_changes_nothing),
        TEST(a_locked_folder_is_not_waited_for),
    };
    log_open("test", LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
