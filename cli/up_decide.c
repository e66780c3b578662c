/* SPDX-License-Identifier: Apache-2.0
 *
 * up_decide.c: what `farpool up --auto` decides, from numbers alone. It is too much when
 * more tasks run or wait than there are slots. How much more, the coordinator knows in
 * part: clients hold back what is beyond their window. So what counts is that it lasts:
 * STEADY_S, or DEEP_S where even those that are known to wait would take BACKLOG_S at the
 * pace of the last second. Then jobs are doubled, and what is queued is waited for: a job
 * that waits for a free node says nothing about how many more would help.
 *
 * And how long a tunnel that ended is not tried again: half a second, doubled to a
 * minute. */
#include "cli/up.h"

enum { BACKLOG_S = 5, STEADY_S = 5, DEEP_S = 2 };

bool up_load_is_much(const struct up_load *load)
{
    return load->waiting > 0 && load->waiting + load->running > load->slots;
}

static bool has_lasted(const struct up_load *load)
{
    const bool deep = load->done_per_s == 0
                          ? load->waiting > 2 * load->slots
                          : load->waiting / load->done_per_s >= BACKLOG_S;
    return load->backlog_s >= (deep ? DEEP_S : STEADY_S);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t up_tunnel_pause_ms(unsigned failures)
{
    enum { FIRST_MS = 500, MOST_MS = 60000 };
    return failures < 7 ? FIRST_MS << failures : MOST_MS;
}

uint64_t up_decide(const struct up_load *load, const char **ret_why)
{
    *ret_why = "fewer than MIN";
    if (load->jobs < load->min)
        return load->min - load->jobs;
    *ret_why = "MAX is reached";
    if (load->jobs >= load->max)
        return 0;
    *ret_why = "the slots do";
    if (!up_load_is_much(load) || !has_lasted(load))
        return 0;
    *ret_why = "jobs are queued already";
    if (load->queued > 0)
        return 0;
    *ret_why = "tasks wait";
    const uint64_t slots_each =
        load->nodes > 0 && load->slots > load->nodes ? load->slots / load->nodes : 1;
    const uint64_t wanted = (load->waiting + slots_each - 1) / slots_each;
    const uint64_t doubled = load->jobs > 0 ? load->jobs : 1;
    return smaller(smaller(wanted, doubled), load->max - load->jobs);
}
