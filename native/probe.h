/* What a machine does, observed: counts, a profile, checks of its jets.
 *
 * With a probe set (machine->probe) runs go through the second copy of the
 * loop, which reports here at every instruction; without one nothing of this
 * is looked at, so it costs nothing.
 *
 *   counts    instructions by opcode, words allocated, peaks
 *   profile   every [interval_ns] the stack is noted, as names
 *             outermost first: jet paths (from %fast) and %spots. A long jet
 *             or collection counts as many samples as it took intervals.
 *   check     the result of a jet is compared with what its arm's Nock gives:
 *             see MARK_CHECK in nock.c. Arms called meanwhile stay jetted,
 *             hints print nothing. After [check_steps] instructions the
 *             comparison is given up, and counted as unchecked.
 *
 * Owns: names, samples. Names are numbered from 1 and live with the probe,
 * which lives as long as its machine: programs note their name's number.
 * Limits: STACK_NAMES_MAX innermost names of a sample.
 */
#ifndef NK_PROBE_H
#define NK_PROBE_H

#include "listing.h"

#define NK_STACK_NAMES_MAX 192u
#define NK_CHECK_STEPS 100000u

struct nk_probe_table; /* names and samples */

struct nk_probe {
    uint64_t instructions[NK_OP_COUNT];
    uint64_t kept;         /* kicks whose product was kept from the last one */
    uint64_t words;        /* allocated in the nursery */
    uint64_t nursery_peak; /* bytes */
    uint64_t stack_peak;   /* bytes */
    uint64_t interval_ns;  /* 0: no profile */
    uint64_t sampled_ns;   /* when a sample was last due */
    uint64_t sample_count;
    bool check;
    uint64_t check_steps;
    uint64_t mismatch_count;
    /* Of the entries on the trace: the frame in which each was pushed. */
    const uint64_t **spots;
    size_t spot_count, spot_capacity;
    struct nk_probe_table *table;
};

struct nk_probe *nk_probe_new(void);
void nk_probe_free(struct nk_probe *probe);

/* The number of a name. */
uint32_t nk_probe_name(struct nk_probe *probe, const char *name);

/* The clock, in nanoseconds. */
uint64_t nk_probe_now(void);

/* How many samples are due now; 0: none. */
uint64_t nk_probe_due(struct nk_probe *probe);

/* [count] samples of this stack, outermost first; equal neighbours are one. */
void nk_probe_add(struct nk_probe *probe, const uint32_t *names, size_t name_count,
                  uint64_t count);

/* The profile: lines of `name;name;name count`. */
void nk_probe_fold(const struct nk_probe *probe, struct nk_text *text);

/* An entry was pushed on the trace in the frame at [base]; one was popped there;
 * the frames at [base] and above are gone. */
void nk_probe_spot(struct nk_probe *probe, const uint64_t *base);
void nk_probe_unspot(struct nk_probe *probe, const uint64_t *base);
void nk_probe_unwound(struct nk_probe *probe, const uint64_t *base);

#endif
