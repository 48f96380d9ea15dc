/* units: serf */
/* Damaged and forged images. A valid image of three generations is changed
 * here and there; then, perhaps, every checksum is made right again, so that
 * what lies behind the checksums is reached. Whatever a load accepts must be
 *   without new checksums: one of the generations that were saved;
 *   else, verified: a home that fits together, on which the serf lives on;
 *   else: metadata that can be saved and loaded again.
 *
 * Input: [flags u8], then a list of edits; see `edit`. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "image_inside.h"
#include "kernel.h"
#include "mug.h"

#include "api.h"

#include "../unit/native/text.h"

#define HOME_BYTES (4ull << 20)
#define NURSERY_BYTES (1ull << 20)
#define GENERATIONS 3u
#define EDITS_MAX 32

/* [effects state] from an event's data, a formula evaluated on the kernel. */
#define POKE "[8 [2 [0 7] 0 55] [0 4] 10 [3 0 5] 0 15]"
#define KERNEL "[[0 0 0 [1 " POKE "] [1 0] 0 1] 0]"
#define JOB(formula) "[1 [%w 0] %t " formula "]"

enum { FIX = 1, VERIFY = 2, OLDER = 4 };

static char path[64];
static uint8_t *original, *bytes; /* of the image, and as it is changed */
static size_t original_size, bytes_size;
static struct {
    uint64_t event;
    struct sum sum; /* of all that home holds */
} saved[GENERATIONS];

/* --- the valid image --------------------------------------------------------- */

static nk_serf *open_serf(void) {
    char message[256];
    nk_serf *serf = nk_serf_new(HOME_BYTES, NURSERY_BYTES, -1, message);
    NK_ASSERT(serf != NULL);
    return serf;
}

/* Metadata, contents and roots; a page that is free has none. */
static struct sum sum_home(const struct nk_home *home) {
    static XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, home->roots, sizeof home->roots);
    XXH3_128bits_update(&state, &home->page_count, sizeof home->page_count);
    for (uint64_t p = 1; p < home->page_count; p++) {
        const struct nk_page *page = &home->pages[p];
        XXH3_128bits_update(&state, &page->class_index, sizeof page->class_index);
        if (page->class_index == NK_CLASS_FREE) continue;
        XXH3_128bits_update(&state, page->bitmap, sizeof page->bitmap);
        XXH3_128bits_update(&state, home->arena->base + p * NK_PAGE_WORDS, SLOT_SIZE);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return (struct sum){hash.low64, hash.high64};
}

/* The jam of a noun written as text, as a record that begins with [numbers]. */
static struct nk_buffer record(const char *text, const uint64_t *numbers,
                               size_t count) {
    struct nk_buffer buffer = {0};
    struct nk_arena arena;
    struct nk_jammer *jammer = nk_jammer_new();
    const uint8_t *jam;
    size_t size;
    NK_ASSERT(jammer != NULL && nk_arena_open(&arena, 0, 1 << 20) == NK_OK);
    NK_ASSERT(nk_jam(jammer, &arena, text_noun(&arena, text), &jam, &size) == NK_OK);
    uint64_t last = size;
    nk_buffer_put(&buffer, numbers, count * sizeof *numbers);
    nk_buffer_put(&buffer, &last, sizeof last);
    nk_buffer_put(&buffer, jam, size);
    nk_jammer_free(jammer);
    nk_arena_close(&arena);
    return buffer;
}

static void work(nk_serf *serf, const char *job) {
    uint64_t before = nk_serf_event(serf);
    struct nk_buffer jobs = record(job, (uint64_t[]){1, 1000}, 2);
    NK_ASSERT(nk_serf_work(serf, jobs.data, jobs.size, 1000000, NULL, NULL) ==
              (int64_t)jobs.size);
    NK_ASSERT(nk_serf_event(serf) == before + 1);
    nk_buffer_free(&jobs);
}

/* Cells, atoms of several classes, one longer than a page, a registered core
 * and a remembered computation. */
