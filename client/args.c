/* SPDX-License-Identifier: Apache-2.0
 *
 * args.c: functions of several values: their arguments are a msgpack array, their result
 * one msgpack value.
 *
 * The bytes come from a client, so they are walked once, with a bound on depth and with
 * each count held against the bytes that are left, before msgpack-c unpacks them: it
 * would reserve what a count of five bytes claims. */
#include "client/process_internal.h"

#include <msgpack.h>
#include <stdarg.h>
#include <string.h>

#define DEPTH_MAX 24 /* msgpack-c stops at 32 */

struct walk {
    const uint8_t *at, *end;
};

static bool skip(struct walk *walk, uint64_t bytes)
{
    if (bytes > (uint64_t)(walk->end - walk->at))
        return false;
    walk->at += bytes;
    return true;
}

static bool read_number(struct walk *walk, unsigned bytes, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (bytes > (uint64_t)(walk->end - walk->at))
        return false;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | *walk->at++;
    *ret_number = number;
    return true;
}

static bool skip_counted(struct walk *walk, unsigned bytes_of_count, uint64_t more)
{
    uint64_t count;
    return read_number(walk, bytes_of_count, &count) && skip(walk, count + more);
}

static bool read_count(struct walk *walk, unsigned bytes_of_count, uint64_t each,
                       uint64_t *ret_items)
{
    uint64_t count;
    if (!read_number(walk, bytes_of_count, &count))
        return false;
    *ret_items = count * each;
    return true;
}

/* Walks over one value's own bytes; *ret_items says how many values are inside it. */
static bool walk_head(struct walk *walk, uint64_t *ret_items)
{
    static const uint8_t widths[] = {1, 2, 4, 8};
    if (walk->at == walk->end)
        return false;
    uint8_t byte = *walk->at++;
    *ret_items = 0;
    if (byte <= 0x7f || byte >= 0xe0 || byte == 0xc0 || byte == 0xc2 || byte == 0xc3)
        return true;
    if (byte <= 0x8f) {
        *ret_items = (byte & 0x0fu) * 2u;
        return true;
    }
    if (byte <= 0x9f) {
        *ret_items = byte & 0x0fu;
        return true;
    }
    if (byte <= 0xbf)
        return skip(walk, byte & 0x1fu);
    switch (byte) {
    case 0xc4:
    case 0xc5:
    case 0xc6: /* bin */
        return skip_counted(walk, widths[byte - 0xc4], 0);
    case 0xc7:
    case 0xc8:
    case 0xc9: /* ext: a type byte, too */
        return skip_counted(walk, widths[byte - 0xc7], 1);
    case 0xca:
        return skip(walk, 4);
    case 0xcb:
        return skip(walk, 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: /* unsigned */
        return skip(walk, widths[byte - 0xcc]);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: /* signed */
        return skip(walk, widths[byte - 0xd0]);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: /* ext of a fixed size */
        return skip(walk, 1 + (UINT64_C(1) << (byte - 0xd4)));
    case 0xd9:
    case 0xda:
    case 0xdb: /* str */
        return skip_counted(walk, widths[byte - 0xd9], 0);
    case 0xdc:
    case 0xdd: /* array */
        return read_count(walk, byte == 0xdc ? 2 : 4, 1, ret_items);
    case 0xde:
    case 0xdf: /* map */
        return read_count(walk, byte == 0xde ? 2 : 4, 2, ret_items);
    default:
        return false;
    }
}

/* Whether the bytes are exactly one value, not nested too deep. */
static bool well_formed(const uint8_t *data, size_t size)
{
    struct walk walk = {data, data + size};
    uint64_t left[DEPTH_MAX] = {1}; /* values to come at each level */
    int depth = 0;
    while (depth >= 0) {
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        uint64_t items;
        left[depth]--;
        if (!walk_head(&walk, &items) || items > (uint64_t)(walk.end - walk.at))
            return false;
        if (items > 0 && ++depth == DEPTH_MAX)
            return false;
        if (items > 0)
            left[depth] = items;
    }
    return walk.at == walk.end;
}

static int write_result(void *user, const char *bytes, size_t size)
{
    return farpool_task_write(user, bytes, size);
}

/* The arguments live in a zone that is emptied after each task, and so stays warm. */
int process_call_args(farpool_task *task)
{
    static msgpack_zone *zone;
    msgpack_object arguments;
    msgpack_packer packer;
    size_t offset = 0;
    if (zone == NULL && (zone = msgpack_zone_new(MSGPACK_ZONE_CHUNK_SIZE)) == NULL)
        return process_task_fail(task, FARPOOL_ENOMEM, "no memory for its arguments");
    if (!well_formed(task->input, task->input_size))
        return process_task_fail(task, FARPOOL_EINVAL,
                                 "its arguments are not one msgpack value");
    msgpack_unpack_return unpacked = msgpack_unpack(
        (const char *)task->input, task->input_size, &offset, zone, &arguments);
    if (unpacked != MSGPACK_UNPACK_SUCCESS) {
        msgpack_zone_clear(zone);
        return process_task_fail(task, FARPOOL_ENOMEM, "no memory for its arguments");
    }
    msgpack_packer_init(&packer, task, write_result);
    int returned = task->function->call_args(task, &arguments, &packer);
    if (returned == 0 && task->code == 0 && task->output_size == 0)
        msgpack_pack_nil(&packer);
    msgpack_zone_clear(zone);
    return returned;
}

/* farpool_unpack ------------------------------------------------------------------ */

static bool to_signed(const msgpack_object *value, int64_t *ret)
{
    if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        *ret = value->via.i64;
    else if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
             value->via.u64 <= INT64_MAX)
        *ret = (int64_t)value->via.u64;
    else
        return false;
    return true;
}

