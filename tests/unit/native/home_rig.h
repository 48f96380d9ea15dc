/* An arena, a home and dice for C tests: nouns are made and promoted here. */
#ifndef HOME_RIG_H
#define HOME_RIG_H

#include "check.h"
#include "home.h"
#include "mug.h" /* before our names, which it would shadow */

static struct nk_arena arena;
static struct nk_home home;
static uint64_t seed = 88172645463325252ull;

static inline uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static inline void reopen(uint64_t home_size) {
    if (arena.base != NULL) {
        nk_home_close(&home);
        nk_arena_close(&arena);
    }
    CHECK(nk_arena_open(&arena, home_size, 64u << 20) == NK_OK);
    CHECK(nk_home_open(&home, &arena) == NK_OK);
}

static inline void sound(void) {
    const char *why = nk_home_check(&home);
    if (why != NULL) fprintf(stderr, "home: %s\n", why);
    CHECK(why == NULL);
}

static inline nk_noun cons(nk_noun head, nk_noun tail) {
    return nk_cons(&arena, head, tail);
}

static inline nk_noun big_atom(size_t words) {
    uint64_t *data = nk_atom_begin(&arena, words);
    CHECK(data != NULL);
    for (size_t i = 0; i < words; i++)
        data[i] = draw() | 1;
    return nk_atom_finish(&arena, data, words);
}

#endif
