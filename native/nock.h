/* The Nock machine: evaluate formulas, with hints, jets and virtualisation.
 *
 * `struct nk_machine` holds an arena, a home, the program tables, the jet
 * state, the caches and the explicit stacks. Nothing recurses over nouns or
 * over Nock calls: depth is bounded by the stack's size limit only.
 *
 * A run ends with NK_OK and a product in the nursery (or home), or with a
 * bail: `machine->trace` is then the trace noun (list of [tag clue],
 * innermost first) in the nursery. Either way the nursery is as the caller
 * has to leave it: promote, read, reset.
 */
#ifndef NK_NOCK_H
#define NK_NOCK_H

#include <stdatomic.h>

#include "home.h"
#include "jam.h"

struct nk_code;  /* program tables: code.c */
struct nk_jets;  /* jet state: jet.c */
struct nk_memo;  /* memo caches: memo.c */
struct nk_stack; /* operand stack and frames: nock.c */
struct nk_probe; /* probe.h */

/* What the guest printed: a [priority tank], handed over as jam. Called on
 * the event thread in the middle of an event; must not touch the machine
 * except to read the noun. */
#define NK_SLOG_BARE UINT64_MAX /* a priority: [tank] is a whole, malformed clue */
typedef void (*nk_slog_sink)(void *context, struct nk_arena *arena, uint64_t priority,
                             nk_noun tank);

struct nk_machine {
    struct nk_arena arena;
    struct nk_home home;
    struct nk_jammer *jammer;
    struct nk_code *code;
    struct nk_jets *jets;
    struct nk_memo *memo;
    struct nk_stack *stack;
    nk_noun trace;               /* of the last bail */
    nk_noun block;               /* path of the last NK_BLOCK */
    _Atomic uint32_t *interrupt; /* polled; names a request: NK_INTR */
    uint32_t request;            /* the one that runs; 0: obeys none */
    uint64_t deadline_ns;        /* CLOCK_MONOTONIC; 0 = none */
    uint64_t alarm_ns; /* then a poll sets it to 0 and calls `alarm`; 0: never */
    void (*alarm)(void *context); /* must not touch the machine */
    void *alarm_context;
    uint64_t stack_size_max; /* bytes */
    bool jets_enabled;
    struct nk_probe *probe; /* NULL: nothing is observed. Freed with the machine */
    uint64_t site_fills;    /* calls whose site did not know their target yet */
    uint64_t site_turns;    /* calls whose site knew it, but not as its last one */
    nk_slog_sink slog;
    void *slog_context;
};

/* A request begins (0: it is over): interrupts that name it are obeyed from
 * now on, and one that came too late for an earlier request is dropped. A
 * word on the interrupt is the low 32 bits of the request's number, or
 * UINT32_MAX where those are 0. */
void nk_machine_request(struct nk_machine *machine, uint64_t request);

/* The interrupt of the running request was obeyed: it counts once. */
void nk_machine_interrupted(struct nk_machine *machine);

nk_status nk_machine_open(struct nk_machine *machine, uint64_t home_size,
                          uint64_t nursery_size);
void nk_machine_close(struct nk_machine *machine);

/* *[subject formula]. Roots its own arguments. Not reentrant: neither a jet
 * nor the slog sink may call it (arms that call Nock are programs of the
 * machine, see jet.h). */
nk_status nk_nock(struct nk_machine *machine, nk_noun subject, nk_noun formula,
                  nk_noun *product);

/* Slam: [9 2 10 [6 0 3] 0 2] on [gate sample]. */
nk_status nk_slam(struct nk_machine *machine, nk_noun gate, nk_noun sample,
                  nk_noun *product);

/* Kick: nock(core, slot axis core). */
nk_status nk_kick(struct nk_machine *machine, nk_noun core, uint64_t axis,
                  nk_noun *product);

/* After an event: fold what its run registered (cold jets, persistent memo)
 * into slots that are promoted together with the kernel (home->roots[COLD],
 * [CACHE]); `nk_machine_commit` promotes [kernel] and these at once, then
 * resets the nursery. NK_MEME: nothing changed. `nk_machine_discard` drops
 * everything the event made. Every run ends in one of the two: to reset the
 * nursery alone would leave programs of formulas that are gone. */
nk_status nk_machine_commit(struct nk_machine *machine, nk_noun *kernel);
void nk_machine_discard(struct nk_machine *machine);

/* Whether jets stand for their arms from now on; calls that were made already do
 * as those to come. Between runs. */
void nk_machine_enable_jets(struct nk_machine *machine, bool enabled);

/* After an image was loaded: rebuild warm jet state and caches from roots. */
nk_status nk_machine_adopt(struct nk_machine *machine);

#endif
