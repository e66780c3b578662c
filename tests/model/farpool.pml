/* SPDX-License-Identifier: Apache-2.0
 *
 * farpool.pml: how a job's tasks come to their end, as the three cores do it: a client, a
 * coordinator that may be killed and comes back empty, two workers. docs/model.md tells what
 * of the protocol is here, what is not, and what is checked.
 *
 * One step of a process is one step of a core: it takes a message, or does something of its
 * own accord, and all it says goes out at once. A message is a kind, a word and a worker; the
 * word has the attempt of each task in two bits, 0: not this one.
 *
 * -D  TASKS_N=3         tasks
 *     ATTEMPTS=2        losses_max, at most 3; 1 is a `once` job
 *     CUTS, KILLS_K, KILLS_W, FAILS: how many links are cut, coordinators and workers killed,
 *                       processes lost in a task
 *     LIVE              the processes are fair, and the property `ends` is there
 *     SEED_...          a fault of ours (tests/model/run has the list) */
#ifndef TASKS_N
#define TASKS_N 3
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef KILLS_K
#define KILLS_K 1
#endif
#ifndef KILLS_W
#define KILLS_W 0
#endif
#ifndef FAILS
#define FAILS 0
#endif
#if ATTEMPTS == 1
#define ONCE 1
#else
#define ONCE 0
#endif

#define attempt_in(word, task) (((word) >> (2 * (task))) & 3)
#define word_of(task, attempt) ((attempt) << (2 * (task)))

mtype = { OPEN, JOB_OPEN, TASKS, RESUMED, ACK, DONE, FAILED, LOST, WELCOME, HELLO, HELD,
          CLOSE, DOWN };

/* A link that was cut has DOWN in both directions. What is in front of that may still come,
 * or not; who has not read it yet speaks to nobody. A flag is set while DOWN is unread. */
chan c2k = [12] of { mtype, byte, byte };
chan k2c = [12] of { mtype, byte, byte };
chan w2k[2] = [12] of { mtype, byte, byte };
chan k2w[2] = [12] of { mtype, byte, byte };
bool cut_c2k, cut_k2c, cut_w2k[2], cut_k2w[2];

byte cuts = CUTS, kills_k = KILLS_K, kills_w = KILLS_W, fails = FAILS;

/* What a step works with; of no meaning between steps. */
hidden byte tk, at, wk, word, word2;
hidden mtype kind;

/* ------------------------------------------------------------------ the client's */

#define TODO 0   /* to be sent */
#define SENT 1
#define RIGHT 2  /* ended by its result */
#define GIVEN_UP 3 /* ended for a reason: lost, too often */
byte cl_state[TASKS_N], cl_attempt[TASKS_N] = 1;
bool cl_job, cl_linked; /* the job is open on this link; there is one */

#define SECOND (TASKS_N > 1)
#define LAST (TASKS_N - 1)
#define over (cl_state[0] >= RIGHT && cl_state[SECOND] >= RIGHT && cl_state[LAST] >= RIGHT)

inline cl_say(what, words, about)
{
    if
    :: !cut_k2c -> c2k!what, words, about
    :: else
    fi
}

inline cl_word(state, ret_word)
{
    ret_word = 0;
    for (tk : 0 .. TASKS_N - 1) {
        if
        :: cl_state[tk] == state -> ret_word = ret_word | word_of(tk, cl_attempt[tk])
        :: else
        fi
    }
}

/* A new link: all that was under way goes out again as it was. */
inline cl_link()
{
    cl_linked = true;
    cl_word(SENT, word);
    cl_job = word != 0;
    cl_say(OPEN, 0, 0);
    if
    :: cl_job -> cl_say(JOB_OPEN, 1, 0); cl_say(TASKS, word, 0)
    :: else
    fi;
    cl_say(RESUMED, 0, 0)
}

inline cl_flush()
{
    if
    :: !cl_job -> cl_say(JOB_OPEN, 0, 0); cl_job = true
    :: else
    fi;
    cl_word(TODO, word);
    cl_say(TASKS, word, 0);
    for (tk : 0 .. TASKS_N - 1) {
        if
        :: cl_state[tk] == TODO -> cl_state[tk] = SENT
        :: else
        fi
    };
    tk = 0
}

