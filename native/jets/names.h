/* Phonetic names: syllables, and the cipher over planets. */
#ifndef NK_JETS_NAMES_H
#define NK_JETS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

/* Three letters of a byte: of a name's even bytes (the lowest is byte 0), or
 * of its odd ones. */
const char *nk_syllable(bool prefix, unsigned byte);

/* The byte of three letters; -1: there is none. */
int nk_syllable_byte(bool prefix, const unsigned char *letters);

/* ++  fein:ob and  ++  fynd:ob of what fits 64 bits; more stays as it is. */
uint64_t nk_ship_conceal(uint64_t ship);
uint64_t nk_ship_restore(uint64_t ship);

#endif
