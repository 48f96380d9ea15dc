/* Base58check, with a checksum for at least 21 bytes (fa). */
#ifndef NK_JETS_BASE58_H
#define NK_JETS_BASE58_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that a number is padded to. */
#define NK_BASE58_BYTES 21u

extern const char nk_base58_digits[58];

/* The digit's value; 58: it is none. */
unsigned nk_base58_value(unsigned char c);

/* ++  tok: of a number of [size] bytes, the lowest first. */
uint32_t nk_base58_sum(const uint8_t *bytes, size_t size);

#endif
