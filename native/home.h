/* Home: the durable pages, and promotion into them.
 *
 * Home is the lower part of the arena, in pages of 16 KiB. A page holds
 * boxes of one size class, or is part of a run that holds one large atom.
 * Page 0 is never used (offset 0 stays invalid).
 *
 * Written by promotion only. Promotion first lists what is to be copied
 * (computing mugs on the way), then reserves all the room it needs, then
 * copies; so it either does nothing (NK_MEME) or everything. Sharing is
 * kept. It sets one bit per page that it writes: that bitmap is exactly what
 * the next save has to write. No traps, no mprotect in production.
 *
 * Collection (collect.h) marks from the durable roots, beside the running
 * events, and frees what is unmarked, by clearing bits in the page's
 * allocation bitmap: page contents do not change. A page whose bitmap changed
 * has a changed *table entry* though, which the image must write
 * (`meta_dirty`).
 *
 * Where new boxes go. A page once written costs a whole page in the next
 * save, so few pages should take many boxes: a class goes on filling its
 * current page, then takes pages with a half or more free, then with a
 * quarter, then fresh ones. Fuller pages are left alone until home's limit
 * forces their use; so at most a quarter of a page is lost to that, and what
 * was promoted together lies, and dies, together.
 *
 * NK_PARANOID builds keep home read-only outside promotion.
 *
 * Owns: everything below arena->home_end; the page metadata. One thread only:
 * what the collector's thread may read beside it, collect.h says.
 * Invariants: a home noun refers to home nouns only; each has its mug; a
 * set allocation bit <=> a live or not yet collected box starts there.
 */
#ifndef NK_HOME_H
#define NK_HOME_H

#include "nursery.h"

struct nk_freeze; /* freeze.h */

/* Size classes in words; NK_CLASS_LARGE marks the head of a run of pages
 * that holds one atom, NK_CLASS_TAIL its other pages, NK_CLASS_FREE none. */
#define NK_CLASS_FREE 0u
#define NK_CLASS_LARGE 254u
#define NK_CLASS_TAIL 255u
#define NK_PAGE_BOXES_MAX 1024u /* boxes of 2 words: the smallest atom */

/* Flags of a page. MAPPED: its frames still show a slot of the image file
 * (MAP_PRIVATE). The image sets it on load; the first write to the page first
 * touches all of its 4 KiB frames, so that none looks at the slot any more,
 * and clears it (hazards H11). TOUCHED: that has happened; a file mapping
 * still lies beneath, so MADV_DONTNEED would bring the slot's bytes back:
 * neither kind is ever given back to the system, free or not. */
#define NK_PAGE_MAPPED 1u
#define NK_PAGE_TOUCHED 2u
/* A free page whose memory went back to the system. Home's own mark; neither
 * it nor the two above belong into the image's table. */
#define NK_PAGE_GIVEN_BACK 4u

struct nk_page {
    uint8_t class_index; /* 1.. : nk_class_words[class_index] */
    uint8_t flags;
    uint16_t free_count;                     /* boxes not allocated */
    uint32_t run_pages;                      /* NK_CLASS_LARGE: pages of the run */
    uint64_t bitmap[NK_PAGE_BOXES_MAX / 64]; /* 1 = allocated */
};

/* The durable roots: what a restarted ship needs, and all that keeps home
 * nouns alive (besides registered home root sources). NK_NONE = absent. */
enum nk_root {
    NK_ROOT_KERNEL, /* the Arvo core */
    NK_ROOT_COLD,   /* cold jet state, as a noun */
    NK_ROOT_CACHE,  /* persistent memo cache, as a noun */
    NK_ROOT_SPARE,
    NK_ROOT_COUNT,
};

/* Further roots in home (held peeks, literals), and tables that must not
 * outlive what they refer to.
 *   trace   calls [visit] on each root slot; NULL: it has none. Quick: it is
 *           called on the event thread at the start of a cycle.
 *   purge   NULL: not weak. Called between events after marking, before any
 *           slot can be reused: forget what `nk_home_marked` says is dead,
 *           looking at about [budget] things, and answer true when all were
 *           looked at. [cursor] is the source's own; 0 when a cycle's purge
 *           begins. Between two calls events may run; what they add is alive. */
struct nk_home_source {
    void (*trace)(void *context, struct nk_arena *arena, nk_root_visit visit);
    bool (*purge)(void *context, const struct nk_home *home, size_t *cursor,
                  size_t budget);
    void *context;
    size_t cursor;
    struct nk_home_source *next;
};

struct nk_home {
    struct nk_arena *arena;
    struct nk_page *pages; /* metadata, indexed by page number */
    uint64_t page_count;   /* pages in use or free below the high end */
    uint64_t page_max;     /* limit on it, at most arena->home_end in pages */
    uint64_t *dirty;       /* bit per page: contents written since the save */
    uint64_t *meta_dirty;  /* bit per page: table entry changed since (as that
                            * of every dirty page is) */
    uint64_t dirty_count;  /* set bits of `dirty`; who clears them resets it */
    nk_noun roots[NK_ROOT_COUNT];
    uint64_t words_used;     /* in allocated boxes */
    uint64_t words_at_sweep; /* of them, alive when the last cycle began */
    uint64_t collections;    /* cycles completed */
    uint64_t promotions;
    uint64_t words_promoted;
    struct nk_home_source *sources;
    struct nk_freeze *freeze; /* a save reads home as it was: freeze.h */
    void *private_state;      /* home_inside.h */
    void *visiting;           /* on whose behalf a trace is going on */
};

extern const uint16_t nk_class_words[];
extern const uint8_t nk_class_count;

nk_status nk_home_open(struct nk_home *home, struct nk_arena *arena);
void nk_home_close(struct nk_home *home);

/* Promote [count] nouns at once, rewriting each slot to its home noun.
 * NK_MEME (nothing changed) when home's limit does not hold them. After
 * success every nursery box that was copied is a forwarding mark: the
 * caller must not use nursery nouns again, but reset the nursery. */
nk_status nk_home_promote(struct nk_home *home, nk_noun *slots, size_t count);

/* Pages in use. */
uint64_t nk_home_pages_used(const struct nk_home *home);

/* Limit home's size (<= the reserved space). */
void nk_home_limit(struct nk_home *home, uint64_t bytes);

void nk_home_source_add(struct nk_home *home, struct nk_home_source *source);

/* Visit every root slot; [visiting] is what home->visiting then shows. */
void nk_home_trace(struct nk_home *home, nk_root_visit visit, void *visiting);

/* Rebuild free lists and counters after the image filled in `pages`,
 * `page_count` and the page contents. */
void nk_home_adopt(struct nk_home *home);

/* Is there a box where [n] says? True of all that needs none. */
bool nk_home_holds(const struct nk_home *home, nk_noun n);

/* The oracle: walk every reachable box; check class, bitmap, mug, and that
 * children are home nouns. Returns NULL or what is wrong. At any safepoint, also
 * in the middle of a cycle. The pages' classes and runs have to be sound, their
 * contents may be anything. */
const char *nk_home_check(struct nk_home *home);

#endif
