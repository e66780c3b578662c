/* SPDX-License-Identifier: Apache-2.0
 *
 * wordcount.c: counts the words of many files.
 *
 *     wordcount /usr/share/doc                 on the cores of this machine
 *     find . -name '*.c' | wordcount           the files that stdin names
 *     wordcount --coordinator tcp://127.0.0.1:5764 /usr/share/doc
 *
 * A task is a batch of whole files. Nodes share no file system, so a task's input is the
 * files' text, which next_batch() reads when the pool asks for more, and not before: this
 * works with more text than there is memory. A task's output is a table of its words,
 * which main adds to its own as the tables come, in whatever order. Farpool needs no
 * batches, as it sends and runs small tasks many at a time: they are here because one
 * table of many files is much less to add up than a table of each. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "progress.h"
#include "words.h"

#include <farpool.h>

#include <ftw.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ------------------------------------------------- what runs in the processes */

/* A task's input is a uint32_t, how many files these are, and their text; its output is
 * the same number, and its words. A word: its count, its length, and its letters. */
#define HEADER_BYTES sizeof(uint32_t)
#define RECORD_BYTES (sizeof(uint32_t) + 1)

static int count_words(farpool_task *task)
{
    static struct table table; /* its memory serves all tasks of the process */
    size_t size;
    const char *input = farpool_task_input(task, &size);
    table_clear(&table);
    if (!count_text(&table, input + HEADER_BYTES, size - HEADER_BYTES))
        return farpool_fail(task, "out of memory at %zu words", table.count);
    char *output = farpool_task_output(task, HEADER_BYTES + table.count * RECORD_BYTES +
                                                 table.text_bytes);
    if (!output)
        return -1; /* Farpool has noted why */
    memcpy(output, input, HEADER_BYTES);
    output += HEADER_BYTES;
    size_t place = 0;
    for (const struct word *word; (word = next_word(&table, &place));) {
        const uint32_t count = (uint32_t)word->count;
        memcpy(output, &count, sizeof count);
        output[sizeof count] = (char)word->length;
        memcpy(output + RECORD_BYTES, word->text, word->length);
        output += RECORD_BYTES + word->length;
    }
    return 0;
}
FARPOOL_BYTES_FUNCTION(count_words)

/* ---------------------------------------------------------- what runs in main */

#define BATCH_BYTES (256u * 1024) /* of text, and the rest of the last file */

struct files {
    char **paths;
    size_t count, capacity, next;
    size_t unread;     /* could not be read */
    size_t counted;    /* whose words are in main's table */
    char *batch;       /* the input of the task that is being made */
    size_t size, room; /* bytes */
    uint64_t bytes;    /* read in all */
};

static struct files files; /* nftw passes nothing along */

static void add_path(const char *path)
{
    if (files.count == files.capacity) {
        files.capacity = files.capacity ? 2 * files.capacity : 1024;
        files.paths = realloc(files.paths, files.capacity * sizeof *files.paths);
    }
    char *copy = files.paths ? strdup(path) : NULL;
    if (!copy) {
        fputs("wordcount: out of memory\n", stderr);
        exit(1);
    }
    files.paths[files.count++] = copy;
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)place;
    if (type == FTW_F && S_ISREG(status->st_mode))
        add_path(path);
    return 0;
}

static void add_paths_of(FILE *list)
{
    char *line = NULL;
    size_t room = 0;
    for (ssize_t length; (length = getline(&line, &room, list)) > 0;) {
        if (line[length - 1] == '\n')
            line[--length] = '\0';
        if (length)
            add_path(line);
    }
    free(line);
}

static bool make_room(size_t bytes)
{
    if (files.room - files.size >= bytes)
        return true;
    const size_t room = 2 * files.room + bytes;
    char *batch = realloc(files.batch, room);
    if (batch) {
        files.batch = batch;
        files.room = room;
    }
    return batch != NULL;
}

/* Adds the file's text to the batch, or nothing. */
static bool add_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    const size_t begin = files.size;
    size_t more = 1;
    while (more && make_room(65536)) {
        more = fread(files.batch + files.size, 1, files.room - files.size - 1, file);
        files.size += more;
    }
    const bool good = feof(file) != 0;
    fclose(file);
    if (good) {
        files.bytes += files.size - begin;
        files.batch[files.size++] = '\n'; /* no word runs on into the next file */
    } else {
        files.size = begin;
    }
    return good;
}

/* The text of the next files; what cannot be read is left out. */
static int next_batch(void *user, farpool_bytes *ret_item, char message[256])
{
    (void)user;
    uint32_t count = 0;
    files.size = 0;
    if (!make_room(BATCH_BYTES)) {
        snprintf(message, 256, "no memory for the text of files");
        return -1;
    }
    files.size = HEADER_BYTES;
    while (files.next < files.count && files.size < BATCH_BYTES) {
        if (add_file(files.paths[files.next++]))
            count++;
        else
            files.unread++;
    }
    memcpy(files.batch, &count, HEADER_BYTES);
    *ret_item = (farpool_bytes){files.batch, files.size};
    return count ? 0 : FARPOOL_END;
}

