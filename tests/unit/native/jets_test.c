/* units: machine */
/* Each jet against plain arithmetic, its crashes and what it declines; then
 * registration: who gets a jet, who does not, across commits, discards and
 * restarts; and the arms that run as programs. */
#include <pthread.h>

#include "check.h"
#include "collect.h"
#include "code.h"
#include "jet.h"
#include "memo.h"
#include "mug.h"
#include "text.h"

static struct nk_machine machine;
static struct nk_arena *arena = &machine.arena;

static const struct nk_arm *const families[] = {
    nk_arms_arithmetic, nk_arms_bits,  nk_arms_codes, nk_arms_compiler,
    nk_arms_floats,     nk_arms_lists, nk_arms_maps,  nk_arms_parsers,
    nk_arms_serial,     nk_arms_sha,   nk_arms_text,  nk_arms_virtual};

static const struct nk_arm *arm_of(const char *path) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        for (const struct nk_arm *arm = families[i]; arm->path != NULL; arm++) {
            if (strcmp(arm->path, path) == 0) return arm;
        }
    }
    CHECK(false);
    return NULL;
}

static nk_status call(const char *path, nk_noun sample, nk_noun *product) {
    nk_noun core =
        nk_cons_try(arena, nk_cons_try(arena, 1, 0), nk_cons_try(arena, sample, 0));
    return arm_of(path)->jet(&machine, core, product);
}

static void gives(const char *path, const char *sample, const char *want) {
    nk_noun product;
    nk_status status = call(path, text_noun(arena, sample), &product);
    if (status != NK_OK) fprintf(stderr, "%s %s: %d\n", path, sample, status);
    CHECK(status == NK_OK);
    bool same = nk_equal(arena, product, text_noun(arena, want));
    if (!same) fprintf(stderr, "%s %s is not %s\n", path, sample, want);
    CHECK(same);
}

static void fails(const char *path, const char *sample, nk_status want) {
    nk_noun product;
    nk_status status = call(path, text_noun(arena, sample), &product);
    if (status != want) fprintf(stderr, "%s %s: %d\n", path, sample, status);
    CHECK(status == want);
}

/* ---- numbers, digit by digit ---- */

#define DIGITS 64 /* of base 2^8, lowest first */
struct number {
    uint8_t digit[DIGITS];
};

