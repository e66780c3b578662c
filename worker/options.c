/* SPDX-License-Identifier: Apache-2.0
 *
 * options.c: the command line of farpool-worker. Every value is checked here, with the
 * option named, before anything is opened. */
#include "common/net/net.h"
#include "common/sys/sys.h"
#include "worker/shell.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "farpool-worker"

static const char help[] =
    "usage: " PROGRAM " [OPTION]...\n"
    "Runs the processes of pools on this node, as a coordinator tells it.\n"
    "\n"
    "  -c, --coordinator ADDRESS  tcp://HOST:PORT or ipc://PATH; off loopback only\n"
    "                             with --key\n"
    "                             (default: FARPOOL_COORDINATOR, or\n"
    "                             " WORKER_ADDRESS ")\n"
    "  -k, --key FILE             this worker's key, as made by farpool keys add\n"
    "                             (default: FARPOOL_KEY)\n"
    "  -j, --join FILE            joins with the token in FILE (mode 0600), or on\n"
    "                             standard input (-), as made by farpool token; its\n"
    "                             address is used unless -c is given. With --key too,\n"
    "                             the worker's new key is kept there, and used at the\n"
    "                             next start instead of the token; else in memory\n"
    "                             (default: FARPOOL_JOIN, a file)\n"
    "  -s, --slots N              tasks that run at a time (default: the cores that\n"
    "                             this process may use, here %u)\n"
    "  -n, --name NODE            name of the node (default: the host name, or Slurm's\n"
    "                             name of the node)\n"
    "      --labels K=V,...       told to clients with the node; may be repeated\n"
    "      --memory BYTES         memory of the node, as told to clients; K, M, G\n"
    "                             or T may follow (default: what this process may\n"
    "                             use)\n"
    "      --lanes ADDRESS|none   where clients and other workers may dial this one,\n"
    "                             once the coordinator has introduced them, so that\n"
    "                             work need not pass it: tcp://HOST:PORT, PORT may be\n"
    "                             *; none: nowhere (default: any port, on loopback or\n"
    "                             with --key on the side of this machine where the\n"
    "                             coordinator is)\n"
    "      --cache FOLDER         where programs are kept (default: farpool in\n"
    "                             XDG_CACHE_HOME or ~/.cache)\n"
    "      --cache-size BYTES     what it may grow to; K, M, G, T: powers of 1024;\n"
    "                             programs used longest ago are removed, those in\n"
    "                             use never; 0: no limit (default: 8G)\n"
    "      --share-max BYTES      memory that shared inputs may take; K, M, G, T;\n"
    "                             0: none is taken (default: half of --memory)\n"
    "\n"
    "When it drains by itself, as at SIGTERM:\n"
    "      --until TIME           at 2030-12-31T23:59:00, +SECONDS from now, or so\n"
    "                             many (-SECONDS) before the end of the Slurm job;\n"
    "                             none: never\n"
    "                             (default: a minute before the end of the Slurm job\n"
    "                             that it is in, less for short ones)\n"
    "      --idle SECONDS         when there was nothing to do for so long\n"
    "\n"
    "When no coordinator is there:\n"
    "      --orphan-after SECONDS it goes on with what it has for so long since it last\n"
    "                             heard of one; then it kills its processes, drops\n"
    "                             their tasks and results, and dials on. Longer than\n"
    "                             restarting a coordinator ever takes: tasks that run\n"
    "                             over that are kept. 0: never (default: 3600)\n"
    "\n"
    "Where the processes run, and what they are told:\n"
    "      --scratch FOLDER       each process starts in a new folder below this one,\n"
    "                             with links to its pool's files; it is removed with\n"
    "                             the process (default: farpool-UID in TMPDIR or /tmp)\n"
    "      --pass NAME,...        pass on these environment variables only; A* stands\n"
    "                             for all that begin so (default: all but this\n"
    "                             daemon's own: FARPOOL_*, NOTIFY_SOCKET and the like)\n"
    "      --set NAME=VALUE       set a variable; may be repeated\n"
    "      --bind core|none       core: each process may use one core only, by its\n"
    "                             slot (default: none)\n"
    "      --groups auto|none     auto: where this process may make control groups\n"
    "                             (cgroup v2), each process gets one: it ends with all\n"
    "                             that it started, and the kernel keeps limits of\n"
    "                             memory; none: it makes none (default: auto)\n"
    "      --resources NAME=N,... things that the slots share out, told as indexes in\n"
    "                             FARPOOL_RESOURCE_NAME; of gpu also in\n"
    "                             CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES. A\n"
    "                             node has no more slots than of any of them: more\n"
    "                             are cut, with a warning in the log\n"
    "\n"
    "  -v, --verbose              log more; twice: every message\n"
    "  -h, --help                 print this and exit\n"
    "  -V, --version              print the version and exit\n"
    "\n"
    "Signals: SIGTERM or SIGINT: drains: gives back what was not begun, finishes what\n"
    "runs and ends; a second one: kills what runs and ends at once. It dials again for\n"
    "ever when the coordinator is away, and keeps its tasks and results meanwhile, for\n"
    "--orphan-after.\n"
    "\n"
    "Exit codes: 0 ended as asked, 1 could not start or go on, 2 wrong usage.\n";

