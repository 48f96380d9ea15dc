/* Layer qua: text. Only what is exact is here; the rest declines. */
#include "sample.h"

#include <gmp.h>
#include <stdlib.h>
#include <string.h>

#include "../cord.h"

/* Decimal digits, a dot before every group of three but the first. The
 * digits come in GMP's own values 0..9. */
static nk_noun tape_of_digits(struct nk_arena *arena, const unsigned char *digits,
                              size_t count) {
    nk_noun tape = 0;
    for (size_t i = 0; i < count && tape != NK_NONE; i++) {
        if (i > 0 && i % 3 == 0) tape = nk_cons_try(arena, '.', tape);
        if (tape == NK_NONE) break;
        tape = nk_cons_try(arena, '0' + (nk_noun)digits[count - 1 - i], tape);
    }
    return tape;
}

/* ++  scow: of [%ud number]; other auras decline. */
static nk_status jet_scow(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun aura, number;
    if (!nk_sample_atoms(machine, core, &aura, &number)) return NK_PUNT;
    if (aura != NK_CORD_2('u', 'd')) return NK_PUNT;
    uint64_t scratch;
    struct nk_words words = nk_atom_words(arena, number, &scratch);
    if (words.count == 0) return nk_answer(nk_cons_try(arena, '0', 0), product);
    /* mpn_get_str destroys its input and may write one digit more. */
    mp_limb_t *copy = malloc(words.count * sizeof *copy);
    unsigned char *digits = malloc(words.count * 20 + 2);
    NK_ASSERT(copy != NULL && digits != NULL);
    memcpy(copy, words.data, words.count * sizeof *copy);
    size_t count = mpn_get_str(digits, 10, copy, (mp_size_t)words.count), zeros = 0;
    while (zeros + 1 < count && digits[zeros] == 0)
        zeros++;
    nk_noun tape = tape_of_digits(arena, digits + zeros, count - zeros);
    free(copy);
    free(digits);
    return nk_answer(tape, product);
}

const struct nk_arm nk_arms_text[] = {NK_ARM("qua/scow", jet_scow), NK_ARMS_END};
