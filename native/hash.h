/* Tables from nouns to nouns: memo caches, jet tables, sets.
 *
 * Open addressing, keyed by noun equality: mug first, then identity, then
 * nk_equal. A key is a pair of nouns, so that [subject formula] needs no cell
 * made for a lookup; a single key has NK_HASH_SINGLE as its second. Since
 * mugs do not depend on addresses, a collection only rewrites the entries
 * and nothing is rehashed.
 *
 * A table that is registered as a root source (`nk_hash_root`) keeps its
 * keys and values alive. In a registered nursery table everything must be
 * dropped (`nk_hash_clear`) before the nursery is reset.
 *
 * With a limit, a full table forgets: entries that were not looked up since
 * the hand last passed them are evicted (the clock algorithm).
 *
 * Owns: its entries' memory (malloc'd; exhaustion is fatal). Not the nouns.
 */
#ifndef NK_HASH_H
#define NK_HASH_H

#include "nursery.h"

#define NK_HASH_SINGLE 0ull /* second of a key that has none: any constant does */

struct nk_hash_entry {
    nk_noun key;   /* NK_NONE: empty */
    nk_noun other; /* second key */
    nk_noun value;
    uint32_t hash;
    uint32_t used; /* looked up since the hand passed */
};

struct nk_hash {
    struct nk_hash_entry *entries; /* NULL while empty */
    size_t capacity;               /* a power of two */
    size_t count;
    size_t limit; /* 0 = none */
    size_t hand;
    uint64_t hits, misses, evictions;
    struct nk_root_source source; /* for nk_hash_root */
};

void nk_hash_open(struct nk_hash *table, size_t limit);
void nk_hash_close(struct nk_hash *table);

/* The value, or NK_NONE. Mugs the keys. */
nk_noun nk_hash_get(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                    nk_noun other);

/* Enter or replace. */
void nk_hash_put(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                 nk_noun other, nk_noun value);

/* False if it was not there. */
bool nk_hash_remove(struct nk_hash *table, struct nk_arena *arena, nk_noun key,
                    nk_noun other);

/* Drop the entries for which [drop] says so, e.g. those with unmarked nouns
 * when home is collected, or with nursery nouns before a reset. */
void nk_hash_filter(struct nk_hash *table,
                    bool (*drop)(void *context, const struct nk_hash_entry *entry),
                    void *context);

/* Drop all; keeps the memory unless it is much. */
void nk_hash_clear(struct nk_hash *table);

/* Visit keys and values: for an owner's own root source. */
void nk_hash_trace(struct nk_hash *table, struct nk_arena *arena, nk_root_visit visit);

/* Fill in [table]->source with trace; the caller adds it to the arena's or to
 * home's sources. The table must not move in memory afterwards. */
struct nk_root_source *nk_hash_root(struct nk_hash *table);

/* The next entry after [entry] (NULL: the first); NULL at the end. */
const struct nk_hash_entry *nk_hash_next(const struct nk_hash *table,
                                         const struct nk_hash_entry *entry);

#endif
