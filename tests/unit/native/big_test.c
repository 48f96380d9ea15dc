/* units: machine */
/* GMP's long calls: on a thread, with polls, the same as GMP's own; one that is
 * stopped is left behind, and the next one is right. */
#include "big.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atom.h"
#include "check.h"
#include "nock.h"

#ifndef NK_TINY
#define AROUND (1u << 15) /* words: where calls become long; of text, a quarter */
#else
#define AROUND 64u
#endif
#define LARGE (1u << 19) /* a product: 0.2 s */

static struct nk_machine machine;
static struct nk_arena *const arena = &machine.arena;
static uint32_t polls, polls_max;

static nk_status poll(void *context) {
    (void)context;
    return ++polls > polls_max ? NK_INTR : NK_OK;
}

static void stop_after(uint32_t count) {
    polls = 0;
    polls_max = count;
    arena->poll = poll;
}

static uint64_t next_random(void) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state ^ state >> 29;
}

/* [count] words, the highest not 0. */
static struct nk_words random_words(size_t count) {
    uint64_t *data = malloc(count * 8);
    CHECK(data != NULL);
    for (size_t i = 0; i < count; i++)
        data[i] = next_random();
    data[count - 1] |= 1;
    return (struct nk_words){data, count};
}

static const uint64_t *copy_words(struct nk_words words) {
    uint64_t *data = malloc(words.count * 8);
    CHECK(data != NULL);
    memcpy(data, words.data, words.count * 8);
    return data;
}

static void drop(struct nk_words words) {
    free((void *)(uintptr_t)words.data);
}

enum { PRODUCT, QUOTIENT, ROOT, DIGITS, NUMBER, CALLS };

/* One of them; [out] has room for any. How many bytes it made. */
static size_t call(int what, struct nk_words x, struct nk_words y, void *out,
                   nk_status *status) {
    size_t count = 0;
    uint64_t *words = out;
    unsigned char *digits = (unsigned char *)(uintptr_t)x.data;
    switch (what) {
    case PRODUCT:
        *status = nk_big_multiply(arena, words, x, y);
        return (x.count + y.count) * 8;
    case QUOTIENT:
        *status = nk_big_divide(arena, words, x, y);
        return (x.count + 1) * 8;
    case ROOT:
        *status = nk_big_root(arena, words, x);
        return (x.count + 1) / 2 * 8;
    case DIGITS:
        *status = nk_big_print(arena, out, &count, 10, x);
        return count;
    default:
        memset(out, 0, (x.count + 1) * 8);
        /* The bytes of x as digits. */
        for (size_t i = 0; i < x.count * 8; i++)
            digits[i] %= 10;
        *status = nk_big_read(arena, words, x.count, 10, digits, x.count * 8);
        return x.count * 8;
    }
}

/* With a thread where they are long, and without: the same, bit for bit. */
static void test_long_calls_are_the_same(void) {
    static const size_t shares[][2] = {{1, 1}, {2, 1}, {3, 2}, {64, 1}, {1, 0}};
    uint64_t *one = malloc(AROUND * 200), *other = malloc(AROUND * 200);
    CHECK(one != NULL && other != NULL);
    for (int round = 0; round < 6; round++) {
        size_t share = (size_t)round % 5;
        size_t total = AROUND / (round % 2 == 0 ? 1 : 4) - 10 + next_random() % 20;
        size_t y_count =
            total * shares[share][1] / (shares[share][0] + shares[share][1]) + 1;
        struct nk_words x = random_words(total - y_count + 1),
                        y = random_words(y_count);
        if (x.count < y.count) {
            struct nk_words swap = x;
            x = y;
            y = swap;
        }
        for (int what = 0; what < CALLS; what++) {
            nk_status status;
            struct nk_words from = {copy_words(x), x.count};
            arena->poll = NULL;
            size_t size = call(what, from, y, one, &status);
            CHECK(status == NK_OK);
            memcpy((void *)(uintptr_t)from.data, x.data, x.count * 8);
            stop_after(UINT32_MAX - 1);
            CHECK(call(what, from, y, other, &status) == size && status == NK_OK);
            CHECK(memcmp(one, other, size) == 0);
            drop(from);
        }
        drop(x);
        drop(y);
    }
    free(one);
    free(other);
    CHECK(arena->aside == NULL);
}

static uint64_t thread_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static nk_noun random_atom(size_t count) {
    struct nk_words words = random_words(count);
    nk_noun atom = nk_atom_from_bytes(arena, words.data, count * 8);
    CHECK(atom != NK_NONE);
    drop(words);
    return atom;
}

/* A product (or [divide]: a quotient) that is stopped while it is computed, or
 * while it waits for the one that was left behind before. Where this thread
 * does not run meanwhile it is not stopped: then once more. */
static void leave(nk_noun a, nk_noun b, bool divide) {
    nk_noun out, rest;
    nk_status status = NK_OK;
    uint64_t top = arena->top;
    for (int i = 0; i < 50 && status == NK_OK; i++) {
        arena->top = top;
        stop_after(0);
        status = divide ? nk_atom_divide(arena, a, b, &out, &rest)
                        : nk_atom_multiply(arena, a, b, &out);
    }
    CHECK(status == NK_INTR && polls == 1);
    CHECK(arena->top == top && arena->aside != NULL);
}

/* What is stopped takes none of this thread's time, and leaves nothing in the
 * arena; what comes after it is right. */
static void test_long_calls_stop(void) {
    nk_noun a = random_atom(LARGE), b = random_atom(LARGE), product, more, back, rest;
    uint64_t before = thread_ns();
    leave(a, b, false);
    leave(b, a, false);
    CHECK(thread_ns() - before < 100000000u);
    stop_after(UINT32_MAX - 1);
    CHECK(nk_atom_multiply(arena, a, b, &product) == NK_OK && arena->aside == NULL);
    CHECK(nk_atom_increment(arena, product, &more) == NK_OK);
    leave(more, a, true);
    stop_after(UINT32_MAX - 1);
    CHECK(nk_atom_divide(arena, more, a, &back, &rest) == NK_OK);
    CHECK(nk_equal(arena, back, b) && rest == 1);
    /* The machine's end waits for this one. */
    leave(a, b, false);
}

int main(void) {
    CHECK(nk_machine_open(&machine, 64ull << 20, 512ull << 20) == NK_OK);
    test_long_calls_are_the_same();
    test_long_calls_stop();
    nk_machine_close(&machine);
    return 0;
}
