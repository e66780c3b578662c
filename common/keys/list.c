/* SPDX-License-Identifier: Apache-2.0
 *
 * list.c: reads the coordinator's list of keys, `authorized`. A line that is not
 * understood makes the whole list one that is refused: to skip it could mean to let
 * somebody in under a name that was to be taken away. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void key_list_fini(struct key_list *list)
{
    mem_free(list->items);
    *list = (struct key_list){.items = NULL};
}

const struct key_entry *keys_find(const struct key_list *list, const struct hash *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (hash_equal(&list->items[i].holder.key, key))
            return &list->items[i];
    return NULL;
}

const struct key_entry *keys_find_name(const struct key_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].holder.name, name) == 0)
            return &list->items[i];
    return NULL;
}

/* ----------------------------------------------------------------- reading */

static int append(struct key_list *list, const struct key_entry *entry)
{
    if (!mem_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items))
        return FARPOOL_ENOMEM;
    list->items[list->count++] = *entry;
    return 0;
}

static const char *read_option(const char *word, struct key_entry *entry)
{
    static const char expires[] = "expires=", token[] = "token=";
    if (strncmp(word, expires, strlen(expires)) == 0) {
        if (entry->expires_s != 0)
            return "a second expires=";
        return when_parse(word + strlen(expires), &entry->expires_s)
                   ? NULL
                   : "expires= is not a time like 2026-05-04T03:02:01Z";
    }
    if (strncmp(word, token, strlen(token)) != 0)
        return "what follows the public key is not expires= or token=";
    if (entry->token[0] != '\0')
        return "a second token=";
    if (!token_id_valid(word + strlen(token)))
        return "token= is not 16 hexadecimal digits";
    memcpy(entry->token, word + strlen(token), sizeof entry->token);
    return NULL;
}

const char *list_read_line(char *line, struct key_entry *ret_entry)
{
    char *rest = NULL, *role = strtok_r(line, BLANKS, &rest);
    char *name = strtok_r(NULL, BLANKS, &rest), *key = strtok_r(NULL, BLANKS, &rest);
    struct holder *holder = &ret_entry->holder;
    *ret_entry = (struct key_entry){.holder = {.role = key_role_parse(role)}};
    if (holder->role == HOLDER_NONE)
        return "the role is not client, worker or admin";
    if (name == NULL || !key_name_valid(name))
        return "the name is not 1 to 63 letters, digits, _ . -";
    if (key == NULL || !key_parse(key, &holder->key))
        return "the public key is not 40 characters of Z85";
    snprintf(holder->name, sizeof holder->name, "%s", name);
    const char *word, *wrong = NULL;
    while (wrong == NULL && (word = strtok_r(NULL, BLANKS, &rest)) != NULL)
        wrong = read_option(word, ret_entry);
    return wrong;
}

/* ------------------------------------------------------------ what is there twice */

/* The entries as they are read, each with its line. What is there twice is looked for
 * when all are, among neighbours of a sorted list: one by one it would be 5e9 comparisons
 * for KEYS_MAX of them. */
struct reading {
    struct key_list list;
    unsigned *lines;
    size_t lines_capacity;
};

/* The first line that may not follow those before it. */
struct repeated {
    const struct key_entry *entry; /* NULL: there is none */
    const char *wrong;
};

static int by_place(const struct key_entry *a, const struct key_entry *b)
{
    return (a > b) - (a < b);
}

static int by_key(const void *left, const void *right)
{
    const struct key_entry *const *a = left, *const *b = right;
    const int order = memcmp((*a)->holder.key.bytes, (*b)->holder.key.bytes,
                             sizeof(*a)->holder.key.bytes);
    return order != 0 ? order : by_place(*a, *b);
}

static int by_name(const void *left, const void *right)
{
    const struct key_entry *const *a = left, *const *b = right;
    const int order = strcmp((*a)->holder.name, (*b)->holder.name);
    return order != 0 ? order : by_place(*a, *b);
}

static void note(struct repeated *first, const struct key_entry *entry, const char *wrong)
{
    if (first->entry == NULL || by_place(entry, first->entry) <= 0)
        *first = (struct repeated){entry, wrong};
}

static void find_keys(const struct key_entry *const *sorted, size_t count,
                      struct repeated *first)
{
    for (size_t i = 1; i < count; i++)
        if (hash_equal(&sorted[i]->holder.key, &sorted[i - 1]->holder.key))
            note(first, sorted[i], "the key is there already");
}