/* An attempt has failed or is lost. */
inline cl_again()
{
    if
    :: cl_attempt[tk] >= ATTEMPTS -> cl_state[tk] = GIVEN_UP; cl_attempt[tk] = 0
    :: else -> cl_attempt[tk]++; cl_state[tk] = TODO
    fi
}

inline cl_take()
{
    if
    :: kind == DOWN -> cut_k2c = false; cl_linked = false; cl_job = false
    :: else ->
       for (tk : 0 .. TASKS_N - 1) {
           at = attempt_in(word, tk);
           if
#ifdef SEED_ATTEMPT_IGNORED
           :: at != 0 && cl_state[tk] == SENT ->
#else
           :: at != 0 && cl_state[tk] == SENT && at == cl_attempt[tk] ->
#endif
              assert(at == cl_attempt[tk]); /* a stale attempt ends nothing */
              if
              :: kind == DONE -> cl_state[tk] = RIGHT; cl_attempt[tk] = 0
              :: else -> cl_again()
              fi
           :: else
           fi
       }
       if
       :: kind != LOST -> cl_say(ACK, word, wk)
       :: else
       fi
    fi
}

/* ------------------------------------------------------------- the coordinator's */

#define NOWHERE 0
#define WAITING 1
#define MAYBE 2 /* of a `once` job: it may have begun */
#define GIVEN 3 /* + worker */
byte k_state[TASKS_N], k_attempt[TASKS_N];
bool k_inputless[TASKS_N];
byte k_id;           /* changes with each start */
bool k_client, k_resumed;
#define NO_POOL 0
#define EXPECTED 1
#define RUNNING 2
#define SETTLING 3
byte k_pool, k_job;
bool k_job_resumed;
bool k_link[2] = true, k_member[2], k_expects[2];
bool k_closed[2]; /* POOL_CLOSE went out on this link */
chan k_kept = [12] of { mtype, byte, byte };

inline k_say_client(what, words, about)
{
    if
    :: k_client && !cut_c2k -> k2c!what, words, about
    :: else
    fi
}

inline k_say(worker, what, words)
{
    if
    :: k_link[worker] && !cut_w2k[worker] -> k2w[worker]!what, words, 0
    :: else
    fi
}

inline k_say_close(worker)
{
    k_say(worker, CLOSE, 0);
    k_closed[worker] = true
}

inline k_forget_task()
{
    k_state[tk] = NOWHERE;
    k_attempt[tk] = 0;
    k_inputless[tk] = false
}

inline k_forget_job()
{
    for (tk : 0 .. TASKS_N - 1) {
        k_forget_task()
    }
    k_job = NO_POOL;
    k_job_resumed = false;
    do
    :: k_kept?kind, word, wk
    :: empty(k_kept) -> break
    od;
    tk = 0
}

inline k_close_pool()
{
    for (wk : 0 .. 1) {
        if
        :: k_member[wk] -> k_say_close(wk); k_member[wk] = false
        :: else
        fi
    }
    k_forget_job();
    k_pool = NO_POOL
}

inline k_client_gone()
{
    k_close_pool();
    cut_c2k = false;
    k_client = false;
    k_resumed = false
}

inline k_take_tasks()
{
    for (tk : 0 .. TASKS_N - 1) {
        at = attempt_in(word, tk);
        if
        :: at == 0
        :: at != 0 && k_state[tk] >= GIVEN && k_attempt[tk] == at ->
           assert(k_inputless[tk]); /* else an honest client would be dropped */
           k_inputless[tk] = false
        :: at != 0 && !(k_state[tk] >= GIVEN && k_attempt[tk] == at) ->
           assert(k_state[tk] == NOWHERE || k_inputless[tk]);
           k_forget_task();
           k_attempt[tk] = at;
           k_state[tk] = WAITING;
#ifndef SEED_ONCE_GIVEN_AGAIN
           if
           :: ONCE && k_job_resumed && !k_resumed -> k_state[tk] = MAYBE
           :: else
           fi
#endif
        fi
    }
}

