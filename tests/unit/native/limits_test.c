/* units: machine */
/* Long walks can be stopped, programs take bounded memory, and every limit
 * ends in its own status with the machine alive. */
#include "code.h"
#include "nock.h"
#include "probe.h"
#include "text.h"

static struct nk_machine machine;
static struct nk_arena *const arena = &machine.arena;
static uint32_t polls, polls_max;

static nk_status poll(void *context) {
    (void)context;
    return ++polls > polls_max ? NK_INTR : NK_OK;
}

/* The next walk is stopped after [count] polls that let it go on. */
static void stop_after(uint32_t count) {
    polls = 0;
    polls_max = count;
    arena->poll = poll;
    arena->stopped = NK_OK;
}

static nk_noun cons(nk_noun head, nk_noun tail) {
    nk_noun made = nk_cons_try(arena, head, tail);
    CHECK(made != NK_NONE);
    return made;
}

/* A list whose cells are all its own. */
static nk_noun long_list(uint64_t length, nk_noun item) {
    nk_noun list = 0;
    for (uint64_t i = 0; i < length; i++)
        list = cons(item == 0 ? i : item, list);
    return list;
}

#define LENGTH 400000u

static void test_walks_stop(void) {
    const char *why;
    const uint8_t *bytes;
    size_t size;
    nk_noun a = long_list(LENGTH, 0), b = long_list(LENGTH, 0), back;
    stop_after(3);
    CHECK(!nk_equal(arena, a, b) && arena->stopped == NK_INTR && polls == 4);
    stop_after(UINT32_MAX - 1);
    CHECK(nk_equal(arena, a, b) && arena->stopped == NK_OK && polls >= 4);
    stop_after(2);
    CHECK(nk_jam(machine.jammer, arena, a, &bytes, &size) == NK_INTR);
    stop_after(UINT32_MAX - 1);
    CHECK(nk_jam(machine.jammer, arena, a, &bytes, &size) == NK_OK && polls >= 4);
    uint8_t *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, bytes, size);
    uint64_t top = arena->top;
    stop_after(2);
    CHECK(nk_cue(machine.jammer, arena, copy, size, &back, &why) == NK_INTR);
    CHECK(arena->top == top);
    stop_after(UINT32_MAX - 1);
    CHECK(nk_cue(machine.jammer, arena, copy, size, &back, &why) == NK_OK);
    CHECK(nk_equal(arena, a, back));
    free(copy);
    nk_machine_discard(&machine);
}

static void test_compilation_stops(void) {
    struct nk_program *program;
    /* An autocons of increments, longer than a program holds. */
    nk_noun formula = long_list(LENGTH, text_noun(arena, "[4 0 1]"));
    formula = cons(text_noun(arena, "[4 0 1]"), cons(formula, 0));
    formula = nk_head(arena, nk_tail(arena, formula));
    nk_noun last = text_noun(arena, "[0 1]"), rest = last;
    for (nk_noun l = formula; nk_is_cell(l); l = nk_tail(arena, l))
        rest = cons(nk_head(arena, l), rest);
    for (uint32_t count = 0; count < 40; count += 13) {
        stop_after(count);
        CHECK(nk_code_get(machine.code, arena, rest, &program) == NK_INTR);
    }
    stop_after(UINT32_MAX - 1);
    CHECK(nk_code_get(machine.code, arena, rest, &program) == NK_OK);
    CHECK(polls > 40);
    CHECK(nk_code_get(machine.code, arena, 7, &program) == NK_EXIT);
    nk_machine_discard(&machine);
}

/* Of a formula that shares the program of an equal one, all is looked at once. */
static void test_equal_formulas_are_compared_once(void) {
    struct nk_program *first, *other;
    nk_noun a = long_list(LENGTH, 0), b = long_list(LENGTH, 0);
    a = cons(6, cons(text_noun(arena, "[1 0]"), cons(text_noun(arena, "[1 7]"), a)));
    b = cons(6, cons(text_noun(arena, "[1 0]"), cons(text_noun(arena, "[1 7]"), b)));
    stop_after(UINT32_MAX - 1);
    CHECK(nk_code_get(machine.code, arena, a, &first) == NK_OK);
    CHECK(nk_code_get(machine.code, arena, b, &other) == NK_OK && other == first);
    stop_after(0);
    CHECK(nk_code_get(machine.code, arena, b, &other) == NK_OK && other == first);
    CHECK(polls == 0);
    nk_machine_discard(&machine);
}

/* An equality that was cut short decides nothing: the run is over. */
static void test_a_stopped_equality_ends_the_run(void) {
    static const char *const formulas[] = {"[5 [0 2] 0 3]",
                                           "[6 [5 [0 2] 0 3] [1 1] 1 2]",
                                           /* not for a virtual run to catch */
                                           "[7 [5 [0 2] 0 3] 1 5]"};
    for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++) {
        nk_noun a = long_list(LENGTH, 0), b = long_list(LENGTH, 0), product;
        nk_noun formula = text_noun(arena, formulas[i]);
        stop_after(1);
        CHECK(nk_nock(&machine, cons(a, b), formula, &product) == NK_INTR);
        nk_machine_discard(&machine);
        stop_after(UINT32_MAX - 1);
        CHECK(nk_nock(&machine, 0, text_noun(arena, "[4 1 6]"), &product) == NK_OK);
        CHECK(product == 7);
    }
}

