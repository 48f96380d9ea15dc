/* units: noun nursery mug home freeze collect image image_save image_pins status */
/* Cycles beside running events: against a model of what is reachable, with
 * weak tables, at home's limit, in the middle of saves and of closing. */
#include "collect.h"
#include "home_inside.h"
#include "home_rig.h"
#include "image.h"
#include "mug.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#ifdef NK_TINY
#define EVENTS 4000
#else
#define EVENTS 20000
#endif

/* ---- the model: all that the roots reach, and what it takes ---- */

struct model {
    uint64_t *seen;
    nk_noun *todo;
    size_t count, capacity;
    uint64_t words;
};

static void reach(struct model *model, nk_noun n) {
    if (n == NK_NONE || nk_is_direct(n)) return;
    if (nk_bit_get(model->seen, nk_offset(n))) return;
    nk_bit_set(model->seen, nk_offset(n));
    uint8_t class = home.pages[nk_offset(n) / NK_PAGE_WORDS].class_index;
    model->words += class == NK_CLASS_LARGE
                        ? home.pages[nk_offset(n) / NK_PAGE_WORDS].run_pages *
                              (uint64_t)NK_PAGE_WORDS
                        : nk_class_words[class];
    if (model->count == model->capacity) {
        model->capacity = model->capacity * 2 + 64;
        model->todo = realloc(model->todo, model->capacity * sizeof *model->todo);
        CHECK(model->todo != NULL);
    }
    model->todo[model->count++] = n;
}

static void reach_root(struct nk_arena *a, nk_noun *slot) {
    reach(a->home->visiting, *slot);
}

static struct model model_make(void) {
    struct model model = {0};
    model.seen = calloc(home.page_count * NK_PAGE_WORDS / 64 + 1, 8);
    CHECK(model.seen != NULL);
    nk_home_trace(&home, reach_root, &model);
    while (model.count > 0) {
        nk_noun n = model.todo[--model.count];
        if (!nk_is_cell(n)) continue;
        reach(&model, nk_head(&arena, n));
        reach(&model, nk_tail(&arena, n));
    }
    free(model.todo);
    return model;
}

static bool model_has(const struct model *model, nk_noun n) {
    return nk_is_direct(n) || nk_bit_get(model->seen, nk_offset(n));
}

/* ---- a ship: SLOTS values in a list, each with the mug it must keep ---- */

#define SLOTS 40
static nk_noun values[SLOTS];
static uint32_t mugs[SLOTS];
static nk_noun held;

static nk_noun random_value(void) {
    nk_noun pool[8];
    for (int i = 0; i < 8; i++)
        pool[i] = draw() % 2 == 0 ? values[draw() % SLOTS] : draw() >> 1;
    size_t count = draw() % 60;
    if (draw() % 50 == 0) count = 3000;
    for (size_t i = 0; i < count; i++) {
        nk_noun made = draw() % 6 == 0 ? big_atom(1 + draw() % 30)
                                       : cons(pool[draw() % 8], pool[draw() % 8]);
        pool[draw() % 8] = made;
    }
    if (draw() % 40 == 0) pool[1] = big_atom(1100 + draw() % 9000);
    /* Not too deep into the past. */
    return draw() % 4 == 0 ? draw() >> 1 : cons(pool[0], cons(pool[1], pool[2]));
}

static void event(void) {
    nk_noun slots[SLOTS + 1];
    for (int changes = (int)(draw() % 4); changes >= 0; changes--) {
        size_t i = draw() % SLOTS;
        values[i] = draw() % 5 == 0 ? 0 : random_value();
        mugs[i] = nk_mug(&arena, values[i]);
    }
    nk_noun list = 0;
    for (size_t i = 0; i < SLOTS; i++)
        list = cons(values[i], list);
    memcpy(slots, values, sizeof values);
    slots[SLOTS] = list;
    CHECK(nk_home_promote(&home, slots, SLOTS + 1) == NK_OK);
    memcpy(values, slots, sizeof values);
    home.roots[NK_ROOT_KERNEL] = slots[SLOTS];
    nk_nursery_reset(&arena);
    held = values[draw() % SLOTS];
}

static void start_ship(uint64_t home_size) {
    reopen(home_size);
    memset(values, 0, sizeof values);
    for (size_t i = 0; i < SLOTS; i++)
        mugs[i] = nk_mug(&arena, 0);
    held = 0;
    for (int i = 0; i < 20; i++)
        event();
}

