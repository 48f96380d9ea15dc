/* What a native function can answer, and the assertion that is always on.
 *
 * An operation that the guest can make fail returns `nk_status`, outputs
 * last. Anything else that goes wrong is our bug and dies in NK_ASSERT.
 * CPython builds extensions with -DNDEBUG, so <assert.h> would vanish.
 */
#ifndef NK_STATUS_H
#define NK_STATUS_H

#include <stdint.h>

typedef enum nk_status {
    NK_OK = 0,
    NK_EXIT,  /* deterministic crash: may become a value inside Nock */
    NK_EVIL,  /* failed authentication in a cipher jet */
    NK_FAIL,  /* a limit, or an endless loop that a hint found */
    NK_MEME,  /* out of nursery or home */
    NK_INTR,  /* interrupted, or past its deadline */
    NK_OVER,  /* out of interpreter stack */
    NK_BLOCK, /* virtual only: scry blocked */
    NK_PUNT,  /* a jet declines; run the Nock */
    NK_BAD,   /* malformed input (jam, frame, image); see the message */
    NK_IO,    /* the operating system refused; see the message */
} nk_status;

/* The mote of a bail as text: "exit", "evil", ... Never NULL. */
const char *nk_status_mote(nk_status status);

/* Print [what], file and line on fd 2 and abort: our own bug. */
_Noreturn void nk_panic(const char *what, const char *file, int line);

#define NK_ASSERT(condition)                                                           \
    do {                                                                               \
        if (__builtin_expect(!(condition), 0)) {                                       \
            nk_panic(#condition, __FILE__, __LINE__);                                  \
        }                                                                              \
    } while (0)

/* Costly checks: on in NK_PARANOID and NK_TINY builds. */
#if defined(NK_PARANOID) || defined(NK_TINY)
#define NK_CHECK(condition) NK_ASSERT(condition)
#else
#define NK_CHECK(condition) ((void)0)
#endif

#define NK_LIKELY(x) __builtin_expect(!!(x), 1)
#define NK_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
