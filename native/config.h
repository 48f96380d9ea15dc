/* Sizes, limits and switches of the noun machine, each with its reason.
 *
 * Owns: nothing. Every number that another unit would be tempted to bury
 * in its middle lives here, so that `NK_TINY` can shrink them all and give
 * rare paths a chance to run.
 */
#ifndef NK_CONFIG_H
#define NK_CONFIG_H

/* Durable pages: also the unit of dirtiness and of the image's slots. */
#define NK_PAGE_SIZE 16384u
#define NK_PAGE_WORDS (NK_PAGE_SIZE / 8u)

/* Address space, reserved and not committed. Overridable at run time. */
#ifndef NK_TINY
#define NK_HOME_SIZE_DEFAULT (16ull << 30)
#define NK_NURSERY_SIZE_DEFAULT (2ull << 30)
/* The young part of the nursery: near the last-level cache's size. */
#define NK_NURSERY_YOUNG_SIZE (4u << 20)
#else
#define NK_HOME_SIZE_DEFAULT (256ull << 20)
#define NK_NURSERY_SIZE_DEFAULT (64ull << 20)
#define NK_NURSERY_YOUNG_SIZE (16u << 10)
#endif
/* The young part may grow to this many times its size when most of it
 * survives, or to a quarter of what is live. */
#define NK_NURSERY_YOUNG_GROWTH_MAX 4u

#endif
