/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: a join token as one line:
 *
 *     farpool-join-1.SERVER.SECRET.ADDRESS.CHECK
 *
 * SERVER and SECRET are 32 bytes in base64url; ADDRESS is as it is, but that _ stands for
 * the brackets around an IPv6 host; CHECK is 32 bits of the BLAKE2b of all before it: a
 * line that was cut short or mistyped is told as such, and not dialled. No shell sees
 * more in it than a word. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define HEAD "farpool-join-1."
#define FAMILY "farpool-join-"
#define KEY_DIGITS 43 /* 32 bytes */
#define CHECK_DIGITS 8
#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define TOKEN_FILE_BYTES_MAX 4096
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static const char blanks[] = " \t\r\n";

/* ------------------------------------------------------------------- coding */

static void print_bytes(const uint8_t bytes[32], char text[KEY_DIGITS + 1])
{
    sodium_bin2base64(text, KEY_DIGITS + 1, bytes, 32, BASE64);
}

static bool parse_bytes(const char *text, uint8_t ret_bytes[32])
{
    size_t size = 0;
    return sodium_base642bin(ret_bytes, 32, text, KEY_DIGITS, NULL, &size, NULL,
                             BASE64) == 0 &&
           size == 32;
}

/* The first bytes of BLAKE2b-128 of the text. */
static void find_check(const char *text, size_t size, char ret_check[CHECK_DIGITS + 1])
{
    unsigned char hash[crypto_generichash_blake2b_BYTES_MIN];
    crypto_generichash_blake2b(hash, sizeof hash, (const unsigned char *)text, size, NULL,
                               0);
    sodium_bin2hex(ret_check, CHECK_DIGITS + 1, hash, CHECK_DIGITS / 2);
}

static bool find_public(const uint8_t secret[32], struct hash *ret_key)
{
    char secret_text[KEY_TEXT_SIZE], public_text[KEY_TEXT_SIZE];
    const bool found = zmq_z85_encode(secret_text, secret, 32) != NULL &&
                       zmq_curve_public(public_text, secret_text) == 0 &&
                       key_parse(public_text, ret_key);
    explicit_bzero(secret_text, sizeof secret_text);
    return found;
}

/* The other brackets of an IPv6 host: `from` to `to`, in place. */
static void change_brackets(char *address, const char from[2], const char to[2])
{
    char *open = strstr(address, "://");
    char *close = open != NULL ? strrchr(address, ':') : NULL;
    if (open == NULL || close <= open + 4 || open[3] != from[0] || close[-1] != from[1] ||
        memchr(open + 4, ':', (size_t)(close - open) - 4) == NULL)
        return;
    open[3] = to[0];
    close[-1] = to[1];
}

/* --------------------------------------------------------------------- tokens */

int token_make(const char *address, const struct hash *server, struct token *ret_token,
               farpool_error *error)
{
    struct token token = {.server = *server};
    struct key_file pair;
    if (strlen(address) > TOKEN_ADDRESS_MAX)
        return error_set(error, FARPOOL_EADDRESS,
                         "an address of %zu bytes does not fit into a token (limit: %d)",
                         strlen(address), TOKEN_ADDRESS_MAX);
    snprintf(token.address, sizeof token.address, "%s", address);
    change_brackets(token.address, "[]", "__");
    const size_t good = strspn(token.address, LETTERS "._-:/");
    if (token.address[good] != '\0')
        return error_set(error, FARPOOL_EADDRESS,
                         "%s: a token carries addresses of letters, digits and . _ - : / "
                         "only, not '%c'",
                         address, token.address[good]);
    const int result = key_make(HOLDER_WORKER, "token", &pair, error);
    if (result != 0)
        return result;
    snprintf(token.address, sizeof token.address, "%s", address);
    token.key = pair.holder.key;
    memcpy(token.secret, pair.secret, sizeof token.secret);
    key_wipe(&pair);
    *ret_token = token;
    token_wipe(&token);
    return 0;
}