inline k_from_client()
{
    if
    :: kind == DOWN -> k_client_gone()
    :: kind == OPEN ->
       assert(k_pool != RUNNING);
       k_client = true;
       k_pool = RUNNING
    :: kind == JOB_OPEN ->
       assert(k_job == NO_POOL || k_job == EXPECTED);
       k_job_resumed = word != 0;
       if
       :: k_job == EXPECTED || k_job_resumed -> k_job = SETTLING
       :: else -> k_job = RUNNING
       fi
    :: kind == TASKS -> k_take_tasks()
    :: kind == RESUMED -> k_resumed = true
    :: kind == ACK -> k_say(wk, ACK, word)
    fi
}

/* A result goes to the client, and ends what has the same attempt here. */
inline k_pass_on()
{
    k_say_client(kind, word, wk);
#ifdef SEED_ACK_BEFORE_DELIVERY
    k_say(wk, ACK, word);
#endif
    for (tk : 0 .. TASKS_N - 1) {
        at = attempt_in(word, tk);
        if
        :: at != 0 && k_state[tk] != NOWHERE && k_attempt[tk] == at -> k_forget_task()
        :: else
        fi
    }
}

inline k_take_result()
{
    if
    :: k_job == RUNNING -> k_pass_on()
    :: else ->
       if
#ifdef SEED_EXPECTED_NOT_KEPT
       :: k_job != NO_POOL || k_expects[wk] ->
#else
       :: k_job != NO_POOL || k_expects[wk] || k_pool == EXPECTED ||
          (k_pool == RUNNING && !k_resumed) ->
#endif
          k_kept!kind, word, wk;
          k_member[wk] = true;
          if
          :: k_pool == NO_POOL -> k_pool = EXPECTED
          :: else
          fi;
          if
          :: k_job == NO_POOL -> k_job = EXPECTED
          :: else
          fi
       :: else ->
          if
          :: k_pool != NO_POOL -> k_say(wk, ACK, word)
          :: else -> k_say_close(wk)
          fi
       fi
    fi
}

inline k_take_held()
{
    if
#ifndef SEED_LATE_HELD
    :: k_closed[wk] /* what it held then it holds no more */
#else
    :: false
#endif
    :: !k_closed[wk] && k_pool == NO_POOL && !k_expects[wk] -> k_say_close(wk)
    :: else ->
       k_member[wk] = true;
       if
       :: k_pool == NO_POOL -> k_pool = EXPECTED
       :: else
       fi;
       if
       :: word != 0 && k_job == NO_POOL -> k_job = EXPECTED
       :: else
       fi;
       for (tk : 0 .. TASKS_N - 1) {
           at = attempt_in(word, tk);
           if
           :: at != 0 && k_state[tk] == NOWHERE ->
              k_state[tk] = GIVEN + wk; k_attempt[tk] = at; k_inputless[tk] = true
           :: at != 0 && (k_state[tk] == WAITING || k_state[tk] == MAYBE) &&
              k_attempt[tk] == at -> k_state[tk] = GIVEN + wk
           :: else
           fi
       }
    fi
}

inline k_worker_gone()
{
    word2 = 0;
    for (tk : 0 .. TASKS_N - 1) {
        if
        :: k_state[tk] == GIVEN + wk ->
           if
           :: !k_inputless[tk] -> word2 = word2 | word_of(tk, k_attempt[tk])
           :: else
           fi;
           k_forget_task()
        :: else
        fi
    }
#ifndef SEED_LOST_NOT_TOLD
    if
    :: word2 != 0 -> k_say_client(LOST, word2, wk)
    :: else
    fi;
#endif
    cut_w2k[wk] = false;
    k_link[wk] = false;
    k_member[wk] = false;
    k_expects[wk] = false;
    k_closed[wk] = false
}

inline k_from_worker()
{
    if
    :: kind == DOWN -> k_worker_gone()
    :: kind == HELLO ->
       k_link[wk] = true;
       k_expects[wk] = word != 0 && word != k_id + 1;
       k_say(wk, WELCOME, k_id + 1)
    :: kind == HELD -> k_take_held()
    :: kind == DONE || kind == FAILED -> k_take_result()
    fi
}

