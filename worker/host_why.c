/* SPDX-License-Identifier: Apache-2.0
 *
 * host_why.c: finding words for why a program did not become a process of a pool:
 * another machine, a missing library or loader, no Farpool program, a failing
 * initializer. Looks at the file, at what the dynamic loader said on stderr, and at how
 * far the process had come. */
#include "worker/host_internal.h"

#include "common/base/error.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct {
    uint16_t number;
    const char *name;
} machines[] = {
    {EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i386"},  {EM_ARM, "arm"},
    {EM_PPC64, "ppc64"},   {EM_RISCV, "riscv"},     {EM_S390, "s390"}, {EM_MIPS, "mips"},
};

static const char *machine_name(uint16_t number)
{
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        if (machines[i].number == number)
            return machines[i].name;
    return "another machine";
}

/* The head of an ELF file; false: it is none. Class and byte order are this machine's
 * wherever the rest is looked at. */
static bool read_elf(int fd, Elf64_Ehdr *ret_header)
{
    Elf64_Ehdr header;
    if (pread(fd, &header, sizeof header, 0) != sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    *ret_header = header;
    return true;
}

static bool own_elf(Elf64_Ehdr *ret_header)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    bool read = fd >= 0 && read_elf(fd, ret_header);
    if (fd >= 0)
        close(fd);
    return read;
}

/* The dynamic loader that a program names, "" if none. */
static void read_loader(int fd, const Elf64_Ehdr *header, char *name, size_t size)
{
    name[0] = '\0';
    for (unsigned i = 0; i < header->e_phnum && i < 64; i++) {
        Elf64_Phdr part;
        off_t at = (off_t)(header->e_phoff + i * sizeof part);
        if (pread(fd, &part, sizeof part, at) != sizeof part || part.p_type != PT_INTERP)
            continue;
        ssize_t got = pread(fd, name, size - 1, (off_t)part.p_offset);
        name[got < 0 ? 0 : got] = '\0';
        return;
    }
}

static int why_from_file(int fd, const char *path, int number, char *text, size_t size)
{
    Elf64_Ehdr header, own;
    char loader[256];
    if (!read_elf(fd, &header) || !own_elf(&own)) {
        snprintf(text, size, "cannot start %s: %s", path, strerror(number));
        return FARPOOL_EPROGRAM;
    }
    if (header.e_machine != own.e_machine) {
        snprintf(text, size, "%s is built for %s, this node is %s", path,
                 machine_name(header.e_machine), machine_name(own.e_machine));
        return FARPOOL_EMACHINE;
    }
    if (number == ENOENT && header.e_ident[EI_CLASS] == own.e_ident[EI_CLASS]) {
        read_loader(fd, &header, loader, sizeof loader);
        if (loader[0] != '\0' && access(loader, F_OK) != 0) {
            snprintf(text, size, "%s needs %s, which is not on this node", path, loader);
            return FARPOOL_ELIBRARY;
        }
    }
    snprintf(text, size, "cannot start %s: %s", path, strerror(number));
    return FARPOOL_EPROGRAM;
}

int host_system_error(farpool_error *error, int number, const char *what)
{
    struct rlimit limit;
    if (number == EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0)
        return error_set(error, FARPOOL_ENOFILES,
                         "%s: %s (this process may have %llu: ulimit -n)", what,
                         strerror(number), (unsigned long long)limit.rlim_cur);
    int code = number == EMFILE || number == ENFILE ? FARPOOL_ENOFILES
               : number == ENOMEM                   ? FARPOOL_ENOMEM
                                                    : FARPOOL_ESYSTEM;
    return error_set(error, code, "%s: %s", what, strerror(number));
}

int host_why_not_started(const char *path, int error_number, char *text, size_t size)
{
    int fd = error_number == ENOEXEC || error_number == ENOENT
                 ? open(path, O_RDONLY | O_CLOEXEC)
                 : -1;
    if (fd >= 0) {
        int code = why_from_file(fd, path, error_number, text, size);
        close(fd);
        return code;
    }
    snprintf(text, size, "cannot start %s: %s", path, strerror(error_number));
    farpool_error error;
    if (error_number == EAGAIN || error_number == ENOMEM || error_number == EMFILE ||
        error_number == ENFILE)
        return host_system_error(&error, error_number, text);
    return FARPOOL_EPROGRAM;
}

/* The dynamic loader's own words: "PROGRAM: error while loading shared libraries:
 * libx.so.1: cannot open shared object file: No such file or directory". */
static bool library_missing(const struct host_process *process, char *text, size_t size)
{
    const char *mark = "error while loading shared libraries: ";
    const char *found = strstr(process->stderr_text, mark);
    if (found == NULL)
        found = strstr(process->stderr_text, mark = "symbol lookup error: ");
    if (found == NULL)
        return false;
    found += strlen(mark);
    snprintf(text, size, "%s: %.*s", process->program, (int)strcspn(found, "\n"), found);
    return true;
}

static void describe_end(int exit_status, int signal, char *text, size_t size)
{
    if (signal != 0)
        snprintf(text, size, "was ended by signal %d (%s)", signal, strsignal(signal));
    else if (exit_status >= 0)
        snprintf(text, size, "exited with status %d", exit_status);
    else
        snprintf(text, size, "ended");
}

static const char *last_line(const struct host_process *process, int *ret_length)
{
    const char *text = process->stderr_text;
    size_t end = process->stderr_bytes;
    while (end > 0 && text[end - 1] == '\n')
        end--;
    size_t begin = end;
    while (begin > 0 && text[begin - 1] != '\n')
        begin--;
    *ret_length = (int)(end - begin);
    return text + begin;
}

void host_why_not_ready(const struct host_process *process, int exit_status, int signal,
                        int *ret_code, char *text, size_t size)
{
    uint32_t state = atomic_load(&process->map->control->state);
    char how[128];
    int length;
    const char *line = last_line(process, &length);
    describe_end(exit_status, signal, how, sizeof how);
    if (state == CHANNEL_STARTING && library_missing(process, text, size)) {
        *ret_code = FARPOOL_ELIBRARY;
    } else if (state == CHANNEL_STARTING && exit_status == 127) {
        char library[256];
        *ret_code = FARPOOL_ELIBRARY;
        if (length == 0 &&
            host_find_missing_library(process->program, library, sizeof library))
            snprintf(text, size, "%s needs %s, which is not on this node",
                     process->program, library);
        else
            snprintf(text, size, "%s could not be loaded: %s before main%s%.*s",
                     process->program, how, length > 0 ? ": " : "", length, line);
    } else if (state == CHANNEL_STARTING && exit_status == CHANNEL_EXIT_VERSION) {
        *ret_code = FARPOOL_EVERSION;
        snprintf(text, size, "%s was built with another version of Farpool than %s",
                 process->program, FARPOOL_VERSION);
    } else if (state == CHANNEL_STARTING && exit_status == CHANNEL_EXIT_REFUSED) {
        *ret_code = FARPOOL_EPROGRAM;
        snprintf(text, size, "%s could not attach%s%.*s", process->program,
                 length > 0 ? ": " : "", length, line);
    } else if (state == CHANNEL_STARTING) {
        *ret_code = FARPOOL_ENOTFARPOOL;
        snprintf(text, size,
                 "%s %s before it called farpool_init: not a Farpool program%s%.*s",
                 process->program, how, length > 0 ? ": " : "", length, line);
    } else if (process->initializer[0] != '\0') {
        *ret_code = FARPOOL_EINITIALIZER;
        snprintf(text, size, "the initializer %s did not return: the process %s",
                 process->initializer, how);
    } else {
        *ret_code = FARPOOL_EPROGRAM;
        snprintf(text, size, "%s %s while it was starting%s%.*s", process->program, how,
                 length > 0 ? ": " : "", length, line);
    }
}
