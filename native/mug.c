/* Mugs of byte strings, and the walk that fills in the mugs of a noun.
 * Twin: proto/mug.py.
 *
 * The walk keeps the cells above, and says of each whether it has gone into
 * its head. While it is in the tail, the cell's own mug holds the head's: only
 * the walk can see that, since nothing below refers to a cell above. */
#include "mug.h"

#include <string.h>

#include "murmur.h"
#include "worklist.h"

#define IN_HEAD 1ull /* in a pointer to a cell, which is aligned */

static uint32_t hash_long(const uint8_t *bytes, size_t size, uint32_t seed) {
    uint32_t hash = seed, block;
    size_t whole = size & ~(size_t)3;
    for (size_t i = 0; i < whole; i += 4) {
        memcpy(&block, bytes + i, 4);
        hash = nk_murmur_mix(hash, block);
    }
    block = 0;
    memcpy(&block, bytes + whole, size - whole);
    return nk_murmur_finish(hash ^ nk_murmur_scramble(block), (uint32_t)size);
}

uint32_t nk_mug_bytes(const void *bytes, size_t size) {
    const uint8_t *data = bytes;
    while (size > 0 && data[size - 1] == 0)
        size--;
    if (size <= 8) {
        uint64_t value = 0;
        if (size > 0) memcpy(&value, data, size);
        return nk_murmur_direct(value);
    }
    for (uint32_t i = 0; i < NK_MUG_TRIES; i++) {
        uint32_t mug = hash_long(data, size, NK_MUG_SEED_ATOM + i);
        if (NK_LIKELY(mug != 0)) return mug;
    }
    return NK_MUG_LAST_RESORT_ATOM;
}

uint32_t nk_mug_both(uint32_t head, uint32_t tail) {
    return nk_murmur_both(head, tail);
}

/* The mug of [n] if no walk is needed; 0: a cell that has none yet. */
static inline uint32_t mug_shallow(struct nk_arena *arena, nk_noun n) {
    if (nk_is_direct(n)) return nk_murmur_direct(n);
    struct nk_atom *box = nk_atom_at(arena, n);
    if (box->mug == 0 && box->words != 0) {
        box->mug = nk_mug_bytes(box->data, (size_t)box->words * 8);
    }
    return box->mug;
}

static uint32_t mug_cell(struct nk_arena *arena, nk_noun n) {
    struct nk_worklist above;
    nk_worklist_open(&above);
    struct nk_cell *cell = nk_cell_at(arena, n);
    for (;;) {
        uint32_t head = mug_shallow(arena, cell->head);
        if (head == 0) {
            nk_worklist_push(&above, (uint64_t)(uintptr_t)cell | IN_HEAD);
            cell = nk_cell_at(arena, cell->head);
            continue;
        }
        uint32_t tail = mug_shallow(arena, cell->tail);
        while (tail != 0) {
            NK_CHECK((uint64_t)((uint64_t *)cell - arena->base) >= arena->home_end);
            cell->mug = nk_murmur_both(head, tail);
            if (above.count == 0) {
                uint32_t mug = cell->mug;
                nk_worklist_close(&above);
                return mug;
            }
            uint32_t below = cell->mug;
            uint64_t parent = nk_worklist_pop(&above);
            cell = (struct nk_cell *)(uintptr_t)(parent & ~IN_HEAD);
            if ((parent & IN_HEAD) != 0) {
                head = below;
                tail = mug_shallow(arena, cell->tail);
            } else {
                head = cell->mug;
                tail = below;
            }
        }
        cell->mug = head;
        nk_worklist_push(&above, (uint64_t)(uintptr_t)cell);
        cell = nk_cell_at(arena, cell->tail);
    }
}

uint32_t nk_mug_new(struct nk_arena *arena, nk_noun n) {
    uint32_t mug = mug_shallow(arena, n);
    return mug != 0 ? mug : mug_cell(arena, n);
}
