/* Layer qua: text as atoms (slaw). Printing them is text.c.
 *
 * Follows the Hoon's parsers: they take what they can and never go back, so
 * whatever is left over makes the whole fail (a null product). One function
 * stands for a rule: it moves the reader on, or leaves it where it was.
 *
 * Declined: blobs and lists; white space where numbers are wrapped; dates and
 * characters that crash, numbers of more than 18 digits in dates, powers of ten
 * beyond any float's; and what two kelvins read differently. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../big.h"
#include "../cord.h"
#include "aura.h"
#include "base58.h"
#include "floats.h"
#include "names.h"

struct reader {
    const unsigned char *text; /* a zero follows */
    size_t size, at;
    struct nk_arena *arena;
    nk_noun kelvin;
    nk_status status; /* not NK_OK: no answer, stop */
};

static unsigned char next(const struct reader *r) {
    return r->at < r->size ? r->text[r->at] : 0;
}

static bool starts(const struct reader *r, const char *word) {
    size_t length = strlen(word);
    return r->size - r->at >= length && memcmp(r->text + r->at, word, length) == 0;
}

static bool eat(struct reader *r, const char *word) {
    if (!starts(r, word)) return false;
    r->at += strlen(word);
    return true;
}

static bool refuse(struct reader *r) {
    r->status = NK_PUNT;
    return false;
}

static bool answer(struct reader *r, nk_noun noun, nk_noun *out) {
    *out = noun;
    if (noun == NK_NONE) r->status = NK_MEME;
    return noun != NK_NONE;
}

/* A separator within a number: white space and comments may follow it. */
static bool eat_separator(struct reader *r, const char *separator) {
    if (!eat(r, separator)) return false;
    unsigned char c = next(r);
    return c == ' ' || c == '\n' || c == ':' ? refuse(r) : true;
}

/* ---- digits ---- */

/* Of bases up to 64; 64: none. */
static unsigned digit_of(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10u;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 36u;
    return c == '-' ? 62 : c == '~' ? 63 : 64;
}

/* The digits that were read, one in a byte, the highest first. */
struct digits {
    unsigned char *data;
    size_t count;
};

static bool eat_digit(struct reader *r, unsigned base, struct digits *digits) {
    unsigned digit = digit_of(next(r));
    if (r->at == r->size || digit >= base) return false;
    digits->data[digits->count++] = (unsigned char)digit;
    r->at++;
    return true;
}

/* The atom of digits in base 10, 58 or a power of two. */
static bool number_of(struct reader *r, unsigned base, const struct digits *digits,
                      nk_noun *out) {
    bool is_power = (base & (base - 1)) == 0;
    size_t bits = is_power ? (size_t)__builtin_ctz(base) : base == 10 ? 4 : 6;
    size_t words = digits->count * bits / 64 + 2;
    uint64_t mark = r->arena->top, *data = nk_atom_begin(r->arena, words);
    if (data == NULL) return answer(r, NK_NONE, out);
    if (!is_power && digits->count > 0) {
        nk_status status =
            nk_big_read(r->arena, data, words, (int)base, digits->data, digits->count);
        if (status != NK_OK) {
            r->arena->top = mark;
            r->status = status;
            return false;
        }
    } else {
        for (size_t i = 0; i < digits->count; i++) {
            uint64_t digit = digits->data[digits->count - 1 - i];
            nk_bits_copy(data, i * bits, (struct nk_words){&digit, 1}, 0, bits);
        }
    }
    return answer(r, nk_atom_finish(r->arena, data, words), out);
}

/* The first group of what is not 0: one to [group] digits, and not 0 the first.
 * In base 16 the Hoon takes capitals there, after the first. */
static bool eat_first_group(struct reader *r, unsigned base, size_t group,
                            struct digits *digits) {
    if (next(r) == '0' || !eat_digit(r, base, digits)) return false;
    while (digits->count < group) {
        unsigned char c = next(r);
        if (base == 16 && c >= 'A' && c <= 'F') {
            digits->data[digits->count++] = (unsigned char)(c - 'A' + 10);
            r->at++;
        } else if (!eat_digit(r, base, digits)) {
            break;
        }
    }
    return true;
}

