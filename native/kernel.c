/* See kernel.h. */
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collect.h"
#include "memo.h"
#include "mug.h"

#define AXIS_WISH 10u
#define AXIS_PEEK 22u
#define AXIS_POKE 23u

#define CORD_ARVO 0x6f767261ull /* %arvo */
#define CORD_CRUD 0x64757263ull
#define CORD_LEAF 0x6661656cull
#define CORD_MOOK 0x6b6f6f6dull

/* --- buffers ---------------------------------------------------------------- */

uint8_t *nk_buffer_room(struct nk_buffer *buffer, size_t size) {
    NK_ASSERT(size <= SIZE_MAX / 4);
    if (buffer->capacity - buffer->size < size) {
        size_t capacity = (buffer->size + size) * 2;
        uint8_t *data = realloc(buffer->data, capacity);
        NK_ASSERT(data != NULL);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void nk_buffer_put(struct nk_buffer *buffer, const void *bytes, size_t size) {
    if (size == 0) return;
    memcpy(nk_buffer_room(buffer, size), bytes, size);
    buffer->size += size;
}

void nk_buffer_free(struct nk_buffer *buffer) {
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

/* Append the low [size] bytes of [atom]. */
static void put_atom(struct nk_serf *serf, struct nk_buffer *buffer, nk_noun atom,
                     size_t size) {
    nk_atom_read(&serf->machine.arena, atom, nk_buffer_room(buffer, size), size);
    buffer->size += size;
}

static void put_u32(struct nk_buffer *buffer, uint32_t value) {
    nk_buffer_put(buffer, &value, sizeof value);
}

/* A buffer that one monstrous event has blown up is not kept. */
static void buffer_clear(struct nk_buffer *buffer) {
    if (buffer->capacity > (16u << 20)) nk_buffer_free(buffer);
    buffer->size = 0;
}

/* --- opening ---------------------------------------------------------------- */

/* What the guest prints waits here until Python takes it. */
static void slog(void *context, struct nk_arena *arena, uint64_t priority,
                 nk_noun tank) {
    struct nk_serf *serf = context;
    const uint8_t *bytes;
    size_t size;
    if (serf->slogs.size > NK_SLOG_SIZE_MAX ||
        nk_jam(serf->slog_jammer, arena, tank, &bytes, &size) != NK_OK ||
        size > NK_SLOG_SIZE_MAX) {
        serf->slogs_dropped++;
        return;
    }
    uint64_t record[3] = {priority, serf->event + 1, size};
    nk_buffer_put(&serf->slogs, record, sizeof record);
    nk_buffer_put(&serf->slogs, bytes, size);
}

nk_status nk_kernel_open(struct nk_serf *serf, uint64_t home_size,
                         uint64_t nursery_size) {
    serf->home_size = home_size;
    serf->nursery_size = nursery_size;
    memset(&serf->machine, 0, sizeof serf->machine);
    nk_status status = nk_machine_open(&serf->machine, home_size * NK_REPLAY_FACTOR,
                                       nursery_size * NK_REPLAY_FACTOR);
    if (status != NK_OK) {
        /* Address space may be scarce: then replay has no more than life. */
        memset(&serf->machine, 0, sizeof serf->machine);
        status = nk_machine_open(&serf->machine, home_size, nursery_size);
        if (status != NK_OK) return status;
    }
    if (serf->slog_jammer == NULL) serf->slog_jammer = nk_jammer_new();
    serf->machine.slog = slog;
    serf->machine.slog_context = serf;
    serf->machine.interrupt = serf->interrupt;
    serf->machine.deadline_ns = 0;
    serf->event = 0;
    serf->mug = 0;
    nk_kernel_limits(serf, false);
    return NK_OK;
}

void nk_kernel_close(struct nk_serf *serf) {
    nk_machine_close(&serf->machine);
    nk_jammer_free(serf->slog_jammer);
    serf->slog_jammer = NULL;
    nk_buffer_free(&serf->goofs[0].tang);
    nk_buffer_free(&serf->goofs[1].tang);
    nk_buffer_free(&serf->job);
    nk_buffer_free(&serf->effects);
    nk_buffer_free(&serf->trace);
    nk_buffer_free(&serf->out);
    nk_buffer_free(&serf->slogs);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void nk_kernel_limits(struct nk_serf *serf, bool replay) {
    struct nk_arena *arena = &serf->machine.arena;
    uint64_t factor = replay ? NK_REPLAY_FACTOR : 1;
    nk_home_limit(&serf->machine.home,
                  least(serf->home_size * factor, arena->home_end * 8));
    nk_nursery_limit(arena, least(serf->nursery_size * factor,
                                  (arena->nursery_end - arena->nursery_start) * 8));
    /* Deep recursion is memory as well: no more of it than of nouns. */
    serf->machine.stack_size_max = serf->nursery_size * factor;
}

/* --- running ---------------------------------------------------------------- */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void arm(struct nk_serf *serf, uint64_t deadline_ms) {
    uint64_t limit_ms = UINT64_MAX / 2000000ull;
    if (deadline_ms > limit_ms) deadline_ms = limit_ms;
    serf->machine.deadline_ns =
        deadline_ms == 0 ? 0 : now_ns() + deadline_ms * 1000000ull;
}

/* --- room ------------------------------------------------------------------- */

static void watch_room(struct nk_serf *serf, struct nk_headroom *room, const char *what,
                       const char *advice, uint64_t used, uint64_t most) {
    static const uint32_t levels[] = {70, 85, 95};
    uint32_t level = 0;
    room->percent = most == 0 ? 0 : (uint32_t)(used * 100 / most);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (room->percent >= levels[i]) level = levels[i];
    }
    if (level > room->warned) {
        room->warned = level;
        snprintf(serf->notice, sizeof serf->notice,
                 "serf: %s is %u %% full (%llu of %llu MiB): %s", what, room->percent,
                 (unsigned long long)(used >> 20), (unsigned long long)(most >> 20),
                 advice);
    } else if (room->percent + 5 <= room->warned) {
        /* Fallen: what was warned of may be warned of again. */
        room->warned = 0;
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
            if (room->percent + 5 > levels[i]) room->warned = levels[i];
        }
    }
}

/* Before the nursery is reset: how far the event came. */
static void watch_nursery(struct nk_serf *serf) {
    const struct nk_arena *arena = &serf->machine.arena;
    uint64_t bytes = nk_nursery_peak(arena) * 8;
    if (bytes > serf->nursery_peak) serf->nursery_peak = bytes;
    watch_room(serf, &serf->nursery_room, "the nursery",
               "an event that needs more fails, and changes nothing; start with a "
               "larger --nursery-size if it should not",
               bytes, nk_nursery_room_max(arena) * 8);
}

/* Home's pages in use. Garbage is no reason to warn: as long as there may be
 * some, a level that is reached begins a cycle instead. */
static void watch_home(struct nk_serf *serf) {
    struct nk_home *home = &serf->machine.home;
    uint64_t used = nk_home_pages_used(home);
    uint32_t percent = (uint32_t)(used * 100 / (home->page_max + 1));
    if (percent == serf->home_room.percent) return;
    uint32_t next = serf->home_room.warned == 0    ? 70
                    : serf->home_room.warned == 70 ? 85
                                                   : 95;
    uint64_t grown = home->words_used - home->words_at_sweep;
    if (percent >= next && serf->home_room.warned < 95 &&
        grown > home->page_max * NK_PAGE_WORDS / 50) {
        nk_collect_begin(home);
        return;
    }
    watch_room(serf, &serf->home_room, "home",
               "beyond it events fail, and change nothing; let the ship forget "
               "something, or start it with a larger --home-size",
               used * NK_PAGE_SIZE, (home->page_max + 1) * (uint64_t)NK_PAGE_SIZE);
}

/* End whatever ran: the nursery is empty afterwards. */
static void discard(struct nk_serf *serf) {
    watch_nursery(serf);
    nk_machine_discard(&serf->machine);
    serf->machine.deadline_ns = 0;
}

static nk_noun kernel_of(const struct nk_serf *serf) {
    return serf->machine.home.roots[NK_ROOT_KERNEL];
}

/* (slam (kick kernel axis) sample). The gate is built first, so [sample]
 * has to be rooted meanwhile. */
static nk_status call_arm(struct nk_serf *serf, uint64_t axis, nk_noun sample,
                          nk_noun *product) {
    struct nk_machine *machine = &serf->machine;
    nk_noun held[1] = {sample};
    struct nk_root_frame frame;
    nk_noun gate;
    nk_root_push(&machine->arena, &frame, held, 1);
    nk_status status = nk_kick(machine, kernel_of(serf), axis, &gate);
    nk_root_pop(&machine->arena, &frame);
    if (status != NK_OK) return status;
    return nk_slam(machine, gate, held[0], product);
}

/* --- goofs ------------------------------------------------------------------ */

static const uint8_t null_jam[1] = {0x02};

static void tang_none(struct nk_goof *goof) {
    goof->tang.size = 0;
    nk_buffer_put(&goof->tang, null_jam, sizeof null_jam);
}

nk_status nk_kernel_refuse(struct nk_serf *serf, nk_status status, const char *why) {
    struct nk_arena *arena = &serf->machine.arena;
    struct nk_goof *goof = &serf->goofs[0];
    size_t length = strlen(why);
    const uint8_t *bytes;
    size_t size;
    discard(serf);
    serf->goof_count = 1;
    goof->status = status;
    tang_none(goof);
    if (nk_nursery_room(arena, (length + 2) * NK_CELL_WORDS) != NK_OK) return status;
    nk_noun tape = 0;
    for (size_t at = length; at-- > 0;) {
        tape = nk_cons(arena, (uint8_t)why[at], tape);
    }
    nk_noun tang = nk_cons(arena, nk_cons(arena, CORD_LEAF, tape), 0);
    if (nk_jam(serf->machine.jammer, arena, tang, &bytes, &size) == NK_OK) {
        goof->tang.size = 0;
        nk_buffer_put(&goof->tang, bytes, size);
    }
    discard(serf);
    return status;
}

/* Copy the innermost entries of the machine's trace to `serf->trace`, as
 * jam: it has to outlive the nursery. A trace too large is left out. */
static void save_trace(struct nk_serf *serf) {
    struct nk_arena *arena = &serf->machine.arena;
    nk_noun rest = serf->machine.trace;
    struct nk_root_frame frame;
    const uint8_t *bytes;
    size_t size;
    size_t count = 0;
    serf->trace.size = 0;
    nk_buffer_put(&serf->trace, null_jam, sizeof null_jam);
    if (rest == NK_NONE || !nk_is_cell(rest)) return;
    nk_noun *entries = calloc(NK_TRACE_COUNT_MAX, sizeof *entries);
    NK_ASSERT(entries != NULL);
    while (nk_is_cell(rest) && count < NK_TRACE_COUNT_MAX) {
        entries[count++] = nk_head(arena, rest);
        rest = nk_tail(arena, rest);
    }
    nk_noun list = serf->machine.trace;
    if (nk_is_cell(rest)) {
        /* Too long: build a shorter one. The nursery may be full. */
        nk_root_push(arena, &frame, entries, count);
        serf->machine.trace = 0;
        nk_status status = nk_nursery_room(arena, count * NK_CELL_WORDS);
        nk_root_pop(arena, &frame);
        list = 0;
        if (status != NK_OK) count = 0;
        for (size_t at = count; at-- > 0;)
            list = nk_cons(arena, entries[at], list);
    }
    free(entries);
    if (nk_jam(serf->machine.jammer, arena, list, &bytes, &size) != NK_OK) return;
    if (size > NK_TRACE_SIZE_MAX) return;
    serf->trace.size = 0;
    nk_buffer_put(&serf->trace, bytes, size);
}

static bool is_list(const struct nk_arena *arena, nk_noun list) {
    while (nk_is_cell(list))
        list = nk_tail(arena, list);
    return list == 0;
}

/* The trace as a tang, by the kernel's own +mook: [2 trace] -> [2 tang]. */
static nk_status render(struct nk_serf *serf, struct nk_goof *goof) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    nk_noun held[1];
    struct nk_root_frame frame;
    nk_noun gate;
    nk_noun product;
    const char *why;
    const uint8_t *bytes;
    size_t size;
    nk_status status = nk_cue(machine->jammer, arena, serf->trace.data,
                              serf->trace.size, &held[0], &why);
    if (status != NK_OK) return status;
    nk_root_push(arena, &frame, held, 1);
    machine->deadline_ns = now_ns() + NK_RENDER_NS_MAX;
    status = call_arm(serf, AXIS_WISH, CORD_MOOK, &gate);
    if (status == NK_OK) {
        nk_noun gates[1] = {gate};
        struct nk_root_frame inner;
        nk_root_push(arena, &inner, gates, 1);
        status = nk_nursery_room(arena, NK_CELL_WORDS);
        nk_root_pop(arena, &inner);
        if (status == NK_OK) {
            status = nk_slam(machine, gates[0], nk_cons(arena, 2, held[0]), &product);
        }
    }
    nk_root_pop(arena, &frame);
    if (status != NK_OK) return status;
    if (!nk_is_cell(product) || nk_head(arena, product) != 2) return NK_EXIT;
    if (!is_list(arena, nk_tail(arena, product))) return NK_EXIT;
    status = nk_jam(machine->jammer, arena, nk_tail(arena, product), &bytes, &size);
    if (status != NK_OK) return status;
    if (size > NK_TRACE_SIZE_MAX) return NK_FAIL;
    goof->tang.size = 0;
    nk_buffer_put(&goof->tang, bytes, size);
    return NK_OK;
}

/* Turn the failure of the run that has just ended into the next goof, and
 * drop all that the run made. */
static void take_goof(struct nk_serf *serf, nk_status status) {
    struct nk_goof *goof = &serf->goofs[serf->goof_count++];
    goof->status = status;
    tang_none(goof);
    /* The %crud that follows is the same request: another interrupt may end
     * it, the same one may not. */
    if (status == NK_INTR) nk_machine_interrupted(&serf->machine);
    save_trace(serf);
    discard(serf);
    /* +mook is asked even where there is no trace: some have words for that. */
    if (status == NK_EVIL || kernel_of(serf) == NK_NONE) return;
    if (render(serf, goof) != NK_OK) tang_none(goof);
    discard(serf);
    serf->trace.size = 0;
}

/* --- effects ---------------------------------------------------------------- */

static nk_status put_effect_whole(struct nk_serf *serf, nk_noun effect) {
    const uint8_t *bytes;
    size_t size;
    nk_status status =
        nk_jam(serf->machine.jammer, &serf->machine.arena, effect, &bytes, &size);
    if (status != NK_OK) return status;
    if (size > NK_EFFECTS_SIZE_MAX) return NK_FAIL;
    put_u32(&serf->effects, 0);
    put_u32(&serf->effects, 0);
    put_u32(&serf->effects, (uint32_t)size);
    nk_buffer_put(&serf->effects, bytes, size);
    return NK_OK;
}

/* One effect as a record (api.h): [wire tag data], or as a whole if it has
 * not that shape. */
static nk_status put_effect(struct nk_serf *serf, nk_noun effect) {
    struct nk_arena *arena = &serf->machine.arena;
    nk_noun knots[NK_KNOT_COUNT_MAX];
    uint32_t sizes[NK_KNOT_COUNT_MAX];
    uint32_t count = 0;
    const uint8_t *bytes;
    size_t size;
    if (!nk_is_cell(effect) || !nk_is_cell(nk_tail(arena, effect))) {
        return put_effect_whole(serf, effect);
    }
    nk_noun wire = nk_head(arena, effect);
    nk_noun tag = nk_head(arena, nk_tail(arena, effect));
    for (; nk_is_cell(wire); wire = nk_tail(arena, wire)) {
        nk_noun knot = nk_head(arena, wire);
        if (count == NK_KNOT_COUNT_MAX || nk_is_cell(knot)) break;
        if (nk_atom_size(arena, knot) > NK_KNOT_SIZE_MAX) break;
        sizes[count] = (uint32_t)nk_atom_size(arena, knot);
        knots[count++] = knot;
    }
    if (wire != 0 || nk_is_cell(tag) || tag == 0 ||
        nk_atom_size(arena, tag) > NK_KNOT_SIZE_MAX) {
        return put_effect_whole(serf, effect);
    }
    nk_status status = nk_jam(serf->machine.jammer, arena,
                              nk_tail(arena, nk_tail(arena, effect)), &bytes, &size);
    if (status != NK_OK) return status;
    if (size > NK_EFFECTS_SIZE_MAX) return NK_FAIL;
    uint32_t tag_size = (uint32_t)nk_atom_size(arena, tag);
    put_u32(&serf->effects, count);
    put_u32(&serf->effects, tag_size);
    put_u32(&serf->effects, (uint32_t)size);
    nk_buffer_put(&serf->effects, sizes, count * sizeof *sizes);
    for (uint32_t at = 0; at < count; at++) {
        put_atom(serf, &serf->effects, knots[at], sizes[at]);
    }
    put_atom(serf, &serf->effects, tag, tag_size);
    nk_buffer_put(&serf->effects, bytes, size);
    return NK_OK;
}

/* All effects, before the nursery goes. What follows the last cell is 0, or
 * a malformed effect of its own. */
static nk_status put_effects(struct nk_serf *serf, nk_noun list) {
    struct nk_arena *arena = &serf->machine.arena;
    buffer_clear(&serf->effects);
    serf->effect_count = 0;
    while (list != 0) {
        bool more = nk_is_cell(list);
        nk_status status = more ? put_effect(serf, nk_head(arena, list))
                                : put_effect_whole(serf, list);
        if (status != NK_OK) return status;
        if (++serf->effect_count > NK_EFFECTS_COUNT_MAX) return NK_FAIL;
        if (serf->effects.size > NK_EFFECTS_SIZE_MAX) return NK_FAIL;
        list = more ? nk_tail(arena, list) : 0;
    }
    return NK_OK;
}

/* --- events ----------------------------------------------------------------- */

/* Make [kernel] the ship's state. NK_BAD: it is not the one that was logged.
 * On failure nothing is committed and nothing discarded. */
static nk_status commit(struct nk_serf *serf, nk_noun kernel, uint64_t event_count,
                        uint32_t expected) {
    struct nk_machine *machine = &serf->machine;
    uint32_t mug = nk_mug(&machine->arena, kernel);
    if (expected != 0 && mug != expected) {
        serf->actual = mug;
        return NK_BAD;
    }
    watch_nursery(serf);
    nk_status status = nk_machine_commit(machine, &kernel);
    if (status != NK_OK) return status;
    machine->home.roots[NK_ROOT_KERNEL] = kernel;
    machine->deadline_ns = 0;
    serf->event += event_count;
    serf->mug = mug;
    return NK_OK;
}

/* Commit; where home has no room, wait for the cycle under way, and then, if
 * that is not enough, for a whole one. The product may refer to nothing in
 * home but what the roots reach, so it need not be computed again. */
static nk_status commit_somehow(struct nk_serf *serf, nk_noun kernel,
                                uint32_t expected) {
    struct nk_home *home = &serf->machine.home;
    nk_status status = commit(serf, kernel, 1, expected);
    if (status == NK_MEME && nk_collect_finish(home)) {
        status = commit(serf, kernel, 1, expected);
    }
    if (status == NK_MEME) {
        nk_home_collect(home);
        status = commit(serf, kernel, 1, expected);
    }
    return status;
}

/* Run one event and commit it. [live]: with effects. NK_BAD: not a job, or a
 * divergence. A failure leaves the machine's trace, to be taken. */
static nk_status attempt(struct nk_serf *serf, struct nk_bytes job,
                         uint64_t deadline_ms, bool live, uint32_t expected) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    machine->trace = 0;
    nk_noun event;
    nk_noun product;
    const char *why;
    nk_status status = nk_cue(machine->jammer, arena, job.data, job.size, &event, &why);
    if (status != NK_OK) return status;
    if (live && !nk_is_cell(event)) return NK_BAD;
    arm(serf, deadline_ms);
    status = call_arm(serf, AXIS_POKE, event, &product);
    if (status != NK_OK) return status;
    machine->trace = 0;
    if (!nk_is_cell(product)) return NK_EXIT;
    if (live) {
        status = put_effects(serf, nk_head(arena, product));
        if (status != NK_OK) return status;
    }
    return commit_somehow(serf, nk_tail(arena, product), expected);
}

