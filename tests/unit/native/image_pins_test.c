/* units: images */

/* Pinned generations against a model: each is remembered byte for byte when it
 * is pinned, and copied out and compared as long as the image lists it. */
#include "image_copy.h"
#include "image_rig.h"

#define HELD 5u

static char target[256];

struct held {
    char name[NK_PIN_NAME_SIZE]; /* "": none */
    struct copy copy;
};

/* --- What is pinned is whole ------------------------------------------------ */

static bool holds(const struct held *held, const struct nk_pin *pin) {
    return strcmp(held->name, pin->name) == 0 && held->copy.event == pin->event;
}

/* Copy a generation out, and compare. */
static void check_pin(const struct held *held) {
    struct nk_image_copy *making;
    struct nk_copy_state state = {0};
    struct nk_image_info info;
    struct nk_image *image;
    struct ship ship;
    char message[256] = "";
    int to = open(target, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(to >= 0);
    CHECK(nk_image_copy_begin(path, held->copy.event, to, &making, &info) == NK_OK);
    while (state.phase != NK_COPY_DONE) {
        nk_status status = nk_image_copy_step(making, &state, message);
        if (status != NK_OK) fprintf(stderr, "pin %s: %s\n", held->name, message);
        CHECK(status == NK_OK);
    }
    nk_image_copy_end(making);
    close(to);
    CHECK(nk_image_open(target, true, &image, message) == NK_OK);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, held->copy.event, true, &info) == NK_OK);
    CHECK(info.good && copy_equal(&held->copy, &ship.home));
    CHECK(nk_image_pins(image, (struct nk_pin[NK_PINS_MAX]){{{0}, 0, 0}}, message) ==
          0);
    nk_image_close(image);
    ship_close(&ship);
}

/* What a fresh look at the file lists is [held], and as it was. */
static void check_pins(const struct held held[HELD]) {
    struct nk_pin pins[NK_PINS_MAX];
    struct nk_image_info info;
    char message[256];
    uint32_t generations, expected = 0;
    struct nk_image *image = open_image(true);
    unsigned count = nk_image_pins(image, pins, message);
    CHECK(message[0] == 0);
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i].name[0] == 0) continue;
        expected++;
        unsigned found = 0;
        for (unsigned k = 0; k < count; k++)
            found += holds(&held[i], &pins[k]);
        CHECK(found == 1);
        check_pin(&held[i]);
    }
    CHECK(count == expected);
    CHECK(nk_image_check(image, &info, &generations, message) == NK_OK);
    CHECK(generations >= count + (info.event > 1 ? 2 : 1));
    nk_image_close(image);
}

static void let_go(struct held *held) {
    copy_free(&held->copy);
    held->name[0] = 0;
}

/* Ask for a change at random: what it is to let go, or NULL, and where to hold
 * what it pins, or NULL. */
static void ask_at_random(struct nk_image *image, struct held held[HELD],
                          struct held **gone, struct held **kept) {
    char message[256];
    *gone = *kept = NULL;
    struct held *one = &held[below(HELD)];
    if (one->name[0] != 0) {
        CHECK(nk_image_unpin(image, one->name, message) == NK_OK);
        *gone = one;
    }
    if (one->name[0] == 0 || below(2) == 0) {
        char name[NK_PIN_NAME_SIZE];
        snprintf(name, sizeof name, "pin-%u", (unsigned)(one - held));
        CHECK(nk_image_pin(image, name, message) == NK_OK);
        *kept = one;
    }
}

static void hold(struct held *held, unsigned number, const struct nk_home *home,
                 uint64_t event) {
    snprintf(held->name, sizeof held->name, "pin-%u", number);
    held->copy = copy_make(home, event);
}

/* --- The tests ------------------------------------------------------------- */

