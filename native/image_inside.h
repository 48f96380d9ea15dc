/* The image's inside, shared by image.c (open, load, verify, check) and
 * image_save.c. Nobody else includes it, but the fuzzer that forges images.
 */
#ifndef NK_IMAGE_INSIDE_H
#define NK_IMAGE_INSIDE_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "image.h"

/* --- On disk ----------------------------------------------------------- */

#define SLOT_SIZE NK_PAGE_SIZE
#define RING_COUNT 4u
#define DIRECTORIES_MAX 256u
#ifndef NK_TINY
#define REFS_PER_DIRECTORY 680u
#define ENTRIES_PER_TABLE 102u
#else /* a format of its own, for tests: several directories in a small home */
#define REFS_PER_DIRECTORY 5u
#define ENTRIES_PER_TABLE 7u
#endif
#define PAGES_MAX ((uint64_t)DIRECTORIES_MAX * REFS_PER_DIRECTORY * ENTRIES_PER_TABLE)
#define TABLE_MAGIC 0x62746b6eu     /* "nktb" */
#define DIRECTORY_MAGIC 0x69646b6eu /* "nkdi" */
#define PINS_MAGIC 0x69706b6eu      /* "nkpi" */

static const uint8_t super_magic[8] = {'n', 'k', 'i', 'm', 'a', 'g', 'e', '\n'};

struct sum {
    uint64_t low;
    uint64_t high;
};

/* Where a slot is and what it must contain. */
struct ref {
    uint32_t slot;
    uint32_t zero;
    struct sum sum;
};

/* Magic, format, page size and checksum keep their places in every format,
 * so that an older build can tell a newer image from a rotten one. The
 * checksum is of the whole slot with the checksum's own bytes zero. */
struct super {
    uint8_t magic[8];
    uint32_t format;
    uint32_t page_size;
    struct sum sum;
    uint64_t generation;
    uint64_t event;
    struct nk_identity identity;
    uint32_t mug;
    uint32_t directory_count;
    uint64_t roots[NK_ROOT_COUNT];
    uint64_t page_count;
    uint64_t table_count;
    uint64_t slot_count; /* the file had at least so many */
    struct ref pins;     /* directory of pinned generations; slot 0: none */
    struct ref directories[DIRECTORIES_MAX];
    uint8_t zero[10072];
};

struct head {
    uint32_t magic;
    uint32_t index;      /* which table or directory of the generation */
    uint64_t generation; /* that wrote it */
    uint8_t zero[48];
};

/* One logical page: slot 0 and class 0 if it is free. */
struct entry {
    uint32_t slot;
    uint32_t run_pages;
    uint8_t class_index;
    uint8_t flags;
    uint16_t free_count;
    uint32_t zero;
    struct sum sum;
    uint64_t bitmap[NK_PAGE_BOXES_MAX / 64];
};

struct table {
    struct head head;
    struct entry entries[ENTRIES_PER_TABLE];
};

struct directory {
    struct head head;
    struct ref refs[REFS_PER_DIRECTORY];
};

/* A pinned generation's superblock has no pins of its own. */
struct pin_entry {
    struct ref super;
    uint64_t generation;
    uint64_t event;
    char name[NK_PIN_NAME_SIZE];
};

