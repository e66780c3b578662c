/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor.h: the list of what `farpool doctor` found. */
#ifndef FARPOOL_CLI_DOCTOR_H
#define FARPOOL_CLI_DOCTOR_H

#include <farpool.h>

enum finding { FINDING_OK, FINDING_WARNING, FINDING_PROBLEM };

struct check {
    const char *name;
    enum finding finding;
    char text[700]; /* what was found, and what to do about it */
};

enum { CHECKS_MAX = 16 };

struct doctor {
    struct check checks[CHECKS_MAX];
    size_t count;
};

void doctor_add(struct doctor *doctor, const char *name, enum finding finding,
                const char *format, ...) FARPOOL_PRINTF(4, 5);

/* doctor_machine.c: this machine as a client or a node. */
void doctor_look_at_machine(struct doctor *doctor);

/* doctor_key.c: the key that is used, if any; false: it is none to ask a coordinator
 * with. And what came of it: error is NULL, or a refusal for the key. */
bool doctor_look_at_key(struct doctor *doctor);
void doctor_tell_key(struct doctor *doctor, const char *address,
                     const farpool_error *error);

#endif
