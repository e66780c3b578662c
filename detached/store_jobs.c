/* SPDX-License-Identifier: Apache-2.0
 *
 * store_jobs.c: the rows of jobs. What was submitted is kept as the message that said it,
 * with the version of the protocol: a coordinator of another version names the job, and
 * does not guess.
 *
 * A job whose inputs, results or attempts are not as many as its state says is damaged.
 * That is looked at when jobs are read, or, when there are so many that this would take
 * long, before they are used. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/sys.h"
#include "detached/store_internal.h"

#include <stdio.h>
#include <string.h>

static int put_state(struct store *store, const struct store_job *job,
                     farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_STATE_UPDATE);
    row_int(&row, (uint64_t)job->id);
    row_int(&row, job->state);
    row_int(&row, job->tasks);
    row_int(&row, job->done);
    row_int(&row, job->failed);
    row_int(&row, job->bytes);
    row_int(&row, job->age_s);
    row_int(&row, (uint64_t)(int64_t)job->code);
    row_text(&row, job->reason);
    row_int(&row, job->given);
    row_int(&row, job->tries);
    row_put_sum(&row);
    return row_run(&row, error);
}

static int put_job(struct store *store, const struct store_job *job,
                   const struct frames *frames, farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_JOB_ADD);
    row_blob(&row, job->owner.key.bytes, sizeof job->owner.key.bytes);
    row_text(&row, job->spec->submit.name);
    row_int(&row, (uint64_t)job->owner.role);
    row_text(&row, job->owner.name);
    row_int(&row, PROTOCOL_VERSION);
    row_payload(&row, frames->header);
    row_payload(&row, frames->bodies_count > 0 ? frames->bodies[0] : NULL);
    row_int(&row, job->submitted_ms);
    row_blob(&row, job->seed.bytes, sizeof job->seed.bytes);
    row_int(&row, job->tag);
    row_put_sum(&row);
    return row_run(&row, error);
}

static int find_name(struct store *store, const struct store_job *job,
                     farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_JOB_NAMED);
    row_blob(&row, job->owner.key.bytes, sizeof job->owner.key.bytes);
    row_text(&row, job->spec->submit.name);
    const int code = row_next(&row, error);
    row_end(&row);
    return code;
}

int store_job_add(struct store *store, struct store_job *job, farpool_error *error)
{
    struct frames frames = {.header = NULL};
    int code = find_name(store, job, error);
    if (code == 0)
        return error_set(error, FARPOOL_EEXISTS,
                         "there is a job \"%s\" already: choose another name, or "
                         "forget that one (farpool results --forget)",
                         job->spec->submit.name);
    if (code != FARPOOL_END || (code = store_write(store, error)) != 0)
        return code;
    if ((code = message_encode(job->spec, &frames)) != 0)
        return error_set(error, code, "%s: %s", store->path, farpool_error_text(code));
    code = put_job(store, job, &frames, error);
    frames_fini(&frames);
    if (code != 0)
        return code;
    job->id = sqlite3_last_insert_rowid(store->db);
    job->is_checked = true;
    return put_state(store, job, error);
}

int store_job_update(struct store *store, const struct store_job *job,
                     farpool_error *error)
{
    const int code = store_write(store, error);
    return code == 0 ? put_state(store, job, error) : code;
}

int store_job_remove(struct store *store, int64_t id, farpool_error *error)
{
    static const enum store_statement parts[] = {
        STORE_INPUTS_REMOVE, STORE_RESULTS_REMOVE, STORE_TRIES_REMOVE,
        STORE_NEEDS_REMOVE,  STORE_STATE_REMOVE,   STORE_JOB_REMOVE};
    struct row row;
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof parts / sizeof parts[0]; i++)
        code = row_run_int(store, parts[i], (uint64_t)id, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_PIECES_UNNEEDED);
    return row_run(&row, error);
}

/* ---------------------------------------------------------------------- reading */

static int damaged_job(const struct row *row, int64_t id, const char *what,
                       farpool_error *error)
{
    return store_damaged(row->store, error, "job %lld: %s", (long long)id, what);
}

/* The message from its frames; NULL: not one of this version. */
static int decode(struct row *row, struct frames *frames, struct store_job *job,
                  farpool_error *error)
{
    const char *reason = "";
    if (frames->header == NULL)
        return damaged_job(row, job->id, "no description", error);
    const int code = message_decode(frames, &job->spec, &reason);
    if (code == 0 && job->spec->kind == MSG_SUBMIT)
        return 0;
    message_free(&job->spec);
    return code == FARPOOL_ENOMEM
               ? error_set(error, code, "%s: out of memory", row->store->path)
               : damaged_job(row, job->id, reason, error);
}