/* Exactly [count] digits, or none. */
static bool eat_group(struct reader *r, unsigned base, size_t count,
                      struct digits *digits) {
    size_t at = r->at, before = digits->count;
    for (size_t i = 0; i < count; i++) {
        if (eat_digit(r, base, digits)) continue;
        r->at = at;
        digits->count = before;
        return false;
    }
    return true;
}

static bool eat_dotted_digits(struct reader *r, unsigned base, size_t group,
                              struct digits *digits) {
    if (eat(r, "0")) return true;
    if (!eat_first_group(r, base, group, digits)) return false;
    size_t at = r->at;
    while (eat_separator(r, ".") && eat_group(r, base, group, digits))
        at = r->at;
    r->at = at;
    return true;
}

/* Base58check: a number, and its checksum in the lowest four bytes. */
static bool eat_base58(struct reader *r, nk_noun *out) {
    struct digits digits = {malloc(r->size + 1), 0};
    nk_noun checked;
    uint64_t scratch, sum;
    NK_ASSERT(digits.data != NULL);
    for (; nk_base58_value(next(r)) < 58; r->at++) {
        /* mpn_set_str takes no zeros at the front. */
        unsigned digit = nk_base58_value(next(r));
        if (digit != 0 || digits.count != 0)
            digits.data[digits.count++] = (unsigned char)digit;
    }
    bool found = number_of(r, 58, &digits, &checked);
    free(digits.data);
    if (!found) return false;
    nk_atom_read(r->arena, checked, &sum, sizeof sum);
    nk_status status = nk_atom_cut(r->arena, checked, 32, UINT64_MAX, out);
    if (status != NK_OK) {
        r->status = status;
        return false;
    }
    struct nk_words words = nk_atom_words(r->arena, *out, &scratch);
    return nk_base58_sum((const uint8_t *)words.data, nk_atom_size(r->arena, *out)) ==
           (uint32_t)sum;
}

/* A number in dotted groups. */
static bool eat_dotted(struct reader *r, unsigned base, size_t group, nk_noun *out) {
    struct digits digits = {malloc(r->size + 1), 0};
    NK_ASSERT(digits.data != NULL);
    bool found = eat_dotted_digits(r, base, group, &digits);
    if (found) found = number_of(r, base, &digits, out);
    free(digits.data);
    return found;
}

/* Decimal digits without dots; a leading zero stands alone, unless [zeros]. */
static bool eat_decimal(struct reader *r, bool zeros, nk_noun *out) {
    struct digits digits = {malloc(r->size + 1), 0};
    NK_ASSERT(digits.data != NULL);
    bool alone = !zeros && next(r) == '0';
    while (eat_digit(r, 10, &digits) && !alone) {
    }
    bool found = digits.count > 0 && number_of(r, 10, &digits, out);
    free(digits.data);
    return found;
}

/* The same, of a small number. */
static bool eat_small(struct reader *r, bool zeros, uint64_t *out) {
    size_t start = r->at;
    nk_noun number;
    if (!eat_decimal(r, zeros, &number)) return false;
    if (r->at - start > 18) return refuse(r);
    *out = number;
    return true;
}

/* ---- dates ---- */

typedef unsigned __int128 wide;

/* A fraction of a second, if any: dots and groups of four hex digits. */
static bool eat_fraction(struct reader *r, uint64_t *fraction) {
    size_t at = r->at;
    unsigned char data[4];
    struct digits digits = {data, 0};
    unsigned shift = 64;
    *fraction = 0;
    if (!eat(r, "..") || !eat_group(r, 16, 4, &digits)) {
        r->at = at;
        return true;
    }
    do {
        if (shift == 0) return refuse(r); /* a fifth group crashes */
        shift -= 16;
        for (size_t i = 0; i < 4; i++)
            *fraction |= (uint64_t)data[i] << (shift + 12 - 4 * i);
        digits.count = 0;
        at = r->at;
    } while (eat(r, ".") && eat_group(r, 16, 4, &digits));
    r->at = at;
    return true;
}

/* ++  yule */
static bool time_of(struct reader *r, wide seconds, uint64_t fraction, nk_noun *out) {
    uint64_t words[3] = {fraction, (uint64_t)seconds, (uint64_t)(seconds >> 64)};
    return answer(r, nk_atom_from_bytes(r->arena, words, sizeof words), out);
}

