/* units: noun nursery mug jam status */
/* Jam and cue: the specification's vectors, every noun of the conformance
 * data, a slow reference on random graphs, and damaged input. */
#include "check.h"
#include "jam.h"
#include "mug.h"

#include <string.h>
#include <time.h>

static struct nk_arena arena;
static struct nk_jammer *jammer;
static uint64_t seed = 0x2545f4914f6cdd1dull;

static uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static nk_noun cons(nk_noun head, nk_noun tail) {
    return nk_cons(&arena, head, tail);
}

#define BYTES_MAX (1u << 21)
struct buffer {
    uint8_t data[BYTES_MAX];
    size_t size;
};
static struct buffer input, other, output;

static void from_hex(const char *hex, size_t digits, struct buffer *out) {
    CHECK(digits % 2 == 0 && digits / 2 <= BYTES_MAX);
    out->size = digits / 2;
    for (size_t i = 0; i < out->size; i++) {
        unsigned byte;
        CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        out->data[i] = (uint8_t)byte;
    }
}

/* From a malloc'd copy, so that the sanitizer sees reads past the end. */
static nk_status cue(const struct buffer *from, nk_noun *n, const char **why) {
    uint8_t *copy = malloc(from->size + 1);
    CHECK(copy != NULL);
    uint8_t *bytes = copy + 1; /* unaligned, too */
    memcpy(bytes, from->data, from->size);
    nk_status status = nk_cue(jammer, &arena, bytes, from->size, n, why);
    free(copy);
    return status;
}

static void jam(nk_noun n, struct buffer *to) {
    const uint8_t *bytes;
    CHECK(nk_jam(jammer, &arena, n, &bytes, &to->size) == NK_OK);
    CHECK(to->size > 0 && to->size <= BYTES_MAX && bytes[to->size - 1] != 0);
    memcpy(to->data, bytes, to->size);
}