inline k_settle()
{
    do
    :: k_kept?kind, word, wk -> k_pass_on()
    :: empty(k_kept) -> break
    od;
    word2 = 0;
    for (tk : 0 .. TASKS_N - 1) {
        if
        :: k_state[tk] == MAYBE -> word2 = word2 | word_of(tk, k_attempt[tk]); k_forget_task()
        :: else
        fi
    }
    if
    :: word2 != 0 -> k_say_client(LOST, word2, 0)
    :: else
    fi;
    k_job = RUNNING
}

inline k_give(task, worker)
{
    k_state[task] = GIVEN + worker;
    k_member[worker] = true;
    k_say(worker, TASKS, word_of(task, k_attempt[task]))
}

/* The lowest first, as the coordinator does. */
#define may_give(task, worker) \
    (task < TASKS_N && k_job == RUNNING && k_state[task] == WAITING && k_link[worker] && \
     (task < 1 || k_state[0] != WAITING) && (task < 2 || k_state[SECOND] != WAITING))

/* ------------------------------------------------------------------ the workers' */

byte w_link[2] = 2; /* 0 none, 1 HELLO was said, 2 WELCOME came */
byte w_known[2] = 1; /* id of the coordinator served last, + 1 */
byte w_held[2], w_began[2]; /* attempts of tasks; those that were begun */
#define IS_DONE 1
#define IS_FAILED 16
byte w_results[2 * TASKS_N]; /* not ACKed: IS_DONE or IS_FAILED << attempt */
bool w_pool[2];
#if ONCE
byte begun[TASKS_N]; /* how often a task was begun, anywhere */
#endif

inline w_say(what, words)
{
    if
    :: !cut_k2w[me] -> w2k[me]!what, words, me
    :: else
    fi
}

inline w_drop_all(which)
{
    w_held[which] = 0;
    w_began[which] = 0;
    w_pool[which] = false;
    for (tk : 0 .. TASKS_N - 1) {
        w_results[TASKS_N * which + tk] = 0
    }
}

/* All results of an attempt that are here, in one message. */
inline w_tell_results(how, what)
{
    word2 = 0;
    for (tk : 0 .. TASKS_N - 1) {
        if
        :: w_results[TASKS_N * me + tk] & (how << at) -> word2 = word2 | word_of(tk, at)
        :: else
        fi
    }
    if
    :: word2 != 0 -> w_say(what, word2)
    :: else
    fi
}

inline w_welcome()
{
    if
    :: w_known[me] == word -> w_drop_all(me)
    :: else ->
       if
       :: w_pool[me] -> w_say(HELD, w_held[me])
       :: else
       fi;
       for (at : 1 .. ATTEMPTS) {
           w_tell_results(IS_DONE, DONE);
           w_tell_results(IS_FAILED, FAILED)
       }
    fi;
    w_known[me] = word;
    w_link[me] = 2
}

inline w_take_tasks()
{
    w_pool[me] = true;
    for (tk : 0 .. TASKS_N - 1) {
        at = attempt_in(word, tk);
        if
        :: at != 0 && (w_results[TASKS_N * me + tk] & (IS_DONE << at)) -> w_say(DONE, word_of(tk, at))
        :: at != 0 && (w_results[TASKS_N * me + tk] & (IS_FAILED << at)) -> w_say(FAILED, word_of(tk, at))
        :: at > attempt_in(w_held[me], tk) &&
           !(w_results[TASKS_N * me + tk] & ((IS_DONE | IS_FAILED) << at)) ->
           w_held[me] = (w_held[me] & ~word_of(tk, 3)) | word_of(tk, at);
           w_began[me] = w_began[me] & ~word_of(tk, 3)
        :: else
        fi
    }
}

