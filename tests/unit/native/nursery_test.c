/* units: noun nursery mug status */
/* Collections: what is rooted survives unchanged, sharing and mugs are kept,
 * the rest is reclaimed; limits; reset; the policy stays linear. */
#include "check.h"
#include "mug.h"
#include "nursery.h"

#include <string.h>

static struct nk_arena arena;
static uint64_t seed = 0x9e3779b97f4a7c15ull;

static uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A random graph over a pool of nouns: shares, atoms of all sizes. */
static nk_noun random_noun(nk_noun *pool, size_t pool_size) {
    switch (draw() % 8) {
    case 0:
        return draw() % 4;
    case 1:
        return draw() >> 1;
    case 2: {
        uint64_t words[6];
        for (int i = 0; i < 6; i++)
            words[i] = draw();
        return nk_atom_from_bytes(&arena, words, draw() % 49);
    }
    default: {
        nk_noun head = pool[draw() % pool_size];
        return nk_cons(&arena, head, pool[draw() % pool_size]);
    }
    }
}

#define POOL 64
static nk_noun pool[POOL];
static size_t traced, moved;

static void pool_trace(void *context, struct nk_arena *a, nk_root_visit visit) {
    nk_noun *slots = context;
    for (size_t i = 0; i < POOL; i++)
        visit(a, &slots[i]);
    traced++;
}
static void pool_moved(void *context, struct nk_arena *a) {
    CHECK(context == pool && a == &arena);
    moved++;
}

static void test_random_graphs_survive(void) {
    uint32_t mugs[POOL];
    struct nk_root_source source = {pool_trace, pool_moved, pool, NULL};
    nk_root_source_add(&arena, &source);
    memset(pool, 0, sizeof pool);
    for (int round = 0; round < 3000; round++) {
        CHECK(nk_nursery_room(&arena, 512) == NK_OK);
        size_t at = draw() % POOL;
        /* Now and then a fresh start, or all would share everything. */
        pool[at] = draw() % 16 == 0 ? draw() % 100 : random_noun(pool, POOL);
        if (round % 50 != 0) continue;
        for (size_t i = 0; i < POOL; i++)
            mugs[i] = nk_mug(&arena, pool[i]);
        nk_nursery_collect_full(&arena);
        for (size_t i = 0; i < POOL; i++) {
            if (!nk_is_direct(pool[i])) {
                CHECK(nk_offset(pool[i]) >= arena.nursery_start);
                CHECK(nk_offset(pool[i]) < arena.tenured);
                CHECK(nk_atom_at(&arena, pool[i])->mug == mugs[i]);
            }
            /* From scratch: children were moved correctly as well. */
            if (nk_is_cell(pool[i])) {
                struct nk_cell *cell = nk_cell_at(&arena, pool[i]);
                CHECK(nk_mug_both(nk_mug(&arena, cell->head),
                                  nk_mug(&arena, cell->tail)) == mugs[i]);
            }
        }
    }
    CHECK(traced > 0 && traced == moved);
    nk_root_source_remove(&arena, &source);
    CHECK(arena.sources == NULL);
    nk_nursery_reset(&arena);
}

static void test_sharing_is_kept(void) {
    nk_noun slots[3];
    struct nk_root_frame frame;
    nk_noun shared = nk_cons(&arena, 1, 2);
    slots[0] = nk_cons(&arena, shared, shared);
    slots[1] = shared;
    slots[2] = NK_NONE;
    nk_root_push(&arena, &frame, slots, 3);
    for (int i = 0; i < 1000; i++)
        CHECK(nk_cons(&arena, 3, 4) != NK_NONE);
    nk_nursery_collect_full(&arena);
    CHECK(nk_nursery_used(&arena) == 6 && arena.top == arena.young_start);
    CHECK(nk_head(&arena, slots[0]) == slots[1] && slots[2] == NK_NONE);
    CHECK(nk_tail(&arena, slots[0]) == slots[1]);
    CHECK(nk_head(&arena, slots[1]) == 1 && nk_tail(&arena, slots[1]) == 2);
    nk_root_pop(&arena, &frame);
    nk_nursery_collect_full(&arena);
    CHECK(nk_nursery_used(&arena) == 0);
    nk_nursery_reset(&arena);
}

