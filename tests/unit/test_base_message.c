/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_message.c: every message there and back, copied, printed, at its bounds, and
 * with every allocation failing. What a hostile peer sends is in
 * test_base_message_hostile.c. */
#include "tests/tools/random_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct message *there_and_back(const struct message *message)
{
    struct frames frames;
    struct message *decoded = NULL;
    const char *reason = "none";
    assert_int_equal(message_encode(message, &frames), 0);
    if (message_decode(&frames, &decoded, &reason))
        fail_msg("%s: %s", message_name(message->kind), reason);
    frames_fini(&frames);
    return decoded;
}

static void every_message_there_and_back(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        for (uint64_t seed = 0; seed < 200; seed++) {
            uint64_t rng = seed;
            struct message *message = random_message(&rng, kind);
            struct message *decoded = there_and_back(message);
            assert_true(message_equal(message, decoded));
            assert_true(message_body_bytes(message) == message_body_bytes(decoded));
            message_free(&message);
            message_free(&decoded);
            assert_null(message);
        }
    }
    struct message *none = NULL;
    message_free(&none);
}

static void empty_messages_there_and_back(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct message *message = message_create(kind);
        struct message *decoded = there_and_back(message);
        assert_true(message_equal(message, decoded));
        assert_true(message_body_bytes(message) == 0);
        message_free(&message);
        message_free(&decoded);
    }
}

static void texts_are_never_null_when_decoded(void **state)
{
    (void)state;
    struct message *message = message_create(MSG_POOL_FAILED);
    assert_null(message->pool_failed.text);
    struct message *decoded = there_and_back(message);
    assert_string_equal(decoded->pool_failed.text, "");
    message_free(&message);
    message_free(&decoded);
}

static void bodies_are_shared(void **state)
{
    (void)state;
    struct message *message = message_create(MSG_TASKS);
    struct payload *data = payload_copy("abcdef", 6);
    message->tasks.spans = mem_alloc(sizeof(struct msg_span));
    message->tasks.spans_count = 1;
    message->tasks.spans[0] = (struct msg_span){.count = 3, .data = payload_ref(data)};
    struct message *decoded = there_and_back(message);
    assert_ptr_equal(decoded->tasks.spans[0].data, data);
    struct message *copy = message_copy(message);
    assert_ptr_equal(copy->tasks.spans[0].data, data);
    assert_int_equal(atomic_load(&data->refs), 4);
    assert_true(message_body_bytes(message) == 6);
    message_free(&message);
    message_free(&decoded);
    message_free(&copy);
    assert_int_equal(atomic_load(&data->refs), 1);
    payload_unref(&data);
}

static void copies_are_equal_and_their_own(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            uint64_t rng = seed, again = seed;
            struct message *message = random_message(&rng, kind);
            struct message *same = random_message(&again, kind);
            struct message *copy = message_copy(message);
            message_free(&message);
            assert_true(message_equal(copy, same));
            message_free(&same);
            message_free(&copy);
        }
    }
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    size_t failures = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        uint64_t rng = 3;
        struct message *message = random_message(&rng, kind);
        struct frames frames;
        int error = FARPOOL_ENOMEM;
        for (size_t n = 1; error; n++, failures++) {
            mem_fail_after(n);
            error = message_encode(message, &frames);
            mem_fail_after(0);
            assert_true(!error || error == FARPOOL_ENOMEM);
        }
        struct message *decoded = NULL, *copy = NULL;
        error = FARPOOL_ENOMEM;
        for (size_t n = 1; error; n++, failures++) {
            const char *reason = NULL;
            mem_fail_after(n);
            error = message_decode(&frames, &decoded, &reason);
            mem_fail_after(0);
            assert_true(!error || error == FARPOOL_ENOMEM);
            assert_int_equal(!error, decoded != NULL);
        }
        for (size_t n = 1; !copy; n++, failures++) {
            mem_fail_after(n);
            copy = message_copy(message);
            mem_fail_after(0);
        }
        assert_true(message_equal(message, copy) && message_equal(message, decoded));
        frames_fini(&frames);
        message_free(&message);
        message_free(&decoded);
        message_free(&copy);
    }
    assert_true(failures > 5 * MESSAGE_KINDS);
}

/* ---------------------------------------------------------------- bounds */