/* A month or a day: its first digit is not 0, but in 135 one may precede. */
static bool eat_padded(struct reader *r, bool month, uint64_t *out) {
    size_t at = r->at;
    bool zero = eat(r, "0");
    unsigned char first = next(r);
    if (first >= '1' && first <= '9' && r->at < r->size) {
        if (zero && r->kelvin != 135 && r->kelvin != 138) return refuse(r);
        if (!zero || r->kelvin == 135) {
            if (zero || month) {
                r->at++;
                *out = first - '0';
                unsigned char second = next(r);
                if (!zero && first == '1' && second >= '0' && second <= '2') {
                    r->at++;
                    *out = 10u + second - '0';
                }
                return true;
            }
            return eat_small(r, false, out);
        }
    }
    r->at = at;
    return false;
}

/* Hours, minutes and seconds, if any, with a fraction. */
static bool eat_clock(struct reader *r, wide *seconds, uint64_t *fraction) {
    size_t at = r->at;
    uint64_t hours, minutes, rest;
    *seconds = *fraction = 0;
    if (eat(r, "..") && eat_small(r, true, &hours) && eat(r, ".") &&
        eat_small(r, true, &minutes) && eat(r, ".") && eat_small(r, true, &rest)) {
        *seconds = (wide)hours * 3600 + (wide)minutes * 60 + rest;
        return eat_fraction(r, fraction);
    }
    r->at = at;
    return r->status == NK_OK;
}

static bool eat_date(struct reader *r, nk_noun *out) {
    size_t at = r->at;
    uint64_t year, month, day, fraction;
    wide seconds;
    if (!eat_small(r, false, &year)) return false;
    bool before = eat(r, "-");
    if (!eat(r, ".") || !eat_padded(r, true, &month) || !eat(r, ".") ||
        !eat_padded(r, false, &day)) {
        r->at = at;
        return false;
    }
    if (!eat_clock(r, &seconds, &fraction)) return false;
    if (before && (year == 0 || year - 1 > NK_YEAR_ZERO)) return refuse(r);
    year = before ? NK_YEAR_ZERO - (year - 1) : NK_YEAR_ZERO + year;
    wide days = nk_days_before(year) + (day - 1);
    for (unsigned i = 0; i + 1 < month; i++)
        days += nk_months(nk_is_leap(year))[i];
    return time_of(r, days * 86400 + seconds, fraction, out);
}

/* @dr: days, hours, minutes and seconds in any order, any of them often. */
static bool eat_span(struct reader *r, nk_noun *out) {
    size_t start = r->at, at = start;
    wide seconds = 0;
    do {
        unsigned char unit = next(r);
        uint64_t size = unit == 'd'   ? 86400
                        : unit == 'h' ? 3600
                        : unit == 'm' ? 60
                        : unit == 's' ? 1
                                      : 0,
                 count;
        if (size == 0) break;
        r->at++;
        if (!eat_small(r, false, &count)) break;
        seconds += (wide)count * size;
        at = r->at;
    } while (eat(r, "."));
    r->at = at;
    if (at == start || r->status != NK_OK) return false;
    uint64_t fraction;
    return eat_fraction(r, &fraction) && time_of(r, seconds, fraction, out);
}

/* ---- names ---- */

static bool eat_syllable(struct reader *r, bool prefix, unsigned *byte) {
    int found = r->size - r->at < 3 ? -1 : nk_syllable_byte(prefix, r->text + r->at);
    if (found < 0) return false;
    r->at += 3;
    *byte = (unsigned)found;
    return true;
}

/* Two syllables. */
static bool eat_word(struct reader *r, uint16_t *word) {
    size_t at = r->at;
    unsigned high, low;
    if (eat_syllable(r, true, &high) && eat_syllable(r, false, &low)) {
        *word = (uint16_t)(high << 8 | low);
        return true;
    }
    r->at = at;
    return false;
}

/* Words behind single dashes, up to [max] of them. */
static size_t eat_words(struct reader *r, size_t max, uint16_t *words) {
    size_t count = 0;
    for (size_t at = r->at; count < max; at = r->at) {
        if (!eat(r, "-") || !eat_word(r, &words[count])) {
            r->at = at;
            break;
        }
        count++;
    }
    return count;
}

