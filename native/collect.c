/* See collect.h. The first half is the thread's: it sees a `struct job` and
 * nothing else. The second is the event thread's. */
#include "collect.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "home_inside.h"

/* Growth since the last cycle that makes the next one worth its while. */
#ifndef NK_TINY
#define COLLECT_WORDS_MIN (4u << 20)
#define QUANTUM_PAGES 32u
#define QUANTUM_THINGS 64u
#else
#define COLLECT_WORDS_MIN (4u << 10)
#define QUANTUM_PAGES 3u
#define QUANTUM_THINGS 5u
#endif
#define THREAD_STACK_SIZE (256u << 10)

enum job_kind { JOB_NONE, JOB_MARK, JOB_RELEASE };

/* What the thread works on: copies, and pointers to what is frozen. */
struct job {
    const uint64_t *base;
    const struct nk_page *pages; /* classes of atoms' pages only */
    const uint32_t *reciprocal;
    uint64_t *marks;
    const struct nk_pile *roots;
    nk_noun cache;        /* of them: marked last, and weighed */
    uint64_t cache_words; /* what nothing else holds */
    bool weighing;
    struct nk_pile todo; /* open cells */
    void *tables;
    uint64_t tables_size;
    uint64_t mark_ns;
    const atomic_bool *stop;
};

struct nk_collector {
    struct job job;
    struct nk_collect_stats stats;
    uint64_t began_ns;
    uint64_t promotions; /* home's, when the last cycle began */
    pthread_t thread;
    bool thread_runs;
    bool thread_refused;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    atomic_int kind; /* set under the mutex; may be read without */
    atomic_bool stop;
};

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* ---- the thread's half ---- */

static uint64_t words_of(const struct nk_page *pages, nk_noun n) {
    if (nk_is_cell(n)) return NK_CELL_WORDS;
    const struct nk_page *page = &pages[nk_offset(n) / NK_PAGE_WORDS];
    return page->class_index == NK_CLASS_LARGE
               ? (uint64_t)page->run_pages * NK_PAGE_WORDS
               : nk_class_words[page->class_index];
}

static inline void mark(struct job *job, nk_noun n) {
    if (nk_is_direct(n)) return;
    uint64_t bit = nk_box_bit(job->pages, job->reciprocal, n);
    if (nk_bit_get(job->marks, bit)) return;
    nk_bit_set(job->marks, bit);
    if (nk_is_cell(n)) nk_pile_push(&job->todo, n);
    if (job->weighing) job->cache_words += words_of(job->pages, n);
}

/* Marking waits for memory more than for anything else: a cell passes
 * through a short queue after its prefetch, before it is read. */
#define QUEUE 16u

static void mark_open(struct job *job) {
    struct nk_pile *todo = &job->todo;
    nk_noun queue[QUEUE];
    size_t first = 0, count = 0, rounds = 0;
    while (todo->count + count > 0) {
        if (++rounds % 4096 == 0 &&
            atomic_load_explicit(job->stop, memory_order_relaxed)) {
            break;
        }
        while (count < QUEUE && todo->count > 0) {
            nk_noun n = todo->items[--todo->count];
            __builtin_prefetch(job->base + nk_offset(n));
            queue[(first + count++) % QUEUE] = n;
        }
        const uint64_t *cell = job->base + nk_offset(queue[first]);
        first = (first + 1) % QUEUE;
        count--;
        mark(job, __atomic_load_n(&cell[2], __ATOMIC_RELAXED));
        mark(job, __atomic_load_n(&cell[1], __ATOMIC_RELAXED));
    }
}

/* The cache comes last, so that what it alone holds is known. */
static void mark_all(struct job *job) {
    uint64_t start = now_ns();
    for (size_t i = 0; i < job->roots->count; i++) {
        if (job->roots->items[i] != job->cache) mark(job, job->roots->items[i]);
    }
    mark_open(job);
    job->weighing = true;
    if (job->cache != NK_NONE) mark(job, job->cache);
    mark_open(job);
    nk_pile_trim(&job->todo);
    job->mark_ns = now_ns() - start;
}

/* Memory first, which lets page faults go on beside it, then addresses. */
static void release(struct job *job) {
    (void)madvise(job->tables, job->tables_size, MADV_DONTNEED);
    nk_home_table_free(job->tables, job->tables_size);
}

