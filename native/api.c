/* What Python may call: records in, records out. See api.h.
 *
 * No logic of its own: kernel.c says what an event does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "collect.h"
#include "confine.h"
#include "image_copy.h"
#include "jet.h"
#include "kernel.h"
#include "memo.h"
#include "mug.h"
#include "probe.h"
#include "survey.h"
#include "watch.h"

#include "api.h"

#define MESSAGE_SIZE 256
/* Answers of one call: enough to write at once, little enough to hold. */
#define OUT_SIZE_SOFT (1u << 20)

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* What this thread has computed: load on the machine does not count. */
static uint64_t thread_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void say(char *message, const char *text) {
    snprintf(message, MESSAGE_SIZE, "%s", text);
}

nk_serf *nk_serf_new(uint64_t home_size, uint64_t nursery_size, int interrupt_fd,
                     char *message) {
    struct nk_serf *serf = calloc(1, sizeof *serf);
    say(message, "");
    NK_ASSERT(serf != NULL);
    if (interrupt_fd >= 0) {
        void *word = mmap(NULL, sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED,
                          interrupt_fd, 0);
        if (word == MAP_FAILED) {
            say(message, "the interrupt descriptor cannot be mapped");
            free(serf);
            return NULL;
        }
        serf->interrupt = word;
    }
    if (nk_kernel_open(serf, home_size, nursery_size) != NK_OK) {
        say(message, "the system refuses so much address space");
        free(serf);
        return NULL;
    }
    return serf;
}

void nk_serf_free(nk_serf *serf) {
    if (serf->image != NULL) nk_image_close(serf->image);
    if (serf->interrupt != NULL) munmap((void *)serf->interrupt, sizeof(uint32_t));
    nk_kernel_close(serf);
    free(serf);
}

const uint8_t *nk_serf_out(const nk_serf *serf) {
    return serf->answer.data;
}
uint64_t nk_serf_out_size(const nk_serf *serf) {
    return serf->answer.size;
}
const uint8_t *nk_serf_slogs(const nk_serf *serf) {
    return serf->slogs.data;
}
uint64_t nk_serf_slogs_size(const nk_serf *serf) {
    return serf->slogs.size;
}
uint64_t nk_serf_slogs_dropped(const nk_serf *serf) {
    return serf->slogs_dropped;
}
uint64_t nk_serf_event(const nk_serf *serf) {
    return serf->event;
}
uint32_t nk_serf_mug(const nk_serf *serf) {
    return serf->mug;
}
const char *nk_serf_mote(int status) {
    return nk_status_mote((nk_status)status);
}

void nk_serf_slogs_clear(nk_serf *serf) {
    serf->slogs.size = 0;
    serf->slogs_dropped = 0;
}

/* The records in `out` are the answer. */
static void answer_records(struct nk_serf *serf) {
    serf->answer = (struct nk_bytes){serf->out.data, serf->out.size};
}

/* --- records ------------------------------------------------------------------ */

static void put_u32(struct nk_buffer *buffer, uint32_t value) {
    nk_buffer_put(buffer, &value, sizeof value);
}

static void put_u64(struct nk_buffer *buffer, uint64_t value) {
    nk_buffer_put(buffer, &value, sizeof value);
}

static void put_goofs(struct nk_serf *serf) {
    for (uint32_t at = 0; at < serf->goof_count; at++) {
        const struct nk_goof *goof = &serf->goofs[at];
        const char *mote = nk_status_mote(goof->status);
        put_u32(&serf->out, (uint32_t)strlen(mote));
        put_u32(&serf->out, (uint32_t)goof->tang.size);
        nk_buffer_put(&serf->out, mote, strlen(mote));
        nk_buffer_put(&serf->out, goof->tang.data, goof->tang.size);
    }
}

static void put_bail(struct nk_serf *serf, uint64_t request) {
    put_u32(&serf->out, 2);
    put_u32(&serf->out, serf->goof_count);
    put_u64(&serf->out, request);
    put_goofs(serf);
}

