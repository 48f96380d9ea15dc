/* units: noun nursery mug home freeze collect status */
/* Promotion keeps nouns, sharing and mugs, or changes nothing; every page
 * written is marked dirty; collection frees what no root reaches. */
#include "collect.h"
#include "home_rig.h"
#include "mug.h"

#include <string.h>

/* A random graph of about [count] boxes that may hold [old] in places. */
static nk_noun random_noun(size_t count, nk_noun old) {
    nk_noun pool[16];
    for (int i = 0; i < 16; i++)
        pool[i] = draw() % 3 == 0 ? old : draw() >> 1;
    for (size_t i = 0; i < count; i++) {
        nk_noun made = draw() % 5 == 0 ? big_atom(1 + draw() % 40)
                                       : cons(pool[draw() % 16], pool[draw() % 16]);
        pool[draw() % 16] = made;
    }
    nk_noun all = 0;
    for (int i = 0; i < 16; i++)
        all = cons(pool[i], all);
    return all;
}

static void promote_kernel(nk_noun n) {
    CHECK(nk_home_promote(&home, &n, 1) == NK_OK);
    CHECK(nk_is_durable(&arena, n));
    home.roots[NK_ROOT_KERNEL] = n;
    nk_nursery_reset(&arena);
}

static void test_small_promotion(void) {
    reopen(16u << 20);
    nk_noun shared = cons(1, 2);
    nk_noun slots[4] = {cons(shared, shared), 7, shared, NK_NONE};
    CHECK(nk_home_promote(&home, slots, 4) == NK_OK);
    CHECK(slots[1] == 7 && slots[3] == NK_NONE);
    CHECK(nk_head(&arena, slots[0]) == slots[2] &&
          nk_tail(&arena, slots[0]) == slots[2]);
    CHECK(home.words_used == 6 && home.words_promoted == 6 && home.promotions == 1);
    CHECK(home.dirty_count == 1 && home.page_count == 2);
    CHECK(nk_cell_at(&arena, slots[2])->mug == nk_mug_both(0x715c2a60, 0x718b9468));
    home.roots[NK_ROOT_KERNEL] = slots[0];
    nk_nursery_reset(&arena);
    /* What is in home already is left alone. */
    nk_noun again[2] = {slots[0], cons(slots[0], 3)};
    CHECK(nk_home_promote(&home, again, 2) == NK_OK);
    CHECK(again[0] == slots[0] && nk_head(&arena, again[1]) == slots[0]);
    CHECK(home.words_used == 9);
    sound();
    nk_nursery_reset(&arena);
}

/* Nouns survive, whatever happens to the state in between; and each page
 * whose bytes changed is marked. */
static void test_random_events(void) {
    reopen(64u << 20);
    static uint8_t before[64u << 20];
    nk_noun kernel = 0;
    for (int event = 0; event < 120; event++) {
        memcpy(before, arena.base, home.page_count * NK_PAGE_SIZE);
        memset(home.dirty, 0, 512);
        home.dirty_count = 0;
        uint64_t pages_before = home.page_count;
        nk_noun next = random_noun(draw() % 400, kernel);
        if (event % 7 == 0) next = random_noun(2000, 0);
        uint32_t mug = nk_mug(&arena, next);
        promote_kernel(next);
        kernel = home.roots[NK_ROOT_KERNEL];
        CHECK(nk_mug(&arena, kernel) == mug);
        uint64_t dirty = 0;
        for (uint64_t i = 0; i < home.page_count; i++) {
            bool marked = (home.dirty[i / 64] >> i % 64 & 1) != 0;
            dirty += marked;
            if (i >= pages_before || marked) continue;
            CHECK(memcmp(before + i * NK_PAGE_SIZE,
                         (uint8_t *)arena.base + i * NK_PAGE_SIZE, NK_PAGE_SIZE) == 0);
        }
        CHECK(dirty == home.dirty_count);
        sound();
        if (event % 10 == 9) {
            nk_home_collect(&home);
            sound();
            CHECK(nk_mug(&arena, kernel) == mug);
        }
    }
}