static bool set_over(const struct message_field *field, void *base)
{
    void *at = field_at(field, base);
    switch (field->type) {
    case FIELD_u32:
        *(uint32_t *)at = (uint32_t)field->bound + 1;
        return field->bound < UINT32_MAX;
    case FIELD_u64:
        *(uint64_t *)at = field->bound + 1;
        return field->bound < UINT64_MAX;
    case FIELD_i32:
        assert_true(field->bound < INT32_MAX);
        *(int32_t *)at = -(int32_t)field->bound - 1;
        return true;
    case FIELD_str:
        memset(at, 'x', field->bound + 1); /* without an end */
        return true;
    case FIELD_text:
        mem_free(*(char **)at);
        *(char **)at = mem_alloc(field->bound + 2);
        memset(*(char **)at, 'x', field->bound + 1);
        return true;
    case FIELD_body:
        payload_unref(at);
        *(struct payload **)at = payload_wrap("", field->bound + 1, NULL, NULL);
        return true;
    default:
        return false;
    }
}

static void assert_refused(struct message **message)
{
    struct frames frames;
    assert_int_equal(message_encode(*message, &frames), FARPOOL_EINVAL);
    message_free(message);
}

static void fields_over_their_bound_are_refused(void **state)
{
    (void)state;
    size_t tried = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            uint64_t rng = 1;
            struct message *message = random_message(&rng, kind);
            if (set_over(&layout->fields[i], message)) {
                tried++;
                assert_refused(&message);
            }
            message_free(&message);
        }
    }
    assert_true(tried > 20);
}

static void lists_over_their_bound_are_refused(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_field *field = &layout->fields[i];
            if (field->type != FIELD_list)
                continue;
            for (uint32_t extra = 0; extra < 2; extra++) {
                uint64_t rng = 8;
                struct message *message = message_create(kind);
                random_list(&rng, field, message, (uint32_t)field->bound + extra);
                if (extra) {
                    assert_refused(&message);
                    continue;
                }
                struct message *decoded = there_and_back(message);
                assert_true(message_equal(message, decoded));
                message_free(&message);
                message_free(&decoded);
            }
        }
    }
}

static void records_over_their_bound_are_refused(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_record *record = layout->fields[i].record;
            for (uint32_t j = 0; record && j < record->fields_count; j++) {
                uint64_t rng = 1;
                struct message *message = message_create(kind);
                random_list(&rng, &layout->fields[i], message, 2);
                uint32_t count;
                char *values = list_of(&layout->fields[i], message, &count);
                if (set_over(&record->fields[j], values + record->size))
                    assert_refused(&message);
                message_free(&message);
            }
        }
    }
}

static void the_largest_message_fits(void **state)
{
    (void)state;
    struct message *message = message_create(MSG_FAILED);
    message->failed.results = mem_alloc(SPANS_MAX * sizeof(struct msg_failed));
    message->failed.results_count = SPANS_MAX;
    for (uint32_t i = 0; i < SPANS_MAX; i++) {
        struct msg_failed *failed = &message->failed.results[i];
        *failed = (struct msg_failed){.code = FARPOOL_EFUNCTION, .index = i};
        failed->message = mem_alloc(FAILURE_MESSAGE_MAX + 1);
        failed->backtrace = mem_alloc(FAILURE_BACKTRACE_MAX + 1);
        memset(failed->message, 'm', FAILURE_MESSAGE_MAX);
        memset(failed->backtrace, 'b', FAILURE_BACKTRACE_MAX);
    }
    struct message *decoded = there_and_back(message);
    assert_true(message_equal(message, decoded));
    message_free(&message);
    message_free(&decoded);
}

/* ----------------------------------------------------------- what is told */