static void put_done(struct nk_serf *serf, uint64_t request, uint64_t nanoseconds,
                     uint64_t pages) {
    put_u32(&serf->out, 1);
    put_u32(&serf->out, serf->mug);
    put_u64(&serf->out, request);
    put_u64(&serf->out, serf->event);
    put_u32(&serf->out, (uint32_t)serf->job.size);
    put_u32(&serf->out, serf->effect_count);
    put_u64(&serf->out, nanoseconds);
    put_u64(&serf->out, pages);
    nk_buffer_put(&serf->out, serf->job.data, serf->job.size);
    nk_buffer_put(&serf->out, serf->effects.data, serf->effects.size);
}

uint32_t nk_serf_goofs(nk_serf *serf) {
    serf->out.size = 0;
    put_goofs(serf);
    answer_records(serf);
    return serf->goof_count;
}

/* Read [count] numbers and then the bytes whose size is the last of them.
 * False where the record does not fit in what is left. */
static bool take_record(const uint8_t *data, uint64_t size, uint64_t *at,
                        uint64_t *numbers, size_t count, struct nk_bytes *bytes) {
    uint64_t header = count * sizeof *numbers;
    if (size - *at < header) return false;
    memcpy(numbers, data + *at, header);
    if (size - *at - header < numbers[count - 1]) return false;
    bytes->data = data + *at + header;
    bytes->size = numbers[count - 1];
    *at += header + bytes->size;
    return true;
}

static bool are_records(const uint8_t *data, uint64_t size, size_t count) {
    uint64_t numbers[3];
    struct nk_bytes bytes;
    uint64_t at = 0;
    while (at < size) {
        if (!take_record(data, size, &at, numbers, count, &bytes)) return false;
    }
    return true;
}

/* --- events ------------------------------------------------------------------- */

/* What events cost on the thread's clock. To read that is a system call and
 * costs as much as a small event: of a short one the wall's time is taken, and
 * the thread's clock is read before a batch and after what took longer. */
#define SHORT_NS 20000u
struct meter {
    uint64_t thread_ns; /* when it was read last */
    uint64_t short_ns;  /* of the short events since */
};

static uint64_t meter_event(struct meter *meter, uint64_t wall_ns) {
    if (wall_ns < SHORT_NS) {
        meter->short_ns += wall_ns;
        return wall_ns;
    }
    uint64_t now = thread_ns(), spent = now - meter->thread_ns;
    uint64_t cost = spent > meter->short_ns ? spent - meter->short_ns : 0;
    *meter = (struct meter){now, 0};
    return cost < wall_ns ? cost : wall_ns;
}

int64_t nk_serf_work(nk_serf *serf, const uint8_t *jobs, uint64_t size,
                     uint64_t budget_us, void (*early)(void *context), void *context) {
    struct nk_machine *machine = &serf->machine;
    uint64_t end = now_ns() + budget_us * 1000;
    struct meter meter = {thread_ns(), 0};
    uint64_t at = 0;
    machine->alarm = early;
    machine->alarm_context = context;
    serf->out.size = 0;
    if (!are_records(jobs, size, 3)) return -1;
    while (at < size) {
        uint64_t head[3] = {0}; /* request, deadline_ms, size */
        struct nk_bytes job;
        (void)take_record(jobs, size, &at, head, 3, &job);
        nk_machine_request(machine, head[0]);
        bool waits = early != NULL && serf->out.size != 0;
        machine->alarm_ns = waits ? end : 0;
        answer_records(serf);
        uint64_t began = now_ns(), dirty = machine->home.dirty_count;
        nk_status status = nk_kernel_poke(serf, job, head[1]);
        uint64_t cost = meter_event(&meter, now_ns() - began);
        uint64_t now_dirty = machine->home.dirty_count;
        if (waits && machine->alarm_ns == 0) serf->out.size = 0; /* they were told */
        machine->alarm_ns = 0;
        if (status == NK_OK) {
            put_done(serf, head[0], cost, now_dirty > dirty ? now_dirty - dirty : 0);
        } else {
            put_bail(serf, head[0]);
        }
        nk_machine_request(machine, 0);
        nk_kernel_tend(serf, false);
        if (serf->out.size >= OUT_SIZE_SOFT || now_ns() >= end) break;
    }
    answer_records(serf);
    return (int64_t)at;
}

