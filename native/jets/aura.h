/* What printing and reading atoms share: bases, dates, UTF-8. */
#ifndef NK_JETS_AURA_H
#define NK_JETS_AURA_H

#include "sample.h"

/* The bases of @u that are powers of two, and their digits between dots. */
struct nk_base {
    unsigned char letter;
    unsigned bits, group;
};

/* NULL: none has this letter. */
static inline const struct nk_base *nk_base_of(unsigned char letter) {
    static const struct nk_base bases[] = {
        {'b', 1, 4}, {'x', 4, 4}, {'v', 5, 5}, {'w', 6, 5}};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        if (bases[i].letter == letter) return &bases[i];
    }
    return NULL;
}

/* Years count from the one that is written 1-, this many before it. */
#define NK_YEAR_ZERO 292277024400ull

struct nk_date {
    uint64_t year;
    unsigned month, day; /* from 1 */
};

static inline const unsigned *nk_months(bool leap) {
    static const unsigned months[2][12] = {
        {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31},
        {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}};
    return months[leap];
}

static inline bool nk_is_leap(uint64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days before 1 January of [year]: year 0 is a leap year. */
static inline unsigned __int128 nk_days_before(uint64_t year) {
    if (year == 0) return 0;
    uint64_t last = year - 1;
    return (unsigned __int128)year * 365 + last / 4 - last / 100 + last / 400 + 1;
}

/* ++  yall: the date of a day. */
static inline struct nk_date nk_date_of(uint64_t day) {
    uint64_t year = day / 146097 * 400;
    unsigned rest = (unsigned)(day % 146097);
    unsigned __int128 start = nk_days_before(year);
    /* The year of a day is at most one less than this. */
    year += rest / 365;
    while (nk_days_before(year) - start > rest)
        year--;
    rest -= (unsigned)(nk_days_before(year) - start);
    const unsigned *months = nk_months(nk_is_leap(year));
    struct nk_date date = {year, 1, 0};
    for (; rest >= months[date.month - 1]; date.month++)
        rest -= months[date.month - 1];
    date.day = rest + 1;
    return date;
}

/* What four bytes of UTF-8 can hold. */
#define NK_CHARACTER_MAX 0x1fffffu

/* A code point as UTF-8; zero is no bytes. */
static inline size_t nk_character_put(uint32_t c, unsigned char *out) {
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return c != 0;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (unsigned char)((0xff00u >> (more + 1) & 0xff) | c >> (6 * more));
    for (size_t i = 1; i <= more; i++)
        out[i] = (unsigned char)(0x80 | (c >> (6 * (more - i)) & 0x3f));
    return more + 1;
}

/* The character at [*at], which moves on. NK_EXIT for control characters,
 * NK_PUNT for what is not UTF-8 in its shortest form. */
static inline nk_status nk_character_next(const unsigned char *bytes, size_t count,
                                          size_t *at, uint32_t *character) {
    unsigned char first = bytes[(*at)++];
    *character = first;
    if (first < 0x80) return first >= 32 || first == '\n' ? NK_OK : NK_EXIT;
    static const uint32_t least[] = {0x80, 0x800, 0x10000};
    size_t more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    if (first < 0xc0 || first >= 0xf8 || more > count - *at) return NK_PUNT;
    uint32_t value = first & (0x3fu >> more);
    for (size_t i = 0; i < more; i++) {
        if (bytes[*at] >> 6 != 2) return NK_PUNT;
        value = value << 6 | (bytes[(*at)++] & 0x3f);
    }
    *character = value;
    return value < least[more - 1] ? NK_PUNT : NK_OK;
}

#endif
