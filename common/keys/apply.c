/* SPDX-License-Identifier: Apache-2.0
 *
 * apply.c: what is asked of a folder of keys while the coordinator serves: keys enrolled
 * by tokens, tokens made and revoked. All that came together is one new version of each
 * file.
 *
 * A use is counted on the disk before the key that it paid for is listed; and a key that
 * is listed costs no second use, so that who lost the answer may ask again. What has
 * ended goes from the lists as they are written. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REMEMBERED_S 86400 /* what is told of tokens that have ended */

struct work {
    struct edit edit;
    struct token_list tokens;
    bool tokens_changed;
    int64_t now_s;
};

static void refuse(struct keys_request *request, int code, const char *format, ...)
    FARPOOL_PRINTF(3, 4);

static void refuse(struct keys_request *request, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->text, sizeof request->text, format, arguments);
    va_end(arguments);
    request->code = code;
}

static struct token_entry *find_token(struct work *work, const char *id)
{
    for (size_t i = 0; i < work->tokens.count; i++)
        if (strcmp(work->tokens.items[i].id, id) == 0)
            return &work->tokens.items[i];
    return NULL;
}

/* --------------------------------------------------------------------- pruning */

static bool has_ended(const struct key_entry *entry, const void *user)
{
    const struct work *work = user;
    return keys_end(entry, &work->tokens) <= work->now_s;
}

static void prune_tokens(struct work *work)
{
    struct token_list *list = &work->tokens;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (work->now_s - REMEMBERED_S < list->items[i].expires_s)
            list->items[kept++] = list->items[i];
    work->tokens_changed |= kept != list->count;
    list->count = kept;
}

/* -------------------------------------------------------------------- enrolling */

/* What a key may be called: the wish, with what names may not have made `-`, and with a
 * number behind it if others have it. */
static void find_name(const struct work *work, const char *wish,
                      char name[HOLDER_NAME_MAX + 1])
{
    char base[HOLDER_NAME_MAX + 1];
    snprintf(base, sizeof base, "%s", wish[0] != '\0' ? wish : "worker");
    for (char *at = base; *at != '\0'; at++) {
        const char letter[2] = {*at, '\0'};
        if (!key_name_valid(letter))
            *at = '-';
    }
    snprintf(name, HOLDER_NAME_MAX + 1, "%s", base);
    for (unsigned i = 2; keys_find_name(&work->edit.list, name) != NULL; i++) {
        char number[12];
        const int size = snprintf(number, sizeof number, "-%u", i);
        snprintf(name, HOLDER_NAME_MAX + 1, "%.*s%s", HOLDER_NAME_MAX - size, base,
                 number);
    }
}

static void tell_end(const struct work *work, const struct key_entry *entry,
                     struct keys_request *request)
{
    const int64_t end_s = keys_end(entry, &work->tokens);
    request->left_s = end_s == INT64_MAX ? 0 : end_s - work->now_s;
    snprintf(request->name, sizeof request->name, "%s", entry->holder.name);
}

static void enrol(struct work *work, struct keys_request *request)
{
    char id[TOKEN_ID_SIZE + 1], text[256];
    struct token_entry *token = find_token(work, token_id(&request->token, id));
    const struct key_entry *listed = keys_find(&work->edit.list, &request->key);
    if (listed != NULL && listed->holder.role == HOLDER_WORKER) {
        tell_end(work, listed, request);
        return;
    }
    if (listed != NULL || tokens_find(&work->tokens, &request->key) != NULL) {
        refuse(request, FARPOOL_EKEY, "the key to be listed is another one's already");
        return;
    }
    const char *why = token != NULL
                          ? token_refusal(token, work->now_s, text)
                          : "the token is not known any more: ask for a new one "
                            "(farpool token)";
    if (why != NULL) {
        refuse(request, FARPOOL_EKEY, "%s", why);
        return;
    }
    struct key_entry entry = {.holder = {.role = HOLDER_WORKER, .key = request->key}};
    farpool_error error;
    find_name(work, request->name, entry.holder.name);
    if (token->ephemeral)
        memcpy(entry.token, token->id, sizeof entry.token);
    if (edit_add(&work->edit, &entry, &error) != 0) {
        refuse(request, error.code, "%s", error.text);
        return;
    }
    token->left--;
    work->tokens_changed = true;
    tell_end(work, &entry, request);
}

