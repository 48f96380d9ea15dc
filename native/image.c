/* See image.h. Open, load, verify, check; image_save.c saves.
 *
 * In memory a generation is two arrays (slot and checksum of each logical
 * page), the references to its table and directory slots, and a bitmap of
 * the slots it uses. `base` is the generation that home descends from,
 * `previous` the one before it: the two that a save must not touch.
 */
#include "image.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image_inside.h"

/* --- Opening ----------------------------------------------------------- */

static bool is_zero(const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (((const uint8_t *)bytes)[i] != 0) return false;
    }
    return true;
}

nk_status nk_image_read_ring(struct nk_image *image, char message[256]) {
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
        if (super->format == 0 || super->format > NK_IMAGE_FORMAT ||
            super->page_size != NK_PAGE_SIZE) {
            say(message,
                "image: superblock %u has format %u with pages of %u bytes; this "
                "build knows formats up to %u with pages of %u",
                i, super->format, super->page_size, NK_IMAGE_FORMAT, NK_PAGE_SIZE);
            return NK_BAD;
        }
        if (super->generation == 0 || super->generation == UINT64_MAX) continue;
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

nk_status nk_image_attach(int fd, bool read_only, struct nk_image **out,
                          char message[256]) {
    struct nk_image *image = zeroed(1, sizeof *image);
    nk_status status = NK_IO;
    struct stat stat;
    message[0] = 0;
    *out = NULL;
    image->read_only = read_only;
    image->fd = fd;
    image->direct = -1;
    atomic_init(&image->verify, NK_VERIFY_GOOD);
    atomic_init(&image->stop, false);
    if (fstat(fd, &stat) != 0) {
        say(message, "image: cannot open: %s", strerror(errno));
    } else if (!S_ISREG(stat.st_mode)) {
        say(message, "image: not a regular file");
        status = NK_BAD;
    } else {
        image->slot_count = (uint64_t)stat.st_size / SLOT_SIZE;
        if (image->slot_count > UINT32_MAX) image->slot_count = UINT32_MAX;
        status = nk_image_read_ring(image, message);
    }
    if (status == NK_OK) {
        *out = image;
    } else {
        close(fd);
        free(image);
    }
    return status;
}

nk_status nk_image_open(const char *path, bool read_only, struct nk_image **out,
                        char message[256]) {
    int flags = read_only ? O_RDONLY : O_RDWR | O_CREAT;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    *out = NULL;
    if (fd < 0) {
        say(message, "image: cannot open: %s", strerror(errno));
        return NK_IO;
    }
    nk_status status = nk_image_attach(fd, read_only, out, message);
    /* Where the filesystem refuses it, all goes through the page cache. */
    if (status == NK_OK && !read_only)
        (*out)->direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
    if (status == NK_OK && !read_only && (*out)->slot_count == 0 &&
        !sync_folder(path)) {
        say(message, "image: cannot sync its folder: %s", strerror(errno));
        nk_image_close(*out);
        *out = NULL;
        status = NK_IO;
    }
    return status;
}

unsigned nk_image_fds(const struct nk_image *image, int fds[2]) {
    fds[0] = image->fd;
    fds[1] = image->direct;
    return image->direct < 0 ? 1 : 2;
}

static void join_verify(struct nk_image *image) {
    if (!image->thread_runs) return;
    NK_ASSERT(pthread_join(image->thread, NULL) == 0);
    image->thread_runs = false;
}

void nk_image_close(struct nk_image *image) {
    if (image == NULL) return;
    atomic_store(&image->stop, true);
    nk_image_save_abandon(image);
    join_verify(image);
    generation_free(&image->base);
    generation_free(&image->previous);
    nk_image_pins_free(&image->pins);
    free(image->shown);
    if (image->direct >= 0) close(image->direct);
    close(image->fd);
    free(image);
}

/* --- Reading a generation ---------------------------------------------- */

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

/* Checksums say that an entry is as it was written, not that we wrote it. What
 * home relies on is looked at: a class, no box beyond the page, and behind the
 * head of a run as many tails as it says ([tails]: of the run so far). */
static bool is_sound(const struct entry *entry, uint64_t page, uint64_t page_count,
                     uint32_t *tails) {
    uint32_t class = entry->class_index;
    bool in_run = *tails > 0;
    if ((entry->slot == 0) != (class == NK_CLASS_FREE)) return false;
    if ((class == NK_CLASS_TAIL) != in_run) return false;
    if (in_run) *tails -= 1;
    if (class == NK_CLASS_FREE || class == NK_CLASS_TAIL) return true;
    if (page == 0) return false;
    if (class == NK_CLASS_LARGE) {
        if (entry->run_pages == 0 || entry->run_pages > page_count - page) return false;
        *tails = entry->run_pages - 1;
        return true;
    }
    if (class >= nk_class_count) return false;
    uint32_t boxes = NK_PAGE_WORDS / nk_class_words[class];
    uint64_t beyond = ~0ull << boxes % 64; /* of the first word, then of all */
    for (uint32_t w = boxes / 64; w < sizeof entry->bitmap / 8; w++, beyond = ~0ull) {
        if (entry->bitmap[w] & beyond) return false;
    }
    return true;
}

static bool take_table(struct generation *g, uint64_t index, const void *slot,
                       struct nk_page *pages) {
    const struct table *table = slot;
    uint64_t first = index * ENTRIES_PER_TABLE, count = g->page_count - first;
    if (count > ENTRIES_PER_TABLE) count = ENTRIES_PER_TABLE;
    for (uint64_t i = 0; i < count; i++) {
        const struct entry *entry = &table->entries[i];
        if (!is_sound(entry, first + i, g->page_count, &g->tails)) return false;
        if (entry->slot != 0 && !use_slot(g, entry->slot)) return false;
        g->slots[first + i] = entry->slot;
        g->sums[first + i] = entry->sum;
        if (pages == NULL) continue;
        struct nk_page *page = &pages[first + i];
        page->class_index = entry->class_index;
        page->flags = 0; /* all of them are of the process that wrote it */
        page->free_count = entry->free_count;
        page->run_pages = entry->run_pages;
        memcpy(page->bitmap, entry->bitmap, sizeof page->bitmap);
    }
    return true;
}

nk_status nk_image_generation_read(struct nk_image *image, const struct super *super,
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

/* --- Comparing pages with their checksums -------------------------------- */

void nk_image_scan_open(struct scan *scan, const struct generation *g) {
    scan->g = g;
    scan->page_of = zeroed(g->used.count, sizeof *scan->page_of);
    scan->buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    scan->slot = RING_COUNT;
    scan->pages = 0;
    for (uint64_t p = 0; p < g->page_count; p++) {
        if (g->slots[p] != 0) scan->page_of[g->slots[p]] = (uint32_t)p + 1;
    }
}

void nk_image_scan_close(struct scan *scan) {
    free(scan->page_of);
    free(scan->buffer);
    memset(scan, 0, sizeof *scan);
}

bool nk_image_scan_ended(struct scan *scan) {
    uint64_t end = scan->g->used.count;
    while (scan->slot < end && scan->page_of[scan->slot] == 0)
        scan->slot++;
    return scan->slot >= end;
}

/* Are these bytes what [page] is to be? */
static nk_status compare_page(const struct generation *g, uint64_t page, uint64_t slot,
                              const void *bytes, char message[256]) {
    if (sum_equal(sum_of(bytes), g->sums[page])) return NK_OK;
    say(message, "generation %llu: page %llu in slot %llu is damaged",
        (unsigned long long)g->number, (unsigned long long)page,
        (unsigned long long)slot);
    return NK_BAD;
}

static nk_status page_unread(const struct generation *g, uint64_t page, uint64_t slot,
                             char message[256]) {
    say(message, "generation %llu: page %llu in slot %llu or after it: %s",
        (unsigned long long)g->number, (unsigned long long)page,
        (unsigned long long)slot, strerror(errno));
    return NK_IO;
}

nk_status nk_image_scan_step(const struct nk_image *image, struct scan *scan,
                             char message[256]) {
    uint64_t slot = scan->slot, n = 0;
    while (n < BATCH_PAGES && slot + n < scan->g->used.count && scan->page_of[slot + n])
        n++;
    if (!read_slots(image->fd, scan->buffer, slot, n))
        return page_unread(scan->g, scan->page_of[slot] - 1, slot, message);
    nk_status status = NK_OK;
    for (uint64_t k = 0; k < n && status == NK_OK; k++) {
        status = compare_page(scan->g, scan->page_of[slot + k] - 1, slot + k,
                              scan->buffer + k * SLOT_SIZE, message);
    }
    if (status != NK_OK) return status;
    scan->slot += n;
    scan->pages += n;
    return NK_OK;
}

/* Read every data page of [g] in the order of the file. */
static nk_status generation_verify(struct nk_image *image, const struct generation *g,
                                   char message[256]) {
    struct scan scan;
    nk_status status = NK_OK;
    nk_image_scan_open(&scan, g);
    while (status == NK_OK && !nk_image_scan_ended(&scan) &&
           !atomic_load_explicit(&image->stop, memory_order_relaxed)) {
        status = nk_image_scan_step(image, &scan, message);
    }
    nk_image_scan_close(&scan);
    return status;
}

/* --- Loading ----------------------------------------------------------- */

unsigned nk_image_ring_order(const struct nk_image *image, unsigned order[RING_COUNT]) {
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
    if (run->slot + run->count > image->mapped_end)
        image->mapped_end = run->slot + run->count;
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
    memset(home->roots, 0xff, sizeof home->roots); /* NK_NONE */
    home->page_count = 1;
    nk_home_adopt(home);
    free(image->shown);
    image->shown = NULL;
    image->shown_count = 0;
    image->mapped_end = 0;
}

void nk_image_describe(const struct nk_image *image, const struct super *super,
                       struct nk_image_info *info) {
    info->good = 1;
    info->generation = super->generation;
    info->event = super->event;
    info->mug = super->mug;
    info->pages = super->page_count;
    info->slots = image->slot_count;
    info->identity = super->identity;
}

/* Does what was loaded fit together? All of it, to the last noun, only where
 * it is to be verified. NULL, or what is wrong. */
static const char *home_fault(struct nk_home *home, bool verify) {
    for (unsigned i = 0; i < NK_ROOT_COUNT; i++) {
        if (!nk_home_holds(home, home->roots[i])) return "a root is no noun";
    }
    return verify ? nk_home_check(home) : NULL;
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
    status = nk_image_generation_read(image, super, &g, home->pages, message);
    if (status == NK_OK && verify) status = generation_verify(image, &g, message);
    if (status == NK_OK) status = fill_home(image, home, &g, message);
    if (status == NK_OK) {
        home->page_count = pages;
        memcpy(home->roots, super->roots, sizeof super->roots);
        nk_home_adopt(home);
        const char *fault = home_fault(home, verify);
        if (fault != NULL) {
            say(message, "generation %llu does not fit together: %s",
                (unsigned long long)super->generation, fault);
            status = NK_BAD;
        }
    }
    if (status != NK_OK) {
        empty_home(image, home, pages);
        generation_free(&g);
        return status;
    }
    image->base = g;
    clear_dirty(home, pages);
    atomic_store(&image->verify, verify ? NK_VERIFY_GOOD : NK_VERIFY_NONE);
    return NK_OK;
}

nk_status nk_image_load(struct nk_image *image, struct nk_home *home,
                        uint64_t event_max, bool verify, struct nk_image_info *info) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
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
            nk_image_describe(image, super, info);
            nk_image_pins_load(image, super, message);
            if (message[0] != 0 && info->message[0] == 0)
                memcpy(info->message, message, sizeof message);
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

/* --- Scrubbing in idle times ---------------------------------------------- */

/* [count] neighbours of [g] from [page] on, from the disk. */
static nk_status scrub_pages(const struct nk_image *image, const struct generation *g,
                             uint64_t page, uint64_t count, char message[256]) {
    uint64_t slot = g->slots[page];
    char *buffer = zeroed(count, SLOT_SIZE);
    nk_status status = NK_OK;
    /* Else the system's copy would be compared; what is mapped and was touched
     * stays in memory all the same. */
    (void)posix_fadvise(image->fd, (off_t)(slot * SLOT_SIZE),
                        (off_t)(count * SLOT_SIZE), POSIX_FADV_DONTNEED);
    if (!read_slots(image->fd, buffer, slot, count))
        status = page_unread(g, page, slot, message);
    for (uint64_t k = 0; k < count && status == NK_OK; k++) {
        status = compare_page(g, page + k, slot + k, buffer + k * SLOT_SIZE, message);
    }
    free(buffer);
    return status;
}

nk_status nk_image_scrub(struct nk_image *image, struct nk_scrub *scrub,
                         char message[256]) {
    const struct generation *g = &image->base;
    enum nk_verify verify = nk_image_verify_status(image, message);
    uint64_t page, count = 0;
    nk_status status = NK_OK;
    *scrub = (struct nk_scrub){0, 0, 0, image->scrub_passes};
    if (verify == NK_VERIFY_BAD) return NK_BAD;
    if (verify != NK_VERIFY_GOOD || image->save != NULL) return NK_OK;
    uint64_t end = g->page_count; /* during a save it is not ours */
    if (end == 0) return NK_OK;
    uint64_t begin = image->scrub_page < end ? image->scrub_page : 0;
    for (page = begin; page < end && g->slots[page] == 0;)
        page++;
    while (count < SCRUB_PAGES && page + count < end &&
           g->slots[page + count] == g->slots[page] + count)
        count++;
    if (count != 0) status = scrub_pages(image, g, page, count, message);
    if (status != NK_OK) {
        memcpy(image->verdict, message, sizeof image->verdict);
        atomic_store(&image->verify, NK_VERIFY_BAD);
        return NK_BAD;
    }
    image->scrub_page = page + count;
    if (image->scrub_page == end) {
        image->scrub_page = 0;
        image->scrub_passes++;
    }
    *scrub = (struct nk_scrub){page + count - begin, image->scrub_page, end,
                               image->scrub_passes};
    return NK_OK;
}

/* --- Checking ----------------------------------------------------------- */

void nk_image_newest(const struct nk_image *image, struct nk_image_info *newest,
                     uint32_t *superblocks) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order);
    memset(newest, 0, sizeof *newest);
    newest->slots = image->slot_count;
    if (count != 0) nk_image_describe(image, &image->supers[order[0]], newest);
    *superblocks = count;
}

