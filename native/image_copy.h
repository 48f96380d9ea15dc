/* An independent, verified copy of one generation of an image.
 *
 * The copy is an image of its own: one superblock, the pages in logical order
 * from slot 4 on, so that one mapping shows each stretch of them, then tables
 * and directories. Every page and table is compared with its checksum as it is
 * read; what was written is synced, dropped from the page cache, read again
 * and compared, before the copy counts as made.
 *
 * It reads beside a living serf, without a lock. Two saves after a generation
 * its slots may be used again: then checksums differ, and state->overwritten
 * tells a copy that came too late from a source that is rotten. (Hold the saves
 * back, or pin the generation.)
 *
 * Work is done in steps of some 4 MiB, so that the caller may tell of it, and
 * stop. What waits to be written stays below 32 MiB, and is not kept in
 * the cache: the ship's commits and pages come first.
 *
 * Owns: the source's descriptor. The destination's is the caller's, as are
 *   its name and the durability of that.
 * Invariants: nothing of the source is written; a copy that did not end well
 *   has no superblock that could be believed, or is told of.
 * Limits: as image.h; 20 bytes of memory a page.
 */
#ifndef NK_IMAGE_COPY_H
#define NK_IMAGE_COPY_H

#include "image.h"

#define NK_COPY_NEWEST UINT64_MAX

struct nk_image_copy;

enum nk_copy_phase {
    NK_COPY_BEGUN,
    NK_COPY_PAGES,
    NK_COPY_TABLES,
    NK_COPY_VERIFY,
    NK_COPY_DONE
};

struct nk_copy_state {
    enum nk_copy_phase phase;
    uint64_t done; /* bytes written, then also those read again, of */
    uint64_t total;
    uint64_t pages; /* that the generation has */
    uint64_t bytes; /* of the copy */
    bool overwritten;
};

/* Begin to copy the generation of [event] in [source], one of the last few or a
 * pinned one, into [to], an
 * empty file open for reading and writing. [info] describes it. NK_IO, NK_BAD
 * with info->message, which says what events there are. */
nk_status nk_image_copy_begin(const char *source, uint64_t event, int to,
                              struct nk_image_copy **copy, struct nk_image_info *info);

/* One step. NK_OK: see state->phase. NK_IO or NK_BAD, of either file, with
 * [message]: it can only be ended. */
nk_status nk_image_copy_step(struct nk_image_copy *copy, struct nk_copy_state *state,
                             char message[256]);

void nk_image_copy_end(struct nk_image_copy *copy);

#endif