/* Words, the highest first, as an atom. */
static bool words_noun(struct reader *r, const uint16_t *words, size_t count,
                       nk_noun *out) {
    uint64_t *data = nk_atom_begin(r->arena, count / 4 + 1);
    if (data == NULL) return answer(r, NK_NONE, out);
    for (size_t i = 0; i < count; i++)
        data[i / 4] |= (uint64_t)words[count - 1 - i] << (i % 4 * 16);
    return answer(r, nk_atom_finish(r->arena, data, count / 4 + 1), out);
}

/* Up to four words, and behind double dashes any number of fours: the names
 * of comets, and longer ones. */
static size_t eat_ship_words(struct reader *r, uint16_t *words) {
    size_t count = 1 + eat_words(r, 3, words + 1), at = r->at;
    while (eat_separator(r, "--")) {
        if (!eat_word(r, words + count) || eat_words(r, 3, words + count + 1) != 3)
            break;
        count += 4;
        at = r->at;
    }
    r->at = at;
    return count;
}

static bool eat_ship(struct reader *r, nk_noun *out) {
    unsigned byte;
    size_t start = r->at, count = 0;
    uint16_t *words = malloc((r->size / 6 + 8) * sizeof *words);
    NK_ASSERT(words != NULL);
    if (eat_word(r, words)) {
        /* A star may not be ~doz...; what is longer begins with no zero. */
        if (words[0] != 0) count = eat_ship_words(r, words);
        if (count == 1 && words[0] < 256) count = 0;
    }
    bool found = false;
    if (r->status == NK_OK && count > 4) {
        found = words_noun(r, words, count, out);
    } else if (r->status == NK_OK && count > 0) {
        uint64_t ship = 0;
        for (size_t i = 0; i < count; i++)
            ship = ship << 16 | words[i];
        found = answer(r, nk_atom_from_u64(r->arena, nk_ship_restore(ship)), out);
    } else if (r->status == NK_OK) {
        r->at = start;
        found = eat_syllable(r, false, &byte) && answer(r, byte, out);
    }
    free(words);
    return found;
}

/* @q: a suffix or a word, then words. */
static bool eat_phonetic(struct reader *r, nk_noun *out) {
    unsigned byte;
    uint16_t *words = malloc((r->size / 6 + 8) * sizeof *words);
    NK_ASSERT(words != NULL);
    size_t count = 0;
    if (eat_word(r, words)) {
        count = 1;
    } else if (eat_syllable(r, false, &byte)) {
        words[count++] = (uint16_t)byte;
    }
    size_t at = r->at;
    while (count > 0 && eat_separator(r, "-") && eat_word(r, words + count)) {
        count++;
        at = r->at;
    }
    r->at = at;
    bool found = count > 0 && r->status == NK_OK && words_noun(r, words, count, out);
    free(words);
    return found;
}

/* ---- characters ---- */

static bool is_lower(unsigned char c) {
    return c >= 'a' && c <= 'z';
}
static bool is_numeral(unsigned char c) {
    return c >= '0' && c <= '9';
}
static bool is_in(unsigned char c, const char *others) {
    return is_lower(c) || is_numeral(c) || (c != 0 && strchr(others, c) != NULL);
}

static bool eat_characters(struct reader *r, const char *others, nk_noun *out) {
    size_t start = r->at;
    while (r->at < r->size && is_in(next(r), others))
        r->at++;
    return answer(r, nk_atom_from_bytes(r->arena, r->text + start, r->at - start), out);
}

static bool eat_term(struct reader *r, nk_noun *out) {
    return is_lower(next(r)) && eat_characters(r, "-", out);
}

static bool eat_knot(struct reader *r, nk_noun *out) {
    return eat_characters(r, "-.~_", out);
}

/* ~hex. within @t. */
static bool eat_escape(struct reader *r, uint32_t *character) {
    size_t at = r->at + 1;
    uint32_t value = 0;
    for (; at < r->size; at++) {
        unsigned char c = r->text[at];
        unsigned digit = c >= 'A' && c <= 'F' ? c - 'A' + 10u : digit_of(c);
        if (digit >= 16) break;
        if (value >> 17 != 0) return refuse(r); /* more than Unicode has */
        value = value << 4 | digit;
    }
    if (at < r->size && r->text[at] == '\\') return refuse(r); /* wrapped */
    if (at == r->at + 1 || at == r->size || r->text[at] != '.') return false;
    *character = value;
    r->at = at + 1;
    return true;
}

