/* The arena's mapping, atoms under construction, and the copying collector.
 *
 * Cheney's algorithm. The copies are written to the other space, but refer
 * to each other by where they will lie in the end: directly above what is
 * kept. At the end they are moved there in one piece.
 *
 * Policy. A collection happens when `young` words were allocated. It is
 * minor unless the tenured part has doubled since the last full one, so the
 * copying is linear in what was allocated. Where collections find much to
 * do (survivors or roots) for what was allocated, `young` doubles, up to a
 * limit; where they find little, it shrinks again. */
#include "nursery.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define YOUNG_WORDS (NK_NURSERY_YOUNG_SIZE / 8u)
/* A full collection that leaves less than 1/RESERVE free is not worth
 * repeating: the event is out of memory. */
#define RESERVE 64u

#if defined(NK_TINY) || defined(NK_PARANOID)
/* The root slots that a collection visited, to find one visited twice. */
struct visited {
    nk_noun **slots;
    size_t count, capacity;
};

static void visited_add(struct nk_arena *arena, nk_noun *slot) {
    struct visited *visited = arena->visited;
    if (visited == NULL) {
        visited = arena->visited = calloc(1, sizeof *visited);
        NK_ASSERT(visited != NULL);
    }
    if (visited->count == visited->capacity) {
        visited->capacity = visited->capacity * 2 + 64;
        visited->slots =
            realloc(visited->slots, visited->capacity * sizeof *visited->slots);
        NK_ASSERT(visited->slots != NULL);
    }
    visited->slots[visited->count++] = slot;
}

static int visited_order(const void *a, const void *b) {
    const nk_noun *x = *(nk_noun *const *)a, *y = *(nk_noun *const *)b;
    return (x > y) - (x < y);
}

static void visited_check(struct nk_arena *arena) {
    struct visited *visited = arena->visited;
    if (visited == NULL || visited->count == 0) return;
    qsort(visited->slots, visited->count, sizeof *visited->slots, visited_order);
    for (size_t i = 1; i < visited->count; i++) {
        NK_ASSERT(visited->slots[i - 1] != visited->slots[i]);
    }
    visited->count = 0;
}

static void visited_free(struct nk_arena *arena) {
    struct visited *visited = arena->visited;
    if (visited != NULL) free(visited->slots);
    free(visited);
}
#else
static void visited_check(struct nk_arena *arena) {
    (void)arena;
}
static void visited_free(struct nk_arena *arena) {
    (void)arena;
}
#endif

/* ---- the mapping ---- */

static uint64_t round_up(uint64_t bytes) {
    return (bytes + NK_PAGE_SIZE - 1) / NK_PAGE_SIZE * NK_PAGE_SIZE;
}

static void start_young(struct nk_arena *arena, uint64_t words) {
    uint64_t want = words > arena->young ? words : arena->young;
    uint64_t room = arena->limit > arena->top ? arena->limit - arena->top : 0;
    arena->soft = arena->top + (want < room ? want : room);
#ifdef NK_TINY
    arena->soft = 0; /* every call for room goes to nk_nursery_collect */
#endif
}

static void start_over(struct nk_arena *arena) {
    arena->top = arena->tenured = arena->peak = arena->nursery_start;
    arena->young = YOUNG_WORDS;
    arena->next_full = arena->nursery_start + 4 * YOUNG_WORDS;
    start_young(arena, 0);
}