struct pin_directory {
    struct head head; /* index: how many */
    struct pin_entry pins[NK_PINS_MAX];
    uint8_t zero[15040];
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the image is little-endian");
_Static_assert(sizeof(struct nk_identity) == 32, "identity");
_Static_assert(sizeof(struct ref) == 24, "reference");
_Static_assert(sizeof(struct entry) == 160, "entry");
#ifndef NK_TINY
_Static_assert(sizeof(struct table) == SLOT_SIZE, "a table is a slot");
_Static_assert(sizeof(struct directory) == SLOT_SIZE, "a directory is a slot");
#endif
_Static_assert(sizeof(struct super) == SLOT_SIZE, "a superblock is a slot");
_Static_assert(sizeof(struct pin_directory) == SLOT_SIZE, "pins are a slot");
_Static_assert(offsetof(struct super, sum) == 16, "the same in every format");
_Static_assert(offsetof(struct super, roots) == 88, "superblock");
_Static_assert(NK_ROOT_COUNT == 4, "a change of roots is a change of format");

/* --- In memory --------------------------------------------------------- */

/* RUNS_MAX: mappings that a load makes, far below vm.max_map_count (65,530).
 * RUNS_GOAL: beyond it a save moves pages together; a mapping costs 5-10 us.
 * BATCH_PAGES: what one pwritev or pread moves, here 4 MiB.
 * PACED_PAGES: the same where a save is to go easy on the disk.
 * SCRUB_PAGES: what a scrub reads on the event thread, here 256 KiB.
 * DIRECT_PAGES: so many neighbours or more are written past the page cache.
 * GROWTH_SLOTS: the file grows by so many at least, if the disk has them.
 * EXTENT_SLOTS_MIN: shorter free extents are used only once the file is more
 * than twice as large as what it holds: better some room than a scattered
 * image. */
#ifndef NK_TINY
#define RUNS_MAX 16384u
#define RUNS_GOAL 4096u
#define BATCH_PAGES 256u
#define PACED_PAGES 64u
#define DIRECT_PAGES 16u
#define SCRUB_PAGES 16u
#define GROWTH_SLOTS 256u
#define EXTENT_SLOTS_MIN 16u
#else
#define RUNS_MAX 8u
#define RUNS_GOAL 4u
#define BATCH_PAGES 3u
#define PACED_PAGES 2u
#define DIRECT_PAGES 3u
#define SCRUB_PAGES 2u
#define GROWTH_SLOTS 4u
#define EXTENT_SLOTS_MIN 2u
#endif

/* What a page's flags say of this process's memory is not for the disk. */
#define PAGE_FLAGS_LIVE (NK_PAGE_MAPPED | NK_PAGE_TOUCHED)

struct bits {
    uint64_t *words;
    uint64_t count;
};

struct generation {
    uint64_t number; /* 0: there is none */
    uint64_t event;
    uint64_t page_count;
    uint32_t *slots; /* by logical page; 0 if free */
    struct sum *sums;
    uint64_t table_count;
    struct ref *tables;
    uint64_t directory_count;
    struct ref *directories;
    struct bits used; /* slots */
    uint32_t tails;   /* while it is read: pages that a run still lacks */
};

struct pin {
    struct pin_entry entry;
    bool released; /* the superblock before the newest one has it, that has not */
    struct bits used;
};

/* The last three are the event thread's, all else the saving thread's while it
 * saves. */
struct pins {
    struct ref directory; /* of base's superblock; slot 0: there is none */
    struct ref before;    /* of the superblock before it: to be spared as well */
    struct pin pins[2 * NK_PINS_MAX];
    unsigned count;
    bool found; /* which slots they use, and what was released */
    char pin[NK_PIN_NAME_SIZE], unpin[NK_PIN_NAME_SIZE]; /* asked of the next save */
    struct nk_pin listed[NK_PINS_MAX];
    unsigned listed_count;
    bool known; /* `listed` is what base has */
};

enum ring_state { RING_EMPTY, RING_BAD, RING_GOOD };

struct nk_image {
    int fd;
    int direct; /* the same file, past the page cache; -1: it cannot be */
    bool read_only;
    bool poisoned;     /* a sync failed: what is on disk is not known */
    bool blank;        /* no superblock holds anything that matters */
    bool has_previous; /* `previous` has been looked for */
    uint64_t pace;     /* bytes a second that a save writes; 0: no limit */
    uint64_t slot_count;
    uint64_t newest; /* highest generation number ever seen in the ring */
    enum ring_state ring[RING_COUNT];
    struct super supers[RING_COUNT];
    struct generation base;
    struct generation previous;
    struct pins pins;
    uint32_t *shown; /* by logical page: slot that the mapping shows, or 0 */
    uint64_t shown_count;
    uint64_t mapped_end; /* no slot from here on was ever mapped */
    pthread_t thread;
    bool thread_runs; /* to be joined */
    atomic_int verify;
    atomic_bool stop;
    struct nk_save *save; /* under way, or done and not ended; or NULL */
    uint64_t scrub_page;  /* the next to be scrubbed */
    uint64_t scrub_passes;
    char verdict[256]; /* written before `verify` becomes NK_VERIFY_BAD */
};

/* Our own exhaustion is fatal, as everywhere in native. */
static inline void *zeroed(uint64_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    NK_ASSERT(memory != NULL);
    return memory;
}

__attribute__((format(printf, 2, 3))) static inline void say(char message[256],
                                                             const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, 256, format, args);
    va_end(args);
}

