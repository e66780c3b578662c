/* SPDX-License-Identifier: Apache-2.0
 *
 * up.h: what the files of `farpool up` and `farpool down` share: what was asked for, what
 * was started where, and the file that remembers it (docs/clusters.md). */
#ifndef FARPOOL_CLI_UP_H
#define FARPOOL_CLI_UP_H

#include "cli/run.h"

#include <farpool.h>
#include <jansson.h>
#include <pthread.h>

enum { UP_NAME_MAX = 31, UP_PATH_MAX = 1024, UP_HOSTS_MAX = 10000, UP_JOBS_MAX = 1000 };

/* A process on some machine: its id is taken again one day, with its start never. */
struct up_process {
    int64_t pid; /* 0: none */
    uint64_t start;
};

/* A host that is reached by ssh, and the worker there. */
struct up_host {
    char host[256], user[64]; /* user "": whoever ssh says */
    uint32_t port, slots;     /* 0: not told */
    char node[64];            /* name of its worker */
    /* What became of it. */
    struct up_process worker, tunnel; /* the tunnel is on this machine */
    char log[UP_PATH_MAX];            /* the worker's, there */
    uint32_t tunnel_port;             /* there, on its loopback; 0: no tunnel */
    bool starting;                    /* a worker may be there that is not known yet */
    bool copied;
    char text[512]; /* why it failed; "": it did not */
};

/* A job of Slurm. */
struct up_job {
    char id[32];
    bool base; /* one of those that --auto keeps; without --idle */
    unsigned
        unseen; /* looks of `farpool down`: it runs, and none of its workers is there */
};

/* What was started under a name: the file NAME.json. */
struct up_state {
    char name[UP_NAME_MAX + 1], kind[8]; /* ssh, slurm */
    char id[17];                         /* of this `farpool up`; hosts know it */
    char address[256], key[UP_PATH_MAX]; /* the coordinator's; "": no key */
    char token[17];                      /* its id; "": none */
    char ssh[512];                       /* the command */
    struct up_host *hosts;               /* the state's own */
    size_t hosts_count;
    struct up_job *jobs; /* the state's own */
    size_t jobs_count;
    char shared[UP_PATH_MAX];       /* folder of the jobs' files */
    struct up_process auto_process; /* submits jobs, with --detach */
    struct up_process keeper;       /* keeps tunnels */
};

struct up_options {
    const char *hosts, *hosts_file; /* --ssh */
    const char *ssh;                /* command */
    bool tunnel, slurm, detach;
    int64_t nodes, auto_min, auto_max, idle_s, at_once, slots, days; /* -1: not told */
    const char *shared, *name, *worker, *address;
    struct cli_words worker_options, sbatch_options;
};

/* Says on stderr what went wrong; returns false, so that a function can end with it. */
bool up_fail(const char *format, ...) FARPOOL_PRINTF(1, 2);

/* ------------------------------------------------------------------- up_hosts.c */

/* [USER@]HOST[:PORT][/SLOTS], separated by commas or white space; "#" begins a comment
 * that ends with its line. false: ret_text says what is wrong with which. */
bool up_parse_hosts(const char *list, struct up_host **ret_hosts, size_t *ret_count,
                    char ret_text[256]);

/* ------------------------------------------------------------------- up_state.c */

/* Takes and creates the folder; false after an error on stderr. */
bool up_state_folder(char ret_folder[UP_PATH_MAX]);
bool up_name_is_right(const char *name);
/* NAME.END in that folder, which need not be there. false: no folder can be named. */
bool up_state_file(const char *name, const char *end, char ret_path[UP_PATH_MAX]);
/* 1: loaded; 0: there is none; -1 after an error on stderr. */
int up_state_load(const char *name, struct up_state *ret_state);
/* Whether something of it may be left, so that the state keeps it. */
bool up_host_is_there(const struct up_host *host);
bool up_state_save(const struct up_state *state); /* false after an error on stderr */
void up_state_remove(const struct up_state *state);
void up_state_fini(struct up_state *state);
/* Adds a job, and saves. */
bool up_state_add_job(struct up_state *state, const char *id, bool base);
void up_state_drop_job(struct up_state *state, const char *id);

/* A process of this machine. up_process_find: zeros when it is not there. */
struct up_process up_process_find(int64_t pid);
bool up_process_is_there(const struct up_process *process);
/* SIGTERM, and waits until it is gone; SIGKILL after 5 s. */
void up_process_end(const struct up_process *process);
json_t *up_process_json(const struct up_process *process);
struct up_process up_process_read(const json_t *object, const char *name);
/* Writes beside the file, and renames: whoever reads it finds it whole. Takes the root;
 * false: errno tells. */
bool up_write_json(const char *path, json_t *root);

/* -------------------------------------------------------------------- up_lock.c */

/* false after an error on stderr: another up or down of that name is under way. command:
 * "up" or "down", for whoever comes second. */
bool up_lock(const char *name, const char *command);
void up_unlock(void);
/* In a child: the lock is its parent's alone. */
void up_lock_leave(void);

/* ------------------------------------------------------------------- up_apart.c */

/* As fork, but the child begins when *process, a part of the state, is saved as itself;
 * with its output in the file `log` (NULL: nowhere). -1 after an error on stderr. */
pid_t up_apart(struct up_state *state, struct up_process *process, const char *log);

/* ------------------------------------------------------------------ up_worker.c */

/* The worker's executable that is carried to nodes. */
struct up_worker {
    char path[UP_PATH_MAX];
    char *data; /* its own */
    size_t size;
    char hash[65];    /* SHA-256 */
    char machine[32]; /* as uname -m; "": not known */
};
/* asked: --worker, or NULL. false after an error on stderr. */
bool up_worker_open(const char *asked, struct up_worker *ret_worker);
void up_worker_close(struct up_worker *worker);

