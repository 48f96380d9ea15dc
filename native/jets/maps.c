/* Layer two: sets (in) and maps (by): treaps, sorted by gor, heaped by mor.
 *
 * The arms are gates in a door: sample at 6, the tree at 30; or traps whose
 * state is at 6, with the tree at 30 as well. A tree that is none, or that is
 * deeper than any honest one, declines. Nothing recurses. */
#include <stdlib.h>

#include "../stub.h"
#include "treap.h"

/* ---- get, has ---- */

/* NK_OK: *found is the item, or NK_NONE. */
static nk_status seek(struct nk_arena *arena, nk_noun tree, nk_noun key, bool map,
                      nk_noun *found) {
    struct nk_node node;
    *found = NK_NONE;
    if (tree == 0) return NK_OK;
    struct nk_ranked sought = nk_rank(arena, key);
    while (tree != 0) {
        if (!nk_node_take(arena, tree, map, &node)) return NK_PUNT;
        struct nk_ranked here = nk_rank(arena, node.key);
        if (nk_ranked_equal(arena, sought, here)) {
            *found = node.item;
            return NK_OK;
        }
        tree = nk_ranked_gor(arena, sought, here) ? node.left : node.right;
    }
    return NK_OK;
}

static nk_status jet_by_get(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun key, tree, found;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_and_tree(machine, core, &key, &tree)) return NK_PUNT;
    nk_status status = seek(arena, tree, key, true, &found);
    if (status != NK_OK) return status;
    if (found == NK_NONE) return nk_answer(0, product);
    return nk_answer(nk_cons_try(arena, 0, nk_tail(arena, found)), product);
}

static nk_status has(struct nk_machine *machine, nk_noun core, bool map,
                     nk_noun *product) {
    nk_noun key, tree, found;
    if (!nk_sample_and_tree(machine, core, &key, &tree)) return NK_PUNT;
    nk_status status = seek(&machine->arena, tree, key, map, &found);
    if (status != NK_OK) return status;
    return nk_answer_bool(found != NK_NONE, product);
}
NK_JETS_OF_BOTH(jet_by_has, jet_in_has, has)

/* ---- put, gas ---- */

/* A node that was passed on the way down. */
struct step {
    nk_noun tree;
    struct nk_node node;
    uint32_t mug; /* of its key */
    bool left;    /* went */
};

/* Put [item] into *tree. On the way up [made] is what was made so far, and
 * [top] its node, taken apart; a node whose side stays what it was stays too. */
static nk_status put(struct nk_arena *arena, nk_noun *tree, nk_noun item, bool map) {
    struct step path[NK_TREE_DEPTH_MAX];
    size_t depth = 0;
    struct nk_ranked key = nk_rank(arena, map ? nk_head(arena, item) : item);
    struct nk_node top = {item, key.noun, 0, 0};
    nk_noun at = *tree, made = NK_NONE;
    while (at != 0) {
        struct step *step = &path[depth];
        struct nk_node *node = &step->node;
        if (depth == NK_TREE_DEPTH_MAX || !nk_node_take(arena, at, map, node))
            return NK_PUNT;
        struct nk_ranked here = nk_rank(arena, node->key);
        if (nk_ranked_equal(arena, key, here)) {
            top.left = node->left;
            top.right = node->right;
            if (!map ||
                nk_equal(arena, nk_tail(arena, item), nk_tail(arena, node->item))) {
                top.item = node->item;
                made = at;
            }
            break;
        }
        step->tree = at;
        step->mug = here.mug;
        step->left = nk_ranked_gor(arena, key, here);
        at = step->left ? node->left : node->right;
        depth++;
    }
    if (made == NK_NONE) made = nk_node_make(arena, item, top.left, top.right);
    uint32_t top_mor = nk_murmur_direct(key.mug);
    while (depth-- > 0 && made != NK_NONE) {
        struct step *step = &path[depth];
        struct nk_node *node = &step->node;
        uint32_t mor = nk_murmur_direct(step->mug);
        nk_noun *side = step->left ? &node->left : &node->right;
        if (mor == top_mor ? nk_dor(arena, node->key, top.key) : mor < top_mor) {
            bool same = *side == made;
            *side = made;
            made = same ? step->tree
                        : nk_node_make(arena, node->item, node->left, node->right);
            top = *node;
            top_mor = mor;
            continue;
        }
        nk_noun *inner = step->left ? &top.right : &top.left;
        *side = *inner;
        *inner = nk_node_make(arena, node->item, node->left, node->right);
        if (*inner == NK_NONE) return NK_MEME;
        made = nk_node_make(arena, top.item, top.left, top.right);
    }
    *tree = made;
    return made == NK_NONE ? NK_MEME : NK_OK;
}

