/* Layer tri: the inside of fl, floats of any precision (cofl): lug, which
 * rounds, and drg, the shortest decimal that rounds to a number.
 *
 * A number is [e a]: a * 2^e, e with its sign in the lowest bit (@s). The door
 * around them says the precision, the least exponent, the width of exponents,
 * how to round and what becomes of denormals; these two do not look at how to
 * round. What is too large to be a float of anyone's declines. */
#include "rounding.h"

#include <gmp.h>
#include <string.h>

#include "../cord.h"
#include "sample.h"

#define EXPONENT_MAX 100000
#define BITS_MAX 100000

/* fl's sample, as far as it matters here. */
struct shape {
    int64_t precision, exponent_min, exponent_max;
    bool endless, flushes; /* exponents without end; denormals become zero */
};

/* a * 2^e. */
struct number {
    int64_t e;
    mpz_t a;
};

static bool signed_of(nk_noun atom, int64_t *value) {
    if (nk_is_cell(atom) || atom > 2 * EXPONENT_MAX) return false;
    *value = (atom & 1) != 0 ? -(int64_t)(atom / 2) - 1 : (int64_t)(atom / 2);
    return true;
}

static nk_noun noun_of_signed(int64_t value) {
    return value >= 0 ? (nk_noun)value * 2 : (nk_noun)(-value) * 2 - 1;
}

static bool shape_of(const struct nk_arena *arena, nk_noun core, struct shape *shape) {
    nk_noun p = nk_slot(arena, core, 120), v = nk_slot(arena, core, 242),
            w = nk_slot(arena, core, 243), d = nk_slot(arena, core, 123);
    if (p == NK_NONE || v == NK_NONE || w == NK_NONE || d == NK_NONE) return false;
    if (p < 2 || p > BITS_MAX || !signed_of(v, &shape->exponent_min) ||
        w > EXPONENT_MAX) {
        return false;
    }
    shape->precision = (int64_t)p;
    shape->exponent_max = shape->exponent_min + (int64_t)w;
    shape->endless = d == 'i';
    shape->flushes = d == 'f';
    return d == 'i' || d == 'f' || d == 'd';
}

/* [e a] as it is; initialises [number->a] where it gives true. */
static bool number_of(const struct nk_arena *arena, nk_noun noun,
                      struct number *number) {
    if (noun == NK_NONE || nk_is_atom(noun)) return false;
    nk_noun atom = nk_tail(arena, noun);
    if (!signed_of(nk_head(arena, noun), &number->e) || nk_is_cell(atom)) return false;
    uint64_t scratch;
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    if (words.count * 64 > BITS_MAX) return false;
    mpz_init(number->a);
    mpz_import(number->a, words.count, -1, sizeof *words.data, 0, 0, words.data);
    return true;
}

static nk_noun atom_of(struct nk_arena *arena, const mpz_t a) {
    return nk_atom_from_bytes(arena, mpz_limbs_read(a),
                              mpz_size(a) * sizeof(mp_limb_t));
}

static int64_t bits_of(const mpz_t a) {
    return mpz_sgn(a) == 0 ? 0 : (int64_t)mpz_sizeinbase(a, 2);
}

/* ++  xpd: as many bits as the precision has, or as the exponent allows. */
static void expand(const struct shape *shape, struct number *n) {
    int64_t room = shape->precision - bits_of(n->a);
    if (!shape->endless && n->e - shape->exponent_min < room) {
        room = n->e - shape->exponent_min;
    }
    if (room <= 0) return;
    n->e -= room;
    mpz_mul_2exp(n->a, n->a, (mp_bitcnt_t)room);
}

/* ---- lug ---- */

/* What was cut off, beside the lowest bit that stays: nothing, less than its
 * half, that, or more. */
enum rest { NOTHING, LESS, HALF, MORE };

/* Cut off [count] low bits. */
static enum rest cut(struct number *n, int64_t count) {
    enum rest rest = NOTHING;
    if (count > 0 && mpz_sgn(n->a) != 0) {
        int64_t first = (int64_t)mpz_scan1(n->a, 0);
        bool half = mpz_tstbit(n->a, (mp_bitcnt_t)(count - 1)) != 0;
        if (first < count) rest = !half ? LESS : first == count - 1 ? HALF : MORE;
    }
    mpz_fdiv_q_2exp(n->a, n->a, (mp_bitcnt_t)count);
    n->e += count;
    return rest;
}

