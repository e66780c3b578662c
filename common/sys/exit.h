/* SPDX-License-Identifier: Apache-2.0
 *
 * exit.h: the exit codes of the daemons. */
#ifndef FARPOOL_SYS_EXIT_H
#define FARPOOL_SYS_EXIT_H

enum {
    EXIT_ENDED = 0,  /* as asked */
    EXIT_FAILED = 1, /* could not start, or go on: the log says why */
    EXIT_USAGE = 2,  /* the command line is wrong */
};

#endif
