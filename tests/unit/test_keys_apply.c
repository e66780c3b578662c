/* SPDX-License-Identifier: Apache-2.0
 *
 * test_keys_apply.c: a folder of keys as it changes: uses are counted before they are
 * spent, and once; what has ended goes; a rotated key runs out. The time is given. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "tests/unit/keys_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NOW 1777863721

static int set_up(void **state)
{
    (void)state;
    keys_folder_make();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    keys_folder_remove();
    return 0;
}

static struct hash make_key(void)
{
    struct key_file file;
    farpool_error error;
    assert_int_equal(key_make(HOLDER_WORKER, "x", &file, &error), 0);
    return file.holder.key;
}

static void apply(struct keys_request *request, int64_t now_s)
{
    farpool_error error;
    if (keys_apply(folder, request, 1, now_s, true, &error) != 0)
        fail_msg("%s", error.text);
}

static struct hash make_token(uint32_t expires_s, uint32_t uses, bool ephemeral)
{
    struct keys_request request = {.kind = KEYS_TOKEN,
                                   .token = make_key(),
                                   .expires_s = expires_s,
                                   .uses = uses,
                                   .ephemeral = ephemeral};
    apply(&request, NOW);
    assert_int_equal(request.code, 0);
    return request.token;
}

static struct keys_request ask_enrol(const struct hash *token, const struct hash *key,
                                     const char *name)
{
    struct keys_request request = {.kind = KEYS_ENROL, .token = *token, .key = *key};
    snprintf(request.name, sizeof request.name, "%s", name);
    return request;
}

static struct keys_request enrol(const struct hash *token, const struct hash *key,
                                 const char *name, int64_t now_s)
{
    struct keys_request request = ask_enrol(token, key, name);
    apply(&request, now_s);
    return request;
}

static void refused(const struct hash *token, int64_t now_s, const char *why)
{
    const struct hash key = make_key();
    const struct keys_request request = enrol(token, &key, "n", now_s);
    assert_int_equal(request.code, FARPOOL_EKEY);
    if (strstr(request.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", request.text, why);
}

static uint32_t uses_left(const struct hash *token)
{
    struct token_list list;
    farpool_error error;
    assert_int_equal(tokens_load(folder, &list, NULL, &error), 0);
    const struct token_entry *found = tokens_find(&list, token);
    assert_non_null(found);
    const uint32_t left = found->left;
    token_list_fini(&list);
    return left;
}

/* Lines with a key; and when the key ends, if it is not NULL. */
static size_t listed(const struct hash *key, int64_t *ret_end_s)
{
    struct key_list list;
    struct token_list tokens;
    farpool_error error;
    size_t count = 0;
    assert_int_equal(keys_load(folder, &list, NULL, &error), 0);
    assert_int_equal(tokens_load(folder, &tokens, NULL, &error), 0);
    for (size_t i = 0; i < list.count; i++) {
        if (key != NULL && !hash_equal(&list.items[i].holder.key, key))
            continue;
        count++;
        if (ret_end_s != NULL)
            *ret_end_s = keys_end(&list.items[i], &tokens);
    }
    token_list_fini(&tokens);
    key_list_fini(&list);
    return count;
}

static void a_use_is_one_key(void **state)
{
    const struct hash token = make_token(60, 2, false);
    const struct hash a = make_key(), b = make_key();
    int64_t end_s = 0;
    (void)state;
    struct keys_request got = enrol(&token, &a, "node 1", NOW);
    assert_int_equal(got.code, 0);
    assert_string_equal(got.name, "node-1");
    assert_int_equal(got.left_s, 0);
    assert_int_equal(uses_left(&token), 1);
    /* Again, as if the answer had been lost: also when the token has ended. */
    got = enrol(&token, &a, "node 1", NOW + 90);
    assert_int_equal(got.code, 0);
    assert_string_equal(got.name, "node-1");
    assert_int_equal(uses_left(&token), 1);
    assert_int_equal(listed(&a, &end_s), 1);
    assert_int_equal(end_s, INT64_MAX);
    got = enrol(&token, &b, "node-1", NOW);
    assert_string_equal(got.name, "node-1-2");
    refused(&token, NOW, "has been used by as many workers");
    assert_int_equal(listed(NULL, NULL), 2);
}