static uint64_t seed = 20260101;
static uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Up to [size] bytes, with runs of zeros and ones among them. */
static struct number random_number(size_t size) {
    struct number n = {{0}};
    size_t length = (size_t)(next_random() % (size + 1));
    for (size_t i = 0; i < length; i++) {
        uint64_t kind = next_random() % 4;
        n.digit[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)next_random();
    }
    return n;
}
static nk_noun noun_from(const struct number *n) {
    return nk_atom_from_bytes(arena, n->digit, DIGITS);
}
static struct number number_from(nk_noun noun) {
    struct number n;
    CHECK(nk_atom_size(arena, noun) <= DIGITS);
    nk_atom_read(arena, noun, n.digit, DIGITS);
    return n;
}
static int compare(const struct number *a, const struct number *b) {
    for (size_t i = DIGITS; i-- > 0;) {
        if (a->digit[i] != b->digit[i]) return a->digit[i] < b->digit[i] ? -1 : 1;
    }
    return 0;
}
static struct number plus(const struct number *a, const struct number *b) {
    struct number sum;
    unsigned carry = 0;
    for (size_t i = 0; i < DIGITS; i++) {
        carry += (unsigned)a->digit[i] + b->digit[i];
        sum.digit[i] = (uint8_t)carry;
        carry >>= 8;
    }
    CHECK(carry == 0);
    return sum;
}
static struct number times(const struct number *a, const struct number *b) {
    struct number product = {{0}};
    for (size_t i = 0; i < DIGITS; i++) {
        unsigned carry = 0;
        for (size_t k = 0; i + k < DIGITS; k++) {
            carry += product.digit[i + k] + (unsigned)a->digit[i] * b->digit[k];
            product.digit[i + k] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    return product;
}
static bool bit(const struct number *a, uint64_t at) {
    return at < DIGITS * 8 && (a->digit[at / 8] >> (at % 8) & 1) != 0;
}
static void put_bit(struct number *a, uint64_t at) {
    CHECK(at < DIGITS * 8);
    a->digit[at / 8] = (uint8_t)(a->digit[at / 8] | 1u << (at % 8));
}
static uint64_t bits(const struct number *a) {
    uint64_t n = DIGITS * 8;
    while (n > 0 && !bit(a, n - 1))
        n--;
    return n;
}
static struct number cut(const struct number *a, uint64_t start, uint64_t count) {
    struct number out = {{0}};
    for (uint64_t i = 0; i < count && start + i < DIGITS * 8; i++) {
        if (bit(a, start + i)) put_bit(&out, i);
    }
    return out;
}

static nk_noun two(nk_noun a, nk_noun b) {
    return nk_cons_try(arena, a, b);
}

/* The jet on [sample] gives the number. */
static void same(const char *path, nk_noun sample, struct number want) {
    nk_noun product;
    CHECK(call(path, sample, &product) == NK_OK);
    struct number got = number_from(product);
    if (compare(&got, &want) != 0) fprintf(stderr, "%s differs\n", path);
    CHECK(compare(&got, &want) == 0);
}
static void same_flag(const char *path, nk_noun sample, bool want) {
    nk_noun product;
    CHECK(call(path, sample, &product) == NK_OK);
    CHECK(product == (want ? 0u : 1u));
}

static void test_arithmetic_random(void) {
    for (int round = 0; round < 3000; round++) {
        struct number a = random_number(28), b = random_number(28);
        if (round % 16 == 0) b = a;
        nk_noun x = noun_from(&a), y = noun_from(&b), product;
        int order = compare(&a, &b);
        struct number sum = plus(&a, &b);
        same("one/add", two(x, y), sum);
        same("one/sub", two(noun_from(&sum), y), a);
        same("one/mul", two(x, y), times(&a, &b));
        nk_status below = order < 0 ? NK_EXIT : NK_OK;
        CHECK(call("one/sub", two(x, y), &product) == below);
        same_flag("one/gte", two(x, y), order >= 0);
        same_flag("one/gth", two(x, y), order > 0);
        same_flag("one/lte", two(x, y), order <= 0);
        same_flag("one/lth", two(x, y), order < 0);
        same("one/max", two(x, y), order > 0 ? a : b);
        same("one/min", two(x, y), order < 0 ? a : b);
        nk_status status = call("one/dvr", two(x, y), &product);
        if (y == 0) {
            CHECK(status == NK_EXIT);
            CHECK(call("one/div", two(x, y), &product) == NK_EXIT);
            CHECK(call("one/mod", two(x, y), &product) == NK_EXIT);
        } else {
            CHECK(status == NK_OK);
            struct number q = number_from(nk_head(arena, product));
            struct number r = number_from(nk_tail(arena, product));
            struct number back = times(&q, &b);
            back = plus(&back, &r);
            CHECK(compare(&back, &a) == 0 && compare(&r, &b) < 0);
            same("one/div", two(x, y), q);
            same("one/mod", two(x, y), r);
        }
        if (x != 0) {
            struct number one = {{1}};
            CHECK(call("one/dec", x, &product) == NK_OK);
            struct number less = number_from(product);
            less = plus(&less, &one);
            CHECK(compare(&less, &a) == 0);
        }
        nk_nursery_reset(arena);
    }
}

static void test_bits_random(void) {
    for (int round = 0; round < 3000; round++) {
        struct number a = random_number(24), b = random_number(24), want = {{0}};
        nk_noun x = noun_from(&a), y = noun_from(&b), bloq = next_random() % 7;
        uint64_t size = 1ull << bloq;
        nk_noun step = next_random() % (256 >> bloq), count = next_random() % 9;
        nk_noun bite = two(bloq, step);
        same("two/end", two(bite, x), cut(&a, 0, step * size));
        same("two/rsh", two(bite, x), cut(&a, step * size, 512));
        same("two/end", two(bloq, x), cut(&a, 0, size));
        same("two/rsh", two(bloq, x), cut(&a, size, 512));
        same("two/cut", two(bloq, two(two(step, count), x)),
             cut(&a, step * size, count * size));
        uint64_t blocks = (bits(&a) + size - 1) / size;
        nk_noun product;
        CHECK(call("two/met", two(bloq, x), &product) == NK_OK && product == blocks);
        CHECK(call("two/xeb", x, &product) == NK_OK && product == bits(&a));
        for (uint64_t i = 0; i < 256; i++) {
            if (bit(&a, i) && i + step * size < 512) put_bit(&want, i + step * size);
        }
        if (bits(&a) + step * size <= 512) same("two/lsh", two(bite, x), want);
        struct number both = a, either = a, one = a;
        for (size_t i = 0; i < DIGITS; i++) {
            both.digit[i] &= b.digit[i];
            either.digit[i] |= b.digit[i];
            one.digit[i] ^= b.digit[i];
        }
        same("two/dis", two(x, y), both);
        same("two/con", two(x, y), either);
        same("two/mix", two(x, y), one);
        /* cat, rap, can, rep: laid side by side */
        struct number joined = cut(&a, 0, 512);
        for (uint64_t i = 0; i < bits(&b); i++) {
            if (bit(&b, i)) put_bit(&joined, i + blocks * size);
        }
        same("two/cat", two(bloq, two(x, y)), joined);
        same("two/rap", two(bloq, two(x, two(y, 0))), joined);
        struct number part = cut(&a, 0, step * size);
        for (uint64_t i = 0; i < bits(&b) && i < count * size; i++) {
            if (bit(&b, i)) put_bit(&part, i + step * size);
        }
        same("two/can", two(bloq, two(two(step, x), two(two(count, y), 0))), part);
        if (count * size <= 256) {
            part = cut(&a, 0, count * size);
            for (uint64_t i = 0; i < bits(&b) && i < count * size; i++) {
                if (bit(&b, i)) put_bit(&part, i + count * size);
            }
            same("two/rep", two(two(bloq, count), two(x, two(y, 0))), part);
        }
        /* rip and back; swp; rev */
        if (count > 0) {
            CHECK(call("two/rip", two(two(bloq, count), x), &product) == NK_OK);
            uint64_t length = 0;
            for (nk_noun l = product; l != 0; l = nk_tail(arena, l), length++) {
                struct number got = number_from(nk_head(arena, l));
                struct number chunk = cut(&a, length * count * size, count * size);
                CHECK(compare(&got, &chunk) == 0);
            }
            CHECK(length == (bits(&a) + count * size - 1) / (count * size));
            same("two/rep", two(two(bloq, count), product), a);
        }
        struct number turned = {{0}};
        for (uint64_t i = 0; i < blocks * size; i++) {
            uint64_t to = (blocks - 1 - i / size) * size + i % size;
            if (bit(&a, i)) put_bit(&turned, to);
        }
        same("two/swp", two(bloq, x), turned);
        memset(&turned, 0, sizeof turned);
        for (uint64_t i = 0; i < step * size; i++) {
            if (bit(&a, i)) put_bit(&turned, (step - 1 - i / size) * size + i % size);
        }
        same("two/rev", two(bloq, two(step, x)), turned);
        /* sqt: r^2 <= a < (r+1)^2 */
        CHECK(call("two/sqt", x, &product) == NK_OK);
        struct number root = number_from(nk_head(arena, product));
        struct number rest = number_from(nk_tail(arena, product)), unit = {{1}};
        struct number square = times(&root, &root), above = plus(&root, &unit);
        struct number back = plus(&square, &rest);
        above = times(&above, &above);
        CHECK(compare(&back, &a) == 0 && compare(&above, &a) > 0);
        /* mat and rub */
        CHECK(call("two/mat", x, &product) == NK_OK);
        nk_noun length = nk_head(arena, product), coded = nk_tail(arena, product), out;
        CHECK(call("two/lsh", two(two(0, step), coded), &coded) == NK_OK);
        CHECK(call("two/rub", two(step, coded), &out) == NK_OK);
        CHECK(nk_head(arena, out) == length);
        CHECK(nk_equal(arena, nk_tail(arena, out), x));
        nk_nursery_reset(arena);
    }
}

static void test_crashes_and_punts(void) {
    fails("one/dec", "0", NK_EXIT);
    fails("one/dec", "[1 2]", NK_EXIT);
    fails("one/add", "[[1 2] 3]", NK_PUNT);
    fails("one/add", "5", NK_PUNT);
    fails("one/sub", "[3 4]", NK_EXIT);
    fails("one/lth", "[[0 1] 4]", NK_PUNT);
    gives("one/cap", "2", "2");
    gives("one/cap", "3", "3");
    gives("one/cap", "13", "3");
    gives("one/cap", "11", "2");
    fails("one/cap", "1", NK_EXIT);
    fails("one/cap", "0", NK_EXIT);
    gives("one/mas", "2", "1");
    gives("one/mas", "13", "5");
    gives("one/mas", "11", "7");
    gives("one/mas", "0xc000000000000001", "0x4000000000000001");
    fails("one/mas", "1", NK_EXIT);
    gives("one/peg", "[3 6]", "14");
    gives("one/peg", "[5 1]", "5");
    gives("one/peg", "[1 7]", "7");
    gives("one/peg", "[4 13]", "37");
    fails("one/peg", "[0 3]", NK_EXIT);
    fails("one/peg", "[3 0]", NK_EXIT);
    gives("two/bex", "0", "1");
    gives("two/bex", "63", "0x8000000000000000");
    fails("two/bex", "0x4000000000000000", NK_MEME);
    gives("two/lsh", "[[100 7] 0]", "0");
    fails("two/lsh", "[100 1]", NK_MEME);
    gives("two/rsh", "[100 77]", "0");
    gives("two/end", "[100 77]", "77");
    gives("two/end", "[[100 0] 77]", "0");
    gives("two/met", "[100 77]", "1");
    gives("two/met", "[3 0]", "0");
    fails("two/rip", "[[3 0] 1]", NK_PUNT);
    gives("two/rip", "[[3 0] 0]", "0");
    fails("two/rep", "[3 [1 2 3]]", NK_PUNT);
    fails("two/can", "[3 [[1 2] 0 0]]", NK_PUNT);
    gives("two/can", "[3 [[1 2] [100 0] 0]]", "2");
    gives("two/rap", "[3 [%ab %c 0 %d 0]]", "%abcd");
    gives("two/rub", "[0 1]", "[1 0]");
    fails("two/rub", "[0 0]", NK_EXIT);
    fails("two/rub", "[70 1]", NK_EXIT);
    gives("two/mat", "0", "[1 1]");
    gives("two/jam", "[1 2]", "0x1231");
    gives("two/cue", "0x1231", "[1 2]");
    fails("two/cue", "7", NK_EXIT);
    fails("two/cue", "1", NK_EXIT);
    fails("two/cue", "[1 1]", NK_PUNT);
    gives("two/mug", "0", "0x79ff04e8");
    gives("two/mug", "[1 2 3]", "0x3a811aec");
    nk_nursery_reset(arena);
}

static void test_lists(void) {
    gives("two/flop", "[1 2 3 0]", "[3 2 1 0]");
    gives("two/flop", "0", "0");
    fails("two/flop", "[1 2 3]", NK_PUNT);
    gives("two/lent", "[1 2 3 0]", "3");
    fails("two/lent", "7", NK_PUNT);
    gives("two/weld", "[[1 2 0] 3 4 0]", "[1 2 3 4 0]");
    gives("two/weld", "[0 3 0]", "[3 0]");
    fails("two/weld", "[[1 2] 3 4 0]", NK_PUNT);
    gives("two/snag", "[0 5 6 0]", "5");
    gives("two/snag", "[1 5 6 0]", "6");
    fails("two/snag", "[2 5 6 0]", NK_EXIT);
    fails("two/snag", "[2 5 6]", NK_PUNT);
    gives("two/scag", "[2 5 6 7 0]", "[5 6 0]");
    gives("two/scag", "[9 5 6 0]", "[5 6 0]");
    gives("two/scag", "[1 5 6]", "[5 0]");
    fails("two/scag", "[2 5 6]", NK_PUNT);
    gives("two/slag", "[2 5 6 7 0]", "[7 0]");
    gives("two/slag", "[9 5 0]", "0");
    gives("two/slag", "[1 5 6]", "6");
    fails("two/slag", "[2 5 6]", NK_PUNT);
    gives("two/reap", "[3 7 8]", "[[7 8] [7 8] [7 8] 0]");
    gives("two/zing", "[[1 2 0] 0 [3 0] 0]", "[1 2 3 0]");
    fails("two/zing", "[[1 2] 0]", NK_PUNT);
    gives("two/dor", "[1 1]", "0");
    gives("two/dor", "[1 2]", "0");
    gives("two/dor", "[2 1]", "1");
    gives("two/dor", "[9 [0 0]]", "0");
    gives("two/dor", "[[0 0] 9]", "1");
    gives("two/dor", "[[1 [2 3]] [1 [2 4]]]", "0");
    gives("two/dor", "[[1 [3 3]] [1 [2 4]]]", "1");
    for (nk_noun i = 0; i < 200; i++) {
        nk_noun a = next_random() % 50, b = next_random() % 50, yes;
        uint32_t c = nk_mug(arena, a), d = nk_mug(arena, b);
        CHECK(call("two/gor", two(a, b), &yes) == NK_OK);
        CHECK(yes == (c < d || a == b ? 0u : 1u));
        c = nk_mug(arena, c);
        d = nk_mug(arena, d);
        CHECK(call("two/mor", two(a, b), &yes) == NK_OK);
        CHECK(yes == (c < d || a == b ? 0u : 1u));
    }
    nk_nursery_reset(arena);
}

/* The families whose own tests are in Python: a few samples, for the
 * sanitizers' eyes. */
static void test_others(void) {
    gives("hex/crc/crc32", "[8 0x3837363534333231]", "0x9ae0daaf");
    fails("hex/crc/crc32", "[1 0x3231]", NK_EXIT);
    gives("hex/checksum/adler/adler32", "[9 0x3837363534333231]", "0x8e501a5");
    gives("hex/mimes/base16/en", "[3 0xbeef]", "%00beef");
    gives("hex/mimes/base16/de", "%0beef", "[0 3 0xbeef]");
    gives("hex/mimes/base16/de", "%g", "0");
    gives("hex/leer", "0x620a0a61", "[97 0 98 0]");
    gives("hex/lune", "0xa620a61", "[97 98 0]");
    fails("hex/lune", "0x620a61", NK_PUNT);
    gives("hex/loss", "[[1 2 3 4 0] 2 9 4 1 0]", "[2 4 0]");
    gives("hex/loss", "[0 1 0]", "0");
    gives("two/pow", "[3 40]", "12157665459056928801");
    fails("two/pow", "[2 0x4000000000000000]", NK_MEME);
    gives("two/sew", "[3 [1 1 0xff] 0x112233]", "0x11ff33");
    gives("two/clz", "[[3 2] 7]", "13");
    gives("two/ctz", "0x8000000000000000", "63");
    gives("two/ham", "0xff0000000000000f", "12");
    gives("two/rig", "[[0 9] 3]", "2");
    gives("two/find", "[[2 3 0] 1 2 2 3 0]", "[0 2]");
    /* fun, in hew, in its layer: [battery shape [bloq step] hew] */
    nk_noun core = text_noun(arena, "[0 [1 2] [3 1] 0 [0 0x44332211] 0]"), product;
    CHECK(arm_of("two/hew/fun")->jet(&machine, core, &product) == NK_OK);
    CHECK(nk_equal(arena, product, text_noun(arena, "[[0x22 0x4433] 3 4]")));
    /* A gate in the door of the mode. */
    core = text_noun(arena, "[0 [0x3ff0000000000000 0x4000000000000000] 0 %n 0]");
    CHECK(arm_of("tri/rd/add")->jet(&machine, core, &product) == NK_OK);
    CHECK(product == 0x4008000000000000);
    core = text_noun(arena, "[0 [0x7bff 0x7bff] 0 %z 0]");
    CHECK(arm_of("tri/rh/mul")->jet(&machine, core, &product) == NK_OK);
    CHECK(product == 0x7c00);
    nk_nursery_reset(arena);
}

/* ---- registration ---- */

#define ROOT "[11 [%fast 1 [%k 138] [1 0] 0] [1 0 0] 1 138]"
#define ONE "[11 [%fast 1 %one [0 3] 0] [1 0 1] 0 1]"
#define TWO "[11 [%fast 1 %two [0 3] 0] [1 0 2] 0 1]"
/* A layer whose arm 4 makes the gate that its hooks call mute and mure. */
#define QUA                                                                            \
    "[11 [%fast 1 %qua [0 3] [%mute 9 4 0 1] [%mure 9 4 0 1] 0] "                      \
    "[1 [1 [0 13] 1 2] 0 4] 0 1]"
/* A door of it, of a sample, with hooks of its own. */
#define VI                                                                             \
    "[11 [%fast 1 %vi [0 7] [%mute 9 4 0 1] [%mure 9 4 0 1] 0] "                       \
    "[1 [1 [0 12] 1 2] 0 6] [1 0] 0 1]"
/* A gate whose Nock answers %nock: a jet is seen by its other answer. */
#define GATE(name) "[11 [%fast 1 " name " [0 7] 0] [1 11 " name " 1 %nock] [1 0] 0 1]"

static nk_status nock(const char *formula, nk_noun *product) {
    return nk_nock(&machine, 0, text_noun(arena, formula), product);
}

/* For the message of a failing test only. */
static void show(nk_noun n, int depth) {
    if (nk_is_direct(n)) {
        fprintf(stderr, "%llu", (unsigned long long)n);
    } else if (nk_is_cell(n) && depth > 0) {
        fprintf(stderr, "[");
        show(nk_head(arena, n), depth - 1);
        fprintf(stderr, " ");
        show(nk_tail(arena, n), depth - 1);
        fprintf(stderr, "]");
    } else {
        fprintf(stderr, "...");
    }
}

static void computes(const char *formula, const char *want) {
    nk_noun product;
    nk_status status = nock(formula, &product);
    if (status != NK_OK) fprintf(stderr, "%s: %d\n", formula, status);
    CHECK(status == NK_OK);
    bool right = nk_equal(arena, product, text_noun(arena, want));
    if (!right) {
        fprintf(stderr, "%s is not %s but ", formula, want);
        show(product, 12);
        fprintf(stderr, "\n");
    }
    CHECK(right);
}

static void fresh(void) {
    nk_machine_close(&machine);
    CHECK(nk_machine_open(&machine, 64u << 20, 64u << 20) == NK_OK);
}

#define IN(layers, gate, sample)                                                       \
    "[7 " ROOT " " layers " 7 " gate " 9 2 10 [6 1 " sample "] 0 1]"

static void test_registration(void) {
    fresh();
    computes(IN("7 " ONE, GATE("%add"), "[3 4]"), "7");
    computes(IN("7 " ONE, GATE("%add"), "[[1 2] 4]"), "%nock");
    computes(IN("7 " ONE, GATE("%sud"), "[3 4]"), "%nock");
    fresh();
    machine.jets_enabled = false;
    computes(IN("7 " ONE, GATE("%add"), "[3 4]"), "%nock");
    fresh();
    /* The same core, but nothing registered above it. */
    computes(
        "[7 [[1 0 0] 1 138] 7 [[1 0 1] 0 1] 7 " GATE("%add") " 9 2 10 [6 1 3 4] 0 1]",
        "%nock");
    /* The right names over a wrong number. */
    computes("[7 [11 [%fast 1 [%k 138] [1 0] 0] [1 0 0] 1 137] 7 " ONE
             " 7 " GATE("%add") " 9 2 10 [6 1 3 4] 0 1]",
             "%nock");
    fresh();
    /* A layer below another one counts by itself. */
    computes(IN("7 " ONE " 7 " TWO, GATE("%bex"), "4"), "16");
    computes(IN("7 " ONE " 7 " TWO, GATE("%add"), "[3 4]"), "%nock");
    fresh();
    /* A battery that was kicked before it was registered. */
    computes("[8 [[1 11 %add 1 %nock] [1 0] 1 0] [9 2 0 2] 7 " ROOT " 7 " ONE
             " 7 " GATE("%add") " 9 2 10 [6 1 3 4] 0 1]",
             "[%nock 7]");
    /* The battery is registered, this core's context is not. */
    computes("[8 [1 [11 %add 1 %nock] [3 4] 1 1] 9 2 0 2]", "%nock");
    computes(IN("7 " ONE, GATE("%dec"), "6"), "5");
}

static void test_sham(void) {
    fresh();
    computes("[8 [1 [11 [%sham 1 %dec] 1 %nock] 8 0] 9 2 0 2]", "7");
    computes("[8 [1 [11 [%sham 1 %none] 1 %nock] 8 0] 9 2 0 2]", "%nock");
    computes("[8 [1 [4 11 [%sham 1 %add] 1 9] [3 [1 2]] 0] 9 2 0 2]", "10");
    nk_noun product;
    CHECK(nock("[8 [1 [11 [%sham 1 %dec] 1 %nock] 0 0] 9 2 0 2]", &product) == NK_EXIT);
    machine.jets_enabled = false;
    computes("[8 [1 [11 [%sham 1 %dec] 1 %nock] 8 0] 9 2 0 2]", "%nock");
}

#define LIST(name, gate, list) IN("7 " ONE " 7 " TWO, GATE(name), "[" list " " gate "]")

static void test_programs(void) {
    nk_noun product;
    fresh();
    computes(LIST("%turn", "[[4 0 6] 0 0]", "[1 2 3 0]"), "[2 3 4 0]");
    computes(LIST("%turn", "[[4 0 6] 0 0]", "0"), "0");
    CHECK(nock(LIST("%turn", "[[4 0 6] 0 0]", "[1 2 3]"), &product) == NK_EXIT);
    CHECK(nock(LIST("%turn", "[[4 0 6] 0 0]", "[1 [2 2] 0]"), &product) == NK_EXIT);
    /* [b a] of each with what came before */
    computes(LIST("%roll", "[[[0 13] 0 12] [0 9] 0]", "[1 2 3 0]"), "[[[9 1] 2] 3]");
    computes(LIST("%roll", "[[[0 13] 0 12] [0 9] 0]", "0"), "9");
    computes(LIST("%reel", "[[0 6] [0 9] 0]", "[1 2 3 0]"), "[1 2 3 9]");
    CHECK(nock(LIST("%reel", "[[0 6] [0 9] 0]", "[1 2 3]"), &product) == NK_EXIT);
    CHECK(nock(LIST("%roll", "[[0 6] 0 0]", "0"), &product) == NK_EXIT);
    /* is it 2? */
    computes(LIST("%levy", "[[5 [1 2] 0 6] 0 0]", "[2 2 2 0]"), "0");
    computes(LIST("%levy", "[[5 [1 2] 0 6] 0 0]", "[2 3 2]"), "1");
    computes(LIST("%levy", "[[5 [1 2] 0 6] 0 0]", "0"), "0");
    CHECK(nock(LIST("%levy", "[[5 [1 2] 0 6] 0 0]", "[2 2 7]"), &product) == NK_EXIT);
    CHECK(nock(LIST("%levy", "[[1 2] 0 0]", "[2 0]"), &product) == NK_EXIT);
    computes(LIST("%lien", "[[5 [1 2] 0 6] 0 0]", "[3 4 2 5]"), "0");
    computes(LIST("%lien", "[[5 [1 2] 0 6] 0 0]", "[3 4 0]"), "1");
    CHECK(nock(LIST("%lien", "[[5 [1 2] 0 6] 0 0]", "[3 4]"), &product) == NK_EXIT);
    computes(LIST("%skim", "[[5 [1 2] 0 6] 0 0]", "[2 3 2 4 0]"), "[2 2 0]");
    computes(LIST("%skip", "[[5 [1 2] 0 6] 0 0]", "[2 3 2 4 0]"), "[3 4 0]");
    CHECK(nock(LIST("%skim", "[[1 2] 0 0]", "[2 0]"), &product) == NK_EXIT);
    /* The successor of what is not 2; those that are 2; by being 2. */
    computes(LIST("%murn", "[[6 [5 [1 2] 0 6] [1 0] [1 0] 4 0 6] 0 0]", "[2 3 2 4 0]"),
             "[4 5 0]");
    computes(LIST("%skid", "[[5 [1 2] 0 6] 0 0]", "[2 3 2 4 0]"), "[[2 2 0] 3 4 0]");
    computes(LIST("%sort", "[[5 [1 2] 0 12] 0 0]", "[3 2 4 2 5 0]"), "[2 2 3 4 5 0]");
    CHECK(nock(LIST("%sort", "[[1 2] 0 0]", "[2 3 0]"), &product) == NK_EXIT);
    CHECK(nock(LIST("%skid", "[[1 1] 0 0]", "[2 3]"), &product) == NK_EXIT);
}

/* Of the edge [vex], and a rule that always gives [edge]. */
#define PARSE(name, vex, edge)                                                         \
    IN("7 " ONE " 7 " QUA, GATE(name), "[" vex " [[1 " edge "] 0 0]]")
#define GOOD "[[1 2] 0 97 [1 2] 98 0]"

static void test_parsers(void) {
    nk_noun product;
    fresh();
    computes(PARSE("%plug", GOOD, "[[1 3] 0 98 [1 3] 0]"), "[[1 3] 0 [97 98] [1 3] 0]");
    computes(PARSE("%pfix", GOOD, "[[1 3] 0 98 [1 3] 0]"), "[[1 3] 0 98 [1 3] 0]");
    computes(PARSE("%sfix", GOOD, "[[1 1] 0 98 [1 1] 0]"), "[[1 2] 0 97 [1 1] 0]");
    computes(PARSE("%plug", GOOD, "[[2 1] 0]"), "[[2 1] 0]");
    computes(PARSE("%plug", "[[1 2] 0]", "7"), "[[1 2] 0]");
    computes(PARSE("%pose", GOOD, "7"), GOOD);
    computes(PARSE("%pose", "[[3 1] 0]", "[[1 3] 0 98 [1 3] 0]"),
             "[[3 1] 0 98 [1 3] 0]");
    CHECK(nock(PARSE("%plug", GOOD, "7"), &product) == NK_EXIT);
    CHECK(nock(PARSE("%pose", "[7 0]", "[[1 3] 0]"), &product) == NK_EXIT);
    CHECK(nock(PARSE("%sfix", GOOD, "[[1 1] 0 98]"), &product) == NK_EXIT);
    /* Which line is farther cannot be told: left to Nock, after the call. */
    computes(PARSE("%plug", GOOD, "[[[1 1] 3] 0]"), "%nock");
}

#define MINK(subject, formula, gate)                                                   \
    IN("7 " ONE " 7 " QUA, GATE("%mink"), "[[" subject " " formula "] " gate "]")
#define NO_SCRY "[[1 0] 0 0]"

static void test_virtual(void) {
    nk_noun product;
    fresh();
    computes(MINK("7", "[4 0 1]", NO_SCRY), "[0 8]");
    computes(MINK("7", "[0 2]", NO_SCRY), "[2 0]");
    computes(MINK("7", "5", NO_SCRY), "[2 0]");
    computes(MINK("7", "[11 [%mean 1 %a] 11 [%spot 1 %b] 0 2]", NO_SCRY),
             "[2 [%spot %b] [%mean %a] 0]");
    computes(MINK("7", "[12 [1 %ref] 1 %path]", NO_SCRY), "[1 %path]");
    computes(MINK("7", "[11 [%mean 1 %a] 12 [1 %ref] 1 %path]", "[[1 0 0] 0 0]"),
             "[2 [%hunk %ref %path] [%mean %a] 0]");
    computes(MINK("7", "[4 12 [1 %ref] 1 4]", "[[[1 0] [1 0] 0 13] 0 0]"), "[0 5]");
    computes(MINK("7", "[[12 [1 8] 1 4] 0 1]", "[[[1 0] [1 0] 0 6] 0 0]"),
             "[0 [[8 4] 7]]");
    /* A crash in the handler is the caller's. */
    CHECK(nock(MINK("7", "[12 [1 1] 1 1]", "[[0 0] 0 0]"), &product) == NK_EXIT);
    CHECK(nock(MINK("7", "[12 [1 1] 1 1]", "5"), &product) == NK_EXIT);
    /* Outside of any mink there is nobody to ask. */
    CHECK(nock("[12 [1 1] 1 1]", &product) == NK_EXIT);
    /* Traces outside stay what they were. */
    CHECK(nock("[11 [%mean 1 %out] 8 " MINK("7", "[0 2]", NO_SCRY) " 0 0]", &product) ==
          NK_EXIT);
    CHECK(nk_equal(arena, machine.trace, text_noun(arena, "[[%mean %out] 0]")));
    /* What is not deterministic is not caught. */
    CHECK(nock(MINK("[11 %loop 2 [0 1] 0 1]", "[11 %loop 2 [0 1] 0 1]", NO_SCRY),
               &product) == NK_FAIL);
}

/* mink in mink: the inner handler may scry itself, and so reach the outer
 * one. Built by hand, as the text would not be readable. */
static void test_virtual_nested(void) {
    nk_noun product;
    fresh();
    /* subject of the formulas below: the mink gate */
    const char *inner =
        "[9 2 10 [6 [[0 1] 1 12 [1 %r] 1 %p] 1 [12 [0 12] 0 13] 0 0] 0 1]";
    const char *to_mink = "[7 " ROOT " 7 " ONE " 7 " QUA " 7 " GATE("%mink");
    char text[2048];
    const char *handlers[] = {NO_SCRY, "[[1 0 0] 0 0]", "[[1 0 0 0 0 9] 0 0]",
                              "[[0 0] 0 0]"};
    const char *wants[] = {"[1 %p]", "[2 [%hunk %r %p] 0]", "[0 0 9]", NULL};
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "%s 9 2 10 [6 [[0 1] 1 %s] 1 %s] 0 1]", to_mink,
                 inner, handlers[i]);
        if (wants[i] != NULL) {
            computes(text, wants[i]);
        } else {
            CHECK(nock(text, &product) == NK_EXIT);
        }
    }
    /* Deep: mink of mink of mink ... by a formula that calls itself. */
#ifdef NK_TINY
    const uint64_t depth = 200;
#else
    const uint64_t depth = 100000;
#endif
    snprintf(text, sizeof text,
             "%s 7 [[1 6 [5 [0 6] 1 %llu] [1 7] "
             "9 2 10 [6 [[[0 2] [4 0 6] 0 7] 0 2] 1 " NO_SCRY "] 0 7] [1 0] 0 1]"
             " 9 2 0 1]",
             to_mink, (unsigned long long)depth);
    CHECK(nock(text, &product) == NK_OK);
    uint64_t levels = 0;
    for (; nk_is_cell(product); product = nk_tail(arena, product), levels++)
        CHECK(nk_head(arena, product) == 0);
    CHECK(product == 7 && levels == depth);
}

