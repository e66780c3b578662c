/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net_address.c: addresses that common/net takes and those that it refuses, each
 * with its reason. */
#include "net_ends.h"

#include "common/base/error.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void check_address(const char *address, bool listen, const char *reason)
{
    farpool_error error = {0};
    int result = net_check_address(address, listen, false, &error);
    assert_int_equal(result, reason == NULL ? 0 : FARPOOL_EADDRESS);
    if (reason != NULL && strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void only_loopback_addresses_are_taken(void **state)
{
    (void)state;
    check_address("tcp://127.0.0.1:5764", false, NULL);
    check_address("tcp://127.9.8.7:1", false, NULL);
    check_address("tcp://[::1]:5764", false, NULL);
    check_address("tcp://localhost:5764", false, NULL);
    check_address("ipc:///run/farpool", false, NULL);
    check_address("tcp://127.0.0.1:*", true, NULL);
    check_address("tcp://127.0.0.1:0", true, NULL);
    check_address("tcp://127.0.0.1:*", false, "not a port");
    check_address("tcp://127.0.0.1:0", false, "not a port");
    check_address("tcp://127.0.0.1:65536", true, "not a port");
    check_address("tcp://127.0.0.1:5764x", true, "not a port");
    check_address("tcp://127.0.0.1:", true, "not a port");
    check_address("tcp://127.0.0.1", true, "not tcp://HOST:PORT");
    check_address("tcp://0.0.0.0:5764", true, "only loopback without keys");
    check_address("tcp://*:5764", true, "only loopback without keys");
    check_address("tcp://10.0.0.1:5764", false, "only loopback without keys");
    check_address("tcp://head.cluster:5764", false, "only loopback without keys");
    check_address("tcp://127.0.0.1.evil.example:5764", false, "only loopback");
    check_address("tcp://[::]:5764", true, "only loopback");
    check_address("inproc://x", true, "neither");
    check_address("pgm://127.0.0.1:5", true, "neither");
    check_address("ipc://", true, "1 to 107 bytes");
    check_address("", true, "no address");
    check_address(NULL, true, "no address");
    char path[300] = "ipc:///";
    memset(path + 7, 'a', 150);
    check_address(path, true, "1 to 107 bytes");
}

static void a_taken_port_is_named(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    struct net_config config = {.address = net_address(LISTENER->net), .role = 'K'};
    struct net *net = NULL;
    farpool_error error = {0};
    assert_int_equal(net_listen(&config, &net, &error), FARPOOL_ESYSTEM);
    assert_null(net);
    assert_non_null(strstr(error.text, net_address(LISTENER->net)));
    assert_non_null(strstr(error.text, "in use"));
}

static void ipc_and_ipv6_work_too(void **state)
{
    (void)state;
    char folder[] = "/tmp/farpool-net-XXXXXX", address[80];
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "ipc://%s/socket", folder);
    open_end(LISTENER, address, 'K');
    join(DIALER, 'C');
    uint64_t link = LISTENER->link;
    struct net_config config = {.address = address, .role = 'K'};
    struct net *net = NULL;
    farpool_error error = {0};
    assert_int_equal(net_listen(&config, &net, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "in use"));
    close_end(DIALER);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_int_equal(last_note(LISTENER)->link, link);
    close_end(LISTENER);
    unlink(address + strlen("ipc://"));
    assert_int_equal(rmdir(folder), 0);

    open_end(LISTENER, "tcp://localhost:*", 'K');
    join(DIALER, 'C');
    close_end(DIALER);
    close_end(LISTENER);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (fd >= 0)
        close(fd);
    if (!ipv6)
        return; /* a machine without it */
    open_end(LISTENER, "tcp://[::1]:*", 'K');
    join(DIALER, 'C');
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(only_loopback_addresses_are_taken),
        TEST(a_taken_port_is_named),
        TEST(ipc_and_ipv6_work_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