/* All of one generation, whose superblock is given. */
static nk_status check_generation(struct nk_image *image, const struct super *super,
                                  char message[256]) {
    struct generation g;
    nk_status status = nk_image_generation_read(image, super, &g, NULL, message);
    if (status == NK_OK) status = generation_verify(image, &g, message);
    generation_free(&g);
    return status;
}

/* Those of the newest superblock. How many are whole; NK_BAD if not all. */
static nk_status check_pins(struct nk_image *image, const struct super *newest,
                            uint32_t *whole, char message[256]) {
    struct pin_directory directory;
    nk_status status = nk_image_pins_read(image, newest, &directory, message);
    for (unsigned i = 0; i < directory.head.index; i++) {
        struct super super;
        char fault[256], why[200];
        nk_status found = nk_image_pin_super(image, &directory.pins[i], &super, fault);
        if (found == NK_OK) found = check_generation(image, &super, fault);
        if (found == NK_OK) {
            *whole += 1;
        } else if (status == NK_OK) {
            memcpy(why, fault, sizeof why - 1);
            why[sizeof why - 1] = 0;
            say(message, "pin %s: %s", directory.pins[i].name, why);
            status = NK_BAD;
        }
    }
    return status;
}

nk_status nk_image_check(struct nk_image *image, struct nk_image_info *newest,
                         uint32_t *generations, char message[256]) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order), kept = 0;
    nk_status status = NK_OK;
    memset(newest, 0, sizeof *newest);
    newest->slots = image->slot_count;
    *generations = 0;
    message[0] = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct super *super = &image->supers[order[i]];
        const struct super *newer = &image->supers[order[i > 0 ? i - 1 : 0]];
        char fault[256] = "";
        /* The same but for its pins: it stands and falls with the newer one. */
        if (i > 0 && super->page_count == newer->page_count &&
            memcmp(super->directories, newer->directories, sizeof super->directories) ==
                0) {
            continue;
        }
        nk_status found = check_generation(image, super, fault);
        if (found == NK_OK) {
            if (!newest->good) nk_image_describe(image, super, newest);
            *generations += 1;
        } else if (kept < 2 && status == NK_OK) {
            memcpy(message, fault, sizeof fault);
            status = NK_BAD;
        }
        kept++;
    }
    for (unsigned i = 0; i < RING_COUNT; i++) {
        if (image->ring[i] != RING_BAD || status != NK_OK) continue;
        say(message, "superblock %u is damaged", i);
        status = NK_BAD;
    }
    if (count > 0) {
        char fault[256];
        nk_status found =
            check_pins(image, &image->supers[order[0]], generations, fault);
        if (found != NK_OK && status == NK_OK) {
            memcpy(message, fault, sizeof fault);
            status = found;
        }
    }
    return status;
}