static void test_failure_changes_nothing(void) {
    reopen(4u << 20);
    promote_kernel(random_noun(200, 0));
    nk_home_limit(&home, (home.page_count + 2) * NK_PAGE_SIZE);
    struct nk_home saved = home;
    nk_noun list = 0;
    for (uint64_t i = 0; i < 5000; i++)
        list = cons(i, list);
    nk_noun slots[3] = {list, cons(big_atom(3000), big_atom(3000)), cons(list, list)};
    nk_noun kept[3];
    memcpy(kept, slots, sizeof slots);
    CHECK(nk_home_promote(&home, slots, 3) == NK_MEME);
    CHECK(memcmp(kept, slots, sizeof slots) == 0);
    CHECK(home.words_used == saved.words_used && home.promotions == saved.promotions);
    for (uint64_t at = list, i = 5000; i-- > 0; at = nk_tail(&arena, at)) {
        CHECK(nk_head(&arena, at) == i);
        CHECK((nk_cell_at(&arena, at)->mug & NK_FORWARDED) == 0);
    }
    CHECK(nk_mug(&arena, slots[1]) < NK_FORWARDED);
    sound();
    /* Runs alone fit, the cells do not: the runs must be free again. */
    nk_home_limit(&home, (home.page_count + 7) * NK_PAGE_SIZE);
    CHECK(nk_home_promote(&home, slots, 3) == NK_MEME);
    sound();
    nk_home_limit(&home, 4u << 20);
    CHECK(nk_home_promote(&home, slots, 3) == NK_OK);
    memcpy(home.roots + 1, slots, sizeof slots);
    sound();
    nk_nursery_reset(&arena);
    /* A single run that no gap holds. */
    nk_noun huge = big_atom(600000);
    CHECK(nk_home_promote(&home, &huge, 1) == NK_MEME);
    nk_nursery_reset(&arena);
    sound();
}

/* With the limit reached, nearly full pages are used to the last box. */
static void test_tight_home_is_filled(void) {
    reopen(8 * NK_PAGE_SIZE);
    nk_noun keep = 0;
    uint64_t boxes = 7 * (NK_PAGE_WORDS / 3);
    for (uint64_t i = 0; i < boxes; i++) {
        nk_noun slots[2] = {cons(i, 0), keep};
        if (i % 10 != 0) keep = cons(i, keep);
        slots[1] = keep;
        size_t first = i % 10 != 0; /* every tenth is garbage */
        CHECK(nk_home_promote(&home, slots + first, 1) == NK_OK);
        if (first) keep = home.roots[NK_ROOT_KERNEL] = slots[1];
        nk_nursery_reset(&arena);
    }
    nk_noun one = cons(1, 1);
    CHECK(nk_home_promote(&home, &one, 1) == NK_MEME);
    nk_nursery_reset(&arena);
    nk_home_collect(&home);
    uint64_t room = (boxes + 9) / 10;
    CHECK(home.words_used == (boxes - room) * 3);
    for (uint64_t i = 0; i < room; i++) {
        nk_noun more = cons(i, home.roots[NK_ROOT_COLD]);
        if (i == 0) more = cons(0, 0);
        CHECK(nk_home_promote(&home, &more, 1) == NK_OK);
        home.roots[NK_ROOT_COLD] = more;
        nk_nursery_reset(&arena);
    }
    one = cons(1, 1);
    CHECK(nk_home_promote(&home, &one, 1) == NK_MEME);
    nk_nursery_reset(&arena);
    sound();
}

static void test_large_atoms(void) {
    reopen(64u << 20);
    nk_noun atoms[3];
    size_t sizes[3] = {1023, 1024, 30000};
    uint32_t mugs[3];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            atoms[i] = big_atom(sizes[i]);
            mugs[i] = nk_mug(&arena, atoms[i]);
        }
        CHECK(nk_home_promote(&home, atoms, 3) == NK_OK);
        memcpy(home.roots, atoms, sizeof atoms);
        nk_nursery_reset(&arena);
        sound();
        for (int i = 0; i < 3; i++) {
            CHECK(nk_mug_bytes(nk_atom_at(&arena, atoms[i])->data, sizes[i] * 8) ==
                  mugs[i]);
        }
        nk_home_collect(&home);
        sound();
    }
    /* Runs of the first round are used again in the third. */
    CHECK(home.page_count <= 1 + 2 * (1 + 1 + 15));
    for (int i = 0; i < 3; i++)
        home.roots[i] = NK_NONE;
    nk_home_collect(&home);
    CHECK(home.words_used == 0);
    nk_home_collect(&home);
    sound();
}

static void test_deep_and_shared(void) {
    reopen(256u << 20);
    nk_noun left = 0, right = 0, ladder = 5;
    for (uint64_t i = 0; i < 500000; i++)
        left = cons(left, i);
    for (uint64_t i = 0; i < 500000; i++)
        right = cons(i, right);
    for (int i = 0; i < 1000; i++)
        ladder = cons(ladder, ladder);
    nk_noun n = cons(left, cons(right, ladder));
    promote_kernel(n);
    CHECK(home.words_used == 3 * (1000000 + 1000 + 2));
    sound();
    nk_home_collect(&home);
    CHECK(home.words_used == 3 * (1000000 + 1000 + 2));
    home.roots[NK_ROOT_KERNEL] = nk_slot(&arena, home.roots[NK_ROOT_KERNEL], 7);
    nk_home_collect(&home);
    CHECK(home.words_used == 3 * 1000);
    sound();
}

