/* See freeze.h. */
#include "freeze.h"

#include <string.h>
#include <sys/mman.h>

#include "home_inside.h"

enum { HERE, ASIDE, TAKEN };

/* What is read while it may be written is thrown away if it was: the races
 * are looked for afterwards, with the states. */
#if defined(__SANITIZE_THREAD__)
#define MAY_RACE __attribute__((no_sanitize("thread"), noinline))
#else
#define MAY_RACE
#endif

MAY_RACE static void copy_words(uint64_t *to, const uint64_t *from, size_t count) {
#if defined(__SANITIZE_THREAD__)
    for (size_t i = 0; i < count; i++)
        to[i] = *(volatile const uint64_t *)&from[i];
#else
    memcpy(to, from, count * 8);
#endif
}

/* ---- the event thread's ---- */

struct nk_freeze *nk_home_freeze(struct nk_home *home, bool all) {
    struct nk_freeze *freeze = calloc(1, sizeof *freeze);
    uint64_t count = home->page_count, words = (count + 63) / 64;
    uint64_t bits = words * 8, bytes = words * 64;
    NK_ASSERT(home->freeze == NULL && freeze != NULL);
    freeze->tables_size =
        2 * bits + 2 * bytes + bytes * 4 + bytes * sizeof *freeze->metas;
    freeze->tables = nk_home_table(freeze->tables_size);
    freeze->dirty_count = all ? count : home->dirty_count;
    freeze->aside_size = (freeze->dirty_count + 1) * NK_PAGE_SIZE;
    freeze->aside = nk_home_table(freeze->aside_size);
    if (freeze->tables == NULL || freeze->aside == NULL) {
        nk_home_table_free(freeze->tables, freeze->tables_size);
        nk_home_table_free(freeze->aside, freeze->aside_size);
        free(freeze);
        return NULL;
    }
    freeze->metas = freeze->tables;
    freeze->dirty = (uint64_t *)(freeze->metas + bytes);
    freeze->meta_dirty = freeze->dirty + words;
    freeze->places = (uint32_t *)(freeze->meta_dirty + words);
    freeze->states = (uint8_t *)(freeze->places + bytes);
    freeze->told = freeze->states + bytes;
    freeze->home = home;
    freeze->base = home->arena->base;
    freeze->pages = home->pages;
    freeze->page_count = count;
    memcpy(freeze->roots, home->roots, sizeof freeze->roots);
    if (all) {
        memset(freeze->dirty, 0xff, bits);
        memset(freeze->meta_dirty, 0xff, bits);
    } else {
        memcpy(freeze->dirty, home->dirty, bits);
        memcpy(freeze->meta_dirty, home->meta_dirty, bits);
    }
    memset(home->dirty, 0, bits);
    memset(home->meta_dirty, 0, bits);
    home->dirty_count = 0;
    home->freeze = freeze;
    return freeze;
}

/* Between a state's change and what it announces, and the other way about.
 * (ThreadSanitizer knows no fences; where it runs, the compiler's order is
 * enough.) */
static void in_order(void) {
#if defined(__SANITIZE_THREAD__)
    __asm__ volatile("" ::: "memory");
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

void nk_freeze_tell(struct nk_freeze *freeze, uint64_t number) {
    if (number >= freeze->page_count || freeze->told[number] != 0) return;
    freeze->metas[number] = freeze->pages[number];
    __atomic_store_n(&freeze->told[number], 1, __ATOMIC_RELEASE);
    in_order();
}

void nk_freeze_keep(struct nk_freeze *freeze, uint64_t number) {
    if (number >= freeze->page_count || !nk_bit_get(freeze->dirty, number)) return;
    uint8_t *state = &freeze->states[number], here = HERE;
    if (__atomic_load_n(state, __ATOMIC_ACQUIRE) != HERE) return;
    uint64_t place = freeze->aside_count;
    memcpy(freeze->aside + place * NK_PAGE_WORDS, freeze->base + number * NK_PAGE_WORDS,
           NK_PAGE_SIZE);
    freeze->places[number] = (uint32_t)place;
    if (__atomic_compare_exchange_n(state, &here, ASIDE, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        freeze->aside_count++;
    }
    in_order();
}

void nk_home_thaw(struct nk_home *home, bool saved) {
    struct nk_freeze *freeze = home->freeze;
    uint64_t words = (freeze->page_count + 63) / 64;
    home->freeze = NULL;
    for (uint64_t w = 0; w < words && !saved; w++) {
        uint64_t gone = 0;
        for (uint64_t bit = 0; bit < 64; bit++) {
            uint64_t number = w * 64 + bit;
            if (number >= freeze->page_count ||
                home->pages[number].class_index == NK_CLASS_FREE) {
                gone |= 1ull << bit;
            }
        }
        uint64_t again = freeze->dirty[w] & ~home->dirty[w] & ~gone;
        home->dirty[w] |= again;
        home->dirty_count += (uint64_t)__builtin_popcountll(again);
        home->meta_dirty[w] |= freeze->meta_dirty[w] | again;
    }
    nk_home_table_free(freeze->aside, freeze->aside_size);
    nk_home_table_free(freeze->tables, freeze->tables_size);
    free(freeze);
}

/* ---- the reader's ---- */

void nk_freeze_meta(const struct nk_freeze *freeze, uint64_t number,
                    struct nk_page *meta) {
    _Static_assert(sizeof *meta % 8 == 0, "whole words");
    const uint8_t *told = &freeze->told[number];
    if (__atomic_load_n(told, __ATOMIC_ACQUIRE) == 0) {
        copy_words((uint64_t *)meta, (const uint64_t *)&freeze->pages[number],
                   sizeof *meta / 8);
        in_order();
        if (__atomic_load_n(told, __ATOMIC_ACQUIRE) == 0) return;
    }
    *meta = freeze->metas[number];
}

void nk_freeze_take(struct nk_freeze *freeze, uint64_t number, void *contents) {
    uint8_t *state = &freeze->states[number], here = HERE;
    if (__atomic_load_n(state, __ATOMIC_ACQUIRE) == HERE) {
        copy_words(contents, freeze->base + number * NK_PAGE_WORDS, NK_PAGE_WORDS);
        in_order();
        if (__atomic_compare_exchange_n(state, &here, TAKEN, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            return;
        }
    }
    uint64_t *page = freeze->aside + (uint64_t)freeze->places[number] * NK_PAGE_WORDS;
    memcpy(contents, page, NK_PAGE_SIZE);
    (void)madvise(page, NK_PAGE_SIZE, MADV_DONTNEED);
}
