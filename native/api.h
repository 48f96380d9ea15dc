/* All that Python may call. Python face: serf/engine.py.
 *
 * Plain declarations only: cffi and the compiler read this same file.
 * Statuses are nk_status as int (0 is success). One thread only. Buffers
 * belong to the serf and live until its next call. Integers in records are
 * little-endian.
 *
 * Requests are named to be interrupted: see nk_machine_request in nock.h.
 *
 * Records, in:
 *   job     u64 request, u64 deadline_ms, u64 size; job
 *   row     u64 mug, u64 size; job
 * Records, out:
 *   done    u32 1, u32 mug, u64 request, u64 event, u32 job size, u32 effect
 *           count, u64 nanoseconds of the thread, u64 pages that it was the
 *           first to dirty; job (only where a %crud replaced it), effects
 *   effect  u32 knot count, u32 tag size, u32 data size; u32 size of each
 *           knot; knots, tag, data
 *   bail    u32 2, u32 goof count, u64 request; goofs
 *   goof    u32 mote size, u32 tang size; mote, tang
 *   slog    u64 priority, u64 event, u64 size; tank. Priority UINT64_MAX: the
 *           tank is a whole clue, which was not [priority tank]
 */

typedef struct nk_serf nk_serf;

/* A serf without a kernel. [interrupt_fd]: a shared word that interrupts, or
 * -1. Sizes in bytes. NULL, with [message], where the system refuses. */
nk_serf *nk_serf_new(uint64_t home_size, uint64_t nursery_size, int interrupt_fd,
                     char *message);
void nk_serf_free(nk_serf *serf);

/* The bytes that the last call left. */
const uint8_t *nk_serf_out(const nk_serf *serf);
uint64_t nk_serf_out_size(const nk_serf *serf);
/* Goofs of the last failed call, as records. */
uint32_t nk_serf_goofs(nk_serf *serf);

/* Slogs since they were last cleared, as records; how many did not fit. */
const uint8_t *nk_serf_slogs(const nk_serf *serf);
uint64_t nk_serf_slogs_size(const nk_serf *serf);
uint64_t nk_serf_slogs_dropped(const nk_serf *serf);
void nk_serf_slogs_clear(nk_serf *serf);

uint64_t nk_serf_event(const nk_serf *serf);
uint32_t nk_serf_mug(const nk_serf *serf);
const char *nk_serf_mote(int status);

/* --- the process --- */

/* Keep only [fds] (7 at most) and the image's; see confine.h. */
int nk_serf_confine(nk_serf *serf, const int *fds, uint32_t count, uint32_t *in_force,
                    char *message);

/* Leave with [exit_code] when no one holds the other end of [fd]. */
int nk_serf_watch(int fd, int exit_code);

/* --- the image --- */

struct nk_loaded {
    uint32_t good; /* a generation was loaded */
    uint32_t fell_back;
    uint64_t generation;
    uint64_t event;
    uint32_t mug;
    uint8_t ship[16];
    uint8_t log[16];
    char message[256];
};

struct nk_saved {
    uint64_t event;
    uint64_t generation;
    uint64_t pages; /* written */
    uint64_t bytes_written;
    uint64_t elapsed_us;
    uint32_t mug;
};

/* [message] has 256 bytes, always. */
int nk_serf_image_open(nk_serf *serf, const char *path, char *message);

/* The newest good generation that is not younger than [event_max]. With
 * good == 0 the serf is empty and takes [ship] and [log] as its own. Once. */
int nk_serf_load(nk_serf *serf, uint64_t event_max, int verify, const uint8_t *ship,
                 const uint8_t *log, struct nk_loaded *loaded);

/* Begin to save the state as it now is, beside what comes; [wake]: an eventfd
 * that is written to when that is done. Then, or waiting for it, end it. [pin]:
 * pin what is saved under that name; [unpin]: let that pin go; or "". [pace]:
 * bytes a second, 0: no limit. */
int nk_serf_save_begin(nk_serf *serf, int wake, const char *pin, const char *unpin,
                       uint64_t pace);
int nk_serf_save_is_done(const nk_serf *serf);
int nk_serf_save_end(nk_serf *serf, struct nk_saved *saved);

/* Read all of what was loaded in a thread; is some page rotten? Then the
 * serf must die: it may have computed on it. */
int nk_serf_verify_start(nk_serf *serf, char *message);
int nk_serf_is_rotten(nk_serf *serf, char *message);

/* Read a few pages more again, in an idle time: see nk_image_scrub. Not 0: the
 * serf is rotten. */
struct nk_scrubbed {
    uint64_t stepped; /* pages; 0: not now */
    uint64_t page;
    uint64_t pages;
    uint64_t passes;
};
int nk_serf_scrub(nk_serf *serf, struct nk_scrubbed *scrubbed, char *message);

struct nk_pin_facts {
    char name[40];
    uint64_t generation;
    uint64_t event;
};

struct nk_checked {
    uint32_t pin_count; /* of the newest generation */
    struct nk_pin_facts pins[16];
    uint32_t good;
    uint32_t generations;
    uint64_t generation;
    uint64_t event;
    uint32_t mug;
    uint64_t pages;
    uint64_t slots;
    uint8_t ship[16];
    uint8_t log[16];
    char message[256];
};

/* Verify an image file, all of it, without a serf; [deep]: and every noun. */
int nk_check_image(const char *path, int deep, struct nk_checked *checked);

/* What the newest good superblock says, and how many there are: reads the
 * superblocks only, so what they promise may be rotten. */
int nk_image_facts(const char *path, struct nk_checked *checked);

