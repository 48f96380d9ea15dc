/* The kernel: what one event does to a ship's state.
 *
 * Holds the machine, the event number and the kernel's mug. An event is a
 * transaction: it is cued into the nursery, run, and either committed (the
 * kernel promoted, the number raised) or discarded (all as before).
 *
 *   live    poke; a failure (other than %evil) is rewritten as a %crud event
 *           with a fresh deadline, and poked once; see spec/noun.md 9.4
 *   replay  poke without deadline, crud or effects, with fourfold memory:
 *           what is logged has once succeeded; the mug must be the logged one
 *   boot    the lifecycle formula over the first rows of the log
 *   peek    like a poke, of arm 22, and always discarded
 *
 * Owns: struct nk_serf. Answers are left in its buffers (goofs, job,
 * effects) until the next call.
 * Invariants: `event` and `mug` describe the kernel in home's root; between
 * calls the nursery is empty.
 * Limits: nursery, as much again for the stack, home: %meme. An event's effects
 * NK_EFFECTS_SIZE_MAX bytes, else it bails %fail.
 */
#ifndef NK_KERNEL_H
#define NK_KERNEL_H

#include "image.h"
#include "nock.h"

/* Effects of one event, as they go over the pipe. A frame holds them. */
#define NK_EFFECTS_SIZE_MAX (64u << 20)
#define NK_EFFECTS_COUNT_MAX (1u << 20)
/* A wire, its knots and a tag that are longer are not routable. */
#define NK_KNOT_COUNT_MAX 64u
#define NK_KNOT_SIZE_MAX 1024u
/* Slogs wait for the end of the event; beyond this they are counted only. */
#define NK_SLOG_SIZE_MAX (8u << 20)
/* Of a trace this many innermost entries are rendered, */
#define NK_TRACE_COUNT_MAX 1024u
/* and no more than this many bytes, */
#define NK_TRACE_SIZE_MAX (4u << 20)
/* for so long: +mook is the guest's code. */
#define NK_RENDER_NS_MAX 5000000000ull
/* Replay has so much more memory than the living. */
#define NK_REPLAY_FACTOR 4u

/* Bytes of a noun, given or taken. */
struct nk_bytes {
    const uint8_t *data;
    size_t size;
};

/* A growable byte buffer. Its exhaustion is ours, not the guest's: fatal. */
struct nk_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

/* Make room for [size] more bytes; the place where they go. */
uint8_t *nk_buffer_room(struct nk_buffer *buffer, size_t size);
void nk_buffer_put(struct nk_buffer *buffer, const void *bytes, size_t size);
void nk_buffer_free(struct nk_buffer *buffer);

/* Why an event failed: the mote, and the jam of a (list tank). */
struct nk_goof {
    nk_status status;
    struct nk_buffer tang;
};

/* How full something is. A warning is given when a level is reached (70, 85,
 * 95 %), and again only after the fill has been 5 points below it. */
struct nk_headroom {
    uint32_t percent;
    uint32_t warned; /* the level, 0: none */
};

struct nk_serf {
    struct nk_machine machine;
    struct nk_image *image; /* NULL: none is open */
    bool image_refused;     /* it held nothing usable: reset before a save */
    uint64_t save_began_ns; /* api.c: of the save under way, or the last */
    struct nk_identity identity;
    uint64_t event; /* 0: no kernel yet */
    uint32_t mug;
    uint32_t actual; /* the mug that diverged */
    uint64_t home_size;
    uint64_t nursery_size;
    _Atomic uint32_t *interrupt; /* shared with the king, see nock.h */
    struct nk_goof goofs[2];
    uint32_t goof_count;
    struct nk_buffer job;     /* of the %crud event that replaced another */
    struct nk_buffer effects; /* records, see api.h */
    uint32_t effect_count;
    struct nk_buffer trace; /* scratch */
    struct nk_buffer out;   /* api.c: records */
    struct nk_bytes answer; /* api.c: what the last call left, here or there */
    struct nk_buffer slogs; /* records, see api.h */
    uint64_t slogs_dropped;
    char gauge_name[128];          /* api.c: of the last gauge */
    struct nk_jammer *slog_jammer; /* the machine's may be in use by a jet */
    /* Counters. */
    uint64_t poke_count;
    uint64_t crud_count;
    uint64_t bail_count;
    uint64_t replay_count;
    uint64_t nursery_peak; /* bytes: the highest that an event came to */
    struct nk_headroom home_room;
    struct nk_headroom nursery_room;
    char notice[256];  /* a warning for the king's log, or "" */
    char noticed[256]; /* api.c: the one handed out */
};

nk_status nk_kernel_open(struct nk_serf *serf, uint64_t home_size,
                         uint64_t nursery_size);
void nk_kernel_close(struct nk_serf *serf);

/* Give the machine the memory of replay, or of life. */
void nk_kernel_limits(struct nk_serf *serf, bool replay);

/* One live event. NK_OK: done, `effects` is filled in, and `job` too if a
 * %crud event took its place. Else `goofs`; nothing changed. */
nk_status nk_kernel_poke(struct nk_serf *serf, struct nk_bytes job,
                         uint64_t deadline_ms);

/* One logged event. NK_BAD: the mug diverges (`actual`); any other failure
 * leaves a goof. Nothing changed in either case. */
nk_status nk_kernel_replay(struct nk_serf *serf, struct nk_bytes job,
                           uint32_t expected);

/* The first [count] rows of the log, through [2 [0 3] 0 2]. As replay. */
nk_status nk_kernel_boot(struct nk_serf *serf, const struct nk_bytes *rows,
                         size_t count, uint32_t expected);

/* Slam the peek arm; the product's jam lives until the next call. */
nk_status nk_kernel_peek(struct nk_serf *serf, struct nk_bytes sample,
                         uint64_t deadline_ms, struct nk_bytes *result);

/* Jam of the kernel. */
nk_status nk_kernel_jam(struct nk_serf *serf, struct nk_bytes *jam);

/* Jam of [kernel cold]: all that a state is, but for what can be computed again.
 * [cold] is the jets' noun (jet.h), 0 where there is none. */
nk_status nk_kernel_state(struct nk_serf *serf, struct nk_bytes *jam);

/* Let an empty serf be in such a state, as after [event]. NK_BAD: [state] is
 * none; the serf is of no use then. */
nk_status nk_kernel_install(struct nk_serf *serf, struct nk_bytes state, uint64_t event,
                            const char **why);

/* After an event: move the collection of home on by one short step, and see
 * how much room is left. [now]: collect all, however long it takes. */
void nk_kernel_tend(struct nk_serf *serf, bool now);

/* Forget memoised computations, and collect all of home. */
void nk_kernel_pack(struct nk_serf *serf);

/* Fail a request in our own words: a goof whose tang is one %leaf. */
nk_status nk_kernel_refuse(struct nk_serf *serf, nk_status status, const char *why);

#endif