static void test_minor_keeps_tenured_in_place(void) {
    nk_noun slots[2] = {0, 0};
    struct nk_root_frame frame;
    nk_root_push(&arena, &frame, slots, 2);
    slots[0] = nk_cons(&arena, 1, 2);
    nk_nursery_collect_full(&arena);
    CHECK(nk_offset(slots[0]) == arena.nursery_start);
    CHECK(arena.tenured == arena.nursery_start + 3);
    uint64_t minors = arena.minor_collections;
    for (uint64_t i = 0; arena.minor_collections == minors; i++) {
        CHECK(i < 100000);
        nk_noun old = slots[0];
        uint64_t tenured = arena.tenured;
        CHECK(nk_cons_try(&arena, 0, 0) != NK_NONE);
        slots[1] = nk_cons(&arena, slots[0], i);
        CHECK(nk_nursery_room(&arena, 100) == NK_OK);
        if (arena.minor_collections == minors) continue;
        CHECK(slots[0] == old && arena.tenured == tenured + 3);
        CHECK(nk_offset(slots[1]) == tenured && nk_head(&arena, slots[1]) == old);
    }
    nk_root_pop(&arena, &frame);
    nk_nursery_reset(&arena);
}

static void test_deep_nouns_survive(void) {
    nk_noun slots[2] = {0, 0};
    struct nk_root_frame frame;
    nk_root_push(&arena, &frame, slots, 2);
    uint64_t copied = arena.words_copied;
    const uint64_t depth = 1000000 / 3;
    for (uint64_t i = 0; i < depth; i++) {
        if (i % 1000 == 0) CHECK(nk_nursery_room(&arena, 6000) == NK_OK);
        slots[0] = nk_cons(&arena, i, slots[0]);
        slots[1] = nk_cons(&arena, slots[1], i);
    }
    nk_nursery_collect_full(&arena);
    for (uint64_t i = depth; i-- > 0;) {
        CHECK(nk_head(&arena, slots[0]) == i && nk_tail(&arena, slots[1]) == i);
        slots[0] = nk_tail(&arena, slots[0]);
        slots[1] = nk_head(&arena, slots[1]);
    }
#ifndef NK_TINY
    /* Everything survives: yet each word is copied only a few times. */
    CHECK(arena.words_copied - copied < 6 * depth * 6);
#else
    (void)copied;
#endif
    nk_root_pop(&arena, &frame);
    nk_nursery_reset(&arena);
}

static void test_limits(void) {
    nk_nursery_limit(&arena, 1u << 20);
    nk_noun slots[1] = {0};
    struct nk_root_frame frame;
    nk_root_push(&arena, &frame, slots, 1);
    /* Garbage without end fits. */
    for (int i = 0; i < 200000; i++) {
        CHECK(nk_nursery_room(&arena, 30) == NK_OK);
        for (int k = 0; k < 10; k++)
            CHECK(nk_cons(&arena, 1, 2) != NK_NONE);
    }
    /* A live list does not. */
    nk_status status = NK_OK;
    uint64_t count = 0;
    while (status == NK_OK && count < 1000000) {
        slots[0] = nk_cons(&arena, count++, slots[0]);
        status = nk_nursery_room(&arena, 3);
    }
    CHECK(status == NK_MEME && count > (1u << 20) / 24 * 9 / 10);
    for (uint64_t i = count; i-- > 0; slots[0] = nk_tail(&arena, slots[0])) {
        CHECK(nk_head(&arena, slots[0]) == i);
    }
    slots[0] = 0;
    CHECK(nk_nursery_room(&arena, 1u << 20) == NK_MEME);
    CHECK(nk_nursery_room(&arena, ~0ull >> 8) == NK_MEME);
    nk_root_pop(&arena, &frame);
    nk_nursery_reset(&arena);
    /* The functions that try: all or nothing. */
    while (nk_cons_try(&arena, 1, 2) != NK_NONE)
        continue;
    uint64_t top = arena.top;
    CHECK(arena.limit - top < 3);
    CHECK(nk_atom_begin(&arena, 3) == NULL && arena.top == top);
    CHECK(nk_atom_begin(&arena, ~(size_t)0) == NULL);
    CHECK(nk_atom_from_bytes(&arena, "0123456789abcdefghijklmnop", 26) == NK_NONE);
    nk_nursery_limit(&arena, ~0ull);
    CHECK(arena.limit - arena.young_start == arena.nursery_end - arena.nursery_start);
    /* The limit is on both spaces together. */
    slots[0] = nk_cons(&arena, 1, 2);
    nk_root_push(&arena, &frame, slots, 1);
    uint64_t limit = arena.limit;
    nk_nursery_collect_full(&arena);
    CHECK(arena.limit == limit - 3);
    nk_root_pop(&arena, &frame);
    nk_nursery_reset(&arena);
}

