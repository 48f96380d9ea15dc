/* The orders that sets and maps are sorted by. */
#ifndef NK_JETS_ORDER_H
#define NK_JETS_ORDER_H

#include "../mug.h"
#include "sample.h"

/* ++  dor: equal, or an atom before a cell, or the smaller atom, or by the
 * first part that differs. */
static inline bool nk_dor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    while (!nk_equal(arena, a, b)) {
        if (nk_is_atom(a)) {
            return nk_is_cell(b) || nk_atom_compare(arena, a, b) < 0;
        }
        if (nk_is_atom(b)) return false;
        bool same = nk_equal(arena, nk_head(arena, a), nk_head(arena, b));
        a = same ? nk_tail(arena, a) : nk_head(arena, a);
        b = same ? nk_tail(arena, b) : nk_head(arena, b);
    }
    return true;
}

/* ++  gor: by mug; what has one mug, by dor. */
static inline bool nk_gor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    uint32_t c = nk_mug(arena, a), d = nk_mug(arena, b);
    return c == d ? nk_dor(arena, a, b) : c < d;
}

/* ++  mor: by the mug's mug. */
static inline bool nk_mor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    uint32_t c = nk_mug(arena, nk_mug(arena, a)), d = nk_mug(arena, nk_mug(arena, b));
    return c == d ? nk_dor(arena, a, b) : c < d;
}

#endif
