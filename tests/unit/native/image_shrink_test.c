/* units: images */

/* An aged image: how long its file is, and in how many pieces a load maps it,
 * after many rounds of random writing, growing and shrinking.
 *
 *     image_shrink_test [ROUNDS [PAGES [SEED]]]
 *
 * prints, by hand: slots a page, mappings, and pages written for each that was
 * dirty, at their worst and at the end.
 */
#include "collect.h"
#include "image_rig.h"

#define PAGES_MOST 900u

static uint64_t file_slots(void) {
    struct stat stat;
    CHECK(lstat(path, &stat) == 0);
    return (uint64_t)stat.st_size / SLOT;
}

/* Mappings of the image that this process has. */
static unsigned mappings(void) {
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        count += strstr(line, path) != NULL;
    fclose(maps);
    return count;
}

static void free_page(struct nk_home *home, uint64_t page) {
    struct nk_page *meta = &home->pages[page];
    if (meta->class_index == NK_CLASS_FREE) return;
    nk_home_page_note(home, page);
    meta->class_index = NK_CLASS_FREE;
    meta->free_count = 0;
    memset(meta->bitmap, 0, sizeof meta->bitmap);
    if (home->dirty[page / 64] >> page % 64 & 1) home->dirty_count--;
    home->dirty[page / 64] &= ~(1ull << page % 64);
}

static void fill(struct nk_home *home, uint64_t from, uint64_t to) {
    if (home->page_count < to) home->page_count = to;
    for (uint64_t page = from; page < to; page++)
        write_page(home, page);
}

static struct nk_image *reopen(struct nk_image *image, struct ship *ship,
                               uint64_t event) {
    struct nk_image_info info;
    struct copy copy = copy_make(&ship->home, event);
    nk_image_close(image);
    ship_close(ship);
    image = open_image(false);
    ship_open(ship);
    CHECK(nk_image_load(image, &ship->home, event, true, &info) == NK_OK);
    CHECK(info.good && info.event == event && info.fell_back == 0);
    CHECK(copy_equal(&copy, &ship->home));
    copy_free(&copy);
    return image;
}

/* When pages go free the file becomes short, though a pin keeps its own slots,
 * and a mapping those that it shows. */
static void test_shrinks(void) {
    struct ship ship;
    char message[256];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    fill(&ship.home, 1, PAGES_MOST);
    save(image, &ship.home, 1);
    uint64_t event = 1, long_file = file_slots();
    CHECK(long_file >= PAGES_MOST);
    fill(&ship.home, 1, PAGES_MOST);
    CHECK(nk_image_pin(image, "full", message) == NK_OK);
    save(image, &ship.home, ++event);
    for (uint64_t page = 30; page < PAGES_MOST; page++)
        free_page(&ship.home, page);
    for (unsigned i = 0; i < 30; i++) {
        fill(&ship.home, 1, 1 + below(29));
        save(image, &ship.home, ++event);
        if (i % 4 == 3) image = reopen(image, &ship, event);
    }
    CHECK(file_slots() >= PAGES_MOST); /* the pin's */
    CHECK(nk_image_unpin(image, "full", message) == NK_OK);
    for (unsigned i = 0; i < 30; i++) {
        fill(&ship.home, 1, 1 + below(29));
        save(image, &ship.home, ++event);
        if (i % 4 == 3) image = reopen(image, &ship, event);
    }
    /* Some 30 pages and their tables, twice; room for a save; no more. */
    CHECK(file_slots() < long_file / 2);
    CHECK(file_slots() < 2 * 256 + 3 * 60 + 100);
    nk_image_close(image);
    ship_close(&ship);
}

/* What a mapping shows is never cut off: its pages are read to the last byte. */
static void test_spares_what_is_shown(void) {
    struct ship ship;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    fill(&ship.home, 1, PAGES_MOST);
    save(image, &ship.home, 1);
    image = reopen(image, &ship, 1);
    for (uint64_t page = 1; page < PAGES_MOST - 20; page++)
        free_page(&ship.home, page);
    for (uint64_t event = 2; event < 12; event++) {
        fill(&ship.home, 1, 4);
        struct copy copy = copy_make(&ship.home, event);
        save(image, &ship.home, event);
        CHECK(copy_equal(&copy, &ship.home));
        copy_free(&copy);
    }
    fill(&ship.home, 1, PAGES_MOST); /* free pages are written, though mapped */
    save(image, &ship.home, 12);
    image = reopen(image, &ship, 12);
    nk_image_close(image);
    ship_close(&ship);
}

struct figures {
    double slots, slots_most;
    unsigned runs, runs_most;
    uint64_t dirty, written;
};

static void soak(unsigned rounds, unsigned pages, struct figures *figures) {
    struct ship ship;
    struct nk_image_info info;
    unlink(path);
    memset(figures, 0, sizeof *figures);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    fill(&ship.home, 1, pages);
    for (unsigned event = 1; event <= rounds; event++) {
        unsigned writes = (unsigned)below(pages / 20 + 2);
        for (unsigned i = 0; i < writes; i++)
            write_page(&ship.home, 1 + below(pages - 1));
        for (unsigned i = 0; i < writes / 2; i++)
            free_page(&ship.home, 1 + below(pages - 1));
        if (below(200) == 0) { /* most of it dies, and comes back little by little */
            for (uint64_t page = pages / 8; page < pages; page++)
                free_page(&ship.home, page);
        }
        uint64_t dirty = ship.home.dirty_count;
        CHECK(nk_image_save(image, &ship.home, &us, event, 0, &info) == NK_OK);
        if (event > 1) {
            figures->dirty += dirty;
            figures->written += info.bytes_written / SLOT;
        }
        if (event % 10 != 0) continue;
        image = reopen(image, &ship, event);
        figures->runs = mappings();
        uint64_t live = 1;
        for (uint64_t page = 1; page < pages; page++)
            live += ship.home.pages[page].class_index != NK_CLASS_FREE;
        figures->slots = (double)file_slots() / (double)live;
        if (figures->runs > figures->runs_most) figures->runs_most = figures->runs;
        if (figures->slots > figures->slots_most) figures->slots_most = figures->slots;
    }
    nk_image_close(image);
    ship_close(&ship);
}

int main(int count, char **words) {
    struct figures figures;
    unsigned rounds = count > 1 ? (unsigned)atoi(words[1]) : 300;
    unsigned pages = count > 2 ? (unsigned)atoi(words[2]) : PAGES_MOST;
    if (count > 3) seed = (uint64_t)atoll(words[3]);
    rig_open();
    if (count == 1) {
        test_shrinks();
        test_spares_what_is_shown();
    }
    soak(rounds, pages, &figures);
    printf("%u saves of %u pages: %.2f slots a page (%.2f at most), %u mappings (%u at "
           "most), %.2f slots written a dirty page\n",
           rounds, pages, figures.slots, figures.slots_most, figures.runs,
           figures.runs_most, (double)figures.written / (double)figures.dirty);
#ifdef NK_TINY
    CHECK(figures.runs_most <= 8 + pages / 3);
#else
    CHECK(figures.runs_most <= 4096);
#endif
    CHECK(figures.slots < 4 + 2 * 256.0 * 8 / pages);
    unlink(path);
    rmdir(folder);
    return 0;
}