/* Build and jam [now [%$ %arvo ~] %crud [mote tang] ovum] from the job that
 * failed and the first goof, into `serf->job`. */
static nk_status make_crud(struct nk_serf *serf, struct nk_bytes job) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    const struct nk_goof *goof = &serf->goofs[0];
    const char *mote = nk_status_mote(goof->status);
    nk_noun event;
    nk_noun tang;
    const char *why;
    const uint8_t *bytes;
    size_t size;
    serf->job.size = 0;
    nk_status status = nk_cue(machine->jammer, arena, job.data, job.size, &event, &why);
    if (status != NK_OK) return status;
    status =
        nk_cue(machine->jammer, arena, goof->tang.data, goof->tang.size, &tang, &why);
    if (status != NK_OK) return status;
    nk_noun held[2] = {event, tang};
    struct nk_root_frame frame;
    nk_root_push(arena, &frame, held, 2);
    status = nk_nursery_room(arena, 8 * NK_CELL_WORDS);
    nk_root_pop(arena, &frame);
    if (status != NK_OK) return status;
    nk_noun mote_cord = nk_atom_from_bytes(arena, mote, strlen(mote));
    nk_noun wire = nk_cons(arena, 0, nk_cons(arena, CORD_ARVO, 0));
    nk_noun card =
        nk_cons(arena, nk_cons(arena, mote_cord, held[1]), nk_tail(arena, held[0]));
    nk_noun ovum = nk_cons(arena, wire, nk_cons(arena, CORD_CRUD, card));
    nk_noun crud = nk_cons(arena, nk_head(arena, held[0]), ovum);
    status = nk_jam(machine->jammer, arena, crud, &bytes, &size);
    if (status == NK_OK) nk_buffer_put(&serf->job, bytes, size);
    return status;
}