/* ------------------------------------------------------------------- up_token.c */

/* When a key is in use: a token for so many uses, whose id goes into the state. line: ""
 * without keys. false after an error on stderr. */
bool up_make_token(struct up_state *state, int64_t uses, int64_t days,
                   char ret_line[512]);
/* Idempotent; false after an error on stderr. */
bool up_revoke_token(struct up_state *state);

/* ---------------------------------------------------------------------- up_ssh.c */

int up_ssh(const struct up_options *options, struct up_state *state);
/* Ends the workers; hosts that could not be reached stay in the state. */
int down_ssh(struct up_state *state, bool now);

/* What goes on with one host; shared by the files of ssh, and by threads. */
struct up_session {
    struct up_state *state;
    pthread_mutex_t lock; /* of the state, its file, and the output */
    const struct up_options *options;
    const struct up_worker *worker;
    char folder[64]; /* of this run's control sockets */
    char token[512];
};
/* The folder of the shared connections, and their end. */
bool up_session_open(struct up_session *session);
void up_session_close(struct up_session *session);
bool up_session_save(struct up_session *session); /* the state, locked */
/* Runs a script of up_script.h on the host; its arguments follow. */
int up_ssh_run(const struct up_session *session, const struct up_host *host,
               const char *script, char *const *arguments, struct cli_run *run);
/* Why ssh, or a script, failed, for people: into text[512]. */
void up_ssh_explain(const struct up_host *host, const struct cli_run *run, char *text);
/* Sets host->text; returns false. */
bool up_host_fail(struct up_host *host, const char *format, ...) FARPOOL_PRINTF(2, 3);

/* up_start.c: a worker on a host that has its executable. false: host->text says why, and
 * *ret_absent whether it could not reach the coordinator. No worker is left there but one
 * that the state knows, or looks for (host->starting). */
bool up_start_worker(struct up_session *session, struct up_host *host,
                     const char *address, bool *ret_absent);
/* down_ssh.c: drains, or stops, the host's worker, and waits until it is gone. ret_state:
 * "gone": it had ended before. false: host->text says why not. */
bool up_end_worker(const struct up_session *session, struct up_host *host, bool now,
                   char ret_state[16]);

/* up_tunnel.c: starts an ssh that forwards a port of the host's loopback to the
 * coordinator; its address there goes to ret_address. false: host->text says why. */
bool up_tunnel_open(struct up_session *session, struct up_host *host,
                    char ret_address[64]);
void up_tunnel_close(struct up_session *session, struct up_host *host);
/* The ssh alone: port 0 is chosen by sshd. Its errors go to the file `log`. 0 or errno.
 */
int up_tunnel_spawn(const struct up_session *session, const struct up_host *host,
                    uint32_t port, const char *log, pid_t *ret_pid);
bool up_tunnel_log(const struct up_state *state, const struct up_host *host,
                   char ret_path[UP_PATH_MAX]);
/* What ssh left in its log, without what -v adds; returns text. */
char *up_tunnel_read_log(const char *path, char *text, size_t size);
/* up_decide.c: how long to wait before the next try, after so many in vain. */
uint64_t up_tunnel_pause_ms(unsigned failures);

/* up_keeper.c: a process that opens the state's tunnels again when they end, until their
 * hosts go from the state. false after an error on stderr. */
bool up_keeper_start(const struct up_options *options, struct up_state *state);
/* Ends it, and every tunnel of the state. */
void up_keeper_end(struct up_state *state);

/* up_tunnels.c: how a tunnel stands: what the keeper tells, in NAME.tunnels. */
struct up_tunnel {
    char up[UP_NAME_MAX + 1], node[64]; /* up: the name given to `farpool up` */
    struct up_process ssh;
    int64_t since_s;    /* it is as it is since then */
    unsigned made_anew; /* so often */
    bool is_up;
    char why[512]; /* it is down, or was at last */
};
bool up_tunnels_save(const struct up_state *state, const struct up_tunnel *tunnels,
                     size_t count);
/* Those of one name (NULL: of all) that lead to that coordinator (NULL: to any); a keeper
 * that is gone makes all of its tunnels down. *ret_tunnels: free(). */
size_t up_tunnels_load(const char *name, const char *address,
                       struct up_tunnel **ret_tunnels);
void up_tunnels_remove(const struct up_state *state);
/* The beginning of every ssh command line. */
void up_ssh_words(const struct up_session *session, const struct up_host *host,
                  bool shared_connection, struct cli_words *words);
/* The value behind "NAME=" at the beginning of a line; "" if there is none. */
char *up_value(const char *output, const char *name, char *ret_value, size_t size);

/* -------------------------------------------------------------------- up_slurm.c */

int up_slurm(const struct up_options *options, struct up_state *state);
int down_slurm(struct up_state *state, bool now);

/* --------------------------------------------------------------------- up_auto.c */

int up_auto(const struct up_options *options, struct up_state *state);

/* What --auto looks at, and what it decides: how many one-node jobs to submit. */
struct up_load {
    uint64_t waiting, running, done_per_s; /* tasks */
    uint64_t slots, nodes;                 /* connected, of this cluster */
    uint64_t jobs, queued;                 /* of Slurm; queued: not connected yet */
    uint64_t backlog_s;                    /* so long it has been too much */
    uint64_t min, max;
};
bool up_load_is_much(const struct up_load *load);
uint64_t up_decide(const struct up_load *load, const char **ret_why);

#endif
