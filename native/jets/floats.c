/* Layer tri: rh, rs, rd, rq: IEEE 754 of half to quadruple width, on MPFR.
 *
 * An operation is done once, correctly rounded to the format's precision with
 * an exponent that has no upper bound; below the smallest normal number MPFR
 * rounds again by its record of the first rounding, so nothing is rounded
 * twice. Where Hoon's arithmetic is not quite IEEE 754's, Hoon is followed:
 *   what is too large is infinite, in every rounding mode;
 *   there is one NaN, quiet and positive;
 *   where the sum of a fused multiplication rounds to zero, though neither
 *   product nor addend is one, the zero is positive, or, rounding down,
 *   negative;
 *   bits above the format's are not looked at.
 * The door's sample is the mode: n, u, d or z. Others decline, and so do
 * cells in the place of numbers.
 * MPFR's state (the least exponent, flags) is one per thread, and set before
 * each use.
 * At the end floats as text (r-co and royl-rn), for scot, scow and slaw. */
#include "floats.h"

#include <mpfr.h>
#include <stdio.h>
#include <string.h>

#include "rounding.h"
#include "sample.h"

_Static_assert(sizeof(mp_limb_t) == 8, "significands are 64-bit limbs");

typedef unsigned __int128 bits128;

struct format {
    unsigned precision; /* bits, with the leading one */
    unsigned exponent;  /* bits of it */
};

static const struct format half = {11, 5}, single = {24, 8}, twice = {53, 11},
                           quad = {113, 15};

/* A number, its significand beside it. */
struct number {
    mpfr_t x;
    mp_limb_t limbs[2];
};

static unsigned width_of(const struct format *f) {
    return (f->precision + 63) / 64 * 64;
}
/* Exponents as MPFR counts them, of the smallest and of the largest number. */
static mpfr_exp_t exponent_min(const struct format *f) {
    return 4 - ((mpfr_exp_t)1 << (f->exponent - 1)) - (mpfr_exp_t)f->precision;
}
static mpfr_exp_t exponent_max(const struct format *f) {
    return (mpfr_exp_t)1 << (f->exponent - 1);
}

static unsigned length_of(bits128 bits) {
    uint64_t high = (uint64_t)(bits >> 64), low = (uint64_t)bits;
    if (high != 0) return 128 - (unsigned)__builtin_clzll(high);
    return low == 0 ? 0 : 64 - (unsigned)__builtin_clzll(low);
}

static void number_init(const struct format *f, struct number *n, int kind,
                        mpfr_exp_t exponent) {
    mpfr_custom_init_set(n->x, kind, exponent, f->precision, n->limbs);
}

/* What an encoding means: exact. */
static void decode(const struct format *f, bits128 bits, struct number *n) {
    unsigned fraction = f->precision - 1, all = (1u << f->exponent) - 1;
    bits128 low = bits & (((bits128)1 << fraction) - 1);
    unsigned top = (unsigned)(bits >> fraction) & all;
    int sign = (bits >> (fraction + f->exponent) & 1) != 0 ? -1 : 1;
    if (top == all) {
        number_init(f, n, low != 0 ? MPFR_NAN_KIND : sign * MPFR_INF_KIND, 0);
        return;
    }
    if (top != 0) {
        low |= (bits128)1 << fraction;
        top--;
    }
    if (low == 0) {
        number_init(f, n, sign * MPFR_ZERO_KIND, 0);
        return;
    }
    unsigned length = length_of(low);
    low <<= width_of(f) - length;
    n->limbs[0] = (mp_limb_t)low;
    n->limbs[1] = (mp_limb_t)(low >> 64);
    number_init(f, n, sign * MPFR_REGULAR_KIND,
                exponent_min(f) - 1 + (mpfr_exp_t)length + (mpfr_exp_t)top);
}

