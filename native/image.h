/* The image: a checksummed copy-on-write snapshot of home.
 *
 * One file of 16 KiB slots. Slots 0..3 are a ring of superblocks; a page
 * table (in slots of its own) says where each logical page lies, with its
 * class, run, allocation bitmap and 128-bit checksum (xxh3-128).
 *
 * Save: dirty pages to free slots, fdatasync; changed table slots to free
 * slots, fdatasync; the oldest superblock of the ring, fdatasync. Slots that
 * an older kept generation or a live mapping still uses are never rewritten.
 * A torn write can only hit what no good superblock refers to.
 *
 * Load: newest superblock whose checksum and page table verify; else the one
 * before, and the report says so. Pages are mapped MAP_PRIVATE into home, or
 * read where a mapping would be too fragmented.
 *
 * Owns: the image file, through a descriptor opened before confinement.
 * Invariants: superblock's event <= the log (the king names the event);
 * two good generations or more on disk after the second save.
 */
#ifndef NK_IMAGE_H
#define NK_IMAGE_H

#include "home.h"

#define NK_IMAGE_FORMAT 1u

struct nk_image;

struct nk_identity {
    uint8_t ship[16]; /* @p, little-endian */
    uint8_t log[16];  /* random identity of the event log */
};

struct nk_image_info {
    uint32_t good;       /* a usable generation was found */
    uint32_t fell_back;  /* newer generations that were refused */
    uint64_t generation;
    uint64_t event;
    uint32_t mug;        /* of the kernel */
    uint64_t pages;
    uint64_t slots;
    struct nk_identity identity;
    char message[256];   /* what was refused and why; "" if nothing */
};

/* Open or create the file at [path] (O_CLOEXEC, O_NOFOLLOW). NK_IO/NK_BAD
 * with [message]. A file without any superblock is a new image. */
nk_status nk_image_open(const char *path, bool read_only, struct nk_image **image,
                        char message[256]);
void nk_image_close(struct nk_image *image);

/* Find the newest good generation with event <= [event_max] and load it
 * into [home] (which is empty). NK_OK with info->good == 0: nothing usable,
 * home stays empty. [verify]: check every data page's checksum before use. */
nk_status nk_image_load(struct nk_image *image, struct nk_home *home,
                        uint64_t event_max, bool verify, struct nk_image_info *info);

/* Save home as the next generation. Foreground. The nursery must be empty. */
nk_status nk_image_save(struct nk_image *image, struct nk_home *home,
                        const struct nk_identity *identity, uint64_t event,
                        uint32_t mug, struct nk_image_info *info);

/* Verify every generation's superblock, table and pages. [message] names
 * the first fault; NK_BAD if any. */
nk_status nk_image_check(struct nk_image *image, struct nk_image_info *newest,
                         uint32_t *generations, char message[256]);

#endif
