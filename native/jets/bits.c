/* Layer two: bits, blocks, and the order of nouns.
 *
 * A block has 2^bloq bits; a bite is a bloq (one block) or [bloq step].
 * Sizes saturate: what lies beyond UINT64_MAX bits holds nothing but zeros,
 * and a result that would need it is out of memory, as in Nock. Cells where
 * atoms belong, and lists that do not end in 0: decline. */
#include "order.h"

#include <stdlib.h>
#include <string.h>

#include "../big.h"
#include "../murmur.h"

#define HUGE_SIZE UINT64_MAX
#define POW_POLL_BITS (1u << 20)

/* step * 2^bloq. */
static uint64_t size_of(nk_noun bloq, nk_noun step) {
    if (step == 0) return 0;
    if (!nk_is_direct(bloq) || !nk_is_direct(step) || bloq >= 64) return HUGE_SIZE;
    if (step >> (63 - bloq) >> 1 != 0) return HUGE_SIZE;
    return step << bloq;
}

/* a + b, saturating. */
static uint64_t sum(uint64_t a, uint64_t b) {
    return a > HUGE_SIZE - b ? HUGE_SIZE : a + b;
}

static bool is_bite(const struct nk_arena *arena, nk_noun bite, nk_noun *bloq,
                    nk_noun *step) {
    if (nk_is_atom(bite)) {
        *bloq = bite;
        *step = 1;
        return true;
    }
    *bloq = nk_head(arena, bite);
    *step = nk_tail(arena, bite);
    return nk_is_atom(*bloq) && nk_is_atom(*step);
}

/* A list of atoms (or, with [pairs], of pairs of atoms) that ends in 0. */
static bool is_list(const struct nk_arena *arena, nk_noun list, bool pairs) {
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun item = nk_head(arena, list);
        if (nk_is_cell(item) != pairs) return false;
        if (pairs &&
            (nk_is_cell(nk_head(arena, item)) || nk_is_cell(nk_tail(arena, item)))) {
            return false;
        }
    }
    return list == 0;
}

/* Blocks of 2^bloq bits that the atom takes. */
static uint64_t blocks_of(const struct nk_arena *arena, nk_noun bloq, nk_noun atom) {
    uint64_t bits = nk_atom_bits(arena, atom), size = size_of(bloq, 1);
    return bits / size + (bits % size != 0);
}

static nk_status jet_bex(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (!nk_is_direct(a)) return NK_MEME;
    return nk_atom_shift_left(&machine->arena, 1, a, product);
}

/* ++  end: the low blocks. */
static nk_status jet_end(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_cut(&machine->arena, b, 0, size_of(bloq, step), product);
}

static nk_status jet_lsh(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_shift_left(&machine->arena, b, size_of(bloq, step), product);
}

static nk_status jet_rsh(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    return nk_atom_cut(&machine->arena, b, size_of(bloq, step), HUGE_SIZE, product);
}

/* ++  cut:  (end [a c] (rsh [a b] d)) */
static nk_status jet_cut(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, rest;
    if (!nk_sample_two(machine, core, &a, &rest) || nk_is_cell(a)) return NK_PUNT;
    nk_noun b = nk_slot(arena, rest, 4), c = nk_slot(arena, rest, 5),
            d = nk_slot(arena, rest, 3);
    if (b == NK_NONE || nk_is_cell(b) || nk_is_cell(c) || nk_is_cell(d)) return NK_PUNT;
    return nk_atom_cut(arena, d, size_of(a, b), size_of(a, c), product);
}

static nk_status jet_met(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    *product = blocks_of(&machine->arena, a, b);
    return NK_OK;
}

static nk_status jet_xeb(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    *product = nk_atom_bits(&machine->arena, a);
    return NK_OK;
}

/* ---- assembling: pieces laid side by side ---- */

/* Lays down the low [size] bits of each piece at the position where the
 * last one ended. Run twice: to measure, then to write. */
struct layer {
    struct nk_arena *arena;
    uint64_t *data; /* NULL: measure */
    uint64_t at, end;
};

