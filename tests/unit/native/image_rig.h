/* What tests of the image have in common: a home that is written at random,
 * copies of it to compare with, whole files; and the system calls that write,
 * interposed: they are recorded (so that a crash can be played at each of them,
 * with what was not synced lost, kept or torn), and can be made to fail.
 */
#ifndef IMAGE_RIG_H
#define IMAGE_RIG_H
#include "check.h"
#include "freeze.h"
#include "home_inside.h"
#include "image.h"
#include "mug.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOT ((size_t)NK_PAGE_SIZE)
#ifndef HOME_BYTES /* a soak by hand wants more */
#define HOME_BYTES (16ull << 20)
#endif
#define PAGES 150u

static char folder[64], path[256];
static const struct nk_identity us = {{1}, {2}};
static _Thread_local uint64_t seed = 88172645463325252ull;

static inline uint64_t random_u64(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
static inline uint64_t below(uint64_t limit) {
    return (random_u64() >> 11) % limit;
}

/* --- The interposed calls ------------------------------------------------- */

struct op {
    uint64_t offset;
    uint64_t size;
    uint8_t *bytes; /* NULL: zeros, the file grows */
    bool sync;
};

static struct op *ops;
static size_t op_count, op_room;
static bool recording;
static int fail_write_in = -1, fail_sync_in = -1, fail_grow_in = -1, fail_errno;
/* As fail_write_in, but never a superblock: how many writes come before it
 * depends on the pages, and if it fails all saving has ended. */
static int fail_slot_in = -1;
static int flip_in = -1; /* this write reports success, and wrote something else */
static bool slow;
static unsigned direct_writes, direct_refused; /* past the page cache */

static inline void record(uint64_t offset, const void *bytes, uint64_t size,
                          bool sync) {
    if (!recording) return;
    if (op_count == op_room) {
        op_room = op_room ? op_room * 2 : 64;
        ops = realloc(ops, op_room * sizeof *ops);
        CHECK(ops != NULL);
    }
    struct op *op = &ops[op_count++];
    *op = (struct op){offset, size, NULL, sync};
    if (bytes == NULL) return;
    op->bytes = malloc(size);
    CHECK(op->bytes != NULL);
    memcpy(op->bytes, bytes, size);
}

static inline void forget_ops(void) {
    for (size_t i = 0; i < op_count; i++)
        free(ops[i].bytes);
    op_count = 0;
}

static inline bool fails(int *in) {
    if (*in < 0 || (*in)-- > 0) return false;
    errno = fail_errno;
    return true;
}

#define RING_SIZE (4 * (off_t)NK_PAGE_SIZE)

/* Also short and interrupted at random, as the system is free to be. */
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    if (fails(&fail_write_in)) return -1;
    if (offset >= RING_SIZE && fails(&fail_slot_in)) return -1;
    seed += (uint64_t)offset; /* or each save's thread would see the same */
    if (slow && below(3) == 0) usleep((unsigned)below(300));
    if (below(16) == 0) {
        errno = EINTR;
        return -1;
    }
    if (below(8) == 0 && size > 1) size = 1 + below(size - 1);
    if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0) {
        direct_writes++;
        if (size > 4096 && below(2) == 0) size -= size % 4096;
        if (size % 4096 != 0) { /* as the system has it */
            direct_refused++;
            errno = EINVAL;
            return -1;
        }
    }
    record((uint64_t)offset, bytes, size, false);
    if (fails(&flip_in)) {
        uint8_t first = (uint8_t)(*(const uint8_t *)bytes ^ 1);
        return syscall(SYS_pwrite64, fd, &first, 1, offset);
    }
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

int fdatasync(int fd) {
    if (fails(&fail_sync_in)) return -1;
    record(0, NULL, 0, true);
    (void)fd; /* the tests never lose power: only the recording matters */
    return 0;
}

int posix_fallocate(int fd, off_t offset, off_t size) {
    struct stat stat;
    if (fails(&fail_grow_in)) return fail_errno;
    record((uint64_t)offset, NULL, (uint64_t)size, false);
    CHECK(fstat(fd, &stat) == 0);
    if (stat.st_size >= offset + size) return 0;
    return ftruncate(fd, offset + size) == 0 ? 0 : errno;
}

/* --- A home that is written at random ------------------------------------- */

struct ship {
    struct nk_arena arena;
    struct nk_home home;
};

/* Everything of a home that an image keeps. */
struct copy {
    uint64_t event;
    uint64_t page_count;
    nk_noun roots[NK_ROOT_COUNT];
    struct nk_page *pages;
    uint8_t *bytes;
};