/* As UTF-8; the caller frees it. */
static unsigned char *eat_escaped(struct reader *r, size_t *count) {
    unsigned char *bytes = malloc(r->size * 2 + 4);
    NK_ASSERT(bytes != NULL);
    *count = 0;
    while (r->at < r->size) {
        unsigned char c = next(r);
        uint32_t character;
        if (is_in(c, "-_")) {
            bytes[(*count)++] = c;
            r->at++;
        } else if (c == '.') {
            bytes[(*count)++] = ' ';
            r->at++;
        } else if (c == '~' && eat_escape(r, &character)) {
            *count += nk_character_put(character, bytes + *count);
        } else if (r->status == NK_OK && (starts(r, "~~") || starts(r, "~."))) {
            bytes[(*count)++] = r->text[r->at + 1];
            r->at += 2;
        } else {
            break;
        }
    }
    return bytes;
}

static bool eat_text(struct reader *r, nk_noun *out) {
    size_t count;
    unsigned char *bytes = eat_escaped(r, &count);
    bool found = r->status == NK_OK &&
                 answer(r, nk_atom_from_bytes(r->arena, bytes, count), out);
    free(bytes);
    return found;
}

/* @c: the same, in 32 bits a character. */
static bool eat_code_points(struct reader *r, nk_noun *out) {
    size_t count, made = 0;
    unsigned char *bytes = eat_escaped(r, &count);
    uint32_t *characters = malloc(count * sizeof *characters + 1);
    NK_ASSERT(characters != NULL);
    for (size_t at = 0; at < count && r->status == NK_OK; made++) {
        if (nk_character_next(bytes, count, &at, &characters[made]) != NK_OK)
            (void)refuse(r);
    }
    bool found =
        r->status == NK_OK &&
        answer(r, nk_atom_from_bytes(r->arena, characters, made * sizeof *characters),
               out);
    free(characters);
    free(bytes);
    return found;
}

/* ---- floats ---- */

/* Beyond this Hoon's powers of five are very large. */
#define EXPONENT_MAX 100000

static void eat_numerals(struct reader *r) {
    while (is_numeral(next(r)))
        r->at++;
}

/* ++  dim: a zero stands alone. */
static bool eat_whole(struct reader *r) {
    if (eat(r, "0")) return true;
    if (!is_numeral(next(r))) return false;
    eat_numerals(r);
    return true;
}

/* Digits behind the sign, as mpfr has them: 1.5e3 is 15e2. Moves the reader on
 * by as much as belongs to the number. The caller frees it; NULL: there is none. */
static char *eat_digits_of_float(struct reader *r) {
    size_t whole = r->at, point, end;
    if (!eat_whole(r)) return NULL;
    point = end = r->at;
    if (eat(r, ".") && is_numeral(next(r))) {
        eat_numerals(r);
        end = r->at;
    }
    r->at = end;
    long exponent = 0;
    bool below = false;
    if (eat(r, "e")) {
        below = eat(r, "-");
        size_t at = r->at;
        if (!eat_whole(r)) {
            r->at = end;
        } else if (r->at - at > 9) {
            return refuse(r), NULL;
        } else {
            exponent = strtol((const char *)r->text + at, NULL, 10);
        }
    }
    size_t fraction = end == point ? 0 : end - point - 1;
    exponent = (below ? -exponent : exponent) - (long)fraction;
    if (exponent > EXPONENT_MAX || exponent < -EXPONENT_MAX) return refuse(r), NULL;
    char *decimal = malloc(end - whole + 16), *at = decimal;
    NK_ASSERT(decimal != NULL);
    memcpy(at, r->text + whole, point - whole);
    at += point - whole;
    memcpy(at, r->text + end - fraction, fraction);
    at += fraction;
    (void)snprintf(at, 16, "e%ld", exponent);
    return decimal;
}

