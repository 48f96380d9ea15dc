/* units: images */

/* The image against a model: every save is remembered byte for byte, and
 * whatever a load answers must be one of the generations remembered.
 */
#include "collect.h"
#include "image_rig.h"

#include <time.h>

#ifndef __SANITIZE_THREAD__
#define EVENTS 200u
#define SINGLE true /* and what has one thread at a time */
#else               /* which makes all of this many times slower */
#define EVENTS 60u
#define SINGLE false
#endif

/* --- The tests ------------------------------------------------------------ */

/* Older generations decay, as their slots are used again: an old one is whole
 * or refused, though no one asks for verification. */
static unsigned check_older(const struct copy kept[4]) {
    unsigned found = 0;
    for (unsigned i = 0; i < 4; i++) {
        struct nk_image_info info;
        struct ship ship;
        if (kept[i].event == 0) continue;
        struct nk_image *image = open_image(true);
        ship_open(&ship);
        CHECK(nk_image_load(image, &ship.home, kept[i].event, false, &info) == NK_OK);
        for (unsigned k = 0; info.good && k < 4; k++) {
            if (kept[k].event != info.event) continue;
            CHECK(copy_equal(&kept[k], &ship.home));
            found++;
        }
        nk_image_close(image);
        ship_close(&ship);
    }
    return found;
}

/* Many generations, with reloads; a mapped home never changes by a save. */
static void test_generations(void) {
    struct ship ship;
    struct nk_image_info info;
    char message[256];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 0, false, &info) == NK_OK);
    CHECK(!info.good && info.message[0] == 0);
    size_t size_max = 0;
    struct copy kept[4] = {{0}};
    unsigned older = 0;
    for (uint64_t event = 1; event <= EVENTS; event++) {
        mutate(&ship.home, (unsigned)below(below(8) == 0 ? 200 : 12));
        struct copy copy = copy_make(&ship.home, event);
        save(image, &ship.home, event);
        CHECK(copy_equal(&copy, &ship.home));
        if (below(4) == 0) {
            nk_image_close(image);
            CHECK(copy_equal(&copy, &ship.home)); /* mapped, though closed */
            ship_close(&ship);
            image = open_image(false);
            ship_open(&ship);
            CHECK(nk_image_load(image, &ship.home, event + below(2) * 5, below(2) == 0,
                                &info) == NK_OK);
            CHECK(info.good && info.event == event && info.fell_back == 0);
            CHECK(info.message[0] == 0 && info.mug == ((uint32_t)event ^ 77u));
            CHECK(memcmp(&info.identity, &us, sizeof us) == 0);
            CHECK(copy_equal(&copy, &ship.home) && is_untouched(&ship.home));
            if (below(2) == 0) {
                CHECK(nk_image_verify_start(image, message) == NK_OK);
                if (below(2) == 0) {
                    CHECK(nk_image_verify_wait(image, message) == NK_VERIFY_GOOD);
                }
            }
        }
        copy_free(&kept[event % 4]);
        kept[event % 4] = copy;
        if (event % 5 == 0) older += check_older(kept);
        struct stat stat;
        CHECK(lstat(path, &stat) == 0);
        if ((size_t)stat.st_size > size_max) size_max = (size_t)stat.st_size;
        if (event % 20 == 0) {
            uint32_t generations;
            struct nk_image *other = open_image(true);
            CHECK(nk_image_check(other, &info, &generations, message) == NK_OK);
            CHECK(info.event == event && generations >= 2 && message[0] == 0);
            nk_image_close(other);
        }
    }
    /* Two generations and what a mapping shows, not all that ever was. */
    CHECK(size_max < 4 * PAGES * SLOT + (4u << 20));
    CHECK(older >= EVENTS * 3 / 10 && older < EVENTS * 8 / 10);
    for (unsigned i = 0; i < 4; i++)
        copy_free(&kept[i]);
    nk_image_close(image);
    ship_close(&ship);
}

