/* The 31-bit noun hash (spec: Murmur3 with retry). Twin: proto/mug.py.
 *
 * Iterative; memoised in every nursery box it visits; never writes to home
 * (home nouns carry their mug). Mug of shared structure is linear in boxes.
 */
#ifndef NK_MUG_H
#define NK_MUG_H

#include "nursery.h"

uint32_t nk_mug_new(struct nk_arena *arena, nk_noun n); /* whatever it has */
uint32_t nk_mug_bytes(const void *bytes, size_t size);  /* of an atom's bytes */
uint32_t nk_mug_both(uint32_t head, uint32_t tail);     /* of a cell */

static inline uint32_t nk_mug(struct nk_arena *arena, nk_noun n) {
    if (!nk_is_direct(n)) {
        /* Cells and atoms have it in the same place. */
        uint32_t mug = nk_cell_at(arena, n)->mug;
        if (NK_LIKELY(mug != 0)) return mug;
    }
    return nk_mug_new(arena, n);
}

#endif
