/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_internal.h: what the files of common/keys share. */
#ifndef FARPOOL_KEYS_INTERNAL_H
#define FARPOOL_KEYS_INTERNAL_H

#include "common/keys/keys.h"

#define OWN_FILE "coordinator.key"
#define LIST_FILE "authorized"
#define KEY_FILE_BYTES_MAX 4096
#define LIST_BYTES_MAX ((size_t)KEYS_MAX * 128)

/* Folder and file as one path; EKEY if it is too long. */
int key_path(const char *folder, const char *file, char path[4096], farpool_error *error);
/* Whether a folder is this user's alone. */
int key_check_folder(const char *folder, farpool_error *error);
/* The content of a file that is this user's alone, 0-terminated; mem_free. */
int key_read(const char *path, size_t bytes_max, char **ret_text, size_t *ret_size,
             struct key_stamp *ret_stamp, farpool_error *error);
/* A new file (0600) that is on the disk when this returns. EKEY: there is one. */
int key_write(const char *path, const char *text, size_t size, farpool_error *error);

#endif
