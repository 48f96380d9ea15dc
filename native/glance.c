/* See glance.h. A reader of bits that goes forward once; back-references are
 * followed to atoms that were read, which are few. */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "glance.h"

#define KNOWN_MAX                                                                      \
    160 /* of a wire of 79 knots; who refers to a later one is strange                 \
         */
#define ATOM_BITS_MAX (8 * NK_GLANCE_WIRE)

struct bits {
    const uint8_t *bytes;
    uint64_t size; /* in bits */
    uint64_t at;
};

/* An atom, or a cell of the wire, for which its head stands. */
struct known {
    uint64_t position; /* in the jam, of its first bit */
    uint64_t start;    /* of the atom's bits */
    uint64_t count;    /* of them */
    bool is_cell;
};

struct glancer {
    struct bits bits;
    struct known known[KNOWN_MAX];
    uint32_t count;
    uint32_t kind;
    struct nk_glance *out;
};

enum item { ATOM, CELL, CELL_AGAIN, END };

/* The bits from here on, 57 of them at least; beyond the end they are zero. */
static uint64_t peek(const struct bits *bits) {
    uint64_t byte = bits->at >> 3, word = 0, left = (bits->size >> 3) - byte;
    memcpy(&word, bits->bytes + byte, left < sizeof word ? left : sizeof word);
    return word >> (bits->at & 7);
}

/* Up to 64 bits; who calls knows that they are there. */
static uint64_t take(struct bits *bits, uint64_t count) {
    if (count > 32) {
        uint64_t low = take(bits, 32);
        return low | take(bits, count - 32) << 32;
    }
    uint64_t value = peek(bits) & (((uint64_t)1 << count) - 1);
    bits->at += count;
    return value;
}

static bool has(const struct bits *bits, uint64_t count) {
    return bits->size - bits->at >= count;
}

static enum item stop(struct glancer *glancer, uint32_t kind) {
    glancer->kind = kind;
    return END;
}

/* The length of a number whose own length comes first, in unary: the number is
 * left to be read. */
static bool take_length(struct glancer *glancer, uint64_t *length) {
    struct bits *bits = &glancer->bits;
    uint64_t word = peek(bits);
    uint64_t zeros = word != 0 ? (uint64_t)__builtin_ctzll(word) : 64;
    if (!has(bits, zeros + 1)) return stop(glancer, NK_GLANCE_SHORT), false;
    if (zeros > 40) return stop(glancer, NK_GLANCE_STRANGE), false;
    bits->at += zeros + 1;
    *length = 0;
    if (zeros == 0) return true;
    if (!has(bits, zeros - 1)) return stop(glancer, NK_GLANCE_SHORT), false;
    *length = take(bits, zeros - 1) | (uint64_t)1 << (zeros - 1);
    return true;
}

static void know(struct glancer *glancer, uint64_t position, struct known atom,
                 bool is_cell) {
    if (glancer->count == KNOWN_MAX) return;
    atom.position = position;
    atom.is_cell = is_cell;
    glancer->known[glancer->count++] = atom;
}

/* Read up to where an atom's value ends, or into a cell. Of a cell that was
 * there before, [*atom] is the head. */
static enum item next(struct glancer *glancer, struct known *atom) {
    struct bits *bits = &glancer->bits;
    uint64_t position = bits->at;
    if (!has(bits, 2)) return stop(glancer, NK_GLANCE_SHORT);
    if (take(bits, 1) != 0) {
        if (take(bits, 1) == 0) return CELL;
        uint64_t length;
        if (!take_length(glancer, &length)) return END;
        if (length > 63) return stop(glancer, NK_GLANCE_STRANGE);
        if (!has(bits, length)) return stop(glancer, NK_GLANCE_SHORT);
        uint64_t target = take(bits, length);
        for (uint32_t i = 0; i < glancer->count; i++) {
            if (glancer->known[i].position == target) {
                *atom = glancer->known[i];
                return atom->is_cell ? CELL_AGAIN : ATOM;
            }
        }
        return stop(glancer, NK_GLANCE_STRANGE);
    }
    uint64_t length;
    if (!take_length(glancer, &length)) return END;
    if (length > ATOM_BITS_MAX) return stop(glancer, NK_GLANCE_STRANGE);
    if (!has(bits, length)) return stop(glancer, NK_GLANCE_SHORT);
    *atom = (struct known){position, bits->at, length, false};
    bits->at += length;
    know(glancer, position, *atom, false);
    return ATOM;
}

/* The bytes of an atom, at the end of the text; false where they do not fit. */
static bool put(struct glancer *glancer, struct known atom, uint32_t room,
                uint32_t *size) {
    uint64_t bytes = (atom.count + 7) / 8;
    if (bytes > room) return stop(glancer, NK_GLANCE_STRANGE), false;
    struct bits from = {glancer->bits.bytes, glancer->bits.size, atom.start};
    uint8_t *to = glancer->out->text + glancer->out->wire_size + glancer->out->tag_size;
    for (uint64_t left = atom.count; left > 0;) {
        uint64_t count = left < 8 ? left : 8;
        *to++ = (uint8_t)take(&from, count);
        left -= count;
    }
    *size += (uint32_t)bytes;
    return true;
}

static bool take_now(struct glancer *glancer) {
    struct known now;
    if (next(glancer, &now) != ATOM || now.count > 128) return false;
    struct bits from = {glancer->bits.bytes, glancer->bits.size, now.start};
    uint64_t low = now.count < 64 ? now.count : 64;
    glancer->out->now_low = take(&from, low);
    glancer->out->now_high = take(&from, now.count - low);
    return true;
}

static bool take_wire(struct glancer *glancer) {
    struct nk_glance *out = glancer->out;
    struct known atom;
    for (;;) {
        uint64_t position = glancer->bits.at;
        enum item item = next(glancer, &atom);
        if (item != CELL) return item == ATOM && atom.count == 0;
        if (next(glancer, &atom) != ATOM) return false;
        know(glancer, position, atom, true);
        if (out->wire_size == NK_GLANCE_WIRE) return false;
        out->text[out->wire_size++] = '/';
        if (!put(glancer, atom, NK_GLANCE_WIRE - out->wire_size, &out->wire_size)) {
            return false;
        }
    }
}

/* The tag: the head of the card. */
static bool take_tag(struct glancer *glancer) {
    struct known atom;
    enum item item = next(glancer, &atom);
    if (item != CELL_AGAIN && (item != CELL || next(glancer, &atom) != ATOM)) {
        return false;
    }
    return put(glancer, atom, NK_GLANCE_TAG, &glancer->out->tag_size);
}

static bool look(struct glancer *glancer) {
    struct known atom;
    return next(glancer, &atom) == CELL && take_now(glancer) &&
           next(glancer, &atom) == CELL && take_wire(glancer) && take_tag(glancer);
}

void nk_glance(const uint8_t *bytes, uint64_t size, struct nk_glance *out) {
    struct glancer glancer; /* its table is large, and mostly unused */
    glancer.bits = (struct bits){bytes, size * 8, 0};
    glancer.count = glancer.kind = 0;
    glancer.out = out;
    memset(out, 0, offsetof(struct nk_glance, text));
    if (look(&glancer)) return;
    out->kind = glancer.kind != 0 ? glancer.kind : NK_GLANCE_STRANGE;
    out->wire_size = out->tag_size = 0;
}
