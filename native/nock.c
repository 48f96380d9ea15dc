/* The machine's loop, its stack, virtualisation and unwinding.
 *
 * The stack holds frames of registers. Below each frame's register 0 lies
 * the return address (see "links"); the call before that address says how
 * many of the caller's registers stay, so frames need no other header. Frames
 * under `watermark` have not run since the last collection: a minor one skips
 * them.
 *
 * A mark notes where a virtual run (mink) or a scry handler began: what to
 * restore, and where to go on when it crashes or blocks. */

/* GCC makes one jump of all those that end instructions, and parts them
 * again late, unless an earlier pass has put its own code there: measured,
 * the loop is twice as fast without these passes. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-slp-vectorize", "no-gcse", "no-crossjumping")
#endif

#include "nock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "atom.h"
#include "big.h"
#include "code.h"
#include "cord.h"
#include "jet.h"
#include "mug.h"
#include "memo.h"
#include "probe.h"
#include "stub.h"

#ifndef NK_TINY
#define STACK_SIZE (8ull << 30)
#else
#define STACK_SIZE (64ull << 20)
#endif
#define STACK_STEP (1ull << 20) /* bytes that are in use without asking */
#define FUEL 1024               /* calls between two looks at the clock */
#define MARKS_MAX (1u << 20)
#define NO_MARK UINT32_MAX

enum mark_kind { MARK_MINK, MARK_SCRY, MARK_CHECK };

/* A check of a jet: first what stands for the arm runs (CHECK), then the
 * arm's own Nock (RECHECK). What the first gave is what goes on. */
enum check_phase { CHECK_JET, CHECK_NOCK };

struct mark {
    enum mark_kind kind;
    uint32_t handler;   /* innermost visible handler outside */
    uint32_t owner;     /* scry: the mark of the mink whose handler runs */
    uint64_t *base;     /* not scry: the frame that goes on */
    const uint32_t *ip; /* and where, after a crash */
    struct nk_program *program;
    nk_noun gate; /* mink: its handler. check: what the jet gave */
    enum check_phase phase;
    nk_status status;         /* check: how the jet ended */
    const uint32_t *answered; /* check: where its answer stands */
    const struct nk_arm *arm; /* check */
    nk_noun core;             /* check */
    nk_noun jet_trace;        /* check: of the jet's crash */
    nk_noun trace;            /* outside */
    nk_noun loops;
    uint64_t context;
    uint64_t deadline_ns;
};

struct nk_stack {
    uint64_t *start, *limit, *end, *watermark;
    uint64_t *base; /* of the running frame; NULL when nothing runs */
    const uint32_t *ip;
    struct nk_program *program;
    struct mark *marks;
    uint32_t mark_count, mark_capacity;
    uint32_t handler; /* innermost visible handler, or NO_MARK */
    uint64_t context; /* tells virtual runs apart, for %memo */
    uint64_t context_next;
    nk_noun loops;  /* [subject formula] pairs under %loop */
    nk_noun result; /* between an unwinding and UNWOUND */
    nk_noun result_tag;
    uint64_t grown;     /* bytes of the stack that may have been touched */
    uint32_t checking;  /* marks that check, in their second phase */
    int64_t check_left; /* instructions */
    const struct nk_arm *to_check;
    struct nk_program *nock_stub, *slam_stub, *check_stub;
    struct nk_root_source source;
    struct nk_home_source home_source;
};

/* ---- links ---- */

/* What lies below a frame: the return address, and in its upper bits how far
 * the caller's frame is, so that a return need not wait for the code to tell
 * (measured: a tenth of deep recursion). 0 there: too far, ask the code. */
#ifndef NK_TINY
#define LINK_SIZE_MAX 0xffffu
#else
#define LINK_SIZE_MAX 2u
#endif
#define LINK_BITS 48

static inline uint64_t link_to(const uint32_t *ip) {
    uint64_t size = 1 + (uint64_t)ip[-3];
    return (uint64_t)ip | (size <= LINK_SIZE_MAX ? size << LINK_BITS : 0);
}

static inline const uint32_t *link_ip(uint64_t link) {
    return (const uint32_t *)(link & ((1ull << LINK_BITS) - 1));
}

static inline uint64_t link_size(uint64_t link) {
    uint64_t size = link >> LINK_BITS;
    return NK_LIKELY(size != 0) ? size : 1 + (uint64_t)link_ip(link)[-3];
}

/* ---- roots ---- */

static void mark_active(const struct nk_stack *stack) {
    stack->program->active = true;
    const uint64_t *base = stack->base;
    for (const uint32_t *ip = link_ip(base[-1]); ip != NULL; ip = link_ip(base[-1])) {
        nk_code_of(ip)->active = true;
        base -= 1 + ip[-3];
    }
}

static void trace_frame(const struct nk_program *program, const struct nk_live *live,
                        uint64_t *base, struct nk_arena *arena, nk_root_visit visit) {
    uint32_t next = live->dead_start, end = next + live->dead_count;
    for (uint32_t reg = 0; reg < live->depth; reg++) {
        if (next < end && program->dead[next] == reg) {
            next++;
        } else {
            visit(arena, &base[reg]);
        }
    }
}

static void trace_stack(struct nk_stack *stack, struct nk_arena *arena,
                        nk_root_visit visit) {
    uint64_t *base = stack->base;
    const struct nk_live *live = nk_code_point(stack->program, stack->ip);
    NK_ASSERT(live != NULL);
    trace_frame(stack->program, live, base, arena, visit);
    /* Deep recursion repeats itself: what was found out about a return
     * address mostly serves the next frame too. */
    const struct nk_program *program = NULL;
    const uint32_t *last = NULL;
    uint32_t size = 0;
    for (const uint32_t *ip = link_ip(base[-1]); ip != NULL; ip = link_ip(base[-1])) {
        if (ip != last) {
            last = ip;
            program = nk_code_of(ip);
            size = 1 + ip[-3];
            live = &program->calls[ip[-2]];
        }
        base -= size;
        if (arena->minor && base < stack->watermark) break;
        trace_frame(program, live, base, arena, visit);
    }
    stack->watermark = stack->base;
}

