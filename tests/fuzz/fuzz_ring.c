/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_ring.c: a host reads what a hostile process wrote. The input says what that does:
 * claims, results, failures, messages, most of them right and some with a field of any
 * value, and bytes and indexes overwritten. What the host delivers must be about tasks
 * that were given, each once, in order, with sizes that add up. */
#include "common/base/span.h"
#include "tests/fuzz/fuzz.h"
#include "worker/host_internal.h"

#include <stdlib.h>
#include <unistd.h>

#define GIVES 3
#define TASKS 50

struct bed {
    struct host host;
    struct host_process *process;
    uint64_t ended[GIVES];
};

static void deliver(void *user, struct worker_event *event)
{
    struct bed *bed = user;
    if (event->kind != WORKER_PROCESS_DONE && event->kind != WORKER_PROCESS_FAILED)
        return;
    assert(event->give < GIVES && event->count >= 1);
    assert(event->first == event->give * 100 + bed->ended[event->give]);
    bed->ended[event->give] += event->count;
    assert(bed->ended[event->give] <= TASKS);
    if (event->kind == WORKER_PROCESS_DONE) {
        struct msg_span span = {.first = event->first,
                                .count = event->count,
                                .attempt = 1,
                                .sizes = event->sizes,
                                .data = event->data};
        assert(span_valid(&span));
    }
}

static struct host_process *make_process(struct bed *bed)
{
    struct host_process *process = mem_alloc(sizeof *process);
    const struct id pool = {{1}};
    int fd;
    assert(process);
    assert(host_map_create(&bed->host, &pool, 9, &process->map, &fd, NULL) == 0);
    close(fd);
    struct host_map *map = process->map;
    ring_init(&process->in, &map->control->in, map->base + map->at.in, CHANNEL_RING_BYTES,
              9);
    ring_init(&process->relay, &map->control->relay, map->base + map->at.relay,
              CHANNEL_RING_BYTES, 9);
    ring_init(&process->out, &map->control->out, map->base + map->at.out,
              CHANNEL_RING_BYTES, 9);
    assert(arena_init(&process->in_arena, 0, map->at.in_arena_bytes) == 0);
    process->pidfd = process->bell = process->pipes[0].fd = process->pipes[1].fd = -1;
    process->init_block = ARENA_NONE;
    TAILQ_INIT(&process->gives);
    STAILQ_INIT(&process->relays);
    return process;
}

static void give_tasks(struct bed *bed)
{
    for (uint64_t give = 0; give < GIVES; give++) {
        struct worker_effect effect = {.kind = WORKER_PROCESS_GIVE,
                                       .give = give,
                                       .span = {.first = give * 100, .count = TASKS},
                                       .claim = 3,
                                       .publish = 3,
                                       .name = "f"};
        assert(host_give(bed->process, &effect));
    }
    host_push(&bed->host, bed->process);
}

/* A field of any value; most are small. */
static uint64_t any(struct fuzz_input *input)
{
    uint64_t kind = fuzz_number(input, 1);
    if (kind < 200)
        return kind;
    return kind < 230 ? fuzz_number(input, 2) : fuzz_number(input, 8);
}

/* Most fields are what an honest process writes, so that records get somewhere. */
static uint64_t near(struct fuzz_input *input, uint64_t honest)
{
    return fuzz_number(input, 1) < 240 ? honest : any(input);
}

/* The give whose tasks are due; NULL: all have ended. */
static struct give *due(struct bed *bed)
{
    return TAILQ_FIRST(&bed->process->gives);
}

static void claim(struct bed *bed, struct fuzz_input *input)
{
    struct give *give = due(bed);
    if (give == NULL)
        return;
    uint64_t word = atomic_load(&give->record->claim);
    uint32_t next = (uint32_t)word, end = (uint32_t)(word >> 32);
    uint32_t more = (uint32_t)fuzz_number(input, 1) % 8;
    next = (uint32_t)near(input, next + more < end ? next + more : end);
    end = (uint32_t)near(input, end);
    atomic_store(&give->record->claim, channel_claim(next, end));
}

/* The table of sizes and the bytes they add up to. */
static uint64_t write_sizes(uint32_t *sizes, uint32_t count, struct fuzz_input *input)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = (uint32_t)near(input, i * 7 % 20);
        sum += sizes[i];
    }
    return sum;
}

