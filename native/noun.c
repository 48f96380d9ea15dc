/* Reading nouns: atoms as words, slots, comparison, equality. */
#include "noun.h"

#include <string.h>

#include "murmur.h"
#include "nursery.h"
#include "worklist.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "atoms are read as bytes; a big-endian port must swap there");

/* After so many cell pairs, equality remembers them (see nk_equal). */
#define PAIR_SET_AFTER 65536u
#define PAIR_SET_SIZE 131072u
#define POLL_STEPS 65536u

struct nk_words nk_atom_words(const struct nk_arena *arena, nk_noun atom,
                              uint64_t *scratch) {
    if (nk_is_direct(atom)) {
        *scratch = atom;
        return (struct nk_words){scratch, atom != 0};
    }
    const struct nk_atom *box = nk_atom_at(arena, atom);
    return (struct nk_words){box->data, box->words};
}

uint64_t nk_atom_bits(const struct nk_arena *arena, nk_noun atom) {
    uint64_t scratch;
    struct nk_words view = nk_atom_words(arena, atom, &scratch);
    if (view.count == 0) return 0;
    unsigned zeros = (unsigned)__builtin_clzll(view.data[view.count - 1]);
    return (uint64_t)view.count * 64 - zeros;
}

size_t nk_atom_size(const struct nk_arena *arena, nk_noun atom) {
    return (size_t)((nk_atom_bits(arena, atom) + 7) / 8);
}

void nk_atom_read(const struct nk_arena *arena, nk_noun atom, void *out, size_t size) {
    uint64_t scratch;
    struct nk_words view = nk_atom_words(arena, atom, &scratch);
    size_t have = view.count * 8;
    if (have > size) have = size;
    if (have > 0) memcpy(out, view.data, have);
    if (size > have) memset((uint8_t *)out + have, 0, size - have);
}

/* Follow the bits of [axis] below its top bit, which is number [bit]. */
static nk_noun slot_bits(const struct nk_arena *arena, nk_noun n, uint64_t axis,
                         unsigned bit) {
    while (bit-- > 0) {
        if (!nk_is_cell(n)) return NK_NONE;
        const struct nk_cell *cell = nk_cell_at(arena, n);
        n = ((axis >> bit) & 1) != 0 ? cell->tail : cell->head;
    }
    return n;
}

nk_noun nk_slot(const struct nk_arena *arena, nk_noun n, uint64_t axis) {
    NK_CHECK(axis != 0);
    return slot_bits(arena, n, axis, 63u - (unsigned)__builtin_clzll(axis));
}

nk_noun nk_slot_atom(const struct nk_arena *arena, nk_noun n, nk_noun axis) {
    uint64_t scratch;
    struct nk_words view = nk_atom_words(arena, axis, &scratch);
    if (view.count == 0) return NK_NONE;
    n = nk_slot(arena, n, view.data[view.count - 1]);
    for (size_t i = view.count - 1; i-- > 0 && n != NK_NONE;) {
        n = slot_bits(arena, n, view.data[i], 64);
    }
    return n;
}

int nk_atom_compare(const struct nk_arena *arena, nk_noun a, nk_noun b) {
    uint64_t scratch_a, scratch_b;
    struct nk_words x = nk_atom_words(arena, a, &scratch_a);
    struct nk_words y = nk_atom_words(arena, b, &scratch_b);
    if (x.count != y.count) return x.count < y.count ? -1 : 1;
    for (size_t i = x.count; i-- > 0;) {
        if (x.data[i] != y.data[i]) return x.data[i] < y.data[i] ? -1 : 1;
    }
    return 0;
}

/* Pairs of cells that equality has met. Open addressing; NK_NONE is empty. */
struct pair {
    nk_noun a, b;
};
struct pair_set {
    struct pair *pairs; /* NULL until it is needed */
    size_t capacity;    /* a power of two */
    size_t count;
};

static struct pair *pair_place(const struct pair_set *set, nk_noun a, nk_noun b) {
    size_t at = (size_t)nk_hash_two(a, b) & (set->capacity - 1);
    while (set->pairs[at].a != NK_NONE &&
           (set->pairs[at].a != a || set->pairs[at].b != b)) {
        at = (at + 1) & (set->capacity - 1);
    }
    return &set->pairs[at];
}

