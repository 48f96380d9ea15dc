/* Layer two: bits, blocks, and the order of nouns.
 *
 * A block has 2^bloq bits; a bite is a bloq (one block) or [bloq step].
 * Sizes saturate: what lies beyond UINT64_MAX bits holds nothing but zeros,
 * and a result that would need it is out of memory, as in Nock. Cells where
 * atoms belong, and lists that do not end in 0: decline. */
#include "sample.h"

#include <gmp.h>
#include <string.h>

#include "../mug.h"

#define HUGE_SIZE UINT64_MAX

/* step * 2^bloq. */
static uint64_t size_of(nk_noun bloq, nk_noun step) {
    if (step == 0) return 0;
    if (!nk_is_direct(bloq) || !nk_is_direct(step) || bloq >= 64) return HUGE_SIZE;
    if (step >> (63 - bloq) >> 1 != 0) return HUGE_SIZE;
    return step << bloq;
}

/* a + b, saturating. */
static uint64_t sum(uint64_t a, uint64_t b) {
    return a > HUGE_SIZE - b ? HUGE_SIZE : a + b;
}

static bool is_bite(const struct nk_arena *arena, nk_noun bite, nk_noun *bloq,
                    nk_noun *step) {
    if (nk_is_atom(bite)) {
        *bloq = bite;
        *step = 1;
        return true;
    }
    *bloq = nk_head(arena, bite);
    *step = nk_tail(arena, bite);
    return nk_is_atom(*bloq) && nk_is_atom(*step);
}

/* A list of atoms (or, with [pairs], of pairs of atoms) that ends in 0. */
static bool is_list(const struct nk_arena *arena, nk_noun list, bool pairs) {
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun item = nk_head(arena, list);
        if (nk_is_cell(item) != pairs) return false;
        if (pairs &&
            (nk_is_cell(nk_head(arena, item)) || nk_is_cell(nk_tail(arena, item)))) {
            return false;
        }
    }
    return list == 0;
}

/* Blocks of 2^bloq bits that the atom takes. */
static uint64_t blocks_of(const struct nk_arena *arena, nk_noun bloq, nk_noun atom) {
    uint64_t bits = nk_atom_bits(arena, atom), size = size_of(bloq, 1);
    return bits / size + (bits % size != 0);
}

static nk_status jet_bex(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) return NK_MEME;
    return nk_atom_shift_left(&machine->arena, 1, a, product);
}

/* ++  end: the low blocks. */
static nk_status jet_end(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_cut(&machine->arena, b, 0, size_of(bloq, step), product);
}

static nk_status jet_lsh(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_shift_left(&machine->arena, b, size_of(bloq, step), product);
}

static nk_status jet_rsh(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_cut(&machine->arena, b, size_of(bloq, step), HUGE_SIZE, product);
}

/* ++  cut:  (end [a c] (rsh [a b] d)) */
static nk_status jet_cut(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, rest;
    if (!nk_sample_two(machine, core, &a, &rest) || nk_is_cell(a)) return NK_PUNT;
    nk_noun b = nk_slot(arena, rest, 4), c = nk_slot(arena, rest, 5),
            d = nk_slot(arena, rest, 3);
    if (b == NK_NONE || nk_is_cell(b) || nk_is_cell(c) || nk_is_cell(d)) return NK_PUNT;
    return nk_atom_cut(arena, d, size_of(a, b), size_of(a, c), product);
}

static nk_status jet_met(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    *product = blocks_of(&machine->arena, a, b);
    return NK_OK;
}

static nk_status jet_xeb(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    *product = nk_atom_bits(&machine->arena, a);
    return NK_OK;
}

/* ---- assembling: pieces laid side by side ---- */

/* Lays down the low [size] bits of each piece at the position where the
 * last one ended. Run twice: to measure, then to write. */
struct layer {
    struct nk_arena *arena;
    uint64_t *data; /* NULL: measure */
    uint64_t at, end;
};

static void lay(struct layer *layer, nk_noun piece, uint64_t size) {
    uint64_t bits = nk_atom_bits(layer->arena, piece);
    if (bits > size) bits = size;
    if (bits > 0) {
        uint64_t end = sum(layer->at, bits);
        if (end > layer->end) layer->end = end;
        if (layer->data != NULL) {
            uint64_t scratch;
            nk_bits_copy(layer->data, layer->at,
                         nk_atom_words(layer->arena, piece, &scratch), 0, bits);
        }
    }
    layer->at = sum(layer->at, size);
}

