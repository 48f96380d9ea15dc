/* See big.h. */
#include "big.h"

#include <gmp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(GMP_NUMB_BITS == 64, "limbs are our words");

#define POLL_NS 20000000
/* Calls below take at most some milliseconds (measured). */
#ifndef NK_TINY
#define LONG_WORDS (1u << 15)    /* of the operands */
#define LONG_PRODUCTS (1u << 24) /* of words, by the school's method */
#define LONG_TEXT (1u << 13)     /* words that are read or printed */
#else
#define LONG_WORDS 64u
#define LONG_PRODUCTS 256u
#define LONG_TEXT 16u
#endif

enum what { MULTIPLY, DIVIDE, ROOT, PRINT, READ };

struct work {
    enum what what;
    int base;
    const void *x, *y; /* READ: x is the digits */
    size_t x_count, y_count;
    size_t x_size; /* of an item */
    void *out;
    size_t out_size; /* bytes */
    size_t made;     /* PRINT: digits */
};

/* On a thread of its own: work on copies, which are its own. */
struct nk_aside {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t finished;
    struct work work;
    bool done, left; /* left: nobody wants it any more */
};

static void compute(struct work *work) {
    mp_limb_t *out = work->out;
    mp_size_t x = (mp_size_t)work->x_count, y = (mp_size_t)work->y_count;
    switch (work->what) {
    case MULTIPLY:
        (void)mpn_mul(out, work->x, x, work->y, y);
        break;
    case DIVIDE:
        mpn_tdiv_qr(out, out + (x - y + 1), 0, work->x, x, work->y, y);
        break;
    case ROOT:
        (void)mpn_sqrtrem(out, NULL, work->x, x);
        break;
    case PRINT: {
        /* mpn_get_str destroys its input. */
        mp_limb_t *copy = malloc(work->x_count * sizeof *copy);
        NK_ASSERT(copy != NULL);
        memcpy(copy, work->x, work->x_count * sizeof *copy);
        work->made = mpn_get_str(work->out, work->base, copy, x);
        free(copy);
        break;
    }
    case READ:
        (void)mpn_set_str(out, work->x, work->x_count, work->base);
        break;
    }
}

static void *copy_of(const void *data, size_t size) {
    void *copy = malloc(size + 1);
    if (copy != NULL && size != 0) memcpy(copy, data, size);
    return copy;
}

static void drop(struct work *work) {
    free((void *)(uintptr_t)work->x);
    if (work->y != work->x) free((void *)(uintptr_t)work->y);
    free(work->out);
}

static void *aside_main(void *context) {
    struct nk_aside *aside = context;
    compute(&aside->work);
    pthread_mutex_lock(&aside->mutex);
    aside->done = true;
    if (aside->left) drop(&aside->work);
    pthread_cond_signal(&aside->finished);
    pthread_mutex_unlock(&aside->mutex);
    return NULL;
}

