/* MurmurHash3_x86_32, retried until it gives 31 bits that are not zero: the
 * parts that the hot paths of mug.c, home.c and hash.c want inlined.
 *
 * Owns: nothing. mug.h is the interface for everyone else.
 */
#ifndef NK_MURMUR_H
#define NK_MURMUR_H

#include "status.h"

#define NK_MUG_SEED_ATOM 0xcafebabeu
#define NK_MUG_SEED_CELL 0xdeadbeefu
#define NK_MUG_LAST_RESORT_ATOM 0x7fffu
#define NK_MUG_LAST_RESORT_CELL 0xfffeu
#define NK_MUG_TRIES 8u

static inline uint32_t nk_murmur_rotate(uint32_t x, unsigned by) {
    return (x << by) | (x >> (32 - by));
}

static inline uint32_t nk_murmur_scramble(uint32_t block) {
    return nk_murmur_rotate(block * 0xcc9e2d51u, 15) * 0x1b873593u;
}

static inline uint32_t nk_murmur_mix(uint32_t hash, uint32_t block) {
    return nk_murmur_rotate(hash ^ nk_murmur_scramble(block), 13) * 5 + 0xe6546b64u;
}

static inline uint32_t nk_murmur_final(uint32_t hash, uint32_t size) {
    hash ^= size;
    hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
    return hash ^ (hash >> 16);
}

/* Finish, and fold to 31 bits. 0: try again with the next seed. */
static inline uint32_t nk_murmur_finish(uint32_t hash, uint32_t size) {
    hash = nk_murmur_final(hash, size);
    return (hash >> 31) ^ (hash & 0x7fffffffu);
}

/* Of up to eight bytes, given as a value and their count. */
static inline uint32_t nk_murmur_hash_short(uint64_t bytes, uint32_t size,
                                            uint32_t seed) {
    uint32_t hash = seed;
    if (size >= 4) {
        hash = nk_murmur_mix(hash, (uint32_t)bytes);
        bytes >>= 32;
    }
    if (size == 8) {
        hash = nk_murmur_mix(hash, (uint32_t)bytes);
    } else {
        hash ^= nk_murmur_scramble(
            (uint32_t)bytes); /* no bytes: nk_murmur_scramble(0) is 0 */
    }
    return nk_murmur_finish(hash, size);
}

static inline uint32_t nk_murmur_short(uint64_t bytes, uint32_t size, uint32_t seed,
                                       uint32_t last_resort) {
    for (uint32_t i = 0; i < NK_MUG_TRIES; i++) {
        uint32_t mug = nk_murmur_hash_short(bytes, size, seed + i);
        if (NK_LIKELY(mug != 0)) return mug;
    }
    return last_resort;
}

/* Bytes of a value without leading zeros. */
static inline uint32_t nk_murmur_size_of(uint64_t value) {
    return value == 0 ? 0 : 8u - (uint32_t)__builtin_clzll(value) / 8u;
}

static inline uint32_t nk_murmur_direct(uint64_t value) {
    return nk_murmur_short(value, nk_murmur_size_of(value), NK_MUG_SEED_ATOM,
                           NK_MUG_LAST_RESORT_ATOM);
}

static inline uint32_t nk_murmur_both(uint32_t head, uint32_t tail) {
    uint64_t bytes = (uint64_t)tail << 32 | head;
    return nk_murmur_short(bytes, 4 + nk_murmur_size_of(tail), NK_MUG_SEED_CELL,
                           NK_MUG_LAST_RESORT_CELL);
}

/* Not a mug: a hash of two references, whose low bits are all used. */
static inline uint64_t nk_hash_two(uint64_t a, uint64_t b) {
    uint64_t hash = (a ^ (b << 31 | b >> 33)) * 0x9e3779b97f4a7c15ull;
    hash = (hash ^ hash >> 32 ^ b) * 0xc2b2ae3d27d4eb4full;
    return hash ^ hash >> 29;
}

#endif
