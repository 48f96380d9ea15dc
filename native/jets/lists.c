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
        nk_noun n = needle, h = hay;
        while (n != 0 && nk_equal(arena, nk_head(arena, n), nk_head(arena, h))) {
            n = nk_tail(arena, n);
            h = nk_tail(arena, h);
        }
        if (n == 0) return nk_answer(nk_cons_try(arena, 0, at), product);
    }
    return nk_answer(0, product);
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
                                       {"two/turn", NULL, NK_BUILTIN_TURN, NULL},
                                       {"two/roll", NULL, NK_BUILTIN_ROLL, NULL},
                                       {"two/reel", NULL, NK_BUILTIN_REEL, NULL},
                                       {"two/levy", NULL, NK_BUILTIN_LEVY, NULL},
                                       {"two/lien", NULL, NK_BUILTIN_LIEN, NULL},
                                       {"two/skim", NULL, NK_BUILTIN_SKIM, NULL},
                                       {"two/skip", NULL, NK_BUILTIN_SKIP, NULL},
                                       {"two/murn", NULL, NK_BUILTIN_MURN, NULL},
                                       {"two/skid", NULL, NK_BUILTIN_SKID, NULL},
                                       {"two/sort", NULL, NK_BUILTIN_SORT, NULL},
                                       NK_ARMS_END};