/* A slot that is flipped is found wherever it is, and costs one generation. */
static void test_corruption(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    unsigned fell_back = 0, shared = 0, tables = 0, directories = 0, supers = 0,
             pages = 0;
    for (size_t slot = 0; slot < file.size / SLOT; slot++) {
        struct nk_image_info info, newest;
        struct ship ship;
        char message[256], later[256];
        uint32_t generations;
        size_t at = slot * SLOT + below(slot % 2 ? 96 : SLOT);
        file.bytes[at] ^= 0x10;
        file_write(&file);
        struct nk_image *image = open_image(false);
        ship_open(&ship);
        nk_status checked = nk_image_check(image, &newest, &generations, message);
        CHECK((checked == NK_OK) == (message[0] == 0));
        if (strstr(message, "table")) tables++;
        if (strstr(message, "directory")) directories++;
        if (strstr(message, "superblock")) supers++;
        if (strstr(message, ": page")) pages++;
        CHECK(nk_image_load(image, &ship.home, 100, true, &info) == NK_OK);
        if (info.good) {
            CHECK(copy_equal(&copies[info.event / 10 - 1], &ship.home));
        } else {
            CHECK(ship.home.page_count <= 1);
            shared++; /* a page that all three have in common */
        }
        if (!info.good || info.event != 30) {
            CHECK(checked == NK_BAD && info.message[0] != 0);
            fell_back++;
        }
        nk_image_close(image);
        ship_close(&ship);
        /* The same, noticed only behind the running serf. */
        image = open_image(false);
        ship_open(&ship);
        CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
        CHECK(nk_image_verify_start(image, later) == NK_OK);
        enum nk_verify verdict = nk_image_verify_wait(image, later);
        if (strstr(message, ": page") && strstr(message, "generation 3")) {
            CHECK(info.event == 30 && verdict == NK_VERIFY_BAD);
            CHECK(strcmp(message, later) == 0);
            CHECK(nk_image_save(image, &ship.home, &us, 31, 0, &info) == NK_BAD);
            CHECK(strcmp(message, info.message) == 0);
        } else {
            CHECK(verdict == NK_VERIFY_GOOD);
            if (info.good) save(image, &ship.home, 31);
        }
        nk_image_close(image);
        ship_close(&ship);
        file.bytes[at] ^= 0x10;
    }
    CHECK(supers == 3 + 1); /* three in use, and one that should be zero */
    CHECK(tables >= 2 && directories >= 2 && pages > 15 && fell_back > 20);
#ifndef NK_TINY /* where saves move almost everything */
    CHECK(shared > 0);
#endif
    copies_free(copies, &file);
}

/* Cut anywhere: an older state or none, never a fault; and what cannot be
 * used is not overwritten before someone says so. */
static void test_truncation(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    size_t whole = file.size;
    unsigned none = 0, older = 0, newest = 0;
    size_t step = SLOT;
    for (size_t size = 0; size <= whole; size += step) {
        step = size + SLOT > whole || below(2) ? SLOT : SLOT / 2;
        if (size + step > whole && size < whole) step = whole - size;
        struct nk_image_info info;
        struct ship ship;
        char message[256];
        file.size = size;
        file_write(&file);
        struct nk_image *image = open_image(false);
        ship_open(&ship);
        CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
        if (info.good) {
            CHECK(copy_equal(&copies[info.event / 10 - 1], &ship.home));
            *(info.event == 30 ? &newest : &older) += 1;
        } else {
            none++;
            CHECK((info.message[0] == 0) == (size == 0));
            mutate(&ship.home, 5);
            if (size != 0) {
                CHECK(nk_image_save(image, &ship.home, &us, 31, 0, &info) == NK_BAD);
                struct file after = file_read();
                CHECK(after.size == size);
                CHECK(memcmp(after.bytes, file.bytes, size) == 0);
                free(after.bytes);
                CHECK(nk_image_reset(image, message) == NK_OK);
            }
        }
        mutate(&ship.home, 5);
        save(image, &ship.home, 31);
        struct copy copy = copy_make(&ship.home, 31);
        nk_image_close(image);
        ship_close(&ship);
        image = open_image(true);
        ship_open(&ship);
        CHECK(nk_image_load(image, &ship.home, 31, true, &info) == NK_OK);
        CHECK(info.good && copy_equal(&copy, &ship.home));
        copy_free(&copy);
        nk_image_close(image);
        ship_close(&ship);
    }
    CHECK(none > 4 && newest > 0);
    CHECK(older > 0);
    copies_free(copies, &file);
}

