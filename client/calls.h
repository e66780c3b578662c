/* SPDX-License-Identifier: Apache-2.0
 *
 * client/calls.h: calls that share a job of the core. All with the pool's mutex held. */
#ifndef FARPOOL_CLIENT_CALLS_H
#define FARPOOL_CLIENT_CALLS_H

#include "client/job.h"

#define CALL_BYTES_MAX 4096 /* of an input: a larger one has a job of its own */

/* Makes the job's one task the next one of the calls that are open; begins others if
 * these are of another function or ask for other things. On failure nothing was
 * submitted. */
int calls_add(farpool_job *job, const struct client_job_options *options,
              farpool_bytes input, farpool_error *error);

/* Hands the core the inputs that it was not given yet; pool_step does before a FLUSH. */
void calls_submit(farpool_pool *pool);
/* What comes next is a job of its own. */
void calls_close(farpool_pool *pool);
/* Calls are open, none of them is left, and no other job either. */
bool calls_are_idle(const farpool_pool *pool);
/* How many jobs of the user's have not ended. */
unsigned calls_count_jobs(const farpool_pool *pool);

/* Of one call (job->calls is not NULL): as farpool_job_cancel; and where it stands. */
int64_t calls_cancel(farpool_job *job, bool kill);
void calls_count(const farpool_job *job, struct client_job_counts *ret_counts);
/* Nobody wants it: cancels it, and nothing refers to the job any more. */
void calls_leave(farpool_job *job);

#endif
