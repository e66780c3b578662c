/* SPDX-License-Identifier: Apache-2.0
 *
 * host_environment.c: the environment variables of a process: what the host's own process
 * has and passes, what host_config adds, and what tells the process its place. The first
 * two are the same for all and are put together once; docs/environment.md has the list.
 */
#include "worker/host_internal.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY_PATH "LD_LIBRARY_PATH="
#define OUTER_BYTES 1024 /* of the marks of pools around this one */
#define INDEX_BYTES 6    /* of a resource's index in a list */

extern char **environ;

/* What each process gets from the host, whatever the caller's environment says. */
static const char *const placed[] = {CHANNEL_ENVIRONMENT, "FARPOOL_NODE", "FARPOOL_SLOT",
                                     REMAINS_VARIABLE, NULL};
static const char *const gpu_names[] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                        NULL};
static const char *const scratch_names[] = {"TMPDIR", NULL};

/* Whether a variable "NAME=..." has one of these names; "NAME*" stands for all that begin
 * so. */
static bool is_named(const char *variable, const char *const *names)
{
    const size_t length = strcspn(variable, "=");
    for (; names != NULL && *names != NULL; names++) {
        const size_t wanted = strcspn(*names, "=*");
        const bool begins = length >= wanted && strncmp(variable, *names, wanted) == 0;
        if (begins && (length == wanted || (*names)[wanted] == '*'))
            return true;
    }
    return false;
}

static bool has_resource(const struct host_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->resources_count; i++)
        if (strcmp(config->resources[i].name, name) == 0)
            return true;
    return false;
}

static void resource_variable(const struct host_resource *resource, char *text,
                              size_t size)
{
    snprintf(text, size, "FARPOOL_RESOURCE_%s", resource->name);
    for (; *text != '\0'; text++)
        *text = (char)toupper((unsigned char)*text);
}

static bool is_resource(const struct host_config *config, const char *variable)
{
    char name[sizeof "FARPOOL_RESOURCE_" + HOST_RESOURCE_NAME_MAX];
    const char *const names[] = {name, NULL};
    for (uint32_t i = 0; i < config->resources_count; i++) {
        resource_variable(&config->resources[i], name, sizeof name);
        if (is_named(variable, names))
            return true;
    }
    return false;
}

/* Whether a process gets this one from elsewhere. */
static bool is_placed(const struct host_config *config, const char *variable)
{
    return is_named(variable, placed) || is_resource(config, variable) ||
           (config->scratch != NULL && is_named(variable, scratch_names)) ||
           (has_resource(config, "gpu") && is_named(variable, gpu_names));
}

/* Takes one variable over for all processes; false: out of memory. */
static bool take(struct host *host, const char *variable)
{
    char *copy = mem_strdup(variable);
    if (copy == NULL)
        return false;
    if (strncmp(variable, LIBRARY_PATH, sizeof LIBRARY_PATH - 1) == 0) {
        mem_free(host->library_path);
        host->library_path = copy;
    } else {
        host->environment[host->environment_count++] = copy;
    }
    return true;
}

static size_t count_of(const char *const *texts)
{
    size_t count = 0;
    while (texts != NULL && texts[count] != NULL)
        count++;
    return count;
}

static bool is_passed(const struct host_config *config, const char *variable)
{
    if (is_placed(config, variable) || is_named(variable, config->set))
        return false;
    return config->pass != NULL ? is_named(variable, config->pass)
                                : !is_named(variable, config->withhold);
}

bool host_environment_init(struct host *host)
{
    const struct host_config *config = &host->config;
    const char *const *own = (const char *const *)environ;
    char node[sizeof "FARPOOL_NODE=" + NODE_NAME_MAX];
    const size_t most = count_of(own) + count_of(config->set) + 1;
    host->environment = mem_alloc((most + 1) * sizeof *host->environment);
    const char *outer = getenv(REMAINS_VARIABLE);
    if (host->environment == NULL)
        return false;
    if (outer != NULL && strlen(outer) <= OUTER_BYTES &&
        (host->outer = mem_strdup(outer)) == NULL)
        return false;
    for (; own != NULL && *own != NULL; own++)
        if (is_passed(config, *own) && !take(host, *own))
            return false;
    for (const char *const *set = config->set; set != NULL && *set != NULL; set++)
        if (!is_placed(config, *set) && !is_named(*set, set + 1) && !take(host, *set))
            return false; /* the last of one name counts */
    snprintf(node, sizeof node, "FARPOOL_NODE=%s", host->node);
    return take(host, node);
}

void host_environment_fini(struct host *host)
{
    for (size_t i = 0; i < host->environment_count; i++)
        mem_free(host->environment[i]);
    mem_free(host->environment);
    mem_free(host->library_path);
    mem_free(host->outer);
}

/* --------------------------------------------------------------------- one process */

__attribute__((format(printf, 3, 4))) static bool
add(struct host_variables *variables, size_t room, const char *format, ...)
{
    va_list arguments;
    char *text = mem_alloc(room);
    if (text == NULL)
        return false;
    va_start(arguments, format);
    vsnprintf(text, room, format, arguments);
    va_end(arguments);
    variables->all[variables->borrowed + variables->own++] = text;
    return true;
}