static void test_foreign(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_image *image;
    char message[256];
    uint32_t format = NK_IMAGE_FORMAT + 1;
    memcpy(file.bytes + SLOT + 8, &format, 4);
    memset(file.bytes + SLOT + 16, 0, 16);
    XXH128_hash_t sum = XXH3_128bits(file.bytes + SLOT, SLOT);
    memcpy(file.bytes + SLOT + 16, &sum.low64, 8);
    memcpy(file.bytes + SLOT + 24, &sum.high64, 8);
    file_write(&file);
    CHECK(nk_image_open(path, false, &image, message) == NK_BAD);
    CHECK(image == NULL && strstr(message, "format 3") != NULL);
    struct file after = file_read();
    CHECK(after.size == file.size);
    CHECK(memcmp(after.bytes, file.bytes, file.size) == 0);
    free(after.bytes);
    /* Not an image at all: nothing usable, and no save without a reset. */
    for (size_t i = 0; i < file.size; i++)
        file.bytes[i] = (uint8_t)random_u64();
    file_write(&file);
    struct ship ship;
    struct nk_image_info info;
    image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
    CHECK(!info.good && info.message[0] != 0);
    CHECK(nk_image_save(image, &ship.home, &us, 1, 0, &info) == NK_BAD);
    nk_image_close(image);
    /* Names that are no regular file of ours. */
    char link[192];
    snprintf(link, sizeof link, "%s/link", folder);
    CHECK(symlink(path, link) == 0);
    CHECK(nk_image_open(link, false, &image, message) == NK_IO && message[0] != 0);
    CHECK(unlink(link) == 0);
    CHECK(nk_image_open(link, true, &image, message) == NK_IO && message[0] != 0);
    CHECK(nk_image_open(folder, true, &image, message) == NK_BAD && message[0] != 0);
    ship_close(&ship);
    copies_free(copies, &file);
}

/* A generation later than the log is refused, and gone after the next save:
 * it belongs to a history that did not happen. */
static void test_event_max(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_image_info info;
    struct ship ship;
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 9, false, &info) == NK_OK);
    CHECK(!info.good && info.fell_back == 3 && info.message[0] != 0);
    CHECK(ship.home.page_count <= 1 && ship.home.dirty_count == 0);
    CHECK(nk_image_load(image, &ship.home, 25, false, &info) == NK_OK);
    CHECK(info.good && info.event == 20 && info.fell_back == 1);
    CHECK(strstr(info.message, "event 30") != NULL);
    CHECK(copy_equal(&copies[1], &ship.home));
    mutate(&ship.home, 3);
    CHECK(nk_image_save(image, &ship.home, &us, 19, 0, &info) == NK_BAD);
    save(image, &ship.home, 27);
    nk_image_close(image);
    ship_close(&ship);
    struct file after = file_read();
    for (size_t slot = 0; slot < 4; slot++) {
        uint64_t event;
        memcpy(&event, after.bytes + slot * SLOT + 40, 8);
        CHECK(event != 30);
        if (event == 27) after.bytes[slot * SLOT + 40] ^= 1;
    }
    file_write(&after);
    free(after.bytes);
    image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
    CHECK(info.good && info.event == 20 && info.message[0] != 0);
    CHECK(copy_equal(&copies[1], &ship.home));
    nk_image_close(image);
    ship_close(&ship);
    copies_free(copies, &file);
}

