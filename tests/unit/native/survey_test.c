/* units: noun nursery mug status survey */
#include "../../../native/survey.h"

#include "check.h"

int main(void) {
    struct nk_arena arena;
    struct nk_survey survey;
    CHECK(nk_arena_open(&arena, 0, 32u << 20) == NK_OK);

    nk_survey_count(&arena, 7, &survey);
    CHECK(survey.cells_tree == 0 && survey.atoms_tree == 1 && survey.depth == 0);
    CHECK(survey.cells_distinct == 0 && survey.atoms_distinct == 1);

    /* [1 2 1]: two cells, two atoms of three. */
    CHECK(nk_nursery_room(&arena, 2000000) == NK_OK);
    nk_noun n = nk_cons(&arena, 1, nk_cons(&arena, 2, 1));
    nk_survey_count(&arena, n, &survey);
    CHECK(survey.cells_tree == 2 && survey.cells_distinct == 2);
    CHECK(survey.atoms_tree == 3 && survey.atoms_distinct == 2);
    CHECK(survey.depth == 2);

    /* A tree of 2^k leaves in k cells; past 64 bits it saturates. */
    nk_noun tree = 0;
    for (int level = 1; level <= 70; level++) {
        tree = nk_cons(&arena, tree, tree);
        if (level == 40) {
            nk_survey_count(&arena, tree, &survey);
            CHECK(survey.atoms_tree == 1ull << 40);
            CHECK(survey.cells_tree == (1ull << 40) - 1);
            CHECK(survey.cells_distinct == 40 && survey.atoms_distinct == 1);
        }
    }
    nk_survey_count(&arena, tree, &survey);
    CHECK(survey.atoms_tree == UINT64_MAX && survey.cells_tree == UINT64_MAX);
    CHECK(survey.depth == 70 && survey.cells_distinct == 70);

    /* Deep either way: no recursion. */
    nk_noun left = 0;
    nk_noun right = 0;
    for (uint64_t level = 0; level < 200000; level++) {
        left = nk_cons(&arena, left, level);
        right = nk_cons(&arena, level, right);
    }
    nk_survey_count(&arena, left, &survey);
    CHECK(survey.depth == 200000 && survey.atoms_tree == 200001);
    CHECK(survey.atoms_distinct == 200000);
    nk_survey_count(&arena, right, &survey);
    CHECK(survey.depth == 200000 && survey.cells_tree == 200000);
    nk_arena_close(&arena);
    return 0;
}
