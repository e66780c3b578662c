/* SPDX-License-Identifier: Apache-2.0
 *
 * map.h: what the files of `farpool map` and `farpool submit` share: map_options.c reads
 * the command line, map_items.c makes the commands of it, map.c runs them, submit.c
 * leaves them with a coordinator. */
#ifndef FARPOOL_CLI_MAP_H
#define FARPOOL_CLI_MAP_H

#include "cli/progress.h"

#include <farpool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILES_MAX = 63 };

/* The command line of one run, and where its inputs come from. */
struct map {
    const char *coordinator, *workdir;
    int64_t processes, retries, timeout_ms, cpu_ms, memory_bytes, speculate;
    bool submit; /* and go; else: run, and write what comes. Set before map_parse */
    const char *name;
    bool unordered, progress, shell, quiet, dry_run;
    char delimiter;
    const char *files[FILES_MAX + 1];
    int files_count;
    char **command; /* the template, NULL-ended */
    char **items;   /* arguments behind ":::", or NULL: lines of stdin */
    char *line;     /* of getdelim, or the present item */
    size_t line_capacity;
    char *arguments; /* the packed command of the present item */
    size_t arguments_size, arguments_capacity;
    uint64_t failed, done;
    struct cli_progress bar;
    farpool_pool *pool;
    unsigned waits;                                    /* for a result, in vain */
    char warning[sizeof((farpool_error *)NULL)->text]; /* the last one that was told */
};

/* Fills the rest from the command line; what it allocates is for map_free. 0, or an exit
 * status, which stderr was told of; -1: help was asked for, and printed. */
int map_parse(struct map *map, int argc, char **argv);
void map_free(struct map *map);

/* The next item as it stands: 0, FARPOOL_END, or another code with a message. Borrowed
 * until the next call. */
int map_next_item(struct map *map, const char **ret_item, char message[256]);
/* A farpool_input: the packed command of the next item; user: the struct map. */
int map_next_command(void *user, farpool_bytes *ret_item, char message[256]);
/* The pool's options that were given. */
void map_set_options(const struct map *map, farpool_pool_options *options);

#endif
