/* SPDX-License-Identifier: Apache-2.0
 *
 * up_hosts.c: the hosts as people list them, [USER@]HOST[:PORT][/SLOTS]. Pure: every
 * mistake is found here, before anything is started. */
#include "cli/up.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool wrong(char *ret_text, const char *entry, const char *why)
{
    snprintf(ret_text, 256, "'%.100s': %s", entry, why);
    return false;
}

static bool is_plain(const char *text, const char *also)
{
    for (const char *at = text; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr(also, *at))
            return false;
    return *text && *text != '-';
}

static bool read_number(const char *text, uint32_t most, uint32_t *ret_number)
{
    const size_t length = strlen(text);
    if (length == 0 || length > 5 || strspn(text, "0123456789") != length)
        return false;
    *ret_number = (uint32_t)strtoul(text, NULL, 10);
    return *ret_number >= 1 && *ret_number <= most;
}

/* Cuts the text at the last `mark`, and gives what is behind it; NULL: there is none. */
static char *cut(char *text, char mark)
{
    char *at = strrchr(text, mark);
    if (at)
        *at++ = '\0';
    return at;
}

/* HOST[:PORT], or [ADDRESS][:PORT]; the brackets go. */
static bool read_place(char *text, const char *entry, struct up_host *host, char *why)
{
    char *end = text[0] == '[' ? strchr(text, ']') : NULL, *port = NULL;
    if (text[0] == '[' && !end)
        return wrong(why, entry, "the ']' is missing");
    if (end) {
        *end = '\0';
        if (end[1] != '\0' && end[1] != ':')
            return wrong(why, entry, "only :PORT may follow the ']'");
        port = end[1] ? end + 2 : NULL;
        text++;
    } else if (strchr(text, ':') == strrchr(text, ':')) {
        port = cut(text, ':');
    }
    if (port && !read_number(port, 65535, &host->port))
        return wrong(why, entry, "the port must be a whole number from 1 to 65535");
    if (!is_plain(text, "._-:%") || strlen(text) >= sizeof host->host)
        return wrong(why, entry, "a host's name or address is wanted");
    snprintf(host->host, sizeof host->host, "%s", text);
    return true;
}

static bool read_host(const char *entry, struct up_host *host, char *why)
{
    char text[512];
    if (strlen(entry) >= sizeof text)
        return wrong(why, entry, "too long");
    snprintf(text, sizeof text, "%s", entry);
    const char *slots = cut(text, '/');
    if (slots && !read_number(slots, 65536, &host->slots))
        return wrong(why, entry, "/SLOTS must be a whole number from 1 to 65536");
    char *at = strrchr(text, '@');
    if (at) {
        *at = '\0';
        if (!is_plain(text, "._-+@\\") || strlen(text) >= sizeof host->user)
            return wrong(why, entry, "a user's name is wanted before the @");
        snprintf(host->user, sizeof host->user, "%s", text);
    }
    if (!read_place(at ? at + 1 : text, entry, host, why))
        return false;
    /* Names of nodes have no more than 63 characters, and no %. */
    snprintf(host->node, sizeof host->node, host->port ? "%.57s:%u" : "%.63s", host->host,
             host->port);
    for (char *c = host->node; *c; c++)
        *c = *c == '%' ? '_' : *c;
    return true;
}

static bool is_twice(const struct up_host *hosts, size_t count, const char *node)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(hosts[i].node, node) == 0)
            return true;
    return false;
}

static bool add(const char *entry, struct up_host *hosts, size_t *count, char *why)
{
    struct up_host *host = &hosts[*count];
    if (*count == UP_HOSTS_MAX)
        return wrong(why, entry, "more than 10000 hosts");
    if (!read_host(entry, host, why))
        return false;
    if (is_twice(hosts, *count, host->node))
        return wrong(why, entry, "this host is listed twice");
    ++*count;
    return true;
}

/* Comments become white space. */
static char *copy_list(const char *list)
{
    char *copy = strdup(list);
    for (char *at = copy; at && *at;) {
        if (*at == '#')
            memset(at, ' ', strcspn(at, "\n"));
        at += strcspn(at, "#");
    }
    return copy;
}

bool up_parse_hosts(const char *list, struct up_host **ret_hosts, size_t *ret_count,
                    char ret_text[256])
{
    size_t count = 0, most = 2;
    bool good = true;
    for (const char *at = list; *at; at++)
        most += strchr(", \t\r\n", *at) != NULL;
    char *copy = copy_list(list), *rest = copy;
    struct up_host *hosts =
        calloc(most < UP_HOSTS_MAX ? most : UP_HOSTS_MAX + 1, sizeof *hosts);
    if (!copy || !hosts)
        good = wrong(ret_text, "", "out of memory");
    for (char *entry; good && (entry = strsep(&rest, ", \t\r\n"));)
        if (*entry)
            good = add(entry, hosts, &count, ret_text);
    if (good && count == 0)
        good = wrong(ret_text, "", "no host is listed");
    free(copy);
    if (!good) {
        free(hosts);
        return false;
    }
    *ret_hosts = hosts;
    *ret_count = count;
    return true;
}
