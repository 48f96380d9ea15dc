/* What jets need to read a gate's sample, to know which Hoon it is, and to
 * answer. */
#ifndef NK_JETS_SAMPLE_H
#define NK_JETS_SAMPLE_H

#include "../atom.h"
#include "../jet.h"

#define NK_ARM(path, jet) {path, jet, NULL, NULL}
#define NK_ARM_PROGRAM(path, program) {path, NULL, program, NULL}
#define NK_ARMS_END {NULL, NULL, NULL, NULL}

/* The sample of a gate. False where the core is none: decline. */
static inline bool nk_sample(const struct nk_machine *machine, nk_noun core,
                             nk_noun *sample) {
    *sample = nk_slot(&machine->arena, core, 6);
    return *sample != NK_NONE;
}

/* A sample [a b]. */
static inline bool nk_sample_two(const struct nk_machine *machine, nk_noun core,
                                 nk_noun *a, nk_noun *b) {
    nk_noun sample;
    if (!nk_sample(machine, core, &sample) || !nk_is_cell(sample)) return false;
    *a = nk_head(&machine->arena, sample);
    *b = nk_tail(&machine->arena, sample);
    return true;
}

static inline bool nk_sample_atoms(const struct nk_machine *machine, nk_noun core,
                                   nk_noun *a, nk_noun *b) {
    return nk_sample_two(machine, core, a, b) && nk_is_atom(*a) && nk_is_atom(*b);
}

/* The kelvin that a gate of a layer lives under: the payload at the end of
 * the layers; 0: none whose Hoon we know (decline). What lies between 138 and
 * 135 is taken for the same where these two are. */
static inline nk_noun nk_kelvin(const struct nk_machine *machine, nk_noun core) {
    nk_noun layer = nk_slot(&machine->arena, core, 7);
    for (unsigned i = 0; i < 8 && layer != NK_NONE && nk_is_cell(layer); i++)
        layer = nk_tail(&machine->arena, layer);
    return layer >= 135 && layer <= 138 ? layer : 0;
}

static inline nk_status nk_answer(nk_noun noun, nk_noun *product) {
    *product = noun;
    return noun == NK_NONE ? NK_MEME : NK_OK;
}

static inline nk_status nk_answer_bool(bool yes, nk_noun *product) {
    *product = yes ? 0 : 1;
    return NK_OK;
}

#endif
