/* Home's pages: allocation by size class, promotion, and the oracle.
 *
 * Promotion walks twice. `gather` lists the nursery boxes in postorder,
 * children first, with their mugs; NK_FORWARDED in the mug word says
 * "listed". `copy` then finds every child already copied. Only between
 * the two can it fail, and then taking the marks off again undoes it. */
#include "home.h"

#include <string.h>
#include <sys/mman.h>

#include "collect.h"
#include "freeze.h"
#include "home_inside.h"
#include "mug.h"
#include "murmur.h"

/* A box has at most the words of its class. A class more than there would
 * be cells (3) wastes pages on rare sizes, a class fewer wastes words. */
const uint16_t nk_class_words[] = {
    0,  2,  3,  4,  5,  6,  7,   8,   10,  12,  14,  16,  20,  24,  28,
    32, 40, 48, 56, 64, 80, 102, 128, 170, 204, 256, 341, 512, 682, 1024,
};
_Static_assert(sizeof nk_class_words / sizeof *nk_class_words == NK_CLASS_COUNT,
               "classes");
const uint8_t nk_class_count = NK_CLASS_COUNT;

#define FRAME_WORDS 512u /* a frame of memory: 4 KiB */

/* Zeroed memory that costs nothing until it is touched. */
void *nk_home_table(uint64_t bytes) {
    void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return table == MAP_FAILED ? NULL : table;
}

void nk_home_table_free(void *table, uint64_t bytes) {
    if (table != NULL) munmap(table, bytes);
}

/* ---- opening ---- */

static uint64_t bits_size(const struct nk_home_state *state) {
    return (state->page_reserved / 64 + 1) * 8;
}

nk_status nk_home_open(struct nk_home *home, struct nk_arena *arena) {
    memset(home, 0, sizeof *home);
    for (size_t i = 0; i < NK_ROOT_COUNT; i++)
        home->roots[i] = NK_NONE;
    struct nk_home_state *state = calloc(1, sizeof *state);
    if (state == NULL) return NK_MEME;
    home->private_state = state;
    home->arena = arena;
    home->page_max = arena->home_end / NK_PAGE_WORDS;
    home->page_count = 1; /* page 0 is never used */
    state->page_reserved = home->page_max + 1;
    state->page_hint = 1;
    home->pages = nk_home_table(state->page_reserved * sizeof *home->pages);
    home->dirty = nk_home_table(bits_size(state));
    home->meta_dirty = nk_home_table(bits_size(state));
    state->used = nk_home_table(bits_size(state));
    state->next = nk_home_table(state->page_reserved * sizeof *state->next);
    if (home->pages == NULL || home->dirty == NULL || home->meta_dirty == NULL ||
        state->used == NULL || state->next == NULL) {
        nk_home_close(home);
        return NK_MEME;
    }
    nk_bit_set(state->used, 0);
    for (size_t class = 1, words = 0; class < NK_CLASS_COUNT; class++) {
        state->reciprocal[class] = 65535u / nk_class_words[class] + 1;
        while (words < nk_class_words[class]) {
            state->class_of[++words] = (uint8_t)class;
        }
    }
    nk_home_aim(home);
    arena->home = home;
    return NK_OK;
}

void nk_home_close(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    if (state != NULL) {
        nk_collect_close(home);
        nk_home_table_free(home->pages, state->page_reserved * sizeof *home->pages);
        nk_home_table_free(home->dirty, bits_size(state));
        nk_home_table_free(home->meta_dirty, bits_size(state));
        nk_home_table_free(state->used, bits_size(state));
        nk_home_table_free(state->next, state->page_reserved * sizeof *state->next);
        nk_pile_close(&state->listed);
        nk_pile_close(&state->large);
        nk_pile_close(&state->above);
        free(state);
    }
    if (home->arena != NULL) home->arena->home = NULL;
    memset(home, 0, sizeof *home);
}

void nk_home_limit(struct nk_home *home, uint64_t bytes) {
    uint64_t pages = bytes / NK_PAGE_SIZE;
    uint64_t most = home->arena->home_end / NK_PAGE_WORDS;
    home->page_max = pages < most ? pages : most;
}

/* ---- pages ---- */

void nk_home_page_note(struct nk_home *home, uint64_t number) {
    if (nk_bit_get(home->meta_dirty, number)) return;
    if (home->freeze != NULL) nk_freeze_tell(home->freeze, number);
    nk_bit_set(home->meta_dirty, number);
}