static void lay(struct layer *layer, nk_noun piece, uint64_t size) {
    uint64_t bits = nk_atom_bits(layer->arena, piece);
    if (bits > size) bits = size;
    if (bits > 0) {
        uint64_t end = sum(layer->at, bits);
        if (end > layer->end) layer->end = end;
        if (layer->data != NULL) {
            uint64_t scratch;
            nk_bits_copy(layer->data, layer->at,
                         nk_atom_words(layer->arena, piece, &scratch), 0, bits);
        }
    }
    layer->at = sum(layer->at, size);
}

enum assembly { ASSEMBLE_CAN, ASSEMBLE_RAP, ASSEMBLE_REP };

static void lay_all(struct layer *layer, enum assembly how, nk_noun bloq, nk_noun step,
                    nk_noun list) {
    const struct nk_arena *arena = layer->arena;
    for (; nk_is_cell(list); list = nk_tail(arena, list)) {
        nk_noun item = nk_head(arena, list);
        if (how == ASSEMBLE_CAN) {
            lay(layer, nk_tail(arena, item), size_of(bloq, nk_head(arena, item)));
        } else if (how == ASSEMBLE_RAP) {
            lay(layer, item, size_of(bloq, blocks_of(arena, bloq, item)));
        } else {
            lay(layer, item, size_of(bloq, step));
        }
    }
}

static nk_status assemble(struct nk_arena *arena, enum assembly how, nk_noun bloq,
                          nk_noun step, nk_noun list, nk_noun *product) {
    struct layer layer = {arena, NULL, 0, 0};
    lay_all(&layer, how, bloq, step, list);
    if (layer.end == 0) {
        *product = 0;
        return NK_OK;
    }
    if (layer.end > (uint64_t)NK_ATOM_WORDS_MAX * 64) return NK_MEME;
    size_t words = (size_t)((layer.end + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    layer = (struct layer){arena, data, 0, 0};
    lay_all(&layer, how, bloq, step, list);
    *product = nk_atom_finish(arena, data, words);
    return NK_OK;
}

static nk_status jet_can(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!is_list(&machine->arena, b, true)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_CAN, a, 0, b, product);
}

static nk_status jet_rap(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b) || nk_is_cell(a)) return NK_PUNT;
    if (!is_list(&machine->arena, b, false)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_RAP, a, 0, b, product);
}

static nk_status jet_rep(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun bite, b, bloq, step;
    if (!nk_sample_two(machine, core, &bite, &b)) return NK_PUNT;
    if (!is_bite(&machine->arena, bite, &bloq, &step)) return NK_PUNT;
    if (!is_list(&machine->arena, b, false)) return NK_PUNT;
    return assemble(&machine->arena, ASSEMBLE_REP, bloq, step, b, product);
}

/* ++  fil: the lowest block of c, b times; laid once, then all that is there
 * again and again. */
static nk_status jet_fil(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, rest, block;
    uint64_t scratch;
    if (!nk_sample_two(machine, core, &a, &rest) || nk_is_cell(a) || nk_is_atom(rest)) {
        return NK_PUNT;
    }
    nk_noun b = nk_head(arena, rest), c = nk_tail(arena, rest);
    if (nk_is_cell(b) || nk_is_cell(c)) return NK_PUNT;
    uint64_t size = size_of(a, 1), total = size_of(a, b);
    nk_status status = nk_atom_cut(arena, c, 0, size, &block);
    if (status != NK_OK) return status;
    if (b == 0 || block == 0) return nk_answer(0, product);
    if (total > (uint64_t)NK_ATOM_WORDS_MAX * 64) return NK_MEME;
    size_t words = (size_t)(total / 64 + 1);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    nk_bits_copy(data, 0, nk_atom_words(arena, block, &scratch), 0, size);
    for (uint64_t done = size; done < total; done *= 2) {
        uint64_t more = done < total - done ? done : total - done;
        nk_bits_copy(data, done, (struct nk_words){data, words}, 0, more);
    }
    return nk_answer(nk_atom_finish(arena, data, words), product);
}