/* %sm with nothing cut off: a little less than the number. */
static void shrink(const struct shape *shape, struct number *n) {
    if (shape->endless || n->e != shape->exponent_min) {
        /* Less by half a step, where that still has room. */
        mpz_mul_2exp(n->a, n->a, 1);
        mpz_sub_ui(n->a, n->a, 1);
        n->e--;
        if (bits_of(n->a) <= shape->precision) return;
        mpz_add_ui(n->a, n->a, 1);
        mpz_fdiv_q_2exp(n->a, n->a, 1);
        n->e++;
    }
    mpz_sub_ui(n->a, n->a, 1);
}

/* Does the number go up? [exact]: nothing was cut off before this. */
static bool goes_up(nk_noun how, enum rest rest, bool exact, bool odd) {
    switch (how) {
    case NK_CORD_2('l', 'g'):
        return true;
    case NK_CORD_2('c', 'e'):
        return rest != NOTHING || !exact;
    case NK_CORD_2('n', 'e'):
        return rest == MORE || (rest == HALF && (!exact || odd));
    case NK_CORD_2('n', 'a'):
        return rest == MORE || rest == HALF;
    case NK_CORD_2('n', 't'):
        return rest == MORE || (rest == HALF && !exact);
    default:
        return false;
    }
}

static bool is_rounding(nk_noun how) {
    return how == NK_CORD_2('f', 'l') || how == NK_CORD_2('s', 'm') ||
           how == NK_CORD_2('c', 'e') || how == NK_CORD_2('l', 'g') ||
           how == NK_CORD_2('n', 'e') || how == NK_CORD_2('n', 'a') ||
           how == NK_CORD_2('n', 't');
}

/* [%f & e a]; zero has no exponent. */
static nk_status finite(struct nk_arena *arena, const struct number *n,
                        nk_noun *product) {
    bool zero = mpz_sgn(n->a) == 0;
    nk_noun made = atom_of(arena, n->a);
    if (made != NK_NONE) {
        made = nk_cons_try(arena, zero ? 0 : noun_of_signed(n->e), made);
    }
    if (made != NK_NONE) made = nk_cons_try(arena, 0, made);
    if (made != NK_NONE) made = nk_cons_try(arena, 'f', made);
    return nk_answer(made, product);
}

static nk_status round_number(struct nk_arena *arena, const struct shape *shape,
                              nk_noun how, struct number *n, bool exact,
                              nk_noun *product) {
    int64_t size = bits_of(n->a), count = size - shape->precision;
    if (size == 0 || (!exact && count <= 0)) return NK_EXIT;
    if (count < 0) count = 0;
    if (!shape->endless && n->e < shape->exponent_min &&
        count < shape->exponent_min - n->e) {
        count = shape->exponent_min - n->e;
    }
    enum rest rest = cut(n, count);
    if (mpz_sgn(n->a) == 0) {
        /* Zero, or the smallest number, which is at this exponent. */
        bool up = goes_up(how, rest, exact, false);
        n->e = shape->exponent_min;
        mpz_set_ui(n->a, up);
    } else {
        expand(shape, n);
        if (how == NK_CORD_2('s', 'm') && rest == NOTHING && exact) {
            shrink(shape, n);
        } else if (goes_up(how, rest, exact, mpz_odd_p(n->a) != 0)) {
            mpz_add_ui(n->a, n->a, 1);
        }
        if (bits_of(n->a) == shape->precision + 1) {
            mpz_fdiv_q_2exp(n->a, n->a, 1);
            n->e++;
        }
        if (!shape->endless && mpz_sgn(n->a) != 0 && n->e > shape->exponent_max) {
            return nk_answer(nk_cons_try(arena, 'i', 0), product);
        }
    }
    if (shape->flushes && bits_of(n->a) != shape->precision) mpz_set_ui(n->a, 0);
    return finite(arena, n, product);
}

static nk_status jet_lug(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct shape shape;
    struct number n;
    nk_noun how = nk_slot(arena, core, 12), exact = nk_slot(arena, core, 27);
    if (how == NK_NONE || !is_rounding(how) || exact > 1) return NK_PUNT;
    if (!shape_of(arena, core, &shape)) return NK_PUNT;
    if (!number_of(arena, nk_slot(arena, core, 26), &n)) return NK_PUNT;
    nk_status status = round_number(arena, &shape, how, &n, exact == 0, product);
    mpz_clear(n.a);
    return status;
}

/* ---- drg ---- */

/* Steele and White's, of r/s: digits until what is left is within the number's
 * neighbours, half of [below] and of [above] away. */
struct decimal {
    mpz_t r, s, below, above, digits, digit, twice, bound;
};

