/* SPDX-License-Identifier: Apache-2.0
 *
 * init.c: farpool_init. In a process that a pool started it never returns; elsewhere it
 * notes that it was called, which farpool_open asks for, since a program that does not
 * call it first in main would run its main once more in each process of its pool. */
#include "client/library.h"
#include "client/process.h"
#include "common/sys/guardian.h"

#include "farpool.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_bool initialised;
static char executable[4096];

bool library_is_initialised(void)
{
    return atomic_load(&initialised);
}

const char *library_executable(void)
{
    return executable;
}

static void read_executable(void)
{
    ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
    executable[length > 0 ? length : 0] = '\0';
}

int farpool_init(int *argc, char ***argv)
{
    guardian_serve();
    const char *duplicate = library_duplicate_function();
    if (argc == NULL || argv == NULL) {
        fprintf(stderr, "farpool_init: a pointer is NULL\n");
        return FARPOOL_EINVAL;
    }
    if (duplicate != NULL) {
        fprintf(stderr, "farpool_init: two functions are registered as %s\n", duplicate);
        return FARPOOL_EINVAL;
    }
    read_executable();
    atomic_store(&initialised, true); /* also where tasks open pools */
    if (process_is_pool_process())
        process_serve();
    return 0;
}
