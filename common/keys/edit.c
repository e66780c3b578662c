/* SPDX-License-Identifier: Apache-2.0
 *
 * edit.c: the list of keys while it is changed. The text keeps what people wrote between
 * the lines; what the list says follows it at each step. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <stdio.h>
#include <string.h>

int edit_load(const char *folder, struct edit *edit, farpool_error *error)
{
    char path[4096];
    int result = key_path(folder, LIST_FILE, path, error);
    if (result == 0)
        result = key_read(path, LIST_BYTES_MAX, &edit->text, &edit->size, NULL, error);
    if (result != 0)
        return result;
    edit->capacity = edit->size + 1;
    return keys_parse(edit->text, edit->size, path, &edit->list, error);
}

void edit_fini(struct edit *edit)
{
    key_list_fini(&edit->list);
    mem_free(edit->text);
    *edit = (struct edit){.text = NULL};
}

static int print_line(const struct key_entry *entry, char line[LINE_BYTES_MAX])
{
    char key[KEY_TEXT_SIZE], when[WHEN_TEXT_SIZE] = "";
    const bool ends = entry->expires_s != 0, bound = entry->token[0] != '\0';
    if (ends)
        when_text(entry->expires_s, when);
    return snprintf(line, LINE_BYTES_MAX, "%s %s %s%s%s%s%s\n",
                    holder_role_name(entry->holder.role), entry->holder.name,
                    key_text(&entry->holder.key, key), ends ? " expires=" : "", when,
                    bound ? " token=" : "", entry->token);
}

int edit_add(struct edit *edit, const struct key_entry *entry, farpool_error *error)
{
    struct key_list *list = &edit->list;
    char line[LINE_BYTES_MAX];
    const size_t size = (size_t)print_line(entry, line);
    if (list->count >= KEYS_MAX)
        return error_set(error, FARPOOL_EFULL, "the list has %d keys, the most it may",
                         KEYS_MAX);
    if (!mem_reserve(&edit->text, &edit->capacity, edit->size + size + 2, 1) ||
        !mem_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items))
        return error_set(error, FARPOOL_ENOMEM, "out of memory for the list");
    if (edit->size > 0 && edit->text[edit->size - 1] != '\n')
        edit->text[edit->size++] = '\n';
    memcpy(edit->text + edit->size, line, size);
    edit->size += size;
    list->items[list->count++] = *entry;
    edit->changed = true;
    return 0;
}

typedef bool is_gone_fn(const struct key_entry *entry, const void *user);

/* Whether a line, with its end, is that of an entry that is to go. */
static bool line_is_gone(const char *text, size_t length, is_gone_fn *is_gone,
                         const void *user)
{
    struct key_entry entry;
    char line[LINE_BYTES_MAX];
    if (length >= sizeof line)
        return false; /* longer than a key's may be, so a comment */
    memcpy(line, text, length);
    line[length] = '\0';
    line[strcspn(line, "\n")] = '\0';
    const size_t begin = strspn(line, BLANKS);
    if (line[begin] == '\0' || line[begin] == '#')
        return false;
    return list_read_line(line + begin, &entry) == NULL && is_gone(&entry, user);
}

static void cut_text(struct edit *edit, is_gone_fn *is_gone, const void *user)
{
    size_t kept = 0, at = 0;
    while (at < edit->size) {
        char *line = edit->text + at;
        const char *end = memchr(line, '\n', edit->size - at);
        const size_t length = end == NULL ? edit->size - at : (size_t)(end - line) + 1;
        if (!line_is_gone(line, length, is_gone, user)) {
            memmove(edit->text + kept, line, length);
            kept += length;
        }
        at += length;
    }
    edit->size = kept;
}

void edit_cut(struct edit *edit, is_gone_fn *is_gone, const void *user)
{
    struct key_list *list = &edit->list;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!is_gone(&list->items[i], user))
            list->items[kept++] = list->items[i];
    if (kept == list->count)
        return;
    cut_text(edit, is_gone, user);
    list->count = kept;
    edit->changed = true;
}

int edit_save(const char *folder, int folder_fd, const struct edit *edit,
              farpool_error *error)
{
    return folder_replace(folder, folder_fd, LIST_FILE, edit->text, edit->size, error);
}
