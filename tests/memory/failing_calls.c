/* SPDX-License-Identifier: Apache-2.0
 *
 * failing_calls.c: to be preloaded: the n-th allocation (MEMORY_FAIL_CALL=n) that the
 * program or libfarpool asks of the C library fails, and the file MEMORY_FAIL_COUNT tells
 * at the end how many there were. What other libraries ask for is left alone, and so are
 * the programs that this one starts. */
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)
enum { RANGES_MAX = 8 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

static struct range {
    uintptr_t begin, end;
} ranges[RANGES_MAX];
static size_t ranges_count;
static atomic_size_t made;
static size_t fail_at;
static char count_path[512];

/* The program has no name here; code is what may be executed. */
static int note_ours(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    (void)user;
    if (info->dlpi_name[0] != '\0' && strstr(info->dlpi_name, "/libfarpool.so") == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum && ranges_count < RANGES_MAX; i++) {
        const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            (info->dlpi_phdr[i].p_flags & PF_X) != 0)
            ranges[ranges_count++] =
                (struct range){begin, begin + info->dlpi_phdr[i].p_memsz};
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *n = getenv("MEMORY_FAIL_CALL"), *path = getenv("MEMORY_FAIL_COUNT");
    if (n == NULL || path == NULL)
        return;
    snprintf(count_path, sizeof count_path, "%s", path);
    fail_at = (size_t)strtoull(n, NULL, 10);
    unsetenv("LD_PRELOAD");
    unsetenv("MEMORY_FAIL_CALL");
    unsetenv("MEMORY_FAIL_COUNT");
    dl_iterate_phdr(note_ours, NULL);
    atomic_store(&made, 0);
}

__attribute__((destructor)) static void end(void)
{
    FILE *file = count_path[0] != '\0' ? fopen(count_path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "allocations=%zu\n", atomic_load(&made));
        fclose(file);
    }
}

static int refused(const void *caller)
{
    const uintptr_t at = (uintptr_t)caller;
    for (size_t i = 0; i < ranges_count; i++)
        if (at >= ranges[i].begin && at < ranges[i].end &&
            atomic_fetch_add(&made, 1) + 1 == fail_at) {
            errno = ENOMEM;
            return 1;
        }
    return 0;
}

EXPORT void *malloc(size_t size)
{
    return refused(CALLER) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    return refused(CALLER) ? NULL : __libc_calloc(count, size);
}

EXPORT void *realloc(void *memory, size_t size)
{
    return refused(CALLER) ? NULL : __libc_realloc(memory, size);
}

EXPORT char *strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = refused(CALLER) ? NULL : __libc_malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}