/* The first write to a page since the last save began. */
static void first_write(struct nk_home *home, uint64_t number) {
    struct nk_page *page = &home->pages[number];
    nk_home_page_note(home, number);
    if (home->freeze != NULL) nk_freeze_keep(home->freeze, number);
    nk_bit_set(home->dirty, number);
    home->dirty_count++;
    if ((page->flags & NK_PAGE_MAPPED) == 0) return;
    /* Atomically: the collector may be reading the very same words. */
    uint64_t *words = home->arena->base + number * NK_PAGE_WORDS;
    for (size_t i = 0; i < NK_PAGE_WORDS; i += FRAME_WORDS)
        (void)__atomic_fetch_or(&words[i], 0, __ATOMIC_RELAXED);
    page->flags = (uint8_t)((page->flags & ~NK_PAGE_MAPPED) | NK_PAGE_TOUCHED);
}

/* Before anything on the page, or said of it, changes. */
static inline void note_write(struct nk_home *home, uint64_t number) {
    if (NK_UNLIKELY(!nk_bit_get(home->dirty, number))) first_write(home, number);
}

void nk_home_page_free(struct nk_home *home, uint64_t number) {
    struct nk_home_state *state = home->private_state;
    struct nk_page *page = &home->pages[number];
    nk_home_page_note(home, number);
    page->class_index = NK_CLASS_FREE;
    page->free_count = 0;
    page->run_pages = 0;
    memset(page->bitmap, 0, sizeof page->bitmap);
    if (nk_bit_get(home->dirty, number)) {
        nk_bit_clear(home->dirty, number);
        home->dirty_count--;
    }
    nk_bit_clear(state->used, number);
    state->free_pages++;
    if (number < state->page_hint) state->page_hint = number;
}

uint64_t nk_home_pages_used(const struct nk_home *home) {
    const struct nk_home_state *state = home->private_state;
    return home->page_count - state->free_pages;
}

/* Pages that are free or may yet be added. */
uint64_t nk_home_pages_left(const struct nk_home *home) {
    const struct nk_home_state *state = home->private_state;
    uint64_t more =
        home->page_max > home->page_count ? home->page_max - home->page_count : 0;
    return state->free_pages + more;
}

/* The first run of [want] free pages, marked used; 0 if there is none. */
static uint64_t pages_take(struct nk_home *home, uint64_t want) {
    struct nk_home_state *state = home->private_state;
    uint64_t first = home->page_count;
    uint64_t run = 0;
    if (state->free_pages > 0) {
        uint64_t at = state->page_hint;
        bool lowest = true;
        while (at < home->page_count && run < want) {
            if (at % 64 == 0 && state->used[at / 64] == ~0ull) {
                at += 64;
                run = 0;
            } else if (nk_bit_get(state->used, at++)) {
                run = 0;
            } else {
                if (lowest) state->page_hint = at - 1;
                lowest = false;
                if (run++ == 0) first = at - 1;
            }
        }
        /* Free pages at the very end may grow into what is not yet used. */
        if (run == 0) first = home->page_count;
    }
    if (run < want) {
        uint64_t more = want - run;
        if (home->page_max < home->page_count ||
            more > home->page_max - home->page_count) {
            return 0;
        }
        home->page_count += more;
        state->free_pages += more;
    }
    state->free_pages -= want;
    for (uint64_t i = first; i < first + want; i++) {
        nk_bit_set(state->used, i);
        if (i < state->cycle.pages) nk_bit_set(state->cycle.black, i);
    }
    return first;
}

/* Put a page of a class on the list that its free room says. */
void nk_home_page_enlist(struct nk_home *home, uint64_t number) {
    struct nk_home_state *state = home->private_state;
    struct nk_page *page = &home->pages[number];
    struct nk_class_state *class = &state->classes[page->class_index];
    uint32_t boxes = nk_boxes_of(page->class_index);
    unsigned list = page->free_count * 2u >= boxes   ? NK_ROOMY
                    : page->free_count * 4u >= boxes ? NK_FAIR
                                                     : NK_SCANT;
    if (page->free_count == 0) return;
    state->next[number] = class->lists[list];
    class->lists[list] = (uint32_t)number;
    class->slots[list] += page->free_count;
}

