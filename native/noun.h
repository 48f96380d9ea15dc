/* Nouns: references, cells, atoms, slots, equality.
 *
 * Representation. A noun is a 64-bit reference:
 *     0xxx...  a direct atom of 63 bits
 *     10xx...  an indirect atom: low 62 bits are its offset
 *     11xx...  a cell: low 62 bits are its offset
 * An offset counts 8-byte words from the arena's base, so nothing depends
 * on where the arena is mapped. Boxes:
 *     cell  { mug u32, tag u32 = 0, head u64, tail u64 }        3 words
 *     atom  { mug u32, words u32 >= 1, data u64[words] }        1 + words
 * `words` and `tag` share their place: 0 there means "cell", so a heap can
 * be walked box by box.
 *
 * Invariants.
 *   Atoms are normalised: the top data word is not zero, and an atom that
 *   fits 63 bits is direct. Equality and dispatch rely on it.
 *   Nouns are immutable. Only three things ever write to a finished box:
 *   its mug (nursery only; a noun in home has its mug from promotion), and
 *   the forwarding mark of a nursery collection or of promotion
 *   (NK_FORWARDED in the mug word, the new reference in word 1).
 *   A home noun refers to home nouns only.
 *   No function here recurses over a noun.
 * Limits. An atom has at most NK_ATOM_WORDS_MAX words (32 GiB).
 */
#ifndef NK_NOUN_H
#define NK_NOUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "status.h"

typedef uint64_t nk_noun;

#define NK_NONE (~0ull) /* not a noun */
#define NK_DIRECT_MAX 0x7fffffffffffffffull
#define NK_ATOM_TAG 0x8000000000000000ull
#define NK_CELL_TAG 0xc000000000000000ull
#define NK_OFFSET_MASK 0x3fffffffffffffffull
#define NK_ATOM_WORDS_MAX 0xfffffff0u
#define NK_FORWARDED 0x80000000u /* in the mug word; mugs have 31 bits */

struct nk_cell {
    uint32_t mug; /* 0: not computed yet */
    uint32_t tag; /* always 0 */
    nk_noun head;
    nk_noun tail;
};

struct nk_atom {
    uint32_t mug;
    uint32_t words;
    uint64_t data[];
};

_Static_assert(sizeof(struct nk_cell) == 24, "cells are three words");
_Static_assert(sizeof(struct nk_atom) == 8, "atoms have one word of header");

#define NK_CELL_WORDS 3u

struct nk_arena; /* nursery.h */

static inline bool nk_is_direct(nk_noun n) {
    return (n >> 63) == 0;
}
static inline bool nk_is_cell(nk_noun n) {
    return (n >> 62) == 3;
}
static inline bool nk_is_atom(nk_noun n) {
    return (n >> 62) != 3;
}
static inline bool nk_is_indirect(nk_noun n) {
    return (n >> 62) == 2;
}
static inline uint64_t nk_offset(nk_noun n) {
    return n & NK_OFFSET_MASK;
}

/* Defined in nursery.h, beside the arena: nk_cell_at, nk_atom_at, nk_head,
 * nk_tail, nk_is_home. */

/* An atom seen as 64-bit words, whichever way it is held. For a direct atom
 * [scratch] receives the word and is what [data] points to. Zero has no
 * words. The view dies at the next collection. */
struct nk_words {
    const uint64_t *data;
    size_t count;
};
struct nk_words nk_atom_words(const struct nk_arena *arena, nk_noun atom,
                              uint64_t *scratch);

/* Bytes of an atom without leading zeros: 0 for 0. */
size_t nk_atom_size(const struct nk_arena *arena, nk_noun atom);

/* Bits of an atom (met 0). */
uint64_t nk_atom_bits(const struct nk_arena *arena, nk_noun atom);

/* Copy the low [size] bytes of [atom] to [out], zero-padded. */
void nk_atom_read(const struct nk_arena *arena, nk_noun atom, void *out, size_t size);

/* *[axis n] for a direct axis >= 1. NK_NONE where the path leaves the noun. */
nk_noun nk_slot(const struct nk_arena *arena, nk_noun n, uint64_t axis);

/* The same for any axis atom; NK_NONE for axis 0. */
nk_noun nk_slot_atom(const struct nk_arena *arena, nk_noun n, nk_noun axis);

/* Noun equality: pointers first, then mugs where both are known, then an
 * explicit stack with a set of pairs already proven equal, so that shared
 * structure is never walked twice. Cannot fail: its scratch is malloc'd and
 * our own exhaustion is fatal. */
bool nk_equal(struct nk_arena *arena, nk_noun a, nk_noun b);

/* The same; adds the cell pairs that were walked to *steps. */
bool nk_equal_counted(struct nk_arena *arena, nk_noun a, nk_noun b, uint64_t *steps);

/* Numeric comparison of two atoms: -1, 0, 1. */
int nk_atom_compare(const struct nk_arena *arena, nk_noun a, nk_noun b);

#endif
