/* The pauses of home's collector: a large state that events overwrite bit by
 * bit, and what each step of a cycle costs the event thread between them.
 * Linked with the units of native that home needs.
 *
 *   collect CELLS CYCLES    a state of about CELLS cells; until so many cycles
 *
 * Prints one line, nanoseconds: steps p50 p99 max of the thread's own clock,
 * the longest by the wall, the median event. The thread's clock leaves out
 * what else the machine does; the collector's own thread is none of it.
 */
#include "collect.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SLOTS_LOG 14
#define SLOTS (1u << SLOTS_LOG)
#define STEPS_MAX (1u << 20)

static struct nk_arena arena;
static struct nk_home home;
static uint64_t steps[STEPS_MAX], events[STEPS_MAX];

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void need(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "collect: %s\n", what);
    exit(1);
}

static nk_noun list(uint64_t count, uint64_t seed) {
    nk_noun out = 0;
    while (count-- > 0)
        out = nk_cons(&arena, seed + count, out);
    return out;
}

/* [n], a tree of SLOTS leaves, with another leaf [at]. */
static nk_noun with_leaf(nk_noun n, unsigned at, nk_noun leaf) {
    nk_noun path[SLOTS_LOG];
    for (unsigned i = 0; i < SLOTS_LOG; i++) {
        path[i] = n;
        n = (at >> i & 1) != 0 ? nk_tail(&arena, n) : nk_head(&arena, n);
    }
    for (unsigned i = SLOTS_LOG; i-- > 0;) {
        leaf = (at >> i & 1) != 0 ? nk_cons(&arena, nk_head(&arena, path[i]), leaf)
                                  : nk_cons(&arena, leaf, nk_tail(&arena, path[i]));
    }
    return leaf;
}

/* An event that replaces leaf [at]. */
static void event(unsigned at, uint64_t cells, uint64_t seed) {
    nk_noun *kernel = &home.roots[NK_ROOT_KERNEL];
    *kernel = with_leaf(*kernel, at, list(cells, seed));
    need(nk_home_promote(&home, kernel, 1) == NK_OK, "home is full");
    nk_nursery_reset(&arena);
}

static int order(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    need(argc == 3, "usage: collect CELLS CYCLES");
    uint64_t cells = strtoull(argv[1], NULL, 10) / SLOTS;
    uint64_t cycles = strtoull(argv[2], NULL, 10);
    need(nk_arena_open(&arena, 8ull << 30, 1ull << 30) == NK_OK, "no address space");
    need(nk_home_open(&home, &arena) == NK_OK, "no memory");
    nk_noun tree = 0;
    for (unsigned i = 0; i < SLOTS_LOG; i++)
        tree = nk_cons(&arena, tree, tree);
    home.roots[NK_ROOT_KERNEL] = tree;
    for (unsigned i = 0; i < SLOTS; i++)
        event(i, cells, i * cells);
    size_t step_count = 0, event_count = 0;
    uint64_t seed = 88172645463325252u, wall_max = 0;
    while (nk_collect_stats(&home)->cycles < cycles) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t begun = now(CLOCK_THREAD_CPUTIME_ID);
        event((unsigned)(seed % SLOTS), cells, seed >> 1);
        uint64_t between = now(CLOCK_THREAD_CPUTIME_ID);
        uint64_t wall = now(CLOCK_MONOTONIC), done = nk_collect_stats(&home)->steps;
        nk_collect_step(&home, NK_COLLECT_STEP_NS);
        wall = now(CLOCK_MONOTONIC) - wall;
        if (event_count < STEPS_MAX) events[event_count++] = between - begun;
        if (nk_collect_stats(&home)->steps == done) continue;
        need(step_count < STEPS_MAX, "too many steps");
        steps[step_count++] = now(CLOCK_THREAD_CPUTIME_ID) - between;
        if (wall > wall_max) wall_max = wall;
    }
    need(step_count > 0, "no steps");
    qsort(steps, step_count, sizeof *steps, order);
    qsort(events, event_count, sizeof *events, order);
    const uint64_t shown[] = {steps[step_count / 2], steps[step_count * 99 / 100],
                              steps[step_count - 1], wall_max, events[event_count / 2]};
    printf("%zu", step_count);
    for (int i = 0; i < 5; i++)
        printf(" %llu", (unsigned long long)shown[i]);
    printf("\n");
    nk_home_close(&home);
    nk_arena_close(&arena);
    return 0;
}
