/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_internal.h: what cache.c (programs), cache_disk.c (files), cache_evict.c (which
 * of them go) and cache_verified.c (which need not be hashed again) share. */
#ifndef FARPOOL_WORKER_CACHE_INTERNAL_H
#define FARPOOL_WORKER_CACHE_INTERNAL_H

#include "common/sys/sys.h"
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

/* A path below CACHE_PATH_MAX; false: it is longer. */
bool disk_path(char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
int disk_path_too_long(farpool_error *error);
/* What a failed call means, by errno: ENOSPACE, or ESYSTEM. size: bytes that were to be
 * written. */
int disk_fail(const struct disk *disk, const char *what, const char *path, uint64_t size,
              farpool_error *error);

int disk_open(struct disk *disk, const char *folder, farpool_error *error);

/* The place of a file's content; false: the path is too long. */
bool disk_blob_path(const struct disk *disk, const struct msg_file *file, char *path);

/* A content that is there is hashed piece by piece, since one of many gigabytes would
 * hold everything else up. */
struct disk_check {
    int fd; /* -1: none */
    uint64_t size;
    struct sys_hashing hashing;
};
enum disk_found {
    DISK_ABSENT,
    DISK_RIGHT,
    DISK_UNKNOWN, /* the check has begun, or goes on */
};
/* Whether the content is there, if that is known; a wrong one is removed. */
enum disk_found disk_find_blob(struct disk *disk, const struct msg_file *file,
                               struct disk_check *check);
/* Hashes the next piece. */
enum disk_found disk_check_more(struct disk *disk, const struct msg_file *file,
                                struct disk_check *check);
void disk_check_drop(struct disk_check *check);

/* A file being fetched: made under a name of its own, and renamed when it is whole. */
struct disk_fetch {
    int fd; /* -1: none */
    uint64_t offset;
    struct sys_hashing hashing;
    char path[CACHE_PATH_MAX];
};
/* Makes room on the disk for all of the file, if need be by removing programs that
 * nobody has open. ENOSPACE, ESYSTEM. */
int disk_fetch_begin(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, farpool_error *error);
int disk_fetch_write(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, const struct payload *data,
                     farpool_error *error);
/* The file is whole: 0; EPROGRAM: its content is not what its hash says. */
int disk_fetch_end(const struct disk *disk, const struct msg_file *file,
                   struct disk_fetch *fetch, farpool_error *error);
void disk_fetch_drop(struct disk_fetch *fetch);

/* Makes the program's folder, and keeps it from being removed until *ret_fd is closed. */
int disk_open_program(const struct disk *disk, const struct hash *program,
                      char *ret_folder, int *ret_fd, farpool_error *error);
/* Puts a file whose content is there into the folder. *ret_gone: it has been removed
 * since (0 is returned). */
int disk_place_file(const struct disk *disk, const char *folder,
                    const struct msg_file *file, bool *ret_gone, farpool_error *error);

/* cache_evict.c: removes the program that was opened longest ago of those that nobody has
 * open, and contents that no program has. Bytes that were freed; 0: there is none. */
uint64_t disk_evict(const struct disk *disk);
/* Bytes of all that is there. */
uint64_t disk_bytes(const struct disk *disk);
/* A folder of files only, below another one. */
void disk_remove_folder(int parent, const char *name);

/* EMACHINE if the file is an ELF executable for another machine than this one. */
int disk_check_machine(const struct disk *disk, const struct msg_file *file,
                       farpool_error *error);

#endif