static void trace_roots(void *context, struct nk_arena *arena, nk_root_visit visit) {
    struct nk_machine *machine = context;
    struct nk_stack *stack = machine->stack;
    bool drop = nk_code_crowded(machine->code);
    if (drop && stack->base != NULL) mark_active(stack);
    nk_code_trace(machine->code, arena, visit, drop);
    visit(arena, &machine->trace);
    visit(arena, &machine->block);
    visit(arena, &stack->loops);
    visit(arena, &stack->result);
    for (uint32_t i = 0; i < stack->mark_count; i++) {
        visit(arena, &stack->marks[i].gate);
        visit(arena, &stack->marks[i].trace);
        visit(arena, &stack->marks[i].loops);
        visit(arena, &stack->marks[i].core);
        visit(arena, &stack->marks[i].jet_trace);
    }
    nk_jets_trace(machine->jets, arena, visit);
    nk_memo_trace(machine->memo, arena, visit);
    if (stack->base != NULL) trace_stack(stack, arena, visit);
}

static void roots_moved(void *context, struct nk_arena *arena) {
    struct nk_machine *machine = context;
    (void)arena;
    nk_code_moved(machine->code);
}

static bool purge_home(void *context, const struct nk_home *home, size_t *cursor,
                       size_t budget) {
    struct nk_machine *machine = context;
    return nk_code_purge(machine->code, home, cursor, budget);
}

/* ---- open and close ---- */

/* A run begins with one of these. */
static const char nock_stub[] = "given subject formula\n"
                                "nock subject formula -> product\n"
                                "halt product\n";
static const char slam_stub[] = "given gate sample\n"
                                "slam gate sample -> product\n"
                                "halt product\n";

/* Checks a jet; the answer that stands is in register CHECK_VALUE. */
#define CHECK_VALUE 1u
#define CHECK_WORDS 8u
static const char check_stub[] = "          check core answered declined -> value\n"
                                 "          ld formula core 2\n"
                                 "          recheck value\n"
                                 "          nock core formula -> product\n"
                                 "          checked value product\n"
                                 "answered: ret value\n"
                                 "declined: ld formula core 2\n"
                                 "          tnock core formula\n";

static nk_status poll_arena(void *machine);

nk_status nk_machine_open(struct nk_machine *machine, uint64_t home_size,
                          uint64_t nursery_size) {
    memset(machine, 0, sizeof *machine);
    nk_status status = nk_arena_open(&machine->arena, home_size, nursery_size);
    if (status != NK_OK) return status;
    status = nk_home_open(&machine->home, &machine->arena);
    if (status != NK_OK) {
        nk_arena_close(&machine->arena);
        return status;
    }
    struct nk_stack *stack = calloc(1, sizeof *stack);
    NK_ASSERT(stack != NULL);
    machine->stack = stack;
    void *mapping = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        free(stack);
        nk_home_close(&machine->home);
        nk_arena_close(&machine->arena);
        memset(machine, 0, sizeof *machine);
        return NK_MEME;
    }
    (void)madvise(mapping, STACK_SIZE, MADV_DONTDUMP);
    /* Deep recursion touches fresh memory at each level; see nursery.c. */
    (void)madvise((char *)mapping + STACK_STEP, STACK_SIZE - STACK_STEP, MADV_HUGEPAGE);
    stack->start = mapping;
    stack->end = stack->start + STACK_SIZE / 8;
    stack->grown = STACK_STEP;
    stack->handler = NO_MARK;
    machine->stack_size_max = STACK_SIZE;
    machine->jets_enabled = true;
    machine->jammer = nk_jammer_new();
    machine->code = nk_code_new();
    machine->jets = nk_jets_new(machine->code);
    machine->memo = nk_memo_new();
    machine->arena.poll = poll_arena;
    machine->arena.poll_context = machine;
    stack->nock_stub = nk_stub_new(machine->code, "nock", nock_stub);
    stack->slam_stub = nk_stub_new(machine->code, "slam", slam_stub);
    stack->check_stub = nk_stub_new(machine->code, "check", check_stub);
    stack->source = (struct nk_root_source){trace_roots, roots_moved, machine, NULL};
    nk_root_source_add(&machine->arena, &stack->source);
    stack->home_source = (struct nk_home_source){NULL, purge_home, machine, 0, NULL};
    nk_home_source_add(&machine->home, &stack->home_source);
    return NK_OK;
}

void nk_machine_close(struct nk_machine *machine) {
    if (machine->stack == NULL) return;
    nk_memo_free(machine->memo);
    nk_jets_free(machine->jets);
    nk_code_free(machine->code);
    nk_jammer_free(machine->jammer);
    nk_probe_free(machine->probe);
    munmap(machine->stack->start, STACK_SIZE);
    free(machine->stack->marks);
    free(machine->stack);
    nk_big_end(&machine->arena);
    nk_home_close(&machine->home);
    nk_arena_close(&machine->arena);
    memset(machine, 0, sizeof *machine);
}

/* ---- time ---- */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A @dr: 2^64 a second. */
static uint64_t ns_of_dr(const struct nk_arena *arena, nk_noun dr) {
    uint64_t words[2];
    if (nk_atom_size(arena, dr) > 12) return UINT64_MAX / 2;
    nk_atom_read(arena, dr, words, sizeof words);
    return words[1] * 1000000000u + ((words[0] >> 32) * 1000000000u >> 32);
}

void nk_machine_request(struct nk_machine *machine, uint64_t request) {
    machine->request = (uint32_t)request;
    if (machine->request == 0 && request != 0) machine->request = UINT32_MAX;
    if (machine->interrupt == NULL || machine->request == 0) return;
    /* Numbers rise, and wrap; what is not ahead of us is over. */
    uint32_t word = atomic_load_explicit(machine->interrupt, memory_order_relaxed);
    if (word != 0 && (int32_t)(word - machine->request) < 0) {
        atomic_compare_exchange_strong(machine->interrupt, &word, 0);
    }
}