static void names_stay_within_their_bound(void **state)
{
    const struct hash token = make_token(60, 12, false);
    char wish[64];
    (void)state;
    memset(wish, 'n', 63);
    wish[63] = '\0';
    for (int i = 1; i <= 11; i++) {
        const struct hash key = make_key();
        const struct keys_request got = enrol(&token, &key, wish, NOW);
        assert_int_equal(got.code, 0);
        assert_true(key_name_valid(got.name));
        assert_int_equal(strlen(got.name), 63);
    }
    const struct hash key = make_key();
    assert_string_equal(enrol(&token, &key, "", NOW).name, "worker");
    assert_int_equal(listed(NULL, NULL), 12);
}

static void many_at_once_get_no_more_than_granted(void **state)
{
    const struct hash token = make_token(60, 3, false);
    struct keys_request requests[8];
    farpool_error error;
    size_t good = 0;
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        const struct hash key = make_key();
        requests[i] = ask_enrol(&token, &key, "n");
    }
    assert_int_equal(keys_apply(folder, requests, 8, NOW, false, &error), 0);
    for (size_t i = 0; i < 8; i++)
        good += requests[i].code == 0;
    assert_int_equal(good, 3);
    assert_int_equal(listed(NULL, NULL), 3);
    assert_int_equal(uses_left(&token), 0);
}

/* The list could not be written after the use was counted: as a crash in between. */
static void what_breaks_in_between_loses_a_use(void **state)
{
    const struct hash token = make_token(60, 2, false), key = make_key();
    struct keys_request request = ask_enrol(&token, &key, "n");
    farpool_error error;
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/authorized.new", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(keys_apply(folder, &request, 1, NOW, true, &error), FARPOOL_EKEY);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(uses_left(&token), 1);
    assert_int_equal(listed(&key, NULL), 0);
    assert_int_equal(enrol(&token, &key, "n", NOW).code, 0);
    assert_int_equal(uses_left(&token), 0);
    refused(&token, NOW, "as many workers");
    assert_int_equal(listed(NULL, NULL), 1);
}

static void ends_are_told(void **state)
{
    const struct hash token = make_token(60, 5, false), other = make_key();
    struct keys_request request = {.kind = KEYS_TOKEN_REVOKE};
    (void)state;
    refused(&token, NOW + 60, "expired 0 s ago");
    refused(&token, NOW - 3600, "clock of the coordinator's machine");
    refused(&other, NOW, "not known any more");
    token_id(&token, request.id);
    apply(&request, NOW + 1);
    assert_int_equal(request.code, 0);
    refused(&token, NOW + 2, "was revoked");
    refused(&token, NOW + 60 + 86399, "was revoked");
    refused(&token, NOW + 60 + 86400, "not known any more");
    apply(&request, NOW + 60 + 86401);
    assert_int_equal(request.code, FARPOOL_EINVAL);
    assert_int_equal(listed(NULL, NULL), 0);
}

static void ephemeral_keys_end_with_their_token(void **state)
{
    const struct hash token = make_token(60, 5, true), key = make_key();
    const struct hash second = make_token(600, 5, true), late = make_key();
    struct keys_request revoke = {.kind = KEYS_TOKEN_REVOKE};
    int64_t end_s = 0;
    (void)state;
    assert_int_equal(enrol(&token, &key, "n", NOW + 10).left_s, 50);
    assert_int_equal(listed(&key, &end_s), 1);
    assert_int_equal(end_s, NOW + 60);
    /* Gone with the next change after its end, and its name is free. */
    const struct keys_request got = enrol(&second, &late, "n", NOW + 60);
    assert_int_equal(got.code, 0);
    assert_string_equal(got.name, "n");
    assert_int_equal(listed(&key, NULL), 0);
    token_id(&second, revoke.id);
    apply(&revoke, NOW + 61);
    assert_int_equal(revoke.code, 0);
    assert_int_equal(listed(&late, NULL), 0);
}

