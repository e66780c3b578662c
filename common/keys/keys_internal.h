/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_internal.h: what the files of common/keys share. */
#ifndef FARPOOL_KEYS_INTERNAL_H
#define FARPOOL_KEYS_INTERNAL_H

#include "common/keys/keys.h"

#define OWN_FILE "coordinator.key"
#define LIST_FILE "authorized"
#define TOKENS_FILE "tokens"
#define KEY_FILE_BYTES_MAX 4096
#define LIST_BYTES_MAX ((size_t)KEYS_MAX * 256)
#define TOKENS_BYTES_MAX ((size_t)TOKENS_MAX * 256)
#define BLANKS " \t\r"
#define LINE_BYTES_MAX 256 /* of a line of either list, with its end */

/* Folder and file as one path; EKEY if it is too long. */
int key_path(const char *folder, const char *file, char path[4096], farpool_error *error);
/* Whether a folder is this user's alone. */
int key_check_folder(const char *folder, farpool_error *error);
/* Calls `take` with each line of a text that is neither empty nor a comment, without the
 * blanks before it; it may write to it. What it finds wrong becomes EKEY with place and
 * line; it returns 0 or ENOMEM. */
struct key_lines {
    const char *where;
    int (*take)(void *list, unsigned number, char *line, const char **ret_wrong);
    void *list;
};
int key_read_lines(const struct key_lines *lines, const char *text, size_t size,
                   farpool_error *error);
/* The content of a file that is this user's alone, 0-terminated; mem_free. */
int key_read(const char *path, size_t bytes_max, char **ret_text, size_t *ret_size,
             struct key_stamp *ret_stamp, farpool_error *error);
/* The stamp of a file; false: it cannot be had. */
bool key_stamp_of(const char *path, struct key_stamp *ret_stamp);
bool key_stamp_equal(const struct key_stamp *a, const struct key_stamp *b);
/* A new file (0600) that is on the disk when this returns. EKEY: there is one. */
int key_write(const char *path, const char *text, size_t size, farpool_error *error);

/* list.c: one line of the list, cut in place: NULL, or what is wrong with it. */
const char *list_read_line(char *line, struct key_entry *ret_entry);

/* tokens.c */
char *tokens_print(const struct token_list *list, size_t *ret_size); /* NULL: no memory */

/* folder.c: the folder, locked until it is closed. ENOTREADY: by another, and no wait. */
int folder_lock(const char *folder, bool wait, int *ret_fd, farpool_error *error);
/* Replaces a file of a locked folder. */
int folder_replace(const char *folder, int folder_fd, const char *file, const char *text,
                   size_t size, farpool_error *error);

/* edit.c: the list while it is changed: what it says, and its text with all that is not a
 * key's line. */
struct edit {
    struct key_list list;
    char *text;
    size_t size, capacity;
    bool changed;
};
int edit_load(const char *folder, struct edit *edit, farpool_error *error);
int edit_add(struct edit *edit, const struct key_entry *entry, farpool_error *error);
/* Takes out all entries for which `is_gone` is true. */
void edit_cut(struct edit *edit, bool (*is_gone)(const struct key_entry *, const void *),
              const void *user);
int edit_save(const char *folder, int folder_fd, const struct edit *edit,
              farpool_error *error);
void edit_fini(struct edit *edit);

#endif
