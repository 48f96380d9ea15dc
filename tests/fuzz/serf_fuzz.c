/* units: serf */
/* What a king's frames come to in the serf: records of jobs, rows and samples,
 * well-formed or not, with any bytes for a jam. Whatever comes, the answers
 * are whole records, what fails changes nothing, and the serf goes on.
 *
 * The kernel evaluates an event's data as a formula, [effects state], on the
 * kernel; a peek's sample likewise.
 *
 * Input: a list of commands, [what u8] [size u16] [bytes]; see `step`. */
#include "fuzz.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "jam.h"
#include "kernel.h"
#include "mug.h"

#include "api.h"

#include "../unit/native/text.h"

#ifndef NK_TINY
#define HOME_BYTES (16ull << 20)
#define NURSERY_BYTES (4ull << 20)
#else
#define HOME_BYTES (4ull << 20)
#define NURSERY_BYTES (1ull << 20)
#endif
#define COMMANDS_MAX 16
#define DEADLINE_MS 5u

/* Data at 55 of [now wire tag data] on top of the kernel; the kernel at 15 of
 * what 8 pushes on, its state at 3 of that. */
#define POKE "[8 [2 [0 7] 0 55] [0 4] 10 [3 0 5] 0 15]"
#define PEEK "[2 [0 7] 0 6]"
#define ARM(body) "[[1 " body "] [1 0] 0 1]"
#define KERNEL "[[0 " ARM("0") " " ARM(PEEK) " " ARM(POKE) "] 0]"

/* --- a kernel, and an end to endless formulas -------------------------------- */

static uint8_t boot_row[4096];
static size_t boot_size;
static _Atomic uint32_t *word;
static int word_fd;
static atomic_bool running; /* what may be interrupted */

static void make_boot_row(void) {
    struct nk_arena arena;
    struct nk_jammer *jammer = nk_jammer_new();
    const uint8_t *jam;
    size_t size;
    NK_ASSERT(jammer != NULL && nk_arena_open(&arena, 0, 1 << 20) == NK_OK);
    nk_noun row = text_noun(&arena, "[1 0 0 " KERNEL "]");
    NK_ASSERT(nk_jam(jammer, &arena, row, &jam, &size) == NK_OK);
    uint64_t head[2] = {0, size};
    boot_size = sizeof head + size;
    NK_ASSERT(boot_size <= sizeof boot_row);
    memcpy(boot_row, head, sizeof head);
    memcpy(boot_row + sizeof head, jam, size);
    nk_jammer_free(jammer);
    nk_arena_close(&arena);
}

/* Replay has no deadline: interrupt all that runs, again and again. */
static void *interrupt_main(void *context) {
    const struct timespec pause = {0, DEADLINE_MS * 1000000l};
    (void)context;
    for (;;) {
        nanosleep(&pause, NULL);
        if (atomic_load(&running)) atomic_store(word, 1);
    }
    return NULL;
}

static void start(void) {
    pthread_t thread;
    make_boot_row();
    word_fd = memfd_create("interrupt", MFD_CLOEXEC);
    NK_ASSERT(word_fd >= 0 && ftruncate(word_fd, 4096) == 0);
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, word_fd, 0);
    NK_ASSERT(word != MAP_FAILED);
    NK_ASSERT(pthread_create(&thread, NULL, interrupt_main, NULL) == 0);
}

static void boot(nk_serf *serf) {
    struct nk_played played;
    int status;
    do { /* an interrupt of the last input may come late */
        status = nk_serf_play(serf, 1, 1, boot_row, boot_size, &played);
    } while (status == NK_INTR);
    NK_ASSERT(status == NK_OK);
    NK_ASSERT(nk_serf_event(serf) == 1);
}

/* --- the answers -------------------------------------------------------------- */

static struct input take(struct input *records, uint64_t size) {
    NK_ASSERT(size <= records->size);
    return input_part(records, (size_t)size);
}