/* A full disk costs nothing; a failed sync ends saving. */
static void test_failures(void) {
    struct ship ship;
    struct nk_image_info info;
    unlink(path);
    ship_open(&ship);
    struct nk_image *image = open_image(false);
    mutate(&ship.home, 40);
    save(image, &ship.home, 1);
    unsigned failed = 0;
    for (unsigned i = 0; i < 60; i++) {
        struct copy before = copy_make(&ship.home, i + 1u);
        mutate(&ship.home, 30);
        uint64_t count = ship.home.dirty_count;
        fail_errno = ENOSPC;
        if (i % 2)
            fail_grow_in = 0;
        else
            fail_slot_in = (int)below(3);
        nk_status status = nk_image_save(image, &ship.home, &us, i + 2u, 0, &info);
        fail_grow_in = fail_slot_in = -1;
        if (status != NK_OK) {
            CHECK(status == NK_IO && strstr(info.message, "No space") != NULL);
            CHECK(ship.home.dirty_count == count);
            CHECK(strstr(info.message, "superblock") == NULL);
            failed++;
            struct ship other;
            struct nk_image *reader = open_image(true);
            ship_open(&other);
            CHECK(nk_image_load(reader, &other.home, 100, true, &info) == NK_OK);
            CHECK(info.good && info.event == i + 1 && info.fell_back == 0);
            CHECK(copy_equal(&before, &other.home));
            nk_image_close(reader);
            ship_close(&other);
        }
        copy_free(&before);
        save(image, &ship.home, i + 2u);
    }
    CHECK(failed > 10);
    mutate(&ship.home, 30);
    fail_errno = EIO;
    fail_sync_in = (int)below(3);
    CHECK(nk_image_save(image, &ship.home, &us, 90, 0, &info) == NK_IO);
    fail_sync_in = -1;
    CHECK(nk_image_save(image, &ship.home, &us, 90, 0, &info) == NK_IO);
    CHECK(strstr(info.message, "earlier sync") != NULL);
    nk_image_close(image);
    image = open_image(true);
    CHECK(nk_image_save(image, &ship.home, &us, 90, 0, &info) == NK_IO);
    nk_image_close(image);
    ship_close(&ship);
}

/* Good checksums over a page that holds no nouns: only a deep look finds it. */
static void test_no_nouns(void) {
    struct ship ship;
    struct nk_image_info info;
    char message[256];
    uint32_t generations;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    ship.home.page_count = 2;
    write_page(&ship.home, 1);
    struct nk_page *page = &ship.home.pages[1];
    memset(page->bitmap, 0, sizeof page->bitmap);
    page->class_index = NK_CLASS_CELL;
    page->bitmap[0] = 1;
    ship.home.roots[NK_ROOT_KERNEL] = 3ull << 62 | NK_PAGE_WORDS; /* its first box */
    save(image, &ship.home, 1);
    nk_image_close(image);
    ship_close(&ship);
    image = open_image(true);
    CHECK(nk_image_check(image, &info, &generations, message) == NK_OK);
    CHECK(nk_image_check_nouns(image, message) == NK_BAD);
    CHECK(strstr(message, "generation 1 does not fit together") != NULL);
    nk_image_close(image);
}

/* Is a page of this class, in which this box is allocated, loaded? */
static bool is_loaded(uint8_t class, uint32_t box) {
    struct ship ship;
    struct nk_image_info info;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    ship.home.page_count = 2;
    write_page(&ship.home, 1);
    struct nk_page *page = &ship.home.pages[1];
    memset(page->bitmap, 0, sizeof page->bitmap);
    page->class_index = class;
    page->bitmap[box / 64] = 1ull << box % 64;
    save(image, &ship.home, 1);
    nk_image_close(image);
    ship_close(&ship);
    image = open_image(true);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 1000, true, &info) == NK_OK);
    nk_image_close(image);
    ship_close(&ship);
    return info.good;
}