static void test_hooks(void) {
    fresh();
    /* The gate that mute makes answers with its sample's tail... */
    computes(IN("7 " ONE " 7 " QUA, GATE("%mule"), "[5 6]"), "6");
    computes(IN("7 " ONE " 7 " QUA, GATE("%mole"), "[5 6]"), "6");
    fresh();
    /* ... so does the door's with its head, ... */
    computes(IN("7 " ONE " 7 " QUA " 7 " VI, GATE("%mule"), "[5 6]"), "5");
    computes(IN("7 " ONE " 7 " QUA " 7 " VI, GATE("%mole"), "[5 6]"), "5");
    fresh();
    /* ... and a layer without hooks leaves mule to Nock. */
    computes(IN("7 " ONE " 7 [11 [%fast 1 %qua [0 3] 0] [1 0 4] 0 1]", GATE("%mule"),
                "[5 6]"),
             "%nock");
}

/* ---- across events ---- */

/* The kernel is a jetted gate; [9 2 10 [6 ..] 0 1] on it tells. */
static void kernel_adds(nk_noun kernel, const char *want) {
    nk_noun product;
    CHECK(nk_nock(&machine, kernel, text_noun(arena, "[9 2 10 [6 1 3 4] 0 1]"),
                  &product) == NK_OK);
    CHECK(nk_equal(arena, product, text_noun(arena, want)));
}