static void intact(void) {
    for (size_t i = 0; i < SLOTS; i++)
        CHECK(nk_mug(&arena, values[i]) == mugs[i]);
    sound();
}

static void held_trace(void *context, struct nk_arena *a, nk_root_visit visit) {
    visit(a, context);
}

/* A weak table: nouns seen at some time; the dead are dropped by each purge. */
#define WEAK 500
static nk_noun weak[WEAK];
static bool was_dead[WEAK]; /* at the moment the cycle began */
static uint64_t dropped;

static bool weak_purge(void *context, const struct nk_home *of, size_t *cursor,
                       size_t budget) {
    (void)context;
    for (; *cursor < WEAK && budget > 0; ++*cursor, budget--) {
        bool alive = nk_home_marked(of, weak[*cursor]);
        CHECK(alive != was_dead[*cursor]);
        if (alive) continue;
        weak[*cursor] = 0;
        was_dead[*cursor] = false;
        dropped++;
    }
    return *cursor == WEAK;
}

static void weak_begins(void) {
    struct model model = model_make();
    for (size_t i = 0; i < WEAK; i++)
        was_dead[i] = !model_has(&model, weak[i]);
    free(model.seen);
}

/* Events, cycles and purges in all orders. */
static void test_random(void) {
    start_ship(256u << 20);
    struct nk_home_source strong = {held_trace, NULL, &held, 0, NULL};
    struct nk_home_source table = {NULL, weak_purge, NULL, 0, NULL};
    nk_home_source_add(&home, &strong);
    nk_home_source_add(&home, &table);
    uint64_t cycles = 0, most = 0;
    for (int n = 0; n < EVENTS; n++) {
        event();
        if (nk_collect_is_idle(&home) && draw() % 16 == 0) {
            weak_begins();
            nk_collect_begin(&home);
            cycles++;
        }
        /* What is put into the table during a cycle is reachable, so alive. */
        size_t at = draw() % WEAK;
        nk_noun n2 = values[draw() % SLOTS];
        if (nk_is_cell(n2) && draw() % 2 == 0) n2 = nk_head(&arena, n2);
        if (!was_dead[at]) weak[at] = n2;
        for (uint64_t steps = draw() % 24; steps > 0; steps--) {
            if (!nk_collect_is_idle(&home)) nk_collect_step(&home, draw() % 4000);
        }
        if (draw() % 64 == 0) sched_yield();
        if (n % 100 == 0) intact();
        if (home.words_used > most) most = home.words_used;
    }
    CHECK(cycles > EVENTS / 200 && dropped > 0);
    (void)nk_collect_finish(&home);
    intact();
    weak_begins();
    nk_home_collect(&home);
    struct model model = model_make();
    CHECK(home.words_used == model.words);
    CHECK(most < 4u << 20);
    free(model.seen);
    intact();
}

/* A cycle without events in between frees exactly what a model says. */
static void test_exact(void) {
    start_ship(64u << 20);
    for (int round = 0; round < 30; round++) {
        for (int n = 0; n < 20; n++)
            event();
        (void)nk_collect_finish(&home);
        nk_collect_begin(&home);
        CHECK(!nk_collect_is_idle(&home));
        CHECK(nk_collect_finish(&home) && nk_collect_is_idle(&home));
        struct model model = model_make();
        CHECK(home.words_used == model.words);
        free(model.seen);
        intact();
    }
    CHECK(nk_collect_stats(&home)->cycles >= 30);
}

/* Where home is full in the middle of a cycle, waiting for it helps. */
static void test_limit(void) {
    reopen(8u << 20);
    nk_noun list = 0;
    bool waited = false;
    for (int n = 0; n < 400; n++) {
        nk_noun made = 0;
        for (uint64_t i = 0; i < 4000; i++)
            made = cons(draw() >> 1, made);
        list = made;
        nk_status status = nk_home_promote(&home, &list, 1);
        if (status == NK_MEME) {
            waited |= nk_collect_finish(&home);
            status = nk_home_promote(&home, &list, 1);
        }
        if (status == NK_MEME) {
            nk_home_collect(&home);
            status = nk_home_promote(&home, &list, 1);
        }
        CHECK(status == NK_OK);
        home.roots[NK_ROOT_KERNEL] = list;
        nk_nursery_reset(&arena);
        if (nk_collect_is_idle(&home) && n % 3 == 0) nk_collect_begin(&home);
    }
    CHECK(waited);
    sound();
}

