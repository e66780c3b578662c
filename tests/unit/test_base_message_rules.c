/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_message_rules.c: bodies and lists over their bounds, and records that break a
 * rule of their own, which neither the decoder nor the encoder takes. */
#include "tests/unit/raw_message.h"

/* Packed without checks, refused by the decoder. */
static void assert_refused_raw(struct message *message, uint32_t record_extra,
                               const char *why)
{
    struct raw raw = {.target = -1, .record_extra = record_extra};
    struct frames frames = raw_frames(&raw, message);
    assert_refused_as(&frames, why);
    frames_fini(&frames);
    message_free(&message);
}

/* The frame is there, and as large as the header says: but too large. */
static void bodies_over_their_bound(void **state)
{
    (void)state;
    size_t tried = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_field *field = &layout->fields[i];
            if (field->type != FIELD_body)
                continue;
            struct message *message = message_create(kind);
            struct payload **body = field_at(field, message);
            *body = payload_wrap("", field->bound + 1, NULL, NULL);
            assert_refused_raw(message, 0, "a body over its bound");
            tried++;
        }
    }
    assert_true(tried >= 4);
}

/* Lists of good records: one too many of them, and records that claim a field more. */
static void lists_of_too_much(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_field *field = &layout->fields[i];
            if (field->type != FIELD_list)
                continue;
            uint64_t rng = 4;
            struct message *message = message_create(kind);
            random_list(&rng, field, message, (uint32_t)field->bound + 1);
            assert_refused_raw(message, 0, "a list over its bound");
            message = message_create(kind);
            random_list(&rng, field, message, 3);
            assert_refused_raw(message, 1, "a record with another number of fields");
        }
    }
}

/* ------------------------------------------------------- rules of records */

/* Packed without checks, refused by the decoder; and by the encoder, too. */
static void assert_breaks_a_rule(struct message **message)
{
    struct raw raw = {.target = -1};
    struct frames frames = raw_frames(&raw, *message);
    assert_refused(&frames);
    frames_fini(&frames);
    assert_int_equal(message_encode(*message, &frames), FARPOOL_EINVAL);
    message_free(message);
}

static struct msg_span bad_span(int which)
{
    switch (which) {
    case 0:
        return (struct msg_span){.count = 0};
    case 1:
        return (struct msg_span){.first = UINT64_MAX, .count = 1};
    case 2:
        return (struct msg_span){.count = 3, .data = payload_create(4)};
    case 3:
        return (struct msg_span){.count = 2, .sizes = payload_create(7)};
    case 4:
        return (struct msg_span){.count = 1,
                                 .sizes = payload_copy("\3\0\0\0", 4),
                                 .data = payload_copy("ab", 2)};
    default:
        return (struct msg_span){.count = 1, .sizes = payload_copy("\3\0\0\0", 4)};
    }
}

static void spans_that_do_not_agree(void **state)
{
    (void)state;
    for (int which = 0; which < 6; which++) {
        struct message *message = message_create(MSG_TASKS);
        message->tasks.spans = mem_alloc(2 * sizeof(struct msg_span));
        message->tasks.spans_count = 2;
        message->tasks.spans[0] = (struct msg_span){.count = 1};
        message->tasks.spans[1] = bad_span(which);
        assert_breaks_a_rule(&message);
        const struct msg_span span = bad_span(which);
        message = message_create(MSG_DONE);
        message->done.results = mem_alloc(sizeof(struct msg_done));
        message->done.results_count = 1;
        message->done.results[0] = (struct msg_done){.first = span.first,
                                                     .count = span.count,
                                                     .sizes = span.sizes,
                                                     .data = span.data};
        assert_breaks_a_rule(&message);
    }
}

static void runs_that_are_none(void **state)
{
    (void)state;
    const uint64_t bad[][2] = {{5, 0}, {UINT64_MAX, 1}, {1, UINT64_MAX}};
    for (size_t i = 0; i < 3; i++) {
        struct message *message = message_create(MSG_CANCEL);
        message->cancel.ranges = mem_alloc(sizeof(struct msg_range));
        message->cancel.ranges_count = 1;
        message->cancel.ranges[0] =
            (struct msg_range){.first = bad[i][0], .count = bad[i][1]};
        assert_breaks_a_rule(&message);
        message = message_create(MSG_ACK);
        message->ack.results = mem_alloc(sizeof(struct msg_seqs));
        message->ack.results_count = 1;
        message->ack.results[0] =
            (struct msg_seqs){.first = bad[i][0], .count = bad[i][1]};
        assert_breaks_a_rule(&message);
    }
}

static void file_names_that_leave_the_folder(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    ".",    "..",          "/",
                                      "a/b", "../x", "/etc/passwd", "x/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct message *message = message_create(MSG_POOL_OPEN);
        message->pool_open.files = mem_alloc(sizeof(struct msg_file));
        message->pool_open.files_count = 1;
        strcpy(message->pool_open.files[0].name, bad[i]);
        assert_breaks_a_rule(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_over_their_bound),
        cmocka_unit_test(lists_of_too_much),
        cmocka_unit_test(spans_that_do_not_agree),
        cmocka_unit_test(runs_that_are_none),
        cmocka_unit_test(file_names_that_leave_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
