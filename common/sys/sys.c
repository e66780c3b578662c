/* SPDX-License-Identifier: Apache-2.0
 *
 * sys.c: clock, randomness, names, sizes and the limit of open files. Nothing here keeps
 * state. Cores and memory are in cores.c, hashes in hash.c. */
#include "common/sys/sys.h"
#include "common/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

uint64_t sys_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sys_now_ms(void)
{
    return sys_now_ns() / 1000000u;
}

const volatile bool *sys_here_create(void)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    bool *here =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (here == MAP_FAILED)
        return NULL;
    if (madvise(here, size, MADV_WIPEONFORK) != 0) {
        munmap(here, size);
        return NULL;
    }
    *here = true;
    return here;
}

void sys_here_destroy(const volatile bool *here)
{
    if (here != NULL)
        munmap((void *)(uintptr_t)here, (size_t)sysconf(_SC_PAGESIZE));
}

/* getrandom gives up to 256 bytes whole, and waits only before the pool is filled at
 * boot. A kernel without it cannot give identities at all. */
static void fill_random(void *bytes, size_t size)
{
    while (getrandom(bytes, size, 0) != (ssize_t)size) {
        if (errno != EINTR)
            abort();
    }
}

uint64_t sys_random(void)
{
    uint64_t value;
    fill_random(&value, sizeof value);
    return value;
}

void sys_random_id(struct id *ret_id)
{
    do
        fill_random(ret_id->bytes, sizeof ret_id->bytes);
    while (id_is_zero(ret_id));
}

void sys_random_hash(struct hash *ret_hash)
{
    fill_random(ret_hash->bytes, sizeof ret_hash->bytes);
}

char *sys_host(char *text, size_t size)
{
    struct utsname name;
    const char *host =
        uname(&name) == 0 && name.nodename[0] != '\0' ? name.nodename : "localhost";
    snprintf(text, size, "%s", host);
    return text;
}

char *sys_machine(char *text, size_t size)
{
    struct utsname name;
    snprintf(text, size, "%s", uname(&name) == 0 ? name.machine : "unknown");
    return text;
}

static int unit_shift(char unit)
{
    switch (unit) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    case 't':
    case 'T':
        return 40;
    default:
        return -1;
    }
}

bool sys_parse_size(const char *text, uint64_t *ret_size)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    int shift = 0;
    if (*end != '\0') {
        shift = unit_shift(*end);
        if (shift < 0 || end[1] != '\0' || value > UINT64_MAX >> shift)
            return false;
    }
    *ret_size = (uint64_t)value << shift;
    return true;
}

void sys_hide_memory(void)
{
    prctl(PR_SET_DUMPABLE, 0);
}

int sys_need_files(uint64_t need, farpool_error *error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "getrlimit: %s", strerror(errno));
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < need)
        return error_set(error, FARPOOL_ENOFILES,
                         "%llu open files are needed, and this process may have %llu "
                         "(raise the hard limit: ulimit -Hn, LimitNOFILE=)",
                         (unsigned long long)need, (unsigned long long)limit.rlim_max);
    if (limit.rlim_cur == limit.rlim_max)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "setrlimit: %s", strerror(errno));
    return 0;
}
