/* The compiler from formulas to programs, and the program tables.
 *
 * Compilation is one pass over the formula with an explicit stack of tasks
 * (no recursion), after a pass that finds malformed subformulas. Registers
 * are counted references at compile time: an operand, a binding as subject
 * and a cache entry each hold one, and a register is free when none does.
 * The cache knows which slots (and increments, and literals) of live
 * registers already lie in which register. */
#include "code.h"

#include <stdlib.h>
#include <string.h>

#include "collect.h"
#include "cord.h"
#include "mug.h"

#define CACHE_MAX 12u
#define OUTLINE (1u << 16) /* words of code, then subformulas go out of line */
#define PROGRAMS_MAX 4096u /* of the nursery, before the idle ones go */
#define SHARED 1024u       /* of the nursery, found by their formula's mug */
#ifndef NK_TINY
#define TASKS_MAX (1u << 20)
#define STEPS_MAX (1u << 18) /* tasks done, likewise: they need not make code */
#define PROGRAM_BYTES_MAX (1ull << 30)
#else
#define TASKS_MAX (1u << 10)
#define STEPS_MAX (1u << 14)
#define PROGRAM_BYTES_MAX (16ull << 20)
#endif
#define MAKER_WORDS_MAX 64u
#define COUNTED_MAX 4u /* tests of a counted loop, and counters */
#define COUNTED_SLOTS_MAX (COUNTED_MAX * 4)
#define POLL_STEPS 8192u /* of a compilation, between two polls */
#define NONE UINT32_MAX

/* ---- tables ---- */

struct table {
    struct nk_program **slots;
    size_t capacity; /* a power of two */
    size_t count;
};

/* What the cache holds: [reg] is ... of register [key]. Of a PART it is the
 * index of a literal, that is to be had without the register. */
enum entry_kind { ENTRY_SLOT, ENTRY_PART, ENTRY_INC, ENTRY_LITERAL };
struct entry {
    enum entry_kind kind;
    uint32_t key; /* register; NONE for a literal */
    uint64_t arg; /* axis, or index of the literal */
    uint32_t reg;
};

struct label {
    uint32_t patches; /* chain of struct patch */
    bool seen;        /* a jump has stored its cache */
    uint32_t saved_count;
    struct entry saved[CACHE_MAX];
};

struct patch {
    uint32_t word, start, next;
};

enum want_kind { WANT_ANY, WANT_REG, WANT_TAIL };
struct want {
    enum want_kind kind;
    uint32_t reg;
};

struct operand {
    bool is_literal;
    uint32_t reg;
    nk_noun literal;
};

enum task_kind {
    TASK_EVAL,
    TASK_CONS,
    TASK_NOCK,
    TASK_ISCELL,
    TASK_INC,
    TASK_EQ,
    TASK_BIND,
    TASK_PUSH,
    TASK_KICK,
    TASK_SLAM,
    TASK_EDIT,
    TASK_SCRY,
    TASK_COND,
    TASK_COND_EQ,
    TASK_COND_CELL,
    TASK_COND_TEST,
    TASK_JUMP,
    TASK_LABEL,
    TASK_ELSE,
    TASK_JOIN,
    TASK_CLUE,
    TASK_FAST,
    TASK_UNTRACE,
    TASK_MEMO_SAVE,
    TASK_UNLOOP,
    TASK_UNJINX,
    TASK_UNBOUT,
};

struct task {
    enum task_kind kind;
    bool lose;  /* release the subject at its last use */
    bool trunk; /* the program's own formula, or a branch of its conditions */
    struct want want;
    uint32_t subject;
    uint32_t label, label2;
    uint32_t extra;
    nk_noun formula;
};

/* A value in a counted loop: of a slot, one more than that, or a constant. */
enum counted_kind { COUNTED_SLOT, COUNTED_NEXT, COUNTED_CONSTANT };
struct counted_value {
    enum counted_kind kind;
    uint32_t slot; /* its index */
    nk_noun constant;
};

/* A loop of counters, see "counted loops". */
struct counted {
    nk_noun again; /* the tail call; NK_NONE: the formula is no such loop */
    uint64_t arm;
    uint64_t slots[COUNTED_SLOTS_MAX]; /* their axes */
    uint32_t slot_count, test_count, counter_count;
    struct {
        struct counted_value value[2];
        bool while_equal;
    } tests[COUNTED_MAX];
    struct {
        uint32_t slot, from; /* becomes what is one more than [from] */
    } counters[COUNTED_MAX];
};

#define VECTOR(type, name)                                                             \
    type *name;                                                                        \
    size_t name##_count, name##_capacity

struct nk_code {
    struct table home, nursery;
    size_t traced;  /* programs of the nursery known to be tenured */
    bool moved;     /* by the running collection, or dropped: some of them */
    size_t purging; /* capacity of `home` when the purge's cursor was set */
    VECTOR(struct nk_program *, young); /* of the nursery, oldest first */
    struct nk_program *by_mug[SHARED];  /* the last of them with such a mug */
    VECTOR(struct nk_site *, listed);
    VECTOR(struct nk_program *, stubs);
    uint64_t compiled, shared, bytes;
    /* scratch of the compiler */
    VECTOR(uint32_t, words);
    VECTOR(nk_noun, literals);
    VECTOR(struct nk_site, sites);
    VECTOR(struct nk_live, points);
    VECTOR(struct nk_live, calls);
    VECTOR(uint32_t, dead);
    VECTOR(struct task, tasks);
    VECTOR(struct operand, operands);
    VECTOR(struct label, labels);
    VECTOR(struct patch, patches);
    VECTOR(uint32_t, refs);
    VECTOR(uint64_t, used);    /* bit per register */
    VECTOR(uint64_t, pending); /* used, but not written yet */
    VECTOR(nk_noun, checks);
    struct entry cache[CACHE_MAX];
    uint32_t cache_count;
    uint32_t registers;
    uint32_t steps; /* tasks of this compilation so far */
    struct counted counted;
    const struct nk_arena *arena;
    /* verdicts of the check: open addressing by reference */
    nk_noun *seen_keys;
    uint8_t *seen_good;
    size_t seen_capacity, seen_count;
};