void nk_machine_interrupted(struct nk_machine *machine) {
    uint32_t word = machine->request;
    if (machine->interrupt == NULL || word == 0) return;
    atomic_compare_exchange_strong(machine->interrupt, &word, 0);
}

static nk_status poll(struct nk_machine *machine) {
    if (machine->arena.stopped != NK_OK) return machine->arena.stopped;
    if (machine->interrupt != NULL && machine->request != 0 &&
        atomic_load_explicit(machine->interrupt, memory_order_relaxed) ==
            machine->request) {
        return NK_INTR;
    }
    if (machine->deadline_ns == 0 && machine->alarm_ns == 0) return NK_OK;
    uint64_t now = now_ns();
    if (machine->alarm_ns != 0 && now > machine->alarm_ns) {
        machine->alarm_ns = 0;
        machine->alarm(machine->alarm_context);
    }
    return machine->deadline_ns != 0 && now > machine->deadline_ns ? NK_INTR : NK_OK;
}

static nk_status poll_arena(void *machine) {
    return poll(machine);
}

/* ---- rare instructions ---- */

/* Slot by an axis of any size, without limit on its depth. */
static nk_noun slot_noun(const struct nk_arena *arena, nk_noun n, nk_noun axis) {
    return nk_slot_atom(arena, n, axis);
}

/* Edit at an axis too large for a path: the words that it takes. */
static uint64_t edit_words(const struct nk_arena *arena, nk_noun axis) {
    return (nk_atom_bits(arena, axis) - 1) * NK_CELL_WORDS;
}

/* That edit, within room for it. NK_NONE: there is no such slot. */
static nk_noun edit_big(struct nk_arena *arena, nk_noun target, nk_noun axis,
                        nk_noun value) {
    uint64_t scratch, depth = nk_atom_bits(arena, axis) - 1, at = arena->top;
    struct nk_words path = nk_atom_words(arena, axis, &scratch);
    nk_noun result = NK_CELL_TAG | at;
    while (depth-- > 0) {
        if (!nk_is_cell(target)) return NK_NONE;
        bool right = (path.data[depth / 64] >> (depth % 64) & 1) != 0;
        nk_noun head = nk_head(arena, target), tail = nk_tail(arena, target);
        nk_noun below = depth == 0 ? value : NK_CELL_TAG | (at + NK_CELL_WORDS);
        struct nk_cell *made = (struct nk_cell *)(arena->base + at);
        made->mug = 0;
        made->tag = 0;
        made->head = right ? head : below;
        made->tail = right ? below : tail;
        target = right ? tail : head;
        at += NK_CELL_WORDS;
    }
    arena->top = at;
    return result;
}

/* The list [a], then what is already in [b]. Leaves out what finds no room. */
static nk_noun weld(struct nk_arena *arena, nk_noun a, nk_noun b) {
    if (a == 0 || b == 0) return a == 0 ? b : a;
    nk_noun result = b, *hole = &result;
    for (; nk_is_cell(a); a = nk_tail(arena, a)) {
        nk_noun made = nk_cons_try(arena, nk_head(arena, a), b);
        if (made == NK_NONE) break;
        *hole = made;
        hole = &nk_cell_at(arena, made)->tail;
    }
    return result;
}

static bool loops_has(struct nk_machine *machine, nk_noun subject, nk_noun formula) {
    struct nk_arena *arena = &machine->arena;
    for (nk_noun l = machine->stack->loops; nk_is_cell(l); l = nk_tail(arena, l)) {
        nk_noun pair = nk_head(arena, l);
        if (nk_equal(arena, nk_tail(arena, pair), formula) &&
            nk_equal(arena, nk_head(arena, pair), subject)) {
            return true;
        }
    }
    return false;
}

static void slog(struct nk_machine *machine, uint64_t priority, nk_noun tank) {
    if (machine->slog == NULL || machine->stack->checking != 0) return;
    machine->slog(machine->slog_context, &machine->arena, priority, tank);
}

/* %slog with [priority tank]; what is not that goes out as it is. */
static void slog_clue(struct nk_machine *machine, nk_noun clue) {
    struct nk_arena *arena = &machine->arena;
    if (nk_is_cell(clue) && nk_is_direct(nk_head(arena, clue))) {
        slog(machine, nk_head(arena, clue), nk_tail(arena, clue));
    } else {
        slog(machine, NK_SLOG_BARE, clue);
    }
}

/* Our own text as [%leaf tape]. */
static void slog_text(struct nk_machine *machine, uint64_t priority, const char *text) {
    struct nk_arena *arena = &machine->arena;
    nk_noun tape = 0;
    for (size_t i = strlen(text); i > 0 && tape != NK_NONE; i--) {
        tape = nk_cons_try(arena, (unsigned char)text[i - 1], tape);
    }
    if (tape == NK_NONE) return;
    nk_noun tank = nk_cons_try(arena, NK_CORD_4('l', 'e', 'a', 'f'), tape);
    if (tank != NK_NONE) slog(machine, priority, tank);
}

static void report_time(struct nk_machine *machine, uint64_t since, nk_noun clue) {
    struct nk_arena *arena = &machine->arena;
    uint64_t took = now_ns() - since, priority = 0;
    char text[80];
    snprintf(text, sizeof text, "took %llu us", (unsigned long long)(took / 1000));
    if (nk_is_cell(clue)) {
        if (nk_is_direct(nk_head(arena, clue))) priority = nk_head(arena, clue);
        slog(machine, priority, nk_tail(arena, clue));
    }
    slog_text(machine, priority, text);
}

