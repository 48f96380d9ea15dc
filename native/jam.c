/* Jam and cue. Twin: proto/jam.py.
 *
 * Jam. One walk, head before tail. Every cell and indirect atom met gets an
 * entry: the noun and the bit where it was first written. A table of (hash,
 * entry number) finds them: by identity, else by mug and equality. A noun
 * that was found equal but lies elsewhere gets an entry of its own with the
 * same position, so that it is compared only once. Small atoms mostly need
 * no entry: see `jam_direct`.
 *
 * Mugs have 31 bits, and the mug of a long list of equal elements runs in a
 * cycle after some tens of thousands: then equal mugs of unequal nouns are
 * the rule, and each comparison is long. So is each with an equal noun of which
 * a few bytes say as much as of a tree of 2^40. When too much was compared,
 * jam starts over: it first finds a representative of every noun exactly,
 * bottom up, by [representative of head, representative of tail], and then
 * walks representatives, for which identity is equality.
 *
 * Cue. One pass over the bits. Each atom or cell takes the next place in a
 * list of (position, noun) that is sorted because positions only grow; a
 * cell's place holds NK_NONE until it is complete. Only when a back-reference
 * appears, the list is indexed by 64-bit block of the input, up to where the
 * pass has come. */
#include "jam.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mug.h"
#include "murmur.h"

#define TABLE_MIN 64u /* slots that a small noun starts with */
/* Before a use, buffers that outgrew this many bytes are freed; the output is
 * allowed more. */
#define KEPT_BYTES (4u << 20)
#define KEPT_OUTPUT (16u << 20)
#define HUGE_PAGE (2u << 20)

/* A walk that finds a noun equal spares one; but of a noun that is short to write
 * and long to walk, each copy would cost it. */
#define EQUAL_SHARE 8u

struct entry {
    nk_noun noun;
    uint64_t position;
};

struct open_cell {
    uint64_t entry; /* its place in the list */
    nk_noun head;   /* NK_NONE while the head is being read */
};

/* (key, other) -> noun, for three kinds of keys; see `represent`. */
struct triple {
    uint64_t key, other;
    nk_noun noun; /* NK_NONE: empty */
};

struct nk_jammer {
    /* The output. */
    uint8_t *bytes;
    size_t bytes_capacity;
    size_t bytes_count; /* whole words written */
    uint64_t word;      /* bits not yet written */
    unsigned word_bits; /* < 64 */
    /* Nouns and positions: jam's table, cue's list. */
    struct entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    uint64_t *slots;       /* hash << 32 | entry number + 1; 0 = empty */
    size_t slot_capacity;  /* allocated */
    size_t slot_count;     /* in use: a power of two */
    unsigned slot_shift;   /* 64 - log2 of that */
    uint64_t atom_lengths; /* bit n: a direct atom of n bits has an entry */
    nk_noun *todo;
    size_t todo_capacity;
    /* Cue. */
    struct open_cell *open;
    size_t open_capacity;
    /* Jam, when mugs fail: representatives. */
    struct triple *triples; /* NULL: not needed yet */
    size_t triple_count;
    size_t triple_capacity; /* a power of two */
    uint64_t vain;    /* steps of comparisons that failed; a share of the others' */
    uint32_t *blocks; /* first entry at or after each 64 bits of input */
    size_t block_capacity;
};

struct nk_jammer *nk_jammer_new(void) {
    return calloc(1, sizeof(struct nk_jammer));
}

void nk_jammer_free(struct nk_jammer *jammer) {
    if (jammer == NULL) return;
    free(jammer->bytes);
    free(jammer->entries);
    free(jammer->slots);
    free(jammer->todo);
    free(jammer->open);
    free(jammer->blocks);
    free(jammer->triples);
    free(jammer);
}

/* Grow the array at [array] to at least [want] elements; false: no memory. */
static bool grow(void *array, size_t *capacity, size_t want, size_t size) {
    size_t more = *capacity + *capacity / 2 + 64;
    if (more < want) more = want;
    void **place = array, *moved = realloc(*place, more * size);
    if (moved == NULL) return false;
    *place = moved;
    *capacity = more;
    return true;
}