/* Good checksums over a box that lies beyond its page. */
static void test_boxes(void) {
    for (uint8_t class = 1; class < nk_class_count; class++) {
        uint32_t boxes = NK_PAGE_WORDS / nk_class_words[class];
        CHECK(is_loaded(class, boxes - 1));
        if (boxes == NK_PAGE_BOXES_MAX) continue;
        CHECK(!is_loaded(class, boxes));
        CHECK(!is_loaded(class, NK_PAGE_BOXES_MAX - 1));
    }
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A save that is to go easy on the disk takes its time; a close does not wait. */
static void test_pace(void) {
    struct ship ship;
    char message[256];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    ship.home.page_count = 129;
    for (uint64_t page = 1; page < 129; page++)
        write_page(&ship.home, page);
    nk_image_pace(image, 8 << 20);
    double began = now_s();
    save(image, &ship.home, 1); /* 2 MiB */
    CHECK(now_s() - began >= 0.25);
    nk_image_pace(image, 1000);
    for (uint64_t page = 1; page < 129; page++)
        write_page(&ship.home, page);
    CHECK(nk_image_save_begin(image, &ship.home, &us, 2, 7, -1, message) == NK_OK);
    usleep(100000);
    CHECK(nk_image_saving(image) == NK_SAVING_RUNNING);
    began = now_s();
    nk_image_close(image);
    CHECK(now_s() - began < 5);
    ship_close(&ship);
}

/* What is written past the page cache is read through it by whoever comes next; and
 * home, which maps slots and has frames of its own in others, keeps what it has when
 * their neighbours, and later they, are written. */
static void test_direct(void) {
    struct ship ship, other;
    struct nk_image_info info;
    int fds[2];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    ship.home.page_count = 129;
    for (uint64_t page = 1; page < 129; page++)
        write_page(&ship.home, page);
    save(image, &ship.home, 1);
    nk_image_close(image);
    ship_close(&ship);
    image = open_image(false);
    bool direct = nk_image_fds(image, fds) == 2;
    unsigned before = direct_writes - direct_refused;
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 1000, true, &info) == NK_OK && info.good);
    for (uint64_t event = 2; event < 12; event++) {
        for (uint64_t page = 1; page < 129; page++) {
            if ((page / 32 + event) % 2) write_page(&ship.home, page);
        }
        struct copy copy = copy_make(&ship.home, event);
        save(image, &ship.home, event);
        CHECK(copy_equal(&copy, &ship.home));
        struct nk_image *reader = open_image(true);
        ship_open(&other);
        CHECK(nk_image_load(reader, &other.home, 1000, true, &info) == NK_OK);
        CHECK(info.good && info.event == event && info.fell_back == 0);
        CHECK(copy_equal(&copy, &other.home));
        nk_image_close(reader);
        ship_close(&other);
        copy_free(&copy);
    }
    CHECK(!direct || direct_writes - direct_refused > before);
    nk_image_close(image);
    ship_close(&ship);
}

/* Saves beside a home that goes on changing: what is on disk is home as it
 * was when the save began; and what a failed one has not saved, the next will. */