/* The first [life] rows at once. */
static nk_status play_boot(struct nk_serf *serf, uint64_t life, const uint8_t *rows,
                           uint64_t size, uint64_t *at, struct nk_played *played) {
    uint64_t head[2] = {0}; /* mug, size */
    /* A row takes 16 bytes at least, which bounds the array. */
    if (life > size / sizeof head) {
        return nk_kernel_refuse(serf, NK_FAIL, "not all boot events are there");
    }
    struct nk_bytes *jobs = calloc(life, sizeof *jobs);
    NK_ASSERT(jobs != NULL);
    nk_status status = NK_OK;
    for (uint64_t row = 0; row < life && status == NK_OK; row++) {
        if (!take_record(rows, size, at, head, 2, &jobs[row])) {
            status = nk_kernel_refuse(serf, NK_FAIL, "not all boot events are there");
        }
    }
    played->expected = (uint32_t)head[0];
    if (status == NK_OK) {
        status = nk_kernel_boot(serf, jobs, life, played->expected);
    }
    free(jobs);
    return status;
}

int nk_serf_play(nk_serf *serf, uint64_t request, uint64_t life, const uint8_t *rows,
                 uint64_t size, struct nk_played *played) {
    nk_status status = NK_OK;
    uint64_t at = 0;
    memset(played, 0, sizeof *played);
    serf->goof_count = 0;
    if (!are_records(rows, size, 2)) {
        status = nk_kernel_refuse(serf, NK_FAIL, "malformed rows");
    }
    nk_kernel_limits(serf, true);
    nk_machine_request(&serf->machine, request);
    if (status == NK_OK && serf->event == 0 && life > 0) {
        status = play_boot(serf, life, rows, size, &at, played);
        nk_kernel_tend(serf, status == NK_OK);
    }
    while (status == NK_OK && at < size) {
        uint64_t head[2] = {0}; /* mug, size */
        struct nk_bytes job;
        (void)take_record(rows, size, &at, head, 2, &job);
        played->expected = (uint32_t)head[0];
        status = nk_kernel_replay(serf, job, played->expected);
        nk_kernel_tend(serf, false);
    }
    nk_machine_request(&serf->machine, 0);
    nk_kernel_limits(serf, false);
    played->event = serf->event + (status == NK_OK ? 0 : 1);
    played->actual = status == NK_BAD ? serf->actual : 0;
    return (int)status;
}

int nk_serf_peek(nk_serf *serf, uint64_t request, const uint8_t *sample, uint64_t size,
                 uint64_t deadline_ms) {
    struct nk_bytes given = {sample, size};
    serf->answer = (struct nk_bytes){NULL, 0};
    nk_machine_request(&serf->machine, request);
    nk_status status = nk_kernel_peek(serf, given, deadline_ms, &serf->answer);
    nk_machine_request(&serf->machine, 0);
    return (int)status;
}

int nk_serf_kernel(nk_serf *serf) {
    serf->answer = (struct nk_bytes){NULL, 0};
    return (int)nk_kernel_jam(serf, &serf->answer);
}

int nk_serf_state(nk_serf *serf) {
    serf->answer = (struct nk_bytes){NULL, 0};
    nk_kernel_limits(serf, true);
    return (int)nk_kernel_state(serf, &serf->answer);
}

int nk_serf_install(nk_serf *serf, const uint8_t *jam, uint64_t size, uint64_t event,
                    const char **why) {
    nk_kernel_limits(serf, true);
    return (int)nk_kernel_install(serf, (struct nk_bytes){jam, size}, event, why);
}

/* --- the process ------------------------------------------------------------ */

int nk_serf_confine(nk_serf *serf, const int *fds, uint32_t count, uint32_t *in_force,
                    char *message) {
    int keep[10];
    NK_ASSERT(count + 2 <= sizeof keep / sizeof keep[0]);
    memcpy(keep, fds, count * sizeof *fds);
    if (serf->image != NULL) count += nk_image_fds(serf->image, keep + count);
    say(message, "");
    return (int)nk_confine(keep, count, in_force, message);
}

int nk_serf_watch(int fd, int exit_code) {
    return (int)nk_watch_start(fd, exit_code);
}

/* --- the image ------------------------------------------------------------------ */

int nk_serf_image_open(nk_serf *serf, const char *path, char *message) {
    say(message, "");
    return (int)nk_image_open(path, false, &serf->image, message);
}