nk_status nk_arena_open(struct nk_arena *arena, uint64_t home_size,
                        uint64_t nursery_size) {
    memset(arena, 0, sizeof *arena);
    if (home_size > 1ull << 46 || nursery_size > 1ull << 45) return NK_MEME;
    home_size = round_up(home_size);
    /* The nursery has a page more: its first word is not at offset 0. */
    nursery_size = round_up(nursery_size) + NK_PAGE_SIZE;
    size_t size = (size_t)(home_size + 2 * nursery_size);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NK_MEME;
    /* Advice only: a kernel that knows neither serves us as well. */
    (void)madvise(base, size, MADV_DONTDUMP);
    (void)madvise(base, size, MADV_NOHUGEPAGE);
    arena->base = base;
    arena->map_bytes = size;
    arena->home_end = home_size / 8;
    arena->nursery_start = arena->home_end + NK_PAGE_WORDS;
    arena->nursery_end = (home_size + nursery_size) / 8;
    arena->other_start = arena->nursery_end;
    arena->limit = arena->nursery_end;
    arena->high_water = arena->nursery_start;
    start_over(arena);
    return NK_OK;
}

void nk_arena_close(struct nk_arena *arena) {
    if (arena->base != NULL) munmap(arena->base, arena->map_bytes);
    visited_free(arena);
    memset(arena, 0, sizeof *arena);
}

/* Give the pages of words [from, to) back; they read as zero afterwards. */
static void release(struct nk_arena *arena, uint64_t from, uint64_t to) {
    from = (from + NK_PAGE_WORDS - 1) / NK_PAGE_WORDS * NK_PAGE_WORDS;
    to = (to + NK_PAGE_WORDS - 1) / NK_PAGE_WORDS * NK_PAGE_WORDS;
    if (from >= to) return;
    (void)madvise(arena->base + from, (size_t)(to - from) * 8, MADV_DONTNEED);
}

static void note_peak(struct nk_arena *arena) {
    if (arena->top > arena->peak) arena->peak = arena->top;
    if (arena->peak > arena->high_water) arena->high_water = arena->peak;
}

void nk_nursery_reset(struct nk_arena *arena) {
    note_peak(arena);
    uint64_t start = arena->nursery_start;
    uint64_t used = arena->peak - start;
    arena->usual = arena->usual - arena->usual / 8 + used / 8;
    uint64_t keep = 2 * (arena->usual > YOUNG_WORDS ? arena->usual : YOUNG_WORDS);
    if (arena->high_water - start > 2 * keep) {
        release(arena, start + keep, arena->high_water);
        arena->high_water = start + keep;
    }
    if (arena->other_high > 2 * keep) {
        release(arena, arena->other_start + keep,
                arena->other_start + arena->other_high);
        arena->other_high = keep;
    }
#ifdef NK_TINY
    memset(arena->base + start, 0xdb, (size_t)used * 8);
#endif
    start_over(arena);
}

void nk_nursery_limit(struct nk_arena *arena, uint64_t bytes) {
    uint64_t limit = arena->nursery_start + bytes / 8;
    if (limit > arena->nursery_end || bytes / 8 > arena->nursery_end) {
        limit = arena->nursery_end;
    }
    arena->limit = limit;
    start_young(arena, 0);
}

uint64_t nk_nursery_peak(const struct nk_arena *arena) {
    uint64_t peak = arena->top > arena->peak ? arena->top : arena->peak;
    return peak - arena->nursery_start;
}

uint64_t nk_nursery_room_max(const struct nk_arena *arena) {
    return arena->limit > arena->nursery_start ? arena->limit - arena->nursery_start
                                               : 0;
}

/* ---- roots ---- */

void nk_root_source_add(struct nk_arena *arena, struct nk_root_source *source) {
    source->next = arena->sources;
    arena->sources = source;
}

void nk_root_source_remove(struct nk_arena *arena, struct nk_root_source *source) {
    struct nk_root_source **link = &arena->sources;
    while (*link != NULL && *link != source)
        link = &(*link)->next;
    NK_ASSERT(*link == source);
    *link = source->next;
}

/* ---- collection ---- */

