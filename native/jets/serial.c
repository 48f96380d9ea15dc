/* Layer two: jam and cue, and the lengths within. */
#include "sample.h"

#include <string.h>

static nk_status jet_jam(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    const uint8_t *bytes;
    size_t size;
    if (!nk_sample(machine, core, &a)) return NK_PUNT;
    nk_status status = nk_jam(machine->jammer, &machine->arena, a, &bytes, &size);
    if (status != NK_OK) return status;
    return nk_answer(nk_atom_from_bytes(&machine->arena, bytes, size), product);
}

/* ++  cue: what is not a jam crashes; what is too wide is out of memory. */
static nk_status jet_cue(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    uint64_t scratch;
    const char *why = NULL;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    struct nk_words words = nk_atom_words(arena, a, &scratch);
    const uint8_t *bytes = (const uint8_t *)words.data;
    nk_status status =
        nk_cue(machine->jammer, arena, bytes, nk_atom_size(arena, a), product, &why);
    if (status != NK_BAD) return status;
    return why != NULL && strncmp(why, "meme", 4) == 0 ? NK_MEME : NK_EXIT;
}

/* ++  mat: [length bits]: k zeros, a one, the low k-1 bits of the length m,
 * the m bits of a. */
static nk_status jet_mat(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, body, head;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a == 0) return nk_answer(nk_cons_try(arena, 1, 1), product);
    uint64_t m = nk_atom_bits(arena, a);
    uint64_t k = 64 - (uint64_t)__builtin_clzll(m);
    nk_status status = nk_atom_shift_left(arena, a, 2 * k, &body);
    if (status != NK_OK) return status;
    uint64_t low = m & ((1ull << (k - 1)) - 1);
    status = nk_atom_shift_left(arena, 1 | low << 1, k, &head);
    if (status == NK_OK) status = nk_atom_logic(arena, NK_OR, head, body, &body);
    if (status != NK_OK) return status;
    return nk_answer(nk_cons_try(arena, 2 * k + m, body), product);
}

/* ++  rub: the inverse at bit a of b: [length value]. Too many zeros crash;
 * a length beyond 63 bits: decline. */
static nk_status jet_rub(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b, value;
    struct nk_arena *arena = &machine->arena;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    uint64_t bits = nk_atom_bits(arena, b), k = 0, scratch;
    if (!nk_is_direct(a) || a > UINT64_MAX / 4) return NK_PUNT;
    struct nk_words words = nk_atom_words(arena, b, &scratch);
    while (a + k >= bits || (words.data[(a + k) / 64] >> ((a + k) % 64) & 1) == 0) {
        if (a + k >= bits || k > bits) return NK_EXIT;
        k++;
    }
    if (k > 62) return NK_PUNT;
    if (k == 0) return nk_answer(nk_cons_try(arena, 1, 0), product);
    uint64_t at = a + k + 1;
    nk_status status = nk_atom_cut(arena, b, at, k - 1, &value);
    if (status != NK_OK) return status;
    uint64_t length = (1ull << (k - 1)) + value;
    status = nk_atom_cut(arena, b, at + k - 1, length, &value);
    if (status != NK_OK) return status;
    return nk_answer(nk_cons_try(arena, 2 * k + length, value), product);
}

const struct nk_arm nk_arms_serial[] = {
    NK_ARM("two/jam", jet_jam), NK_ARM("two/cue", jet_cue), NK_ARM("two/mat", jet_mat),
    NK_ARM("two/rub", jet_rub), NK_ARMS_END};
