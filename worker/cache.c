/* SPDX-License-Identifier: Apache-2.0
 *
 * cache.c: the programs that are open, and what each still lacks. The list of files comes
 * from a client by way of the coordinator, so it is checked against the program's hash,
 * and each file against its own, before anything of it is executed. Files are fetched in
 * the order of the list, piece by piece, so that a program for another machine is found
 * out by its first file. The disk itself is in cache_disk.c, cache_blob.c and
 * cache_evict.c.
 *
 * An open program has been verified when it was opened, not each time a process starts.
 */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/program.h"
#include "worker/cache_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    uint32_t next;           /* the first file that is not known to be there */
    uint32_t fetches;        /* of it */
    bool fetched;            /* any of them, so that the cache has grown */
    struct disk_check check; /* of it, while that goes on */
    struct disk_fetch fetch;
    int lock; /* the program's folder, open and locked; -1: not yet */
    char folder[CACHE_PATH_MAX];
    UT_hash_handle hh;
};

struct cache {
    struct disk disk;
    uint64_t bytes_max; /* 0: no bound */
    struct cached *programs;
};

/* Programs that are open stay, also over the bound. */
static void evict(struct cache *cache)
{
    while (cache->bytes_max > 0 && disk_bytes(&cache->disk) > cache->bytes_max &&
           disk_evict(&cache->disk) > 0)
        ;
}

int cache_open(const char *folder, const char *node, uint64_t bytes_max,
               struct cache **ret_cache, farpool_error *error)
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
    cache->bytes_max = bytes_max;
    evict(cache);
    *ret_cache = cache;
    return 0;
}

static void remove_program(struct cache *cache, struct cached *program)
{
    disk_fetch_drop(&program->fetch);
    disk_check_drop(&program->check);
    if (program->lock >= 0)
        close(program->lock);
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
    program->fetch.fd = program->check.fd = program->lock = -1;
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
    snprintf(answer->folder, sizeof answer->folder, "%s", program->folder);
    int length = snprintf(answer->path, sizeof answer->path, "%s/%s", program->folder,
                          program->files[0].name);
    if (length >= (int)sizeof answer->path) {
        error_set(&answer->error, FARPOOL_ESYSTEM, "the path is too long");
        answer_failed(cache, program, answer);
        return;
    }
    answer->kind = WORKER_PROGRAM_READY;
    if (program->fetched)
        evict(cache);
    program->fetched = false;
}

/* The next file is not there. 1: it is to be fetched; 0: it is empty, and made; or an
 * error. */
static int fetch_file(struct cache *cache, struct cached *program,
                      struct cache_answer *answer)
{
    const struct msg_file *file = &program->files[program->next];
    int result = disk_fetch_begin(&cache->disk, file, &program->fetch, &answer->error);
    if (result != 0)
        return result;
    if (file->size == 0)
        return disk_fetch_end(&cache->disk, file, &program->fetch, &answer->error);
    answer->kind = WORKER_PROGRAM_NEEDS;
    answer->file = program->next;
    answer->offset = 0;
    return 1;
}

/* The next file's content is there: into the program's folder with it. */
static int take_file(struct cache *cache, struct cached *program,
                     struct cache_answer *answer)
{
    const struct msg_file *file = &program->files[program->next];
    bool gone = false;
    int result = 0;
    if (program->next == 0)
        result = disk_check_machine(&cache->disk, file, &answer->error);
    if (result == 0)
        result =
            disk_place_file(&cache->disk, program->folder, file, &gone, &answer->error);
    if (result != 0 || gone)
        return result; /* another worker has removed it: looked for again */
    program->next++;
    program->fetches = 0;
    return 0;
}

/* Goes on with the files, as far as `found` of the next one lets it. false: that is being
 * found out, and there is no answer yet. */
static bool go_on(struct cache *cache, struct cached *program, enum disk_found found,
                  struct cache_answer *answer)
{
    int result = 0;
    while (found != DISK_UNKNOWN) {
        if (found == DISK_ABSENT)
            result = fetch_file(cache, program, answer);
        if (result == 0)
            result = take_file(cache, program, answer);
        if (result == 1)
            return true;
        if (result != 0) {
            answer_failed(cache, program, answer);
            return true;
        }
        if (program->next == program->count) {
            answer_ready(cache, program, answer);
            return true;
        }
        found =
            disk_find_blob(&cache->disk, &program->files[program->next], &program->check);
    }
    return false;
}

static bool find_next(struct cache *cache, struct cached *program,
                      struct cache_answer *answer)
{
    return go_on(
        cache, program,
        disk_find_blob(&cache->disk, &program->files[program->next], &program->check),
        answer);
}

static void answer_init(struct cache_answer *answer)
{
    answer->kind = WORKER_PROGRAM_FAILED;
    answer->file = 0;
    answer->offset = 0;
    answer->path[0] = answer->folder[0] = '\0';
    error_clear(&answer->error);
}

bool cache_open_program(struct cache *cache, const struct hash *hash,
                        const struct msg_file *files, uint32_t count,
                        struct cache_answer *ret_answer)
{
    answer_init(ret_answer);
    cache_close_program(cache, hash);
    if (check_list(cache, hash, files, count, &ret_answer->error) != 0)
        return true;
    struct cached *program = add(cache, hash, files, count);
    if (program == NULL) {
        error_set(&ret_answer->error, FARPOOL_ENOMEM, "out of memory on node %s",
                  cache->disk.node);
        return true;
    }
    if (disk_open_program(&cache->disk, hash, program->folder, &program->lock,
                          &ret_answer->error) != 0) {
        answer_failed(cache, program, ret_answer);
        return true;
    }
    return find_next(cache, program, ret_answer);
}

static struct cached *find_checked(struct cache *cache)
{
    struct cached *program, *next;
    HASH_ITER (hh, cache->programs, program, next)
        if (program->check.fd >= 0)
            return program;
    return NULL;
}

bool cache_is_busy(struct cache *cache)
{
    return find_checked(cache) != NULL;
}

bool cache_work(struct cache *cache, struct hash *ret_program,
                struct cache_answer *ret_answer)
{
    struct cached *program = find_checked(cache);
    if (program == NULL)
        return false;
    answer_init(ret_answer);
    *ret_program = program->program;
    return go_on(
        cache, program,
        disk_check_more(&cache->disk, &program->files[program->next], &program->check),
        ret_answer);
}

/* The last piece of a file came. A content that is wrong is fetched once more. */
static bool end_file(struct cache *cache, struct cached *program,
                     struct cache_answer *answer)
{
    const struct msg_file *file = &program->files[program->next];
    int result = disk_fetch_end(&cache->disk, file, &program->fetch, &answer->error);
    program->fetched = true;
    if (result == 0)
        return go_on(cache, program, DISK_RIGHT, answer);
    if (result == FARPOOL_EPROGRAM && ++program->fetches < FETCHES_MAX)
        return go_on(cache, program, DISK_ABSENT, answer);
    answer_failed(cache, program, answer);
    return true;
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
        if (program->fetch.offset == wanted->size)
            return end_file(cache, program, ret_answer);
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