/* ++  cat:  (add (lsh [a (met a b)] c) b) */
static nk_status jet_cat(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, rest, high;
    if (!nk_sample_two(machine, core, &a, &rest) || nk_is_cell(a) || nk_is_atom(rest)) {
        return NK_PUNT;
    }
    nk_noun b = nk_head(arena, rest), c = nk_tail(arena, rest);
    if (nk_is_cell(b) || nk_is_cell(c)) return NK_PUNT;
    uint64_t shift = size_of(a, blocks_of(arena, a, b));
    nk_status status = nk_atom_shift_left(arena, c, shift, &high);
    if (status != NK_OK) return status;
    return nk_atom_logic(arena, NK_OR, high, b, product);
}

/* ++  rip: blocks as a list; built from its end. */
static nk_status jet_rip(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bite, b, bloq, step, list = 0, piece;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(arena, bite, &bloq, &step)) return NK_PUNT;
    uint64_t size = size_of(bloq, step), bits = nk_atom_bits(arena, b);
    if (bits == 0) return nk_answer(0, product);
    if (size == 0) return NK_PUNT; /* endless */
    for (uint64_t i = bits / size + (bits % size != 0); i > 0; i--) {
        nk_status status = nk_atom_cut(arena, b, (i - 1) * size, size, &piece);
        if (status != NK_OK) return status;
        list = nk_cons_try(arena, piece, list);
        if (list == NK_NONE) return NK_MEME;
    }
    return nk_answer(list, product);
}

/* [count] blocks of 2^bloq bits of [a], the last one first. */
static nk_status reverse_blocks(struct nk_arena *arena, nk_noun bloq, uint64_t count,
                                nk_noun a, nk_noun *product) {
    uint64_t size = size_of(bloq, 1), total = size_of(bloq, count), scratch;
    uint64_t bits = nk_atom_bits(arena, a);
    if (bits == 0 || count == 0) return nk_answer(0, product);
    if (total > (uint64_t)NK_ATOM_WORDS_MAX * 64) {
        /* One block, whatever its size, is its own reverse. */
        return count == 1 ? nk_answer(a, product) : NK_MEME;
    }
    struct nk_words from = nk_atom_words(arena, a, &scratch);
    size_t words = (size_t)((total + 63) / 64);
    uint64_t *data = nk_atom_begin(arena, words);
    if (data == NULL) return NK_MEME;
    for (uint64_t i = 0; i < count && i * size < bits; i++)
        nk_bits_copy(data, (count - 1 - i) * size, from, i * size, size);
    *product = nk_atom_finish(arena, data, words);
    return NK_OK;
}

/* ++  rev: the low [len] blocks, reversed, zeros included. */
static nk_status jet_rev(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bloq, rest;
    if (!nk_sample_two(machine, core, &bloq, &rest) || nk_is_atom(rest)) return NK_PUNT;
    nk_noun count = nk_head(arena, rest), data = nk_tail(arena, rest);
    if (nk_is_cell(bloq) || nk_is_cell(count) || nk_is_cell(data)) return NK_PUNT;
    nk_status status = nk_atom_cut(arena, data, 0, size_of(bloq, count), &data);
    if (status != NK_OK) return status;
    if (!nk_is_direct(count)) return data == 0 ? nk_answer(0, product) : NK_MEME;
    return reverse_blocks(arena, bloq, count, data, product);
}

/* ++  swp:  (rep a (flop (rip a b))) */
static nk_status jet_swp(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return reverse_blocks(&machine->arena, a, blocks_of(&machine->arena, a, b), b,
                          product);
}

/* ---- logic ---- */

static nk_status logic(struct nk_machine *machine, nk_noun core, enum nk_logic how,
                       nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    return nk_atom_logic(&machine->arena, how, a, b, product);
}
static nk_status jet_con(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_OR, product);
}
static nk_status jet_dis(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_AND, product);
}
static nk_status jet_mix(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return logic(machine, core, NK_XOR, product);
}