/* A name may be there again only while its older keys run out. */
static void find_names(const struct key_entry *const *sorted, size_t count,
                       struct repeated *first)
{
    const struct key_entry *head = NULL;
    bool endless = false; /* one of that name, so far */
    for (size_t i = 0; i < count; i++) {
        const struct key_entry *entry = sorted[i];
        if (head == NULL || strcmp(entry->holder.name, head->holder.name) != 0) {
            head = entry;
            endless = false;
        } else if (entry->holder.role != head->holder.role) {
            note(first, entry, "the name is there already, with another role");
        } else if (endless && entry->expires_s == 0) {
            note(first, entry, "the name is there already");
        }
        endless = endless || entry->expires_s == 0;
    }
}

static int find_repeated(const struct key_list *list, struct repeated *ret_first)
{
    struct repeated first = {.entry = NULL};
    const struct key_entry **sorted = mem_alloc((list->count + 1) * sizeof(void *));
    if (sorted == NULL)
        return FARPOOL_ENOMEM;
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = &list->items[i];
    qsort(sorted, list->count, sizeof(void *), by_name);
    find_names(sorted, list->count, &first);
    qsort(sorted, list->count, sizeof(void *), by_key);
    find_keys(sorted, list->count, &first); /* of one line, this is told */
    mem_free(sorted);
    *ret_first = first;
    return 0;
}

/* ------------------------------------------------------------------- the whole list */

static int take_entry(void *user, unsigned number, char *line, const char **ret_wrong)
{
    struct reading *reading = user;
    struct key_list *list = &reading->list;
    struct key_entry entry;
    *ret_wrong = list_read_line(line, &entry);
    if (*ret_wrong == NULL && list->count >= KEYS_MAX)
        *ret_wrong = "one key too many";
    if (*ret_wrong != NULL)
        return 0;
    if (!mem_reserve(&reading->lines, &reading->lines_capacity, list->count + 1,
                     sizeof *reading->lines))
        return FARPOOL_ENOMEM;
    reading->lines[list->count] = number;
    return append(list, &entry);
}

/* What is wrong first in the file is told: that may be before a line that could not be
 * read. */
static int check_repeated(const struct reading *reading, const char *where, int result,
                          farpool_error *error)
{
    struct repeated first;
    if (result != 0 && result != FARPOOL_EKEY)
        return result;
    if (find_repeated(&reading->list, &first) != 0)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %s", where);
    if (first.entry == NULL)
        return result;
    return error_set(error, FARPOOL_EKEY, "%s, line %u: %s", where,
                     reading->lines[first.entry - reading->list.items], first.wrong);
}

int keys_parse(const char *text, size_t size, const char *where,
               struct key_list *ret_list, farpool_error *error)
{
    struct reading reading = {.lines = NULL};
    const struct key_lines lines = {where, take_entry, &reading};
    int result = key_read_lines(&lines, text, size, error);
    result = check_repeated(&reading, where, result, error);
    mem_free(reading.lines);
    if (result == 0)
        *ret_list = reading.list;
    else
        key_list_fini(&reading.list);
    return result;
}

/* What an editor is just writing in place is no list: it would cut everybody off. */
static int check_whole(const char *path, const char *text, size_t size,
                       farpool_error *error)
{
    if (size == 0)
        return error_set(error, FARPOOL_EKEY,
                         "%s: it is empty, so not whole: a list without keys has its "
                         "first line, which is a comment",
                         path);
    if (text[size - 1] != '\n')
        return error_set(error, FARPOOL_EKEY,
                         "%s: its last line has no end, so it is not whole", path);
    return 0;
}

int keys_load(const char *folder, struct key_list *ret_list, struct key_stamp *ret_stamp,
              farpool_error *error)
{
    char path[4096], *text;
    size_t size;
    struct key_stamp stamp;
    int result = key_check_folder(folder, error);
    if (result == 0)
        result = key_path(folder, LIST_FILE, path, error);
    if (result == 0)
        result = key_read(path, LIST_BYTES_MAX, &text, &size, &stamp, error);
    if (result != 0)
        return result;
    result = check_whole(path, text, size, error);
    if (result == 0)
        result = keys_parse(text, size, path, ret_list, error);
    mem_free(text);
    if (result == 0 && ret_stamp != NULL)
        *ret_stamp = stamp;
    return result;
}

bool keys_changed(const char *folder, const struct key_stamp *stamp)
{
    char path[4096];
    struct key_stamp found;
    return key_path(folder, LIST_FILE, path, NULL) != 0 || !key_stamp_of(path, &found) ||
           !key_stamp_equal(&found, stamp);
}
