/* SPDX-License-Identifier: Apache-2.0
 *
 * affinity.c: sched_getaffinity and sched_setaffinity, for machines of any size. What is
 * inherited from the starting thread is all there is to binding a process: it is bound
 * before its first instruction, and no pid is ever named. */
#include "common/sys/affinity.h"
#include "common/base/error.h"
#include "common/base/mem.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define CPUS_FEW 1024
#define CPUS_MAX (1 << 20)

struct affinity {
    size_t bytes;    /* of one set */
    int cpus;        /* numbers in one set */
    uint32_t count;  /* of them in `all` */
    cpu_set_t *one;  /* room for a set of one core */
    cpu_set_t all[]; /* `bytes` of it, then those of `one` */
};

/* The set grows until the kernel's own fits: machines with more than 1,024 CPUs. 0 or an
 * errno. */
static int read_set(struct affinity **ret_affinity)
{
    for (int cpus = CPUS_FEW; cpus <= CPUS_MAX; cpus *= 4) {
        const size_t bytes = CPU_ALLOC_SIZE(cpus);
        struct affinity *affinity = mem_alloc(sizeof *affinity + 2 * bytes);
        if (affinity == NULL)
            return ENOMEM;
        affinity->bytes = bytes;
        affinity->cpus = cpus;
        affinity->one = (cpu_set_t *)(void *)((char *)affinity->all + bytes);
        if (sched_getaffinity(0, bytes, affinity->all) == 0) {
            affinity->count = (uint32_t)CPU_COUNT_S(bytes, affinity->all);
            *ret_affinity = affinity;
            return 0;
        }
        const int number = errno;
        mem_free(affinity);
        if (number != EINVAL)
            return number;
    }
    return EINVAL;
}

int affinity_read(struct affinity **ret_affinity, farpool_error *error)
{
    const int number = read_set(ret_affinity);
    if (number == 0)
        return 0;
    if (number == ENOMEM)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for the set of cores");
    return error_set(error, FARPOOL_ESYSTEM, "sched_getaffinity: %s", strerror(number));
}

void affinity_free(struct affinity *affinity)
{
    mem_free(affinity);
}

int affinity_bind(const struct affinity *affinity, uint32_t place)
{
    uint32_t left = place % affinity->count;
    CPU_ZERO_S(affinity->bytes, affinity->one);
    for (int cpu = 0; cpu < affinity->cpus; cpu++) {
        if (!CPU_ISSET_S(cpu, affinity->bytes, affinity->all) || left-- > 0)
            continue;
        CPU_SET_S(cpu, affinity->bytes, affinity->one);
        break;
    }
    return sched_setaffinity(0, affinity->bytes, affinity->one) == 0 ? 0 : errno;
}

void affinity_restore(const struct affinity *affinity)
{
    (void)sched_setaffinity(0, affinity->bytes, affinity->all);
}

uint32_t affinity_count(void)
{
    struct affinity *affinity = NULL;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t count = online > 0 ? (uint32_t)online : 1;
    if (read_set(&affinity) != 0 || affinity == NULL)
        return count;
    if (affinity->count > 0)
        count = affinity->count;
    affinity_free(affinity);
    return count;
}
