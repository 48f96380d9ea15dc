/* Layer hex: lull's plot, a plan of slices that become one atom.
 *
 *     [bloq items]     the items side by side, in blocks of 2^bloq bits
 *     [plot plot]      the second after the first, in the second's blocks
 *
 * An item is an atom (as many blocks as it takes), [step atom] (that many of
 * its blocks), [[%c ~] [start step] atom] (a slice), [[%m ~] [start step] atom]
 * (a slice, as many blocks as it takes) or [[%s ~] plot].
 *
 * No piece is larger than the room that it is given, so each is written where
 * it belongs: one walk measures, another one writes. Sizes that no atom in
 * memory has decline, and so does every other shape. */
#include <stdlib.h>

#include "sample.h"

#define BLOQ_MAX 32u
#define BITS_MAX (1ull << 40)
#define STEPS_MAX (1u << 24)
#define NO_BLOQ UINT32_MAX

/* Goes on when what begins at [start] has been taken. */
struct waiting {
    uint64_t start;
    nk_noun rest; /* items, or the second plot */
    uint32_t bloq;
    bool items;
};

struct walk {
    const struct nk_arena *arena;
    uint64_t *words; /* written to; NULL: measure */
    uint64_t at;     /* bits so far */
    uint64_t used;   /* of these, up to the last one that is not 0 */
    uint32_t steps;
    struct waiting *stack;
    size_t count, capacity;
};

static void push(struct walk *walk, struct waiting waiting) {
    if (walk->count == walk->capacity) {
        walk->capacity = walk->capacity * 2 + 16;
        walk->stack = realloc(walk->stack, walk->capacity * sizeof *walk->stack);
        NK_ASSERT(walk->stack != NULL);
    }
    walk->stack[walk->count++] = waiting;
}

/* [bits], up to a whole number of blocks. */
static uint64_t whole(uint64_t bits, uint32_t bloq) {
    uint64_t mask = (1ull << bloq) - 1;
    return (bits + mask) & ~mask;
}

/* False where [step] is no number, or no atom has so many blocks. */
static bool size_of(nk_noun step, uint32_t bloq, uint64_t *bits) {
    *bits = step << bloq;
    return step <= BITS_MAX >> bloq;
}

/* A plot is counted in the blocks of its last list. */
static bool bloq_of(const struct nk_arena *arena, nk_noun plot, uint32_t *bloq) {
    while (nk_is_cell(plot) && nk_is_cell(nk_head(arena, plot)))
        plot = nk_tail(arena, plot);
    if (nk_is_atom(plot) || nk_head(arena, plot) > BLOQ_MAX) return false;
    *bloq = (uint32_t)nk_head(arena, plot);
    return true;
}

/* Bits of a slice, without the zeros at its end. */
static uint64_t bits_in(struct nk_words words, uint64_t start, uint64_t count) {
    uint64_t end = words.count * 64;
    if (end > start + count) end = start + count;
    while (end > start) {
        uint64_t at = end - 1, low = words.data[at / 64] << (63 - at % 64);
        if (low != 0) {
            end -= (uint64_t)__builtin_clzll(low);
            return end > start ? end - start : 0;
        }
        end = at / 64 * 64;
    }
    return 0;
}

/* An item that is no plot. */
static bool take_item(struct walk *walk, nk_noun item, uint32_t bloq) {
    const struct nk_arena *arena = walk->arena;
    uint64_t start = 0, count = BITS_MAX, scratch;
    bool measured = nk_is_atom(item);
    if (!measured) {
        nk_noun head = nk_head(arena, item);
        item = nk_tail(arena, item);
        if (nk_is_atom(head)) {
            if (!size_of(head, bloq, &count)) return false;
        } else {
            measured = nk_head(arena, head) == 'm';
            if (!measured && nk_head(arena, head) != 'c') return false;
            if (nk_tail(arena, head) != 0 || nk_is_atom(item)) return false;
            nk_noun steps = nk_head(arena, item);
            item = nk_tail(arena, item);
            if (nk_is_atom(steps)) return false;
            if (!size_of(nk_head(arena, steps), bloq, &start)) return false;
            if (!size_of(nk_tail(arena, steps), bloq, &count)) return false;
        }
        if (nk_is_cell(item)) return false;
    }
    struct nk_words words = nk_atom_words(arena, item, &scratch);
    uint64_t taken = bits_in(words, start, count);
    if (taken > 0) {
        walk->used = walk->at + taken;
        if (walk->words != NULL)
            nk_bits_copy(walk->words, walk->at, words, start, taken);
    }
    walk->at += measured ? whole(taken, bloq) : count;
    return walk->at <= BITS_MAX;
}