static void shrink(void *array, size_t *capacity, size_t size, size_t kept) {
    if (*capacity * size <= kept) return;
    void **place = array;
    free(*place);
    *place = NULL;
    *capacity = 0;
}

/* Before a use: drop what an exceptionally large noun left behind. */
static void trim(struct nk_jammer *jammer) {
    shrink(&jammer->bytes, &jammer->bytes_capacity, 1, KEPT_OUTPUT);
    shrink(&jammer->entries, &jammer->entry_capacity, sizeof *jammer->entries,
           KEPT_BYTES);
    shrink(&jammer->slots, &jammer->slot_capacity, sizeof *jammer->slots, KEPT_BYTES);
    shrink(&jammer->todo, &jammer->todo_capacity, sizeof *jammer->todo, KEPT_BYTES);
    shrink(&jammer->open, &jammer->open_capacity, sizeof *jammer->open, KEPT_BYTES);
    shrink(&jammer->blocks, &jammer->block_capacity, sizeof *jammer->blocks,
           KEPT_BYTES);
    jammer->entry_count = 0;
}

static inline uint64_t bit_length(uint64_t value) {
    return value == 0 ? 0 : 64u - (unsigned)__builtin_clzll(value);
}

/* ---- writing bits ---- */

/* Room for [bits] more, and a word to spare. */
static inline bool out_room(struct nk_jammer *jammer, uint64_t bits) {
    size_t want = jammer->bytes_count + (size_t)(bits / 8) + 16;
    if (NK_LIKELY(want <= jammer->bytes_capacity)) return true;
    return grow(&jammer->bytes, &jammer->bytes_capacity, want, 1);
}

static inline uint64_t out_position(const struct nk_jammer *jammer) {
    return (uint64_t)jammer->bytes_count * 8 + jammer->word_bits;
}

/* Append the low [count] <= 64 bits of [bits]; those above are zero. */
static inline void out(struct nk_jammer *jammer, uint64_t bits, unsigned count) {
    unsigned used = jammer->word_bits;
    jammer->word |= bits << used;
    if (used + count < 64) {
        jammer->word_bits = used + count;
        return;
    }
    memcpy(jammer->bytes + jammer->bytes_count, &jammer->word, 8);
    jammer->bytes_count += 8;
    jammer->word = used == 0 ? 0 : bits >> (64 - used);
    jammer->word_bits = used + count - 64;
}

/* A tag of [tag_bits] bits, then the width of the body as mat has it. */
static inline void out_width(struct nk_jammer *jammer, uint64_t tag, unsigned tag_bits,
                             uint64_t width) {
    unsigned k = (unsigned)bit_length(width);
    if (k == 0) {
        out(jammer, tag | 1ull << tag_bits, tag_bits + 1);
        return;
    }
    uint64_t low = width ^ 1ull << (k - 1);
    out(jammer, tag | 1ull << (tag_bits + k), tag_bits + k + 1);
    out(jammer, low, k - 1);
}

static inline bool out_direct(struct nk_jammer *jammer, uint64_t value) {
    unsigned width = (unsigned)bit_length(value);
    if (!out_room(jammer, 256)) return false;
    out_width(jammer, 0, 1, width);
    out(jammer, value, width);
    return true;
}

static bool out_atom(struct nk_jammer *jammer, const struct nk_arena *arena,
                     nk_noun atom) {
    const struct nk_atom *box = nk_atom_at(arena, atom);
    uint64_t width = nk_atom_bits(arena, atom);
    if (!out_room(jammer, width + 256)) return false;
    out_width(jammer, 0, 1, width);
    uint8_t *to = jammer->bytes + jammer->bytes_count;
    unsigned used = jammer->word_bits;
    size_t whole = box->words - 1u;
    if (used == 0) {
        memcpy(to, box->data, whole * 8);
    } else if (whole > 0) {
        uint64_t word = jammer->word | box->data[0] << used;
        memcpy(to, &word, 8);
        for (size_t i = 1; i < whole; i++) {
            word = box->data[i - 1] >> (64 - used) | box->data[i] << used;
            memcpy(to + i * 8, &word, 8);
        }
        jammer->word = box->data[whole - 1] >> (64 - used);
    }
    jammer->bytes_count += whole * 8;
    out(jammer, box->data[whole], (unsigned)((width - 1) % 64 + 1));
    return true;
}