static inline void ship_open(struct ship *ship) {
    CHECK(nk_arena_open(&ship->arena, HOME_BYTES, 4 << 20) == NK_OK);
    CHECK(nk_home_open(&ship->home, &ship->arena) == NK_OK);
}

static inline void ship_close(struct ship *ship) {
    nk_home_close(&ship->home);
    nk_arena_close(&ship->arena);
}

static inline uint8_t *page_bytes(const struct nk_home *home, uint64_t page) {
    return (uint8_t *)(home->arena->base + page * NK_PAGE_WORDS);
}

static inline void mark(uint64_t *bits, uint64_t page) {
    bits[page / 64] |= 1ull << page % 64;
}

/* As promotion does: all frames become our own at the first write. */
static inline void own_frames(struct nk_home *home, uint64_t page) {
    volatile uint8_t *bytes = page_bytes(home, page);
    if (!(home->pages[page].flags & NK_PAGE_MAPPED)) return;
    for (size_t at = 0; at < SLOT; at += 4096)
        bytes[at] = bytes[at];
    home->pages[page].flags = NK_PAGE_TOUCHED;
}

static inline void draw_boxes(struct nk_page *page) {
    uint32_t boxes = NK_PAGE_WORDS / nk_class_words[page->class_index];
    page->free_count = (uint16_t)boxes;
    memset(page->bitmap, 0, sizeof page->bitmap);
    for (uint32_t box = 0; box < boxes; box++) {
        if (below(2) == 0) continue;
        page->bitmap[box / 64] |= 1ull << box % 64;
        page->free_count--;
    }
}

static inline void write_page(struct nk_home *home, uint64_t page) {
    struct nk_page *meta = &home->pages[page];
    bool clean = !(home->dirty[page / 64] >> page % 64 & 1);
    nk_home_page_note(home, page);
    if (clean && home->freeze != NULL) nk_freeze_keep(home->freeze, page);
    own_frames(home, page);
    if (meta->class_index == NK_CLASS_FREE) {
        meta->class_index = (uint8_t)(1 + below(nk_class_count - 1u));
    }
    draw_boxes(meta);
    for (unsigned i = 0; i < 20; i++) {
        page_bytes(home, page)[below(SLOT)] = (uint8_t)random_u64();
    }
    if (clean) home->dirty_count++;
    mark(home->dirty, page);
}

static inline void mutate(struct nk_home *home, unsigned writes) {
    if (home->page_count < 2) home->page_count = 2;
    if (below(3) == 0 && home->page_count < PAGES) {
        home->page_count += 1 + below(PAGES - home->page_count);
    }
    for (unsigned i = 0; i < writes; i++) {
        write_page(home, 1 + below(home->page_count - 1));
    }
    for (unsigned i = 0; i < writes / 3; i++) { /* a collection */
        uint64_t page = 1 + below(home->page_count - 1);
        struct nk_page *meta = &home->pages[page];
        if (meta->class_index == NK_CLASS_FREE) continue;
        nk_home_page_note(home, page);
        if (below(2) == 0) {
            meta->class_index = NK_CLASS_FREE;
            meta->free_count = 0;
            memset(meta->bitmap, 0, sizeof meta->bitmap);
            if (home->dirty[page / 64] >> page % 64 & 1) home->dirty_count--;
            home->dirty[page / 64] &= ~(1ull << page % 64);
        } else {
            draw_boxes(meta);
        }
    }
    for (unsigned i = 0; i < NK_ROOT_COUNT; i++) {
        home->roots[i] = below(2) ? random_u64() >> 1 : NK_NONE;
    }
}

static inline struct copy copy_make(const struct nk_home *home, uint64_t event) {
    struct copy copy = {event, home->page_count, {0}, NULL, NULL};
    memcpy(copy.roots, home->roots, sizeof copy.roots);
    copy.pages = malloc((copy.page_count + 1) * sizeof *copy.pages);
    copy.bytes = malloc((copy.page_count + 1) * SLOT);
    CHECK(copy.pages != NULL && copy.bytes != NULL);
    memcpy(copy.pages, home->pages, copy.page_count * sizeof *copy.pages);
    memcpy(copy.bytes, home->arena->base, copy.page_count * SLOT);
    return copy;
}

static inline void copy_free(struct copy *copy) {
    free(copy->pages);
    free(copy->bytes);
    *copy = (struct copy){0};
}