static void report(struct nk_machine *machine, nk_noun tag) {
    struct nk_arena *arena = &machine->arena;
    char text[160];
    if (tag == NK_CORD_4('d', 'r', 'o', 'p')) {
        nk_memo_clear(machine->memo, NK_MEMO_FORD);
        return;
    }
    if (tag == NK_CORD_4('n', 'a', 'r', 'a') || tag == NK_CORD_4('h', 'e', 'l', 'a')) {
        for (nk_noun t = machine->trace; nk_is_cell(t); t = nk_tail(arena, t))
            slog(machine, 0, nk_head(arena, t));
        return;
    }
    if (tag == NK_CORD_4('c', 'a', 's', 'h')) {
        snprintf(text, sizeof text, "memo: transient %zu, persistent %zu, ford %zu",
                 nk_memo_count(machine->memo, NK_MEMO_TRANSIENT),
                 nk_memo_count(machine->memo, NK_MEMO_PERSISTENT),
                 nk_memo_count(machine->memo, NK_MEMO_FORD));
    } else if (tag == NK_CORD_4('m', 'e', 'm', 'e')) {
        snprintf(text, sizeof text, "memory: nursery %llu bytes, home %llu bytes",
                 (unsigned long long)nk_nursery_used(arena) * 8,
                 (unsigned long long)machine->home.words_used * 8);
    } else {
        struct nk_code_stats stats = nk_code_stats(machine->code);
        snprintf(text, sizeof text, "programs: %llu in home, %llu of the event",
                 (unsigned long long)stats.home_programs,
                 (unsigned long long)stats.nursery_programs);
    }
    slog_text(machine, 0, text);
}

nk_status nk_help_reverse(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                          nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun result = 0;
    (void)b;
    (void)c;
    for (; nk_is_cell(a); a = nk_tail(arena, a)) {
        result = nk_cons_try(arena, nk_head(arena, a), result);
        if (result == NK_NONE) return NK_MEME;
    }
    *product = result;
    return a == 0 ? NK_OK : NK_EXIT;
}

/* ---- marks ---- */

static struct mark *mark_push(struct nk_machine *machine, enum mark_kind kind) {
    struct nk_stack *stack = machine->stack;
    if (stack->mark_count == MARKS_MAX) return NULL;
    if (stack->mark_count == stack->mark_capacity) {
        stack->mark_capacity = stack->mark_capacity * 2 + 16;
        stack->marks =
            realloc(stack->marks, stack->mark_capacity * sizeof *stack->marks);
        NK_ASSERT(stack->marks != NULL);
    }
    struct mark *mark = &stack->marks[stack->mark_count++];
    *mark = (struct mark){.kind = kind,
                          .handler = stack->handler,
                          .trace = machine->trace,
                          .loops = stack->loops,
                          .context = stack->context,
                          .deadline_ns = machine->deadline_ns};
    stack->loops = 0;
    stack->context = ++stack->context_next;
    return mark;
}

/* A check changes nothing that the guest could see. */
static struct mark *mark_check(struct nk_machine *machine, const uint32_t *ip,
                               uint64_t *base, nk_noun core) {
    struct nk_stack *stack = machine->stack;
    struct mark *mark = mark_push(machine, MARK_CHECK);
    if (mark == NULL) return NULL;
    stack->loops = mark->loops;
    stack->context = mark->context;
    mark->base = base;
    mark->ip = ip + CHECK_WORDS;
    mark->answered = ip + ip[2];
    mark->program = stack->check_stub;
    mark->arm = stack->to_check;
    mark->core = core;
    return mark;
}

/* Back to what was outside of the innermost mark. */
static struct mark *mark_pop(struct nk_machine *machine) {
    struct nk_stack *stack = machine->stack;
    struct mark *mark = &stack->marks[--stack->mark_count];
    stack->checking -= mark->kind == MARK_CHECK && mark->phase == CHECK_NOCK;
    stack->handler = mark->handler;
    stack->loops = mark->loops;
    stack->context = mark->context;
    machine->trace = mark->trace;
    machine->deadline_ns = mark->deadline_ns;
    return mark;
}

/* ---- checks of jets ---- */

/* From the jet to the Nock; [base] is the check's frame. */
static void check_next(struct nk_machine *machine, struct mark *mark,
                       nk_status status) {
    mark->phase = CHECK_NOCK;
    mark->status = status;
    machine->stack->checking++;
    machine->stack->check_left = (int64_t)machine->probe->check_steps;
}

static void check_put(struct nk_text *text, const struct nk_arena *arena,
                      const char *who, nk_status status, nk_noun value) {
    nk_text_put(text, "; %s ", who);
    if (status != NK_OK) {
        nk_text_put(text, "crashes");
    } else {
        nk_text_put(text, "gives %08x ", nk_mug((struct nk_arena *)arena, value));
        nk_text_noun(text, arena, value, 200);
    }
}

/* They differ: say so, and fail. [mark] was popped already. */
static nk_status check_failed(struct nk_machine *machine, const struct mark *mark,
                              nk_status status, nk_noun value) {
    struct nk_arena *arena = &machine->arena;
    struct nk_text text = {0};
    nk_noun sample = nk_slot(arena, mark->core, 6);
    nk_jets_counts(machine->jets, mark->arm)->wrong++;
    machine->probe->mismatch_count++;
    nk_text_put(&text, "jet-check: %s is wrong: sample ", mark->arm->path);
    if (sample != NK_NONE) {
        nk_text_put(&text, "%08x ", nk_mug(arena, sample));
        nk_text_noun(&text, arena, sample, 200);
    }
    check_put(&text, arena, "the jet", mark->status, mark->gate);
    check_put(&text, arena, "its Nock", status, value);
    fprintf(stderr, "%s\n", text.data);
    slog_text(machine, 3, text.data);
    nk_text_free(&text);
    return NK_FAIL;
}

/* Is it [2 trace], of mink? Traces may differ: a jet hides the frames within it,
 * and mink's own Nock computes without jets what mink is given. */
static bool is_crash_of_mink(const struct nk_machine *machine, const struct mark *mark,
                             nk_noun value) {
    return nk_is_cell(value) && nk_head(&machine->arena, value) == 2 &&
           strcmp(mark->arm->path, "qua/mink") == 0;
}

