/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_disk.c: the files of the program cache:
 *
 *     FOLDER/blobs/HASH[.x]        contents; .x: may be executed. Never changed
 *     FOLDER/programs/HASH/NAME    hard links to them (copies where links cannot be)
 *     FOLDER/tmp/...               what is being fetched, or removed
 *
 * Workers may share a folder: everything is made under a name of its own, and put in
 * place by rename, which replaces the same by the same. A program's folder is locked,
 * shared, while a worker has it open, so that cache_evict.c leaves it alone. A content is
 * believed only after it has been hashed (cache_blob.c); so a crash, a full disk or a bad
 * one leaves nothing that is executed by mistake. */
#include "common/base/error.h"
#include "common/sys/sys.h"
#include "worker/cache_internal.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OPEN_TRIES 8        /* of a folder that others remove meanwhile */
#define STALE_SECONDS 86400 /* what lies in tmp for so long is nobody's any more */

bool disk_path(char *path, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, CACHE_PATH_MAX, format, arguments);
    va_end(arguments);
    return length >= 0 && length < CACHE_PATH_MAX;
}

int disk_path_too_long(farpool_error *error)
{
    return error_set(error, FARPOOL_ESYSTEM, "a path in the program cache is too long");
}

/* What a failed call means: the disk is full, or anything else. */
int disk_fail(const struct disk *disk, const char *what, const char *path, uint64_t size,
              farpool_error *error)
{
    int number = errno;
    if (number == ENOSPC || number == EDQUOT)
        return error_set(
            error, FARPOOL_ENOSPACE,
            "no space left on node %s for %s (%llu bytes): %s; make room, or "
            "start the worker with another --cache",
            disk->node, path, (unsigned long long)size, strerror(number));
    return error_set(error, FARPOOL_ESYSTEM, "%s %s on node %s: %s", what, path,
                     disk->node, strerror(number));
}

/* ------------------------------------------------------------------- the folder */

static int make_folder(const struct disk *disk, const char *path, farpool_error *error)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return disk_fail(disk, "mkdir", path, 0, error);
}

/* As mkdir -p. */
static int make_folders(const struct disk *disk, char *path, farpool_error *error)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int result = make_folder(disk, path, error);
        *slash = '/';
        if (result != 0)
            return result;
    }
    return make_folder(disk, path, error);
}

static int choose_folder(const char *folder, char *path, farpool_error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool fits;
    if (folder != NULL)
        fits = disk_path(path, "%s", folder);
    else if (cache != NULL && cache[0] == '/')
        fits = disk_path(path, "%s/farpool", cache);
    else if (home != NULL && home[0] == '/')
        fits = disk_path(path, "%s/.cache/farpool", home);
    else
        return error_set(
            error, FARPOOL_ESYSTEM,
            "no folder for the program cache: neither XDG_CACHE_HOME nor HOME "
            "is set, and --cache is not given");
    if (!fits || path[0] == '\0')
        return disk_path_too_long(error);
    return 0;
}

/* Programs are started by absolute path, from any folder. */
static int make_absolute(char *path, farpool_error *error)
{
    char *real = realpath(path, NULL);
    bool fits = real != NULL && disk_path(path, "%s", real);
    free(real);
    return fits ? 0 : disk_path_too_long(error);
}

static int check_owner(const char *path, farpool_error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "stat %s: %s", path, strerror(errno));
    if (status.st_uid != geteuid() || (status.st_mode & 022) != 0)
        return error_set(
            error, FARPOOL_ESYSTEM,
            "the program cache %s must belong to this user and be writable by "
            "nobody else: what is in it is executed",
            path);
    return 0;
}

static void remove_stale(const char *folder)
{
    DIR *listing = opendir(folder);
    struct dirent *entry;
    time_t now = time(NULL);
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        struct stat status;
        if (entry->d_name[0] == '.' ||
            fstatat(dirfd(listing), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            status.st_mtime + STALE_SECONDS >= now)
            continue;
        if (S_ISREG(status.st_mode))
            unlinkat(dirfd(listing), entry->d_name, 0);
        else if (S_ISDIR(status.st_mode))
            disk_remove_folder(dirfd(listing), entry->d_name);
    }
    if (listing != NULL)
        closedir(listing);
}

int disk_open(struct disk *disk, const char *folder, farpool_error *error)
{
    static const char *const parts[] = {"blobs", "programs", "tmp"};
    char path[CACHE_PATH_MAX];
    int result = choose_folder(folder, disk->folder, error);
    if (result == 0)
        result = make_folders(disk, disk->folder, error);
    if (result == 0)
        result = make_absolute(disk->folder, error);
    if (result == 0)
        result = check_owner(disk->folder, error);
    for (size_t i = 0; result == 0 && i < sizeof parts / sizeof parts[0]; i++)
        result = disk_path(path, "%s/%s", disk->folder, parts[i])
                     ? make_folder(disk, path, error)
                     : disk_path_too_long(error);
    if (result == 0)
        remove_stale(path); /* tmp */
    return result;
}

/* --------------------------------------------------------------------- programs */