static uint64_t number(struct input *records, size_t bytes) {
    struct input part = take(records, bytes);
    return input_number(&part, bytes);
}

/* Every jam that leaves the serf is one. */
static void check_jam(struct input jam) {
    static struct nk_arena arena;
    static struct nk_jammer *jammer;
    const char *why;
    nk_noun n;
    if (jammer == NULL) {
        jammer = nk_jammer_new();
        NK_ASSERT(jammer != NULL);
        NK_ASSERT(nk_arena_open(&arena, 0, NURSERY_BYTES * 8) == NK_OK);
    }
    nk_nursery_reset(&arena);
    NK_ASSERT(nk_cue(jammer, &arena, jam.data, jam.size, &n, &why) == NK_OK);
}

static void check_goofs(struct input *records, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t mote = number(records, 4), tang = number(records, 4);
        NK_ASSERT(mote > 0);
        (void)take(records, mote);
        check_jam(take(records, tang));
    }
}

static void check_effect(struct input *records) {
    uint64_t knots = number(records, 4), tag = number(records, 4);
    uint64_t data = number(records, 4), sum = 0;
    NK_ASSERT(knots <= NK_KNOT_COUNT_MAX);
    for (uint64_t i = 0; i < knots; i++)
        sum += number(records, 4);
    (void)take(records, sum + tag);
    check_jam(take(records, data));
}

/* What `work` answered, up to [event]; the number of events done. */
static uint64_t check_answers(nk_serf *serf) {
    struct input records = {nk_serf_out(serf), nk_serf_out_size(serf)};
    uint64_t done = 0;
    while (records.size > 0) {
        uint64_t kind = number(&records, 4), second = number(&records, 4);
        (void)number(&records, 8); /* request */
        if (kind == 2) {
            NK_ASSERT(second >= 1 && second <= 2);
            check_goofs(&records, second);
            continue;
        }
        NK_ASSERT(kind == 1 && second >> 31 == 0);
        (void)number(&records, 8); /* event */
        uint64_t job = number(&records, 4), effects = number(&records, 4);
        (void)take(&records, 16); /* what it cost: time, pages */
        if (job > 0) check_jam(take(&records, job));
        for (uint64_t i = 0; i < effects; i++)
            check_effect(&records);
        done++;
    }
    return done;
}

static void check_slogs(nk_serf *serf) {
    struct input records = {nk_serf_slogs(serf), nk_serf_slogs_size(serf)};
    while (records.size > 0) {
        (void)number(&records, 8);
        (void)number(&records, 8);
        check_jam(take(&records, number(&records, 8)));
    }
    nk_serf_slogs_clear(serf);
}

/* --- commands ------------------------------------------------------------------- */

static void work(nk_serf *serf, struct input records) {
    uint64_t event = nk_serf_event(serf);
    for (uint64_t at = 0; at < records.size;) {
        int64_t took = nk_serf_work(serf, records.data + at, records.size - at, 1000000,
                                    NULL, NULL);
        if (took < 0) {
            NK_ASSERT(at == 0 && nk_serf_event(serf) == event);
            return;
        }
        NK_ASSERT(took > 0);
        at += (uint64_t)took;
        event += check_answers(serf);
        NK_ASSERT(nk_serf_event(serf) == event);
        check_slogs(serf);
    }
}

static void play(nk_serf *serf, uint64_t life, struct input rows) {
    struct nk_played played;
    uint64_t event = nk_serf_event(serf);
    int status = nk_serf_play(serf, 1, life, rows.data, rows.size, &played);
    NK_ASSERT(nk_serf_event(serf) >= event);
    if (status == NK_OK) {
        NK_ASSERT(played.event == nk_serf_event(serf));
    } else {
        NK_ASSERT(played.event == nk_serf_event(serf) + 1);
        NK_ASSERT((status == NK_BAD && played.actual != played.expected) ||
                  nk_serf_goofs(serf) > 0);
    }
}

