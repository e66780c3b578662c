/* SPDX-License-Identifier: Apache-2.0
 *
 * outcome.c: what one command of `farpool map` or `farpool submit` wrote, and how it
 * ended, as people are told of it. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool cli_outcome_is_silent(const farpool_bytes *output)
{
    struct cli_outcome outcome;
    memcpy(&outcome, output->data, sizeof outcome);
    return outcome.stdout_size + outcome.stderr_size == 0 && outcome.exit_status == 0;
}

bool cli_print_outcome(const char *command, const farpool_bytes *output, uint64_t index,
                       bool quiet)
{
    struct cli_outcome outcome;
    const char *data = output->data;
    memcpy(&outcome, data, sizeof outcome);
    data += sizeof outcome;
    fwrite(data, 1, outcome.stdout_size, stdout);
    fwrite(data + outcome.stdout_size, 1, outcome.stderr_size, stderr);
    if (outcome.exit_status == 0)
        return false;
    if (quiet)
        return true;
    if (outcome.signal)
        fprintf(stderr, "farpool %s: command %" PRIu64 " was ended by signal %d (%s)\n",
                command, index + 1, outcome.signal, strsignal(outcome.signal));
    else
        fprintf(stderr, "farpool %s: command %" PRIu64 " failed with exit status %d\n",
                command, index + 1, outcome.exit_status);
    return true;
}