static void who_may_send_what(void **state)
{
    (void)state;
    assert_true(message_allowed(MSG_TASKS, 'C', 'K'));
    assert_true(message_allowed(MSG_TASKS, 'K', 'W'));
    assert_false(message_allowed(MSG_TASKS, 'W', 'K'));
    assert_false(message_allowed(MSG_TASKS, 'K', 'C'));
    assert_true(message_allowed(MSG_DONE, 'W', 'K'));
    assert_true(message_allowed(MSG_DONE, 'K', 'C'));
    assert_false(message_allowed(MSG_DONE, 'C', 'K'));
    assert_true(message_allowed(MSG_BYE, 'C', 'K') && message_allowed(MSG_BYE, 'W', 'K'));
    assert_false(message_allowed(MSG_BYE, 'K', 'C') ||
                 message_allowed(MSG_BYE, 'K', 'W'));
    assert_true(message_allowed(MSG_WELCOME, 'K', 'C'));
    assert_false(message_allowed(MSG_WELCOME, 'C', 'K') ||
                 message_allowed(MSG_WELCOME, 'W', 'C'));
    assert_true(message_allowed(MSG_RELAY, 'W', 'K') &&
                message_allowed(MSG_RELAY, 'K', 'W'));
    assert_false(message_allowed(MSG_RELAY, 'C', 'K') ||
                 message_allowed(MSG_RELAY, 'K', 'C'));
    assert_true(message_allowed(MSG_HELLO_LANE, 'C', 'W') &&
                message_allowed(MSG_HELLO_LANE, 'W', 'W'));
    assert_false(message_allowed(MSG_HELLO_LANE, 'C', 'K') ||
                 message_allowed(MSG_INTRODUCE, 'C', 'W'));
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        assert_false(message_allowed(kind, 0, 'K') || message_allowed(kind, 'x', 'K'));
        assert_false(message_allowed(kind, '>', 'K') || message_allowed(kind, ' ', 'C'));
        assert_false(message_allowed(kind, 'C', 0) || message_allowed(kind, 'C', '>'));
        bool sent = false;
        for (const char *from = "CKW"; *from; from++)
            for (const char *to = "CKW"; *to; to++)
                sent |= message_allowed(kind, *from, *to);
        assert_true(sent);
    }
    static const char *const links[] = {"CK", "KC", "WK", "KW", "CW", "WC", "WW"};
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        const char from = links[i][0], to = links[i][1];
        assert_true(message_allowed(MSG_PART, from, to));
        assert_true(message_allowed(MSG_HEARTBEAT, from, to));
        assert_false(message_allowed(MESSAGE_NONE, from, to));
        assert_false(message_allowed(MESSAGE_KINDS, from, to));
    }
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(message_name(MSG_TASKS), "TASKS");
    assert_string_equal(message_name(MESSAGE_NONE), "?");
    assert_string_equal(message_name(MESSAGE_KINDS), "?");
    assert_string_equal(message_name((enum message_kind)1000), "?");
}

static void print_is_one_line(void **state)
{
    (void)state;
    struct message *message = message_create(MSG_TASKS);
    message->tasks.pool.bytes[0] = 0x3f;
    message->tasks.pool.bytes[1] = 0x2a;
    message->tasks.job = 1;
    message->tasks.spans = mem_alloc(2 * sizeof(struct msg_span));
    message->tasks.spans_count = 2;
    message->tasks.spans[0] =
        (struct msg_span){.count = 8, .attempt = 1, .data = payload_copy("12345678", 8)};
    message->tasks.spans[1] = (struct msg_span){.first = 9, .count = 1, .attempt = 2};
    const char *wanted =
        "TASKS pool=3f2a.. job=1 spans=[{first=0 count=8 attempt=1 watch=0 sizes=- "
        "data=8B} {first=9 count=1 attempt=2 watch=0 sizes=- data=-}]";
    char text[400];
    assert_string_equal(message_print(message, text, sizeof text), wanted);
    for (size_t size = 1; size < sizeof text; size++) {
        memset(text, 'z', sizeof text);
        message_print(message, text, size);
        assert_true(strlen(text) < size);
        assert_memory_equal(text, wanted, strlen(text));
        assert_true(strlen(text) == size - 1 || strlen(text) == strlen(wanted));
    }
    message_free(&message);
}

static void print_escapes_what_a_peer_wrote(void **state)
{
    (void)state;
    struct message *message = message_create(MSG_POOL_FAILED);
    strcpy(message->pool_failed.node, "a\"b\\");
    message->pool_failed.code = FARPOOL_EPROGRAM;
    message->pool_failed.fatal = true;
    message->pool_failed.text = mem_strdup("x\n\x1b[31my\x7f");
    char text[400];
    assert_string_equal(message_print(message, text, sizeof text),
                        "POOL_FAILED pool=0000.. node=\"a\\\"b\\\\\" code=-29 fatal=1 "
                        "nodes_left=0 text=\"x\\x0a\\x1b[31my\\x7f\"");
    message_free(&message);
}

static void every_message_prints(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        uint64_t rng = 2;
        struct message *message = random_message(&rng, kind);
        char text[300];
        message_print(message, text, sizeof text);
        assert_memory_equal(text, message_name(kind), strlen(message_name(kind)));
        for (const char *at = text; *at; at++)
            assert_false((unsigned char)*at < 0x20 || *at == 0x7f);
        message_free(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_there_and_back),
        cmocka_unit_test(empty_messages_there_and_back),
        cmocka_unit_test(texts_are_never_null_when_decoded),
        cmocka_unit_test(bodies_are_shared),
        cmocka_unit_test(copies_are_equal_and_their_own),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(fields_over_their_bound_are_refused),
        cmocka_unit_test(lists_over_their_bound_are_refused),
        cmocka_unit_test(records_over_their_bound_are_refused),
        cmocka_unit_test(the_largest_message_fits),
        cmocka_unit_test(who_may_send_what),
        cmocka_unit_test(names),
        cmocka_unit_test(print_is_one_line),
        cmocka_unit_test(print_escapes_what_a_peer_wrote),
        cmocka_unit_test(every_message_prints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