static void test_commit(void) {
    nk_noun kernel;
    fresh();
    CHECK(nock("[7 " ROOT " 7 " ONE " " GATE("%add") "]", &kernel) == NK_OK);
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    machine.home.roots[NK_ROOT_KERNEL] = kernel;
    kernel_adds(kernel, "7");
    nk_machine_discard(&machine);
    nk_home_collect(&machine.home);
    CHECK(nk_home_check(&machine.home) == NULL);
    kernel_adds(kernel, "7");
    nk_machine_discard(&machine);
    /* A restart knows only home and its roots. */
    CHECK(nk_machine_adopt(&machine) == NK_OK);
    kernel_adds(kernel, "7");
    kernel = machine.home.roots[NK_ROOT_KERNEL];
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    kernel_adds(kernel, "7");
    nk_machine_discard(&machine);
    /* Registered in an event that is undone. */
    fresh();
    nk_noun cores[1];
    CHECK(nock("[7 " ROOT " 7 " ONE " [11 %none [1 11 %add 1 %nock] [1 0] 0 1]]",
               &kernel) == NK_OK);
    /* (built by Nock that registers the layers, not the gate) */
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    machine.home.roots[NK_ROOT_KERNEL] = cores[0] = kernel;
    kernel_adds(kernel, "%nock");
    CHECK(nock("[7 " ROOT " 7 " ONE " " GATE("%add") "]", &kernel) == NK_OK);
    kernel_adds(cores[0], "7");
    nk_machine_discard(&machine);
    kernel_adds(cores[0], "%nock");
    nk_machine_discard(&machine);
}

