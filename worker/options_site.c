/* SPDX-License-Identifier: Apache-2.0
 *
 * options_site.c: what the worker finds out about where it runs, inside a job of Slurm
 * (its name, slots, GPUs, and when the job ends), and the options of time: --until,
 * --idle and --orphan-after. */
#include "worker/shell.h"

#include "common/sys/sys.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MARGIN_MAX_S 60 /* before the end of a job, at most */
#define MARGIN_PART 10  /* of what is left of it, if that is less */
#define SECONDS_MAX 100000000

static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* A whole number, without anything else. */
static bool read_seconds(const char *text, uint64_t *ret_seconds)
{
    const size_t length = strlen(text);
    if (length == 0 || length > 12 || strspn(text, "0123456789") != length)
        return false;
    *ret_seconds = strtoull(text, NULL, 10);
    return true;
}

/* Of the clock that the core uses, for a time that people and Slurm use. */
static uint64_t to_monotonic(uint64_t time_s)
{
    const uint64_t now_s = (uint64_t)time(NULL), now_ms = sys_now_ms();
    return time_s > now_s ? now_ms + (time_s - now_s) * 1000 : now_ms + 1;
}

static bool job_end(uint64_t *ret_time_s)
{
    const char *end = variable("SLURM_JOB_END_TIME");
    return end != NULL && read_seconds(end, ret_time_s);
}

static bool read_local_time(const char *text, uint64_t *ret_time_s)
{
    struct tm parts = {.tm_isdst = -1};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    const time_t when = end != NULL && *end == '\0' ? mktime(&parts) : -1;
    *ret_time_s = (uint64_t)when;
    return when > 0;
}

int worker_read_until(const char *value, struct worker_site *site)
{
    static const char want[] =
        "a time as 2030-12-31T23:59:00 or in seconds since 1970, +SECONDS from now, "
        "-SECONDS before the end of the Slurm job, or none, is wanted";
    uint64_t seconds = 0, end = 0;
    if (strcmp(value, "none") == 0) {
        site->until_ms = 0;
        return -1;
    }
    if (value[0] == '+') {
        if (!read_seconds(value + 1, &seconds) || seconds > SECONDS_MAX)
            return worker_wrong_option("until", value, want);
        site->until_ms = sys_now_ms() + seconds * 1000 + 1;
        return -1;
    }
    if (value[0] == '-') {
        if (!read_seconds(value + 1, &seconds))
            return worker_wrong_option("until", value, want);
        if (!job_end(&end))
            return worker_wrong_option("until", value,
                                       "SLURM_JOB_END_TIME is not set: this is no job of "
                                       "Slurm with an end");
        site->until_ms = to_monotonic(end > seconds ? end - seconds : 0);
        return -1;
    }
    if (!read_seconds(value, &seconds) && !read_local_time(value, &seconds))
        return worker_wrong_option("until", value, want);
    site->until_ms = to_monotonic(seconds);
    return -1;
}

int worker_read_idle(const char *value, struct worker_site *site)
{
    uint64_t seconds = 0;
    if (!read_seconds(value, &seconds) || seconds < 1 || seconds > SECONDS_MAX)
        return worker_wrong_option("idle", value,
                                   "a whole number of seconds from 1 to 100000000 is "
                                   "wanted");
    site->idle_ms = seconds * 1000;
    return -1;
}

int worker_read_orphan_after(const char *value, struct worker_config *core)
{
    uint64_t seconds = 0;
    if (!read_seconds(value, &seconds) || seconds > SECONDS_MAX)
        return worker_wrong_option("orphan-after", value,
                                   "a whole number of seconds up to 100000000 is wanted; "
                                   "0: never");
    core->orphan_after_ms = seconds * 1000;
    return -1;
}

static void take_job_end(struct worker_site *site)
{
    const uint64_t now_s = (uint64_t)time(NULL);
    uint64_t end;
    if (!job_end(&end) || end <= now_s)
        return;
    uint64_t margin = (end - now_s) / MARGIN_PART;
    if (margin > MARGIN_MAX_S)
        margin = MARGIN_MAX_S;
    site->until_ms = to_monotonic(end - margin);
}

/* The name that Slurm uses, if it is one that may be ours. */
static void take_name(struct worker_config *core)
{
    const char *name = variable("SLURMD_NODENAME");
    if (name == NULL || strlen(name) > NODE_NAME_MAX)
        return;
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("._-:", *at) == NULL)
            return;
    snprintf(core->node, sizeof core->node, "%s", name);
}

/* Where Slurm binds nothing, only it knows how many cores are the job's. */
static void take_slots(struct worker_config *core)
{
    const char *text = variable("SLURM_CPUS_PER_TASK");
    uint64_t cpus = 0;
    if (text == NULL)
        text = variable("SLURM_CPUS_ON_NODE");
    if (text != NULL && read_seconds(text, &cpus) && cpus >= 1 && cpus < core->slots)
        core->slots = (uint32_t)cpus;
}

void worker_site_defaults(struct worker_config *core, struct worker_site *site)
{
    *site = (struct worker_site){.until_ms = 0};
    if (variable("SLURM_JOB_ID") == NULL)
        return;
    take_name(core);
    take_slots(core);
    take_job_end(site);
}

int worker_site_gpus(struct worker_place *place)
{
    const char *devices = variable("CUDA_VISIBLE_DEVICES");
    char text[32];
    unsigned count = 1;
    if (variable("SLURM_JOB_ID") == NULL || devices == NULL ||
        (variable("SLURM_JOB_GPUS") == NULL && variable("SLURM_STEP_GPUS") == NULL) ||
        strcmp(devices, "NoDevFiles") == 0)
        return -1;
    for (uint32_t i = 0; i < place->resources_count; i++)
        if (strcmp(place->resources[i].name, "gpu") == 0)
            return -1; /* --resources tells better */
    for (const char *at = devices; *at != '\0'; at++)
        count += *at == ',';
    snprintf(text, sizeof text, "gpu=%u", count);
    const int exit_code = worker_read_resources(text, place);
    if (exit_code == -1)
        place->resources[place->resources_count - 1].ids = devices;
    return exit_code;
}
