/* See survey.h. */
#include "survey.h"

#include <stdlib.h>

/* What is known of one noun: an open-addressed table by reference. A direct
 * atom is its own reference, so equal ones meet. */
struct entry {
    nk_noun noun; /* NK_NONE: free */
    uint64_t cells;
    uint64_t atoms;
    uint64_t depth;
};

struct table {
    struct entry *entries;
    size_t count;
    size_t mask;
};

static size_t place(const struct table *table, nk_noun n) {
    size_t at = (size_t)((n * 0x9e3779b97f4a7c15ull) >> 20) & table->mask;
    while (table->entries[at].noun != NK_NONE && table->entries[at].noun != n) {
        at = (at + 1) & table->mask;
    }
    return at;
}

static void table_size(struct table *table, size_t slots) {
    table->entries = malloc(slots * sizeof *table->entries);
    NK_ASSERT(table->entries != NULL);
    table->mask = slots - 1;
    for (size_t at = 0; at < slots; at++)
        table->entries[at].noun = NK_NONE;
}

static const struct entry *find(const struct table *table, nk_noun n) {
    const struct entry *entry = &table->entries[place(table, n)];
    return entry->noun == NK_NONE ? NULL : entry;
}

static void add(struct table *table, struct entry entry) {
    if (table->count * 2 >= table->mask) {
        struct table old = *table;
        table_size(table, (old.mask + 1) * 2);
        for (size_t at = 0; at <= old.mask; at++) {
            if (old.entries[at].noun == NK_NONE) continue;
            table->entries[place(table, old.entries[at].noun)] = old.entries[at];
        }
        free(old.entries);
    }
    table->entries[place(table, entry.noun)] = entry;
    table->count++;
}

static uint64_t sum(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Know [n] if its parts are known; else say which part to look at first. */
static nk_noun settle(const struct nk_arena *arena, struct table *table, nk_noun n,
                      struct nk_survey *survey) {
    if (find(table, n) != NULL) return NK_NONE;
    if (nk_is_atom(n)) {
        survey->atoms_distinct++;
        add(table, (struct entry){n, 0, 1, 0});
        return NK_NONE;
    }
    const struct entry *head = find(table, nk_head(arena, n));
    if (head == NULL) return nk_head(arena, n);
    const struct entry *tail = find(table, nk_tail(arena, n));
    if (tail == NULL) return nk_tail(arena, n);
    uint64_t depth = head->depth > tail->depth ? head->depth : tail->depth;
    survey->cells_distinct++;
    add(table, (struct entry){n, sum(1, sum(head->cells, tail->cells)),
                              sum(head->atoms, tail->atoms), depth + 1});
    return NK_NONE;
}

void nk_survey_count(const struct nk_arena *arena, nk_noun n,
                     struct nk_survey *survey) {
    struct table table = {0};
    size_t capacity = 1024;
    size_t depth = 0;
    nk_noun *stack = malloc(capacity * sizeof *stack);
    NK_ASSERT(stack != NULL);
    table_size(&table, 1024);
    *survey = (struct nk_survey){0};
    stack[depth++] = n;
    while (depth > 0) {
        nk_noun first = settle(arena, &table, stack[depth - 1], survey);
        if (first == NK_NONE) {
            depth--;
            continue;
        }
        if (depth == capacity) {
            capacity *= 2;
            stack = realloc(stack, capacity * sizeof *stack);
            NK_ASSERT(stack != NULL);
        }
        stack[depth++] = first;
    }
    const struct entry *all = find(&table, n);
    survey->cells_tree = all->cells;
    survey->atoms_tree = all->atoms;
    survey->depth = all->depth;
    free(stack);
    free(table.entries);
}