static void write_done(struct bed *bed, struct ring *out, struct fuzz_input *input)
{
    const uint32_t room = CHANNEL_DATA_OFFSET(struct channel_done) + 2048;
    struct give *give = due(bed);
    struct channel_done *done = give != NULL ? ring_reserve(out, room) : NULL;
    if (done == NULL)
        return;
    uint32_t sizes[8], count = 1 + (uint32_t)fuzz_number(input, 1) % 7;
    if (count > give->end - give->published)
        count = give->end - give->published;
    memset(done, 0, room);
    done->give = near(input, give->number);
    done->first = near(input, give->first + give->published);
    done->count = (uint32_t)near(input, count);
    done->elapsed_ns = any(input);
    done->sized = (uint32_t)fuzz_number(input, 1) & 1;
    done->data_offset =
        fuzz_number(input, 1) % 4 != 0 ? CHANNEL_INLINE : any(input) * ARENA_BLOCK;
    done->data_bytes = near(input, done->sized ? write_sizes(sizes, count, input)
                                               : count * (fuzz_number(input, 1) % 100));
    uint64_t table = channel_round4(done->data_bytes);
    if (done->sized && table < 1024)
        memcpy((uint8_t *)done + CHANNEL_DATA_OFFSET(struct channel_done) + table, sizes,
               sizeof sizes);
    ring_commit(out, CHANNEL_DONE, (uint32_t)near(input, room) % (room + 1));
}

static void write_failed(struct bed *bed, struct ring *out, struct fuzz_input *input)
{
    struct give *give = due(bed);
    struct channel_failed *failed =
        give != NULL ? ring_reserve(out, sizeof *failed + 100) : NULL;
    if (failed == NULL)
        return;
    *failed = (struct channel_failed){.give = near(input, give->number),
                                      .index = near(input, give->first + give->published),
                                      .code = (int32_t)near(input, (uint64_t)-7),
                                      .message_bytes = (uint32_t)near(input, 40),
                                      .backtrace_bytes = (uint32_t)near(input, 60)};
    ring_commit(out, CHANNEL_FAILED, sizeof *failed + 100);
}

/* A message in pieces: its beginning, or more of it. */
static void write_relay(struct ring *out, struct fuzz_input *input)
{
    uint32_t frames = 1 + (uint32_t)fuzz_number(input, 1) % 4;
    struct channel_relay *relay = ring_reserve(out, sizeof *relay);
    if (relay == NULL)
        return;
    memset(relay, 0, sizeof *relay);
    if (fuzz_number(input, 1) % 2 == 0) {
        ring_commit(out, CHANNEL_RELAY_PART, (uint32_t)fuzz_number(input, 1) % 64);
        return;
    }
    relay->frames = (uint32_t)near(input, frames);
    for (uint32_t i = 0; i < frames; i++)
        relay->sizes[i] = near(input, i * 20);
    ring_commit(out, CHANNEL_RELAY,
                (uint32_t)offsetof(struct channel_relay, sizes) + frames * 8);
}

static void write_any(struct ring *out, struct fuzz_input *input, uint32_t length)
{
    uint8_t *body = ring_reserve(out, length);
    if (body == NULL)
        return;
    for (uint32_t i = 0; i < length; i++)
        body[i] = i % 8 == 0 ? (uint8_t)fuzz_number(input, 1) : 0;
    ring_commit(out, (uint16_t)fuzz_number(input, 1) % 16, length);
}

static void act(struct bed *bed, struct ring *out, struct fuzz_input *input)
{
    struct host_map *map = bed->process->map;
    switch (fuzz_number(input, 1) % 12) {
    case 0:
    case 1:
    case 2:
        write_done(bed, out, input);
        break;
    case 3:
        write_failed(bed, out, input);
        break;
    case 4:
        write_relay(out, input);
        break;
    case 5:
        write_any(out, input, (uint32_t)any(input) % 1000);
        break;
    case 6:
        map->base[map->at.out + any(input) % CHANNEL_RING_BYTES] ^= 0x55;
        break;
    case 7:
        atomic_store(&map->control->out.head, near(input, out->head) + any(input) * 64);
        return;
    case 8:
        bed->process->take_back_count = fuzz_number(input, 1);
        host_take_back(&bed->host, bed->process);
        break;
    case 9:
        host_drain(&bed->host, bed->process);
        return;
    default:
        claim(bed, input);
        return;
    }
    ring_publish(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct bed bed = {.host = {.config = {.payload_max = 4096}, .epoll = -1}};
    struct ring out;
    bed.host.deliver = deliver;
    bed.host.deliver_user = &bed;
    bed.process = make_process(&bed);
    bed.process->state = fuzz_number(&input, 1) < 8 ? PROCESS_STARTING : PROCESS_SERVING;
    out = bed.process->out;
    give_tasks(&bed);
    while (input.left > 0 && bed.process->state < PROCESS_ENDING)
        act(&bed, &out, &input);
    host_drain(&bed.host, bed.process);
    mem_free(bed.host.merge.data);
    mem_free(bed.host.merge.sizes);
    host_process_destroy(&bed.host, bed.process);
    return 0;
}