/* Dead runs of large atoms go page by page; new ones may come meanwhile. */
static void test_large(void) {
    reopen(256u << 20);
    nk_noun kept = 0;
    for (int n = 0; n < 200; n++) {
        nk_noun slots[2] = {big_atom(2000 + draw() % 60000), 0};
        slots[1] = n % 4 == 0 ? cons(slots[0], kept) : kept;
        if (n % 32 == 0) slots[1] = 0;
        CHECK(nk_home_promote(&home, slots, 2) == NK_OK);
        kept = home.roots[NK_ROOT_KERNEL] = slots[1];
        home.roots[NK_ROOT_SPARE] = slots[0];
        nk_nursery_reset(&arena);
        if (nk_collect_is_idle(&home)) nk_collect_begin(&home);
        nk_collect_step(&home, 3000);
        sound();
    }
    nk_home_collect(&home);
    struct model model = model_make();
    CHECK(home.words_used == model.words);
    free(model.seen);
}

/* Closing at any moment of a cycle; nothing of it is left. */
static void test_close(void) {
    for (int round = 0; round < 40; round++) {
        start_ship(64u << 20);
        nk_collect_begin(&home);
        for (uint64_t n = draw() % 30; n > 0; n--) {
            if (draw() % 2 == 0) nk_collect_step(&home, 1000);
            event();
        }
    }
}

/* A save in any phase: what is loaded is whole, and has the same roots. */
static void test_save(void) {
    char path[] = "collect-XXXXXX", message[256];
    int fd = mkstemp(path);
    CHECK(fd >= 0 && close(fd) == 0);
    start_ship(64u << 20);
    struct nk_identity identity = {{1}, {2}};
    struct nk_image *image;
    struct nk_image_info info;
    unsigned phases = 0;
    CHECK(nk_image_open(path, false, &image, message) == NK_OK);
    for (uint64_t number = 1; number <= 60; number++) {
        event();
        event();
        if (nk_collect_is_idle(&home)) nk_collect_begin(&home);
        struct nk_home_state *state = home.private_state;
        enum nk_phase wanted = (enum nk_phase)(number % (NK_PHASE_RELEASING + 1));
        while (!nk_collect_is_idle(&home) && state->cycle.phase != wanted)
            nk_collect_step(&home, 0);
        phases |= 1u << state->cycle.phase;
        uint32_t mug = nk_mug(&arena, home.roots[NK_ROOT_KERNEL]);
        CHECK(nk_image_save(image, &home, &identity, number, mug, &info) == NK_OK);
        struct nk_arena arena2;
        struct nk_home home2;
        struct nk_image *image2;
        CHECK(nk_arena_open(&arena2, 64u << 20, 1u << 20) == NK_OK);
        CHECK(nk_home_open(&home2, &arena2) == NK_OK);
        CHECK(nk_image_open(path, true, &image2, message) == NK_OK);
        CHECK(nk_image_load(image2, &home2, UINT64_MAX, true, &info) == NK_OK);
        CHECK(info.good && info.event == number);
        CHECK(nk_home_check(&home2) == NULL);
        CHECK(nk_mug(&arena2, home2.roots[NK_ROOT_KERNEL]) == mug);
        nk_image_close(image2);
        nk_home_close(&home2);
        nk_arena_close(&arena2);
    }
    for (int phase = NK_PHASE_IDLE; phase <= NK_PHASE_SWEEPING; phase++)
        CHECK((phases >> phase & 1) != 0);
    nk_image_close(image);
    /* Pages that show the image are read by the thread and taken over by
     * promotion at the same time. */
    for (int round = 0; round < 5; round++) {
        reopen(64u << 20);
        CHECK(nk_image_open(path, false, &image, message) == NK_OK);
        CHECK(nk_image_load(image, &home, UINT64_MAX, false, &info) == NK_OK);
        nk_noun list = home.roots[NK_ROOT_KERNEL];
        for (size_t i = SLOTS; i-- > 0; list = nk_tail(&arena, list)) {
            values[i] = nk_head(&arena, list);
            mugs[i] = nk_mug(&arena, values[i]);
        }
        nk_collect_begin(&home);
        for (int n = 0; n < 30; n++) {
            event();
            nk_collect_step(&home, 1000);
        }
        (void)nk_collect_finish(&home);
        intact();
        nk_image_close(image);
    }
    CHECK(unlink(path) == 0);
}

int main(void) {
    test_random();
    test_exact();
    test_limit();
    test_large();
    test_close();
    test_save();
    nk_home_close(&home);
    nk_arena_close(&arena);
    return 0;
}