/* What one event had stopped stops nothing of the next. */
static void test_a_stop_ends_with_its_event(nk_status (*own)(void *)) {
    const char *why;
    const uint8_t *bytes;
    size_t size;
    nk_noun a = long_list(LENGTH, 0), b = long_list(LENGTH, 0), back;
    stop_after(UINT32_MAX - 1);
    CHECK(nk_jam(machine.jammer, arena, a, &bytes, &size) == NK_OK);
    uint8_t *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, bytes, size);
    arena->poll = own;
    for (int commits = 0; commits < 2; commits++) {
        machine.deadline_ns = 1;
        CHECK(!nk_equal(arena, a, b) && arena->stopped == NK_INTR);
        machine.deadline_ns = 0;
        nk_noun kernel = 0;
        if (commits)
            CHECK(nk_machine_commit(&machine, &kernel) == NK_OK);
        else
            nk_machine_discard(&machine);
        CHECK(nk_cue(machine.jammer, arena, copy, size, &back, &why) == NK_OK);
        a = long_list(LENGTH, 0);
        b = long_list(LENGTH, 0);
    }
    free(copy);
    nk_machine_discard(&machine);
}

/* A formula whose parts are shared is a long one only where it is run. */
static void test_shared_formulas_compile_soon(void) {
    static const char *const leaves[] = {"[1 0]", "[0 1]", "[0 1]"};
    for (size_t i = 0; i < 3; i++) {
        nk_noun formula = text_noun(arena, leaves[i]), product;
        for (int k = 0; k < 200; k++) {
            nk_noun both = cons(formula, formula);
            formula = i == 0   ? cons(6, cons(formula, cons(formula, cons(1, 1))))
                      : i == 1 ? cons(7, both)
                               : cons(10, cons(cons(1, formula), formula));
        }
        formula = cons(6, cons(formula, cons(formula, formula)));
        nk_noun never = cons(6, cons(text_noun(arena, "[3 0 1]"),
                                     cons(formula, text_noun(arena, "[1 42]"))));
        stop_after(1000);
        CHECK(nk_nock(&machine, 7, never, &product) == NK_OK && product == 42);
        nk_machine_discard(&machine);
    }
}

static void interrupt_one(void *word) {
    atomic_store((_Atomic uint32_t *)word, 1);
}

/* A loop of counters asks as often as one of calls, and has calls again once a
 * counter is no direct atom any more. */
static void test_counted_loops_stop(void) {
    static const struct {
        const char *text;
        uint64_t rounds, calls;
    } loops[] = {
        {"[7 [[1 6 [5 [0 6] 1 3] [0 6] 9 2 10 [6 4 0 6] 0 1] 1 5 0] 9 2 0 1]", 1000, 1},
        {"[7 [[1 6 [5 [0 6] 1 3] [0 6] 9 2 10 [6 4 0 6] 0 1] 1 9223372036854775407 0] "
         "9 2 0 1]",
         398, 200},
    };
    _Atomic uint32_t interrupt;
    machine.interrupt = &interrupt;
    machine.alarm = interrupt_one;
    machine.alarm_context = &interrupt;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        nk_noun product, formula = text_noun(arena, loops[i].text);
        interrupt = 0;
        machine.alarm_ns = 1; /* at the first poll: the second one ends the run */
        machine.probe = nk_probe_new();
        nk_machine_request(&machine, 1);
        CHECK(nk_nock(&machine, 0, formula, &product) == NK_INTR);
        const uint64_t *counts = machine.probe->instructions;
        CHECK(counts[NK_OP_ROUND] >= loops[i].rounds);
        CHECK(counts[NK_OP_TSLAM] >= loops[i].calls);
        CHECK(loops[i].calls > 1 || counts[NK_OP_TSLAM] == 1);
        nk_probe_free(machine.probe);
        machine.probe = NULL;
        nk_machine_request(&machine, 0);
        nk_machine_discard(&machine);
    }
    machine.interrupt = NULL;
}

