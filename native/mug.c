/* MurmurHash3_x86_32, retried until it gives 31 bits that are not zero, and
 * the walk that fills in the mugs of a noun. Twin: proto/mug.py.
 *
 * The walk keeps, for each cell above, its offset and the mug of its head
 * (0 while the head is being walked); so each cell is entered once. */
#include "mug.h"

#include <string.h>

#include "worklist.h"

#define SEED_ATOM 0xcafebabeu
#define SEED_CELL 0xdeadbeefu
#define LAST_RESORT_ATOM 0x7fffu
#define LAST_RESORT_CELL 0xfffeu
#define TRIES 8u

static inline uint32_t rotate(uint32_t x, unsigned by) {
    return (x << by) | (x >> (32 - by));
}

static inline uint32_t scramble(uint32_t block) {
    return rotate(block * 0xcc9e2d51u, 15) * 0x1b873593u;
}

static inline uint32_t mix(uint32_t hash, uint32_t block) {
    return rotate(hash ^ scramble(block), 13) * 5 + 0xe6546b64u;
}

/* Finish, and fold to 31 bits. 0: try again with the next seed. */
static inline uint32_t finish(uint32_t hash, uint32_t size) {
    hash ^= size;
    hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
    hash ^= hash >> 16;
    return (hash >> 31) ^ (hash & 0x7fffffffu);
}

/* Of up to eight bytes, given as a value and their count. */
static inline uint32_t hash_short(uint64_t bytes, uint32_t size, uint32_t seed) {
    uint32_t hash = seed;
    if (size >= 4) {
        hash = mix(hash, (uint32_t)bytes);
        bytes >>= 32;
    }
    if (size == 8) {
        hash = mix(hash, (uint32_t)bytes);
    } else {
        hash ^= scramble((uint32_t)bytes); /* no bytes: scramble(0) is 0 */
    }
    return finish(hash, size);
}

static inline uint32_t mug_short(uint64_t bytes, uint32_t size, uint32_t seed,
                                 uint32_t last_resort) {
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t mug = hash_short(bytes, size, seed + i);
        if (NK_LIKELY(mug != 0)) return mug;
    }
    return last_resort;
}

/* Bytes of a value without leading zeros. */
static inline uint32_t size_of(uint64_t value) {
    return value == 0 ? 0 : 8u - (uint32_t)__builtin_clzll(value) / 8u;
}

static inline uint32_t mug_direct(uint64_t value) {
    return mug_short(value, size_of(value), SEED_ATOM, LAST_RESORT_ATOM);
}

static uint32_t hash_long(const uint8_t *bytes, size_t size, uint32_t seed) {
    uint32_t hash = seed, block;
    size_t whole = size & ~(size_t)3;
    for (size_t i = 0; i < whole; i += 4) {
        memcpy(&block, bytes + i, 4);
        hash = mix(hash, block);
    }
    block = 0;
    memcpy(&block, bytes + whole, size - whole);
    return finish(hash ^ scramble(block), (uint32_t)size);
}

uint32_t nk_mug_bytes(const void *bytes, size_t size) {
    const uint8_t *data = bytes;
    while (size > 0 && data[size - 1] == 0)
        size--;
    if (size <= 8) {
        uint64_t value = 0;
        if (size > 0) memcpy(&value, data, size);
        return mug_direct(value);
    }
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t mug = hash_long(data, size, SEED_ATOM + i);
        if (NK_LIKELY(mug != 0)) return mug;
    }
    return LAST_RESORT_ATOM;
}

static inline uint32_t mug_both(uint32_t head, uint32_t tail) {
    uint64_t bytes = (uint64_t)tail << 32 | head;
    return mug_short(bytes, 4 + size_of(tail), SEED_CELL, LAST_RESORT_CELL);
}

uint32_t nk_mug_both(uint32_t head, uint32_t tail) {
    return mug_both(head, tail);
}

/* The mug of [n] if no walk is needed; 0: a cell that has none yet. */
static inline uint32_t mug_shallow(struct nk_arena *arena, nk_noun n) {
    if (nk_is_direct(n)) return mug_direct(n);
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
    uint32_t head, tail;
    for (;;) {
        head = mug_shallow(arena, cell->head);
        if (head == 0) {
            nk_worklist_push(&above, (uint64_t)(uintptr_t)cell);
            nk_worklist_push(&above, 0);
            cell = nk_cell_at(arena, cell->head);
            continue;
        }
        for (;;) {
            tail = mug_shallow(arena, cell->tail);
            if (tail == 0) break;
        known:
            cell->mug = mug_both(head, tail);
            NK_CHECK((uint64_t)((uint64_t *)cell - arena->base) >= arena->home_end);
            if (above.count == 0) {
                uint32_t mug = cell->mug;
                nk_worklist_close(&above);
                return mug;
            }
            uint32_t below = cell->mug;
            head = (uint32_t)nk_worklist_pop(&above);
            cell = (struct nk_cell *)(uintptr_t)nk_worklist_pop(&above);
            if (head != 0) {
                tail = below;
                goto known;
            }
            head = below;
        }
        nk_worklist_push(&above, (uint64_t)(uintptr_t)cell);
        nk_worklist_push(&above, head);
        cell = nk_cell_at(arena, cell->tail);
    }
}

uint32_t nk_mug(struct nk_arena *arena, nk_noun n) {
    uint32_t mug = mug_shallow(arena, n);
    return mug != 0 ? mug : mug_cell(arena, n);
}