/* ++  sqt: the square root, and what is left. */
static nk_status jet_sqt(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, root, rest, square;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a == 0) return nk_answer(nk_cons_try(arena, 0, 0), product);
    uint64_t scratch;
    struct nk_words from = nk_atom_words(arena, a, &scratch);
    size_t words = (from.count + 1) / 2;
    uint64_t mark = arena->top, *data = nk_atom_begin_raw(arena, words);
    if (data == NULL) return NK_MEME;
    nk_status status = nk_big_root(arena, data, from);
    if (status != NK_OK) {
        arena->top = mark;
        return status;
    }
    root = nk_atom_finish(arena, data, words);
    status = nk_atom_multiply(arena, root, root, &square);
    if (status == NK_OK) status = nk_atom_subtract(arena, a, square, &rest);
    if (status != NK_OK) return status;
    return nk_answer(nk_cons_try(arena, root, rest), product);
}

/* ++  pow: by squaring, from the exponent's highest bit. Polls between large
 * products, and within them. */
static nk_status jet_pow(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, b, result = 1;
    if (!nk_sample_atoms(machine, core, &a, &b)) return NK_PUNT;
    if (b == 0 || a == 1) return nk_answer(1, product);
    if (a == 0) return nk_answer(0, product);
    if (!nk_is_direct(b)) return NK_MEME;
    uint64_t bits = nk_atom_bits(arena, a) - 1;
    if (b > (uint64_t)NK_ATOM_WORDS_MAX * 64 / bits) return NK_MEME;
    for (uint64_t i = 64 - (uint64_t)__builtin_clzll(b); i-- > 0;) {
        nk_status status = nk_atom_multiply(arena, result, result, &result);
        if (status == NK_OK && (b >> i & 1) != 0) {
            status = nk_atom_multiply(arena, result, a, &result);
        }
        if (status == NK_OK && nk_atom_bits(arena, result) > POW_POLL_BITS) {
            status = nk_arena_poll(arena);
        }
        if (status != NK_OK) return status;
    }
    return nk_answer(result, product);
}

/* ++  sew: blocks b..b+c of e replaced by the low ones of d. */
static nk_status jet_sew(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sample, place, low, middle, high;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    place = nk_slot(arena, sample, 6);
    if (place == NK_NONE || nk_is_atom(place) || nk_is_atom(nk_tail(arena, place))) {
        return NK_PUNT;
    }
    nk_noun a = nk_head(arena, sample), b = nk_head(arena, place),
            c = nk_slot(arena, place, 6), d = nk_slot(arena, place, 7),
            e = nk_slot(arena, sample, 7);
    if (nk_is_cell(a) || nk_is_cell(b) || nk_is_cell(c) || nk_is_cell(d) ||
        nk_is_cell(e)) {
        return NK_PUNT;
    }
    uint64_t start = size_of(a, b), count = size_of(a, c), end = sum(start, count);
    nk_status status = nk_atom_cut(arena, e, 0, start, &low);
    if (status == NK_OK) status = nk_atom_cut(arena, d, 0, count, &middle);
    if (status == NK_OK) status = nk_atom_shift_left(arena, middle, start, &middle);
    if (status == NK_OK) status = nk_atom_cut(arena, e, end, HUGE_SIZE, &high);
    if (status == NK_OK) status = nk_atom_shift_left(arena, high, end, &high);
    if (status == NK_OK) status = nk_atom_logic(arena, NK_OR, low, middle, &low);
    if (status == NK_OK) status = nk_atom_logic(arena, NK_OR, low, high, product);
    return status;
}

/* ++  rig: how many blocks of 2^b bits a bite takes; a bare bloq gives 0. */
static nk_status jet_rig(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bite, b, rest;
    if (!nk_sample_two(machine, core, &bite, &b)) return NK_PUNT;
    if (nk_is_atom(bite)) return nk_answer(0, product);
    nk_noun a = nk_head(arena, bite), c = nk_tail(arena, bite);
    if (nk_is_cell(a) || nk_is_cell(b) || nk_is_cell(c)) return NK_PUNT;
    if (!nk_is_direct(a) || !nk_is_direct(b)) return NK_PUNT;
    if (a >= b) return nk_atom_shift_left(arena, c, a - b, product);
    nk_status status = nk_atom_cut(arena, c, 0, b - a, &rest);
    if (status == NK_OK) status = nk_atom_cut(arena, c, b - a, HUGE_SIZE, product);
    if (status == NK_OK && rest != 0) {
        status = nk_atom_increment(arena, *product, product);
    }
    return status;
}

