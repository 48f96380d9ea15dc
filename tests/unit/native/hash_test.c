/* units: noun nursery mug hash status */
/* Tables keyed by nouns: found by equality, through collections, removals,
 * growth and eviction. */
#include "check.h"
#include "hash.h"

static struct nk_arena arena;
static struct nk_hash table;

static nk_noun cons(nk_noun head, nk_noun tail) {
    return nk_cons(&arena, head, tail);
}
static nk_noun get(nk_noun key, nk_noun other) {
    return nk_hash_get(&table, &arena, key, other);
}
static void put(nk_noun key, nk_noun other, nk_noun value) {
    nk_hash_put(&table, &arena, key, other, value);
}

/* A key that is made anew each time, so that only equality finds it. */
static nk_noun key(uint64_t i) {
    return cons(cons(i, i / 3), cons(i & 1, 5));
}

static void test_get_put_remove(void) {
    nk_hash_open(&table, 0);
    CHECK(get(1, 0) == NK_NONE && !nk_hash_remove(&table, &arena, 1, 0));
    for (uint64_t i = 0; i < 2000; i++)
        put(key(i), i % 3, i);
    for (uint64_t i = 0; i < 2000; i++) {
        CHECK(get(key(i), i % 3) == i);
        CHECK(get(key(i), i % 3 + 1) == NK_NONE);
    }
    put(key(7), 1, 99);
    CHECK(get(key(7), 1) == 99 && table.count == 2000);
    for (uint64_t i = 0; i < 2000; i += 2) {
        CHECK(nk_hash_remove(&table, &arena, key(i), i % 3));
    }
    for (uint64_t i = 0; i < 2000; i++) {
        CHECK(get(key(i), i % 3) == (i == 7 ? 99 : i % 2 == 0 ? NK_NONE : i));
    }
    size_t seen = 0;
    const struct nk_hash_entry *entry = NULL;
    while ((entry = nk_hash_next(&table, entry)) != NULL)
        seen++;
    CHECK(seen == 1000 && table.count == 1000);
    nk_hash_clear(&table);
    CHECK(get(key(1), 1) == NK_NONE && table.count == 0);
    nk_hash_close(&table);
    nk_nursery_reset(&arena);
}

static void test_survives_collections(void) {
    nk_hash_open(&table, 0);
    nk_root_source_add(&arena, nk_hash_root(&table));
    for (uint64_t i = 0; i < 500; i++) {
        CHECK(nk_nursery_room(&arena, 100) == NK_OK);
        put(key(i), key(i + 1), cons(i, i));
        if (i % 50 == 0) nk_nursery_collect_full(&arena);
    }
    nk_nursery_collect_full(&arena);
    for (uint64_t i = 0; i < 500; i++) {
        nk_noun value = get(key(i), key(i + 1));
        CHECK(value != NK_NONE && nk_head(&arena, value) == i);
    }
    nk_root_source_remove(&arena, &table.source);
    nk_hash_close(&table);
    nk_nursery_reset(&arena);
}

static bool is_odd(void *context, const struct nk_hash_entry *entry) {
    ++*(size_t *)context;
    return (entry->value & 1) != 0;
}

static void test_filter(void) {
    size_t asked = 0;
    nk_hash_open(&table, 0);
    for (uint64_t i = 0; i < 300; i++)
        put(key(i), NK_HASH_SINGLE, i);
    nk_hash_filter(&table, is_odd, &asked);
    CHECK(asked == 300 && table.count == 150);
    for (uint64_t i = 0; i < 300; i++) {
        CHECK(get(key(i), NK_HASH_SINGLE) == ((i & 1) != 0 ? NK_NONE : i));
    }
    nk_hash_close(&table);
    nk_nursery_reset(&arena);
}

static void test_limit_evicts_what_is_not_used(void) {
    nk_hash_open(&table, 100);
    for (uint64_t i = 0; i < 5000; i++) {
        put(key(i), 3, i);
        CHECK(table.count <= 100);
        CHECK(get(key(0), 3) == 0); /* always in use, so never evicted */
        CHECK(get(key(i), 3) == i);
    }
    CHECK(table.evictions == 4900 && table.capacity <= 256);
    nk_hash_close(&table);
    nk_nursery_reset(&arena);
}

int main(void) {
    CHECK(nk_arena_open(&arena, 0, 64u << 20) == NK_OK);
    test_get_put_remove();
    test_survives_collections();
    test_filter();
    test_limit_evicts_what_is_not_used();
    nk_arena_close(&arena);
    return 0;
}