/* ---- where a core is, remembered ---- */

/* What the core is called: a place that was found, or "". */
static const char *place_of(nk_noun core) {
    static char text[128];
    return nk_jets_name(&machine, core, 2, text, sizeof text) ? text : "";
}

static bool is_add(nk_noun core) {
    return strcmp(place_of(core), "k138/one/add") == 0;
}

/* A copy of the layer %one over a root of this kelvin. */
static nk_noun layer_of(uint64_t arm, uint64_t kelvin) {
    return noun_of(arena, "[[0 %llu] [0 0] %llu]", (unsigned long long)arm,
                   (unsigned long long)kelvin);
}

static nk_noun gate_of(nk_noun battery, nk_noun sample, nk_noun layer) {
    return nk_cons_try(arena, battery, nk_cons_try(arena, sample, layer));
}

enum ending { MINOR, FULL, DISCARD, COMMIT, ENDINGS };

/* What moves nouns, or makes room for others in their places. */
static void end_era(enum ending how) {
    uint64_t before = arena->minor_collections;
    nk_noun kernel = machine.home.roots[NK_ROOT_KERNEL];
    switch (how) {
    case MINOR: /* NK_TINY does not collect at each call */
        while (arena->minor_collections == before)
            (void)nk_nursery_collect(arena, 8);
        break;
    case FULL:
        nk_nursery_collect_full(arena);
        break;
    case DISCARD:
        nk_machine_discard(&machine);
        break;
    default:
        CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    }
}