/* The encoding of what fits the format. */
static bits128 encode(const struct format *f, struct number *n) {
    unsigned fraction = f->precision - 1;
    bits128 bits = (((bits128)1 << f->exponent) - 1) << fraction;
    if (mpfr_nan_p(n->x)) return bits | (bits128)1 << (fraction - 1);
    if (mpfr_zero_p(n->x)) {
        bits = 0;
    } else if (!mpfr_inf_p(n->x)) {
        /* As a multiple of 2^shift of the smallest number. The leading bit of
         * a normal one adds one to its exponent. */
        mpfr_exp_t length = mpfr_get_exp(n->x) - exponent_min(f) + 1;
        mpfr_exp_t shift = length - (mpfr_exp_t)f->precision;
        if (shift < 0) shift = 0;
        bits = n->limbs[0];
        if (width_of(f) == 128) bits |= (bits128)n->limbs[1] << 64;
        bits >>= (mpfr_exp_t)width_of(f) - (length - shift);
        bits += (bits128)shift << fraction;
    }
    if (mpfr_signbit(n->x)) bits |= (bits128)1 << (fraction + f->exponent);
    return bits;
}

/* What a first rounding made, under the format's least exponent, becomes a
 * number of the format. */
static void settle(const struct format *f, struct number *n, int inexact,
                   mpfr_rnd_t mode) {
    (void)mpfr_subnormalize(n->x, inexact, mode);
    if (mpfr_regular_p(n->x) != 0 && mpfr_get_exp(n->x) > exponent_max(f)) {
        mpfr_set_inf(n->x, mpfr_signbit(n->x) ? -1 : 1);
    }
}

/* ---- samples ---- */

static bool mode_of(const struct nk_arena *arena, nk_noun core, mpfr_rnd_t *mode) {
    nk_noun name = nk_slot(arena, core, 30);
    if (name == 'n') {
        *mode = MPFR_RNDN;
    } else if (name == 'u') {
        *mode = MPFR_RNDU;
    } else if (name == 'd') {
        *mode = MPFR_RNDD;
    } else if (name == 'z') {
        *mode = MPFR_RNDZ;
    } else {
        return false;
    }
    return true;
}

/* The sample's [count] numbers, a tuple. False: decline. */
static bool operands(const struct nk_machine *machine, nk_noun core,
                     const struct format *f, struct number *numbers, size_t count) {
    const struct nk_arena *arena = &machine->arena;
    nk_noun rest;
    if (!nk_sample(machine, core, &rest)) return false;
    for (size_t i = 0; i < count; i++) {
        nk_noun atom = rest;
        if (i + 1 < count) {
            if (nk_is_atom(rest)) return false;
            atom = nk_head(arena, rest);
            rest = nk_tail(arena, rest);
        }
        if (nk_is_cell(atom)) return false;
        uint64_t words[2];
        nk_atom_read(arena, atom, words, sizeof words);
        decode(f, (bits128)words[1] << 64 | words[0], &numbers[i]);
    }
    return true;
}

/* ---- operations ---- */

enum operation { ADD, SUBTRACT, MULTIPLY, DIVIDE, ROOT, FUSE };

static bool is_plain(const struct number *n) {
    return mpfr_regular_p(n->x) != 0;
}