nk_status nk_kernel_poke(struct nk_serf *serf, struct nk_bytes job,
                         uint64_t deadline_ms) {
    serf->goof_count = 0;
    buffer_clear(&serf->job);
    serf->poke_count++;
    if (kernel_of(serf) == NK_NONE) {
        serf->bail_count++;
        return nk_kernel_refuse(serf, NK_FAIL, "no kernel: boot events come first");
    }
    nk_status status = attempt(serf, job, deadline_ms, true, 0);
    if (status == NK_OK) return NK_OK;
    if (status == NK_BAD) {
        /* Not even a job: there is nothing to rewrite. */
        serf->bail_count++;
        return nk_kernel_refuse(serf, NK_EXIT, "job: not a jam of [now ovum]");
    }
    take_goof(serf, status);
    nk_status first = status;
    if (status != NK_EVIL) {
        status = make_crud(serf, job);
        discard(serf);
        if (status == NK_OK) {
            struct nk_bytes crud = {serf->job.data, serf->job.size};
            status = attempt(serf, crud, deadline_ms, true, 0);
        }
        if (status == NK_OK) {
            serf->crud_count++;
            serf->goof_count = 0;
            return NK_OK;
        }
        take_goof(serf, status);
    }
    serf->bail_count++;
    serf->job.size = 0;
    serf->effects.size = 0;
    serf->effect_count = 0;
    return first;
}

