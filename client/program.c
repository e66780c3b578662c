/* SPDX-License-Identifier: Apache-2.0
 *
 * program.c: what a pool runs, seen from the client: which files, what they contain, for
 * which machine. A node that lacks one asks for it in pieces, which are read here from
 * the file itself: nothing is kept in memory. If the file was changed in the meantime the
 * node notices, since the content is its name.
 *
 * Whether the program calls farpool_init is not asked here: its process tells. */
#include "client/program.h"
#include "client/options.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/program.h"
#include "common/sys/sys.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_EXECUTABLE "/proc/self/exe"
#define PIECE_BYTES_MAX 1048576

static const struct {
    uint16_t machine;
    const char *name;
} machines[] = {
    {EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i686"},
    {EM_ARM, "armv7l"},    {EM_RISCV, "riscv64"},   {EM_PPC64, "ppc64le"},
    {EM_S390, "s390x"},
};

/* What an ELF file was built for, as uname -m says it; "" for any other file. */
static void read_machine(int fd, char machine[32])
{
    Elf64_Ehdr header;

    machine[0] = '\0';
    if (pread(fd, &header, sizeof header, 0) < (ssize_t)sizeof(Elf32_Ehdr) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return;
    const char *name = "unknown";
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++)
        if (machines[i].machine == header.e_machine)
            name = machines[i].name;
    snprintf(machine, 32, "%s", name);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The name that people know the file by. */
static void read_name(const char *path, char name[256])
{
    char target[4096];
    ssize_t size = readlink(path, target, sizeof target - 1);

    if (strcmp(path, OWN_EXECUTABLE) == 0 && size > 0) {
        target[size] = '\0';
        path = target;
    }
    snprintf(name, 256, "%.255s", base_name(path));
}

/* Opens a regular file and looks at it. */
static int look(const char *path, struct stat *ret_stat, char machine[32],
                farpool_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set(error, FARPOOL_EPROGRAM, "open: cannot read %s: %s", path,
                         strerror(errno));
    if (fstat(fd, ret_stat) != 0 || !S_ISREG(ret_stat->st_mode)) {
        close(fd);
        return error_set(error, FARPOOL_EPROGRAM, "open: %s is not a file", path);
    }
    read_machine(fd, machine);
    close(fd);
    return 0;
}

static int check_executable(const char *path, const struct stat *stat,
                            const char *machine, bool hashed, farpool_error *error)
{
    char here[32];

    if ((stat->st_mode & 0111) == 0)
        return error_set(error, FARPOOL_EPROGRAM,
                         "open: program %s may not be executed (mode %03o)", path,
                         (unsigned)stat->st_mode & 0777);
    sys_machine(here, sizeof here);
    if (!hashed && machine[0] != '\0' && strcmp(machine, here) != 0)
        return error_set(error, FARPOOL_EMACHINE,
                         "open: program %s is built for %s, but this machine is %s", path,
                         machine, here);
    return 0;
}

static int check_name(const struct program *program, const char *path, const char *name,
                      farpool_error *error)
{
    if (strlen(base_name(path)) > 255)
        return error_set(error, FARPOOL_EINVAL,
                         "open: the name of %s is longer than 255 bytes", path);
    for (uint32_t i = 0; i < program->count; i++)
        if (strcmp(program->files[i].about.name, name) == 0)
            return error_set(error, FARPOOL_EINVAL, "open: %s and %s have the same name",
                             program->files[i].path, path);
    return 0;
}

static int add_file(struct program *program, const char *path, bool hashed,
                    farpool_error *error)
{
    struct program_file *file = &program->files[program->count];
    char machine[32] = "";
    struct stat stat = {.st_mode = 0};
    int code = look(path, &stat, machine, error);

    if (code != 0)
        return code;
    read_name(path, file->about.name);
    if ((code = check_name(program, path, file->about.name, error)) != 0)
        return code;
    if (program->count == 0) {
        if ((code = check_executable(path, &stat, machine, hashed, error)) != 0)
            return code;
        memcpy(program->machine, machine, sizeof machine);
    }
    file->about.executable = (stat.st_mode & 0111) != 0;
    file->about.size = (uint64_t)stat.st_size;
    if (hashed &&
        (code = sys_hash_file(path, &file->about.content, &file->about.size, error)) != 0)
        return code;
    if ((file->path = mem_strdup(path)) == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    program->count++;
    return 0;
}

static uint32_t count_files(const char *const *files)
{
    uint32_t count = 0;

    while (files != NULL && files[count] != NULL && count <= FILES_MAX)
        count++;
    return count;
}

int program_open(const struct pool_settings *settings, bool hashed,
                 struct program *ret_program, farpool_error *error)
{
    const char *executable =
        settings->program != NULL ? settings->program : OWN_EXECUTABLE;
    uint32_t count = count_files(settings->files);
    struct program program = {0};
    int code;

    if (count >= FILES_MAX)
        return error_set(error, FARPOOL_EINVAL, "open: more than %d files",
                         FILES_MAX - 1);
    program.files = mem_alloc((count + 1) * sizeof *program.files);
    if (program.files == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    code = add_file(&program, executable, hashed, error);
    for (uint32_t i = 0; code == 0 && i < count; i++)
        code = add_file(&program, settings->files[i], hashed, error);
    if (code != 0) {
        program_fini(&program);
        return code;
    }
    if (hashed) {
        struct msg_file *list = program_list(&program);

        if (list == NULL) {
            program_fini(&program);
            return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
        }
        sys_hash_program(list, program.count, &program.hash);
        mem_free(list);
    }
    *ret_program = program;
    return 0;
}

void program_fini(struct program *program)
{
    for (uint32_t i = 0; i < program->count; i++)
        mem_free(program->files[i].path);
    mem_free(program->files);
    *program = (struct program){0};
}

struct msg_file *program_list(const struct program *program)
{
    struct msg_file *list = mem_alloc(program->count * sizeof *list);

    for (uint32_t i = 0; list != NULL && i < program->count; i++)
        list[i] = program->files[i].about;
    return list;
}

struct payload *program_read_piece(int fd, uint64_t offset, uint64_t bytes, int *ret_code)
{
    size_t size = bytes < PIECE_BYTES_MAX ? (size_t)bytes : PIECE_BYTES_MAX, have = 0;
    struct payload *piece = payload_create(size), *whole = piece;
    ssize_t got = 1;

    while (piece != NULL && have < size && got > 0) {
        got = pread(fd, payload_bytes(piece) + have, size - have, (off_t)(offset + have));
        have += got > 0 ? (size_t)got : 0;
    }
    if (piece != NULL && got < 0) {
        payload_unref(&piece);
        *ret_code = FARPOOL_ESYSTEM;
        return NULL;
    }
    if (piece != NULL && have < size) {
        piece = payload_slice(whole, 0, have);
        payload_unref(&whole);
    }
    *ret_code = piece != NULL ? 0 : FARPOOL_ENOMEM;
    return piece;
}

static struct payload *read_file(const char *path, uint64_t offset, uint64_t bytes,
                                 int *ret_code)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct payload *piece;

    *ret_code = FARPOOL_ESYSTEM;
    if (fd < 0)
        return NULL;
    piece = program_read_piece(fd, offset, bytes, ret_code);
    close(fd);
    return piece;
}

struct message *program_read(const struct program *program, const struct hash *content,
                             uint64_t offset, uint64_t bytes)
{
    struct message *blob = message_create(MSG_BLOB);
    int code = FARPOOL_EPROGRAM;

    if (blob == NULL)
        return NULL;
    blob->blob.content = *content;
    blob->blob.offset = offset;
    for (uint32_t i = 0; i < program->count; i++)
        if (hash_equal(&program->files[i].about.content, content)) {
            blob->blob.data = read_file(program->files[i].path, offset, bytes, &code);
            break;
        }
    blob->blob.code = code;
    return blob;
}
