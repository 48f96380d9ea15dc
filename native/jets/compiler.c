/* Layer pen: the compiler's arms.
 *
 * Most of +ut's are only remembered: a key is made of what the arm's answer
 * depends on, and the machine looks for it, or runs Nock and notes the
 * product. The key is [arm state battery subject arguments]:
 *     arm       a letter of our own
 *     state     +ut's [fan rib vet] for mull, its vet for the others
 *     battery   of +ut
 * vet is +ut's switch for verification. Its `fan` and `rib` hold what is in
 * progress, and only make what comes back to itself crash, or count as good
 * for a while. The products of mull hold them none the less: a core's type
 * there has a gate that computes its battery later (+laze), and with that gate
 * the +ut that made it. So they are part of its key, which Vere leaves out; it
 * costs a tenth of a compile. Of the others' products none holds a +ut but
 * those that the subject held: mint makes such types for its own use only, the
 * rest makes none. Where Nock crashes since something is in progress, they may
 * answer all the same, and so may Vere.
 * +nest's answer does depend on what it assumes: yes is remembered where no
 * reference, no where no subject is assumed to be in progress (as in Vere).
 *
 * The others, on types, names and formulas, are written out. */
#include "../cord.h"
#include "treap.h"

#define VAN 7u /* +ut, in one of its gates */
#define BATTERY 2u
#define SUBJECT 6u
#define STATE 14u
#define VET 59u
#define DEPTH_MAX 512u
#define MULL (nk_noun)'l'
#define NEST (nk_noun)'n'

/* ---- remembered ---- */

static nk_status make_key(struct nk_arena *arena, nk_noun arm, nk_noun van,
                          nk_noun arguments, nk_noun *key) {
    if (!nk_is_cell(van)) return NK_PUNT;
    nk_noun vet = nk_slot(arena, van, VET), subject = nk_slot(arena, van, SUBJECT);
    if (vet == NK_NONE || subject == NK_NONE || vet > 1) return NK_PUNT;
    nk_noun noun = nk_cons_try(arena, subject, arguments);
    nk_noun state = arm == MULL ? nk_slot(arena, van, STATE) : vet;
    if (noun != NK_NONE) noun = nk_cons_try(arena, nk_slot(arena, van, BATTERY), noun);
    if (noun != NK_NONE) noun = nk_cons_try(arena, state, noun);
    if (noun != NK_NONE) noun = nk_cons_try(arena, arm, noun);
    return nk_answer(noun, key);
}

static nk_status gate_key(struct nk_machine *machine, nk_noun gate, nk_noun arm,
                          nk_noun *key) {
    nk_noun sample, van = nk_slot(&machine->arena, gate, VAN);
    if (!nk_sample(machine, gate, &sample) || van == NK_NONE) return NK_PUNT;
    return make_key(&machine->arena, arm, van, sample, key);
}

#define REMEMBERED(name, letter)                                                       \
    static nk_status key_##name(struct nk_machine *machine, nk_noun core,              \
                                nk_noun *key) {                                        \
        return gate_key(machine, core, letter, key);                                   \
    }
REMEMBERED(crop, 'c')
REMEMBERED(fish, 's')
REMEMBERED(fuse, 'f')
REMEMBERED(mint, 'm')
REMEMBERED(mull, MULL)
REMEMBERED(redo, 'd')
REMEMBERED(rest, 'r')

/* ++  nest-dext: a trap in [seg reg gil] in +nest's gate of [tel ref]. */
static nk_status key_dext(struct nk_machine *machine, nk_noun core, nk_noun *key) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sets = nk_slot(arena, core, 14), sample = nk_slot(arena, core, 62);
    nk_noun van = nk_slot(arena, core, 63);
    if (sets == NK_NONE || sample == NK_NONE || van == NK_NONE) return NK_PUNT;
    if (nk_is_atom(sample) || nk_is_atom(sets) || nk_is_atom(nk_tail(arena, sets))) {
        return NK_PUNT;
    }
    return make_key(arena, NEST, van, sample, key);
}

bool nk_compiler_keeps(const struct nk_arena *arena, nk_noun core, nk_noun key,
                       nk_noun product) {
    if (nk_head(arena, key) != NEST) return true;
    return nk_slot(arena, core, product == 0 ? 58 : 28) == 0;
}

/* ---- types ---- */

/* Crashes of Nock on malformed samples are left to Nock. */
static bool is_void(nk_noun type) {
    return type == NK_CORD_4('v', 'o', 'i', 'd');
}

static nk_status tagged(struct nk_arena *arena, nk_noun tag, nk_noun rest,
                        nk_noun *product) {
    return nk_answer(nk_cons_try(arena, tag, rest), product);
}