static void test_located(void) {
    nk_noun gate;
    fresh();
    CHECK(nock("[7 " ROOT " 7 " ONE " " GATE("%add") "]", &gate) == NK_OK);
    CHECK(nk_machine_commit(&machine, &gate) == NK_OK);
    machine.home.roots[NK_ROOT_KERNEL] = gate;
    nk_noun battery = nk_head(arena, gate);
    /* Nobody walks up twice: what is broken above is not seen (no noun ever
     * changes; only a test does that) until nouns may have moved. Another
     * sample is no other place; another parent is, equal or not. */
    nk_noun held[] = {layer_of(1, 138), 0};
    struct nk_root_frame frame;
    nk_root_push(arena, &frame, held, 2);
    for (enum ending how = MINOR; how <= FULL; how++) {
        held[1] = gate_of(battery, 5, held[0]);
        CHECK(is_add(held[1]));
        struct nk_cell *layer = nk_cell_at(arena, held[0]);
        nk_noun arm = layer->head;
        layer->head = 77;
        CHECK(is_add(held[1]) && is_add(gate_of(battery, 6, held[0])));
        nk_noun copy = nk_cons_try(arena, 77, layer->tail);
        CHECK(!is_add(gate_of(battery, 5, copy)));
        CHECK(is_add(held[1]));
        layer->head = arm;
        CHECK(is_add(gate_of(battery, 5, layer_of(1, 138))));
        CHECK(is_add(held[1]));
        nk_cell_at(arena, held[0])->head = 77;
        CHECK(is_add(held[1]));
        held[1] = nk_cons_try(arena, held[1], arm); /* kept where it moves to */
        end_era(how);
        arm = nk_tail(arena, held[1]);
        held[1] = nk_head(arena, held[1]);
        CHECK(!is_add(held[1]));
        nk_cell_at(arena, held[0])->head = arm;
        CHECK(is_add(held[1]));
    }
    nk_root_pop(arena, &frame);
    /* Another core in the very place of one that was known. */
    for (enum ending how = FULL; how < ENDINGS; how++) {
        nk_machine_discard(&machine);
        nk_noun first = gate_of(battery, 5, layer_of(1, 138));
        CHECK(is_add(first));
        end_era(how);
        nk_noun second = gate_of(battery, 5, layer_of(1, 139));
        CHECK(second == first && !is_add(second));
    }
    nk_machine_discard(&machine);
    /* Batteries that are equal, in contexts that are or are not, by turns. */
    nk_noun batteries[] = {battery, text_noun(arena, "[11 %add 1 %nock]")};
    nk_noun layers[] = {nk_slot(arena, gate, 7), layer_of(1, 138), layer_of(1, 138),
                        layer_of(2, 138),        layer_of(1, 137), 138};
    for (int round = 0; round < 5000; round++) {
        uint64_t which = next_random() % 6;
        nk_noun core = gate_of(batteries[next_random() % 2], 0, layers[which]);
        CHECK(is_add(core) == (which < 3));
    }
    nk_machine_discard(&machine);
    /* A battery is registered once more: the newest place is asked first, also
     * for a core that was found to be in the older. Undone, all is as before. */
    for (int round = 0; round < 2; round++) {
        nk_noun layer = layer_of(1, 138), core = gate_of(battery, 5, layer);
        nk_noun other = gate_of(battery, layer, 5),
                both = gate_of(battery, layer, layer);
        CHECK(is_add(core) && is_add(both) && strcmp(place_of(other), "") == 0);
        CHECK(nk_jets_register(&machine, other, text_noun(arena, "[%else [0 13] 0]")));
        CHECK(is_add(core) && strcmp(place_of(other), "k138/else") == 0);
        CHECK(strcmp(place_of(both), "k138/else") == 0);
        nk_machine_discard(&machine);
    }
}

/* ---- memo ---- */

static int slogs;
static void count_slog(void *context, struct nk_arena *of, uint64_t priority,
                       nk_noun tank) {
    (void)context;
    (void)of;
    (void)priority;
    (void)tank;
    slogs++;
}

/* How often the body ran: it prints. */
static int runs_of(const char *formula, nk_noun subject) {
    nk_noun product;
    slogs = 0;
    machine.slog = count_slog;
    CHECK(nk_nock(&machine, subject, text_noun(arena, formula), &product) == NK_OK);
    return slogs;
}

#define REMEMBER(clue, subject)                                                        \
    "[7 [1 " subject "] 11 [%memo 1 " clue "] 11 [%slog 1 0 %leaf 0] 4 0 2]"

static void test_memo(void) {
    fresh();
    nk_noun kernel = 0;
    CHECK(runs_of("[" REMEMBER("0", "[1 2]") " " REMEMBER("0", "[1 2]") "]", 0) == 1);
    CHECK(runs_of(REMEMBER("0", "[1 2]"), 0) == 0);
    CHECK(runs_of(REMEMBER("0", "[1 3]"), 0) == 1);
    CHECK(runs_of(REMEMBER("[1 2]", "[1 2]"), 0) == 1);
    CHECK(runs_of(REMEMBER("[1 2]", "[1 2]"), 0) == 0);
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    /* The event is over: the transient entries are gone, the others stay. */
    CHECK(runs_of(REMEMBER("0", "[1 2]"), 0) == 1);
    CHECK(runs_of(REMEMBER("[1 2]", "[1 2]"), 0) == 0);
    CHECK(runs_of(REMEMBER("[%clay %ford 0]", "[1 2]"), 0) == 1);
    CHECK(runs_of(REMEMBER("[%clay %ford 0]", "[1 2]"), 0) == 0);
    nk_machine_discard(&machine);
    CHECK(runs_of(REMEMBER("[%clay %ford 0]", "[1 2]"), 0) == 1);
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    nk_home_collect(&machine.home);
    CHECK(nk_home_check(&machine.home) == NULL);
    CHECK(nk_machine_adopt(&machine) == NK_OK);
    CHECK(runs_of(REMEMBER("[%clay %ford 0]", "[1 2]"), 0) == 0);
    CHECK(runs_of(REMEMBER("[1 2]", "[1 2]"), 0) == 0);
    CHECK(runs_of("[11 %drop 1 0]", 0) == 0);
    CHECK(runs_of(REMEMBER("[%clay %ford 0]", "[1 2]"), 0) == 1);
    nk_machine_discard(&machine);
    /* Bounded: many more entries than the tables hold, over many events. */
    for (uint64_t i = 0; i < 3000; i++) {
        nk_noun subject = nk_cons_try(arena, i, i);
        CHECK(runs_of("[11 [%memo 1 1 2] 11 [%slog 1 0 %leaf 0] 4 0 2]", subject) == 1);
        if (i % 7 == 0) CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    }
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    nk_home_collect(&machine.home);
    CHECK(nk_machine_adopt(&machine) == NK_OK);
    CHECK(runs_of("[11 [%memo 1 1 2] 11 [%slog 1 0 %leaf 0] 4 0 2]",
                  nk_cons_try(arena, 2999, 2999)) == 0);
    nk_machine_discard(&machine);
    /* Not kept, and not trusted, under a scry handler. */
    fresh();
    machine.slog = count_slog;
    const char *under =
        MINK("[1 2]", "[11 [%memo 1 1 2] 11 [%slog 1 0 %leaf 0] 4 0 2]", NO_SCRY);
    CHECK(runs_of(under, 0) == 1);
    CHECK(runs_of(under, 0) == 1);
    CHECK(runs_of(REMEMBER("[1 2]", "[1 2]"), 0) == 1);
    machine.slog = NULL;
}