/* Programs that an event is done with give way to new ones. */
static void test_programs_are_bounded(void) {
#ifdef NK_TINY
    const uint64_t bytes_max = 16u << 20;
#else
    const uint64_t bytes_max = 1u << 30;
#endif
    stop_after(UINT32_MAX - 1);
    nk_noun held[1] = {0}, product;
    struct nk_root_frame frame;
    for (uint32_t i = 0; i < 300; i++) {
        nk_noun formula = cons(1, i); /* equal ones would share a program */
        for (uint32_t k = 0; k < 2000; k++)
            formula = cons(cons(4, cons(0, 1)), formula);
        held[0] = cons(formula, held[0]);
    }
    nk_root_push(arena, &frame, held, 1);
    uint64_t peak = 0;
    for (uint32_t i = 0; i < 300; i++) {
        nk_noun list = held[0];
        for (uint32_t k = 0; k < i; k++)
            list = nk_tail(arena, list);
        CHECK(nk_nock(&machine, i, nk_head(arena, list), &product) == NK_OK);
        CHECK(nk_is_cell(product) && nk_head(arena, product) == i + 1);
        uint64_t bytes = nk_code_stats(machine.code).bytes;
        if (bytes > peak) peak = bytes;
    }
    CHECK(peak < bytes_max + (2u << 20));
#ifdef NK_TINY
    CHECK(nk_code_stats(machine.code).compiled > 300 && peak > bytes_max / 4);
#endif
    nk_root_pop(arena, &frame);
    nk_machine_discard(&machine);
    CHECK(nk_code_stats(machine.code).nursery_programs == 0);
}

/* Formulas in home are kept from event to event: not beyond all bounds. */
static void test_programs_of_home_are_bounded(void) {
#ifdef NK_TINY
    nk_noun product, list = 0;
    for (uint32_t i = 0; i < 300; i++) {
        nk_noun formula = cons(1, i); /* equal ones would share a program */
        for (uint32_t k = 0; k < 2000; k++)
            formula = cons(cons(4, cons(0, 1)), formula);
        list = cons(formula, list);
    }
    CHECK(nk_machine_commit(&machine, &list) == NK_OK);
    machine.home.roots[NK_ROOT_KERNEL] = list;
    uint64_t peak = 0;
    for (nk_noun l = list; nk_is_cell(l); l = nk_tail(arena, l)) {
        nk_status status = nk_nock(&machine, 5, nk_head(arena, l), &product);
        CHECK(status == NK_OK);
        uint64_t bytes = nk_code_stats(machine.code).bytes;
        if (bytes > peak) peak = bytes;
        nk_machine_discard(&machine);
    }
    CHECK(peak > 4u << 20 && peak < 10u << 20);
    /* Within one event nothing of home's can be dropped: %meme. */
    nk_status status = NK_OK;
    for (nk_noun l = list; nk_is_cell(l) && status == NK_OK; l = nk_tail(arena, l))
        status = nk_nock(&machine, 5, nk_head(arena, l), &product);
    CHECK(status == NK_MEME);
    nk_machine_discard(&machine);
    CHECK(nk_nock(&machine, 5, nk_head(arena, list), &product) == NK_OK);
    nk_machine_discard(&machine);
#endif
}

static nk_status run(const char *formula) {
    nk_noun product;
    nk_status status = nk_nock(&machine, 0, text_noun(arena, formula), &product);
    nk_machine_discard(&machine);
    CHECK(nk_nock(&machine, 0, text_noun(arena, "[4 1 6]"), &product) == NK_OK);
    CHECK(product == 7);
    nk_machine_discard(&machine);
    return status;
}

static void test_each_limit_has_its_status(void) {
    stop_after(UINT32_MAX - 1);
    machine.stack_size_max = 1u << 20;
    CHECK(run("[8 [1 4 9 2 0 1] 9 2 0 1]") == NK_OVER);
    machine.stack_size_max = 64u << 20;
    nk_nursery_limit(arena, 8u << 20);
    CHECK(run("[8 [[1 9 2 10 [6 [1 1] 0 6] 0 1] [1 0] 0 1] 9 2 0 2]") == NK_MEME);
    nk_nursery_limit(arena, 64u << 20);
    /* A state that does not fit in home: nothing has changed. */
    nk_home_limit(&machine.home, 1u << 20);
    nk_noun small = cons(1, 2), large = long_list(200000, 0);
    CHECK(nk_machine_commit(&machine, &large) == NK_MEME);
    nk_machine_discard(&machine);
    small = cons(1, 2);
    CHECK(nk_machine_commit(&machine, &small) == NK_OK);
    CHECK(nk_head(arena, small) == 1);
    machine.deadline_ns = 1;
    arena->poll = NULL;
    nk_noun product;
    CHECK(nk_nock(&machine, 0, text_noun(arena, "[8 [1 9 2 0 1] 9 2 0 1]"), &product) ==
          NK_INTR);
    machine.deadline_ns = 0;
    nk_machine_discard(&machine);
    CHECK(run("[0 0]") == NK_EXIT);
}

int main(void) {
    CHECK(nk_machine_open(&machine, 256ull << 20, 512ull << 20) == NK_OK);
    test_a_stop_ends_with_its_event(arena->poll);
    test_walks_stop();
    test_compilation_stops();
    test_equal_formulas_are_compared_once();
    test_a_stopped_equality_ends_the_run();
    test_shared_formulas_compile_soon();
    test_counted_loops_stop();
    test_programs_are_bounded();
    test_programs_of_home_are_bounded();
    test_each_limit_has_its_status();
    nk_machine_close(&machine);
    return 0;
}
