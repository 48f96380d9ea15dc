/* Open addressing with linear probing and deletion by shifting back. */
#include "hash.h"

#include <stdlib.h>
#include <string.h>

#include "mug.h"

#define CAPACITY_MIN 64u
/* A table cleared when larger than this gives its memory back. */
#define CAPACITY_KEPT 256u

void nk_hash_open(struct nk_hash *table, size_t limit) {
    memset(table, 0, sizeof *table);
    table->limit = limit;
}

void nk_hash_close(struct nk_hash *table) {
    free(table->entries);
    memset(table, 0, sizeof *table);
}

static void make_entries(struct nk_hash *table, size_t capacity) {
    table->entries = malloc(capacity * sizeof *table->entries);
    NK_ASSERT(table->entries != NULL);
    memset(table->entries, 0xff, capacity * sizeof *table->entries);
    table->capacity = capacity;
    table->count = 0;
    table->hand = 0;
}

static inline size_t home_of(const struct nk_hash *table, uint32_t hash) {
    uint64_t spread = (uint64_t)hash * 0x9e3779b97f4a7c15ull;
    return (size_t)(spread >> 32) & (table->capacity - 1);
}

static inline uint32_t hash_of(struct nk_arena *arena, nk_noun key, nk_noun other) {
    uint32_t mug = nk_mug(arena, key);
    return other == NK_HASH_SINGLE ? mug : nk_mug_both(mug, nk_mug(arena, other));
}

/* The entry of the key, or the empty one where it would go. */
static struct nk_hash_entry *find(const struct nk_hash *table, struct nk_arena *arena,
                                  nk_noun key, nk_noun other, uint32_t hash) {
    size_t at = home_of(table, hash);
    for (;; at = (at + 1) & (table->capacity - 1)) {
        struct nk_hash_entry *entry = &table->entries[at];
        if (entry->key == NK_NONE) return entry;
        if (entry->hash != hash) continue;
        if (nk_equal(arena, entry->key, key) && nk_equal(arena, entry->other, other)) {
            return entry;
        }
    }
}

static struct nk_hash_entry *find_empty(const struct nk_hash *table, uint32_t hash) {
    size_t at = home_of(table, hash);
    while (table->entries[at].key != NK_NONE)
        at = (at + 1) & (table->capacity - 1);
    return &table->entries[at];
}

static void resize(struct nk_hash *table, size_t capacity) {
    struct nk_hash_entry *old = table->entries;
    size_t old_capacity = table->capacity, count = table->count;
    make_entries(table, capacity);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].key != NK_NONE) *find_empty(table, old[i].hash) = old[i];
    }
    table->count = count;
    free(old);
}

/* Empty an entry, and move back those behind it that probed past it. */
static void vacate(struct nk_hash *table, size_t hole) {
    size_t mask = table->capacity - 1;
    for (size_t at = (hole + 1) & mask; table->entries[at].key != NK_NONE;
         at = (at + 1) & mask) {
        size_t wants = home_of(table, table->entries[at].hash);
        if (((at - wants) & mask) < ((at - hole) & mask)) continue;
        table->entries[hole] = table->entries[at];
        hole = at;
    }
    table->entries[hole].key = NK_NONE;
    table->count--;
}

static void evict_one(struct nk_hash *table) {
    for (;;) {
        table->hand = (table->hand + 1) & (table->capacity - 1);
        struct nk_hash_entry *entry = &table->entries[table->hand];
        if (entry->key == NK_NONE) continue;
        if (entry->used == 0) break;
        entry->used = 0;
    }
    vacate(table, table->hand);
    table->evictions++;
}

nk_noun nk_hash_get(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                    nk_noun other) {
    if (table->count > 0) {
        uint32_t hash = hash_of(arena, key, other);
        struct nk_hash_entry *entry = find(table, arena, key, other, hash);
        if (entry->key != NK_NONE) {
            entry->used = 1;
            table->hits++;
            return entry->value;
        }
    }
    table->misses++;
    return NK_NONE;
}

void nk_hash_put(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                 nk_noun other, nk_noun value) {
    uint32_t hash = hash_of(arena, key, other);
    NK_CHECK(key != NK_NONE);
    if (table->entries == NULL) make_entries(table, CAPACITY_MIN);
    struct nk_hash_entry *entry = find(table, arena, key, other, hash);
    if (entry->key != NK_NONE) {
        entry->value = value;
        return;
    }
    if (table->limit != 0 && table->count >= table->limit) {
        evict_one(table);
        entry = find_empty(table, hash);
    } else if ((table->count + 1) * 3 > table->capacity * 2) {
        resize(table, table->capacity * 2);
        entry = find_empty(table, hash);
    }
    *entry = (struct nk_hash_entry){key, other, value, hash, 0};
    table->count++;
}

bool nk_hash_remove(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                    nk_noun other) {
    if (table->count == 0) return false;
    uint32_t hash = hash_of(arena, key, other);
    struct nk_hash_entry *entry = find(table, arena, key, other, hash);
    if (entry->key == NK_NONE) return false;
    vacate(table, (size_t)(entry - table->entries));
    return true;
}

void nk_hash_filter(struct nk_hash *table,
                    bool (*drop)(void *context, const struct nk_hash_entry *entry),
                    void *context) {
    struct nk_hash_entry *old = table->entries;
    size_t old_capacity = table->capacity, kept = 0;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].key == NK_NONE) continue;
        if (drop(context, &old[i])) {
            old[i].key = NK_NONE;
        } else {
            kept++;
        }
    }
    if (kept == table->count) return;
    /* Holes break the probing: enter what is left anew. */
    table->count = kept;
    resize(table, old_capacity);
}

void nk_hash_clear(struct nk_hash *table) {
    if (table->capacity > CAPACITY_KEPT) {
        free(table->entries);
        table->entries = NULL;
        table->capacity = 0;
    } else if (table->count > 0) {
        memset(table->entries, 0xff, table->capacity * sizeof *table->entries);
    }
    table->count = 0;
    table->hand = 0;
}

void nk_hash_trace(struct nk_hash *table, struct nk_arena *arena, nk_root_visit visit) {
    for (size_t i = 0; i < table->capacity; i++) {
        struct nk_hash_entry *entry = &table->entries[i];
        if (entry->key == NK_NONE) continue;
        visit(arena, &entry->key);
        visit(arena, &entry->other);
        visit(arena, &entry->value);
    }
}

static void trace_source(void *context, struct nk_arena *arena, nk_root_visit visit) {
    nk_hash_trace(context, arena, visit);
}

struct nk_root_source *nk_hash_root(struct nk_hash *table) {
    table->source = (struct nk_root_source){trace_source, NULL, table, NULL};
    return &table->source;
}

const struct nk_hash_entry *nk_hash_next(const struct nk_hash *table,
                                         const struct nk_hash_entry *entry) {
    size_t i = entry == NULL ? 0 : (size_t)(entry - table->entries) + 1;
    for (; i < table->capacity; i++) {
        if (table->entries[i].key != NK_NONE) return &table->entries[i];
    }
    return NULL;
}