static bool same(const struct buffer *a, const struct buffer *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static void vector(nk_noun n, const char *hex) {
    from_hex(hex, strlen(hex), &input);
    jam(n, &output);
    CHECK(same(&input, &output));
    nk_noun back;
    const char *why;
    CHECK(cue(&input, &back, &why) == NK_OK);
    CHECK(nk_equal(&arena, n, back));
}

static nk_noun text(const char *bytes) {
    return nk_atom_from_bytes(&arena, bytes, strlen(bytes));
}

static void test_vectors(void) {
    nk_noun fast = text("fast"), full = text("full"), pair = cons(1, 2);
    vector(0, "02");
    vector(1, "0c");
    vector(2, "48");
    vector(fast, "c0370b9ba303");
    vector(full, "c037ab636303");
    vector(cons(0, 0), "29");
    vector(cons(1, 1), "3103");
    vector(cons(1, 2), "3112");
    vector(cons(2, 3), "21d1");
    vector(cons(1, cons(1, 1)), "71cc");
    vector(cons(1, cons(2, 3)), "714834");
    vector(cons(cons(1, 2), 3), "c54834");
    vector(cons(fast, full), "01df2c6c8e0e7cb33a3636");
    vector(cons(fast, cons(full, fast)), "01df2c6c8e1ef0cdead8d893");
    vector(cons(pair, cons(cons(1, 2), cons(1, 2))), "c5c8262701");
    nk_noun zeros = cons(0, 0), ones = cons(1, 1);
    vector(cons(zeros, cons(cons(zeros, ones), ones)), "a53519f31805");
    nk_noun a = text("abcdefjhijklmnopqrstuvwxyz");
    vector(cons(a, cons(2, cons(3, text("abcdefjhijklmnopqrstuvwxyz")))),
           "01f80c131b232b3353434b535b636b737b838b939ba3abb3bbc3cbd3870c3d09");
    uint8_t bytes[40] = {0};
    bytes[32] = 1;
    vector(nk_atom_from_bytes(&arena, bytes, 33),
           "000c000000000000000000000000000000000000000000000000000000000000000008");
    uint8_t odd[17] = {0,    0,    0,    0,    0,    0, 0x0c, 0xa8,
                       0xab, 0x60, 0xef, 0x2d, 0x0d, 0, 0,    0x80};
    vector(nk_atom_from_bytes(&arena, odd, 17),
           "0002000000000000185057c1de5b1a00000001");
    vector(1ull << 31, "800000000010");
    vector(1ull << 62, "801f0000000000000008");
    vector(nk_atom_from_u64(&arena, ~0ull), "0081ffffffffffffff7f");
}

static void refused(const char *hex, const char *which) {
    nk_noun n;
    const char *why;
    uint64_t top = arena.top;
    from_hex(hex, strlen(hex), &input);
    CHECK(cue(&input, &n, &why) == NK_BAD);
    CHECK(strncmp(why, which, strlen(which)) == 0);
    CHECK(arena.top == top);
}

static void test_refusals(void) {
    refused("", "gone");
    refused("01", "gone");
    refused("03", "gone");
    refused("00", "gone");
    refused("000000000000000000", "gone");
    refused("07", "back");
    refused("0b", "back");
    refused("17", "back");
    refused("ff", "back");
    nk_noun n;
    const char *why;
    from_hex("0400", 4, &input);
    CHECK(cue(&input, &n, &why) == NK_OK && n == 0);
    /* A claim of 2^33 bits that are not there: zeros, and no memory. */
    memset(input.data, 0, 32);
    input.data[4] = 0x10; /* bit 36: 35 zeros, so a length of 35 bits */
    input.size = 10;
    input.data[8] = 0x80; /* its low 34 bits: only bit 34 */
    CHECK(cue(&input, &n, &why) == NK_OK || strncmp(why, "meme", 4) == 0);
    CHECK(arena.young_resident < 1u << 20);
    CHECK(nk_nursery_used(&arena) < 1u << 17);
}

/* One line of the conformance data: the value of "key". */
static bool field(const char *line, const char *key, const char **value, size_t *size) {
    char pattern[32];
    snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
    const char *at = strstr(line, pattern);
    if (at == NULL) return false;
    *value = at + strlen(pattern);
    *size = strcspn(*value, "\"");
    return true;
}

static void test_conformance(void) {
    const char *slash = strrchr(__FILE__, '/');
    int folder = slash == NULL ? 0 : (int)(slash + 1 - __FILE__);
    char path[4096];
    snprintf(path, sizeof path, "%.*s../../conformance/vere/nouns.jsonl", folder,
             __FILE__);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    static char line[4 * BYTES_MAX];
    size_t accepted = 0, errors = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        const char *jammed, *rejam, *mug, *why;
        size_t size, rejam_size, mug_size;
        nk_noun n;
        CHECK(field(line, "jam", &jammed, &size));
        from_hex(jammed, size, &input);
        uint64_t top = arena.top;
        nk_status status = cue(&input, &n, &why);
        if (strstr(line, "\"kind\":\"error\"") != NULL) {
            CHECK(status == NK_BAD && arena.top == top);
            CHECK(field(line, "why", &mug, &mug_size));
            CHECK(strncmp(why, mug, mug_size) == 0 || strncmp(mug, "size", 4) == 0);
            errors++;
            continue;
        }
        CHECK(status == NK_OK);
        if (!field(line, "rejam", &rejam, &rejam_size)) {
            rejam = jammed;
            rejam_size = size;
        }
        from_hex(rejam, rejam_size, &other);
        jam(n, &output);
        CHECK(same(&other, &output));
        CHECK(field(line, "mug", &mug, &mug_size));
        CHECK(nk_mug(&arena, n) == strtoul(mug, NULL, 16));
        accepted++;
        nk_nursery_reset(&arena);
    }
    fclose(file);
    CHECK(accepted >= 375 && errors >= 40);
}

/* The reference: a bit at a time, a list of what was met, recursion (the
 * nouns are shallow). */
static nk_noun met[4096];
static uint64_t met_at[4096], slow_at;
static size_t met_count;

static void slow_bits(uint64_t value, uint64_t count) {
    for (uint64_t i = 0; i < count; i++, slow_at++) {
        if (slow_at % 8 == 0) other.data[slow_at / 8] = 0;
        unsigned bit = i < 64 ? (unsigned)(value >> i & 1) : 0;
        other.data[slow_at / 8] |= (uint8_t)(bit << slow_at % 8);
    }
}

static uint64_t length(uint64_t value) {
    uint64_t bits = 0;
    for (; value != 0; value >>= 1)
        bits++;
    return bits;
}

static void slow_mat(nk_noun atom) {
    uint64_t m = nk_atom_bits(&arena, atom), k = length(m), scratch;
    slow_bits(0, k);
    slow_bits(1, 1);
    if (k > 0) slow_bits(m, k - 1);
    struct nk_words view = nk_atom_words(&arena, atom, &scratch);
    for (size_t i = 0; i < view.count; i++) {
        slow_bits(view.data[i], i + 1 < view.count ? 64 : m - 64 * i);
    }
}