int nk_serf_load(nk_serf *serf, uint64_t event_max, int verify, const uint8_t *ship,
                 const uint8_t *log, struct nk_loaded *loaded) {
    struct nk_image_info info = {0};
    struct nk_home *home = &serf->machine.home;
    nk_status status = nk_image_load(serf->image, home, event_max, verify != 0, &info);
    memset(loaded, 0, sizeof *loaded);
    memcpy(serf->identity.ship, ship, sizeof serf->identity.ship);
    memcpy(serf->identity.log, log, sizeof serf->identity.log);
    if (status == NK_OK && info.good) {
        serf->identity = info.identity;
        serf->event = info.event;
        serf->mug = info.mug;
        if (home->roots[NK_ROOT_KERNEL] == NK_NONE ||
            nk_mug(&serf->machine.arena, home->roots[NK_ROOT_KERNEL]) != info.mug) {
            status = NK_BAD;
            say(info.message, "the kernel has not the mug that its superblock names");
        } else {
            status = nk_machine_adopt(&serf->machine);
            if (status != NK_OK) say(info.message, "its jet state cannot be rebuilt");
        }
    }
    /* What could not be used stays until there is something better. */
    serf->image_refused = status == NK_OK && !info.good && info.message[0] != 0;
    loaded->good = info.good;
    loaded->fell_back = info.fell_back;
    loaded->generation = info.generation;
    loaded->event = info.event;
    loaded->mug = info.mug;
    memcpy(loaded->ship, serf->identity.ship, sizeof loaded->ship);
    memcpy(loaded->log, serf->identity.log, sizeof loaded->log);
    memcpy(loaded->message, info.message, sizeof loaded->message);
    return (int)status;
}

int nk_serf_save_begin(nk_serf *serf, int wake, const char *pin, const char *unpin,
                       uint64_t pace) {
    char message[256] = "";
    nk_status status = NK_OK;
    serf->goof_count = 0;
    if (serf->image == NULL) {
        return (int)nk_kernel_refuse(serf, NK_FAIL, "no image was opened");
    }
    serf->save_began_ns = now_ns();
    if (serf->image_refused) status = nk_image_reset(serf->image, message);
    if (status == NK_OK) {
        serf->image_refused = false;
        nk_image_pace(serf->image, pace);
        if (*unpin != 0) status = nk_image_unpin(serf->image, unpin, message);
        if (status == NK_OK && *pin != 0)
            status = nk_image_pin(serf->image, pin, message);
    }
    if (status == NK_OK) {
        status = nk_image_save_begin(serf->image, &serf->machine.home, &serf->identity,
                                     serf->event, serf->mug, wake, message);
    }
    return status == NK_OK ? NK_OK : (int)nk_kernel_refuse(serf, status, message);
}

int nk_serf_save_is_done(const nk_serf *serf) {
    return nk_image_saving(serf->image) == NK_SAVING_DONE;
}

int nk_serf_save_end(nk_serf *serf, struct nk_saved *saved) {
    struct nk_image_info info;
    memset(saved, 0, sizeof *saved);
    serf->goof_count = 0;
    nk_status status = nk_image_save_end(serf->image, &serf->machine.home, &info);
    if (status != NK_OK) return (int)nk_kernel_refuse(serf, status, info.message);
    saved->event = info.event;
    saved->mug = info.mug;
    saved->generation = info.generation;
    saved->pages = info.pages_written;
    saved->bytes_written = info.bytes_written;
    saved->elapsed_us = (now_ns() - serf->save_began_ns) / 1000;
    return NK_OK;
}

int nk_serf_verify_start(nk_serf *serf, char *message) {
    say(message, "");
    return (int)nk_image_verify_start(serf->image, message);
}

int nk_serf_is_rotten(nk_serf *serf, char *message) {
    if (serf->image == NULL) return 0;
    say(message, "");
    return nk_image_verify_status(serf->image, message) == NK_VERIFY_BAD;
}

int nk_serf_scrub(nk_serf *serf, struct nk_scrubbed *scrubbed, char *message) {
    struct nk_scrub scrub = {0};
    nk_status status = NK_OK;
    say(message, "");
    if (serf->image != NULL) status = nk_image_scrub(serf->image, &scrub, message);
    scrubbed->stepped = scrub.stepped;
    scrubbed->page = scrub.page;
    scrubbed->pages = scrub.pages;
    scrubbed->passes = scrub.passes;
    return (int)status;
}