/* The Nock gave [value]: is it what the jet gave? */
static nk_status check_compare(struct nk_machine *machine, nk_noun value) {
    struct mark mark = *mark_pop(machine);
    if (mark.status == NK_OK && (nk_equal(&machine->arena, mark.gate, value) ||
                                 (is_crash_of_mink(machine, &mark, mark.gate) &&
                                  is_crash_of_mink(machine, &mark, value)))) {
        nk_jets_counts(machine->jets, mark.arm)->checked++;
        return NK_OK;
    }
    if (machine->arena.stopped != NK_OK) return machine->arena.stopped;
    return check_failed(machine, &mark, NK_OK, value);
}

/* The Nock took too long, or more memory than there is: back to the check
 * that is under way, whose frame goes on with what the jet gave. NK_EXIT: it
 * gave a crash. */
static nk_status check_give_up(struct nk_machine *machine) {
    struct nk_stack *stack = machine->stack;
    struct mark mark;
    do {
        mark = *mark_pop(machine);
    } while (mark.kind != MARK_CHECK || mark.phase != CHECK_NOCK);
    nk_jets_counts(machine->jets, mark.arm)->unchecked++;
    stack->program = stack->check_stub;
    stack->base = mark.base;
    stack->ip = mark.answered;
    stack->base[CHECK_VALUE] = mark.gate;
    if (mark.status != NK_OK) machine->trace = mark.jet_trace;
    return mark.status;
}

/* Does this bail end the check under way, as something that cannot be
 * compared? A block does, if it is not caught within. */
static bool is_checks_end(const struct nk_stack *stack, nk_status status) {
    if (status == NK_EXIT || status == NK_INTR) return false;
    if (status != NK_BLOCK) return true;
    uint32_t at = stack->mark_count - 1;
    while (stack->marks[at].kind != MARK_CHECK || stack->marks[at].phase != CHECK_NOCK)
        at--;
    return stack->handler < at;
}

/* A bail met a check, the innermost mark. NK_OK: the run goes on there. Else
 * what is to be unwound from there. */
static nk_status check_bail(struct nk_machine *machine) {
    struct nk_stack *stack = machine->stack;
    struct mark *mark = &stack->marks[stack->mark_count - 1];
    if (mark->phase == CHECK_JET) {
        mark->jet_trace = machine->trace;
        machine->trace = mark->trace;
        check_next(machine, mark, NK_EXIT);
        stack->program = stack->check_stub;
        stack->base = mark->base;
        stack->ip = mark->ip;
        stack->base[CHECK_VALUE] = 0;
        return NK_OK;
    }
    struct mark popped = *mark_pop(machine);
    if (popped.status == NK_OK) {
        return check_failed(machine, &popped, NK_EXIT, 0);
    }
    nk_jets_counts(machine->jets, popped.arm)->checked++;
    machine->trace = popped.jet_trace;
    return NK_EXIT;
}

/* A bail: is there a virtual run that makes a value of it? Then the stack is
 * set to go on there. If not, [bail] is what the run ends with: a check of a
 * jet may have changed it. */
static bool unwind(struct nk_machine *machine, nk_status *bail) {
    struct nk_stack *stack = machine->stack;
    nk_status status = *bail;
    struct nk_arena *arena = &machine->arena;
    if (stack->checking != 0 && is_checks_end(stack, status)) {
        status = check_give_up(machine);
        if (status == NK_OK) return true;
    }
    if (status == NK_BLOCK) {
        uint32_t owner = stack->handler;
        nk_noun path = machine->block;
        machine->block = 0;
        struct mark *mark = NULL;
        while (stack->mark_count > owner)
            mark = mark_pop(machine);
        stack->result_tag = 1;
        stack->result = path;
        stack->program = mark->program;
        stack->base = mark->base;
        stack->ip = mark->ip;
        return true;
    }
    while (status == NK_EXIT && stack->mark_count > 0) {
        if (stack->marks[stack->mark_count - 1].kind == MARK_CHECK) {
            status = check_bail(machine);
            if (status == NK_OK) return true;
            continue;
        }
        nk_noun trace = machine->trace;
        struct mark *mark = mark_pop(machine);
        if (mark->kind == MARK_MINK) {
            stack->program = mark->program;
            stack->result_tag = 2;
            stack->result = trace;
            stack->base = mark->base;
            stack->ip = mark->ip;
            return true;
        }
        /* The handler of mink [owner] crashed: so does mink's caller. */
        uint32_t owner = mark->owner;
        while (stack->mark_count > owner)
            mark_pop(machine);
        machine->trace = weld(arena, trace, machine->trace);
    }
    while (stack->mark_count > 0) {
        nk_noun trace = machine->trace;
        mark_pop(machine);
        machine->trace = weld(arena, trace, machine->trace);
    }
    *bail = status;
    return false;
}

/* ---- the stack ---- */

/* Make room up to [need]; NK_OVER where the limit forbids it. */
static nk_status stack_grow(struct nk_machine *machine, const uint64_t *need) {
    struct nk_stack *stack = machine->stack;
    uint64_t size_max = machine->stack_size_max;
    if (size_max > STACK_SIZE) size_max = STACK_SIZE;
    uint64_t bytes = (uint64_t)((const char *)need - (const char *)stack->start);
    if (bytes > size_max) return NK_OVER;
    while (stack->grown < bytes)
        stack->grown *= 2;
    uint64_t usable = stack->grown < size_max ? stack->grown : size_max;
    stack->limit = stack->start + usable / 8;
    return NK_OK;
}

static void stack_rest(struct nk_stack *stack) {
    stack->base = NULL;
    stack->program = NULL;
    stack->loops = 0;
    stack->result = 0;
    stack->mark_count = 0;
    stack->checking = 0;
    stack->handler = NO_MARK;
    if (stack->grown > 16 * STACK_STEP) {
        (void)madvise((char *)stack->start + STACK_STEP, stack->grown - STACK_STEP,
                      MADV_DONTNEED);
        stack->grown = STACK_STEP;
    }
}