static void test_life(void) {
    struct held held[HELD] = {0};
    struct nk_image_info info;
    struct ship ship;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    for (uint64_t event = 1; event <= 90; event++) {
        struct held *gone = NULL, *kept = NULL;
        if (below(4) > 0) mutate(&ship.home, (unsigned)below(20));
        if (below(3) == 0) ask_at_random(image, held, &gone, &kept);
        save(image, &ship.home, event);
        if (gone != NULL) let_go(gone);
        if (kept != NULL) hold(kept, (unsigned)(kept - held), &ship.home, event);
        if (event % 3 == 0) check_pins(held);
        if (below(6) == 0) {
            nk_image_close(image);
            ship_close(&ship);
            image = open_image(false);
            ship_open(&ship);
            CHECK(nk_image_load(image, &ship.home, event, false, &info) == NK_OK);
            CHECK(info.good && info.event == event && info.message[0] == 0);
        }
    }
    struct stat stat;
    CHECK(lstat(path, &stat) == 0);
    CHECK((size_t)stat.st_size < (4 + HELD) * PAGES * SLOT + (8u << 20));
    for (unsigned i = 0; i < HELD; i++)
        let_go(&held[i]);
    nk_image_close(image);
    ship_close(&ship);
}

static void test_refusals(void) {
    struct ship ship;
    struct nk_image_info info;
    struct nk_pin pins[NK_PINS_MAX];
    char message[256], name[64];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    mutate(&ship.home, 20);
    for (unsigned i = 0; i < NK_PINS_MAX; i++) {
        snprintf(name, sizeof name, "n%u", i);
        CHECK(nk_image_pin(image, name, message) == NK_OK);
        save(image, &ship.home, i + 1);
    }
    CHECK(nk_image_pin(image, "one-more", message) == NK_BAD);
    CHECK(strstr(message, "16 generations are pinned") != NULL);
    CHECK(nk_image_unpin(image, "nobody", message) == NK_OK);
    CHECK(nk_image_pin(image, "one-more", message) == NK_BAD);
    CHECK(nk_image_pin(image, "n3", message) == NK_BAD);
    CHECK(strstr(message, "there is a pin n3") != NULL);
    const char *bad[] = {"", "a b", "a/b", "\xff",
                         "0123456789012345678901234567890123456789"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(nk_image_pin(image, bad[i], message) == NK_BAD && message[0] != 0);
        CHECK(nk_image_unpin(image, bad[i], message) == NK_BAD && message[0] != 0);
    }
    /* One goes and another comes, in one save. */
    CHECK(nk_image_unpin(image, "n3", message) == NK_OK);
    CHECK(nk_image_pin(image, "n3", message) == NK_OK);
    fail_errno = ENOSPC;
    fail_write_in = 0;
    CHECK(nk_image_save(image, &ship.home, &us, 20, 0, &info) == NK_IO);
    fail_write_in = -1;
    CHECK(nk_image_pins(image, pins, message) == NK_PINS_MAX && pins[3].event == 4);
    save(image, &ship.home, 20); /* what failed asked, this one does not */
    CHECK(nk_image_pins(image, pins, message) == NK_PINS_MAX && pins[3].event == 4);
    CHECK(nk_image_unpin(image, "n3", message) == NK_OK);
    CHECK(nk_image_pin(image, "n3", message) == NK_OK);
    save(image, &ship.home, 21);
    CHECK(nk_image_pins(image, pins, message) == NK_PINS_MAX);
    CHECK(pins[NK_PINS_MAX - 1].event == 21 && pins[3].event == 5);
    nk_image_close(image);
    ship_close(&ship);
}

