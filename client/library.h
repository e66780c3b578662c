/* SPDX-License-Identifier: Apache-2.0
 *
 * client/library.h: what farpool_init found out, for the rest of libfarpool. */
#ifndef FARPOOL_CLIENT_LIBRARY_H
#define FARPOOL_CLIENT_LIBRARY_H

#include <stdbool.h>

/* Whether farpool_init was called, and succeeded. */
bool library_is_initialised(void);

/* Path of this program's own executable, "" if the system does not tell. It may have
 * been replaced or removed since; /proc/self/exe is always what is running. Static. */
const char *library_executable(void);

/* A registered function's name that was registered twice, or NULL. */
const char *library_duplicate_function(void);

#endif
