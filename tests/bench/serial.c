/* Jam, cue and mug of large nouns, each alone, beside bare loops over the same
 * cells. Linked with native/{noun,nursery,mug,jam,status}.c as the core is.
 *
 *   serial tree|list COUNT ROUNDS   a balanced tree of COUNT distinct leaves;
 *                                   the list 0..COUNT-1
 *   serial atom BYTES ROUNDS        one large atom
 *   serial small COUNT ROUNDS       COUNT times an ovum of some 60 bytes
 *   serial write WHAT COUNT         the jam of such a noun, on stdout; or of
 *       edit: a computation that edits the last item of a list of COUNT, one
 *       after the other, EDITS times
 *
 * A line a round, nanoseconds: jam cue mug allocate walk copy; before it one
 * line: bytes cells. For the small ones, of all of them together. The clock is
 * the thread's own: what else the machine does is not counted.
 */
#include "jam.h"
#include "mug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct nk_arena arena;
static struct nk_jammer *jammer;
static volatile uint64_t sink;

#define EDITS 1000

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void need(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "serial: %s\n", what);
    exit(1);
}

static nk_noun list(uint64_t count) {
    nk_noun out = 0;
    while (count-- > 0)
        out = nk_cons(&arena, count, out);
    return out;
}

static nk_noun tree(uint64_t first, uint64_t count) {
    if (count == 1) return first;
    uint64_t left = count / 2;
    nk_noun head = tree(first, left);
    return nk_cons(&arena, head, tree(first + left, count - left));
}

static nk_noun atom(uint64_t bytes) {
    uint64_t *data = nk_atom_begin(&arena, bytes / 8);
    need(data != NULL, "no room for the atom");
    uint64_t seed = 0x9e3779b97f4a7c15u;
    for (uint64_t i = 0; i < bytes / 8; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        data[i] = seed | 1u << 31;
    }
    return nk_atom_finish(&arena, data, bytes / 8);
}

/* [now [%d %term '1' ~] %belt n] */
static nk_noun small(uint64_t n) {
    uint64_t *data = nk_atom_begin(&arena, 2);
    data[0] = n;
    data[1] = 0x8000000d42b00000u;
    nk_noun time = nk_atom_finish(&arena, data, 2);
    nk_noun wire = nk_cons(&arena, 'd',
                           nk_cons(&arena, 0x6d726574, //
                                   nk_cons(&arena, '1', 0)));
    nk_noun card = nk_cons(&arena, 0x746c6562, n);
    return nk_cons(&arena, time, nk_cons(&arena, wire, card));
}

static nk_noun pair(nk_noun head, nk_noun tail) {
    return nk_cons(&arena, head, tail);
}

static nk_noun slot(uint64_t axis) {
    return pair(0, axis);
}

/* [[arm 0 list] 9 2 0 1]; the arm counts the turns at 6, the list is at 7. */
static nk_noun edits(uint64_t count) {
    uint64_t words = count / 64 + 1;
    uint64_t *data = nk_atom_begin(&arena, words);
    need(data != NULL && count >= 64, "edit: give a longer list");
    memset(data, 0xff, words * 8);
    data[0] ^= 1;
    data[words - 1] = ~0ull >> (63 - count % 64);
    nk_noun last = nk_atom_finish(&arena, data, words);
    nk_noun put = pair(10, pair(pair(last, pair(1, 2)), slot(7)));
    nk_noun core = pair(10, pair(pair(7, put), slot(1)));
    core = pair(10, pair(pair(6, pair(4, slot(6))), core));
    nk_noun done = pair(5, pair(slot(6), pair(1, EDITS)));
    nk_noun again = pair(9, pair(2, core));
    nk_noun arm = pair(6, pair(done, pair(slot(7), again)));
    return pair(pair(arm, pair(0, list(count))), pair(9, pair(2, slot(1))));
}

static nk_noun make(const char *what, uint64_t count) {
    if (strcmp(what, "edit") == 0) return edits(count);
    if (strcmp(what, "tree") == 0) return tree(1u << 20, count);
    if (strcmp(what, "list") == 0) return list(count);
    if (strcmp(what, "atom") == 0) return atom(count);
    need(strcmp(what, "small") == 0, "no such noun");
    return small(count);
}

static uint64_t cells_of(const char *what, uint64_t count) {
    if (strcmp(what, "tree") == 0) return count - 1;
    if (strcmp(what, "list") == 0) return count;
    return strcmp(what, "atom") == 0 ? 0 : 6;
}

/* As many cells, one after the other. */
static void allocate(uint64_t cells) {
    for (uint64_t i = 0; i < cells; i++)
        sink = nk_cons(&arena, i, i);
}