/* How many of the keys [i i] with i < [count] are known, each with the right
 * product. */
static uint64_t known(uint64_t count) {
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i++) {
        nk_noun value =
            nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7, nk_cons_try(arena, i, i), 0);
        CHECK(value == NK_NONE || value == i + 1);
        found += value != NK_NONE;
    }
    return found;
}

static uint64_t evicted(void) {
    return nk_memo_counts(machine.memo, NK_MEMO_TRANSIENT).evicted;
}

/* Collect where what is in use is 2/[halves] of the nursery. */
static void collect_crowded(uint64_t halves) {
    uint64_t used = nk_nursery_used(arena) * 8;
    nk_nursery_limit(arena, used * halves / 2);
    nk_nursery_collect_full(arena);
    nk_nursery_limit(arena, UINT64_MAX);
}

/* The transient table grows while there is room, and shrinks where not. */
static void test_memo_bounds(void) {
#ifdef NK_TINY
    const uint64_t many = 1000;
#else
    const uint64_t many = 100000;
#endif
    fresh();
    for (uint64_t i = 0; i < many; i++) {
        nk_memo_put(&machine, NK_MEMO_TRANSIENT, 7, nk_cons_try(arena, i, i), 0, i + 1);
    }
    nk_nursery_collect_full(arena);
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 8,
                      nk_cons_try(arena, many - 1, many - 1), 0) == NK_NONE);
    uint64_t found = known(many);
    struct nk_memo_counts counts = nk_memo_counts(machine.memo, NK_MEMO_TRANSIENT);
    CHECK(counts.entries == found && counts.bytes <= counts.bytes_max);
    CHECK(found + counts.evicted == many);
#ifdef NK_TINY
    CHECK(found == 16);
#else
    CHECK(found == many);
#endif
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7,
                      nk_cons_try(arena, many - 1, many - 1), 0) == many);
    /* A third of the nursery in use: what was not used goes. */
    nk_nursery_collect_full(arena);
    collect_crowded(6);
    CHECK(evicted() == counts.evicted);
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7,
                      nk_cons_try(arena, many - 1, many - 1), 0) == many);
    collect_crowded(6);
    CHECK(evicted() == counts.evicted + found - 1);
    CHECK(known(many) == 1);
    /* More than a half: all. The table is of use afterwards. */
    collect_crowded(3);
    CHECK(known(many) == 0);
    nk_memo_put(&machine, NK_MEMO_TRANSIENT, 7, nk_cons_try(arena, 5, 5), 0, 6);
    CHECK(known(many) == 1);
    nk_machine_discard(&machine);
    CHECK(known(many) == 0);
    nk_machine_discard(&machine);
}

/* An atom of [size] bytes, as no other [i] gives. */
static nk_noun wide_atom(uint64_t i, size_t size) {
    uint64_t *words = nk_atom_begin(arena, size / 8);
    CHECK(words != NULL);
    words[0] = i;
    words[size / 8 - 1] = 1;
    return nk_atom_finish(arena, words, size / 8);
}

static bool remembers(uint64_t i) {
    return nk_memo_get(&machine, NK_MEMO_PERSISTENT, 0, nk_cons_try(arena, i, i), 0) !=
           NK_NONE;
}

/* Commit and collect; what only the tables hold then, in bytes. */
static uint64_t settle(void) {
    nk_noun kernel = machine.home.roots[NK_ROOT_KERNEL];
    CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    machine.home.roots[NK_ROOT_KERNEL] = kernel;
    nk_home_collect(&machine.home);
    CHECK(nk_home_check(&machine.home) == NULL);
    return nk_collect_stats(&machine.home)->cache_words * 8;
}

/* The tables that last have an eighth of home. */
static void test_memo_home_bound(void) {
    const uint64_t count = 12, most = 1u << 20;
    const size_t size = 256u << 10;
    fresh();
    nk_home_limit(&machine.home, 8 * most);
    /* What the kernel holds as well is not the tables' own. */
    nk_noun wide = wide_atom(99, 2 * most);
    machine.home.roots[NK_ROOT_KERNEL] = wide;
    nk_memo_put(&machine, NK_MEMO_FORD, 0, 0, 0, wide);
    CHECK(settle() < 1024);
    nk_memo_bound(&machine);
    CHECK(nk_memo_count(machine.memo, NK_MEMO_FORD) == 1);
    nk_memo_clear(machine.memo, NK_MEMO_FORD);
    for (uint64_t i = 0; i < count; i++) {
        nk_memo_put(&machine, NK_MEMO_PERSISTENT, 0, nk_cons_try(arena, i, i), 0,
                    wide_atom(i, size));
    }
    uint64_t held = settle();
    CHECK(held > count * size && held < count * (size + (32u << 10)));
    /* A restart forgets what was used of late; then two are. */
    CHECK(nk_machine_adopt(&machine) == NK_OK);
    CHECK(remembers(5) && remembers(7));
    nk_memo_bound(&machine);
    size_t left = nk_memo_count(machine.memo, NK_MEMO_PERSISTENT);
    CHECK(left == count * (most / 4 * 3) / held);
    CHECK(left == 2 && remembers(5) && remembers(7));
    nk_memo_bound(&machine); /* heeded once */
    CHECK(nk_memo_count(machine.memo, NK_MEMO_PERSISTENT) == left);
    CHECK(nk_memo_counts(machine.memo, NK_MEMO_PERSISTENT).evicted == count - left);
    /* From the next event on home has no more than those, and so it stays. */
    CHECK(settle() < most);
    nk_memo_bound(&machine);
    CHECK(nk_machine_adopt(&machine) == NK_OK);
    CHECK(nk_memo_count(machine.memo, NK_MEMO_PERSISTENT) == left);
    CHECK(remembers(5) && remembers(7));
    /* One that is too heavy by itself goes too. */
    nk_memo_clear(machine.memo, NK_MEMO_PERSISTENT);
    nk_memo_put(&machine, NK_MEMO_PERSISTENT, 0, nk_cons_try(arena, 1, 1), 0,
                wide_atom(1, 2 * most));
    CHECK(settle() > most);
    nk_memo_bound(&machine);
    CHECK(nk_memo_count(machine.memo, NK_MEMO_PERSISTENT) == 0);
    CHECK(settle() == 0);
}

