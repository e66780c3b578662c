/* SPDX-License-Identifier: Apache-2.0
 *
 * find.c: pools and jobs as people name them: a pool by the first digits of its id, a job
 * by the low half of its number, which is what tables show. A name that stands for
 * several is an error, never a guess. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t cli_short_job(const farpool_job_status *job)
{
    return job->job & UINT32_MAX;
}

const farpool_pool_status *cli_find_pool(const char *command,
                                         const farpool_cluster_status *status,
                                         const char *prefix)
{
    const farpool_pool_status *found = NULL;
    size_t count = 0;
    for (size_t i = 0; prefix[0] && i < status->pools_count; i++) {
        if (strncmp(status->pools[i].id, prefix, strlen(prefix)) != 0)
            continue;
        found = &status->pools[i];
        count++;
    }
    if (count == 1)
        return found;
    if (count == 0)
        cli_error(command, "no pool's id begins with '%s' (there %s %zu pool%s)", prefix,
                  status->pools_count == 1 ? "is" : "are", status->pools_count,
                  cli_plural(status->pools_count));
    else
        cli_error(command, "the ids of %zu pools begin with '%s': give more digits",
                  count, prefix);
    return NULL;
}

static bool read_number(const char *text, uint64_t *ret_number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

const farpool_job_status *cli_find_job(const char *command,
                                       const farpool_cluster_status *status,
                                       const farpool_pool_status *pool, const char *text)
{
    const farpool_job_status *found = NULL;
    uint64_t number = 0;
    size_t count = 0;
    const bool valid = read_number(text, &number);
    for (size_t i = 0; valid && i < status->jobs_count; i++) {
        const farpool_job_status *job = &status->jobs[i];
        if (strcmp(job->pool, pool->id) != 0)
            continue;
        if (job->job == number)
            return job;
        if (cli_short_job(job) == number) {
            found = job;
            count++;
        }
    }
    if (count == 1)
        return found;
    if (!valid)
        cli_error(command, "'%s' is not the number of a job", text);
    else if (count == 0)
        cli_error(command, "pool %.8s has no job %s (it has %" PRIu64 " job%s)", pool->id,
                  text, pool->jobs, cli_plural(pool->jobs));
    else
        cli_error(command,
                  "%zu jobs of pool %.8s are numbered %s: give the number in "
                  "full, as `farpool jobs --json` shows it",
                  count, pool->id, text);
    return NULL;
}