static void describe_image(const struct nk_image_info *info,
                           struct nk_checked *checked) {
    checked->good = info->good;
    checked->generation = info->generation;
    checked->event = info->event;
    checked->mug = info->mug;
    checked->pages = info->pages;
    checked->slots = info->slots;
    memcpy(checked->ship, info->identity.ship, sizeof checked->ship);
    memcpy(checked->log, info->identity.log, sizeof checked->log);
}

_Static_assert(sizeof((struct nk_pin_facts *)0)->name == NK_PIN_NAME_SIZE &&
                   sizeof((struct nk_checked *)0)->pins ==
                       NK_PINS_MAX * sizeof(struct nk_pin_facts),
               "pins");

static int look_at_image(const char *path, bool whole, bool deep,
                         struct nk_checked *checked) {
    struct nk_image *image = NULL;
    struct nk_image_info info = {0};
    struct nk_pin pins[NK_PINS_MAX];
    char unread[MESSAGE_SIZE];
    memset(checked, 0, sizeof *checked);
    nk_status status = nk_image_open(path, true, &image, checked->message);
    if (status != NK_OK) return (int)status;
    if (whole) {
        status = nk_image_check(image, &info, &checked->generations, checked->message);
        if (status == NK_OK && deep)
            status = nk_image_check_nouns(image, checked->message);
    } else {
        nk_image_newest(image, &info, &checked->generations);
    }
    checked->pin_count = nk_image_pins(image, pins, unread);
    for (uint32_t i = 0; i < checked->pin_count; i++) {
        memcpy(checked->pins[i].name, pins[i].name, sizeof pins[i].name);
        checked->pins[i].generation = pins[i].generation;
        checked->pins[i].event = pins[i].event;
    }
    if (status == NK_OK && unread[0] != 0) {
        memcpy(checked->message, unread, sizeof unread);
        status = NK_BAD;
    }
    nk_image_close(image);
    describe_image(&info, checked);
    return (int)status;
}

int nk_check_image(const char *path, int deep, struct nk_checked *checked) {
    return look_at_image(path, true, deep != 0, checked);
}

int nk_image_facts(const char *path, struct nk_checked *checked) {
    return look_at_image(path, false, false, checked);
}

int nk_copy_begin(const char *source, uint64_t event, int to, nk_image_copy **copy,
                  struct nk_checked *what) {
    struct nk_image_info info;
    memset(what, 0, sizeof *what);
    nk_status status = nk_image_copy_begin(source, event, to, copy, &info);
    describe_image(&info, what);
    say(what->message, info.message);
    return (int)status;
}

int nk_copy_step(nk_image_copy *copy, struct nk_copied *copied, char *message) {
    struct nk_copy_state state;
    nk_status status = nk_image_copy_step(copy, &state, message);
    *copied = (struct nk_copied){
        .done = state.phase == NK_COPY_DONE,
        .verifying = state.phase == NK_COPY_VERIFY,
        .overwritten = state.overwritten,
        .bytes_done = state.done,
        .bytes_total = state.total,
        .pages = state.pages,
        .bytes = state.bytes,
    };
    return (int)status;
}

void nk_copy_end(nk_image_copy *copy) {
    nk_image_copy_end(copy);
}

/* --- upkeep ------------------------------------------------------------------- */

void nk_serf_pack(nk_serf *serf, uint64_t *before, uint64_t *after) {
    struct nk_home *home = &serf->machine.home;
    *before = home->words_used * 8;
    nk_kernel_pack(serf);
    *after = home->words_used * 8;
}

const char *nk_serf_notice(nk_serf *serf) {
    memcpy(serf->noticed, serf->notice, sizeof serf->noticed);
    serf->notice[0] = 0;
    return serf->noticed;
}