static inline bool out_back(struct nk_jammer *jammer, uint64_t position) {
    unsigned width = (unsigned)bit_length(position);
    if (!out_room(jammer, 256)) return false;
    out_width(jammer, 3, 2, width);
    out(jammer, position, width);
    return true;
}

/* ---- jam: nouns met ---- */

static inline size_t slot_of(const struct nk_jammer *jammer, uint32_t hash) {
    return (size_t)((uint64_t)hash * 0x9e3779b97f4a7c15ull >> jammer->slot_shift);
}

/* The table is much larger than the cache where it matters. */
static inline void prefetch_slot(const struct nk_jammer *jammer,
                                 const struct nk_arena *arena, nk_noun n) {
    if (nk_is_direct(n)) return;
    __builtin_prefetch(&jammer->slots[slot_of(jammer, nk_atom_at(arena, n)->mug)]);
}

/* A large table is probed at random: huge pages spare most of the misses. */
static void *slots_new(size_t size) {
    if (size < 2 * HUGE_PAGE) return malloc(size);
    void *slots = aligned_alloc(HUGE_PAGE, size);
    if (slots != NULL) (void)madvise(slots, size, MADV_HUGEPAGE);
    return slots;
}

static bool table_start(struct nk_jammer *jammer, size_t count) {
    if (count > jammer->slot_capacity) {
        free(jammer->slots);
        jammer->slots = slots_new(count * sizeof *jammer->slots);
        jammer->slot_capacity = jammer->slots == NULL ? 0 : count;
        if (jammer->slots == NULL) return false;
    }
    memset(jammer->slots, 0, count * sizeof *jammer->slots);
    jammer->slot_count = count;
    jammer->slot_shift = 64u - (unsigned)__builtin_ctzll(count);
    return true;
}

static void table_place(struct nk_jammer *jammer, uint64_t slot) {
    size_t at = slot_of(jammer, (uint32_t)(slot >> 32));
    while (jammer->slots[at] != 0)
        at = (at + 1) & (jammer->slot_count - 1);
    jammer->slots[at] = slot;
}

static bool table_grow(struct nk_jammer *jammer) {
    uint64_t *old = jammer->slots;
    size_t count = jammer->slot_count;
    jammer->slots = NULL;
    jammer->slot_capacity = 0;
    bool grown = table_start(jammer, count * (count < 65536 ? 4 : 2));
    for (size_t i = 0; i < count && grown; i++) {
        if (old[i] != 0) table_place(jammer, old[i]);
    }
    free(old);
    return grown;
}

static bool entry_add(struct nk_jammer *jammer, nk_noun n, uint64_t position) {
    if (NK_UNLIKELY(jammer->entry_count == jammer->entry_capacity)) {
        if (jammer->entry_count >= UINT32_MAX - 1) return false;
        if (!grow(&jammer->entries, &jammer->entry_capacity, 0,
                  sizeof *jammer->entries)) {
            return false;
        }
    }
    jammer->entries[jammer->entry_count++] = (struct entry){n, position};
    return true;
}

/* Enter [n] into the table, at the free slot [at] that the search found. */
static bool table_add(struct nk_jammer *jammer, size_t at, nk_noun n, uint32_t hash,
                      uint64_t position) {
    if (!entry_add(jammer, n, position)) return false;
    jammer->slots[at] = (uint64_t)hash << 32 | jammer->entry_count;
    if (NK_LIKELY(jammer->entry_count * 2 <= jammer->slot_count)) return true;
    return table_grow(jammer);
}

/* The entry of this very noun, or NULL: then [at] is where it would go, and
 * [twin] says whether another of the same hash was met. */
