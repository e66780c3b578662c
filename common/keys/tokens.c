/* SPDX-License-Identifier: Apache-2.0
 *
 * tokens.c: the coordinator's list of join tokens, FOLDER/tokens, a line a token:
 *
 *     ID PUBLICKEY MADE EXPIRES LEFT/USES lasting|ephemeral live|revoked
 *
 * It is written by programs, so that every line is wholly what it must be or refuses the
 * file. Tokens that have ended stay for a day, so that who comes with one is told why. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_STEP_S 60 /* back, as clocks that are set right do */

static const char head[] =
    "# ID PUBLICKEY MADE EXPIRES LEFT/USES lasting|ephemeral live|revoked\n";

void token_list_fini(struct token_list *list)
{
    mem_free(list->items);
    *list = (struct token_list){.items = NULL};
}

const struct token_entry *tokens_find(const struct token_list *list,
                                      const struct hash *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (hash_equal(&list->items[i].key, key))
            return &list->items[i];
    return NULL;
}

const struct token_entry *tokens_find_id(const struct token_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].id, id) == 0)
            return &list->items[i];
    return NULL;
}

/* ----------------------------------------------------------------- reading */

static bool read_number(const char *text, char end, uint32_t *ret_number,
                        const char **ret_rest)
{
    char *rest;
    errno = 0;
    const unsigned long number = strtoul(text, &rest, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || number > TOKEN_USES_MAX ||
        *rest != end)
        return false;
    *ret_number = (uint32_t)number;
    *ret_rest = rest + 1;
    return true;
}

static bool read_uses(const char *word, struct token_entry *token)
{
    const char *rest;
    return read_number(word, '/', &token->left, &rest) &&
           read_number(rest, '\0', &token->uses, &rest) && token->left <= token->uses;
}

static bool read_word(const char *word, const char *yes, const char *no, bool *ret_yes)
{
    *ret_yes = strcmp(word, yes) == 0;
    return *ret_yes || strcmp(word, no) == 0;
}

enum { WORDS = 7 };

/* A line without its end, cut in place: NULL, or what is wrong. */
static const char *read_line(char *line, struct token_entry *ret_token)
{
    char *words[WORDS + 1], *rest = NULL, id[TOKEN_ID_SIZE + 1];
    size_t count = 0;
    for (char *word = strtok_r(line, BLANKS, &rest); word != NULL && count <= WORDS;
         word = strtok_r(NULL, BLANKS, &rest))
        words[count++] = word;
    *ret_token = (struct token_entry){.id = ""};
    if (count != WORDS)
        return "it is not of 7 words";
    if (!key_parse(words[1], &ret_token->key))
        return "the public key is not 40 characters of Z85";
    if (strcmp(words[0], token_id(&ret_token->key, id)) != 0)
        return "the id is not that of the public key";
    memcpy(ret_token->id, id, sizeof id);
    if (!when_parse(words[2], &ret_token->made_s) ||
        !when_parse(words[3], &ret_token->expires_s))
        return "a time is not like 2026-05-04T03:02:01Z";
    if (!read_uses(words[4], ret_token))
        return "the uses are not LEFT/USES";
    if (!read_word(words[5], "ephemeral", "lasting", &ret_token->ephemeral))
        return "\"ephemeral\" or \"lasting\" is wanted";
    if (!read_word(words[6], "revoked", "live", &ret_token->revoked))
        return "\"revoked\" or \"live\" is wanted";
    return NULL;
}

static int append(struct token_list *list, const struct token_entry *token)
{
    if (!mem_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items))
        return FARPOOL_ENOMEM;
    list->items[list->count++] = *token;
    return 0;
}

static int take_token(void *user, unsigned number, char *line, const char **ret_wrong)
{
    (void)number;
    struct token_list *list = user;
    struct token_entry token;
    *ret_wrong = read_line(line, &token);
    if (*ret_wrong == NULL && tokens_find_id(list, token.id) != NULL)
        *ret_wrong = "the token is there already";
    if (*ret_wrong == NULL && list->count >= TOKENS_MAX)
        *ret_wrong = "one token too many";
    return *ret_wrong == NULL ? append(list, &token) : 0;
}

int tokens_parse(const char *text, size_t size, const char *where,
                 struct token_list *ret_list, farpool_error *error)
{
    struct token_list list = {.items = NULL};
    const struct key_lines lines = {where, take_token, &list};
    const int result = key_read_lines(&lines, text, size, error);
    if (result == 0)
        *ret_list = list;
    else
        token_list_fini(&list);
    return result;
}