static int get_columns(struct row *row, struct store_job *job, struct payload **bodies,
                       struct frames *frames, farpool_error *error)
{
    char name[NODE_NAME_MAX + 1];
    job->id = sqlite3_column_int64(row->statement, row->column++);
    const bool whole =
        row_get_fixed(row, job->owner.key.bytes, sizeof job->owner.key.bytes);
    row_get_text(row, name, sizeof name);
    job->owner.role = (enum holder_role)row_get_int(row);
    row_get_text(row, job->owner.name, sizeof job->owner.name);
    const uint64_t protocol = row_get_int(row);
    frames->header = row_get_payload(row);
    bodies[0] = row_get_payload(row);
    frames->bodies = bodies;
    frames->bodies_count = bodies[0] != NULL;
    job->submitted_ms = row_get_int(row);
    const bool seeded = row_get_fixed(row, job->seed.bytes, sizeof job->seed.bytes);
    job->tag = (uint32_t)row_get_int(row);
    if (row->result == SQLITE_NOMEM)
        return store_fail(row->store, SQLITE_NOMEM, error);
    if (!whole || !seeded || !row_sum_is_right(row))
        return damaged_job(row, job->id, "its checksum is wrong", error);
    if (protocol != PROTOCOL_VERSION)
        return error_set(error, FARPOOL_EVERSION,
                         "%s: job \"%s\" was submitted with protocol %llu, and this "
                         "coordinator speaks %d: collect it with the former version",
                         row->store->path, name, (unsigned long long)protocol,
                         PROTOCOL_VERSION);
    return 0;
}

static int get_state(struct row *row, struct store_job *job, farpool_error *error)
{
    const int64_t id = (int64_t)row_get_int(row);
    job->state = (enum store_state)row_get_int(row);
    job->tasks = row_get_int(row);
    job->done = row_get_int(row);
    job->failed = row_get_int(row);
    job->bytes = row_get_int(row);
    job->age_s = row_get_int(row);
    job->code = (int)(int64_t)row_get_int(row);
    row_get_text(row, job->reason, sizeof job->reason);
    job->given = row_get_int(row);
    job->tries = row_get_int(row);
    return id == job->id && row_sum_is_right(row)
               ? 0
               : damaged_job(row, job->id, "the checksum of its state is wrong", error);
}

static int read_state(struct store *store, struct store_job *job, farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_STATE);
    row_int(&row, (uint64_t)job->id);
    int code = row_next(&row, error);
    if (code == 0)
        code = get_state(&row, job, error);
    else if (code == FARPOOL_END)
        code = damaged_job(&row, job->id, "its state is missing", error);
    row_end(&row);
    return code;
}

static int count(struct store *store, enum store_statement statement, int64_t job,
                 uint64_t *ret_count, farpool_error *error)
{
    struct row row;
    row_begin(&row, store, statement);
    if (job != 0)
        row_int(&row, (uint64_t)job);
    const int code = row_next(&row, error);
    if (code == 0)
        *ret_count = row_get_int(&row);
    row_end(&row);
    return code;
}

int store_job_check(struct store *store, struct store_job *job, farpool_error *error)
{
    const struct row row = {.store = store};
    uint64_t inputs = 0, results = 0, tries = 0;
    int code = count(store, STORE_INPUTS_COUNT, job->id, &inputs, error);
    if (code == 0)
        code = count(store, STORE_RESULTS_COUNT, job->id, &results, error);
    if (code == 0)
        code = count(store, STORE_TRIES_COUNT, job->id, &tries, error);
    if (code != 0)
        return code;
    if (inputs != job->tasks)
        return damaged_job(&row, job->id, "inputs are missing", error);
    if (results != job->done + job->failed)
        return damaged_job(&row, job->id, "results are missing", error);
    if (tries != job->tries)
        return damaged_job(&row, job->id, "attempts are missing", error);
    job->is_checked = true;
    return 0;
}

static int read_one(struct row *row, struct store_job *job, farpool_error *error)
{
    struct payload *bodies[1] = {NULL};
    struct frames frames = {.header = NULL};
    int code = get_columns(row, job, bodies, &frames, error);
    if (code == 0)
        code = decode(row, &frames, job, error);
    payload_unref(&frames.header);
    payload_unref(&bodies[0]);
    if (code == 0)
        code = read_state(row->store, job, error);
    if (code == 0 && sys_now_ms() < row->store->check_until_ms)
        code = store_job_check(row->store, job, error);
    return code;
}

int store_jobs_read(struct store *store, int (*take)(void *user, struct store_job *job),
                    void *user, farpool_error *error)
{
    struct row row;
    uint64_t strays = 0;
    int code;
    row_begin(&row, store, STORE_JOBS);
    while ((code = row_next(&row, error)) == 0) {
        struct store_job job = {.id = 0};
        code = read_one(&row, &job, error);
        if (code == 0 && (code = take(user, &job)) != 0)
            error_set(error, code, "%s: %s", store->path, farpool_error_text(code));
        message_free(&job.spec);
        if (code != 0)
            break;
    }
    row_end(&row);
    if (code != FARPOOL_END)
        return code;
    if (sys_now_ms() >= store->check_until_ms)
        return 0;
    code = count(store, STORE_STRAYS, 0, &strays, error);
    return code == 0 && strays > 0 ? store_damaged(store, error, "rows of no job") : code;
}