static const char *const jobs[] = {
    JOB("[[1 0] 1 [1 2 3 [4 5] 0xffffffffffffffff 7]]"),
    JOB("[[1 0] 11 [%fast 1 [%k 138] [1 0] 0] [1 0 0] 1 138]"),
    JOB("[[1 0] 11 [%memo 1 0 1] 8 [1 1 2 3 4 5 6 7 8 9 10 11 12] [0 2] [0 1] 0 2]"),
};

static void make_jobs(nk_serf *serf, unsigned generation) {
    for (unsigned i = 0; i < sizeof jobs / sizeof *jobs; i++)
        work(serf, jobs[(i + generation) % (sizeof jobs / sizeof *jobs)]);
    /* A long atom: bex by jam of itself is not at hand, so by a literal. */
    struct nk_buffer text = {0};
    const char *before = "[1 [%w 0] %t [1 0] 1 [0 [%", *after = " 1 2 3] 4 5]]";
    nk_buffer_put(&text, before, strlen(before));
    for (unsigned i = 0; i < 24000 + 9000 * generation; i++)
        nk_buffer_put(&text, &"abcdefghijklm"[(i * i) % 13], 1);
    nk_buffer_put(&text, after, strlen(after) + 1);
    work(serf, (const char *)text.data);
    nk_buffer_free(&text);
}

static int save(nk_serf *serf, struct nk_saved *done) {
    int status = nk_serf_save_begin(serf, -1, "", "", 0);
    return status == NK_OK ? nk_serf_save_end(serf, done) : status;
}

static void read_file(void) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    NK_ASSERT(fd >= 0 && fstat(fd, &stat) == 0);
    original_size = (size_t)stat.st_size;
    original = zeroed(original_size, 1);
    bytes = zeroed(original_size, 1);
    NK_ASSERT(read(fd, original, original_size) == (ssize_t)original_size);
    close(fd);
}

static void remove_file(void) {
    unlink(path);
}

