/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_folder.h: a folder of keys for one test, as `farpool keys init` makes it. */
#ifndef FARPOOL_TESTS_UNIT_KEYS_FOLDER_H
#define FARPOOL_TESTS_UNIT_KEYS_FOLDER_H

#include "common/keys/keys.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], out[96]; /* out: for one key that is made there */

static inline void keys_folder_make(void)
{
    farpool_error error;
    snprintf(folder, sizeof folder, "/tmp/farpool-keys-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(out, sizeof out, "%s/out.key", folder);
    assert_int_equal(keys_init(folder, &error), 0);
}

static inline void keys_folder_remove(void)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    char path[400];
    while ((entry = readdir(directory)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    closedir(directory);
    assert_int_equal(rmdir(folder), 0);
}

#endif
