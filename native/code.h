/* Programs: formulas compiled once, found again by reference.
 *
 * A program's registers are assigned at compile time; equal slots of one
 * subject are loaded once. Its literals are subnouns of its formula, so a
 * live formula keeps them alive. Two tables map a formula's reference to
 * its program:
 *     home     formulas in home: kept across events. Weak: before home's
 *              collector reuses a slot, it has us purge the table, a few
 *              entries at a time, of programs of dead formulas.
 *     nursery  formulas of the running event: traced as roots, rehashed when
 *              a collection moves them, thinned out when there are many, and
 *              all dropped with the event.
 * A call site remembers the last few batteries (or formulas) it saw and what
 * runs for each. Sites that saw a nursery noun are listed, and forget it at
 * each collection. So an address never meets another formula's program.
 *
 * A formula of the nursery that is equal to another one there, which Nock has
 * just made anew, runs as that one's program.
 *
 * Owns: programs, their tables and sites.
 * Limits: a formula whose code outgrows OUTLINE words (or its compilation
 * TASKS_MAX tasks that wait, or STEPS_MAX done) continues in programs of their
 * own, compiled when they are first reached. All programs together:
 * PROGRAM_BYTES_MAX.
 */
#ifndef NK_CODE_H
#define NK_CODE_H

#include "home.h"
#include "opcodes.h"

struct nk_arm_counts; /* jet.h */

/* How what a site saw is called. */
enum nk_how {
    NK_CALLED,
    NK_JETTED, /* the battery is registered with a jet there */
    NK_KEPT,   /* its program makes something of the core, see `makes` */
};

/* What a call site saw, and what runs for it. */
struct nk_target {
    nk_noun key; /* battery (kick, slam) or formula (nock); NK_NONE */
    struct nk_program *program;
    /* Jetted: the parent core that proved the jet's location, and where it
     * lies. Kept: the last core, whose product is kept. Or NK_NONE. */
    nk_noun context;
    union {
        struct nk_arm_counts *jet; /* jetted: or NULL */
        nk_noun product;           /* kept */
    };
    uint32_t parent_axis;
    enum nk_how how;
};

#define NK_SITE_OTHERS 3u
struct nk_site {
    struct nk_target last;
    struct nk_target *others; /* those before, or NULL: it never saw a second */
    uint64_t axis;            /* of the arm, for kicks */
    bool listed;
};

/* The registers that hold nouns while the instruction at [ip] runs, or while
 * a call is away: those below [depth] that are not in the dead list. */
struct nk_live {
    uint32_t ip;
    uint32_t depth;
    uint32_t dead_start;
    uint32_t dead_count;
};

struct nk_program {
    nk_noun formula;
    uint32_t mug; /* the formula's, in the nursery */
    uint32_t *code;
    nk_noun *literals;
    struct nk_site *sites;
    uint32_t registers;
    uint32_t makes; /* words; not 0: all it does is to make its product, which
                     * a kick does in place and keeps for that core */
    uint32_t code_count;
    uint32_t literal_count;
    uint32_t site_count;
    struct nk_live *points; /* by ip: instructions that may collect */
    struct nk_live *calls;  /* by index: calls that are away */
    uint32_t *dead;
    uint32_t point_count;
    uint32_t call_count;
    uint32_t dead_count;
    struct nk_arm_counts *jet; /* that this stub stands for, or NULL */
    bool active;               /* scratch: found on the stack */
    uint32_t name;             /* for the profile (probe.h); 0: not known */
    uint32_t name_tried;       /* registered locations when it was looked for */
};

#define NK_MAKER_REGISTERS 16u

struct nk_code;

struct nk_code *nk_code_new(void);
void nk_code_free(struct nk_code *code);

/* The program of a formula. A malformed formula has one that crashes;
 * NK_EXIT: an atom, which has none. NK_MEME: programs take all the memory
 * that they may; what a collection leaves may do. Other: the arena's poll
 * said so while a large formula was compiled. */
nk_status nk_code_get(struct nk_code *code, struct nk_arena *arena, nk_noun formula,
                      struct nk_program **program);

/* A copy of a program written by hand (stub.h), which names only how many sites
 * it has. Lives as long as [code]. */
struct nk_program *nk_code_stub(struct nk_code *code, const struct nk_program *draft);

/* The program that a return address belongs to. */
static inline struct nk_program *nk_code_of(const uint32_t *ip) {
    const void *start = ip - ip[-1];
    return ((struct nk_program *const *)start)[-1];
}

/* Which registers are live at instruction [ip] of [program]. */
const struct nk_live *nk_code_point(const struct nk_program *program,
                                    const uint32_t *ip);

/* A site meets [key], which is not its last one. True: it did before, and has
 * it as its last again. Else its last one is empty, to be filled. */
bool nk_code_turn_site(struct nk_code *code, struct nk_site *site, nk_noun key);

/* Note that a site holds a nursery reference. */
void nk_code_list_site(struct nk_code *code, struct nk_site *site);

/* A collection of the nursery begins: forget sites; [crowded] says that
 * inactive programs should be dropped (mark the active ones first). */
bool nk_code_crowded(const struct nk_code *code);
void nk_code_trace(struct nk_code *code, struct nk_arena *arena, nk_root_visit visit,
                   bool drop_inactive);
void nk_code_moved(struct nk_code *code);

/* The event is over, or a jet was registered. */
void nk_code_drop_nursery(struct nk_code *code);
void nk_code_forget_sites(struct nk_code *code);

/* Home was marked: free programs of dead formulas, forget sites that saw dead
 * nouns; a source's purge, see home.h. */
bool nk_code_purge(struct nk_code *code, const struct nk_home *home, size_t *cursor,
                   size_t budget);

/* Counters, for status and tests. */
struct nk_code_stats {
    uint64_t compiled, shared, home_programs, nursery_programs, bytes;
};
struct nk_code_stats nk_code_stats(const struct nk_code *code);

#endif
