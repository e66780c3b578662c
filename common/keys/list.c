/* SPDX-License-Identifier: Apache-2.0
 *
 * list.c: the coordinator's folder and its list of keys. The list is always whole: it is
 * written beside itself and renamed over, and those who change it take turns by a lock on
 * the folder. A line that is not understood makes the whole list one that is refused: to
 * skip it could mean to let somebody in under a name that was to be taken away. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define BLANKS " \t\r"

static const char list_head[] =
    "# ROLE NAME PUBLICKEY, one key a line; see farpool keys\n";

void key_list_fini(struct key_list *list)
{
    mem_free(list->items);
    *list = (struct key_list){.items = NULL};
}

const struct holder *keys_find(const struct key_list *list, const struct hash *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (hash_equal(&list->items[i].key, key))
            return &list->items[i];
    return NULL;
}

const struct holder *keys_find_name(const struct key_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    return NULL;
}

/* ----------------------------------------------------------------- reading */

static int append(struct key_list *list, const struct holder *holder,
                  farpool_error *error)
{
    if (!mem_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items))
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %zu keys",
                         list->count + 1);
    list->items[list->count++] = *holder;
    return 0;
}

/* A line without its end, cut in place. 0, or what is wrong with it. */
static const char *read_line(char *line, const struct key_list *list,
                             struct holder *ret_holder)
{
    char *rest = NULL, *role = strtok_r(line, BLANKS, &rest);
    char *name = strtok_r(NULL, BLANKS, &rest), *key = strtok_r(NULL, BLANKS, &rest);
    *ret_holder = (struct holder){.role = key_role_parse(role)};
    if (ret_holder->role == HOLDER_NONE)
        return "the role is not client, worker or admin";
    if (name == NULL || !key_name_valid(name))
        return "the name is not 1 to 63 letters, digits, _ . -";
    if (key == NULL || !key_parse(key, &ret_holder->key))
        return "the public key is not 40 characters of Z85";
    if (strtok_r(NULL, BLANKS, &rest) != NULL)
        return "something follows the public key";
    if (list->count >= KEYS_MAX)
        return "one key too many";
    if (keys_find_name(list, name) != NULL)
        return "the name is there already";
    if (keys_find(list, &ret_holder->key) != NULL)
        return "the key is there already";
    snprintf(ret_holder->name, sizeof ret_holder->name, "%s", name);
    return NULL;
}

static int read_lines(char *text, const char *where, struct key_list *list,
                      farpool_error *error)
{
    unsigned number = 0;
    char *line = text, *next;
    for (; line != NULL; line = next) {
        struct holder holder;
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        number++;
        line += strspn(line, BLANKS);
        if (*line == '\0' || *line == '#')
            continue;
        const char *wrong = read_line(line, list, &holder);
        if (wrong != NULL)
            return error_set(error, FARPOOL_EKEY, "%s, line %u: %s", where, number,
                             wrong);
        const int result = append(list, &holder, error);
        if (result != 0)
            return result;
    }
    return 0;
}

