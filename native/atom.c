/* See atom.h. Small operands take a path without GMP. */
#include "atom.h"

#include <gmp.h>
#include <string.h>

#include "big.h"

#define BITS_MAX ((uint64_t)NK_ATOM_WORDS_MAX * 64)

/* GMP's type for a limb may differ from uint64_t by name. */
static const mp_limb_t *limbs(const uint64_t *data) {
    return (const mp_limb_t *)data;
}

nk_status nk_atom_increment(struct nk_arena *arena, nk_noun a, nk_noun *out) {
    if (nk_is_direct(a)) {
        *out = nk_atom_from_u64(arena, a + 1);
        return *out == NK_NONE ? NK_MEME : NK_OK;
    }
    return nk_atom_add(arena, a, 1, out);
}

nk_status nk_atom_add(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out) {
    if (nk_is_direct(a) && nk_is_direct(b)) {
        *out = nk_atom_from_u64(arena, a + b);
        return *out == NK_NONE ? NK_MEME : NK_OK;
    }
    uint64_t sa, sb;
    struct nk_words x = nk_atom_words(arena, a, &sa), y = nk_atom_words(arena, b, &sb);
    if (x.count < y.count) {
        struct nk_words swap = x;
        x = y;
        y = swap;
    }
    uint64_t *data = nk_atom_begin(arena, x.count + 1);
    if (data == NULL) return NK_MEME;
    if (y.count == 0) {
        memcpy(data, x.data, x.count * 8);
    } else {
        data[x.count] = mpn_add((mp_limb_t *)data, limbs(x.data), (mp_size_t)x.count,
                                limbs(y.data), (mp_size_t)y.count);
    }
    *out = nk_atom_finish(arena, data, x.count + 1);
    return NK_OK;
}

nk_status nk_atom_subtract(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out) {
    if (nk_is_direct(a) && nk_is_direct(b)) {
        if (b > a) return NK_EXIT;
        *out = a - b;
        return NK_OK;
    }
    if (nk_atom_compare(arena, a, b) < 0) return NK_EXIT;
    uint64_t sa, sb;
    struct nk_words x = nk_atom_words(arena, a, &sa), y = nk_atom_words(arena, b, &sb);
    uint64_t *data = nk_atom_begin(arena, x.count);
    if (data == NULL) return NK_MEME;
    if (y.count == 0) {
        memcpy(data, x.data, x.count * 8);
    } else {
        (void)mpn_sub((mp_limb_t *)data, limbs(x.data), (mp_size_t)x.count,
                      limbs(y.data), (mp_size_t)y.count);
    }
    *out = nk_atom_finish(arena, data, x.count);
    return NK_OK;
}

nk_status nk_atom_multiply(struct nk_arena *arena, nk_noun a, nk_noun b, nk_noun *out) {
    uint64_t small;
    if (a == 0 || b == 0) {
        *out = 0;
        return NK_OK;
    }
    if (nk_is_direct(a) && nk_is_direct(b) && !__builtin_mul_overflow(a, b, &small)) {
        *out = nk_atom_from_u64(arena, small);
        return *out == NK_NONE ? NK_MEME : NK_OK;
    }
    uint64_t sa, sb;
    struct nk_words x = nk_atom_words(arena, a, &sa), y = nk_atom_words(arena, b, &sb);
    if (x.count < y.count) {
        struct nk_words swap = x;
        x = y;
        y = swap;
    }
    uint64_t mark = arena->top;
    uint64_t *data = nk_atom_begin_raw(arena, x.count + y.count);
    if (data == NULL) return NK_MEME;
    nk_status status = nk_big_multiply(arena, data, x, y);
    if (status != NK_OK) {
        arena->top = mark;
        return status;
    }
    *out = nk_atom_finish(arena, data, x.count + y.count);
    return NK_OK;
}

/* The low [count] words at [data] as an atom. */
static nk_status from_words(struct nk_arena *arena, const uint64_t *data, size_t count,
                            nk_noun *out) {
    uint64_t *copy = nk_atom_begin(arena, count);
    if (copy == NULL) return NK_MEME;
    memcpy(copy, data, count * 8);
    *out = nk_atom_finish(arena, copy, count);
    return NK_OK;
}