void token_print(const struct token *token, char text[TOKEN_TEXT_SIZE])
{
    char server[KEY_DIGITS + 1], secret[KEY_DIGITS + 1];
    char address[TOKEN_ADDRESS_MAX + 1];
    print_bytes(token->server.bytes, server);
    print_bytes(token->secret, secret);
    snprintf(address, sizeof address, "%s", token->address);
    change_brackets(address, "[]", "__");
    const int size =
        snprintf(text, TOKEN_TEXT_SIZE, HEAD "%s.%s.%s", server, secret, address);
    find_check(text, (size_t)size, text + size + 1);
    text[size] = '.';
    explicit_bzero(secret, sizeof secret);
}

/* A line without blanks around it: NULL, or what is wrong. */
static const char *read_token(const char *text, size_t size, struct token *token)
{
    const size_t least = strlen(HEAD) + 2 * (KEY_DIGITS + 1) + 1 + CHECK_DIGITS;
    const char *server = text + strlen(HEAD), *secret = server + KEY_DIGITS + 1;
    const char *address = secret + KEY_DIGITS + 1;
    char sum[CHECK_DIGITS + 1];
    if (strncmp(text, FAMILY, strlen(FAMILY)) != 0)
        return "it does not begin with " FAMILY "1.";
    if (strncmp(text, HEAD, strlen(HEAD)) != 0)
        return "it is of another version than " FAMILY "1";
    if (size <= least || size >= TOKEN_TEXT_SIZE)
        return "it is not whole: paste all of the line";
    find_check(text, size - CHECK_DIGITS - 1, sum);
    if (text[size - CHECK_DIGITS - 1] != '.' ||
        memcmp(text + size - CHECK_DIGITS, sum, CHECK_DIGITS) != 0)
        return "it is not whole, or mistyped: paste all of the line";
    const size_t length = size - least;
    if (server[KEY_DIGITS] != '.' || secret[KEY_DIGITS] != '.' ||
        !parse_bytes(server, token->server.bytes) ||
        !parse_bytes(secret, token->secret) || !find_public(token->secret, &token->key) ||
        length > TOKEN_ADDRESS_MAX)
        return "its parts are not those of a token";
    memcpy(token->address, address, length);
    token->address[length] = '\0';
    change_brackets(token->address, "__", "[]");
    return NULL;
}

int token_parse(const char *text, struct token *ret_token, farpool_error *error)
{
    struct token token = {.address = ""};
    text += strspn(text, blanks);
    const size_t size = strcspn(text, blanks);
    const char *wrong = "it is empty";
    if (text[size + strspn(text + size, blanks)] != '\0')
        wrong = "there is more than one word";
    else if (size > 0)
        wrong = read_token(text, size, &token);
    if (wrong == NULL)
        *ret_token = token;
    token_wipe(&token);
    return wrong == NULL
               ? 0
               : error_set(error, FARPOOL_EINVAL, "not a join token: %s", wrong);
}

int token_load(const char *path, struct token *ret_token, farpool_error *error)
{
    char *text;
    size_t size;
    farpool_error why;
    int result = key_read(path, TOKEN_FILE_BYTES_MAX, &text, &size, NULL, error);
    if (result != 0)
        return result;
    result = token_parse(memchr(text, '\0', size) == NULL ? text : "", ret_token, &why);
    if (result != 0)
        error_set(error, result, "%s: %s", path, why.text);
    explicit_bzero(text, size);
    mem_free(text);
    return result;
}

void token_wipe(struct token *token)
{
    explicit_bzero(token->secret, sizeof token->secret);
}

char *token_id(const struct hash *key, char id[TOKEN_ID_SIZE + 1])
{
    for (size_t i = 0; i < TOKEN_ID_SIZE / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", (unsigned)key->bytes[i]);
    return id;
}

bool token_id_valid(const char *id)
{
    return strlen(id) == TOKEN_ID_SIZE && strspn(id, "0123456789abcdef") == TOKEN_ID_SIZE;
}
