/* See base58.h: the addresses that @uc is for. SHA-256 by Nettle. */
#include "base58.h"

#include <nettle/sha2.h>
#include <string.h>

const char nk_base58_digits[58] =
    "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

unsigned nk_base58_value(unsigned char c) {
    const char *at = memchr(nk_base58_digits, c, sizeof nk_base58_digits);
    return at == NULL ? 58 : (unsigned)(at - nk_base58_digits);
}

/* The first four bytes of SHA-256 twice, of the highest byte first. */
uint32_t nk_base58_sum(const uint8_t *bytes, size_t size) {
    static const uint8_t zeros[NK_BASE58_BYTES];
    struct sha256_ctx context;
    uint8_t digest[SHA256_DIGEST_SIZE];
    nettle_sha256_init(&context);
    if (size < sizeof zeros) nettle_sha256_update(&context, sizeof zeros - size, zeros);
    for (size_t i = size; i-- > 0;)
        nettle_sha256_update(&context, 1, bytes + i);
    nettle_sha256_digest(&context, sizeof digest, digest);
    nettle_sha256_update(&context, sizeof digest, digest);
    nettle_sha256_digest(&context, sizeof digest, digest);
    return (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 |
           (uint32_t)digest[2] << 8 | digest[3];
}