nk_status nk_atom_divide(struct nk_arena *arena, nk_noun a, nk_noun b,
                         nk_noun *quotient, nk_noun *remainder) {
    if (b == 0) return NK_EXIT;
    if (nk_is_direct(a) && nk_is_direct(b)) {
        if (quotient != NULL) *quotient = a / b;
        if (remainder != NULL) *remainder = a % b;
        return NK_OK;
    }
    if (nk_atom_compare(arena, a, b) < 0) {
        if (quotient != NULL) *quotient = 0;
        if (remainder != NULL) *remainder = a;
        return NK_OK;
    }
    uint64_t sa, sb;
    struct nk_words x = nk_atom_words(arena, a, &sa), y = nk_atom_words(arena, b, &sb);
    size_t q_count = x.count - y.count + 1;
    /* Both parts in one piece of scratch on top of the nursery. */
    uint64_t mark = arena->top;
    uint64_t *scratch = nk_atom_begin(arena, q_count + y.count);
    if (scratch == NULL) return NK_MEME;
    nk_noun q = 0, r = 0;
    nk_status status = nk_big_divide(arena, scratch, x, y);
    if (status == NK_OK && quotient != NULL)
        status = from_words(arena, scratch, q_count, &q);
    if (status == NK_OK && remainder != NULL) {
        status = from_words(arena, scratch + q_count, y.count, &r);
    }
    if (status != NK_OK || (nk_is_direct(q) && nk_is_direct(r))) {
        arena->top = mark;
    } else {
        /* The scratch stays below: a box without a reference. */
        struct nk_atom *box = (struct nk_atom *)(void *)(scratch - 1);
        box->mug = 0;
        box->words = (uint32_t)(q_count + y.count);
    }
    if (status != NK_OK) return status;
    if (quotient != NULL) *quotient = q;
    if (remainder != NULL) *remainder = r;
    return NK_OK;
}

/* 64 bits of src from bit [at]; zeros past its end. */
static uint64_t bits_at(struct nk_words src, uint64_t at) {
    size_t word = (size_t)(at / 64);
    unsigned shift = (unsigned)(at % 64);
    uint64_t low = word < src.count ? src.data[word] >> shift : 0;
    if (shift == 0 || word + 1 >= src.count) return low;
    return low | src.data[word + 1] << (64 - shift);
}

void nk_bits_copy(uint64_t *dst, uint64_t dst_bit, struct nk_words src,
                  uint64_t src_bit, uint64_t count) {
    uint64_t end = (uint64_t)src.count * 64;
    /* What lies past the end of src is zero in a dst that starts as zeros. */
    if (src_bit >= end) return;
    if (count > end - src_bit) count = end - src_bit;
    while (count > 0) {
        unsigned shift = (unsigned)(dst_bit % 64);
        uint64_t take = 64 - shift < count ? 64 - shift : count;
        uint64_t mask = take == 64 ? UINT64_MAX : (1ull << take) - 1;
        uint64_t value = bits_at(src, src_bit) & mask;
        uint64_t *word = &dst[dst_bit / 64];
        *word = (*word & ~(mask << shift)) | value << shift;
        dst_bit += take;
        src_bit += take;
        count -= take;
    }
}

nk_status nk_atom_cut(struct nk_arena *arena, nk_noun a, uint64_t start, uint64_t count,
                      nk_noun *out) {
    uint64_t bits = nk_atom_bits(arena, a);
    if (start >= bits || count == 0) {
        *out = 0;
        return NK_OK;
    }
    if (count > bits - start) count = bits - start;
    if (start == 0 && count == bits) {
        *out = a;
        return NK_OK;
    }
    uint64_t scratch;
    struct nk_words src = nk_atom_words(arena, a, &scratch);
    if (count < 64) {
        *out = bits_at(src, start) & ((1ull << count) - 1);
        return NK_OK;
    }
    size_t words = (size_t)((count + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    nk_bits_copy(data, 0, src, start, count);
    *out = nk_atom_finish(arena, data, words);
    return NK_OK;
}

nk_status nk_atom_shift_left(struct nk_arena *arena, nk_noun a, uint64_t bits,
                             nk_noun *out) {
    uint64_t size = nk_atom_bits(arena, a);
    if (size == 0 || bits == 0) {
        *out = a;
        return NK_OK;
    }
    if (bits > BITS_MAX || size + bits > BITS_MAX) return NK_MEME;
    if (size + bits < 64) {
        *out = a << bits;
        return NK_OK;
    }
    uint64_t scratch;
    struct nk_words src = nk_atom_words(arena, a, &scratch);
    size_t words = (size_t)((size + bits + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    nk_bits_copy(data, bits, src, 0, size);
    *out = nk_atom_finish(arena, data, words);
    return NK_OK;
}

nk_status nk_atom_logic(struct nk_arena *arena, enum nk_logic logic, nk_noun a,
                        nk_noun b, nk_noun *out) {
    if (nk_is_direct(a) && nk_is_direct(b)) {
        *out = logic == NK_AND ? (a & b) : logic == NK_OR ? (a | b) : (a ^ b);
        return NK_OK;
    }
    uint64_t sa, sb;
    struct nk_words x = nk_atom_words(arena, a, &sa), y = nk_atom_words(arena, b, &sb);
    size_t count = x.count > y.count ? x.count : y.count;
    uint64_t *data = nk_atom_begin(arena, count);
    if (data == NULL) return NK_MEME;
    for (size_t i = 0; i < count; i++) {
        uint64_t left = i < x.count ? x.data[i] : 0;
        uint64_t right = i < y.count ? y.data[i] : 0;
        data[i] = logic == NK_AND  ? (left & right)
                  : logic == NK_OR ? (left | right)
                                   : (left ^ right);
    }
    *out = nk_atom_finish(arena, data, count);
    return NK_OK;
}
