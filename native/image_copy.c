/* See image_copy.h. What is written is worked out beforehand: the number of a
 * page's slot is its rank among the pages in use. */
#include "image_copy.h"

#include <fcntl.h>

#include "image_inside.h"

/* Bytes that wait to be written, at most. */
#define COPY_BEHIND (32ull << 20)

/* A slot of the source: a page or a table, and its checksum. */
struct want {
    uint32_t slot;
    uint32_t index;
    struct sum sum;
};

struct nk_image_copy {
    struct nk_image *source;
    struct nk_image *made; /* `to`, as its reader sees it, once it is written */
    int to;
    struct super super;     /* of the source */
    bool pinned;            /* and not among the last few */
    struct generation from; /* as it lies there */
    struct generation next; /* as it is to lie here */
    uint64_t at;            /* the next page, table or directory */
    uint64_t slot;          /* where what is written next goes */
    struct scan scan;
    struct nk_copy_state state;
    struct want *wants; /* what a step reads, */
    char *buffer;       /* and where it goes */
};

/* --- Beginning ----------------------------------------------------------- */

/* The newest generation of [event], or else a pinned one. */
static nk_status choose(struct nk_image_copy *copy, uint64_t event, char message[256]) {
    const struct nk_image *source = copy->source;
    unsigned order[RING_COUNT], count = nk_image_ring_order(source, order);
    struct pin_directory pins;
    for (unsigned i = 0; i < count; i++) {
        copy->super = source->supers[order[i]];
        if (event == NK_COPY_NEWEST || copy->super.event == event) return NK_OK;
    }
    if (count == 0) {
        say(message, "there is no generation in it");
        return NK_BAD;
    }
    (void)nk_image_pins_read(source, &source->supers[order[0]], &pins, message);
    copy->pinned = true;
    for (unsigned i = 0; i < pins.head.index; i++) {
        if (pins.pins[i].event == event)
            return nk_image_pin_super(source, &pins.pins[i], &copy->super, message);
    }
    say(message, "there is no generation of event %llu, but of",
        (unsigned long long)event);
    for (unsigned i = 0; i < count + pins.head.index; i++) {
        size_t size = strlen(message);
        uint64_t other =
            i < count ? source->supers[order[i]].event : pins.pins[i - count].event;
        snprintf(message + size, 256 - size, " %llu", (unsigned long long)other);
    }
    return NK_BAD;
}

/* Where everything goes. */
static void lay_out(struct nk_image_copy *copy) {
    const struct generation *from = &copy->from;
    struct generation *next = &copy->next;
    uint32_t slot = RING_COUNT;
    generation_size(next, from->page_count);
    next->number = from->number;
    next->event = from->event;
    memcpy(next->sums, from->sums, from->page_count * sizeof *next->sums);
    for (uint64_t p = 0; p < from->page_count; p++) {
        if (from->slots[p] != 0) next->slots[p] = slot++;
    }
    copy->state.pages = slot - RING_COUNT;
    for (uint64_t t = 0; t < next->table_count; t++)
        next->tables[t].slot = slot++;
    for (uint64_t d = 0; d < next->directory_count; d++)
        next->directories[d].slot = slot++;
    copy->slot = RING_COUNT;
    copy->state.bytes = (uint64_t)slot * SLOT_SIZE;
    copy->state.total = 2 * copy->state.bytes;
}

nk_status nk_image_copy_begin(const char *path, uint64_t event, int to,
                              struct nk_image_copy **out, struct nk_image_info *info) {
    struct nk_image_copy *copy = zeroed(1, sizeof *copy);
    memset(info, 0, sizeof *info);
    *out = NULL;
    copy->to = to;
    copy->buffer = zeroed(BATCH_PAGES, SLOT_SIZE);
    copy->wants = zeroed(BATCH_PAGES, sizeof *copy->wants);
    nk_status status = nk_image_open(path, true, &copy->source, info->message);
    if (status == NK_OK) status = choose(copy, event, info->message);
    if (status == NK_OK) {
        nk_image_describe(copy->source, &copy->super, info);
        *out = copy;
    } else {
        nk_image_copy_end(copy);
    }
    return status;
}

void nk_image_copy_end(struct nk_image_copy *copy) {
    if (copy == NULL) return;
    if (copy->scan.buffer != NULL) nk_image_scan_close(&copy->scan);
    if (copy->made != NULL) nk_image_close(copy->made);
    if (copy->source != NULL) nk_image_close(copy->source);
    generation_free(&copy->from);
    generation_free(&copy->next);
    free(copy->buffer);
    free(copy->wants);
    free(copy);
}

/* --- Writing ------------------------------------------------------------- */

