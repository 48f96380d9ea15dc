/* See memo.h. Entries lie in an array, so that a clock hand can walk them;
 * buckets chain them by hash, and the free ones are chained too. */
#include "memo.h"

#include <stdlib.h>
#include <string.h>

#include "collect.h"
#include "cord.h"
#include "mug.h"
#include "worklist.h"

/* Entries of a table: when it is new, and at most. Both powers of two. What a
 * large compile remembers is most of what it keeps alive; of 500,000 products
 * it asks for 46,000 of the older half again. */
#ifndef NK_TINY
#define ENTRIES_START 1024u
static const uint32_t entries_max[NK_MEMO_KINDS] = {1u << 18, 1u << 16, 1u << 16};
#else
#define ENTRIES_START 4u
static const uint32_t entries_max[NK_MEMO_KINDS] = {16, 16, 16};
#endif
#define NONE UINT32_MAX
#define UNIFY_AFTER 32u /* cell pairs that a comparison may walk unpunished */
#define HOME_BYTES_MAX (256ull << 20) /* of the tables that last */
#define HOME_SHARE 8u                 /* of home's limit, at most */
/* Shares of the nursery that may be live before the transient table is
 * thinned, and before it is emptied. */
#define CROWDED 4u
#define FULL 2u

struct entry {
    nk_noun subject, formula, product;
    uint64_t context;
    uint32_t hash, next;
    bool live, used; /* used: since the hand, or a thinning, came by */
    bool listed;     /* in the table's young list */
    bool durable;    /* home holds its nouns, the cache's noun names it */
};

struct table {
    struct entry *entries;
    uint32_t *buckets; /* as many as there may be entries */
    uint32_t *young;   /* entries made since the last collection or commit */
    uint32_t capacity; /* 0: nothing is allocated */
    uint32_t most;     /* what [capacity] may become */
    uint32_t count;    /* entries ever used: the array's filled part */
    uint32_t live;
    uint32_t hand;
    uint32_t free; /* the first of the dropped entries, or NONE */
    uint32_t young_count;
    struct nk_memo_counts counts;
};

struct nk_memo {
    struct table tables[NK_MEMO_KINDS];
    uint64_t weighed;  /* home's collections when they were last heeded */
    size_t noun_count; /* entries in home's noun */
    bool stale;        /* something was cleared: rebuild the noun */
};

static void table_empty(struct table *table) {
    table->count = table->live = table->hand = table->young_count = 0;
    table->free = NONE;
}

static void table_free(struct table *table) {
    free(table->entries);
    free(table->buckets);
    free(table->young);
    table->entries = NULL;
    table->buckets = table->young = NULL;
    table->capacity = 0;
    table_empty(table);
}

static uint32_t *bucket(const struct table *table, uint32_t hash) {
    return &table->buckets[hash & (table->capacity - 1)];
}

static void chain(struct table *table, uint32_t index) {
    struct entry *entry = &table->entries[index];
    uint32_t *first = bucket(table, entry->hash);
    entry->next = *first;
    *first = index;
}

static size_t table_bytes(uint32_t capacity) {
    return capacity * (sizeof(struct entry) + 2 * sizeof(uint32_t));
}

static void table_grow(struct table *table) {
    uint32_t capacity = table->capacity == 0 ? ENTRIES_START : 2 * table->capacity;
    table->entries = realloc(table->entries, capacity * sizeof *table->entries);
    table->buckets = realloc(table->buckets, capacity * sizeof *table->buckets);
    table->young = realloc(table->young, capacity * sizeof *table->young);
    NK_ASSERT(table->entries != NULL && table->buckets != NULL && table->young != NULL);
    table->capacity = capacity;
    memset(table->buckets, 0xff, capacity * sizeof *table->buckets);
    for (uint32_t i = 0; i < table->count; i++) {
        if (table->entries[i].live) chain(table, i);
    }
    if (table_bytes(capacity) > table->counts.bytes) {
        table->counts.bytes = table_bytes(capacity);
    }
}

/* Take an entry out; it is not on the free list yet. */
static void entry_drop(struct table *table, uint32_t index) {
    struct entry *entry = &table->entries[index];
    uint32_t *link = bucket(table, entry->hash);
    while (*link != index)
        link = &table->entries[*link].next;
    *link = entry->next;
    entry->live = false;
    entry->durable = false;
    entry->subject = entry->formula = entry->product = 0;
    table->live--;
}

static void entry_free(struct table *table, uint32_t index) {
    entry_drop(table, index);
    table->entries[index].next = table->free;
    table->free = index;
}