static void start(void) {
    static const uint8_t ship[16] = {1}, log[16] = {2};
    struct nk_loaded loaded;
    struct nk_played played;
    struct nk_saved done;
    char message[256];
    snprintf(path, sizeof path, "%s/treadle-fuzz-%d.image",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    atexit(remove_file);
    nk_serf *serf = open_serf();
    NK_ASSERT(nk_serf_image_open(serf, path, message) == NK_OK);
    NK_ASSERT(nk_serf_load(serf, 0, 0, ship, log, &loaded) == NK_OK && !loaded.good);
    struct nk_buffer row = record("[1 0 0 " KERNEL "]", (uint64_t[]){0}, 1);
    NK_ASSERT(nk_serf_play(serf, 1, 1, row.data, row.size, &played) == NK_OK);
    nk_buffer_free(&row);
    for (unsigned i = 0; i < GENERATIONS; i++) {
        make_jobs(serf, i);
        NK_ASSERT(save(serf, &done) == NK_OK);
        saved[i].event = done.event;
        saved[i].sum = sum_home(&serf->machine.home);
    }
    nk_serf_free(serf);
    read_file();
}

/* --- edits ---------------------------------------------------------------------- */

static void *slot_at(uint64_t slot) {
    return slot < bytes_size / SLOT_SIZE ? bytes + slot * SLOT_SIZE : NULL;
}

/* Superblock [i], or the newest. */
static struct super *super_at(uint64_t i) {
    struct super *newest = NULL;
    for (uint64_t at = 0; at < RING_COUNT; at++) {
        struct super *super = slot_at(at);
        if (super == NULL) break;
        if (at == i) return super;
        if (newest == NULL || super->generation > newest->generation) newest = super;
    }
    return newest;
}

/* Slot [index] of those that lie behind the newest superblock, at [depth] 1
 * (directories), 2 (tables) or 3 (pages). */
static void *behind(unsigned depth, uint64_t index) {
    const struct super *super = super_at(RING_COUNT);
    if (super == NULL) return NULL;
    const struct directory *directory = slot_at(super->directories[0].slot);
    if (depth == 1 || directory == NULL) return (void *)directory;
    uint64_t refs = super->table_count < REFS_PER_DIRECTORY ? super->table_count
                                                            : REFS_PER_DIRECTORY;
    if (refs == 0) return NULL;
    const struct table *table =
        slot_at(directory->refs[index / ENTRIES_PER_TABLE % refs].slot);
    if (depth == 2 || table == NULL) return (void *)table;
    return slot_at(table->entries[index % ENTRIES_PER_TABLE].slot);
}

/* Set, add to or flip a number of 1, 2, 4 or 8 bytes at [at] of a slot. */
static void edit_number(uint8_t *slot, uint64_t at, uint64_t how, uint64_t value) {
    uint64_t old = 0, size = 1ull << (how & 3);
    if (slot == NULL || at > SLOT_SIZE - size) return;
    memcpy(&old, slot + at, size);
    if ((how >> 2 & 3) == 1) value += old;
    if ((how >> 2 & 3) == 2) value ^= old;
    memcpy(slot + at, &value, size);
}

static void edit(struct input *input) {
    uint64_t what = input_number(input, 1), how = input_number(input, 1);
    uint64_t index = input_number(input, 1), at = input_number(input, 2) % SLOT_SIZE;
    uint64_t value = input_number(input, (size_t)1 << (how & 3));
    void *to, *from;
    switch (what % 8) {
    case 0: /* a superblock's beginning */
        edit_number((uint8_t *)super_at(index % (RING_COUNT + 1)), at % 256, how,
                    value);
        break;
    case 1:
        edit_number(behind(1, 0), at % 256, how, value);
        break;
    case 2: /* an entry */
        at = sizeof(struct head) + index % ENTRIES_PER_TABLE * sizeof(struct entry) +
             at % sizeof(struct entry);
        edit_number(behind(2, index), at, how, value);
        break;
    case 3:
        edit_number(behind(2, index), at % 64, how, value);
        break;
    case 4: /* a word of a page: often a reference or an atom's head */
        edit_number(behind(3, index), at & ~7ull, how | 3, value);
        break;
    case 5: /* any byte */
        edit_number(slot_at(index), at, how, value);
        break;
    case 6: /* one slot over another */
        to = slot_at(index), from = slot_at(at);
        if (to != NULL && from != NULL) memmove(to, from, SLOT_SIZE);
        break;
    default: /* a shorter file */
        at = index * SLOT_SIZE + at;
        if (at < bytes_size) bytes_size = at;
        break;
    }
}

/* Make every checksum right, from the pages up. */
static void fix_table(struct ref *ref) {
    struct table *table = slot_at(ref->slot);
    if (ref->slot < RING_COUNT || table == NULL) return;
    for (unsigned i = 0; i < ENTRIES_PER_TABLE; i++) {
        struct entry *entry = &table->entries[i];
        const void *page = slot_at(entry->slot);
        if (entry->slot >= RING_COUNT && page != NULL) entry->sum = sum_of(page);
    }
    ref->sum = sum_of(table);
}

static void fix_checksums(void) {
    for (uint64_t i = 0; i < RING_COUNT; i++) {
        struct super *super = slot_at(i);
        if (super == NULL) return;
        if (super->page_size == 0) continue;
        for (unsigned d = 0; d < DIRECTORIES_MAX; d++) {
            struct ref *ref = &super->directories[d];
            struct directory *directory = slot_at(ref->slot);
            if (ref->slot < RING_COUNT || directory == NULL) continue;
            for (unsigned t = 0; t < REFS_PER_DIRECTORY; t++)
                fix_table(&directory->refs[t]);
            ref->sum = sum_of(directory);
        }
        super->sum = super_sum(super);
    }
}

/* --- what a load accepts ---------------------------------------------------------- */

static void write_file(void) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    NK_ASSERT(fd >= 0 && write(fd, bytes, bytes_size) == (ssize_t)bytes_size);
    close(fd);
}

static void check_known(const struct nk_home *home, uint64_t event) {
    struct sum sum = sum_home(home);
    for (unsigned i = 0; i < GENERATIONS; i++) {
        if (saved[i].event == event) NK_ASSERT(sum_equal(saved[i].sum, sum));
    }
}

/* One more event, a formula that makes [effects state]. */
static void go_on(nk_serf *serf, const char *job) {
    struct nk_buffer jobs = record(job, (uint64_t[]){1, 20}, 2);
    NK_ASSERT(nk_serf_work(serf, jobs.data, jobs.size, 1000, NULL, NULL) ==
              (int64_t)jobs.size);
    nk_buffer_free(&jobs);
}