/* Each cell once, in order of address. */
static void walk(uint64_t cells) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < cells; i++) {
        uint64_t at = arena.young_start + i * NK_CELL_WORDS;
        const struct nk_cell *cell = nk_cell_at(&arena, NK_CELL_TAG | at);
        sum += cell->head ^ cell->tail;
    }
    sink = sum;
}

struct times {
    uint64_t jam, cue, mug, allocate, walk, copy;
};

static uint64_t lap(uint64_t *since) {
    uint64_t then = *since;
    *since = now();
    return *since - then;
}

/* What a round works on: one large noun, or many small ones. */
struct batch {
    size_t count;
    nk_noun *nouns;
    size_t *ends; /* of each one's bytes */
    uint8_t *bytes;
    size_t capacity;
};

static void jam_all(struct batch *batch, struct times *times) {
    size_t at = 0;
    uint64_t clock = now();
    for (size_t i = 0; i < batch->count; i++) {
        const uint8_t *bytes;
        size_t size;
        need(nk_jam(jammer, &arena, batch->nouns[i], &bytes, &size) == NK_OK,
             "jam failed");
        if (batch->count == 1) times->jam += lap(&clock);
        if (batch->capacity < at + size) {
            batch->capacity = 2 * (at + size);
            batch->bytes = realloc(batch->bytes, batch->capacity);
            need(batch->bytes != NULL, "no memory");
            memset(batch->bytes + at, 1, batch->capacity - at);
        }
        if (batch->count == 1) lap(&clock);
        memcpy(batch->bytes + at, bytes, size);
        batch->ends[i] = at += size;
    }
    if (batch->count == 1) {
        times->copy += lap(&clock);
    } else {
        times->jam += lap(&clock);
    }
}

static void cue_all(struct batch *batch, struct times *times) {
    const char *why = "";
    size_t at = 0;
    uint64_t clock = now();
    for (size_t i = 0; i < batch->count; i++) {
        const uint8_t *bytes = batch->bytes + at;
        need(nk_cue(jammer, &arena, bytes, batch->ends[i] - at, &batch->nouns[i],
                    &why) == NK_OK,
             why);
        at = batch->ends[i];
    }
    times->cue += lap(&clock);
    for (size_t i = 0; i < batch->count; i++)
        sink = nk_mug(&arena, batch->nouns[i]);
    times->mug += lap(&clock);
}

static size_t round_of(const char *what, uint64_t count, struct batch *batch,
                       struct times *times) {
    uint64_t cells = cells_of(what, count) * batch->count;
    nk_nursery_reset(&arena);
    for (size_t i = 0; i < batch->count; i++)
        batch->nouns[i] = make(what, batch->count == 1 ? count : i + (1u << 30));
    jam_all(batch, times);
    uint64_t clock = now();
    walk(cells);
    times->walk += lap(&clock);
    nk_nursery_reset(&arena);
    cue_all(batch, times);
    nk_nursery_reset(&arena);
    clock = now();
    allocate(cells);
    times->allocate += lap(&clock);
    return batch->ends[batch->count - 1];
}

static void write_one(const char *what, uint64_t count) {
    const uint8_t *bytes;
    size_t size;
    need(nk_jam(jammer, &arena, make(what, count), &bytes, &size) == NK_OK,
         "jam failed");
    need(fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0, "cannot write");
}

int main(int argc, char **argv) {
    need(argc == 4, "usage: serial tree|list|atom|small COUNT ROUNDS\n"
                    "        serial write tree|list|atom|small|edit COUNT");
    need(nk_arena_open(&arena, 0, 4ull << 30) == NK_OK, "no address space");
    jammer = nk_jammer_new();
    need(jammer != NULL, "no memory");
    if (strcmp(argv[1], "write") == 0) {
        write_one(argv[2], strtoull(argv[3], NULL, 10));
        return 0;
    }
    const char *what = argv[1];
    uint64_t count = strtoull(argv[2], NULL, 10);
    struct batch batch = {.count = strcmp(what, "small") == 0 ? count : 1};
    batch.nouns = malloc(batch.count * sizeof *batch.nouns);
    batch.ends = malloc(batch.count * sizeof *batch.ends);
    need(batch.nouns != NULL && batch.ends != NULL, "no memory");
    struct times warm = {0};
    size_t size = round_of(what, count, &batch, &warm);
    printf("%zu %llu\n", size,
           (unsigned long long)(cells_of(what, count) * batch.count));
    for (int round = atoi(argv[3]); round > 0; round--) {
        struct times times = {0};
        size = round_of(what, count, &batch, &times);
        const uint64_t all[] = {times.jam,      times.cue,  times.mug,
                                times.allocate, times.walk, times.copy};
        for (int i = 0; i < 6; i++)
            printf("%llu ", (unsigned long long)all[i]);
        printf("\n");
    }
    free(batch.nouns);
    free(batch.ends);
    free(batch.bytes);
    nk_jammer_free(jammer);
    nk_arena_close(&arena);
    return 0;
}
