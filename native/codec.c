/* See codec.h. Every call starts from an empty nursery; only a list being
 * taken apart lives from one call to the next. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "glance.h"
#include "jam.h"
#include "mug.h"
#include "nursery.h"

#include "codec.h"

struct nk_codec {
    struct nk_arena arena;
    struct nk_jammer *jammer;
    const char *why;
    uint8_t *out;
    uint64_t out_size;
    uint64_t out_capacity;
    nk_noun list;
};

nk_codec *nk_codec_new(uint64_t nursery_size) {
    struct nk_codec *codec = calloc(1, sizeof *codec);
    if (codec == NULL) return NULL;
    codec->jammer = nk_jammer_new();
    if (codec->jammer == NULL ||
        nk_arena_open(&codec->arena, 0, nursery_size) != NK_OK) {
        nk_jammer_free(codec->jammer);
        free(codec);
        return NULL;
    }
    codec->why = "";
    codec->list = 0;
    return codec;
}

void nk_codec_free(nk_codec *codec) {
    if (codec == NULL) return;
    nk_arena_close(&codec->arena);
    nk_jammer_free(codec->jammer);
    free(codec->out);
    free(codec);
}

const char *nk_codec_why(const nk_codec *codec) {
    return codec->why;
}
const uint8_t *nk_codec_out(const nk_codec *codec) {
    return codec->out;
}
uint64_t nk_codec_out_size(const nk_codec *codec) {
    return codec->out_size;
}

static void nk_codec_begin(nk_codec *codec) {
    nk_nursery_reset(&codec->arena);
    codec->out_size = 0;
    codec->list = 0;
    codec->why = "";
}

static int nk_codec_refuse(nk_codec *codec, const char *why) {
    codec->why = why;
    return -1;
}

static int nk_codec_cue(nk_codec *codec, const uint8_t *bytes, uint64_t size,
                        nk_noun *out) {
    const char *why = "meme";
    nk_status status =
        nk_cue(codec->jammer, &codec->arena, bytes, (size_t)size, out, &why);
    if (status == NK_OK) return 0;
    return nk_codec_refuse(codec, status == NK_BAD ? why : "meme");
}

/* Append bytes to the output. */
static int nk_codec_put(nk_codec *codec, const void *bytes, uint64_t size) {
    if (codec->out_size + size > codec->out_capacity) {
        uint64_t capacity = (codec->out_size + size) * 2 + 256;
        uint8_t *out = realloc(codec->out, capacity);
        if (out == NULL) return nk_codec_refuse(codec, "meme");
        codec->out = out;
        codec->out_capacity = capacity;
    }
    memcpy(codec->out + codec->out_size, bytes, size);
    codec->out_size += size;
    return 0;
}

/* Append the jam of [n] to the output. */
static int nk_codec_emit(nk_codec *codec, nk_noun n) {
    const uint8_t *bytes;
    size_t size;
    if (nk_jam(codec->jammer, &codec->arena, n, &bytes, &size) != NK_OK) {
        return nk_codec_refuse(codec, "meme");
    }
    return nk_codec_put(codec, bytes, size);
}

int nk_codec_rejam(nk_codec *codec, const uint8_t *bytes, uint64_t size) {
    nk_noun n;
    nk_codec_begin(codec);
    if (nk_codec_cue(codec, bytes, size, &n) != 0) return -1;
    return nk_codec_emit(codec, n);
}

int nk_codec_mug(nk_codec *codec, const uint8_t *bytes, uint64_t size, uint32_t *mug) {
    nk_noun n;
    nk_codec_begin(codec);
    if (nk_codec_cue(codec, bytes, size, &n) != 0) return -1;
    *mug = nk_mug(&codec->arena, n);
    return 0;
}