/* For file systems without hard links. 0 or -1 with errno. */
static int copy_file(const char *from, const char *to, mode_t mode)
{
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    ssize_t n = out < 0 ? -1 : 0;
    while (out >= 0 && (n = read(in, buffer, sizeof buffer)) > 0) {
        if (write(out, buffer, (size_t)n) != n) {
            n = -1;
            break;
        }
    }
    int number = errno;
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) != 0 && n == 0) {
        number = errno;
        n = -1;
    }
    errno = number;
    return n == 0 ? 0 : -1;
}

static bool same_file(const char *a, const char *b)
{
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && one.st_dev == two.st_dev &&
           one.st_ino == two.st_ino;
}

int disk_place_file(const struct disk *disk, const char *folder,
                    const struct msg_file *file, bool *ret_gone, farpool_error *error)
{
    char blob[CACHE_PATH_MAX], name[CACHE_PATH_MAX], temporary[CACHE_PATH_MAX];
    *ret_gone = false;
    if (!disk_blob_path(disk, file, blob) ||
        !disk_path(name, "%s/%s", folder, file->name) ||
        !disk_path(temporary, "%s/.farpool-%d-%016llx", folder, (int)getpid(),
                   (unsigned long long)sys_random()))
        return disk_path_too_long(error);
    if (same_file(blob, name))
        return 0;
    int failed = link(blob, temporary);
    if (failed != 0 && errno != ENOSPC && errno != ENOENT)
        failed = copy_file(blob, temporary, file->executable ? 0500 : 0400);
    if (failed == 0)
        failed = rename(temporary, name);
    if (failed == 0)
        return 0;
    *ret_gone = errno == ENOENT && access(blob, F_OK) != 0 && access(folder, F_OK) == 0;
    int result = *ret_gone ? 0 : disk_fail(disk, "link", name, file->size, error);
    unlink(temporary);
    return result;
}

/* Whether it is still what that path leads to: it may have been renamed before the lock.
 */
static bool is_in_place(int fd, const char *path)
{
    struct stat own, there;
    return fstat(fd, &own) == 0 && stat(path, &there) == 0 &&
           own.st_ino == there.st_ino && own.st_dev == there.st_dev;
}

int disk_open_program(const struct disk *disk, const struct hash *program,
                      char *ret_folder, int *ret_fd, farpool_error *error)
{
    char hash[65];
    if (!disk_path(ret_folder, "%s/programs/%s", disk->folder, hash_text(program, hash)))
        return disk_path_too_long(error);
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        int result = make_folder(disk, ret_folder, error);
        if (result != 0)
            return result;
        *ret_fd = open(ret_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (*ret_fd < 0 && errno != ENOENT)
            return disk_fail(disk, "open", ret_folder, 0, error);
        /* Where nothing can be locked, nothing is removed either: see cache_evict.c. */
        if (*ret_fd >= 0)
            flock(*ret_fd, LOCK_SH);
        if (*ret_fd >= 0 && is_in_place(*ret_fd, ret_folder)) {
            futimens(*ret_fd, NULL); /* used now */
            return 0;
        }
        if (*ret_fd >= 0)
            close(*ret_fd);
        *ret_fd = -1;
    }
    errno = EBUSY;
    return disk_fail(disk, "open", ret_folder, 0, error);
}

/* ---------------------------------------------------------------------- machine */

struct machine {
    uint8_t class, data;
    uint16_t number;
};

/* false: cannot be read, or is no ELF file. */
static bool read_machine(const char *path, struct machine *ret_machine)
{
    uint8_t head[20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, head, sizeof head);
    close(fd);
    if (n != (ssize_t)sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0)
        return false;
    bool big = head[EI_DATA] == ELFDATA2MSB;
    ret_machine->class = head[EI_CLASS];
    ret_machine->data = head[EI_DATA];
    ret_machine->number =
        (uint16_t)(big ? head[18] << 8 | head[19] : head[19] << 8 | head[18]);
    return true;
}

static const char *machine_name(uint16_t number)
{
    static const struct {
        uint16_t number;
        const char *name;
    } names[] = {{EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i386"},
                 {EM_ARM, "arm"},       {EM_RISCV, "riscv"},     {EM_PPC64, "ppc64"},
                 {EM_S390, "s390"},     {EM_MIPS, "mips"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].number == number)
            return names[i].name;
    }
    return "another machine";
}

int disk_check_machine(const struct disk *disk, const struct msg_file *file,
                       farpool_error *error)
{
    char path[CACHE_PATH_MAX], own[32];
    struct machine program, here;
    if (!disk_blob_path(disk, file, path))
        return disk_path_too_long(error);
    if (!read_machine(path, &program) || !read_machine("/proc/self/exe", &here))
        return 0; /* a script: what runs it is found when it is started */
    if (program.class == here.class && program.data == here.data &&
        program.number == here.number)
        return 0;
    return error_set(error, FARPOOL_EMACHINE,
                     "%s is built for %s (%s-bit, ELF machine %u), and node %s is %s",
                     file->name, machine_name(program.number),
                     program.class == ELFCLASS64 ? "64" : "32", program.number,
                     disk->node, sys_machine(own, sizeof own));
}