static inline void bits_size(struct bits *bits, uint64_t count) {
    uint64_t old = (bits->count + 63) / 64, words = (count + 63) / 64;
    if (count <= bits->count) return;
    bits->words = realloc(bits->words, words * 8);
    NK_ASSERT(bits->words != NULL);
    memset(bits->words + old, 0, (words - old) * 8);
    bits->count = count;
}

static inline bool bits_test(const struct bits *bits, uint64_t at) {
    return at < bits->count && (bits->words[at / 64] >> (at % 64) & 1) != 0;
}

static inline void bits_set(struct bits *bits, uint64_t at) {
    NK_ASSERT(at < bits->count);
    bits->words[at / 64] |= 1ull << (at % 64);
}

/* Forget what lies beyond: nothing is set there. */
static inline void bits_trim(struct bits *bits, uint64_t count) {
    if (bits->count > count) bits->count = count;
}

static inline uint64_t bits_total(const struct bits *bits) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < (bits->count + 63) / 64; i++)
        total += (uint64_t)__builtin_popcountll(bits->words[i]);
    return total;
}

static inline void bits_add(struct bits *bits, const struct bits *other) {
    bits_size(bits, other->count);
    for (uint64_t i = 0; i < (other->count + 63) / 64; i++) {
        bits->words[i] |= other->words[i];
    }
}

static inline void generation_free(struct generation *g) {
    free(g->slots);
    free(g->sums);
    free(g->tables);
    free(g->directories);
    free(g->used.words);
    memset(g, 0, sizeof *g);
}

static inline void generation_size(struct generation *g, uint64_t page_count) {
    g->page_count = page_count;
    g->table_count = (page_count + ENTRIES_PER_TABLE - 1) / ENTRIES_PER_TABLE;
    g->directory_count = (g->table_count + REFS_PER_DIRECTORY - 1) / REFS_PER_DIRECTORY;
    g->slots = zeroed(page_count, sizeof *g->slots);
    g->sums = zeroed(page_count, sizeof *g->sums);
    g->tables = zeroed(g->table_count, sizeof *g->tables);
    g->directories = zeroed(g->directory_count, sizeof *g->directories);
}

/* --- Reading and writing slots ----------------------------------------- */

static inline struct sum sum_of(const void *slot) {
    XXH128_hash_t hash = XXH3_128bits(slot, SLOT_SIZE);
    return (struct sum){hash.low64, hash.high64};
}

static inline bool sum_equal(struct sum a, struct sum b) {
    return a.low == b.low && a.high == b.high;
}

