/* Layer qua: cords to tapes, and parsers.
 *
 * A parser is a gate `fun` of a nail [[line column] tape] in the gate that
 * made it: the nail at 6, the maker's sample at 30. It answers an edge
 * [hair ~], or [hair ~ product nail]. Lines, columns and characters are
 * numbers of any size for Nock; here those that are not direct decline. */
#include <stdlib.h>

#include "../stub.h"
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

/* ---- parsers that call others ---- */

/* Called `vex` and `yit` where Hoon calls them so: edges. An edge has its hair
 * at 2, its unit at 3, its product at 14 and its nail at 15. */

#define EDGE                                                                           \
    "      ldk null 0\n"                                                               \
    "      cons edge value nail\n"                                                     \
    "      cons edge null edge\n"                                                      \
    "      cons edge hair edge\n"                                                      \
    "      ret edge\n"

/* The farther one of two hairs. */
nk_status nk_help_last(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                       nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    (void)c;
    if (!nk_is_cell(a) || !nk_is_cell(b)) return NK_EXIT;
    nk_noun x = nk_head(arena, a), y = nk_head(arena, b);
    if (nk_equal(arena, x, y)) {
        x = nk_tail(arena, a);
        y = nk_tail(arena, b);
    }
    if (!nk_is_direct(x) || !nk_is_direct(y)) return NK_PUNT;
    *product = x > y ? a : b;
    return NK_OK;
}

/* [sef] parses the nail; then its edge is in vex, or was given back. */
#define PARSE(sef)                                                                     \
    "      ld tub core 6\n"                                                            \
    "      ld sef core " sef "\n"                                                      \
    "      slam sef tub -> vex\n"                                                      \
    "      ld unit vex 3\n"                                                            \
    "      jnek unit 0 good\n"                                                         \
    "      ret vex\n"                                                                  \
    "good: ld hair vex 2\n"                                                            \
    "      ld nail vex 15\n"

static const char cold[] = PARSE("61") "      ld value core 60\n" EDGE;

static const char cook[] = PARSE("61") "      ld value vex 14\n"
                                       "      ld poq core 60\n"
                                       "      slam poq value -> value\n" EDGE;

static const char stag[] = PARSE("61") "      ld gob core 60\n"
                                       "      ld value vex 14\n"
                                       "      cons value gob value\n" EDGE;

static const char here[] = PARSE("61") "      ld from tub 2\n"
                                       "      ld to nail 2\n"
                                       "      cons pint from to\n"
                                       "      ld value vex 14\n"
                                       "      cons value pint value\n"
                                       "      ld hez core 60\n"
                                       "      slam hez value -> value\n" EDGE;

/* [vex sab]: sab goes on where vex ended, and its edge is yit; unless one of
 * them failed. */
#define THEN                                                                           \
    "      ld vex core 12\n"                                                           \
    "      ld unit vex 3\n"                                                            \
    "      jnek unit 0 more\n"                                                         \
    "      ret vex\n"                                                                  \
    "more: ld sab core 13\n"                                                           \
    "      ld nail vex 15\n"                                                           \
    "      slam sab nail -> yit\n"                                                     \
    "      ld hair vex 2\n"                                                            \
    "      ld other yit 2\n"                                                           \
    "      do last hair hair other\n"                                                  \
    "      ld unit yit 3\n"                                                            \
    "      jnek unit 0 both\n"                                                         \
    "      cons edge hair unit\n"                                                      \
    "      ret edge\n"                                                                 \
    "both: ld value vex 14\n"                                                          \
    "      ld other yit 14\n"                                                          \
    "      ld nail yit 15\n"

static const char plug[] = THEN "      cons value value other\n" EDGE;
static const char pfix[] = THEN "      move value other\n" EDGE;
static const char sfix[] = THEN EDGE;
static const char comp[] = THEN "      cons pair value other\n"
                                "      ld raq core 30\n"
                                "      slam raq pair -> value\n" EDGE;

/* Where sab fails, vex stands. So it should where raq makes nothing of the two;
 * but a compiler may have found that it always does. */
static const char bend[] = "      ld vex core 12\n"
                           "      ld first vex 3\n"
                           "      jnek first 0 more\n"
                           "      ret vex\n"
                           "more: ld sab core 13\n"
                           "      ld nail vex 15\n"
                           "      slam sab nail -> yit\n"
                           "      ld hair vex 2\n"
                           "      ld other yit 2\n"
                           "      do last hair hair other\n"
                           "      ld unit yit 3\n"
                           "      jnek unit 0 both\n"
                           "      cons edge hair first\n"
                           "      ret edge\n"
                           "both: ld value vex 14\n"
                           "      ld other yit 14\n"
                           "      ld nail yit 15\n"
                           "      cons pair value other\n"
                           "      ld raq core 30\n"
                           "      slam raq pair -> unit\n"
                           "      jnek unit 0 made\n"
                           "      decline\n"
                           "made: ld value unit 3\n" EDGE;

