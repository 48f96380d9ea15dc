/* See probe.h. Names and stacks are hashed by content; both only grow. */
#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stack_entry {
    uint32_t *names;
    uint32_t count;
    uint64_t hash, samples;
};

struct nk_probe_table {
    char **names;
    size_t name_count, name_capacity;
    struct stack_entry *stacks; /* open addressing by hash */
    size_t stack_count, stack_capacity;
};

struct nk_probe *nk_probe_new(void) {
    struct nk_probe *probe = calloc(1, sizeof *probe);
    struct nk_probe_table *table = calloc(1, sizeof *table);
    NK_ASSERT(probe != NULL && table != NULL);
    table->stack_capacity = 256;
    table->stacks = calloc(table->stack_capacity, sizeof *table->stacks);
    NK_ASSERT(table->stacks != NULL);
    probe->table = table;
    probe->check_steps = NK_CHECK_STEPS;
    return probe;
}

void nk_probe_free(struct nk_probe *probe) {
    if (probe == NULL) return;
    struct nk_probe_table *table = probe->table;
    for (size_t i = 0; i < table->name_count; i++)
        free(table->names[i]);
    for (size_t i = 0; i < table->stack_capacity; i++)
        free(table->stacks[i].names);
    free(table->names);
    free(table->stacks);
    free(table);
    free(probe->spots);
    free(probe);
}

/* Names are few, and asked for once each: a plain search. */
uint32_t nk_probe_name(struct nk_probe *probe, const char *name) {
    struct nk_probe_table *table = probe->table;
    for (size_t i = 0; i < table->name_count; i++) {
        if (strcmp(table->names[i], name) == 0) return (uint32_t)i + 1;
    }
    if (table->name_count == table->name_capacity) {
        table->name_capacity = table->name_capacity * 2 + 64;
        table->names =
            realloc(table->names, table->name_capacity * sizeof *table->names);
        NK_ASSERT(table->names != NULL);
    }
    char *copy = strdup(name);
    NK_ASSERT(copy != NULL);
    table->names[table->name_count++] = copy;
    return (uint32_t)table->name_count;
}

uint64_t nk_probe_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t nk_probe_due(struct nk_probe *probe) {
    uint64_t since = nk_probe_now() - probe->sampled_ns;
    uint64_t count = since / probe->interval_ns;
    probe->sampled_ns += count * probe->interval_ns;
    return count;
}

static struct stack_entry *stack_place(const struct nk_probe_table *table,
                                       const uint32_t *names, size_t count,
                                       uint64_t hash) {
    size_t mask = table->stack_capacity - 1, at = (size_t)hash & mask;
    for (;; at = (at + 1) & mask) {
        struct stack_entry *entry = &table->stacks[at];
        if (entry->samples == 0) return entry;
        if (entry->hash == hash && entry->count == count &&
            memcmp(entry->names, names, count * sizeof *names) == 0) {
            return entry;
        }
    }
}

static void stacks_grow(struct nk_probe_table *table) {
    struct nk_probe_table old = *table;
    table->stack_capacity *= 2;
    table->stacks = calloc(table->stack_capacity, sizeof *table->stacks);
    NK_ASSERT(table->stacks != NULL);
    for (size_t i = 0; i < old.stack_capacity; i++) {
        struct stack_entry *entry = &old.stacks[i];
        if (entry->samples == 0) continue;
        *stack_place(table, entry->names, entry->count, entry->hash) = *entry;
    }
    free(old.stacks);
}

void nk_probe_add(struct nk_probe *probe, const uint32_t *names, size_t name_count,
                  uint64_t count) {
    struct nk_probe_table *table = probe->table;
    uint32_t kept[NK_STACK_NAMES_MAX + 1];
    size_t size = 0;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < name_count && size <= NK_STACK_NAMES_MAX; i++) {
        if (size > 0 && kept[size - 1] == names[i]) continue;
        kept[size++] = names[i];
        hash = (hash ^ names[i]) * 0x9e3779b97f4a7c15ull;
    }
    hash ^= hash >> 32;
    if (count == 0) return;
    if ((table->stack_count + 1) * 2 > table->stack_capacity) stacks_grow(table);
    struct stack_entry *entry = stack_place(table, kept, size, hash);
    if (entry->samples == 0) {
        entry->names = malloc((size + 1) * sizeof *kept);
        NK_ASSERT(entry->names != NULL);
        memcpy(entry->names, kept, size * sizeof *kept);
        entry->count = (uint32_t)size;
        entry->hash = hash;
        table->stack_count++;
    }
    entry->samples += count;
    probe->sample_count += count;
}

void nk_probe_fold(const struct nk_probe *probe, struct nk_text *text) {
    const struct nk_probe_table *table = probe->table;
    for (size_t i = 0; i < table->stack_capacity; i++) {
        const struct stack_entry *entry = &table->stacks[i];
        if (entry->samples == 0) continue;
        if (entry->count == 0) nk_text_put(text, "(nock)");
        for (uint32_t k = 0; k < entry->count; k++) {
            nk_text_put(text, "%s%s", k == 0 ? "" : ";",
                        table->names[entry->names[k] - 1]);
        }
        nk_text_put(text, " %llu\n", (unsigned long long)entry->samples);
    }
}

/* ---- spots ---- */

void nk_probe_unwound(struct nk_probe *probe, const uint64_t *base) {
    while (probe->spot_count > 0 && probe->spots[probe->spot_count - 1] >= base)
        probe->spot_count--;
}

/* What calls that crashed have left above is dropped on the way. */
void nk_probe_spot(struct nk_probe *probe, const uint64_t *base) {
    nk_probe_unwound(probe, base + 1);
    if (probe->spot_count == probe->spot_capacity) {
        probe->spot_capacity = probe->spot_capacity * 2 + 64;
        const uint64_t **spots =
            realloc(probe->spots, probe->spot_capacity * sizeof *probe->spots);
        NK_ASSERT(spots != NULL);
        probe->spots = spots;
    }
    probe->spots[probe->spot_count++] = base;
}

void nk_probe_unspot(struct nk_probe *probe, const uint64_t *base) {
    nk_probe_unwound(probe, base + 1);
    if (probe->spot_count > 0 && probe->spots[probe->spot_count - 1] == base) {
        probe->spot_count--;
    }
}
