/* The collector of home: concurrent mark and sweep, in cycles.
 *
 * A cycle has five phases. The event thread moves it on, in small steps
 * between events (a safepoint: the nursery is empty, nothing runs):
 *
 *     idle       -> home has grown enough: note the roots (a handful), make
 *                   empty tables, wake the collector's thread
 *     marking    the thread marks what the roots reach, while events run
 *     purging    weak tables forget what died, a few entries a step
 *     sweeping   pages give up unmarked boxes, a few pages a step; a page is
 *                open for allocation as soon as it is swept
 *     releasing  the thread gives the tables' memory back
 *
 * Why this is right. Call N the safepoint at which the cycle began.
 *
 *   1. The thread reads only what is frozen. Nouns never change, and every
 *      box reachable at N was there at N; its slot cannot be taken again
 *      before this cycle sweeps it, which comes after marking. So what the
 *      thread reads -- head and tail of such cells, and for an atom the class
 *      of its page, which is fixed while the page is in use -- was written
 *      before N and nobody writes it now. The mutex under which the job is
 *      handed over orders those writes before the thread's reads. (The one
 *      exception is the first write to a page of the image's mapping, which
 *      rewrites one word per frame with its own value: there both sides use
 *      atomic operations.) Promotion writes other boxes, perhaps on the same
 *      pages: other memory.
 *   2. The thread writes only the mark table and its own stack; the event
 *      thread looks at marks only after it has seen, with acquire order, that
 *      the job is done.
 *   3. Nothing alive is freed. An event can only name what it reaches from
 *      the roots, or makes. By induction over the events since N, all that
 *      is reachable at any time after N was reachable at N (and is marked) or
 *      was allocated after N: allocation is black. Black boxes are noted by
 *      the event thread alone, in tables of its own (`fresh` for boxes on
 *      pages that were in use at N, `black` for whole pages taken since), so
 *      no word is written by both threads, and no barrier is needed.
 *   4. No table keeps a reference to a slot that is used again: purging is
 *      complete before sweeping begins. Events between two steps of the purge
 *      cannot bring a dead noun back, by 3.
 *   5. What is saved in the middle is sound: an allocation bitmap is at all
 *      times a superset of what is reachable, and a page whose bitmap shrinks
 *      has its bit in `meta_dirty` first thing. A save takes home as it is,
 *      in any phase; garbage not yet swept is kept in that generation and
 *      goes with a later one. Pages found empty leave with the next save.
 *
 * Dying is safe at every moment: nothing here is on disk. `nk_collect_close`
 * stops the thread and waits for it; `_exit` needs no care.
 *
 * Owns: the thread (started with the first cycle, so after confinement; all
 * signals blocked), the cycle's tables (about 1.6 % of home while it lasts).
 * Limits: where no thread can be had, marking is done on the event thread.
 * Marking needs a stack of open cells: at worst 8 bytes per cell alive, for a
 * tree that leans to the left.
 */
#ifndef NK_COLLECT_H
#define NK_COLLECT_H

#include "home.h"

/* Time that a step may take between two events. */
#define NK_COLLECT_STEP_NS 150000u

/* Move collection on, within [budget_ns]: begin a cycle if home has grown
 * enough, hand over, purge, sweep. At a safepoint between events. */
void nk_collect_step(struct nk_home *home, uint64_t budget_ns);

/* Begin a cycle now, if none is under way (and address space is to be had). */
void nk_collect_begin(struct nk_home *home);

/* Complete the cycle under way, waiting for the thread. The nursery must be
 * empty, or refer only to home nouns that the roots reach (as an event's
 * product does before it is committed). False where there was none. */
bool nk_collect_finish(struct nk_home *home);

/* Complete the cycle under way, then collect from the roots of now: nothing
 * unreachable is left. As nk_collect_finish. */
void nk_home_collect(struct nk_home *home);

/* No cycle is under way. */
bool nk_collect_is_idle(const struct nk_home *home);

/* Has home grown enough since the last cycle began to be worth one? */
bool nk_home_wants_collect(const struct nk_home *home);

/* While tables are purged: is this home noun alive? True for any other. */
bool nk_home_marked(const struct nk_home *home, nk_noun n);

/* Stop the thread, abandoning what it does. nk_home_close calls it. */
void nk_collect_close(struct nk_home *home);

/* What the event thread has spent on collection, per step, as a histogram:
 * bucket 4k + j holds steps of [2^k (1 + j/4), 2^k (1 + (j+1)/4)) ns. */
#define NK_PAUSE_BUCKETS 160u

struct nk_collect_stats {
    uint64_t cycles;      /* concurrent ones, completed */
    uint64_t waits;       /* events that had to wait for a cycle */
    uint64_t mark_ns;     /* the thread's time for the last marking */
    uint64_t cycle_ns;    /* from beginning to end of the last cycle */
    uint64_t words_freed; /* by all cycles */
    uint64_t cache_words; /* at the last: what only NK_ROOT_CACHE held */
    uint64_t steps;
    uint64_t step_ns;     /* sum */
    uint64_t step_ns_max; /* waiting on purpose not included */
    uint64_t pauses[NK_PAUSE_BUCKETS];
};

const struct nk_collect_stats *nk_collect_stats(const struct nk_home *home);

/* The pause that [per_mille] of all steps do not exceed, in ns. */
uint64_t nk_collect_pause(const struct nk_home *home, unsigned per_mille);

#endif