/* [[%s ~] plot] */
static bool is_plot(const struct nk_arena *arena, nk_noun item, nk_noun *plot) {
    if (nk_is_atom(item)) return false;
    nk_noun head = nk_head(arena, item);
    *plot = nk_tail(arena, item);
    return nk_is_cell(head) && nk_head(arena, head) == 's' && nk_tail(arena, head) == 0;
}

/* Go on with what waits, up to the next plot: NK_NONE at the end. */
static bool next_plot(struct walk *walk, nk_noun *plot, uint32_t *bloq) {
    const struct nk_arena *arena = walk->arena;
    while (walk->count > 0) {
        struct waiting *top = &walk->stack[walk->count - 1];
        walk->at = top->start + whole(walk->at - top->start, top->bloq);
        if (walk->at > BITS_MAX || walk->steps++ > STEPS_MAX) return false;
        if (!top->items) {
            *plot = top->rest;
            *bloq = top->bloq;
            walk->count--;
            return true;
        }
        if (nk_is_atom(top->rest)) {
            if (top->rest != 0) return false;
            walk->count--;
            continue;
        }
        nk_noun item = nk_head(arena, top->rest);
        top->rest = nk_tail(arena, top->rest);
        if (is_plot(arena, item, plot)) return true;
        if (!take_item(walk, item, top->bloq)) return false;
    }
    *plot = NK_NONE;
    return true;
}

/* False: decline. */
static bool take(struct walk *walk, nk_noun plot) {
    const struct nk_arena *arena = walk->arena;
    uint32_t bloq = NO_BLOQ;
    walk->at = walk->used = walk->steps = 0;
    for (;;) {
        if (bloq == NO_BLOQ && !bloq_of(arena, plot, &bloq)) return false;
        nk_noun head = nk_head(arena, plot), tail = nk_tail(arena, plot);
        push(walk, (struct waiting){walk->at, tail, bloq, nk_is_atom(head)});
        bloq = NO_BLOQ;
        plot = head;
        if (nk_is_cell(plot)) continue;
        if (!next_plot(walk, &plot, &bloq)) return false;
        if (plot == NK_NONE) return true;
    }
}

/* ++  fax: [atom bloq step]; ++  met: [bloq step]. */
static nk_status plotted(struct nk_machine *machine, nk_noun core, bool write,
                         nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct walk walk = {.arena = arena};
    nk_noun plot, atom = 0;
    uint32_t bloq = 0;
    if (!nk_sample(machine, core, &plot)) return NK_PUNT;
    nk_status status =
        take(&walk, plot) && bloq_of(arena, plot, &bloq) ? NK_OK : NK_PUNT;
    if (status == NK_OK && write && walk.used > 0) {
        size_t words = (size_t)(walk.used + 63) / 64;
        walk.words = nk_atom_begin(arena, words);
        if (walk.words == NULL) {
            status = NK_MEME;
        } else {
            (void)take(&walk, plot);
            atom = nk_atom_finish(arena, walk.words, words);
        }
    }
    free(walk.stack);
    if (status != NK_OK) return status;
    nk_noun made = nk_cons_try(arena, bloq, walk.at >> bloq);
    if (write && made != NK_NONE) made = nk_cons_try(arena, atom, made);
    return nk_answer(made, product);
}

static nk_status jet_fax(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return plotted(machine, core, true, product);
}
static nk_status jet_met(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return plotted(machine, core, false, product);
}

const struct nk_arm nk_arms_plot[] = {NK_ARM("hex/lull/plot/fax", jet_fax),
                                      NK_ARM("hex/lull/plot/met", jet_met),
                                      NK_ARMS_END};
