/* Layer two: sets (in) and maps (by) as wholes: apt, bif, dif, int.
 *
 * Each takes the steps of its Hoon, so that trees in no order give what they
 * give there; what is no tree, or is deeper than any honest one, declines.
 * The arms for single items are in maps.c. Nothing recurses. */
#include "treap.h"

/* ---- apt: is it in order? ---- */

/* A subtree, the key above it, and those that it lies between. NK_NONE: there
 * is none. */
struct range {
    nk_noun tree, parent, left, right;
};

/* May [key] stand there? */
static bool is_in_order(struct nk_arena *arena, const struct range *range,
                        nk_noun key) {
    nk_noun parent = range->parent, left = range->left, right = range->right;
    if (parent != NK_NONE &&
        (!nk_mor(arena, parent, key) || nk_equal(arena, parent, key))) {
        return false;
    }
    if (left != NK_NONE && (!nk_gor(arena, key, left) || nk_equal(arena, key, left))) {
        return false;
    }
    return right == NK_NONE ||
           (nk_gor(arena, right, key) && !nk_equal(arena, right, key));
}

/* A unit in the trap's state. */
static bool is_bound(const struct nk_arena *arena, nk_noun unit, nk_noun *key) {
    if (nk_is_atom(unit)) {
        *key = NK_NONE;
        return unit == 0;
    }
    *key = nk_tail(arena, unit);
    return true;
}

/* In the Hoon's order: it stops at what is out of order, and may so never see
 * what is no tree. */
static nk_status apt(struct nk_machine *machine, nk_noun core, bool map,
                     nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct range waiting[NK_TREE_DEPTH_MAX];
    size_t count = 1;
    nk_noun state, tree, left, right;
    if (!nk_sample_and_tree(machine, core, &state, &tree)) return NK_PUNT;
    if (nk_is_atom(state) || !is_bound(arena, nk_head(arena, state), &left) ||
        !is_bound(arena, nk_tail(arena, state), &right)) {
        return NK_PUNT;
    }
    waiting[0] = (struct range){tree, NK_NONE, left, right};
    while (count > 0) {
        struct range range = waiting[--count];
        struct nk_node node;
        if (range.tree == 0) continue;
        if (!nk_node_take(arena, range.tree, map, &node)) return NK_PUNT;
        if (!is_in_order(arena, &range, node.key))
            return nk_answer_bool(false, product);
        if (count + 2 > NK_TREE_DEPTH_MAX) return NK_PUNT;
        /* What lies left of a key has it as its left bound: so the Hoon says. */
        waiting[count++] = (struct range){node.right, node.key, range.left, node.key};
        waiting[count++] = (struct range){node.left, node.key, node.key, range.right};
    }
    return nk_answer_bool(true, product);
}
NK_JETS_OF_BOTH(jet_by_apt, jet_in_apt, apt)

/* ---- split and join ---- */

/* Nodes that were passed on the way down: one side of each stays as it was,
 * the other is what comes back. */
struct step {
    nk_noun item, kept;
    bool left; /* went */
};

