/* Arithmetic on atoms of any size, on GMP's mpn layer.
 *
 * Results are built in the nursery and normalised. NK_MEME when it is full;
 * nothing here collects. Counts and positions in bits are 64-bit; a result
 * that could not be an atom is NK_MEME as well.
 *
 * Products, quotients and roots that take long poll (big.h), and may be stopped:
 * then their status is the poll's.
 */
#ifndef NK_ATOM_H
#define NK_ATOM_H

#include "nursery.h"

nk_status nk_atom_increment(struct nk_arena *arena, nk_noun a, nk_noun *out);
nk_status nk_atom_add(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out);
/* NK_EXIT where b > a. */
nk_status nk_atom_subtract(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out);
nk_status nk_atom_multiply(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out);
/* NK_EXIT where b is 0. Either output may be NULL. */
nk_status nk_atom_divide(struct nk_arena *arena, nk_noun a, nk_noun b,
                         nk_noun *quotient, nk_noun *remainder);

/* dst[dst_bit..] := src[src_bit..+count], bits that exist only; the rest of
 * dst is untouched. Reading past the end of src gives zeros. */
void nk_bits_copy(uint64_t *dst, uint64_t dst_bit, struct nk_words src,
                  uint64_t src_bit, uint64_t count);

/* count bits of a from bit start, as an atom. */
nk_status nk_atom_cut(struct nk_arena *arena, nk_noun a, uint64_t start, uint64_t count,
                      nk_noun *out);
nk_status nk_atom_shift_left(struct nk_arena *arena, nk_noun a, uint64_t bits,
                             nk_noun *out);

enum nk_logic { NK_AND, NK_OR, NK_XOR };
nk_status nk_atom_logic(struct nk_arena *arena, enum nk_logic logic, nk_noun a,
                        nk_noun b, nk_noun *out);

#endif
