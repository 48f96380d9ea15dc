/* Count a noun: cells, atoms, depth; distinct and as a tree.
 *
 * For tools. Linear in distinct boxes, whatever the sharing; recursion-free.
 * Counts boxes, so a noun has to be maximally shared for "distinct" to be
 * true: cue a canonical jam.
 */
#ifndef NK_SURVEY_H
#define NK_SURVEY_H

#include "nursery.h"

struct nk_survey {
    uint64_t cells_distinct;
    uint64_t atoms_distinct;
    uint64_t cells_tree; /* saturates */
    uint64_t atoms_tree; /* saturates */
    uint64_t depth;      /* 0 for an atom */
};

void nk_survey_count(const struct nk_arena *arena, nk_noun n, struct nk_survey *survey);

#endif
