/* Layer two: lists. Arms that call a gate are programs of the machine; the
 * others are here. A list that does not end in 0: decline. */
#include "sample.h"

/* The length of a list; false where it does not end in 0. */
static bool length_of(const struct nk_arena *arena, nk_noun list, uint64_t *length) {
    *length = 0;
    for (; nk_is_cell(list); list = nk_tail(arena, list))
        ++*length;
    return list == 0;
}

/* The first [count] items of [list], then [rest]. */
static nk_noun copy_items(struct nk_arena *arena, nk_noun list, uint64_t count,
                          nk_noun rest) {
    nk_noun result = rest, *hole = &result;
    for (; count > 0; count--, list = nk_tail(arena, list)) {
        nk_noun made = nk_cons_try(arena, nk_head(arena, list), rest);
        if (made == NK_NONE) return NK_NONE;
        *hole = made;
        hole = &nk_cell_at(arena, made)->tail;
    }
    return result;
}

static nk_status jet_flop(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list, result = 0;
    uint64_t length;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &list) || !length_of(arena, list, &length)) {
        return NK_PUNT;
    }
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        result = nk_cons_try(arena, nk_head(arena, list), result);
        if (result == NK_NONE) return NK_MEME;
    }
    return nk_answer(result, product);
}

static nk_status jet_lent(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list;
    uint64_t length;
    if (!nk_sample(machine, core, &list)) return NK_PUNT;
    if (!length_of(&machine->arena, list, &length)) return NK_PUNT;
    return nk_answer(length, product);
}

static nk_status jet_weld(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    uint64_t length, other;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    /* The second one is only homogenised, that is, not looked at. */
    if (!length_of(arena, a, &length) || !length_of(arena, b, &other)) return NK_PUNT;
    return nk_answer(copy_items(arena, a, length, b), product);
}

/* ++  welp: the same, and the second one may be anything. */
static nk_status jet_welp(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    uint64_t length;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    if (!length_of(arena, a, &length)) return NK_PUNT;
    return nk_answer(copy_items(arena, a, length, b), product);
}

/* ++  snag: item a; a crash where the list is shorter. */
static nk_status jet_snag(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) a = NK_DIRECT_MAX; /* longer than any list */
    for (; a > 0 && nk_is_cell(b); a--)
        b = nk_tail(arena, b);
    if (nk_is_cell(b)) return nk_answer(nk_head(arena, b), product);
    return b == 0 ? NK_EXIT : NK_PUNT;
}

/* ++  scag: the first a items. */
static nk_status jet_scag(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) a = NK_DIRECT_MAX;
    uint64_t count = 0;
    nk_noun rest = b;
    for (; count < a && nk_is_cell(rest); count++)
        rest = nk_tail(arena, rest);
    if (count < a && rest != 0) return NK_PUNT;
    return nk_answer(copy_items(arena, b, count, 0), product);
}

/* ++  slag: all but the first a items. */
static nk_status jet_slag(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) a = NK_DIRECT_MAX;
    for (; a > 0 && nk_is_cell(b); a--)
        b = nk_tail(arena, b);
    if (a > 0 && b != 0) return NK_PUNT;
    return nk_answer(b, product);
}

/* ++  reap: b, a times. */
static nk_status jet_reap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b, list = 0;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) return NK_MEME;
    for (; a > 0; a--) {
        list = nk_cons_try(&machine->arena, b, list);
        if (list == NK_NONE) return NK_MEME;
    }
    return nk_answer(list, product);
}

/* ++  zing: the lists of a list, one after the other. */
static nk_status jet_zing(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun lists, result = 0, *hole = &result;
    uint64_t length;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &lists)) return NK_PUNT;
    for (nk_noun l = lists; l != 0; l = nk_tail(arena, l)) {
        if (nk_is_atom(l) || !length_of(arena, nk_head(arena, l), &length)) {
            return NK_PUNT;
        }
    }
    for (; lists != 0; lists = nk_tail(arena, lists)) {
        for (nk_noun l = nk_head(arena, lists); l != 0; l = nk_tail(arena, l)) {
            nk_noun made = nk_cons_try(arena, nk_head(arena, l), 0);
            if (made == NK_NONE) return NK_MEME;
            *hole = made;
            hole = &nk_cell_at(arena, made)->tail;
        }
    }
    return nk_answer(result, product);
}

