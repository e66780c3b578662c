/* SPDX-License-Identifier: Apache-2.0
 *
 * embedded_folder.c: the folder of an embedded pool whose options name files: links to
 * the executable and to each file, side by side, as a node's program cache has them. Only
 * then does an embedded pool touch the file system. */
#include "client/embedded.h"
#include "common/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int link_file(const char *folder, const struct program_file *file,
                     farpool_error *error)
{
    char target[PATH_MAX], path[PATH_MAX + 256];

    if (realpath(file->path, target) == NULL)
        return error_set(error, FARPOOL_EPROGRAM, "open: %s: %s", file->path,
                         strerror(errno));
    snprintf(path, sizeof path, "%s/%s", folder, file->about.name);
    if (symlink(target, path) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "open: cannot link %s: %s", path,
                         strerror(errno));
    return 0;
}

int embedded_folder_create(const struct program *program, char **ret_folder,
                           farpool_error *error)
{
    const char *base = getenv("TMPDIR");
    char folder[PATH_MAX];
    int code = 0;

    snprintf(folder, sizeof folder, "%s/farpool-XXXXXX",
             base != NULL && base[0] == '/' ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return error_set(error, FARPOOL_ESYSTEM, "open: cannot make folder %s: %s",
                         folder, strerror(errno));
    for (uint32_t i = 0; code == 0 && i < program->count; i++)
        code = link_file(folder, &program->files[i], error);
    if (code == 0 && (*ret_folder = mem_strdup(folder)) == NULL)
        code = error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    if (code != 0)
        embedded_folder_remove(folder);
    return code;
}

void embedded_folder_remove(const char *folder)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;

    /* What processes left there goes, too; it was theirs only while the pool was open. */
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory != NULL)
        closedir(directory);
    rmdir(folder);
}
