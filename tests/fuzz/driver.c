/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c: the main of a fuzz target in builds without libFuzzer, so that every build
 * runs it as a test:
 *
 *     fuzz_NAME [-m mutations] [-s seed] [-o number] [file or folder ...]
 *
 * runs every file (in order of names), then that many mutations of them, which follow
 * from the seed. When one of them ends the program, its number is told, and -o runs that
 * one alone. Without any file the mutations are of an empty input. This looks for what
 * has broken since; to look for what nobody has thought of, use the preset fuzz. */
#include "common/base/id.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUTS_MAX 4096
#define INPUT_BYTES_MAX 65536
#define CHANGES_MAX 8

struct input {
    char name[256];
    uint8_t *bytes;
    size_t size;
};

static struct input inputs[INPUTS_MAX];
static size_t inputs_count;
static char running[512]; /* what a crash is to be told as */

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* ----------------------------------------------------------------- crash */

static void tell(void)
{
    const ssize_t written = write(STDERR_FILENO, running, strlen(running));
    (void)written;
}

static void on_signal(int number)
{
    tell();
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_for_crashes(void)
{
    signal(SIGABRT, on_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(tell);
        return;
    }
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        signal(numbers[i], on_signal);
}

/* ---------------------------------------------------------------- inputs */

static _Noreturn void give_up(const char *what, const char *name)
{
    fprintf(stderr, "%s: %s\n", what, name);
    exit(2);
}

static void read_input(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        give_up("cannot be read", path);
    if (inputs_count == INPUTS_MAX)
        give_up("too many inputs at", path);
    struct input *input = &inputs[inputs_count++];
    snprintf(input->name, sizeof input->name, "%s", path);
    input->bytes = malloc(INPUT_BYTES_MAX);
    if (!input->bytes)
        give_up("out of memory at", path);
    input->size = fread(input->bytes, 1, INPUT_BYTES_MAX, file);
    fclose(file);
}

static void read_folder(const char *path)
{
    struct dirent **entries;
    const int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        give_up("cannot be read", path);
    for (int i = 0; i < count; i++) {
        char name[1024];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            read_input(name);
        free(entries[i]);
    }
    free(entries);
}

static void read_path(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        read_folder(path);
    else
        read_input(path);
}

/* In memory of exactly its size, so that a sanitizer sees a byte too far. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        give_up("out of memory", "");
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* ------------------------------------------------------------- mutations */

struct mutation {
    uint8_t bytes[INPUT_BYTES_MAX];
    size_t size;
    uint64_t rng;
};

static void remove_bytes(struct mutation *mutation, size_t at)
{
    const size_t count = 1 + rng_below(&mutation->rng, mutation->size - at);
    memmove(mutation->bytes + at, mutation->bytes + at + count,
            mutation->size - at - count);
    mutation->size -= count;
}

static void insert_bytes(struct mutation *mutation, size_t at, const uint8_t *bytes,
                         size_t count)
{
    if (count > INPUT_BYTES_MAX - mutation->size)
        return;
    memmove(mutation->bytes + at + count, mutation->bytes + at, mutation->size - at);
    memcpy(mutation->bytes + at, bytes, count);
    mutation->size += count;
}

/* A piece of some input goes in between. */
static void insert_piece(struct mutation *mutation, size_t at)
{
    if (!inputs_count)
        return;
    const struct input *input = &inputs[rng_below(&mutation->rng, inputs_count)];
    if (!input->size)
        return;
    const size_t from = rng_below(&mutation->rng, input->size);
    insert_bytes(mutation, at, input->bytes + from,
                 1 + rng_below(&mutation->rng, input->size - from));
}

static void change(struct mutation *mutation)
{
    static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0x90, 0xc0, 0xcf, 0xdd, 0xff};
    uint64_t *rng = &mutation->rng;
    const size_t at = mutation->size ? rng_below(rng, mutation->size) : 0;
    uint8_t fresh[16];
    for (size_t i = 0; i < sizeof fresh; i++)
        fresh[i] = (uint8_t)rng_next(rng);
    const uint64_t way = mutation->size ? rng_below(rng, 8) : 6;
    if (way < 2)
        mutation->bytes[at] ^= (uint8_t)(1u << rng_below(rng, 8));
    else if (way == 2)
        mutation->bytes[at] = telling[rng_below(rng, sizeof telling)];
    else if (way == 3)
        mutation->bytes[at] = fresh[0];
    else if (way == 4)
        mutation->bytes[at] = (uint8_t)(mutation->bytes[at] + rng_below(rng, 9) - 4);
    else if (way == 5)
        remove_bytes(mutation, at);
    else if (way == 6)
        insert_bytes(mutation, at, fresh, 1 + rng_below(rng, sizeof fresh));
    else
        insert_piece(mutation, at);
}

static void run_mutation(uint64_t seed, uint64_t number)
{
    static struct mutation mutation;
    mutation.rng = seed;
    mutation.rng = rng_next(&mutation.rng) ^ number;
    mutation.size = 0;
    if (inputs_count) {
        const struct input *input = &inputs[rng_below(&mutation.rng, inputs_count)];
        mutation.size = input->size;
        memcpy(mutation.bytes, input->bytes, input->size);
    }
    const uint64_t changes = 1 + rng_below(&mutation.rng, CHANGES_MAX);
    for (uint64_t i = 0; i < changes; i++)
        change(&mutation);
    run(mutation.bytes, mutation.size);
}

int main(int argc, char **argv)
{
    uint64_t mutations = 0, seed = 1, only = UINT64_MAX;
    for (int option; (option = getopt(argc, argv, "m:s:o:")) != -1;) {
        if (option == '?')
            return 2;
        *(option == 'm'   ? &mutations
          : option == 's' ? &seed
                          : &only) = strtoull(optarg, NULL, 0);
    }
    for (int i = optind; i < argc; i++)
        read_path(argv[i]);
    watch_for_crashes();
    for (size_t i = 0; i < inputs_count && only == UINT64_MAX; i++) {
        snprintf(running, sizeof running, "\ncrashed by %.255s\n", inputs[i].name);
        run(inputs[i].bytes, inputs[i].size);
    }
    for (uint64_t i = 0; i < mutations || i == only; i++) {
        if (only != UINT64_MAX)
            i = only;
        snprintf(running, sizeof running,
                 "\ncrashed by mutation %" PRIu64 ": %s -s %" PRIu64 " -o %" PRIu64
                 " and the same inputs run it alone\n",
                 i, argv[0], seed, i);
        run_mutation(seed, i);
        if (i == only)
            break;
    }
    printf("%zu inputs, %" PRIu64 " mutations of seed %" PRIu64 "\n", inputs_count,
           mutations, seed);
    for (size_t i = 0; i < inputs_count; i++)
        free(inputs[i].bytes);
    return 0;
}