/* A live young list of most of the nursery: a full collection of it finds no
 * room above, and has to take two steps. */
static void test_full_collection_of_much(void) {
    const uint64_t count = nk_nursery_room_max(&arena) / NK_CELL_WORDS * 9 / 10;
    nk_noun slots[1] = {nk_cons(&arena, 1, 2)};
    struct nk_root_frame frame;
    nk_root_push(&arena, &frame, slots, 1);
    nk_nursery_collect_full(&arena);
    for (uint64_t i = 0; i < count; i++) {
        slots[0] = nk_cons_try(&arena, i, slots[0]);
        CHECK(slots[0] != NK_NONE);
    }
    uint64_t minors = arena.minor_collections;
    nk_nursery_collect_full(&arena);
    CHECK(arena.minor_collections == minors + 1);
    nk_nursery_collect_full(&arena); /* young is empty: one is enough */
    CHECK(arena.minor_collections == minors + 1);
    CHECK(nk_nursery_used(&arena) == (count + 1) * NK_CELL_WORDS);
    nk_noun rest = slots[0];
    for (uint64_t i = count; i-- > 0; rest = nk_tail(&arena, rest))
        CHECK(nk_head(&arena, rest) == i);
    CHECK(nk_head(&arena, rest) == 1);
    nk_root_pop(&arena, &frame);
    nk_nursery_reset(&arena);
}

static void test_reset_gives_memory_back(void) {
    nk_nursery_reset(&arena);
    CHECK(nk_nursery_used(&arena) == 0);
    uint64_t *data = nk_atom_begin(&arena, 7u << 20);
    CHECK(data != NULL);
    data[(7u << 20) - 1] = 1;
    nk_nursery_reset(&arena);
    CHECK(nk_nursery_used(&arena) == 0);
    CHECK(arena.young_resident < 5u << 20);
}

static void test_arena_without_room(void) {
    struct nk_arena other;
    CHECK(nk_arena_open(&other, 1ull << 60, 1) == NK_MEME);
    CHECK(nk_arena_open(&other, 1, 1) == NK_OK);
    CHECK(other.home_end == NK_PAGE_WORDS && other.nursery_start > other.home_end);
    CHECK(nk_is_durable(&other, NK_CELL_TAG | 5));
    CHECK(!nk_is_durable(&other, NK_CELL_TAG | other.nursery_start));
    nk_arena_close(&other);
}

int main(void) {
    CHECK(nk_arena_open(&arena, 0, 64u << 20) == NK_OK);
    CHECK(arena.nursery_start > 0);
    test_random_graphs_survive();
    test_sharing_is_kept();
    test_minor_keeps_tenured_in_place();
    test_deep_nouns_survive();
    test_limits();
    test_full_collection_of_much();
    test_reset_gives_memory_back();
    test_arena_without_room();
    nk_arena_close(&arena);
    return 0;
}
