/* Layer one: numbers and axes.
 *
 * Where an operand is a cell, most arms crash after some steps, some do not;
 * all but dec decline and let Nock decide. (dec of a cell never ends in
 * Nock; it crashes here, as it does in Vere.) */
#include "sample.h"

/* ++  add:  ?:  =(0 a)  b  $(a (dec a), b +(b)) */
static nk_status jet_add(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_add(&machine->arena, a, b, product);
}

static nk_status jet_dec(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a)) return NK_PUNT;
    if (a == 0 || nk_is_cell(a)) return NK_EXIT;
    return nk_atom_subtract(&machine->arena, a, 1, product);
}

static nk_status jet_sub(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_subtract(&machine->arena, a, b, product);
}

static nk_status jet_mul(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_multiply(&machine->arena, a, b, product);
}

static nk_status jet_div(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_divide(&machine->arena, a, b, product, NULL);
}

static nk_status jet_mod(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_divide(&machine->arena, a, b, NULL, product);
}

/* ++  dvr:  [(div a b) (mod a b)] */
static nk_status jet_dvr(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b, quotient, remainder;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    nk_status status = nk_atom_divide(&machine->arena, a, b, &quotient, &remainder);
    if (status != NK_OK) return status;
    return nk_answer(nk_cons_try(&machine->arena, quotient, remainder), product);
}

static nk_status jet_gte(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_atom_compare(&machine->arena, a, b) >= 0, product);
}

static nk_status jet_gth(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_atom_compare(&machine->arena, a, b) > 0, product);
}

static nk_status jet_lte(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_atom_compare(&machine->arena, a, b) <= 0, product);
}

static nk_status jet_lth(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_atom_compare(&machine->arena, a, b) < 0, product);
}

static nk_status jet_max(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer(nk_atom_compare(&machine->arena, a, b) > 0 ? a : b, product);
}

static nk_status jet_min(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer(nk_atom_compare(&machine->arena, a, b) < 0 ? a : b, product);
}

/* Is bit [at] of the atom set? */
static bool has_bit(const struct nk_arena *arena, nk_noun atom, uint64_t at) {
    uint64_t scratch;
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    return at / 64 < words.count && (words.data[at / 64] >> (at % 64) & 1) != 0;
}

/* ++  cap: the axis's first step: its second highest bit. */
static nk_status jet_cap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a < 2) return NK_EXIT;
    uint64_t bits = nk_atom_bits(&machine->arena, a);
    return nk_answer(has_bit(&machine->arena, a, bits - 2) ? 3 : 2, product);
}

/* ++  mas: the axis without its first step. */
static nk_status jet_mas(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, low, top;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a < 2) return NK_EXIT;
    uint64_t bits = nk_atom_bits(arena, a);
    nk_status status = nk_atom_cut(arena, a, 0, bits - 2, &low);
    if (status == NK_OK) status = nk_atom_shift_left(arena, 1, bits - 2, &top);
    if (status != NK_OK) return status;
    return nk_atom_logic(arena, NK_OR, low, top, product);
}

/* ++  peg: axis b within axis a. */
static nk_status jet_peg(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b, low, high;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    if (a == 0 || b == 0) return NK_EXIT;
    uint64_t steps = nk_atom_bits(arena, b) - 1;
    nk_status status = nk_atom_cut(arena, b, 0, steps, &low);
    if (status == NK_OK) status = nk_atom_shift_left(arena, a, steps, &high);
    if (status != NK_OK) return status;
    return nk_atom_logic(arena, NK_OR, low, high, product);
}

const struct nk_arm nk_arms_arithmetic[] = {NK_ARM("one/add", jet_add),
                                            NK_ARM("one/dec", jet_dec),
                                            NK_ARM("one/sub", jet_sub),
                                            NK_ARM("one/mul", jet_mul),
                                            NK_ARM("one/div", jet_div),
                                            NK_ARM("one/mod", jet_mod),
                                            NK_ARM("one/dvr", jet_dvr),
                                            NK_ARM("one/gte", jet_gte),
                                            NK_ARM("one/gth", jet_gth),
                                            NK_ARM("one/lte", jet_lte),
                                            NK_ARM("one/lth", jet_lth),
                                            NK_ARM("one/max", jet_max),
                                            NK_ARM("one/min", jet_min),
                                            NK_ARM("one/cap", jet_cap),
                                            NK_ARM("one/mas", jet_mas),
                                            NK_ARM("one/peg", jet_peg),
                                            NK_ARMS_END};