static void do_job(struct job *job, enum job_kind kind) {
    if (kind == JOB_MARK) mark_all(job);
    if (kind == JOB_RELEASE) release(job);
}

static void *thread_main(void *context) {
    struct nk_collector *collector = context;
    pthread_mutex_lock(&collector->mutex);
    while (!atomic_load(&collector->stop)) {
        enum job_kind kind = (enum job_kind)atomic_load(&collector->kind);
        if (kind == JOB_NONE) {
            pthread_cond_wait(&collector->work, &collector->mutex);
            continue;
        }
        pthread_mutex_unlock(&collector->mutex);
        do_job(&collector->job, kind);
        pthread_mutex_lock(&collector->mutex);
        atomic_store_explicit(&collector->kind, JOB_NONE, memory_order_release);
        pthread_cond_signal(&collector->done);
    }
    pthread_mutex_unlock(&collector->mutex);
    return NULL;
}

/* ---- the event thread's half: the thread and its jobs ---- */

static struct nk_collector *collector_of(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    if (state->collector != NULL) return state->collector;
    struct nk_collector *collector = calloc(1, sizeof *collector);
    NK_ASSERT(collector != NULL);
    NK_ASSERT(pthread_mutex_init(&collector->mutex, NULL) == 0);
    NK_ASSERT(pthread_cond_init(&collector->work, NULL) == 0);
    NK_ASSERT(pthread_cond_init(&collector->done, NULL) == 0);
    atomic_init(&collector->kind, JOB_NONE);
    atomic_init(&collector->stop, false);
    state->collector = collector;
    return collector;
}

static void start_thread(struct nk_collector *collector) {
    pthread_attr_t attributes;
    sigset_t all, before;
    if (collector->thread_runs || collector->thread_refused) return;
    collector->thread_refused = true;
    if (pthread_attr_init(&attributes) != 0) return;
    /* Signals are for the thread that Python runs its handlers in. */
    sigfillset(&all);
    if (pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE) == 0) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
        collector->thread_runs = pthread_create(&collector->thread, &attributes,
                                                thread_main, collector) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    collector->thread_refused = !collector->thread_runs;
}

static void post(struct nk_collector *collector, enum job_kind kind, bool here) {
    if (!here) start_thread(collector);
    if (here || !collector->thread_runs) {
        do_job(&collector->job, kind);
        return;
    }
    pthread_mutex_lock(&collector->mutex);
    atomic_store(&collector->kind, (int)kind);
    pthread_cond_signal(&collector->work);
    pthread_mutex_unlock(&collector->mutex);
}

static bool job_done(struct nk_collector *collector) {
    return atomic_load_explicit(&collector->kind, memory_order_acquire) == JOB_NONE;
}

static void await_job(struct nk_collector *collector) {
    if (job_done(collector)) return;
    pthread_mutex_lock(&collector->mutex);
    while (atomic_load(&collector->kind) != JOB_NONE)
        pthread_cond_wait(&collector->done, &collector->mutex);
    pthread_mutex_unlock(&collector->mutex);
}

void nk_collect_close(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    struct nk_collector *collector = state->collector;
    struct nk_cycle *cycle = &state->cycle;
    if (collector == NULL) return;
    if (collector->thread_runs) {
        atomic_store(&collector->stop, true);
        pthread_mutex_lock(&collector->mutex);
        pthread_cond_signal(&collector->work);
        pthread_mutex_unlock(&collector->mutex);
        NK_ASSERT(pthread_join(collector->thread, NULL) == 0);
    }
    /* A release that was asked for and not begun is ours now. */
    bool held = cycle->phase != NK_PHASE_IDLE && cycle->phase != NK_PHASE_RELEASING;
    if (held || !job_done(collector)) release(&collector->job);
    pthread_cond_destroy(&collector->work);
    pthread_cond_destroy(&collector->done);
    pthread_mutex_destroy(&collector->mutex);
    nk_pile_close(&cycle->roots);
    nk_pile_close(&collector->job.todo);
    free(collector);
    memset(cycle, 0, sizeof *cycle);
    state->collector = NULL;
}

/* ---- a cycle, phase by phase ---- */

static void note_root(struct nk_arena *arena, nk_noun *slot) {
    struct nk_pile *roots = arena->home->visiting;
    if (*slot == NK_NONE || nk_is_direct(*slot)) return;
    if (nk_is_durable(arena, *slot)) nk_pile_push(roots, *slot);
}