/* ---- counting bits ---- */

/* ++  clz: zeros above the highest one, within the bite. */
static nk_status jet_clz(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun bite, b, bloq, step, low;
    if (!nk_sample_two(machine, core, &bite, &b) || nk_is_cell(b)) return NK_PUNT;
    if (!is_bite(arena, bite, &bloq, &step)) return NK_PUNT;
    uint64_t size = size_of(bloq, step);
    if (size > NK_DIRECT_MAX) return NK_PUNT;
    nk_status status = nk_atom_cut(arena, b, 0, size, &low);
    if (status == NK_OK) *product = size - nk_atom_bits(arena, low);
    return status;
}

static nk_status jet_ctz(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    uint64_t scratch, at = 0;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    if (a == 0) return nk_answer(0, product);
    struct nk_words words = nk_atom_words(&machine->arena, a, &scratch);
    while (words.data[at] == 0)
        at++;
    return nk_answer(at * 64 + (uint64_t)__builtin_ctzll(words.data[at]), product);
}

/* ++  ham: how many ones. */
static nk_status jet_ham(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    uint64_t scratch, count = 0;
    if (!nk_sample(machine, core, &a) || nk_is_cell(a)) return NK_PUNT;
    struct nk_words words = nk_atom_words(&machine->arena, a, &scratch);
    for (size_t i = 0; i < words.count; i++)
        count += (uint64_t)__builtin_popcountll(words.data[i]);
    return nk_answer(count, product);
}

/* ---- hew: many cuts, as a tree of steps says ---- */

/* A branch half done: its tail is to come (left is NK_NONE), or its head is
 * made and stands in [left]. */
struct branch {
    nk_noun tail, left;
};

/* Each atom of [shape] becomes that many blocks of [c], from [*step] on. */
static nk_status hew_tree(struct nk_arena *arena, nk_noun bloq, uint64_t *step,
                          nk_noun shape, nk_noun c, nk_noun *product) {
    struct branch *stack = NULL;
    size_t depth = 0, capacity = 0;
    nk_status status = NK_OK;
    for (;;) {
        while (nk_is_cell(shape)) {
            if (depth == capacity) {
                capacity = capacity * 2 + 16;
                stack = realloc(stack, capacity * sizeof *stack);
                NK_ASSERT(stack != NULL);
            }
            stack[depth++] = (struct branch){nk_tail(arena, shape), NK_NONE};
            shape = nk_head(arena, shape);
        }
        if (!nk_is_direct(shape) || *step > NK_DIRECT_MAX - shape) {
            status = NK_PUNT;
            break;
        }
        nk_noun made;
        status =
            nk_atom_cut(arena, c, size_of(bloq, *step), size_of(bloq, shape), &made);
        if (status != NK_OK) break;
        *step += shape;
        while (depth > 0 && stack[depth - 1].left != NK_NONE) {
            made = nk_cons_try(arena, stack[--depth].left, made);
            if (made == NK_NONE) break;
        }
        if (made == NK_NONE) {
            status = NK_MEME;
            break;
        }
        if (depth == 0) {
            *product = made;
            break;
        }
        stack[depth - 1].left = made;
        shape = stack[depth - 1].tail;
    }
    free(stack);
    return status;
}

/* The gate that hew makes: its context is [[bloq step] hew]. Gives the tree
 * and the bite where the next one begins. */
static nk_status jet_hew_fun(struct nk_machine *machine, nk_noun core,
                             nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun shape, tree;
    nk_noun bite = nk_slot(arena, core, 14), c = nk_slot(arena, core, 125);
    if (!nk_sample(machine, core, &shape) || bite == NK_NONE || c == NK_NONE) {
        return NK_PUNT;
    }
    if (nk_is_atom(bite) || nk_is_cell(c)) return NK_PUNT;
    nk_noun bloq = nk_head(arena, bite), step = nk_tail(arena, bite);
    if (nk_is_cell(bloq) || !nk_is_direct(step)) return NK_PUNT;
    nk_status status = hew_tree(arena, bloq, &step, shape, c, &tree);
    if (status != NK_OK) return status;
    nk_noun next = nk_cons_try(arena, bloq, step);
    if (next == NK_NONE) return NK_MEME;
    return nk_answer(nk_cons_try(arena, tree, next), product);
}