/* Who asks during a save is told what the save before it left; and a scrub waits. */
static void test_questions_beside_a_save(void) {
    struct ship ship;
    struct nk_scrub scrub;
    struct nk_image_info info;
    struct nk_pin pins[NK_PINS_MAX];
    char message[256];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    for (uint64_t event = 1; event <= 6; event++) {
        if (event != 4) mutate(&ship.home, 20);
        if (event == 2) CHECK(nk_image_pin(image, "two", message) == NK_OK);
        CHECK(nk_image_save_begin(image, &ship.home, &us, event, 7, -1, message) ==
              NK_OK);
        do {
            CHECK(nk_image_pins(image, pins, message) == (event > 2));
            CHECK(message[0] == 0 && (event <= 2 || pins[0].event == 2));
            CHECK(nk_image_scrub(image, &scrub, message) == NK_OK);
            CHECK(scrub.stepped == 0);
        } while (nk_image_saving(image) == NK_SAVING_RUNNING);
        CHECK(nk_image_save_end(image, &ship.home, &info) == NK_OK);
        CHECK(nk_image_pins(image, pins, message) == (event >= 2));
    }
    nk_image_close(image);
    ship_close(&ship);
}

/* The formats of the superblocks that are there, as bits. */
static unsigned formats(void) {
    struct file file = file_read();
    unsigned found = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t format;
        memcpy(&format, file.bytes + i * SLOT + 8, 4);
        if (format != 0) found |= 1u << format;
    }
    free(file.bytes);
    return found;
}

/* An image says that it needs this build only as long as it has pins; and pins
 * that come and go cost no older state. */
static void test_format_and_ring(void) {
    struct copy copies[2];
    struct nk_image_info info;
    struct ship ship;
    char message[256];
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    for (unsigned i = 0; i < 2; i++) {
        mutate(&ship.home, 30);
        copies[i] = copy_make(&ship.home, i + 1);
        save(image, &ship.home, i + 1);
    }
    CHECK(formats() == 1u << 1);
    for (unsigned i = 0; i < 9; i++) {
        CHECK((i % 2 ? nk_image_unpin : nk_image_pin)(image, "here", message) == NK_OK);
        save(image, &ship.home, 2);
    }
    CHECK(formats() & 1u << 2);
    nk_image_close(image);
    ship_close(&ship);
    /* The newest state is damaged where the one before is not. */
    struct file file = file_read();
    uint32_t damaged = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t event;
        uint32_t directory;
        memcpy(&event, file.bytes + i * SLOT + 40, 8);
        memcpy(&directory, file.bytes + i * SLOT + 168, 4);
        if (event != 2 || directory == damaged) continue;
        CHECK(damaged == 0);
        damaged = directory;
        file.bytes[directory * SLOT + 64] ^= 1;
    }
    file_write(&file);
    free(file.bytes);
    image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 9, false, &info) == NK_OK);
    CHECK(info.good && info.event == 1 && info.fell_back > 0);
    CHECK(copy_equal(&copies[0], &ship.home));
    for (uint64_t event = 3; event < 8; event++) {
        mutate(&ship.home, 5);
        save(image, &ship.home, event);
    }
    CHECK(formats() == 1u << 1);
    nk_image_close(image);
    ship_close(&ship);
    copy_free(&copies[0]);
    copy_free(&copies[1]);
}

/* A slot that is flipped costs at most the pins that it belongs to. */
static void test_corruption(void) {
    struct held held[HELD] = {0};
    struct ship ship;
    char message[256], name[32];
    unsigned lost = 0, damaged = 0, whole = 0;
    unlink(path);
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    for (unsigned i = 0; i < 6; i++) {
        mutate(&ship.home, 10);
        snprintf(name, sizeof name, "pin-%u", i);
        if (i < 2) CHECK(nk_image_pin(image, name, message) == NK_OK);
        save(image, &ship.home, i + 1);
        if (i < 2) hold(&held[i], i, &ship.home, i + 1);
    }
    struct copy last = copy_make(&ship.home, 6);
    nk_image_close(image);
    ship_close(&ship);
    struct file file = file_read();
    for (size_t slot = 4; slot < file.size / SLOT; slot++) {
        struct nk_image_info info, newest;
        struct nk_pin pins[NK_PINS_MAX];
        uint32_t generations;
        size_t at = slot * SLOT + below(96);
        file.bytes[at] ^= 1;
        file_write(&file);
        image = open_image(false);
        ship_open(&ship);
        nk_status checked = nk_image_check(image, &newest, &generations, message);
        unsigned count = nk_image_pins(image, pins, message);
        if (count < 2) {
            CHECK(count == 0 && strstr(message, "its pins") && checked == NK_BAD);
            lost++;
        }
        CHECK(nk_image_load(image, &ship.home, 100, false, &info) == NK_OK);
        if (info.good && info.event == 6 && checked == NK_BAD) damaged++;
        if (checked == NK_OK) whole++;
        if (info.good && info.event == 6) CHECK((info.message[0] != 0) == (count == 0));
        nk_image_close(image);
        ship_close(&ship);
        file.bytes[at] ^= 1;
    }
    CHECK(lost == 1 && damaged > 10 && whole > 0);
    file_write(&file);
    check_pins(held);
    let_go(&held[0]);
    let_go(&held[1]);
    copy_free(&last);
    free(file.bytes);
}

