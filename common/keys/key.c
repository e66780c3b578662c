/* SPDX-License-Identifier: Apache-2.0
 *
 * key.c: keys, their text, and the file that one holder has:
 *
 *     farpool-key 1
 *     role client
 *     name anna
 *     public <Z85>
 *     secret <Z85>
 *     server <Z85>
 *     address tcp://head:5764        (only of those that joined by a token)
 *
 * Each field once, in any order; an unknown one is an error, so that a newer file is not
 * half understood. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define VERSION_LINE "farpool-key 1"
#define NAME_RULE "1 to 63 letters, digits, _ . - are wanted"

bool key_name_valid(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    const size_t length = strlen(name);
    return length >= 1 && length <= HOLDER_NAME_MAX && strspn(name, allowed) == length;
}

enum holder_role key_role_parse(const char *word)
{
    static const enum holder_role roles[] = {HOLDER_CLIENT, HOLDER_WORKER, HOLDER_ADMIN};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(word, holder_role_name(roles[i])) == 0)
            return roles[i];
    return HOLDER_NONE;
}

char *key_text(const struct hash *key, char text[KEY_TEXT_SIZE])
{
    return zmq_z85_encode(text, key->bytes, sizeof key->bytes);
}

bool key_parse(const char *text, struct hash *ret_key)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS"
                                 "TUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    struct hash key;
    char again[KEY_TEXT_SIZE];
    if (strlen(text) != KEY_TEXT_SIZE - 1 || strspn(text, digits) != KEY_TEXT_SIZE - 1 ||
        zmq_z85_decode(key.bytes, text) == NULL)
        return false;
    /* Five digits can be more than four bytes hold. */
    const bool exact = strcmp(key_text(&key, again), text) == 0;
    if (exact)
        *ret_key = key;
    explicit_bzero(again, sizeof again);
    explicit_bzero(&key, sizeof key);
    return exact;
}

int key_make(enum holder_role role, const char *name, struct key_file *ret_file,
             farpool_error *error)
{
    char public_text[KEY_TEXT_SIZE], secret_text[KEY_TEXT_SIZE];
    struct key_file file = {.holder = {.role = role}};
    struct hash secret;
    if (!key_name_valid(name))
        return error_set(error, FARPOOL_EINVAL,
                         "\"%.80s\" is no name of a key: " NAME_RULE, name);
    snprintf(file.holder.name, sizeof file.holder.name, "%s", name);
    if (zmq_curve_keypair(public_text, secret_text) != 0 ||
        !key_parse(public_text, &file.holder.key) || !key_parse(secret_text, &secret))
        return error_set(error, FARPOOL_ESYSTEM, "cannot make a key: %s",
                         "ZeroMQ is built without CURVE");
    memcpy(file.secret, secret.bytes, sizeof file.secret);
    explicit_bzero(&secret, sizeof secret);
    explicit_bzero(secret_text, sizeof secret_text);
    *ret_file = file;
    key_wipe(&file);
    return 0;
}

void key_wipe(struct key_file *file)
{
    explicit_bzero(file->secret, sizeof file->secret);
}

/* ----------------------------------------------------------------- reading */

enum field {
    FIELD_ROLE,
    FIELD_NAME,
    FIELD_PUBLIC,
    FIELD_SECRET,
    FIELD_SERVER,
    FIELD_ADDRESS, /* and what may be missing */
    FIELDS
};
static const char *const field_names[FIELDS] = {"role",   "name",   "public",
                                                "secret", "server", "address"};

static bool take_role(const char *value, struct key_file *file)
{
    file->holder.role = strcmp(value, holder_role_name(HOLDER_COORDINATOR)) == 0
                            ? HOLDER_COORDINATOR
                            : key_role_parse(value);
    return file->holder.role != HOLDER_NONE;
}

static bool take_secret(const char *value, struct key_file *file)
{
    struct hash secret;
    const bool good = key_parse(value, &secret);
    if (good)
        memcpy(file->secret, secret.bytes, sizeof file->secret);
    explicit_bzero(&secret, sizeof secret);
    return good;
}

static bool take_address(const char *value, struct key_file *file)
{
    const size_t length = strlen(value);
    if (length == 0 || length > TOKEN_ADDRESS_MAX || strcspn(value, " \t\r") != length)
        return false;
    memcpy(file->address, value, length + 1);
    return true;
}

