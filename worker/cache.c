/* SPDX-License-Identifier: Apache-2.0
 *
 * cache.c: the programs that are open, and what each still lacks. The list of files comes
 * from a client by way of the coordinator, so it is checked against the program's hash,
 * and each file against its own, before anything of it is executed. Files are fetched in
 * the order of the list, piece by piece, so that a program for another machine is found
 * out by its first file. The disk itself is in cache_disk.c.
 *
 * An open program has been verified when it was opened, not each time a process starts.
 */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/program.h"
#include "worker/cache_internal.h"

#include <stdio.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

#define FETCHES_MAX 2 /* of one file whose content came wrong */

struct cached {
    struct hash program;
    struct msg_file *files;
    uint32_t count;
    uint32_t next;    /* the first file that is not known to be there */
    uint32_t fetches; /* of it */
    struct disk_fetch fetch;
    UT_hash_handle hh;
};

struct cache {
    struct disk disk;
    struct cached *programs;
};

int cache_open(const char *folder, const char *node, struct cache **ret_cache,
               farpool_error *error)
{
    struct cache *cache = mem_alloc(sizeof *cache);
    if (cache == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    snprintf(cache->disk.node, sizeof cache->disk.node, "%s", node);
    int result = disk_open(&cache->disk, folder, error);
    if (result != 0) {
        mem_free(cache);
        return result;
    }
    *ret_cache = cache;
    return 0;
}

static void remove_program(struct cache *cache, struct cached *program)
{
    disk_fetch_drop(&program->fetch);
    HASH_DELETE(hh, cache->programs, program);
    mem_free(program->files);
    mem_free(program);
}

void cache_close(struct cache *cache)
{
    if (cache == NULL)
        return;
    struct cached *program, *next;
    HASH_ITER (hh, cache->programs, program, next)
        remove_program(cache, program);
    verified_fini(&cache->disk.verified);
    mem_free(cache);
}

const char *cache_folder(const struct cache *cache)
{
    return cache->disk.folder;
}

static struct cached *find(struct cache *cache, const struct hash *hash)
{
    struct cached *program;
    HASH_FIND(hh, cache->programs, hash, sizeof *hash, program);
    return program;
}

static struct cached *add(struct cache *cache, const struct hash *hash,
                          const struct msg_file *files, uint32_t count)
{
    struct cached *program = mem_alloc(sizeof *program);
    if (program == NULL)
        return NULL;
    program->files = mem_alloc(count * sizeof *files);
    program->program = *hash;
    program->count = count;
    program->fetch.fd = -1;
    if (program->files != NULL) {
        memcpy(program->files, files, count * sizeof *files);
        HASH_ADD(hh, cache->programs, program, sizeof *hash, program);
        if (program->hh.tbl != NULL)
            return program;
    }
    mem_free(program->files);
    mem_free(program);
    return NULL;
}

static void answer_failed(struct cache *cache, struct cached *program,
                          struct cache_answer *answer)
{
    answer->kind = WORKER_PROGRAM_FAILED;
    if (program != NULL)
        remove_program(cache, program);
}

static bool is_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strncmp(name, ".farpool-", 9) != 0;
}

static int check_list(const struct cache *cache, const struct hash *program,
                      const struct msg_file *files, uint32_t count, farpool_error *error)
{
    struct hash hash;
    if (count == 0 || count > FILES_MAX)
        return error_set(error, FARPOOL_EPROGRAM, "a program of %u files is not possible",
                         count);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_name(files[i].name))
            return error_set(error, FARPOOL_EPROGRAM, "\"%s\" is no name for a file",
                             files[i].name);
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(files[i].name, files[j].name) == 0)
                return error_set(error, FARPOOL_EPROGRAM, "\"%s\" is listed twice",
                                 files[i].name);
        }
    }
    sys_hash_program(files, count, &hash);
    if (!hash_equal(&hash, program))
        return error_set(error, FARPOOL_EPROGRAM,
                         "the list of the program's files does not match its hash "
                         "(node %s)",
                         cache->disk.node);
    if (!files[0].executable)
        return error_set(error, FARPOOL_EPROGRAM, "%s may not be executed",
                         files[0].name);
    return 0;
}

