/* Layer tri: SHA-1, SHA-256 and SHA-512, by Nettle.
 *
 * A message is [length bytes], the first byte lowest: padded with zeros, or
 * cut, to its length. The digest's first byte is the lowest as well (for
 * sha1: the highest, and it takes its message reversed). */
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

#define PIECE 4096u
#define POLL_BYTES (1u << 20)

typedef void (*update_fn)(void *context, size_t size, const uint8_t *bytes);

/* A length is no promise that anyone waits for: 32 GiB of zeros take minutes.
 * True where this run is to end; its digest is then void. */
static bool is_stopped(struct nk_arena *arena, uint64_t left) {
    if (left % POLL_BYTES >= PIECE) return false;
    nk_status status = nk_arena_poll(arena);
    if (status != NK_OK) arena->stopped = status;
    return status != NK_OK;
}

/* Feed the message of [size] bytes; what [atom] does not have is zero. */
static void feed(struct nk_arena *arena, nk_noun atom, uint64_t size, update_fn update,
                 void *context) {
    static const uint8_t zeros[PIECE];
    uint64_t scratch, have = nk_atom_size(arena, atom);
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    if (have > size) have = size;
    if (have != 0) update(context, have, (const uint8_t *)words.data);
    for (uint64_t left = size - have; left > 0;) {
        uint64_t piece = left < PIECE ? left : PIECE;
        update(context, piece, zeros);
        left -= piece;
        if (is_stopped(arena, left)) return;
    }
}

static void update_256(void *context, size_t size, const uint8_t *bytes) {
    nettle_sha256_update(context, size, bytes);
}
static void update_512(void *context, size_t size, const uint8_t *bytes) {
    nettle_sha512_update(context, size, bytes);
}

static nk_noun sha_256(struct nk_arena *arena, nk_noun atom, uint64_t size) {
    struct sha256_ctx context;
    uint8_t digest[SHA256_DIGEST_SIZE];
    nettle_sha256_init(&context);
    feed(arena, atom, size, update_256, &context);
    nettle_sha256_digest(&context, sizeof digest, digest);
    return nk_atom_from_bytes(arena, digest, sizeof digest);
}

static nk_noun sha_512(struct nk_arena *arena, nk_noun atom, uint64_t size) {
    struct sha512_ctx context;
    uint8_t digest[SHA512_DIGEST_SIZE];
    nettle_sha512_init(&context);
    feed(arena, atom, size, update_512, &context);
    nettle_sha512_digest(&context, sizeof digest, digest);
    return nk_atom_from_bytes(arena, digest, sizeof digest);
}

/* A length that a message in memory could have. */
static bool is_length(nk_noun length) {
    return nk_is_direct(length) && length <= (uint64_t)NK_ATOM_WORDS_MAX * 8;
}

/* ++  shax: of all the bytes that are there. */
static nk_status jet_shax(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun atom;
    if (!nk_sample(machine, core, &atom) || nk_is_cell(atom)) return NK_PUNT;
    return nk_answer(sha_256(arena, atom, nk_atom_size(arena, atom)), product);
}

static nk_status jet_shay(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun length, atom;
    if (!nk_sample_atoms(machine, core, &length, &atom)) return NK_PUNT;
    if (!is_length(length)) return NK_PUNT;
    return nk_answer(sha_256(&machine->arena, atom, length), product);
}

static nk_status jet_shal(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun length, atom;
    if (!nk_sample_atoms(machine, core, &length, &atom)) return NK_PUNT;
    if (!is_length(length)) return NK_PUNT;
    return nk_answer(sha_512(&machine->arena, atom, length), product);
}

/* ++  shas:  (shay (max 32 (met 3 salt)) (mix salt (shax bytes))) */
static nk_status jet_shas(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun salt, atom, mixed;
    if (!nk_sample_atoms(machine, core, &salt, &atom)) return NK_PUNT;
    nk_noun digest = sha_256(arena, atom, nk_atom_size(arena, atom));
    if (digest == NK_NONE) return NK_MEME;
    nk_status status = nk_atom_logic(arena, NK_XOR, salt, digest, &mixed);
    if (status != NK_OK) return status;
    uint64_t size = nk_atom_size(arena, salt);
    return nk_answer(sha_256(arena, mixed, size < 32 ? 32 : size), product);
}

/* ++  sha1: [length bytes], the last byte first. */
static nk_status jet_sha1(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct sha1_ctx context;
    uint8_t digest[SHA1_DIGEST_SIZE], piece[PIECE], reversed[SHA1_DIGEST_SIZE];
    nk_noun length, atom;
    uint64_t scratch;
    if (!nk_sample_atoms(machine, core, &length, &atom)) return NK_PUNT;
    if (!is_length(length)) return NK_PUNT;
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    nettle_sha1_init(&context);
    for (uint64_t left = length; left > 0;) {
        uint64_t count = left < PIECE ? left : PIECE;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t at = left - 1 - i;
            uint64_t word = at / 8 < words.count ? words.data[at / 8] : 0;
            piece[i] = (uint8_t)(word >> (at % 8 * 8));
        }
        nettle_sha1_update(&context, count, piece);
        left -= count;
        if (is_stopped(arena, left)) break;
    }
    nettle_sha1_digest(&context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        reversed[i] = digest[sizeof digest - 1 - i];
    return nk_answer(nk_atom_from_bytes(arena, reversed, sizeof reversed), product);
}

const struct nk_arm nk_arms_sha[] = {
    NK_ARM("tri/shax", jet_shax),     NK_ARM("tri/shay", jet_shay),
    NK_ARM("tri/shas", jet_shas),     NK_ARM("tri/shal", jet_shal),
    NK_ARM("tri/sha/sha1", jet_sha1), NK_ARMS_END};
