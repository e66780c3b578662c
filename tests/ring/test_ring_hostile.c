/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_hostile.c: processes that overwrite the memory they share with their host,
 * anywhere and with anything, while both work with it: indexes, records, claims, words
 * about sleeping, the queue of released blocks, the arenas. The host meanwhile gives and
 * takes back tasks, samples, cancels and reads results. It stays alive and never waits,
 * what it tells of such a process is about the tasks that it was given, and beside it
 * another process of the same host has all its tasks done right.
 *
 * FARPOOL_MUTATIONS: how many (default 200,000, or 60,000 with sanitizers, whose
 * processes are slow to start; the full form has 10,000,000). */
#include "tests/unit/host_fixture.h"

#include "client/process_internal.h"
#include "farpool.h"
#include "tests/ring/steps.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MUTATIONS (STEPS_SANITIZED ? 60000 : 200000)
#define ONE_LIFE 5000 /* mutations of a process that lives so long */
#define AT_ONCE_MS 1000
#define GIVES 4  /* of a hostile process: numbers 1 to 4 */
#define TASKS 20 /* of a give, from 100 times its number on */
#define NEIGHBOUR_TASKS 200

/* In a file that all map: the mutations so far, of all lives. */
struct tally {
    _Atomic uint64_t mutations, lives;
};

struct order {
    uint64_t seed;
    char path[64]; /* of the tally */
};

/* ------------------------------------------------------------------ the hostile side */

static uint64_t any_value(uint64_t *seed, uint64_t old)
{
    static const uint64_t odd[] = {
        0,          1,          UINT64_MAX,         UINT32_MAX,
        1ull << 31, 1ull << 32, CHANNEL_RING_BYTES, CHANNEL_INLINE};
    switch (rng_below(seed, 4)) {
    case 0:
        return odd[rng_below(seed, sizeof odd / sizeof *odd)];
    case 1:
        return old + rng_below(seed, 9) - 4;
    case 2:
        return old ^ 1ull << rng_below(seed, 64);
    default:
        return rng_next(seed);
    }
}

/* Where: mostly what the host reads, in front of where it reads now. */
static uint64_t any_place(const struct process *self, uint64_t *seed)
{
    const struct channel_layout *at = &self->at;
    const struct channel_control *control = self->control;
    const uint64_t ring = CHANNEL_RING_BYTES;
    switch (rng_below(seed, 8)) {
    case 0:
    case 1:
        return rng_below(seed, sizeof *control);
    case 2: /* a record that the host will read */
        return at->out + (atomic_load(&control->out.tail) + rng_below(seed, 4096)) % ring;
    case 3: /* a claim, or another word of a give */
        return at->in + (atomic_load(&control->in.tail) + rng_below(seed, 256)) % ring;
    case 4:
        return at->releases + rng_below(seed, CHANNEL_RELEASES) * sizeof(uint64_t);
    case 5: /* an index itself */
        return (rng_below(seed, 2) ? offsetof(struct channel_control, out)
                                   : offsetof(struct channel_control, in)) +
               rng_below(seed, 2) * RING_ALIGN;
    case 6:
        return at->crash + rng_below(seed, at->in - at->crash + 3 * ring);
    default:
        return at->in_arena + rng_below(seed, 1u << 20);
    }
}

static void mutate(struct process *self, uint64_t *seed)
{
    uint64_t place = any_place(self, seed), value;
    const size_t size = (size_t)1 << rng_below(seed, 4);
    if (rng_below(seed, 2) && size == 8)
        place &= ~(uint64_t)7;
    memcpy(&value, self->base + place, sizeof value);
    value = any_value(seed, value);
    memcpy(self->base + place, &value, size);
}

static struct tally *map_tally(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct tally *tally =
        mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return tally;
}

/* It overwrites, and rings, until it is killed or has had its life; then it waits. */
static int hostile(farpool_task *task)
{
    struct order order;
    memcpy(&order, farpool_task_input(task, NULL), sizeof order);
    struct tally *tally = map_tally(order.path);
    uint64_t seed = order.seed;
    for (int i = 0; i < ONE_LIFE; i++) {
        mutate(&process_self, &seed);
        atomic_fetch_add(&tally->mutations, 1);
        if (rng_below(&seed, 64) == 0) {
            const uint64_t one = 1;
            if (write(process_self.bell, &one, sizeof one) < 0)
                _exit(1);
        }
    }
    atomic_fetch_add(&tally->lives, 1);
    for (;;)
        pause();
}
FARPOOL_BYTES_FUNCTION(hostile)

