/* SPDX-License-Identifier: Apache-2.0
 *
 * address.c: which addresses can be listened on and dialled. Unless peers prove who they
 * are with keys, only this machine's own: whoever reaches the port may run code. So
 * names other than localhost are refused there too, instead of being resolved: what they
 * stand for can change. With keys a name may lie, and nothing is told to the liar. */
#include "common/base/error.h"
#include "common/net/net_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IPC_PATH_MAX 107 /* sun_path */

static bool is_loopback(const char *host)
{
    struct in_addr address;
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &address) == 1 &&
           (ntohl(address.s_addr) >> 24) == 127;
}

/* What ZeroMQ would read something else from is in no host: ';' splits an address. */
static bool is_host(const char *host, bool listen)
{
    static const char name[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789.-";
    struct in_addr address4;
    struct in6_addr address6;
    char inside[64];
    const size_t length = strlen(host);
    if (host[0] == '[' && length > 2 && length < sizeof inside) {
        snprintf(inside, sizeof inside, "%.*s", (int)length - 2, host + 1);
        return host[length - 1] == ']' && inet_pton(AF_INET6, inside, &address6) == 1 &&
               (listen || !IN6_IS_ADDR_UNSPECIFIED(&address6));
    }
    if (inet_pton(AF_INET, host, &address4) == 1)
        return listen || address4.s_addr != htonl(INADDR_ANY);
    if (listen)
        return strcmp(host, "*") == 0;
    return strspn(host, name) == length && host[0] != '-' && host[0] != '.';
}

static bool is_port(const char *text, bool listen)
{
    if (strcmp(text, "*") == 0)
        return listen;
    size_t length = strlen(text);
    if (length == 0 || length > 5 || strspn(text, "0123456789") != length)
        return false;
    long port = strtol(text, NULL, 10);
    return port <= 65535 && (port > 0 || listen);
}

static int check_tcp(const char *address, bool listen, bool keyed, farpool_error *error)
{
    const char *rest = address + strlen("tcp://"), *colon = strrchr(rest, ':');
    char host[128];
    if (colon == NULL || (size_t)(colon - rest) >= sizeof host || colon == rest)
        return error_set(error, FARPOOL_EADDRESS, "\"%s\" is not tcp://HOST:PORT",
                         address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - rest), rest);
    if (!is_port(colon + 1, listen))
        return error_set(error, FARPOOL_EADDRESS, "\"%s\": \"%s\" is not a port", address,
                         colon + 1);
    if (is_loopback(host))
        return 0;
    if (!keyed)
        return error_set(error, FARPOOL_EADDRESS,
                         "\"%s\" is refused: only loopback without keys (127.x.x.x, "
                         "[::1], localhost or ipc://PATH). \"farpool keys init\" makes a "
                         "coordinator's, for --keys; \"farpool keys add\" a worker's or "
                         "client's, for --key or FARPOOL_KEY",
                         address);
    if (!is_host(host, listen))
        return error_set(error, FARPOOL_EADDRESS, "\"%s\": \"%s\" is not %s", address,
                         host, listen ? "an address to listen on" : "a host to dial");
    return 0;
}

int net_check_address(const char *address, bool listen, bool keyed, farpool_error *error)
{
    if (address == NULL || address[0] == '\0')
        return error_set(error, FARPOOL_EADDRESS, "no address is given");
    if (strlen(address) >= sizeof((struct net *)0)->address)
        return error_set(error, FARPOOL_EADDRESS, "the address is too long");
    if (strncmp(address, "tcp://", 6) == 0)
        return check_tcp(address, listen, keyed, error);
    if (strncmp(address, "ipc://", 6) == 0) {
        size_t length = strlen(address + 6);
        if (length == 0 || length > IPC_PATH_MAX || strcmp(address + 6, "*") == 0)
            return error_set(error, FARPOOL_EADDRESS,
                             "\"%s\": the path must have 1 to %d bytes", address,
                             IPC_PATH_MAX);
        return 0;
    }
    return error_set(error, FARPOOL_EADDRESS,
                     "\"%s\" is neither tcp://HOST:PORT nor ipc://PATH", address);
}

/* ZeroMQ does not look up names that it binds to. */
void net_address_target(const char *address, char *target, size_t size)
{
    static const char name[] = "tcp://localhost:";
    if (strncmp(address, name, sizeof name - 1) == 0)
        snprintf(target, size, "tcp://127.0.0.1:%s", address + sizeof name - 1);
    else
        snprintf(target, size, "%s", address);
}

void net_address_local(int fd, char *host, size_t size)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_storage room;
    } name = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof name;
    char text[INET6_ADDRSTRLEN] = "";
    host[0] = '\0';
    if (getsockname(fd, &name.any, &length) != 0)
        return;
    if (name.any.sa_family == AF_INET &&
        inet_ntop(AF_INET, &name.in4.sin_addr, text, sizeof text) != NULL)
        snprintf(host, size, "tcp://%s", text);
    else if (name.any.sa_family == AF_INET6 &&
             inet_ntop(AF_INET6, &name.in6.sin6_addr, text, sizeof text) != NULL)
        snprintf(host, size, "tcp://[%s]", text);
}