static bool take_field(enum field field, const char *value, struct key_file *file)
{
    switch (field) {
    case FIELD_ROLE:
        return take_role(value, file);
    case FIELD_NAME:
        snprintf(file->holder.name, sizeof file->holder.name, "%s", value);
        return key_name_valid(value);
    case FIELD_PUBLIC:
        return key_parse(value, &file->holder.key);
    case FIELD_SECRET:
        return take_secret(value, file);
    case FIELD_SERVER:
        return key_parse(value, &file->server);
    case FIELD_ADDRESS:
        return take_address(value, file);
    case FIELDS:
        break;
    }
    return false;
}

/* One `field value`; the value is not told in errors, it may be the secret. */
static int take_line(char *line, unsigned number, const char *path, bool seen[FIELDS],
                     struct key_file *file, farpool_error *error)
{
    char *value = strchr(line, ' ');
    if (value != NULL)
        *value++ = '\0';
    for (enum field field = 0; field < FIELDS; field++) {
        if (strcmp(line, field_names[field]) != 0)
            continue;
        if (seen[field])
            return error_set(error, FARPOOL_EKEY, "%s, line %u: a second \"%s\"", path,
                             number, field_names[field]);
        seen[field] = true;
        if (value == NULL || !take_field(field, value, file))
            return error_set(error, FARPOOL_EKEY, "%s, line %u: not a valid \"%s\"", path,
                             number, field_names[field]);
        return 0;
    }
    return error_set(error, FARPOOL_EKEY, "%s, line %u: no field of a key file", path,
                     number);
}

/* That the public key is the secret's, checked by making it again. */
static bool is_pair(const struct key_file *file)
{
    struct hash secret, key;
    char secret_text[KEY_TEXT_SIZE], public_text[KEY_TEXT_SIZE];
    memcpy(secret.bytes, file->secret, sizeof secret.bytes);
    const bool same =
        zmq_curve_public(public_text, key_text(&secret, secret_text)) == 0 &&
        key_parse(public_text, &key) && hash_equal(&key, &file->holder.key);
    explicit_bzero(&secret, sizeof secret);
    explicit_bzero(secret_text, sizeof secret_text);
    return same;
}

static int read_text(char *text, size_t size, const char *path, struct key_file *file,
                     farpool_error *error)
{
    bool seen[FIELDS] = {false};
    unsigned number = 0;
    char *line = text, *next;
    if (memchr(text, '\0', size) != NULL)
        return error_set(error, FARPOOL_EKEY, "%s is not a text", path);
    for (; line != NULL && *line != '\0'; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        number++;
        if (number == 1 && strcmp(line, VERSION_LINE) != 0)
            return error_set(error, FARPOOL_EKEY, "%s, line 1: \"%s\" is wanted", path,
                             VERSION_LINE);
        int result = 0;
        if (number > 1)
            result = take_line(line, number, path, seen, file, error);
        if (result != 0)
            return result;
    }
    for (enum field field = 0; field < FIELD_ADDRESS; field++)
        if (!seen[field])
            return error_set(error, FARPOOL_EKEY, "%s: \"%s\" is missing", path,
                             number == 0 ? VERSION_LINE : field_names[field]);
    if (!is_pair(file))
        return error_set(error, FARPOOL_EKEY,
                         "%s: the public key is not that of the secret one", path);
    return 0;
}

int key_load(const char *path, struct key_file *ret_file, farpool_error *error)
{
    struct key_file file = {.holder = {.role = HOLDER_NONE}};
    char *text;
    size_t size;
    int result = key_read(path, KEY_FILE_BYTES_MAX, &text, &size, NULL, error);
    if (result != 0)
        return result;
    result = read_text(text, size, path, &file, error);
    explicit_bzero(text, size);
    mem_free(text);
    if (result == 0)
        *ret_file = file;
    key_wipe(&file);
    return result;
}

int key_save(const char *path, const struct key_file *file, farpool_error *error)
{
    char text[KEY_FILE_BYTES_MAX], public_text[KEY_TEXT_SIZE], secret_text[KEY_TEXT_SIZE],
        server_text[KEY_TEXT_SIZE];
    struct hash secret;
    memcpy(secret.bytes, file->secret, sizeof secret.bytes);
    const bool located = file->address[0] != '\0';
    const int size = snprintf(
        text, sizeof text,
        VERSION_LINE "\nrole %s\nname %s\npublic %s\nsecret %s\nserver %s\n%s%s%s",
        holder_role_name(file->holder.role), file->holder.name,
        key_text(&file->holder.key, public_text), key_text(&secret, secret_text),
        key_text(&file->server, server_text), located ? "address " : "", file->address,
        located ? "\n" : "");
    const int result = key_write(path, text, (size_t)size, error);
    explicit_bzero(text, sizeof text);
    explicit_bzero(&secret, sizeof secret);
    explicit_bzero(secret_text, sizeof secret_text);
    return result;
}
