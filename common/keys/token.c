/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: a join token as one line:
 *
 *     farpool-join-1.SERVER.SECRET.ADDRESS.CHECK
 *
 * SERVER and SECRET are 32 bytes in base64url; ADDRESS is as it is, but that _ stands for
 * the brackets around an IPv6 host; CHECK is the CRC-32 of all before it: a line that was
 * cut short or mistyped is told as such, and not dialled. No shell sees more in it than a
 * word. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define HEAD "farpool-join-1."
#define FAMILY "farpool-join-"
#define KEY_DIGITS 43 /* 32 bytes */
#define CHECK_DIGITS 8
#define TOKEN_FILE_BYTES_MAX 4096
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static const char digits[] = LETTERS "-_";
static const char blanks[] = " \t\r\n";

/* ------------------------------------------------------------------- coding */

static void print_bytes(const uint8_t bytes[32], char text[KEY_DIGITS + 1])
{
    uint32_t bits = 0;
    unsigned count = 0;
    char *at = text;
    for (size_t i = 0; i < 32; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6)
            *at++ = digits[bits >> (count - 6) & 63u];
    }
    *at++ = digits[bits << (6 - count) & 63u];
    *at = '\0';
}

static bool parse_bytes(const char *text, uint8_t ret_bytes[32])
{
    uint32_t bits = 0;
    unsigned count = 0;
    size_t made = 0;
    for (size_t i = 0; i < KEY_DIGITS; i++) {
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        count += 6;
        if (count >= 8)
            ret_bytes[made++] = (uint8_t)(bits >> (count -= 8));
    }
    return (bits & ((1u << count) - 1u)) == 0; /* one text for one key */
}

static uint32_t checksum(const char *text, size_t size)
{
    uint32_t sum = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        sum ^= (uint8_t)text[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1u ? UINT32_C(0xedb88320) : 0);
    }
    return ~sum;
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
    snprintf(text + size, TOKEN_TEXT_SIZE - (size_t)size, ".%08x",
             (unsigned)checksum(text, (size_t)size));
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
    snprintf(sum, sizeof sum, "%08x", (unsigned)checksum(text, size - CHECK_DIGITS - 1));
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