/* NULL: there is no room for it, or no thread. */
static struct nk_aside *aside_start(const struct work *work) {
    struct nk_aside *aside = calloc(1, sizeof *aside);
    if (aside == NULL) return NULL;
    aside->work = *work;
    aside->work.x = copy_of(work->x, work->x_count * work->x_size);
    /* One operand that is both is squared, which is quicker. */
    aside->work.y =
        work->y == work->x ? aside->work.x : copy_of(work->y, work->y_count * 8);
    aside->work.out = calloc(1, work->out_size);
    pthread_condattr_t attributes;
    NK_ASSERT(pthread_condattr_init(&attributes) == 0);
    NK_ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    NK_ASSERT(pthread_mutex_init(&aside->mutex, NULL) == 0);
    NK_ASSERT(pthread_cond_init(&aside->finished, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
    bool room =
        aside->work.x != NULL && aside->work.y != NULL && aside->work.out != NULL;
    /* Signals are for the thread that Python runs its handlers in. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = room && pthread_create(&aside->thread, NULL, aside_main, aside) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) return aside;
    drop(&aside->work);
    pthread_cond_destroy(&aside->finished);
    pthread_mutex_destroy(&aside->mutex);
    free(aside);
    return NULL;
}

static void aside_end(struct nk_aside *aside) {
    NK_ASSERT(pthread_join(aside->thread, NULL) == 0);
    pthread_cond_destroy(&aside->finished);
    pthread_mutex_destroy(&aside->mutex);
    free(aside);
}

/* Until it is done, or the poll says otherwise: then it is left. */
static nk_status aside_wait(struct nk_aside *aside, struct nk_arena *arena) {
    nk_status status = NK_OK;
    pthread_mutex_lock(&aside->mutex);
    while (!aside->done && status == NK_OK) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&aside->finished, &aside->mutex, &until);
        if (!aside->done) status = nk_arena_poll(arena);
    }
    if (status != NK_OK) aside->left = true;
    pthread_mutex_unlock(&aside->mutex);
    return status;
}

void nk_big_end(struct nk_arena *arena) {
    if (arena->aside != NULL) aside_end(arena->aside);
    arena->aside = NULL;
}

static nk_status run(struct nk_arena *arena, struct work *work, bool is_long) {
    if (!is_long || arena->poll == NULL) {
        compute(work);
        return NK_OK;
    }
    if (arena->aside != NULL) {
        nk_status status = aside_wait(arena->aside, arena);
        if (status != NK_OK) return status;
        nk_big_end(arena);
    }
    struct nk_aside *aside = aside_start(work);
    if (aside == NULL) {
        compute(work);
        return NK_OK;
    }
    nk_status status = aside_wait(aside, arena);
    if (status != NK_OK) {
        arena->aside = aside;
        return status;
    }
    memcpy(work->out, aside->work.out, work->out_size);
    work->made = aside->work.made;
    drop(&aside->work);
    aside_end(aside);
    return NK_OK;
}

/* Of a product, or a quotient and what it is multiplied with. */
static bool is_long(size_t a, size_t b) {
    return a + b > LONG_WORDS && (uint64_t)a * b > LONG_PRODUCTS;
}

nk_status nk_big_multiply(struct nk_arena *arena, uint64_t *product, struct nk_words x,
                          struct nk_words y) {
    struct work work = {.what = MULTIPLY,
                        .x = x.data,
                        .y = y.data,
                        .x_count = x.count,
                        .y_count = y.count,
                        .x_size = 8,
                        .out = product,
                        .out_size = (x.count + y.count) * 8};
    return run(arena, &work, is_long(x.count, y.count));
}

nk_status nk_big_divide(struct nk_arena *arena, uint64_t *quotient_remainder,
                        struct nk_words x, struct nk_words y) {
    struct work work = {.what = DIVIDE,
                        .x = x.data,
                        .y = y.data,
                        .x_count = x.count,
                        .y_count = y.count,
                        .x_size = 8,
                        .out = quotient_remainder,
                        .out_size = (x.count + 1) * 8};
    return run(arena, &work, is_long(x.count - y.count + 1, y.count));
}

nk_status nk_big_root(struct nk_arena *arena, uint64_t *root, struct nk_words x) {
    struct work work = {.what = ROOT,
                        .x = x.data,
                        .x_count = x.count,
                        .x_size = 8,
                        .out = root,
                        .out_size = (x.count + 1) / 2 * 8};
    return run(arena, &work, x.count > LONG_WORDS);
}

nk_status nk_big_print(struct nk_arena *arena, unsigned char *digits, size_t *count,
                       int base, struct nk_words x) {
    struct work work = {.what = PRINT,
                        .base = base,
                        .x = x.data,
                        .x_count = x.count,
                        .x_size = 8,
                        .out = digits,
                        .out_size = x.count * 20 + 2};
    nk_status status = run(arena, &work, x.count > LONG_TEXT);
    *count = work.made;
    return status;
}

nk_status nk_big_read(struct nk_arena *arena, uint64_t *data, size_t words, int base,
                      const unsigned char *digits, size_t count) {
    struct work work = {.what = READ,
                        .base = base,
                        .x = digits,
                        .x_count = count,
                        .x_size = 1,
                        .out = data,
                        .out_size = words * 8};
    return run(arena, &work, words > LONG_TEXT);
}