/* Is [needle], which is not the longer one, at the front of [hay]? */
static bool begins_with(struct nk_arena *arena, nk_noun hay, nk_noun needle) {
    while (needle != 0 &&
           nk_equal(arena, nk_head(arena, needle), nk_head(arena, hay))) {
        needle = nk_tail(arena, needle);
        hay = nk_tail(arena, hay);
    }
    return needle == 0;
}

/* ++  find: where the first list stands in the second one; nothing for an
 * empty one, and where the second runs out in the middle. */
static nk_status jet_find(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun needle, hay;
    uint64_t length, size, at = 0;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &needle, &hay)) return NK_PUNT;
    if (!length_of(arena, needle, &size) || !length_of(arena, hay, &length)) {
        return NK_PUNT;
    }
    if (size == 0) return nk_answer(0, product);
    for (; at + size <= length; at++, hay = nk_tail(arena, hay)) {
        if (begins_with(arena, hay, needle)) {
            return nk_answer(nk_cons_try(arena, 0, at), product);
        }
    }
    return nk_answer(0, product);
}

/* ++  fand: all the places of [find]; they may overlap. */
static nk_status jet_fand(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun needle, hay, places = 0, *hole = &places;
    uint64_t length, size, at = 0;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &needle, &hay)) return NK_PUNT;
    if (!length_of(arena, needle, &size) || !length_of(arena, hay, &length)) {
        return NK_PUNT;
    }
    for (; size != 0 && at + size <= length; at++, hay = nk_tail(arena, hay)) {
        if (!begins_with(arena, hay, needle)) continue;
        nk_noun made = nk_cons_try(arena, at, 0);
        if (made == NK_NONE) return NK_MEME;
        *hole = made;
        hole = &nk_cell_at(arena, made)->tail;
    }
    return nk_answer(places, product);
}

/* ++  need: what is in a unit. Nock says why there is nothing. */
static nk_status jet_need(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun unit;
    if (!nk_sample(machine, core, &unit) || nk_is_atom(unit)) return NK_PUNT;
    return nk_answer(nk_tail(&machine->arena, unit), product);
}

/* ++  mate: the unit that is there; both must agree, or Nock says why not. */
static nk_status jet_mate(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    if (b == 0) return nk_answer(a, product);
    if (a == 0) return nk_answer(b, product);
    if (nk_is_atom(a) || nk_is_atom(b)) return NK_PUNT;
    if (!nk_equal(arena, nk_tail(arena, a), nk_tail(arena, b))) return NK_PUNT;
    return nk_answer(a, product);
}

/* ---- parts of a list exchanged ---- */

/* [list]'s first [keep] items, an item if there is one, and the list without
 * its first [drop] items. */
static nk_status replace(struct nk_arena *arena, nk_noun list, nk_noun keep,
                         nk_noun drop, const nk_noun *item, nk_noun *product) {
    uint64_t length;
    nk_noun rest = list;
    if (!length_of(arena, list, &length)) return NK_PUNT;
    if (!nk_is_direct(keep) || keep > length) keep = length;
    if (!nk_is_direct(drop) || drop > length) drop = length;
    for (; drop > 0; drop--)
        rest = nk_tail(arena, rest);
    if (item != NULL) rest = nk_cons_try(arena, *item, rest);
    if (rest == NK_NONE) return NK_MEME;
    return nk_answer(copy_items(arena, list, keep, rest), product);
}

/* ++  oust: [from count] and a list: without those items. */
static nk_status jet_oust(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun where, list, end;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_two(machine, core, &where, &list) || nk_is_atom(where)) {
        return NK_PUNT;
    }
    nk_noun from = nk_head(arena, where), count = nk_tail(arena, where);
    if (nk_is_cell(from) || nk_is_cell(count)) return NK_PUNT;
    nk_status status = nk_atom_add(arena, from, count, &end);
    return status == NK_OK ? replace(arena, list, from, end, NULL, product) : status;
}

