/* GMP's long calls, which can be stopped.
 *
 * A call of GMP cannot be interrupted, and may take many seconds (a product of
 * two atoms of 64 MB: 3.5). One that may take more than some milliseconds runs
 * on a thread of its own, on copies, while the event thread waits and polls.
 * Where the run is to end, it goes; what is computed is dropped when it is done.
 *
 * Owns: that thread, at most one an arena: the next long call waits, polling,
 *   for one that was left behind.
 * Invariants: the thread sees nothing of the arena. Results are GMP's own.
 * Limits: what was left behind keeps a core and its memory until it is done.
 *   Where there is no thread or no memory for copies, or nobody polls, the call
 *   runs here. NK_OK, or what the poll said: then the results are void.
 */
#ifndef NK_BIG_H
#define NK_BIG_H

#include "nursery.h"

/* [x] is at least as long as [y], which is not 0; the product as both. */
nk_status nk_big_multiply(struct nk_arena *arena, uint64_t *product, struct nk_words x,
                          struct nk_words y);

/* [x] is at least as long as [y], which is not 0. The quotient takes the words of
 * [x] beyond those of [y], and one; behind it lies the remainder, as [y]. */
nk_status nk_big_divide(struct nk_arena *arena, uint64_t *quotient_remainder,
                        struct nk_words x, struct nk_words y);

/* The square root, of half as many words (rounded up). [x] is not 0. */
nk_status nk_big_root(struct nk_arena *arena, uint64_t *root, struct nk_words x);

/* The digits' values, the highest first, zeros before them or not; [digits] has
 * 20 bytes a word and 2. [x] is not 0. */
nk_status nk_big_print(struct nk_arena *arena, unsigned char *digits, size_t *count,
                       int base, struct nk_words x);

/* [words] of them, zeros so far, from [count] such digits; not none. */
nk_status nk_big_read(struct nk_arena *arena, uint64_t *data, size_t words, int base,
                      const unsigned char *digits, size_t count);

/* Wait for what was left behind, in front of the arena's end. */
void nk_big_end(struct nk_arena *arena);

#endif