static uint64_t twice(uint64_t value)
{
    return 2 * value;
}
FARPOOL_FUNCTION(twice, uint64_t, uint64_t)

/* --------------------------------------------------------------------- the host's side
 */

struct bed {
    struct fixture fixture;
    struct tally *tally;
    char path[64];
    uint64_t number; /* of the hostile process */
    uint64_t seed;
    uint64_t neighbour_give, neighbour_done;
    uint64_t gone, by_protocol;
    bool is_gone;
};

static void give_neighbour(struct bed *bed)
{
    static uint64_t inputs[NEIGHBOUR_TASKS];
    for (uint64_t i = 0; i < NEIGHBOUR_TASKS; i++)
        inputs[i] = i + bed->neighbour_give + 1;
    struct giving giving = giving_of("twice", NEIGHBOUR_TASKS, inputs, sizeof inputs);
    giving.give = ++bed->neighbour_give;
    giving.claim = 3;
    giving.publish = 10;
    bed->neighbour_done = 0;
    fixture_give(&bed->fixture, &giving);
}

static void give_hostile(struct bed *bed)
{
    struct order orders[TASKS];
    uint32_t sizes[TASKS];
    memset(orders, 0, sizeof orders);
    for (int i = 0; i < TASKS; i++) {
        orders[i].seed = rng_next(&bed->seed);
        snprintf(orders[i].path, sizeof orders[i].path, "%s", bed->path);
        sizes[i] = sizeof orders[i];
    }
    for (uint64_t give = 1; give <= GIVES; give++) {
        struct giving giving = giving_of("hostile", TASKS, orders, sizeof orders);
        giving.process = bed->number;
        giving.give = give;
        giving.first = 100 * give;
        giving.sizes = sizes;
        fixture_give(&bed->fixture, &giving);
    }
}

static void check_neighbour(struct bed *bed, const struct worker_event *event)
{
    assert_int_equal(event->kind, WORKER_PROCESS_DONE);
    assert_int_equal(event->give, bed->neighbour_give);
    assert_int_equal(event->first, bed->neighbour_done);
    for (uint32_t i = 0; i < event->count; i++) {
        uint64_t wanted = 2 * (event->first + i + bed->neighbour_give);
        assert_memory_equal(event->data->data + i * sizeof wanted, &wanted,
                            sizeof wanted);
    }
    bed->neighbour_done += event->count;
    if (bed->neighbour_done == NEIGHBOUR_TASKS)
        give_neighbour(bed);
}

static void check_hostile(struct bed *bed, const struct worker_event *event)
{
    assert_int_equal(event->process, bed->number);
    switch (event->kind) {
    case WORKER_PROCESS_DONE:
    case WORKER_PROCESS_FAILED:
    case WORKER_PROCESS_TAKEN:
        if (event->count == 0)
            return;
        assert_in_range(event->give, 1, GIVES);
        assert_in_range(event->first, 100 * event->give, 100 * event->give + TASKS - 1);
        return;
    case WORKER_PROCESS_GONE:
        bed->is_gone = true;
        bed->gone++;
        bed->by_protocol += event->code == FARPOOL_EPROTOCOL;
        if (event->running)
            assert_in_range(event->first, 100, 100 * GIVES + TASKS - 1);
        return;
    default:
        return;
    }
}

static void look(struct bed *bed)
{
    struct fixture *fixture = &bed->fixture;
    while (fixture->read < fixture->told_count) {
        const struct worker_event *event = &fixture->told[fixture->read++].event;
        if (event->process == 1)
            check_neighbour(bed, event);
        else
            check_hostile(bed, event);
    }
    fixture_forget(fixture);
    while (fixture->relayed_count > 0)
        frames_fini(&fixture->relayed[--fixture->relayed_count]);
}

