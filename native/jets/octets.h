/* Atoms as bytes: what octets, cords and byte streams are made of. */
#ifndef NK_JETS_OCTETS_H
#define NK_JETS_OCTETS_H

#include "sample.h"

/* The bytes of an atom; what lies beyond its end reads as 0. */
struct nk_octets {
    const uint8_t *data;
    uint64_t size;
    uint64_t scratch;
};

static inline void nk_octets_of(const struct nk_arena *arena, nk_noun atom,
                                struct nk_octets *out) {
    out->size = nk_atom_size(arena, atom);
    out->data = (const uint8_t *)nk_atom_words(arena, atom, &out->scratch).data;
}
static inline uint8_t nk_octet_at(const struct nk_octets *octets, uint64_t at) {
    return at < octets->size ? octets->data[at] : 0;
}

/* Bytes under construction. They become an atom, so they are never more than
 * the nursery can still take. */
struct nk_bytes {
    uint8_t *data;
    size_t size, capacity, limit;
};

static inline void nk_bytes_open(const struct nk_arena *arena, struct nk_bytes *to) {
    *to = (struct nk_bytes){.limit = (size_t)(arena->limit - arena->top) * 8};
}
/* Room for [more] bytes; false beyond the limit. */
bool nk_bytes_room(struct nk_bytes *buffer, size_t more);
static inline bool nk_bytes_put(struct nk_bytes *buffer, uint8_t byte) {
    if (buffer->size == buffer->capacity && !nk_bytes_room(buffer, 1)) return false;
    buffer->data[buffer->size++] = byte;
    return true;
}
bool nk_bytes_append(struct nk_bytes *buffer, const void *bytes, size_t size);

#endif