/* The serf lives on: events, upkeep, a save beside an event; which loads. */
static void check_lives(nk_serf *serf) {
    static const uint8_t zero[16];
    const char *wrong = nk_home_check(&serf->machine.home);
    if (wrong != NULL) nk_panic(wrong, __FILE__, __LINE__);
    uint64_t before, after;
    struct nk_saved done;
    struct nk_loaded loaded;
    char message[256];
    go_on(serf, JOB("[[1 0] [0 3] 1 1 2 3 4]"));
    nk_serf_pack(serf, &before, &after);
    (void)nk_serf_kernel(serf);
    uint64_t event = nk_serf_event(serf);
    uint32_t mug = nk_serf_mug(serf);
    if (nk_serf_save_begin(serf, -1, "", "", 0) != NK_OK) return;
    go_on(serf, JOB("[[1 0] [0 3] [0 3] 1 5 6 7]"));
    if (nk_serf_save_end(serf, &done) != NK_OK) return;
    NK_ASSERT(done.event == event && done.mug == mug);
    nk_serf *other = open_serf();
    NK_ASSERT(nk_serf_image_open(other, path, message) == NK_OK);
    NK_ASSERT(nk_serf_load(other, UINT64_MAX, 1, zero, zero, &loaded) == NK_OK);
    NK_ASSERT(loaded.good && loaded.generation == done.generation);
    NK_ASSERT(loaded.event == event && loaded.mug == mug);
    nk_serf_free(other);
}

/* Home alone, where pages were not verified: nobody looks at nouns. */
static void check_metadata(uint64_t event_max) {
    struct nk_arena arena;
    struct nk_home home;
    struct nk_image *image;
    struct nk_image_info info;
    char message[256];
    NK_ASSERT(nk_arena_open(&arena, HOME_BYTES, NURSERY_BYTES) == NK_OK);
    NK_ASSERT(nk_home_open(&home, &arena) == NK_OK);
    if (nk_image_open(path, false, &image, message) == NK_OK) {
        nk_status status = nk_image_load(image, &home, event_max, false, &info);
        if (status == NK_OK && info.good) {
            uint64_t event = info.event;
            struct nk_identity identity = info.identity;
            status = nk_image_save(image, &home, &identity, event, 1, &info);
            NK_ASSERT(status == NK_OK || info.message[0] != 0);
        } else {
            NK_ASSERT(info.message[0] != 0 || image->blank);
        }
        nk_image_close(image);
    } else {
        NK_ASSERT(message[0] != 0);
    }
    nk_home_close(&home);
    nk_arena_close(&arena);
}

static void check_load(uint64_t flags, uint64_t event_max) {
    static const uint8_t zero[16];
    struct nk_loaded loaded;
    char message[256];
    nk_serf *serf = open_serf();
    if (nk_serf_image_open(serf, path, message) == NK_OK) {
        int status = nk_serf_load(serf, event_max, 1, zero, zero, &loaded);
        if (status != NK_OK) {
            NK_ASSERT(loaded.message[0] != 0);
        } else if (loaded.good) {
            NK_ASSERT(loaded.event <= event_max);
            if (!(flags & FIX)) check_known(&serf->machine.home, loaded.event);
            check_lives(serf);
        }
    } else {
        NK_ASSERT(message[0] != 0);
    }
    nk_serf_free(serf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct nk_checked checked;
    if (original == NULL) start();
    memcpy(bytes, original, original_size);
    bytes_size = original_size;
    uint64_t flags = input_number(&input, 1);
    for (int i = 0; i < EDITS_MAX && input.size > 0; i++)
        edit(&input);
    if (flags & FIX) fix_checksums();
    write_file();
    NK_ASSERT(nk_check_image(path, 1, &checked) == NK_OK || checked.message[0] != 0);
    NK_ASSERT(nk_image_facts(path, &checked) == NK_OK || checked.message[0] != 0);
    uint64_t event_max = flags & OLDER ? saved[1].event : UINT64_MAX;
    if (flags & VERIFY) {
        check_load(flags, event_max);
    } else {
        check_metadata(event_max);
    }
    return 0;
}
