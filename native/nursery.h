/* The arena and its nursery: bump allocation, roots, collection.
 *
 * The arena is one reserved mapping: home below (`home.h`), the nursery
 * above. An event allocates in the nursery only. What survives it is
 * promoted into home; then the nursery is reset in O(1).
 *
 * Allocation is a bump of `top`. It never collects and never fails where
 * the caller has made room: `nk_nursery_room(arena, words)` first, then
 * any number of `nk_cons`/`nk_atom_*` within those words. The interpreter
 * makes room at instruction boundaries, where its stacks are precise roots;
 * `room` collects there when the young part is full. Jets call
 * `nk_cons_try`-style functions (below) that answer NK_NONE when the arena
 * is full; the interpreter then collects and tries the jet once more.
 *
 * The nursery has two spaces: `top` moves through the young one, and what a
 * collection finds alive moves to the tenured one below it. So an event that
 * makes much garbage stays in the cache, and in memory that is there already.
 *
 * Collection copies what is reachable from the roots. Because nouns are
 * immutable, an older noun never points to a newer one; a minor collection
 * therefore moves only what is young, a full one everything.
 *
 * Roots are the registered root frames and root sources. Nothing else keeps
 * a nursery noun alive, and no other reference survives a collection.
 *
 * A collection visits every root slot exactly once: a slot that is visited
 * twice is a bug (NK_TINY and NK_PARANOID builds find it). Physical memory
 * needed is what is live twice, while a full collection runs.
 *
 * Owns: the mapping; `base`, `top` and the limits. One thread only.
 * Limits: a live set above 63/64 of the nursery's limit is NK_MEME. The limit
 * counts both spaces together; each may have it all.
 */
#ifndef NK_NURSERY_H
#define NK_NURSERY_H

#include "noun.h"

struct nk_home;

/* Called for each root slot; rewrites it where its noun moved. */
typedef void (*nk_root_visit)(struct nk_arena *arena, nk_noun *slot);

/* A source of roots: an interpreter's stacks, a cache, a table. [trace]
 * calls [visit] on each of its noun slots (home nouns, direct atoms and
 * NK_NONE are allowed and cheap). [moved] is called after a collection, when
 * addresses have changed: tables keyed by reference rehash, inline caches
 * drop. */
struct nk_root_source {
    void (*trace)(void *context, struct nk_arena *arena, nk_root_visit visit);
    void (*moved)(void *context, struct nk_arena *arena);
    void *context;
    struct nk_root_source *next;
};

/* Nouns that C code holds across a call that may collect. Lives on the C
 * stack; pushed and popped in strict nesting. */
struct nk_root_frame {
    struct nk_root_frame *next;
    nk_noun *slots;
    size_t count;
};

struct nk_arena {
    uint64_t *base;         /* word 0 of the arena; word 0 itself is unused */
    uint64_t top;           /* next free word of the young space */
    uint64_t soft;          /* ask for a collection above this */
    uint64_t limit;         /* nothing is allocated above this */
    uint64_t home_end;      /* offsets below are home's */
    uint64_t nursery_start; /* first word of the tenured space */
    uint64_t tenured;       /* end of what is tenured */
    uint64_t nursery_end;   /* end of what is reserved for that */
    uint64_t young_start;   /* first word of the young space */
    struct nk_root_frame *frames;
    struct nk_root_source *sources;
    struct nk_home *home; /* NULL in an arena that has none (the codec) */
    /* Long walks over nouns ask this now and then whether to go on. */
    nk_status (*poll)(void *context);
    void *poll_context;
    struct nk_aside *aside; /* big.c: a computation that was left behind */
    nk_status stopped;      /* an equality was cut short: its run is void */
    bool minor;             /* the running collection is a minor one: root slots
                             * unchanged since the last one need no visit */
    /* Counters, for status and tests. */
    uint64_t minor_collections;
    uint64_t full_collections;
    uint64_t words_copied;
    uint64_t map_bytes;
    /* Policy and the running collection; nursery.c only. */
    uint64_t room_max;         /* words that both spaces together may have */
    uint64_t young;            /* words between collections */
    uint64_t next_full;        /* tenured at which the next collection is full */
    uint64_t peak;             /* most words in use since the reset */
    uint64_t usual;            /* running mean of the words that an event uses */
    uint64_t tenured_resident; /* words of each space that have been touched */
    uint64_t young_resident;
    uint64_t copy_floor;  /* boxes below stay where they are */
    uint64_t copy_start;  /* where the first copy will lie */
    uint64_t *copy_space; /* where it is written */
    uint64_t copied;      /* words copied so far */
    uint64_t root_count;  /* slots visited */
    uint64_t room_calls;  /* NK_TINY: which call collects */
    void *visited;        /* debug builds: those slots */
};

/* Reserve [home_size] + [nursery_size] bytes (each rounded up to pages).
 * home_size may be 0. NK_MEME where the system refuses the address space. */
nk_status nk_arena_open(struct nk_arena *arena, uint64_t home_size,
                        uint64_t nursery_size);