enum {
    OPTION_LABELS = 256,
    OPTION_MEMORY,
    OPTION_LANES,
    OPTION_CACHE,
    OPTION_CACHE_SIZE,
    OPTION_SHARE_MAX,
    OPTION_SCRATCH,
    OPTION_PASS,
    OPTION_SET,
    OPTION_BIND,
    OPTION_GROUPS,
    OPTION_RESOURCES,
    OPTION_UNTIL,
    OPTION_IDLE,
    OPTION_ORPHAN_AFTER
};

static const struct option table[] = {
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"join", required_argument, NULL, 'j'},
    {"slots", required_argument, NULL, 's'},
    {"name", required_argument, NULL, 'n'},
    {"labels", required_argument, NULL, OPTION_LABELS},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"lanes", required_argument, NULL, OPTION_LANES},
    {"cache", required_argument, NULL, OPTION_CACHE},
    {"cache-size", required_argument, NULL, OPTION_CACHE_SIZE},
    {"share-max", required_argument, NULL, OPTION_SHARE_MAX},
    {"scratch", required_argument, NULL, OPTION_SCRATCH},
    {"pass", required_argument, NULL, OPTION_PASS},
    {"set", required_argument, NULL, OPTION_SET},
    {"bind", required_argument, NULL, OPTION_BIND},
    {"groups", required_argument, NULL, OPTION_GROUPS},
    {"resources", required_argument, NULL, OPTION_RESOURCES},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"orphan-after", required_argument, NULL, OPTION_ORPHAN_AFTER},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

int worker_wrong_option(const char *name, const char *value, const char *want)
{
    fprintf(stderr, PROGRAM ": --%s \"%s\": %s\n", name, value, want);
    return EXIT_USAGE;
}

static int read_slots(struct worker_config *core)
{
    uint64_t slots = 0;
    if (!sys_parse_size(optarg, &slots) ||
        strspn(optarg, "0123456789") != strlen(optarg) || slots < 1 || slots > 65536)
        return worker_wrong_option("slots", optarg,
                                   "a whole number from 1 to 65536 is wanted");
    core->slots = (uint32_t)slots;
    return -1;
}

/* Names and labels go into logs and tables as they are. */
static bool is_plain(const char *text, const char *also)
{
    for (; *text != '\0'; text++) {
        if (!isalnum((unsigned char)*text) && strchr(also, *text) == NULL)
            return false;
    }
    return true;
}

static int read_name(struct worker_config *core)
{
    if (optarg[0] == '\0' || strlen(optarg) > NODE_NAME_MAX || !is_plain(optarg, "._-:"))
        return worker_wrong_option("name", optarg,
                                   "1 to 63 letters, digits, . _ - : are wanted");
    snprintf(core->node, sizeof core->node, "%s", optarg);
    return -1;
}

static bool labels_are_pairs(const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        const char *equals = memchr(text, '=', length);
        if (equals == NULL || equals == text)
            return false;
        text += length + (text[length] == ',');
    }
    return true;
}

static int read_labels(struct worker_config *core)
{
    const size_t used = strlen(core->labels);
    if (used + 1 + strlen(optarg) >= sizeof core->labels ||
        !is_plain(optarg, "._-:/=,+") || !labels_are_pairs(optarg))
        return worker_wrong_option("labels", optarg,
                                   "key=value,key=value of at most 254 bytes in all is "
                                   "wanted");
    snprintf(core->labels + used, sizeof core->labels - used, "%s%s",
             used > 0 && optarg[0] != '\0' ? "," : "", optarg);
    return -1;
}

static int read_memory(struct worker_config *core)
{
    if (!sys_parse_size(optarg, &core->memory_bytes) || core->memory_bytes == 0)
        return worker_wrong_option("memory", optarg, "a number of bytes is wanted");
    return -1;
}

static int read_path(const char *option, const char *wanted, const char **ret_path)
{
    *ret_path = optarg;
    return optarg[0] != '\0' ? -1 : worker_wrong_option(option, optarg, wanted);
}

static int read_bytes(const char *option, uint64_t *ret_bytes)
{
    return sys_parse_size(optarg, ret_bytes) && *ret_bytes != UINT64_MAX
               ? -1
               : worker_wrong_option(option, optarg, "a number of bytes is wanted, or 0");
}

