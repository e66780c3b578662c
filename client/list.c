/* SPDX-License-Identifier: Apache-2.0
 *
 * list.c: a list of inputs that owns its bytes: one growing array of bytes and one of the
 * places where items end in it. An item is either added whole or, when there is no
 * memory or its format is wrong, not at all. */
#include "client/list.h"
#include "common/base/mem.h"

#include <msgpack.h>
#include <stdarg.h>
#include <string.h>

struct farpool_list {
    uint8_t *bytes;
    size_t size, capacity;
    size_t *ends;
    size_t count, ends_capacity;
};

farpool_list *farpool_list_create(void)
{
    return mem_alloc(sizeof(farpool_list));
}

void farpool_list_free(farpool_list *list)
{
    if (list == NULL)
        return;
    mem_free(list->bytes);
    mem_free(list->ends);
    mem_free(list);
}

size_t farpool_list_count(const farpool_list *list)
{
    return list != NULL ? list->count : 0;
}

farpool_bytes list_item(const farpool_list *list, uint64_t index)
{
    size_t begin = index > 0 ? list->ends[index - 1] : 0;

    return (farpool_bytes){list->bytes + begin, list->ends[index] - begin};
}

static bool append(farpool_list *list, const void *data, size_t size)
{
    if (size > SIZE_MAX / 2 - list->size ||
        !mem_reserve(&list->bytes, &list->capacity, list->size + size, 1))
        return false;
    if (size > 0)
        memcpy(list->bytes + list->size, data, size);
    list->size += size;
    return true;
}

/* What was appended since `begin` becomes an item, or is dropped. */
static int end_item(farpool_list *list, size_t begin, int code)
{
    if (code == 0 && !mem_reserve(&list->ends, &list->ends_capacity, list->count + 1,
                                  sizeof *list->ends))
        code = FARPOOL_ENOMEM;
    if (code == 0)
        list->ends[list->count++] = list->size;
    else
        list->size = begin;
    return code;
}

int farpool_list_add(farpool_list *list, const void *data, size_t size)
{
    size_t begin;

    if (list == NULL || (data == NULL && size > 0))
        return FARPOOL_EINVAL;
    begin = list->size;
    /* An empty item has a place, too. */
    if (list->bytes == NULL && !mem_reserve(&list->bytes, &list->capacity, 1, 1))
        return FARPOOL_ENOMEM;
    return end_item(list, begin, append(list, data, size) ? 0 : FARPOOL_ENOMEM);
}

/* -------------------------------------------------------------------- packing */

static int write_bytes(void *user, const char *data, size_t size)
{
    return append(user, data, size) ? 0 : -1;
}

static int pack_text(msgpack_packer *packer, const char *text)
{
    if (text == NULL)
        return FARPOOL_EINVAL;
    return msgpack_pack_str_with_body(packer, text, strlen(text)) == 0 ? 0
                                                                       : FARPOOL_ENOMEM;
}

static int pack_raw(msgpack_packer *packer, const void *data, size_t size)
{
    if ((data == NULL && size > 0) || size > UINT32_MAX)
        return FARPOOL_EINVAL;
    return msgpack_pack_bin_with_body(packer, size > 0 ? data : "", size) == 0
               ? 0
               : FARPOOL_ENOMEM;
}

static int pack_one(msgpack_packer *packer, char letter, va_list *values)
{
    switch (letter) {
    case 'i':
        return msgpack_pack_int64(packer, va_arg(*values, int64_t)) == 0 ? 0
                                                                         : FARPOOL_ENOMEM;
    case 'u':
        return msgpack_pack_uint64(packer, va_arg(*values, uint64_t)) == 0
                   ? 0
                   : FARPOOL_ENOMEM;
    case 'd':
        return msgpack_pack_double(packer, va_arg(*values, double)) == 0 ? 0
                                                                         : FARPOOL_ENOMEM;
    case 'b':
        return (va_arg(*values, int) ? msgpack_pack_true(packer)
                                     : msgpack_pack_false(packer)) == 0
                   ? 0
                   : FARPOOL_ENOMEM;
    case 's':
        return pack_text(packer, va_arg(*values, const char *));
    case 'r': {
        const void *data = va_arg(*values, const void *);

        return pack_raw(packer, data, va_arg(*values, size_t));
    }
    default:
        return FARPOOL_EINVAL;
    }
}

int farpool_list_pack(farpool_list *list, const char *format, ...)
{
    msgpack_packer packer;
    va_list values;
    size_t begin;
    int code = 0;

    if (list == NULL || format == NULL)
        return FARPOOL_EINVAL;
    begin = list->size;
    msgpack_packer_init(&packer, list, write_bytes);
    if (msgpack_pack_array(&packer, strlen(format)) != 0)
        code = FARPOOL_ENOMEM;
    va_start(values, format);
    for (const char *letter = format; code == 0 && *letter != '\0'; letter++)
        code = pack_one(&packer, *letter, &values);
    va_end(values);
    return end_item(list, begin, code);
}
