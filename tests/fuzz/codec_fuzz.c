/* units: noun nursery mug jam status glance codec */
/* The king's jam surgery on any bytes. Whatever is taken out of a noun or put
 * into one must fit what cue says of the same bytes.
 *
 * Input: what to do, a number, and the jam. */
#include "fuzz.h"

#include <stdlib.h>

#include "codec.h"
#include "glance.h"

#define NURSERY_BYTES (64ull << 20)
#define AXES 8u

static nk_codec *codec;

/* A copy of the last output, to be freed. */
static struct input out_copy(void) {
    size_t size = (size_t)nk_codec_out_size(codec);
    uint8_t *copy = malloc(size ? size : 1);
    NK_ASSERT(copy != NULL);
    if (size > 0) memcpy(copy, nk_codec_out(codec), size);
    return (struct input){copy, size};
}

static bool out_equals(struct input other) {
    return nk_codec_out_size(codec) == other.size &&
           (other.size == 0 ||
            memcmp(nk_codec_out(codec), other.data, other.size) == 0);
}

/* Parts at axes are canonical jams, and they are where slots of slots are. */
static void slots(struct input input, uint64_t seed) {
    uint64_t axes[AXES], sizes[AXES], inner, at = 0;
    for (unsigned i = 0; i < AXES; i++)
        axes[i] = i < 4 ? i : seed >> (i * 7);
    if (nk_codec_slots(codec, input.data, input.size, axes, AXES, sizes) != 0) return;
    struct input parts = out_copy();
    NK_ASSERT(sizes[0] == UINT64_MAX && sizes[1] != UINT64_MAX);
    NK_ASSERT((sizes[2] == UINT64_MAX) == (sizes[3] == UINT64_MAX));
    for (unsigned i = 0; i < AXES; i++) {
        if (sizes[i] == UINT64_MAX) continue;
        struct input part = {parts.data + at, sizes[i]};
        at += sizes[i];
        NK_ASSERT(nk_codec_rejam(codec, part.data, part.size) == 0 && out_equals(part));
        uint64_t below = axes[i] * 2;
        if (below / 2 != axes[i]) continue;
        NK_ASSERT(nk_codec_slots(codec, input.data, input.size, &below, 1, &inner) ==
                  0);
        struct input head = out_copy();
        uint64_t two = 2, size;
        NK_ASSERT(nk_codec_slots(codec, part.data, part.size, &two, 1, &size) == 0);
        NK_ASSERT(size == inner && out_equals(head));
        free((void *)head.data);
    }
    NK_ASSERT(at == parts.size);
    free((void *)parts.data);
}

/* A cell is the tuple of its head and tail. */
static void tuple(struct input input) {
    uint64_t axes[2] = {2, 3}, sizes[2];
    if (nk_codec_slots(codec, input.data, input.size, axes, 2, sizes) != 0) return;
    if (sizes[0] == UINT64_MAX) return;
    struct input parts = out_copy();
    NK_ASSERT(nk_codec_tuple(codec, parts.data, sizes, 2) == 0);
    struct input cell = out_copy();
    NK_ASSERT(nk_codec_rejam(codec, input.data, input.size) == 0 && out_equals(cell));
    free((void *)parts.data);
    free((void *)cell.data);
}

/* A look at a job's head sees the time that it was stamped with, or nothing. */
static void look(struct input job, uint64_t now) {
    struct nk_glance glance;
    nk_glance(job.data, job.size, &glance);
    NK_ASSERT(glance.kind <= NK_GLANCE_SHORT);
    if (glance.kind != NK_GLANCE_JOB) return;
    NK_ASSERT(glance.now_low == now && glance.now_high == now << 7);
    NK_ASSERT(glance.wire_size <= NK_GLANCE_WIRE && glance.tag_size <= NK_GLANCE_TAG);
}

/* [now ovum], and the ovum back from it. */
static void stamp(struct input input, uint64_t now) {
    uint64_t axes[2] = {2, 3}, sizes[2];
    if (nk_codec_stamp(codec, now, now << 7, input.data, input.size) != 0) return;
    struct input job = out_copy();
    NK_ASSERT(nk_codec_slots(codec, job.data, job.size, axes, 2, sizes) == 0);
    NK_ASSERT(sizes[0] != UINT64_MAX && sizes[1] != UINT64_MAX);
    struct input parts = out_copy();
    NK_ASSERT(nk_codec_rejam(codec, input.data, input.size) == 0);
    NK_ASSERT(out_equals((struct input){parts.data + sizes[0], sizes[1]}));
    free((void *)parts.data);
    look(job, now);
    free((void *)job.data);
}

/* As many items as were counted, each of them a jam, and then no more. */
static void list(struct input input, uint64_t axis) {
    uint64_t count;
    if (nk_codec_list_load(codec, input.data, input.size, axis, &count) != 0) return;
    for (uint64_t i = 0; i < count; i++)
        NK_ASSERT(nk_codec_list_next(codec) == 0 && nk_codec_out_size(codec) > 0);
    NK_ASSERT(nk_codec_list_next(codec) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    uint32_t mug;
    if (codec == NULL) codec = nk_codec_new(NURSERY_BYTES);
    NK_ASSERT(codec != NULL);
    uint64_t what = input_number(&input, 1), seed = input_number(&input, 8);
    switch (what % 4) {
    case 0:
        slots(input, seed);
        break;
    case 1:
        tuple(input);
        break;
    case 2:
        stamp(input, seed);
        break;
    default:
        list(input, seed % 64);
        break;
    }
    struct nk_glance glance;
    nk_glance(input.data, input.size, &glance); /* of what need not be a jam */
    if (nk_codec_mug(codec, input.data, input.size, &mug) != 0) {
        NK_ASSERT(nk_codec_why(codec)[0] != 0);
    } else {
        NK_ASSERT(mug >> 31 == 0);
    }
    return 0;
}