static nk_status compute(struct nk_machine *machine, nk_noun core,
                         const struct format *f, enum operation how, nk_noun *product) {
    struct number in[3], out;
    mpfr_rnd_t mode;
    size_t count = how == ROOT ? 1 : how == FUSE ? 3 : 2;
    if (!mode_of(&machine->arena, core, &mode)) return NK_PUNT;
    if (!operands(machine, core, f, in, count)) return NK_PUNT;
    int inexact = 0;
    number_init(f, &out, MPFR_ZERO_KIND, 0);
    mpfr_exp_t outer = mpfr_get_emin();
    (void)mpfr_set_emin(exponent_min(f));
    switch (how) {
    case ADD:
        inexact = mpfr_add(out.x, in[0].x, in[1].x, mode);
        break;
    case SUBTRACT:
        inexact = mpfr_sub(out.x, in[0].x, in[1].x, mode);
        break;
    case MULTIPLY:
        inexact = mpfr_mul(out.x, in[0].x, in[1].x, mode);
        break;
    case DIVIDE:
        inexact = mpfr_div(out.x, in[0].x, in[1].x, mode);
        break;
    case ROOT:
        inexact = mpfr_sqrt(out.x, in[0].x, mode);
        break;
    case FUSE:
        inexact = mpfr_fma(out.x, in[0].x, in[1].x, in[2].x, mode);
        break;
    }
    settle(f, &out, inexact, mode);
    (void)mpfr_set_emin(outer);
    if (how == FUSE && mpfr_zero_p(out.x) && is_plain(&in[0]) && is_plain(&in[1]) &&
        is_plain(&in[2])) {
        mpfr_set_zero(out.x, mode == MPFR_RNDD ? -1 : 1);
    }
    bits128 bits = encode(f, &out);
    uint64_t words[2] = {(uint64_t)bits, (uint64_t)(bits >> 64)};
    return nk_answer(nk_atom_from_bytes(&machine->arena, words, sizeof words), product);
}

/* Comparisons do not round, and with a NaN they are all untrue. */
static nk_status compare(struct nk_machine *machine, nk_noun core,
                         const struct format *f, int (*is)(mpfr_srcptr, mpfr_srcptr),
                         nk_noun *product) {
    struct number in[2];
    if (!operands(machine, core, f, in, 2)) return NK_PUNT;
    return nk_answer_bool(is(in[0].x, in[1].x) != 0, product);
}

#define OPERATION(format, name, how)                                                   \
    static nk_status jet_##format##_##name(struct nk_machine *machine, nk_noun core,   \
                                           nk_noun *product) {                         \
        return compute(machine, core, &format, how, product);                          \
    }
#define COMPARISON(format, name, is)                                                   \
    static nk_status jet_##format##_##name(struct nk_machine *machine, nk_noun core,   \
                                           nk_noun *product) {                         \
        return compare(machine, core, &format, is, product);                           \
    }
#define FORMAT(format)                                                                 \
    OPERATION(format, add, ADD)                                                        \
    OPERATION(format, sub, SUBTRACT)                                                   \
    OPERATION(format, mul, MULTIPLY)                                                   \
    OPERATION(format, div, DIVIDE)                                                     \
    OPERATION(format, sqt, ROOT)                                                       \
    OPERATION(format, fma, FUSE)                                                       \
    COMPARISON(format, lth, mpfr_less_p)                                               \
    COMPARISON(format, lte, mpfr_lessequal_p)                                          \
    COMPARISON(format, equ, mpfr_equal_p)                                              \
    COMPARISON(format, gte, mpfr_greaterequal_p)                                       \
    COMPARISON(format, gth, mpfr_greater_p)

FORMAT(half)
FORMAT(single)
FORMAT(twice)
FORMAT(quad)

/* ---- text ---- */

static const struct format *format_of(unsigned char form) {
    switch (form) {
    case 'h':
        return &half;
    case 's':
        return &single;
    case 'd':
        return &twice;
    default:
        return form == 'q' ? &quad : NULL;
    }
}

bool nk_is_float(unsigned char form) {
    return format_of(form) != NULL;
}

static char *put_chars(char *out, const char *from, size_t count) {
    memcpy(out, from, count);
    return out + count;
}
static char *put_zeros(char *out, int64_t count) {
    memset(out, '0', count > 0 ? (size_t)count : 0);
    return out + (count > 0 ? count : 0);
}

/* ++  r-co: digits * 10^exponent. A power of ten stands for three zeros and more
 * at the end, and for what is below 0.01. */