static void enter(struct nk_home *home, enum nk_phase phase) {
    struct nk_home_state *state = home->private_state;
    state->cycle.phase = phase;
    nk_home_aim(home);
}

/* [here]: mark on this thread, before returning. */
static void begin(struct nk_home *home, bool here) {
    struct nk_home_state *state = home->private_state;
    struct nk_collector *collector = collector_of(home);
    struct nk_cycle *cycle = &state->cycle;
    struct job *job = &collector->job;
    uint64_t pages = home->page_count;
    uint64_t boxes_size = pages * NK_BITMAP_WORDS * 8, pages_size = pages / 64 * 8 + 8;
    uint64_t size = 2 * boxes_size + 2 * pages_size;
    if (cycle->phase != NK_PHASE_IDLE) return;
    collector->promotions = home->promotions;
    cycle->tables = nk_home_table(size);
    if (cycle->tables == NULL) return;
    cycle->marks = cycle->tables;
    cycle->fresh = cycle->marks + boxes_size / 8;
    cycle->touched = cycle->fresh + boxes_size / 8;
    cycle->black = cycle->touched + pages_size / 8;
    cycle->pages = pages;
    cycle->words_before = home->words_used;
    cycle->words_freed = 0;
    cycle->roots.count = 0;
    nk_home_trace(home, note_root, &cycle->roots);
    struct nk_pile todo = job->todo;
    *job = (struct job){.base = home->arena->base,
                        .pages = home->pages,
                        .reciprocal = state->reciprocal,
                        .marks = cycle->marks,
                        .roots = &cycle->roots,
                        .cache = home->roots[NK_ROOT_CACHE],
                        .todo = todo,
                        .tables = cycle->tables,
                        .tables_size = size,
                        .stop = &collector->stop};
    collector->began_ns = now_ns();
    enter(home, NK_PHASE_MARKING);
    post(collector, JOB_MARK, here);
}

static void begin_purge(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    state->collector->stats.mark_ns = state->collector->job.mark_ns;
    state->collector->stats.cache_words = state->collector->job.cache_words;
    for (struct nk_home_source *source = home->sources; source; source = source->next)
        source->cursor = 0;
    state->cycle.purging = home->sources;
    enter(home, NK_PHASE_PURGING);
}

/* True when all is purged. */
static bool purge_some(struct nk_home *home) {
    struct nk_cycle *cycle = &((struct nk_home_state *)home->private_state)->cycle;
    struct nk_home_source *source = cycle->purging;
    if (source == NULL) return true;
    if (source->purge == NULL ||
        source->purge(source->context, home, &source->cursor, QUANTUM_THINGS)) {
        cycle->purging = source->next;
    }
    return cycle->purging == NULL;
}

/* The pages with room are made known anew, one by one as they are swept. */
static void begin_sweep(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    memset(state->classes, 0, sizeof state->classes);
    state->cycle.cursor = home->page_count;
    enter(home, NK_PHASE_SWEEPING);
}

static bool is_black(const struct nk_cycle *cycle, uint64_t number) {
    return number >= cycle->pages || nk_bit_get(cycle->black, number);
}

bool nk_home_marked(const struct nk_home *home, nk_noun n) {
    const struct nk_home_state *state = home->private_state;
    const struct nk_cycle *cycle = &state->cycle;
    NK_ASSERT(cycle->phase == NK_PHASE_PURGING);
    if (nk_is_direct(n) || !nk_is_durable(home->arena, n)) return true;
    if (is_black(cycle, nk_offset(n) / NK_PAGE_WORDS)) return true;
    uint64_t bit = nk_box_bit(home->pages, state->reciprocal, n);
    return nk_bit_get(cycle->marks, bit) || nk_bit_get(cycle->fresh, bit);
}