/* A list written by hand, or a crash between the two files: what counts is the token. */
static void a_key_without_its_token_has_ended(void **state)
{
    const struct hash token = make_token(60, 1, true), key = make_key();
    int64_t end_s = 0;
    char path[128];
    (void)state;
    assert_int_equal(enrol(&token, &key, "n", NOW).code, 0);
    snprintf(path, sizeof path, "%s/tokens", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(listed(&key, &end_s), 1);
    assert_int_equal(end_s, INT64_MIN);
}

static void wrong_wishes_are_refused(void **state)
{
    const struct hash token = make_token(60, 5, false);
    struct keys_request twice = {
        .kind = KEYS_TOKEN, .token = token, .expires_s = 60, .uses = 1};
    struct keys_request request = {.kind = KEYS_TOKEN, .token = make_key()};
    farpool_error error;
    struct key_file file;
    (void)state;
    apply(&twice, NOW);
    assert_int_equal(twice.code, FARPOOL_EKEY);
    request.uses = 1;
    apply(&request, NOW);
    assert_int_equal(request.code, FARPOOL_EINVAL);
    request.expires_s = 1;
    request.uses = 0;
    apply(&request, NOW);
    assert_int_equal(request.code, FARPOOL_EINVAL);
    /* A client's key, or a token's, does not become a worker's. */
    assert_int_equal(keys_add(folder, HOLDER_CLIENT, "c", out, &error), 0);
    assert_int_equal(key_load(out, &file, &error), 0);
    assert_int_equal(enrol(&token, &file.holder.key, "n", NOW).code, FARPOOL_EKEY);
    assert_int_equal(enrol(&token, &token, "n", NOW).code, FARPOOL_EKEY);
    assert_int_equal(uses_left(&token), 5);
}

static void a_lock_is_not_waited_for_unless_wanted(void **state)
{
    const struct hash token = make_token(60, 1, false), key = make_key();
    struct keys_request request = ask_enrol(&token, &key, "n");
    farpool_error error;
    const int fd = open(folder, O_RDONLY | O_DIRECTORY);
    (void)state;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(keys_apply(folder, &request, 1, NOW, false, &error),
                     FARPOOL_ENOTREADY);
    close(fd);
    assert_int_equal(keys_apply(folder, &request, 1, NOW, false, &error), 0);
    assert_int_equal(request.code, 0);
}

static void memory_that_runs_out_changes_nothing(void **state)
{
    const struct hash token = make_token(60, 1, false), key = make_key();
    farpool_error error;
    (void)state;
    for (size_t n = 1;; n++) {
        struct keys_request request = ask_enrol(&token, &key, "n");
        mem_fail_after(n);
        const int result = keys_apply(folder, &request, 1, NOW, true, &error);
        if (mem_fail_after(0) < n) {
            assert_int_equal(result, 0);
            assert_int_equal(request.code, 0);
            assert_true(n > 5);
            break;
        }
        assert_true(result == FARPOOL_ENOMEM || request.code == FARPOOL_ENOMEM);
        assert_int_equal(uses_left(&token), 1);
    }
    assert_int_equal(listed(&key, NULL), 1);
}

/* -------------------------------------------------------------------- rotation */

static void a_rotated_key_runs_out(void **state)
{
    farpool_error error;
    struct key_file old, fresh, newest;
    char again[128];
    int64_t end_s = 0;
    (void)state;
    snprintf(again, sizeof again, "%s/again.key", folder);
    assert_int_equal(keys_add(folder, HOLDER_ADMIN, "boss", out, &error), 0);
    assert_int_equal(key_load(out, &old, &error), 0);
    assert_int_equal(keys_rotate(folder, "boss", out, 60, NOW, &error), FARPOOL_EKEY);
    assert_non_null(strstr(error.text, "not overwritten"));
    assert_int_equal(listed(NULL, NULL), 1);
    assert_int_equal(keys_rotate(folder, "boss", again, 60, NOW, &error), 0);
    assert_int_equal(key_load(again, &fresh, &error), 0);
    assert_int_equal(fresh.holder.role, HOLDER_ADMIN);
    assert_string_equal(fresh.holder.name, "boss");
    assert_true(hash_equal(&fresh.server, &old.server));
    assert_false(hash_equal(&fresh.holder.key, &old.holder.key));
    assert_int_equal(listed(&old.holder.key, &end_s), 1);
    assert_int_equal(end_s, NOW + 60);
    assert_int_equal(listed(&fresh.holder.key, &end_s), 1);
    assert_int_equal(end_s, INT64_MAX);
    /* At once; the first one still runs out by itself. */
    unlink(out);
    assert_int_equal(keys_rotate(folder, "boss", out, 0, NOW, &error), 0);
    assert_int_equal(key_load(out, &newest, &error), 0);
    assert_int_equal(listed(&fresh.holder.key, NULL), 0);
    assert_int_equal(listed(NULL, NULL), 2);
    /* Revoking takes all that a name has. */
    assert_int_equal(keys_revoke(folder, "boss", &error), 0);
    assert_int_equal(listed(NULL, NULL), 0);
}

static void what_cannot_be_rotated_is_told(void **state)
{
    const struct hash token = make_token(60, 1, true), key = make_key();
    farpool_error error;
    (void)state;
    assert_int_equal(keys_rotate(folder, "n", out, 60, NOW, &error), FARPOOL_EKEY);
    assert_non_null(strstr(error.text, "no key named \"n\""));
    assert_int_equal(enrol(&token, &key, "n", NOW).code, 0);
    assert_int_equal(keys_rotate(folder, "n", out, 60, NOW, &error), FARPOOL_EKEY);
    assert_non_null(strstr(error.text, "ends with the token"));
    assert_int_equal(access(out, F_OK), -1);
}

/* --------------------------------------------------------------------- joining */

static void a_pair_on_its_way_is_kept(void **state)
{
    static const struct hash server = {.bytes = {1}}, elsewhere = {.bytes = {2}};
    struct token token, other;
    struct key_file first, second, third, memory;
    farpool_error error;
    char joining[128];
    (void)state;
    snprintf(joining, sizeof joining, "%s.joining", out);
    assert_int_equal(token_make("tcp://head:1", &server, &token, &error), 0);
    assert_int_equal(token_make("tcp://other:1", &elsewhere, &other, &error), 0);
    assert_int_equal(token_begin(&token, NULL, &memory, &error), 0);
    assert_int_equal(token_begin(&token, out, &first, &error), 0);
    assert_int_equal(token_begin(&token, out, &second, &error), 0);
    assert_true(hash_equal(&first.holder.key, &second.holder.key));
    assert_int_equal(token_begin(&other, out, &third, &error), 0);
    assert_false(hash_equal(&first.holder.key, &third.holder.key));
    snprintf(third.holder.name, sizeof third.holder.name, "n1");
    assert_int_equal(token_end(out, &third, &error), 0);
    assert_int_equal(access(joining, F_OK), -1);
    assert_int_equal(key_load(out, &second, &error), 0);
    assert_string_equal(second.holder.name, "n1");
    assert_string_equal(second.address, "tcp://other:1");
    assert_int_equal(token_begin(&token, out, &first, &error), FARPOOL_EKEY);
    assert_non_null(strstr(error.text, "not overwritten"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_use_is_one_key),
        TEST(names_stay_within_their_bound),
        TEST(many_at_once_get_no_more_than_granted),
        TEST(what_breaks_in_between_loses_a_use),
        TEST(ends_are_told),
        TEST(ephemeral_keys_end_with_their_token),
        TEST(a_key_without_its_token_has_ended),
        TEST(wrong_wishes_are_refused),
        TEST(a_lock_is_not_waited_for_unless_wanted),
        TEST(memory_that_runs_out_changes_nothing),
        TEST(a_rotated_key_runs_out),
        TEST(what_cannot_be_rotated_is_told),
        TEST(a_pair_on_its_way_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
