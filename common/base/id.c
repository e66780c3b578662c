/* SPDX-License-Identifier: Apache-2.0
 *
 * id.c: ids and hashes as text, and the random sequence of the cores. Nothing here is
 * for secrets: ids that must not be guessed are drawn by the shells (common/sys). */
#include "common/base/id.h"

static char *hex(const uint8_t *bytes, size_t count, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = 0;
    return text;
}

char *id_text(const struct id *id, char text[33])
{
    return hex(id->bytes, sizeof id->bytes, text);
}

char *hash_text(const struct hash *hash, char text[65])
{
    return hex(hash->bytes, sizeof hash->bytes, text);
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

bool hash_parse(const char *text, struct hash *ret_hash)
{
    struct hash hash;
    for (size_t i = 0; i < sizeof hash.bytes; i++) {
        const int high = digit_value(text[2 * i]);
        const int low = high < 0 ? -1 : digit_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        hash.bytes[i] = (uint8_t)(high * 16 + low);
    }
    if (text[2 * sizeof hash.bytes])
        return false;
    *ret_hash = hash;
    return true;
}

uint64_t rng_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rng_below(uint64_t *state, uint64_t bound)
{
    /* 2^64 is seldom a multiple of bound: the values below the remainder are drawn again,
     * so that none is more likely than another. */
    const uint64_t remainder = (0 - bound) % bound;
    uint64_t value;
    do {
        value = rng_next(state);
    } while (value < remainder);
    return value % bound;
}