/* Clear the bits of what is neither marked nor new. */
static void sweep_boxes(struct nk_home *home, uint64_t number) {
    struct nk_home_state *state = home->private_state;
    struct nk_cycle *cycle = &state->cycle;
    struct nk_page *page = &home->pages[number];
    const uint64_t *marks = cycle->marks + number * NK_BITMAP_WORDS;
    const uint64_t *fresh = NULL;
    if (nk_bit_get(cycle->touched, number)) {
        fresh = cycle->fresh + number * NK_BITMAP_WORDS;
    }
    uint32_t boxes = nk_boxes_of(page->class_index), live = 0;
    for (uint32_t word = 0; word * 64 < boxes; word++) {
        uint64_t kept = page->bitmap[word] & (marks[word] | (fresh ? fresh[word] : 0));
        if (kept != page->bitmap[word]) {
            nk_home_page_note(home, number);
            page->bitmap[word] = kept;
        }
        live += (uint32_t)__builtin_popcountll(kept);
    }
    uint64_t freed = boxes - page->free_count - live;
    cycle->words_freed += freed * nk_class_words[page->class_index];
    page->free_count = (uint16_t)(boxes - live);
    if (live == 0) {
        nk_home_page_free(home, number);
    } else {
        nk_home_page_enlist(home, number);
    }
}

/* A page of a run that died: the run gets shorter, from its end. */
static void sweep_run(struct nk_home *home, uint64_t number) {
    struct nk_home_state *state = home->private_state;
    struct nk_cycle *cycle = &state->cycle;
    uint64_t head = state->next[number];
    if (nk_bit_get(cycle->marks, head * NK_PAGE_BOXES_MAX)) return;
    if (head != number) {
        nk_home_page_note(home, head);
        home->pages[head].run_pages--;
    }
    cycle->words_freed += NK_PAGE_WORDS;
    nk_home_page_free(home, number);
}

/* Sweep page [number]; true if it was free all the time since the last sweep:
 * nobody wants it soon. (A save may still want what it held.) */
static bool sweep_page(struct nk_home *home, uint64_t number) {
    struct nk_home_state *state = home->private_state;
    struct nk_page *page = &home->pages[number];
    uint32_t class = page->class_index;
    if (class == NK_CLASS_FREE) {
        return page->flags == 0 && !nk_bit_get(state->used, number) &&
               home->freeze == NULL;
    }
    if (is_black(&state->cycle, number)) {
        /* All new. It may be the one that its class is filling just now. */
        if (class < NK_CLASS_COUNT && state->classes[class].page != number) {
            nk_home_page_enlist(home, number);
        }
    } else if (class < NK_CLASS_COUNT) {
        sweep_boxes(home, number);
    } else {
        sweep_run(home, number);
    }
    return false;
}

static void give_back(struct nk_home *home, uint64_t first, uint64_t count) {
    if (count == 0) return;
    for (uint64_t i = first; i < first + count; i++)
        home->pages[i].flags = NK_PAGE_GIVEN_BACK;
    (void)madvise(home->arena->base + first * NK_PAGE_WORDS,
                  (size_t)count * NK_PAGE_SIZE, MADV_DONTNEED);
}

/* True when all is swept. */
static bool sweep_some(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    struct nk_cycle *cycle = &state->cycle;
    uint64_t idle = 0, freed = cycle->words_freed;
    for (unsigned i = 0; i < QUANTUM_PAGES && cycle->cursor > 1; i++) {
        uint64_t number = --cycle->cursor;
        if (sweep_page(home, number)) {
            idle++;
        } else {
            give_back(home, number + 1, idle);
            idle = 0;
        }
    }
    give_back(home, cycle->cursor, idle);
    home->words_used -= cycle->words_freed - freed;
    return cycle->cursor <= 1;
}

static void end(struct nk_home *home, bool here) {
    struct nk_home_state *state = home->private_state;
    struct nk_collector *collector = state->collector;
    struct nk_cycle *cycle = &state->cycle;
    home->collections++;
    home->words_at_sweep = cycle->words_before - cycle->words_freed;
    collector->stats.words_freed += cycle->words_freed;
    collector->stats.cycle_ns = now_ns() - collector->began_ns;
    collector->stats.cycles += !here;
    cycle->pages = 0;
    cycle->marks = cycle->fresh = cycle->touched = cycle->black = NULL;
    enter(home, NK_PHASE_RELEASING);
    post(collector, JOB_RELEASE, here);
#ifdef NK_TINY
    NK_ASSERT(nk_home_check(home) == NULL);
#endif
}

/* One small piece of work. False: there is none now. */
static bool advance(struct nk_home *home, bool here) {
    struct nk_home_state *state = home->private_state;
    switch (state->cycle.phase) {
    case NK_PHASE_IDLE:
        return false;
    case NK_PHASE_MARKING:
        if (!job_done(state->collector)) return false;
        begin_purge(home);
        return true;
    case NK_PHASE_PURGING:
        if (purge_some(home)) begin_sweep(home);
        return true;
    case NK_PHASE_SWEEPING:
        if (sweep_some(home)) end(home, here);
        return true;
    case NK_PHASE_RELEASING:
        if (!job_done(state->collector)) return false;
        enter(home, NK_PHASE_IDLE);
        return false;
    }
    return false;
}

