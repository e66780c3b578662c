/* SPDX-License-Identifier: Apache-2.0
 *
 * client/operator.h: one question of an operator to a coordinator, and its ANSWER. */
#ifndef FARPOOL_CLIENT_OPERATOR_H
#define FARPOOL_CLIENT_OPERATOR_H

#include "common/base/message.h"
#include "farpool.h"

/* question: taken over, NULL: there was no memory for it. ret_concerned and ret_tasks may
 * be NULL. The coordinator's refusal is the error. */
int operator_ask(const char *call, struct message *question, const char *address,
                 int64_t timeout_ms, uint64_t *ret_concerned, uint64_t *ret_tasks,
                 farpool_error *error);

#endif