/* Load it into a home of its own, every page compared and every noun looked at. */
static nk_status check_nouns_of(struct nk_image *image, const struct super *super,
                                char message[256]) {
    struct nk_arena arena;
    struct nk_home home;
    uint64_t pages = super->page_count < PAGES_MAX ? super->page_count : PAGES_MAX;
    message[0] = 0;
    nk_status status = nk_arena_open(&arena, (pages + 64) * NK_PAGE_SIZE, 4u << 20);
    if (status != NK_OK) {
        say(message, "generation %llu: no address space to look at it in",
            (unsigned long long)super->generation);
        return status;
    }
    status = nk_home_open(&home, &arena);
    if (status == NK_OK) {
        status = try_load(image, &home, super, true, message);
        nk_home_close(&home);
    }
    nk_arena_close(&arena);
    generation_free(&image->base);
    free(image->shown);
    image->shown = NULL;
    image->shown_count = 0;
    return status;
}

nk_status nk_image_check_nouns(struct nk_image *image, char message[256]) {
    unsigned order[RING_COUNT], count = nk_image_ring_order(image, order), kept = 0;
    struct pin_directory pins;
    nk_status status = NK_OK;
    NK_ASSERT(image->base.number == 0);
    message[0] = 0;
    for (unsigned i = 0; i < count && kept < 2 && status == NK_OK; i++) {
        const struct super *super = &image->supers[order[i]];
        const struct super *newer = &image->supers[order[i > 0 ? i - 1 : 0]];
        if (i > 0 && memcmp(super->directories, newer->directories,
                            sizeof super->directories) == 0) {
            continue; /* the same state */
        }
        kept++;
        status = check_nouns_of(image, super, message);
    }
    if (count == 0 || status != NK_OK) return status;
    status = nk_image_pins_read(image, &image->supers[order[0]], &pins, message);
    for (unsigned i = 0; i < pins.head.index && status == NK_OK; i++) {
        struct super super;
        status = nk_image_pin_super(image, &pins.pins[i], &super, message);
        if (status == NK_OK) status = check_nouns_of(image, &super, message);
    }
    return status;
}