static void decimal_init(const struct shape *shape, const struct number *n,
                         struct decimal *d) {
    mpz_inits(d->r, d->s, d->below, d->above, d->digits, d->digit, d->twice, d->bound,
              NULL);
    mp_bitcnt_t up = n->e > 0 ? (mp_bitcnt_t)n->e : 0;
    mpz_mul_2exp(d->r, n->a, up);
    mpz_set_ui(d->s, 1);
    mpz_mul_2exp(d->s, d->s, n->e < 0 ? (mp_bitcnt_t)-n->e : 0);
    mpz_set_ui(d->below, 1);
    mpz_mul_2exp(d->below, d->below, up);
    mpz_set(d->above, d->below);
    bool is_power = bits_of(n->a) == shape->precision &&
                    (int64_t)mpz_scan1(n->a, 0) == shape->precision - 1;
    if (is_power && (n->e != shape->exponent_min || shape->endless)) {
        /* The next smaller number is only half as far away. */
        mpz_mul_2exp(d->above, d->above, 1);
        mpz_mul_2exp(d->r, d->r, 1);
        mpz_mul_2exp(d->s, d->s, 1);
    }
}

static void decimal_clear(struct decimal *d) {
    mpz_clears(d->r, d->s, d->below, d->above, d->digits, d->digit, d->twice, d->bound,
               NULL);
}

static void scale(struct decimal *d) {
    mpz_mul_ui(d->r, d->r, 10);
    mpz_mul_ui(d->below, d->below, 10);
    mpz_mul_ui(d->above, d->above, 10);
}

/* Gives the exponent. */
static int64_t decimal_digits(struct decimal *d) {
    int64_t exponent = 0;
    mpz_add_ui(d->bound, d->s, 9);
    mpz_fdiv_q_ui(d->bound, d->bound, 10);
    for (; mpz_cmp(d->r, d->bound) < 0; exponent--)
        scale(d);
    mpz_mul_2exp(d->twice, d->r, 1);
    mpz_add(d->twice, d->twice, d->above);
    mpz_mul_2exp(d->bound, d->s, 1);
    for (; mpz_cmp(d->twice, d->bound) >= 0; exponent++) {
        mpz_mul_ui(d->s, d->s, 10);
        mpz_mul_ui(d->bound, d->bound, 10);
    }
    for (;;) {
        scale(d);
        mpz_fdiv_qr(d->digit, d->r, d->r, d->s);
        exponent--;
        mpz_mul_2exp(d->twice, d->r, 1);
        bool low = mpz_cmp(d->twice, d->below) < 0;
        mpz_mul_2exp(d->bound, d->s, 1);
        mpz_sub(d->bound, d->bound, d->above);
        bool high = mpz_cmp(d->twice, d->bound) > 0;
        mpz_mul_ui(d->digits, d->digits, 10);
        mpz_add(d->digits, d->digits, d->digit);
        if (!low && !high) continue;
        if (high && (!low || mpz_cmp(d->twice, d->s) > 0)) {
            mpz_add_ui(d->digits, d->digits, 1);
        }
        return exponent;
    }
}

static nk_status jet_drg(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct shape shape;
    struct number n;
    nk_noun sample;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!shape_of(arena, core, &shape)) return NK_PUNT;
    if (!number_of(arena, sample, &n)) return NK_PUNT;
    nk_status status = NK_EXIT;
    if (mpz_sgn(n.a) != 0) {
        struct decimal d;
        expand(&shape, &n);
        decimal_init(&shape, &n, &d);
        int64_t exponent = decimal_digits(&d);
        nk_noun digits = atom_of(arena, d.digits);
        status = digits == NK_NONE
                     ? NK_MEME
                     : nk_answer(nk_cons_try(arena, noun_of_signed(exponent), digits),
                                 product);
        decimal_clear(&d);
    }
    mpz_clear(n.a);
    return status;
}

size_t nk_decimal_shortest(int64_t precision, int64_t exponent_min, uint64_t words[2],
                           int64_t e, char *out, int64_t *exponent) {
    struct shape shape = {.precision = precision, .exponent_min = exponent_min};
    struct number n = {.e = e};
    struct decimal d;
    mpz_init(n.a);
    mpz_import(n.a, 2, -1, sizeof *words, 0, 0, words);
    expand(&shape, &n);
    decimal_init(&shape, &n, &d);
    *exponent = decimal_digits(&d);
    NK_ASSERT(mpz_sizeinbase(d.digits, 10) + 2 <= NK_DECIMAL_SIZE);
    (void)mpz_get_str(out, 10, d.digits);
    decimal_clear(&d);
    mpz_clear(n.a);
    return strlen(out);
}

const struct nk_arm nk_arms_rounding[] = {NK_ARM("tri/cofl/lug", jet_lug),
                                          NK_ARM("tri/cofl/drg", jet_drg), NK_ARMS_END};
