/* SPDX-License-Identifier: Apache-2.0
 *
 * up_worker.c: the worker's executable that goes to the nodes: the one that needs no
 * libraries but glibc, where it was built; else the usual one. Named by its content, so
 * that a node gets each version once, and two users of a folder never different ones. */
#include "cli/up.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE_MAX_BYTES = 256 << 20 };

/* Beside this command, as built or as installed. */
static bool find(char *path)
{
    static const char *const places[] = {"../lib/farpool/farpool-worker",
                                         "alone/farpool-worker", "farpool-worker"};
    char own[UP_PATH_MAX - 64];
    const ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length <= 0)
        return up_fail("cannot find this command's own folder: %s", strerror(errno));
    own[length] = '\0';
    char *slash = strrchr(own, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, UP_PATH_MAX, "%s/%s", own, places[i]);
        if (access(path, X_OK) == 0)
            return true;
    }
    return up_fail("no farpool-worker beside this command, in %s: name one by --worker",
                   own);
}

static const char *machine_of(const struct up_worker *worker)
{
    Elf64_Ehdr head;
    if (worker->size < sizeof head || memcmp(worker->data, ELFMAG, SELFMAG) != 0)
        return NULL;
    memcpy(&head, worker->data, sizeof head);
    switch (head.e_machine) {
    case EM_X86_64:
        return "x86_64";
    case EM_AARCH64:
        return "aarch64";
    case EM_RISCV:
        return "riscv64";
    case EM_PPC64:
        return "ppc64le";
    default:
        return "";
    }
}

static bool read_all(struct up_worker *worker)
{
    struct stat about;
    const int fd = open(worker->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        const int code = errno;
        if (fd >= 0)
            close(fd);
        return up_fail("%s: %s", worker->path, strerror(code));
    }
    worker->data = about.st_size > 0 && about.st_size <= SIZE_MAX_BYTES
                       ? malloc((size_t)about.st_size)
                       : NULL;
    ssize_t got = 1;
    while (worker->data && worker->size < (size_t)about.st_size &&
           (got = read(fd, worker->data + worker->size,
                       (size_t)about.st_size - worker->size)) > 0)
        worker->size += (size_t)got;
    close(fd);
    if (!worker->data || worker->size != (size_t)about.st_size)
        return up_fail("%s cannot be read as a whole", worker->path);
    return true;
}

bool up_worker_open(const char *asked, struct up_worker *ret_worker)
{
    struct up_worker worker = {.data = NULL};
    unsigned char hash[crypto_hash_sha256_BYTES];
    if (asked)
        snprintf(worker.path, sizeof worker.path, "%s", asked);
    else if (!find(worker.path))
        return false;
    if (!read_all(&worker)) {
        free(worker.data);
        return false;
    }
    const char *machine = machine_of(&worker);
    if (!machine) {
        up_fail("%s is not a Linux executable", worker.path);
        free(worker.data);
        return false;
    }
    snprintf(worker.machine, sizeof worker.machine, "%s", machine);
    crypto_hash_sha256(hash, (const unsigned char *)worker.data, worker.size);
    sodium_bin2hex(worker.hash, sizeof worker.hash, hash, sizeof hash);
    *ret_worker = worker;
    return true;
}

void up_worker_close(struct up_worker *worker)
{
    free(worker->data);
    worker->data = NULL;
}