static bool merge(struct table *table, const char *data, size_t size)
{
    const char *end = data + size;
    uint32_t counted;
    memcpy(&counted, data, HEADER_BYTES);
    files.counted += counted;
    data += HEADER_BYTES;
    while (data < end) {
        uint32_t count, hash = HASH_BEGIN;
        memcpy(&count, data, sizeof count);
        const uint8_t length = (uint8_t)data[sizeof count];
        data += RECORD_BYTES;
        for (uint8_t i = 0; i < length; i++)
            hash = hash_letter(hash, data[i]);
        if (!add_word(table, data, length, hash, count))
            return false;
        data += length;
    }
    return true;
}

/* Takes results until there are no more; files that failed are told and left out. */
static int take_results(farpool_iterator *results, struct progress *progress,
                        struct table *table, farpool_error *error)
{
    for (;;) {
        farpool_bytes output;
        uint64_t index;
        const int code = farpool_next(results, 100, &output, &index, error);
        if (code == FARPOOL_END)
            return 0;
        if (code == 0 && !merge(table, output.data, output.size))
            return FARPOOL_ENOMEM;
        if (code && code != FARPOOL_ETIMEDOUT) {
            if (error->index == FARPOOL_NO_INDEX)
                return code;
            fprintf(stderr, "wordcount: a batch of files was not counted: %s\n",
                    error->text);
        }
        progress_show(progress, (double)(files.counted + files.unread), files.count);
    }
}

static int count_in_pool(farpool_pool *pool, struct progress *progress,
                         struct table *table, farpool_error *error)
{
    farpool_iterator *results = farpool_imap_unordered(pool, FARPOOL_REF(count_words),
                                                       next_batch, NULL, NULL, error);
    if (!results)
        return error->code;
    const int code = take_results(results, progress, table, error);
    farpool_iterator_free(results);
    return code;
}

static int count_serially(struct progress *progress, struct table *table)
{
    farpool_bytes item;
    char message[256];
    while (next_batch(NULL, &item, message) == 0) {
        if (!count_text(table, (const char *)item.data + HEADER_BYTES,
                        item.size - HEADER_BYTES))
            return FARPOOL_ENOMEM;
        progress_show(progress, (double)files.next, files.count);
    }
    return 0;
}

/* ------------------------------------------------------------------- printing */

static int by_text(const void *a, const void *b)
{
    const struct word *x = *(const struct word *const *)a,
                      *y = *(const struct word *const *)b;
    const int order =
        memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (int)x->length - (int)y->length;
}

static int by_count(const void *a, const void *b)
{
    const struct word *x = *(const struct word *const *)a,
                      *y = *(const struct word *const *)b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return by_text(a, b);
}

/* The words in order; to be freed. */
static const struct word **sorted(const struct table *table,
                                  int (*compare)(const void *, const void *))
{
    const struct word **words = malloc((table->count + 1) * sizeof(const struct word *));
    size_t count = 0, place = 0;
    while (words && (words[count] = next_word(table, &place)))
        count++;
    if (words)
        qsort(words, count, sizeof(const struct word *), compare);
    return words;
}

static void print_top(const struct table *table, size_t top)
{
    const struct word **words = sorted(table, by_count);
    char number[32];
    for (size_t i = 0; words && i < top && i < table->count; i++)
        printf("%14s  %.*s\n", progress_number(words[i]->count, number), words[i]->length,
               words[i]->text);
    free(words);
}

/* One number that tells whether two runs counted the same: FNV-1a over the words in
 * order, and their counts. */
static uint64_t digest_of(const struct table *table)
{
    const struct word **words = sorted(table, by_text);
    uint64_t digest = 14695981039346656037u;
    for (size_t i = 0; words && i < table->count; i++) {
        char line[WORD_MAX + 32];
        const int size = snprintf(line, sizeof line, "%.*s %llu\n", words[i]->length,
                                  words[i]->text, (unsigned long long)words[i]->count);
        for (int byte = 0; byte < size; byte++)
            digest = (digest ^ (uint8_t)line[byte]) * 1099511628211u;
    }
    free(words);
    return digest;
}

static void print_totals(const struct table *table, double seconds)
{
    uint64_t words = 0;
    size_t place = 0;
    for (const struct word *word; (word = next_word(table, &place));)
        words += word->count;
    const uint64_t counted = files.count - files.unread;
    char a[32], b[32], c[32], d[32], unread[64];
    printf("%s words, %s different, in %s files of %s KiB\n", progress_number(words, a),
           progress_number(table->count, b), progress_number(counted, c),
           progress_number(files.bytes >> 10, d));
    printf("%.2f s, %s files/s, %.1f MiB/s", seconds,
           progress_number((uint64_t)((double)counted / seconds), a),
           (double)files.bytes / seconds / 1048576);
    if (files.unread)
        printf(", %s not read", progress_count(files.unread, "file", "files", unread));
}