/* A ship that overwrites its state stays bounded. */
static void test_overwriting_stays_bounded(void) {
    reopen(64u << 20);
    uint64_t collections = 0, most = 0;
    nk_noun old = 0;
    for (int event = 0; event < 20000; event++) {
        nk_noun state = 0;
        for (uint64_t i = 0; i < 30; i++)
            state = cons(draw() >> 1, state);
        state = cons(state, event % 100 == 0 ? 0 : cons(old, 0));
        promote_kernel(state);
        old = nk_head(&arena, home.roots[NK_ROOT_KERNEL]);
        if (nk_home_wants_collect(&home) || event % 500 == 0) {
            nk_home_collect(&home);
            collections++;
        }
        if (home.page_count > most) most = home.page_count;
    }
    CHECK(collections >= 40);
    CHECK(most < 64);
    sound();
}

static nk_noun held, weak[2];
static unsigned asked;

static void held_trace(void *context, struct nk_arena *a, nk_root_visit visit) {
    visit(a, context);
}
/* Looks at one a call, to be asked again. */
static bool weak_purge(void *context, const struct nk_home *of, size_t *cursor,
                       size_t budget) {
    nk_noun *slots = context;
    CHECK(budget > 0 && *cursor < 2);
    if (!nk_home_marked(of, slots[*cursor])) slots[*cursor] = NK_NONE;
    asked++;
    return ++*cursor == 2;
}

static void test_sources(void) {
    reopen(16u << 20);
    struct nk_home_source strong = {held_trace, NULL, &held, 0, NULL};
    struct nk_home_source table = {NULL, weak_purge, weak, 0, NULL};
    nk_noun slots[2] = {cons(cons(1, 2), 3), cons(4, big_atom(2))};
    CHECK(nk_home_promote(&home, slots, 2) == NK_OK);
    nk_nursery_reset(&arena);
    held = slots[0];
    weak[0] = nk_head(&arena, slots[0]);
    weak[1] = slots[1];
    nk_home_source_add(&home, &strong);
    nk_home_source_add(&home, &table);
    nk_home_collect(&home);
    CHECK(asked == 2 && weak[0] == nk_head(&arena, held) && weak[1] == NK_NONE);
    CHECK(home.words_used == 6);
    sound();
}

static void test_adopt_and_mapped_pages(void) {
    reopen(16u << 20);
    promote_kernel(random_noun(3000, 0));
    nk_home_collect(&home);
    uint64_t used = home.words_used, pages = home.page_count;
    for (uint64_t i = 1; i < pages; i++) {
        home.pages[i].free_count = 0; /* adopt counts for itself */
        home.pages[i].flags = NK_PAGE_MAPPED;
    }
    memset(home.dirty, 0, 512);
    nk_home_adopt(&home);
    CHECK(home.words_used == used && home.dirty_count == 0);
    sound();
    uint32_t mug = nk_mug(&arena, home.roots[NK_ROOT_KERNEL]);
    promote_kernel(cons(random_noun(30, 0), home.roots[NK_ROOT_KERNEL]));
    CHECK(nk_mug(&arena, nk_tail(&arena, home.roots[NK_ROOT_KERNEL])) == mug);
    uint64_t touched = 0;
    for (uint64_t i = 1; i < pages; i++) {
        bool dirty = (home.dirty[i / 64] >> i % 64 & 1) != 0;
        CHECK(home.pages[i].flags == (dirty ? NK_PAGE_TOUCHED : NK_PAGE_MAPPED));
        touched += dirty;
    }
    CHECK(touched > 0 && touched < pages - 1);
    sound();
    home.roots[NK_ROOT_KERNEL] = NK_NONE;
    for (int i = 0; i < 2; i++)
        nk_home_collect(&home);
    /* Free by now, but a file lies beneath: never given back. */
    for (uint64_t i = 1; i < pages; i++) {
        CHECK(home.pages[i].class_index == NK_CLASS_FREE);
        CHECK((home.pages[i].flags & NK_PAGE_GIVEN_BACK) == 0);
    }
}

static void test_no_home(void) {
    reopen(0);
    nk_noun n = cons(1, 2);
    CHECK(nk_home_promote(&home, &n, 1) == NK_MEME);
    CHECK(nk_head(&arena, n) == 1);
    nk_noun direct = 5;
    CHECK(nk_home_promote(&home, &direct, 1) == NK_OK && direct == 5);
}

int main(void) {
    test_small_promotion();
    test_random_events();
    test_failure_changes_nothing();
    test_tight_home_is_filled();
    test_large_atoms();
    test_deep_and_shared();
    test_overwriting_stays_bounded();
    test_sources();
    test_adopt_and_mapped_pages();
    test_no_home();
    nk_home_close(&home);
    nk_arena_close(&arena);
    return 0;
}