/* By which what it starts is known; of a pool inside a task, behind that of the outer. */
static bool add_mark(const struct host *host, uint64_t process,
                     struct host_variables *variables)
{
    const char *outer = host->outer != NULL ? host->outer : "";
    return add(variables, sizeof REMAINS_VARIABLE + strlen(outer) + REMAINS_TOKEN + 32,
               REMAINS_VARIABLE "=%s%s%s-%llu", outer, outer[0] != '\0' ? ":" : "",
               host->token, (unsigned long long)process);
}

/* LD_LIBRARY_PATH with the program's folder in front: its files may be libraries. */
static bool add_library_path(const struct host *host, const char *folder,
                             struct host_variables *variables)
{
    const char *old =
        host->library_path == NULL ? "" : host->library_path + sizeof LIBRARY_PATH - 1;
    if (folder == NULL && host->library_path == NULL)
        return true;
    if (folder == NULL)
        folder = "";
    return add(variables, sizeof LIBRARY_PATH + strlen(folder) + strlen(old) + 1,
               LIBRARY_PATH "%s%s%s", folder,
               folder[0] != '\0' && old[0] != '\0' ? ":" : "", old);
}

/* What the devices from first to before end are called, with commas between; NULL: out of
 * memory. */
static char *list_devices(const char *ids, uint64_t first, uint64_t end)
{
    size_t used = 0;
    const size_t room =
        (size_t)(end - first) * INDEX_BYTES + (ids != NULL ? strlen(ids) : 0) + 1;
    char *list = mem_alloc(room);
    for (uint64_t i = 0; ids != NULL && i < first; i++)
        ids += strcspn(ids, ",") + (ids[strcspn(ids, ",")] == ',');
    for (uint64_t i = first; list != NULL && i < end; i++) {
        if (i > first)
            list[used++] = ',';
        if (ids == NULL) {
            used += (size_t)snprintf(list + used, room - used, "%u", (unsigned)i);
            continue;
        }
        const size_t length = strcspn(ids, ",");
        memcpy(list + used, ids, length);
        used += length;
        ids += length + (ids[length] == ',');
    }
    if (list != NULL)
        list[used] = '\0';
    return list;
}

/* The indexes of a slot's share: all of them are some slot's, and none is two slots'
 * unless there are fewer of them than slots. */
static bool add_resource(const struct host *host, const struct host_resource *resource,
                         uint32_t slot, struct host_variables *variables)
{
    const uint64_t slots = host->config.slots, count = resource->count;
    uint64_t first = slot % slots * count / slots,
             end = (slot % slots + 1) * count / slots;
    char name[sizeof "FARPOOL_RESOURCE_" + HOST_RESOURCE_NAME_MAX];
    if (first == end)
        end++;
    char *list = list_devices(NULL, first, end);
    char *devices = list_devices(resource->ids, first, end);
    resource_variable(resource, name, sizeof name);
    bool added = list != NULL && devices != NULL &&
                 add(variables, sizeof name + strlen(list) + 1, "%s=%s", name, list);
    if (strcmp(resource->name, "gpu") == 0)
        for (size_t i = 0; added && gpu_names[i] != NULL; i++)
            added = add(variables, sizeof name + strlen(devices) + 1, "%s=%s",
                        gpu_names[i], devices);
    mem_free(list);
    mem_free(devices);
    return added;
}

bool host_variables_make(const struct host *host, const struct host_place *place,
                         struct host_variables *ret_variables)
{
    const struct host_config *config = &host->config;
    struct host_variables variables = {.borrowed = host->environment_count};
    /* Channel, mark, slot, paths; gpu. */
    const size_t own = 5 + config->resources_count + 2;
    variables.all = mem_alloc((variables.borrowed + own + 1) * sizeof *variables.all);
    if (variables.all == NULL)
        return false;
    memcpy(variables.all, host->environment, variables.borrowed * sizeof *variables.all);
    bool added = add(&variables, sizeof CHANNEL_ENVIRONMENT "=" + strlen(place->channel),
                     CHANNEL_ENVIRONMENT "=%s", place->channel) &&
                 add(&variables, 32, "FARPOOL_SLOT=%u", place->slot) &&
                 add_mark(host, place->process, &variables) &&
                 add_library_path(host, place->libraries, &variables);
    if (added && config->scratch != NULL)
        added = add(&variables, sizeof "TMPDIR=" + strlen(place->folder), "TMPDIR=%s",
                    place->folder);
    for (uint32_t i = 0; added && i < config->resources_count; i++)
        added = add_resource(host, &config->resources[i], place->slot, &variables);
    *ret_variables = variables;
    if (!added)
        host_variables_fini(ret_variables);
    return added;
}

void host_variables_fini(struct host_variables *variables)
{
    for (size_t i = 0; i < variables->own; i++)
        mem_free(variables->all[variables->borrowed + i]);
    mem_free(variables->all);
    *variables = (struct host_variables){0};
}