static nk_status jet_by_put(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun item, tree;
    if (!nk_sample_and_tree(machine, core, &item, &tree) || nk_is_atom(item)) {
        return NK_PUNT;
    }
    nk_status status = put(&machine->arena, &tree, item, true);
    return status != NK_OK ? status : nk_answer(tree, product);
}
static nk_status jet_in_put(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun item, tree;
    if (!nk_sample_and_tree(machine, core, &item, &tree)) return NK_PUNT;
    nk_status status = put(&machine->arena, &tree, item, false);
    return status != NK_OK ? status : nk_answer(tree, product);
}

static nk_status gas(struct nk_machine *machine, nk_noun core, bool map,
                     nk_noun *product) {
    nk_noun list, tree;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_and_tree(machine, core, &list, &tree)) return NK_PUNT;
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun item = nk_head(arena, list);
        if (map && nk_is_atom(item)) return NK_PUNT;
        nk_status status = put(arena, &tree, item, map);
        if (status != NK_OK) return status;
    }
    return list == 0 ? nk_answer(tree, product) : NK_PUNT;
}
NK_JETS_OF_BOTH(jet_by_gas, jet_in_gas, gas)

/* ---- del ---- */

/* Both halves of a node that goes, as one tree. */
static nk_status join(struct nk_arena *arena, nk_noun a, nk_noun b, bool map,
                      nk_noun *joined) {
    nk_noun *hole = joined;
    for (size_t depth = 0; a != 0 && b != 0; depth++) {
        struct nk_node l, r;
        if (depth == NK_TREE_DEPTH_MAX) return NK_PUNT;
        if (!nk_node_take(arena, a, map, &l) || !nk_node_take(arena, b, map, &r))
            return NK_PUNT;
        bool first = nk_mor(arena, l.key, r.key);
        nk_noun made = first ? nk_node_make(arena, l.item, l.left, 0)
                             : nk_node_make(arena, r.item, 0, r.right);
        if (made == NK_NONE) return NK_MEME;
        *hole = made;
        struct nk_cell *sides = nk_cell_at(arena, nk_tail(arena, made));
        hole = first ? &sides->tail : &sides->head;
        if (first) {
            a = l.right;
        } else {
            b = r.left;
        }
    }
    *hole = a == 0 ? b : a;
    return NK_OK;
}

static nk_status del(struct nk_machine *machine, nk_noun core, bool map,
                     nk_noun *product) {
    nk_noun key, tree, result = 0, *hole = &result;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_and_tree(machine, core, &key, &tree)) return NK_PUNT;
    struct nk_ranked sought = nk_rank(arena, key);
    for (size_t depth = 0; tree != 0; depth++) {
        struct nk_node node;
        if (depth == NK_TREE_DEPTH_MAX || !nk_node_take(arena, tree, map, &node))
            return NK_PUNT;
        struct nk_ranked here = nk_rank(arena, node.key);
        if (nk_ranked_equal(arena, sought, here)) {
            nk_status status = join(arena, node.left, node.right, map, hole);
            if (status != NK_OK) return status;
            return nk_answer(result, product);
        }
        bool left = nk_ranked_gor(arena, sought, here);
        nk_noun made = nk_node_make(arena, node.item, node.left, node.right);
        if (made == NK_NONE) return NK_MEME;
        *hole = made;
        struct nk_cell *sides = nk_cell_at(arena, nk_tail(arena, made));
        hole = left ? &sides->head : &sides->tail;
        tree = left ? node.left : node.right;
    }
    *hole = 0;
    return nk_answer(result, product);
}
NK_JETS_OF_BOTH(jet_by_del, jet_in_del, del)

/* ---- tap, key, wyt ---- */

/* Visit in the order that tap conses: a node, what is left of it, what is
 * right. [visit] returns NK_OK or what ends it. */
typedef nk_status (*visit_fn)(struct nk_arena *arena, const struct nk_node *node,
                              bool map, nk_noun *state);

