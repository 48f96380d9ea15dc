/* Memo caches: what [subject formula] gave before.
 *
 * Three tables:
 *     transient   this event, and this virtualisation, only
 *     persistent  kept across events and restarts, as a noun in
 *                 home->roots[NK_ROOT_CACHE]
 *     ford        likewise
 * Keys are compared by equality, hashed by their mugs; no key cell is made.
 * The caller must not put into the persistent tables what was computed under
 * a scry handler.
 *
 * The noun is a list, newest first, of [kind subject formula product]; it is
 * rebuilt when it has come to hold twice as many as the tables.
 *
 * Limits. A table grows by doubling up to a number of entries (2^18
 * transient, 2^16 in each other: 14 and 3.5 MB); then a clock hand throws
 * out what was not used since it last came by. What the transient table's
 * nouns take is bounded by the nursery: a full collection that finds a
 * quarter of it in use keeps only entries used since the last such one; half
 * of it, none. What the others' nouns take in home, and nothing else there
 * holds, is weighed by each of its collections (which begin when home has
 * grown): where that is more than 256 MB, or an eighth of home's limit, they
 * keep as many of their entries as would be three quarters of that, by the
 * clock; should those be the heavy ones, the next collection finds out.
 */
#ifndef NK_MEMO_H
#define NK_MEMO_H

#include "nock.h"

enum nk_memo_kind {
    NK_MEMO_TRANSIENT,
    NK_MEMO_PERSISTENT,
    NK_MEMO_FORD,
    NK_MEMO_KINDS
};

struct nk_memo *nk_memo_new(void);
void nk_memo_free(struct nk_memo *memo);

/* Which table a clue asks for. */
enum nk_memo_kind nk_memo_kind(const struct nk_arena *arena, nk_noun clue);

/* The product, or NK_NONE. [context] tells virtualisations apart; 0 for the
 * persistent tables. */
nk_noun nk_memo_get(struct nk_machine *machine, enum nk_memo_kind kind,
                    uint64_t context, nk_noun subject, nk_noun formula);
void nk_memo_put(struct nk_machine *machine, enum nk_memo_kind kind, uint64_t context,
                 nk_noun subject, nk_noun formula, nk_noun product);

/* Forget a whole table (%drop, memory pressure). */
void nk_memo_clear(struct nk_memo *memo, enum nk_memo_kind kind);
size_t nk_memo_count(const struct nk_memo *memo, enum nk_memo_kind kind);

/* What a table did in this machine's life; all 0 where it was never used. */
struct nk_memo_counts {
    uint64_t hits, misses, evicted;
    uint64_t entries;   /* the most at once */
    uint64_t bytes;     /* likewise: of the table itself */
    uint64_t bytes_max; /* what that may become */
};
struct nk_memo_counts nk_memo_counts(const struct nk_memo *memo,
                                     enum nk_memo_kind kind);

/* The event's end, as in jet.h. */
nk_status nk_memo_pending(struct nk_machine *machine, nk_noun *cache);
size_t nk_memo_slots(struct nk_memo *memo, nk_noun **slots);
void nk_memo_committed(struct nk_memo *memo);
void nk_memo_discard(struct nk_memo *memo);
nk_status nk_memo_adopt(struct nk_machine *machine);
/* Between events: heed what home's last collection found these tables to take. */
void nk_memo_bound(struct nk_machine *machine);
void nk_memo_trace(struct nk_memo *memo, struct nk_arena *arena, nk_root_visit visit);

#endif