/* The noun's place after this collection; copies it when it has none yet. */
static inline nk_noun evacuate(struct nk_arena *arena, nk_noun n) {
    uint64_t offset = nk_offset(n);
    if (nk_is_direct(n) || offset < arena->copy_floor) return n;
    NK_CHECK(offset < arena->top);
    uint64_t *box = arena->base + offset;
    if ((box[0] & NK_FORWARDED) != 0) return box[1];
    uint64_t *copy = arena->base + arena->other_start + arena->copied;
    nk_noun moved = (n & ~NK_OFFSET_MASK) | (arena->copy_floor + arena->copied);
    if (nk_is_cell(n)) {
        copy[0] = box[0];
        copy[1] = box[1];
        copy[2] = box[2];
        arena->copied += NK_CELL_WORDS;
    } else {
        size_t words = 1 + (size_t)(box[0] >> 32);
        memcpy(copy, box, words * 8);
        arena->copied += words;
    }
    box[0] |= NK_FORWARDED;
    box[1] = moved;
    return moved;
}

static void visit_root(struct nk_arena *arena, nk_noun *slot) {
    arena->root_count++;
#if defined(NK_TINY) || defined(NK_PARANOID)
    visited_add(arena, slot);
#endif
    if (*slot != NK_NONE) *slot = evacuate(arena, *slot);
}

static void collect(struct nk_arena *arena, bool full) {
    note_peak(arena);
    uint64_t floor = full ? arena->nursery_start : arena->tenured;
    uint64_t *other = arena->base + arena->other_start;
    arena->minor = !full;
    arena->copy_floor = floor;
    arena->copied = 0;
    arena->root_count = 0;
    for (struct nk_root_frame *frame = arena->frames; frame; frame = frame->next) {
        for (size_t i = 0; i < frame->count; i++)
            visit_root(arena, &frame->slots[i]);
    }
    for (struct nk_root_source *source = arena->sources; source;
         source = source->next) {
        if (source->trace != NULL) source->trace(source->context, arena, visit_root);
    }
    visited_check(arena);
    for (uint64_t scan = 0; scan < arena->copied;) {
        uint64_t *box = other + scan;
        uint32_t words = (uint32_t)(box[0] >> 32);
        if (words != 0) {
            scan += 1 + (uint64_t)words;
        } else {
            box[1] = evacuate(arena, box[1]);
            box[2] = evacuate(arena, box[2]);
            scan += NK_CELL_WORDS;
        }
    }
    memcpy(arena->base + floor, other, (size_t)arena->copied * 8);
#ifdef NK_TINY
    memset(arena->base + floor + arena->copied, 0xdb,
           (size_t)(arena->top - floor - arena->copied) * 8);
#endif
    arena->top = arena->tenured = floor + arena->copied;
    arena->words_copied += arena->copied;
    if (arena->copied > arena->other_high) arena->other_high = arena->copied;
    if (full) {
        uint64_t live = arena->copied;
        arena->full_collections++;
        arena->next_full = arena->nursery_start +
                           (live > 2 * YOUNG_WORDS ? 2 * live : 4 * YOUNG_WORDS);
        /* A large copy is rare: do not hold its memory until the reset. */
        if (arena->other_high > 4 * YOUNG_WORDS * NK_NURSERY_YOUNG_GROWTH_MAX) {
            release(arena, arena->other_start, arena->other_start + arena->other_high);
            arena->other_high = 0;
        }
    } else {
        arena->minor_collections++;
    }
    arena->minor = false;
    for (struct nk_root_source *source = arena->sources; source;
         source = source->next) {
        if (source->moved != NULL) source->moved(source->context, arena);
    }
}

static bool fits(const struct nk_arena *arena, uint64_t words) {
    if (arena->limit <= arena->nursery_start) return false;
    uint64_t reserve = (arena->limit - arena->nursery_start) / RESERVE;
    return arena->top + reserve <= arena->limit &&
           words <= arena->limit - arena->top - reserve;
}