static inline const struct entry *table_find(const struct nk_jammer *jammer, nk_noun n,
                                             uint32_t hash, size_t *at, bool *twin) {
    size_t place = slot_of(jammer, hash);
    *twin = false;
    for (uint64_t slot; (slot = jammer->slots[place]) != 0;
         place = (place + 1) & (jammer->slot_count - 1)) {
        if ((uint32_t)(slot >> 32) != hash) continue;
        const struct entry *entry = &jammer->entries[(uint32_t)slot - 1];
        if (entry->noun == n) return entry;
        *twin = true;
    }
    *at = place;
    return NULL;
}

/* The entry of a noun equal to [n]: candidates have the same mug. */
static const struct entry *table_find_equal(struct nk_jammer *jammer,
                                            struct nk_arena *arena, nk_noun n,
                                            uint32_t hash) {
    size_t place = slot_of(jammer, hash);
    for (uint64_t slot; (slot = jammer->slots[place]) != 0;
         place = (place + 1) & (jammer->slot_count - 1)) {
        if ((uint32_t)(slot >> 32) != hash) continue;
        const struct entry *entry = &jammer->entries[(uint32_t)slot - 1];
        if (nk_is_direct(entry->noun)) continue;
        uint64_t steps = 0;
        bool equal = nk_equal_counted(arena, entry->noun, n, &steps);
        jammer->vain += equal ? steps / EQUAL_SHARE : steps;
        if (equal) return entry;
    }
    return NULL;
}

/* ---- jam: representatives ---- */

/* Kinds of keys: (noun, IDENTITY) finds the representative of a box;
 * (representatives of head and tail) that of cells; (mug and words, CONTENT
 * - i) those of indirect atoms. No noun is one of these marks. */
#define IDENTITY NK_NONE
#define CONTENT (NK_NONE - 1)

static struct triple *triple_place(const struct nk_jammer *jammer, uint64_t key,
                                   uint64_t other) {
    size_t mask = jammer->triple_capacity - 1;
    size_t at = (size_t)nk_hash_two(key, other) & mask;
    while (jammer->triples[at].noun != NK_NONE &&
           (jammer->triples[at].key != key || jammer->triples[at].other != other)) {
        at = (at + 1) & mask;
    }
    return &jammer->triples[at];
}

static bool triples_resize(struct nk_jammer *jammer, size_t capacity) {
    struct triple *old = jammer->triples;
    size_t old_capacity = jammer->triple_capacity;
    jammer->triples = malloc(capacity * sizeof *old);
    if (jammer->triples == NULL) {
        jammer->triples = old;
        return false;
    }
    memset(jammer->triples, 0xff, capacity * sizeof *old);
    jammer->triple_capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].noun == NK_NONE) continue;
        *triple_place(jammer, old[i].key, old[i].other) = old[i];
    }
    free(old);
    return true;
}

static bool triple_add(struct nk_jammer *jammer, uint64_t key, uint64_t other,
                       nk_noun noun) {
    if (jammer->triple_count * 2 >= jammer->triple_capacity &&
        !triples_resize(jammer, jammer->triple_capacity * 2)) {
        return false;
    }
    *triple_place(jammer, key, other) = (struct triple){key, other, noun};
    jammer->triple_count++;
    return true;
}

/* The representative of [n], or NK_NONE if it has none yet. */
static nk_noun representative(const struct nk_jammer *jammer, nk_noun n) {
    return nk_is_direct(n) ? n : triple_place(jammer, n, IDENTITY)->noun;
}

/* Choose the representative of a box, its children's being known. */
static bool choose(struct nk_jammer *jammer, const struct nk_arena *arena, nk_noun n,
                   uint64_t key, uint64_t other) {
    nk_noun chosen;
    for (;; other--) {
        chosen = triple_place(jammer, key, other)->noun;
        if (chosen == NK_NONE || nk_is_cell(n)) break;
        if (nk_atom_compare(arena, chosen, n) == 0) break;
    }
    if (chosen == NK_NONE) {
        if (!triple_add(jammer, key, other, n)) return false;
        chosen = n;
    }
    return triple_add(jammer, n, IDENTITY, chosen);
}

