/* Layer qua: cords to tapes, and the parsers that call no other.
 *
 * A parser is a gate `fun` of a nail [[line column] tape] in the gate that
 * made it: the nail at 6, the maker's sample at 30. It answers an edge
 * [hair ~], or [hair ~ product nail]. Lines, columns and characters are
 * numbers of any size for Nock; here those that are not direct decline. */
#include <stdlib.h>

#include "sample.h"

#define MAKER_SAMPLE 30u

/* ++  trip: the bytes of a cord. */
static nk_status jet_trip(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun cord, tape = 0;
    uint64_t scratch;
    if (!nk_sample(machine, core, &cord) || nk_is_cell(cord)) return NK_PUNT;
    size_t size = nk_atom_size(arena, cord);
    struct nk_words words = nk_atom_words(arena, cord, &scratch);
    for (size_t i = size; i > 0; i--) {
        uint64_t byte = words.data[(i - 1) / 8] >> ((i - 1) % 8 * 8) & 0xff;
        tape = nk_cons_try(arena, byte, tape);
        if (tape == NK_NONE) return NK_MEME;
    }
    return nk_answer(tape, product);
}

/* A nail, taken apart; what made the parser. */
struct place {
    nk_noun nail, hair, line, column, tape, made_of;
};

static bool take(const struct nk_machine *machine, nk_noun core, struct place *place) {
    const struct nk_arena *arena = &machine->arena;
    place->made_of = nk_slot(arena, core, MAKER_SAMPLE);
    if (place->made_of == NK_NONE || !nk_sample(machine, core, &place->nail)) {
        return false;
    }
    if (!nk_is_cell(place->nail)) return false;
    place->hair = nk_head(arena, place->nail);
    place->tape = nk_tail(arena, place->nail);
    if (!nk_is_cell(place->hair)) return false;
    place->line = nk_head(arena, place->hair);
    place->column = nk_tail(arena, place->hair);
    return place->line < NK_DIRECT_MAX && place->column < NK_DIRECT_MAX;
}

/* [hair ~] */
static nk_status fail(struct nk_arena *arena, const struct place *place,
                      nk_noun *product) {
    return nk_answer(nk_cons_try(arena, place->hair, 0), product);
}

/* ++  next: consume a character. The tape is a cell. */
static nk_status next(struct nk_arena *arena, const struct place *place,
                      nk_noun *product) {
    nk_noun character = nk_head(arena, place->tape);
    nk_noun hair = character == '\n'
                       ? nk_cons_try(arena, place->line + 1, 1)
                       : nk_cons_try(arena, place->line, place->column + 1);
    if (hair == NK_NONE) return NK_MEME;
    nk_noun edge = nk_cons_try(arena, hair, nk_tail(arena, place->tape));
    if (edge != NK_NONE) edge = nk_cons_try(arena, character, edge);
    if (edge != NK_NONE) edge = nk_cons_try(arena, 0, edge);
    return nk_answer(edge == NK_NONE ? NK_NONE : nk_cons_try(arena, hair, edge),
                     product);
}

/* Is there a character to look at? NK_OK: yes. */
static bool has_character(const struct nk_arena *arena, const struct place *place) {
    return nk_is_cell(place->tape) && nk_is_atom(nk_head(arena, place->tape));
}

/* ++  easy: always parse, and consume nothing. */
static nk_status jet_easy(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct place place;
    if (!take(machine, core, &place)) return NK_PUNT;
    nk_noun edge = nk_cons_try(arena, place.made_of, place.nail);
    if (edge != NK_NONE) edge = nk_cons_try(arena, 0, edge);
    if (edge != NK_NONE) edge = nk_cons_try(arena, place.hair, edge);
    return nk_answer(edge, product);
}

/* ++  just: one character. */
static nk_status jet_just(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct place place;
    if (!take(machine, core, &place)) return NK_PUNT;
    if (place.tape == 0) return fail(arena, &place, product);
    if (!has_character(arena, &place)) return NK_PUNT;
    if (!nk_equal(arena, nk_head(arena, place.tape), place.made_of)) {
        return fail(arena, &place, product);
    }
    return next(arena, &place, product);
}

/* ++  mask: a character of a list. */
static nk_status jet_mask(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct place place;
    if (!take(machine, core, &place)) return NK_PUNT;
    if (place.tape == 0) return fail(arena, &place, product);
    if (!has_character(arena, &place)) return NK_PUNT;
    nk_noun list = place.made_of, character = nk_head(arena, place.tape);
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        if (nk_equal(arena, nk_head(arena, list), character)) {
            return next(arena, &place, product);
        }
    }
    return list == 0 ? fail(arena, &place, product) : NK_PUNT;
}

/* ++  shim: a character of a range. */
static nk_status jet_shim(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct place place;
    if (!take(machine, core, &place)) return NK_PUNT;
    if (place.tape == 0) return fail(arena, &place, product);
    if (!has_character(arena, &place) || !nk_is_cell(place.made_of)) return NK_PUNT;
    nk_noun low = nk_head(arena, place.made_of), high = nk_tail(arena, place.made_of);
    nk_noun character = nk_head(arena, place.tape);
    if (!nk_is_direct(character) || !nk_is_direct(low) || !nk_is_direct(high)) {
        return NK_PUNT;
    }
    if (character < low || character > high) return fail(arena, &place, product);
    return next(arena, &place, product);
}

const struct nk_arm nk_arms_parsers[] = {
    NK_ARM("qua/trip", jet_trip),     NK_ARM("qua/easy/fun", jet_easy),
    NK_ARM("qua/just/fun", jet_just), NK_ARM("qua/mask/fun", jet_mask),
    NK_ARM("qua/shim/fun", jet_shim), NK_ARMS_END};