static void slow_jam(nk_noun n) {
    for (size_t i = 0; i < met_count; i++) {
        if (!nk_equal(&arena, met[i], n)) continue;
        if (nk_is_atom(n) && nk_atom_bits(&arena, n) <= length(met_at[i])) break;
        slow_bits(3, 2);
        slow_mat(met_at[i]);
        return;
    }
    CHECK(met_count < 4096);
    met[met_count] = n;
    met_at[met_count++] = slow_at;
    if (nk_is_atom(n)) {
        slow_bits(0, 1);
        slow_mat(n);
    } else {
        slow_bits(1, 2);
        slow_jam(nk_head(&arena, n));
        slow_jam(nk_tail(&arena, n));
    }
}

static nk_noun random_atom(void) {
    uint64_t words[6];
    for (int i = 0; i < 6; i++)
        words[i] = draw();
    switch (draw() % 4) {
    case 0:
        return draw() % 8;
    case 1:
        return draw() % 1024; /* about as long as positions: the edge */
    case 2:
        return draw() >> (1 + draw() % 63);
    default:
        return nk_atom_from_bytes(&arena, words, draw() % 49);
    }
}

static nk_noun random_noun(void) {
    nk_noun pool[10];
    for (int i = 0; i < 10; i++)
        pool[i] = random_atom();
    for (uint64_t i = draw() % 40; i > 0; i--) {
        nk_noun a = pool[draw() % 10], b = pool[draw() % 10];
        pool[draw() % 10] = cons(a, b);
        pool[draw() % 10] = draw() % 4 == 0 ? random_atom() : cons(a, b);
    }
    return cons(pool[0], cons(pool[1], cons(pool[2], pool[0])));
}

/* Limit the expansion: graphs that are huge as trees are for the next test. */
static bool is_small(nk_noun n) {
    nk_noun todo[64];
    size_t count = 1, steps = 0;
    todo[0] = n;
    while (count > 0) {
        n = todo[--count];
        if (++steps > 1500 || count + 2 > 64) return false;
        if (!nk_is_cell(n)) continue;
        todo[count++] = nk_tail(&arena, n);
        todo[count++] = nk_head(&arena, n);
    }
    return true;
}

static void test_random_against_reference(void) {
    for (int round = 0; round < 3000; round++) {
        nk_nursery_reset(&arena);
        nk_noun n = random_noun(), back;
        const char *why;
        jam(n, &output);
        if (is_small(n)) {
            met_count = 0;
            slow_at = 0;
            slow_jam(n);
            other.size = (size_t)((slow_at + 7) / 8);
            CHECK(same(&output, &other));
        }
        CHECK(cue(&output, &back, &why) == NK_OK);
        CHECK(nk_equal(&arena, n, back));
        jam(back, &input);
        CHECK(same(&output, &input));
        /* Damage. */
        for (int i = 0; i < 8; i++) {
            memcpy(input.data, output.data, output.size);
            input.size = output.size;
            if (i % 2 == 0) input.size = draw() % output.size;
            if (i > 2 && input.size > 0) {
                input.data[draw() % input.size] ^= (uint8_t)(1u << draw() % 8);
            }
            uint64_t top = arena.top;
            if (cue(&input, &back, &why) != NK_OK) {
                CHECK(arena.top == top);
                continue;
            }
            jam(back, &other);
            CHECK(cue(&other, &n, &why) == NK_OK && nk_equal(&arena, n, back));
        }
    }
}

static void test_random_bytes(void) {
    for (int round = 0; round < 20000; round++) {
        nk_nursery_reset(&arena);
        input.size = draw() % 40;
        uint64_t mask = draw() | draw(); /* some runs of zeros */
        for (size_t i = 0; i < input.size; i++) {
            input.data[i] = (uint8_t)(draw() & mask >> i % 8 * 8);
        }
        nk_noun n, again;
        const char *why;
        if (cue(&input, &n, &why) != NK_OK) continue;
        jam(n, &output);
        CHECK(cue(&output, &again, &why) == NK_OK && nk_equal(&arena, n, again));
    }
}