int tokens_load(const char *folder, struct token_list *ret_list,
                struct key_stamp *ret_stamp, farpool_error *error)
{
    char path[4096], *text;
    size_t size;
    struct key_stamp stamp = {.size = 0};
    int result = key_path(folder, TOKENS_FILE, path, error);
    if (result != 0)
        return result;
    if (!key_stamp_of(path, &stamp) && errno == ENOENT) {
        *ret_list = (struct token_list){.items = NULL};
    } else {
        result = key_read(path, TOKENS_BYTES_MAX, &text, &size, &stamp, error);
        if (result != 0)
            return result;
        result = tokens_parse(text, size, path, ret_list, error);
        mem_free(text);
    }
    if (result == 0 && ret_stamp != NULL)
        *ret_stamp = stamp;
    return result;
}

bool tokens_changed(const char *folder, const struct key_stamp *stamp)
{
    static const struct key_stamp none;
    char path[4096];
    struct key_stamp found;
    if (key_path(folder, TOKENS_FILE, path, NULL) != 0)
        return true;
    if (!key_stamp_of(path, &found))
        found = none;
    return !key_stamp_equal(&found, stamp);
}

/* ----------------------------------------------------------------- writing */

char *tokens_print(const struct token_list *list, size_t *ret_size)
{
    const size_t room = sizeof head + list->count * LINE_BYTES_MAX;
    char *text = mem_alloc(room);
    if (text == NULL)
        return NULL;
    size_t size = (size_t)snprintf(text, room, "%s", head);
    for (size_t i = 0; i < list->count; i++) {
        const struct token_entry *token = &list->items[i];
        char key[KEY_TEXT_SIZE], made[WHEN_TEXT_SIZE], ends[WHEN_TEXT_SIZE];
        size += (size_t)snprintf(
            text + size, room - size, "%s %s %s %s %" PRIu32 "/%" PRIu32 " %s %s\n",
            token->id, key_text(&token->key, key), when_text(token->made_s, made),
            when_text(token->expires_s, ends), token->left, token->uses,
            token->ephemeral ? "ephemeral" : "lasting",
            token->revoked ? "revoked" : "live");
    }
    *ret_size = size;
    return text;
}

/* ------------------------------------------------------------------- meaning */

int64_t keys_end(const struct key_entry *entry, const struct token_list *tokens)
{
    int64_t end_s = entry->expires_s != 0 ? entry->expires_s : INT64_MAX;
    if (entry->token[0] == '\0')
        return end_s;
    const struct token_entry *token = tokens_find_id(tokens, entry->token);
    if (token == NULL || token->revoked)
        return INT64_MIN;
    return token->expires_s < end_s ? token->expires_s : end_s;
}

static void print_ago(int64_t seconds, char text[32])
{
    if (seconds < 120)
        snprintf(text, 32, "%d s", (int)seconds);
    else if (seconds < 7200)
        snprintf(text, 32, "%d min", (int)(seconds / 60));
    else
        snprintf(text, 32, "%" PRId64 " h", seconds / 3600);
}

const char *token_refusal(const struct token_entry *token, int64_t now_s, char text[256])
{
    static const char advice[] = "ask for a new one (farpool token)";
    char now[WHEN_TEXT_SIZE], then[WHEN_TEXT_SIZE], ago[32];
    if (token->revoked) {
        snprintf(text, 256, "the token %s was revoked: %s", token->id, advice);
    } else if (now_s < token->made_s - CLOCK_STEP_S) {
        snprintf(text, 256,
                 "the coordinator's clock says %s, but the token %s was made at %s: have "
                 "the clock of the coordinator's machine set right",
                 when_text(now_s, now), token->id, when_text(token->made_s, then));
    } else if (now_s >= token->expires_s) {
        print_ago(now_s - token->expires_s, ago);
        snprintf(text, 256,
                 "the token %s expired %s ago, at %s by the coordinator's clock, which "
                 "says %s: %s",
                 token->id, ago, when_text(token->expires_s, then), when_text(now_s, now),
                 advice);
    } else if (token->left == 0) {
        snprintf(text, 256,
                 "the token %s has been used by as many workers as it was made for "
                 "(%" PRIu32 "): ask for a new one, for more (farpool token --uses N)",
                 token->id, token->uses);
    } else {
        return NULL;
    }
    return text;
}
