/* SPDX-License-Identifier: Apache-2.0
 *
 * sys.h: what the shells ask of the operating system. */
#ifndef FARPOOL_SYS_SYS_H
#define FARPOOL_SYS_SYS_H

#include "common/base/id.h"
#include "farpool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t sys_now_ms(void); /* CLOCK_MONOTONIC */
uint64_t sys_now_ns(void);
/* For loops that only look: the core may do something else for a moment. */
static inline void sys_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
/* A word that is true here and false in every child made by fork: for what asks often, as
 * getpid is a system call. NULL: this kernel has no such thing. */
const volatile bool *sys_here_create(void);
void sys_here_destroy(const volatile bool *here); /* NULL allowed */
uint64_t sys_random(void);
void sys_random_id(struct id *ret_id);
void sys_random_hash(struct hash *ret_hash);

/* Cores that this process may use: affinity, and the cgroup's CPU quota (v1 and v2),
 * rounded up; at least 1. */
uint32_t sys_cores(void);
/* Memory of this machine, or of the cgroup if that is less; bytes. */
uint64_t sys_memory_bytes(void);
/* Both, of one look at the cgroups: that is dozens of small files. */
void sys_room(uint32_t *ret_cores, uint64_t *ret_memory_bytes);
/* Host name, cut; machine type as uname -m. Return the buffer. */
char *sys_host(char *text, size_t size);
char *sys_machine(char *text, size_t size);

/* BLAKE2b-256 of a file's content, and its size. ESYSTEM with errno's text. */
int sys_hash_file(const char *path, struct hash *ret_hash, uint64_t *ret_size,
                  farpool_error *error);
/* The same of content that comes in pieces: begin, any number of pieces, end. */
struct sys_hashing {
    _Alignas(64) unsigned char state[384];
};
void sys_hash_begin(struct sys_hashing *hashing);
void sys_hash_more(struct sys_hashing *hashing, const void *data, size_t size);
void sys_hash_end(struct sys_hashing *hashing, struct hash *ret_hash);
void sys_hash(const void *data, size_t size, struct hash *ret_hash);
/* The id of a pool that the holder of a public key opens: 128 bits of BLAKE2b-256 over
 * key and seed, so that nobody else can name that pool (docs/security.md). */
void sys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool);
/* The number's ticket, which nobody can guess without the secret: 128 bits of BLAKE2b-256
 * over both. */
void sys_ticket(const struct hash *secret, uint64_t number, struct id *ret_ticket);

/* A number of bytes as people give it: a whole number, with K, M, G or T for powers of
 * 1024. false: not a number, or over UINT64_MAX. */
bool sys_parse_size(const char *text, uint64_t *ret_size);

/* For a daemon that holds a secret key: it leaves no core file, and nothing of the same
 * user but root may read its memory, as a pool's process could. What it starts is not
 * concerned. */
void sys_hide_memory(void);

/* Raises the soft limit of open files to the hard one; ENOFILES when that is less than
 * `need`, naming both. */
int sys_need_files(uint64_t need, farpool_error *error);

#endif