static int read_option(int option, struct worker_options *options)
{
    switch (option) {
    case 'c':
        options->address = optarg;
        return -1;
    case 'k':
        return read_path("key", "a file is wanted", &options->key);
    case 'j':
        return read_path("join", "a file, or -, is wanted", &options->join_path);
    case 's':
        return read_slots(&options->core);
    case 'n':
        return read_name(&options->core);
    case OPTION_LABELS:
        return read_labels(&options->core);
    case OPTION_MEMORY:
        return read_memory(&options->core);
    case OPTION_LANES:
        options->lanes = optarg;
        return -1;
    case OPTION_CACHE:
        return read_path("cache", "a folder is wanted", &options->cache);
    case OPTION_CACHE_SIZE:
        return read_bytes("cache-size", &options->cache_bytes);
    case OPTION_SHARE_MAX:
        return read_bytes("share-max", &options->share_bytes);
    case OPTION_SCRATCH:
        return worker_read_scratch(optarg, &options->place);
    case OPTION_PASS:
        return worker_read_pass(optarg, &options->place);
    case OPTION_SET:
        return worker_read_set(optarg, &options->place);
    case OPTION_BIND:
        return worker_read_bind(optarg, &options->place);
    case OPTION_GROUPS:
        return worker_read_groups(optarg, &options->place);
    case OPTION_RESOURCES:
        return worker_read_resources(optarg, &options->place);
    case OPTION_UNTIL:
        return worker_read_until(optarg, &options->site);
    case OPTION_IDLE:
        return worker_read_idle(optarg, &options->site);
    case OPTION_ORPHAN_AFTER:
        return worker_read_orphan_after(optarg, &options->core);
    case 'v':
        options->level = options->level < LOG_DEBUG ? LOG_DEBUG : LOG_TRACE;
        return -1;
    case 'h':
        printf(help, sys_cores());
        return EXIT_ENDED;
    case 'V':
        printf(PROGRAM " " FARPOOL_VERSION "\n");
        return EXIT_ENDED;
    default:
        fprintf(stderr, "Try " PROGRAM " --help.\n");
        return EXIT_USAGE;
    }
}

static void fill_defaults(struct worker_options *options)
{
    const char *address = getenv("FARPOOL_COORDINATOR");
    const char *key = getenv("FARPOOL_KEY"), *join = getenv("FARPOOL_JOIN");
    *options = (struct worker_options){.address = WORKER_ADDRESS,
                                       .level = LOG_INFO,
                                       .cache_bytes = CACHE_BYTES,
                                       .share_bytes = UINT64_MAX};
    if (address != NULL && address[0] != '\0')
        options->address = address;
    if (join != NULL && join[0] != '\0')
        options->join_path = join;
    worker_place_defaults(&options->place);
    if (key != NULL && key[0] != '\0')
        options->key = key;
    worker_config_init(&options->core);
    options->core.orphan_after_ms = ORPHAN_AFTER_MS;
    options->core.slots = sys_cores();
    options->core.memory_bytes = sys_memory_bytes();
    sys_host(options->core.node, sizeof options->core.node);
    sys_machine(options->core.machine, sizeof options->core.machine);
    worker_site_defaults(&options->core, &options->site);
}

int worker_read_options(int argc, char **argv, struct worker_options *ret_options)
{
    struct worker_options options;
    farpool_error error;
    int option, exit_code = -1;
    bool address_given = false;
    fill_defaults(&options);
    optind = 0; /* getopt starts anew */
    while (exit_code == -1 &&
           (option = getopt_long(argc, argv, "c:k:j:s:n:vhV", table, NULL)) != -1) {
        address_given |= option == 'c';
        exit_code = read_option(option, &options);
    }
    if (exit_code != -1)
        return exit_code;
    if (optind < argc) {
        fprintf(stderr, PROGRAM ": \"%s\" is not wanted. Try " PROGRAM " --help.\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    if ((exit_code = worker_site_gpus(&options.place)) != -1 ||
        (exit_code = worker_place_finish(&options.core, &options.place)) != -1)
        return exit_code;
    if ((exit_code = worker_read_join(&options, address_given)) != -1)
        return exit_code;
    const bool keyed = options.key != NULL || options.join != NULL;
    if (net_check_address(options.address, false, keyed, &error) != 0) {
        fprintf(stderr, PROGRAM ": --coordinator: %s\n", error.text);
        return EXIT_USAGE;
    }
    if (options.lanes != NULL && strcmp(options.lanes, "none") != 0 &&
        net_check_address(options.lanes, true, keyed, &error) != 0) {
        fprintf(stderr, PROGRAM ": --lanes: %s\n", error.text);
        return EXIT_USAGE;
    }
    if (options.share_bytes == UINT64_MAX)
        options.share_bytes = options.core.memory_bytes / 2;
    *ret_options = options;
    return -1;
}