/* What a core might do with a process at any time. */
static void meddle(struct bed *bed)
{
    const uint64_t give = 1 + rng_below(&bed->seed, GIVES);
    switch (rng_below(&bed->seed, 16)) {
    case 0:
        fixture_do(&bed->fixture, WORKER_PROCESS_SAMPLE, bed->number, 0);
        break;
    case 1:
        fixture_do(&bed->fixture, WORKER_PROCESS_TAKE_BACK, bed->number, 1);
        break;
    case 2:
        fixture_cancel(&bed->fixture, bed->number, give, 100 * give, 3);
        break;
    default:
        break;
    }
}

static uint64_t own_cpu_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* The host does not work long for such a process; in processor time, as the machine may
 * have other things to do. That it never waits for it, the deadline in live() shows. */
static void check_prompt(uint64_t cpu_ms)
{
    const uint64_t took_ms = own_cpu_ms() - cpu_ms;
    if (took_ms >= AT_ONCE_MS)
        fail_msg("one turn of the host took %llu ms", (unsigned long long)took_ms);
}

/* One hostile process from its start to its end. */
static void live(struct bed *bed)
{
    const uint64_t lives = atomic_load(&bed->tally->lives);
    const uint64_t mutations = atomic_load(&bed->tally->mutations);
    bool killed = false;
    bed->number++;
    bed->is_gone = false;
    fixture_start(&bed->fixture, bed->number, NULL, NULL);
    give_hostile(bed);
    const uint64_t deadline_ms = sys_now_ms() + 3ull * PATIENCE_MS;
    while (!bed->is_gone) {
        const uint64_t cpu_ms = own_cpu_ms();
        fixture_step(&bed->fixture, sys_now_ms() + 1);
        look(bed);
        /* Not before it has begun: or else all its tasks may be taken back. */
        if (!bed->is_gone && !killed && atomic_load(&bed->tally->mutations) != mutations)
            meddle(bed);
        look(bed);
        check_prompt(cpu_ms);
        if (sys_now_ms() >= deadline_ms)
            fail_msg(
                "process %llu hangs: %llu mutations, lives %llu of %llu, killed %d",
                (unsigned long long)bed->number,
                (unsigned long long)(atomic_load(&bed->tally->mutations) - mutations),
                (unsigned long long)atomic_load(&bed->tally->lives),
                (unsigned long long)lives, killed);
        /* It has had its life, and nothing was seen: its task hangs. */
        if (!killed && atomic_load(&bed->tally->lives) != lives) {
            fixture_do(&bed->fixture, WORKER_PROCESS_KILL, bed->number, 0);
            killed = true;
        }
    }
}

static void make_tally(struct bed *bed)
{
    snprintf(bed->path, sizeof bed->path, "/tmp/farpool-hostile-XXXXXX");
    int fd = mkstemp(bed->path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(struct tally)), 0);
    close(fd);
    bed->tally = map_tally(bed->path);
    assert_true((void *)bed->tally != MAP_FAILED);
}

static void memory_overwritten_anywhere(void **state)
{
    static struct bed bed = {.number = 1, .seed = 21};
    const char *text = getenv("FARPOOL_MUTATIONS");
    const uint64_t wanted = text != NULL ? strtoull(text, NULL, 10) : MUTATIONS;
    (void)state;
    make_tally(&bed);
    fixture_open_with(&bed.fixture, "/proc/self/exe", NULL, 1 << 20, false);
    fixture_start_ready(&bed.fixture, 1);
    fixture_forget(&bed.fixture);
    give_neighbour(&bed);
    while (atomic_load(&bed.tally->mutations) < wanted)
        live(&bed);
    printf(
        "%llu mutations by %llu processes, %llu of them found to break the rules; %llu "
        "tasks beside them right\n",
        (unsigned long long)atomic_load(&bed.tally->mutations),
        (unsigned long long)bed.gone, (unsigned long long)bed.by_protocol,
        (unsigned long long)(bed.neighbour_give - 1) * NEIGHBOUR_TASKS);
    assert_true(bed.by_protocol > 0 && bed.neighbour_give > 1);
    fixture_close(&bed.fixture);
    unlink(bed.path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_overwritten_anywhere),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