/* A tower of [depth] cells, each of the one below twice. */
static nk_noun tower(uint32_t depth) {
    nk_noun noun = 7;
    for (uint32_t i = 0; i < depth; i++)
        noun = nk_cons_try(arena, noun, noun);
    return noun;
}

static nk_noun row(uint64_t count) {
    nk_noun noun = 0;
    for (uint64_t i = 0; i < count; i++)
        noun = nk_cons_try(arena, i, noun);
    return noun;
}

/* What was found to be equal once is one noun from then on. */
static void test_memo_unifies(void) {
    fresh();
    nk_noun home = row(100);
    CHECK(nk_home_promote(&machine.home, &home, 1) == NK_OK);
    nk_noun nouns[] = {row(100), row(100), tower(60), tower(60), home};
    struct nk_root_frame frame = {arena->frames, nouns, 5};
    arena->frames = &frame;
    nk_memo_put(&machine, NK_MEMO_TRANSIENT, 7, nouns[0], 0, 5);
    nk_nursery_collect_full(arena);
    CHECK(nk_tail(arena, nouns[0]) != nk_tail(arena, nouns[1]));
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7, nouns[1], 0) == 5);
    CHECK(nk_tail(arena, nouns[0]) == nk_tail(arena, nouns[1]));
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7, nouns[4], 0) == 5);
    CHECK(nk_tail(arena, nouns[0]) == nk_tail(arena, nouns[4]));
    nk_memo_put(&machine, NK_MEMO_TRANSIENT, 7, nouns[2], 0, 6);
    CHECK(nk_memo_get(&machine, NK_MEMO_TRANSIENT, 7, nouns[3], 0) == 6);
    CHECK(nk_tail(arena, nouns[2]) == nk_tail(arena, nouns[3]));
    nk_nursery_collect_full(arena);
    CHECK(nk_equal(arena, nouns[0], row(100)) && nk_equal(arena, nouns[1], row(100)));
    CHECK(nk_equal(arena, nouns[2], tower(60)) && nk_equal(arena, nouns[4], row(100)));
    CHECK(nk_home_check(&machine.home) == NULL);
    arena->frames = frame.next;
    nk_machine_discard(&machine);
}

/* ---- limits ---- */

static void test_limits(void) {
    nk_noun product;
    fresh();
    /* Endless recursion ends by the stack, endless lists by the nursery, and
     * endless loops by the interrupt; the machine lives on. */
    machine.stack_size_max = 1u << 20;
    CHECK(nock("[8 [1 4 9 2 0 1] 9 2 0 1]", &product) == NK_OVER);
    computes("[4 1 6]", "7");
    machine.stack_size_max = 32u << 20;
    nk_machine_discard(&machine);
    nk_nursery_limit(arena, 8u << 20);
    CHECK(nock("[8 [[1 9 2 10 [6 [1 1] 0 6] 0 1] [1 0] 0 1] 9 2 0 2]", &product) ==
          NK_MEME);
    nk_machine_discard(&machine);
    computes("[4 1 6]", "7");
    /* An interrupt names a request; those that are over are forgotten. */
    _Atomic uint32_t interrupt = 1;
    machine.interrupt = &interrupt;
    computes("[4 1 6]", "7");
    nk_machine_request(&machine, 1);
    CHECK(nock("[8 [1 9 2 0 1] 9 2 0 1]", &product) == NK_INTR);
    nk_machine_interrupted(&machine);
    CHECK(interrupt == 0);
    interrupt = 1;
    nk_machine_request(&machine, 2);
    CHECK(interrupt == 0);
    interrupt = 3;
    CHECK(nock("[8 [1 0] 8 [1 6 [5 [0 6] 1 9999] [0 6] 9 2 10 [6 4 0 6] 0 1] 9 2 0 1]",
               &product) == NK_OK);
    nk_machine_interrupted(&machine);
    CHECK(interrupt == 3);
    nk_machine_request(&machine, 1ull << 32);
    CHECK(machine.request == UINT32_MAX);
    nk_machine_request(&machine, 0);
    interrupt = 0;
    machine.deadline_ns = 1;
    CHECK(nock("[8 [1 9 2 0 1] 9 2 0 1]", &product) == NK_INTR);
    /* A power asks between its products, once they are large. */
    nk_machine_discard(&machine);
    CHECK(call("two/pow", nk_cons_try(arena, 3, 1u << 21), &product) == NK_INTR);
    CHECK(call("two/pow", nk_cons_try(arena, 3, 1u << 10), &product) == NK_OK);
    machine.deadline_ns = 0;
    CHECK(call("two/pow", nk_cons_try(arena, 3, 1u << 21), &product) == NK_OK);
    /* %jinx: a thousandth of a second, for the body only. */
    CHECK(nock("[8 [1 9 2 0 1] 11 [%jinx 1 0x4000000000000] 9 2 0 1]", &product) ==
          NK_INTR);
    CHECK(machine.deadline_ns == 0);
    computes("[11 [%jinx 1 0x4000000000000] 4 1 6]", "7");
    machine.interrupt = NULL;
    /* A jet that outgrows the nursery is tried again, then it is %meme. */
    nk_machine_discard(&machine);
    CHECK(nock(IN("7 " ONE " 7 " TWO, GATE("%bex"), "0x10000000"), &product) ==
          NK_MEME);
    nk_machine_discard(&machine);
    computes(IN("7 " ONE " 7 " TWO, GATE("%lent"), "[1 0]"), "1");
}

/* Formulas that are new in every event, and many in one, do not pile up. */
static void test_programs_do_not_leak(void) {
    nk_noun product, kernel = 0;
    fresh();
    for (int i = 0; i < 300; i++) {
        CHECK(nk_nock(&machine, 0, noun_of(arena, "[8 [1 %d] 4 4 0 2]", i), &product) ==
              NK_OK);
        CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
    }
    struct nk_code_stats stats = nk_code_stats(machine.code);
    CHECK(stats.nursery_programs == 0 && stats.home_programs == 0);
#ifdef NK_TINY
    const int count = 5000;
#else
    const int count = 200000;
#endif
    /* Runs [4 4 .. 0 1] made anew each time: 2 with a computed formula. */
    CHECK(nk_nock(&machine, 0,
                  noun_of(arena,
                          "[8 [[1 6 [5 [0 6] 1 %d] [0 6] 7 [2 [0 1] [1 8] [[1 1] 0 6] "
                          "1 0 3] 9 2 10 [6 4 0 6] 0 1] [1 0] 1 0] 9 2 0 2]",
                          count),
                  &product) == NK_OK);
    CHECK(product == (nk_noun)count);
    stats = nk_code_stats(machine.code);
    CHECK(stats.compiled > (uint64_t)count && stats.nursery_programs < 100000);
    nk_machine_discard(&machine);
}

static void *body(void *argument) {
    (void)argument;
    CHECK(nk_machine_open(&machine, 64u << 20, 64u << 20) == NK_OK);
    test_arithmetic_random();
    test_bits_random();
    test_crashes_and_punts();
    test_lists();
    test_others();
    test_registration();
    test_sham();
    test_programs();
    test_parsers();
    test_virtual();
    test_virtual_nested();
    test_hooks();
    test_commit();
    test_located();
    test_memo();
    test_memo_bounds();
    test_memo_home_bound();
    test_memo_unifies();
    test_limits();
    test_programs_do_not_leak();
    nk_machine_close(&machine);
    return NULL;
}

/* On a small C stack: nothing may recurse. TSan's frames are larger. */
#ifdef __SANITIZE_THREAD__
#define STACK_BYTES (2u << 20)
#else
#define STACK_BYTES (256u << 10)
#endif

int main(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    CHECK(pthread_create(&thread, &attributes, body, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