static bool todo_push(struct nk_jammer *jammer, size_t *todo, nk_noun n) {
    if (NK_UNLIKELY(*todo == jammer->todo_capacity) &&
        !grow(&jammer->todo, &jammer->todo_capacity, 0, sizeof *jammer->todo)) {
        return false;
    }
    jammer->todo[(*todo)++] = n;
    return true;
}

/* Choose representatives for all of [n], children first. */
static bool represent(struct nk_jammer *jammer, const struct nk_arena *arena,
                      nk_noun n) {
    size_t todo = 0;
    jammer->triple_count = 0;
    if (!triples_resize(jammer, 1u << 16) || !todo_push(jammer, &todo, n)) return false;
    while (todo > 0) {
        n = jammer->todo[todo - 1];
        bool ready = true;
        if (representative(jammer, n) != NK_NONE) {
            ready = false;
            todo--;
        } else if (!nk_is_cell(n)) {
            const struct nk_atom *box = nk_atom_at(arena, n);
            uint64_t key = (uint64_t)box->words << 32 | box->mug;
            if (!choose(jammer, arena, n, key, CONTENT)) return false;
        } else {
            const struct nk_cell *cell = nk_cell_at(arena, n);
            nk_noun head = representative(jammer, cell->head);
            nk_noun tail = representative(jammer, cell->tail);
            if (head == NK_NONE && !todo_push(jammer, &todo, cell->head)) return false;
            if (tail == NK_NONE && !todo_push(jammer, &todo, cell->tail)) return false;
            ready = head != NK_NONE && tail != NK_NONE;
            if (ready && !choose(jammer, arena, n, head, tail)) return false;
        }
        if (ready) todo--;
    }
    return true;
}

static void forget_representatives(struct nk_jammer *jammer) {
    free(jammer->triples);
    jammer->triples = NULL;
    jammer->triple_count = jammer->triple_capacity = 0;
}

/* ---- jam ---- */

/* A back-reference to an atom is written only if it is shorter than the atom
 * (by bit lengths of atom and position). Positions grow; so an atom no longer
 * than its first position is never referred to, and needs no entry, and one
 * that was entered earlier shows in `atom_lengths`. */
static bool jam_direct(struct nk_jammer *jammer, nk_noun n) {
    uint64_t position = out_position(jammer), length = bit_length(n);
    bool worth = length > bit_length(position);
    if (!worth && (jammer->atom_lengths >> length & 1) == 0) {
        return out_direct(jammer, n);
    }
    uint32_t hash = (uint32_t)(n * 0xff51afd7ed558ccdull >> 33);
    size_t at;
    bool twin;
    const struct entry *met = table_find(jammer, n, hash, &at, &twin);
    if (met != NULL) return out_back(jammer, met->position);
    if (worth) {
        jammer->atom_lengths |= 1ull << length;
        if (!table_add(jammer, at, n, hash, position)) return false;
    }
    return out_direct(jammer, n);
}

enum answer { DONE, DESCEND, NO_MEMORY, VAIN, STOPPED };

#define POLL_CELLS 65536u

/* Steps of comparison that are too many, beside what was jammed. */
#define VAIN_MAX 65536u

/* An indirect atom is always longer than a position: 64 bits or more. */
static enum answer jam_box(struct nk_jammer *jammer, struct nk_arena *arena,
                           nk_noun n) {
    uint64_t position = out_position(jammer);
    if (NK_UNLIKELY(jammer->triples != NULL)) n = representative(jammer, n);
    uint32_t hash = nk_atom_at(arena, n)->mug;
    if (NK_UNLIKELY(jammer->triples != NULL)) hash = (uint32_t)nk_hash_two(n, 0);
    size_t at;
    bool twin;
    const struct entry *met = table_find(jammer, n, hash, &at, &twin);
    if (met == NULL && twin && jammer->triples == NULL) {
        met = table_find_equal(jammer, arena, n, hash);
        if (jammer->vain > VAIN_MAX + 4 * jammer->entry_count) return VAIN;
        if (met != NULL) {
            position = met->position;
            if (!table_add(jammer, at, n, hash, position)) return NO_MEMORY;
            return out_back(jammer, position) ? DONE : NO_MEMORY;
        }
    }
    if (met != NULL) return out_back(jammer, met->position) ? DONE : NO_MEMORY;
    if (!table_add(jammer, at, n, hash, position)) return NO_MEMORY;
    if (!nk_is_cell(n)) return out_atom(jammer, arena, n) ? DONE : NO_MEMORY;
    if (!out_room(jammer, 256)) return NO_MEMORY;
    out(jammer, 1, 2);
    return DESCEND;
}

