/* SPDX-License-Identifier: Apache-2.0
 *
 * client/failure.h: why tasks of a job failed, and how that is told. */
#ifndef FARPOOL_CLIENT_FAILURE_H
#define FARPOOL_CLIENT_FAILURE_H

#include "client/core.h"

/* Tasks first .. first + count - 1, which failed for one reason. */
struct failure {
    uint64_t first, count;
    int code, exit_status, signal, pid;
    uint32_t attempt;
    char *node, *message, *backtrace; /* one allocation, `node`; NULL: all empty */
};

/* As a CLIENT_FAILED effect tells it. ENOMEM. */
int failure_read(const struct client_effect *effect, struct failure *ret_failure);
/* Made here: no process is concerned. */
int failure_make(uint64_t index, int code, const char *message,
                 struct failure *ret_failure);
void failure_fini(struct failure *failure);

/* What a job is called in texts. */
struct failure_of {
    const char *call;     /* "map" */
    const char *function; /* the registered name */
};

/* Fills error (NULL allowed) for one of its tasks; returns the code. */
int failure_tell(const struct failure *failure, const struct failure_of *of,
                 uint64_t index, farpool_error *error);

/* The failures of a job: added as they come, looked up when somebody asks. */
struct failures {
    struct failure *items;
    size_t count, capacity;
    bool unsorted;
};

/* Takes the failure over. ENOMEM. */
int failures_add(struct failures *failures, struct failure *failure);
/* NULL: none holds that index. Borrowed until the next one is added. */
const struct failure *failures_find(struct failures *failures, uint64_t index);
void failures_fini(struct failures *failures);

#endif
