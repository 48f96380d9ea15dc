/* The orders that sets and maps are sorted by. */
#ifndef NK_JETS_ORDER_H
#define NK_JETS_ORDER_H

#include "../mug.h"
#include "../murmur.h"
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

/* ++  aor: equal, or an atom before a cell, or by the first part or the first
 * byte that differs. */
static inline bool nk_aor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    while (nk_is_cell(a) && nk_is_cell(b) && a != b) {
        bool same = nk_equal(arena, nk_head(arena, a), nk_head(arena, b));
        a = same ? nk_tail(arena, a) : nk_head(arena, a);
        b = same ? nk_tail(arena, b) : nk_head(arena, b);
    }
    if (a == b) return true;
    if (nk_is_cell(a) || nk_is_cell(b)) return nk_is_atom(a);
    uint64_t scratch[2];
    struct nk_words c = nk_atom_words(arena, a, &scratch[0]);
    struct nk_words d = nk_atom_words(arena, b, &scratch[1]);
    for (size_t i = 0; i < c.count || i < d.count; i++) {
        uint64_t x = i < c.count ? c.data[i] : 0, y = i < d.count ? d.data[i] : 0;
        if (x != y) return __builtin_bswap64(x) < __builtin_bswap64(y);
    }
    return true;
}

/* A noun that is asked for its place more than once. */
struct nk_ranked {
    nk_noun noun;
    uint32_t mug;
};

static inline struct nk_ranked nk_rank(struct nk_arena *arena, nk_noun n) {
    uint32_t mug = nk_is_direct(n) ? nk_murmur_direct(n) : nk_mug(arena, n);
    return (struct nk_ranked){n, mug};
}

static inline bool nk_ranked_equal(struct nk_arena *arena, struct nk_ranked a,
                                   struct nk_ranked b) {
    return a.noun == b.noun || (a.mug == b.mug && nk_equal(arena, a.noun, b.noun));
}

/* ++  gor: by mug; what has one mug, by dor. */
static inline bool nk_ranked_gor(struct nk_arena *arena, struct nk_ranked a,
                                 struct nk_ranked b) {
    return a.mug == b.mug ? nk_dor(arena, a.noun, b.noun) : a.mug < b.mug;
}
static inline bool nk_gor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    return nk_ranked_gor(arena, nk_rank(arena, a), nk_rank(arena, b));
}

/* ++  mor: by the mug's mug. */
static inline bool nk_ranked_mor(struct nk_arena *arena, struct nk_ranked a,
                                 struct nk_ranked b) {
    uint32_t c = nk_murmur_direct(a.mug), d = nk_murmur_direct(b.mug);
    return c == d ? nk_dor(arena, a.noun, b.noun) : c < d;
}
static inline bool nk_mor(struct nk_arena *arena, nk_noun a, nk_noun b) {
    return nk_ranked_mor(arena, nk_rank(arena, a), nk_rank(arena, b));
}

#endif
