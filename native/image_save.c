/* See image.h. A save works on a plan beside `base` and swaps it in when the
 * superblock is durable; up to there a failure costs nothing but time.
 *
 * Two syncs before the superblock rather than one are the law of the design,
 * not a need: nothing refers to data or tables until the superblock does.
 */
#include <fcntl.h>
#include <sys/uio.h>

#include "image_inside.h"

static void *page_address(const struct nk_home *home, uint64_t page) {
    return home->arena->base + page * NK_PAGE_WORDS;
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

/* --- The plan ----------------------------------------------------------- */

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

/* --- Room --------------------------------------------------------------- */

/* The generation before base, whose slots a save must spare as well; if its
 * tables are bad it is lost anyway. */
static void find_previous(struct nk_image *image) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
    char message[256];
    if (image->has_previous) return;
    image->has_previous = true;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        if (super->generation >= image->base.number) continue;
        if (nk_image_generation_read(image, super, &image->previous, NULL, message) ==
            NK_OK) {
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

/* --- Writing ------------------------------------------------------------ */

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
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
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