/* ----------------------------------------------------------------------- tokens */

static void add_token(struct work *work, struct keys_request *request)
{
    struct token_list *list = &work->tokens;
    struct token_entry token = {.key = request->token,
                                .made_s = work->now_s,
                                .expires_s = work->now_s + request->expires_s,
                                .uses = request->uses,
                                .left = request->uses,
                                .ephemeral = request->ephemeral};
    token_id(&token.key, token.id);
    if (request->expires_s < 1 || request->expires_s > TOKEN_EXPIRES_MAX_S)
        refuse(request, FARPOOL_EINVAL, "a token lasts 1 second to 366 days");
    else if (request->uses < 1 || request->uses > TOKEN_USES_MAX)
        refuse(request, FARPOOL_EINVAL, "a token is for 1 to %d workers", TOKEN_USES_MAX);
    else if (list->count >= TOKENS_MAX)
        refuse(request, FARPOOL_EFULL,
               "there are %d tokens, the most there may be: they go a day after they end",
               TOKENS_MAX);
    else if (find_token(work, token.id) != NULL ||
             keys_find(&work->edit.list, &token.key) != NULL)
        refuse(request, FARPOOL_EKEY, "that key is listed already");
    else if (!mem_reserve(&list->items, &list->capacity, list->count + 1,
                          sizeof *list->items))
        refuse(request, FARPOOL_ENOMEM, "out of memory for a token");
    if (request->code != 0)
        return;
    list->items[list->count++] = token;
    work->tokens_changed = true;
}

static void revoke_token(struct work *work, struct keys_request *request)
{
    struct token_entry *token = find_token(work, request->id);
    if (token == NULL) {
        refuse(request, FARPOOL_EINVAL, "there is no token %.16s", request->id);
        return;
    }
    work->tokens_changed |= !token->revoked;
    token->revoked = true;
}

/* ------------------------------------------------------------------------ files */

static void carry_out(struct work *work, struct keys_request *request)
{
    request->code = 0;
    request->text[0] = '\0';
    request->left_s = 0;
    switch (request->kind) {
    case KEYS_ENROL:
        enrol(work, request);
        break;
    case KEYS_TOKEN:
        add_token(work, request);
        break;
    case KEYS_TOKEN_REVOKE:
        revoke_token(work, request);
        break;
    }
}

static int save_tokens(const char *folder, int fd, const struct work *work,
                       farpool_error *error)
{
    size_t size;
    char *text = tokens_print(&work->tokens, &size);
    if (text == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %zu tokens",
                         work->tokens.count);
    const int result = folder_replace(folder, fd, TOKENS_FILE, text, size, error);
    mem_free(text);
    return result;
}

static int apply(const char *folder, int fd, struct work *work,
                 struct keys_request *requests, size_t count, farpool_error *error)
{
    int result = edit_load(folder, &work->edit, error);
    if (result == 0)
        result = tokens_load(folder, &work->tokens, NULL, error);
    if (result != 0)
        return result;
    prune_tokens(work);
    edit_cut(&work->edit, has_ended, work);
    for (size_t i = 0; i < count; i++)
        carry_out(work, &requests[i]);
    edit_cut(&work->edit, has_ended, work); /* by a token that was revoked just now */
    if (work->tokens_changed)
        result = save_tokens(folder, fd, work, error);
    if (result == 0 && work->edit.changed)
        result = edit_save(folder, fd, &work->edit, error);
    return result;
}

int keys_apply(const char *folder, struct keys_request *requests, size_t count,
               int64_t now_s, bool wait, farpool_error *error)
{
    struct work work = {.now_s = now_s};
    int fd, result = folder_lock(folder, wait, &fd, error);
    if (result != 0)
        return result;
    result = apply(folder, fd, &work, requests, count, error);
    edit_fini(&work.edit);
    token_list_fini(&work.tokens);
    close(fd);
    return result;
}
