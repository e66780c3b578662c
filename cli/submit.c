/* SPDX-License-Identifier: Apache-2.0
 *
 * submit.c: `farpool submit`: the commands of `farpool map`, left with a coordinator. */
#include "cli/cli.h"
#include "cli/map.h"

static int submit(struct map *map)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    map_set_options(map, &options);
    if (farpool_submit(map->coordinator, map->name, cli_command_function(),
                       map_next_command, map, &options, &error))
        return cli_library_error("submit", &error);
    return CLI_OK;
}

int cli_submit(int argc, char **argv)
{
    struct map map = {.submit = true};
    int result = map_parse(&map, argc, argv);
    if (result == CLI_OK)
        result = submit(&map);
    map_free(&map);
    return result < 0 ? CLI_OK : result;
}