static bool to_double(const msgpack_object *value, double *ret)
{
    if (value->type == MSGPACK_OBJECT_FLOAT32 || value->type == MSGPACK_OBJECT_FLOAT64)
        *ret = value->via.f64;
    else if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        *ret = (double)value->via.u64;
    else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        *ret = (double)value->via.i64;
    else
        return false;
    return true;
}

/* Text and raw bytes have the same shape in a msgpack_object. */
static bool to_bytes(const msgpack_object *value, msgpack_object_type type,
                     const char **ret_data, size_t *ret_size)
{
    if (value->type != type)
        return false;
    bool text = type == MSGPACK_OBJECT_STR;
    *ret_data = text ? value->via.str.ptr : value->via.bin.ptr;
    *ret_size = text ? value->via.str.size : value->via.bin.size;
    return true;
}

struct values {
    va_list list;
};

/* Takes the pointers of one letter off the list, and fills them if the type fits. */
static bool unpack_one(const msgpack_object *value, char letter, struct values *values)
{
    switch (letter) {
    case 'i':
        return to_signed(value, va_arg(values->list, int64_t *));
    case 'd':
        return to_double(value, va_arg(values->list, double *));
    case 'u': {
        uint64_t *to = va_arg(values->list, uint64_t *);
        if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            return false;
        *to = value->via.u64;
        return true;
    }
    case 'b': {
        bool *to = va_arg(values->list, bool *);
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return false;
        *to = value->via.boolean;
        return true;
    }
    case 's':
    case 'r': {
        const char **data = va_arg(values->list, const char **);
        size_t *size = va_arg(values->list, size_t *);
        return to_bytes(value, letter == 's' ? MSGPACK_OBJECT_STR : MSGPACK_OBJECT_BIN,
                        data, size);
    }
    default:
        return false;
    }
}

static const char *letter_meaning(char letter)
{
    switch (letter) {
    case 'i':
        return "an integer of 64 bits";
    case 'u':
        return "an unsigned integer";
    case 'd':
        return "a number";
    case 'b':
        return "true or false";
    case 's':
        return "text";
    case 'r':
        return "raw bytes";
    default:
        return "of a kind that farpool_unpack knows";
    }
}

int farpool_unpack(farpool_task *task, const struct msgpack_object *arguments,
                   const char *format, ...)
{
    size_t count = format != NULL ? strlen(format) : 0, i = 0;
    if (arguments == NULL || format == NULL || arguments->type != MSGPACK_OBJECT_ARRAY)
        return task == NULL ? FARPOOL_EINVAL
                            : process_task_fail(task, FARPOOL_EINVAL,
                                                "the arguments are not an array");
    if (arguments->via.array.size != count)
        return task == NULL ? FARPOOL_EINVAL
                            : process_task_fail(task, FARPOOL_EINVAL,
                                                "%u arguments came, and %zu are taken",
                                                arguments->via.array.size, count);
    struct values values;
    va_start(values.list, format);
    while (i < count && unpack_one(&arguments->via.array.ptr[i], format[i], &values))
        i++;
    va_end(values.list);
    if (i == count)
        return 0;
    return task == NULL
               ? FARPOOL_EINVAL
               : process_task_fail(task, FARPOOL_EINVAL, "argument %zu is not %s", i + 1,
                                   letter_meaning(format[i]));
}
