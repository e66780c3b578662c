/* SPDX-License-Identifier: Apache-2.0
 *
 * reach.c: why nobody answers at an address. ZeroMQ dials again for ever, and tells no
 * reason; so who has waited in vain asks here: is the name known, does the machine
 * answer, does somebody listen? It blocks, so it is for errors only. */
#include "common/sys/reach.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECT_MS = 1000 };

/* 0 or an errno. */
static int connect_once(int family, const struct sockaddr *address, socklen_t size)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code = 0;
    socklen_t code_size = sizeof code;

    if (fd < 0)
        return errno;
    if (connect(fd, address, size) != 0) {
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        code = errno;
        if (code == EINPROGRESS && poll(&polled, 1, CONNECT_MS) == 0)
            code = ETIMEDOUT;
        else if (code == EINPROGRESS)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &code_size);
    }
    close(fd);
    return code;
}

static bool split(const char *target, char host[256], char port[8])
{
    const char *colon = strrchr(target, ':');
    size_t length = colon ? (size_t)(colon - target) : 0;

    if (length > 1 && target[0] == '[' && target[length - 1] == ']') {
        target++;
        length -= 2;
    }
    if (colon == NULL || length == 0 || length >= 256 || strlen(colon + 1) >= 8)
        return false;
    memcpy(host, target, length);
    host[length] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static void explain_connect(int code, const char *host, const char *port, char *text,
                            size_t size)
{
    if (code == ECONNREFUSED)
        snprintf(text, size,
                 "nobody listens on port %s of %s: is farpool-coordinator started, and "
                 "the port right?",
                 port, host);
    else if (code != 0)
        snprintf(text, size,
                 "%s cannot be reached (%s): is it up, and no firewall in between?", host,
                 strerror(code));
}

static void reach_tcp(const char *target, char *text, size_t size)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[256], port[8];
    int code = 0, failure;

    if (!split(target, host, port))
        return;
    if ((failure = getaddrinfo(host, port, &hints, &found)) != 0) {
        snprintf(text, size,
                 "the name \"%s\" is not known here (%s): is it spelled right? An IP "
                 "address will do, too",
                 host, gai_strerror(failure));
        return;
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next)
        if ((code = connect_once(at->ai_family, at->ai_addr, at->ai_addrlen)) == 0)
            break;
    freeaddrinfo(found);
    explain_connect(code, host, port, text, size);
}

static void reach_ipc(const char *path, char *text, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int code;

    if (strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path) + 1);
    code = connect_once(AF_UNIX, (const struct sockaddr *)&address, sizeof address);
    if (code != 0)
        snprintf(text, size, "%s: %s%s", path, strerror(code),
                 code == EACCES ? ": ask its owner for the right to use it"
                                : ": is farpool-coordinator started?");
}

const char *sys_reach(const char *address, char *text, size_t size)
{
    text[0] = '\0';
    if (strncmp(address, "tcp://", 6) == 0)
        reach_tcp(address + 6, text, size);
    else if (strncmp(address, "ipc://", 6) == 0)
        reach_ipc(address + 6, text, size);
    return text;
}