/* Every file is there. */
static void answer_ready(struct cache *cache, struct cached *program,
                         struct cache_answer *answer)
{
    int length = 0;
    int result = disk_make_program(&cache->disk, &program->program, program->files,
                                   program->count, answer->folder, &answer->error);
    if (result == 0) {
        length = snprintf(answer->path, sizeof answer->path, "%s/%s", answer->folder,
                          program->files[0].name);
        if (length >= (int)sizeof answer->path)
            result = error_set(&answer->error, FARPOOL_ESYSTEM, "the path is too long");
    }
    if (result != 0)
        answer_failed(cache, program, answer);
    else
        answer->kind = WORKER_PROGRAM_READY;
}

/* Goes on with the next file; false: something is to be told first. */
static bool advance(struct cache *cache, struct cached *program,
                    struct cache_answer *answer)
{
    const struct msg_file *file = &program->files[program->next];
    int result = 0;
    bool there = disk_has_blob(&cache->disk, file);
    if (!there) {
        result = disk_fetch_begin(&cache->disk, file, &program->fetch, &answer->error);
        if (result == 0 && file->size > 0) {
            answer->kind = WORKER_PROGRAM_NEEDS;
            answer->file = program->next;
            answer->offset = 0;
            return false;
        }
        if (result == 0)
            result = disk_fetch_end(&cache->disk, file, &program->fetch, &answer->error);
    }
    if (result == 0 && program->next == 0)
        result = disk_check_machine(&cache->disk, file, &answer->error);
    if (result != 0) {
        answer_failed(cache, program, answer);
        return false;
    }
    program->next++;
    program->fetches = 0;
    return true;
}

static void answer_next(struct cache *cache, struct cached *program,
                        struct cache_answer *answer)
{
    while (program->next < program->count) {
        if (!advance(cache, program, answer))
            return;
    }
    answer_ready(cache, program, answer);
}

static void answer_init(struct cache_answer *answer)
{
    answer->kind = WORKER_PROGRAM_FAILED;
    answer->file = 0;
    answer->offset = 0;
    answer->path[0] = answer->folder[0] = '\0';
    error_clear(&answer->error);
}

void cache_open_program(struct cache *cache, const struct hash *hash,
                        const struct msg_file *files, uint32_t count,
                        struct cache_answer *ret_answer)
{
    answer_init(ret_answer);
    cache_close_program(cache, hash);
    if (check_list(cache, hash, files, count, &ret_answer->error) != 0)
        return;
    struct cached *program = add(cache, hash, files, count);
    if (program == NULL)
        error_set(&ret_answer->error, FARPOOL_ENOMEM, "out of memory on node %s",
                  cache->disk.node);
    else
        answer_next(cache, program, ret_answer);
}

/* The last piece of a file came. A content that is wrong is fetched once more. */
static void end_file(struct cache *cache, struct cached *program,
                     struct cache_answer *answer)
{
    const struct msg_file *file = &program->files[program->next];
    int result = disk_fetch_end(&cache->disk, file, &program->fetch, &answer->error);
    if (result == FARPOOL_EPROGRAM && ++program->fetches < FETCHES_MAX)
        result = 0;
    if (result != 0)
        answer_failed(cache, program, answer);
    else
        answer_next(cache, program, answer);
}

bool cache_write(struct cache *cache, const struct hash *hash, uint32_t file,
                 uint64_t offset, const struct payload *data, int code,
                 struct cache_answer *ret_answer)
{
    struct cached *program = find(cache, hash);
    if (program == NULL || program->fetch.fd < 0)
        return false;
    answer_init(ret_answer);
    const struct msg_file *wanted = &program->files[program->next];
    if (code != 0) {
        error_set(&ret_answer->error, code, "the client cannot read %s: %s", wanted->name,
                  farpool_error_text(code));
        answer_failed(cache, program, ret_answer);
        return true;
    }
    if (file == program->next && offset == program->fetch.offset) {
        if (disk_fetch_write(&cache->disk, wanted, &program->fetch, data,
                             &ret_answer->error) != 0) {
            answer_failed(cache, program, ret_answer);
            return true;
        }
        if (program->fetch.offset == wanted->size) {
            end_file(cache, program, ret_answer);
            return true;
        }
    }
    ret_answer->kind = WORKER_PROGRAM_NEEDS;
    ret_answer->file = program->next;
    ret_answer->offset = program->fetch.offset;
    return true;
}

void cache_close_program(struct cache *cache, const struct hash *hash)
{
    struct cached *program = find(cache, hash);
    if (program != NULL)
        remove_program(cache, program);
}