inline w_take_ack()
{
    for (tk : 0 .. TASKS_N - 1) {
        at = attempt_in(word, tk);
        if
        :: at != 0 ->
           /* What the client still waits for is not dropped. */
           assert(!(cl_state[tk] == SENT && cl_attempt[tk] == at) ||
                  !(w_results[TASKS_N * me + tk] & ((IS_DONE | IS_FAILED) << at)));
           w_results[TASKS_N * me + tk] =
               w_results[TASKS_N * me + tk] & ~((IS_DONE | IS_FAILED) << at)
        :: else
        fi
    }
}

inline w_take()
{
    if
    :: kind == DOWN -> cut_k2w[me] = false; w_link[me] = 0
    :: kind == WELCOME -> w_welcome()
    :: kind == TASKS -> w_take_tasks()
    :: kind == ACK -> w_take_ack()
    :: kind == CLOSE -> w_drop_all(me)
    fi
}

inline w_begin(task)
{
#if ONCE
    begun[task] = begun[task] + 1;
    assert(begun[task] == 1);
#endif
    w_began[me] = w_began[me] | word_of(task, 3)
}

inline w_end(task, how, what)
{
    at = attempt_in(w_held[me], task);
    w_results[TASKS_N * me + task] = w_results[TASKS_N * me + task] | (how << at);
    w_held[me] = w_held[me] & ~word_of(task, 3);
    w_began[me] = w_began[me] & ~word_of(task, 3);
    if
    :: w_link[me] == 2 -> w_say(what, word_of(task, at))
    :: else
    fi
}

#define may_begin(task) \
    (task < TASKS_N && ONCE && attempt_in(w_held[me], task) && !attempt_in(w_began[me], task))
/* Only a `once` job cares when it began. */
#define may_end(task) \
    (task < TASKS_N && attempt_in(w_held[me], task) && (!ONCE || attempt_in(w_began[me], task)))

/* -------------------------------------------------------------------- processes */

active proctype client()
{
end:
    do
    :: d_step { !cl_linked -> cl_link() }
    :: d_step { cl_linked && !over &&
           (cl_state[0] == TODO || cl_state[SECOND] == TODO || cl_state[LAST] == TODO) ->
           cl_flush() }
    :: d_step { k2c?kind, word, wk -> cl_take() }
    :: d_step { cut_k2c ->
           do
           :: k2c?kind, word, wk ->
              if
              :: kind == DOWN -> break
              :: else
              fi
           od;
           cl_take() }
    od
}

active proctype coordinator()
{
end:
    do
    :: d_step { c2k?kind, word, wk -> k_from_client() }
    :: d_step { cut_c2k ->
           do
           :: c2k?kind, word, wk ->
              if
              :: kind == DOWN -> break
              :: else
              fi
           od;
           k_from_client() }
    :: d_step { w2k[0]?kind, word, wk -> k_from_worker() }
    :: d_step { w2k[1]?kind, word, wk -> k_from_worker() }
    :: d_step { cut_w2k[0] ->
           do
           :: w2k[0]?kind, word, wk ->
              if
              :: kind == DOWN -> break
              :: else
              fi
           od;
           k_from_worker() }
    :: d_step { cut_w2k[1] ->
           do
           :: w2k[1]?kind, word, wk ->
              if
              :: kind == DOWN -> break
              :: else
              fi
           od;
           k_from_worker() }
    /* Times that pass: settle_ms, and twice that since a worker or pool is here. */
    :: d_step { k_expects[0] -> k_expects[0] = false }
    :: d_step { k_expects[1] -> k_expects[1] = false }
    :: d_step { k_pool == EXPECTED -> k_close_pool() }
    :: d_step { k_job == SETTLING && (!k_job_resumed || k_resumed) -> k_settle() }
    :: d_step { may_give(0, 0) -> k_give(0, 0) }
    :: d_step { may_give(0, 1) -> k_give(0, 1) }
    :: d_step { may_give(1, 0) -> k_give(1, 0) }
    :: d_step { may_give(1, 1) -> k_give(1, 1) }
    :: d_step { may_give(2, 0) -> k_give(2, 0) }
    :: d_step { may_give(2, 1) -> k_give(2, 1) }
    od
}