/* ---- what others call ---- */

bool nk_collect_is_idle(const struct nk_home *home) {
    const struct nk_home_state *state = home->private_state;
    return state->cycle.phase == NK_PHASE_IDLE;
}

void nk_collect_begin(struct nk_home *home) {
    if (nk_collect_is_idle(home)) begin(home, false);
}

bool nk_collect_finish(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    struct nk_cycle *cycle = &state->cycle;
    if (cycle->phase == NK_PHASE_IDLE) return false;
    bool swept = cycle->phase == NK_PHASE_RELEASING;
    if (!swept) state->collector->stats.waits++;
    while (cycle->phase != NK_PHASE_IDLE) {
        await_job(state->collector);
        (void)advance(home, false);
    }
    return !swept;
}

void nk_home_collect(struct nk_home *home) {
    (void)nk_collect_finish(home);
    begin(home, true);
    while (advance(home, true)) {
    }
}

bool nk_home_wants_collect(const struct nk_home *home) {
    const struct nk_home_state *state = home->private_state;
    if (state->cycle.phase != NK_PHASE_IDLE) return false;
#ifdef NK_TINY
    /* After every event, while that is cheap. */
    uint64_t since = state->collector == NULL ? 0 : state->collector->promotions;
    return home->promotions - since > home->words_used >> 14;
#endif
    uint64_t grown = home->words_used - home->words_at_sweep;
    if (home->words_used < home->words_at_sweep) return false;
    uint64_t enough = home->words_at_sweep / 2;
    /* Near the limit, a smaller gain is worth as much. */
    bool near = nk_home_pages_left(home) < home->page_max / 4;
    if (near) enough /= 4;
    return grown > enough + COLLECT_WORDS_MIN || (near && grown > enough);
}

/* ---- steps, and what they take ---- */

static void note_pause(struct nk_collect_stats *stats, uint64_t ns) {
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns | 4);
    unsigned bucket = octave * 4 + (unsigned)(ns >> (octave - 2) & 3);
    if (bucket >= NK_PAUSE_BUCKETS) bucket = NK_PAUSE_BUCKETS - 1;
    stats->pauses[bucket]++;
    stats->steps++;
    stats->step_ns += ns;
    if (ns > stats->step_ns_max) stats->step_ns_max = ns;
}

void nk_collect_step(struct nk_home *home, uint64_t budget_ns) {
    struct nk_home_state *state = home->private_state;
    if (state->cycle.phase == NK_PHASE_IDLE && !nk_home_wants_collect(home)) return;
    bool waiting = state->cycle.phase == NK_PHASE_MARKING ||
                   state->cycle.phase == NK_PHASE_RELEASING;
    if (waiting && !job_done(state->collector)) return;
    uint64_t start = now_ns(), now = start;
    if (state->cycle.phase == NK_PHASE_IDLE) begin(home, false);
    while (advance(home, false)) {
#ifdef NK_TINY
        break;
#endif
        now = now_ns();
        if (now - start >= budget_ns) break;
    }
    note_pause(&collector_of(home)->stats, now_ns() - start);
}

static const struct nk_collect_stats no_stats;

const struct nk_collect_stats *nk_collect_stats(const struct nk_home *home) {
    const struct nk_home_state *state = home->private_state;
    return state->collector == NULL ? &no_stats : &state->collector->stats;
}

uint64_t nk_collect_pause(const struct nk_home *home, unsigned per_mille) {
    const struct nk_collect_stats *stats = nk_collect_stats(home);
    uint64_t want = (stats->steps * per_mille + 999) / 1000, seen = 0;
    if (want == 0) return 0;
    for (unsigned bucket = 0; bucket < NK_PAUSE_BUCKETS; bucket++) {
        seen += stats->pauses[bucket];
        uint64_t end = (uint64_t)(4 + bucket % 4 + 1) << (bucket / 4) >> 2;
        if (seen >= want) return end < stats->step_ns_max ? end : stats->step_ns_max;
    }
    return stats->step_ns_max;
}