static void test_beside(void) {
    struct ship ship, other;
    struct nk_image_info info;
    char message[256];
    uint64_t aside = 0;
    unsigned overtaken = 0, failed = 0;
    unlink(path);
    ship_open(&ship);
    struct nk_image *image = open_image(false);
    slow = true;
    for (uint64_t event = 1; event <= EVENTS; event++) {
        mutate(&ship.home, (unsigned)below(60));
        struct copy copy = copy_make(&ship.home, event);
        bool fail = event > 1 && below(8) == 0;
        if (fail) {
            fail_errno = ENOSPC;
            fail_slot_in = (int)below(3);
        }
        CHECK(nk_image_saving(image) == NK_SAVING_NOT);
        CHECK(nk_image_save_begin(image, &ship.home, &us, event, 7, -1, message) ==
              NK_OK);
        CHECK(ship.home.dirty_count == 0);
        CHECK(nk_image_save_begin(image, &ship.home, &us, event, 7, -1, message) ==
              NK_BAD);
        unsigned rounds = (unsigned)below(40);
        for (unsigned i = 0; i < rounds; i++) {
            if (nk_image_saving(image) == NK_SAVING_RUNNING) overtaken++;
            mutate(&ship.home, (unsigned)below(10));
            usleep((unsigned)below(60));
        }
        aside += ship.home.freeze->aside_count;
        nk_status status = nk_image_save_end(image, &ship.home, &info);
        fail_slot_in = -1;
        CHECK(ship.home.freeze == NULL && nk_image_saving(image) == NK_SAVING_NOT);
        if (status != NK_OK) {
            CHECK(fail && status == NK_IO && strstr(info.message, "No space") != NULL);
            failed++;
            copy_free(&copy);
            copy = copy_make(&ship.home, event);
            save(image, &ship.home, event);
        }
        struct nk_image *reader = open_image(true);
        ship_open(&other);
        CHECK(nk_image_load(reader, &other.home, 1000, true, &info) == NK_OK);
        CHECK(info.good && info.event == event && info.fell_back == 0);
        CHECK(copy_equal(&copy, &other.home));
        nk_image_close(reader);
        ship_close(&other);
        copy_free(&copy);
    }
    slow = false;
    CHECK(overtaken > EVENTS / 2 && aside > EVENTS / 2 && failed > EVENTS / 40);
    /* A close in the middle leaves the generation before. */
    mutate(&ship.home, 60);
    CHECK(nk_image_save_begin(image, &ship.home, &us, 300, 7, -1, message) == NK_OK);
    nk_image_close(image);
    CHECK(ship.home.freeze == NULL);
    image = open_image(true);
    ship_open(&other);
    CHECK(nk_image_load(image, &other.home, 1000, true, &info) == NK_OK);
    CHECK(info.good && (info.event == EVENTS || info.event == 300));
    nk_image_close(image);
    ship_close(&other);
    ship_close(&ship);
}

static void check_crash(const struct copy *before, const struct copy *after,
                        bool finished) {
    struct nk_image_info info;
    struct ship ship;
    struct nk_image *image = open_image(false);
    char message[256];
    uint32_t generations;
    (void)nk_image_check(image, &info, &generations, message);
    CHECK(generations >= 2 || before->event < 2);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 1000, false, &info) == NK_OK);
    CHECK(info.fell_back == 0); /* no good superblock leads to a bad place */
    if (!info.good) {
        CHECK(before->event == 0 && !finished);
    } else {
        CHECK(info.event == after->event || (!finished && info.event == before->event));
        CHECK(copy_equal(info.event == after->event ? after : before, &ship.home));
        CHECK(nk_image_verify_wait(image, message) == NK_VERIFY_GOOD);
        if (below(4) == 0) {
            mutate(&ship.home, 5);
            save(image, &ship.home, info.event + 1);
        }
    }
    nk_image_close(image);
    ship_close(&ship);
}

static void test_crashes(void) {
    char real[256], scratch[256];
    struct ship ship;
    struct copy before = {0};
    snprintf(real, sizeof real, "%s", path);
    snprintf(scratch, sizeof scratch, "%s/crash", folder);
    unlink(path);
    ship_open(&ship);
    struct nk_image *image = open_image(false);
    unsigned points = 0;
    for (uint64_t event = 1; event <= 10; event++) {
        struct file start = file_read();
        mutate(&ship.home, event == 1 ? 30 : 8);
        struct copy after = copy_make(&ship.home, event);
        recording = true;
        save(image, &ship.home, event);
        recording = false;
        snprintf(path, sizeof path, "%s", scratch);
        for (size_t count = 0; count <= op_count; count++) {
            if (count < op_count && below(op_count) >= 24) continue; /* a sample */
            for (unsigned variant = 0; variant < 3; variant++, points++) {
                struct file file = crashed(&start, count, variant > 0);
                file_write(&file);
                check_crash(&before, &after, count == op_count);
                free(file.bytes);
            }
        }
        snprintf(path, sizeof path, "%s", real);
        forget_ops();
        free(start.bytes);
        copy_free(&before);
        before = after;
        if (event % 3 == 0) { /* go on from a mapped home */
            struct nk_image_info info;
            nk_image_close(image);
            ship_close(&ship);
            ship_open(&ship);
            image = open_image(false);
            CHECK(nk_image_load(image, &ship.home, event, false, &info) == NK_OK);
            CHECK(info.good && info.event == event);
        }
    }
    CHECK(points > 150);
    copy_free(&before);
    unlink(scratch);
    nk_image_close(image);
    ship_close(&ship);
    free(ops);
}

