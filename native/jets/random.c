/* Layer tri: `og`, random bits out of SHA-256. */
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "octets.h"

#define DIGEST SHA256_DIGEST_SIZE
#define BITS_MAX (1ull << 33)

static void digest_of(const uint8_t *bytes, size_t size, uint8_t out[DIGEST]) {
    struct sha256_ctx context;
    nettle_sha256_init(&context);
    nettle_sha256_update(&context, size, bytes);
    nettle_sha256_digest(&context, DIGEST, out);
}

/* ++  shas, of the bytes without their leading (highest) zeros. */
static void salted(const char *salt, const uint8_t *bytes, size_t size,
                   uint8_t out[DIGEST]) {
    uint8_t mixed[DIGEST];
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    digest_of(bytes, size, mixed);
    for (size_t i = 0; salt[i] != 0; i++)
        mixed[i] ^= (uint8_t)salt[i];
    digest_of(mixed, DIGEST, out);
}

/* ++  raw: [count] bits. Each digest is salted with the last one, the door's
 * sample and the bits that are still wanted. */
static nk_status jet_raw(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct nk_octets seed;
    nk_noun count, door = nk_slot(arena, core, 30);
    if (door == NK_NONE || nk_is_cell(door)) return NK_PUNT;
    if (!nk_sample(machine, core, &count) || count > BITS_MAX) return NK_PUNT;
    size_t bytes = (size_t)((count + 7) / 8), room = bytes + DIGEST;
    if (bytes / 8 > arena->limit - arena->top) return NK_MEME;
    nk_octets_of(arena, door, &seed);
    size_t size = (size_t)seed.size < DIGEST ? DIGEST : (size_t)seed.size;
    uint8_t *mixed = malloc(size), *out = malloc(room), last[DIGEST] = {0};
    NK_ASSERT(mixed != NULL && out != NULL);
    nk_status status = NK_OK;
    size_t done = 0;
    for (bool first = true; first || done < bytes; first = false) {
        uint64_t left = count - 8 * (uint64_t)done;
        memset(mixed, 0, size);
        if (seed.size > 0) memcpy(mixed, seed.data, seed.size);
        for (size_t i = 0; i < DIGEST; i++)
            mixed[i] ^= last[i];
        for (size_t i = 0; i < sizeof left; i++)
            mixed[i] ^= (uint8_t)(left >> (8 * i));
        salted(first ? "og-a" : "og-b", mixed, size, last);
        if (first) continue;
        memcpy(out + done, last, DIGEST);
        done += DIGEST;
        if (done % (1u << 20) == 0) status = nk_arena_poll(arena);
        if (status != NK_OK) break;
    }
    if (count % 8 != 0) out[bytes - 1] &= (uint8_t)((1u << count % 8) - 1);
    if (status == NK_OK)
        status = nk_answer(nk_atom_from_bytes(arena, out, bytes), product);
    free(mixed);
    free(out);
    return status;
}

const struct nk_arm nk_arms_random[] = {NK_ARM("tri/og/raw", jet_raw), NK_ARMS_END};