nk_status nk_kernel_replay(struct nk_serf *serf, struct nk_bytes job,
                           uint32_t expected) {
    serf->goof_count = 0;
    if (kernel_of(serf) == NK_NONE) {
        return nk_kernel_refuse(serf, NK_FAIL, "no kernel: boot events come first");
    }
    if (job.size == 0) return nk_kernel_refuse(serf, NK_EXIT, "job: empty");
    serf->replay_count++;
    serf->actual = 0;
    nk_status status = attempt(serf, job, 0, false, expected);
    if (status == NK_OK) return NK_OK;
    if (status == NK_BAD && serf->actual != 0) {
        discard(serf);
        return NK_BAD;
    }
    if (status == NK_BAD) return nk_kernel_refuse(serf, NK_EXIT, "job: not a jam");
    take_goof(serf, status);
    return status;
}

/* Cue [rows] as one list, last first: each row lies behind the next. */
static nk_status cue_rows(struct nk_serf *serf, const struct nk_bytes *rows,
                          size_t count, nk_noun *list) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    const char *why;
    *list = 0;
    for (size_t at = count; at-- > 0;) {
        nk_noun row;
        nk_status status =
            nk_cue(machine->jammer, arena, rows[at].data, rows[at].size, &row, &why);
        if (status != NK_OK) return status;
        *list = nk_cons_try(arena, row, *list);
        if (*list == NK_NONE) return NK_MEME;
    }
    return NK_OK;
}

