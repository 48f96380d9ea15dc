/* An explicit stack of 64-bit words: how this room walks nouns.
 *
 * Starts in place on the C stack, moves to malloc'd memory when it outgrows
 * that. Our own exhaustion of memory is fatal.
 */
#ifndef NK_WORKLIST_H
#define NK_WORKLIST_H

#include <stdlib.h>
#include <string.h>

#include "status.h"

#define NK_WORKLIST_LOCAL 256u

struct nk_worklist {
    uint64_t *items;
    size_t count;
    size_t capacity;
    uint64_t local[NK_WORKLIST_LOCAL];
};

static inline void nk_worklist_open(struct nk_worklist *list) {
    list->items = list->local;
    list->count = 0;
    list->capacity = NK_WORKLIST_LOCAL;
}

static inline void nk_worklist_close(struct nk_worklist *list) {
    if (list->items != list->local) free(list->items);
}

static inline void nk_worklist_grow(struct nk_worklist *list) {
    size_t capacity = list->capacity * 2;
    bool was_local = list->items == list->local;
    uint64_t *items = realloc(was_local ? NULL : list->items, capacity * sizeof *items);
    NK_ASSERT(items != NULL);
    if (was_local) memcpy(items, list->local, sizeof list->local);
    list->items = items;
    list->capacity = capacity;
}

static inline void nk_worklist_push(struct nk_worklist *list, uint64_t item) {
    if (NK_UNLIKELY(list->count == list->capacity)) nk_worklist_grow(list);
    list->items[list->count++] = item;
}

static inline uint64_t nk_worklist_pop(struct nk_worklist *list) {
    return list->items[--list->count];
}

#endif
