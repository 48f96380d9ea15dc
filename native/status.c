/* Motes of bails, and the end of the process on our own bugs. */
#include "status.h"

#include <stdio.h>
#include <stdlib.h>

const char *nk_status_mote(nk_status status) {
    switch (status) {
    case NK_OK:
        return "ok";
    case NK_EXIT:
        return "exit";
    case NK_EVIL:
        return "evil";
    case NK_FAIL:
        return "fail";
    case NK_MEME:
        return "meme";
    case NK_INTR:
        return "intr";
    case NK_OVER:
        return "meme"; /* for the guest, its stack is memory like any other */
    case NK_BLOCK:
        return "block";
    case NK_PUNT:
        return "punt";
    case NK_BAD:
        return "bad";
    case NK_IO:
        return "io";
    }
    return "unknown";
}

void nk_panic(const char *what, const char *file, int line) {
    fprintf(stderr, "native: %s:%d: %s\n", file, line, what);
    fflush(stderr);
    abort();
}