static nk_status jet_cell(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun sample, head, tail;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &head, &tail)) return NK_PUNT;
    if (is_void(head) || is_void(tail)) {
        return nk_answer(NK_CORD_4('v', 'o', 'i', 'd'), product);
    }
    return tagged(&machine->arena, NK_CORD_4('c', 'e', 'l', 'l'), sample, product);
}

static nk_status jet_core(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun sample, payload, coil;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &payload, &coil)) return NK_PUNT;
    if (is_void(payload)) return nk_answer(payload, product);
    return tagged(&machine->arena, NK_CORD_4('c', 'o', 'r', 'e'), sample, product);
}

static nk_status jet_face(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun sample, name, type;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &name, &type)) return NK_PUNT;
    if (is_void(type)) return nk_answer(type, product);
    return tagged(&machine->arena, NK_CORD_4('f', 'a', 'c', 'e'), sample, product);
}

/* ++  fork: one type of many, as a set. */
static nk_status jet_fork(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun list, set = 0;
    if (!nk_sample(machine, core, &list)) return NK_PUNT;
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun type = nk_head(arena, list);
        if (is_void(type)) continue;
        nk_status status;
        if (nk_is_cell(type) && nk_head(arena, type) == NK_CORD_4('f', 'o', 'r', 'k')) {
            status = nk_tree_uni(arena, set, nk_tail(arena, type), false, &set);
        } else {
            status = nk_set_put(arena, &set, type);
        }
        if (status != NK_OK) return status;
    }
    if (list != 0) return NK_PUNT;
    if (set == 0) return nk_answer(NK_CORD_4('v', 'o', 'i', 'd'), product);
    if (nk_is_atom(set) || nk_is_atom(nk_tail(arena, set))) return NK_PUNT;
    if (nk_slot(arena, set, 6) == 0 && nk_slot(arena, set, 7) == 0) {
        return nk_answer(nk_head(arena, set), product);
    }
    return tagged(arena, NK_CORD_4('f', 'o', 'r', 'k'), set, product);
}

/* ---- auras ---- */

/* An aura's size, given by a capital at its end (0: none), and the rest. */
static uint32_t aura_parts(nk_noun aura, nk_noun *rest) {
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(aura | 1), at = (bits - 1) / 8 * 8;
    uint32_t last = (uint32_t)(aura >> at & 0xff);
    *rest = aura;
    if (last < 'A' || last > 'Z') return 0;
    *rest = aura & ((1ull << at) - 1);
    return last - 64;
}

/* ++  fitz: does aura b fit where a is wanted, or the other way round? */
static nk_status jet_fitz(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    if (!nk_is_direct(a) || !nk_is_direct(b)) return NK_PUNT;
    uint32_t p = aura_parts(a, &a), q = aura_parts(b, &b);
    bool fits = p == 0 || q == 0 || q <= p;
    for (; fits && a != 0 && b != 0; a >>= 8, b >>= 8)
        fits = (a & 0xff) == (b & 0xff);
    return nk_answer_bool(fits, product);
}

/* ---- formulas ---- */

/* Is [formula] exactly [op atom]? */
static bool is_pair(const struct nk_arena *arena, nk_noun formula, nk_noun op,
                    nk_noun what) {
    return nk_is_cell(formula) && nk_head(arena, formula) == op &&
           nk_tail(arena, formula) == what;
}

/* [0 axis] with axis not 0. NK_NONE: it is none. [*odd]: it is like one but
 * malformed. */
static nk_noun axis_of(const struct nk_arena *arena, nk_noun formula, bool *odd) {
    if (!nk_is_cell(formula) || nk_head(arena, formula) != 0) return NK_NONE;
    nk_noun axis = nk_tail(arena, formula);
    if (!nk_is_direct(axis)) *odd = true;
    return nk_is_direct(axis) && axis != 0 ? axis : NK_NONE;
}

/* [0 (peg a b)], or NK_NONE and a status. */
static nk_status slot_formula(struct nk_arena *arena, nk_noun a, nk_noun b,
                              nk_noun *formula) {
    uint32_t steps = 63 - (uint32_t)__builtin_clzll(b);
    if (64 - (uint32_t)__builtin_clzll(a) + steps > 63) return NK_PUNT;
    nk_noun axis = a << steps | (b & ((1ull << steps) - 1));
    return nk_answer(nk_cons_try(arena, 0, axis), formula);
}

