/* units: noun nursery mug jam status */
/* Cue of any bytes: refused by name and without a trace, or a noun whose jam
 * is canonical: it cues to an equal noun, with the same mug and jam. */
#include "fuzz.h"

#include <stdlib.h>

#include "jam.h"
#include "mug.h"
#include "nursery.h"

#define NURSERY_BYTES (64ull << 20)

static bool is_named(const char *why) {
    return strncmp(why, "gone", 4) == 0 || strncmp(why, "back", 4) == 0 ||
           strncmp(why, "meme", 4) == 0;
}

/* The jam of [n], to be freed. */
static struct input jam_copy(struct nk_jammer *jammer, struct nk_arena *arena,
                             nk_noun n) {
    const uint8_t *bytes;
    size_t size;
    NK_ASSERT(nk_jam(jammer, arena, n, &bytes, &size) == NK_OK);
    uint8_t *copy = malloc(size);
    NK_ASSERT(copy != NULL);
    memcpy(copy, bytes, size);
    return (struct input){copy, size};
}

static void check_canonical(struct nk_jammer *jammer, struct nk_arena *arena,
                            nk_noun first) {
    const char *why;
    nk_noun again, less;
    struct input jam = jam_copy(jammer, arena, first);
    NK_ASSERT(nk_cue(jammer, arena, jam.data, jam.size, &again, &why) == NK_OK);
    NK_ASSERT(nk_mug(arena, again) == nk_mug(arena, first));
    NK_ASSERT(nk_equal(arena, again, first));
    struct input other = jam_copy(jammer, arena, again);
    NK_ASSERT(other.size == jam.size && memcmp(other.data, jam.data, jam.size) == 0);
    /* Its last byte counts: it is never zero. */
    if (nk_cue(jammer, arena, jam.data, jam.size - 1, &less, &why) == NK_OK) {
        NK_ASSERT(!nk_equal(arena, less, first));
    }
    free((void *)jam.data);
    free((void *)other.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct nk_arena arena;
    static struct nk_jammer *jammer;
    const char *why;
    nk_noun n;
    if (jammer == NULL) {
        jammer = nk_jammer_new();
        NK_ASSERT(jammer != NULL);
        NK_ASSERT(nk_arena_open(&arena, 0, NURSERY_BYTES) == NK_OK);
    }
    nk_nursery_reset(&arena);
    uint64_t top = arena.top;
    nk_status status = nk_cue(jammer, &arena, data, size, &n, &why);
    if (status == NK_OK) {
        check_canonical(jammer, &arena, n);
    } else {
        NK_ASSERT(arena.top == top);
        NK_ASSERT(status == NK_MEME || (status == NK_BAD && is_named(why)));
    }
    return 0;
}
