/* The image: a checksummed copy-on-write snapshot of home.
 *
 * One file of 16 KiB slots. Slots 0..3 are a ring of superblocks; a page
 * table (in slots of its own) says where each logical page lies, with its
 * class, run, allocation bitmap and 128-bit checksum (xxh3-128).
 *
 *     superblock -> directory slots -> table slots -> page slots
 *
 * Every arrow is a slot number and the checksum of what lies there, so one
 * good superblock vouches for a whole generation.
 *
 * Save: dirty pages to free slots, fdatasync; changed table and directory
 * slots to free slots, fdatasync; the oldest superblock of the ring,
 * fdatasync. Slots that an older kept generation or a live mapping still
 * uses are never rewritten. A torn write can only hit what no good
 * superblock refers to.
 *
 * A file that is much longer than what it keeps gets shorter, save by save.
 *
 * Load: newest superblock whose checksum and page table verify; else the one
 * before, and the report says so. Pages are mapped MAP_PRIVATE into home, or
 * read where a mapping would be too fragmented.
 *
 * Pins: a generation that was pinned keeps its slots until it is unpinned,
 * whatever is saved meanwhile, so that it can be copied or forked at leisure.
 * The superblock leads to a directory of pins, and that to a superblock of each
 * pinned generation. Both come and go with a save.
 *
 * Owns: the image file, through descriptors opened before confinement.
 * Invariants:
 *   superblock's event <= the log (the king names the event);
 *   two good generations or more on disk after the second save;
 *   a save never completes before every data page of the generation that was
 *   loaded has been read and compared with its checksum, so that rot is not
 *   laundered into a new generation;
 *   events never decrease along the generations of a file: a generation of a
 *   later event than a newer one's belongs to a history that was given up.
 * Limits: 17.7 million pages (270 GiB); little-endian machines; one writer
 *   (the king's lock sees to it); one caller, whose threads verify and save.
 */
#ifndef NK_IMAGE_H
#define NK_IMAGE_H

#include "home.h"

/* What a superblock says is the oldest format that knows what it needs: 1, and
 * with pins, which an older build would overwrite, 2. */
#define NK_IMAGE_FORMAT 2u
#define NK_PINS_MAX 16u
#define NK_PIN_NAME_SIZE 40u /* with a zero at the end */

struct nk_image;

struct nk_identity {
    uint8_t ship[16]; /* @p, little-endian */
    uint8_t log[16];  /* random identity of the event log */
};

struct nk_image_info {
    uint32_t good;      /* a usable generation was found */
    uint32_t fell_back; /* newer generations that were refused */
    uint64_t generation;
    uint64_t event;
    uint32_t mug; /* of the kernel */
    uint64_t pages;
    uint64_t slots;
    uint64_t pages_written; /* by a save */
    uint64_t bytes_written; /* with tables and superblock */
    struct nk_identity identity;
    char message[256]; /* what was refused and why; "" if nothing */
};

/* A pinned generation. */
struct nk_pin {
    char name[NK_PIN_NAME_SIZE];
    uint64_t generation;
    uint64_t event;
};

/* Open or create the file at [path] (O_CLOEXEC, O_NOFOLLOW). NK_IO/NK_BAD
 * with [message]; NK_BAD is a file of another format, which is never written
 * to. A file without any superblock is a new image. */
nk_status nk_image_open(const char *path, bool read_only, struct nk_image **image,
                        char message[256]);
/* Stops a verification that is under way, and a save, for which home must
 * still be there. The pages that home maps stay valid. */
void nk_image_close(struct nk_image *image);

/* Its descriptors, for the list of those that confinement keeps; how many. */
unsigned nk_image_fds(const struct nk_image *image, int fds[2]);

/* Find the newest good generation with event <= [event_max] and load it
 * into [home] (which is empty). NK_OK with info->good == 0: nothing usable,
 * home stays empty; the message is "" only if the image is new. [verify]:
 * check every data page's checksum before use, and then that every noun fits
 * (nk_home_check); done in any case where something newer had to be refused.
 * Without it, pages and roots fit, and nouns are trusted. NK_MEME: home's limit
 * is too low for it. At most once per open image, unless nothing usable was
 * found. Give a lower [event_max] to go back to an older generation: the next
 * save then destroys the newer ones. */
nk_status nk_image_load(struct nk_image *image, struct nk_home *home,
                        uint64_t event_max, bool verify, struct nk_image_info *info);

/* Give up everything in the file, at once and durably, so that the next save
 * may begin it anew. For an image in which a load found nothing usable:
 * without this a save refuses to touch it. Not after a load. */
nk_status nk_image_reset(struct nk_image *image, char message[256]);

