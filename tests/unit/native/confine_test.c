/* units: confine images */

/* A confined process can save, load and verify an image, with the system
 * calls as they are. What it cannot do is tested from Python. */
#include "check.h"
#include "confine.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The leak checker wants to fork and trace, which is refused. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

static struct nk_arena arena;
static struct nk_home home;

static void open_home(void) {
    CHECK(nk_arena_open(&arena, 64ull << 20, 4ull << 20) == NK_OK);
    CHECK(nk_home_open(&home, &arena) == NK_OK);
}

static void close_home(void) {
    nk_home_close(&home);
    nk_arena_close(&arena);
}

static nk_noun build(void) {
    nk_noun noun = 0;
    for (uint64_t i = 0; i < 50000; i++) {
        noun = nk_cons_try(&arena, i, noun);
        CHECK(noun != NK_NONE);
    }
    CHECK(nk_home_promote(&home, &noun, 1) == NK_OK);
    nk_nursery_reset(&arena);
    return noun;
}

static void confined(const char *path) {
    const struct nk_identity us = {{1}, {2}};
    struct nk_image *writer, *reader;
    struct nk_image_info info;
    char message[256];
    uint32_t in_force, generations;
    CHECK(nk_image_open(path, false, &writer, message) == NK_OK);
    CHECK(nk_image_open(path, true, &reader, message) == NK_OK);
    int keep[5] = {2};
    unsigned count = 1 + nk_image_fds(reader, keep + 1);
    count += nk_image_fds(writer, keep + count);
    CHECK(count == 4 || count == 3); /* the writer may have one past the page cache */
    CHECK(nk_confine(keep, count, &in_force, message) == NK_OK);
    CHECK(open(path, O_RDONLY) < 0 && errno == EPERM);
    open_home();
    CHECK(nk_image_load(writer, &home, 0, false, &info) == NK_OK && !info.good);
    home.roots[NK_ROOT_KERNEL] = build();
    CHECK(nk_image_save(writer, &home, &us, 1, 7, &info) == NK_OK);
    home.roots[NK_ROOT_COLD] = build();
    CHECK(nk_image_save(writer, &home, &us, 2, 8, &info) == NK_OK);
    nk_image_close(writer);
    close_home();
    open_home();
    /* [reader] read its superblocks when there were none. */
    CHECK(nk_image_load(reader, &home, 2, false, &info) == NK_OK && !info.good);
    CHECK(nk_image_check(reader, &info, &generations, message) == NK_OK);
    CHECK(generations == 0);
    nk_image_close(reader);
    close_home();
}

static void confined_reader(const char *path) {
    struct nk_image *image;
    struct nk_image_info info;
    char message[256];
    uint32_t in_force;
    CHECK(nk_image_open(path, true, &image, message) == NK_OK);
    int keep[3] = {2};
    CHECK(nk_image_fds(image, keep + 1) == 1);
    CHECK(nk_confine(keep, 2, &in_force, message) == NK_OK);
    open_home();
    CHECK(nk_image_load(image, &home, 2, false, &info) == NK_OK);
    CHECK(info.good && info.event == 2 && info.mug == 8);
    CHECK(nk_image_verify_start(image, message) == NK_OK);
    CHECK(nk_home_check(&home) == NULL);
    CHECK(nk_image_verify_wait(image, message) == NK_VERIFY_GOOD);
    nk_image_close(image);
    close_home();
}

static void in_child(void (*body)(const char *), const char *path) {
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body(path);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    char folder[] = "confine-XXXXXX", path[128];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/treadle.image", folder);
    in_child(confined, path);
    in_child(confined_reader, path);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    return 0;
}
