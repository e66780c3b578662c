/* SPDX-License-Identifier: Apache-2.0
 *
 * function.c: the list of registered functions. It is filled by constructors, before main
 * and, for libraries that are loaded later, by dlopen; those run one at a time, and
 * nothing looks anything up meanwhile but by name in a list that is only added to. */
#include "client/library.h"

#include "farpool.h"

#include <stdatomic.h>
#include <string.h>

static farpool_function *_Atomic functions;
static const char *_Atomic duplicate;

const farpool_function *farpool_function_find(const char *name)
{
    if (name == NULL)
        return NULL;
    const farpool_function *function = atomic_load(&functions);
    while (function != NULL && strcmp(function->name, name) != 0)
        function = function->next;
    return function;
}

void farpool_register(farpool_function *function)
{
    if (function == NULL || function->name == NULL)
        return;
    if (farpool_function_find(function->name) != NULL) {
        atomic_store(&duplicate, function->name);
        return;
    }
    function->next = atomic_load(&functions);
    atomic_store(&functions, function);
}

const char *library_duplicate_function(void)
{
    return atomic_load(&duplicate);
}
