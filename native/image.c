/* See image.h.
 *
 * In memory a generation is two arrays (slot and checksum of each logical
 * page), the references to its table and directory slots, and a bitmap of
 * the slots it uses. `base` is the generation that home descends from,
 * `previous` the one before it: the two that a save must not touch. A save
 * works on a plan beside `base` and swaps it in when the superblock is
 * durable; up to there a failure costs nothing but time.
 *
 * Two syncs before the superblock rather than one are the law of the design,
 * not a need: nothing refers to data or tables until the superblock does.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

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
    struct ref pins;     /* directory of pinned generations; none yet */
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

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the image is little-endian");
_Static_assert(sizeof(struct nk_identity) == 32, "identity");
_Static_assert(sizeof(struct ref) == 24, "reference");
_Static_assert(sizeof(struct entry) == 160, "entry");
#ifndef NK_TINY
_Static_assert(sizeof(struct table) == SLOT_SIZE, "a table is a slot");
_Static_assert(sizeof(struct directory) == SLOT_SIZE, "a directory is a slot");
#endif
_Static_assert(sizeof(struct super) == SLOT_SIZE, "a superblock is a slot");
_Static_assert(offsetof(struct super, sum) == 16, "the same in every format");
_Static_assert(offsetof(struct super, roots) == 88, "superblock");
_Static_assert(NK_ROOT_COUNT == 4, "a change of roots is a change of format");

/* --- In memory --------------------------------------------------------- */

/* RUNS_MAX: mappings that a load makes, far below vm.max_map_count (65,530).
 * RUNS_GOAL: beyond it a save moves pages together; a mapping costs 5-10 us.
 * BATCH_PAGES: what one pwritev or pread moves, here 4 MiB.
 * GROWTH_SLOTS: the file grows by so many at least, if the disk has them.
 * EXTENT_SLOTS_MIN: shorter free extents are used only once the file is more
 * than twice as large as what it holds: better some room than a scattered
 * image. */
#ifndef NK_TINY
#define RUNS_MAX 16384u
#define RUNS_GOAL 4096u
#define BATCH_PAGES 256u
#define GROWTH_SLOTS 256u
#define EXTENT_SLOTS_MIN 16u
#else
#define RUNS_MAX 8u
#define RUNS_GOAL 4u
#define BATCH_PAGES 3u
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
};

enum ring_state { RING_EMPTY, RING_BAD, RING_GOOD };

struct nk_image {
    int fd;
    bool read_only;
    bool poisoned;     /* a sync failed: what is on disk is not known */
    bool blank;        /* no superblock holds anything that matters */
    bool has_previous; /* `previous` has been looked for */
    uint64_t slot_count;
    uint64_t newest; /* highest generation number ever seen in the ring */
    enum ring_state ring[RING_COUNT];
    struct super supers[RING_COUNT];
    struct generation base;
    struct generation previous;
    uint32_t *shown; /* by logical page: slot that the mapping shows, or 0 */
    uint64_t shown_count;
    pthread_t thread;
    bool thread_runs; /* to be joined */
    atomic_int verify;
    atomic_bool stop;
    char verdict[256]; /* written before `verify` becomes NK_VERIFY_BAD */
};

/* Our own exhaustion is fatal, as everywhere in native. */
static void *zeroed(uint64_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    NK_ASSERT(memory != NULL);
    return memory;
}

__attribute__((format(printf, 2, 3))) static void say(char message[256],
                                                      const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, 256, format, args);
    va_end(args);
}

static void bits_size(struct bits *bits, uint64_t count) {
    uint64_t old = (bits->count + 63) / 64, words = (count + 63) / 64;
    if (count <= bits->count) return;
    bits->words = realloc(bits->words, words * 8);
    NK_ASSERT(bits->words != NULL);
    memset(bits->words + old, 0, (words - old) * 8);
    bits->count = count;
}

static bool bits_test(const struct bits *bits, uint64_t at) {
    return at < bits->count && (bits->words[at / 64] >> (at % 64) & 1) != 0;
}

static void bits_set(struct bits *bits, uint64_t at) {
    NK_ASSERT(at < bits->count);
    bits->words[at / 64] |= 1ull << (at % 64);
}

static void bits_add(struct bits *bits, const struct bits *other) {
    bits_size(bits, other->count);
    for (uint64_t i = 0; i < (other->count + 63) / 64; i++) {
        bits->words[i] |= other->words[i];
    }
}

static void generation_free(struct generation *g) {
    free(g->slots);
    free(g->sums);
    free(g->tables);
    free(g->directories);
    free(g->used.words);
    memset(g, 0, sizeof *g);
}

static void generation_size(struct generation *g, uint64_t page_count) {
    g->page_count = page_count;
    g->table_count = (page_count + ENTRIES_PER_TABLE - 1) / ENTRIES_PER_TABLE;
    g->directory_count = (g->table_count + REFS_PER_DIRECTORY - 1) / REFS_PER_DIRECTORY;
    g->slots = zeroed(page_count, sizeof *g->slots);
    g->sums = zeroed(page_count, sizeof *g->sums);
    g->tables = zeroed(g->table_count, sizeof *g->tables);
    g->directories = zeroed(g->directory_count, sizeof *g->directories);
}

/* --- Reading and writing slots ----------------------------------------- */

static struct sum sum_of(const void *slot) {
    XXH128_hash_t hash = XXH3_128bits(slot, SLOT_SIZE);
    return (struct sum){hash.low64, hash.high64};
}

static bool sum_equal(struct sum a, struct sum b) {
    return a.low == b.low && a.high == b.high;
}

