/* SPDX-License-Identifier: Apache-2.0
 *
 * credential.c: the key that a client dials with. The environment tells only where it is;
 * the secret is read when a pool is opened and lives in that connection alone. */
#include "client/credential.h"
#include "common/base/error.h"
#include "common/keys/keys.h"
#include "common/sys/reach.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_keys(struct net_keys *ret_keys, bool *ret_given, farpool_error *error)
{
    const char *path = getenv("FARPOOL_KEY");
    struct key_file file;
    *ret_given = path != NULL && path[0] != '\0';
    if (!*ret_given)
        return 0;
    int result = key_load(path, &file, error);
    if (result != 0)
        return result;
    if (file.holder.role == HOLDER_CLIENT || file.holder.role == HOLDER_ADMIN) {
        *ret_keys = (struct net_keys){.own = file.holder.key, .server = file.server};
        memcpy(ret_keys->secret, file.secret, sizeof file.secret);
    } else {
        result =
            error_set(error, FARPOOL_EKEY,
                      "FARPOOL_KEY: %s is the key of a %s (\"%s\"), a client's or an "
                      "admin's is wanted",
                      path, holder_role_name(file.holder.role), file.holder.name);
    }
    key_wipe(&file);
    return result;
}

int credential_dial(const struct net_config *config, struct net **ret_net,
                    struct hash *ret_key, farpool_error *error)
{
    struct net_config with = *config;
    struct net_keys keys = {.authorize = NULL};
    bool given;
    int result = read_keys(&keys, &given, error);
    if (result != 0)
        return result;
    with.keys = given ? &keys : NULL;
    result = net_dial(&with, ret_net, error);
    if (result == 0 && ret_key != NULL)
        *ret_key = keys.own;
    explicit_bzero(&keys, sizeof keys);
    return result;
}

int credential_server(struct hash *ret_server, farpool_error *error)
{
    struct net_keys keys;
    bool given;
    const int result = read_keys(&keys, &given, error);
    if (result != 0)
        return result;
    if (!given)
        return error_set(
            error, FARPOOL_EKEY,
            "FARPOOL_KEY is not set: this takes an admin's key (farpool keys "
            "add FOLDER admin NAME)");
    *ret_server = keys.server;
    explicit_bzero(&keys, sizeof keys);
    return 0;
}

int credential_absent(const char *call, const char *address, int64_t timeout_ms,
                      const char *else_why, farpool_error *error)
{
    const char *path = getenv("FARPOOL_KEY");
    char reached[320], why[328];

    if (error == NULL) /* nobody reads it */
        return FARPOOL_ENOCOORDINATOR;
    if (sys_reach(address, reached, sizeof reached)[0] != '\0')
        snprintf(why, sizeof why, ": %s", reached);
    else if (else_why != NULL)
        snprintf(why, sizeof why, "%s", else_why);
    else
        snprintf(why, sizeof why, "%s",
                 path != NULL && path[0] != '\0'
                     ? " (nor one that FARPOOL_KEY has the right coordinator's key for; "
                       "one without keys wants FARPOOL_KEY unset)"
                     : " (one that uses keys wants FARPOOL_KEY)");
    return error_set(error, FARPOOL_ENOCOORDINATOR,
                     "%s: no coordinator answered at %s within %" PRId64 " ms%s", call,
                     address, timeout_ms, why);
}
