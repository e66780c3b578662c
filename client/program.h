/* SPDX-License-Identifier: Apache-2.0
 *
 * client/program.h: the program whose functions a pool runs: its files, as a worker is
 * told of them and as they are sent. */
#ifndef FARPOOL_CLIENT_PROGRAM_H
#define FARPOOL_CLIENT_PROGRAM_H

#include "common/base/message.h"

struct pool_settings;

struct program {
    struct hash hash;
    char machine[32]; /* "" when any will do: a script */
    struct program_file {
        struct msg_file about;
        char *path;
    } * files; /* files[0] is executed */
    uint32_t count;
};

/* Looks at options.program (or this executable) and options.files. `hashed`: reads them
 * all, as is needed to name them to another machine. EPROGRAM (cannot be read, two files
 * of one name), EMACHINE (embedded, and built for another machine), EINVAL, ENOMEM. */
int program_open(const struct pool_settings *settings, bool hashed,
                 struct program *ret_program, farpool_error *error);
void program_fini(struct program *program);

/* The list for POOL_OPEN; from mem_alloc. NULL: out of memory. */
struct msg_file *program_list(const struct program *program);

/* What there is of a piece of a file; NULL: *ret_code tells why. */
struct payload *program_read_piece(int fd, uint64_t offset, uint64_t bytes,
                                   int *ret_code);

/* A piece of a file, as an answer to FETCH; the BLOB's code says if it cannot be read.
 * NULL: out of memory. */
struct message *program_read(const struct program *program, const struct hash *content,
                             uint64_t offset, uint64_t bytes);

#endif
