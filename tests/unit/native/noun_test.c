/* units: noun nursery mug status */
/* Atoms seen as words, slots, comparison, equality and mugs, with the
 * specification's mug vectors. */
#include "check.h"
#include "mug.h"
#include "noun.h"

#include <string.h>

static struct nk_arena arena;

static nk_noun atom_bits(unsigned first, unsigned second) {
    uint64_t words[8] = {0};
    words[first / 64] |= 1ull << first % 64;
    words[second / 64] |= 1ull << second % 64;
    return nk_atom_from_bytes(&arena, words, sizeof words);
}

static nk_noun text(const char *bytes) {
    return nk_atom_from_bytes(&arena, bytes, strlen(bytes));
}

static nk_noun cons(nk_noun head, nk_noun tail) {
    return nk_cons(&arena, head, tail);
}

static void test_mug_vectors(void) {
    nk_noun big = atom_bits(96, 32);
    struct {
        nk_noun noun;
        uint32_t mug;
    } cases[] = {
        {0, 0x79ff04e8},
        {1, 0x715c2a60},
        {2, 0x718b9468},
        {text("Hello, world!"), 0x4d441035},
        {text("xxxxxxxxxxxxxxxxxxxxxxxxxxxx"), 0x64dfda5c},
        {atom_bits(96, 96), 0x519bd45c},
        {big, 0x540eb8a9},
        {0x7fffffff, 0x389ca03a},
        {0x80000000, 0x402fa61d},
        {atom_bits(63, 63), 0x135eb193},
        {nk_atom_from_u64(&arena, ~0ull), 0x695c8310},
        {cons(0, 0), 0x192f5588},
        {cons(1, 1), 0x6b32ec46},
        {cons(2, 2), 0x02effe10},
        {cons(1, cons(2, 3)), 0x3a811aec},
        {cons(0, 1ull << 32), 0x07cefb7f},
        {cons(0, 1), 0x16a1233b},
        {cons(1, 0), 0x44e4ce97},
        {cons(1, cons(2, cons(3, 0))), 0x1a8cdadd},
        {cons(cons(0, 0), 0), 0x0bed655d},
        {cons(0, cons(0, 0)), 0x1fcc3a84},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(nk_mug(&arena, cases[i].noun) == cases[i].mug);
        CHECK(nk_mug(&arena, cases[i].noun) == cases[i].mug);
        if (!nk_is_direct(cases[i].noun)) {
            CHECK(nk_atom_at(&arena, cases[i].noun)->mug == cases[i].mug);
        }
    }
    uint64_t ones[2] = {~0ull, ~0ull};
    CHECK(nk_mug(&arena, cons(nk_atom_from_bytes(&arena, ones, 16), 1)) == 0x2aa06bfc);
    uint64_t three[2] = {(1ull << 32) + 1, 1ull << 32};
    CHECK(nk_mug_bytes(three, 16) == 0x319d28f9);
    uint64_t ffff[2] = {0, 0xffffull << 32};
    CHECK(nk_mug_bytes(ffff, 16) == 0x5230a260);
    uint8_t zeros[28] = {0};
    memcpy(zeros + 1, "abcdefjhijklmnopqrstuvwxyz", 26);
    zeros[27] ^= 0x10; /* 2^212, shifted by a byte */
    CHECK(nk_mug_bytes(zeros, 28) == 0x34d08717);
}

static void test_atoms(void) {
    uint64_t scratch;
    CHECK(nk_atom_words(&arena, 0, &scratch).count == 0);
    CHECK(nk_atom_size(&arena, 0) == 0 && nk_atom_bits(&arena, 0) == 0);
    CHECK(nk_atom_size(&arena, 256) == 2 && nk_atom_bits(&arena, 256) == 9);
    CHECK(nk_is_direct(nk_atom_from_u64(&arena, NK_DIRECT_MAX)));
    CHECK(nk_is_indirect(nk_atom_from_u64(&arena, NK_DIRECT_MAX + 1)));
    CHECK(nk_atom_bits(&arena, atom_bits(200, 3)) == 201);
    uint64_t before = arena.top;
    uint64_t *data = nk_atom_begin(&arena, 5);
    for (int i = 0; i < 5; i++)
        CHECK(data[i] == 0);
    data[0] = 7;
    CHECK(nk_atom_finish(&arena, data, 5) == 7 && arena.top == before);
    data = nk_atom_begin(&arena, 5);
    data[2] = 1;
    nk_noun n = nk_atom_finish(&arena, data, 5);
    CHECK(nk_atom_at(&arena, n)->words == 3 && arena.top == before + 4);
    uint8_t out[30];
    memset(out, 0xaa, sizeof out);
    nk_atom_read(&arena, n, out, sizeof out);
    for (int i = 0; i < 30; i++)
        CHECK(out[i] == (i == 16));
    nk_atom_read(&arena, n, out, 3);
    nk_atom_read(&arena, 0x010203, out, 2);
    CHECK(out[0] == 3 && out[1] == 2 && out[2] == 0);
    CHECK(nk_atom_compare(&arena, 3, 4) == -1 && nk_atom_compare(&arena, n, 4) == 1);
    CHECK(nk_atom_compare(&arena, n, n) == 0);
    CHECK(nk_atom_compare(&arena, atom_bits(128, 0), n) == 1);
}