enum assembly { ASSEMBLE_CAN, ASSEMBLE_RAP, ASSEMBLE_REP };

static void lay_all(struct layer *layer, enum assembly how, nk_noun bloq, nk_noun step,
                    nk_noun list) {
    const struct nk_arena *arena = layer->arena;
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun item = nk_head(arena, list);
        if (how == ASSEMBLE_CAN) {
            lay(layer, nk_tail(arena, item), size_of(bloq, nk_head(arena, item)));
        } else if (how == ASSEMBLE_RAP) {
            lay(layer, item, size_of(bloq, blocks_of(arena, bloq, item)));
        } else {
            lay(layer, item, size_of(bloq, step));
        }
    }
}

static nk_status assemble(struct nk_arena *arena, enum assembly how, nk_noun bloq,
                          nk_noun step, nk_noun list, nk_noun *product) {
    struct layer layer = {arena, NULL, 0, 0};
    lay_all(&layer, how, bloq, step, list);
    if (layer.end == 0) {
        *product = 0;
        return NK_OK;
    }
    if (layer.end > (uint64_t)NK_ATOM_WORDS_MAX * 64) return NK_MEME;
    size_t words = (size_t)((layer.end + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    layer = (struct layer){arena, data, 0, 0};
    lay_all(&layer, how, bloq, step, list);
    *product = nk_atom_finish(arena, data, words);
    return NK_OK;
}

static nk_status jet_can(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!is_list(&machine->arena, b, true)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_CAN, a, 0, b, product);
}

static nk_status jet_rap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!is_list(&machine->arena, b, false)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_RAP, a, 0, b, product);
}

static nk_status jet_rep(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    if (!is_list(&machine->arena, b, false)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_REP, bloq, step, b, product);
}

/* ++  cat:  (add (lsh [a (met a b)] c) b) */
static nk_status jet_cat(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, rest, high;
    if (!nk_sample_two(machine, core, &a, &rest) || nk_is_cell(a) || nk_is_atom(rest)) {
        return NK_PUNT;
    }
    nk_noun b = nk_head(arena, rest), c = nk_tail(arena, rest);
    if (nk_is_cell(b) || nk_is_cell(c)) return NK_PUNT;
    uint64_t shift = size_of(a, blocks_of(arena, a, b));
    nk_status status = nk_atom_shift_left(arena, c, shift, &high);
    if (status != NK_OK) return status;
    return nk_atom_logic(arena, NK_OR, high, b, product);
}

/* ++  rip: blocks as a list; built from its end. */
static nk_status jet_rip(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bite, b, bloq, step, list = 0, piece;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(arena, bite, &bloq, &step)) return NK_PUNT;
    uint64_t size = size_of(bloq, step), bits = nk_atom_bits(arena, b);
    if (bits == 0) return nk_answer(0, product);
    if (size == 0) return NK_PUNT; /* endless */
    for (uint64_t i = bits / size + (bits % size != 0); i > 0; i--) {
        nk_status status = nk_atom_cut(arena, b, (i - 1) * size, size, &piece);
        if (status != NK_OK) return status;
        list = nk_cons_try(arena, piece, list);
        if (list == NK_NONE) return NK_MEME;
    }
    return nk_answer(list, product);
}

/* [count] blocks of 2^bloq bits of [a], the last one first. */
static nk_status reverse_blocks(struct nk_arena *arena, nk_noun bloq, uint64_t count,
                                nk_noun a, nk_noun *product) {
    uint64_t size = size_of(bloq, 1), total = size_of(bloq, count), scratch;
    uint64_t bits = nk_atom_bits(arena, a);
    if (bits == 0 || count == 0) return nk_answer(0, product);
    if (total > (uint64_t)NK_ATOM_WORDS_MAX * 64) {
        /* One block, whatever its size, is its own reverse. */
        return count == 1 ? nk_answer(a, product) : NK_MEME;
    }
    struct nk_words from = nk_atom_words(arena, a, &scratch);
    size_t words = (size_t)((total + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    for (uint64_t i = 0; i < count && i * size < bits; i++)
        nk_bits_copy(data, (count - 1 - i) * size, from, i * size, size);
    *product = nk_atom_finish(arena, data, words);
    return NK_OK;
}

/* ++  rev: the low [len] blocks, reversed, zeros included. */
static nk_status jet_rev(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bloq, rest;
    if (!nk_sample_two(machine, core, &bloq, &rest) || nk_is_atom(rest)) return NK_PUNT;
    nk_noun count = nk_head(arena, rest), data = nk_tail(arena, rest);
    if (nk_is_cell(bloq) || nk_is_cell(count) || nk_is_cell(data)) return NK_PUNT;
    nk_status status = nk_atom_cut(arena, data, 0, size_of(bloq, count), &data);
    if (status != NK_OK) return status;
    if (!nk_is_direct(count)) return data == 0 ? nk_answer(0, product) : NK_MEME;
    return reverse_blocks(arena, bloq, count, data, product);
}

/* ++  swp:  (rep a (flop (rip a b))) */
static nk_status jet_swp(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return reverse_blocks(&machine->arena, a, blocks_of(&machine->arena, a, b), b,
                          product);
}

/* ---- logic ---- */

static nk_status logic(struct nk_machine *machine, nk_noun core, enum nk_logic how,
                       nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_logic(&machine->arena, how, a, b, product);
}
static nk_status jet_con(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_OR, product);
}
static nk_status jet_dis(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_AND, product);
}
static nk_status jet_mix(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_XOR, product);
}

