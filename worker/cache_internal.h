/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_internal.h: what cache.c (programs), cache_disk.c (files) and cache_verified.c
 * (which of them need not be hashed again) share. */
#ifndef FARPOOL_WORKER_CACHE_INTERNAL_H
#define FARPOOL_WORKER_CACHE_INTERNAL_H

#include "worker/cache.h"

#include <sys/stat.h>

/* Files whose content has been hashed; NULL: none yet. */
struct verified;
bool verified_knows(struct verified *table, const struct stat *status,
                    const struct hash *content);
void verified_add(struct verified **table, const struct stat *status,
                  const struct hash *content);
void verified_fini(struct verified **table);

struct disk {
    char folder[CACHE_PATH_MAX];
    char node[NODE_NAME_MAX + 1];
    struct verified *verified;
};

int disk_open(struct disk *disk, const char *folder, farpool_error *error);

/* The place of a file's content; false: the path is too long. */
bool disk_blob_path(const struct disk *disk, const struct msg_file *file, char *path);

/* Whether the content is there and right; a wrong one is removed. */
bool disk_has_blob(struct disk *disk, const struct msg_file *file);

/* A file being fetched: made under a name of its own, and renamed when it is whole. */
struct disk_fetch {
    int fd; /* -1: none */
    uint64_t offset;
    char path[CACHE_PATH_MAX];
};
/* Makes room on the disk for all of the file. ENOSPACE, ESYSTEM. */
int disk_fetch_begin(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, farpool_error *error);
int disk_fetch_write(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, const struct payload *data,
                     farpool_error *error);
/* The file is whole: 0; EPROGRAM: its content is not what its hash says. */
int disk_fetch_end(const struct disk *disk, const struct msg_file *file,
                   struct disk_fetch *fetch, farpool_error *error);
void disk_fetch_drop(struct disk_fetch *fetch);

/* The program's folder, with every file by its name. */
int disk_make_program(const struct disk *disk, const struct hash *program,
                      const struct msg_file *files, uint32_t count, char *ret_folder,
                      farpool_error *error);

/* EMACHINE if the file is an ELF executable for another machine than this one. */
int disk_check_machine(const struct disk *disk, const struct msg_file *file,
                       farpool_error *error);

#endif