int nk_codec_slots(nk_codec *codec, const uint8_t *bytes, uint64_t size,
                   const uint64_t *axes, uint64_t count, uint64_t *sizes) {
    nk_noun n;
    nk_codec_begin(codec);
    if (nk_codec_cue(codec, bytes, size, &n) != 0) return -1;
    for (uint64_t i = 0; i < count; i++) {
        nk_noun part = axes[i] == 0 ? NK_NONE : nk_slot(&codec->arena, n, axes[i]);
        uint64_t before = codec->out_size;
        if (part == NK_NONE) {
            sizes[i] = UINT64_MAX;
            continue;
        }
        if (nk_codec_emit(codec, part) != 0) return -1;
        sizes[i] = codec->out_size - before;
    }
    return 0;
}

int nk_codec_tuple(nk_codec *codec, const uint8_t *bytes, const uint64_t *sizes,
                   uint64_t count) {
    nk_codec_begin(codec);
    if (count == 0) return nk_codec_refuse(codec, "a tuple of no parts");
    nk_noun *parts = malloc(count * sizeof *parts);
    if (parts == NULL) return nk_codec_refuse(codec, "meme");
    int result = 0;
    for (uint64_t i = 0; i < count && result == 0; i++) {
        result = nk_codec_cue(codec, bytes, sizes[i], &parts[i]);
        bytes += sizes[i];
    }
    if (result == 0) {
        nk_noun n = parts[count - 1];
        for (uint64_t i = count - 1; i > 0 && n != NK_NONE; i--) {
            n = nk_cons_try(&codec->arena, parts[i - 1], n);
        }
        result =
            n == NK_NONE ? nk_codec_refuse(codec, "meme") : nk_codec_emit(codec, n);
    }
    free(parts);
    return result;
}

int nk_codec_stamp(nk_codec *codec, uint64_t now_low, uint64_t now_high,
                   const uint8_t *bytes, uint64_t size) {
    nk_noun ovum;
    nk_codec_begin(codec);
    if (nk_codec_cue(codec, bytes, size, &ovum) != 0) return -1;
    uint64_t *data = nk_atom_begin(&codec->arena, 2);
    if (data == NULL) return nk_codec_refuse(codec, "meme");
    data[0] = now_low;
    data[1] = now_high;
    nk_noun now = nk_atom_finish(&codec->arena, data, 2);
    nk_noun job = nk_cons_try(&codec->arena, now, ovum);
    if (job == NK_NONE) return nk_codec_refuse(codec, "meme");
    return nk_codec_emit(codec, job);
}

int nk_codec_list_load(nk_codec *codec, const uint8_t *bytes, uint64_t size,
                       uint64_t axis, uint64_t *count) {
    nk_noun n;
    nk_codec_begin(codec);
    if (nk_codec_cue(codec, bytes, size, &n) != 0) return -1;
    n = axis == 0 ? NK_NONE : nk_slot(&codec->arena, n, axis);
    if (n == NK_NONE) return nk_codec_refuse(codec, "no such axis");
    codec->list = n;
    *count = 0;
    while (nk_is_cell(n)) {
        *count += 1;
        n = nk_tail(&codec->arena, n);
    }
    return n == 0 ? 0 : nk_codec_refuse(codec, "not a list");
}

int nk_codec_list_next(nk_codec *codec) {
    codec->out_size = 0;
    if (!nk_is_cell(codec->list)) return nk_codec_refuse(codec, "past the list's end");
    nk_noun item = nk_head(&codec->arena, codec->list);
    codec->list = nk_tail(&codec->arena, codec->list);
    return nk_codec_emit(codec, item);
}

int nk_codec_glance(nk_codec *codec, const uint8_t *bytes, const uint64_t *sizes,
                    uint64_t count) {
    nk_codec_begin(codec);
    for (uint64_t i = 0; i < count; i++) {
        struct nk_glance glance;
        nk_glance(bytes, sizes[i], &glance);
        bytes += sizes[i];
        uint64_t now[2] = {glance.now_low, glance.now_high};
        uint32_t head[4] = {glance.kind, glance.wire_size, glance.tag_size, 0};
        if (nk_codec_put(codec, now, sizeof now) != 0 ||
            nk_codec_put(codec, head, sizeof head) != 0 ||
            nk_codec_put(codec, glance.text, glance.wire_size + glance.tag_size) != 0) {
            return -1;
        }
    }
    return 0;
}
