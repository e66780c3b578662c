/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor_key.c: the key that FARPOOL_KEY or --key names: whether its file is as it must
 * be and what it is for; and what the coordinator said to it. Keys have no dates, so a
 * clock that is wrong is no reason for a refusal. */
#include "cli/doctor.h"
#include "common/keys/keys.h"

#include <stdlib.h>

static const char *given(void)
{
    const char *path = getenv("FARPOOL_KEY");
    return path && path[0] ? path : NULL;
}

/* Whether a client may show a key of this role. */
static bool look_at_role(struct doctor *doctor, const char *path,
                         const struct holder *holder)
{
    const char *role = holder_role_name(holder->role);
    switch (holder->role) {
    case HOLDER_CLIENT:
    case HOLDER_ADMIN:
        doctor_add(doctor, "key", FINDING_OK,
                   "%s is for the %s \"%s\", and only you can "
                   "read it",
                   path, role, holder->name);
        return true;
    case HOLDER_WORKER:
        doctor_add(
            doctor, "key", FINDING_WARNING,
            "%s is for the worker \"%s\": right for farpool-worker, but clients and "
            "this command need a client's; so the coordinator is not asked",
            path, holder->name);
        return false;
    default:
        doctor_add(doctor, "key", FINDING_PROBLEM,
                   "%s is a %s's own key: leave it on its machine, and make yourself "
                   "another one there with `farpool keys add`",
                   path, role);
        return false;
    }
}

bool doctor_look_at_key(struct doctor *doctor)
{
    const char *path = given();
    struct key_file file;
    farpool_error error;
    if (!path)
        return true;
    if (key_load(path, &file, &error)) {
        doctor_add(doctor, "key", FINDING_PROBLEM,
                   "%s: a key file is as `farpool keys add` wrote it, belongs to you and "
                   "has mode 600 at most",
                   error.text);
        return false;
    }
    const struct holder holder = file.holder;
    key_wipe(&file);
    return look_at_role(doctor, path, &holder);
}

void doctor_tell_key(struct doctor *doctor, const char *address,
                     const farpool_error *error)
{
    if (error && given())
        doctor_add(doctor, "key-accepted", FINDING_PROBLEM,
                   "%s: have an administrator look at `farpool keys list` and the log "
                   "(key-refused) on the coordinator's machine",
                   error->text);
    else if (error)
        doctor_add(
            doctor, "key-accepted", FINDING_PROBLEM,
            "%s: set FARPOOL_KEY or give --key, with a file that `farpool keys add` "
            "made",
            error->text);
    else if (given())
        doctor_add(doctor, "key-accepted", FINDING_OK,
                   "%s took the key, and proved its own", address);
}