static uint64_t page_delist(struct nk_home *home, uint32_t index, unsigned list) {
    struct nk_home_state *state = home->private_state;
    struct nk_class_state *class = &state->classes[index];
    uint32_t number = class->lists[list];
    if (number == 0) return 0;
    class->lists[list] = state->next[number];
    class->slots[list] -= home->pages[number].free_count;
    return number;
}

static uint64_t page_fresh(struct nk_home *home, uint32_t index) {
    uint64_t number = pages_take(home, 1);
    if (number == 0) return 0;
    struct nk_page *page = &home->pages[number];
    nk_home_page_note(home, number);
    page->class_index = (uint8_t)index;
    page->flags &= (uint8_t)~NK_PAGE_GIVEN_BACK;
    page->free_count = (uint16_t)nk_boxes_of(index);
    return number;
}

/* Give the class a page with room. Promotion has made sure there is one. */
static void class_next_page(struct nk_home *home, uint32_t index) {
    struct nk_home_state *state = home->private_state;
    struct nk_class_state *class = &state->classes[index];
    uint64_t number = page_delist(home, index, NK_ROOMY);
    if (number == 0) number = page_delist(home, index, NK_FAIR);
    if (number == 0 && state->tight) number = page_delist(home, index, NK_SCANT);
    if (number == 0) number = page_fresh(home, index);
    NK_ASSERT(number != 0);
    class->page = (uint32_t)number;
    class->word = 0;
}

/* What is taken from an older page during a cycle is noted in `fresh`. */
static void class_aim(struct nk_home_state *state, struct nk_class_state *class) {
    struct nk_cycle *cycle = &state->cycle;
    bool watching =
        cycle->phase == NK_PHASE_MARKING || cycle->phase == NK_PHASE_PURGING;
    class->fresh = &state->nowhere;
    if (!watching || class->page == 0 || class->page >= cycle->pages ||
        nk_bit_get(cycle->black, class->page)) {
        return;
    }
    nk_bit_set(cycle->touched, class->page);
    class->fresh = &cycle->fresh[(uint64_t)class->page * NK_BITMAP_WORDS + class->word];
}

void nk_home_aim(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    for (uint32_t i = 1; i < NK_CLASS_COUNT; i++)
        class_aim(state, &state->classes[i]);
}

/* Find the next bitmap word with free boxes. */
static void class_advance(struct nk_home *home, uint32_t index) {
    struct nk_home_state *state = home->private_state;
    struct nk_class_state *class = &state->classes[index];
    uint32_t boxes = nk_boxes_of(index);
    class->word++;
    while (class->mask == 0) {
        if (class->page == 0 || class->word * 64 >= boxes) {
            class_next_page(home, index);
        }
        uint64_t mask = ~home->pages[class->page].bitmap[class->word];
        uint32_t left = boxes - class->word * 64;
        if (left < 64) mask &= (1ull << left) - 1;
        class->mask = mask;
        if (mask == 0) class->word++;
    }
    class_aim(state, class);
}

/* A box of class [index]: its offset. */
static inline uint64_t box_take(struct nk_home *home, uint32_t index) {
    struct nk_home_state *state = home->private_state;
    struct nk_class_state *class = &state->classes[index];
    if (NK_UNLIKELY(class->mask == 0)) class_advance(home, index);
    uint32_t bit = (uint32_t)__builtin_ctzll(class->mask);
    uint64_t number = class->page;
    struct nk_page *page = &home->pages[number];
    note_write(home, number);
    class->mask &= class->mask - 1;
    page->bitmap[class->word] |= 1ull << bit;
    *class->fresh |= 1ull << bit;
    page->free_count--;
    return number * NK_PAGE_WORDS + (class->word * 64 + bit) * nk_class_words[index];
}

/* ---- promotion ---- */

static inline void list_atom(struct nk_home *home, struct nk_atom *box) {
    struct nk_home_state *state = home->private_state;
    uint64_t words = 1 + (uint64_t)box->words;
    if (words <= NK_SMALL_WORDS_MAX) {
        state->counts[state->class_of[words]]++;
    } else {
        nk_pile_push(&state->large, (words + NK_PAGE_WORDS - 1) / NK_PAGE_WORDS);
    }
    nk_pile_push(&state->listed, (uint64_t)((uint64_t *)box - home->arena->base));
}

/* The mug of [n] when all of it is listed or durable; an atom is listed at
 * once. 0: a cell that is not listed. */
