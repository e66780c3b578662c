/* SPDX-License-Identifier: Apache-2.0
 *
 * nodes.c: `farpool nodes`: one line a node, tab separated, for cut, awk and eyes. */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

static const char help_text[] =
    "usage: farpool nodes [OPTIONS]\n"
    "\n"
    "Lists the nodes of a coordinator, one a line, tab separated: name, state, slots,\n"
    "machine, memory in MiB, labels.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered.\n";

static const struct option long_options[] = {
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

int cli_nodes(int argc, char **argv)
{
    const char *address = NULL;
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:k:", long_options, NULL)) != -1) {
        if (option == 'c') {
            address = optarg;
        } else if (option == 'k') {
            cli_set_key(optarg);
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool nodes --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (optind < argc)
        return cli_usage_error("nodes", "'%s' is one argument too many", argv[optind]);
    farpool_cluster_status *status = cli_get_status("nodes", address);
    if (!status)
        return CLI_ERROR;
    for (size_t i = 0; i < status->nodes_count; i++) {
        const farpool_node_status *node = &status->nodes[i];
        printf("%s\t%s\t%" PRIu64 "\t%s\t%" PRIu64 "\t%s\n", node->name, node->state,
               node->slots, node->machine, node->memory_bytes >> 20, node->labels);
    }
    farpool_cluster_status_free(status);
    return CLI_OK;
}
