/* SPDX-License-Identifier: Apache-2.0
 *
 * client/job.h: a job whose inputs are known when it is made: map, starmap, apply. */
#ifndef FARPOOL_CLIENT_JOB_H
#define FARPOOL_CLIENT_JOB_H

#include "client/failure.h"
#include "client/pool.h"

#define JOB_SMALL_BYTES 32 /* outputs that need no memory of their own */

enum job_state {
    JOB_RUNNING, /* tasks are left */
    JOB_CALLING, /* all have ended; the callback has not returned */
    JOB_READY,
};

struct farpool_job {
    struct pool_job base;
    struct calls *calls; /* a call that is one of them; NULL: it is not, or no longer */
    uint64_t place;      /* and its index there */
    enum job_state state;
    bool typed;
    bool freed;     /* by its own callback: goes when that returns */
    uint64_t count; /* tasks */
    uint64_t done;  /* ended, failed ones included */
    uint64_t failed;
    uint64_t lowest;   /* the lowest failed index, if any failed */
    uint64_t borrowed; /* payloads that still point into the caller's memory */

    /* Two bits a task, the second touched only if one fails: a page is dear that is
     * touched first; and 16 bytes for an output of any size. */
    uint64_t *ended, *bad;
    uint64_t few[2]; /* both, for up to 64 tasks */
    struct failures failures;

    uint32_t output_size; /* typed */
    uint8_t *outputs;     /* typed: count * output_size bytes */
    bool outputs_owned;   /* else the caller's, or in `small` */
    _Alignas(16) uint8_t small[JOB_SMALL_BYTES];
    farpool_bytes *items; /* not typed: into payloads */
    struct payload **payloads;
    size_t payloads_count, payloads_capacity;

    farpool_callback callback;
    farpool_error_callback error_callback;
    void *user;
};

/* The list of what a map runs on. */
struct job_inputs {
    const void *values; /* typed: consecutive values of `size` bytes */
    size_t size;
    const farpool_bytes *items; /* else, if not NULL */
    const farpool_list *list;   /* else */
    uint64_t count;
    bool waits;  /* the caller, until the job is ready: */
    bool borrow; /* what is submitted may point into his memory */
};

/* inputs.c */
farpool_bytes job_input(const struct job_inputs *inputs, uint64_t index);
/* All of them as spans, to the core. With the mutex; on failure some may be there. */
int job_submit_inputs(farpool_job *job, const struct job_inputs *inputs);

/* outputs: the caller's memory for typed ones; NULL: the job's own. */
int job_create(farpool_pool *pool, const char *call, const farpool_function *function,
               uint64_t count, void *outputs, const farpool_job_options *options,
               farpool_job **ret_job, farpool_error *error);

/* Hands everything to the core. With the mutex; on failure nothing was submitted. */
int job_submit(farpool_job *job, const farpool_function *function,
               const struct job_settings *settings, const struct job_inputs *inputs,
               farpool_error *error);

/* The output of its only task; whole: what data points into. */
void job_take_output(farpool_job *job, const uint8_t *data, size_t size,
                     struct payload *whole);

/* Waits until the job is ready and lets go of the caller's memory. With the mutex. */
void job_finish(farpool_job *job);

/* Why a task failed. With the mutex. */
int job_tell(farpool_job *job, uint64_t index, farpool_error *error);

static inline bool job_bit(const uint64_t *bits, uint64_t index)
{
    return (bits[index / 64] >> (index % 64)) & 1;
}

/* Whether a task has ended, whichever way; and whether it has an output. */
static inline bool job_has_ended(const farpool_job *job, uint64_t index)
{
    return job_bit(job->ended, index);
}

static inline bool job_is_good(const farpool_job *job, uint64_t index)
{
    return job_has_ended(job, index) && !job_bit(job->bad, index);
}

/* 0, or the error of the lowest failed index. With the mutex. */
int job_result(farpool_job *job, farpool_error *error);

/* Frees it; without the mutex. */
void job_destroy(farpool_job *job);

/* Whether all is over, callback included, or this is the callback. With the mutex. */
bool job_is_ready(const farpool_job *job);

/* A description of a job for the core. */
void job_describe(const farpool_function *function, const struct job_settings *settings,
                  struct client_job_options *ret_options);

/* EINVAL: NULL, or its name is too long. */
int job_check_function(const farpool_function *function, const char *call,
                       farpool_error *error);

#endif
