/* Jets: which core is which, and the C that stands for its arms.
 *
 * Cold state is what %fast hints said: for each battery the locations it can
 * have; a location is a name, the axis of its parent core and the parent's
 * location, or, for a root, its payload. It is kept as a noun in
 * home->roots[NK_ROOT_COLD]: a list, newest first, of
 *     [battery name axis parent payload hooks]
 * where [parent] is 1 + the index of the parent's entry, counted from the
 * oldest, or 0 for a root. Warm state is the same in C, with the arms that
 * the path under a kelvin root selects.
 *
 * A core has a jet only if it is registered: its battery is known, and so is
 * every core on the way up to the root. The layers one, two, tri, qua, pen
 * and hex do not count in an arm's path, except the innermost.
 *
 * A jet answers NK_OK, NK_EXIT exactly where Nock crashes, NK_PUNT where it
 * cannot tell, NK_MEME when the nursery is full (the machine then collects
 * and asks once more). It never collects and never calls Nock: arms that do
 * are programs of the machine (stub.h), assembled with the jet state.
 */
#ifndef NK_JET_H
#define NK_JET_H

#include "nock.h"

typedef nk_status (*nk_jet_fn)(struct nk_machine *machine, nk_noun core,
                               nk_noun *product);

struct nk_arm {
    const char *path; /* under the kelvin root: "one/add" */
    nk_jet_fn jet;
    const char *program; /* runs instead (stub.h); [jet], if any, makes the key
                          * that `recall` asks for */
    const char *hook;    /* the parent must have it; or NULL */
};

/* The families, each ended by an arm without a path. */
extern const struct nk_arm nk_arms_arithmetic[];
extern const struct nk_arm nk_arms_bits[];
extern const struct nk_arm nk_arms_floats[];
extern const struct nk_arm nk_arms_codes[];
extern const struct nk_arm nk_arms_compiler[];
extern const struct nk_arm nk_arms_json[];
extern const struct nk_arm nk_arms_lists[];
extern const struct nk_arm nk_arms_maps[];
extern const struct nk_arm nk_arms_names[];
extern const struct nk_arm nk_arms_parsers[];
extern const struct nk_arm nk_arms_plot[];
extern const struct nk_arm nk_arms_random[];
extern const struct nk_arm nk_arms_rounding[];
extern const struct nk_arm nk_arms_scan[];
extern const struct nk_arm nk_arms_serial[];
extern const struct nk_arm nk_arms_sets[];
extern const struct nk_arm nk_arms_sha[];
extern const struct nk_arm nk_arms_streams[];
extern const struct nk_arm nk_arms_text[];
extern const struct nk_arm nk_arms_virtual[];

/* May [product] of [core], an arm that is remembered, be so by [key]? */
bool nk_compiler_keeps(const struct nk_arena *arena, nk_noun core, nk_noun key,
                       nk_noun product);

struct nk_jets *nk_jets_new(struct nk_code *code);
void nk_jets_free(struct nk_jets *jets);

/* %fast: the core and the clue [name parent hooks]. Ignores what makes no
 * sense. True where something new was registered. */
bool nk_jets_register(struct nk_machine *machine, nk_noun core, nk_noun clue);

/* Could a core with this battery have a jet at [axis]? */
bool nk_jets_known(struct nk_machine *machine, nk_noun battery, uint64_t axis);

/* The arm that stands for [axis] of this core, or NULL. [parent_axis] and
 * [parent]: another core of the same battery with the very same parent there
 * has the same arm. */
struct nk_arm_counts *nk_jets_find(struct nk_machine *machine, nk_noun core,
                                   uint64_t axis, uint32_t *parent_axis,
                                   nk_noun *parent);

/* The arm that a %sham hint names (gates only), or NULL. */
const struct nk_arm *nk_jets_sham(struct nk_machine *machine, nk_noun name);

/* The axis that the core's registration gave to hook [name]; 0 if none. */
nk_noun nk_jets_hook(struct nk_machine *machine, nk_noun core, nk_noun name);

/* An arm and its counters. A hit that was checked (probe.h) is counted again. */
struct nk_arm_counts {
    const struct nk_arm *arm;
    struct nk_program *program; /* NULL: the arm has a jet */
    uint64_t hits, misses, checked, unchecked, wrong;
};
struct nk_arm_counts *nk_jets_counts(struct nk_jets *jets, const struct nk_arm *arm);
static inline void nk_jets_count(struct nk_arm_counts *counts, bool hit) {
    counts->hits += hit;
    counts->misses += !hit;
}
size_t nk_jets_arm_count(const struct nk_jets *jets);
const struct nk_arm_counts *nk_jets_arm(const struct nk_jets *jets, size_t index);

/* What people call the arm at [axis] of this core: its names from the root
 * on, and the axis if it is not 2. False: it was never registered. [known]
 * counts the registrations so far. */
bool nk_jets_name(struct nk_machine *machine, nk_noun core, uint64_t axis, char *out,
                  size_t size);
size_t nk_jets_known_count(const struct nk_jets *jets);

/* The event's end. [collect] appends the address of every noun slot that
 * must be promoted; [pending] makes the new cold noun (NK_MEME: no room). */
nk_status nk_jets_pending(struct nk_machine *machine, nk_noun *cold);
size_t nk_jets_slots(struct nk_jets *jets, nk_noun **slots);
void nk_jets_committed(struct nk_jets *jets);
/* True where something was registered and is not any more. */
bool nk_jets_discard(struct nk_jets *jets);
nk_status nk_jets_adopt(struct nk_machine *machine);
void nk_jets_trace(struct nk_jets *jets, struct nk_arena *arena, nk_root_visit visit);

#endif