/* ++  sqt: the square root, and what is left. */
static nk_status jet_sqt(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, root, rest, square;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a == 0) return nk_answer(nk_cons_try(arena, 0, 0), product);
    uint64_t scratch;
    struct nk_words from = nk_atom_words(arena, a, &scratch);
    size_t words = (from.count + 1) / 2;
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    (void)mpn_sqrtrem((mp_limb_t *)data, NULL, (const mp_limb_t *)from.data,
                      (mp_size_t)from.count);
    root = nk_atom_finish(arena, data, words);
    nk_status status = nk_atom_multiply(arena, root, root, &square);
    if (status == NK_OK) status = nk_atom_subtract(arena, a, square, &rest);
    if (status != NK_OK) return status;
    return nk_answer(nk_cons_try(arena, root, rest), product);
}

/* ---- hash and order ---- */

static nk_status jet_mug(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a)) return NK_PUNT;
    *product = nk_mug(&machine->arena, a);
    return NK_OK;
}

/* ++  dor: equal, or an atom before a cell, or the smaller atom, or by the
 * first part that differs. */
static bool depth_order(struct nk_arena *arena, nk_noun a, nk_noun b) {
    while (!nk_equal(arena, a, b)) {
        if (nk_is_atom(a)) {
            return nk_is_cell(b) || nk_atom_compare(arena, a, b) < 0;
        }
        if (nk_is_atom(b)) return false;
        bool same = nk_equal(arena, nk_head(arena, a), nk_head(arena, b));
        a = same ? nk_tail(arena, a) : nk_head(arena, a);
        b = same ? nk_tail(arena, b) : nk_head(arena, b);
    }
    return true;
}

static nk_status jet_dor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(depth_order(&machine->arena, a, b), product);
}

static nk_status jet_gor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    uint32_t c = nk_mug(arena, a), d = nk_mug(arena, b);
    return nk_answer_bool(c == d ? depth_order(arena, a, b) : c < d, product);
}

static nk_status jet_mor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    uint32_t c = nk_mug(arena, nk_mug(arena, a)), d = nk_mug(arena, nk_mug(arena, b));
    return nk_answer_bool(c == d ? depth_order(arena, a, b) : c < d, product);
}

const struct nk_arm nk_arms_bits[] = {NK_ARM("two/bex", jet_bex),
                                      NK_ARM("two/can", jet_can),
                                      NK_ARM("two/cat", jet_cat),
                                      NK_ARM("two/con", jet_con),
                                      NK_ARM("two/cut", jet_cut),
                                      NK_ARM("two/dis", jet_dis),
                                      NK_ARM("two/dor", jet_dor),
                                      NK_ARM("two/end", jet_end),
                                      NK_ARM("two/gor", jet_gor),
                                      NK_ARM("two/lsh", jet_lsh),
                                      NK_ARM("two/met", jet_met),
                                      NK_ARM("two/mix", jet_mix),
                                      NK_ARM("two/mor", jet_mor),
                                      NK_ARM("two/mug", jet_mug),
                                      NK_ARM("two/rap", jet_rap),
                                      NK_ARM("two/rep", jet_rep),
                                      NK_ARM("two/rev", jet_rev),
                                      NK_ARM("two/rip", jet_rip),
                                      NK_ARM("two/rsh", jet_rsh),
                                      NK_ARM("two/sqt", jet_sqt),
                                      NK_ARM("two/swp", jet_swp),
                                      NK_ARM("two/xeb", jet_xeb),
                                      NK_ARMS_END};
