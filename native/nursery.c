/* The arena's mapping, atoms under construction, and the copying collector.
 *
 * Cheney's algorithm. A minor collection copies from the young space to the
 * end of the tenured one. A full one writes its copies above the young space,
 * but they refer to each other by where they will lie in the end, at the
 * start of the tenured space; then they are moved there in one piece. Where
 * there may be no room above, a minor collection first empties the young space.
 *
 * Policy. A collection happens when `young` words were allocated. It is
 * minor unless the tenured part has doubled since the last full one, so the
 * copying is linear in what was allocated. Where collections find much to
 * do (survivors or roots) for what was allocated, `young` doubles, up to a
 * limit; where they find little, it shrinks again.
 *
 * Huge pages. An event's first touch of fresh memory costs more than what it
 * computes there, and 2 MiB at a time cost a seventh (measured: 0.2 us a
 * page of 4 KiB instead of 1.5). What is touched once stays for the next
 * events, up to KEEP_MAX. */
#include "nursery.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define YOUNG_WORDS (NK_NURSERY_YOUNG_SIZE / 8u)
/* A full collection that leaves less than 1/RESERVE free is not worth
 * repeating: the event is out of memory. */
#define RESERVE 64u
/* With less than this tenured, a full collection is not worth its while. */
#define FULL_MIN (16 * YOUNG_WORDS)
#define HUGE_WORDS ((2u << 20) / 8u)
#define HUGE_NURSERY_MIN (256u << 20)
/* Words of each space that stay resident between events. */
#define KEEP_MAX (8 * YOUNG_WORDS)

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

static uint64_t round_up(uint64_t words, uint64_t unit) {
    return (words + unit - 1) / unit * unit;
}

static uint64_t tenured_words(const struct nk_arena *arena) {
    return arena->tenured - arena->nursery_start;
}

static void start_young(struct nk_arena *arena, uint64_t words) {
    uint64_t want = words > arena->young ? words : arena->young;
    uint64_t room = arena->room_max - tenured_words(arena);
    arena->limit = arena->young_start + room;
    arena->soft = arena->young_start + (want < room ? want : room);
#ifdef NK_TINY
    arena->soft = 0; /* every call for room goes to nk_nursery_collect */
#endif
}

static void start_over(struct nk_arena *arena) {
    arena->top = arena->young_start;
    arena->tenured = arena->nursery_start;
    arena->peak = 0;
    arena->young = YOUNG_WORDS;
    arena->next_full = arena->nursery_start + FULL_MIN;
    start_young(arena, 0);
}

/* The first word at or after [at] that a huge page may start with. */
static uint64_t huge_start(const struct nk_arena *arena, uint64_t at) {
    uint64_t base = (uint64_t)(uintptr_t)arena->base / 8;
    return round_up(base + at, HUGE_WORDS) - base;
}