static nk_status each(struct nk_arena *arena, nk_noun tree, bool map, visit_fn visit,
                      nk_noun *state) {
    nk_noun waiting[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    for (;;) {
        struct nk_node node;
        if (tree == 0) {
            if (count == 0) return NK_OK;
            tree = waiting[--count];
            continue;
        }
        if (count == NK_TREE_DEPTH_MAX || !nk_node_take(arena, tree, map, &node))
            return NK_PUNT;
        nk_status status = visit(arena, &node, map, state);
        if (status != NK_OK) return status;
        waiting[count++] = node.right;
        tree = node.left;
    }
}

static nk_status visit_count(struct nk_arena *arena, const struct nk_node *node,
                             bool map, nk_noun *state) {
    (void)arena;
    (void)node;
    (void)map;
    ++*state;
    return NK_OK;
}

/* tap:  $(a r.a, b [n.a $(a l.a)]): what is left goes below its node. */
static nk_status jet_tap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct {
        nk_noun item, right;
    } waiting[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    nk_noun list, tree;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_and_tree(machine, core, &list, &tree)) return NK_PUNT;
    for (;;) {
        struct nk_node node;
        if (tree == 0) {
            if (count == 0) return nk_answer(list, product);
            list = nk_cons_try(arena, waiting[--count].item, list);
            if (list == NK_NONE) return NK_MEME;
            tree = waiting[count].right;
            continue;
        }
        if (count == NK_TREE_DEPTH_MAX || !nk_node_take(arena, tree, false, &node))
            return NK_PUNT;
        waiting[count].item = node.item;
        waiting[count++].right = node.right;
        tree = node.left;
    }
}
static nk_status visit_key(struct nk_arena *arena, const struct nk_node *node, bool map,
                           nk_noun *state) {
    (void)map;
    return put(arena, state, node->key, false);
}

/* ++  key:by: its state is the set so far. */
static nk_status jet_by_key(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun set, tree;
    if (!nk_sample_and_tree(machine, core, &set, &tree)) return NK_PUNT;
    nk_status status = each(&machine->arena, tree, true, visit_key, &set);
    return status != NK_OK ? status : nk_answer(set, product);
}

/* ++  wyt: a trap right in the door. */
static nk_status jet_wyt(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun tree = nk_slot(&machine->arena, core, 14), count = 0;
    if (tree == NK_NONE) return NK_PUNT;
    nk_status status = each(&machine->arena, tree, false, visit_count, &count);
    return status != NK_OK ? status : nk_answer(count, product);
}

/* ---- uni ---- */

/* What is to be done with the union that was just made. */
enum then {
    THEN_RIGHT, /* of equal keys: it is the left side; go on with the right */
    THEN_BUILD, /* it is the right side */
    THEN_AL,    /* it is a's left side; go on with a and the rest */
    THEN_AR,
    THEN_BL, /* it is b's */
    THEN_BR
};
struct frame {
    enum then then;
    nk_noun item, other, rest, side;
};

