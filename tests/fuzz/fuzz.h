/* What the fuzz targets share: one entry, a reader of the input.
 *
 * A target is a program of libFuzzer (scripts/fuzz builds it with clang), or,
 * linked with replay.c, one that runs given inputs with any compiler. Its
 * oracle is NK_ASSERT, the sanitizers, and the checks of the core itself. The
 * first line of a target names the units that it links, as in tests/unit/native.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input, from its beginning; past its end there are zeros. */
struct input {
    const uint8_t *data;
    size_t size;
};

static inline uint64_t input_number(struct input *input, size_t bytes) {
    uint64_t value = 0;
    size_t have = bytes < input->size ? bytes : input->size;
    memcpy(&value, input->data, have);
    input->data += have;
    input->size -= have;
    return value;
}

/* As many of [size] bytes as there are, in place. */
static inline struct input input_part(struct input *input, size_t size) {
    if (size > input->size) size = input->size;
    struct input part = {input->data, size};
    input->data += size;
    input->size -= size;
    return part;
}

#endif