/* Whatever moment the power fails at: the pins are those of the state that is
 * found, all whole, and stay so over the saves that follow. */
static void check_crash(const struct held before[HELD], const struct held after[HELD],
                        uint64_t event) {
    struct nk_image_info info;
    struct ship ship;
    struct nk_image *image = open_image(false);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, 1000, false, &info) == NK_OK);
    CHECK(info.fell_back == 0);
    const struct held *held = info.good && info.event == event ? after : before;
    for (unsigned i = 0; info.good && i < 3; i++) {
        mutate(&ship.home, 20);
        save(image, &ship.home, info.event + i + 1);
    }
    nk_image_close(image);
    ship_close(&ship);
    for (unsigned i = 0; info.good && i < HELD; i++) {
        if (held[i].name[0] != 0) check_pin(&held[i]);
    }
}

static void test_crashes(void) {
    char real[256], scratch[256];
    struct held before[HELD] = {0}, after[HELD] = {0};
    struct ship ship;
    snprintf(real, sizeof real, "%s", path);
    snprintf(scratch, sizeof scratch, "%s/crash", folder);
    unlink(path);
    ship_open(&ship);
    struct nk_image *image = open_image(false);
    unsigned points = 0;
    for (uint64_t event = 1; event <= 12; event++) {
        struct held *gone = NULL, *kept = NULL;
        struct file start = file_read();
        mutate(&ship.home, event == 1 ? 30 : 6);
        memcpy(before, after, sizeof before);
        ask_at_random(image, after, &gone, &kept);
        recording = true;
        save(image, &ship.home, event);
        recording = false;
        if (gone != NULL) *gone = (struct held){0};
        if (kept != NULL) hold(kept, (unsigned)(kept - after), &ship.home, event);
        snprintf(path, sizeof path, "%s", scratch);
        for (size_t count = 0; count <= op_count; count++) {
            if (count + 4 < op_count && below(op_count) >= 3) continue; /* a sample */
            for (unsigned variant = 0; variant < 2; variant++, points++) {
                struct file file = crashed(&start, count, variant > 0);
                file_write(&file);
                check_crash(before, after, event);
                free(file.bytes);
            }
        }
        snprintf(path, sizeof path, "%s", real);
        forget_ops();
        free(start.bytes);
        if (gone != NULL) copy_free(&before[gone - after].copy);
    }
    CHECK(points > 80);
    for (unsigned i = 0; i < HELD; i++)
        let_go(&after[i]);
    unlink(scratch);
    nk_image_close(image);
    ship_close(&ship);
    free(ops);
}

int main(void) {
    rig_open();
    snprintf(target, sizeof target, "%s/copy.image", folder);
    test_refusals();
    test_questions_beside_a_save();
    test_format_and_ring();
    test_life();
    test_corruption();
    test_crashes();
    unlink(target);
    unlink(path);
    rmdir(folder);
    return 0;
}
