/* units: machine */
/* The machine against Vere's answers: every line of nock.jsonl, in a fresh
 * and in a warm machine, on a C stack of 64 KiB. */
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "code.h"
#include "jam.h"
#include "mug.h"
#include "nock.h"

#define STACK_BYTES (64u << 10)
#ifdef NK_TINY
#define HOME_BYTES (64ull << 20)
#define NURSERY_BYTES (256ull << 20)
#else
#define HOME_BYTES (1ull << 30)
#define NURSERY_BYTES (2ull << 30)
#endif

struct printed {
    struct nk_jammer *jammer;
    char hex[4096]; /* jams of [priority tank], each ended by a comma */
    struct nk_arena *scratch;
};

static void print_hex(char *out, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        sprintf(out + 2 * i, "%02x", bytes[i]);
}

/* What was printed, compared by mug: the sink must not touch the arena. */
static void sink(void *context, struct nk_arena *arena, uint64_t priority,
                 nk_noun tank) {
    struct printed *printed = context;
    (void)priority;
    const uint8_t *bytes;
    size_t size;
    CHECK(nk_jam(printed->jammer, arena, tank, &bytes, &size) == NK_OK);
    size_t length = strlen(printed->hex);
    if (length + 2 * size + 2 > sizeof printed->hex) return;
    print_hex(printed->hex + length, bytes, size);
    strcat(printed->hex, ",");
}

/* The value of "key":"..." in a line, or "". */
static const char *field(const char *line, const char *key, char *out, size_t size) {
    char name[32];
    snprintf(name, sizeof name, "\"%s\":\"", key);
    const char *at = strstr(line, name);
    out[0] = 0;
    if (at == NULL) return out;
    at += strlen(name);
    size_t length = (size_t)(strchr(at, '"') - at);
    CHECK(length < size);
    memcpy(out, at, length);
    out[length] = 0;
    return out;
}

static size_t unhex(const char *hex, uint8_t *out) {
    size_t size = strlen(hex) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        out[i] = (uint8_t)byte;
    }
    return size;
}

static char *line_text, *value_text;
static uint8_t *value_bytes;
#define LINE_MAX_SIZE (1u << 20)

static nk_noun cue_hex(struct nk_machine *machine, const char *hex) {
    const char *why = NULL;
    nk_noun noun;
    size_t size = unhex(hex, value_bytes);
    CHECK(nk_cue(machine->jammer, &machine->arena, value_bytes, size, &noun, &why) ==
          NK_OK);
    return noun;
}

static bool jams_to(struct nk_machine *machine, nk_noun noun, const char *hex) {
    const uint8_t *bytes;
    size_t size, want = unhex(hex, value_bytes);
    CHECK(nk_jam(machine->jammer, &machine->arena, noun, &bytes, &size) == NK_OK);
    return size == want && memcmp(bytes, value_bytes, size) == 0;
}

static void check_slogs(struct nk_machine *machine, const char *line,
                        struct printed *printed) {
    const char *list = strstr(line, "\"slog\":[");
    if (list == NULL) return;
    const char *made = printed->hex;
    for (const char *at = strchr(list, '['); *at != ']'; at = strchr(at, '"') + 1) {
        at = strchr(at, '"') + 1;
        size_t length = (size_t)(strchr(at, '"') - at);
        memcpy(value_text, at, length);
        value_text[length] = 0;
        nk_noun want = cue_hex(machine, value_text);
        /* [priority tank]; anything else goes out whole */
        if (nk_is_cell(want)) want = nk_tail(&machine->arena, want);
        const uint8_t *bytes;
        size_t size;
        CHECK(nk_jam(machine->jammer, &machine->arena, want, &bytes, &size) == NK_OK);
        char hex[1024];
        CHECK(2 * size < sizeof hex);
        print_hex(hex, bytes, size);
        CHECK(strncmp(made, hex, 2 * size) == 0 && made[2 * size] == ',');
        made += 2 * size + 1;
        at += length;
    }
    CHECK(*made == 0);
}