/* A sample [list place item]. */
static bool placed(const struct nk_machine *machine, nk_noun core, nk_noun *list,
                   nk_noun *place, nk_noun *item) {
    nk_noun rest;
    if (!nk_sample_two(machine, core, list, &rest) || nk_is_atom(rest)) return false;
    *place = nk_head(&machine->arena, rest);
    *item = nk_tail(&machine->arena, rest);
    return nk_is_atom(*place);
}

/* ++  into: an item before a place, or at the end. */
static nk_status jet_into(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list, place, item;
    if (!placed(machine, core, &list, &place, &item)) return NK_PUNT;
    return replace(&machine->arena, list, place, place, &item, product);
}

/* ++  snap: an item instead of that at a place, or at the end. */
static nk_status jet_snap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list, place, item, after;
    struct nk_arena *arena = &machine->arena;
    if (!placed(machine, core, &list, &place, &item)) return NK_PUNT;
    nk_status status = nk_atom_increment(arena, place, &after);
    return status == NK_OK ? replace(arena, list, place, after, &item, product)
                           : status;
}

/* ++  snip: all but the last item. */
static nk_status jet_snip(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list;
    uint64_t length;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &list) || !length_of(arena, list, &length)) {
        return NK_PUNT;
    }
    return nk_answer(copy_items(arena, list, length == 0 ? 0 : length - 1, 0), product);
}

/* ++  rear: the last item. */
static nk_status jet_rear(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun list;
    uint64_t length;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &list) || !length_of(arena, list, &length)) {
        return NK_PUNT;
    }
    if (length == 0) return NK_PUNT;
    while (nk_tail(arena, list) != 0)
        list = nk_tail(arena, list);
    return nk_answer(nk_head(arena, list), product);
}

/* ---- arms that call a gate ---- */

/* [list gate], from the list's first item on. */
#define EACH                                                                           \
    "      ld list core 12\n"                                                          \
    "      ld gate core 13\n"
#define NEXT                                                                           \
    "next: jatom list end\n"                                                           \
    "      ld item list 2\n"                                                           \
    "      ld list list 3\n"

static const char turn[] =
    EACH "      ldk made 0\n" NEXT "      slam gate item -> product\n"
         "      cons made product made\n"
         "      jmp next\n"
         "end:  jnek list 0 odd\n"
         "      do reverse made made\n"
         "      ret made\n"
         "odd:  bail\n";

static const char skim[] =
    EACH "      ldk made 0\n" NEXT "      slam gate item -> product\n"
         "      jtest product skip\n"
         "      cons made item made\n"
         "skip: jmp next\n"
         "end:  jnek list 0 odd\n"
         "      do reverse made made\n"
         "      ret made\n"
         "odd:  bail\n";

static const char skip[] =
    EACH "      ldk made 0\n" NEXT "      slam gate item -> product\n"
         "      jtest product take\n"
         "      jmp next\n"
         "take: cons made item made\n"
         "      jmp next\n"
         "end:  jnek list 0 odd\n"
         "      do reverse made made\n"
         "      ret made\n"
         "odd:  bail\n";

static const char levy[] = EACH NEXT "      slam gate item -> product\n"
                                     "      jtest product no\n"
                                     "      jmp next\n"
                                     "no:   retk 1\n"
                                     "end:  jnek list 0 odd\n"
                                     "      retk 0\n"
                                     "odd:  bail\n";

static const char lien[] = EACH NEXT "      slam gate item -> product\n"
                                     "      jtest product more\n"
                                     "      retk 0\n"
                                     "more: jmp next\n"
                                     "end:  jnek list 0 odd\n"
                                     "      retk 1\n"
                                     "odd:  bail\n";

/* The gate's sample at 13 is what begins. */
static const char roll[] =
    EACH "      ld state gate 13\n" NEXT "      cons pair item state\n"
         "      slam gate pair -> state\n"
         "      jmp next\n"
         "end:  jnek list 0 odd\n"
         "      ret state\n"
         "odd:  bail\n";