static inline uint32_t gather_shallow(struct nk_home *home, nk_noun n) {
    if (nk_is_direct(n)) return nk_murmur_direct(n);
    struct nk_atom *box = nk_atom_at(home->arena, n);
    if (nk_offset(n) < home->arena->home_end) return box->mug;
    if ((box->mug & NK_FORWARDED) != 0) return box->mug & ~NK_FORWARDED;
    if (box->words == 0) return 0;
    uint32_t mug = box->mug;
    if (mug == 0) mug = nk_mug_bytes(box->data, (size_t)box->words * 8);
    box->mug = mug | NK_FORWARDED;
    list_atom(home, box);
    return mug;
}

/* List the boxes of [n], children first. As the walk of mug.c: a cell that
 * waits for its head lies in `above` with 0, for its tail with its head's
 * mug. */
static void gather(struct nk_home *home, nk_noun n) {
    struct nk_home_state *state = home->private_state;
    struct nk_pile *above = &state->above;
    uint64_t *base = home->arena->base;
    if (gather_shallow(home, n) != 0) return;
    uint64_t cells = 0;
    struct nk_cell *cell = nk_cell_at(home->arena, n);
    uint32_t head, tail;
    for (;;) {
        head = gather_shallow(home, cell->head);
        if (head == 0) {
            nk_pile_push(above, (uint64_t)((uint64_t *)cell - base) << 1);
            cell = nk_cell_at(home->arena, cell->head);
            continue;
        }
        for (;;) {
            tail = gather_shallow(home, cell->tail);
            if (tail == 0) break;
        both:
            if (cell->mug == 0) cell->mug = nk_murmur_both(head, tail);
            tail = cell->mug; /* of the cell that is now done */
            cell->mug |= NK_FORWARDED;
            nk_pile_push(&state->listed, (uint64_t)((uint64_t *)cell - base));
            cells++;
            if (above->count == 0) {
                state->counts[NK_CLASS_CELL] += cells;
                return;
            }
            uint64_t parent = above->items[--above->count];
            cell = (struct nk_cell *)(base + (parent >> 1));
            if ((parent & 1) != 0) {
                head = (uint32_t)above->items[--above->count];
                goto both;
            }
            head = tail;
        }
        nk_pile_push(above, head);
        nk_pile_push(above, (uint64_t)((uint64_t *)cell - base) << 1 | 1);
        cell = nk_cell_at(home->arena, cell->tail);
    }
}

/* Pages that the small boxes need beyond the lists that may be used. */
static uint64_t pages_needed(const struct nk_home *home, bool tight) {
    const struct nk_home_state *state = home->private_state;
    uint64_t pages = 0;
    for (uint32_t i = 1; i < NK_CLASS_COUNT; i++) {
        const struct nk_class_state *class = &state->classes[i];
        uint64_t have = class->slots[NK_ROOMY] + class->slots[NK_FAIR];
        if (tight) have += class->slots[NK_SCANT];
        if (class->page != 0) have += home->pages[class->page].free_count;
        if (state->counts[i] > have) {
            pages += (state->counts[i] - have + nk_boxes_of(i) - 1) / nk_boxes_of(i);
        }
    }
    return pages;
}

/* Make sure that everything listed fits: runs are taken, small boxes only
 * counted. Takes nothing when it answers NK_MEME. */
static nk_status reserve(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    struct nk_pile *large = &state->large;
    size_t taken = 0;
    uint64_t first = 0;
    for (; taken < large->count; taken++) {
        uint64_t run = large->items[taken];
        first = pages_take(home, run);
        if (first == 0) goto fail;
        large->items[taken] = first;
        nk_home_page_note(home, first);
        home->pages[first].run_pages = (uint32_t)run;
    }
    state->tight = pages_needed(home, false) > nk_home_pages_left(home);
    if (!state->tight || pages_needed(home, true) <= nk_home_pages_left(home))
        return NK_OK;
fail:
    while (taken-- > 0) {
        first = large->items[taken];
        uint64_t run = home->pages[first].run_pages;
        for (uint64_t i = first; i < first + run; i++)
            nk_home_page_free(home, i);
    }
    return NK_MEME;
}