static char *put_decimal(char *out, const char *digits, size_t count,
                         int64_t exponent) {
    int64_t length = (int64_t)count, power = exponent + length - 1, point = power + 1;
    bool scientific = exponent >= 3 || power < -2;
    if (scientific) point = 1;
    if (point <= 0) {
        out = put_zeros(put_chars(out, "0.", 2), -point);
        out = put_chars(out, digits, count);
    } else if (point < length) {
        out = put_chars(out, digits, (size_t)point);
        *out++ = '.';
        out = put_chars(out, digits + point, (size_t)(length - point));
    } else {
        out = put_zeros(put_chars(out, digits, count), point - length);
    }
    return scientific ? out + snprintf(out, 8, "e%d", (int)power) : out;
}

size_t nk_float_print(unsigned char form, const uint64_t words[2], char *out) {
    const struct format *f = format_of(form);
    unsigned fraction = f->precision - 1, all = (1u << f->exponent) - 1;
    bits128 bits = (bits128)words[1] << 64 | words[0];
    bits128 low = bits & (((bits128)1 << fraction) - 1);
    unsigned top = (unsigned)(bits >> fraction) & all;
    char digits[NK_DECIMAL_SIZE] = "0", *at = out;
    size_t count = 1;
    int64_t exponent = 0, least = (int64_t)exponent_min(f) - 1;
    if (top == all && low != 0) return (size_t)(put_chars(out, "nan", 3) - out);
    if ((bits >> (fraction + f->exponent) & 1) != 0) *at++ = '-';
    if (top == all) return (size_t)(put_chars(at, "inf", 3) - out);
    if (top != 0) {
        low |= (bits128)1 << fraction;
        top--;
    }
    if (low != 0) {
        uint64_t magnitude[2] = {(uint64_t)low, (uint64_t)(low >> 64)};
        count = nk_decimal_shortest(f->precision, least, magnitude,
                                    least + (int64_t)top, digits, &exponent);
    }
    return (size_t)(put_decimal(at, digits, count, exponent) - out);
}

/* ++  grd: to nearest, ties to even, whatever the door's mode. */
void nk_float_read(unsigned char form, bool minus, const char *decimal,
                   uint64_t words[2]) {
    const struct format *f = format_of(form);
    struct number n;
    number_init(f, &n, MPFR_ZERO_KIND, 0);
    mpfr_exp_t outer = mpfr_get_emin();
    (void)mpfr_set_emin(exponent_min(f));
    char *end;
    int inexact = mpfr_strtofr(n.x, decimal, &end, 10, MPFR_RNDN);
    NK_ASSERT(*end == 0);
    settle(f, &n, inexact, MPFR_RNDN);
    (void)mpfr_set_emin(outer);
    if (minus) mpfr_neg(n.x, n.x, MPFR_RNDN);
    bits128 bits = encode(f, &n);
    words[0] = (uint64_t)bits;
    words[1] = (uint64_t)(bits >> 64);
}

#define ARMS(door, format)                                                             \
    NK_ARM("tri/" door "/add", jet_##format##_add),                                    \
        NK_ARM("tri/" door "/sub", jet_##format##_sub),                                \
        NK_ARM("tri/" door "/mul", jet_##format##_mul),                                \
        NK_ARM("tri/" door "/div", jet_##format##_div),                                \
        NK_ARM("tri/" door "/sqt", jet_##format##_sqt),                                \
        NK_ARM("tri/" door "/fma", jet_##format##_fma),                                \
        NK_ARM("tri/" door "/lth", jet_##format##_lth),                                \
        NK_ARM("tri/" door "/lte", jet_##format##_lte),                                \
        NK_ARM("tri/" door "/equ", jet_##format##_equ),                                \
        NK_ARM("tri/" door "/gte", jet_##format##_gte),                                \
        NK_ARM("tri/" door "/gth", jet_##format##_gth)

const struct nk_arm nk_arms_floats[] = {ARMS("rh", half), ARMS("rs", single),
                                        ARMS("rd", twice), ARMS("rq", quad),
                                        NK_ARMS_END};
