/* SPDX-License-Identifier: Apache-2.0
 *
 * folder.c: the coordinator's folder of keys and how it changes. Each file is always
 * whole: it is written beside itself and renamed over, and those who change one take
 * turns by a lock on the folder. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char list_head[] =
    "# ROLE NAME PUBLICKEY, one key a line; see farpool keys\n";

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

static int lock(int fd, bool wait)
{
    int result;
    do
        result = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    while (result != 0 && errno == EINTR);
    return result;
}

int folder_lock(const char *folder, bool wait, int *ret_fd, farpool_error *error)
{
    const int result = key_check_folder(folder, error);
    if (result != 0)
        return result;
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && lock(fd, wait) == 0) {
        *ret_fd = fd;
        return 0;
    }
    const int reason = errno;
    if (fd >= 0)
        close(fd);
    if (reason == EWOULDBLOCK) {
        error_set(error, FARPOOL_ENOTREADY, "another process has %s locked", folder);
        return FARPOOL_ENOTREADY;
    }
    error_set(error, FARPOOL_ESYSTEM, "cannot lock %s: %s", folder, strerror(reason));
    return FARPOOL_ESYSTEM;
}

int folder_replace(const char *folder, int folder_fd, const char *file, const char *text,
                   size_t size, farpool_error *error)
{
    char path[4096], fresh[4096 + 8];
    int result = key_path(folder, file, path, error);
    if (result != 0)
        return result;
    snprintf(fresh, sizeof fresh, "%s.new", path);
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
    int fd, result = folder_lock(folder, true, &fd, error);
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
        result =
            folder_replace(folder, fd, LIST_FILE, list_head, strlen(list_head), error);
    close(fd);
    return result;
}

/* A new key with its file, in place of whatever was cut: with the folder locked. */
static int add_pair(const char *folder, int fd, struct edit *edit,
                    const struct key_file *file, const char *out, farpool_error *error)
{
    const struct key_entry entry = {.holder = file->holder};
    int result = edit_add(edit, &entry, error);
    if (result == 0)
        result = key_save(out, file, error);
    if (result == 0) {
        result = edit_save(folder, fd, edit, error);
        if (result != 0)
            unlink(out);
    }
    return result;
}

/* A pair with the coordinator's public key. */
static int make_pair(const char *folder, enum holder_role role, const char *name,
                     struct key_file *ret_file, farpool_error *error)
{
    struct key_file own;
    int result = key_make(role, name, ret_file, error);
    if (result != 0)
        return result;
    result = keys_load_own(folder, &own, error);
    if (result == 0) {
        ret_file->server = own.holder.key;
        key_wipe(&own);
    } else {
        key_wipe(ret_file);
    }
    return result;
}

int keys_add(const char *folder, enum holder_role role, const char *name, const char *out,
             farpool_error *error)
{
    struct key_file file;
    struct edit edit = {.text = NULL};
    int fd, result = make_pair(folder, role, name, &file, error);
    if (result != 0)
        return result;
    result = folder_lock(folder, true, &fd, error);
    if (result == 0) {
        result = edit_load(folder, &edit, error);
        if (result == 0 && keys_find_name(&edit.list, name) != NULL)
            result = error_set(error, FARPOOL_EKEY,
                               "%s has a key named \"%s\" already: revoke it first, or "
                               "take another name",
                               folder, name);
        if (result == 0)
            result = add_pair(folder, fd, &edit, &file, out, error);
        edit_fini(&edit);
        close(fd);
    }
    key_wipe(&file);
    return result;
}

static bool has_name(const struct key_entry *entry, const void *name)
{
    return strcmp(entry->holder.name, name) == 0;
}

int keys_revoke(const char *folder, const char *name, farpool_error *error)
{
    struct edit edit = {.text = NULL};
    int fd, result = folder_lock(folder, true, &fd, error);
    if (result != 0)
        return result;
    result = edit_load(folder, &edit, error);
    if (result == 0 && keys_find_name(&edit.list, name) == NULL)
        result =
            error_set(error, FARPOOL_EKEY, "%s has no key named \"%.80s\"", folder, name);
    if (result == 0) {
        edit_cut(&edit, has_name, name);
        result = edit_save(folder, fd, &edit, error);
    }
    edit_fini(&edit);
    close(fd);
    return result;
}

/* ---------------------------------------------------------------- rotating */

static bool has_key(const struct key_entry *entry, const void *key)
{
    return hash_equal(&entry->holder.key, key);
}

/* The key that a name has, without those that it had before. */
static int find_present(const char *folder, const struct edit *edit, const char *name,
                        struct key_entry *ret_entry, farpool_error *error)
{
    const struct key_entry *found = NULL;
    for (size_t i = 0; i < edit->list.count; i++)
        if (has_name(&edit->list.items[i], name) && edit->list.items[i].expires_s == 0)
            found = &edit->list.items[i];
    if (found == NULL)
        return error_set(error, FARPOOL_EKEY, "%s has no key named \"%.80s\"%s", folder,
                         name,
                         keys_find_name(&edit->list, name) != NULL
                             ? " but one that runs out: revoke it, and add another"
                             : "");
    if (found->token[0] != '\0')
        return error_set(error, FARPOOL_EKEY,
                         "\"%s\" ends with the token %s, and is not replaced: let it "
                         "join anew",
                         name, found->token);
    *ret_entry = *found;
    return 0;
}

static int rotate(const char *folder, int fd, const char *name, const char *out,
                  int64_t end_s, farpool_error *error)
{
    struct edit edit = {.text = NULL};
    struct key_entry old = {.expires_s = 0};
    struct key_file file;
    int result = edit_load(folder, &edit, error);
    if (result == 0)
        result = find_present(folder, &edit, name, &old, error);
    if (result == 0)
        result = make_pair(folder, old.holder.role, name, &file, error);
    if (result == 0) {
        edit_cut(&edit, has_key, &old.holder.key);
        old.expires_s = end_s;
        if (end_s != 0)
            result = edit_add(&edit, &old, error);
        if (result == 0)
            result = add_pair(folder, fd, &edit, &file, out, error);
        key_wipe(&file);
    }
    edit_fini(&edit);
    return result;
}

int keys_rotate(const char *folder, const char *name, const char *out, int64_t overlap_s,
                int64_t now_s, farpool_error *error)
{
    int fd, result = folder_lock(folder, true, &fd, error);
    if (result != 0)
        return result;
    result = rotate(folder, fd, name, out, overlap_s > 0 ? now_s + overlap_s : 0, error);
    close(fd);
    return result;
}
