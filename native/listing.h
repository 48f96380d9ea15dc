/* Nouns and programs as text, for people.
 *
 * A noun is printed as Hoon would, without sugar: [1 2 3], %term where an
 * atom reads as one, 0x.. where it is large; what is beyond the limit is cut
 * short to "...". A program is printed one instruction a line.
 *
 * Nothing here recurses. Our own exhaustion is fatal.
 */
#ifndef NK_LISTING_H
#define NK_LISTING_H

#include "code.h"

struct nk_text {
    char *data; /* ends in a zero */
    size_t size, capacity;
};

void nk_text_put(struct nk_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void nk_text_free(struct nk_text *text);

/* About [limit] bytes of it. */
void nk_text_noun(struct nk_text *text, const struct nk_arena *arena, nk_noun noun,
                  size_t limit);

/* The name of an opcode. */
const char *nk_opcode_name(enum nk_opcode op);

/* One program. */
void nk_list_program(struct nk_text *text, const struct nk_arena *arena,
                     const struct nk_program *program);

/* The program of [formula], and those of the arms among its literals that
 * the programs listed so far may call: a kick at axis 2n or 2n + 1 below the
 * battery is tried on every literal. NK_EXIT: not a formula. */
nk_status nk_list_formula(struct nk_text *text, struct nk_code *code,
                          struct nk_arena *arena, nk_noun formula);

#endif
