/* The trees that sets and maps are: sorted by gor, heaped by mor. */
#ifndef NK_JETS_TREAP_H
#define NK_JETS_TREAP_H

#include "order.h"

/* Deeper than any honest tree: what is deeper declines. */
#define NK_TREE_DEPTH_MAX 512u

/* A node, taken apart. The key of a map's item is its head. */
struct nk_node {
    nk_noun item, key, left, right;
};

/* False where [tree], which is not 0, is no node. */
static inline bool nk_node_take(const struct nk_arena *arena, nk_noun tree, bool map,
                                struct nk_node *node) {
    if (!nk_is_cell(tree) || !nk_is_cell(nk_tail(arena, tree))) return false;
    node->item = node->key = nk_head(arena, tree);
    if (map) {
        if (!nk_is_cell(node->item)) return false;
        node->key = nk_head(arena, node->item);
    }
    node->left = nk_head(arena, nk_tail(arena, tree));
    node->right = nk_tail(arena, nk_tail(arena, tree));
    return true;
}

static inline nk_noun nk_node_make(struct nk_arena *arena, nk_noun item, nk_noun left,
                                   nk_noun right) {
    nk_noun pair = nk_cons_try(arena, left, right);
    return pair == NK_NONE ? NK_NONE : nk_cons_try(arena, item, pair);
}

/* An arm's sample, or a trap's state, and the tree of the door around it. */
static inline bool nk_sample_and_tree(const struct nk_machine *machine, nk_noun core,
                                      nk_noun *sample, nk_noun *tree) {
    *tree = nk_slot(&machine->arena, core, 30);
    return *tree != NK_NONE && nk_sample(machine, core, sample);
}

/* The jets of by and of in, from what is the same in both. */
#define NK_JETS_OF_BOTH(by, in, both)                                                  \
    static nk_status by(struct nk_machine *machine, nk_noun core, nk_noun *product) {  \
        return both(machine, core, true, product);                                     \
    }                                                                                  \
    static nk_status in(struct nk_machine *machine, nk_noun core, nk_noun *product) {  \
        return both(machine, core, false, product);                                    \
    }

/* maps.c */
nk_status nk_set_put(struct nk_arena *arena, nk_noun *set, nk_noun item);
nk_status nk_map_put(struct nk_arena *arena, nk_noun *map, nk_noun item);
nk_status nk_tree_uni(struct nk_arena *arena, nk_noun a, nk_noun b, bool map,
                      nk_noun *product);

#endif
