/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_site.c: the worker drains by itself: at --until (the end of its Slurm job comes),
 * and after --idle. It does so once: a signal that comes later means what a second signal
 * means. */
#include "worker/shell_internal.h"

/* No task runs or waits here, and no result is on its way: warm processes do not count.
 */
static bool is_idle(const struct shell *shell)
{
    struct worker_counts counts;
    worker_core_counts(shell->core, &counts);
    return counts.running == 0 && counts.held == 0 && counts.unacked == 0;
}

static uint64_t idle_deadline(const struct shell *shell)
{
    const uint64_t idle_ms = shell->options->site.idle_ms;
    return idle_ms == 0 || shell->idle_since_ms == 0 ? UINT64_MAX
                                                     : shell->idle_since_ms + idle_ms;
}

uint64_t shell_site_deadline(const struct shell *shell)
{
    const uint64_t until = shell->options->site.until_ms;
    const uint64_t idle = idle_deadline(shell);
    if (shell->stage != SERVING)
        return UINT64_MAX;
    return until != 0 && until < idle ? until : idle;
}

void shell_look_at_site(struct shell *shell)
{
    const uint64_t until = shell->options->site.until_ms;
    if (shell->stage != SERVING)
        return;
    if (!is_idle(shell))
        shell->idle_since_ms = 0;
    else if (shell->idle_since_ms == 0)
        shell->idle_since_ms = shell->now_ms;
    if (until != 0 && shell->now_ms >= until)
        shell_stop_further(shell,
                           "its time is over (--until, or the end of its Slurm job)");
    else if (shell->now_ms >= idle_deadline(shell))
        shell_stop_further(shell, "nothing to do for so long as --idle tells");
}
