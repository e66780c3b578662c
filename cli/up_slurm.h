/* SPDX-License-Identifier: Apache-2.0
 *
 * up_slurm.h: what the files of `farpool up --slurm` and its end share: jobs, and the
 * files that they need in the shared folder. */
#ifndef FARPOOL_CLI_UP_SLURM_H
#define FARPOOL_CLI_UP_SLURM_H

#include "cli/up.h"

/* How this user's jobs stand. What is not among them has ended. */
struct up_queued {
    char id[32], state[32], reason[128];
};
struct up_queue {
    struct up_queued *items;
    size_t count;
};
/* false after an error on stderr: Slurm did not answer. */
bool up_slurm_look(struct up_queue *ret_queue);
void up_slurm_queue_fini(struct up_queue *queue);
const struct up_queued *up_slurm_find(const struct up_queue *queue, const char *id);
bool up_slurm_runs(const struct up_queued *job);

/* Runs one of Slurm's commands; false after an error on stderr. run.out is filled. */
bool up_slurm_run(struct cli_words *words, const char *input, struct cli_run *run);

/* The worker and the token, in the shared folder. */
bool up_slurm_prepare(const struct up_options *options, struct up_state *state,
                      int64_t uses);
void up_slurm_remove_files(const struct up_state *state);
/* The last line of a job's log; "" if there is none. */
void up_slurm_last_words(const struct up_state *state, const char *id, char text[256]);

/* Submits one job, which is in the state then; idle_s 0: its workers stay. */
bool up_slurm_submit(const struct up_options *options, struct up_state *state,
                     int64_t nodes, int64_t idle_s, bool base);

/* Whether a worker was started by `farpool up` under this name. */
bool up_is_ours(const struct up_state *state, const farpool_node_status *node);
/* How many nodes of this cluster are connected, and their slots. */
uint64_t up_count_nodes(const struct up_state *state,
                        const farpool_cluster_status *status, uint64_t *ret_slots);

#endif