/* A nested noun that takes a few hundred pages, different for each [salt]. */
static nk_noun grow_noun(struct nk_arena *arena, nk_noun tail, uint64_t salt) {
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t words[40];
        size_t count = 1 + below(i % 100 == 0 ? 40 : 4);
        for (size_t k = 0; k < count; k++)
            words[k] = random_u64() ^ salt;
        nk_noun atom = nk_atom_from_bytes(arena, words, count * 8);
        CHECK(atom != NK_NONE);
        tail = nk_cons_try(arena, atom, tail);
        CHECK(tail != NK_NONE);
    }
    size_t large = 3 * NK_PAGE_WORDS;
    uint64_t *data = nk_atom_begin(arena, large);
    CHECK(data != NULL);
    for (size_t k = 0; k < large; k++)
        data[k] = random_u64() | 1;
    nk_noun atom = nk_atom_finish(arena, data, large);
    tail = nk_cons_try(arena, atom, tail);
    CHECK(tail != NK_NONE);
    return tail;
}

/* A save, while all that it saves dies and its pages are used again. */
static void save_beside(struct nk_image *image, struct ship *ship, uint64_t event) {
    struct nk_image_info info;
    char message[256];
    nk_noun *kernel = &ship->home.roots[NK_ROOT_KERNEL];
    slow = true;
    CHECK(nk_image_save_begin(image, &ship->home, &us, event, 7, -1, message) == NK_OK);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 1) *kernel = NK_NONE;
        if (i > 0) nk_home_collect(&ship->home);
        nk_noun more = grow_noun(&ship->arena, i % 2 ? 0 : *kernel, i);
        CHECK(nk_home_promote(&ship->home, &more, 1) == NK_OK);
        nk_nursery_reset(&ship->arena);
        *kernel = more;
    }
    CHECK(nk_image_save_end(image, &ship->home, &info) == NK_OK);
    slow = false;
}

/* With nouns, promotion and collection as they are. */
static void test_nouns(void) {
    struct ship ship;
    struct nk_image_info info;
    struct nk_image *image;
    unlink(path);
    ship_open(&ship);
    image = open_image(false);
    for (uint64_t event = 1; event <= 24; event++) {
        nk_noun old = ship.home.roots[NK_ROOT_KERNEL];
        nk_noun root = grow_noun(&ship.arena, event % 5 == 1 ? 0 : old, event);
        CHECK(nk_home_promote(&ship.home, &root, 1) == NK_OK);
        nk_nursery_reset(&ship.arena);
        ship.home.roots[NK_ROOT_KERNEL] = root;
        if (event % 3 == 0) nk_home_collect(&ship.home);
        uint32_t mug = nk_mug(&ship.arena, root);
        uint64_t used = ship.home.words_used;
        if (event % 4 != 3) {
            save(image, &ship.home, event);
        } else {
            save_beside(image, &ship, event);
        }
        CHECK(nk_home_check(&ship.home) == NULL);
        if (event % 2 == 0) continue;
        nk_image_close(image);
        ship_close(&ship);
        ship_open(&ship);
        image = open_image(false);
        char message[256];
        CHECK(nk_image_check_nouns(image, message) == NK_OK);
        CHECK(nk_image_load(image, &ship.home, event, false, &info) == NK_OK);
        CHECK(info.good && info.event == event);
        CHECK(ship.home.roots[NK_ROOT_KERNEL] == root);
        CHECK(ship.home.words_used == used);
        const char *fault = nk_home_check(&ship.home);
        if (fault != NULL) fprintf(stderr, "%s\n", fault);
        CHECK(fault == NULL);
        CHECK(nk_mug(&ship.arena, root) == mug);
    }
    nk_image_close(image);
    ship_close(&ship);
}