/* Large: the table and the index grow; sharing by equality, not identity. */
static void test_large(void) {
    nk_nursery_reset(&arena);
    nk_noun list = 0, copy = 0, left = 0, ladder = 3, back;
    const char *why;
    for (uint64_t i = 0; i < 100000; i++)
        list = cons(i * 977, list);
    for (uint64_t i = 0; i < 100000; i++)
        copy = cons(i * 977, copy);
    jam(list, &input);
    jam(cons(list, copy), &output);
    CHECK(output.size < input.size + 8);
    CHECK(cue(&output, &back, &why) == NK_OK);
    CHECK(nk_head(&arena, back) == nk_tail(&arena, back));
    CHECK(nk_equal(&arena, nk_head(&arena, back), copy));
    /* The mug of such a chain runs in a cycle: mugs alone do not tell. */
    for (uint64_t i = 0; i < 300000; i++)
        left = cons(left, i & 3);
    jam(left, &output);
    CHECK(cue(&output, &back, &why) == NK_OK && nk_equal(&arena, left, back));
    nk_noun wide[2] = {nk_atom_from_u64(&arena, ~0ull),
                       nk_atom_from_u64(&arena, ~0ull)};
    nk_noun first = cons(cons(wide[0], list), cons(wide[1], copy));
    jam(cons(first, left), &output);
    CHECK(cue(&output, &back, &why) == NK_OK &&
          nk_equal(&arena, cons(first, left), back));
    CHECK(nk_slot(&arena, back, 4) == nk_slot(&arena, back, 5));
    for (int i = 0; i < 3000; i++)
        ladder = cons(ladder, ladder);
    jam(ladder, &output);
    CHECK(output.size < 16000);
    CHECK(cue(&output, &back, &why) == NK_OK && nk_equal(&arena, ladder, back));
    /* Many equal nouns that are not the same: each is compared once. */
    nk_noun tree[2] = {7, 7}, many = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        for (int k = 0; k < 2; k++)
            tree[k] = cons(i, tree[k]);
    }
    for (int i = 0; i < 20000; i++)
        many = cons(tree[i & 1], many);
    jam(many, &output);
    CHECK(cue(&output, &back, &why) == NK_OK && nk_equal(&arena, many, back));
    /* Wide atoms at every bit offset. */
    uint64_t *data = nk_atom_begin(&arena, 1000);
    for (int i = 0; i < 1000; i++)
        data[i] = draw() | 1ull << 63;
    nk_noun huge = nk_atom_finish(&arena, data, 1000);
    for (uint64_t i = 0; i < 70; i++) {
        nk_noun n = cons(1ull << i % 63, huge);
        if (i > 62) n = cons(i, cons(i, n));
        jam(n, &output);
        CHECK(cue(&output, &back, &why) == NK_OK && nk_equal(&arena, n, back));
    }
}

/* Of the thread, in microseconds. */
static uint64_t jam_time(nk_noun n) {
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    jam(n, &output);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (uint64_t)(end.tv_sec - begin.tv_sec) * 1000000 +
           (uint64_t)(end.tv_nsec / 1000 - begin.tv_nsec / 1000);
}

/* Nouns that are short to write and long to walk, each of them twice: what is
 * found equal costs a walk, too. */
static void test_equal_ladders(void) {
    nk_nursery_reset(&arena);
    nk_noun lists[2] = {0, 0}, back;
    uint64_t times[2];
    const char *why;
    for (uint64_t i = 0; i < 2000; i++) {
        for (uint64_t k = 0; k < 2; k++) {
            nk_noun ladder = k * i;
            for (int rung = 0; rung < 40; rung++)
                ladder = cons(ladder, ladder);
            lists[k] = cons(ladder, lists[k]);
        }
    }
    for (int k = 0; k < 2; k++) {
        times[k] = jam_time(lists[k]);
        CHECK(cue(&output, &back, &why) == NK_OK && nk_equal(&arena, lists[k], back));
    }
    /* All are one, and all are different. Walked each time: a hundredfold. */
    CHECK(times[0] < 20 * times[1] + 5000);
}

static void test_no_room(void) {
    nk_nursery_reset(&arena);
    nk_noun list = 0, back;
    const char *why;
    for (uint64_t i = 0; i < 1000; i++)
        list = cons(i, list);
    jam(list, &output);
    nk_nursery_limit(&arena, 24 * 1500);
    uint64_t top = arena.top;
    CHECK(cue(&output, &back, &why) == NK_MEME && arena.top == top);
    nk_nursery_limit(&arena, ~0ull);
    CHECK(cue(&output, &back, &why) == NK_OK);
}

int main(void) {
    CHECK(nk_arena_open(&arena, 0, 128u << 20) == NK_OK);
    jammer = nk_jammer_new();
    CHECK(jammer != NULL);
    test_vectors();
    test_refusals();
    test_conformance();
    test_random_against_reference();
    test_random_bytes();
    test_large();
    test_equal_ladders();
    test_no_room();
    nk_jammer_free(jammer);
    nk_arena_close(&arena);
    return 0;
}