/* ---- calls ---- */

static void register_core(struct nk_machine *machine, nk_noun core, nk_noun clue) {
    if (machine->jets_enabled && nk_jets_register(machine, core, clue)) {
        nk_code_forget_sites(machine->code);
    }
}

/* Have a site know a formula. NK_EXIT: it is an atom; others: nk_code_get. */
static nk_status fill_nock(struct nk_machine *machine, struct nk_site *site,
                           nk_noun formula) {
    if (nk_code_turn_site(machine->code, site, formula)) {
        machine->site_turns++;
        return NK_OK;
    }
    struct nk_program *program = NULL;
    nk_status status = nk_code_get(machine->code, &machine->arena, formula, &program);
    if (status != NK_OK) return status;
    machine->site_fills++;
    site->last.key = formula;
    site->last.program = program;
    if (!nk_is_durable(&machine->arena, formula)) {
        nk_code_list_site(machine->code, site);
    }
    return NK_OK;
}

/* Have a site know a core's battery; [keeps]: it may keep a product. NK_EXIT:
 * no such arm. */
static nk_status fill_kick(struct nk_machine *machine, struct nk_site *site,
                           nk_noun core, bool keeps) {
    struct nk_arena *arena = &machine->arena;
    nk_noun battery = nk_head(arena, core);
    if (nk_code_turn_site(machine->code, site, battery)) {
        machine->site_turns++;
        return NK_OK;
    }
    nk_noun formula = nk_slot(arena, core, site->axis);
    if (formula == NK_NONE) return NK_EXIT;
    struct nk_program *program = NULL;
    nk_status status = nk_code_get(machine->code, arena, formula, &program);
    if (status != NK_OK) return status;
    machine->site_fills++;
    site->last.key = battery;
    site->last.program = program;
    site->last.how = NK_CALLED;
    if (machine->jets_enabled && nk_jets_known(machine, battery, site->axis)) {
        site->last.how = NK_JETTED;
    } else if (keeps && program->makes != 0) {
        site->last.how = NK_KEPT;
    }
    if (!nk_is_durable(arena, battery)) nk_code_list_site(machine->code, site);
    return NK_OK;
}

/* The jet for this core at this site, or NULL. */
static struct nk_arm_counts *site_jet(struct nk_machine *machine, struct nk_site *site,
                                      nk_noun core) {
    struct nk_arena *arena = &machine->arena;
    struct nk_target *last = &site->last;
    if (last->context != NK_NONE &&
        nk_slot(arena, core, last->parent_axis) == last->context) {
        return last->jet;
    }
    nk_noun parent = NK_NONE;
    last->jet = nk_jets_find(machine, core, site->axis, &last->parent_axis, &parent);
    last->context = parent;
    if (parent != NK_NONE && !nk_is_durable(arena, parent)) {
        nk_code_list_site(machine->code, site);
    }
    return last->jet;
}

/* The axis of the load [op] with operands at [ip]. */
static nk_noun load(const struct nk_arena *arena, const uint32_t *ip, nk_noun from) {
    static const uint8_t axes[] = {2, 3, 4, 5, 6, 7, 12, 13, 14, 15};
    if (*ip != NK_OP_LDP) return nk_slot(arena, from, axes[*ip - NK_OP_LD2]);
    for (uint32_t path = ip[3]; path != 1; path >>= 1) {
        if (!nk_is_cell(from)) return NK_NONE;
        from = (path & 1) != 0 ? nk_tail(arena, from) : nk_head(arena, from);
    }
    return from;
}

/* Run a program that only makes its product, see `makes` in code.h. */
static nk_status make(struct nk_machine *machine, const struct nk_program *program,
                      nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    const uint32_t *ip = program->code;
    nk_noun reg[NK_MAKER_REGISTERS];
    reg[0] = core;
    for (;; ip += nk_opcode_words((enum nk_opcode) * ip)) {
        switch (*ip) {
        case NK_OP_RET:
            *product = reg[ip[1]];
            return NK_OK;
        case NK_OP_RETK:
            *product = program->literals[ip[1]];
            return NK_OK;
        case NK_OP_MOVE:
            reg[ip[1]] = reg[ip[2]];
            break;
        case NK_OP_LDK:
            reg[ip[1]] = program->literals[ip[2]];
            break;
        case NK_OP_CONS:
            reg[ip[1]] = nk_cons(arena, reg[ip[2]], reg[ip[3]]);
            break;
        case NK_OP_CONSK:
            reg[ip[1]] = nk_cons(arena, program->literals[ip[2]], reg[ip[3]]);
            break;
        case NK_OP_FAST:
            register_core(machine, reg[ip[1]], reg[ip[2]]);
            break;
        case NK_OP_TRACE: {
            nk_noun entry = nk_cons(arena, program->literals[ip[1]], reg[ip[2]]);
            machine->trace = nk_cons(arena, entry, machine->trace);
            break;
        }
        case NK_OP_UNTRACE:
            machine->trace = nk_tail(arena, machine->trace);
            break;
        default:
            reg[ip[1]] = load(arena, ip, reg[ip[2]]);
            if (reg[ip[1]] == NK_NONE) return NK_EXIT;
        }
    }
}

/* The site keeps what was made of [core], if it still knows its battery. */
static void keep_product(struct nk_machine *machine, struct nk_site *site, nk_noun core,
                         nk_noun product) {
    struct nk_arena *arena = &machine->arena;
    if (site->last.key != nk_head(arena, core)) return;
    site->last.context = core;
    site->last.product = product;
    if (!nk_is_durable(arena, core) || !nk_is_durable(arena, product)) {
        nk_code_list_site(machine->code, site);
    }
}

/* ---- the profile ---- */

/* Find out once what an arm that is called is called. */
static void name_program(struct nk_machine *machine, struct nk_program *program,
                         nk_noun core, uint64_t axis) {
    char name[256];
    uint32_t known = (uint32_t)nk_jets_known_count(machine->jets) + 1;
    if (program->name_tried == known) return;
    program->name_tried = known;
    if (nk_jets_name(machine, core, axis, name, sizeof name)) {
        program->name = nk_probe_name(machine->probe, name);
    }
}

