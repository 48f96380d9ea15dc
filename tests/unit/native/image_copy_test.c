/* units: images */

/* Copies of one generation: equal to what was saved, or refused. */
#include "image_copy.h"
#include "image_rig.h"

static char target[256];

/* Copy [event] into `target`; what the last step said. [between] is called
 * once, after the first step. */
static nk_status copy_event(uint64_t event, void (*between)(void *), void *context,
                            struct nk_copy_state *state, char message[256]) {
    struct nk_image_copy *copy;
    struct nk_image_info info;
    uint64_t done = 0;
    memset(state, 0, sizeof *state);
    int to = open(target, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(to >= 0);
    nk_status status = nk_image_copy_begin(path, event, to, &copy, &info);
    memcpy(message, info.message, 256);
    while (status == NK_OK && state->phase != NK_COPY_DONE) {
        status = nk_image_copy_step(copy, state, message);
        CHECK(state->done >= done && state->done <= state->total);
        done = state->done;
        if (between != NULL) between(context);
        between = NULL;
    }
    nk_image_copy_end(copy);
    close(to);
    CHECK((status == NK_OK) == (message[0] == 0));
    return status;
}

/* The target holds [copy], one generation, and nothing else. */
static void check_target(const struct copy *copy, uint64_t bytes) {
    struct nk_image_info info;
    struct nk_image *image;
    struct ship ship;
    struct stat stat;
    char message[256];
    uint32_t generations;
    CHECK(lstat(target, &stat) == 0 && (uint64_t)stat.st_size == bytes);
    CHECK(nk_image_open(target, false, &image, message) == NK_OK);
    CHECK(nk_image_check(image, &info, &generations, message) == NK_OK);
    CHECK(generations == 1 && info.event == copy->event);
    ship_open(&ship);
    CHECK(nk_image_load(image, &ship.home, copy->event, false, &info) == NK_OK);
    CHECK(info.good && info.fell_back == 0 && info.mug == ((uint32_t)copy->event ^ 77));
    CHECK(copy_equal(copy, &ship.home));
    CHECK(nk_image_verify_wait(image, message) == NK_VERIFY_GOOD);
    mutate(&ship.home, 5); /* and it is an image like any other */
    save(image, &ship.home, copy->event + 50);
    nk_image_close(image);
    ship_close(&ship);
}

static void test_each_generation(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_copy_state state;
    char message[256];
    for (unsigned i = 0; i < 4; i++) {
        uint64_t event = i == 3 ? NK_COPY_NEWEST : copies[i].event;
        CHECK(copy_event(event, NULL, NULL, &state, message) == NK_OK);
        CHECK(state.done == state.total && state.pages > 0);
        check_target(&copies[i == 3 ? 2 : i], state.bytes);
    }
    struct file after = file_read();
    CHECK(after.size == file.size && memcmp(after.bytes, file.bytes, file.size) == 0);
    free(after.bytes);
    CHECK(copy_event(15, NULL, NULL, &state, message) == NK_BAD);
    CHECK(strstr(message, "of event 15, but of 30 20 10") != NULL);
    CHECK(truncate(path, 0) == 0);
    CHECK(copy_event(NK_COPY_NEWEST, NULL, NULL, &state, message) == NK_BAD);
    copies_free(copies, &file);
}

/* A slot of the source that is flipped is found, or was none of the copy's. */
static void test_rotten_source(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_copy_state state;
    char message[256];
    unsigned refused = 0, made = 0;
    for (size_t slot = 4; slot < file.size / SLOT; slot++) {
        size_t at = slot * SLOT + below(SLOT);
        file.bytes[at] ^= 4;
        file_write(&file);
        nk_status status = copy_event(30, NULL, NULL, &state, message);
        if (status == NK_OK) {
            check_target(&copies[2], state.bytes);
            made++;
        } else {
            CHECK(status == NK_BAD && !state.overwritten);
            CHECK(strstr(message, "is damaged") != NULL);
            refused++;
        }
        file.bytes[at] ^= 4;
    }
    CHECK(made > 0 && refused > 20);
    copies_free(copies, &file);
}

struct beside {
    struct nk_image *image;
    struct ship ship;
    uint64_t event;
    unsigned saves;
};

static void save_on(void *context) {
    struct beside *beside = context;
    for (unsigned i = 0; i < beside->saves; i++) {
        mutate(&beside->ship.home, 30);
        save(beside->image, &beside->ship.home, ++beside->event);
    }
}

/* Beside a ship that saves: one save leaves the copy whole, more may not, and
 * that is told by its name. */
static void test_beside_saves(void) {
    struct beside beside = {.event = 0};
    struct nk_copy_state state;
    char message[256];
    unsigned made = 0, late = 0;
    unlink(path);
    beside.image = open_image(false);
    ship_open(&beside.ship);
    mutate(&beside.ship.home, 200);
    save(beside.image, &beside.ship.home, ++beside.event);
    for (unsigned i = 0; i < 60; i++) {
        struct copy copy = copy_make(&beside.ship.home, beside.event);
        beside.saves = i % 4 == 0 ? 1 : 5;
        nk_status status =
            copy_event(NK_COPY_NEWEST, save_on, &beside, &state, message);
        if (status == NK_OK) {
            check_target(&copy, state.bytes);
            made++;
        } else {
            CHECK(beside.saves > 1 && state.overwritten);
            CHECK(strstr(message, "was overwritten") != NULL);
            late++;
        }
        copy_free(&copy);
    }
    CHECK(made >= 15);
#ifdef NK_TINY /* where a step is three pages */
    CHECK(late > 20);
#else
    (void)late;
#endif
    nk_image_close(beside.image);
    ship_close(&beside.ship);
}

/* Whatever the disk answers, a copy that is made is whole. */
static void test_failures(void) {
    struct copy copies[3];
    struct file file = three_generations(copies);
    struct nk_copy_state state;
    char message[256];
    unsigned failed = 0, found = 0;
    fail_errno = ENOSPC;
    fail_grow_in = 0;
    CHECK(copy_event(30, NULL, NULL, &state, message) == NK_IO);
    CHECK(strstr(message, "No space") != NULL);
    fail_grow_in = -1;
    fail_errno = EIO;
    for (int i = 0; i < 60; i++) {
        int *in = i % 3 == 0 ? &fail_write_in : i % 3 == 1 ? &fail_sync_in : &flip_in;
        *in = i / 3;
        nk_status status = copy_event(30, NULL, NULL, &state, message);
        bool struck = *in < 0;
        *in = -1;
        if (status == NK_OK) {
            check_target(&copies[2], state.bytes);
            CHECK(!struck);
        } else if (i % 3 == 2) {
            CHECK(struck && !state.overwritten && strstr(message, "copy") != NULL);
            found++;
        } else {
            CHECK(struck && status == NK_IO);
            failed++;
        }
    }
    CHECK(failed >= 3 && found >= 3);
    copies_free(copies, &file);
}

int main(void) {
    rig_open();
    snprintf(target, sizeof target, "%s/copy.image", folder);
    test_each_generation();
    test_rotten_source();
    test_beside_saves();
    test_failures();
    unlink(target);
    unlink(path);
    rmdir(folder);
    return 0;
}