/* The next entry that was not used since the hand came by. */
static uint32_t hand_next(struct table *table) {
    for (;;) {
        uint32_t index = table->hand;
        table->hand = index + 1 < table->count ? index + 1 : 0;
        struct entry *entry = &table->entries[index];
        if (entry->live && !entry->used) return index;
        entry->used = false;
    }
}

static uint32_t entry_new(struct table *table) {
    if (table->free != NONE) {
        uint32_t index = table->free;
        table->free = table->entries[index].next;
        return index;
    }
    if (table->count == table->capacity && table->capacity < table->most) {
        table_grow(table);
    }
    if (table->count < table->capacity) {
        table->entries[table->count].listed = false;
        return table->count++;
    }
    uint32_t index = hand_next(table);
    entry_drop(table, index);
    table->counts.evicted++;
    return index;
}

static uint32_t hash_of(struct nk_arena *arena, nk_noun subject, nk_noun formula) {
    uint64_t mixed = ((uint64_t)nk_mug(arena, subject) << 32 | nk_mug(arena, formula)) *
                     0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 32);
}

/* Two equal nouns that lie in different places: let the one above refer to
 * what the one below refers to, all the way down, so that the next comparison
 * ends where it begins. (A compile looks for the same few types again and
 * again; where two copies of one are about, each look walks all of it.)
 * Lower is never younger, so that no old noun comes to refer to a newer one.
 * A pair that is met again costs nothing: its parts are the same by then. */
static void unify(struct nk_arena *arena, nk_noun a, nk_noun b) {
    struct nk_worklist todo;
    nk_worklist_open(&todo);
    for (;;) {
        if (nk_offset(a) > nk_offset(b)) {
            nk_noun lower = b;
            b = a;
            a = lower;
        }
        if (a != b && nk_is_cell(a) && nk_offset(b) >= arena->home_end) {
            const struct nk_cell *below = nk_cell_at(arena, a);
            struct nk_cell *above = nk_cell_at(arena, b);
            nk_noun heads[2] = {below->head, above->head};
            nk_noun tails[2] = {below->tail, above->tail};
            above->head = heads[0];
            above->tail = tails[0];
            if (heads[0] != heads[1]) {
                nk_worklist_push(&todo, heads[0]);
                nk_worklist_push(&todo, heads[1]);
            }
            if (tails[0] != tails[1]) {
                nk_worklist_push(&todo, tails[0]);
                nk_worklist_push(&todo, tails[1]);
            }
        }
        if (todo.count == 0) break;
        b = nk_worklist_pop(&todo);
        a = nk_worklist_pop(&todo);
    }
    nk_worklist_close(&todo);
}

/* Is this an entry's noun? */
static bool same(struct nk_arena *arena, nk_noun own, nk_noun other) {
    uint64_t steps = 0;
    if (own == other) return true;
    if (!nk_equal_counted(arena, own, other, &steps)) return false;
    if (steps > UNIFY_AFTER) unify(arena, own, other);
    return true;
}

static struct entry *find(struct nk_arena *arena, struct table *table, uint32_t hash,
                          uint64_t context, nk_noun subject, nk_noun formula) {
    for (uint32_t i = *bucket(table, hash); i != NONE; i = table->entries[i].next) {
        struct entry *entry = &table->entries[i];
        if (entry->hash == hash && entry->context == context &&
            same(arena, entry->formula, formula) &&
            same(arena, entry->subject, subject)) {
            return entry;
        }
    }
    return NULL;
}

/* Put in what is known not to be there. */
static struct entry *insert(struct table *table, uint32_t hash, uint64_t context,
                            nk_noun subject, nk_noun formula, nk_noun product) {
    uint32_t index = entry_new(table);
    struct entry *entry = &table->entries[index];
    entry->subject = subject;
    entry->formula = formula;
    entry->product = product;
    entry->context = context;
    entry->hash = hash;
    entry->live = entry->used = true;
    entry->durable = false;
    chain(table, index);
    table->live++;
    if (table->live > table->counts.entries) table->counts.entries = table->live;
    if (!entry->listed) {
        entry->listed = true;
        table->young[table->young_count++] = index;
    }
    return entry;
}

struct nk_memo *nk_memo_new(void) {
    struct nk_memo *memo = calloc(1, sizeof *memo);
    NK_ASSERT(memo != NULL);
    for (int kind = 0; kind < NK_MEMO_KINDS; kind++) {
        memo->tables[kind].most = entries_max[kind];
        memo->tables[kind].free = NONE;
    }
    return memo;
}

void nk_memo_free(struct nk_memo *memo) {
    if (memo == NULL) return;
    for (int kind = 0; kind < NK_MEMO_KINDS; kind++)
        table_free(&memo->tables[kind]);
    free(memo);
}