static bool skipped(const char *line) {
#ifdef NK_TINY
    /* A million steps, each with a collection. */
    return strstr(line, "1e6") != NULL || strstr(line, "decrement-loop") != NULL ||
           strstr(line, "tail-call") != NULL || strstr(line, "build-deep") != NULL ||
           strstr(line, "deep-recursion") != NULL || strstr(line, "fib-tree") != NULL ||
           strstr(line, "edit-loop") != NULL;
#else
    (void)line;
    return false;
#endif
}

static bool run_line(struct nk_machine *machine, const char *line) {
    struct printed *printed = machine->slog_context;
    printed->hex[0] = 0;
    field(line, "in", value_text, LINE_MAX_SIZE);
    nk_noun in = cue_hex(machine, value_text);
    nk_noun product = 0;
    nk_status status = nk_nock(machine, nk_head(&machine->arena, in),
                               nk_tail(&machine->arena, in), &product);
    field(line, "result", value_text, LINE_MAX_SIZE);
    if (strcmp(value_text, "ok") == 0) {
        if (status != NK_OK) return false;
        char mug[16];
        snprintf(mug, sizeof mug, "%08x", nk_mug(&machine->arena, product));
        field(line, "mug", value_text, LINE_MAX_SIZE);
        if (strcmp(mug, value_text) != 0) return false;
        field(line, "jam", value_text, LINE_MAX_SIZE);
        if (value_text[0] != 0 && !jams_to(machine, product, value_text)) return false;
    } else {
        field(line, "mote", value_text, LINE_MAX_SIZE);
        if (strcmp(nk_status_mote(status), value_text) != 0) return false;
        field(line, "trace", value_text, LINE_MAX_SIZE);
        if (value_text[0] != 0 && !jams_to(machine, machine->trace, value_text)) {
            return false;
        }
    }
    check_slogs(machine, line, printed);
    return true;
}

static void run_all(const char *path, bool warm) {
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    struct nk_machine *machine = malloc(sizeof *machine);
    struct printed *printed = calloc(1, sizeof *printed);
    CHECK(machine != NULL && printed != NULL);
    printed->jammer = nk_jammer_new();
    int number = 0, failed = 0, ran = 0;
    bool open = false;
    while (fgets(line_text, LINE_MAX_SIZE, file) != NULL) {
        number++;
        if (skipped(line_text)) continue;
        if (!open) {
            CHECK(nk_machine_open(machine, HOME_BYTES, NURSERY_BYTES) == NK_OK);
            machine->jets_enabled = false;
            machine->slog = sink;
            machine->slog_context = printed;
            open = true;
        }
        ran++;
        if (!run_line(machine, line_text)) {
            fprintf(stderr, "%s:%d: %.200s\n", path, number, line_text);
            failed++;
        }
        if (warm) {
            /* Every other formula is compiled again from home. */
            if (number % 2 == 0) nk_machine_discard(machine);
        } else {
            nk_machine_close(machine);
            open = false;
        }
    }
    if (open) nk_machine_close(machine);
    nk_jammer_free(printed->jammer);
    free(printed);
    free(machine);
    fclose(file);
    CHECK(failed == 0);
    CHECK(ran > 300);
}

static char path_text[PATH_MAX];

static void *body(void *argument) {
    (void)argument;
    run_all(path_text, false);
    run_all(path_text, true);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        snprintf(path_text, sizeof path_text, "%s", argv[1]);
    } else if (getenv("NK_VECTORS") != NULL) {
        snprintf(path_text, sizeof path_text, "%s", getenv("NK_VECTORS"));
    } else {
        snprintf(path_text, sizeof path_text, "%s", __FILE__);
        char *slash = strrchr(path_text, '/');
        snprintf(slash == NULL ? path_text : slash + 1,
                 sizeof path_text - (size_t)(slash == NULL ? 0 : slash + 1 - path_text),
                 "../../conformance/vere/nock.jsonl");
    }
    line_text = malloc(LINE_MAX_SIZE);
    value_text = malloc(LINE_MAX_SIZE);
    value_bytes = malloc(LINE_MAX_SIZE);
    CHECK(line_text != NULL && value_text != NULL && value_bytes != NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    CHECK(pthread_create(&thread, &attributes, body, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    free(line_text);
    free(value_text);
    free(value_bytes);
    return 0;
}