/* Room for one more element; our own exhaustion is fatal. */
static void *grow(void *data, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity) return data;
    *capacity = *capacity * 2 + 64;
    data = realloc(data, *capacity * size);
    NK_ASSERT(data != NULL);
    return data;
}
#define ADD(c, name)                                                                   \
    ((c)->name =                                                                       \
         grow((c)->name, (c)->name##_count, &(c)->name##_capacity, sizeof *(c)->name), \
     &(c)->name[(c)->name##_count++])

static uint64_t hash_noun(nk_noun n) {
    n *= 0x9e3779b97f4a7c15ull;
    return n ^ (n >> 29);
}

static struct nk_program **table_find(const struct table *table, nk_noun formula) {
    size_t mask = table->capacity - 1;
    size_t at = (size_t)hash_noun(formula) & mask;
    while (table->slots[at] != NULL && table->slots[at]->formula != formula) {
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

static void table_clear(struct table *table) {
    memset(table->slots, 0, table->capacity * sizeof *table->slots);
    table->count = 0;
}

static void table_init(struct table *table, size_t capacity) {
    table->slots = calloc(capacity, sizeof *table->slots);
    NK_ASSERT(table->slots != NULL);
    table->capacity = capacity;
    table->count = 0;
}

static void table_put(struct table *table, struct nk_program *program) {
    if (table->count * 2 >= table->capacity) {
        struct table old = *table;
        table_init(table, old.capacity * 2);
        for (size_t i = 0; i < old.capacity; i++) {
            if (old.slots[i] == NULL) continue;
            *table_find(table, old.slots[i]->formula) = old.slots[i];
            table->count++;
        }
        free(old.slots);
    }
    *table_find(table, program->formula) = program;
    table->count++;
}

/* ---- the check: which subformulas are malformed ---- */

/* The subformulas of [f], or -1 where its shape is no formula's. */
static int children_of(const struct nk_arena *arena, nk_noun f, nk_noun out[3]) {
    if (!nk_is_cell(f)) return -1;
    nk_noun op = nk_head(arena, f), rest = nk_tail(arena, f);
    if (nk_is_cell(op)) {
        out[0] = op;
        out[1] = rest;
        return 2;
    }
    if (!nk_is_direct(op)) return -1;
    switch (op) {
    case 0:
        return nk_is_atom(rest) ? 0 : -1;
    case 1:
        return 0;
    case 3:
    case 4:
        out[0] = rest;
        return 1;
    case 2:
    case 5:
    case 7:
    case 8:
    case 12:
        if (!nk_is_cell(rest)) return -1;
        out[0] = nk_head(arena, rest);
        out[1] = nk_tail(arena, rest);
        return 2;
    case 6:
        if (!nk_is_cell(rest) || !nk_is_cell(nk_tail(arena, rest))) return -1;
        out[0] = nk_head(arena, rest);
        out[1] = nk_head(arena, nk_tail(arena, rest));
        out[2] = nk_tail(arena, nk_tail(arena, rest));
        return 3;
    case 9:
        if (!nk_is_cell(rest) || !nk_is_atom(nk_head(arena, rest))) return -1;
        out[0] = nk_tail(arena, rest);
        return 1;
    case 10:
        if (!nk_is_cell(rest) || !nk_is_cell(nk_head(arena, rest))) return -1;
        if (!nk_is_atom(nk_head(arena, nk_head(arena, rest)))) return -1;
        out[0] = nk_tail(arena, nk_head(arena, rest));
        out[1] = nk_tail(arena, rest);
        return 2;
    case 11:
        if (!nk_is_cell(rest)) return -1;
        if (nk_is_cell(nk_head(arena, rest))) {
            out[0] = nk_tail(arena, nk_head(arena, rest));
            out[1] = nk_tail(arena, rest);
            return 2;
        }
        out[0] = nk_tail(arena, rest);
        return 1;
    default:
        return -1;
    }
}

static size_t seen_slot(const struct nk_code *c, nk_noun f) {
    size_t mask = c->seen_capacity - 1;
    size_t at = (size_t)hash_noun(f) & mask;
    while (c->seen_keys[at] != NK_NONE && c->seen_keys[at] != f)
        at = (at + 1) & mask;
    return at;
}

static void seen_resize(struct nk_code *c, size_t capacity) {
    nk_noun *keys = c->seen_keys;
    uint8_t *good = c->seen_good;
    size_t old = c->seen_capacity;
    c->seen_keys = malloc(capacity * sizeof *c->seen_keys);
    c->seen_good = malloc(capacity);
    NK_ASSERT(c->seen_keys != NULL && c->seen_good != NULL);
    c->seen_capacity = capacity;
    memset(c->seen_keys, 0xff, capacity * sizeof *c->seen_keys);
    for (size_t i = 0; i < old; i++) {
        if (keys[i] == NK_NONE) continue;
        size_t at = seen_slot(c, keys[i]);
        c->seen_keys[at] = keys[i];
        c->seen_good[at] = good[i];
    }
    free(keys);
    free(good);
}

static void seen_clear(struct nk_code *c) {
    if (c->seen_capacity > 4096) {
        c->seen_capacity = 0;
        free(c->seen_keys);
        free(c->seen_good);
        c->seen_keys = NULL;
        c->seen_good = NULL;
        seen_resize(c, 256);
    } else if (c->seen_count != 0) {
        memset(c->seen_keys, 0xff, c->seen_capacity * sizeof *c->seen_keys);
    }
    c->seen_count = 0;
}

/* 1 well-formed, 0 not, -1 not known yet. */
static int verdict(const struct nk_code *c, nk_noun f) {
    if (!nk_is_cell(f)) return 0;
    size_t at = seen_slot(c, f);
    return c->seen_keys[at] == f ? c->seen_good[at] : -1;
}

/* Decide about [root] and all its subformulas. A 6 needs only one of its
 * branches to be well-formed: the other one crashes where it is taken. */
static nk_status check_formula(struct nk_code *c, struct nk_arena *arena,
                               nk_noun root) {
    uint32_t steps = 0;
    seen_clear(c);
    c->checks_count = 0;
    *ADD(c, checks) = root;
    while (c->checks_count != 0) {
        if (++steps % POLL_STEPS == 0) {
            nk_status status = nk_arena_poll(arena);
            if (status != NK_OK) return status;
        }
        nk_noun f = c->checks[c->checks_count - 1];
        if (verdict(c, f) >= 0) {
            c->checks_count--;
            continue;
        }
        nk_noun child[3];
        int count = children_of(c->arena, f, child), good = count >= 0;
        size_t before = c->checks_count;
        int result[3] = {1, 1, 1};
        for (int i = 0; i < count; i++) {
            result[i] = verdict(c, child[i]);
            if (result[i] < 0) *ADD(c, checks) = child[i];
        }
        if (c->checks_count != before) continue;
        if (count == 3) {
            good = result[0] && (result[1] || result[2]);
        } else if (good) {
            good = result[0] && result[1];
        }
        if ((c->seen_count + 1) * 2 > c->seen_capacity) {
            seen_resize(c, c->seen_capacity * 2);
        }
        size_t at = seen_slot(c, f);
        c->seen_keys[at] = f;
        c->seen_good[at] = (uint8_t)good;
        c->seen_count++;
        c->checks_count--;
    }
    return verdict(c, root) == 1 ? NK_OK : NK_EXIT;
}

/* ---- registers and cache ---- */

static void set_bit(uint64_t *bits, uint32_t reg) {
    bits[reg / 64] |= 1ull << (reg % 64);
}
static void clear_bit(uint64_t *bits, uint32_t reg) {
    bits[reg / 64] &= ~(1ull << (reg % 64));
}

/* A free register, with one reference. */
static uint32_t reg_new(struct nk_code *c) {
    size_t word = 0;
    while (word < c->used_count && c->used[word] == UINT64_MAX)
        word++;
    if (word == c->used_count) {
        *ADD(c, used) = 0;
        *ADD(c, pending) = 0;
    }
    uint32_t reg = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(~c->used[word]);
    set_bit(c->used, reg);
    while (c->refs_count <= reg)
        *ADD(c, refs) = 0;
    c->refs[reg] = 1;
    if (reg + 1 > c->registers) c->registers = reg + 1;
    return reg;
}

static void reg_gain(struct nk_code *c, uint32_t reg) {
    c->refs[reg]++;
}

static void reg_lose(struct nk_code *c, uint32_t reg);

static void cache_drop(struct nk_code *c, uint32_t index) {
    struct entry entry = c->cache[index];
    c->cache[index] = c->cache[--c->cache_count];
    if (entry.kind != ENTRY_PART) reg_lose(c, entry.reg);
}

/* What was known about a register's content goes with it. Nested calls are
 * bounded by the size of the cache. */
static void reg_lose(struct nk_code *c, uint32_t reg) {
    NK_ASSERT(c->refs[reg] > 0);
    if (--c->refs[reg] != 0) return;
    clear_bit(c->used, reg);
    for (uint32_t i = 0; i < c->cache_count;) {
        if (c->cache[i].key == reg) {
            cache_drop(c, i);
            i = 0;
        } else {
            i++;
        }
    }
}

static void cache_clear(struct nk_code *c) {
    while (c->cache_count != 0)
        cache_drop(c, c->cache_count - 1);
}

static void cache_add(struct nk_code *c, enum entry_kind kind, uint32_t key,
                      uint64_t arg, uint32_t reg) {
    if (c->cache_count == CACHE_MAX) cache_drop(c, 0);
    /* Dropping may have freed what we are about to note. */
    if (key != NONE && c->refs[key] == 0) return;
    if (kind != ENTRY_PART) reg_gain(c, reg);
    c->cache[c->cache_count++] = (struct entry){kind, key, arg, reg};
}

static uint32_t cache_find(const struct nk_code *c, enum entry_kind kind, uint32_t key,
                           uint64_t arg) {
    for (uint32_t i = 0; i < c->cache_count; i++) {
        const struct entry *entry = &c->cache[i];
        if (entry->kind == kind && entry->key == key && entry->arg == arg) {
            return entry->reg;
        }
    }
    return NONE;
}

/* ---- emission ---- */

static uint32_t here(const struct nk_code *c) {
    return (uint32_t)c->words_count;
}

static uint32_t emit(struct nk_code *c, enum nk_opcode op) {
    uint32_t at = here(c);
    *ADD(c, words) = op;
    return at;
}
static void word(struct nk_code *c, uint32_t value) {
    *ADD(c, words) = value;
}

static uint32_t literal(struct nk_code *c, nk_noun n) {
    size_t first = c->literals_count > 16 ? c->literals_count - 16 : 0;
    for (size_t i = c->literals_count; i > first; i--) {
        if (c->literals[i - 1] == n) return (uint32_t)(i - 1);
    }
    *ADD(c, literals) = n;
    return (uint32_t)(c->literals_count - 1);
}

/* The live set as it is now. */
static struct nk_live live_now(struct nk_code *c) {
    struct nk_live live = {here(c), 0, (uint32_t)c->dead_count, 0};
    size_t top = c->used_count;
    while (top > 0 && c->used[top - 1] == 0)
        top--;
    if (top == 0) return live;
    live.depth = (uint32_t)(top * 64) - (uint32_t)__builtin_clzll(c->used[top - 1]);
    for (size_t i = 0; i < top; i++) {
        uint64_t dead = ~c->used[i] | c->pending[i];
        if (i == top - 1 && live.depth % 64 != 0) {
            dead &= (1ull << (live.depth % 64)) - 1;
        }
        for (; dead != 0; dead &= dead - 1) {
            *ADD(c, dead) = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(dead);
        }
    }
    live.dead_count = (uint32_t)c->dead_count - live.dead_start;
    return live;
}

/* The next instruction may collect; its operands are still held. */
static void point(struct nk_code *c) {
    struct nk_live live = live_now(c);
    *ADD(c, points) = live;
}

static uint32_t label_new(struct nk_code *c) {
    struct label *label = ADD(c, labels);
    label->patches = NONE;
    label->seen = false;
    label->saved_count = 0;
    return (uint32_t)(c->labels_count - 1);
}

/* The last word of the instruction at [start] jumps to [label]. What is in
 * the cache now holds there, if it holds on all other ways too. */
static void jump_to(struct nk_code *c, uint32_t index, uint32_t start) {
    struct label *label = &c->labels[index];
    uint32_t patch = (uint32_t)c->patches_count;
    *ADD(c, patches) = (struct patch){here(c), start, label->patches};
    word(c, 0);
    label->patches = patch;
    if (!label->seen) {
        label->seen = true;
        label->saved_count = c->cache_count;
        memcpy(label->saved, c->cache, c->cache_count * sizeof *c->cache);
        return;
    }
    for (uint32_t i = 0; i < label->saved_count;) {
        struct entry *e = &label->saved[i];
        if (cache_find(c, e->kind, e->key, e->arg) == e->reg) {
            i++;
        } else {
            *e = label->saved[--label->saved_count];
        }
    }
}

static void jump(struct nk_code *c, uint32_t label) {
    uint32_t start = emit(c, NK_OP_JMP);
    jump_to(c, label, start);
}

static void patch_all(struct nk_code *c, uint32_t index) {
    for (uint32_t p = c->labels[index].patches; p != NONE; p = c->patches[p].next) {
        c->words[c->patches[p].word] = here(c) - c->patches[p].start;
    }
}

/* The label is here, reached by jumps only: its cache is what they agreed
 * on, as far as the registers that it speaks of are live here. */
static void bind_jumped(struct nk_code *c, uint32_t index) {
    struct label *label = &c->labels[index];
    patch_all(c, index);
    cache_clear(c);
    for (uint32_t i = 0; i < label->saved_count; i++) {
        struct entry *e = &label->saved[i];
        /* Its register may be free by now; it was not when the jump left. */
        if (e->kind != ENTRY_PART) {
            if (c->refs[e->reg] == 0) set_bit(c->used, e->reg);
            c->refs[e->reg]++;
        }
        c->cache[c->cache_count++] = *e;
    }
    for (uint32_t i = 0; i < c->cache_count;) {
        uint32_t key = c->cache[i].key;
        if (key != NONE && c->refs[key] == 0) {
            cache_drop(c, i);
            i = 0;
        } else {
            i++;
        }
    }
}

/* The label is here, reached by falling through as well. */
static void bind_joined(struct nk_code *c, uint32_t index) {
    struct label *label = &c->labels[index];
    patch_all(c, index);
    if (!label->seen) return;
    for (uint32_t i = 0; i < c->cache_count;) {
        struct entry now = c->cache[i];
        bool agreed = false;
        for (uint32_t j = 0; j < label->saved_count; j++) {
            const struct entry *e = &label->saved[j];
            agreed |= e->kind == now.kind && e->key == now.key && e->arg == now.arg &&
                      e->reg == now.reg;
        }
        if (agreed) {
            i++;
        } else {
            cache_drop(c, i);
            i = 0;
        }
    }
}

/* ---- operands and results ---- */

static void push_reg(struct nk_code *c, uint32_t reg) {
    *ADD(c, operands) = (struct operand){false, reg, 0};
}

/* The operand in a register, with one reference. */
static uint32_t materialise(struct nk_code *c, struct operand operand) {
    if (!operand.is_literal) return operand.reg;
    uint32_t index = literal(c, operand.literal);
    uint32_t reg = cache_find(c, ENTRY_LITERAL, NONE, index);
    if (reg != NONE) {
        reg_gain(c, reg);
        return reg;
    }
    reg = reg_new(c);
    emit(c, NK_OP_LDK);
    word(c, reg);
    word(c, index);
    cache_add(c, ENTRY_LITERAL, NONE, index, reg);
    return reg;
}

static struct operand pop(struct nk_code *c) {
    NK_ASSERT(c->operands_count != 0);
    return c->operands[--c->operands_count];
}
static uint32_t pop_reg(struct nk_code *c) {
    return materialise(c, pop(c));
}

/* Put both operands of a pair into registers, the first one first. */
static void pop_pair(struct nk_code *c, uint32_t *first, uint32_t *second) {
    struct operand b = pop(c), a = pop(c);
    *first = materialise(c, a);
    *second = materialise(c, b);
}

/* Where an instruction that is about to be emitted leaves its result. */
static uint32_t dest(struct nk_code *c, struct want want) {
    if (want.kind != WANT_REG) return reg_new(c);
    clear_bit(c->pending, want.reg);
    return want.reg;
}

/* The result is in [reg], from dest(). */
static void deliver(struct nk_code *c, struct want want, uint32_t reg) {
    if (want.kind == WANT_ANY) {
        push_reg(c, reg);
    } else if (want.kind == WANT_TAIL) {
        emit(c, NK_OP_RET);
        word(c, reg);
        reg_lose(c, reg);
    }
}

/* The result is an operand that exists already. */
static void deliver_operand(struct nk_code *c, struct want want,
                            struct operand operand) {
    if (want.kind == WANT_ANY) {
        *ADD(c, operands) = operand;
    } else if (want.kind == WANT_TAIL) {
        emit(c, operand.is_literal ? NK_OP_RETK : NK_OP_RET);
        word(c, operand.is_literal ? literal(c, operand.literal) : operand.reg);
        if (!operand.is_literal) reg_lose(c, operand.reg);
    } else if (operand.is_literal) {
        emit(c, NK_OP_LDK);
        word(c, dest(c, want));
        word(c, literal(c, operand.literal));
    } else {
        emit(c, NK_OP_MOVE);
        word(c, dest(c, want));
        word(c, operand.reg);
        reg_lose(c, operand.reg);
    }
}

/* Code that is never passed: the crash, and a result that never is. */
static void emit_bail(struct nk_code *c, struct want want) {
    emit(c, NK_OP_BAIL);
    if (want.kind == WANT_ANY) {
        *ADD(c, operands) = (struct operand){true, 0, 0};
    } else if (want.kind == WANT_REG) {
        clear_bit(c->pending, want.reg);
    }
}

/* ---- folding: what is known of constants ---- */

/* A fold's product is a part of a constant or a direct atom, for nothing is
 * allocated here; where an instruction would crash, there is none. */

/* The constant that [reg] holds. NK_NONE: none that is known. */
static nk_noun constant_in(const struct nk_code *c, uint32_t reg) {
    for (uint32_t i = 0; i < c->cache_count; i++) {
        const struct entry *entry = &c->cache[i];
        if (entry->kind == ENTRY_LITERAL && entry->reg == reg) {
            return c->literals[entry->arg];
        }
    }
    return NK_NONE;
}

/* Are two constants equal: 0 yes, 1 no. NK_NONE: not to be told at a glance. */
static nk_noun same_constants(struct operand a, struct operand b) {
    if (!a.is_literal || !b.is_literal) return NK_NONE;
    if (a.literal == b.literal) return 0;
    return nk_is_direct(a.literal) || nk_is_direct(b.literal) ? 1 : NK_NONE;
}

static void deliver_constant(struct nk_code *c, struct want want, nk_noun constant) {
    deliver_operand(c, want, (struct operand){true, 0, constant});
}

static void subject_done(struct nk_code *c, const struct task *task) {
    if (task->lose) reg_lose(c, task->subject);
}

static uint32_t emit_slot(struct nk_code *c, uint32_t from, uint64_t axis,
                          struct want want) {
    uint32_t reg = dest(c, want), opcode = nk_load_opcode(axis);
    emit(c, opcode);
    word(c, reg);
    word(c, from);
    if (opcode == NK_OP_LDP) word(c, nk_path(axis));
    return reg;
}

static void eval_slot(struct nk_code *c, const struct task *task, nk_noun axis) {
    if (axis == 0) {
        emit_bail(c, task->want);
        subject_done(c, task);
        return;
    }
    if (axis == 1) {
        if (!task->lose) reg_gain(c, task->subject);
        deliver_operand(c, task->want, (struct operand){false, task->subject, 0});
        return;
    }
    if (!nk_is_direct(axis) || axis >> 31 != 0) {
        uint32_t index = literal(c, axis), from = task->subject;
        uint32_t reg = dest(c, task->want);
        emit(c, NK_OP_LDBIG);
        word(c, reg);
        word(c, from);
        word(c, index);
        subject_done(c, task);
        deliver(c, task->want, reg);
        return;
    }
    /* Go down through what is known, as far as it reaches. */
    uint32_t from = task->subject;
    nk_noun constant = NK_NONE;
    for (bool moved = true; moved && axis != 1;) {
        moved = false;
        uint32_t best_bits = 64, best = 0;
        for (uint32_t i = 0; i < c->cache_count; i++) {
            const struct entry *e = &c->cache[i];
            if (e->kind > ENTRY_PART || e->key != from || e->arg > axis) continue;
            uint32_t bits = (uint32_t)(__builtin_clzll(e->arg) - __builtin_clzll(axis));
            if (axis >> bits != e->arg) continue;
            if (e->kind == ENTRY_PART) {
                uint64_t below = (axis & ((1ull << bits) - 1)) | 1ull << bits;
                constant = nk_slot(c->arena, c->literals[e->reg], below);
            } else if (bits < best_bits) {
                best_bits = bits;
                best = c->cache[i].reg;
                moved = true;
            }
        }
        if (moved) {
            from = best;
            axis = (axis & ((1ull << best_bits) - 1)) | 1ull << best_bits;
        }
    }
    nk_noun whole = constant_in(c, from);
    if (whole != NK_NONE) constant = nk_slot(c->arena, whole, axis);
    if (constant != NK_NONE) {
        subject_done(c, task);
        deliver_constant(c, task->want, constant);
        return;
    }
    if (axis == 1) {
        reg_gain(c, from);
        subject_done(c, task);
        deliver_operand(c, task->want, (struct operand){false, from, 0});
        return;
    }
    reg_gain(c, from);
    if (task->want.kind == WANT_TAIL) {
        struct want any = {WANT_ANY, 0};
        uint32_t reg = emit_slot(c, from, axis, any);
        subject_done(c, task);
        reg_lose(c, from);
        deliver(c, task->want, reg);
        return;
    }
    uint32_t reg = emit_slot(c, from, axis, task->want);
    if (task->want.kind == WANT_ANY) cache_add(c, ENTRY_SLOT, from, axis, reg);
    subject_done(c, task);
    reg_lose(c, from);
    deliver(c, task->want, reg);
}

/* [d] becomes [a] with [v] at a small axis. */
static void emit_edit(struct nk_code *c, uint32_t d, uint32_t a, uint32_t v,
                      uint64_t axis) {
    enum nk_opcode op = axis == 2   ? NK_OP_EDIT2
                        : axis == 3 ? NK_OP_EDIT3
                        : axis == 6 ? NK_OP_EDIT6
                        : axis == 7 ? NK_OP_EDIT7
                                    : NK_OP_EDITP;
    emit(c, op);
    word(c, d);
    word(c, a);
    word(c, v);
    if (op == NK_OP_EDITP) word(c, nk_path(axis));
}

/* The words of a call, and its live set: the operands are released, nothing
 * that can be loaded again stays. */
static void emit_call(struct nk_code *c, struct want want) {
    cache_clear(c);
    struct nk_live live = live_now(c);
    uint32_t reg = dest(c, want);
    word(c, reg);
    word(c, live.depth);
    word(c, (uint32_t)c->calls_count);
    word(c, here(c) + 1);
    *ADD(c, calls) = live;
    deliver(c, want, reg);
}

static const struct nk_target no_target = {.key = NK_NONE, .context = NK_NONE};

static uint32_t new_site(struct nk_code *c, uint64_t axis) {
    struct nk_site *site = ADD(c, sites);
    *site = (struct nk_site){.last = no_target, .axis = axis};
    return (uint32_t)(c->sites_count - 1);
}

/* Of a call of an arm; [task->extra]: it has one already, less 1. */
static uint32_t arm_site(struct nk_code *c, const struct task *task, uint64_t axis) {
    return task->extra != 0 ? task->extra - 1 : new_site(c, axis);
}

/* A call with one or two operands in registers. The instruction itself is a
 * point (it may collect before the call leaves). */
static void emit_jump_off(struct nk_code *c, enum nk_opcode op, enum nk_opcode tail_op,
                          uint32_t site, uint32_t a, uint32_t b, struct want want) {
    point(c);
    emit(c, want.kind == WANT_TAIL ? tail_op : op);
    word(c, site);
    word(c, a);
    if (b != NONE) word(c, b);
    reg_lose(c, a);
    if (b != NONE) reg_lose(c, b);
    if (want.kind != WANT_TAIL) emit_call(c, want);
}

/* ---- tasks ---- */

static struct task *task_add(struct nk_code *c, enum task_kind kind) {
    struct task *task = ADD(c, tasks);
    memset(task, 0, sizeof *task);
    task->kind = kind;
    return task;
}

static struct task *eval_later(struct nk_code *c, nk_noun f, uint32_t subject,
                               bool lose, struct want want) {
    struct task *task = task_add(c, TASK_EVAL);
    task->formula = f;
    task->subject = subject;
    task->lose = lose;
    task->want = want;
    return task;
}

static struct task *later(struct nk_code *c, enum task_kind kind,
                          const struct task *from) {
    struct task *task = task_add(c, kind);
    task->want = from->want;
    task->subject = from->subject;
    task->lose = from->lose;
    return task;
}

static void cond_later(struct nk_code *c, nk_noun f, uint32_t subject, uint32_t label) {
    struct task *task = task_add(c, TASK_COND);
    task->formula = f;
    task->subject = subject;
    task->label = label;
}

static const struct want any = {WANT_ANY, 0};

static nk_noun at(const struct nk_code *c, nk_noun n, uint64_t axis) {
    return nk_slot(c->arena, n, axis);
}

static bool is_const(const struct nk_code *c, nk_noun f, nk_noun *value) {
    if (!nk_is_cell(f) || nk_head(c->arena, f) != 1) return false;
    *value = nk_tail(c->arena, f);
    return true;
}
static bool is_const_of(const struct nk_code *c, nk_noun f, nk_noun value) {
    nk_noun found;
    return is_const(c, f, &found) && found == value;
}

static void eval_if(struct nk_code *c, const struct task *task, nk_noun rest) {
    nk_noun test = at(c, rest, 2), constant;
    if (is_const(c, test, &constant)) {
        if (constant > 1) {
            emit_bail(c, task->want);
            subject_done(c, task);
        } else {
            eval_later(c, at(c, rest, constant == 0 ? 6 : 7), task->subject, task->lose,
                       task->want)
                ->trunk = task->trunk;
        }
        return;
    }
    struct want want = task->want;
    struct task join = {.kind = TASK_JOIN};
    if (want.kind == WANT_ANY) {
        uint32_t reg = reg_new(c);
        want = (struct want){WANT_REG, reg};
        join.extra = 1; /* push it when both branches are done */
    }
    if (want.kind == WANT_REG) set_bit(c->pending, want.reg);
    uint32_t other = label_new(c), end = label_new(c);
    join.want = want;
    join.label = end;
    *ADD(c, tasks) = join;
    eval_later(c, at(c, rest, 7), task->subject, task->lose, want)->trunk = task->trunk;
    struct task *next = later(c, TASK_ELSE, task);
    next->want = want;
    next->label = other;
    next->label2 = end;
    eval_later(c, at(c, rest, 6), task->subject, task->lose, want)->trunk = task->trunk;
    cond_later(c, test, task->subject, other);
}

/* Hints whose clue is pushed on the trace. */
static bool is_trace_hint(nk_noun tag) {
    return tag == NK_CORD_4('m', 'e', 'a', 'n') ||
           tag == NK_CORD_4('s', 'p', 'o', 't') ||
           tag == NK_CORD_4('h', 'u', 'n', 'k') || tag == NK_CORD_4('l', 'o', 's', 'e');
}

static bool is_report_hint(nk_noun tag) {
    return tag == NK_CORD_4('m', 'e', 'm', 'e') ||
           tag == NK_CORD_4('n', 'a', 'r', 'a') ||
           tag == NK_CORD_4('h', 'e', 'l', 'a') ||
           tag == NK_CORD_4('x', 'r', 'a', 'y') ||
           tag == NK_CORD_4('c', 'a', 's', 'h') || tag == NK_CORD_4('d', 'r', 'o', 'p');
}

static void emit_report(struct nk_code *c, nk_noun tag) {
    uint32_t index = literal(c, tag);
    emit(c, NK_OP_HINT);
    word(c, index);
}

/* The body of a hint that needs the last word: not in tail position. The
 * finishing task pops the body's value. */
static struct task *finish_later(struct nk_code *c, enum task_kind kind,
                                 const struct task *from) {
    size_t index = c->tasks_count;
    later(c, kind, from);
    eval_later(c, from->formula, from->subject, from->lose, any);
    return &c->tasks[index];
}

static void eval_static_hint(struct nk_code *c, const struct task *task, nk_noun tag) {
    if (tag == NK_CORD_4('l', 'o', 'o', 'p')) {
        finish_later(c, TASK_UNLOOP, task);
        uint32_t index = literal(c, task->formula);
        point(c);
        emit(c, NK_OP_LOOP);
        word(c, task->subject);
        word(c, index);
    } else if (tag == NK_CORD_4('b', 'o', 'u', 't')) {
        uint32_t reg = reg_new(c);
        emit(c, NK_OP_BOUT);
        word(c, reg);
        finish_later(c, TASK_UNBOUT, task)->extra = reg;
    } else {
        if (is_report_hint(tag)) emit_report(c, tag);
        eval_later(c, task->formula, task->subject, task->lose, task->want);
    }
}

/* A hint whose product may be had without the body: the value's register,
 * and a label behind the body. */
static struct want detour(struct nk_code *c, const struct task *task, uint32_t *label) {
    struct want want = {WANT_REG, reg_new(c)};
    set_bit(c->pending, want.reg);
    *label = label_new(c);
    struct task *join = later(c, TASK_JOIN, task);
    join->want = want;
    join->label = *label;
    join->extra = task->want.kind == WANT_ANY ? 1 : 2;
    join->label2 = (uint32_t)task->want.kind;
    join->subject = task->want.reg;
    return want;
}

/* The clue is on the operand stack; [task->formula] is the body and
 * [task->extra] the literal index of the tag. */
static void run_clue(struct nk_code *c, const struct task *task) {
    nk_noun tag = c->literals[task->extra];
    if (tag == NK_CORD_4('f', 'a', 's', 't')) {
        finish_later(c, TASK_FAST, task);
        return;
    }
    if (is_trace_hint(tag)) {
        uint32_t clue = pop_reg(c);
        point(c);
        emit(c, NK_OP_TRACE);
        word(c, task->extra);
        word(c, clue);
        reg_lose(c, clue);
        finish_later(c, TASK_UNTRACE, task);
        return;
    }
    if (tag == NK_CORD_4('s', 'l', 'o', 'g')) {
        uint32_t clue = pop_reg(c);
        emit(c, NK_OP_SLOG);
        word(c, clue);
        reg_lose(c, clue);
    } else if (tag == NK_CORD_4('b', 'o', 'u', 't')) {
        uint32_t reg = reg_new(c);
        emit(c, NK_OP_BOUT);
        word(c, reg);
        struct task *done = finish_later(c, TASK_UNBOUT, task);
        done->extra = reg;
        done->label = 1; /* has a clue */
        return;
    } else if (tag == NK_CORD_4('m', 'e', 'm', 'o')) {
        uint32_t clue = pop_reg(c), label, index = literal(c, task->formula);
        struct want want = detour(c, task, &label);
        uint32_t start = emit(c, NK_OP_MEMO);
        word(c, want.reg);
        word(c, clue);
        word(c, task->subject);
        word(c, index);
        jump_to(c, label, start);
        struct task *save = later(c, TASK_MEMO_SAVE, task);
        save->want = want;
        save->extra = clue;
        save->label2 = index;
        eval_later(c, task->formula, task->subject, false, any);
        return;
    } else if (tag == NK_CORD_4('s', 'h', 'a', 'm')) {
        uint32_t clue = pop_reg(c), label;
        struct want want = detour(c, task, &label);
        point(c);
        uint32_t start = emit(c, NK_OP_SHAM);
        word(c, want.reg);
        word(c, clue);
        word(c, task->subject);
        jump_to(c, label, start);
        reg_lose(c, clue);
        eval_later(c, task->formula, task->subject, task->lose, want);
        return;
    } else if (tag == NK_CORD_4('j', 'i', 'n', 'x')) {
        uint32_t clue = pop_reg(c), reg = reg_new(c);
        emit(c, NK_OP_JINX);
        word(c, reg);
        word(c, clue);
        reg_lose(c, clue);
        finish_later(c, TASK_UNJINX, task)->extra = reg;
        return;
    } else {
        struct operand clue = pop(c);
        if (!clue.is_literal) reg_lose(c, clue.reg);
        eval_static_hint(c, task, tag);
        return;
    }
    eval_later(c, task->formula, task->subject, task->lose, task->want);
}

static void eval_hint(struct nk_code *c, const struct task *task, nk_noun rest) {
    nk_noun hint = nk_head(c->arena, rest);
    struct task body = *task;
    body.formula = nk_tail(c->arena, rest);
    if (!nk_is_cell(hint)) {
        eval_static_hint(c, &body, hint);
        return;
    }
    body.kind = TASK_CLUE;
    body.extra = (uint32_t)c->literals_count;
    *ADD(c, literals) = nk_head(c->arena, hint);
    *ADD(c, tasks) = body;
    eval_later(c, nk_tail(c->arena, hint), task->subject, false, any);
}

/* Is what is still to be compiled to go out of line? */
static bool is_long(const struct nk_code *c) {
    return c->words_count > OUTLINE || c->tasks_count > TASKS_MAX ||
           c->steps > STEPS_MAX;
}

/* ---- counted loops ---- */

/* A formula whose rounds only count, such as decrement:
 *
 *     6 TEST LEAVE AGAIN    or    6 TEST AGAIN LEAVE
 *
 * where LEAVE is any formula, TEST is 5 VALUE VALUE, and AGAIN is another such
 * 6 or at last 9 ARM 10 [AXIS 4 0 SLOT] ... 0 1. A VALUE is 0 SLOT, 4 0 SLOT or
 * a direct constant. What changes lies outside of the battery, and no other
 * slot in it or around it is read. So the next round runs this program again
 * (the call's site says whether that is so, and that no jet stands for it), on
 * a core that differs in the counters alone.
 *
 * At the tail call their values go into registers, if they are direct atoms,
 * and rounds are run on these: each is one where every test says that the
 * loop goes on and every increment is a direct atom, so that it has no other
 * outcome than its counters. Where the next one is not, nothing of it was
 * done: the core is made as it is at its beginning, and the program starts
 * there. */

static bool is_within(uint64_t axis, uint64_t outer) {
    int steps = __builtin_clzll(outer) - __builtin_clzll(axis);
    return steps >= 0 && axis >> steps == outer;
}

static bool counted_slot(struct counted *l, nk_noun axis, uint32_t *slot) {
    if (axis < 2 || axis >> 31 != 0) return false;
    for (*slot = 0; *slot < l->slot_count; *slot += 1) {
        if (l->slots[*slot] == axis) return true;
    }
    if (l->slot_count == COUNTED_SLOTS_MAX) return false;
    l->slots[l->slot_count++] = axis;
    return true;
}

static bool counted_value(const struct nk_code *c, struct counted *l, nk_noun f,
                          struct counted_value *value) {
    nk_noun op = nk_head(c->arena, f), rest = nk_tail(c->arena, f);
    *value = (struct counted_value){COUNTED_SLOT, 0, 0};
    if (op == 1) {
        value->kind = COUNTED_CONSTANT;
        value->constant = rest;
        return nk_is_direct(rest);
    }
    if (op == 4) {
        value->kind = COUNTED_NEXT;
        op = nk_head(c->arena, rest);
        rest = nk_tail(c->arena, rest);
    }
    return op == 0 && counted_slot(l, rest, &value->slot);
}

/* 9 ARM 10 [AXIS 4 0 SLOT] ... 0 1 */
static bool counted_again(const struct nk_code *c, struct counted *l, nk_noun f) {
    nk_noun core = at(c, f, 7);
    l->arm = at(c, f, 6);
    if (!nk_is_direct(l->arm) || l->arm == 0 || !is_within(l->arm, 2)) return false;
    for (; nk_head(c->arena, core) == 10; core = at(c, core, 7)) {
        struct counted_value value;
        uint32_t slot;
        nk_noun axis = at(c, core, 12);
        if (l->counter_count == COUNTED_MAX) return false;
        if (!counted_slot(l, axis, &slot) || !is_within(axis, 3)) return false;
        if (!counted_value(c, l, at(c, core, 13), &value)) return false;
        if (value.kind != COUNTED_NEXT) return false;
        l->counters[l->counter_count].slot = slot;
        l->counters[l->counter_count++].from = value.slot;
    }
    if (nk_head(c->arena, core) != 0 || nk_tail(c->arena, core) != 1) return false;
    for (uint32_t i = 0; i < l->counter_count; i++) {
        uint32_t slot = l->counters[i].slot;
        for (uint32_t k = 0; k < l->slot_count; k++) {
            if (k != slot && (is_within(l->slots[k], l->slots[slot]) ||
                              is_within(l->slots[slot], l->slots[k]))) {
                return false;
            }
        }
        for (uint32_t k = 0; k < i; k++) {
            if (l->counters[k].slot == slot) return false;
        }
    }
    return l->counter_count != 0;
}

/* Is this good formula a counted loop? Then [l] says what it does. */
static bool is_counted(const struct nk_code *c, struct counted *l, nk_noun f) {
    memset(l, 0, sizeof *l);
    while (nk_head(c->arena, f) == 6 && l->test_count < COUNTED_MAX) {
        nk_noun test = at(c, f, 6), yes = at(c, f, 14), no = at(c, f, 15);
        uint32_t i = l->test_count++;
        if (nk_head(c->arena, test) != 5) return false;
        if (!counted_value(c, l, at(c, test, 6), &l->tests[i].value[0])) return false;
        if (!counted_value(c, l, at(c, test, 7), &l->tests[i].value[1])) return false;
        bool calls = verdict(c, yes) == 1 && nk_head(c->arena, yes) == 9;
        calls = calls && !(verdict(c, no) == 1 && nk_head(c->arena, no) == 9);
        l->tests[i].while_equal = calls;
        f = calls ? yes : no;
        if (verdict(c, f) != 1) return false;
    }
    l->again = f;
    return nk_head(c->arena, f) == 9 && l->test_count != 0 && counted_again(c, l, f);
}

/* The registers of a counted loop that is being compiled; NONE: none yet. */
struct counted_registers {
    uint32_t slot[COUNTED_SLOTS_MAX], next[COUNTED_SLOTS_MAX];
    uint32_t constant[2 * COUNTED_MAX];
    uint32_t known; /* bits: what is in `next` is right */
};

/* What comes after a slot's value; where that is not direct, jump. */
static uint32_t emit_up(struct nk_code *c, struct counted_registers *r, uint32_t slot,
                        uint32_t label) {
    if ((r->known >> slot & 1) == 0) {
        r->known |= 1u << slot;
        if (r->next[slot] == NONE) r->next[slot] = reg_new(c);
        uint32_t start = emit(c, NK_OP_UP);
        word(c, r->next[slot]);
        word(c, r->slot[slot]);
        jump_to(c, label, start);
    }
    return r->next[slot];
}

/* The register of a value in a test; [constant] is its own, if it is one. */
static uint32_t counted_register(struct nk_code *c, struct counted_registers *r,
                                 const struct counted_value *value, uint32_t constant,
                                 uint32_t label) {
    if (value->kind == COUNTED_CONSTANT) return constant;
    if (value->kind == COUNTED_SLOT) return r->slot[value->slot];
    return emit_up(c, r, value->slot, label);
}

/* All counters go on, or none does and it jumps to [label]; then back to [top],
 * where that is not NONE. */
static void emit_counters(struct nk_code *c, struct counted_registers *r,
                          uint32_t label, uint32_t top) {
    const struct counted *l = &c->counted;
    for (uint32_t i = 0; i < l->counter_count; i++)
        (void)emit_up(c, r, l->counters[i].from, label);
    for (uint32_t i = 0; i < l->counter_count; i++) {
        bool last = top != NONE && i + 1 == l->counter_count;
        uint32_t start = emit(c, last ? NK_OP_ROUND : NK_OP_MOVE);
        word(c, r->slot[l->counters[i].slot]);
        word(c, r->next[l->counters[i].from]);
        if (last) word(c, top - start);
    }
    r->known = 0;
}

/* Where the call of this site would run this program, have the values of the
 * slots and the constants in registers; else jump. */
static void emit_counted_start(struct nk_code *c, struct counted_registers *r,
                               uint32_t site, uint32_t label) {
    const struct counted *l = &c->counted;
    memset(r, 0xff, sizeof *r);
    r->known = 0;
    uint32_t start = emit(c, NK_OP_COUNTED);
    word(c, site);
    jump_to(c, label, start);
    for (uint32_t i = 0; i < l->slot_count; i++) {
        r->slot[i] = reg_new(c);
        start = emit(c, NK_OP_COUNTER);
        word(c, r->slot[i]);
        word(c, 0);
        word(c, nk_path(l->slots[i]));
        jump_to(c, label, start);
    }
    for (uint32_t i = 0; i < 2 * l->test_count; i++) {
        const struct counted_value *value = &l->tests[i / 2].value[i % 2];
        if (value->kind != COUNTED_CONSTANT) continue;
        r->constant[i] = reg_new(c);
        uint32_t index = literal(c, value->constant);
        emit(c, NK_OP_LDK);
        word(c, r->constant[i]);
        word(c, index);
    }
}

/* Put the counters into a core, and start the program with that. */
static void emit_counted_end(struct nk_code *c, const struct counted_registers *r) {
    const struct counted *l = &c->counted;
    for (uint32_t i = 0; i < l->slot_count; i++) {
        if (r->next[i] != NONE) reg_lose(c, r->next[i]);
    }
    for (uint32_t i = 0; i < 2 * l->test_count; i++) {
        if (r->constant[i] != NONE) reg_lose(c, r->constant[i]);
    }
    uint32_t from = 0, core = reg_new(c);
    set_bit(c->pending, core);
    for (uint32_t i = 0; i < l->counter_count; i++) {
        uint32_t slot = l->counters[i].slot;
        point(c);
        emit_edit(c, core, from, r->slot[slot], l->slots[slot]);
        clear_bit(c->pending, core);
        from = core;
    }
    uint32_t start = emit(c, NK_OP_ROUND);
    word(c, 0);
    word(c, core);
    word(c, 0 - start);
    reg_lose(c, core);
    for (uint32_t i = 0; i < l->slot_count; i++)
        reg_lose(c, r->slot[i]);
}

/* In front of the program's tail call; the site of both. */
static uint32_t emit_counted(struct nk_code *c) {
    const struct counted *l = &c->counted;
    struct counted_registers r;
    uint32_t call = label_new(c), leave = label_new(c), site = new_site(c, l->arm);
    emit_counted_start(c, &r, site, call);
    emit_counters(c, &r, call, NONE);
    uint32_t top = here(c);
    for (uint32_t i = 0; i < l->test_count; i++) {
        const struct counted_value *value = l->tests[i].value;
        uint32_t a = counted_register(c, &r, &value[0], r.constant[2 * i], leave);
        uint32_t b = counted_register(c, &r, &value[1], r.constant[2 * i + 1], leave);
        uint32_t start = emit(c, l->tests[i].while_equal ? NK_OP_JNE : NK_OP_JEQ);
        word(c, a);
        word(c, b);
        jump_to(c, leave, start);
    }
    emit_counters(c, &r, leave, top);
    bind_jumped(c, leave);
    emit_counted_end(c, &r);
    bind_jumped(c, call);
    return site;
}

static void eval(struct nk_code *c, const struct task *task) {
    nk_noun f = task->formula;
    if (verdict(c, f) != 1) {
        emit_bail(c, task->want);
        subject_done(c, task);
        return;
    }
    nk_noun op = nk_head(c->arena, f), rest = nk_tail(c->arena, f);
    uint32_t s = task->subject;
    if (op == 0) {
        eval_slot(c, task, rest);
        return;
    }
    if (op == 1) {
        subject_done(c, task);
        deliver_constant(c, task->want, rest);
        return;
    }
    if (is_long(c)) {
        uint32_t code = materialise(c, (struct operand){true, 0, f});
        if (!task->lose) reg_gain(c, s);
        emit_jump_off(c, NK_OP_NOCK, NK_OP_TNOCK, new_site(c, 0), s, code, task->want);
        return;
    }
    if (nk_is_cell(op)) {
        later(c, TASK_CONS, task);
        eval_later(c, rest, s, task->lose, any);
        eval_later(c, op, s, false, any);
        return;
    }
    switch (op) {
    case 2:
        later(c, TASK_NOCK, task);
        eval_later(c, nk_tail(c->arena, rest), s, task->lose, any);
        eval_later(c, nk_head(c->arena, rest), s, false, any);
        return;
    case 3:
        later(c, TASK_ISCELL, task);
        eval_later(c, rest, s, task->lose, any);
        return;
    case 4:
        later(c, TASK_INC, task);
        eval_later(c, rest, s, task->lose, any);
        return;
    case 5:
        later(c, TASK_EQ, task);
        eval_later(c, nk_tail(c->arena, rest), s, task->lose, any);
        eval_later(c, nk_head(c->arena, rest), s, false, any);
        return;
    case 6:
        eval_if(c, task, rest);
        return;
    case 7:
        later(c, TASK_BIND, task)->formula = nk_tail(c->arena, rest);
        eval_later(c, nk_head(c->arena, rest), s, task->lose, any);
        return;
    case 8:
        later(c, TASK_PUSH, task)->formula = nk_tail(c->arena, rest);
        eval_later(c, nk_head(c->arena, rest), s, false, any);
        return;
    case 9: {
        nk_noun axis = nk_head(c->arena, rest), core = nk_tail(c->arena, rest);
        uint32_t site = 0;
        if (task->trunk && f == c->counted.again) site = emit_counted(c) + 1;
        if (axis == 2 && nk_head(c->arena, core) == 10 && at(c, core, 12) == 6) {
            later(c, TASK_SLAM, task)->extra = site;
            eval_later(c, at(c, core, 13), s, task->lose, any);
            eval_later(c, at(c, core, 7), s, false, any);
        } else {
            struct task *kick = later(c, TASK_KICK, task);
            kick->formula = axis;
            kick->extra = site;
            eval_later(c, core, s, task->lose, any);
        }
        return;
    }
    case 10:
        later(c, TASK_EDIT, task)->formula = at(c, rest, 4);
        eval_later(c, at(c, rest, 5), s, task->lose, any);
        eval_later(c, nk_tail(c->arena, rest), s, false, any);
        return;
    case 11:
        eval_hint(c, task, rest);
        return;
    default:
        NK_ASSERT(op == 12);
        later(c, TASK_SCRY, task);
        eval_later(c, nk_tail(c->arena, rest), s, task->lose, any);
        eval_later(c, nk_head(c->arena, rest), s, false, any);
        return;
    }
}

/* A test whose outcome is known. */
static void decide(struct nk_code *c, const struct task *task, nk_noun outcome) {
    if (outcome == 1) jump(c, task->label);
    if (outcome > 1) emit(c, NK_OP_BAIL);
}

/* Fall through where the formula gives 0, jump where it gives 1. */
static void cond(struct nk_code *c, const struct task *task) {
    nk_noun f = task->formula, constant;
    uint32_t s = task->subject;
    bool good = verdict(c, f) == 1;
    if (good && is_const(c, f, &constant)) {
        decide(c, task, constant);
        return;
    }
    nk_noun op = good ? nk_head(c->arena, f) : NK_NONE;
    if (op == 5 && !is_long(c)) {
        later(c, TASK_COND_EQ, task)->label = task->label;
        eval_later(c, at(c, f, 7), s, false, any);
        eval_later(c, at(c, f, 6), s, false, any);
        return;
    }
    if (op == 3 && !is_long(c)) {
        later(c, TASK_COND_CELL, task)->label = task->label;
        eval_later(c, nk_tail(c->arena, f), s, false, any);
        return;
    }
    if (op == 6 && !is_long(c) && verdict(c, at(c, f, 14)) == 1 &&
        verdict(c, at(c, f, 15)) == 1) {
        nk_noun a = at(c, f, 6), b = at(c, f, 14), d = at(c, f, 15);
        if (is_const_of(c, d, 1)) { /* both */
            cond_later(c, b, s, task->label);
            cond_later(c, a, s, task->label);
            return;
        }
        uint32_t other = label_new(c);
        struct task *bind = task_add(c, TASK_LABEL);
        if (is_const_of(c, b, 1) && is_const_of(c, d, 0)) { /* not */
            bind->label = other;
            task_add(c, TASK_JUMP)->label = task->label;
            cond_later(c, a, s, other);
            return;
        }
        uint32_t end = label_new(c);
        c->tasks[c->tasks_count - 1].label = end;
        cond_later(c, d, s, task->label);
        struct task *next = task_add(c, TASK_LABEL);
        next->label = other;
        next->extra = 1; /* nothing falls through to it */
        task_add(c, TASK_JUMP)->label = end;
        cond_later(c, b, s, task->label);
        cond_later(c, a, s, other);
        return;
    }
    later(c, TASK_COND_TEST, task)->label = task->label;
    eval_later(c, f, s, false, any);
}

static void run_cond_eq(struct nk_code *c, const struct task *task) {
    struct operand b = pop(c), a = pop(c);
    nk_noun known = same_constants(a, b);
    if (known != NK_NONE) {
        decide(c, task, known);
        return;
    }
    if (a.is_literal && !b.is_literal) {
        struct operand swap = a;
        a = b;
        b = swap;
    }
    uint32_t left = materialise(c, a);
    if (b.is_literal && nk_is_direct(b.literal)) {
        uint32_t index = literal(c, b.literal);
        uint32_t start = emit(c, NK_OP_JNEK);
        word(c, left);
        word(c, index);
        jump_to(c, task->label, start);
    } else {
        uint32_t right = materialise(c, b);
        uint32_t start = emit(c, NK_OP_JNE);
        word(c, left);
        word(c, right);
        jump_to(c, task->label, start);
        reg_lose(c, right);
    }
    reg_lose(c, left);
}

static void run_cond_one(struct nk_code *c, const struct task *task,
                         enum nk_opcode op) {
    struct operand operand = pop(c);
    if (operand.is_literal) {
        nk_noun n = operand.literal;
        decide(c, task, op == NK_OP_JTEST ? n : nk_is_cell(n) ? 0 : 1);
        return;
    }
    uint32_t reg = operand.reg;
    uint32_t start = emit(c, op);
    word(c, reg);
    jump_to(c, task->label, start);
    reg_lose(c, reg);
}

/* A cell of [head] and the register [tail]; its register. A constant that is in
 * no register need not be put into one. Releases both. */
static uint32_t emit_cons(struct nk_code *c, struct operand head, uint32_t tail,
                          struct want want) {
    uint32_t index = head.is_literal ? literal(c, head.literal) : NONE;
    if (index != NONE && cache_find(c, ENTRY_LITERAL, NONE, index) != NONE) {
        head = (struct operand){false, materialise(c, head), 0};
    }
    point(c);
    if (!head.is_literal) reg_lose(c, head.reg);
    reg_lose(c, tail);
    uint32_t reg = dest(c, want);
    emit(c, head.is_literal ? NK_OP_CONSK : NK_OP_CONS);
    word(c, reg);
    word(c, head.is_literal ? index : head.reg);
    word(c, tail);
    return reg;
}

static void run_cons(struct nk_code *c, const struct task *task) {
    struct operand tail = pop(c), head = pop(c);
    uint32_t reg = emit_cons(c, head, materialise(c, tail), task->want);
    deliver(c, task->want, reg);
}

/* *[a 8 b c]        *[[*[a b] a] c] */
static void run_push(struct nk_code *c, const struct task *task) {
    struct operand value = pop(c);
    uint32_t s = task->subject;
    /* Both are still needed: what the new subject is made of is known. */
    reg_gain(c, s);
    if (!value.is_literal) reg_gain(c, value.reg);
    uint32_t reg = emit_cons(c, value, s, any);
    if (value.is_literal) {
        cache_add(c, ENTRY_PART, reg, 2, literal(c, value.literal));
    } else {
        cache_add(c, ENTRY_SLOT, reg, 2, value.reg);
        reg_lose(c, value.reg);
    }
    cache_add(c, ENTRY_SLOT, reg, 3, s);
    subject_done(c, task);
    eval_later(c, task->formula, reg, true, task->want);
}

static void run_inc(struct nk_code *c, const struct task *task) {
    struct operand operand = pop(c);
    if (operand.is_literal && operand.literal < NK_DIRECT_MAX) {
        operand.literal++;
        deliver_operand(c, task->want, operand);
        return;
    }
    uint32_t a = materialise(c, operand);
    uint32_t known = cache_find(c, ENTRY_INC, a, 0);
    if (known != NONE) {
        reg_gain(c, known);
        reg_lose(c, a);
        deliver_operand(c, task->want, (struct operand){false, known, 0});
        return;
    }
    point(c);
    uint32_t reg;
    if (task->want.kind == WANT_ANY) {
        reg = reg_new(c);
        cache_add(c, ENTRY_INC, a, 0, reg);
        reg_lose(c, a);
    } else {
        reg_lose(c, a);
        reg = dest(c, task->want);
    }
    emit(c, NK_OP_INC);
    word(c, reg);
    word(c, a);
    deliver(c, task->want, reg);
}

static void run_is_cell(struct nk_code *c, const struct task *task) {
    struct operand operand = pop(c);
    if (operand.is_literal) {
        deliver_constant(c, task->want, nk_is_cell(operand.literal) ? 0 : 1);
        return;
    }
    uint32_t a = operand.reg;
    reg_lose(c, a);
    uint32_t reg = dest(c, task->want);
    emit(c, NK_OP_ISCELL);
    word(c, reg);
    word(c, a);
    deliver(c, task->want, reg);
}

static void run_eq(struct nk_code *c, const struct task *task) {
    struct operand b = pop(c), a = pop(c);
    nk_noun known = same_constants(a, b);
    if (known != NK_NONE) {
        deliver_constant(c, task->want, known);
        return;
    }
    if (a.is_literal && !b.is_literal) {
        struct operand swap = a;
        a = b;
        b = swap;
    }
    bool direct = b.is_literal && nk_is_direct(b.literal);
    uint32_t left = materialise(c, a);
    uint32_t right = direct ? literal(c, b.literal) : materialise(c, b);
    reg_lose(c, left);
    if (!direct) reg_lose(c, right);
    uint32_t reg = dest(c, task->want);
    emit(c, direct ? NK_OP_EQK : NK_OP_EQ);
    word(c, reg);
    word(c, left);
    word(c, right);
    deliver(c, task->want, reg);
}

/* *[a 9 b c]        *[*[a c] 2 [0 1] 0 b] */
static void run_kick(struct nk_code *c, const struct task *task) {
    nk_noun axis = task->formula;
    uint32_t core = pop_reg(c);
    uint32_t top = 0;
    if (nk_is_direct(axis) && axis > 1) {
        top = (uint32_t)(axis >> (62 - __builtin_clzll(axis)));
    }
    if (top == 2) {
        emit_jump_off(c, NK_OP_KICK, NK_OP_TKICK, arm_site(c, task, axis), core, NONE,
                      task->want);
        return;
    }
    /* Not an arm of the battery: no jet, no inline cache by battery. */
    struct task slot = {.want = any, .subject = core, .lose = false};
    eval_slot(c, &slot, axis);
    uint32_t formula = pop_reg(c);
    emit_jump_off(c, NK_OP_NOCK, NK_OP_TNOCK, new_site(c, 0), core, formula,
                  task->want);
}

static void run_edit(struct nk_code *c, const struct task *task) {
    nk_noun axis = task->formula;
    struct operand value = pop(c), target = pop(c);
    if (axis == 0) {
        if (!value.is_literal) reg_lose(c, value.reg);
        if (!target.is_literal) reg_lose(c, target.reg);
        emit_bail(c, task->want);
        return;
    }
    if (axis == 1) {
        if (!target.is_literal) reg_lose(c, target.reg);
        deliver_operand(c, task->want, value);
        return;
    }
    uint32_t a = materialise(c, target), v = materialise(c, value);
    bool small = nk_is_direct(axis) && axis >> 31 == 0;
    uint32_t index = small ? 0 : literal(c, axis);
    point(c);
    reg_lose(c, a);
    uint32_t reg;
    if (task->want.kind == WANT_ANY && small) {
        reg = reg_new(c);
        cache_add(c, ENTRY_SLOT, reg, axis, v);
        reg_lose(c, v);
    } else {
        reg_lose(c, v);
        reg = dest(c, task->want);
    }
    if (small) {
        emit_edit(c, reg, a, v, axis);
    } else {
        emit(c, NK_OP_EDITBIG);
        word(c, reg);
        word(c, a);
        word(c, v);
        word(c, index);
    }
    deliver(c, task->want, reg);
}

/* The reference and the path stay live through the call: a block needs the
 * path, a hunk both. */
static void run_scry(struct nk_code *c, const struct task *task) {
    uint32_t a, b;
    pop_pair(c, &a, &b);
    point(c);
    emit(c, NK_OP_SCRY);
    word(c, a);
    word(c, b);
    emit_call(c, any);
    uint32_t value = pop_reg(c);
    point(c);
    reg_lose(c, value);
    reg_lose(c, a);
    reg_lose(c, b);
    uint32_t reg = dest(c, task->want);
    emit(c, NK_OP_SCRYDONE);
    word(c, reg);
    word(c, value);
    word(c, a);
    word(c, b);
    deliver(c, task->want, reg);
}

static void run_else(struct nk_code *c, const struct task *task) {
    if (task->want.kind == WANT_REG) {
        jump(c, task->label2);
        set_bit(c->pending, task->want.reg);
    }
    if (task->lose) {
        if (c->refs[task->subject] == 0) set_bit(c->used, task->subject);
        c->refs[task->subject]++;
    }
    bind_jumped(c, task->label);
}

/* Both ways are done; the value is in a register of its own. */
static void run_join(struct nk_code *c, const struct task *task) {
    if (task->want.kind != WANT_REG) return;
    cache_clear(c);
    patch_all(c, task->label);
    if (task->extra == 0) return;
    struct want want = any;
    if (task->extra == 2) {
        want = (struct want){(enum want_kind)task->label2, task->subject};
    }
    deliver_operand(c, want, (struct operand){false, task->want.reg, 0});
}

static void run_task(struct nk_code *c, const struct task *task) {
    uint32_t a, b;
    switch (task->kind) {
    case TASK_EVAL:
        eval(c, task);
        break;
    case TASK_CONS:
        run_cons(c, task);
        break;
    case TASK_NOCK:
        pop_pair(c, &a, &b);
        emit_jump_off(c, NK_OP_NOCK, NK_OP_TNOCK, new_site(c, 0), a, b, task->want);
        break;
    case TASK_ISCELL:
        run_is_cell(c, task);
        break;
    case TASK_INC:
        run_inc(c, task);
        break;
    case TASK_EQ:
        run_eq(c, task);
        break;
    case TASK_BIND:
        eval_later(c, task->formula, pop_reg(c), true, task->want);
        break;
    case TASK_PUSH:
        run_push(c, task);
        break;
    case TASK_KICK:
        run_kick(c, task);
        break;
    case TASK_SLAM:
        pop_pair(c, &a, &b);
        emit_jump_off(c, NK_OP_SLAM, NK_OP_TSLAM, arm_site(c, task, 2), a, b,
                      task->want);
        break;
    case TASK_EDIT:
        run_edit(c, task);
        break;
    case TASK_SCRY:
        run_scry(c, task);
        break;
    case TASK_COND:
        cond(c, task);
        break;
    case TASK_COND_EQ:
        run_cond_eq(c, task);
        break;
    case TASK_COND_CELL:
        run_cond_one(c, task, NK_OP_JATOM);
        break;
    case TASK_COND_TEST:
        run_cond_one(c, task, NK_OP_JTEST);
        break;
    case TASK_JUMP:
        jump(c, task->label);
        break;
    case TASK_LABEL:
        if (task->extra == 1) {
            bind_jumped(c, task->label);
        } else {
            bind_joined(c, task->label);
        }
        break;
    case TASK_ELSE:
        run_else(c, task);
        break;
    case TASK_JOIN:
        run_join(c, task);
        break;
    case TASK_CLUE:
        run_clue(c, task);
        break;
    case TASK_FAST:
        pop_pair(c, &a, &b);
        emit(c, NK_OP_FAST);
        word(c, b);
        word(c, a);
        reg_lose(c, a);
        deliver_operand(c, task->want, (struct operand){false, b, 0});
        break;
    case TASK_UNTRACE:
        emit(c, NK_OP_UNTRACE);
        deliver_operand(c, task->want, pop(c));
        break;
    case TASK_MEMO_SAVE:
        a = pop_reg(c);
        emit(c, NK_OP_MEMOPUT);
        word(c, a);
        word(c, task->extra);
        word(c, task->subject);
        word(c, task->label2);
        reg_lose(c, task->extra);
        subject_done(c, task);
        deliver_operand(c, task->want, (struct operand){false, a, 0});
        break;
    case TASK_UNLOOP:
        emit(c, NK_OP_UNLOOP);
        deliver_operand(c, task->want, pop(c));
        break;
    case TASK_UNJINX:
        emit(c, NK_OP_UNJINX);
        word(c, task->extra);
        reg_lose(c, task->extra);
        deliver_operand(c, task->want, pop(c));
        break;
    case TASK_UNBOUT: {
        struct operand value = pop(c);
        uint32_t clue = task->label != 0 ? pop_reg(c) : 0;
        emit(c, NK_OP_UNBOUT);
        word(c, task->extra);
        word(c, clue);
        word(c, task->label);
        if (task->label != 0) reg_lose(c, clue);
        reg_lose(c, task->extra);
        deliver_operand(c, task->want, value);
        break;
    }
    }
}

/* ---- programs ---- */

static void *copy_of(const void *data, size_t count, size_t size, size_t *bytes) {
    if (count == 0) return NULL;
    void *copy = malloc(count * size);
    NK_ASSERT(copy != NULL);
    memcpy(copy, data, count * size);
    *bytes += count * size;
    return copy;
}

/* A program without branches, calls and effects that only makes a noun, mostly
 * a gate around its core: the words that it needs for that. 0: it is none. */
static uint32_t words_made(const uint32_t *code, size_t count, uint32_t registers) {
    uint32_t words = 1;
    if (registers > NK_MAKER_REGISTERS) return 0;
    for (size_t at = 0; at < count && words < MAKER_WORDS_MAX;) {
        enum nk_opcode op = (enum nk_opcode)code[at];
        if (op == NK_OP_RET || op == NK_OP_RETK) return words;
        if (op == NK_OP_CONS || op == NK_OP_CONSK) {
            words += 3;
        } else if (op == NK_OP_TRACE) {
            words += 6;
        } else if (op != NK_OP_UNTRACE && op != NK_OP_FAST && op != NK_OP_MOVE &&
                   (op < NK_OP_LDK || op > NK_OP_LDP)) {
            return 0;
        }
        at += nk_opcode_words(op);
    }
    return 0;
}

static struct nk_program *program_new(struct nk_code *c, nk_noun formula) {
    size_t bytes = sizeof(struct nk_program) + 8 + c->words_count * 4;
    struct nk_program *program = calloc(1, sizeof *program);
    struct nk_program **block = malloc(8 + c->words_count * 4);
    NK_ASSERT(program != NULL && block != NULL);
    *block = program; /* nk_code_of finds it there */
    program->formula = formula;
    program->code = (uint32_t *)(void *)(block + 1);
    NK_ASSERT((uint64_t)(uintptr_t)program->code >> 48 == 0); /* see link_to */
    memcpy(program->code, c->words, c->words_count * 4);
    program->code_count = (uint32_t)c->words_count;
    program->registers = c->registers;
    program->makes = words_made(program->code, c->words_count, c->registers);
    program->literals =
        copy_of(c->literals, c->literals_count, sizeof(nk_noun), &bytes);
    program->literal_count = (uint32_t)c->literals_count;
    program->sites = copy_of(c->sites, c->sites_count, sizeof(struct nk_site), &bytes);
    program->site_count = (uint32_t)c->sites_count;
    program->points =
        copy_of(c->points, c->points_count, sizeof(struct nk_live), &bytes);
    program->point_count = (uint32_t)c->points_count;
    program->calls = copy_of(c->calls, c->calls_count, sizeof(struct nk_live), &bytes);
    program->call_count = (uint32_t)c->calls_count;
    program->dead = copy_of(c->dead, c->dead_count, sizeof(uint32_t), &bytes);
    program->dead_count = (uint32_t)c->dead_count;
    c->bytes += bytes;
    c->compiled++;
    return program;
}

#define OTHERS_SIZE (NK_SITE_OTHERS * sizeof(struct nk_target))

static void program_free(struct nk_code *c, struct nk_program *program) {
    c->bytes -= sizeof *program + 8 + program->code_count * 4ull +
                program->literal_count * sizeof(nk_noun) +
                program->site_count * sizeof(struct nk_site) +
                (program->point_count + (uint64_t)program->call_count) *
                    sizeof(struct nk_live) +
                program->dead_count * sizeof(uint32_t);
    for (uint32_t i = 0; i < program->site_count; i++) {
        if (program->sites[i].others == NULL) continue;
        free(program->sites[i].others);
        c->bytes -= OTHERS_SIZE;
    }
    struct nk_program **place = &c->by_mug[program->mug % SHARED];
    if (*place == program) *place = NULL;
    free((struct nk_program **)(void *)program->code - 1);
    free(program->literals);
    free(program->sites);
    free(program->points);
    free(program->calls);
    free(program->dead);
    free(program);
}

static void start_over(struct nk_code *c) {
    c->words_count = c->literals_count = c->sites_count = 0;
    c->points_count = c->calls_count = c->dead_count = 0;
    c->tasks_count = c->operands_count = 0;
    c->labels_count = c->patches_count = c->refs_count = 0;
    c->used_count = c->pending_count = 0;
    c->cache_count = 0;
    c->registers = c->steps = 0;
}

static nk_status compile(struct nk_code *c, struct nk_arena *arena, nk_noun formula,
                         struct nk_program **program) {
    c->arena = arena;
    start_over(c);
    uint32_t subject = reg_new(c);
    nk_status status = check_formula(c, arena, formula);
    if (status == NK_EXIT) {
        emit(c, NK_OP_BAIL);
        *program = program_new(c, formula);
        return NK_OK;
    }
    if (status != NK_OK) return status;
    if (!is_counted(c, &c->counted, formula)) c->counted.again = NK_NONE;
    eval_later(c, formula, subject, true, (struct want){WANT_TAIL, 0})->trunk = true;
    while (c->tasks_count != 0) {
        struct task task = c->tasks[--c->tasks_count];
        run_task(c, &task);
        if (++c->steps % POLL_STEPS == 0) {
            status = nk_arena_poll(arena);
            if (status != NK_OK) return status;
        }
    }
    NK_ASSERT(c->operands_count == 0);
    *program = program_new(c, formula);
    return NK_OK;
}

/* Of two equal formulas, let the one above refer to the parts of the one below:
 * the next comparison ends where it begins. Lower is never younger. */
static void adopt_parts(struct nk_arena *arena, nk_noun formula, nk_noun equal) {
    if (nk_offset(formula) < nk_offset(equal)) return;
    const struct nk_cell *below = nk_cell_at(arena, equal);
    struct nk_cell *above = nk_cell_at(arena, formula);
    above->head = below->head;
    above->tail = below->tail;
}

nk_status nk_code_get(struct nk_code *code, struct nk_arena *arena, nk_noun formula,
                      struct nk_program **out) {
    if (!nk_is_cell(formula)) return NK_EXIT;
    bool durable = nk_is_durable(arena, formula);
    struct table *table = durable ? &code->home : &code->nursery;
    struct nk_program *program = *table_find(table, formula);
    if (program != NULL) {
        *out = program;
        return NK_OK;
    }
    uint32_t mug = durable ? 0 : nk_mug(arena, formula);
    if (!durable) {
        program = code->by_mug[mug % SHARED];
        if (program != NULL && program->mug == mug &&
            nk_equal(arena, program->formula, formula)) {
            code->shared++;
            adopt_parts(arena, formula, program->formula);
            *out = program;
            return arena->stopped;
        }
    }
    if (code->bytes > PROGRAM_BYTES_MAX) return NK_MEME;
    nk_status status = compile(code, arena, formula, &program);
    if (status != NK_OK) return status;
    table_put(table, program);
    if (!durable) {
        *ADD(code, young) = program;
        program->mug = mug;
        code->by_mug[mug % SHARED] = program;
    }
    *out = program;
    return NK_OK;
}

#define ADD_ALL(c, name, from, count)                                                  \
    for (size_t add_ = 0; add_ < (count); add_++)                                      \
    *ADD(c, name) = (from)[add_]

struct nk_program *nk_code_stub(struct nk_code *code, const struct nk_program *draft) {
    start_over(code);
    ADD_ALL(code, words, draft->code, draft->code_count);
    ADD_ALL(code, literals, draft->literals, draft->literal_count);
    ADD_ALL(code, points, draft->points, draft->point_count);
    ADD_ALL(code, calls, draft->calls, draft->call_count);
    ADD_ALL(code, dead, draft->dead, draft->dead_count);
    for (uint32_t i = 0; i < draft->site_count; i++)
        new_site(code, 2);
    code->registers = draft->registers;
    struct nk_program *program = program_new(code, NK_NONE);
    code->compiled--; /* our own do not count */
    *ADD(code, stubs) = program;
    return program;
}
#undef ADD_ALL

const struct nk_live *nk_code_point(const struct nk_program *program,
                                    const uint32_t *ip) {
    uint32_t offset = (uint32_t)(ip - program->code);
    uint32_t low = 0, high = program->point_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (program->points[middle].ip < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == program->point_count) return NULL;
    return program->points[low].ip == offset ? &program->points[low] : NULL;
}

/* ---- tables over time ---- */

struct nk_code *nk_code_new(void) {
    struct nk_code *code = calloc(1, sizeof *code);
    NK_ASSERT(code != NULL);
    table_init(&code->home, 256);
    table_init(&code->nursery, 64);
    seen_resize(code, 256);
    return code;
}

void nk_code_free(struct nk_code *code) {
    if (code == NULL) return;
    for (size_t i = 0; i < code->home.capacity; i++) {
        if (code->home.slots[i] != NULL) program_free(code, code->home.slots[i]);
    }
    for (size_t i = 0; i < code->young_count; i++)
        program_free(code, code->young[i]);
    for (size_t i = 0; i < code->stubs_count; i++)
        program_free(code, code->stubs[i]);
    void *vectors[] = {code->young,     code->listed,     code->stubs,
                       code->words,     code->literals,   code->sites,
                       code->points,    code->calls,      code->dead,
                       code->tasks,     code->operands,   code->labels,
                       code->patches,   code->refs,       code->used,
                       code->pending,   code->checks,     code->seen_keys,
                       code->seen_good, code->home.slots, code->nursery.slots};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        free(vectors[i]);
    free(code);
}

void nk_code_list_site(struct nk_code *code, struct nk_site *site) {
    if (site->listed) return;
    site->listed = true;
    *ADD(code, listed) = site;
}

bool nk_code_turn_site(struct nk_code *code, struct nk_site *site, nk_noun key) {
    struct nk_target last = site->last;
    site->last = no_target;
    if (last.key == NK_NONE) return false;
    if (site->others == NULL) {
        site->others = malloc(OTHERS_SIZE);
        NK_ASSERT(site->others != NULL);
        code->bytes += OTHERS_SIZE;
        for (uint32_t i = 0; i < NK_SITE_OTHERS; i++)
            site->others[i] = no_target;
    }
    /* Those in front of it move down by one; so does all where it is new. */
    for (uint32_t i = 0; i < NK_SITE_OTHERS; i++) {
        struct nk_target other = site->others[i];
        site->others[i] = last;
        if (other.key == key) {
            site->last = other;
            return true;
        }
        last = other;
    }
    return false;
}

static void forget_site(struct nk_site *site) {
    site->last = no_target;
    for (uint32_t i = 0; site->others != NULL && i < NK_SITE_OTHERS; i++)
        site->others[i] = no_target;
    site->listed = false;
}

static void forget_listed(struct nk_code *code) {
    for (size_t i = 0; i < code->listed_count; i++)
        forget_site(code->listed[i]);
    code->listed_count = 0;
}

bool nk_code_crowded(const struct nk_code *code) {
    return code->young_count > PROGRAMS_MAX || code->bytes > PROGRAM_BYTES_MAX / 2;
}

void nk_code_trace(struct nk_code *code, struct nk_arena *arena, nk_root_visit visit,
                   bool drop_inactive) {
    forget_listed(code);
    if (drop_inactive) {
        size_t kept = 0, tenured = 0;
        for (size_t i = 0; i < code->young_count; i++) {
            struct nk_program *program = code->young[i];
            if (!program->active) {
                program_free(code, program);
                continue;
            }
            if (i < code->traced) tenured++;
            code->young[kept++] = program;
        }
        code->young_count = kept;
        code->traced = tenured;
    }
    size_t first = arena->minor ? code->traced : 0;
    code->moved = drop_inactive || first < code->young_count;
    for (size_t i = first; i < code->young_count; i++) {
        struct nk_program *program = code->young[i];
        visit(arena, &program->formula);
        for (uint32_t k = 0; k < program->literal_count; k++)
            visit(arena, &program->literals[k]);
    }
    code->traced = code->young_count;
}

void nk_code_moved(struct nk_code *code) {
    if (!code->moved) return;
    table_clear(&code->nursery);
    for (size_t i = 0; i < code->young_count; i++) {
        table_put(&code->nursery, code->young[i]);
    }
}

/* Nothing runs: all of home's programs can be compiled again. */
static void drop_home(struct nk_code *code) {
    for (size_t i = 0; i < code->home.capacity; i++) {
        if (code->home.slots[i] != NULL) program_free(code, code->home.slots[i]);
    }
    table_clear(&code->home);
    for (size_t i = 0; i < code->stubs_count; i++) {
        for (uint32_t k = 0; k < code->stubs[i]->site_count; k++)
            forget_site(&code->stubs[i]->sites[k]);
    }
}

void nk_code_drop_nursery(struct nk_code *code) {
    forget_listed(code);
    for (size_t i = 0; i < code->young_count; i++)
        program_free(code, code->young[i]);
    code->young_count = 0;
    code->traced = 0;
    if (code->nursery.count != 0) table_clear(&code->nursery);
    if (code->bytes > PROGRAM_BYTES_MAX / 2) drop_home(code);
}

void nk_code_forget_sites(struct nk_code *code) {
    forget_listed(code);
    for (size_t i = 0; i < code->home.capacity; i++) {
        struct nk_program *program = code->home.slots[i];
        if (program == NULL) continue;
        for (uint32_t k = 0; k < program->site_count; k++)
            forget_site(&program->sites[k]);
    }
    for (size_t i = 0; i < code->young_count; i++) {
        struct nk_program *program = code->young[i];
        for (uint32_t k = 0; k < program->site_count; k++)
            forget_site(&program->sites[k]);
    }
    for (size_t i = 0; i < code->stubs_count; i++) {
        struct nk_program *program = code->stubs[i];
        for (uint32_t k = 0; k < program->site_count; k++)
            forget_site(&program->sites[k]);
    }
}

/* Empty slot [hole] of a table; entries behind it that a search would not
 * find any more move up. */
static void table_remove(struct table *table, size_t hole) {
    size_t mask = table->capacity - 1;
    table->count--;
    for (size_t at = (hole + 1) & mask; table->slots[at] != NULL;
         at = (at + 1) & mask) {
        size_t first = (size_t)hash_noun(table->slots[at]->formula) & mask;
        if (((at - first) & mask) < ((at - hole) & mask)) continue;
        table->slots[hole] = table->slots[at];
        hole = at;
    }
    table->slots[hole] = NULL;
}

static bool is_dead(const struct nk_target *target, const struct nk_home *home) {
    return (target->key != NK_NONE && !nk_home_marked(home, target->key)) ||
           (target->context != NK_NONE && !nk_home_marked(home, target->context));
}

static void purge_sites(struct nk_program *program, const struct nk_home *home) {
    for (uint32_t i = 0; i < program->site_count; i++) {
        struct nk_site *site = &program->sites[i];
        bool dead = is_dead(&site->last, home), listed = site->listed;
        for (uint32_t k = 0; site->others != NULL && k < NK_SITE_OTHERS; k++)
            dead |= is_dead(&site->others[k], home);
        if (dead) forget_site(site);
        site->listed = listed;
    }
}

/* [cursor] counts slots of the table as it is now; after it has grown all is
 * looked at again. What an event between two calls adds is alive, wherever it
 * goes; what a removal moves up lies at the cursor or behind it, or was looked
 * at already. */
bool nk_code_purge(struct nk_code *code, const struct nk_home *home, size_t *cursor,
                   size_t budget) {
    struct table *table = &code->home;
    if (*cursor == 0 || code->purging != table->capacity) {
        code->purging = table->capacity;
        *cursor = 0;
        for (size_t i = 0; i < code->stubs_count; i++)
            purge_sites(code->stubs[i], home);
    }
    for (size_t seen = 0; *cursor < table->capacity && seen < budget; seen++) {
        struct nk_program *program = table->slots[*cursor];
        if (program == NULL) {
            *cursor += 1;
        } else if (nk_home_marked(home, program->formula)) {
            purge_sites(program, home);
            seen += program->site_count;
            *cursor += 1;
        } else {
            table_remove(table, *cursor);
            program_free(code, program);
        }
    }
    return *cursor == table->capacity;
}

struct nk_code_stats nk_code_stats(const struct nk_code *code) {
    return (struct nk_code_stats){code->compiled, code->shared, code->home.count,
                                  code->young_count, code->bytes};
}
