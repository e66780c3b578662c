/* SPDX-License-Identifier: Apache-2.0
 *
 * core_lane.c: the client's ends of its lanes: links to workers that the coordinator has
 * introduced it to. Dialling, hello, silence, their end, what the coordinator grants; and
 * how much is on each (core_deal.c sends there).
 *
 * What becomes of its tasks when it ends is in core_leave.c. A lane that is OVER is
 * finished by the next FLUSH. */
#include "client/core_internal.h"

#include <stdio.h>
#include <string.h>

/* [from] -> a bit a state that may follow. */
static const unsigned allowed[] = {
    [LANE_DIALLED] = 1u << LANE_GREETED | 1u << LANE_OVER,
    [LANE_GREETED] = 1u << LANE_UP | 1u << LANE_OVER,
    [LANE_UP] = 1u << LANE_OVER,
    [LANE_OVER] = 0,
};

static void move(struct lane *lane, enum lane_state state)
{
    assert(allowed[lane->state] & 1u << state);
    lane->state = state;
}

static struct lane *find_ticket(const struct client_core *core, const struct id *ticket)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && id_equal(&core->lanes[i]->ticket, ticket))
            return core->lanes[i];
    return NULL;
}

struct lane *client_lane_find(const struct client_core *core, uint64_t number)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && core->lanes[i]->number == number)
            return core->lanes[i];
    return NULL;
}

static void end(struct client_core *core, struct lane *lane, const char *text)
{
    if (lane->state == LANE_OVER)
        return;
    move(lane, LANE_OVER);
    snprintf(lane->text, sizeof lane->text, "%s", text);
    core->lanes_over = true;
}

void client_lanes_end(struct client_core *core, const char *text)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i])
            end(core, core->lanes[i], text);
}

bool client_lanes_carry(const struct client_core *core)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && core->lanes[i]->tasks)
            return true;
    return false;
}

void client_lanes_free(struct client_core *core)
{
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        mem_free(core->lanes[i]);
        core->lanes[i] = NULL;
    }
}

int client_lane_send(struct client_core *core, struct lane *lane,
                     struct message **message, struct client_effects *effects)
{
    const int error = client_send_message(effects, message);
    if (error)
        return error;
    effects->items[effects->count - 1].lane = lane->number;
    lane->spoke_ms = core->now_ms;
    return 0;
}

void client_lane_count(struct client_core *core, const struct span_item *item, int sign)
{
    const uint32_t place = lane_of(item);
    if (!place || place == LANE_NONE)
        return;
    struct lane *lane = core->lanes[place - 1];
    assert(lane);
    const uint64_t tasks = item->span.count, bytes = span_bytes(&item->span);
    if (sign < 0 || !lane->tasks)
        lane->moved_ms = core->now_ms;
    lane->fruitless = UINT64_MAX;
    lane->tasks += sign > 0 ? tasks : -tasks;
    lane->bytes += sign > 0 ? bytes : -bytes;
    if (lane->account_ms == UINT64_MAX)
        lane->account_ms =
            larger(core->now_ms + ACCOUNT_MS, lane->told_ms + ACCOUNT_EVERY_MS);
}

/* -------------------------------------------------- what the coordinator says */

int client_lane_say(const struct id *ticket, bool up, const char *text,
                    struct client_effects *effects)
{
    struct message *message = message_create(MSG_LANE);
    if (message) {
        message->lane.ticket = *ticket;
        message->lane.up = up;
        snprintf(message->lane.text, sizeof message->lane.text, "%s", text);
    }
    return client_send_message(effects, &message);
}

static int introduced(struct client_core *core, const struct message *message,
                      struct client_effects *effects)
{
    const struct id *ticket = &message->introduced.ticket;
    uint32_t place = 0;
    if (find_ticket(core, ticket))
        return 0;
    while (place < LANES_MAX && core->lanes[place])
        place++;
    if (place == LANES_MAX || core->state != POOL_RUNNING || !core->config.lanes)
        return client_lane_say(ticket, false, "the client has lanes enough", effects);
    struct lane *lane = mem_alloc(sizeof *lane);
    struct client_effect *effect = lane ? client_effects_add(effects, CLIENT_DIAL) : NULL;
    if (!effect) {
        mem_free(lane);
        return FARPOOL_ENOMEM;
    }
    lane->place = place + 1;
    lane->number = ++core->last_lane;
    lane->ticket = *ticket;
    lane->worker = message->introduced.worker;
    memcpy(lane->node, message->introduced.node, sizeof lane->node);
    lane->until_ms = core->now_ms + message->introduced.wait_ms;
    lane->account_ms = lane->fruitless = UINT64_MAX;
    core->lanes[place] = lane;
    effect->lane = lane->number;
    effect->content = message->introduced.key;
    snprintf(effect->text, sizeof effect->text, "%s", message->introduced.address);
    return 0;
}

static void granted(struct client_core *core, const struct message *message)
{
    struct lane *lane = find_ticket(core, &message->grant.ticket);
    if (!lane)
        return;
    lane->slots = message->grant.slots;
    lane->busy = message->grant.busy;
    lane->tasks_max = message->grant.tasks;
    lane->bytes_max = message->grant.bytes;
}

static void withdrawn(struct client_core *core, const struct message *message)
{
    struct lane *lane = find_ticket(core, &message->withdraw.ticket);
    if (!lane)
        return;
    lane->withdrawn = true;
    end(core, lane, message->withdraw.text);
}

bool client_lane_is_about(enum message_kind kind)
{
    return kind == MSG_INTRODUCED || kind == MSG_WITHDRAW || kind == MSG_GRANT;
}

