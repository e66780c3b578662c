/* SPDX-License-Identifier: Apache-2.0
 *
 * store_jobs.c: the rows of jobs. What was submitted is kept as the message that said it,
 * with the version of the protocol: a coordinator of another version names the job, and
 * does not guess.
 *
 * When jobs are read, so is how many inputs and results each has: a store that lacks some
 * is damaged. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "detached/store_internal.h"

#include <stdio.h>
#include <string.h>

static int put_columns(struct row *row, const struct store_job *job,
                       const struct frames *frames, farpool_error *error)
{
    row_blob(row, job->owner.key.bytes, sizeof job->owner.key.bytes);
    row_text(row, job->spec->submit.name);
    row_int(row, (uint64_t)job->owner.role);
    row_text(row, job->owner.name);
    row_int(row, PROTOCOL_VERSION);
    row_payload(row, frames->header);
    row_payload(row, frames->bodies_count > 0 ? frames->bodies[0] : NULL);
    row_int(row, job->state);
    row_int(row, job->tasks);
    row_int(row, job->done);
    row_int(row, job->failed);
    row_int(row, job->bytes);
    row_int(row, job->submitted_ms);
    row_int(row, job->age_s);
    row_int(row, (uint64_t)(int64_t)job->code);
    row_text(row, job->reason);
    row_put_sum(row);
    return row_run(row, error);
}

static int put(struct store *store, const struct store_job *job,
               enum store_statement statement, farpool_error *error)
{
    struct frames frames = {.header = NULL};
    struct row row;
    int code = store_write(store, error);
    if (code != 0)
        return code;
    if ((code = message_encode(job->spec, &frames)) != 0)
        return error_set(error, code, "%s: %s", store->path, farpool_error_text(code));
    row_begin(&row, store, statement);
    if (statement == STORE_JOB_UPDATE) /* the sum is that of all columns but the id */
        row.result = sqlite3_bind_int64(row.statement, ++row.column, job->id);
    code = put_columns(&row, job, &frames, error);
    frames_fini(&frames);
    return code;
}

int store_job_add(struct store *store, struct store_job *job, farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_JOB_NAMED);
    row_blob(&row, job->owner.key.bytes, sizeof job->owner.key.bytes);
    row_text(&row, job->spec->submit.name);
    int code = row_next(&row, error);
    row_end(&row);
    if (code == 0)
        return error_set(error, FARPOOL_EEXISTS,
                         "there is a job \"%s\" already: choose another name, or "
                         "forget that one (farpool results --forget)",
                         job->spec->submit.name);
    if (code == FARPOOL_END)
        code = put(store, job, STORE_JOB_ADD, error);
    if (code == 0)
        job->id = sqlite3_last_insert_rowid(store->db);
    return code;
}

int store_job_update(struct store *store, const struct store_job *job,
                     farpool_error *error)
{
    return put(store, job, STORE_JOB_UPDATE, error);
}

int store_job_remove(struct store *store, int64_t id, farpool_error *error)
{
    static const enum store_statement parts[] = {
        STORE_INPUTS_REMOVE, STORE_RESULTS_REMOVE, STORE_NEEDS_REMOVE, STORE_JOB_REMOVE};
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
    job->state = (enum store_state)row_get_int(row);
    job->tasks = row_get_int(row);
    job->done = row_get_int(row);
    job->failed = row_get_int(row);
    job->bytes = row_get_int(row);
    job->submitted_ms = row_get_int(row);
    job->age_s = row_get_int(row);
    job->code = (int)(int64_t)row_get_int(row);
    row_get_text(row, job->reason, sizeof job->reason);
    if (row->result == SQLITE_NOMEM)
        return store_fail(row->store, SQLITE_NOMEM, error);
    if (!whole || !row_sum_is_right(row))
        return damaged_job(row, job->id, "its checksum is wrong", error);
    if (protocol != PROTOCOL_VERSION)
        return error_set(error, FARPOOL_EVERSION,
                         "%s: job \"%s\" was submitted with protocol %llu, and this "
                         "coordinator speaks %d: collect it with the former version",
                         row->store->path, name, (unsigned long long)protocol,
                         PROTOCOL_VERSION);
    return 0;
}

static int count(struct store *store, const char *question, int64_t id,
                 uint64_t *ret_count, farpool_error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db, question, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_bind_int64(statement, 1, id);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        *ret_count = (uint64_t)sqlite3_column_int64(statement, 0);
    const int code = result == SQLITE_ROW ? 0 : store_fail(store, result, error);
    sqlite3_finalize(statement);
    return code;
}

static int check_counts(struct row *row, const struct store_job *job,
                        farpool_error *error)
{
    uint64_t inputs = 0, results = 0;
    int code =
        count(row->store, "SELECT coalesce(sum(count), 0) FROM inputs WHERE job = ?",
              job->id, &inputs, error);
    if (code == 0)
        code =
            count(row->store, "SELECT coalesce(sum(count), 0) FROM results WHERE job = ?",
                  job->id, &results, error);
    if (code == 0 && inputs != job->tasks)
        return damaged_job(row, job->id, "inputs are missing", error);
    if (code == 0 && results != job->done + job->failed)
        return damaged_job(row, job->id, "results are missing", error);
    return code;
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
        code = check_counts(row, job, error);
    return code;
}

int store_jobs_read(struct store *store, int (*take)(void *user, struct store_job *job),
                    void *user, farpool_error *error)
{
    static const char orphans[] =
        "SELECT (SELECT count(*) FROM inputs WHERE job NOT IN (SELECT id FROM jobs)) + "
        "(SELECT count(*) FROM results WHERE job NOT IN (SELECT id FROM jobs)) + 0 * ?";
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
    code = count(store, orphans, 0, &strays, error);
    return code == 0 && strays > 0
               ? store_damaged(store, error, "inputs or results of no job")
               : code;
}