/* The name of an entry on the trace: of a %spot, `/path:line.column`. */
static uint32_t name_spot(struct nk_machine *machine, nk_noun entry) {
    struct nk_arena *arena = &machine->arena;
    struct nk_text text = {0};
    if (!nk_is_cell(entry) || nk_head(arena, entry) != NK_CORD_4('s', 'p', 'o', 't')) {
        return 0;
    }
    nk_noun path = nk_slot(arena, entry, 6), line = nk_slot(arena, entry, 28),
            column = nk_slot(arena, entry, 29);
    if (path == NK_NONE || line == NK_NONE || !nk_is_direct(line) ||
        !nk_is_direct(column)) {
        return 0;
    }
    for (; nk_is_cell(path); path = nk_tail(arena, path)) {
        char knot[64];
        nk_noun atom = nk_head(arena, path);
        size_t size = nk_is_cell(atom) ? 0 : nk_atom_size(arena, atom);
        if (size == 0 || size > sizeof knot) continue;
        nk_atom_read(arena, atom, knot, size);
        for (size_t i = 0; i < size; i++) {
            if (knot[i] <= ' ' || knot[i] > '~' || knot[i] == ';') knot[i] = '_';
        }
        nk_text_put(&text, "/%.*s", (int)size, knot);
    }
    nk_text_put(&text, ":%llu.%llu", (unsigned long long)line,
                (unsigned long long)column);
    uint32_t name = nk_probe_name(machine->probe, text.data);
    nk_text_free(&text);
    return name;
}

/* Walks the entries of the trace from the innermost, also outside of virtual
 * runs. */
struct trace_walk {
    nk_noun rest;
    uint32_t marks, spots;
};

static nk_noun trace_next(const struct nk_machine *machine, struct trace_walk *walk) {
    const struct nk_stack *stack = machine->stack;
    while (!nk_is_cell(walk->rest)) {
        if (walk->marks == 0) return NK_NONE;
        const struct mark *mark = &stack->marks[--walk->marks];
        /* A check leaves the trace as it is: nothing new is outside. */
        if (mark->kind != MARK_CHECK) walk->rest = mark->trace;
    }
    nk_noun entry = nk_head(&machine->arena, walk->rest);
    walk->rest = nk_tail(&machine->arena, walk->rest);
    return entry;
}

/* Note the stack, if it is time; [leaf] is what runs outside of Nock. Walks
 * from the innermost frame outwards, so names gather from the end. */
static void sample(struct nk_machine *machine, const char *leaf) {
    struct nk_probe *probe = machine->probe;
    const struct nk_stack *stack = machine->stack;
    uint64_t count = nk_probe_due(probe);
    if (count == 0) return;
    uint32_t names[NK_STACK_NAMES_MAX], at = NK_STACK_NAMES_MAX;
    struct trace_walk walk = {machine->trace, stack->mark_count, 0};
    if (leaf != NULL) names[--at] = nk_probe_name(probe, leaf);
    const uint64_t *base = stack->base;
    const struct nk_program *program = stack->program;
    size_t spot = probe->spot_count;
    for (;;) {
        while (spot > 0 && probe->spots[spot - 1] >= base && at > 1) {
            nk_noun entry = trace_next(machine, &walk);
            uint32_t name = entry == NK_NONE ? 0 : name_spot(machine, entry);
            if (name != 0) names[--at] = name;
            spot--;
        }
        if (program->name != 0) names[--at] = program->name;
        const uint32_t *ip = link_ip(base[-1]);
        if (ip == NULL || at <= 1) break;
        /* Recursion is one name. */
        if (at + 1 < NK_STACK_NAMES_MAX && names[at] == names[at + 1]) at++;
        program = nk_code_of(ip);
        base -= 1 + ip[-3];
    }
    if (at <= 1) names[0] = nk_probe_name(probe, "..."), at = 0;
    nk_probe_add(probe, names + at, NK_STACK_NAMES_MAX - at, count);
}

/* Every WATCH_STEPS instructions. NK_PUNT: a check has had its time. */
#define WATCH_STEPS 1024
static nk_status look(struct nk_machine *machine) {
    struct nk_probe *probe = machine->probe;
    struct nk_stack *stack = machine->stack;
    if (probe->interval_ns != 0) sample(machine, NULL);
    if (stack->checking != 0) {
        stack->check_left -= WATCH_STEPS;
        if (stack->check_left < 0) return NK_PUNT;
    }
    return NK_OK;
}

static void note_nursery(struct nk_machine *machine) {
    uint64_t bytes = nk_nursery_used(&machine->arena) * 8;
    if (bytes > machine->probe->nursery_peak) machine->probe->nursery_peak = bytes;
}

/* ---- the loop: loop.h ---- */

/* Registers by the operand's place in the instruction. */
#define REG(i) base[ip[i]]
#define LITERAL(i) program->literals[ip[i]]
#define HEAD(n) (((const struct nk_cell *)(memory + nk_offset(n)))->head)
#define TAIL(n) (((const struct nk_cell *)(memory + nk_offset(n)))->tail)
/* The same instruction once more; it does not count again. */
#define AGAIN goto *labels[*ip]
#define NEXT(words)                                                                    \
    do {                                                                               \
        ip += (words);                                                                 \
        GO;                                                                            \
    } while (0)
#define ROOM(words)                                                                    \
    do {                                                                               \
        if (NK_UNLIKELY(top + (words) > soft)) {                                       \
            need = (words);                                                            \
            goto collect;                                                              \
        }                                                                              \
    } while (0)
#define CELL_OR_EXIT(n)                                                                \
    do {                                                                               \
        if (NK_UNLIKELY(!nk_is_cell(n))) goto exit;                                    \
    } while (0)