/* ++  comb: one formula after the other. */
static nk_status jet_comb(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sample, mal, buz, left, right;
    bool odd = false;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &mal, &buz)) return NK_PUNT;
    if (!nk_is_cell(mal) || !nk_is_cell(buz)) return NK_PUNT;
    nk_noun a = axis_of(arena, mal, &odd), b = axis_of(arena, buz, &odd);
    if (odd) return NK_PUNT;
    if (a != NK_NONE) {
        if (b != NK_NONE) return slot_formula(arena, a, b, product);
        nk_noun pair = nk_tail(arena, buz);
        if (nk_head(arena, buz) == 2 && nk_is_cell(pair) &&
            nk_is_cell(nk_head(arena, pair)) && nk_is_cell(nk_tail(arena, pair)) &&
            nk_slot(arena, pair, 4) == 0 && nk_slot(arena, pair, 6) == 0) {
            nk_noun c = axis_of(arena, nk_head(arena, pair), &odd);
            nk_noun d = axis_of(arena, nk_tail(arena, pair), &odd);
            if (c == NK_NONE || d == NK_NONE) return NK_PUNT;
            nk_status status = slot_formula(arena, a, c, &left);
            if (status == NK_OK) status = slot_formula(arena, a, d, &right);
            if (status != NK_OK) return status;
            pair = nk_cons_try(arena, left, right);
            if (pair == NK_NONE) return NK_MEME;
            return tagged(arena, 2, pair, product);
        }
        return tagged(arena, 7, sample, product);
    }
    if (nk_is_cell(nk_head(arena, mal)) && is_pair(arena, nk_tail(arena, mal), 0, 1)) {
        nk_noun pair = nk_cons_try(arena, nk_head(arena, mal), buz);
        if (pair == NK_NONE) return NK_MEME;
        return tagged(arena, 8, pair, product);
    }
    if (is_pair(arena, buz, 0, 1)) return nk_answer(mal, product);
    return tagged(arena, 7, sample, product);
}

/* ++  cons: two constants are one. */
static nk_status jet_cons(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sample, a, b;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    if (!nk_is_cell(a) || !nk_is_cell(b)) return NK_PUNT;
    if (nk_head(arena, a) != 1 || nk_head(arena, b) != 1) {
        return nk_answer(sample, product);
    }
    nk_noun pair = nk_cons_try(arena, nk_tail(arena, a), nk_tail(arena, b));
    return pair == NK_NONE ? NK_MEME : tagged(arena, 1, pair, product);
}

/* ++  cond: a constant test needs no branch. */
static nk_status jet_cond(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sample, test, branches;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!nk_sample_two(machine, core, &test, &branches)) return NK_PUNT;
    if (!nk_is_cell(branches)) return NK_PUNT;
    if (is_pair(arena, test, 1, 0)) return nk_answer(nk_head(arena, branches), product);
    if (is_pair(arena, test, 1, 1)) return nk_answer(nk_tail(arena, branches), product);
    if (is_pair(arena, test, 0, 0)) return nk_answer(test, product);
    return tagged(arena, 6, sample, product);
}

/* ---- arms by name ---- */

/* An axis as it grows downwards, two steps at most a level. */
struct axis {
    uint64_t words[2 * DEPTH_MAX / 64 + 1];
    uint32_t steps;
};

static void step(struct axis *axis, uint32_t right) {
    uint64_t *word = &axis->words[axis->steps / 64];
    uint64_t bit = 1ull << (axis->steps % 64);
    *word = right != 0 ? *word | bit : *word & ~bit;
    axis->steps++;
}

/* The axis, or NK_NONE: no room. Its steps are noted from the top. */
static nk_noun axis_noun(struct nk_arena *arena, const struct axis *axis) {
    uint8_t bytes[2 * DEPTH_MAX / 8 + 16] = {0};
    uint32_t steps = axis->steps;
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t place = steps - 1 - i;
        uint64_t bit = axis->words[i / 64] >> (i % 64) & 1;
        bytes[place / 8] = (uint8_t)(bytes[place / 8] | bit << (place % 8));
    }
    bytes[steps / 8] = (uint8_t)(bytes[steps / 8] | 1u << (steps % 8));
    return nk_atom_from_bytes(arena, bytes, steps / 8 + 1);
}

/* Look for [name] in a map of arms, from [axis] on. NK_OK: *arm is its hoon,
 * or NK_NONE. */
