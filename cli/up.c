/* SPDX-License-Identifier: Apache-2.0
 *
 * up.c: the command line of `farpool up`: workers on the nodes of a site, by ssh or by
 * Slurm. What is started is in a state file, which `farpool down` works from. */
#include "cli/up.h"
#include "cli/cli.h"

#include <getopt.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: farpool up --ssh HOST[/SLOTS],... [OPTIONS]\n"
    "       farpool up --slurm -N NODES [OPTIONS] [-- SBATCH-OPTIONS]\n"
    "       farpool up --slurm --auto MIN:MAX [OPTIONS] [-- SBATCH-OPTIONS]\n"
    "\n"
    "Starts workers for a coordinator on the nodes of a site, and returns when they are\n"
    "connected; `farpool down` ends them. Where the coordinator uses keys, an admin's is\n"
    "wanted: the workers get a token that joins them, and that `farpool down` revokes.\n"
    "\n"
    "  -c, --coordinator ADDRESS  as the workers reach it\n"
    "                             (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             an admin's key (default: $FARPOOL_KEY)\n"
    "      --name NAME            a name for what is started (default: default)\n"
    "      --slots N              of each worker (default: all cores of the node)\n"
    "      --worker FILE          the worker's executable that is brought to the nodes\n"
    "                             (default: the one that came with this command)\n"
    "      --worker-option OPTION\n"
    "                             for each farpool-worker, as --worker-option=--bind=core;\n"
    "                             may be repeated\n"
    "      --days N               the token, and with it the workers' keys, end after so\n"
    "                             many days, 1 to 366 (default: 7)\n"
    "      --help                 this text\n"
    "\n"
    "By ssh, without a question asked (keys or an agent), as you would by hand:\n"
    "\n"
    "      --ssh HOSTS            [USER@]HOST[:PORT][/SLOTS], separated by commas\n"
    "      --ssh-hosts FILE       the same from a file, one a line; # begins a comment\n"
    "      --ssh-command COMMAND  ssh and its options (default: $FARPOOL_SSH, or ssh)\n"
    "      --tunnel               the nodes cannot dial the coordinator: forward a port\n"
    "                             through ssh; tried by itself where dialing fails\n"
    "      --at-once N            hosts that are worked on at a time, 1 to 64\n"
    "                             (default: 16)\n"
    "\n"
    "By Slurm (sbatch, squeue and scancel must be there), in jobs that may be requeued:\n"
    "\n"
    "      --slurm                submit a job\n"
    "  -N, --nodes N              of so many nodes, one worker on each\n"
    "      --auto MIN:MAX         instead: jobs of one node each, never fewer than MIN,\n"
    "                             and up to MAX while tasks wait. Stays and says what it\n"
    "                             does until it is interrupted\n"
    "      --detach               with --auto: in the background\n"
    "      --idle SECONDS         with --auto: workers above MIN end after so long\n"
    "                             without work (default: 60)\n"
    "      --shared-folder FOLDER that all nodes see, for the worker, the token and the\n"
    "                             logs (default: ~/.local/state/farpool/up)\n"
    "\n"
    "Exit status: 0; 1 to 101 so many hosts failed; 254 usage; 255 nothing was started,\n"
    "or Slurm has not started it (yet).\n"
    "\n"
    "  farpool up -c tcp://head:5764 -k admin.key --ssh node1,node2/4\n"
    "  farpool up -c tcp://head:5764 -k admin.key --slurm -N 4 -- --time=2:00:00\n";

enum {
    OPTION_NAME = 256,
    OPTION_SLOTS,
    OPTION_WORKER,
    OPTION_WORKER_OPTION,
    OPTION_DAYS,
    OPTION_SSH,
    OPTION_HOSTS,
    OPTION_COMMAND,
    OPTION_TUNNEL,
    OPTION_AT_ONCE,
    OPTION_SLURM,
    OPTION_AUTO,
    OPTION_DETACH,
    OPTION_IDLE,
    OPTION_SHARED
};

static const struct option long_options[] = {
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"name", required_argument, NULL, OPTION_NAME},
    {"slots", required_argument, NULL, OPTION_SLOTS},
    {"worker", required_argument, NULL, OPTION_WORKER},
    {"worker-option", required_argument, NULL, OPTION_WORKER_OPTION},
    {"days", required_argument, NULL, OPTION_DAYS},
    {"ssh", required_argument, NULL, OPTION_SSH},
    {"ssh-hosts", required_argument, NULL, OPTION_HOSTS},
    {"ssh-command", required_argument, NULL, OPTION_COMMAND},
    {"tunnel", no_argument, NULL, OPTION_TUNNEL},
    {"at-once", required_argument, NULL, OPTION_AT_ONCE},
    {"slurm", no_argument, NULL, OPTION_SLURM},
    {"nodes", required_argument, NULL, 'N'},
    {"auto", required_argument, NULL, OPTION_AUTO},
    {"detach", no_argument, NULL, OPTION_DETACH},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"shared-folder", required_argument, NULL, OPTION_SHARED},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