static void print_pool(const farpool_pool_info *info)
{
    char tasks[64], processes[64], nodes[64];
    printf(": %s in %s on %s%s\n",
           progress_count(info->tasks_done, "task", "tasks", tasks),
           progress_count(info->processes, "process", "processes", processes),
           progress_count(info->nodes, "node", "nodes", nodes),
           info->embedded ? " (embedded)" : "");
}

/* ----------------------------------------------------------------------- main */

struct settings {
    const char *coordinator;
    farpool_pool_options pool;
    size_t top;
    bool serial, progress, digest, check;
};

/* Fills the table, and *ret_info if a pool did it. */
static int count_all(const struct settings *settings, struct table *table,
                     double *ret_seconds, farpool_pool_info *ret_info)
{
    struct progress progress = progress_begin("files", settings->progress);
    farpool_error error = {.text = "out of memory"};
    int code;
    if (settings->serial) {
        code = count_serially(&progress, table);
    } else {
        farpool_pool *pool = farpool_open(settings->coordinator, &settings->pool, &error);
        code = pool ? count_in_pool(pool, &progress, table, &error) : error.code;
        if (!code) {
            farpool_pool_get_info(pool, ret_info, NULL);
            farpool_close(pool, NULL);
        }
        farpool_pool_free(pool);
    }
    *ret_seconds = progress_end(&progress);
    if (code)
        fprintf(stderr, "wordcount: %s\n", error.text);
    return code;
}

/* Counts again, without a pool. */
static bool is_the_same(const struct settings *settings, uint64_t digest)
{
    struct settings serial = *settings;
    struct table table = {.slots = NULL};
    double seconds;
    serial.serial = true;
    files.next = files.unread = files.counted = files.bytes = 0;
    const bool same =
        count_all(&serial, &table, &seconds, NULL) == 0 && digest_of(&table) == digest;
    printf("counted again without a pool in %.2f s: %s\n", seconds,
           same ? "the same" : "NOT THE SAME");
    table_free(&table);
    return same;
}

static int run(const struct settings *settings)
{
    struct table table = {.slots = NULL};
    farpool_pool_info info = {.nodes = 0};
    double seconds;
    int result = count_all(settings, &table, &seconds, &info) ? 1 : 0;
    if (!result) {
        print_top(&table, settings->top);
        print_totals(&table, seconds);
        if (settings->serial)
            printf(": without a pool\n");
        else
            print_pool(&info);
        const uint64_t digest = digest_of(&table);
        if (settings->digest)
            printf("digest %016llx\n", (unsigned long long)digest);
        if (settings->check && !is_the_same(settings, digest))
            result = 1;
    }
    table_free(&table);
    return result;
}

static int usage(int status)
{
    fputs("usage: wordcount [OPTION...] [FOLDER|FILE...]\n"
          "Counts the words of all files there, or of those whose names stdin lists.\n"
          "  --coordinator ADDRESS  on a cluster, as tcp://127.0.0.1:5764\n"
          "  --processes N          at most so many\n"
          "  --serial               without a pool\n"
          "  --check                also without a pool, and compare\n"
          "  --top N                print so many words (10)\n"
          "  --digest               print a number that depends on every count\n"
          "  --progress             show progress also where stderr is no terminal\n",
          status ? stderr : stdout);
    return status;
}

static bool read_options(int argc, char **argv, struct settings *settings,
                         int *ret_status)
{
    static const struct option options[] = {{"coordinator", required_argument, NULL, 'c'},
                                            {"processes", required_argument, NULL, 'n'},
                                            {"serial", no_argument, NULL, 's'},
                                            {"check", no_argument, NULL, 'k'},
                                            {"top", required_argument, NULL, 't'},
                                            {"digest", no_argument, NULL, 'd'},
                                            {"progress", no_argument, NULL, 'p'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            settings->coordinator = optarg;
            break;
        case 'n':
            settings->pool.processes = atoll(optarg);
            break;
        case 's':
            settings->serial = true;
            break;
        case 'k':
            settings->check = true;
            break;
        case 't':
            settings->top = (size_t)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            settings->digest = true;
            break;
        case 'p':
            settings->progress = true;
            break;
        default:
            *ret_status = usage(option == 'h' ? 0 : 2);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    farpool_init(&argc, &argv);
    struct settings settings = {.pool = FARPOOL_POOL_OPTIONS, .top = 10};
    int status = 0;
    if (!read_options(argc, argv, &settings, &status))
        return status;
    if (optind == argc && isatty(STDIN_FILENO))
        return usage(2);
    if (optind == argc)
        add_paths_of(stdin);
    for (int i = optind; i < argc; i++)
        if (nftw(argv[i], visit, 64, FTW_PHYS) != 0)
            perror(argv[i]);
    status = run(&settings);
    while (files.count)
        free(files.paths[--files.count]);
    free(files.paths);
    free(files.batch);
    return status;
}
