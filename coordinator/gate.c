/* SPDX-License-Identifier: Apache-2.0
 *
 * gate.c: the coordinator's lists of keys and tokens as they are now. Once a second the
 * files' identity, size and times are compared with those of what was read: no inotify,
 * which misses changes on network file systems; and at once when a key is not found,
 * since it may just have been added. A file that cannot be read, or has a wrong line,
 * changes nothing: the lists that were read last stay in force, which is said at once and
 * then every minute, since a revocation may be in what could not be read. Strangers can
 * dial as often as they like, so only so many refusals a second are logged, and the rest
 * is counted.
 *
 * Ends of keys and tokens are judged by this machine's clock alone, each time they are
 * asked for; gate_look tells when one has come, so that links are looked at again. */
#include "coordinator/gate.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys.h"
#include "common/sys/log.h"
#include "coordinator/gate_asks.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 1000
#define REMIND_MS 60000
#define LINES_MAX 20 /* refusals logged between two looks */

struct gate {
    char folder[PATH_MAX];
    struct key_list list;
    struct token_list tokens;
    struct key_stamp stamp, tokens_stamp;
    bool broken; /* a file that is there now cannot be read; the lists are earlier ones */
    char wrong[sizeof((farpool_error *)0)->text]; /* what was logged of it last */
    uint64_t now_ms, remind_ms;                   /* when it is logged again */
    bool reread;   /* read since the last look, and links not looked at */
    int64_t end_s; /* of the key that ends next; INT64_MAX: none does */
    uint64_t look_ms;
    uint64_t lines;
    struct net_keys keys;
    struct gate_asks *asks;
};

static int64_t clock_s(void)
{
    return (int64_t)time(NULL);
}

static bool read_again(struct gate *gate);

static bool has_changed(const struct gate *gate)
{
    return keys_changed(gate->folder, &gate->stamp) ||
           tokens_changed(gate->folder, &gate->tokens_stamp);
}

/* A token is let in as long as it is known: its end is told to whoever has it. */
static bool find_holder(const struct gate *gate, const struct hash *key,
                        struct holder *ret_holder)
{
    const struct key_entry *entry = keys_find(&gate->list, key);
    if (entry != NULL) {
        *ret_holder = entry->holder;
        return clock_s() < keys_end(entry, &gate->tokens);
    }
    const struct token_entry *token = tokens_find(&gate->tokens, key);
    if (token == NULL)
        return false;
    *ret_holder = (struct holder){.role = HOLDER_TOKEN, .key = token->key};
    snprintf(ret_holder->name, sizeof ret_holder->name, "%s", token->id);
    return true;
}

