/* SPDX-License-Identifier: Apache-2.0
 *
 * client/options.h: options as the library uses them: checked, and AUTO replaced. */
#ifndef FARPOOL_CLIENT_OPTIONS_H
#define FARPOOL_CLIENT_OPTIONS_H

#include "common/base/messages.def"
#include "farpool.h"

#include <stdbool.h>

/* What a job asks for; a pool has one as the default of its jobs. */
struct job_settings {
    uint32_t chunk;                /* 0: adaptive */
    uint64_t timeout_ms;           /* 0: none */
    uint64_t cpu_ms, memory_bytes; /* the same */
    uint32_t retries;
    uint32_t losses_max;
    int32_t priority;
    bool speculate;
    uint64_t tasks_under_way; /* 0: adaptive */
    uint64_t bytes_under_way;
};

struct pool_settings {
    uint32_t processes;         /* 0: every slot */
    uint64_t tasks_per_process; /* 0: no limit */
    uint64_t connect_timeout_ms;
    char initializer[FUNCTION_NAME_MAX + 1];
    farpool_bytes argument;   /* borrowed from the caller until open returns */
    const char *program;      /* the same */
    const char *const *files; /* the same */
    bool output;              /* of processes on workers is brought here */
    farpool_output_callback on_output;
    void *output_user;
    struct job_settings job;
};

/* EINVAL, naming the option, its value and its limit; ENOFUNCTION: the initializer. */
int options_read_pool(const farpool_pool_options *options,
                      struct pool_settings *ret_settings, farpool_error *error);

/* `call` is the name of the call ("map"), for the text. */
int options_read_job(const farpool_job_options *options, const struct job_settings *pool,
                     const char *call, struct job_settings *ret_settings,
                     farpool_error *error);

/* FARPOOL_FOREVER or at least 0, as the time at which a wait ends; EINVAL. */
int options_read_timeout(int64_t timeout_ms, const char *call, uint64_t *ret_until_ms,
                         farpool_error *error);

#endif