nk_status nk_kernel_boot(struct nk_serf *serf, const struct nk_bytes *rows,
                         size_t count, uint32_t expected) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    nk_noun list;
    nk_noun product;
    serf->goof_count = 0;
    serf->actual = 0;
    nk_status status = cue_rows(serf, rows, count, &list);
    if (status == NK_BAD) {
        return nk_kernel_refuse(serf, NK_EXIT, "boot event: not a jam");
    }
    if (status != NK_OK) {
        return nk_kernel_refuse(serf, status, "boot events: too large");
    }
    machine->trace = 0;
    nk_noun held[1] = {list};
    struct nk_root_frame frame;
    nk_root_push(arena, &frame, held, 1);
    status = nk_nursery_room(arena, 5 * NK_CELL_WORDS);
    nk_root_pop(arena, &frame);
    if (status == NK_OK) {
        /* [2 [0 3] 0 2]: the first event is a formula, run on the rest. */
        nk_noun rest = nk_cons(arena, 0, 3);
        nk_noun formula = nk_cons(arena, 2, nk_cons(arena, rest, nk_cons(arena, 0, 2)));
        status = nk_nock(machine, held[0], formula, &product);
    }
    if (status == NK_OK) {
        machine->trace = 0;
        nk_noun kernel = nk_slot(arena, product, 7);
        status = kernel == NK_NONE ? NK_EXIT : commit(serf, kernel, count, expected);
    }
    if (status == NK_BAD) {
        discard(serf);
    } else if (status != NK_OK) {
        take_goof(serf, status);
    }
    return status;
}

