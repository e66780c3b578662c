/* SPDX-License-Identifier: Apache-2.0
 *
 * core_logs.c: LOGS_GET is answered at once from what the shell keeps. Whose lines may be
 * told is the coordinator's to know: it names the pools. */
#include "worker/core_internal.h"

int worker_logs(struct worker_core *core, const struct message *get)
{
    const size_t before = core->effects->count;
    struct logs_reader reader;
    bool more = true;
    logs_read_begin(core->config.logs, get, &core->config.worker, &reader);
    while (more) {
        struct message *message = worker_message(core, MSG_LOGS);
        if (message == NULL || logs_read(&reader, message) != 0) {
            message_free(&message);
            while (core->effects->count > before)
                message_free(&core->effects->items[--core->effects->count].message);
            return FARPOOL_ENOMEM;
        }
        more = message->logs.more;
        worker_send(core, message);
    }
    return 0;
}