static inline bool copy_equal(const struct copy *copy, const struct nk_home *home) {
    if (copy->page_count != home->page_count) return false;
    if (memcmp(copy->roots, home->roots, sizeof copy->roots) != 0) return false;
    for (uint64_t p = 0; p < copy->page_count; p++) {
        const struct nk_page *a = &copy->pages[p], *b = &home->pages[p];
        if (a->class_index != b->class_index) return false;
        if (a->class_index == NK_CLASS_FREE) continue;
        if (a->free_count != b->free_count || a->run_pages != b->run_pages)
            return false;
        if (memcmp(a->bitmap, b->bitmap, sizeof a->bitmap) != 0) return false;
        if (memcmp(copy->bytes + p * SLOT, page_bytes(home, p), SLOT) != 0)
            return false;
    }
    return true;
}

/* A newly loaded home has no page that was written to. */
static inline bool is_untouched(const struct nk_home *home) {
    for (uint64_t p = 0; p < home->page_count; p++) {
        if (home->pages[p].flags & (uint8_t)~NK_PAGE_MAPPED) return false;
    }
    return home->dirty_count == 0;
}

static inline void save(struct nk_image *image, struct nk_home *home, uint64_t event) {
    struct nk_image_info info;
    nk_status status =
        nk_image_save(image, home, &us, event, (uint32_t)event ^ 77u, &info);
    if (status != NK_OK) fprintf(stderr, "%s\n", info.message);
    CHECK(status == NK_OK);
    CHECK(info.good && info.event == event && info.message[0] == 0);
    CHECK(home->dirty_count == 0);
}

static inline struct nk_image *open_image(bool read_only) {
    struct nk_image *image;
    char message[256];
    nk_status status = nk_image_open(path, read_only, &image, message);
    if (status != NK_OK) fprintf(stderr, "%s\n", message);
    CHECK(status == NK_OK);
    return image;
}

/* --- Whole files ---------------------------------------------------------- */

struct file {
    uint8_t *bytes;
    size_t size;
};

static inline struct file file_read(void) {
    struct stat stat;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &stat) == 0);
    struct file file = {malloc((size_t)stat.st_size + 1), (size_t)stat.st_size};
    CHECK(file.bytes != NULL);
    CHECK(read(fd, file.bytes, file.size) == stat.st_size);
    close(fd);
    return file;
}

static inline void file_write(const struct file *file) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, file->bytes, file->size) == (ssize_t)file->size);
    close(fd);
}

/* Three generations, the copies of which are returned. */
static inline struct file three_generations(struct copy copies[3]) {
    struct ship ship;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    for (unsigned i = 0; i < 3; i++) {
        if (i == 0) ship.home.page_count = 20;
        for (uint64_t p = 1; i == 0 && p < 20; p++)
            write_page(&ship.home, p);
        mutate(&ship.home, 6);
        save(image, &ship.home, 10 * (i + 1));
        copies[i] = copy_make(&ship.home, 10 * (i + 1));
    }
    nk_image_close(image);
    ship_close(&ship);
    return file_read();
}

static inline void copies_free(struct copy copies[3], struct file *file) {
    for (unsigned i = 0; i < 3; i++)
        copy_free(&copies[i]);
    free(file->bytes);
}

/* A folder of the test's own, where it was started. */
static inline void rig_open(void) {
    snprintf(folder, sizeof folder, "image-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/treadle.image", folder);
}

/* --- Power failures ------------------------------------------------------- */

static inline void play(struct file *file, const struct op *op, uint64_t from,
                        uint64_t to) {
    if (op->offset + op->size > file->size) {
        size_t size = op->offset + op->size;
        file->bytes = realloc(file->bytes, size);
        CHECK(file->bytes != NULL);
        memset(file->bytes + file->size, 0, size - file->size);
        file->size = size;
    }
    if (op->bytes == NULL) return;
    memcpy(file->bytes + op->offset + from, op->bytes + from, to - from);
}

/* The file as a power failure after [count] calls may leave it: what was
 * synced is there; of the rest, each call did, did not or did half happen. */
static inline struct file crashed(const struct file *start, size_t count, bool lossy) {
    struct file file = {malloc(start->size + 1), start->size};
    size_t synced = 0;
    CHECK(file.bytes != NULL);
    memcpy(file.bytes, start->bytes, start->size);
    for (size_t i = 0; i < count; i++) {
        if (ops[i].sync) synced = i;
    }
    for (size_t i = 0; i < count; i++) {
        if (ops[i].sync) continue;
        bool torn = lossy && i >= synced;
        if (!torn || below(3) == 0) {
            play(&file, &ops[i], 0, ops[i].size);
        } else if (below(2) == 0) {
            for (uint64_t at = 0; at < ops[i].size; at += 512) {
                uint64_t end = at + 512 < ops[i].size ? at + 512 : ops[i].size;
                if (below(2) == 0) play(&file, &ops[i], at, end);
            }
        }
    }
    return file;
}

#endif
