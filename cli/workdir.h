/* SPDX-License-Identifier: Apache-2.0
 *
 * workdir.h: the folder that the commands of `farpool map` run in. */
#ifndef FARPOOL_CLI_WORKDIR_H
#define FARPOOL_CLI_WORKDIR_H

#include "cli/progress.h"

#include <farpool.h>

struct cli_workdir {
    char *folder;     /* absolute; NULL: wherever processes start */
    char (*told)[64]; /* the nodes that lack it, told already */
    size_t told_count;
    struct cli_progress *bar; /* to be hidden in front of lines */
};

/* Which folder that is. wanted: --workdir, or NULL; files: --file was given; embedded: no
 * coordinator, so that this process goes there itself, and the pool's begin there.
 * CLI_OK, or an exit status after an error on stderr. */
int cli_workdir_choose(const char *wanted, bool files, bool embedded,
                       struct cli_workdir *ret_workdir);
/* Has each process of the pool go there. A node where that fails is told on stderr, once,
 * and its commands run in scratch folders. *workdir must outlive the pool. */
void cli_workdir_set(struct cli_workdir *workdir, struct cli_progress *bar,
                     farpool_pool_options *options);
/* The same for `farpool submit`, whose commands run in scratch folders if none is wanted,
 * and whose job fails on a node where that folder cannot be entered. */
int cli_workdir_submit(const char *wanted, bool files, struct cli_workdir *ret_workdir,
                       farpool_pool_options *options);
void cli_workdir_fini(struct cli_workdir *workdir);

#endif