int client_lane_told(struct client_core *core, const struct message *message,
                     struct client_effects *effects)
{
    if (message->kind == MSG_INTRODUCED)
        return introduced(core, message, effects);
    if (message->kind == MSG_WITHDRAW)
        withdrawn(core, message);
    else
        granted(core, message);
    return 0;
}

/* ----------------------------------------------------------- what the lane says */

int client_lane_up(struct client_core *core, uint64_t number,
                   struct client_effects *effects)
{
    struct lane *lane = client_lane_find(core, number);
    if (!lane || lane->state != LANE_DIALLED)
        return 0;
    struct message *hello = message_create(MSG_HELLO_LANE);
    if (hello) {
        hello->hello_lane.protocol = PROTOCOL_VERSION;
        snprintf(hello->hello_lane.version, sizeof hello->hello_lane.version, "%s",
                 FARPOOL_VERSION);
        hello->hello_lane.ticket = lane->ticket;
    }
    if (client_lane_send(core, lane, &hello, effects))
        return FARPOOL_ENOMEM;
    move(lane, LANE_GREETED);
    return 0;
}

void client_lane_down(struct client_core *core, uint64_t number, const char *text)
{
    struct lane *lane = client_lane_find(core, number);
    if (!lane)
        return;
    lane->cut = true;
    end(core, lane, text ? text : "the connection was lost");
}

static int welcome(struct client_core *core, struct lane *lane,
                   const struct message *message, struct client_effects *effects)
{
    if (message->kind != MSG_WELCOME_LANE ||
        !id_equal(&message->welcome_lane.worker, &lane->worker)) {
        end(core, lane,
            message->kind == MSG_REFUSED ? message->refused.text
                                         : "another worker answers there");
        return 0;
    }
    if (core->link == LINK_WELCOMED && client_lane_say(&lane->ticket, true, "", effects))
        return FARPOOL_ENOMEM;
    if (!message->welcome_lane.heartbeat_ms || !message->welcome_lane.silence_ms) {
        end(core, lane, "WELCOME_LANE without times");
        return 0;
    }
    move(lane, LANE_UP);
    lane->heartbeat_ms = message->welcome_lane.heartbeat_ms;
    lane->silence_ms = message->welcome_lane.silence_ms;
    return 0;
}

static int take(struct client_core *core, struct lane *lane,
                const struct message *message, struct client_effects *effects)
{
    char text[128];
    switch (message->kind) {
    case MSG_HEARTBEAT:
        return 0;
    case MSG_DONE:
        if (id_equal(&message->done.pool, &core->config.pool))
            return client_results_handle_done(core, message, effects);
        break;
    case MSG_FAILED:
        if (id_equal(&message->failed.pool, &core->config.pool))
            return client_results_handle_failed(core, message, effects);
        break;
    case MSG_RETURNED:
        if (id_equal(&message->returned.pool, &core->config.pool))
            return client_part_returned(core, lane, message);
        break;
    case MSG_OUTPUT:
        if (id_equal(&message->output.pool, &core->config.pool))
            return client_link_tell_output(message, effects);
        break;
    default:
        break;
    }
    snprintf(text, sizeof text, "%s is not for this lane", message_name(message->kind));
    end(core, lane, text);
    return 0;
}

int client_lane_heard(struct client_core *core, uint64_t number,
                      const struct message *message, struct client_effects *effects)
{
    struct lane *lane = client_lane_find(core, number);
    if (!lane || lane->state == LANE_OVER || core->state == POOL_ENDED)
        return 0;
    lane->heard_ms = core->now_ms;
    if (lane->state != LANE_UP)
        return welcome(core, lane, message, effects);
    core->speaker = lane;
    const int error = take(core, lane, message, effects);
    core->speaker = NULL;
    return error;
}

/* -------------------------------------------------------------------- the flush */

static int beat(struct client_core *core, struct lane *lane,
                struct client_effects *effects)
{
    struct message *message = message_create(MSG_HEARTBEAT);
    if (message)
        message->heartbeat.count = lane->heartbeats;
    const int error = client_lane_send(core, lane, &message, effects);
    lane->heartbeats += error ? 0 : 1;
    return error;
}

static int look(struct client_core *core, struct lane *lane,
                struct client_effects *effects)
{
    if (lane->state == LANE_UP && core->now_ms >= lane->heard_ms + lane->silence_ms)
        end(core, lane, "the worker was silent for too long");
    else if (lane->state < LANE_UP && core->now_ms >= lane->until_ms)
        end(core, lane, "nobody answered in time");
    else if (lane->state == LANE_UP &&
             core->now_ms >= lane->spoke_ms + lane->heartbeat_ms)
        return beat(core, lane, effects);
    return 0;
}

int client_lanes_flush(struct client_core *core, struct client_effects *effects)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && look(core, core->lanes[i], effects))
            return FARPOOL_ENOMEM;
    for (uint32_t i = 0; core->lanes_over && i < LANES_MAX; i++)
        if (core->lanes[i] && core->lanes[i]->state == LANE_OVER &&
            client_lane_finish(core, core->lanes[i], effects))
            return FARPOOL_ENOMEM;
    core->lanes_over = false;
    return 0;
}

static uint64_t due_ms(const struct client_core *core, const struct lane *lane)
{
    const bool tells = core->link == LINK_WELCOMED && !core->resume;
    const uint64_t account_ms = tells ? lane->account_ms : UINT64_MAX;
    if (lane->state == LANE_OVER)
        return core->now_ms;
    if (lane->state < LANE_UP)
        return lane->until_ms;
    return smaller(account_ms, smaller(lane->heard_ms + lane->silence_ms,
                                       lane->spoke_ms + lane->heartbeat_ms));
}

uint64_t client_lanes_deadline(const struct client_core *core)
{
    uint64_t deadline = core->recall_ms;
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i])
            deadline = smaller(deadline, due_ms(core, core->lanes[i]));
    return deadline;
}