#ifndef NK_TINY
/* Set the next young size by what a minor collection had to do. */
static void adapt(struct nk_arena *arena, uint64_t allocated) {
    uint64_t work = arena->copied + arena->root_count / 2;
    uint64_t live = arena->top - arena->nursery_start;
    uint64_t most = YOUNG_WORDS * NK_NURSERY_YOUNG_GROWTH_MAX;
    if (live / 4 > most) most = live / 4;
    if (work > allocated / 4) {
        arena->young = arena->young * 2 < most ? arena->young * 2 : most;
    } else if (work < allocated / 32 && arena->young > YOUNG_WORDS) {
        arena->young /= 2;
    }
}
#else
/* Collect at every call while that is cheap; where it has come to be dear,
 * only once in a while, so that cases of a million steps end. */
static bool skip_this_time(struct nk_arena *arena) {
    uint64_t work = arena->copied + arena->root_count;
    uint64_t stride = 1 + work / 64 + (arena->minor_collections >> 12);
    return ++arena->room_calls % stride != 0;
}
#endif

nk_status nk_nursery_collect(struct nk_arena *arena, uint64_t words) {
    if (words > arena->nursery_end) return NK_MEME;
#ifdef NK_TINY
    if (arena->top + words <= arena->limit && skip_this_time(arena)) return NK_OK;
    collect(arena, arena->minor_collections > arena->full_collections);
    if (fits(arena, words)) return NK_OK;
    collect(arena, true);
    return fits(arena, words) ? NK_OK : NK_MEME;
#else
    uint64_t allocated = arena->top - arena->tenured;
    bool full = arena->tenured >= arena->next_full;
    collect(arena, full);
    if (!full) adapt(arena, allocated);
    if (!full && !fits(arena, words)) collect(arena, true);
    start_young(arena, words);
    return fits(arena, words) ? NK_OK : NK_MEME;
#endif
}

void nk_nursery_collect_full(struct nk_arena *arena) {
    collect(arena, true);
    start_young(arena, 0);
}

/* ---- atoms ---- */

uint64_t *nk_atom_begin(struct nk_arena *arena, size_t words) {
    uint64_t at = arena->top;
    uint64_t room = arena->limit > at ? arena->limit - at : 0;
    if (words >= room || words > NK_ATOM_WORDS_MAX) return NULL;
    uint64_t *box = arena->base + at;
    memset(box + 1, 0, words * 8);
    arena->top = at + 1 + words;
    return box + 1;
}

nk_noun nk_atom_finish(struct nk_arena *arena, uint64_t *data, size_t words) {
    uint64_t at = (uint64_t)(data - 1 - arena->base);
    NK_CHECK(arena->top == at + 1 + words);
    while (words > 0 && data[words - 1] == 0)
        words--;
    if (words <= 1 && (words == 0 || data[0] <= NK_DIRECT_MAX)) {
        arena->top = at;
        return words == 0 ? 0 : data[0];
    }
    struct nk_atom *box = (struct nk_atom *)(arena->base + at);
    box->mug = 0;
    box->words = (uint32_t)words;
    arena->top = at + 1 + words;
    return NK_ATOM_TAG | at;
}

nk_noun nk_atom_from_bytes(struct nk_arena *arena, const void *bytes, size_t size) {
    const uint8_t *from = bytes;
    while (size > 0 && from[size - 1] == 0)
        size--;
    if (size <= 8) {
        uint64_t value = 0;
        if (size > 0) memcpy(&value, from, size);
        return nk_atom_from_u64(arena, value);
    }
    size_t words = (size + 7) / 8;
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_NONE;
    memcpy(data, from, size);
    return nk_atom_finish(arena, data, words);
}

nk_noun nk_atom_from_u64(struct nk_arena *arena, uint64_t value) {
    if (value <= NK_DIRECT_MAX) return value;
    uint64_t *data = nk_atom_begin(arena, 1);
    if (data == NULL) return NK_NONE;
    data[0] = value;
    return nk_atom_finish(arena, data, 1);
}