enum nk_memo_kind nk_memo_kind(const struct nk_arena *arena, nk_noun clue) {
    if (!nk_is_cell(clue)) return NK_MEMO_TRANSIENT;
    nk_noun rest = nk_tail(arena, clue);
    if (nk_head(arena, clue) == NK_CORD_4('c', 'l', 'a', 'y') && nk_is_cell(rest) &&
        nk_head(arena, rest) == NK_CORD_4('f', 'o', 'r', 'd')) {
        return NK_MEMO_FORD;
    }
    return NK_MEMO_PERSISTENT;
}

nk_noun nk_memo_get(struct nk_machine *machine, enum nk_memo_kind kind,
                    uint64_t context, nk_noun subject, nk_noun formula) {
    struct table *table = &machine->memo->tables[kind];
    table->counts.misses++;
    if (table->live == 0) return NK_NONE;
    uint32_t hash = hash_of(&machine->arena, subject, formula);
    struct entry *entry = find(&machine->arena, table, hash, context, subject, formula);
    if (entry == NULL) return NK_NONE;
    entry->used = true;
    table->counts.misses--;
    table->counts.hits++;
    return entry->product;
}

void nk_memo_put(struct nk_machine *machine, enum nk_memo_kind kind, uint64_t context,
                 nk_noun subject, nk_noun formula, nk_noun product) {
    struct table *table = &machine->memo->tables[kind];
    uint32_t hash = hash_of(&machine->arena, subject, formula);
    if (table->live != 0 &&
        find(&machine->arena, table, hash, context, subject, formula) != NULL) {
        return;
    }
    insert(table, hash, context, subject, formula, product);
}

/* A table that was much used gives its memory back. */
static void clear(struct table *table) {
    if (table->capacity > ENTRIES_START) {
        table_free(table);
    } else if (table->count != 0) {
        memset(table->buckets, 0xff, table->capacity * sizeof *table->buckets);
        table_empty(table);
    }
}

void nk_memo_clear(struct nk_memo *memo, enum nk_memo_kind kind) {
    clear(&memo->tables[kind]);
    if (kind != NK_MEMO_TRANSIENT) memo->stale = true;
}

size_t nk_memo_count(const struct nk_memo *memo, enum nk_memo_kind kind) {
    return memo->tables[kind].live;
}

struct nk_memo_counts nk_memo_counts(const struct nk_memo *memo,
                                     enum nk_memo_kind kind) {
    struct nk_memo_counts counts = memo->tables[kind].counts;
    if (counts.bytes != 0) counts.bytes_max = table_bytes(memo->tables[kind].most);
    return counts;
}

/* ---- across events ---- */

static nk_noun entry_cons(struct nk_arena *arena, nk_noun kind,
                          const struct entry *entry, nk_noun list) {
    nk_noun noun = nk_cons_try(arena, entry->formula, entry->product);
    if (noun != NK_NONE) noun = nk_cons_try(arena, entry->subject, noun);
    if (noun != NK_NONE) noun = nk_cons_try(arena, kind, noun);
    return noun == NK_NONE ? NK_NONE : nk_cons_try(arena, noun, list);
}

nk_status nk_memo_pending(struct nk_machine *machine, nk_noun *cache) {
    struct nk_memo *memo = machine->memo;
    struct nk_arena *arena = &machine->arena;
    size_t fresh = 0, live = 0;
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        fresh += memo->tables[kind].young_count;
        live += memo->tables[kind].live;
    }
    *cache = NK_NONE;
    if (fresh == 0 && !memo->stale) return NK_OK;
    bool rebuild = memo->stale || memo->noun_count + fresh > 2 * live + 64;
    nk_noun list = machine->home.roots[NK_ROOT_CACHE];
    if (list == NK_NONE || rebuild) list = 0;
    size_t count = rebuild ? 0 : memo->noun_count;
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        const struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->count; i++) {
            const struct entry *entry = &table->entries[i];
            if (!entry->live || (entry->durable && !rebuild)) continue;
            list = entry_cons(arena, kind, entry, list);
            if (list == NK_NONE) return NK_MEME;
            count++;
        }
    }
    memo->noun_count = count;
    *cache = list;
    return NK_OK;
}

size_t nk_memo_slots(struct nk_memo *memo, nk_noun **slots) {
    size_t count = 0;
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->young_count; i++) {
            struct entry *entry = &table->entries[table->young[i]];
            if (slots != NULL) {
                slots[count] = &entry->subject;
                slots[count + 1] = &entry->formula;
                slots[count + 2] = &entry->product;
            }
            count += 3;
        }
    }
    return count;
}

void nk_memo_committed(struct nk_memo *memo) {
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->young_count; i++) {
            struct entry *entry = &table->entries[table->young[i]];
            entry->listed = false;
            entry->durable = entry->live;
        }
        table->young_count = 0;
    }
    memo->stale = false;
    clear(&memo->tables[NK_MEMO_TRANSIENT]);
}

