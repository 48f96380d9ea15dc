/* See memo.h. Entries lie in an array that a clock hand walks; buckets chain
 * them by hash. */
#include "memo.h"

#include <stdlib.h>
#include <string.h>

#include "cord.h"
#include "mug.h"

#ifndef NK_TINY
#define ENTRIES 50000u
#define BUCKETS 65536u
#else
#define ENTRIES 20u
#define BUCKETS 16u
#endif
#define NONE UINT32_MAX

struct entry {
    nk_noun subject, formula, product;
    uint64_t context;
    uint32_t hash, next;
    bool live, used; /* used: since the hand came by */
    bool listed;     /* in the table's young list */
    bool durable;    /* home holds its nouns, the cache's noun names it */
};

struct table {
    struct entry *entries;
    uint32_t *buckets;
    uint32_t count; /* entries ever used: the array's filled part */
    uint32_t live;
    uint32_t hand;
    uint32_t *young; /* entries made since the last collection or commit */
    uint32_t young_count;
    uint64_t hits, misses;
};

struct nk_memo {
    struct table tables[NK_MEMO_KINDS];
    size_t noun_count; /* entries in home's noun */
    bool stale;        /* something was cleared: rebuild the noun */
};

static void table_init(struct table *table) {
    table->entries = calloc(ENTRIES, sizeof *table->entries);
    table->buckets = malloc(BUCKETS * sizeof *table->buckets);
    table->young = malloc(ENTRIES * sizeof *table->young);
    NK_ASSERT(table->entries != NULL && table->buckets != NULL && table->young != NULL);
    memset(table->buckets, 0xff, BUCKETS * sizeof *table->buckets);
}

static uint32_t *link_to(struct table *table, uint32_t index) {
    uint32_t *link = &table->buckets[table->entries[index].hash % BUCKETS];
    while (*link != index)
        link = &table->entries[*link].next;
    return link;
}

static void entry_drop(struct table *table, uint32_t index) {
    struct entry *entry = &table->entries[index];
    *link_to(table, index) = entry->next;
    entry->live = false;
    entry->durable = false;
    entry->subject = entry->formula = entry->product = 0;
    table->live--;
}

static uint32_t entry_new(struct table *table) {
    if (table->count < ENTRIES) return table->count++;
    for (;;) {
        uint32_t index = table->hand;
        table->hand = (table->hand + 1) % ENTRIES;
        struct entry *entry = &table->entries[index];
        if (entry->live && entry->used) {
            entry->used = false;
            continue;
        }
        if (entry->live) entry_drop(table, index);
        return index;
    }
}

static uint32_t hash_of(struct nk_arena *arena, nk_noun subject, nk_noun formula) {
    uint64_t mixed = ((uint64_t)nk_mug(arena, subject) << 32 | nk_mug(arena, formula)) *
                     0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 32);
}

static struct entry *find(struct nk_arena *arena, struct table *table, uint32_t hash,
                          uint64_t context, nk_noun subject, nk_noun formula) {
    for (uint32_t i = table->buckets[hash % BUCKETS]; i != NONE;
         i = table->entries[i].next) {
        struct entry *entry = &table->entries[i];
        if (entry->hash != hash || entry->context != context) continue;
        if (entry->formula != formula && !nk_equal(arena, entry->formula, formula)) {
            continue;
        }
        if (entry->subject == subject || nk_equal(arena, entry->subject, subject)) {
            return entry;
        }
    }
    return NULL;
}

/* Put in what is known not to be there. */
static struct entry *insert(struct table *table, uint32_t hash, uint64_t context,
                            nk_noun subject, nk_noun formula, nk_noun product) {
    if (table->entries == NULL) table_init(table);
    uint32_t index = entry_new(table);
    struct entry *entry = &table->entries[index];
    entry->subject = subject;
    entry->formula = formula;
    entry->product = product;
    entry->context = context;
    entry->hash = hash;
    entry->live = entry->used = true;
    entry->durable = false;
    entry->next = table->buckets[hash % BUCKETS];
    table->buckets[hash % BUCKETS] = index;
    table->live++;
    if (!entry->listed) {
        entry->listed = true;
        table->young[table->young_count++] = index;
    }
    return entry;
}

struct nk_memo *nk_memo_new(void) {
    struct nk_memo *memo = calloc(1, sizeof *memo);
    NK_ASSERT(memo != NULL);
    return memo;
}

void nk_memo_free(struct nk_memo *memo) {
    if (memo == NULL) return;
    for (int kind = 0; kind < NK_MEMO_KINDS; kind++) {
        free(memo->tables[kind].entries);
        free(memo->tables[kind].buckets);
        free(memo->tables[kind].young);
    }
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
    table->misses++;
    if (table->live == 0) return NK_NONE;
    uint32_t hash = hash_of(&machine->arena, subject, formula);
    struct entry *entry = find(&machine->arena, table, hash, context, subject, formula);
    if (entry == NULL) return NK_NONE;
    entry->used = true;
    table->misses--;
    table->hits++;
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

static void clear(struct table *table) {
    for (uint32_t i = 0; i < table->count; i++) {
        table->entries[i].listed = false;
        if (table->entries[i].live) entry_drop(table, i);
    }
    table->count = table->hand = table->young_count = 0;
}

void nk_memo_clear(struct nk_memo *memo, enum nk_memo_kind kind) {
    clear(&memo->tables[kind]);
    if (kind != NK_MEMO_TRANSIENT) memo->stale = true;
}

size_t nk_memo_count(const struct nk_memo *memo, enum nk_memo_kind kind) {
    return memo->tables[kind].live;
}

void nk_memo_counts(const struct nk_memo *memo, enum nk_memo_kind kind, uint64_t *hits,
                    uint64_t *misses) {
    *hits = memo->tables[kind].hits;
    *misses = memo->tables[kind].misses;
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
            if (entry->live && !entry->durable) entry_drop(table, table->young[i]);
        }
        table->young_count = 0;
    }
    clear(&memo->tables[NK_MEMO_TRANSIENT]);
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
        if (table->live >= ENTRIES) continue;
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

static void trace_entry(struct entry *entry, struct nk_arena *arena,
                        nk_root_visit visit) {
    visit(arena, &entry->subject);
    visit(arena, &entry->formula);
    visit(arena, &entry->product);
}

/* The persistent tables' young list lasts until the commit, the transient
 * one's until the next collection. */
void nk_memo_trace(struct nk_memo *memo, struct nk_arena *arena, nk_root_visit visit) {
    for (unsigned kind = NK_MEMO_PERSISTENT; kind < NK_MEMO_KINDS; kind++) {
        struct table *table = &memo->tables[kind];
        for (uint32_t i = 0; i < table->young_count; i++)
            trace_entry(&table->entries[table->young[i]], arena, visit);
    }
    struct table *table = &memo->tables[NK_MEMO_TRANSIENT];
    if (arena->minor) {
        for (uint32_t i = 0; i < table->young_count; i++)
            trace_entry(&table->entries[table->young[i]], arena, visit);
    } else {
        for (uint32_t i = 0; i < table->count; i++)
            trace_entry(&table->entries[i], arena, visit);
    }
    for (uint32_t i = 0; i < table->young_count; i++)
        table->entries[table->young[i]].listed = false;
    table->young_count = 0;
}