nk_status nk_kernel_peek(struct nk_serf *serf, struct nk_bytes sample,
                         uint64_t deadline_ms, struct nk_bytes *result) {
    struct nk_machine *machine = &serf->machine;
    nk_noun noun;
    nk_noun product;
    const char *why;
    serf->goof_count = 0;
    if (kernel_of(serf) == NK_NONE) {
        return nk_kernel_refuse(serf, NK_FAIL, "no kernel: boot events come first");
    }
    nk_status status =
        nk_cue(machine->jammer, &machine->arena, sample.data, sample.size, &noun, &why);
    if (status == NK_BAD) return nk_kernel_refuse(serf, NK_EXIT, "sample: not a jam");
    machine->trace = 0;
    if (status == NK_OK) {
        arm(serf, deadline_ms);
        status = call_arm(serf, AXIS_PEEK, noun, &product);
    }
    if (status == NK_OK) {
        machine->trace = 0;
        status = nk_jam(machine->jammer, &machine->arena, product, &result->data,
                        &result->size);
    }
    if (status == NK_OK && result->size > NK_EFFECTS_SIZE_MAX) status = NK_FAIL;
    if (status == NK_OK) {
        discard(serf);
    } else {
        take_goof(serf, status);
    }
    return status;
}

nk_status nk_kernel_jam(struct nk_serf *serf, struct nk_bytes *jam) {
    serf->goof_count = 0;
    if (kernel_of(serf) == NK_NONE) {
        return nk_kernel_refuse(serf, NK_FAIL, "no kernel: boot events come first");
    }
    return nk_jam(serf->machine.jammer, &serf->machine.arena, kernel_of(serf),
                  &jam->data, &jam->size);
}