static void test_slots(void) {
    nk_noun n = cons(cons(4, 5), cons(6, 7));
    CHECK(nk_slot(&arena, n, 1) == n);
    for (uint64_t axis = 4; axis < 8; axis++)
        CHECK(nk_slot(&arena, n, axis) == axis);
    CHECK(nk_slot(&arena, n, 8) == NK_NONE && nk_slot(&arena, 3, 2) == NK_NONE);
    CHECK(nk_slot_atom(&arena, n, 0) == NK_NONE && nk_slot_atom(&arena, n, 6) == 6);
    nk_noun list = 42;
    for (uint64_t i = 0; i < 130; i++)
        list = cons(i, list);
    uint64_t axis[3] = {~0ull, ~0ull, 7}; /* 130 times tail */
    CHECK(nk_slot_atom(&arena, list, nk_atom_from_bytes(&arena, axis, 24)) == 42);
    axis[2] = 15;
    CHECK(nk_slot_atom(&arena, list, nk_atom_from_bytes(&arena, axis, 24)) == NK_NONE);
    axis[2] = 3;
    axis[0] -= 1; /* 128 tails, then head: the element before the last */
    CHECK(nk_slot_atom(&arena, list, nk_atom_from_bytes(&arena, axis, 24)) == 0 + 1);
}

/* A graph of [depth] cells that is a tree of 2^depth leaves. */
static nk_noun ladder(unsigned depth, nk_noun leaf) {
    nk_noun n = leaf;
    for (unsigned i = 0; i < depth; i++)
        n = cons(n, n);
    return n;
}

static void test_equal(void) {
    CHECK(nk_equal(&arena, 3, 3) && !nk_equal(&arena, 3, 4));
    CHECK(nk_equal(&arena, atom_bits(70, 1), atom_bits(70, 1)));
    CHECK(!nk_equal(&arena, atom_bits(70, 1), atom_bits(70, 2)));
    CHECK(!nk_equal(&arena, atom_bits(70, 1), cons(70, 1)));
    CHECK(nk_equal(&arena, cons(cons(1, 2), 3), cons(cons(1, 2), 3)));
    CHECK(!nk_equal(&arena, cons(cons(1, 2), 3), cons(cons(1, 2), 4)));
    CHECK(!nk_equal(&arena, cons(cons(1, 2), 3), cons(cons(1, 0), 3)));
    /* Exponential for a naive walk: 2^300 leaves. */
    CHECK(nk_equal(&arena, ladder(300, 1), ladder(300, 1)));
    CHECK(!nk_equal(&arena, ladder(300, 1), ladder(300, 2)));
    CHECK(!nk_equal(&arena, ladder(300, 1), ladder(301, 1)));
    nk_noun a = ladder(200, 5), b = ladder(200, 5);
    CHECK(nk_mug(&arena, a) == nk_mug(&arena, b) && nk_equal(&arena, a, b));
    /* Deep to the left and to the right: no C stack. */
    nk_noun left[2] = {0, 0}, right[2] = {0, 0};
    for (unsigned copy = 0; copy < 2; copy++) {
        for (uint64_t i = 0; i < 300000; i++) {
            left[copy] = cons(left[copy], i);
            right[copy] = cons(i, right[copy]);
        }
    }
    CHECK(nk_equal(&arena, left[0], left[1]) && nk_equal(&arena, right[0], right[1]));
    CHECK(!nk_equal(&arena, left[0], right[0]));
    CHECK(nk_mug(&arena, left[0]) == nk_mug(&arena, left[1]));
    CHECK(nk_mug(&arena, right[0]) == nk_mug(&arena, right[1]));
}

int main(void) {
    CHECK(nk_arena_open(&arena, 0, 256u << 20) == NK_OK);
    test_mug_vectors();
    test_atoms();
    test_slots();
    test_equal();
    nk_arena_close(&arena);
    return 0;
}