static enum answer jam(struct nk_jammer *jammer, struct nk_arena *arena, nk_noun n) {
    size_t todo = 0;
    uint32_t cells = 0;
    jammer->bytes_count = 0;
    jammer->word = 0;
    jammer->word_bits = 0;
    jammer->entry_count = 0;
    jammer->atom_lengths = 0;
    if (!table_start(jammer, TABLE_MIN)) return NO_MEMORY;
    for (;;) {
        if (nk_is_direct(n)) {
            if (!jam_direct(jammer, n)) return NO_MEMORY;
        } else {
            enum answer answer = jam_box(jammer, arena, n);
            if (answer == NO_MEMORY || answer == VAIN) return answer;
            if (answer == DESCEND) {
                if (++cells % POLL_CELLS == 0 && nk_arena_poll(arena) != NK_OK) {
                    return STOPPED;
                }
                const struct nk_cell *cell = nk_cell_at(arena, n);
                if (!todo_push(jammer, &todo, cell->tail)) return NO_MEMORY;
                prefetch_slot(jammer, arena, cell->tail);
                n = cell->head;
                continue;
            }
        }
        if (todo == 0) return DONE;
        n = jammer->todo[--todo];
    }
}

nk_status nk_jam(struct nk_jammer *jammer, struct nk_arena *arena, nk_noun n,
                 const uint8_t **bytes, size_t *size) {
    trim(jammer);
    jammer->vain = 0;
    /* Mugs find what was met before; a lone atom meets nothing. */
    if (nk_is_cell(n)) (void)nk_mug(arena, n);
    enum answer answer = jam(jammer, arena, n);
    if (answer == VAIN) {
        answer = represent(jammer, arena, n) ? jam(jammer, arena, n) : NO_MEMORY;
        forget_representatives(jammer);
    }
    if (answer == STOPPED) return NK_INTR;
    if (answer != DONE) return NK_MEME;
    memcpy(jammer->bytes + jammer->bytes_count, &jammer->word, 8);
    *bytes = jammer->bytes;
    *size = (size_t)((out_position(jammer) + 7) / 8);
    return NK_OK;
}

/* ---- reading bits ---- */

struct reader {
    const uint8_t *bytes;
    size_t size;
    uint64_t bits;
    uint64_t at; /* may lie past the end: bits there read as zero */
};

static uint64_t load_end(const struct reader *reader, uint64_t byte) {
    uint64_t word = 0;
    if (byte < reader->size) {
        size_t left = reader->size - (size_t)byte;
        memcpy(&word, reader->bytes + byte, left < 8 ? left : 8);
    }
    return word;
}

/* The bits from [at] on: 57 or more of them, zeros above. */
static inline uint64_t peek(const struct reader *reader, uint64_t at) {
    uint64_t word, byte = at / 8;
    if (NK_LIKELY(byte + 8 <= reader->size)) {
        memcpy(&word, reader->bytes + byte, 8);
    } else {
        word = load_end(reader, byte);
    }
    return word >> (at % 8);
}

#define PEEK_BITS 57u

/* [count] <= 64 bits from [at] on. */
static uint64_t peek_count(const struct reader *reader, uint64_t at, unsigned count) {
    uint64_t word = peek(reader, at);
    if (count > PEEK_BITS && at % 8 != 0) {
        word |= load_end(reader, at / 8 + 8) << (64 - at % 8);
    }
    return count < 64 ? word & ((1ull << count) - 1) : word;
}

