/* SPDX-License-Identifier: Apache-2.0
 *
 * gate.c: the coordinator's list of keys as it is now. Once a second the file's identity,
 * size and times are compared with those of what was read: no inotify, which misses
 * changes on network file systems. A file that cannot be read, or has a wrong line,
 * changes nothing: the list that was read last stays in force, which is said at once and
 * then every minute, since a revocation may be in what could not be read. Strangers can
 * dial as often as they like, so only so many refusals a second are logged, and the rest
 * is counted. */
#include "coordinator/gate.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys.h"
#include "common/sys/log.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 1000
#define REMIND_MS 60000
#define LINES_MAX 20 /* refusals logged between two looks */

struct gate {
    char folder[PATH_MAX];
    struct key_list list;
    struct key_stamp stamp;
    bool broken; /* the file that is there now cannot be read; `list` is an earlier one */
    char wrong[sizeof((farpool_error *)0)->text]; /* what was logged of it last */
    uint64_t remind_ms;                           /* when it is logged again */
    uint64_t look_ms;
    uint64_t lines;
    struct net_keys keys;
};

static bool authorize(void *user, const struct hash *key, struct holder *ret_holder)
{
    const struct gate *gate = user;
    const struct holder *holder = keys_find(&gate->list, key);
    if (holder == NULL)
        return false;
    *ret_holder = *holder;
    return true;
}

static void refused(void *user, const struct hash *key, const char *reason)
{
    struct gate *gate = user;
    char text[KEY_TEXT_SIZE] = "none";
    if (gate->lines++ >= LINES_MAX)
        return;
    if (key != NULL)
        key_text(key, text);
    log_event(LOG_WARNING, "key-refused", "name= role= key=\"%s\" reason=\"%s\"", text,
              reason);
}

void gate_log_refused(const struct holder *holder, const char *reason)
{
    log_event(LOG_WARNING, "key-refused", "name=%s role=%s reason=\"%s\"", holder->name,
              holder_role_name(holder->role), reason);
}

static int open_gate(struct gate *gate, farpool_error *error)
{
    struct key_file own;
    int result = keys_load_own(gate->folder, &own, error);
    if (result == 0) {
        gate->keys.own = own.holder.key;
        memcpy(gate->keys.secret, own.secret, sizeof own.secret);
        key_wipe(&own);
        result = keys_load(gate->folder, &gate->list, &gate->stamp, error);
    }
    return result;
}

int gate_open(const char *folder, uint64_t now_ms, struct gate **ret_gate,
              farpool_error *error)
{
    struct gate *gate = mem_alloc(sizeof *gate);
    if (gate == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    snprintf(gate->folder, sizeof gate->folder, "%s", folder);
    gate->look_ms = now_ms + LOOK_MS;
    gate->keys.authorize = authorize;
    gate->keys.refused = refused;
    gate->keys.user = gate;
    const int result = open_gate(gate, error);
    if (result == 0)
        *ret_gate = gate;
    else
        gate_close(gate);
    return result;
}

void gate_close(struct gate *gate)
{
    if (gate == NULL)
        return;
    gate_wipe(gate);
    key_list_fini(&gate->list);
    mem_free(gate);
}

const struct net_keys *gate_keys(const struct gate *gate)
{
    return gate == NULL ? NULL : &gate->keys;
}

void gate_wipe(struct gate *gate)
{
    if (gate != NULL)
        explicit_bzero(gate->keys.secret, sizeof gate->keys.secret);
}

/* At once, when something else is wrong, and every REMIND_MS. */
static void say_broken(struct gate *gate, uint64_t now_ms, const char *wrong)
{
    if (gate->broken && now_ms < gate->remind_ms && strcmp(gate->wrong, wrong) == 0)
        return;
    snprintf(gate->wrong, sizeof gate->wrong, "%s", wrong);
    gate->remind_ms = now_ms + REMIND_MS;
    log_event(
        LOG_ERROR, "keys-unreadable",
        "reason=\"%s\" keys=%zu in-force=\"the list that was read last: no key that "
        "was added or revoked since then counts\"",
        wrong, gate->list.count);
}

static bool read_again(struct gate *gate, uint64_t now_ms)
{
    struct key_list list;
    farpool_error error;
    if (keys_load(gate->folder, &list, &gate->stamp, &error) != 0) {
        say_broken(gate, now_ms, error.text);
        gate->broken = true;
        return false;
    }
    key_list_fini(&gate->list);
    gate->list = list;
    gate->broken = false;
    log_event(LOG_INFO, "keys-read", "folder=%s keys=%zu", gate->folder, list.count);
    return true;
}

bool gate_look(struct gate *gate, uint64_t now_ms)
{
    if (gate == NULL || now_ms < gate->look_ms)
        return false;
    gate->look_ms = now_ms + LOOK_MS;
    if (gate->lines > LINES_MAX)
        log_event(LOG_WARNING, "key-refused", "name= role= more=%llu",
                  (unsigned long long)(gate->lines - LINES_MAX));
    gate->lines = 0;
    if (!gate->broken && !keys_changed(gate->folder, &gate->stamp))
        return false;
    return read_again(gate, now_ms);
}

uint64_t gate_deadline(const struct gate *gate)
{
    return gate == NULL ? UINT64_MAX : gate->look_ms;
}