/* (plug vex ;~(pfix bus sab)): three edges, vex, of bus and of sab. */
static const char glue[] = "      ld vex core 12\n"
                           "      ld unit vex 3\n"
                           "      jnek unit 0 more\n"
                           "      ret vex\n"
                           "more: ld bus core 30\n"
                           "      ld nail vex 15\n"
                           "      slam bus nail -> yit\n"
                           "      ld sab core 13\n"
                           "      ld hair sab 7\n" /* it must be a gate */
                           "      ld hair yit 2\n"
                           "      ld unit yit 3\n"
                           "      jnek unit 0 then\n"
                           "      jmp fail\n"
                           "then: ld nail yit 15\n"
                           "      slam sab nail -> third\n"
                           "      ld other third 2\n"
                           "      do last hair hair other\n"
                           "      ld unit third 3\n"
                           "      jnek unit 0 all\n"
                           "fail: ld other vex 2\n"
                           "      do last hair other hair\n"
                           "      cons edge hair unit\n"
                           "      ret edge\n"
                           "all:  ld other vex 2\n"
                           "      do last hair other hair\n"
                           "      ld value vex 14\n"
                           "      ld other third 14\n"
                           "      cons value value other\n"
                           "      ld nail third 15\n" EDGE;

/* sab has its sample already. */
static const char pose[] = "      ld vex core 12\n"
                           "      ld unit vex 3\n"
                           "      jnek unit 0 good\n"
                           "      ld sab core 13\n"
                           "      kick sab -> roq\n"
                           "      ld hair vex 2\n"
                           "      ld other roq 2\n"
                           "      do last hair hair other\n"
                           "      ld unit roq 3\n"
                           "      cons edge hair unit\n"
                           "      ret edge\n"
                           "good: ret vex\n";

/* [rud raq fel]: fel as often as it goes; then the products are folded from
 * the last one on, from rud. */
static const char stir[] = "      ld tub core 6\n"
                           "      ld fel core 123\n"
                           "      ldk done 0\n"
                           "next: slam fel tub -> vex\n"
                           "      ld unit vex 3\n"
                           "      jnek unit 0 good\n"
                           "      ld hair vex 2\n"
                           "      ld value core 60\n"
                           "      ld raq core 122\n"
                           "      move nail tub\n"
                           "fold: jatom done end\n"
                           "      ld vex done 2\n"
                           "      ld done done 3\n"
                           "      ld other vex 2\n"
                           "      do last hair other hair\n"
                           "      ld other vex 14\n"
                           "      cons pair other value\n"
                           "      slam raq pair -> value\n"
                           "      jmp fold\n"
                           "good: ld tub vex 15\n"
                           "      cons done vex done\n"
                           "      jmp next\n"
                           "end:\n" EDGE;

/* Is character [a] this key, of a range of them? NK_OK: *product is 0 for yes,
 * 1 where it comes before, 2 where it comes after. */
static nk_status compare_key(const struct nk_arena *arena, nk_noun a, nk_noun key,
                             nk_noun *product) {
    nk_noun low = key, high = key;
    if (nk_is_cell(key)) {
        low = nk_head(arena, key);
        high = nk_tail(arena, key);
    }
    if (!nk_is_direct(a) || !nk_is_direct(low) || !nk_is_direct(high)) return NK_PUNT;
    *product = a < low ? 1 : a <= high ? 0 : 2;
    return NK_OK;
}

/* The rule that a tree of [key rule] gives to the next character of nail [a];
 * 0 where it has none. */
nk_status nk_help_stew(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                       nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun side;
    (void)c;
    *product = 0;
    if (!nk_is_cell(a)) return NK_EXIT;
    nk_noun tape = nk_tail(arena, a);
    if (tape == 0 || b == 0) return NK_OK;
    if (!nk_is_cell(tape)) return NK_PUNT;
    while (b != 0) {
        if (!nk_is_cell(b) || !nk_is_cell(nk_head(arena, b)) ||
            !nk_is_cell(nk_tail(arena, b))) {
            return NK_PUNT;
        }
        nk_noun item = nk_head(arena, b);
        nk_status status =
            compare_key(arena, nk_head(arena, tape), nk_head(arena, item), &side);
        if (status != NK_OK) return status;
        if (side == 0) {
            *product = nk_tail(arena, item);
            return nk_is_cell(*product) ? NK_OK : NK_EXIT;
        }
        b = nk_slot(arena, b, side == 1 ? 6 : 7);
    }
    return NK_OK;
}

static const char stew[] = "      ld tub core 6\n"
                           "      ld tree core 14\n"
                           "      do stew rule tub tree\n"
                           "      jatom rule none\n"
                           "      tslam rule tub\n"
                           "none: ld hair tub 2\n"
                           "      cons edge hair rule\n"
                           "      ret edge\n";

const struct nk_arm nk_arms_parsers[] = {NK_ARM("qua/trip", jet_trip),
                                         NK_ARM("qua/easy/fun", jet_easy),
                                         NK_ARM("qua/just/fun", jet_just),
                                         NK_ARM("qua/mask/fun", jet_mask),
                                         NK_ARM("qua/shim/fun", jet_shim),
                                         NK_ARM_PROGRAM("qua/bend/fun", bend),
                                         NK_ARM_PROGRAM("qua/cold/fun", cold),
                                         NK_ARM_PROGRAM("qua/comp/fun", comp),
                                         NK_ARM_PROGRAM("qua/cook/fun", cook),
                                         NK_ARM_PROGRAM("qua/glue/fun", glue),
                                         NK_ARM_PROGRAM("qua/here/fun", here),
                                         NK_ARM_PROGRAM("qua/pfix", pfix),
                                         NK_ARM_PROGRAM("qua/plug", plug),
                                         NK_ARM_PROGRAM("qua/pose", pose),
                                         NK_ARM_PROGRAM("qua/sfix", sfix),
                                         NK_ARM_PROGRAM("qua/stag/fun", stag),
                                         NK_ARM_PROGRAM("qua/stew/fun", stew),
                                         NK_ARM_PROGRAM("qua/stir/fun", stir),
                                         NK_ARMS_END};