static nk_status find_arm(struct nk_arena *arena, nk_noun name, nk_noun map,
                          struct axis *axis, nk_noun *arm) {
    *arm = NK_NONE;
    while (map != 0) {
        if (axis->steps + 4 > 2 * DEPTH_MAX) return NK_PUNT;
        if (!nk_is_cell(map) || !nk_is_cell(nk_tail(arena, map)) ||
            !nk_is_cell(nk_head(arena, map))) {
            return NK_PUNT;
        }
        nk_noun item = nk_head(arena, map);
        nk_noun left = nk_slot(arena, map, 6), right = nk_slot(arena, map, 7);
        nk_noun key = nk_head(arena, item);
        bool alone = left == 0 && right == 0, both = left != 0 && right != 0;
        if (nk_equal(arena, name, key)) {
            if (!alone) step(axis, 0);
            *arm = nk_tail(arena, item);
            return NK_OK;
        }
        if (alone) return NK_OK;
        bool less = nk_gor(arena, name, key);
        map = less ? left : right;
        if (map == 0) return NK_OK;
        step(axis, 1);
        if (both) step(axis, less ? 0 : 1);
    }
    return NK_OK;
}

/* [0 axis hoon] */
static nk_status found_arm(struct nk_arena *arena, const struct axis *axis, nk_noun arm,
                           nk_noun *product) {
    nk_noun noun = axis_noun(arena, axis);
    if (noun != NK_NONE) noun = nk_cons_try(arena, noun, arm);
    return nk_answer(noun == NK_NONE ? NK_NONE : nk_cons_try(arena, 0, noun), product);
}

static nk_status jet_look(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun name, map, arm;
    struct axis axis;
    axis.steps = 0;
    if (!nk_sample_two(machine, core, &name, &map)) return NK_PUNT;
    nk_status status = find_arm(arena, name, map, &axis, &arm);
    if (status != NK_OK) return status;
    if (arm == NK_NONE) return nk_answer(0, product);
    return found_arm(arena, &axis, arm, product);
}

/* ++  loot: in the chapters of a core, one after the other. A chapter is a map
 * of arms; before kelvin 135, after what it is called. */
static nk_status jet_loot(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun name, map, arm, kelvin = nk_kelvin(machine, core);
    struct {
        nk_noun map;
        uint32_t steps;
    } waiting[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    struct axis axis;
    axis.steps = 0;
    if (kelvin == 0 || !nk_sample_two(machine, core, &name, &map)) return NK_PUNT;
    for (;;) {
        struct nk_node node;
        if (map == 0) {
            if (count == 0) return nk_answer(0, product);
            map = waiting[--count].map;
            axis.steps = waiting[count].steps;
            step(&axis, 1);
            step(&axis, 1);
        }
        if (count == NK_TREE_DEPTH_MAX || axis.steps + 4 > 2 * DEPTH_MAX)
            return NK_PUNT;
        if (!nk_node_take(arena, map, true, &node)) return NK_PUNT;
        nk_noun chapter = nk_tail(arena, node.item);
        if (kelvin > 135) {
            if (nk_is_atom(chapter)) return NK_PUNT;
            chapter = nk_tail(arena, chapter);
        }
        uint32_t steps = axis.steps;
        if (node.left != 0 || node.right != 0) step(&axis, 0);
        nk_status status = find_arm(arena, name, chapter, &axis, &arm);
        if (status != NK_OK) return status;
        if (arm != NK_NONE) return found_arm(arena, &axis, arm, product);
        axis.steps = steps;
        step(&axis, 1);
        map = node.left == 0 ? node.right : node.left;
        if (node.left != 0 && node.right != 0) {
            waiting[count].map = node.right;
            waiting[count++].steps = steps;
            step(&axis, 0);
        }
    }
}

static const char remembered[] = "       recall product key core known\n"
                                 "       ld formula core 2\n"
                                 "       nock core formula -> product\n"
                                 "       record product key core\n"
                                 "known: ret product\n";
#define REMEMBER(path, key) {path, key, remembered, NULL}

const struct nk_arm nk_arms_compiler[] = {
    NK_ARM("pen/cell", jet_cell),
    NK_ARM("pen/comb", jet_comb),
    NK_ARM("pen/cond", jet_cond),
    NK_ARM("pen/cons", jet_cons),
    NK_ARM("pen/core", jet_core),
    NK_ARM("pen/face", jet_face),
    NK_ARM("pen/fitz", jet_fitz),
    NK_ARM("pen/fork", jet_fork),
    NK_ARM("pen/look", jet_look),
    NK_ARM("pen/loot", jet_loot),
    REMEMBER("pen/ut/crop", key_crop),
    REMEMBER("pen/ut/fish", key_fish),
    REMEMBER("pen/ut/fuse", key_fuse),
    REMEMBER("pen/ut/mint", key_mint),
    REMEMBER("pen/ut/mull", key_mull),
    REMEMBER("pen/ut/redo", key_redo),
    REMEMBER("pen/ut/rest", key_rest),
    REMEMBER("pen/ut/nest/nest-in/nest-dext", key_dext),
    NK_ARMS_END};
