/* SPDX-License-Identifier: Apache-2.0
 *
 * program.h: the name of a program: a hash over the list of its files. Client and worker
 * compute it alike, so that a worker can check the list that it was told. */
#ifndef FARPOOL_SYS_PROGRAM_H
#define FARPOOL_SYS_PROGRAM_H

#include "common/base/message.h"

/* BLAKE2b-256 over these bytes:
 *   "farpool program 1\n"
 *   u32 little endian   number of files
 *   and of each file, in the order of the list (the first one is executed):
 *     u32 little endian   length of its name
 *     bytes               the name, no NUL
 *     32 bytes            BLAKE2b-256 of its content
 *     u64 little endian   its size in bytes
 *     u8                  1: may be executed, 0: not */
void sys_hash_program(const struct msg_file *files, uint32_t count,
                      struct hash *ret_hash);

#endif