static void peek(nk_serf *serf, struct input sample) {
    uint32_t mug = nk_serf_mug(serf);
    int status = nk_serf_peek(serf, 1, sample.data, sample.size, DEADLINE_MS);
    if (status == NK_OK) {
        check_jam((struct input){nk_serf_out(serf), nk_serf_out_size(serf)});
    } else {
        NK_ASSERT(nk_serf_goofs(serf) == 1);
    }
    NK_ASSERT(nk_serf_mug(serf) == mug);
}

/* The state is whole: its mug is that of what is there. */
static void check_kernel(nk_serf *serf) {
    struct nk_machine *machine = &serf->machine;
    if (nk_serf_event(serf) == 0) return;
    nk_noun kernel = machine->home.roots[NK_ROOT_KERNEL];
    NK_ASSERT(nk_serf_mug(serf) == nk_mug(&machine->arena, kernel));
    const char *wrong = nk_home_check(&machine->home);
    if (wrong != NULL) nk_panic(wrong, __FILE__, __LINE__);
}

/* A record of [numbers], the last of which is the size of [bytes]. */
static void put(struct nk_buffer *buffer, const uint64_t *numbers, size_t count,
                struct input bytes) {
    nk_buffer_put(buffer, numbers, count * sizeof *numbers);
    nk_buffer_put(buffer, bytes.data, bytes.size);
}

/* Records as they come; but all of request 1, which can be interrupted. */
static void put_raw(struct nk_buffer *buffer, struct input bytes) {
    const uint64_t request = 1;
    uint64_t size;
    nk_buffer_put(buffer, bytes.data, bytes.size);
    for (uint64_t at = 0; at + 24 <= bytes.size; at += 24 + size) {
        memcpy(buffer->data + at, &request, sizeof request);
        memcpy(&size, buffer->data + at + 16, sizeof size);
        if (size > bytes.size) return;
    }
}

static void step(nk_serf *serf, uint64_t what, struct input bytes) {
    struct nk_buffer records = {0};
    uint64_t before, after;
    struct input half = bytes;
    uint64_t size = half.size;
    struct input first = input_part(&half, size / 2);
    switch (what % 8) {
    case 0:
        put_raw(&records, bytes);
        work(serf, (struct input){records.data, records.size});
        break;
    case 1:
        play(serf, what >> 3, bytes);
        break;
    case 2:
        peek(serf, bytes);
        break;
    case 3: /* one job */
        put(&records, (uint64_t[]){1, DEADLINE_MS, size}, 3, bytes);
        work(serf, (struct input){records.data, records.size});
        break;
    case 4: /* two, in one frame */
        put(&records, (uint64_t[]){1, DEADLINE_MS, first.size}, 3, first);
        put(&records, (uint64_t[]){1, DEADLINE_MS, half.size}, 3, half);
        work(serf, (struct input){records.data, records.size});
        break;
    case 5: /* a row, of any mug */
        put(&records, (uint64_t[]){what >> 3, size}, 2, bytes);
        play(serf, 0, (struct input){records.data, records.size});
        break;
    case 6:
        nk_serf_pack(serf, &before, &after);
        break;
    default:
        if (nk_serf_kernel(serf) == NK_OK) {
            check_jam((struct input){nk_serf_out(serf), nk_serf_out_size(serf)});
        }
        break;
    }
    nk_buffer_free(&records);
    check_kernel(serf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    char message[256];
    if (word == NULL) start();
    nk_serf *serf = nk_serf_new(HOME_BYTES, NURSERY_BYTES, word_fd, message);
    NK_ASSERT(serf != NULL);
    if (input_number(&input, 1) % 16 != 0) boot(serf);
    atomic_store(&running, true);
    for (int i = 0; i < COMMANDS_MAX && input.size > 0; i++) {
        uint64_t what = input_number(&input, 1);
        uint64_t length = input_number(&input, 2);
        step(serf, what, input_part(&input, (size_t)length));
    }
    atomic_store(&running, false);
    atomic_store(word, 0);
    nk_serf_free(serf);
    return 0;
}