bool up_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("farpool: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return false;
}

static bool number(const char *option, int64_t low, int64_t high, int64_t *ret_number)
{
    return cli_number("up", option, optarg, low, high, ret_number);
}

static bool read_auto(struct up_options *options)
{
    char *end, *colon = strchr(optarg, ':');
    const long min = strtol(optarg, &end, 10);
    const long max = colon && end == colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || *end || colon[1] == '\0' || min < 0 || max < 1 || max < min ||
        max > UP_JOBS_MAX) {
        cli_usage_error("up",
                        "--auto: '%s' is not MIN:MAX, with MIN from 0 and MAX from 1 to "
                        "%d, and not below MIN",
                        optarg, UP_JOBS_MAX);
        return false;
    }
    options->auto_min = min;
    options->auto_max = max;
    return true;
}

static bool read_number(int option, struct up_options *options)
{
    switch (option) {
    case OPTION_SLOTS:
        return number("--slots", 1, 65536, &options->slots);
    case OPTION_DAYS:
        return number("--days", 1, 366, &options->days);
    case OPTION_AT_ONCE:
        return number("--at-once", 1, 64, &options->at_once);
    case 'N':
        return number("--nodes", 1, 10000, &options->nodes);
    case OPTION_IDLE:
        return number("--idle", 1, 1000000, &options->idle_s);
    case OPTION_AUTO:
        return read_auto(options);
    default:
        fputs("Try: farpool up --help\n", stderr);
        return false;
    }
}

static bool read_option(int option, struct up_options *options)
{
    switch (option) {
    case 'c':
        options->address = optarg;
        return true;
    case 'k':
        cli_set_key(optarg);
        return true;
    case OPTION_NAME:
        options->name = optarg;
        return true;
    case OPTION_WORKER:
        options->worker = optarg;
        return true;
    case OPTION_WORKER_OPTION:
        cli_words_add(&options->worker_options, "%s", optarg);
        return true;
    case OPTION_SSH:
        options->hosts = optarg;
        return true;
    case OPTION_HOSTS:
        options->hosts_file = optarg;
        return true;
    case OPTION_COMMAND:
        options->ssh = optarg;
        return true;
    case OPTION_TUNNEL:
        return options->tunnel = true;
    case OPTION_SLURM:
        return options->slurm = true;
    case OPTION_DETACH:
        return options->detach = true;
    case OPTION_SHARED:
        options->shared = optarg;
        return true;
    default:
        return read_number(option, options);
    }
}

/* -1, or the exit status. */
static int check_together(const struct up_options *options)
{
    const bool ssh = options->hosts || options->hosts_file;
    const bool automatic = options->auto_max > 0;
    if (ssh == options->slurm)
        return cli_usage_error("up",
                               "either --ssh (or --ssh-hosts) or --slurm is wanted");
    if (options->hosts && options->hosts_file)
        return cli_usage_error("up", "either --ssh or --ssh-hosts");
    if (ssh && (options->nodes > 0 || automatic || options->shared ||
                options->sbatch_options.count))
        return cli_usage_error("up",
                               "--nodes, --auto, --shared-folder and what follows -- are "
                               "for --slurm");
    if (options->slurm && (options->tunnel || options->ssh))
        return cli_usage_error("up", "--tunnel and --ssh-command are for --ssh");
    if (options->slurm && (options->nodes > 0) == automatic)
        return cli_usage_error("up", "--slurm: either -N NODES or --auto MIN:MAX");
    if (!automatic && (options->detach || options->idle_s > 0))
        return cli_usage_error("up", "--detach and --idle are for --auto");
    if (!up_name_is_right(options->name))
        return cli_usage_error(
            "up", "--name: '%s' is not 1 to 31 letters, digits, _ and -", options->name);
    return -1;
}

static char *read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    if (!file || getdelim(&text, &size, '\0', file) < 0) {
        if (file)
            fclose(file);
        free(text);
        return NULL;
    }
    fclose(file);
    return text;
}

static bool read_hosts(const struct up_options *options, struct up_state *state)
{
    char why[256], *text = NULL;
    if (options->hosts_file && !(text = read_file(options->hosts_file)))
        return up_fail("--ssh-hosts %s: cannot be read, or is empty",
                       options->hosts_file);
    const bool good = up_parse_hosts(text ? text : options->hosts, &state->hosts,
                                     &state->hosts_count, why);
    free(text);
    return good || up_fail("%s: %s", options->hosts_file ? "--ssh-hosts" : "--ssh", why);
}

