/* SPDX-License-Identifier: Apache-2.0
 *
 * map_items.c: the items of `farpool map`, from arguments or standard input, and the
 * packed command of each. */
#include "cli/cli.h"
#include "cli/map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool append(struct map *map, const char *data, size_t size)
{
    if (map->arguments_size + size > map->arguments_capacity) {
        size_t capacity = (map->arguments_size + size) * 2;
        char *arguments = realloc(map->arguments, capacity);
        if (!arguments)
            return false;
        map->arguments = arguments;
        map->arguments_capacity = capacity;
    }
    memcpy(map->arguments + map->arguments_size, data, size);
    map->arguments_size += size;
    return true;
}

/* The item as one word of a shell command: in single quotes, those inside escaped. */
static bool append_quoted(struct map *map, const char *item)
{
    bool ok = append(map, "'", 1);
    for (; ok && *item; item++)
        ok = *item == '\'' ? append(map, "'\\''", 4) : append(map, item, 1);
    return ok && append(map, "'", 1);
}

static bool append_item(struct map *map, const char *item)
{
    return map->shell ? append_quoted(map, item) : append(map, item, strlen(item));
}

/* One argument of the template with the item in it; notes whether there was a {}. */
static bool append_argument(struct map *map, const char *text, const char *item,
                            bool *ret_used)
{
    const char *braces;
    while ((braces = strstr(text, "{}")) != NULL) {
        if (!append(map, text, (size_t)(braces - text)) || !append_item(map, item))
            return false;
        *ret_used = true;
        text = braces + 2;
    }
    return append(map, text, strlen(text));
}

/* Packs the command line for an item into map->arguments. */
static bool build_command(struct map *map, const char *item)
{
    bool used = false, ok = true;
    map->arguments_size = 0;
    if (map->shell) {
        ok = append(map, "sh\0-c", 6) &&
             append_argument(map, map->command[0], item, &used);
        if (ok && !used)
            ok = append(map, " ", 1) && append_item(map, item);
        return ok && append(map, "", 1);
    }
    for (char **argument = map->command; ok && *argument; argument++)
        ok = append_argument(map, *argument, item, &used) && append(map, "", 1);
    if (ok && !used)
        ok = append(map, item, strlen(item) + 1);
    return ok;
}

/* The next item: 0, FARPOOL_END, or FARPOOL_EINPUT with a message. */
int map_next_item(struct map *map, const char **ret_item, char message[256])
{
    if (map->items) {
        *ret_item = *map->items;
        return *map->items++ ? FARPOOL_OK : FARPOOL_END;
    }
    errno = 0;
    ssize_t size = getdelim(&map->line, &map->line_capacity, map->delimiter, stdin);
    if (size < 0) {
        if (feof(stdin))
            return FARPOOL_END;
        snprintf(message, 256, "cannot read standard input: %s", strerror(errno));
        return FARPOOL_EINPUT;
    }
    if (size > 0 && map->line[size - 1] == map->delimiter)
        map->line[size - 1] = '\0';
    *ret_item = map->line;
    return FARPOOL_OK;
}

/* The pool's input callback. */
int map_next_command(void *user, farpool_bytes *ret_item, char message[256])
{
    struct map *map = user;
    const char *item;
    int code = map_next_item(map, &item, message);
    if (code)
        return code;
    if (!build_command(map, item)) {
        snprintf(message, 256, "out of memory");
        return FARPOOL_ENOMEM;
    }
    ret_item->data = map->arguments;
    ret_item->size = map->arguments_size;
    return FARPOOL_OK;
}