/* The counters of arms that were called, [index] from 0. */
static const char *jet_gauge(struct nk_serf *serf, uint32_t index, uint64_t *value) {
    const struct nk_jets *jets = serf->machine.jets;
    for (size_t i = 0; i < nk_jets_arm_count(jets); i++) {
        const struct nk_arm_counts *arm = nk_jets_arm(jets, i);
        const struct {
            const char *name;
            uint64_t value;
        } rows[] = {{"hits", arm->hits},
                    {"misses", arm->misses},
                    {"checked", arm->checked},
                    {"unchecked", arm->unchecked},
                    {"wrong", arm->wrong}};
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            if (rows[k].value == 0 || index-- != 0) continue;
            *value = rows[k].value;
            snprintf(serf->gauge_name, sizeof serf->gauge_name, "jet:%s:%s",
                     arm->arm->path, rows[k].name);
            return serf->gauge_name;
        }
    }
    return NULL;
}

/* The pins, [index] from 0; else what arms there are. */
static const char *pin_gauge(struct nk_serf *serf, uint32_t index, uint64_t *value) {
    struct nk_pin pins[NK_PINS_MAX];
    char unread[MESSAGE_SIZE];
    uint32_t count = 0;
    if (serf->image != NULL) count = nk_image_pins(serf->image, pins, unread);
    if (index >= count) return jet_gauge(serf, index - count, value);
    *value = pins[index].event;
    snprintf(serf->gauge_name, sizeof serf->gauge_name, "pin:%s", pins[index].name);
    return serf->gauge_name;
}

const char *nk_serf_gauge(nk_serf *serf, uint32_t index, uint64_t *value) {
    const struct nk_home *home = &serf->machine.home;
    const struct nk_arena *arena = &serf->machine.arena;
    const struct nk_collect_stats *collected = nk_collect_stats(home);
    const struct {
        const char *name;
        uint64_t value;
    } gauges[] = {
        {"event", serf->event},
        {"home_bytes", home->words_used * 8},
        {"home_pages", home->page_count},
        {"home_bytes_max", serf->home_size},
        {"home_dirty_pages", home->dirty_count},
        {"home_percent", serf->home_room.percent},
        {"home_collections", home->collections},
        {"collect_waits", collected->waits},
        {"collect_bytes_freed", collected->words_freed * 8},
        {"collect_mark_us", collected->mark_ns / 1000},
        {"collect_cycle_us", collected->cycle_ns / 1000},
        {"collect_steps", collected->steps},
        {"collect_step_us_p50", nk_collect_pause(home, 500) / 1000},
        {"collect_step_us_p99", nk_collect_pause(home, 990) / 1000},
        {"collect_step_us_max", collected->step_ns_max / 1000},
        {"home_promotions", home->promotions},
        {"memo_home_bytes", collected->cache_words * 8},
        {"home_bytes_promoted", home->words_promoted * 8},
        {"nursery_bytes_max", serf->nursery_size},
        {"nursery_peak_bytes", serf->nursery_peak},
        {"nursery_percent", serf->nursery_room.percent},
        {"nursery_minor_collections", arena->minor_collections},
        {"nursery_full_collections", arena->full_collections},
        {"nursery_bytes_copied", arena->words_copied * 8},
        {"pokes", serf->poke_count},
        {"cruds", serf->crud_count},
        {"bails", serf->bail_count},
        {"replayed", serf->replay_count},
    };
    uint32_t count = sizeof gauges / sizeof gauges[0];
    if (index >= count) return pin_gauge(serf, index - count, value);
    *value = gauges[index].value;
    return gauges[index].name;
}

void nk_serf_probe(nk_serf *serf, uint64_t interval_us, int check) {
    struct nk_machine *machine = &serf->machine;
    if (machine->probe == NULL) machine->probe = nk_probe_new();
    machine->probe->interval_ns = interval_us * 1000;
    machine->probe->check = check != 0;
}

void nk_serf_enable_jets(nk_serf *serf, int enabled) {
    nk_machine_enable_jets(&serf->machine, enabled != 0);
}

/* Calls that a site served. */
static uint64_t calls_of(const struct nk_probe *probe) {
    const uint64_t *n = probe->instructions;
    return n[NK_OP_NOCK] + n[NK_OP_TNOCK] + n[NK_OP_KICK] + n[NK_OP_TKICK] +
           n[NK_OP_SLAM] + n[NK_OP_TSLAM];
}