/* [count] words from the reader's place on, and then at least one bit more. */
static void copy_words(const struct reader *reader, uint64_t *data, size_t count) {
    const uint8_t *from = reader->bytes + reader->at / 8;
    unsigned shift = (unsigned)(reader->at % 8);
    if (shift == 0) {
        memcpy(data, from, count * 8);
        return;
    }
    uint64_t word, next;
    for (size_t i = 0; i + 1 < count; i++) {
        memcpy(&word, from + i * 8, 8);
        memcpy(&next, from + i * 8 + 8, 8);
        data[i] = word >> shift | next << (64 - shift);
    }
    if (count > 0)
        data[count - 1] = peek_count(reader, reader->at + (count - 1) * 64, 64);
}

/* ---- cue ---- */

static const char *const gone = "gone: the bits run out";
static const char *const back = "back: a reference to no noun that was read";
static const char *const meme = "meme: a length too wide";

/* Read a length as mat has it. NULL, or what is wrong. */
static const char *cue_width(struct reader *reader, uint64_t *width) {
    uint64_t zeros = 0;
    for (;;) {
        uint64_t word = peek(reader, reader->at + zeros) & ((1ull << PEEK_BITS) - 1);
        if (word != 0) {
            zeros += (unsigned)__builtin_ctzll(word);
            break;
        }
        zeros += PEEK_BITS;
        if (zeros > 255) break;
        if (reader->at + zeros >= reader->bits) return gone;
    }
    if (zeros > 63) return meme;
    reader->at += zeros + 1;
    *width = 0;
    if (zeros == 0) return NULL;
    unsigned low = (unsigned)zeros - 1;
    *width = 1ull << low | peek_count(reader, reader->at, low);
    reader->at += low;
    return NULL;
}

/* An atom that is not a small one. NK_MEME, or NK_BAD with [why]. */
static nk_status cue_atom(struct reader *reader, struct nk_arena *arena,
                          nk_noun *out_noun, const char **why) {
    uint64_t width;
    reader->at++;
    *why = cue_width(reader, &width);
    if (*why != NULL) return NK_BAD;
    if (width <= 63) {
        *out_noun = peek_count(reader, reader->at, (unsigned)width);
        reader->at += width;
        return NK_OK;
    }
    if (width > 8ull * UINT32_MAX) {
        *why = meme;
        return NK_BAD;
    }
    /* What is not there is zero, and is not allocated either. */
    uint64_t left = reader->at < reader->bits ? reader->bits - reader->at : 0;
    uint64_t have = width < left ? width : left;
    size_t words = (size_t)((have + 63) / 64);
    uint64_t *data = nk_atom_begin_raw(arena, words);
    if (data == NULL) return NK_MEME;
    if (words > 0) {
        uint64_t last = (words - 1) * 64ull;
        copy_words(reader, data, words - 1);
        data[words - 1] =
            peek_count(reader, reader->at + last, (unsigned)((have - 1) % 64 + 1));
    }
    *out_noun = nk_atom_finish(arena, data, words);
    reader->at += width;
    return NK_OK;
}

/* The blocks of the input up to the newest entry. */
struct block_index {
    size_t entries; /* of the list, that are indexed */
    size_t blocks;  /* that are filled in */
};

static bool index_extend(struct nk_jammer *jammer, struct block_index *index,
                         uint64_t bits) {
    if (index->entries == 0) {
        size_t want = (size_t)(bits / 64 + 1);
        if (want > jammer->block_capacity &&
            !grow(&jammer->blocks, &jammer->block_capacity, want, 4)) {
            return false;
        }
    }
    for (size_t i = index->entries; i < jammer->entry_count; i++) {
        uint64_t block = jammer->entries[i].position / 64;
        while (index->blocks <= block)
            jammer->blocks[index->blocks++] = (uint32_t)i;
    }
    index->entries = jammer->entry_count;
    return true;
}

static nk_noun index_find(const struct nk_jammer *jammer,
                          const struct block_index *index, uint64_t position) {
    if (position / 64 >= index->blocks) return NK_NONE;
    size_t i = jammer->blocks[position / 64];
    while (i < jammer->entry_count && jammer->entries[i].position < position)
        i++;
    if (i == jammer->entry_count || jammer->entries[i].position != position) {
        return NK_NONE;
    }
    return jammer->entries[i].noun;
}