/* Bytes read, short only at the end of the file; -1 with errno. */
static inline int64_t read_at(int fd, void *out, uint64_t size, uint64_t offset) {
    uint64_t done = 0;
    while (done < size) {
        ssize_t got =
            pread(fd, (char *)out + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += (uint64_t)got;
    }
    return (int64_t)done;
}

static inline bool read_slots(int fd, void *out, uint64_t slot, uint64_t count) {
    int64_t got = read_at(fd, out, count * SLOT_SIZE, slot * SLOT_SIZE);
    if (got < 0) return false;
    errno = EIO; /* for a short read, if it is one */
    return (uint64_t)got == count * SLOT_SIZE;
}

static inline bool write_slots(int fd, const void *from, uint64_t slot,
                               uint64_t count) {
    uint64_t done = 0, size = count * SLOT_SIZE, offset = slot * SLOT_SIZE;
    while (done < size) {
        ssize_t put =
            pwrite(fd, (const char *)from + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        done += (uint64_t)put;
    }
    return true;
}

/* A failed sync may have dropped the pages that it could not write: asking
 * again would be told that all is well. */
static inline bool sync_image(struct nk_image *image) {
    int failed;
    do {
        failed = fdatasync(image->fd);
    } while (failed != 0 && errno == EINTR);
    if (failed != 0) image->poisoned = true;
    return failed == 0;
}

static inline struct sum super_sum(const struct super *super) {
    struct super copy = *super;
    copy.sum = (struct sum){0, 0};
    return sum_of(&copy);
}

static inline bool use_slot(struct generation *g, uint32_t slot) {
    if (slot < RING_COUNT || slot >= g->used.count) return false;
    if (bits_test(&g->used, slot)) return false;
    bits_set(&g->used, slot);
    return true;
}

/* Do both say the same of every page? */
static inline bool same_tables(const struct generation *g, const struct super *super) {
    return super->page_count == g->page_count &&
           super->directory_count == g->directory_count &&
           memcmp(super->directories, g->directories,
                  g->directory_count * sizeof(struct ref)) == 0;
}

static inline void clear_dirty(struct nk_home *home, uint64_t page_count) {
    uint64_t words = (page_count + 63) / 64;
    memset(home->dirty, 0, words * 8);
    memset(home->meta_dirty, 0, words * 8);
    home->dirty_count = 0;
}

/* A pass over the data pages of a generation, in the order of the file. */
struct scan {
    const struct generation *g;
    uint32_t *page_of; /* by slot: 1 + page */
    char *buffer;
    uint64_t slot;  /* the next */
    uint64_t pages; /* compared so far */
};
void nk_image_scan_open(struct scan *scan, const struct generation *g);
void nk_image_scan_close(struct scan *scan);
/* Nothing is left; else the next step has something to read. */
bool nk_image_scan_ended(struct scan *scan);
/* Neighbouring slots, BATCH_PAGES at most. NK_BAD, NK_IO: [message] names the
 * page. */
nk_status nk_image_scan_step(const struct nk_image *image, struct scan *scan,
                             char message[256]);

/* As nk_image_open, of a descriptor, which is closed where that fails. */
nk_status nk_image_attach(int fd, bool read_only, struct nk_image **image,
                          char message[256]);

/* What a superblock says. */
void nk_image_describe(const struct nk_image *image, const struct super *super,
                       struct nk_image_info *info);

/* Read the superblocks again. */
nk_status nk_image_read_ring(struct nk_image *image, char message[256]);

/* The slot of a directory, from what [g] knows of its tables. */
void nk_image_make_directory(const struct generation *g, uint64_t index,
                             struct directory *directory);

/* --- Pins: image_pins.c -------------------------------------------------- */

/* The directory that [super] leads to, which may be none: empty then. */
nk_status nk_image_pins_read(const struct nk_image *image, const struct super *super,
                             struct pin_directory *directory, char message[256]);
/* The superblock of a pinned generation. */
nk_status nk_image_pin_super(const struct nk_image *image,
                             const struct pin_entry *entry, struct super *super,
                             char message[256]);
/* Take those of the superblock that was loaded. [message]: they are lost. */
void nk_image_pins_load(struct nk_image *image, const struct super *super,
                        char message[256]);
void nk_image_pins_free(struct pins *pins);
/* A save's, in this order: read what slots they use; spare them; the directory as
 * it will be, and how many slots that takes; write it, and what [super] is to say;
 * and, when that is durable, go by it. */
void nk_image_pins_find(struct nk_image *image);
void nk_image_pins_spare(const struct nk_image *image, struct bits *taken);
void nk_image_pins_trim(struct nk_image *image, uint64_t slot_count);
unsigned nk_image_pins_plan(const struct nk_image *image,
                            struct pin_directory *directory);
nk_status nk_image_pins_write(const struct nk_image *image, const uint32_t *slots,
                              unsigned count, struct pin_directory *directory,
                              struct super *super, char message[256]);
void nk_image_pins_saved(struct nk_image *image, const struct pin_directory *directory,
                         const struct super *super);
/* The event thread's: the save has ended. */
void nk_image_pins_list(struct nk_image *image);

/* End a save, whatever came of it. */
void nk_image_save_abandon(struct nk_image *image);

/* Ring positions of good superblocks, newest first. */
unsigned nk_image_ring_order(const struct nk_image *image, unsigned order[RING_COUNT]);

/* Read the tables that [super] leads to, and the page metadata where [pages]
 * is given. NK_BAD or NK_IO: [g] is empty again, [pages] may not be. */
nk_status nk_image_generation_read(struct nk_image *image, const struct super *super,
                                   struct generation *g, struct nk_page *pages,
                                   char message[256]);

#endif