const char *nk_serf_stat(nk_serf *serf, uint32_t index, uint64_t *value) {
    struct nk_machine *machine = &serf->machine;
    const struct nk_arena *arena = &machine->arena;
    const struct nk_probe *probe = machine->probe;
    if (probe == NULL) return NULL;
    struct nk_code_stats code = nk_code_stats(machine->code);
    uint64_t calls = calls_of(probe), total = 0;
    struct nk_memo_counts memo[NK_MEMO_KINDS];
    for (uint32_t op = 0; op < NK_OP_COUNT; op++)
        total += probe->instructions[op];
    for (uint32_t kind = 0; kind < NK_MEMO_KINDS; kind++)
        memo[kind] = nk_memo_counts(machine->memo, kind);
    uint64_t fills = machine->site_fills < calls ? machine->site_fills : calls;
    const struct {
        const char *name;
        uint64_t value;
    } stats[] = {
        {"instructions_total", total},
        {"calls", calls},
        {"call_cache_hits", calls - fills},
        {"call_cache_misses", fills},
        {"call_cache_turns", machine->site_turns},
        {"call_products_kept", probe->kept},
        {"bytes_allocated", probe->words * 8},
        {"nursery_peak_bytes", probe->nursery_peak},
        {"stack_peak_bytes", probe->stack_peak},
        {"collections_minor", arena->minor_collections},
        {"collections_full", arena->full_collections},
        {"bytes_copied", arena->words_copied * 8},
        {"programs_compiled", code.compiled},
        {"programs_shared", code.shared},
        {"samples", probe->sample_count},
        {"jet_mismatches", probe->mismatch_count},
#define MEMO(name, kind)                                                               \
    {"memo_" name ":hits", memo[kind].hits},                                           \
        {"memo_" name ":misses", memo[kind].misses},                                   \
        {"memo_" name ":evicted", memo[kind].evicted},                                 \
        {"memo_" name ":entries_peak", memo[kind].entries},                            \
        {"memo_" name ":bytes_peak", memo[kind].bytes},                                \
        {"memo_" name ":bytes_max", memo[kind].bytes_max}
        MEMO("transient", NK_MEMO_TRANSIENT),
        MEMO("persistent", NK_MEMO_PERSISTENT),
        MEMO("ford", NK_MEMO_FORD),
#undef MEMO
    };
    uint32_t count = sizeof stats / sizeof stats[0];
    if (index < count) {
        *value = stats[index].value;
        return stats[index].name;
    }
    if (index - count >= NK_OP_COUNT) return NULL;
    *value = probe->instructions[index - count];
    snprintf(serf->gauge_name, sizeof serf->gauge_name, "instructions:%s",
             nk_opcode_name((enum nk_opcode)(index - count)));
    return serf->gauge_name;
}

int nk_serf_arm(nk_serf *serf, uint32_t index, struct nk_arm_facts *facts) {
    const struct nk_jets *jets = serf->machine.jets;
    if (index >= nk_jets_arm_count(jets)) return 0;
    const struct nk_arm_counts *counts = nk_jets_arm(jets, index);
    *facts = (struct nk_arm_facts){
        counts->arm->path, counts->arm->jet != NULL ? "jet" : "program",
        counts->arm->hook, counts->hits,
        counts->misses,    counts->checked,
        counts->unchecked, counts->wrong};
    return 1;
}

static void answer_text(struct nk_serf *serf, struct nk_text *text) {
    serf->out.size = 0;
    nk_buffer_put(&serf->out, text->data, text->size);
    nk_text_free(text);
    answer_records(serf);
}

void nk_serf_profile(nk_serf *serf) {
    struct nk_text text = {0};
    if (serf->machine.probe != NULL) nk_probe_fold(serf->machine.probe, &text);
    answer_text(serf, &text);
}

/* --- tools -------------------------------------------------------------------- */

/* Cue [jam] and leave its canonical jam as output. */
static nk_status tool_cue(struct nk_serf *serf, const uint8_t *jam, uint64_t size,
                          nk_noun *noun, const char **why) {
    struct nk_machine *machine = &serf->machine;
    const uint8_t *bytes;
    size_t count;
    *why = "";
    serf->out.size = 0;
    nk_status status = nk_cue(machine->jammer, &machine->arena, jam, size, noun, why);
    if (status != NK_OK) return status;
    status = nk_jam(machine->jammer, &machine->arena, *noun, &bytes, &count);
    if (status == NK_OK) nk_buffer_put(&serf->out, bytes, count);
    answer_records(serf);
    return status;
}