/* ---- hash and order ---- */

static nk_status jet_mug(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a;
    if (!nk_sample(machine, core, &a)) return NK_PUNT;
    *product = nk_mug(&machine->arena, a);
    return NK_OK;
}

/* ++  muk: murmur3 of the first [size] bytes of a key. Where the key is
 * longer, or ends in blocks of zeros, kelvins differ: decline. */
static nk_status jet_muk(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun seed, rest;
    if (!nk_sample_two(machine, core, &seed, &rest) || nk_is_cell(seed)) return NK_PUNT;
    if (nk_is_atom(rest)) return NK_PUNT;
    nk_noun size = nk_head(arena, rest), key = nk_tail(arena, rest);
    if (nk_is_cell(key) || size > UINT32_MAX) return NK_PUNT;
    uint64_t bytes = nk_atom_size(arena, key), scratch;
    if (bytes > size || (bytes + 3) / 4 < size / 4) return NK_PUNT;
    uint64_t low;
    nk_atom_read(arena, seed, &low, sizeof low);
    uint32_t hash = (uint32_t)low;
    struct nk_words words = nk_atom_words(arena, key, &scratch);
    for (uint64_t i = 0; i < size / 4; i++)
        hash = nk_murmur_mix(hash, (uint32_t)(words.data[i / 2] >> (i % 2 * 32)));
    uint64_t last = size / 4; /* what is left, fewer than four bytes */
    if (last / 2 < words.count) {
        hash ^= nk_murmur_scramble((uint32_t)(words.data[last / 2] >> (last % 2 * 32)));
    }
    return nk_answer(nk_murmur_final(hash, (uint32_t)size), product);
}

static nk_status jet_dor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_dor(&machine->arena, a, b), product);
}
static nk_status jet_aor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_aor(&machine->arena, a, b), product);
}
static nk_status jet_gor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_gor(&machine->arena, a, b), product);
}
static nk_status jet_mor(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun a, b;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    return nk_answer_bool(nk_mor(&machine->arena, a, b), product);
}

const struct nk_arm nk_arms_bits[] = {NK_ARM("two/aor", jet_aor),
                                      NK_ARM("two/bex", jet_bex),
                                      NK_ARM("two/can", jet_can),
                                      NK_ARM("two/cat", jet_cat),
                                      NK_ARM("two/clz", jet_clz),
                                      NK_ARM("two/con", jet_con),
                                      NK_ARM("two/ctz", jet_ctz),
                                      NK_ARM("two/cut", jet_cut),
                                      NK_ARM("two/dis", jet_dis),
                                      NK_ARM("two/dor", jet_dor),
                                      NK_ARM("two/end", jet_end),
                                      NK_ARM("two/fil", jet_fil),
                                      NK_ARM("two/gor", jet_gor),
                                      NK_ARM("two/ham", jet_ham),
                                      NK_ARM("two/hew/fun", jet_hew_fun),
                                      NK_ARM("two/lsh", jet_lsh),
                                      NK_ARM("two/met", jet_met),
                                      NK_ARM("two/mix", jet_mix),
                                      NK_ARM("two/mor", jet_mor),
                                      NK_ARM("two/mug", jet_mug),
                                      NK_ARM("two/muk", jet_muk),
                                      NK_ARM("two/pow", jet_pow),
                                      NK_ARM("two/rap", jet_rap),
                                      NK_ARM("two/rep", jet_rep),
                                      NK_ARM("two/rev", jet_rev),
                                      NK_ARM("two/rig", jet_rig),
                                      NK_ARM("two/rip", jet_rip),
                                      NK_ARM("two/rsh", jet_rsh),
                                      NK_ARM("two/sew", jet_sew),
                                      NK_ARM("two/sqt", jet_sqt),
                                      NK_ARM("two/swp", jet_swp),
                                      NK_ARM("two/xeb", jet_xeb),
                                      NK_ARMS_END};