/* Pin the generation that the next save writes, under a name of letters, digits
 * and `-._` that no pin has; let a pin go, if there is one of that name, and ask so
 * before a pin takes its place. Both are asked of the next save alone: if it fails,
 * nothing has changed. NK_BAD with [message]. */
nk_status nk_image_pin(struct nk_image *image, const char *name, char message[256]);
nk_status nk_image_unpin(struct nk_image *image, const char *name, char message[256]);

/* From the next save on, write no more bytes a second than that; 0: no limit. For
 * those who share the disk. Between saves. */
void nk_image_pace(struct nk_image *image, uint64_t bytes_per_second);

/* The pins, by age: of what was loaded or saved; else as the newest superblock
 * has them. How many; [message]: they cannot be read. */
unsigned nk_image_pins(const struct nk_image *image, struct nk_pin pins[NK_PINS_MAX],
                       char message[256]);

/* Save home as the next generation, beside the running events: home is frozen
 * (freeze.h) at this instant, and saved as it now is. At a safepoint, the
 * nursery empty. NK_OK: under way, and has to be ended. [wake]: an eventfd that
 * is written to when it is done, or -1. NK_IO, NK_BAD, NK_MEME with [message]:
 * nothing was begun. One at a time. */
nk_status nk_image_save_begin(struct nk_image *image, struct nk_home *home,
                              const struct nk_identity *identity, uint64_t event,
                              uint32_t mug, int wake, char message[256]);

enum nk_saving { NK_SAVING_NOT, NK_SAVING_RUNNING, NK_SAVING_DONE };
enum nk_saving nk_image_saving(const struct nk_image *image);

/* Wait for the save and end it. At a safepoint. NK_IO, NK_BAD with
 * info->message: nothing has changed on disk, and home's dirty bits say again
 * what they would have said; a full disk may be cured and the save tried
 * again, but after a failed sync every later save refuses. */
nk_status nk_image_save_end(struct nk_image *image, struct nk_home *home,
                            struct nk_image_info *info);

/* Both, one after the other. */
nk_status nk_image_save(struct nk_image *image, struct nk_home *home,
                        const struct nk_identity *identity, uint64_t event,
                        uint32_t mug, struct nk_image_info *info);

/* Verification of the loaded generation's data pages, by a thread that reads
 * the file. A save waits for it (and does it itself where it was not
 * started). After NK_VERIFY_BAD the serf must die: it may have computed on a
 * rotten page. Started after confinement. */
enum nk_verify {
    NK_VERIFY_NONE,    /* loaded, but not verified yet */
    NK_VERIFY_RUNNING, /* the thread is at work */
    NK_VERIFY_GOOD,    /* all pages are good, or nothing was loaded */
    NK_VERIFY_BAD,     /* [message] names the first bad page */
};
nk_status nk_image_verify_start(struct nk_image *image, char message[256]);
enum nk_verify nk_image_verify_status(struct nk_image *image, char message[256]);
enum nk_verify nk_image_verify_wait(struct nk_image *image, char message[256]);

/* One step of a scrub: a few pages more of the newest generation are read from the
 * file, as far as the system lets go of what it has in memory, and compared with
 * their checksums. On the caller's thread; for idle times. Goes round for ever.
 * Does nothing while a save or the verification is under way, or before a first
 * save. NK_BAD, with [message]: a page is rotten, NK_VERIFY_BAD from here on. */
struct nk_scrub {
    uint64_t stepped; /* pages that this step passed; 0: not now */
    uint64_t page;    /* how far this pass is */
    uint64_t pages;
    uint64_t passes; /* that were completed */
};
nk_status nk_image_scrub(struct nk_image *image, struct nk_scrub *scrub,
                         char message[256]);

/* What the newest good superblock says; [superblocks]: how many are good. No
 * more is read than was when the file was opened, so nothing vouches for the
 * pages. */
void nk_image_newest(const struct nk_image *image, struct nk_image_info *newest,
                     uint32_t *superblocks);

/* Verify superblocks, tables and pages of every generation that is kept: the
 * two newest that differ, and those that are pinned. Older ones decay, since their
 * slots are free; they count in [generations] while they are whole, as pins do.
 * [message] names the first fault, with generation, slot and page; NK_BAD if any. Not
 * while another process saves. */
nk_status nk_image_check(struct nk_image *image, struct nk_image_info *newest,
                         uint32_t *generations, char message[256]);

/* Load each of the same into a home, and look at every noun. After a check that
 * found all well; not on an image that was loaded. */
nk_status nk_image_check_nouns(struct nk_image *image, char message[256]);

#endif