int nk_serf_rejam(nk_serf *serf, const uint8_t *jam, uint64_t size, uint32_t *mug,
                  const char **why) {
    nk_noun noun;
    nk_status status = tool_cue(serf, jam, size, &noun, why);
    if (status == NK_OK) *mug = nk_mug(&serf->machine.arena, noun);
    nk_machine_discard(&serf->machine);
    return (int)status;
}

int nk_serf_noun(nk_serf *serf, const uint8_t *jam, uint64_t size,
                 struct nk_noun_facts *facts, const char **why) {
    struct nk_machine *machine = &serf->machine;
    struct nk_survey survey;
    nk_noun noun;
    memset(facts, 0, sizeof *facts);
    nk_status status = tool_cue(serf, jam, size, &noun, why);
    nk_machine_discard(machine);
    if (status != NK_OK) return (int)status;
    /* Once more, from the canonical jam: now equal nouns are one box. */
    status = nk_cue(machine->jammer, &machine->arena, serf->out.data, serf->out.size,
                    &noun, why);
    if (status == NK_OK) {
        nk_survey_count(&machine->arena, noun, &survey);
        facts->bytes = serf->out.size;
        facts->cells_distinct = survey.cells_distinct;
        facts->atoms_distinct = survey.atoms_distinct;
        facts->cells_tree = survey.cells_tree;
        facts->atoms_tree = survey.atoms_tree;
        facts->depth = survey.depth;
        facts->mug = nk_mug(&machine->arena, noun);
    }
    nk_machine_discard(machine);
    return (int)status;
}

int nk_serf_nock(nk_serf *serf, const uint8_t *jam, uint64_t size, int jets,
                 uint64_t nanoseconds[2], uint32_t *mug, const char **why) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    const uint8_t *bytes;
    size_t count;
    nk_noun noun;
    nk_noun product = 0;
    *why = "";
    *mug = 0;
    nanoseconds[0] = nanoseconds[1] = 0;
    serf->out.size = 0;
    nk_status status = nk_cue(machine->jammer, arena, jam, size, &noun, why);
    if (status == NK_OK && !nk_is_cell(noun)) {
        *why = "an atom, not [subject formula]";
        status = NK_BAD;
    }
    if (status != NK_OK) {
        nk_machine_discard(machine);
        return (int)status;
    }
    machine->trace = 0;
    bool enabled = machine->jets_enabled;
    nk_machine_enable_jets(machine, jets != 0);
    uint64_t start = now_ns(), thread_start = thread_ns();
    status = nk_nock(machine, nk_head(arena, noun), nk_tail(arena, noun), &product);
    nanoseconds[0] = now_ns() - start;
    nanoseconds[1] = thread_ns() - thread_start;
    nk_machine_enable_jets(machine, enabled);
    nk_noun answer = status == NK_OK ? product : machine->trace;
    if (answer == NK_NONE) answer = 0;
    if (status == NK_OK) *mug = nk_mug(arena, product);
    if (nk_jam(machine->jammer, arena, answer, &bytes, &count) == NK_OK) {
        nk_buffer_put(&serf->out, bytes, count);
    }
    answer_records(serf);
    nk_machine_discard(machine);
    return (int)status;
}

int nk_serf_disassemble(nk_serf *serf, const uint8_t *jam, uint64_t size,
                        const char **why) {
    struct nk_machine *machine = &serf->machine;
    struct nk_arena *arena = &machine->arena;
    struct nk_text text = {0};
    nk_noun noun;
    *why = "";
    nk_status status = nk_cue(machine->jammer, arena, jam, size, &noun, why);
    if (status == NK_OK && (!nk_is_cell(noun) || !nk_is_cell(nk_tail(arena, noun)))) {
        *why = "not [subject formula]";
        status = NK_BAD;
    }
    if (status == NK_OK) {
        status = nk_list_formula(&text, machine->code, arena, nk_tail(arena, noun));
    }
    answer_text(serf, &text);
    nk_machine_discard(machine);
    return (int)status;
}
