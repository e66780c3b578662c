/* SPDX-License-Identifier: Apache-2.0
 *
 * detached/store.h: detached jobs on a disk: their programs, inputs and results, in one
 * SQLite file of the coordinator's state folder. One thread owns a store.
 *
 * What is written is in one transaction, which begins by itself with the first write, and
 * is on the disk when store_commit has returned 0; anything else that fails undoes all of
 * it (store_rollback). Every row has a checksum, checked whenever it is read. Each commit
 * has a number, which is kept in a second file too, so that a store that has lost some of
 * those that were told of is not taken for whole.
 *
 * Errors: EFULL (the limit of bytes_max), ENOSPACE (the disk is full), ESYSTEM (what else
 * the system said, or that the file is damaged), ENOMEM; the text names the file. */
#ifndef FARPOOL_DETACHED_STORE_H
#define FARPOOL_DETACHED_STORE_H

#include "common/base/holder.h"
#include "common/base/message.h"

struct store;

#define STORE_FILE "detached.db"
#define STORE_LAST_FILE STORE_FILE "-acknowledged"

/* Opens the file in a folder, or makes both. ESYSTEM also: another process has it open,
 * or it was made by a later version. */
int store_open(const char *folder, uint64_t bytes_max, struct store **ret_store,
               farpool_error *error);
void store_close(struct store *store); /* NULL allowed; undoes what was not committed */
/* Whether every page was looked at when it was opened: a large one is not, for the time
 * that takes. What is wrong in the rest is found when it is read. */
bool store_is_checked(const struct store *store);

/* Tests only, for small files: of those that are made from now on. */
void store_set_page_bytes(unsigned bytes);
/* The same, for short ones: how long opening may take for looking at all of it. */
void store_set_check_ms(unsigned ms);

int store_commit(struct store *store, farpool_error *error); /* nothing written: 0 */
void store_rollback(struct store *store);

/* Bytes in use, of bytes_max. */
uint64_t store_bytes(const struct store *store);
uint64_t store_bytes_max(const struct store *store);

/* ------------------------------------------------------------------------ jobs */

/*   FILLING --(SUBMIT_END)--> OPEN --> ENDED, CANCELLED or FAILED */
enum store_state {
    STORE_FILLING,   /* inputs still come */
    STORE_OPEN,      /* to be run */
    STORE_ENDED,     /* every task has a result */
    STORE_CANCELLED, /* those that have none have none */
    STORE_FAILED,    /* the same: no node could run it; code and reason */
};

struct store_job {
    int64_t id;
    struct holder owner;  /* who submitted it */
    struct message *spec; /* the SUBMIT */
    enum store_state state;
    uint64_t tasks, done, failed, bytes;
    struct id seed;        /* its pool's, of the first and all later coordinators */
    uint32_t tag;          /* its number in that pool, the high half */
    uint64_t given;        /* tasks from here on have not been sent to anybody */
    uint64_t tries;        /* rows of tasks that were tried again */
    bool is_checked;       /* not in the store: its rows have been counted */
    uint64_t submitted_ms; /* since 1970 */
    uint64_t age_s;        /* since its end, while a coordinator ran */
    int code;
    char reason[256];
};

/* Sets job->id; EEXISTS: its owner has one of that name. */
int store_job_add(struct store *store, struct store_job *job, farpool_error *error);
/* Writes what changes: state, counts, age, code and reason. */
int store_job_update(struct store *store, const struct store_job *job,
                     farpool_error *error);
/* With its inputs, its results, and files that no other job has. */
int store_job_remove(struct store *store, int64_t id, farpool_error *error);
/* Whether its rows are all there; done by store_jobs_read, as far as there was time. */
int store_job_check(struct store *store, struct store_job *job, farpool_error *error);
/* All jobs, in the order of their ids. `take` may take job->spec over; not 0 ends it. */
int store_jobs_read(struct store *store, int (*take)(void *user, struct store_job *job),
                    void *user, farpool_error *error);

/* ----------------------------------------------------------- inputs and results */

int store_input_add(struct store *store, int64_t job, const struct msg_span *span,
                    farpool_error *error);
/* The inputs from `first` on that were added with it, at most `count`. */
int store_input_read(struct store *store, int64_t job, uint64_t first, uint64_t count,
                     struct msg_span *ret_span, farpool_error *error);

/* What became of consecutive tasks. */
struct store_result {
    uint64_t first, count;
    struct payload *sizes, *data; /* code 0: outputs, as in a span; borrowed to add */
    struct msg_failed failed;     /* else; index is not used */
};
void store_result_fini(struct store_result *result);
int store_result_add(struct store *store, int64_t job, const struct store_result *result,
                     farpool_error *error);
/* The one that has `index`, or the first one behind it; FARPOOL_END: there is none.
 * whole: also its bytes, else only where it is. */
int store_result_read(struct store *store, int64_t job, uint64_t index, bool whole,
                      struct store_result *ret_result, farpool_error *error);

/* Tasks that are tried again: with which attempt, after how much. */
struct store_try {
    uint64_t first, count;
    uint32_t attempt; /* of a task the highest counts */
    uint64_t losses, failures;
};
int store_try_add(struct store *store, int64_t job, const struct store_try *again,
                  farpool_error *error);
/* All of a job, in the order of their attempts; `take` not 0 ends it. */
int store_tries_read(struct store *store, int64_t job,
                     int (*take)(void *user, const struct store_try *again), void *user,
                     farpool_error *error);

/* ----------------------------------------------------------------------- files */

/* Says that a job needs a file, and how much of it is here; *ret_have == size: all. */
int store_file_need(struct store *store, int64_t job, const struct msg_file *file,
                    uint64_t *ret_have, farpool_error *error);
/* The next piece, at offset have. When that was the last one its content is checked:
 * EPROGRAM, and the file is empty again: it is not what its hash says. */
int store_file_add(struct store *store, const struct msg_file *file, uint64_t offset,
                   const struct payload *piece, farpool_error *error);
int store_file_read(struct store *store, const struct hash *content, uint64_t offset,
                    uint64_t bytes, struct payload **ret_piece, farpool_error *error);

#endif