/* Bytes read, short only at the end of the file; -1 with errno. */
static int64_t read_at(int fd, void *out, uint64_t size, uint64_t offset) {
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

static bool read_slots(int fd, void *out, uint64_t slot, uint64_t count) {
    int64_t got = read_at(fd, out, count * SLOT_SIZE, slot * SLOT_SIZE);
    if (got < 0) return false;
    errno = EIO; /* for a short read, if it is one */
    return (uint64_t)got == count * SLOT_SIZE;
}

static bool write_slots(int fd, const void *from, uint64_t slot, uint64_t count) {
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

static bool write_vector(int fd, struct iovec *parts, int count, uint64_t slot) {
    uint64_t offset = slot * SLOT_SIZE;
    while (count > 0) {
        ssize_t put = pwritev(fd, parts, count, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        offset += (uint64_t)put;
        uint64_t left = (uint64_t)put;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return true;
}

/* A failed sync may have dropped the pages that it could not write: asking
 * again would be told that all is well. */
static bool sync_image(struct nk_image *image) {
    int failed;
    do {
        failed = fdatasync(image->fd);
    } while (failed != 0 && errno == EINTR);
    if (failed != 0) image->poisoned = true;
    return failed == 0;
}

/* --- Opening ----------------------------------------------------------- */

static struct sum super_sum(const struct super *super) {
    struct super copy = *super;
    copy.sum = (struct sum){0, 0};
    return sum_of(&copy);
}

static bool is_zero(const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (((const uint8_t *)bytes)[i] != 0) return false;
    }
    return true;
}

static nk_status read_ring(struct nk_image *image, char message[256]) {
    int64_t got = read_at(image->fd, image->supers, sizeof image->supers, 0);
    if (got < 0) {
        say(message, "image: cannot read superblocks: %s", strerror(errno));
        return NK_IO;
    }
    image->blank = true;
    for (unsigned i = 0; i < RING_COUNT; i++) {
        struct super *super = &image->supers[i];
        image->ring[i] = RING_EMPTY;
        if (is_zero(super, sizeof *super)) continue;
        image->blank = false;
        image->ring[i] = RING_BAD;
        if (memcmp(super->magic, super_magic, sizeof super_magic) != 0) continue;
        if (!sum_equal(super->sum, super_sum(super))) continue;
        if (super->format != NK_IMAGE_FORMAT || super->page_size != NK_PAGE_SIZE) {
            say(message,
                "image: superblock %u has format %u with pages of %u bytes; this "
                "build knows format %u with pages of %u",
                i, super->format, super->page_size, NK_IMAGE_FORMAT, NK_PAGE_SIZE);
            return NK_BAD;
        }
        image->ring[i] = RING_GOOD;
        if (super->generation > image->newest) image->newest = super->generation;
    }
    return NK_OK;
}

/* A new file's name must survive a power failure, too. */
static bool sync_folder(const char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    if (size >= sizeof folder) return false;
    memcpy(folder, path, size);
    folder[size] = 0;
    const char *name = size ? folder : slash ? "/" : ".";
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    int failed = fsync(fd);
    close(fd);
    return failed == 0;
}

nk_status nk_image_open(const char *path, bool read_only, struct nk_image **out,
                        char message[256]) {
    struct nk_image *image = zeroed(1, sizeof *image);
    nk_status status = NK_IO;
    struct stat stat;
    int flags = read_only ? O_RDONLY : O_RDWR | O_CREAT;
    message[0] = 0;
    *out = NULL;
    image->read_only = read_only;
    atomic_init(&image->verify, NK_VERIFY_GOOD);
    atomic_init(&image->stop, false);
    image->fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (image->fd < 0 || fstat(image->fd, &stat) != 0) {
        say(message, "image: cannot open: %s", strerror(errno));
        goto done;
    }
    if (!S_ISREG(stat.st_mode)) {
        say(message, "image: not a regular file");
        status = NK_BAD;
        goto done;
    }
    if (stat.st_size == 0 && !read_only && !sync_folder(path)) {
        say(message, "image: cannot sync its folder: %s", strerror(errno));
        goto done;
    }
    image->slot_count = (uint64_t)stat.st_size / SLOT_SIZE;
    if (image->slot_count > UINT32_MAX) image->slot_count = UINT32_MAX;
    status = read_ring(image, message);
    if (status != NK_OK) goto done;
    *out = image;
    return NK_OK;
done:
    if (image->fd >= 0) close(image->fd);
    free(image);
    return status;
}

int nk_image_fd(const struct nk_image *image) {
    return image->fd;
}

static void join_verify(struct nk_image *image) {
    if (!image->thread_runs) return;
    NK_ASSERT(pthread_join(image->thread, NULL) == 0);
    image->thread_runs = false;
}

void nk_image_close(struct nk_image *image) {
    if (image == NULL) return;
    atomic_store(&image->stop, true);
    join_verify(image);
    generation_free(&image->base);
    generation_free(&image->previous);
    free(image->shown);
    close(image->fd);
    free(image);
}

/* --- Reading a generation ---------------------------------------------- */

static bool use_slot(struct generation *g, uint32_t slot) {
    if (slot < RING_COUNT || slot >= g->used.count) return false;
    if (bits_test(&g->used, slot)) return false;
    bits_set(&g->used, slot);
    return true;
}

/* Read [count] slots of [refs], neighbours at once, and hand each on after
 * its checksum and head are found good. */
static nk_status
read_refs(struct nk_image *image, struct generation *g, const char *what,
          uint32_t magic, const struct ref *refs, uint64_t count,
          bool (*take)(struct generation *, uint64_t, const void *, struct nk_page *),
          struct nk_page *pages, char message[256]) {
    char *buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    nk_status status = NK_BAD;
    for (uint64_t i = 0; i < count;) {
        uint64_t n = 0;
        for (; n < BATCH_PAGES && i + n < count; n++) {
            if (n != 0 && refs[i + n].slot != refs[i].slot + n) break;
            if (use_slot(g, refs[i + n].slot)) continue;
            say(message, "generation %llu: %s %llu cannot lie in slot %u",
                (unsigned long long)g->number, what, (unsigned long long)(i + n),
                refs[i + n].slot);
            goto done;
        }
        if (!read_slots(image->fd, buffer, refs[i].slot, n)) {
            say(message, "generation %llu: %s %llu in slot %u: %s",
                (unsigned long long)g->number, what, (unsigned long long)i,
                refs[i].slot, strerror(errno));
            status = NK_IO;
            goto done;
        }
        for (uint64_t k = 0; k < n; k++, i++) {
            const void *slot = buffer + k * SLOT_SIZE;
            struct head head;
            memcpy(&head, slot, sizeof head);
            if (sum_equal(sum_of(slot), refs[i].sum) && head.magic == magic &&
                head.index == i && take(g, i, slot, pages)) {
                continue;
            }
            say(message, "generation %llu: %s %llu in slot %u is damaged",
                (unsigned long long)g->number, what, (unsigned long long)i,
                refs[i].slot);
            goto done;
        }
    }
    status = NK_OK;
done:
    free(buffer);
    return status;
}

static bool take_directory(struct generation *g, uint64_t index, const void *slot,
                           struct nk_page *pages) {
    const struct directory *directory = slot;
    uint64_t first = index * REFS_PER_DIRECTORY, count = g->table_count - first;
    if (count > REFS_PER_DIRECTORY) count = REFS_PER_DIRECTORY;
    memcpy(g->tables + first, directory->refs, count * sizeof(struct ref));
    (void)pages;
    return true;
}

static bool take_table(struct generation *g, uint64_t index, const void *slot,
                       struct nk_page *pages) {
    const struct table *table = slot;
    uint64_t first = index * ENTRIES_PER_TABLE, count = g->page_count - first;
    if (count > ENTRIES_PER_TABLE) count = ENTRIES_PER_TABLE;
    for (uint64_t i = 0; i < count; i++) {
        const struct entry *entry = &table->entries[i];
        if ((entry->slot == 0) != (entry->class_index == NK_CLASS_FREE)) return false;
        if (entry->slot != 0 && !use_slot(g, entry->slot)) return false;
        g->slots[first + i] = entry->slot;
        g->sums[first + i] = entry->sum;
        if (pages == NULL) continue;
        struct nk_page *page = &pages[first + i];
        page->class_index = entry->class_index;
        page->flags = entry->flags;
        page->free_count = entry->free_count;
        page->run_pages = entry->run_pages;
        memcpy(page->bitmap, entry->bitmap, sizeof page->bitmap);
    }
    return true;
}

/* Read the tables that [super] leads to, and the page metadata where [pages]
 * is given. NK_BAD or NK_IO: [g] is empty again, [pages] may not be. */
static nk_status generation_read(struct nk_image *image, const struct super *super,
                                 struct generation *g, struct nk_page *pages,
                                 char message[256]) {
    nk_status status = NK_BAD;
    memset(g, 0, sizeof *g);
    g->number = super->generation;
    g->event = super->event;
    if (super->page_count > PAGES_MAX) {
        say(message, "generation %llu: impossible page count",
            (unsigned long long)g->number);
        return NK_BAD;
    }
    generation_size(g, super->page_count);
    bits_size(&g->used, image->slot_count);
    if (super->table_count != g->table_count ||
        super->directory_count != g->directory_count) {
        say(message, "generation %llu: impossible table count",
            (unsigned long long)g->number);
        goto failed;
    }
    memcpy(g->directories, super->directories, g->directory_count * sizeof(struct ref));
    status = read_refs(image, g, "directory", DIRECTORY_MAGIC, g->directories,
                       g->directory_count, take_directory, NULL, message);
    if (status != NK_OK) goto failed;
    status = read_refs(image, g, "table", TABLE_MAGIC, g->tables, g->table_count,
                       take_table, pages, message);
    if (status != NK_OK) goto failed;
    return NK_OK;
failed:
    generation_free(g);
    return status;
}

/* Read every data page of [g] in the order of the file. */
static nk_status generation_verify(struct nk_image *image, const struct generation *g,
                                   char message[256]) {
    uint32_t *page_of = zeroed(g->used.count, sizeof *page_of); /* 1 + page */
    char *buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    nk_status status = NK_BAD;
    for (uint64_t p = 0; p < g->page_count; p++) {
        if (g->slots[p] != 0) page_of[g->slots[p]] = (uint32_t)p + 1;
    }
    for (uint64_t slot = RING_COUNT; slot < g->used.count;) {
        uint64_t n = 0;
        if (atomic_load_explicit(&image->stop, memory_order_relaxed)) break;
        while (n < BATCH_PAGES && slot + n < g->used.count && page_of[slot + n])
            n++;
        if (n == 0) {
            slot++;
            continue;
        }
        if (!read_slots(image->fd, buffer, slot, n)) {
            say(message, "generation %llu: page %u in slot %llu or after it: %s",
                (unsigned long long)g->number, page_of[slot] - 1,
                (unsigned long long)slot, strerror(errno));
            status = NK_IO;
            goto done;
        }
        for (uint64_t k = 0; k < n; k++, slot++) {
            uint32_t page = page_of[slot] - 1;
            if (sum_equal(sum_of(buffer + k * SLOT_SIZE), g->sums[page])) continue;
            say(message, "generation %llu: page %u in slot %llu is damaged",
                (unsigned long long)g->number, page, (unsigned long long)slot);
            goto done;
        }
    }
    status = NK_OK;
done:
    free(buffer);
    free(page_of);
    return status;
}

/* --- Loading ----------------------------------------------------------- */

/* Ring positions of good superblocks, newest first. */
static unsigned ring_order(const struct nk_image *image, unsigned order[RING_COUNT]) {
    unsigned count = 0;
    for (unsigned i = 0; i < RING_COUNT; i++) {
        if (image->ring[i] != RING_GOOD) continue;
        unsigned at = count++;
        while (at > 0 &&
               image->supers[order[at - 1]].generation < image->supers[i].generation) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
    return count;
}

static void *page_address(const struct nk_home *home, uint64_t page) {
    return home->arena->base + page * NK_PAGE_WORDS;
}

struct run {
    uint32_t page;
    uint32_t slot;
    uint32_t count;
};

static int run_by_slot(const void *a, const void *b) {
    uint32_t left = ((const struct run *)a)->slot,
             right = ((const struct run *)b)->slot;
    return (left > right) - (left < right);
}

/* Neighbouring pages in neighbouring slots. */
static struct run *find_runs(const struct generation *g, uint64_t *count) {
    struct run *runs = NULL;
    uint64_t used = 0, room = 0;
    for (uint64_t p = 0; p < g->page_count; p++) {
        uint32_t slot = g->slots[p];
        if (slot == 0) continue;
        if (used > 0) {
            struct run *last = &runs[used - 1];
            if (last->page + last->count == p && last->slot + last->count == slot) {
                last->count++;
                continue;
            }
        }
        if (used == room) {
            room = room ? room * 2 : 1024;
            runs = realloc(runs, room * sizeof *runs);
            NK_ASSERT(runs != NULL);
        }
        runs[used++] = (struct run){(uint32_t)p, slot, 1};
    }
    *count = used;
    return runs;
}

/* The shortest run that is mapped, so that the mappings keep to the budget.
 * Long runs come first: what is read instead costs time and memory. */
static uint32_t shortest_mapped(const struct run *runs, uint64_t count) {
    uint64_t longer[64] = {0}; /* runs of at least so many pages */
    /* A slot that is no whole number of system pages cannot be mapped. */
    if (NK_PAGE_SIZE % (unsigned long)sysconf(_SC_PAGESIZE) != 0) return UINT32_MAX;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t top = runs[i].count < 63 ? runs[i].count : 63;
        for (uint32_t n = 1; n <= top; n++)
            longer[n]++;
    }
    for (uint32_t n = 1; n < 64; n++) {
        if (longer[n] <= RUNS_MAX) return n;
    }
    return UINT32_MAX;
}

static bool show_run(struct nk_image *image, struct nk_home *home,
                     const struct run *run) {
    uint64_t size = (uint64_t)run->count * NK_PAGE_SIZE;
    void *want = page_address(home, run->page);
    void *got = mmap(want, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, image->fd,
                     (off_t)run->slot * SLOT_SIZE);
    if (got != want) return false; /* too many mappings: read it */
    for (uint32_t i = 0; i < run->count; i++) {
        home->pages[run->page + i].flags |= NK_PAGE_MAPPED;
        image->shown[run->page + i] = run->slot + i;
    }
    return true;
}

/* Show or read every page of [g] in home. */
static nk_status fill_home(struct nk_image *image, struct nk_home *home,
                           const struct generation *g, char message[256]) {
    uint64_t count;
    struct run *runs = find_runs(g, &count);
    uint32_t shortest = shortest_mapped(runs, count);
    nk_status status = NK_IO;
    image->shown = zeroed(g->page_count, sizeof *image->shown);
    image->shown_count = g->page_count;
    if (count > 0) qsort(runs, count, sizeof *runs, run_by_slot);
    for (uint64_t i = 0; i < count; i++) {
        const struct run *run = &runs[i];
        if (run->count >= shortest && show_run(image, home, run)) continue;
        if (read_slots(image->fd, page_address(home, run->page), run->slot,
                       run->count)) {
            continue;
        }
        say(message, "generation %llu: page %u in slot %u or after it: %s",
            (unsigned long long)g->number, run->page, run->slot, strerror(errno));
        goto done;
    }
    if (g->page_count > 0) {
        /* New mappings do not inherit it; a refusal only makes cores larger. */
        (void)madvise(page_address(home, 0), g->page_count * NK_PAGE_SIZE,
                      MADV_DONTDUMP);
    }
    status = NK_OK;
done:
    free(runs);
    return status;
}

/* Undo a failed attempt: home is empty again. */
static void empty_home(struct nk_image *image, struct nk_home *home, uint64_t pages) {
    if (image->shown != NULL && pages > 0) {
        void *want = page_address(home, 0);
        void *got =
            mmap(want, pages * NK_PAGE_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | MAP_ANONYMOUS, -1, 0);
        NK_ASSERT(got == want);
        (void)madvise(want, pages * NK_PAGE_SIZE, MADV_DONTDUMP);
        (void)madvise(want, pages * NK_PAGE_SIZE, MADV_NOHUGEPAGE);
    }
    memset(home->pages, 0, pages * sizeof *home->pages);
    free(image->shown);
    image->shown = NULL;
    image->shown_count = 0;
}

static void clear_dirty(struct nk_home *home, uint64_t page_count) {
    uint64_t words = (page_count + 63) / 64;
    memset(home->dirty, 0, words * 8);
    memset(home->meta_dirty, 0, words * 8);
    home->dirty_count = 0;
}

static void describe(const struct nk_image *image, const struct super *super,
                     struct nk_image_info *info) {
    info->good = 1;
    info->generation = super->generation;
    info->event = super->event;
    info->mug = super->mug;
    info->pages = super->page_count;
    info->slots = image->slot_count;
    info->identity = super->identity;
}

static nk_status try_load(struct nk_image *image, struct nk_home *home,
                          const struct super *super, bool verify, char message[256]) {
    struct generation g;
    uint64_t pages = super->page_count;
    nk_status status;
    if (pages > home->page_max) {
        say(message, "generation %llu: %llu pages; home is limited to %llu",
            (unsigned long long)super->generation, (unsigned long long)pages,
            (unsigned long long)home->page_max);
        return NK_MEME;
    }
    status = generation_read(image, super, &g, home->pages, message);
    if (status == NK_OK && verify) status = generation_verify(image, &g, message);
    if (status == NK_OK) status = fill_home(image, home, &g, message);
    if (status != NK_OK) {
        empty_home(image, home, pages);
        generation_free(&g);
        return status;
    }
    image->base = g;
    home->page_count = pages;
    memcpy(home->roots, super->roots, sizeof super->roots);
    clear_dirty(home, pages);
    nk_home_adopt(home);
    atomic_store(&image->verify, verify ? NK_VERIFY_GOOD : NK_VERIFY_NONE);
    return NK_OK;
}

nk_status nk_image_load(struct nk_image *image, struct nk_home *home,
                        uint64_t event_max, bool verify, struct nk_image_info *info) {
    unsigned order[RING_COUNT], count = ring_order(image, order);
    memset(info, 0, sizeof *info);
    NK_ASSERT(image->base.number == 0);
    info->slots = image->slot_count;
    for (unsigned i = 0; i < RING_COUNT; i++) {
        if (image->ring[i] != RING_BAD) continue;
        say(info->message, "superblock %u is damaged", i);
        verify = true;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        char message[256] = "";
        nk_status status = NK_BAD;
        if (super->event > event_max) {
            say(message, "generation %llu is of event %llu, later than %llu",
                (unsigned long long)super->generation, (unsigned long long)super->event,
                (unsigned long long)event_max);
        } else {
            status = try_load(image, home, super, verify, message);
        }
        if (status == NK_OK) {
            describe(image, super, info);
            return NK_OK;
        }
        /* The newest refusal is the one worth telling. What is older than a
         * refused generation may have lost slots to it: verify it wholly. */
        if (info->fell_back++ == 0) memcpy(info->message, message, sizeof message);
        if (status == NK_MEME) return status;
        verify = true;
    }
    return NK_OK;
}

nk_status nk_image_reset(struct nk_image *image, char message[256]) {
    message[0] = 0;
    NK_ASSERT(image->base.number == 0);
    if (image->read_only || image->poisoned) {
        say(message, image->read_only ? "image: opened for reading only"
                                      : "image: an earlier sync failed");
        return NK_IO;
    }
    memset(image->supers, 0, sizeof image->supers);
    /* Not blank before it is durable: a save would overwrite slots that
     * the old superblocks still vouch for. */
    if (!write_slots(image->fd, image->supers, 0, RING_COUNT) || !sync_image(image)) {
        image->poisoned = true;
        say(message, "image: cannot reset: %s", strerror(errno));
        return NK_IO;
    }
    memset(image->ring, 0, sizeof image->ring);
    if (image->slot_count < RING_COUNT) image->slot_count = RING_COUNT;
    image->blank = true;
    return NK_OK;
}

/* --- Verification beside the running serf ------------------------------- */

static void verify_base(struct nk_image *image) {
    nk_status status = generation_verify(image, &image->base, image->verdict);
    atomic_store(&image->verify, status == NK_OK ? NK_VERIFY_GOOD : NK_VERIFY_BAD);
}

static void *verify_main(void *context) {
    verify_base(context);
    return NULL;
}

nk_status nk_image_verify_start(struct nk_image *image, char message[256]) {
    sigset_t all, before;
    message[0] = 0;
    if (atomic_load(&image->verify) != NK_VERIFY_NONE) return NK_OK;
    atomic_store(&image->verify, NK_VERIFY_RUNNING);
    /* Signals are for the thread that Python runs its handlers in. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&image->thread, NULL, verify_main, image);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        atomic_store(&image->verify, NK_VERIFY_NONE);
        say(message, "image: cannot start verification: %s", strerror(failed));
        return NK_IO;
    }
    image->thread_runs = true;
    return NK_OK;
}

enum nk_verify nk_image_verify_status(struct nk_image *image, char message[256]) {
    enum nk_verify verify = (enum nk_verify)atomic_load(&image->verify);
    message[0] = 0;
    if (verify == NK_VERIFY_BAD) memcpy(message, image->verdict, 256);
    return verify;
}

enum nk_verify nk_image_verify_wait(struct nk_image *image, char message[256]) {
    join_verify(image);
    if (atomic_load(&image->verify) == NK_VERIFY_NONE) verify_base(image);
    return nk_image_verify_status(image, message);
}

/* --- Saving: the plan --------------------------------------------------- */

/* What one save writes: [next] is base as it will be, and the lists say
 * which parts of it are not on disk yet, in logical order. */
struct plan {
    struct generation next;
    uint32_t *pages;
    uint64_t page_writes;
    struct bits table_bits;
    uint32_t *tables;
    uint64_t table_writes;
    uint32_t *directories;
    uint64_t directory_writes;
    uint32_t *slots; /* for all of the above, in this order */
};

static void plan_free(struct plan *plan) {
    generation_free(&plan->next);
    free(plan->pages);
    free(plan->table_bits.words);
    free(plan->tables);
    free(plan->directories);
    free(plan->slots);
}

/* Pages [w] * 64 and on that are in use, as bits. */
static uint64_t pages_in_use(const struct nk_home *home, uint64_t w) {
    uint64_t live = 0;
    for (uint64_t bit = 0; bit < 64 && w * 64 + bit < home->page_count; bit++) {
        if (home->pages[w * 64 + bit].class_index != NK_CLASS_FREE) live |= 1ull << bit;
    }
    return live;
}

/* Into how many runs these 64 pages would fall, were [writes] saved. */
static unsigned runs_among(const struct generation *next, uint64_t w, uint64_t live,
                           uint64_t writes) {
    unsigned runs = 0;
    for (uint64_t bit = 0; bit < 64; bit++) {
        uint64_t page = w * 64 + bit;
        if (!(live >> bit & 1)) continue;
        bool joins =
            bit > 0 && (live >> (bit - 1) & 1) &&
            (writes >> bit & 1) == (writes >> (bit - 1) & 1) &&
            ((writes >> bit & 1) || next->slots[page] == next->slots[page - 1] + 1);
        if (!joins) runs++;
    }
    return runs;
}

/* A load maps runs of neighbours: keep them few. The most scattered groups of
 * 64 pages are written again as a whole, at most as many pages as the save
 * writes anyway. */
static void plan_moves(const struct plan *plan, const struct nk_home *home,
                       uint64_t *writes, uint64_t words) {
    uint8_t *runs = zeroed(words, sizeof *runs);
    uint64_t total = 0, left = 64;
    for (uint64_t w = 0; w < words; w++) {
        runs[w] = (uint8_t)runs_among(&plan->next, w, pages_in_use(home, w), writes[w]);
        total += runs[w];
        left += (uint64_t)__builtin_popcountll(writes[w]);
    }
    for (unsigned worst = 64; worst > 2 && total > RUNS_GOAL; worst--) {
        for (uint64_t w = 0; w < words && total > RUNS_GOAL; w++) {
            if (runs[w] != worst) continue;
            uint64_t live = pages_in_use(home, w);
            uint64_t more = (uint64_t)__builtin_popcountll(live & ~writes[w]);
            if (more > left) continue;
            left -= more;
            writes[w] = live;
            total -= worst - 1;
        }
    }
    free(runs);
}

/* Which pages are written, which tables have new entries. Without a base that
 * is all of them, whatever home's bits say. */
static void plan_pages(struct plan *plan, const struct generation *base,
                       const struct nk_home *home) {
    uint64_t words = (home->page_count + 63) / 64, count = 0;
    uint64_t *writes = zeroed(words, sizeof *writes);
    bits_size(&plan->table_bits, plan->next.table_count);
    for (uint64_t w = 0; w < words; w++) {
        uint64_t all = base->number == 0 ? ~0ull : 0;
        uint64_t changed = home->dirty[w] | home->meta_dirty[w] | all;
        for (; changed != 0; changed &= changed - 1) {
            uint64_t bit = (uint64_t)__builtin_ctzll(changed), page = w * 64 + bit;
            if (page >= home->page_count) break;
            bits_set(&plan->table_bits, page / ENTRIES_PER_TABLE);
            if (home->pages[page].class_index == NK_CLASS_FREE) {
                plan->next.slots[page] = 0;
                plan->next.sums[page] = (struct sum){0, 0};
            } else if ((home->dirty[w] | all) >> bit & 1) {
                writes[w] |= 1ull << bit;
            }
        }
    }
    plan_moves(plan, home, writes, words);
    for (uint64_t w = 0; w < words; w++) {
        count += (uint64_t)__builtin_popcountll(writes[w]);
    }
    plan->pages = zeroed(count, sizeof *plan->pages);
    for (uint64_t w = 0; w < words; w++) {
        for (uint64_t left = writes[w]; left != 0; left &= left - 1) {
            uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(left);
            bits_set(&plan->table_bits, page / ENTRIES_PER_TABLE);
            plan->pages[plan->page_writes++] = (uint32_t)page;
        }
    }
    free(writes);
    if (home->page_count == base->page_count) return;
    /* The table where the old end or the new one lies, and all beyond. */
    uint64_t end =
        base->page_count < home->page_count ? base->page_count : home->page_count;
    for (uint64_t t = end / ENTRIES_PER_TABLE; t < plan->next.table_count; t++) {
        bits_set(&plan->table_bits, t);
    }
}

static void plan_tables(struct plan *plan, const struct generation *base) {
    struct generation *next = &plan->next;
    struct bits directory_bits = {0};
    plan->tables = zeroed(next->table_count, sizeof *plan->tables);
    plan->directories = zeroed(next->directory_count, sizeof *plan->directories);
    bits_size(&directory_bits, next->directory_count);
    for (uint64_t t = 0; t < next->table_count; t++) {
        if (!bits_test(&plan->table_bits, t)) continue;
        plan->tables[plan->table_writes++] = (uint32_t)t;
        bits_set(&directory_bits, t / REFS_PER_DIRECTORY);
    }
    if (next->table_count != base->table_count && next->directory_count > 0) {
        uint64_t end = base->table_count < next->table_count ? base->table_count
                                                             : next->table_count;
        for (uint64_t d = end / REFS_PER_DIRECTORY; d < next->directory_count; d++) {
            bits_set(&directory_bits, d);
        }
    }
    for (uint64_t d = 0; d < next->directory_count; d++) {
        if (!bits_test(&directory_bits, d)) continue;
        plan->directories[plan->directory_writes++] = (uint32_t)d;
    }
    free(directory_bits.words);
}

static void plan_make(struct plan *plan, const struct nk_image *image,
                      const struct nk_home *home, uint64_t event) {
    const struct generation *base = &image->base;
    struct generation *next = &plan->next;
    memset(plan, 0, sizeof *plan);
    generation_size(next, home->page_count);
    next->number = image->newest + 1;
    next->event = event;
    uint64_t pages =
        base->page_count < next->page_count ? base->page_count : next->page_count;
    uint64_t tables =
        base->table_count < next->table_count ? base->table_count : next->table_count;
    uint64_t directories = base->directory_count < next->directory_count
                               ? base->directory_count
                               : next->directory_count;
    if (base->number != 0) {
        memcpy(next->slots, base->slots, pages * sizeof *next->slots);
        memcpy(next->sums, base->sums, pages * sizeof *next->sums);
        memcpy(next->tables, base->tables, tables * sizeof *next->tables);
        memcpy(next->directories, base->directories,
               directories * sizeof *next->directories);
    }
    plan_pages(plan, base, home);
    plan_tables(plan, base);
}

/* --- Saving: room ------------------------------------------------------- */

/* The generation before base, whose slots a save must spare as well; if its
 * tables are bad it is lost anyway. */
static void find_previous(struct nk_image *image) {
    unsigned order[RING_COUNT], count = ring_order(image, order);
    char message[256];
    if (image->has_previous) return;
    image->has_previous = true;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        if (super->generation >= image->base.number) continue;
        if (generation_read(image, super, &image->previous, NULL, message) == NK_OK) {
            return;
        }
    }
}

/* Slots that must keep their contents. */
static struct bits slots_taken(struct nk_image *image, const struct nk_home *home) {
    struct bits taken = {0};
    uint64_t shown =
        image->shown_count < home->page_count ? image->shown_count : home->page_count;
    bits_size(&taken, image->slot_count > RING_COUNT ? image->slot_count : RING_COUNT);
    for (unsigned i = 0; i < RING_COUNT; i++)
        bits_set(&taken, i);
    bits_add(&taken, &image->base.used);
    bits_add(&taken, &image->previous.used);
    for (uint64_t p = 0; p < shown; p++) {
        if (image->shown[p] == 0) continue;
        if (home->pages[p].flags & NK_PAGE_MAPPED) {
            bits_set(&taken, image->shown[p]);
        } else {
            image->shown[p] = 0; /* written since: all frames are our own */
        }
    }
    /* What lies above home's end is not written by anyone: still shown. */
    for (uint64_t p = shown; p < image->shown_count; p++) {
        if (image->shown[p] != 0) bits_set(&taken, image->shown[p]);
    }
    return taken;
}

/* The first [want] free slots that lie in extents of [length_min] or more;
 * answers how many there are. */
static uint64_t take_extents(const struct bits *taken, uint64_t length_min,
                             uint32_t *out, uint64_t want) {
    uint64_t found = 0;
    for (uint64_t slot = 0; slot < taken->count && found < want;) {
        if (slot % 64 == 0 && taken->words[slot / 64] == ~0ull) {
            slot += 64;
            continue;
        }
        if (bits_test(taken, slot)) {
            slot++;
            continue;
        }
        uint64_t end = slot + 1;
        while (end < taken->count && !bits_test(taken, end))
            end++;
        if (end - slot >= length_min) {
            for (uint64_t s = slot; s < end && found < want; s++, found++) {
                out[found] = (uint32_t)s;
            }
        }
        slot = end;
    }
    return found;
}

static bool grow_file(struct nk_image *image, uint64_t slots, char message[256]) {
    uint64_t want = image->slot_count + slots;
    int failed;
    if (want > UINT32_MAX) {
        say(message, "image: too large");
        return false;
    }
    do {
        failed = posix_fallocate(image->fd, (off_t)(image->slot_count * SLOT_SIZE),
                                 (off_t)(slots * SLOT_SIZE));
    } while (failed == EINTR);
    if (failed != 0) {
        say(message, "image: cannot grow the file to %llu bytes: %s",
            (unsigned long long)(want * SLOT_SIZE), strerror(failed));
        return false;
    }
    image->slot_count = want;
    return true;
}

/* Choose slots for everything in [plan]: long free extents first, then a
 * larger file while it is not twice what it holds, then any free slot, then
 * a larger file all the same. */
static nk_status allocate(struct nk_image *image, struct plan *plan, struct bits *taken,
                          char message[256]) {
    uint64_t want = plan->page_writes + plan->table_writes + plan->directory_writes;
    uint64_t holds = plan->next.page_count + plan->next.table_count;
    uint64_t growth = want > GROWTH_SLOTS ? want : GROWTH_SLOTS;
    uint64_t free_slots;
    plan->slots = zeroed(want, sizeof *plan->slots);
    if (image->slot_count < RING_COUNT &&
        !grow_file(image, RING_COUNT - image->slot_count, message)) {
        return NK_IO;
    }
    if (take_extents(taken, EXTENT_SLOTS_MIN, plan->slots, want) == want) return NK_OK;
    if (image->slot_count + want <= 2 * holds + GROWTH_SLOTS &&
        grow_file(image, growth, message)) {
        bits_size(taken, image->slot_count);
        if (take_extents(taken, EXTENT_SLOTS_MIN, plan->slots, want) == want) {
            return NK_OK;
        }
    }
    free_slots = take_extents(taken, 1, plan->slots, want);
    if (free_slots < want && !grow_file(image, growth, message) &&
        !grow_file(image, want - free_slots, message)) {
        return NK_IO;
    }
    message[0] = 0; /* a refusal that was got round */
    bits_size(taken, image->slot_count);
    NK_ASSERT(take_extents(taken, 1, plan->slots, want) == want);
    return NK_OK;
}

/* --- Saving: writing ---------------------------------------------------- */

static nk_status write_failed(char message[256], const char *what) {
    say(message, "image: cannot write %s: %s", what, strerror(errno));
    return NK_IO;
}

/* A page that is only moved has the contents that it was loaded or saved
 * with; if not, memory or disk is at fault, or a write went past promotion. */
static bool is_sound(const struct nk_image *image, const struct nk_home *home,
                     uint64_t page, struct sum sum) {
    const struct generation *base = &image->base;
    if (home->dirty[page / 64] >> page % 64 & 1) return true;
    if (page >= base->page_count) return true;
    return sum_equal(sum, base->sums[page]);
}

static nk_status write_pages(struct nk_image *image, const struct nk_home *home,
                             struct plan *plan, char message[256]) {
    struct iovec parts[BATCH_PAGES];
    for (uint64_t i = 0; i < plan->page_writes;) {
        uint64_t first = plan->slots[i], n = 0;
        int count = 0;
        for (; n < BATCH_PAGES && i + n < plan->page_writes; n++) {
            uint32_t page = plan->pages[i + n];
            void *bytes = page_address(home, page);
            if (plan->slots[i + n] != first + n) break;
            plan->next.slots[page] = plan->slots[i + n];
            plan->next.sums[page] = sum_of(bytes);
            if (!is_sound(image, home, page, plan->next.sums[page])) {
                say(message, "image: page %u changed without being written", page);
                return NK_BAD;
            }
            if (n > 0 && page == plan->pages[i + n - 1] + 1) {
                parts[count - 1].iov_len += NK_PAGE_SIZE;
            } else {
                parts[count++] = (struct iovec){bytes, NK_PAGE_SIZE};
            }
        }
        if (!write_vector(image->fd, parts, count, first)) {
            return write_failed(message, "pages");
        }
        i += n;
    }
    return NK_OK;
}

static void make_table(const struct generation *g, uint64_t index,
                       const struct nk_home *home, struct table *table) {
    uint64_t first = index * ENTRIES_PER_TABLE, count = g->page_count - first;
    if (count > ENTRIES_PER_TABLE) count = ENTRIES_PER_TABLE;
    memset(table, 0, SLOT_SIZE);
    table->head.magic = TABLE_MAGIC;
    table->head.index = (uint32_t)index;
    table->head.generation = g->number;
    for (uint64_t i = 0; i < count; i++) {
        const struct nk_page *page = &home->pages[first + i];
        struct entry *entry = &table->entries[i];
        /* A used page without a slot was written behind promotion's back. */
        NK_ASSERT((page->class_index == NK_CLASS_FREE) == (g->slots[first + i] == 0));
        if (page->class_index == NK_CLASS_FREE) continue;
        entry->slot = g->slots[first + i];
        entry->sum = g->sums[first + i];
        entry->class_index = page->class_index;
        entry->flags = page->flags & (uint8_t)~PAGE_FLAGS_LIVE;
        entry->free_count = page->free_count;
        entry->run_pages = page->run_pages;
        memcpy(entry->bitmap, page->bitmap, sizeof entry->bitmap);
    }
}

static void make_directory(const struct generation *g, uint64_t index,
                           struct directory *directory) {
    uint64_t first = index * REFS_PER_DIRECTORY, count = g->table_count - first;
    if (count > REFS_PER_DIRECTORY) count = REFS_PER_DIRECTORY;
    memset(directory, 0, SLOT_SIZE);
    directory->head.magic = DIRECTORY_MAGIC;
    directory->head.index = (uint32_t)index;
    directory->head.generation = g->number;
    memcpy(directory->refs, g->tables + first, count * sizeof(struct ref));
}

/* Tables (or, where [home] is NULL, directories), neighbours at once. */
static nk_status write_tables(struct nk_image *image, const struct nk_home *home,
                              struct generation *g, const uint32_t *indexes,
                              const uint32_t *slots, uint64_t count,
                              char message[256]) {
    char *buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    struct ref *refs = home != NULL ? g->tables : g->directories;
    nk_status status = NK_OK;
    for (uint64_t i = 0; i < count && status == NK_OK;) {
        uint64_t n = 0;
        for (; n < BATCH_PAGES && i + n < count; n++) {
            void *slot = buffer + n * SLOT_SIZE;
            uint32_t index = indexes[i + n];
            if (slots[i + n] != slots[i] + n) break;
            if (home != NULL) {
                make_table(g, index, home, slot);
            } else {
                make_directory(g, index, slot);
            }
            refs[index] = (struct ref){slots[i + n], 0, sum_of(slot)};
        }
        if (!write_slots(image->fd, buffer, slots[i], n)) {
            status = write_failed(message, home != NULL ? "tables" : "directories");
        }
        i += n;
    }
    free(buffer);
    return status;
}

/* Superblocks newer than base were refused: of events later than the log, a
 * history that was given up, or damaged below. They go before the new one
 * comes, so that no later fall-back finds them. */
static bool is_stray(const struct nk_image *image, unsigned at) {
    return image->ring[at] == RING_GOOD &&
           image->supers[at].generation > image->base.number;
}

static nk_status wipe_strays(struct nk_image *image, char message[256]) {
    bool wiped = false;
    for (unsigned i = 0; i < RING_COUNT; i++) {
        if (!is_stray(image, i)) continue;
        memset(&image->supers[i], 0, sizeof image->supers[i]);
        image->ring[i] = RING_EMPTY;
        wiped = true;
        if (!write_slots(image->fd, &image->supers[i], i, 1)) {
            image->poisoned = true;
            return write_failed(message, "superblock");
        }
    }
    if (wiped && !sync_image(image)) return write_failed(message, "superblock");
    return NK_OK;
}

static nk_status write_super(struct nk_image *image, const struct nk_home *home,
                             const struct generation *next,
                             const struct nk_identity *identity, uint32_t mug,
                             char message[256]) {
    unsigned order[RING_COUNT], count = ring_order(image, order);
    unsigned at = count == RING_COUNT ? order[RING_COUNT - 1] : 0;
    while (count < RING_COUNT && image->ring[at] == RING_GOOD)
        at++;
    struct super *super = &image->supers[at];
    memset(super, 0, sizeof *super);
    memcpy(super->magic, super_magic, sizeof super_magic);
    super->format = NK_IMAGE_FORMAT;
    super->page_size = NK_PAGE_SIZE;
    super->generation = next->number;
    super->event = next->event;
    super->identity = *identity;
    super->mug = mug;
    super->directory_count = (uint32_t)next->directory_count;
    memcpy(super->roots, home->roots, sizeof super->roots);
    super->page_count = next->page_count;
    super->table_count = next->table_count;
    super->slot_count = image->slot_count;
    memcpy(super->directories, next->directories,
           next->directory_count * sizeof(struct ref));
    super->sum = super_sum(super);
    image->ring[at] = RING_BAD;
    if (!write_slots(image->fd, super, at, 1) || !sync_image(image)) {
        image->poisoned = true;
        return write_failed(message, "superblock");
    }
    image->ring[at] = RING_GOOD;
    return NK_OK;
}

/* Everything but the superblock. */
static nk_status write_plan(struct nk_image *image, const struct nk_home *home,
                            struct plan *plan, char message[256]) {
    const uint32_t *slots = plan->slots + plan->page_writes;
    nk_status status = write_pages(image, home, plan, message);
    if (status != NK_OK) return status;
    if (plan->page_writes > 0 && !sync_image(image)) {
        return write_failed(message, "pages");
    }
    status = write_tables(image, home, &plan->next, plan->tables, slots,
                          plan->table_writes, message);
    if (status != NK_OK) return status;
    status = write_tables(image, NULL, &plan->next, plan->directories,
                          slots + plan->table_writes, plan->directory_writes, message);
    if (status != NK_OK) return status;
    if (plan->table_writes + plan->directory_writes > 0 && !sync_image(image)) {
        return write_failed(message, "tables");
    }
    return wipe_strays(image, message);
}

static void mark_used(struct nk_image *image, struct generation *g) {
    bits_size(&g->used, image->slot_count);
    for (uint64_t i = 0; i < g->page_count; i++) {
        if (g->slots[i] != 0) NK_ASSERT(use_slot(g, g->slots[i]));
    }
    for (uint64_t i = 0; i < g->table_count; i++) {
        NK_ASSERT(use_slot(g, g->tables[i].slot));
    }
    for (uint64_t i = 0; i < g->directory_count; i++) {
        NK_ASSERT(use_slot(g, g->directories[i].slot));
    }
}

/* May this image be saved to, and from where home stands? */
static nk_status may_save(struct nk_image *image, const struct nk_home *home,
                          uint64_t event, char message[256]) {
    if (image->read_only || image->poisoned) {
        say(message, image->read_only ? "image: opened for reading only"
                                      : "image: an earlier sync failed");
        return NK_IO;
    }
    if (image->base.number == 0 && !image->blank) {
        say(message, "image: holds something that was not loaded; reset it first");
        return NK_BAD;
    }
    if (event < image->base.event) {
        say(message, "image: event %llu comes before that of the last save, %llu",
            (unsigned long long)event, (unsigned long long)image->base.event);
        return NK_BAD;
    }
    if (home->page_count > PAGES_MAX) {
        say(message, "image: more than %llu pages", (unsigned long long)PAGES_MAX);
        return NK_BAD;
    }
    return nk_image_verify_wait(image, message) == NK_VERIFY_BAD ? NK_BAD : NK_OK;
}

nk_status nk_image_save(struct nk_image *image, struct nk_home *home,
                        const struct nk_identity *identity, uint64_t event,
                        uint32_t mug, struct nk_image_info *info) {
    struct plan plan;
    struct bits taken;
    memset(info, 0, sizeof *info);
    nk_status status = may_save(image, home, event, info->message);
    if (status != NK_OK) return status;
    find_previous(image);
    plan_make(&plan, image, home, event);
    taken = slots_taken(image, home);
    status = allocate(image, &plan, &taken, info->message);
    free(taken.words);
    if (status == NK_OK) status = write_plan(image, home, &plan, info->message);
    if (status == NK_OK) {
        status = write_super(image, home, &plan.next, identity, mug, info->message);
    }
    if (status == NK_OK) {
        uint64_t pages = image->base.page_count > plan.next.page_count
                             ? image->base.page_count
                             : plan.next.page_count;
        generation_free(&image->previous);
        image->previous = image->base;
        image->base = plan.next;
        image->newest = plan.next.number;
        image->blank = false;
        memset(&plan.next, 0, sizeof plan.next);
        mark_used(image, &image->base);
        clear_dirty(home, pages);
        info->good = 1;
        info->generation = image->base.number;
        info->event = event;
        info->mug = mug;
        info->pages = image->base.page_count;
        info->slots = image->slot_count;
        info->identity = *identity;
    }
    plan_free(&plan);
    return status;
}

/* --- Checking ----------------------------------------------------------- */

void nk_image_newest(const struct nk_image *image, struct nk_image_info *newest,
                     uint32_t *superblocks) {
    unsigned order[RING_COUNT], count = ring_order(image, order);
    memset(newest, 0, sizeof *newest);
    newest->slots = image->slot_count;
    if (count != 0) describe(image, &image->supers[order[0]], newest);
    *superblocks = count;
}

nk_status nk_image_check(struct nk_image *image, struct nk_image_info *newest,
                         uint32_t *generations, char message[256]) {
    unsigned order[RING_COUNT], count = ring_order(image, order);
    nk_status status = NK_OK;
    memset(newest, 0, sizeof *newest);
    newest->slots = image->slot_count;
    *generations = 0;
    message[0] = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        struct generation g;
        char fault[256] = "";
        nk_status found = generation_read(image, super, &g, NULL, fault);
        if (found == NK_OK) found = generation_verify(image, &g, fault);
        generation_free(&g);
        if (found == NK_OK) {
            if (!newest->good) describe(image, super, newest);
            *generations += 1;
        } else if (i < 2 && status == NK_OK) {
            memcpy(message, fault, sizeof fault);
            status = NK_BAD;
        }
    }
    for (unsigned i = 0; i < RING_COUNT; i++) {
        if (image->ring[i] != RING_BAD || status != NK_OK) continue;
        say(message, "superblock %u is damaged", i);
        status = NK_BAD;
    }
    return status;
}