nk_status nk_tree_uni(struct nk_arena *arena, nk_noun a, nk_noun b, bool map,
                      nk_noun *product) {
    struct frame stack[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    for (;;) {
        struct nk_node x, y;
        nk_noun made;
        if (a != 0 && b != 0) {
            if (count == NK_TREE_DEPTH_MAX) return NK_PUNT;
            if (!nk_node_take(arena, a, map, &x) || !nk_node_take(arena, b, map, &y))
                return NK_PUNT;
            struct frame *frame = &stack[count++];
            struct nk_ranked p = nk_rank(arena, x.key), q = nk_rank(arena, y.key);
            if (nk_ranked_equal(arena, q, p)) {
                *frame = (struct frame){THEN_RIGHT, y.item, x.right, y.right, 0};
                a = x.left;
                b = y.left;
            } else if (nk_ranked_mor(arena, p, q)) {
                if (nk_ranked_gor(arena, q, p)) {
                    *frame = (struct frame){THEN_AL, x.item, x.right, y.right, 0};
                    a = x.left;
                    b = nk_node_make(arena, y.item, y.left, 0);
                } else {
                    *frame = (struct frame){THEN_AR, x.item, x.left, y.left, 0};
                    a = x.right;
                    b = nk_node_make(arena, y.item, 0, y.right);
                }
            } else if (nk_ranked_gor(arena, p, q)) {
                *frame = (struct frame){THEN_BL, y.item, y.right, x.right, 0};
                b = y.left;
                a = nk_node_make(arena, x.item, x.left, 0);
            } else {
                *frame = (struct frame){THEN_BR, y.item, y.left, x.left, 0};
                b = y.right;
                a = nk_node_make(arena, x.item, 0, x.right);
            }
            if (a == NK_NONE || b == NK_NONE) return NK_MEME;
            continue;
        }
        made = b == 0 ? a : b;
        while (count > 0 && stack[count - 1].then == THEN_BUILD) {
            const struct frame *frame = &stack[--count];
            made = nk_node_make(arena, frame->item, frame->side, made);
            if (made == NK_NONE) return NK_MEME;
        }
        if (count == 0) return nk_answer(made, product);
        struct frame *frame = &stack[count - 1];
        switch (frame->then) {
        case THEN_RIGHT:
            a = frame->other;
            b = frame->rest;
            frame->side = made;
            frame->then = THEN_BUILD;
            continue;
        case THEN_AL:
            a = nk_node_make(arena, frame->item, made, frame->other);
            b = frame->rest;
            break;
        case THEN_AR:
            a = nk_node_make(arena, frame->item, frame->other, made);
            b = frame->rest;
            break;
        case THEN_BL:
            b = nk_node_make(arena, frame->item, made, frame->other);
            a = frame->rest;
            break;
        case THEN_BR:
        case THEN_BUILD:
            b = nk_node_make(arena, frame->item, frame->other, made);
            a = frame->rest;
            break;
        }
        if (a == NK_NONE || b == NK_NONE) return NK_MEME;
        count--;
    }
}

nk_status nk_set_put(struct nk_arena *arena, nk_noun *set, nk_noun item) {
    return put(arena, set, item, false);
}
nk_status nk_map_put(struct nk_arena *arena, nk_noun *map, nk_noun item) {
    return put(arena, map, item, true);
}

/* Where an operand is no tree at all, equal ones are still their own union. */
static nk_status jet_by_uni(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_and_tree(machine, core, &b, &a)) return NK_PUNT;
    return nk_tree_uni(&machine->arena, a, b, true, product);
}
static nk_status jet_in_uni(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_and_tree(machine, core, &b, &a)) return NK_PUNT;
    if (nk_equal(&machine->arena, a, b)) return nk_answer(a, product);
    return nk_tree_uni(&machine->arena, a, b, false, product);
}

/* ---- arms that call a gate ---- */

/* Every node, before what is left of it, before what is right; [waiting] is a
 * stack of right sides. [value]: an axis of the node. */
#define WALK(value)                                                                    \
    "      ld tree core 30\n"                                                          \
    "      ld gate core 6\n"                                                           \
    "      ldk waiting 0\n"                                                            \
    "next: jnek tree 0 node\n"                                                         \
    "      jatom waiting end\n"                                                        \
    "      ld tree waiting 2\n"                                                        \
    "      ld waiting waiting 3\n"                                                     \
    "      jmp next\n"                                                                 \
    "node: ld value tree " value "\n"
#define WALK_ON                                                                        \
    "      ld right tree 7\n"                                                          \
    "      ld tree tree 6\n"                                                           \
    "      cons waiting right waiting\n"                                               \
    "      jmp next\n"

#define ALL(value)                                                                     \
    WALK(value)                                                                        \
    "      slam gate value -> product\n"                                               \
    "      jtest product no\n" WALK_ON "no:   retk 1\n"                                \
    "end:  retk 0\n"
#define ANY(value)                                                                     \
    WALK(value)                                                                        \
    "      slam gate value -> product\n"                                               \
    "      jtest product on\n"                                                         \
    "      retk 0\n"                                                                   \
    "on:\n" WALK_ON "end:  retk 1\n"

/* The gate's sample at 13 is what begins. */
static const char rep[] =
    "      ld gate core 6\n"
    "      ld state gate 13\n" WALK("2") "      cons pair value state\n"
                                         "      slam gate pair -> state\n" WALK_ON
                                         "end:  ret state\n";

static const char in_run[] =
    "      ldk set 0\n" WALK("2") "      slam gate value -> product\n"
                                  "      do set_put set set product\n" WALK_ON
                                  "end:  ret set\n";

/* A map with other values. [stack] holds what waits: [0 item right] for the
 * left side to be made, [1 item left] for the right one. [sample]: the axis
 * of a node that the gate is called with. */
