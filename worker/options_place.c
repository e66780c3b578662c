/* SPDX-License-Identifier: Apache-2.0
 *
 * options_place.c: the options of farpool-worker about what processes find when they
 * start: folder, variables, cores, control groups, resources. */
#include "worker/shell.h"

#include "common/sys/sys.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const worker_withheld[] = {
    "NOTIFY_SOCKET", "WATCHDOG_*",          "LISTEN_*",           "CREDENTIALS_DIRECTORY",
    "FARPOOL_KEY*",  "FARPOOL_COORDINATOR", "FARPOOL_RESOURCE_*", NULL};

void worker_place_defaults(struct worker_place *place)
{
    const char *folder = getenv("TMPDIR");
    place->groups = true;
    snprintf(place->scratch, sizeof place->scratch, "%s/farpool-%u",
             folder != NULL && folder[0] == '/' ? folder : "/tmp", (unsigned)geteuid());
}

int worker_read_scratch(const char *value, struct worker_place *place)
{
    if (value[0] == '\0' || strlen(value) >= sizeof place->scratch)
        return worker_wrong_option("scratch", value, "a folder is wanted");
    snprintf(place->scratch, sizeof place->scratch, "%s", value);
    return -1;
}

/* How long the name is that the text begins with; 0: none. */
static size_t name_length(const char *text)
{
    size_t length = 0;
    if (isdigit((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_')
        length++;
    return length;
}

int worker_read_pass(char *value, struct worker_place *place)
{
    char *rest = value, *name;
    while ((name = strsep(&rest, ",")) != NULL) {
        const size_t length = name_length(name);
        const bool all = name[length] == '*';
        if (length == 0 || name[length + all] != '\0')
            return worker_wrong_option("pass", name,
                                       "a variable's name is wanted, or how it begins "
                                       "and a *");
        if (place->pass_count == PLACE_VARIABLES_MAX)
            return worker_wrong_option("pass", name,
                                       "no more than 64 names may be given");
        place->pass[place->pass_count++] = name;
    }
    return -1;
}

/* What the daemon itself tells each process. */
static bool is_told(const char *variable, size_t length)
{
    static const char *const names[] = {"FARPOOL_PROCESS", "FARPOOL_NODE", "FARPOOL_SLOT",
                                        "TMPDIR"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && strncmp(variable, names[i], length) == 0)
            return true;
    return strncmp(variable, "FARPOOL_RESOURCE_", sizeof "FARPOOL_RESOURCE_" - 1) == 0;
}

int worker_read_set(const char *value, struct worker_place *place)
{
    const size_t length = name_length(value);
    if (length == 0 || value[length] != '=')
        return worker_wrong_option("set", value, "NAME=VALUE is wanted");
    if (is_told(value, length))
        return worker_wrong_option("set", value,
                                   "the worker gives this one to each process itself");
    if (place->set_count == PLACE_VARIABLES_MAX)
        return worker_wrong_option("set", value, "no more than 64 may be given");
    place->set[place->set_count++] = value;
    return -1;
}

int worker_read_bind(const char *value, struct worker_place *place)
{
    place->bind = strcmp(value, "core") == 0;
    if (!place->bind && strcmp(value, "none") != 0)
        return worker_wrong_option("bind", value, "core or none is wanted");
    return -1;
}

int worker_read_groups(const char *value, struct worker_place *place)
{
    place->groups = strcmp(value, "auto") == 0;
    if (!place->groups && strcmp(value, "none") != 0)
        return worker_wrong_option("groups", value, "auto or none is wanted");
    return -1;
}

static bool is_twice(const struct worker_place *place, const char *name)
{
    for (uint32_t i = 0; i < place->resources_count; i++)
        if (strcasecmp(place->resources[i].name, name) == 0)
            return true;
    return false;
}

static int read_resource(char *text, struct worker_place *place)
{
    static const char option[] = "resources";
    const size_t length = name_length(text);
    uint64_t count = 0;
    if (length == 0 || length > HOST_RESOURCE_NAME_MAX || text[length] != '=' ||
        strspn(text + length + 1, "0123456789") != strlen(text + length + 1) ||
        !sys_parse_size(text + length + 1, &count) || count < 1 ||
        count > HOST_RESOURCE_COUNT_MAX)
        return worker_wrong_option(option, text,
                                   "NAME=COUNT is wanted: a name of 1 to 31 letters, "
                                   "digits and _, a whole number from 1 to 1024");
    if (place->resources_count == HOST_RESOURCES_MAX)
        return worker_wrong_option(option, text, "no more than 16 may be given");
    struct host_resource *resource = &place->resources[place->resources_count];
    text[length] = '\0';
    if (is_twice(place, text))
        return worker_wrong_option(option, text, "it is given twice");
    snprintf(resource->name, sizeof resource->name, "%s", text);
    resource->count = (uint32_t)count;
    place->resources_count++;
    return -1;
}

int worker_read_resources(char *value, struct worker_place *place)
{
    char *rest = value, *text;
    int exit_code = -1;
    while (exit_code == -1 && (text = strsep(&rest, ",")) != NULL)
        exit_code = read_resource(text, place);
    return exit_code;
}

static bool labels_have(const char *labels, const char *name)
{
    const size_t length = strlen(name);
    while (*labels != '\0') {
        if (strncmp(labels, name, length) == 0 && labels[length] == '=')
            return true;
        labels += strcspn(labels, ",");
        labels += *labels == ',';
    }
    return false;
}

int worker_place_finish(struct worker_config *core, struct worker_place *place)
{
    const uint32_t asked = core->slots;
    for (uint32_t i = 0; i < place->resources_count; i++) {
        const struct host_resource *resource = &place->resources[i];
        const size_t used = strlen(core->labels);
        if (labels_have(core->labels, resource->name))
            return worker_wrong_option("resources", resource->name,
                                       "--labels has this name, too");
        const int length =
            snprintf(core->labels + used, sizeof core->labels - used, "%s%s=%u",
                     used > 0 ? "," : "", resource->name, resource->count);
        if ((size_t)length >= sizeof core->labels - used)
            return worker_wrong_option("resources", resource->name,
                                       "labels and resources together are longer than "
                                       "255 bytes");
        if (resource->count < core->slots)
            core->slots = resource->count;
    }
    place->slots_asked = core->slots < asked ? asked : 0;
    return -1;
}
