/* SPDX-License-Identifier: Apache-2.0
 *
 * json.h: what commands print with --json, where several print the same. */
#ifndef FARPOOL_CLI_JSON_H
#define FARPOOL_CLI_JSON_H

#include <farpool.h>
#include <jansson.h>

json_t *cli_job_json(const farpool_job_status *job); /* NULL: out of memory */
/* Prints and frees root; NULL is told as out of memory. Returns an exit status. */
int cli_print_json(const char *command, json_t *root);

#endif