/* ++  royl-rn, and what it is in a format. */
static bool eat_float_as(struct reader *r, unsigned char form, nk_noun *out) {
    size_t start = r->at;
    uint64_t words[2];
    bool minus = eat(r, "-");
    char *decimal = eat_digits_of_float(r);
    if (r->status != NK_OK) return false;
    const char *name = NULL;
    if (decimal == NULL && eat(r, "inf")) name = "inf";
    if (decimal == NULL && name == NULL) {
        minus = false;
        r->at = start;
        if (!eat(r, "nan")) return false;
        name = "nan";
    }
    nk_float_read(form, minus, name != NULL ? name : decimal, words);
    free(decimal);
    return answer(r, nk_atom_from_bytes(r->arena, words, sizeof words), out);
}

/* ---- any atom ---- */

/* What was read: an aura and an atom. */
struct dime {
    nk_noun aura, atom;
};

static bool labelled(struct dime *dime, nk_noun aura, bool found) {
    dime->aura = aura;
    return found;
}

/* @u. What is none of the bases is the number 0, and something left over. */
static bool eat_unsigned(struct reader *r, struct dime *dime) {
    size_t at = r->at;
    unsigned char letter = 'd';
    bool found = false;
    if (eat(r, "0")) {
        letter = next(r);
        r->at++;
        const struct nk_base *base = nk_base_of(letter);
        if (base != NULL) {
            found = eat_dotted(r, 1u << base->bits, base->group, &dime->atom);
        } else if (letter == 'c') {
            found = eat_base58(r, &dime->atom);
        } else {
            found = letter == 'i' && eat_decimal(r, false, &dime->atom);
        }
    }
    if (!found) {
        r->at = at;
        letter = 'd';
        found = eat_dotted(r, 10, 3, &dime->atom);
    }
    return labelled(dime, NK_CORD_2('u', letter), found && r->status == NK_OK);
}

/* @s: behind a dash, or two where it is positive. */
static bool eat_signed(struct reader *r, struct dime *dime) {
    bool plus = eat(r, "--");
    if (!plus && !eat(r, "-")) return false;
    if (!eat_unsigned(r, dime)) return false;
    dime->aura = (dime->aura & ~(nk_noun)0xff) | 's';
    nk_noun atom = dime->atom;
    nk_status status = nk_atom_shift_left(r->arena, atom, 1, &atom);
    if (status == NK_OK && !plus && atom != 0) {
        status = nk_atom_subtract(r->arena, atom, 1, &atom);
    }
    dime->atom = atom;
    if (status != NK_OK) r->status = status;
    return status == NK_OK;
}

/* Behind a dot: [count] groups, each 0 or of up to [group] digits. Groups add
 * up, though each may be larger than its place. */
static bool eat_address(struct reader *r, unsigned base, size_t group, size_t count,
                        unsigned bits, nk_noun *out) {
    size_t start = r->at;
    wide value = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned char data[4];
        struct digits digits = {data, 0};
        uint64_t piece = 0;
        if ((i > 0 && !eat_separator(r, ".")) ||
            (!eat(r, "0") && !eat_first_group(r, base, group, &digits))) {
            r->at = start;
            return false;
        }
        for (size_t j = 0; j < digits.count; j++)
            piece = piece * base + data[j];
        value = (value << bits) + piece;
    }
    uint64_t words[2] = {(uint64_t)value, (uint64_t)(value >> 64)};
    return answer(r, nk_atom_from_bytes(r->arena, words, sizeof words), out);
}

/* Behind a dot: by their tildes. */
static bool eat_float(struct reader *r, struct dime *dime) {
    static const struct {
        const char *tildes;
        unsigned char form;
    } forms[] = {{"~~", 'h'}, {"~~~", 'q'}, {"~", 'd'}, {"", 's'}};
    size_t start = r->at;
    for (size_t i = 0; i < sizeof forms / sizeof *forms && r->status == NK_OK; i++) {
        if (eat(r, forms[i].tildes) && eat_float_as(r, forms[i].form, &dime->atom)) {
            return labelled(dime, NK_CORD_2('r', forms[i].form), true);
        }
        r->at = start;
    }
    return false;
}

