/* SPDX-License-Identifier: Apache-2.0
 *
 * gate.h: a task that says that it runs, and waits for leave to go on. */
#ifndef FARPOOL_TESTS_API_GATE_H
#define FARPOOL_TESTS_API_GATE_H

#include "tests/api/fixture.h"

#include <unistd.h>

typedef struct gate {
    struct sign begun, go, noticed;
    int64_t value;
} gate;

static int64_t pass(gate input)
{
    sign_post(&input.begun, getpid());
    sign_wait_in_task(&input.go);
    return input.value;
}
FARPOOL_FUNCTION(pass, int64_t, gate)

#endif
