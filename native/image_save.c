/* See image.h. A save works on a plan beside `base` and swaps it in when the
 * superblock is durable; up to there a failure costs nothing but time.
 *
 * The event thread freezes home (freeze.h) and goes on. A thread of the save's
 * own does all the rest: it alone looks at the image until the event thread
 * has seen that it is done.
 *
 * Two syncs before the superblock rather than one are the law of the design,
 * not a need: nothing refers to data or tables until the superblock does.
 */
#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "freeze.h"
#include "image_inside.h"

/* --- The plan ----------------------------------------------------------- */

/* What one save writes: [next] is base as it will be, and the lists say
 * which parts of it are not on disk yet, in logical order. */
struct plan {
    struct generation next;
    struct bits taken; /* slots that must keep their contents */
    uint64_t end;      /* no slot from here on is wanted; see plan_shrink */
    uint64_t *live;    /* bit per page: in use */
    uint32_t *pages;
    uint64_t page_writes;
    struct bits table_bits;
    uint32_t *tables;
    uint64_t table_writes;
    uint32_t *directories;
    uint64_t directory_writes;
    struct pin_directory *pins;
    unsigned pin_writes;
    uint32_t *slots; /* for all of the above, in this order */
};

static void plan_free(struct plan *plan) {
    generation_free(&plan->next);
    free(plan->taken.words);
    free(plan->live);
    free(plan->pages);
    free(plan->table_bits.words);
    free(plan->tables);
    free(plan->directories);
    free(plan->pins);
    free(plan->slots);
}