/* A verified copy of one generation, in steps: image_copy.h. The newest has
 * the event UINT64_MAX. [to]: an empty file. After a failure there is only the
 * message; end it in any case. */
typedef struct nk_image_copy nk_image_copy;

struct nk_copied {
    uint32_t done;        /* nothing is left to do */
    uint32_t verifying;   /* all is written, and being read again */
    uint32_t overwritten; /* why it failed: saves went on */
    uint64_t bytes_done;
    uint64_t bytes_total; /* written, and read again */
    uint64_t pages;
    uint64_t bytes; /* of the file */
};

int nk_copy_begin(const char *source, uint64_t event, int to, nk_image_copy **copy,
                  struct nk_checked *what);
int nk_copy_step(nk_image_copy *copy, struct nk_copied *copied, char *message);
void nk_copy_end(nk_image_copy *copy);

/* --- events --- */

/* Work on job records in order, until all are done, [budget_us] is spent or
 * the answers have grown large; out: done and bail records. Returns how many
 * bytes of [jobs] are done with; -1: [jobs] is malformed, nothing was done.
 * Where the budget ends in the middle of a job, the answers to those before it
 * are out while [early] is called (NULL: they wait); it may take them, slogs and
 * the notice, and nothing else. */
int64_t nk_serf_work(nk_serf *serf, const uint8_t *jobs, uint64_t size,
                     uint64_t budget_us, void (*early)(void *context), void *context);

struct nk_played {
    uint64_t event; /* the last applied; where it stopped: the next */
    uint32_t expected;
    uint32_t actual;
};

/* Apply row records, the first of which is the serf's event + 1; the first
 * [life] by the lifecycle formula where the serf is empty. NK_BAD with
 * actual != expected: a divergence; other failures leave a goof. */
int nk_serf_play(nk_serf *serf, uint64_t request, uint64_t life, const uint8_t *rows,
                 uint64_t size, struct nk_played *played);

/* Out: the product's jam. */
int nk_serf_peek(nk_serf *serf, uint64_t request, const uint8_t *sample, uint64_t size,
                 uint64_t deadline_ms);

/* Out: the kernel's jam. */
int nk_serf_kernel(nk_serf *serf);

/* Out: the jam of [kernel cold]; see kernel.h. */
int nk_serf_state(nk_serf *serf);

/* Let an empty serf, that has loaded nothing, be in that state. With the memory
 * of replay. NK_BAD: [why]. */
int nk_serf_install(nk_serf *serf, const uint8_t *jam, uint64_t size, uint64_t event,
                    const char **why);

/* --- upkeep --- */

/* Collect home and drop caches; bytes in use before and after. */
void nk_serf_pack(nk_serf *serf, uint64_t *before, uint64_t *after);

/* A warning that came up since the last call, or "". Valid until the next. */
const char *nk_serf_notice(nk_serf *serf);

/* Counter number [index]: its name, or NULL past the last. The name lives
 * until the next call. Arms that were called have counters `jet:PATH:hits`
 * and so on; `pin:NAME` is the event of a pinned generation. */
const char *nk_serf_gauge(nk_serf *serf, uint32_t index, uint64_t *value);

/* Observe what runs from now on (probe.h): a profile where [interval_us] is
 * not 0; [check]: compare each jet with its Nock. */
void nk_serf_probe(nk_serf *serf, uint64_t interval_us, int check);
void nk_serf_enable_jets(nk_serf *serf, int enabled);

/* As nk_serf_gauge: what the machine and its probe counted. Names with a
 * colon belong to a group: `instructions:CONS`. */
const char *nk_serf_stat(nk_serf *serf, uint32_t index, uint64_t *value);

/* Arm number [index]; false past the last. */
struct nk_arm_facts {
    const char *path;
    const char *kind; /* jet: C. program: of the machine's own, calls Nock */
    const char *hook; /* what its parent must have; or NULL */
    uint64_t hits;
    uint64_t misses;
    uint64_t checked;   /* of the hits: equal to the Nock, */
    uint64_t unchecked; /* given up, */
    uint64_t wrong;
};
int nk_serf_arm(nk_serf *serf, uint32_t index, struct nk_arm_facts *facts);

/* Out: the profile, lines of `name;name count`. */
void nk_serf_profile(nk_serf *serf);

/* --- tools: one noun, one computation --- */

struct nk_noun_facts {
    uint64_t bytes; /* of the canonical jam */
    uint64_t cells_distinct;
    uint64_t atoms_distinct;
    uint64_t cells_tree; /* UINT64_MAX: that many and more */
    uint64_t atoms_tree;
    uint64_t depth; /* cells on the longest path */
    uint32_t mug;
};

/* Out: the canonical jam. NK_BAD: [why] says which way it is not a jam. */
int nk_serf_noun(nk_serf *serf, const uint8_t *jam, uint64_t size,
                 struct nk_noun_facts *facts, const char **why);

/* As nk_serf_noun, without the counting: mug only. */
int nk_serf_rejam(nk_serf *serf, const uint8_t *jam, uint64_t size, uint32_t *mug,
                  const char **why);

/* *[subject formula], of the jam of both. Out: the product's jam, or the
 * trace's where it crashed. [nanoseconds]: of the evaluation alone, on the
 * wall and on the thread's own clock. NK_BAD: [why]. */
int nk_serf_nock(nk_serf *serf, const uint8_t *jam, uint64_t size, int jets,
                 uint64_t nanoseconds[2], uint32_t *mug, const char **why);

/* The formula of the jam of [subject formula]. Out: its programs as text.
 * NK_BAD: [why]. */
int nk_serf_disassemble(nk_serf *serf, const uint8_t *jam, uint64_t size,
                        const char **why);
