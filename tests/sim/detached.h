/* SPDX-License-Identifier: Apache-2.0
 *
 * detached.h: detached jobs in the simulator, in one seed of seven: the project's own
 * service (detached/service*.c) on a disk in memory (tests/unit/store_memory.c), and for
 * each job who submits it, cancels it, collects it and has it forgotten.
 *
 *   detached.c  which jobs there are, and what happens to them
 *   keeper.c    the coordinator's keeper of them: the service and its disk
 *   inner.c     the client inside that runs a job, seen from outside
 *   owner.c     who asks about a job
 *   words.c     what it says next
 *   told.c      whether what the owner is told is right
 *   stranger.c  who asks with another key
 */
#ifndef FARPOOL_TESTS_SIM_DETACHED_H
#define FARPOOL_TESTS_SIM_DETACHED_H

#include "detached/service.h"
#include "sim.h"

#define DETACHED_MAX 2

/*   SUBMITS --(all is on the disk, or another one asks)--> WATCHES --(it has ended, or is
 *   looked into before)--> COLLECTS --(all is told)--> FORGETS --> OVER */
enum owner_stage {
    OWNER_SUBMITS,
    OWNER_WATCHES,
    OWNER_COLLECTS,
    OWNER_FORGETS,
    OWNER_OVER
};

/* A result that reached the client inside, and was not ACKed on that link. */
struct report {
    struct id worker;
    uint64_t seq, first;
    uint32_t count, attempt;
    bool live; /* of the attempt that was under way */
};

struct detached {
    struct app *app; /* no program, but what all others know of its pool and its job */
    struct message *submit;

    /* The client inside: its link in the service's numbers, 0: none, and in the
     * coordinator's. */
    uint64_t inner, link;
    struct queue reports; /* struct report */

    /* Who asks. */
    enum owner_stage stage;
    uint64_t asks_on; /* the link; 0: none */
    uint64_t epoch;   /* timers of an older one are void */
    uint32_t request;
    enum owner_stage asked; /* in which it was asked last; OVER: to cancel */
    enum message_kind word; /* SUBMITS: what is said next */
    struct message *fetch;  /* the piece that is wanted */

    /* What it was told, and what holds from then on. */
    uint64_t kept;  /* inputs that are on the disk */
    bool accepted;  /* all of it is */
    uint64_t ended; /* so many tasks have */
    bool cancels;   /* it was asked to be cancelled */
    bool cancelled; /* and that is on the disk */
    bool forgets;   /* the same of forgetting it */
    bool forgotten;
    uint64_t collected; /* told up to here, by this collector */
    uint8_t *told;      /* times, a task */
};

/* The keeper: a thread of the coordinator, and so with its life. */
struct keeper {
    struct actor actor;
    struct service *service;
    struct queue inbox; /* struct service_in */
    struct queue outs;  /* struct service_out: of a turn whose disk is still at it */
    uint64_t slow_us;   /* a turn takes up to so long */
};

struct keeping {
    struct keeper keeper;
    struct detached jobs[DETACHED_MAX];
    int count;
};

static inline int detached_place(const struct sim *sim, const struct detached *detached)
{
    return (int)(detached - sim->keeping->jobs);
}

static inline const struct id *detached_id(const struct detached *detached)
{
    return &detached->submit->submit.submit;
}

/* detached.c */

/* The coordinator dies, and is started again within 4 s. */
void sim_detached_kill(struct sim *sim);

/* inner.c */

/* What the service is about to take for one of them. */
void sim_inner_note(struct sim *sim, const struct service_in *in);
/* What one says (takes its message), and the end of its link. */
void sim_inner_say(struct sim *sim, struct service_out *out);
void sim_inner_hang_up(struct sim *sim, uint64_t inner);

/* words.c */

struct message *sim_owner_word(struct sim *sim, struct detached *detached);
/* The request's number, where it has one. */
void sim_owner_number(struct message *message, uint32_t request);

/* owner.c */

void sim_owner_start(struct sim *sim, struct detached *detached, uint64_t in_us);
/* It is gone with what it knew; another one asks later. */
void sim_owner_leave(struct sim *sim, struct detached *detached);
void sim_owner_hear(struct sim *sim, const struct link *link, struct message *message);
void sim_owner_fini(struct detached *detached);

/* stranger.c */

void sim_stranger_ask(struct sim *sim, const struct detached *detached);
void sim_stranger_check_told(struct sim *sim, const struct message *message);

/* told.c */

/* Whether the question is to be asked again: the disk said no, or there was no memory. */
bool sim_told_again(int code);
/* An answer that there is no such job. */
void sim_told_none(struct sim *sim, const struct detached *detached);
void sim_told_kept(struct sim *sim, struct detached *detached, uint64_t tasks);
void sim_told_state(struct sim *sim, struct detached *detached,
                    const struct msg_detached_info *info);
void sim_told_collected(struct sim *sim, struct detached *detached,
                        const struct message *message);

#endif