static void plan_live(struct plan *plan, const struct nk_freeze *freeze) {
    plan->live = zeroed((freeze->page_count + 63) / 64, sizeof *plan->live);
    for (uint64_t page = 0; page < freeze->page_count; page++) {
        struct nk_page meta;
        nk_freeze_meta(freeze, page, &meta);
        if (meta.class_index != NK_CLASS_FREE)
            plan->live[page / 64] |= 1ull << page % 64;
    }
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
static void plan_moves(const struct plan *plan, uint64_t *writes, uint64_t words) {
    uint8_t *runs = zeroed(words, sizeof *runs);
    uint64_t total = 0, left = 64;
    for (uint64_t w = 0; w < words; w++) {
        runs[w] = (uint8_t)runs_among(&plan->next, w, plan->live[w], writes[w]);
        total += runs[w];
        left += (uint64_t)__builtin_popcountll(writes[w]);
    }
    for (unsigned worst = 64; worst > 2 && total > RUNS_GOAL; worst--) {
        for (uint64_t w = 0; w < words && total > RUNS_GOAL; w++) {
            if (runs[w] != worst) continue;
            uint64_t live = plan->live[w];
            uint64_t more = (uint64_t)__builtin_popcountll(live & ~writes[w]);
            if (more > left) continue;
            left -= more;
            writes[w] = live;
            total -= worst - 1;
        }
    }
    free(runs);
}

/* How long a file should be that keeps [used] slots: with room for a save and for
 * extents to be found. Shorter than it is only where much more lies idle. */
static uint64_t good_length(uint64_t used, uint64_t slot_count) {
    uint64_t length = used + used / 4 + GROWTH_SLOTS;
    return slot_count > used + used / 2 + 2 * GROWTH_SLOTS ? length : slot_count;
}

/* Where the file is much longer than what it keeps, slots beyond its good length
 * are left: nothing new goes there, and what lies there is written again in the
 * front, the hindmost first, at most as many slots as the save writes anyway. */
static void plan_shrink(struct plan *plan, const struct nk_image *image,
                        uint64_t *writes, uint64_t words) {
    const struct generation *base = &image->base;
    uint64_t want = 64, left, from = base->used.count;
    for (uint64_t w = 0; w < words; w++)
        want += (uint64_t)__builtin_popcountll(writes[w]);
    plan->end = good_length(bits_total(&plan->taken) + 2 * want, image->slot_count);
    for (left = want; from > plan->end && left > 0; from--)
        left -= bits_test(&base->used, from - 1);
    for (uint64_t page = 0; page < plan->next.page_count; page++) {
        if (plan->next.slots[page] >= from && plan->next.slots[page] > 0)
            writes[page / 64] |= plan->live[page / 64] & 1ull << page % 64;
    }
    for (uint64_t t = 0; t < plan->next.table_count; t++) {
        if (plan->next.tables[t].slot >= from) bits_set(&plan->table_bits, t);
    }
}

/* Which pages are written, which tables have new entries. */
static void plan_pages(struct plan *plan, const struct nk_image *image,
                       const struct nk_freeze *freeze) {
    const struct generation *base = &image->base;
    uint64_t words = (freeze->page_count + 63) / 64, count = 0;
    uint64_t *writes = zeroed(words, sizeof *writes);
    bool changes = freeze->page_count != base->page_count;
    bits_size(&plan->table_bits, plan->next.table_count);
    for (uint64_t w = 0; w < words; w++) {
        uint64_t changed = freeze->dirty[w] | freeze->meta_dirty[w];
        changes = changes || changed != 0;
        for (; changed != 0; changed &= changed - 1) {
            uint64_t bit = (uint64_t)__builtin_ctzll(changed), page = w * 64 + bit;
            if (page >= freeze->page_count) break;
            bits_set(&plan->table_bits, page / ENTRIES_PER_TABLE);
            if (!(plan->live[w] >> bit & 1)) {
                plan->next.slots[page] = 0;
                plan->next.sums[page] = (struct sum){0, 0};
            } else if (freeze->dirty[w] >> bit & 1) {
                writes[w] |= 1ull << bit;
            }
        }
    }
    if (changes) {
        plan_moves(plan, writes, words);
        plan_shrink(plan, image, writes, words);
    }
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
    if (freeze->page_count == base->page_count) return;
    /* The table where the old end or the new one lies, and all beyond. */
    uint64_t end =
        base->page_count < freeze->page_count ? base->page_count : freeze->page_count;
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
                      const struct nk_freeze *freeze, uint64_t event) {
    const struct generation *base = &image->base;
    struct generation *next = &plan->next;
    generation_size(next, freeze->page_count);
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
    plan_live(plan, freeze);
    plan_pages(plan, image, freeze);
    plan_tables(plan, base);
    plan->pins = zeroed(1, sizeof *plan->pins);
    plan->pin_writes = nk_image_pins_plan(image, plan->pins);
}

/* How many slots it writes. */
static uint64_t plan_size(const struct plan *plan) {
    return plan->page_writes + plan->table_writes + plan->directory_writes +
           plan->pin_writes;
}

/* Nothing but the superblock's own words, and pins, will differ. */
static bool is_same(const struct plan *plan, const struct generation *base) {
    return base->number != 0 && plan->table_writes + plan->directory_writes == 0;
}

/* --- Room --------------------------------------------------------------- */

/* The generation before base that is not the same but for its pins: a save must
 * spare its slots as well; if its tables are bad it is lost anyway. */
static void find_previous(struct nk_image *image) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
    char message[256];
    if (image->has_previous) return;
    image->has_previous = true;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        if (super->generation >= image->base.number) continue;
        if (same_tables(&image->base, super)) continue;
        if (nk_image_generation_read(image, super, &image->previous, NULL, message) ==
            NK_OK) {
            return;
        }
    }
}