static nk_status cue_back(struct nk_jammer *jammer, struct reader *reader,
                          struct block_index *index, nk_noun *out_noun,
                          const char **why) {
    uint64_t width;
    reader->at += 2;
    *why = cue_width(reader, &width);
    if (*why == NULL && width > 62) *why = meme;
    if (*why != NULL) return NK_BAD;
    uint64_t position = peek_count(reader, reader->at, (unsigned)width);
    reader->at += width;
    if (!index_extend(jammer, index, reader->bits)) return NK_MEME;
    *out_noun = index_find(jammer, index, position);
    if (*out_noun != NK_NONE) return NK_OK;
    *why = back;
    return NK_BAD;
}

/* An atom whose tag, length and body lie within one peek: most. */
static inline bool cue_small(struct reader *reader, uint64_t word, nk_noun *out_noun) {
    uint64_t rest = word >> 1;
    if (NK_UNLIKELY(rest == 0)) return false;
    unsigned zeros = (unsigned)__builtin_ctzll(rest);
    if (zeros == 0) {
        *out_noun = 0;
        reader->at += 2;
        return true;
    }
    if (NK_UNLIKELY(zeros > 6)) return false;
    unsigned low = zeros - 1, prefix = 2 * zeros + 1;
    unsigned width = 1u << low | ((unsigned)(rest >> (zeros + 1)) & ((1u << low) - 1));
    if (NK_UNLIKELY(prefix + width > PEEK_BITS)) return false;
    *out_noun = word >> prefix & ((1ull << width) - 1);
    reader->at += prefix + width;
    return true;
}

static nk_status cue(struct nk_jammer *jammer, struct nk_arena *arena,
                     struct reader *reader, nk_noun *out_noun, const char **why) {
    struct block_index index = {0, 0};
    size_t depth = 0;
    uint32_t cells = 0;
    for (;;) {
        uint64_t start = reader->at;
        nk_noun n = NK_NONE;
        nk_status status = NK_OK;
        if (NK_UNLIKELY(start >= reader->bits)) {
            *why = gone;
            return NK_BAD;
        }
        uint64_t word = peek(reader, start);
        if ((word & 3) == 3) {
            status = cue_back(jammer, reader, &index, &n, why);
            if (status != NK_OK) return status;
        } else if ((word & 1) == 1) {
            if (NK_UNLIKELY(depth == jammer->open_capacity) &&
                !grow(&jammer->open, &jammer->open_capacity, 0, sizeof *jammer->open)) {
                return NK_MEME;
            }
            jammer->open[depth++] = (struct open_cell){jammer->entry_count, NK_NONE};
            if (!entry_add(jammer, NK_NONE, start)) return NK_MEME;
            if (NK_UNLIKELY(++cells % POLL_CELLS == 0)) {
                status = nk_arena_poll(arena);
                if (status != NK_OK) return status;
            }
            reader->at += 2;
            continue;
        } else {
            if (!cue_small(reader, word, &n)) {
                status = cue_atom(reader, arena, &n, why);
                if (status != NK_OK) return status;
            }
            if (!entry_add(jammer, n, start)) return NK_MEME;
        }
        for (; depth > 0; depth--) {
            struct open_cell *cell = &jammer->open[depth - 1];
            if (cell->head == NK_NONE) {
                cell->head = n;
                break;
            }
            n = nk_cons_try(arena, cell->head, n);
            if (NK_UNLIKELY(n == NK_NONE)) return NK_MEME;
            jammer->entries[cell->entry].noun = n;
        }
        if (depth == 0) {
            *out_noun = n;
            return NK_OK;
        }
    }
}

nk_status nk_cue(struct nk_jammer *jammer, struct nk_arena *arena, const uint8_t *bytes,
                 size_t size, nk_noun *out_noun, const char **why) {
    struct reader reader = {bytes, size, (uint64_t)size * 8, 0};
    uint64_t top = arena->top;
    trim(jammer);
    *why = "";
    nk_status status = cue(jammer, arena, &reader, out_noun, why);
    if (status != NK_OK) arena->top = top;
    return status;
}
