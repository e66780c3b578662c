/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/host.h: the processes of a node: starting them, their shared-memory queues,
 * reaping them. It carries out the PROCESS_* effects of a worker core and reports as its
 * events; it decides nothing. One thread owns a host (the one that created it need not
 * be it, but that one must live as long as the host: a process ends when the thread that
 * started it ends). docs/shared-memory.md tells the layout and the rules.
 *
 * Used by the worker daemon and by the embedded pool. */
#ifndef FARPOOL_WORKER_HOST_H
#define FARPOOL_WORKER_HOST_H

#include "worker/core.h"

struct groups;
struct host;

#define HOST_RESOURCES_MAX 16
#define HOST_RESOURCE_NAME_MAX 31
#define HOST_RESOURCE_COUNT_MAX 1024

/* Things of a node that its slots share out among them, told by their indexes. */
struct host_resource {
    char name[HOST_RESOURCE_NAME_MAX + 1]; /* letters, digits, _ */
    uint32_t count;                        /* 1 to HOST_RESOURCE_COUNT_MAX */
    const char *ids; /* for gpu, what the devices are called instead of 0, 1 ...: so many
                        texts with commas between; NULL: so; borrowed */
};

struct host_config {
    const char *node;    /* told to the functions */
    bool capture_output; /* stdout and stderr of processes go through pipes, and come as
                            WORKER_PROCESS_OUTPUT; else they are inherited */
    /* A message of a client inside a process (nested pools): frames to pass on to the
     * coordinator, which are taken over. false: no memory; it comes again. */
    bool (*on_relay)(void *user, uint64_t process, struct frames *frames);
    void *user;
    uint64_t payload_max; /* largest input or output; sizes the shared memory (which only
                             takes the memory that is touched) */
    bool reaper;          /* this process is the reaper of what its processes leave behind
                             (PR_SET_CHILD_SUBREAPER), and reaps what host_owns does not know */
    bool guarded; /* a guardian outlives this process, if it is killed: its executable's
                     main calls guardian_serve first (common/sys/guardian.h) */
    bool groups;  /* control groups for processes, where this process may make some: it is
                     a daemon's, whose own group may change (common/sys/groups.h) */
    bool spin;    /* look again for some microseconds before sleeping */
    uint32_t look_ms; /* how long results of a process that goes on may lie unseen;
                         0 is taken for 50 */

    /* What a process finds when it starts (docs/environment.md). Borrowed during
     * host_create, but resources as long as the host. */
    uint32_t slots;          /* as the core's; 0 is taken for 1 */
    const char *scratch;     /* processes start in a folder of their own below this one;
                                NULL: in their program's */
    const char *const *pass; /* names of variables that are passed on, NULL-ended;
                                "A*": all that begin so; NULL: all */
    const char *const *withhold; /* ... but these, when pass is NULL */
    const char *const *set;      /* NAME=VALUE, NULL-ended; NULL: none */
    bool bind;                   /* each process to one core, by its slot */
    const struct host_resource *resources;
    uint32_t resources_count;
};

/* EMFILE and the like: ENOFILES, ESYSTEM, naming the limit. */
int host_create(const struct host_config *config, struct host **ret_host,
                farpool_error *error);
/* Kills and reaps what is left, and kills what that left behind. */
void host_destroy(struct host *host);

/* A program's folder and executable (path), for WORKER_PROCESS_START: before the first
 * one. `folder` NULL: it has none, and without a scratch folder processes start in the
 * caller's working folder (embedded, no files). Copied. ENOMEM, ESYSTEM. */
int host_set_program(struct host *host, const struct hash *program, const char *path,
                     const char *folder);

/* A shared input as the processes of a pool may map it: before the first task that may
 * ask for it. Or, with a code and a text, why they cannot. */
struct host_shared_about {
    struct id pool;
    uint64_t number; /* in its pool */
    uint64_t serial; /* of the effect: for host_unset_shared */
    uint64_t size;   /* bytes */
    int code;
    char text[256];
};
/* fd: of the bytes, which nobody may write through it; stays the caller's; -1 with a
 * code. ENOMEM, ENOFILES. */
int host_set_shared(struct host *host, const struct host_shared_about *about, int fd,
                    farpool_error *error);
/* It is unshared: processes that have it mapped let go of it before their next task. */
void host_unset_shared(struct host *host, const struct id *pool, uint64_t serial);

/* The folder in which processes have theirs, and how many folders of dead workers were
 * found beside it, which are being removed. NULL: host_config.scratch was. */
const char *host_scratch_folder(const struct host *host, uint32_t *ret_leftovers);

/* Its control groups: top "": there are none, or none were wanted. */
const struct groups *host_groups(const struct host *host);

/* Whether a child is one that the host reaps itself; any other is an orphan. */
bool host_owns(const struct host *host, int pid);

/* Carries out one PROCESS_* effect, taking over what it owns; what it answers is
 * delivered by the next host_poll. A process that cannot be started is reported as
 * WORKER_PROCESS_GONE with a code. */
void host_apply(struct host *host, struct worker_effect *effect);
/* Processes that have got something, and sleep, are woken behind the last effect of a
 * batch; at the latest by host_poll or host_sleep. */
void host_wake_processes(struct host *host);

/* Frames for the client inside a process, from the coordinator. ECLOSED: it is gone. */
int host_relay(struct host *host, uint64_t process, struct frames *frames);

/* Delivers what has happened, in order, never blocking; returns how many events. */
int host_poll(struct host *host, uint64_t now_ms,
              void (*deliver)(void *user, struct worker_event *event), void *user);

/* When to look again although nothing may have been told: a process publishes results of
 * short tasks without waking the host while it has more to do. UINT64_MAX: no need. */
uint64_t host_deadline(const struct host *host);

/* Readable when host_poll has something to do, if host_sleep was called before waiting
 * and returned true. false: there is something already, do not wait. After waking call
 * host_wake. */
int host_fd(const struct host *host);
bool host_sleep(struct host *host);
void host_wake(struct host *host);

#endif