/* Make the run that [reserve] took the home of one atom: its offset. */
static uint64_t run_take(struct nk_home *home, uint64_t first) {
    struct nk_home_state *state = home->private_state;
    uint64_t run = home->pages[first].run_pages;
    for (uint64_t i = first; i < first + run; i++) {
        struct nk_page *page = &home->pages[i];
        note_write(home, i);
        page->class_index = i == first ? NK_CLASS_LARGE : NK_CLASS_TAIL;
        page->flags &= (uint8_t)~NK_PAGE_GIVEN_BACK;
        page->free_count = 0;
        state->next[i] = (uint32_t)first;
    }
    home->pages[first].bitmap[0] = 1;
    return first * NK_PAGE_WORDS;
}

static inline nk_noun forwarded(const struct nk_arena *arena, nk_noun n) {
    return nk_is_durable(arena, n) ? n : arena->base[nk_offset(n) + 1];
}

static void copy_atom(struct nk_home *home, struct nk_atom *box, size_t *large) {
    struct nk_home_state *state = home->private_state;
    struct nk_arena *arena = home->arena;
    uint64_t words = 1 + (uint64_t)box->words;
    uint64_t to;
    if (words <= NK_SMALL_WORDS_MAX) {
        uint32_t class = state->class_of[words];
        to = box_take(home, class);
        home->words_used += nk_class_words[class];
    } else {
        uint64_t first = state->large.items[(*large)++];
        to = run_take(home, first);
        home->words_used += (uint64_t)home->pages[first].run_pages * NK_PAGE_WORDS;
    }
    struct nk_atom *copy = (struct nk_atom *)(arena->base + to);
    memcpy(copy, box, (size_t)words * 8);
    copy->mug &= ~NK_FORWARDED;
    box->data[0] = NK_ATOM_TAG | to;
    home->words_promoted += words;
}

static void copy(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    struct nk_arena *arena = home->arena;
    size_t large = 0;
    uint64_t cells = 0;
    for (size_t i = 0; i < state->listed.count; i++) {
        struct nk_cell *cell = (struct nk_cell *)(arena->base + state->listed.items[i]);
        if (cell->tag != 0) {
            copy_atom(home, (struct nk_atom *)cell, &large);
            continue;
        }
        uint64_t to = box_take(home, NK_CLASS_CELL);
        struct nk_cell *made = (struct nk_cell *)(arena->base + to);
        made->mug = cell->mug & ~NK_FORWARDED;
        made->tag = 0;
        made->head = forwarded(arena, cell->head);
        made->tail = forwarded(arena, cell->tail);
        cell->head = NK_CELL_TAG | to;
        cells++;
    }
    home->words_used += cells * NK_CELL_WORDS;
    home->words_promoted += cells * NK_CELL_WORDS;
}

static void undo_marks(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    for (size_t i = 0; i < state->listed.count; i++) {
        home->arena->base[state->listed.items[i]] &= ~(uint64_t)NK_FORWARDED;
    }
}

/* NK_PARANOID: home is read-only except while promotion copies, so that a
 * stray write dies where it happens. */
static void protect(struct nk_home *home, bool shut) {
#ifdef NK_PARANOID
    struct nk_home_state *state = home->private_state;
    uint64_t pages = shut ? home->page_count : state->shut;
    if (pages > 1) {
        NK_ASSERT(mprotect(home->arena->base + NK_PAGE_WORDS,
                           (size_t)(pages - 1) * NK_PAGE_SIZE,
                           shut ? PROT_READ : PROT_READ | PROT_WRITE) == 0);
    }
    state->shut = shut ? home->page_count : 0;
#else
    (void)home;
    (void)shut;
#endif
}

nk_status nk_home_promote(struct nk_home *home, nk_noun *slots, size_t count) {
    struct nk_home_state *state = home->private_state;
    state->listed.count = 0;
    state->large.count = 0;
    memset(state->counts, 0, sizeof state->counts);
    for (size_t i = 0; i < count; i++) {
        if (slots[i] != NK_NONE) gather(home, slots[i]);
    }
    nk_status status = state->listed.count == 0 ? NK_OK : reserve(home);
    if (status == NK_OK) {
        if (state->listed.count > 0) protect(home, false);
        copy(home);
        if (state->listed.count > 0) protect(home, true);
        for (size_t i = 0; i < count; i++) {
            if (slots[i] != NK_NONE) slots[i] = forwarded(home->arena, slots[i]);
        }
        home->promotions++;
    } else {
        undo_marks(home);
    }
    nk_pile_trim(&state->listed);
    nk_pile_trim(&state->large);
    nk_pile_trim(&state->above);
    return status;
}