static bool authorize(void *user, const struct hash *key, struct holder *ret_holder)
{
    struct gate *gate = user;
    if (find_holder(gate, key, ret_holder))
        return true;
    if (gate->broken || !has_changed(gate) || !read_again(gate))
        return false;
    gate->reread = true;
    return find_holder(gate, key, ret_holder);
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

/* When the first of the keys ends that have not ended. */
static int64_t find_end(const struct gate *gate)
{
    const int64_t now_s = clock_s();
    int64_t first_s = INT64_MAX;
    for (size_t i = 0; i < gate->list.count; i++) {
        const int64_t end_s = keys_end(&gate->list.items[i], &gate->tokens);
        if (end_s > now_s && end_s < first_s)
            first_s = end_s;
    }
    return first_s;
}

/* Both lists, or neither. */
static int read_lists(struct gate *gate, farpool_error *error)
{
    struct key_list list;
    struct token_list tokens;
    struct key_stamp stamp, tokens_stamp;
    /* Tokens first: a key that came in between then waits for the next look, and is not
     * one of a token that is not there. */
    int result = tokens_load(gate->folder, &tokens, &tokens_stamp, error);
    if (result != 0)
        return result;
    result = keys_load(gate->folder, &list, &stamp, error);
    if (result != 0) {
        token_list_fini(&tokens);
        return result;
    }
    key_list_fini(&gate->list);
    token_list_fini(&gate->tokens);
    gate->list = list;
    gate->tokens = tokens;
    gate->stamp = stamp;
    gate->tokens_stamp = tokens_stamp;
    gate->end_s = find_end(gate);
    return 0;
}

static int open_gate(struct gate *gate, farpool_error *error)
{
    struct key_file own;
    int result = keys_load_own(gate->folder, &own, error);
    if (result == 0) {
        gate->keys.own = own.holder.key;
        memcpy(gate->keys.secret, own.secret, sizeof own.secret);
        key_wipe(&own);
        result = read_lists(gate, error);
    }
    return result;
}

int gate_open(const char *folder, uint64_t now_ms, struct gate **ret_gate,
              farpool_error *error)
{
    struct gate *gate = mem_alloc(sizeof *gate);
    if (gate == NULL || (gate->asks = gate_asks_create()) == NULL) {
        mem_free(gate);
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    }
    snprintf(gate->folder, sizeof gate->folder, "%s", folder);
    gate->now_ms = now_ms;
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
    token_list_fini(&gate->tokens);
    gate_asks_destroy(gate->asks);
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
static void say_broken(struct gate *gate, const char *wrong)
{
    if (gate->broken && gate->now_ms < gate->remind_ms && strcmp(gate->wrong, wrong) == 0)
        return;
    snprintf(gate->wrong, sizeof gate->wrong, "%s", wrong);
    gate->remind_ms = gate->now_ms + REMIND_MS;
    log_event(
        LOG_ERROR, "keys-unreadable",
        "reason=\"%s\" keys=%zu in-force=\"the list that was read last: no key that "
        "was added or revoked since then counts\"",
        wrong, gate->list.count);
}

static bool read_again(struct gate *gate)
{
    farpool_error error;
    if (read_lists(gate, &error) != 0) {
        say_broken(gate, error.text);
        gate->broken = true;
        return false;
    }
    gate->broken = false;
    log_event(LOG_INFO, "keys-read", "folder=%s keys=%zu tokens=%zu", gate->folder,
              gate->list.count, gate->tokens.count);
    return true;
}

static bool look(struct gate *gate)
{
    if ((gate->broken || has_changed(gate)) && read_again(gate))
        return true;
    if (gate->reread)
        return true;
    if (clock_s() < gate->end_s)
        return false;
    gate->end_s = find_end(gate);
    return true;
}

bool gate_look(struct gate *gate, uint64_t now_ms)
{
    if (gate == NULL || (now_ms < gate->look_ms && !gate->reread))
        return false;
    if (now_ms >= gate->look_ms && gate->lines > LINES_MAX)
        log_event(LOG_WARNING, "key-refused", "name= role= more=%llu",
                  (unsigned long long)(gate->lines - LINES_MAX));
    if (now_ms >= gate->look_ms) {
        gate->lines = 0;
        gate->look_ms = now_ms + LOOK_MS;
    }
    gate->now_ms = now_ms;
    const bool due = look(gate);
    gate->reread = false;
    return due;
}

uint64_t gate_deadline(const struct gate *gate)
{
    if (gate == NULL)
        return UINT64_MAX;
    const uint64_t serve_ms = gate_asks_deadline(gate->asks);
    return serve_ms < gate->look_ms ? serve_ms : gate->look_ms;
}

/* ------------------------------------------------------------------ requests */

int gate_ask(struct gate *gate, uint64_t link, const struct holder *holder,
             const struct message *message, uint64_t now_ms)
{
    return gate_asks_add(gate->asks, link, holder, message, now_ms);
}

bool gate_serve(struct gate *gate, uint64_t now_ms, gate_done_fn *done, void *user)
{
    if (gate == NULL || !gate_asks_apply(gate->asks, gate->folder, clock_s(), now_ms))
        return false;
    /* Before anybody is told: who was enrolled dials at once. */
    if (has_changed(gate) && read_again(gate))
        gate->reread = true;
    return gate_asks_tell(gate->asks, done, user);
}
