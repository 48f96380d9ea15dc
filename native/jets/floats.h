/* Floats as text: of the aura's second letter, h, s, d or q. */
#ifndef NK_JETS_FLOATS_H
#define NK_JETS_FLOATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the text of any. */
#define NK_FLOAT_SIZE 64

bool nk_is_float(unsigned char form);

/* What stands behind the dot and tildes: 1.5, -inf, nan. Gives its size. */
size_t nk_float_print(unsigned char form, const uint64_t words[2], char *out);

/* The float nearest to a decimal (123e-4, inf, nan), with the sign. */
void nk_float_read(unsigned char form, bool minus, const char *decimal,
                   uint64_t words[2]);

#endif