/* ---- after a load ---- */

/* Lists, counters and the bits of used pages, from the pages alone. */
static void rebuild(struct nk_home *home) {
    struct nk_home_state *state = home->private_state;
    memset(state->classes, 0, sizeof state->classes);
    memset(state->used, 0, bits_size(state));
    nk_bit_set(state->used, 0);
    state->free_pages = 0;
    state->page_hint = home->page_count;
    home->words_used = 0;
    /* From the top, so that the lists begin with the lowest pages. */
    for (uint64_t i = home->page_count; i-- > 1;) {
        struct nk_page *page = &home->pages[i];
        uint32_t class = page->class_index;
        if (class == NK_CLASS_FREE) {
            state->free_pages++;
            state->page_hint = i;
            continue;
        }
        nk_bit_set(state->used, i);
        if (class < NK_CLASS_COUNT) {
            uint64_t live = nk_boxes_of(class) - page->free_count;
            home->words_used += live * nk_class_words[class];
            nk_home_page_enlist(home, i);
        } else {
            home->words_used += NK_PAGE_WORDS;
        }
        if (class != NK_CLASS_LARGE) continue;
        for (uint64_t k = i; k < i + page->run_pages && k < home->page_count; k++)
            state->next[k] = (uint32_t)i;
    }
    home->words_at_sweep = home->words_used;
    nk_home_aim(home);
}

void nk_home_source_add(struct nk_home *home, struct nk_home_source *source) {
    source->next = home->sources;
    home->sources = source;
}

void nk_home_trace(struct nk_home *home, nk_root_visit visit, void *visiting) {
    home->visiting = visiting;
    for (size_t i = 0; i < NK_ROOT_COUNT; i++)
        visit(home->arena, &home->roots[i]);
    for (struct nk_home_source *source = home->sources; source; source = source->next) {
        if (source->trace != NULL) source->trace(source->context, home->arena, visit);
    }
    home->visiting = NULL;
}

void nk_home_adopt(struct nk_home *home) {
    NK_ASSERT(nk_collect_is_idle(home));
    if (home->page_count == 0) home->page_count = 1;
    home->dirty_count = 0;
    for (uint64_t i = 0; i < home->page_count; i++) {
        struct nk_page *page = &home->pages[i];
        home->dirty_count += nk_bit_get(home->dirty, i);
        if (page->class_index == NK_CLASS_FREE || page->class_index >= NK_CLASS_COUNT) {
            continue;
        }
        uint32_t live = 0;
        for (uint32_t word = 0; word < NK_BITMAP_WORDS; word++) {
            live += (uint32_t)__builtin_popcountll(page->bitmap[word]);
        }
        page->free_count = (uint16_t)(nk_boxes_of(page->class_index) - live);
    }
    rebuild(home);
}

/* ---- the oracle ---- */

static const char *check_page(const struct nk_home *home, uint64_t number) {
    const struct nk_home_state *state = home->private_state;
    const struct nk_page *page = &home->pages[number];
    uint32_t class = page->class_index, live = 0;
    if (class == NK_CLASS_FREE) {
        return nk_bit_get(state->used, number) ? "a free page counts as used" : NULL;
    }
    if (!nk_bit_get(state->used, number)) return "a page in use counts as free";
    if (class == NK_CLASS_TAIL) {
        class = home->pages[number - 1].class_index;
        return class >= NK_CLASS_LARGE ? NULL : "a run without a head";
    }
    if (class == NK_CLASS_LARGE) {
        return page->bitmap[0] == 1 ? NULL : "a run that is not allocated";
    }
    if (class >= NK_CLASS_COUNT) return "a page of no class";
    for (uint32_t i = 0; i < NK_BITMAP_WORDS; i++) {
        live += (uint32_t)__builtin_popcountll(page->bitmap[i]);
    }
    return live + page->free_count == nk_boxes_of(class) ? NULL : "wrong free count";
}

