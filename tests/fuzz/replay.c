/* Run a fuzz target on the files that are named: found inputs, or a corpus. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

#define INPUT_SIZE_MAX (16u << 20)

int main(int count, char **names) {
    uint8_t *data = malloc(INPUT_SIZE_MAX);
    NK_ASSERT(data != NULL);
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (file == NULL) {
            perror(names[i]);
            return 1;
        }
        size_t size = fread(data, 1, INPUT_SIZE_MAX, file);
        fclose(file);
        /* A copy of its own size, so that reading past its end shows. */
        uint8_t *input = malloc(size ? size : 1);
        NK_ASSERT(input != NULL);
        memcpy(input, data, size);
        fprintf(stderr, "%s\n", names[i]);
        (void)LLVMFuzzerTestOneInput(input, size);
        free(input);
    }
    free(data);
    return 0;
}