void nk_arena_close(struct nk_arena *arena);

/* Drop everything in the nursery. Gives pages back to the system when much
 * was touched. No root may point into the nursery afterwards. */
void nk_nursery_reset(struct nk_arena *arena);

/* Set the nursery's size limit for what follows (<= the reserved space). */
void nk_nursery_limit(struct nk_arena *arena, uint64_t bytes);

/* Words: the most that were in use at once since the last reset; how many
 * are in use; how many there may be. */
uint64_t nk_nursery_peak(const struct nk_arena *arena);
static inline uint64_t nk_nursery_used(const struct nk_arena *arena) {
    return arena->tenured - arena->nursery_start + arena->top - arena->young_start;
}
uint64_t nk_nursery_room_max(const struct nk_arena *arena);

/* Make sure that [words] can be bump-allocated; collects when they cannot,
 * or when the young part is full. NK_MEME when not even a full collection
 * makes room. Everything not rooted is gone or moved afterwards. */
nk_status nk_nursery_collect(struct nk_arena *arena, uint64_t words);
static inline nk_status nk_nursery_room(struct nk_arena *arena, uint64_t words) {
    if (NK_LIKELY(arena->top + words <= arena->soft)) return NK_OK;
    return nk_nursery_collect(arena, words);
}

/* Collect now, whatever the fill (tests; NK_TINY at every safepoint). */
void nk_nursery_collect_full(struct nk_arena *arena);

static inline void nk_root_push(struct nk_arena *arena, struct nk_root_frame *frame,
                                nk_noun *slots, size_t count) {
    frame->slots = slots;
    frame->count = count;
    frame->next = arena->frames;
    arena->frames = frame;
}
static inline void nk_root_pop(struct nk_arena *arena, struct nk_root_frame *frame) {
    NK_ASSERT(arena->frames == frame);
    arena->frames = frame->next;
}
void nk_root_source_add(struct nk_arena *arena, struct nk_root_source *source);
void nk_root_source_remove(struct nk_arena *arena, struct nk_root_source *source);

static inline nk_status nk_arena_poll(struct nk_arena *arena) {
    return arena->poll == NULL ? NK_OK : arena->poll(arena->poll_context);
}

static inline struct nk_cell *nk_cell_at(const struct nk_arena *arena, nk_noun n) {
    return (struct nk_cell *)(arena->base + nk_offset(n));
}
static inline struct nk_atom *nk_atom_at(const struct nk_arena *arena, nk_noun n) {
    return (struct nk_atom *)(arena->base + nk_offset(n));
}
static inline nk_noun nk_head(const struct nk_arena *arena, nk_noun cell) {
    return nk_cell_at(arena, cell)->head;
}
static inline nk_noun nk_tail(const struct nk_arena *arena, nk_noun cell) {
    return nk_cell_at(arena, cell)->tail;
}
/* A noun that promotion need not copy: direct, or already in home. */
static inline bool nk_is_durable(const struct nk_arena *arena, nk_noun n) {
    return nk_is_direct(n) || nk_offset(n) < arena->home_end;
}

/* Allocation within room already made: cannot fail, never moves anything. */
static inline nk_noun nk_cons(struct nk_arena *arena, nk_noun head, nk_noun tail) {
    uint64_t at = arena->top;
    struct nk_cell *cell = (struct nk_cell *)(arena->base + at);
    NK_CHECK(at + NK_CELL_WORDS <= arena->limit);
    cell->mug = 0;
    cell->tag = 0;
    cell->head = head;
    cell->tail = tail;
    arena->top = at + NK_CELL_WORDS;
    return NK_CELL_TAG | at;
}

/* Allocation without room made beforehand, for jets, cue and other C code:
 * NK_NONE when the nursery's hard limit is reached (the caller unwinds with
 * NK_MEME). Never collects, so plain C locals stay valid. */
static inline nk_noun nk_cons_try(struct nk_arena *arena, nk_noun head, nk_noun tail) {
    if (NK_UNLIKELY(arena->top + NK_CELL_WORDS > arena->limit)) return NK_NONE;
    return nk_cons(arena, head, tail);
}

/* An atom under construction: [words] zeroed data words to fill in, then
 * `nk_atom_finish`, which normalises (and gives the space back when the
 * value turns out direct). Nothing else may be allocated in between.
 * NULL when the hard limit is reached. The words of `nk_atom_begin_raw` are
 * not zeroed: for who writes them all. */
uint64_t *nk_atom_begin(struct nk_arena *arena, size_t words);
uint64_t *nk_atom_begin_raw(struct nk_arena *arena, size_t words);
nk_noun nk_atom_finish(struct nk_arena *arena, uint64_t *data, size_t words);

/* The atom of [size] little-endian bytes; NK_NONE at the hard limit. */
nk_noun nk_atom_from_bytes(struct nk_arena *arena, const void *bytes, size_t size);
/* A 64-bit value; allocates only when it does not fit 63 bits. */
nk_noun nk_atom_from_u64(struct nk_arena *arena, uint64_t value);

#endif