/* Slots that must keep their contents. */
static struct bits slots_taken(struct nk_image *image, const struct nk_freeze *freeze) {
    struct bits taken = {0};
    uint64_t shown = image->shown_count < freeze->page_count ? image->shown_count
                                                             : freeze->page_count;
    bits_size(&taken, image->slot_count > RING_COUNT ? image->slot_count : RING_COUNT);
    for (unsigned i = 0; i < RING_COUNT; i++)
        bits_set(&taken, i);
    bits_add(&taken, &image->base.used);
    bits_add(&taken, &image->previous.used);
    nk_image_pins_spare(image, &taken);
    for (uint64_t p = 0; p < shown; p++) {
        struct nk_page meta;
        if (image->shown[p] == 0) continue;
        nk_freeze_meta(freeze, p, &meta);
        if (meta.flags & NK_PAGE_MAPPED) {
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
 * a larger file all the same. A file that is to become shorter has room. */
static nk_status allocate(struct nk_image *image, struct plan *plan,
                          char message[256]) {
    struct bits *taken = &plan->taken, front = *taken;
    uint64_t want = plan_size(plan);
    uint64_t holds = plan->next.page_count + plan->next.table_count;
    uint64_t growth = want > GROWTH_SLOTS ? want : GROWTH_SLOTS;
    uint64_t free_slots;
    plan->slots = zeroed(want, sizeof *plan->slots);
    if (image->slot_count < RING_COUNT &&
        !grow_file(image, RING_COUNT - image->slot_count, message)) {
        return NK_IO;
    }
    if (plan->end != 0 && plan->end < front.count) {
        front.count = plan->end;
        if (take_extents(&front, EXTENT_SLOTS_MIN, plan->slots, want) == want ||
            take_extents(&front, 1, plan->slots, want) == want) {
            return NK_OK;
        }
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

/* --- Writing ------------------------------------------------------------ */

static nk_status write_failed(char message[256], const char *what) {
    say(message, "image: cannot write %s: %s", what, strerror(errno));
    return NK_IO;
}

/* A page's contents: as frozen, or, where it is only moved, from its old slot,
 * if they are still what they were. */
static nk_status fetch_page(struct nk_image *image, struct nk_freeze *freeze,
                            struct plan *plan, uint32_t page, void *out,
                            char message[256]) {
    const struct generation *base = &image->base;
    if (freeze->dirty[page / 64] >> page % 64 & 1) {
        nk_freeze_take(freeze, page, out);
        plan->next.sums[page] = sum_of(out);
        return NK_OK;
    }
    if (!read_slots(image->fd, out, base->slots[page], 1)) {
        say(message, "image: page %u in slot %u: %s", page, base->slots[page],
            strerror(errno));
        return NK_IO;
    }
    if (sum_equal(sum_of(out), base->sums[page])) return NK_OK;
    say(message, "image: page %u in slot %u is damaged", page, base->slots[page]);
    return NK_BAD;
}

void nk_image_pace(struct nk_image *image, uint64_t bytes_per_second) {
    if (image->save == NULL) image->pace = bytes_per_second;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* So many pages were written since [began]: wait until the disk has these, and the
 * clock allows more. What others sync is then never behind a heap of ours. */
static void keep_pace(const struct nk_image *image, uint64_t began, uint64_t pages,
                      uint64_t first, uint64_t count) {
    const unsigned wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                          SYNC_FILE_RANGE_WAIT_AFTER;
    if (image->pace == 0) return;
    /* A failure will be the sync's as well. */
    (void)sync_file_range(image->fd, (off_t)(first * SLOT_SIZE),
                          (off_t)(count * SLOT_SIZE), wait);
    double due = (double)(pages * SLOT_SIZE) / (double)image->pace * 1e9;
    while (!atomic_load(&image->stop)) {
        double left = due - (double)(now_ns() - began);
        if (left <= 0) break;
        if (left > 2e7) left = 2e7; /* a close does not wait long */
        struct timespec nap = {0, (long)left};
        (void)nanosleep(&nap, NULL);
    }
}

/* Many neighbours go past the page cache, which would cost more than the disk does:
 * a copy, a page to find for each 4 KiB, and a second core to write them back. The
 * slots are free, so no mapping shows them, and what the cache has of them the
 * system drops. */
static bool write_data(struct nk_image *image, const void *from, uint64_t slot,
                       uint64_t count) {
    if (image->direct >= 0 && count >= DIRECT_PAGES) {
        if (write_slots(image->direct, from, slot, count)) return true;
        if (errno != EINVAL) return false; /* else the filesystem wants it otherwise */
    }
    return write_slots(image->fd, from, slot, count);
}

static nk_status write_pages(struct nk_image *image, struct nk_freeze *freeze,
                             struct plan *plan, char message[256]) {
    void *buffer;
    NK_ASSERT(posix_memalign(&buffer, SLOT_SIZE, BATCH_PAGES * SLOT_SIZE) == 0);
    uint64_t began = now_ns(), most = image->pace ? PACED_PAGES : BATCH_PAGES;
    nk_status status = NK_OK;
    for (uint64_t i = 0; i < plan->page_writes && status == NK_OK;) {
        uint64_t first = plan->slots[i], n = 0;
        for (; n < most && i + n < plan->page_writes; n++) {
            uint32_t page = plan->pages[i + n];
            if (plan->slots[i + n] != first + n) break;
            status = fetch_page(image, freeze, plan, page,
                                (char *)buffer + n * SLOT_SIZE, message);
            if (status != NK_OK) break;
            plan->next.slots[page] = plan->slots[i + n];
        }
        if (status == NK_OK && atomic_load(&image->stop)) {
            say(message, "image: closed in the middle of a save");
            status = NK_IO;
        }
        if (status != NK_OK) break;
        if (!write_data(image, buffer, first, n)) {
            status = write_failed(message, "pages");
        }
        /* What the cache has, to the disk at once: the sync is short then, and
         * others' as well. */
        (void)sync_file_range(image->fd, (off_t)(first * SLOT_SIZE),
                              (off_t)(n * SLOT_SIZE), SYNC_FILE_RANGE_WRITE);
        i += n;
        keep_pace(image, began, i, first, n);
    }
    free(buffer);
    return status;
}

static void make_table(const struct generation *g, uint64_t index,
                       const struct nk_freeze *freeze, struct table *table) {
    uint64_t first = index * ENTRIES_PER_TABLE, count = g->page_count - first;
    if (count > ENTRIES_PER_TABLE) count = ENTRIES_PER_TABLE;
    memset(table, 0, SLOT_SIZE);
    table->head.magic = TABLE_MAGIC;
    table->head.index = (uint32_t)index;
    table->head.generation = g->number;
    for (uint64_t i = 0; i < count; i++) {
        struct nk_page page;
        struct entry *entry = &table->entries[i];
        nk_freeze_meta(freeze, first + i, &page);
        /* A used page without a slot was written behind promotion's back. */
        NK_ASSERT((page.class_index == NK_CLASS_FREE) == (g->slots[first + i] == 0));
        if (page.class_index == NK_CLASS_FREE) continue;
        entry->slot = g->slots[first + i];
        entry->sum = g->sums[first + i];
        entry->class_index = page.class_index;
        entry->flags = page.flags & (uint8_t)~PAGE_FLAGS_LIVE;
        entry->free_count = page.free_count;
        entry->run_pages = page.run_pages;
        memcpy(entry->bitmap, page.bitmap, sizeof entry->bitmap);
    }
}

void nk_image_make_directory(const struct generation *g, uint64_t index,
                             struct directory *directory) {
    uint64_t first = index * REFS_PER_DIRECTORY, count = g->table_count - first;
    if (count > REFS_PER_DIRECTORY) count = REFS_PER_DIRECTORY;
    memset(directory, 0, SLOT_SIZE);
    directory->head.magic = DIRECTORY_MAGIC;
    directory->head.index = (uint32_t)index;
    directory->head.generation = g->number;
    memcpy(directory->refs, g->tables + first, count * sizeof(struct ref));
}

/* Tables (or, where [freeze] is NULL, directories), neighbours at once. */
static nk_status write_tables(struct nk_image *image, const struct nk_freeze *freeze,
                              struct generation *g, const uint32_t *indexes,
                              const uint32_t *slots, uint64_t count,
                              char message[256]) {
    char *buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    struct ref *refs = freeze != NULL ? g->tables : g->directories;
    nk_status status = NK_OK;
    for (uint64_t i = 0; i < count && status == NK_OK;) {
        uint64_t n = 0;
        for (; n < BATCH_PAGES && i + n < count; n++) {
            void *slot = buffer + n * SLOT_SIZE;
            uint32_t index = indexes[i + n];
            if (slots[i + n] != slots[i] + n) break;
            if (freeze != NULL) {
                make_table(g, index, freeze, slot);
            } else {
                nk_image_make_directory(g, index, slot);
            }
            refs[index] = (struct ref){slots[i + n], 0, sum_of(slot)};
        }
        if (!write_slots(image->fd, buffer, slots[i], n)) {
            status = write_failed(message, freeze != NULL ? "tables" : "directories");
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

static void make_super(const struct nk_image *image, const struct nk_freeze *freeze,
                       const struct generation *next,
                       const struct nk_identity *identity, uint32_t mug,
                       struct super *super) {
    memset(super, 0, sizeof *super);
    memcpy(super->magic, super_magic, sizeof super_magic);
    super->format = 1; /* with pins: NK_IMAGE_FORMAT */
    super->page_size = NK_PAGE_SIZE;
    super->generation = next->number;
    super->event = next->event;
    super->identity = *identity;
    super->mug = mug;
    super->directory_count = (uint32_t)next->directory_count;
    memcpy(super->roots, freeze->roots, sizeof super->roots);
    super->page_count = next->page_count;
    super->table_count = next->table_count;
    super->slot_count = image->slot_count;
    memcpy(super->directories, next->directories,
           next->directory_count * sizeof(struct ref));
}

/* Where in the ring: the oldest goes; but of several with the same tables, the
 * newest is enough, so that an older state is not lost to pins that change. */
static unsigned ring_place(const struct nk_image *image,
                           const struct generation *next) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order), at = 0;
    for (unsigned i = count; i-- > 1;) {
        if (same_tables(next, &image->supers[order[i]])) return order[i];
    }
    if (count == RING_COUNT) return order[RING_COUNT - 1];
    while (image->ring[at] == RING_GOOD)
        at++;
    return at;
}

static nk_status write_super(struct nk_image *image, const struct generation *next,
                             struct super *super, char message[256]) {
    unsigned at = ring_place(image, next);
    super->sum = super_sum(super);
    image->supers[at] = *super;
    image->ring[at] = RING_BAD;
    if (!write_slots(image->fd, super, at, 1) || !sync_image(image)) {
        image->poisoned = true;
        return write_failed(message, "superblock");
    }
    image->ring[at] = RING_GOOD;
    return NK_OK;
}

/* Everything but the superblock, which [super] is to become. */
static nk_status write_plan(struct nk_image *image, struct nk_freeze *freeze,
                            struct plan *plan, const struct nk_identity *identity,
                            uint32_t mug, struct super *super, char message[256]) {
    const uint32_t *slots = plan->slots + plan->page_writes;
    nk_status status = write_pages(image, freeze, plan, message);
    if (status != NK_OK) return status;
    if (plan->page_writes > 0 && !sync_image(image)) {
        return write_failed(message, "pages");
    }
    status = write_tables(image, freeze, &plan->next, plan->tables, slots,
                          plan->table_writes, message);
    if (status != NK_OK) return status;
    slots += plan->table_writes;
    status = write_tables(image, NULL, &plan->next, plan->directories, slots,
                          plan->directory_writes, message);
    if (status != NK_OK) return status;
    slots += plan->directory_writes;
    make_super(image, freeze, &plan->next, identity, mug, super);
    status =
        nk_image_pins_write(image, slots, plan->pin_writes, plan->pins, super, message);
    if (status != NK_OK) return status;
    if (plan_size(plan) > plan->page_writes && !sync_image(image)) {
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

/* --- The save ----------------------------------------------------------- */

struct nk_save {
    struct nk_image *image;
    struct nk_freeze *freeze;
    struct nk_identity identity;
    uint64_t event;
    uint32_t mug;
    int wake;
    pthread_t thread;
    bool thread_runs;
    atomic_bool done;
    nk_status status; /* these two: once it is done */
    struct nk_image_info info;
};

/* May this image be saved to, and from where home stands? */
static nk_status may_save(struct nk_image *image, const struct nk_home *home,
                          uint64_t event, char message[256]) {
    if (image->save != NULL) { /* and all below is its thread's */
        say(message, "image: a save is under way");
        return NK_BAD;
    }
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
    return NK_OK;
}

/* The plan is durable: go by it. */
static void adopt(struct nk_image *image, struct plan *plan) {
    if (is_same(plan, &image->base)) {
        generation_free(&image->base);
    } else {
        generation_free(&image->previous);
        image->previous = image->base;
    }
    image->base = plan->next;
    image->newest = plan->next.number;
    image->blank = false;
    memset(&plan->next, 0, sizeof plan->next);
    mark_used(image, &image->base);
}

/* Give back what lies idle at the file's end. The superblocks that may be needed are
 * durable by now; those before them decay, as ever. A mapping of this process
 * holds all behind it: the system takes private copies away with the file's pages
 * that they were made of, written to or not. */
static void shorten(struct nk_image *image, const struct nk_freeze *freeze) {
    struct bits taken = slots_taken(image, freeze);
    uint64_t count = good_length(bits_total(&taken), image->slot_count);
    uint64_t end = image->slot_count;
    if (count < image->mapped_end) count = image->mapped_end;
    while (end > count && !bits_test(&taken, end - 1))
        end--;
    free(taken.words);
    if (end == image->slot_count) return;
    if (ftruncate(image->fd, (off_t)(end * SLOT_SIZE)) != 0) return;
    image->slot_count = end;
    bits_trim(&image->base.used, end);
    bits_trim(&image->previous.used, end);
    nk_image_pins_trim(image, end);
}

static nk_status do_save(struct nk_save *save) {
    struct nk_image *image = save->image;
    struct nk_freeze *freeze = save->freeze;
    struct nk_image_info *info = &save->info;
    struct super super;
    struct plan plan;
    if (nk_image_verify_wait(image, info->message) == NK_VERIFY_BAD) return NK_BAD;
    find_previous(image);
    nk_image_pins_find(image);
    memset(&plan, 0, sizeof plan);
    plan.taken = slots_taken(image, freeze);
    plan_make(&plan, image, freeze, save->event);
    nk_status status = allocate(image, &plan, info->message);
    if (status == NK_OK) {
        status = write_plan(image, freeze, &plan, &save->identity, save->mug, &super,
                            info->message);
    }
    if (status == NK_OK) status = write_super(image, &plan.next, &super, info->message);
    if (status == NK_OK) {
        adopt(image, &plan);
        nk_image_pins_saved(image, plan.pins, &super);
        shorten(image, freeze);
        info->good = 1;
        info->generation = image->base.number;
        info->event = save->event;
        info->mug = save->mug;
        info->pages = image->base.page_count;
        info->slots = image->slot_count;
        info->pages_written = plan.page_writes;
        info->bytes_written = (plan_size(&plan) + 1) * SLOT_SIZE;
        info->identity = save->identity;
    }
    plan_free(&plan);
    return status;
}

static void *save_main(void *context) {
    struct nk_save *save = context;
    uint64_t one = 1;
    int wake = save->wake;
    save->status = do_save(save);
    atomic_store_explicit(&save->done, true, memory_order_release);
    /* Nothing of the save may be touched any more. */
    while (wake >= 0 && write(wake, &one, sizeof one) < 0 && errno == EINTR) {
    }
    return NULL;
}

static bool start_thread(struct nk_save *save) {
    sigset_t all, before;
    /* Signals are for the thread that Python runs its handlers in. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    save->thread_runs = pthread_create(&save->thread, NULL, save_main, save) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return save->thread_runs;
}

/* Pins are asked of one save only. */
static void forget_pins(struct nk_image *image) {
    image->pins.pin[0] = image->pins.unpin[0] = 0;
}

nk_status nk_image_save_begin(struct nk_image *image, struct nk_home *home,
                              const struct nk_identity *identity, uint64_t event,
                              uint32_t mug, int wake, char message[256]) {
    message[0] = 0;
    struct nk_freeze *freeze = NULL;
    nk_status status = may_save(image, home, event, message);
    if (status == NK_OK) {
        /* Without a base all is new, whatever home's bits say. */
        freeze = nk_home_freeze(home, image->base.number == 0);
        if (freeze == NULL) {
            say(message, "image: no address space to freeze home in");
            status = NK_MEME;
        }
    }
    if (status != NK_OK) {
        if (image->save == NULL) forget_pins(image);
        return status;
    }
    struct nk_save *save = zeroed(1, sizeof *save);
    save->image = image;
    save->freeze = freeze;
    save->identity = *identity;
    save->event = event;
    save->mug = mug;
    save->wake = wake;
    atomic_init(&save->done, false);
    image->save = save;
    if (!start_thread(save)) (void)save_main(save);
    return NK_OK;
}

enum nk_saving nk_image_saving(const struct nk_image *image) {
    if (image->save == NULL) return NK_SAVING_NOT;
    return atomic_load_explicit(&image->save->done, memory_order_acquire)
               ? NK_SAVING_DONE
               : NK_SAVING_RUNNING;
}

nk_status nk_image_save_end(struct nk_image *image, struct nk_home *home,
                            struct nk_image_info *info) {
    struct nk_save *save = image->save;
    NK_ASSERT(save != NULL);
    if (save->thread_runs) NK_ASSERT(pthread_join(save->thread, NULL) == 0);
    nk_status status = save->status;
    *info = save->info;
    nk_home_thaw(home, status == NK_OK);
    nk_image_pins_list(image);
    forget_pins(image);
    image->save = NULL;
    free(save);
    return status;
}

void nk_image_save_abandon(struct nk_image *image) {
    struct nk_image_info info;
    if (image->save == NULL) return;
    (void)nk_image_save_end(image, image->save->freeze->home, &info);
}

nk_status nk_image_save(struct nk_image *image, struct nk_home *home,
                        const struct nk_identity *identity, uint64_t event,
                        uint32_t mug, struct nk_image_info *info) {
    memset(info, 0, sizeof *info);
    nk_status status =
        nk_image_save_begin(image, home, identity, event, mug, -1, info->message);
    return status == NK_OK ? nk_image_save_end(image, home, info) : status;
}