int keys_parse(const char *text, size_t size, const char *where,
               struct key_list *ret_list, farpool_error *error)
{
    struct key_list list = {.items = NULL};
    if (memchr(text, '\0', size) != NULL)
        return error_set(error, FARPOOL_EKEY, "%s is not a text", where);
    char *copy = mem_alloc(size + 1);
    if (copy == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %s", where);
    memcpy(copy, text, size);
    const int result = read_lines(copy, where, &list, error);
    mem_free(copy);
    if (result == 0)
        *ret_list = list;
    else
        key_list_fini(&list);
    return result;
}

int keys_load(const char *folder, struct key_list *ret_list, struct key_stamp *ret_stamp,
              farpool_error *error)
{
    char path[4096], *text;
    size_t size;
    struct key_stamp stamp;
    int result = key_check_folder(folder, error);
    if (result == 0)
        result = key_path(folder, LIST_FILE, path, error);
    if (result == 0)
        result = key_read(path, LIST_BYTES_MAX, &text, &size, &stamp, error);
    if (result != 0)
        return result;
    result = keys_parse(text, size, path, ret_list, error);
    mem_free(text);
    if (result == 0 && ret_stamp != NULL)
        *ret_stamp = stamp;
    return result;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool keys_changed(const char *folder, const struct key_stamp *stamp)
{
    char path[4096];
    struct stat found;
    if (key_path(folder, LIST_FILE, path, NULL) != 0 || stat(path, &found) != 0)
        return true;
    return found.st_dev != stamp->device || found.st_ino != stamp->inode ||
           found.st_size != stamp->size || !same_time(&found.st_ctim, &stamp->changed) ||
           !same_time(&found.st_mtim, &stamp->modified);
}

int keys_load_own(const char *folder, struct key_file *ret_file, farpool_error *error)
{
    char path[4096];
    struct key_file file;
    int result = key_check_folder(folder, error);
    if (result == 0)
        result = key_path(folder, OWN_FILE, path, error);
    if (result == 0)
        result = key_load(path, &file, error);
    if (result != 0)
        return result;
    if (file.holder.role != HOLDER_COORDINATOR)
        result = error_set(error, FARPOOL_EKEY, "%s is the key of a %s", path,
                           holder_role_name(file.holder.role));
    else
        *ret_file = file;
    key_wipe(&file);
    return result;
}

/* ---------------------------------------------------------------- changing */

/* The folder, locked until it is closed. */
static int lock_folder(const char *folder, int *ret_fd, farpool_error *error)
{
    const int result = key_check_folder(folder, error);
    if (result != 0)
        return result;
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        error_set(error, FARPOOL_ESYSTEM, "cannot lock %s: %s", folder, strerror(errno));
        if (fd >= 0)
            close(fd);
        return FARPOOL_ESYSTEM;
    }
    *ret_fd = fd;
    return 0;
}

static int replace(const char *folder, int folder_fd, const char *text, size_t size,
                   farpool_error *error)
{
    char path[4096], fresh[4096];
    int result = key_path(folder, LIST_FILE, path, error);
    if (result == 0)
        result = key_path(folder, LIST_FILE ".new", fresh, error);
    if (result != 0)
        return result;
    unlink(fresh); /* of one that was killed: we have the lock */
    result = key_write(fresh, text, size, error);
    if (result == 0 && (rename(fresh, path) != 0 || fsync(folder_fd) != 0))
        result = error_set(error, FARPOOL_ESYSTEM, "cannot replace %s: %s", path,
                           strerror(errno));
    return result;
}

int keys_init(const char *folder, farpool_error *error)
{
    struct key_file file;
    char path[4096];
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return error_set(error, FARPOOL_ESYSTEM, "cannot make %s: %s", folder,
                         strerror(errno));
    int fd, result = lock_folder(folder, &fd, error);
    if (result != 0)
        return result;
    result = key_path(folder, OWN_FILE, path, error);
    if (result == 0)
        result = key_make(HOLDER_COORDINATOR, "coordinator", &file, error);
    if (result == 0) {
        file.server = file.holder.key;
        result = key_save(path, &file, error);
        key_wipe(&file);
    }
    if (result == 0)
        result = replace(folder, fd, list_head, strlen(list_head), error);
    close(fd);
    return result;
}

/* The list's text, which is known to be good. */
static int read_list(const char *folder, struct key_list *list, char **ret_text,
                     size_t *ret_size, farpool_error *error)
{
    char path[4096];
    int result = key_path(folder, LIST_FILE, path, error);
    if (result == 0)
        result = key_read(path, LIST_BYTES_MAX, ret_text, ret_size, NULL, error);
    if (result != 0)
        return result;
    result = keys_parse(*ret_text, *ret_size, path, list, error);
    if (result != 0)
        mem_free(*ret_text);
    return result;
}

static int add_line(const char *folder, int fd, const struct holder *holder,
                    const char *text, size_t size, farpool_error *error)
{
    char key[KEY_TEXT_SIZE];
    const size_t room = size + 128 + HOLDER_NAME_MAX;
    char *longer = mem_alloc(room);
    if (longer == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for the list");
    const bool open_end = size > 0 && text[size - 1] != '\n';
    const int length = snprintf(longer, room, "%s%s%s %s %s\n", text,
                                open_end ? "\n" : "", holder_role_name(holder->role),
                                holder->name, key_text(&holder->key, key));
    const int result = replace(folder, fd, longer, (size_t)length, error);
    mem_free(longer);
    return result;
}

static int add(const char *folder, int fd, struct key_file *file, const char *out,
               farpool_error *error)
{
    struct key_list list = {.items = NULL};
    char *text;
    size_t size;
    int result = read_list(folder, &list, &text, &size, error);
    if (result != 0)
        return result;
    if (keys_find_name(&list, file->holder.name) != NULL)
        result = error_set(error, FARPOOL_EKEY,
                           "%s has a key named \"%s\" already: revoke it first, or take "
                           "another name",
                           folder, file->holder.name);
    else
        result = key_save(out, file, error);
    if (result == 0) {
        result = add_line(folder, fd, &file->holder, text, size, error);
        if (result != 0)
            unlink(out);
    }
    key_list_fini(&list);
    mem_free(text);
    return result;
}

int keys_add(const char *folder, enum holder_role role, const char *name, const char *out,
             farpool_error *error)
{
    struct key_file own, file;
    int fd, result = key_make(role, name, &file, error);
    if (result != 0)
        return result;
    result = keys_load_own(folder, &own, error);
    if (result == 0) {
        file.server = own.holder.key;
        key_wipe(&own);
        result = lock_folder(folder, &fd, error);
    }
    if (result == 0) {
        result = add(folder, fd, &file, out, error);
        close(fd);
    }
    key_wipe(&file);
    return result;
}

/* Takes the lines of a name out of a list's text, in place; the new size. */
static size_t cut_name(char *text, size_t size, const char *name)
{
    size_t kept = 0, at = 0;
    while (at < size) {
        const char *end = memchr(text + at, '\n', size - at);
        const size_t length = end == NULL ? size - at : (size_t)(end - text) - at + 1;
        char role[16], found[HOLDER_NAME_MAX + 2];
        char line[256] = "";
        memcpy(line, text + at, length < sizeof line ? length : sizeof line - 1);
        const bool his = line[strspn(line, BLANKS)] != '#' &&
                         sscanf(line, " %15s %64s", role, found) == 2 &&
                         strcmp(found, name) == 0;
        if (!his) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        at += length;
    }
    return kept;
}

int keys_revoke(const char *folder, const char *name, farpool_error *error)
{
    struct key_list list = {.items = NULL};
    char *text;
    size_t size;
    int fd, result = lock_folder(folder, &fd, error);
    if (result != 0)
        return result;
    result = read_list(folder, &list, &text, &size, error);
    if (result == 0) {
        if (keys_find_name(&list, name) == NULL)
            result = error_set(error, FARPOOL_EKEY, "%s has no key named \"%.80s\"",
                               folder, name);
        else
            result = replace(folder, fd, text, cut_name(text, size, name), error);
        mem_free(text);
    }
    key_list_fini(&list);
    close(fd);
    return result;
}
