/* SPDX-License-Identifier: Apache-2.0
 *
 * up_decide.c: what `farpool up --auto` decides, from numbers alone. A backlog is what
 * the slots that are there would need more than BACKLOG_S for, at the pace of the last
 * second; it has to stand for STEADY_S. Then jobs are doubled, and what is queued is
 * waited for: one that waits for a free node says nothing about how many more would help.
 */
#include "cli/up.h"

enum { BACKLOG_S = 5, STEADY_S = 2 };

bool up_load_is_much(const struct up_load *load)
{
    if (load->waiting == 0)
        return false;
    if (load->done_per_s == 0)
        return load->waiting > load->slots; /* long tasks, or none runs yet */
    return load->waiting / load->done_per_s >= BACKLOG_S;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
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
    if (!up_load_is_much(load) || load->backlog_s < STEADY_S)
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