/* 16 hexadecimal digits, which no other `farpool up` has. */
static void make_id(char ret_id[17])
{
    unsigned char bytes[8];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(ret_id, 17, bytes, sizeof bytes);
}

/* A relative path would mean another file to whoever reads the state. */
static bool set_key(struct up_state *state)
{
    const char *key = getenv("FARPOOL_KEY");
    char path[PATH_MAX];
    if (!key || !key[0])
        return true;
    if (!realpath(key, path) || strlen(path) >= sizeof state->key)
        return up_fail("--key %s: it cannot be found", key);
    memcpy(state->key, path, strlen(path) + 1);
    return true;
}

static bool fill_state(const struct up_options *options, struct up_state *state)
{
    const char *address =
        options->address ? options->address : getenv("FARPOOL_COORDINATOR");
    const char *ssh = options->ssh ? options->ssh : getenv("FARPOOL_SSH");
    if (!address || strlen(address) >= sizeof state->address)
        return up_fail("which coordinator? Give --coordinator or FARPOOL_COORDINATOR");
    snprintf(state->address, sizeof state->address, "%s", address);
    snprintf(state->name, sizeof state->name, "%s", options->name);
    snprintf(state->kind, sizeof state->kind, "%s", options->slurm ? "slurm" : "ssh");
    snprintf(state->ssh, sizeof state->ssh, "%s", ssh && ssh[0] ? ssh : "ssh");
    make_id(state->id);
    if (!set_key(state))
        return false;
    /* Before anything is started: whether somebody is there, and takes the key. */
    farpool_cluster_status *status = cli_get_status("up", state->address);
    farpool_cluster_status_free(status);
    return status != NULL;
}

/* Whether the name is free; else told, with what of it is not as it should be. */
static bool is_free(const char *name)
{
    struct up_state old = {.hosts = NULL};
    struct up_tunnel *tunnels;
    size_t begun = 0;
    const int there = up_state_load(name, &old);
    if (there <= 0)
        return there == 0;
    for (size_t i = 0; i < old.hosts_count; i++)
        begun += old.hosts[i].starting;
    up_fail("'%s' is up: `farpool down %s` first, or give another --name", name, name);
    if (begun)
        fprintf(
            stderr,
            "  %zu worker%s of it may be there, of an `up` that was cut off: `farpool "
            "down %s` looks for them, and ends them\n",
            begun, cli_plural(begun), name);
    const size_t count = up_tunnels_load(name, NULL, &tunnels);
    for (size_t i = 0; i < count; i++)
        if (!tunnels[i].is_up)
            fprintf(stderr, "  its tunnel to %s is down: %s\n", tunnels[i].node,
                    tunnels[i].why);
    free(tunnels);
    up_state_fini(&old);
    return false;
}

static int run_locked(const struct up_options *options)
{
    struct up_state state = {.hosts = NULL};
    int status = CLI_ERROR;
    if (!is_free(options->name))
        return CLI_ERROR;
    cli_catch_interrupts();
    if ((options->slurm || read_hosts(options, &state)) && fill_state(options, &state))
        status = !options->slurm         ? up_ssh(options, &state)
                 : options->auto_max > 0 ? up_auto(options, &state)
                                         : up_slurm(options, &state);
    up_state_fini(&state);
    return status;
}

static int run(const struct up_options *options)
{
    if (!up_lock(options->name, "up"))
        return CLI_ERROR;
    const int status = run_locked(options);
    up_unlock();
    return status;
}

int cli_up(int argc, char **argv)
{
    struct up_options options = {.nodes = -1,
                                 .auto_min = -1,
                                 .auto_max = -1,
                                 .idle_s = -1,
                                 .slots = -1,
                                 .at_once = 16,
                                 .days = 7,
                                 .name = "default"};
    int option, status = -1;
    optind = 1;
    while (status == -1 &&
           (option = getopt_long(argc, argv, "c:k:N:", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help_text, stdout);
            status = CLI_OK;
        } else if (!read_option(option, &options)) {
            status = CLI_USAGE;
        }
    }
    if (status == -1 && optind < argc && strcmp(argv[optind - 1], "--") != 0)
        status = cli_usage_error("up", "'%s' is one argument too many", argv[optind]);
    for (int i = optind; status == -1 && i < argc; i++)
        cli_words_add(&options.sbatch_options, "%s", argv[i]);
    if (status == -1)
        status = check_together(&options);
    if (status == -1)
        status = run(&options);
    cli_words_fini(&options.worker_options);
    cli_words_fini(&options.sbatch_options);
    return status;
}
