/* The shortest decimal that rounds to a number (drg:cofl). */
#ifndef NK_JETS_ROUNDING_H
#define NK_JETS_ROUNDING_H

#include <stddef.h>
#include <stdint.h>

/* Room for the digits of up to 128 bits of precision, with a zero behind. */
#define NK_DECIMAL_SIZE 48

/* Of words * 2^e, not 0, in a format of this precision and least exponent:
 * the digits in [out], their count, and the power of ten of the last one. */
size_t nk_decimal_shortest(int64_t precision, int64_t exponent_min, uint64_t words[2],
                           int64_t e, char *out, int64_t *exponent);

#endif
