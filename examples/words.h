/* SPDX-License-Identifier: Apache-2.0
 *
 * words.h: a table of words and how often each was seen, for wordcount.c. Nothing in it
 * is about Farpool. */
#ifndef EXAMPLES_WORDS_H
#define EXAMPLES_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 63 /* bytes */
#define HASH_BEGIN 2166136261u

struct word {
    uint64_t count;
    uint8_t length;
    char text[WORD_MAX]; /* lower case; only `length` bytes of it are there */
};

/* A hash table with open addressing; the words lie one behind the other, in the order in
 * which they were first seen. */
struct table {
    struct slot {
        uint32_t hash;
        uint32_t place; /* of the word, in units of 8 bytes, and 1; 0: free */
    } * slots;
    size_t capacity, count; /* of slots: a power of 2, and how many are taken */
    uint64_t *words;
    size_t used, room; /* of words, in units of 8 bytes */
    size_t text_bytes; /* of all words */
};

static void table_clear(struct table *table)
{
    if (table->capacity)
        memset(table->slots, 0, table->capacity * sizeof *table->slots);
    table->count = table->used = table->text_bytes = 0;
}

static void table_free(struct table *table)
{
    free(table->slots);
    free(table->words);
    *table = (struct table){.slots = NULL};
}

static size_t word_units(uint8_t length)
{
    return (offsetof(struct word, text) + length + 7) / 8;
}

static bool grow_slots(struct table *table)
{
    const size_t capacity = table->capacity ? 2 * table->capacity : 1024;
    struct slot *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < table->capacity; i++) {
        size_t at = table->slots[i].hash & (capacity - 1);
        while (table->slots[i].place && slots[at].place)
            at = (at + 1) & (capacity - 1);
        if (table->slots[i].place)
            slots[at] = table->slots[i];
    }
    free(table->slots);
    table->slots = slots;
    table->capacity = capacity;
    return true;
}

static bool grow_words(struct table *table)
{
    const size_t room = table->room ? 2 * table->room : 8192;
    uint64_t *words = realloc(table->words, room * sizeof *words);
    if (!words)
        return false;
    table->words = words;
    table->room = room;
    return true;
}

static struct word *word_at(const struct table *table, size_t place)
{
    return (struct word *)(void *)(table->words + place);
}

static bool add_word(struct table *table, const char *text, uint8_t length, uint32_t hash,
                     uint64_t count)
{
    if (2 * table->count >= table->capacity && !grow_slots(table))
        return false;
    if (table->used + word_units(WORD_MAX) > table->room && !grow_words(table))
        return false;
    size_t at = hash & (table->capacity - 1);
    for (struct slot *slot; (slot = &table->slots[at])->place;
         at = (at + 1) & (table->capacity - 1)) {
        struct word *word = word_at(table, slot->place - 1);
        if (slot->hash == hash && word->length == length &&
            memcmp(word->text, text, length) == 0) {
            word->count += count;
            return true;
        }
    }
    struct word *word = word_at(table, table->used);
    word->count = count;
    word->length = length;
    memcpy(word->text, text, length);
    table->slots[at] = (struct slot){hash, (uint32_t)table->used + 1};
    table->used += word_units(length);
    table->text_bytes += length;
    table->count++;
    return true;
}

/* The words one after the other, beginning with place 0; NULL at the end. */
static const struct word *next_word(const struct table *table, size_t *place)
{
    if (*place >= table->used)
        return NULL;
    const struct word *word = word_at(table, *place);
    *place += word_units(word->length);
    return word;
}

static uint32_t hash_letter(uint32_t hash, char c)
{
    return (hash ^ (uint8_t)c) * 16777619u; /* FNV-1a */
}

/* What words are made of, in lower case; 0: not of it. Bytes of UTF-8 count as letters.
 */
static char letter(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c & 0x80) ? c : '\0';
}

/* Longer words are cut. */
static bool count_text(struct table *table, const char *text, size_t size)
{
    char word[WORD_MAX];
    uint8_t length = 0;
    uint32_t hash = HASH_BEGIN;
    for (size_t i = 0; i <= size; i++) {
        const char c = i < size ? letter(text[i]) : '\0';
        if (c && length < WORD_MAX) {
            word[length++] = c;
            hash = hash_letter(hash, c);
        } else if (!c && length) {
            if (!add_word(table, word, length, hash, 1))
                return false;
            length = 0;
            hash = HASH_BEGIN;
        }
    }
    return true;
}

#endif