active [2] proctype worker()
{
    byte me = _pid - 2;
end:
    do
    :: d_step { w_link[me] == 0 -> w_say(HELLO, w_known[me]); w_link[me] = 1 }
    :: d_step { k2w[me]?kind, word, wk -> w_take() }
    :: d_step { cut_k2w[me] ->
           do
           :: k2w[me]?kind, word, wk ->
              if
              :: kind == DOWN -> break
              :: else
              fi
           od;
           w_take() }
    :: d_step { may_begin(0) -> w_begin(0) }
    :: d_step { may_begin(1) -> w_begin(1) }
    :: d_step { may_begin(2) -> w_begin(2) }
    :: d_step { may_end(0) -> w_end(0, IS_DONE, DONE) }
    :: d_step { may_end(1) -> w_end(1, IS_DONE, DONE) }
    :: d_step { may_end(2) -> w_end(2, IS_DONE, DONE) }
    :: d_step { fails > 0 && may_end(0) -> fails--; w_end(0, IS_FAILED, FAILED) }
    :: d_step { fails > 0 && may_end(1) -> fails--; w_end(1, IS_FAILED, FAILED) }
    :: d_step { fails > 0 && may_end(2) -> fails--; w_end(2, IS_FAILED, FAILED) }
    od
}

/* ------------------------------------------------------------------------ faults */

inline cut(up, down, up_cut, down_cut)
{
    up!DOWN, 0, wk;
    down!DOWN, 0, 0;
    up_cut = true;
    down_cut = true
}

inline drain(channel)
{
    do
    :: channel?kind, word, wk
    :: empty(channel) -> break
    od;
    tk = 0
}

/* What was sent to it is lost; what it had said may come, and then the link's end. */
inline kill_coordinator()
{
    k_forget_job();
    k_pool = NO_POOL;
    k_client = false;
    k_resumed = false;
    k_id++;
    drain(c2k);
    cut_c2k = false;
    if
    :: cl_linked && !cut_k2c -> k2c!DOWN, 0, 0; cut_k2c = true
    :: else
    fi;
    for (at : 0 .. 1) {
        drain(w2k[at]);
        cut_w2k[at] = false;
        k_link[at] = false;
        k_member[at] = false;
        k_expects[at] = false;
        k_closed[at] = false;
        if
        :: w_link[at] != 0 && !cut_k2w[at] -> k2w[at]!DOWN, 0, 0; cut_k2w[at] = true
        :: else
        fi
    };
    tk = 0
}

/* Another one is started on that node, which knows nothing. If its coordinator has not read
 * the end of an earlier link yet, what came after that is lost with this one. */
inline kill_worker(me)
{
    drain(k2w[me]);
    cut_k2w[me] = false;
    if
    :: cut_w2k[me] -> drain(w2k[me]); w2k[me]!DOWN, 0, me
    :: !cut_w2k[me] && w_link[me] != 0 -> w2k[me]!DOWN, 0, me; cut_w2k[me] = true
    :: else
    fi;
    w_drop_all(me);
    w_link[me] = 0;
    w_known[me] = 0
}

active proctype faults()
{
end:
    do
    :: d_step { cuts > 0 && cl_linked && !cut_c2k && !cut_k2c ->
           cuts--; wk = 0; cut(c2k, k2c, cut_c2k, cut_k2c) }
    :: d_step { cuts > 0 && w_link[0] && !cut_w2k[0] && !cut_k2w[0] ->
           cuts--; wk = 0; cut(w2k[0], k2w[0], cut_w2k[0], cut_k2w[0]) }
    :: d_step { cuts > 0 && w_link[1] && !cut_w2k[1] && !cut_k2w[1] ->
           cuts--; wk = 1; cut(w2k[1], k2w[1], cut_w2k[1], cut_k2w[1]) }
    :: d_step { kills_k > 0 -> kills_k--; kill_coordinator() }
    :: d_step { kills_w > 0 -> kills_w--; kill_worker(0) }
    :: d_step { kills_w > 0 -> kills_w--; kill_worker(1) }
    :: timeout -> assert(over); break
    od
}

#ifdef LIVE
ltl ends { <> over }
#endif