static void test_scrub(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_image_info info;
    struct nk_scrub scrub;
    struct ship ship;
    char message[256];
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
    /* The verification comes first. */
    CHECK(nk_image_scrub(image, &scrub, message) == NK_OK && scrub.stepped == 0);
    CHECK(nk_image_verify_wait(image, message) == NK_VERIFY_GOOD);
    uint64_t sum = 0;
    for (unsigned passes = 0; passes < 3;) {
        CHECK(nk_image_scrub(image, &scrub, message) == NK_OK);
        CHECK(scrub.stepped > 0 && scrub.pages == ship.home.page_count);
        sum += scrub.stepped;
        if (scrub.passes == passes) continue;
        CHECK(scrub.page == 0 && sum == scrub.pages);
        passes++;
        sum = 0;
    }
    /* Not beside a save; and then what it wrote. */
    mutate(&ship.home, 12);
    CHECK(nk_image_save_begin(image, &ship.home, &us, 31, 0, -1, message) == NK_OK);
    CHECK(nk_image_scrub(image, &scrub, message) == NK_OK && scrub.stepped == 0);
    CHECK(nk_image_save_end(image, &ship.home, &info) == NK_OK);
    do
        CHECK(nk_image_scrub(image, &scrub, message) == NK_OK);
    while (scrub.passes == 3);
    CHECK(scrub.pages == ship.home.page_count);
    nk_image_close(image);
    ship_close(&ship);
    copies_free(copies, &file);
}

static void flip(uint64_t at) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 1;
    CHECK(syscall(SYS_pwrite64, fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

/* Rot beneath the running serf, in any page of what was loaded, is found in one
 * pass; and nothing else is. */
static void test_scrub_finds(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    uint64_t found = 0, in_use = 0;
    for (uint64_t slot = 4; slot < file.size / SLOT; slot++) {
        struct nk_image_info info;
        struct nk_scrub scrub;
        struct ship ship;
        char message[256], later[256];
        struct nk_image *image = open_image(false);
        ship_open(&ship);
        CHECK(nk_image_load(image, &ship.home, 100, true, &info) == NK_OK);
        CHECK(info.good && info.event == 30);
        flip(slot * SLOT + 5000);
        nk_status status;
        do
            status = nk_image_scrub(image, &scrub, message);
        while (status == NK_OK && scrub.passes == 0);
        if (status != NK_OK) {
            found++;
            CHECK(status == NK_BAD && strstr(message, "is damaged") != NULL);
            CHECK(nk_image_verify_status(image, later) == NK_VERIFY_BAD);
            CHECK(strcmp(message, later) == 0);
            CHECK(nk_image_save(image, &ship.home, &us, 31, 0, &info) == NK_BAD);
        }
        flip(slot * SLOT + 5000);
        if (slot == 4) {
            for (uint64_t page = 0; page < ship.home.page_count; page++)
                in_use += ship.home.pages[page].class_index != NK_CLASS_FREE;
        }
        nk_image_close(image);
        ship_close(&ship);
    }
    CHECK(found == in_use && in_use > 0);
    copies_free(copies, &file);
}

int main(void) {
    rig_open();
    if (SINGLE) {
        test_corruption();
        test_truncation();
        test_foreign();
        test_event_max();
        test_failures();
        test_crashes();
        test_pace();
        test_direct();
        test_no_nouns();
        test_boxes();
        test_scrub();
        test_scrub_finds();
    }
    test_generations();
    test_nouns();
    test_beside();
    unlink(path);
    rmdir(folder);
    return 0;
}