/* Behind a dot: addresses, floats, loobeans, phonetic names. */
static bool eat_dot(struct reader *r, struct dime *dime) {
    nk_noun *atom = &dime->atom;
    if (eat_address(r, 16, 4, 8, 16, atom)) {
        return labelled(dime, NK_CORD_2('i', 's'), true);
    }
    if (r->status == NK_OK && eat_address(r, 10, 3, 4, 8, atom)) {
        return labelled(dime, NK_CORD_2('i', 'f'), true);
    }
    if (r->status != NK_OK) return false;
    if (eat_float(r, dime)) return true;
    if (starts(r, "_")) return refuse(r); /* a list */
    if (r->status != NK_OK) return false;
    if (eat(r, "~")) return labelled(dime, 'q', eat_phonetic(r, atom));
    *atom = next(r) == 'n';
    return labelled(dime, 'f', eat(r, "y") || eat(r, "n"));
}

/* Behind a tilde: dates, ships, text; nothing at all is @n. */
static bool eat_sig(struct reader *r, struct dime *dime) {
    nk_noun *atom = &dime->atom;
    if (starts(r, "0")) return refuse(r); /* a blob */
    if (eat_date(r, atom)) return labelled(dime, NK_CORD_2('d', 'a'), true);
    if (r->status == NK_OK && eat_span(r, atom)) {
        return labelled(dime, NK_CORD_2('d', 'r'), true);
    }
    if (r->status == NK_OK && eat_ship(r, atom)) return labelled(dime, 'p', true);
    if (r->status != NK_OK) return false;
    if (eat(r, ".")) return labelled(dime, NK_CORD_2('t', 'a'), eat_knot(r, atom));
    if (eat(r, "~")) return labelled(dime, 't', eat_text(r, atom));
    if (eat(r, "-")) return labelled(dime, 'c', eat_code_points(r, atom));
    *atom = 0;
    return labelled(dime, 'n', true);
}

/* ++  nuck:so, of what is one atom. */
static bool eat_any(struct reader *r, struct dime *dime) {
    unsigned char first = next(r);
    if (is_lower(first)) {
        return labelled(dime, NK_CORD_3('t', 'a', 's'), eat_term(r, &dime->atom));
    }
    if (is_numeral(first)) return eat_unsigned(r, dime);
    if (first == '-') return eat_signed(r, dime);
    if (eat(r, ".")) return eat_dot(r, dime);
    return eat(r, "~") && eat_sig(r, dime);
}

/* ++  slaw: some auras have a parser of their own; the others take whatever
 * atom is there, and it must be of that very aura. */
static bool eat_aura(struct reader *r, nk_noun aura, nk_noun *out) {
    struct dime dime;
    switch (aura) {
    case NK_CORD_2('d', 'a'):
        return eat(r, "~") && eat_date(r, out);
    case 'p':
        return eat(r, "~") && eat_ship(r, out);
    case NK_CORD_2('u', 'd'):
        return eat_dotted(r, 10, 3, out);
    case NK_CORD_2('u', 'x'):
        return eat(r, "0x") && eat_dotted(r, 16, 4, out);
    case NK_CORD_2('u', 'v'):
        return eat(r, "0v") && eat_dotted(r, 32, 5, out);
    case NK_CORD_2('t', 'a'):
        return eat(r, "~.") && eat_knot(r, out);
    case NK_CORD_3('t', 'a', 's'):
        return eat_term(r, out);
    default:
        if (!eat_any(r, &dime)) return false;
        *out = dime.atom;
        return dime.aura == aura;
    }
}

static nk_status jet_slaw(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun aura, text, atom, kelvin = nk_kelvin(machine, core);
    if (kelvin == 0 || !nk_sample_atoms(machine, core, &aura, &text)) return NK_PUNT;
    size_t size = nk_atom_size(arena, text);
    unsigned char *bytes = malloc(size + 1);
    NK_ASSERT(bytes != NULL);
    nk_atom_read(arena, text, bytes, size + 1);
    struct reader r = {bytes, size, 0, arena, kelvin, NK_OK};
    bool found = eat_aura(&r, aura, &atom) && r.at == r.size;
    free(bytes);
    if (r.status != NK_OK) return r.status;
    return nk_answer(found ? nk_cons_try(arena, 0, atom) : 0, product);
}

const struct nk_arm nk_arms_scan[] = {NK_ARM("qua/slaw", jet_slaw), NK_ARMS_END};
