/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/shell.h: the worker daemon around its core, its host of processes and its
 * program cache: socket, signals, log. */
#ifndef FARPOOL_WORKER_SHELL_H
#define FARPOOL_WORKER_SHELL_H

#include "common/keys/keys.h"
#include "common/sys/exit.h"
#include "common/sys/log.h"
#include "worker/core.h"
#include "worker/host.h"

#define PLACE_VARIABLES_MAX 64
#define PLACE_SCRATCH_BYTES 4096

/* What processes find when they start (docs/environment.md); texts borrowed. */
struct worker_place {
    char scratch[PLACE_SCRATCH_BYTES];         /* folder */
    const char *pass[PLACE_VARIABLES_MAX + 1]; /* NULL-ended; none: the default */
    const char *set[PLACE_VARIABLES_MAX + 1];  /* NULL-ended */
    size_t pass_count, set_count;
    bool bind;
    bool groups; /* control groups, where they may be made */
    struct host_resource resources[HOST_RESOURCES_MAX];
    uint32_t resources_count;
    uint32_t slots_asked; /* before the resources limited them; 0: they did not */
};

/* Variables that no process gets unless --pass names them: they are this daemon's own. */
extern const char *const worker_withheld[];

void worker_place_defaults(struct worker_place *place);
/* The value of an option, as of read_option in options.c: -1, or the exit code. */
int worker_read_pass(char *value, struct worker_place *place);
int worker_read_set(const char *value, struct worker_place *place);
int worker_read_bind(const char *value, struct worker_place *place);
int worker_read_groups(const char *value, struct worker_place *place);
int worker_read_scratch(const char *value, struct worker_place *place);
int worker_read_resources(char *value, struct worker_place *place);
/* Once all options are read: tells the resources in the labels, and limits the slots. */
int worker_place_finish(struct worker_config *core, struct worker_place *place);

/* Says on stderr which option is wrong and what is wanted; EXIT_USAGE. */
int worker_wrong_option(const char *name, const char *value, const char *want);

/* When the worker drains by itself; monotonic, 0: never. */
struct worker_site {
    uint64_t until_ms; /* at that time */
    uint64_t idle_ms;  /* after so long without work */
};

/* Inside a job of Slurm: its name of the node, the job's cores and its end. */
void worker_site_defaults(struct worker_config *core, struct worker_site *site);
int worker_read_until(const char *value, struct worker_site *site);
int worker_read_idle(const char *value, struct worker_site *site);
int worker_read_orphan_after(const char *value, struct worker_config *core);
/* Once all options are read: the job's GPUs, unless --resources tells them. */
int worker_site_gpus(struct worker_place *place);

struct worker_options {
    struct worker_config core; /* its id is made by worker_run */
    const char *address;       /* of the coordinator; borrowed */
    const char *key;           /* file, NULL: no key; borrowed */
    const char *join_path;     /* of a token, "-": standard input; NULL: none; borrowed */
    struct token *join; /* to be used, and then wiped; NULL: none, or the key is there */
    const char *lanes;  /* where others may dial it; NULL: decided by what it dials;
                           "none": nowhere; borrowed */
    const char *cache;  /* folder, NULL: the user's; borrowed */
    uint64_t cache_bytes; /* at most, but for what is open; 0: no bound */
    uint64_t share_bytes; /* of shared inputs, at most */
    struct worker_place place;
    struct worker_site site;
    enum log_level level;
};

#define WORKER_ADDRESS "tcp://127.0.0.1:5764"
#define CACHE_BYTES (UINT64_C(8) << 30)
#define ORPHAN_AFTER_MS 3600000 /* docs/failure.md tells why */

/* Reads the command line, FARPOOL_COORDINATOR, FARPOOL_KEY and FARPOOL_JOIN. -1:
 * *ret_options is filled, run; else the exit code, after having printed help, version or
 * what is wrong.
 */
int worker_read_options(int argc, char **argv, struct worker_options *ret_options);

/* Reads the token that --join names, unless the key is there already, and finds out where
 * the coordinator is, if no option told: -1, or the exit code. */
int worker_read_join(struct worker_options *options, bool address_given);

/* Runs until it is told to stop by signals (see farpool-worker --help). Returns the exit
 * code; why it failed is in the log. */
int worker_run(const struct worker_options *options);

#endif
