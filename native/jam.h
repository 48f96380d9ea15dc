/* Jam and cue: nouns to bytes and back. Twin: proto/jam.py.
 *
 * The jam is canonical: back-references are found by noun equality, not by
 * identity. Cue accepts all that Vere accepts and refuses what it refuses
 * (spec/noun.md 3.2). Neither recurses. Both reuse scratch in `nk_jammer`.
 */
#ifndef NK_JAM_H
#define NK_JAM_H

#include "nursery.h"

struct nk_jammer; /* scratch tables and the output buffer */

struct nk_jammer *nk_jammer_new(void);
void nk_jammer_free(struct nk_jammer *jammer);

/* Jam [n]. The bytes belong to the jammer and live until its next use. */
nk_status nk_jam(struct nk_jammer *jammer, struct nk_arena *arena, nk_noun n,
                 const uint8_t **bytes, size_t *size);

/* Cue [size] bytes into the nursery. NK_BAD: not a jam ([*why], static text,
 * begins with which way: gone, back, meme). NK_MEME: does not fit. Unless it
 * answers NK_OK, the nursery's top is where it was. */
nk_status nk_cue(struct nk_jammer *jammer, struct nk_arena *arena, const uint8_t *bytes,
                 size_t size, nk_noun *out_noun, const char **why);

#endif