static const char *check_atom(const struct nk_home *home, nk_noun n) {
    const struct nk_home_state *state = home->private_state;
    const struct nk_atom *box = nk_atom_at(home->arena, n);
    const struct nk_page *page = &home->pages[nk_offset(n) / NK_PAGE_WORDS];
    uint64_t words = 1 + (uint64_t)box->words;
    if (box->words == 0) return "an atom that is a cell";
    if (page->class_index == NK_CLASS_LARGE) {
        if (words > (uint64_t)page->run_pages * NK_PAGE_WORDS) return "a run too short";
    } else if (words > NK_SMALL_WORDS_MAX ||
               state->class_of[words] != page->class_index) {
        return "an atom of another class";
    }
    if (box->data[box->words - 1] == 0) return "an atom with leading zeros";
    if (box->words == 1 && box->data[0] <= NK_DIRECT_MAX) return "an atom to be direct";
    if (box->mug != nk_mug_bytes(box->data, (size_t)box->words * 8)) return "wrong mug";
    return NULL;
}

static const char *check_cell(const struct nk_home *home, nk_noun n) {
    const struct nk_cell *cell = nk_cell_at(home->arena, n);
    const nk_noun children[2] = {cell->head, cell->tail};
    uint32_t mugs[2];
    if (cell->tag != 0) return "a cell that is an atom";
    for (int i = 0; i < 2; i++) {
        if (!nk_is_durable(home->arena, children[i])) return "home refers outside";
        mugs[i] = nk_is_direct(children[i]) ? nk_murmur_direct(children[i])
                                            : nk_atom_at(home->arena, children[i])->mug;
    }
    return cell->mug == nk_murmur_both(mugs[0], mugs[1]) ? NULL : "wrong mug";
}

static const char *check_place(const struct nk_home *home, nk_noun n) {
    uint64_t offset = nk_offset(n), number = offset / NK_PAGE_WORDS;
    if (number == 0 || number >= home->page_count) return "a box outside the pages";
    const struct nk_page *page = &home->pages[number];
    uint32_t class = page->class_index, inside = (uint32_t)(offset % NK_PAGE_WORDS);
    if (class == NK_CLASS_LARGE) return inside == 0 ? NULL : "inside a run";
    if (class == NK_CLASS_FREE || class >= NK_CLASS_COUNT) return "a box in no page";
    if (nk_is_cell(n) && class != NK_CLASS_CELL) return "a cell of another class";
    if (inside % nk_class_words[class] != 0) return "a box askew";
    uint32_t box = inside / nk_class_words[class];
    return nk_bit_get(page->bitmap, box) ? NULL : "a reachable box is free";
}

bool nk_home_holds(const struct nk_home *home, nk_noun n) {
    return n == NK_NONE || nk_is_direct(n) || check_place(home, n) == NULL;
}

/* Boxes still to be looked at, and those that were. */
struct check {
    struct nk_home *home;
    uint64_t *seen;
    struct nk_pile todo;
};

static const char *check_boxes(struct check *check) {
    const struct nk_home *home = check->home;
    const struct nk_home_state *state = home->private_state;
    struct nk_pile *todo = &check->todo;
    while (todo->count > 0) {
        nk_noun n = todo->items[--todo->count];
        if (nk_is_direct(n)) continue;
        const char *why = check_place(home, n);
        if (why != NULL) return why;
        uint64_t bit = nk_box_bit(home->pages, state->reciprocal, n);
        if (nk_bit_get(check->seen, bit)) continue;
        nk_bit_set(check->seen, bit);
        why = nk_is_cell(n) ? check_cell(home, n) : check_atom(home, n);
        if (why != NULL) return why;
        if (!nk_is_cell(n)) continue;
        nk_pile_push(todo, nk_tail(home->arena, n));
        nk_pile_push(todo, nk_head(home->arena, n));
    }
    return NULL;
}

static void check_root(struct nk_arena *arena, nk_noun *slot) {
    struct check *check = arena->home->visiting;
    if (*slot != NK_NONE && nk_is_durable(arena, *slot)) {
        nk_pile_push(&check->todo, *slot);
    }
}

const char *nk_home_check(struct nk_home *home) {
    struct check check = {.home = home};
    uint64_t size = home->page_count * NK_BITMAP_WORDS * 8;
    const char *why = NULL;
    for (uint64_t i = 1; i < home->page_count && why == NULL; i++) {
        why = check_page(home, i);
    }
    if (why != NULL) return why;
    check.seen = nk_home_table(size);
    NK_ASSERT(check.seen != NULL);
    nk_home_trace(home, check_root, &check);
    why = check_boxes(&check);
    nk_home_table_free(check.seen, size);
    nk_pile_close(&check.todo);
    return why;
}
