/* A freeze: home as it was at one safepoint, to be read by another thread
 * while events go on changing home.
 *
 * Nothing is copied when it begins but the bits of dirty pages. From then on
 * whoever changes home gives the old away first, once a page:
 *
 *   what a page says of itself (class, bitmap, ..)   before its bit in
 *                                                     `meta_dirty` is set
 *   what it contains, where a save is going to need   before its bit in
 *   it and has not got it yet                         `dirty` is set
 *
 * and the reader, which takes no lock either, finds out after reading whether
 * it was overtaken, and then reads what was put aside instead:
 *
 *   contents  one state a page: HERE -> ASIDE by the event thread after it has
 *             copied and before it writes, or HERE -> TAKEN by the reader
 *             after it has read. One of the two exchanges fails.
 *   metadata  as often as it likes: `told` is set after the copy is made and
 *             before the change.
 *
 * So the event thread pays a copy of 16 KiB for the first write to a page that
 * waits to be saved, and never waits; the reader pays a copy a page.
 *
 * Owns: tables (lazily touched memory, 150 bytes a page of home), and room
 * for pages put aside, given back as they are taken.
 * Limits: one freeze at a time; one reader.
 */
#ifndef NK_FREEZE_H
#define NK_FREEZE_H

#include "home.h"

struct nk_freeze {
    struct nk_home *home;        /* for the event thread only */
    const uint64_t *base;        /* of the arena */
    const struct nk_page *pages; /* home's; only what was not told is as it was */
    uint64_t page_count;         /* as of the freeze, as is all that follows */
    nk_noun roots[NK_ROOT_COUNT];
    uint64_t *dirty;      /* bit per page: its contents are to be saved */
    uint64_t *meta_dirty; /* bit per page: its table entry is */
    uint64_t dirty_count;
    uint8_t *states;  /* of contents, per dirty page */
    uint8_t *told;    /* per page: its metadata lies in `metas` */
    uint32_t *places; /* per page put aside: where, in `aside` */
    struct nk_page *metas;
    uint64_t *aside;      /* pages */
    uint64_t aside_count; /* ever put aside */
    void *tables;
    uint64_t tables_size, aside_size;
};

/* Freeze home and clear its dirty bits. [all]: every page is to be saved,
 * whatever the bits say. At a safepoint, by the event thread. NULL: there is
 * no address space for it; nothing changed. */
struct nk_freeze *nk_home_freeze(struct nk_home *home, bool all);

/* The reader is done. Where it did not save what it read ([saved] is false),
 * home's bits say so again. By the event thread, between events. */
void nk_home_thaw(struct nk_home *home, bool saved);

/* The event thread's duties; home's alone. */
void nk_freeze_tell(struct nk_freeze *freeze, uint64_t number);
void nk_freeze_keep(struct nk_freeze *freeze, uint64_t number);

/* The reader's. A page's metadata; the contents of a dirty page, once. */
void nk_freeze_meta(const struct nk_freeze *freeze, uint64_t number,
                    struct nk_page *meta);
void nk_freeze_take(struct nk_freeze *freeze, uint64_t number, void *contents);

#endif
