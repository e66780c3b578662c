/* SPDX-License-Identifier: Apache-2.0
 *
 * daemons.h: real daemons for tests: a coordinator and workers on free loopback ports, in
 * a scratch folder of their own, started and killed by pid. Everything waits on events
 * (a log line, a process's end) with a deadline, and nothing sleeps. A test that fails
 * leaves no process behind: a daemon is killed with the test's own thread.
 *
 *     struct cluster *cluster;
 *     assert_int_equal(cluster_start(2, 2, &cluster), 0);
 *     ... farpool_open(... cluster_address(cluster) ...)
 *     cluster_stop(&cluster);
 *
 * Calls return 0, or -1 after printing on stderr what failed and the logs of the daemons
 * concerned. All from one thread: the one that called cluster_start. */
#ifndef FARPOOL_TESTS_DAEMONS_H
#define FARPOOL_TESTS_DAEMONS_H

#include <stdbool.h>
#include <sys/types.h>

/* ------------------------------------------------------------------- one process */

struct daemon; /* a started process whose stderr and stdout are read here */

/* argv[0] is the program's path; ends with NULL. stderr and stdout go into one file, read
 * as text. */
int daemon_start(const char *const *argv, struct daemon **ret_daemon);
pid_t daemon_pid(const struct daemon *daemon);

/* Waits until a line with `text` has been written, since the last daemon_wait_line that
 * found one; *ret_line (may be NULL) is the line, borrowed until the next call. */
int daemon_wait_line(struct daemon *daemon, const char *text, int timeout_ms,
                     const char **ret_line);

/* All that it has written until now. Borrowed until the next call. */
const char *daemon_output(struct daemon *daemon);

int daemon_signal(struct daemon *daemon, int signal);

/* Waits for its end: *ret_status as of waitpid. */
int daemon_wait_end(struct daemon *daemon, int timeout_ms, int *ret_status);

/* SIGKILL if it is alive, reaps, frees. Sets NULL; NULL inside allowed. */
void daemon_close(struct daemon **daemon);

/* --------------------------------------------------------------------- a cluster */

struct cluster;

#define CLUSTER_WORKERS_MAX 16

/* A coordinator and `workers` workers (nodes "n0", "n1" ...) of `slots` slots each;
 * returns when all of them have been welcomed. workers may be 0. */
int cluster_start(int workers, int slots, struct cluster **ret_cluster);

/* The same with more arguments for the coordinator and for every worker (each ends with
 * NULL; NULL: none). */
int cluster_start_with(int workers, int slots, const char *const *coordinator_arguments,
                       const char *const *worker_arguments, struct cluster **ret_cluster);

/* "tcp://127.0.0.1:PORT"; the same after a restart. */
const char *cluster_address(const struct cluster *cluster);
/* The scratch folder, removed by cluster_stop. */
const char *cluster_folder(const struct cluster *cluster);

/* The pids of daemons; 0: not alive as far as is known here. */
pid_t cluster_coordinator_pid(const struct cluster *cluster);
pid_t cluster_worker_pid(const struct cluster *cluster, int worker);

/* The process behind, for its log lines; NULL: none. */
struct daemon *cluster_coordinator(struct cluster *cluster);
struct daemon *cluster_worker(struct cluster *cluster, int worker);

/* Starts one more and waits until it was welcomed; its number is the next free one, in
 * *ret_worker (may be NULL). */
int cluster_add_worker(struct cluster *cluster, int slots, int *ret_worker);

/* SIGKILL, and waits for its end. */
int cluster_kill_worker(struct cluster *cluster, int worker);
int cluster_kill_coordinator(struct cluster *cluster);

/* Starts a coordinator at the same address (after cluster_kill_coordinator), and waits
 * until the workers that are alive have been welcomed by it. */
int cluster_restart_coordinator(struct cluster *cluster);

/* Kills what is alive, removes the folder. Sets NULL; NULL inside allowed. Each worker
 * has its own program cache in the folder. */
void cluster_stop(struct cluster **cluster);

#endif