void nk_memo_discard(struct nk_memo *memo) {
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->young_count; i++) {
            struct entry *entry = &table->entries[table->young[i]];
            entry->listed = false;
            if (entry->live && !entry->durable) entry_free(table, table->young[i]);
        }
        table->young_count = 0;
    }
    clear(&memo->tables[NK_MEMO_TRANSIENT]);
}

void nk_memo_bound(struct nk_machine *machine) {
    struct nk_memo *memo = machine->memo;
    const struct nk_home *home = &machine->home;
    uint64_t most = home->page_max * NK_PAGE_WORDS / HOME_SHARE;
    if (most > HOME_BYTES_MAX / 8) most = HOME_BYTES_MAX / 8;
    uint64_t held = nk_collect_stats(home)->cache_words;
    if (memo->weighed == home->collections) return;
    memo->weighed = home->collections;
    /* Stale: home's noun still holds what was thrown out. */
    if (memo->stale || held <= most) return;
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        uint64_t keep = table->live * (most / 4 * 3) / held;
        while (table->live > keep) {
            entry_free(table, hand_next(table));
            table->counts.evicted++;
        }
    }
    memo->stale = true;
}

nk_status nk_memo_adopt(struct nk_machine *machine) {
    struct nk_memo *memo = machine->memo;
    struct nk_arena *arena = &machine->arena;
    for (int kind = 0; kind < NK_MEMO_KINDS; kind++)
        clear(&memo->tables[kind]);
    memo->noun_count = 0;
    memo->stale = false;
    nk_noun list = machine->home.roots[NK_ROOT_CACHE];
    for (; list != NK_NONE && nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun noun = nk_head(arena, list);
        memo->noun_count++;
        if (nk_slot(arena, noun, 15) == NK_NONE) return NK_BAD;
        nk_noun kind = nk_head(arena, noun);
        if (kind != NK_MEMO_PERSISTENT && kind != NK_MEMO_FORD) return NK_BAD;
        struct table *table = &memo->tables[kind];
        nk_noun subject = nk_slot(arena, noun, 6), formula = nk_slot(arena, noun, 14);
        uint32_t hash = hash_of(arena, subject, formula);
        if (table->live >= table->most) continue;
        if (table->live != 0 && find(arena, table, hash, 0, subject, formula) != NULL) {
            continue;
        }
        struct entry *entry =
            insert(table, hash, 0, subject, formula, nk_slot(arena, noun, 15));
        entry->durable = true;
        entry->used = false;
    }
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->young_count; i++)
            table->entries[table->young[i]].listed = false;
        table->young_count = 0;
    }
    return NK_OK;
}

/* Where the nursery is crowded, keep what was used since the last thinning,
 * or nothing. In full collections only: a minor one frees no old nouns. */
static void thin(struct table *table, const struct nk_arena *arena) {
    uint64_t held = nk_nursery_used(arena);
    uint64_t room = nk_nursery_room_max(arena);
    if (held < room / CROWDED) return;
    bool all = held >= room / FULL;
    for (uint32_t i = 0; i < table->count; i++) {
        struct entry *entry = &table->entries[i];
        if (!entry->live) continue;
        if (all || !entry->used) {
            entry_free(table, i);
            table->counts.evicted++;
        } else {
            entry->used = false;
        }
    }
}

static void trace_entry(struct entry *entry, struct nk_arena *arena,
                        nk_root_visit visit) {
    visit(arena, &entry->subject);
    visit(arena, &entry->formula);
    visit(arena, &entry->product);
}

static void trace_young(struct table *table, struct nk_arena *arena,
                        nk_root_visit visit) {
    for (uint32_t i = 0; i < table->young_count; i++)
        trace_entry(&table->entries[table->young[i]], arena, visit);
}

/* The persistent tables' young list lasts until the commit, the transient
 * one's until the next collection. */
void nk_memo_trace(struct nk_memo *memo, struct nk_arena *arena, nk_root_visit visit) {
    trace_young(&memo->tables[NK_MEMO_PERSISTENT], arena, visit);
    trace_young(&memo->tables[NK_MEMO_FORD], arena, visit);
    struct table *table = &memo->tables[NK_MEMO_TRANSIENT];
    if (arena->minor) {
        trace_young(table, arena, visit);
    } else {
        thin(table, arena);
        for (uint32_t i = 0; i < table->count; i++)
            trace_entry(&table->entries[i], arena, visit);
    }
    for (uint32_t i = 0; i < table->young_count; i++)
        table->entries[table->young[i]].listed = false;
    table->young_count = 0;
}