#define FUEL_OR_POLL()                                                                 \
    do {                                                                               \
        if (NK_UNLIKELY(--fuel < 0)) goto refuel;                                      \
    } while (0)
/* What functions outside the loop need to see, and may have changed. */
#define SAVE()                                                                         \
    do {                                                                               \
        arena->top = top;                                                              \
        stack->base = base;                                                            \
        stack->ip = ip;                                                                \
        stack->program = program;                                                      \
    } while (0)

static inline nk_noun make_cell(uint64_t *memory, uint64_t *top, nk_noun head,
                                nk_noun tail) {
    uint64_t at = *top;
    struct nk_cell *cell = (struct nk_cell *)(memory + at);
    cell->mug = 0;
    cell->tag = 0;
    cell->head = head;
    cell->tail = tail;
    *top = at + NK_CELL_WORDS;
    return NK_CELL_TAG | at;
}
#define CONS(head, tail) make_cell(memory, &top, head, tail)

#define RUN run
#define WATCHED 0
#define NAME_CALLEE()
#define GO goto *labels[*ip]
#include "loop.h"
#undef RUN
#undef WATCHED
#undef GO
#undef NAME_CALLEE

#define RUN run_watched
#define WATCHED 1
#define NAME_CALLEE()                                                                  \
    do {                                                                               \
        if (callee->name == 0) name_program(machine, callee, a, site->axis);           \
    } while (0)
#define GO goto watch
#include "loop.h"
#undef RUN
#undef WATCHED
#undef GO
#undef NAME_CALLEE

/* ---- entry ---- */

static nk_status start(struct nk_machine *machine, struct nk_program *stub, nk_noun a,
                       nk_noun b, nk_noun *product) {
    struct nk_stack *stack = machine->stack;
    NK_ASSERT(stack->base == NULL);
    nk_status status = stack_grow(machine, stack->start + 16);
    if (status != NK_OK) return status;
    stack->start[0] = 0; /* no return address */
    stack->base = stack->start + 1;
    stack->watermark = stack->base;
    stack->base[0] = a;
    stack->base[1] = b;
    stack->program = stub;
    stack->ip = stub->code;
    machine->trace = 0;
    machine->block = 0;
    machine->arena.stopped = NK_OK;
    uint64_t deadline = machine->deadline_ns;
    if (machine->probe == NULL) {
        status = run(machine, product);
    } else {
        machine->probe->spot_count = 0;
        machine->probe->sampled_ns = nk_probe_now();
        status = run_watched(machine, product);
        note_nursery(machine);
    }
    machine->deadline_ns = deadline;
    stack_rest(stack);
    return status;
}

nk_status nk_nock(struct nk_machine *machine, nk_noun subject, nk_noun formula,
                  nk_noun *product) {
    return start(machine, machine->stack->nock_stub, subject, formula, product);
}

nk_status nk_slam(struct nk_machine *machine, nk_noun gate, nk_noun sample,
                  nk_noun *product) {
    return start(machine, machine->stack->slam_stub, gate, sample, product);
}

nk_status nk_kick(struct nk_machine *machine, nk_noun core, uint64_t axis,
                  nk_noun *product) {
    nk_noun formula = nk_slot(&machine->arena, core, axis);
    if (formula == NK_NONE) {
        machine->trace = 0;
        return NK_EXIT;
    }
    return nk_nock(machine, core, formula, product);
}

/* ---- events ---- */

static void forget_event(struct nk_machine *machine) {
    nk_code_drop_nursery(machine->code);
    machine->trace = 0;
    machine->block = 0;
    machine->stack->context = machine->stack->context_next = 0;
    machine->arena.stopped = NK_OK;
    nk_nursery_reset(&machine->arena);
}

nk_status nk_machine_commit(struct nk_machine *machine, nk_noun *kernel) {
    nk_noun extra[3] = {*kernel, NK_NONE, NK_NONE};
    nk_status status = nk_jets_pending(machine, &extra[1]);
    if (status == NK_OK) status = nk_memo_pending(machine, &extra[2]);
    if (status != NK_OK) return status;
    size_t jets = nk_jets_slots(machine->jets, NULL);
    size_t memo = nk_memo_slots(machine->memo, NULL);
    size_t count = 3 + jets + memo;
    nk_noun **places = malloc(count * sizeof *places);
    nk_noun *slots = malloc(count * sizeof *slots);
    NK_ASSERT(places != NULL && slots != NULL);
    for (size_t i = 0; i < 3; i++)
        places[i] = &extra[i];
    (void)nk_jets_slots(machine->jets, places + 3);
    (void)nk_memo_slots(machine->memo, places + 3 + jets);
    for (size_t i = 0; i < count; i++)
        slots[i] = *places[i] == NK_NONE ? 0 : *places[i];
    status = nk_home_promote(&machine->home, slots, count);
    if (status == NK_OK) {
        for (size_t i = 0; i < count; i++) {
            if (*places[i] != NK_NONE) *places[i] = slots[i];
        }
        *kernel = extra[0];
        if (extra[1] != NK_NONE) machine->home.roots[NK_ROOT_COLD] = extra[1];
        if (extra[2] != NK_NONE) machine->home.roots[NK_ROOT_CACHE] = extra[2];
        nk_jets_committed(machine->jets);
        nk_memo_committed(machine->memo);
        forget_event(machine);
    }
    free(places);
    free(slots);
    return status;
}

void nk_machine_discard(struct nk_machine *machine) {
    if (nk_jets_discard(machine->jets)) nk_code_forget_sites(machine->code);
    nk_memo_discard(machine->memo);
    forget_event(machine);
}

void nk_machine_enable_jets(struct nk_machine *machine, bool enabled) {
    if (machine->jets_enabled == enabled) return;
    machine->jets_enabled = enabled;
    nk_code_forget_sites(machine->code);
}

nk_status nk_machine_adopt(struct nk_machine *machine) {
    nk_status status = nk_jets_adopt(machine);
    if (status == NK_OK) status = nk_memo_adopt(machine);
    nk_code_forget_sites(machine->code);
    return status;
}