/* What of [tree] is left of [key], and what is right of it. */
static nk_status split(struct nk_arena *arena, nk_noun tree, nk_noun key, bool map,
                       nk_noun *left, nk_noun *right) {
    struct step path[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    struct nk_ranked sought = nk_rank(arena, key);
    *left = *right = 0;
    while (tree != 0) {
        struct nk_node node;
        if (count == NK_TREE_DEPTH_MAX || !nk_node_take(arena, tree, map, &node)) {
            return NK_PUNT;
        }
        struct nk_ranked here = nk_rank(arena, node.key);
        if (nk_ranked_equal(arena, sought, here)) {
            *left = node.left;
            *right = node.right;
            break;
        }
        bool went = nk_ranked_gor(arena, sought, here);
        path[count++] = (struct step){node.item, went ? node.right : node.left, went};
        tree = went ? node.left : node.right;
    }
    while (count-- > 0) {
        const struct step *step = &path[count];
        nk_noun *side = step->left ? right : left;
        *side = step->left ? nk_node_make(arena, step->item, *side, step->kept)
                           : nk_node_make(arena, step->item, step->kept, *side);
        if (*side == NK_NONE) return NK_MEME;
    }
    return NK_OK;
}

/* One tree of two, of which one is left of the other. */
static nk_status join(struct nk_arena *arena, nk_noun a, nk_noun b, bool map,
                      nk_noun *product) {
    struct step path[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    while (a != 0 && b != 0) {
        struct nk_node x, y;
        if (count == NK_TREE_DEPTH_MAX) return NK_PUNT;
        if (!nk_node_take(arena, a, map, &x) || !nk_node_take(arena, b, map, &y)) {
            return NK_PUNT;
        }
        if (nk_mor(arena, x.key, y.key)) {
            path[count++] = (struct step){x.item, x.left, false};
            a = x.right;
        } else {
            path[count++] = (struct step){y.item, y.right, true};
            b = y.left;
        }
    }
    nk_noun made = a == 0 ? b : a;
    while (count-- > 0 && made != NK_NONE) {
        const struct step *step = &path[count];
        made = step->left ? nk_node_make(arena, step->item, made, step->kept)
                          : nk_node_make(arena, step->item, step->kept, made);
    }
    return nk_answer(made, product);
}

static nk_status bif(struct nk_machine *machine, nk_noun core, bool map,
                     nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun key, tree, left, right;
    if (!nk_sample_and_tree(machine, core, &key, &tree)) return NK_PUNT;
    nk_status status = split(arena, tree, key, map, &left, &right);
    return status != NK_OK ? status
                           : nk_answer(nk_cons_try(arena, left, right), product);
}
NK_JETS_OF_BOTH(jet_by_bif, jet_in_bif, bif)

/* ---- dif and int ---- */

/* A product in two halves: the left one is being made, or stands in [made]
 * while the right one, of [a] and [b], is. Then both are joined, united, or
 * the sides of a node of [item]. */
struct frame {
    enum { JOIN, UNITE, BUILD } how;
    bool right;
    nk_noun a, b, item, made;
};

static nk_status finish(struct nk_arena *arena, const struct frame *frame,
                        nk_noun right, bool map, nk_noun *product) {
    switch (frame->how) {
    case JOIN:
        return join(arena, frame->made, right, map, product);
    case UNITE:
        return nk_tree_uni(arena, frame->made, right, map, product);
    case BUILD:
        break;
    }
    return nk_answer(nk_node_make(arena, frame->item, frame->made, right), product);
}

/* [a] without the keys of [b]: each of those splits it. */
static nk_status part_dif(struct nk_arena *arena, nk_noun *a, nk_noun *b, bool map,
                          struct frame *frame) {
    struct nk_node y;
    nk_noun left, right;
    if (!nk_node_take(arena, *b, map, &y)) return NK_PUNT;
    nk_status status = split(arena, *a, y.key, map, &left, &right);
    *frame = (struct frame){JOIN, false, right, y.right, 0, 0};
    *a = left;
    *b = y.left;
    return status;
}

/* What both hold, the items of [b]: the lesser root, by mor, goes on with its
 * side where the other one lies. */
static nk_status part_int(struct nk_arena *arena, nk_noun *a, nk_noun *b, bool map,
                          struct frame *frame) {
    struct nk_node x, y;
    if (!nk_node_take(arena, *a, map, &x) || !nk_node_take(arena, *b, map, &y)) {
        return NK_PUNT;
    }
    struct nk_ranked p = nk_rank(arena, x.key), q = nk_rank(arena, y.key);
    if (nk_ranked_equal(arena, p, q)) {
        *frame = (struct frame){BUILD, false, x.right, y.right, y.item, 0};
        *a = x.left;
        *b = y.left;
    } else if (nk_ranked_mor(arena, p, q)) {
        bool left = nk_ranked_gor(arena, q, p);
        *frame = (struct frame){UNITE, false, *a, left ? y.right : y.left, 0, 0};
        *a = left ? x.left : x.right;
        *b = nk_node_make(arena, y.item, left ? y.left : 0, left ? 0 : y.right);
    } else {
        bool left = nk_ranked_gor(arena, p, q);
        *frame = (struct frame){UNITE, false, left ? x.right : x.left, *b, 0, 0};
        *b = left ? y.left : y.right;
        *a = nk_node_make(arena, x.item, left ? x.left : 0, left ? 0 : x.right);
    }
    return *a == NK_NONE || *b == NK_NONE ? NK_MEME : NK_OK;
}

static nk_status combine(struct nk_machine *machine, nk_noun core, bool common,
                         bool map, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct frame stack[NK_TREE_DEPTH_MAX];
    size_t count = 0;
    nk_noun a, b;
    if (!nk_sample_and_tree(machine, core, &b, &a)) return NK_PUNT;
    for (;;) {
        while (b != 0 && !(common && a == 0)) {
            if (count == NK_TREE_DEPTH_MAX) return NK_PUNT;
            struct frame *frame = &stack[count++];
            /* Where [a] is empty nothing is allocated, however often the same
             * nodes of [b] are met. */
            nk_status status = nk_arena_poll(arena);
            if (status == NK_OK) {
                status = common ? part_int(arena, &a, &b, map, frame)
                                : part_dif(arena, &a, &b, map, frame);
            }
            if (status != NK_OK) return status;
        }
        nk_noun made = common ? 0 : a;
        while (count > 0 && stack[count - 1].right) {
            nk_status status = finish(arena, &stack[--count], made, map, &made);
            if (status != NK_OK) return status;
        }
        if (count == 0) return nk_answer(made, product);
        struct frame *frame = &stack[count - 1];
        frame->made = made;
        frame->right = true;
        a = frame->a;
        b = frame->b;
    }
}
static nk_status jet_by_dif(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    return combine(machine, core, false, true, product);
}
static nk_status jet_in_dif(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    return combine(machine, core, false, false, product);
}
static nk_status jet_by_int(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    return combine(machine, core, true, true, product);
}
static nk_status jet_in_int(struct nk_machine *machine, nk_noun core,
                            nk_noun *product) {
    return combine(machine, core, true, false, product);
}

const struct nk_arm nk_arms_sets[] = {NK_ARM("two/by/apt", jet_by_apt),
                                      NK_ARM("two/by/bif", jet_by_bif),
                                      NK_ARM("two/by/dif", jet_by_dif),
                                      NK_ARM("two/by/int", jet_by_int),
                                      NK_ARM("two/in/apt", jet_in_apt),
                                      NK_ARM("two/in/bif", jet_in_bif),
                                      NK_ARM("two/in/dif", jet_in_dif),
                                      NK_ARM("two/in/int", jet_in_int),
                                      NK_ARMS_END};