/* Have later saves used its slots again? A pin keeps its own. */
static bool is_overwritten(struct nk_image_copy *copy) {
    struct nk_image *source = copy->source;
    struct nk_pin pins[NK_PINS_MAX];
    uint64_t number = copy->super.generation;
    bool there = false;
    char unread[256];
    (void)nk_image_read_ring(source, unread);
    for (unsigned i = 0; i < RING_COUNT; i++) {
        there = there || (source->ring[i] == RING_GOOD &&
                          source->supers[i].generation == number);
    }
    if (there) return source->newest >= number + 2;
    unsigned count = copy->pinned ? nk_image_pins(source, pins, unread) : 0;
    for (unsigned i = 0; i < count; i++) {
        if (pins[i].generation == number) return false;
    }
    return true;
}

/* The source was not as its tables say. */
static nk_status blame(struct nk_image_copy *copy, nk_status status,
                       char message[256]) {
    if (!is_overwritten(copy)) return status;
    copy->state.overwritten = true;
    say(message, "generation %llu was overwritten: there is generation %llu now",
        (unsigned long long)copy->super.generation,
        (unsigned long long)copy->source->newest);
    return NK_BAD;
}

/* Its tables, and room for all of it. */
static nk_status prepare(struct nk_image_copy *copy, char message[256]) {
    nk_status status = nk_image_generation_read(copy->source, &copy->super, &copy->from,
                                                NULL, message);
    if (status != NK_OK) return blame(copy, status, message);
    lay_out(copy);
    copy->state.phase = NK_COPY_PAGES;
    int failed = posix_fallocate(copy->to, 0, (off_t)copy->state.bytes);
    if (failed == 0) return NK_OK;
    say(message, "no room for the copy: %s", strerror(failed));
    return NK_IO;
}

/* What is wanted into the buffer, neighbours at once. */
static nk_status fetch(struct nk_image_copy *copy, const char *what, uint64_t count,
                       char message[256]) {
    const struct want *wants = copy->wants;
    for (uint64_t i = 0; i < count;) {
        uint64_t n = 1;
        while (i + n < count && wants[i + n].slot == wants[i].slot + n)
            n++;
        if (!read_slots(copy->source->fd, copy->buffer + i * SLOT_SIZE, wants[i].slot,
                        n)) {
            say(message, "%s %u in slot %u or after it: %s", what, wants[i].index,
                wants[i].slot, strerror(errno));
            return blame(copy, NK_IO, message);
        }
        for (uint64_t end = i + n; i < end; i++) {
            if (sum_equal(sum_of(copy->buffer + i * SLOT_SIZE), wants[i].sum)) continue;
            say(message, "generation %llu: %s %u in slot %u is damaged",
                (unsigned long long)copy->from.number, what, wants[i].index,
                wants[i].slot);
            return blame(copy, NK_BAD, message);
        }
    }
    return NK_OK;
}

static nk_status put(struct nk_image_copy *copy, uint64_t count, char message[256]) {
    uint64_t first = copy->slot * SLOT_SIZE, size = count * SLOT_SIZE;
    uint64_t behind = first > COPY_BEHIND ? first - COPY_BEHIND : 0;
    const unsigned wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                          SYNC_FILE_RANGE_WAIT_AFTER;
    if (count == 0) return NK_OK;
    if (!write_slots(copy->to, copy->buffer, copy->slot, count)) {
        say(message, "cannot write the copy: %s", strerror(errno));
        return NK_IO;
    }
    copy->slot += count;
    copy->state.done += size;
    (void)sync_file_range(copy->to, (off_t)first, (off_t)size, SYNC_FILE_RANGE_WRITE);
    if (behind == 0) return NK_OK;
    if (sync_file_range(copy->to, 0, (off_t)behind, wait) != 0 && errno == EIO) {
        say(message, "cannot write the copy: %s", strerror(errno));
        return NK_IO;
    }
    (void)posix_fadvise(copy->to, 0, (off_t)behind, POSIX_FADV_DONTNEED);
    return NK_OK;
}

static nk_status copy_pages(struct nk_image_copy *copy, char message[256]) {
    const struct generation *from = &copy->from;
    uint64_t count = 0;
    for (; copy->at < from->page_count && count < BATCH_PAGES; copy->at++) {
        uint64_t page = copy->at;
        if (from->slots[page] == 0) continue;
        copy->wants[count++] =
            (struct want){from->slots[page], (uint32_t)page, from->sums[page]};
    }
    nk_status status = fetch(copy, "page", count, message);
    if (status == NK_OK) status = put(copy, count, message);
    if (copy->at == from->page_count) {
        copy->at = 0;
        copy->state.phase = NK_COPY_TABLES;
    }
    return status;
}