nk_status nk_arena_open(struct nk_arena *arena, uint64_t home_size,
                        uint64_t nursery_size) {
    memset(arena, 0, sizeof *arena);
    if (home_size > 1ull << 46 || nursery_size > 1ull << 45) return NK_MEME;
    uint64_t home_words = round_up((home_size + 7) / 8, NK_PAGE_WORDS);
    uint64_t words = round_up(nursery_size / 8 + 1, NK_PAGE_WORDS);
    uint64_t all = home_words + 2 * words + 3 * HUGE_WORDS;
    void *base = mmap(NULL, (size_t)all * 8, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NK_MEME;
    arena->base = base;
    arena->map_bytes = all * 8;
    arena->home_end = home_words;
    /* In home and in a small arena, a huge page would be mostly waste. */
    arena->nursery_start = huge_start(arena, home_words + 1);
    arena->nursery_end = arena->nursery_start + words;
    arena->young_start = huge_start(arena, arena->nursery_end);
    arena->room_max = words;
    bool huge = nursery_size >= HUGE_NURSERY_MIN;
    /* Advice only: a kernel that knows neither serves us as well. */
    (void)madvise(base, (size_t)all * 8, MADV_DONTDUMP);
    (void)madvise(base, (size_t)(huge ? home_words : all) * 8, MADV_NOHUGEPAGE);
    if (huge) {
        (void)madvise(arena->base + arena->nursery_start,
                      (size_t)(all - arena->nursery_start) * 8, MADV_HUGEPAGE);
    }
    start_over(arena);
    return NK_OK;
}

void nk_arena_close(struct nk_arena *arena) {
    if (arena->base != NULL) munmap(arena->base, arena->map_bytes);
    visited_free(arena);
    memset(arena, 0, sizeof *arena);
}

/* Of [*resident] words from [start] on, keep [keep] and give the rest back;
 * that reads as zero afterwards. */
static void keep_only(struct nk_arena *arena, uint64_t start, uint64_t *resident,
                      uint64_t keep) {
    keep = round_up(keep, HUGE_WORDS);
    if (*resident <= keep + keep / 2) return;
    (void)madvise(arena->base + start + keep,
                  (size_t)round_up(*resident - keep, NK_PAGE_WORDS) * 8, MADV_DONTNEED);
    *resident = keep;
}

static void note_peak(struct nk_arena *arena) {
    uint64_t young = arena->top - arena->young_start;
    uint64_t used = nk_nursery_used(arena);
    if (used > arena->peak) arena->peak = used;
    if (young > arena->young_resident) arena->young_resident = young;
}

void nk_nursery_reset(struct nk_arena *arena) {
    note_peak(arena);
#ifdef NK_TINY
    memset(arena->base + arena->nursery_start, 0xdb, (size_t)tenured_words(arena) * 8);
    memset(arena->base + arena->young_start, 0xdb,
           (size_t)(arena->top - arena->young_start) * 8);
#endif
    arena->usual = arena->usual - arena->usual / 8 + arena->peak / 8;
    uint64_t keep = 2 * (arena->usual > YOUNG_WORDS ? arena->usual : YOUNG_WORDS);
    if (keep > KEEP_MAX) keep = KEEP_MAX;
    keep_only(arena, arena->nursery_start, &arena->tenured_resident, keep);
    keep_only(arena, arena->young_start, &arena->young_resident, keep);
    start_over(arena);
}

void nk_nursery_limit(struct nk_arena *arena, uint64_t bytes) {
    uint64_t words = arena->nursery_end - arena->nursery_start;
    arena->room_max = bytes / 8 < words ? bytes / 8 : words;
    if (arena->room_max < nk_nursery_used(arena))
        arena->room_max = nk_nursery_used(arena);
    start_young(arena, 0);
}

uint64_t nk_nursery_peak(const struct nk_arena *arena) {
    uint64_t used = nk_nursery_used(arena);
    return used > arena->peak ? used : arena->peak;
}

uint64_t nk_nursery_room_max(const struct nk_arena *arena) {
    return arena->room_max;
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

/* The noun's place after this collection; copies it when it has none yet,
 * behind the [*copied] words that there are. */
static inline nk_noun evacuate(const struct nk_arena *arena, uint64_t *copied,
                               nk_noun n) {
    uint64_t offset = nk_offset(n);
    if (nk_is_direct(n) || offset < arena->copy_floor) return n;
    NK_CHECK(offset >= arena->young_start ? offset < arena->top
                                          : offset < arena->tenured);
    uint64_t *box = arena->base + offset;
    if ((box[0] & NK_FORWARDED) != 0) return box[1];
    uint64_t *copy = arena->copy_space + *copied;
    nk_noun moved = (n & ~NK_OFFSET_MASK) | (arena->copy_start + *copied);
    if (nk_is_cell(n)) {
        copy[0] = box[0];
        copy[1] = box[1];
        copy[2] = box[2];
        *copied += NK_CELL_WORDS;
    } else {
        size_t words = 1 + (size_t)(box[0] >> 32);
        memcpy(copy, box, words * 8);
        *copied += words;
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
    if (*slot != NK_NONE) *slot = evacuate(arena, &arena->copied, *slot);
}

/* Copy what the copies refer to, until there is no more. */
static void copy_all(struct nk_arena *arena) {
    uint64_t *space = arena->copy_space, copied = arena->copied;
    for (uint64_t scan = 0; scan < copied;) {
        uint64_t *box = space + scan;
        uint32_t words = (uint32_t)(box[0] >> 32);
        if (words != 0) {
            scan += 1 + (uint64_t)words;
        } else {
            box[1] = evacuate(arena, &copied, box[1]);
            box[2] = evacuate(arena, &copied, box[2]);
            scan += NK_CELL_WORDS;
        }
    }
    arena->copied = copied;
}

static void collect(struct nk_arena *arena, bool full) {
    note_peak(arena);
    uint64_t space = arena->nursery_end - arena->nursery_start;
    uint64_t other = round_up(arena->top, NK_PAGE_WORDS);
    if (full && other + nk_nursery_used(arena) > arena->young_start + space &&
        arena->top > arena->young_start) {
        collect(arena, false);
        other = arena->young_start;
    }
    arena->minor = !full;
    arena->copy_floor = full ? arena->nursery_start : arena->young_start;
    arena->copy_start = full ? arena->nursery_start : arena->tenured;
    arena->copy_space = arena->base + (full ? other : arena->tenured);
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
    copy_all(arena);
#ifdef NK_TINY
    memset(arena->base + arena->young_start, 0xdb,
           (size_t)(arena->top - arena->young_start) * 8);
#endif
    if (full) {
        uint64_t *start = arena->base + arena->nursery_start;
        memcpy(start, arena->copy_space, (size_t)arena->copied * 8);
#ifdef NK_TINY
        if (arena->copied < tenured_words(arena)) {
            memset(start + arena->copied, 0xdb,
                   (size_t)(tenured_words(arena) - arena->copied) * 8);
        }
#endif
        uint64_t touched = other + arena->copied - arena->young_start;
        if (touched > arena->young_resident) arena->young_resident = touched;
    }
    arena->tenured = arena->copy_start + arena->copied;
    arena->top = arena->young_start;
    arena->words_copied += arena->copied;
    if (tenured_words(arena) > arena->tenured_resident) {
        arena->tenured_resident = tenured_words(arena);
    }
    if (full) {
        uint64_t live = arena->copied;
        arena->full_collections++;
        arena->next_full =
            arena->nursery_start + (2 * live > FULL_MIN ? 2 * live : FULL_MIN);
        /* A large copy is rare: do not hold its memory until the reset. */
        keep_only(arena, arena->young_start, &arena->young_resident, KEEP_MAX);
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
    uint64_t used = nk_nursery_used(arena) + arena->room_max / RESERVE;
    return used <= arena->room_max && words <= arena->room_max - used;
}

#ifndef NK_TINY
/* Set the next young size by what a minor collection had to do. */
static void adapt(struct nk_arena *arena, uint64_t allocated) {
    uint64_t work = arena->copied + arena->root_count / 2;
    uint64_t live = tenured_words(arena);
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
    uint64_t allocated = arena->top - arena->young_start;
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

uint64_t *nk_atom_begin_raw(struct nk_arena *arena, size_t words) {
    uint64_t at = arena->top;
    uint64_t room = arena->limit > at ? arena->limit - at : 0;
    if (words >= room || words > NK_ATOM_WORDS_MAX) return NULL;
    arena->top = at + 1 + words;
    return arena->base + at + 1;
}

uint64_t *nk_atom_begin(struct nk_arena *arena, size_t words) {
    uint64_t *data = nk_atom_begin_raw(arena, words);
    if (data != NULL) memset(data, 0, words * 8);
    return data;
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
    uint64_t *data = nk_atom_begin_raw(arena, words);
    if (data == NULL) return NK_NONE;
    data[words - 1] = 0;
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