nk_status nk_kernel_state(struct nk_serf *serf, struct nk_bytes *jam) {
    struct nk_machine *machine = &serf->machine;
    serf->goof_count = 0;
    if (kernel_of(serf) == NK_NONE) {
        return nk_kernel_refuse(serf, NK_FAIL, "no kernel: boot events come first");
    }
    nk_noun cold = machine->home.roots[NK_ROOT_COLD];
    nk_noun state =
        nk_cons_try(&machine->arena, kernel_of(serf), cold == NK_NONE ? 0 : cold);
    if (state == NK_NONE) return NK_MEME;
    nk_status status =
        nk_jam(machine->jammer, &machine->arena, state, &jam->data, &jam->size);
    discard(serf);
    return status;
}

nk_status nk_kernel_install(struct nk_serf *serf, struct nk_bytes state, uint64_t event,
                            const char **why) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    nk_noun both;
    NK_ASSERT(kernel_of(serf) == NK_NONE && event != 0);
    *why = "";
    nk_status status =
        nk_cue(machine->jammer, arena, state.data, state.size, &both, why);
    if (status != NK_OK) return status;
    if (!nk_is_cell(both) || !nk_is_cell(nk_head(arena, both))) {
        *why = "it holds no kernel";
        return NK_BAD;
    }
    nk_noun slots[2] = {nk_head(arena, both), nk_tail(arena, both)};
    uint32_t mug = nk_mug(arena, slots[0]);
    status = nk_home_promote(&machine->home, slots, 2);
    if (status != NK_OK) return status;
    machine->home.roots[NK_ROOT_KERNEL] = slots[0];
    machine->home.roots[NK_ROOT_COLD] = slots[1];
    discard(serf);
    serf->event = event;
    serf->mug = mug;
    status = nk_machine_adopt(machine);
    if (status != NK_OK) *why = "its jet state makes no sense";
    return status;
}

void nk_kernel_tend(struct nk_serf *serf, bool now) {
    struct nk_home *home = &serf->machine.home;
    if (now) {
        nk_home_collect(home);
    } else {
        nk_collect_step(home, NK_COLLECT_STEP_NS);
    }
    nk_memo_bound(&serf->machine);
    watch_home(serf);
}

void nk_kernel_pack(struct nk_serf *serf) {
    nk_memo_clear(serf->machine.memo, NK_MEMO_PERSISTENT);
    nk_memo_clear(serf->machine.memo, NK_MEMO_FORD);
    serf->machine.home.roots[NK_ROOT_CACHE] = NK_NONE;
    nk_kernel_tend(serf, true);
}
