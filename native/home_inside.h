/* Home's inside, shared by home.c (allocation, promotion, the oracle) and
 * collect.c (cycles). Nobody else includes it.
 *
 * Free room. `used` has a bit per page in use. A class fills its current
 * page from the page's bitmap, and has three lists of pages with room, by
 * how much they have; a sweep makes them anew, and between sweeps they only
 * shrink. A large atom takes the first run of free pages that is long enough.
 */
#ifndef NK_HOME_INSIDE_H
#define NK_HOME_INSIDE_H

#include <stdlib.h>

#include "home.h"

#define NK_CLASS_COUNT 30u
#define NK_CLASS_CELL 2u
#define NK_SMALL_WORDS_MAX 1024u
#define NK_BITMAP_WORDS (NK_PAGE_BOXES_MAX / 64)

/* Lists of a class's pages, by how much of them is free. */
enum { NK_ROOMY, NK_FAIR, NK_SCANT, NK_LIST_COUNT };

struct nk_class_state {
    uint32_t page;                 /* the one being filled; 0 = none */
    uint32_t word;                 /* of its bitmap */
    uint64_t mask;                 /* free boxes in that word */
    uint64_t *fresh;               /* where to note what is taken of that word */
    uint32_t lists[NK_LIST_COUNT]; /* first page, linked by `next` */
    uint64_t slots[NK_LIST_COUNT]; /* free boxes in each */
};

struct nk_pile {
    uint64_t *items;
    size_t count;
    size_t capacity;
};

enum nk_phase {
    NK_PHASE_IDLE,
    NK_PHASE_MARKING,
    NK_PHASE_PURGING,
    NK_PHASE_SWEEPING,
    NK_PHASE_RELEASING,
};

/* A cycle, as collect.h describes it. Lies beside allocation's state because
 * allocation has to say what is new. */
struct nk_cycle {
    enum nk_phase phase;
    uint64_t pages;    /* that home had at the start: the tables' size */
    void *tables;      /* one mapping, which holds the next four */
    uint64_t *marks;   /* bit per box: reached. Written while marking only */
    uint64_t *fresh;   /* bit per box: allocated since the start */
    uint64_t *touched; /* bit per page: `fresh` says something about it */
    uint64_t *black;   /* bit per page: taken whole since the start */
    uint64_t cursor;   /* sweeping goes downward: what is above is done */
    uint64_t words_before;
    uint64_t words_freed;
    struct nk_home_source *purging;
    struct nk_pile roots; /* as of the start; then marking's open cells */
};

struct nk_collector; /* collect.c: the thread, and what it measured */

struct nk_home_state {
    struct nk_class_state classes[NK_CLASS_COUNT];
    uint8_t class_of[NK_SMALL_WORDS_MAX + 1]; /* by words of the box */
    uint32_t reciprocal[NK_CLASS_COUNT];      /* 65536 / words, rounded up */
    uint64_t page_reserved;                   /* entries of the tables below */
    uint64_t *used;                           /* bit per page; page 0 counts as used */
    uint32_t *next;        /* links of the lists; of a run's tail: its head */
    uint64_t free_pages;   /* clear bits of `used` below page_count */
    uint64_t page_hint;    /* none is clear below */
    uint64_t nowhere;      /* what `fresh` points to when nobody wants to know */
    bool tight;            /* this promotion fits only with the SCANT pages */
    uint64_t shut;         /* NK_PARANOID: pages below are read-only now */
    struct nk_pile listed; /* offsets of boxes, in postorder */
    struct nk_pile large;  /* page runs reserved, in the order of `listed` */
    struct nk_pile above;  /* the walk's open cells */
    uint64_t counts[NK_CLASS_COUNT];
    struct nk_cycle cycle;
    struct nk_collector *collector;
};

static inline void nk_pile_push(struct nk_pile *pile, uint64_t item) {
    if (NK_UNLIKELY(pile->count == pile->capacity)) {
        size_t capacity = pile->capacity * 2 + 256;
        uint64_t *items = realloc(pile->items, capacity * sizeof *items);
        NK_ASSERT(items != NULL);
        pile->items = items;
        pile->capacity = capacity;
    }
    pile->items[pile->count++] = item;
}

static inline void nk_pile_close(struct nk_pile *pile) {
    free(pile->items);
    *pile = (struct nk_pile){NULL, 0, 0};
}

/* Empty it; what outgrew the usual is given back. */
static inline void nk_pile_trim(struct nk_pile *pile) {
    pile->count = 0;
    if (pile->capacity > 1u << 17) nk_pile_close(pile);
}

static inline bool nk_bit_get(const uint64_t *bits, uint64_t i) {
    return (bits[i / 64] >> (i % 64) & 1) != 0;
}
static inline void nk_bit_set(uint64_t *bits, uint64_t i) {
    bits[i / 64] |= 1ull << i % 64;
}
static inline void nk_bit_clear(uint64_t *bits, uint64_t i) {
    bits[i / 64] &= ~(1ull << i % 64);
}

static inline uint32_t nk_boxes_of(uint32_t class) {
    return NK_PAGE_WORDS / nk_class_words[class];
}

/* The bit of a box in tables that have NK_BITMAP_WORDS a page. */
static inline uint64_t nk_box_bit(const struct nk_page *pages,
                                  const uint32_t *reciprocal, nk_noun n) {
    uint64_t offset = nk_offset(n);
    uint64_t number = offset / NK_PAGE_WORDS, inside = offset % NK_PAGE_WORDS;
    uint32_t class = nk_is_cell(n) ? NK_CLASS_CELL : pages[number].class_index;
    uint64_t box = class >= NK_CLASS_COUNT ? 0 : inside * reciprocal[class] >> 16;
    return number * NK_PAGE_BOXES_MAX + box;
}

/* Zeroed memory that costs nothing until it is touched; NULL if refused. */
void *nk_home_table(uint64_t bytes);
void nk_home_table_free(void *table, uint64_t bytes);

/* Page bookkeeping: what a page says of itself is about to change; free a page; put one
 * with room on the list that its room says; point every class's `fresh` where the
 * cycle's phase wants it. */
void nk_home_page_note(struct nk_home *home, uint64_t number);
void nk_home_page_free(struct nk_home *home, uint64_t number);
void nk_home_page_enlist(struct nk_home *home, uint64_t number);
void nk_home_aim(struct nk_home *home);
/* Pages that are free or may yet be added. */
uint64_t nk_home_pages_left(const struct nk_home *home);

#endif