static void pair_set_resize(struct pair_set *set, size_t capacity) {
    struct pair_set old = *set;
    set->pairs = malloc(capacity * sizeof *set->pairs);
    NK_ASSERT(set->pairs != NULL);
    memset(set->pairs, 0xff, capacity * sizeof *set->pairs);
    set->capacity = capacity;
    for (size_t i = 0; i < old.capacity; i++) {
        struct pair *pair = &old.pairs[i];
        if (pair->a != NK_NONE) *pair_place(set, pair->a, pair->b) = *pair;
    }
    free(old.pairs);
}

/* Add a pair; false if it was there. */
static bool pair_set_add(struct pair_set *set, nk_noun a, nk_noun b) {
    if (set->pairs == NULL) pair_set_resize(set, PAIR_SET_SIZE);
    struct pair *place = pair_place(set, a, b);
    if (place->a != NK_NONE) return false;
    *place = (struct pair){a, b};
    if (++set->count > set->capacity / 2) pair_set_resize(set, set->capacity * 2);
    return true;
}

enum verdict { SAME, DIFFERENT, DEEPER };

/* What can be said of two nouns without descending. */
static inline enum verdict compare_shallow(const struct nk_arena *arena, nk_noun a,
                                           nk_noun b) {
    if (a == b) return SAME;
    if (nk_is_direct(a) || nk_is_direct(b)) return DIFFERENT;
    const struct nk_atom *x = nk_atom_at(arena, a);
    const struct nk_atom *y = nk_atom_at(arena, b);
    if (x->words != y->words) return DIFFERENT; /* also: a cell and an atom */
    if (x->mug != y->mug && x->mug != 0 && y->mug != 0) return DIFFERENT;
    if (x->words == 0) return DEEPER;
    return memcmp(x->data, y->data, (size_t)x->words * 8) == 0 ? SAME : DIFFERENT;
}

/* The first difference ends the walk. So a pair that was once met need not
 * be walked again, whether its walk is over or still pending: had it been
 * unequal, there would be no second meeting that matters. */
static bool equal_cells(struct nk_arena *arena, nk_noun a, nk_noun b,
                        uint64_t *steps_total) {
    struct nk_worklist todo;
    struct pair_set met = {NULL, 0, 0};
    uint64_t steps = 0;
    bool equal = false;
    nk_worklist_open(&todo);
    for (;;) {
        const struct nk_cell *x = nk_cell_at(arena, a);
        const struct nk_cell *y = nk_cell_at(arena, b);
        if (NK_UNLIKELY(steps % POLL_STEPS == POLL_STEPS - 1)) {
            nk_status status = nk_arena_poll(arena);
            if (status != NK_OK) {
                arena->stopped = status;
                goto done;
            }
        }
        bool walk = ++steps < PAIR_SET_AFTER || pair_set_add(&met, a, b);
        enum verdict heads = walk ? compare_shallow(arena, x->head, y->head) : SAME;
        if (heads == DIFFERENT) goto done;
        enum verdict tails = walk ? compare_shallow(arena, x->tail, y->tail) : SAME;
        if (tails == DIFFERENT) goto done;
        if (heads == DEEPER) {
            if (tails == DEEPER) {
                nk_worklist_push(&todo, x->tail);
                nk_worklist_push(&todo, y->tail);
            }
            a = x->head;
            b = y->head;
        } else if (tails == DEEPER) {
            a = x->tail;
            b = y->tail;
        } else if (todo.count > 0) {
            b = nk_worklist_pop(&todo);
            a = nk_worklist_pop(&todo);
        } else {
            break;
        }
    }
    equal = true;
done:
    *steps_total += steps;
    nk_worklist_close(&todo);
    free(met.pairs);
    return equal;
}

bool nk_equal_counted(struct nk_arena *arena, nk_noun a, nk_noun b, uint64_t *steps) {
    switch (compare_shallow(arena, a, b)) {
    case SAME:
        return true;
    case DIFFERENT:
        return false;
    case DEEPER:
        break;
    }
    return equal_cells(arena, a, b, steps);
}

bool nk_equal(struct nk_arena *arena, nk_noun a, nk_noun b) {
    uint64_t steps = 0;
    return nk_equal_counted(arena, a, b, &steps);
}