#define MAP(sample)                                                                    \
    "      ld tree core 30\n"                                                          \
    "      ld gate core 6\n"                                                           \
    "      ldk stack 0\n"                                                              \
    "down: jnek tree 0 node\n"                                                         \
    "      ldk made 0\n"                                                               \
    "up:   jatom stack end\n"                                                          \
    "      ld frame stack 2\n"                                                         \
    "      ld stack stack 3\n"                                                         \
    "      ld which frame 2\n"                                                         \
    "      ld item frame 6\n"                                                          \
    "      ld side frame 7\n"                                                          \
    "      jnek which 0 join\n"                                                        \
    "      move tree side\n"                                                           \
    "      ldk which 1\n"                                                              \
    "      cons frame item made\n"                                                     \
    "      cons frame which frame\n"                                                   \
    "      cons stack frame stack\n"                                                   \
    "      jmp down\n"                                                                 \
    "join: cons made side made\n"                                                      \
    "      cons made item made\n"                                                      \
    "      jmp up\n"                                                                   \
    "node: ld key tree 4\n"                                                            \
    "      ld sample tree " sample "\n"                                                \
    "      slam gate sample -> item\n"                                                 \
    "      cons item key item\n"                                                       \
    "      ld side tree 7\n"                                                           \
    "      ld tree tree 6\n"                                                           \
    "      ldk which 0\n"                                                              \
    "      cons frame item side\n"                                                     \
    "      cons frame which frame\n"                                                   \
    "      cons stack frame stack\n"                                                   \
    "      jmp down\n"                                                                 \
    "end:  ret made\n"

/* [key gate]: one value made anew. [stack]: the nodes above, and on which side
 * of each, 0 for left, it is. */
static const char jab[] = "       ld key core 12\n"
                          "       ld tree core 30\n"
                          "       ldk stack 0\n"
                          "down:  ld name tree 4\n"
                          "       jne key name seek\n"
                          "       ld gate core 13\n"
                          "       ld value tree 5\n"
                          "       slam gate value -> value\n"
                          "       cons item name value\n"
                          "       edit2 made tree item\n"
                          "up:    jatom stack end\n"
                          "       ld frame stack 2\n"
                          "       ld stack stack 3\n"
                          "       ld side frame 2\n"
                          "       ld node frame 3\n"
                          "       jtest side right\n"
                          "       edit6 made node made\n"
                          "       jmp up\n"
                          "right: edit7 made node made\n"
                          "       jmp up\n"
                          "seek:  do gor side key name\n"
                          "       cons frame side tree\n"
                          "       cons stack frame stack\n"
                          "       jtest side after\n"
                          "       ld tree tree 6\n"
                          "       jmp down\n"
                          "after: ld tree tree 7\n"
                          "       jmp down\n"
                          "end:   ret made\n";

nk_status nk_help_gor(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                      nk_noun *product) {
    (void)c;
    return nk_answer_bool(nk_gor(&machine->arena, a, b), product);
}

nk_status nk_help_set_put(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                          nk_noun *product) {
    (void)c;
    *product = a;
    return nk_set_put(&machine->arena, product, b);
}

const struct nk_arm nk_arms_maps[] = {NK_ARM("two/by/del", jet_by_del),
                                      NK_ARM("two/by/gas", jet_by_gas),
                                      NK_ARM("two/by/get", jet_by_get),
                                      NK_ARM("two/by/has", jet_by_has),
                                      NK_ARM("two/by/key", jet_by_key),
                                      NK_ARM("two/by/put", jet_by_put),
                                      NK_ARM("two/by/tap", jet_tap),
                                      NK_ARM("two/by/uni", jet_by_uni),
                                      NK_ARM("two/by/wyt", jet_wyt),
                                      NK_ARM("two/in/del", jet_in_del),
                                      NK_ARM("two/in/gas", jet_in_gas),
                                      NK_ARM("two/in/has", jet_in_has),
                                      NK_ARM("two/in/put", jet_in_put),
                                      NK_ARM("two/in/tap", jet_tap),
                                      NK_ARM("two/in/uni", jet_in_uni),
                                      NK_ARM("two/in/wyt", jet_wyt),
                                      NK_ARM_PROGRAM("two/by/all", ALL("5")),
                                      NK_ARM_PROGRAM("two/by/any", ANY("5")),
                                      NK_ARM_PROGRAM("two/by/jab", jab),
                                      NK_ARM_PROGRAM("two/by/rep", rep),
                                      NK_ARM_PROGRAM("two/by/run", MAP("5")),
                                      NK_ARM_PROGRAM("two/by/urn", MAP("2")),
                                      NK_ARM_PROGRAM("two/in/all", ALL("2")),
                                      NK_ARM_PROGRAM("two/in/any", ANY("2")),
                                      NK_ARM_PROGRAM("two/in/rep", rep),
                                      NK_ARM_PROGRAM("two/in/run", in_run),
                                      NK_ARMS_END};
