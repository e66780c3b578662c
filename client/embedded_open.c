/* SPDX-License-Identifier: Apache-2.0
 *
 * embedded_open.c: making and ending an embedded pool's cores and host: one node with as
 * many slots as processes were asked for, or as this process may use cores. There may be
 * more processes than cores: then nobody spins. Limits that protect a daemon's memory
 * from its peers are set out of the way: here everything is the program's own. */
#include "client/embedded.h"
#include "client/options.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <stdio.h>
#include <unistd.h>

#define GIVEN_AHEAD_US 100000 /* so that results come early */
#define HEARTBEAT_MS 600000   /* memory does not fail; the cores want one all the same */
#define SILENCE_MS 3600000

static bool deliver_relay(void *user, uint64_t process, struct frames *frames)
{
    return embedded_relay_note(user, process, frames);
}

void embedded_end(struct embedded *embedded)
{
    worker_core_destroy(embedded->worker);
    coordinator_core_destroy(embedded->coordinator);
    host_destroy(embedded->host);
    embedded->worker = NULL;
    embedded->coordinator = NULL;
    embedded->host = NULL;
    embedded->client_link = embedded->worker_link = 0;
    embedded_relay_fini(embedded);
    for (size_t i = 0; i < embedded->starts_count; i++) {
        payload_unref(&embedded->starts[i].data);
        payload_unref(&embedded->starts[i].span.sizes);
        payload_unref(&embedded->starts[i].span.data);
    }
    mem_free(embedded->starts);
    embedded->starts = NULL;
    embedded->starts_count = embedded->starts_capacity = 0;
    worker_effects_fini(&embedded->worker_effects);
    worker_effects_fini(&embedded->worker_batch);
    coordinator_effects_fini(&embedded->coordinator_effects);
    queue_fini(&embedded->to_coordinator);
    queue_fini(&embedded->to_worker);
    queue_fini(&embedded->to_client);
}

void embedded_close(struct embedded *embedded)
{
    if (embedded == NULL)
        return;
    embedded_end(embedded);
    if (embedded->wake_fd >= 0)
        close(embedded->wake_fd);
    if (embedded->folder != NULL)
        embedded_folder_remove(embedded->folder);
    mem_free(embedded->folder);
    mem_free(embedded->path);
    mem_free(embedded);
}

static int create_coordinator(struct embedded *embedded)
{
    struct coordinator_config config;

    coordinator_config_init(&config);
    sys_random_id(&config.coordinator);
    config.heartbeat_ms = HEARTBEAT_MS;
    config.silence_ms = SILENCE_MS;
    config.settle_ms = 0;
    /* What the client core sends is only moved: the window need not protect memory. */
    config.client_tasks_max = UINT64_C(1) << 40;
    config.client_bytes_max = UINT64_C(1) << 50;
    config.body_bytes_max = BODY_BYTES_MAX;
    return coordinator_core_create(&config, sys_now_ms(), &embedded->coordinator);
}

static int create_worker(struct embedded *embedded)
{
    struct worker_config config;

    worker_config_init(&config);
    sys_random_id(&config.worker);
    sys_host(config.node, sizeof config.node);
    sys_machine(config.machine, sizeof config.machine);
    config.slots = embedded->slots;
    config.results_wait_ms = 0; /* a message costs next to nothing here */
    config.given_ahead_us = GIVEN_AHEAD_US;
    config.memory_bytes = embedded->memory_bytes;
    return worker_core_create(&config, sys_now_ms(), &embedded->worker);
}

static int create_host(struct embedded *embedded, bool capture, farpool_error *error)
{
    char node[NODE_NAME_MAX + 1];
    const struct host_config config = {
        .node = sys_host(node, sizeof node),
        .capture_output = capture,
        .guarded = true,
        .on_relay = deliver_relay,
        .user = embedded,
        .payload_max = BODY_BYTES_MAX,
        .spin = embedded->slots <= embedded->cores,
        .slots = embedded->slots,
    };

    return host_create(&config, &embedded->host, error);
}

/* Where the executable is: itself, or among the other files of the program. */
static int choose_path(struct embedded *embedded, const struct program *program,
                       farpool_error *error)
{
    const struct program_file *file = &program->files[0];
    char path[4096];
    int code;

    if (program->count == 1) {
        embedded->path = mem_strdup(file->path);
    } else {
        code = embedded_folder_create(program, &embedded->folder, error);
        if (code != 0)
            return code;
        snprintf(path, sizeof path, "%s/%s", embedded->folder, file->about.name);
        embedded->path = mem_strdup(path);
    }
    return embedded->path != NULL
               ? 0
               : error_set(error, FARPOOL_ENOMEM, "open: out of memory");
}

int embedded_open(const struct pool_settings *settings, const struct program *program,
                  struct transport **ret_transport, farpool_error *error)
{
    struct embedded *embedded = mem_alloc(sizeof *embedded);
    int code;

    if (embedded == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    embedded->transport.kind = &embedded_kind;
    sys_room(&embedded->cores, &embedded->memory_bytes);
    embedded->slots = settings->processes > 0 ? settings->processes : embedded->cores;
    embedded->wake_fd = -1;
    if ((code = choose_path(embedded, program, error)) != 0 ||
        (code = create_host(embedded, settings->on_output != NULL, error)) != 0)
        goto fail;
    if ((code = create_coordinator(embedded)) != 0 ||
        (code = create_worker(embedded)) != 0) {
        error_set(error, code, "open: %s", farpool_error_text(code));
        goto fail;
    }
    if ((embedded->wake_fd = code = wake_open(error)) < 0)
        goto fail;
    *ret_transport = &embedded->transport;
    return 0;
fail:
    embedded_close(embedded);
    return code;
}