static const char reel[] =
    EACH "      ld state gate 13\n"
         "      do reverse list list\n" NEXT "      cons pair item state\n"
         "      slam gate pair -> state\n"
         "      jmp next\n"
         "end:  ret state\n";

static const char murn[] =
    EACH "      ldk made 0\n" NEXT "      slam gate item -> unit\n"
         "      jnek unit 0 some\n"
         "      jmp next\n"
         "some: ld item unit 3\n"
         "      cons made item made\n"
         "      jmp next\n"
         "end:  jnek list 0 odd\n"
         "      do reverse made made\n"
         "      ret made\n"
         "odd:  bail\n";

/* From the list's end, as Hoon's own. */
static const char skid[] =
    EACH "      ldk made 0\n"
         "      ldk rest 0\n"
         "      do reverse list list\n" NEXT "      slam gate item -> product\n"
         "      jtest product not\n"
         "      cons made item made\n"
         "      jmp next\n"
         "not:  cons rest item rest\n"
         "      jmp next\n"
         "end:  cons made made rest\n"
         "      ret made\n";

/* Hoon's quicksort, call for call. [waiting] is a stack of pivots, each with
 * what goes after it. */
static const char sort[] =
    EACH "      ldk sorted 0\n"
         "      ldk waiting 0\n"
         "part: jatom list done\n"
         "      ld pivot list 2\n"
         "      ld list list 3\n"
         "      do reverse list list\n"
         "      ldk before 0\n"
         "      ldk after 0\n" NEXT "      cons pair item pivot\n"
         "      slam gate pair -> product\n"
         "      jtest product not\n"
         "      cons before item before\n"
         "      jmp next\n"
         "not:  cons after item after\n"
         "      jmp next\n"
         "end:  cons pair pivot after\n"
         "      cons waiting pair waiting\n"
         "      move list before\n"
         "      jmp part\n"
         "done: jnek list 0 odd\n"
         "      jatom waiting all\n"
         "      ld pair waiting 2\n"
         "      ld waiting waiting 3\n"
         "      ld pivot pair 2\n"
         "      ld list pair 3\n"
         "      cons sorted pivot sorted\n"
         "      jmp part\n"
         "all:  do reverse sorted sorted\n"
         "      ret sorted\n"
         "odd:  bail\n";

const struct nk_arm nk_arms_lists[] = {NK_ARM("two/flop", jet_flop),
                                       NK_ARM("two/lent", jet_lent),
                                       NK_ARM("two/weld", jet_weld),
                                       NK_ARM("two/welp", jet_welp),
                                       NK_ARM("two/find", jet_find),
                                       NK_ARM("two/need", jet_need),
                                       NK_ARM("two/mate", jet_mate),
                                       NK_ARM("two/snag", jet_snag),
                                       NK_ARM("two/scag", jet_scag),
                                       NK_ARM("two/slag", jet_slag),
                                       NK_ARM("two/reap", jet_reap),
                                       NK_ARM("two/zing", jet_zing),
                                       NK_ARM("two/fand", jet_fand),
                                       NK_ARM("two/oust", jet_oust),
                                       NK_ARM("two/into", jet_into),
                                       NK_ARM("two/snap", jet_snap),
                                       NK_ARM("two/snip", jet_snip),
                                       NK_ARM("two/rear", jet_rear),
                                       NK_ARM_PROGRAM("two/turn", turn),
                                       NK_ARM_PROGRAM("two/roll", roll),
                                       NK_ARM_PROGRAM("two/reel", reel),
                                       NK_ARM_PROGRAM("two/levy", levy),
                                       NK_ARM_PROGRAM("two/lien", lien),
                                       NK_ARM_PROGRAM("two/skim", skim),
                                       NK_ARM_PROGRAM("two/skip", skip),
                                       NK_ARM_PROGRAM("two/murn", murn),
                                       NK_ARM_PROGRAM("two/skid", skid),
                                       NK_ARM_PROGRAM("two/sort", sort),
                                       NK_ARMS_END};