static nk_status copy_tables(struct nk_image_copy *copy, char message[256]) {
    const struct generation *from = &copy->from;
    struct generation *next = &copy->next;
    uint64_t count = 0, first = copy->at;
    for (; first + count < from->table_count && count < BATCH_PAGES; count++) {
        const struct ref *table = &from->tables[first + count];
        copy->wants[count] =
            (struct want){table->slot, (uint32_t)(first + count), table->sum};
    }
    nk_status status = fetch(copy, "table", count, message);
    if (status != NK_OK) return status;
    for (uint64_t i = 0; i < count; i++) {
        void *slot = copy->buffer + i * SLOT_SIZE;
        struct table *table = slot;
        uint64_t page = (first + i) * ENTRIES_PER_TABLE;
        for (uint64_t k = 0; k < ENTRIES_PER_TABLE && page + k < next->page_count; k++)
            table->entries[k].slot = next->slots[page + k];
        next->tables[first + i].sum = sum_of(slot);
    }
    copy->at += count;
    return put(copy, count, message);
}

static nk_status sync_copy(struct nk_image_copy *copy, char message[256]) {
    int failed;
    do {
        failed = fdatasync(copy->to);
    } while (failed != 0 && errno == EINTR);
    if (failed == 0) return NK_OK;
    say(message, "cannot sync the copy: %s", strerror(errno));
    return NK_IO;
}

/* Directories and superblock: the copy is whole then. */
static nk_status finish(struct nk_image_copy *copy, char message[256]) {
    struct generation *next = &copy->next;
    struct super super = copy->super;
    nk_status status = NK_OK;
    for (uint64_t d = 0; d < next->directory_count && status == NK_OK; d++) {
        struct directory *directory = (void *)copy->buffer;
        nk_image_make_directory(next, d, directory);
        next->directories[d].sum = sum_of(directory);
        status = put(copy, 1, message);
    }
    if (status == NK_OK) status = sync_copy(copy, message);
    if (status != NK_OK) return status;
    super.format = 1;
    super.slot_count = copy->slot;
    super.pins = (struct ref){0, 0, {0, 0}};
    memset(super.directories, 0, sizeof super.directories);
    memcpy(super.directories, next->directories,
           next->directory_count * sizeof(struct ref));
    super.sum = super_sum(&super);
    memcpy(copy->buffer, &super, sizeof super);
    if (!write_slots(copy->to, copy->buffer, 0, 1)) {
        say(message, "cannot write the copy: %s", strerror(errno));
        return NK_IO;
    }
    return sync_copy(copy, message);
}

/* --- Reading again ------------------------------------------------------- */

/* Look at the copy as whoever opens it will. */
static nk_status reopen(struct nk_image_copy *copy, char message[256]) {
    int fd = fcntl(copy->to, F_DUPFD_CLOEXEC, 0);
    char why[256];
    if (fd < 0) {
        say(message, "cannot read the copy: %s", strerror(errno));
        return NK_IO;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    nk_status status = nk_image_attach(fd, true, &copy->made, message);
    if (status != NK_OK) return status;
    const struct super *super = &copy->made->supers[0];
    if (copy->made->ring[0] != RING_GOOD || super->generation != copy->from.number) {
        say(message, "the copy's superblock is not what was written");
        return NK_BAD;
    }
    generation_free(&copy->next);
    status = nk_image_generation_read(copy->made, super, &copy->next, NULL, why);
    if (status != NK_OK) say(message, "the copy, read again: %.200s", why);
    return status;
}

static nk_status verify(struct nk_image_copy *copy, char message[256]) {
    struct nk_copy_state *state = &copy->state;
    char why[256];
    nk_status status = NK_OK;
    if (nk_image_scan_ended(&copy->scan)) {
        (void)posix_fadvise(copy->to, 0, 0, POSIX_FADV_DONTNEED);
        state->phase = NK_COPY_DONE;
        state->done = state->total;
        return NK_OK;
    }
    uint64_t before = copy->scan.pages;
    status = nk_image_scan_step(copy->made, &copy->scan, why);
    if (status != NK_OK) say(message, "the copy, read again: %.200s", why);
    state->done += (copy->scan.pages - before) * SLOT_SIZE;
    return status;
}

nk_status nk_image_copy_step(struct nk_image_copy *copy, struct nk_copy_state *state,
                             char message[256]) {
    nk_status status = NK_OK;
    message[0] = 0;
    switch (copy->state.phase) {
    case NK_COPY_BEGUN:
        status = prepare(copy, message);
        break;
    case NK_COPY_PAGES:
        status = copy_pages(copy, message);
        break;
    case NK_COPY_TABLES:
        if (copy->at < copy->from.table_count) {
            status = copy_tables(copy, message);
            break;
        }
        status = finish(copy, message);
        if (status == NK_OK) status = reopen(copy, message);
        if (status != NK_OK) break;
        nk_image_scan_open(&copy->scan, &copy->next);
        copy->state.phase = NK_COPY_VERIFY;
        break;
    case NK_COPY_VERIFY:
        status = verify(copy, message);
        break;
    case NK_COPY_DONE:
        break;
    }
    *state = copy->state;
    return status;
}
