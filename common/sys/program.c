/* SPDX-License-Identifier: Apache-2.0
 *
 * program.c: the hash that names a program. The byte string is told in program.h; it
 * carries lengths and counts, so that no two lists give the same bytes. Whether the
 * files have the contents that the list says is not asked here. */
#include "common/sys/program.h"

#include <sodium.h>

static void add_number(crypto_generichash_blake2b_state *state, uint64_t value, int bytes)
{
    unsigned char text[8];
    for (int i = 0; i < bytes; i++)
        text[i] = (unsigned char)(value >> (8 * i));
    crypto_generichash_blake2b_update(state, text, (unsigned long long)bytes);
}

static void add_file(crypto_generichash_blake2b_state *state, const struct msg_file *file)
{
    size_t length = strlen(file->name);
    add_number(state, length, 4);
    crypto_generichash_blake2b_update(state, (const unsigned char *)file->name, length);
    crypto_generichash_blake2b_update(state, file->content.bytes, sizeof file->content);
    add_number(state, file->size, 8);
    add_number(state, file->executable ? 1 : 0, 1);
}

void sys_hash_program(const struct msg_file *files, uint32_t count, struct hash *ret_hash)
{
    static const char title[] = "farpool program 1\n";
    crypto_generichash_blake2b_state state;
    crypto_generichash_blake2b_init(&state, NULL, 0, sizeof ret_hash->bytes);
    crypto_generichash_blake2b_update(&state, (const unsigned char *)title,
                                      sizeof title - 1);
    add_number(&state, count, 4);
    for (uint32_t i = 0; i < count; i++)
        add_file(&state, &files[i]);
    crypto_generichash_blake2b_final(&state, ret_hash->bytes, sizeof ret_hash->bytes);
}
