/* Layer qua: atoms as text (scot, scow). Reading them is scan.c.
 *
 * Two letters of an aura choose the form; what has none is 0x and hex digits.
 * Declined: bytes that are not UTF-8 in @t, code points that no UTF-8 has in
 * @c, dates of more than 128 bits. Crashes: control characters in @t and @c.
 * The Hoon of 138 and that of 135 differ in dates only: 135 writes months and
 * days with two digits, and reads those too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../big.h"
#include "../cord.h"
#include "aura.h"
#include "base58.h"
#include "floats.h"
#include "names.h"

/* What was written so far. */
struct text {
    unsigned char *data;
    size_t count, capacity;
};

static void put(struct text *text, unsigned c) {
    if (text->count == text->capacity) {
        text->capacity = text->capacity * 2 + 64;
        text->data = realloc(text->data, text->capacity);
        NK_ASSERT(text->data != NULL);
    }
    text->data[text->count++] = (unsigned char)c;
}

static void put_all(struct text *text, const char *characters, size_t count) {
    for (size_t i = 0; i < count; i++)
        put(text, (unsigned char)characters[i]);
}

static void put_u64(struct text *text, uint64_t value, int width) {
    char digits[24];
    int count =
        snprintf(digits, sizeof digits, "%0*llu", width, (unsigned long long)value);
    put_all(text, digits, (size_t)count);
}

/* ---- numbers ---- */

/* [group]: a dot before every so many digits, counted from the end; 0: none. */
static void put_digit(struct text *text, unsigned char digit, size_t left,
                      size_t group) {
    static const char digits[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-~";
    put(text, (unsigned char)digits[digit]);
    if (group != 0 && left != 0 && left % group == 0) put(text, '.');
}

/* In base 2^bits; 0 has one digit. */
static void put_power(struct text *text, struct nk_words words, unsigned bits,
                      size_t group) {
    size_t size = words.count * 64;
    if (size > 0) size -= (size_t)__builtin_clzll(words.data[words.count - 1]);
    size_t count = size == 0 ? 1 : (size + bits - 1) / bits;
    for (size_t i = count; i-- > 0;) {
        uint64_t digit[1] = {0};
        nk_bits_copy(digit, 0, words, (uint64_t)i * bits, bits);
        put_digit(text, (unsigned char)digit[0], i, group);
    }
}

/* The values of the digits, the highest first, without zeros before them, but
 * one digit at least. The caller frees them, whatever the status. */
static nk_status digits_of(struct nk_arena *arena, struct nk_words words, int base,
                           unsigned char **digits, size_t *count) {
    size_t made = 1, zeros = 0;
    unsigned char *values = malloc(words.count * 20 + 2);
    NK_ASSERT(values != NULL);
    *digits = values;
    values[0] = 0;
    if (words.count > 0) {
        nk_status status = nk_big_print(arena, values, &made, base, words);
        if (status != NK_OK) return status;
    }
    while (zeros + 1 < made && values[zeros] == 0)
        zeros++;
    *count = made - zeros;
    memmove(values, values + zeros, *count);
    return NK_OK;
}

static nk_status put_decimal(struct text *text, struct nk_arena *arena,
                             struct nk_words words, size_t group) {
    size_t count = 0;
    unsigned char *digits;
    nk_status status = digits_of(arena, words, 10, &digits, &count);
    for (size_t i = 0; i < count; i++)
        put_digit(text, digits[i], count - 1 - i, group);
    free(digits);
    return status;
}

/* @uc: the number and behind it its checksum, in base 58. A digit of 0 for each
 * byte that it lacks to an address. */
static nk_status put_base58(struct text *text, struct nk_arena *arena,
                            struct nk_words words) {
    const uint8_t *bytes = (const uint8_t *)words.data;
    size_t size = words.count * 8, count = 0;
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    struct nk_words checked = {NULL, words.count + 1};
    uint64_t *data = calloc(checked.count, sizeof *data);
    NK_ASSERT(data != NULL);
    data[0] = nk_base58_sum(bytes, size);
    nk_bits_copy(data, 32, words, 0, (uint64_t)size * 8);
    if (data[words.count] == 0) checked.count--;
    checked.data = data;
    unsigned char *digits;
    nk_status status = digits_of(arena, checked, 58, &digits, &count);
    put_all(text, "0c", 2);
    for (size_t i = size; i < NK_BASE58_BYTES; i++)
        put(text, (unsigned char)nk_base58_digits[0]);
    for (size_t i = 0; i < count; i++)
        put(text, (unsigned char)nk_base58_digits[digits[i]]);
    free(digits);
    free(data);
    return status;
}

/* The default: 0x and digits without dots. */
static nk_status put_plain(struct text *text, struct nk_words words) {
    put_all(text, "0x", 2);
    put_power(text, words, 4, 0);
    return NK_OK;
}

/* @u: [form] is the aura's second letter. */
static nk_status put_unsigned(struct text *text, struct nk_arena *arena,
                              unsigned char form, struct nk_words words) {
    if (form == 'c') return put_base58(text, arena, words);
    const struct nk_base *base = nk_base_of(form);
    if (base != NULL || form == 'i') {
        put(text, '0');
        put(text, form);
    }
    if (base == NULL) return put_decimal(text, arena, words, form == 'i' ? 0 : 3);
    put_power(text, words, base->bits, base->group);
    return NK_OK;
}

/* @s: -- or -, and the magnitude as @u. */
static nk_status put_signed(struct text *text, struct nk_arena *arena,
                            unsigned char form, nk_noun atom) {
    bool minus = (nk_is_direct(atom) ? atom : nk_atom_at(arena, atom)->data[0]) & 1;
    nk_noun size;
    nk_status status = nk_atom_cut(arena, atom, 1, UINT64_MAX, &size);
    if (status == NK_OK && minus) status = nk_atom_increment(arena, size, &size);
    if (status != NK_OK) return status;
    uint64_t scratch;
    put_all(text, "--", minus ? 1 : 2);
    return put_unsigned(text, arena, form, nk_atom_words(arena, size, &scratch));
}

/* @r: a dot, then a tilde for double precision, two for half, three for quad. */
static void put_float(struct text *text, unsigned char form, struct nk_words words) {
    char number[NK_FLOAT_SIZE];
    uint64_t bits[2] = {words.count > 0 ? words.data[0] : 0,
                        words.count > 1 ? words.data[1] : 0};
    put_all(text, ".~~~", form == 's' ? 1 : form == 'd' ? 2 : form == 'h' ? 3 : 4);
    put_all(text, number, nk_float_print(form, bits, number));
}

/* @if: four bytes; @is: eight pieces of sixteen bits. */
static nk_status put_address(struct text *text, unsigned char form,
                             struct nk_words words) {
    if (form != 'f' && form != 's') return put_plain(text, words);
    unsigned count = form == 'f' ? 4 : 8, bits = form == 'f' ? 8 : 16;
    for (unsigned i = count; i-- > 0;) {
        uint64_t piece[1] = {0};
        char digits[8];
        nk_bits_copy(piece, 0, words, (uint64_t)i * bits, bits);
        int size = snprintf(digits, sizeof digits, form == 'f' ? ".%u" : ".%x",
                            (unsigned)piece[0]);
        put_all(text, digits, (size_t)size);
    }
    return NK_OK;
}

/* ---- time ---- */

/* The 64 bits below a second: dots and four hex digits each, as far as any
 * are not zero. */
static void put_fraction(struct text *text, uint64_t fraction) {
    if (fraction != 0) put(text, '.');
    for (; fraction != 0; fraction <<= 16) {
        char digits[8];
        (void)snprintf(digits, sizeof digits, ".%04x", (unsigned)(fraction >> 48));
        put_all(text, digits, 5);
    }
}

/* @dr. */
static void put_span(struct text *text, uint64_t seconds, uint64_t fraction) {
    static const char names[] = "dhms";
    uint64_t parts[] = {seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60,
                        seconds % 60};
    char before = '~';
    for (size_t i = 0; i < 4; i++) {
        if (parts[i] == 0) continue;
        put(text, (unsigned char)before);
        put(text, (unsigned char)names[i]);
        put_u64(text, parts[i], 1);
        before = '.';
    }
    if (seconds == 0) put_all(text, "~s0", 3);
    put_fraction(text, fraction);
}

/* @da. */
static nk_status put_date(struct text *text, nk_noun kelvin, uint64_t seconds,
                          uint64_t fraction) {
    struct nk_date date = nk_date_of(seconds / 86400);
    int width = 1;
    if (date.month < 10 || date.day < 10) {
        /* With the months' and days' zeros: as of 135. In between: who knows. */
        if (kelvin != 135 && kelvin != 138) return NK_PUNT;
        if (kelvin == 135) width = 2;
    }
    bool past = date.year > NK_YEAR_ZERO;
    put(text, '~');
    put_u64(text, past ? date.year - NK_YEAR_ZERO : NK_YEAR_ZERO - date.year + 1, 1);
    if (!past) put(text, '-');
    put(text, '.');
    put_u64(text, date.month, width);
    put(text, '.');
    put_u64(text, date.day, width);
    uint64_t of_day = seconds % 86400;
    if (of_day != 0 || fraction != 0) {
        put_all(text, "..", 2);
        put_u64(text, of_day / 3600, 2);
        put(text, '.');
        put_u64(text, of_day / 60 % 60, 2);
        put(text, '.');
        put_u64(text, of_day % 60, 2);
    }
    put_fraction(text, fraction);
    return NK_OK;
}

/* ---- names ---- */

static void put_syllable(struct text *text, bool prefix, unsigned byte) {
    put_all(text, nk_syllable(prefix, byte), 3);
}

/* @p: two syllables for sixteen bits, two dashes between groups of four. */
static void put_ship(struct text *text, struct nk_words words) {
    uint64_t low = words.count == 0 ? 0 : words.data[0];
    if (words.count <= 1) {
        low = nk_ship_conceal(low);
        words = (struct nk_words){&low, 1};
    }
    put(text, '~');
    if (words.count == 1 && low < 256) {
        put_syllable(text, false, (unsigned)low);
        return;
    }
    bool first = true;
    for (size_t i = words.count * 4; i-- > 0;) {
        unsigned piece = (unsigned)(words.data[i / 4] >> (i % 4 * 16)) & 0xffff;
        if (first && piece == 0) continue;
        if (!first) put_all(text, "--", i % 4 == 3 ? 2 : 1);
        first = false;
        put_syllable(text, true, piece >> 8);
        put_syllable(text, false, piece & 0xff);
    }
}

/* @q: bytes, from the highest; a suffix stands for each even one. */
static void put_phonetic(struct text *text, struct nk_words words) {
    size_t count = words.count * 8;
    while (count > 1 &&
           (words.data[(count - 1) / 8] >> ((count - 1) % 8 * 8) & 0xff) == 0)
        count--;
    put_all(text, ".~", 2);
    if (count == 0) put_syllable(text, false, 0);
    for (size_t i = count; i-- > 0;) {
        put_syllable(text, i % 2 != 0,
                     (unsigned)(words.data[i / 8] >> (i % 8 * 8)) & 0xff);
        if (i % 2 == 0 && i != 0) put(text, '-');
    }
}

/* ---- text ---- */

/* ++  wood: letters, digits and dashes as they are; a dot for a space; the
 * rest behind a tilde. */
static nk_status put_wood(struct text *text, const unsigned char *bytes, size_t count) {
    for (size_t at = 0; at < count;) {
        uint32_t c;
        nk_status status = nk_character_next(bytes, count, &at, &c);
        if (status != NK_OK) return status;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') {
            put(text, c);
        } else if (c == ' ') {
            put(text, '.');
        } else {
            char escape[16];
            int size = c == '.' || c == '~'
                           ? snprintf(escape, sizeof escape, "~%c", (char)c)
                           : snprintf(escape, sizeof escape, "~%x.", (unsigned)c);
            put_all(text, escape, (size_t)size);
        }
    }
    return NK_OK;
}

static nk_status put_text(struct text *text, const unsigned char *aura,
                          const unsigned char *bytes, size_t count) {
    if (aura[1] != 'a') {
        put_all(text, "~~", 2);
        return put_wood(text, bytes, count);
    }
    if (aura[2] != 's') put_all(text, "~.", 2);
    for (size_t i = 0; i < count; i++)
        put(text, bytes[i]);
    return NK_OK;
}

/* @c: characters of 32 bits; zero is none. */
static nk_status put_character(struct text *text, struct nk_words words) {
    unsigned char *bytes = malloc(words.count * 8 + 1);
    size_t count = 0;
    nk_status status = NK_OK;
    NK_ASSERT(bytes != NULL);
    for (size_t i = 0; i < words.count * 2 && status == NK_OK; i++) {
        uint32_t character = (uint32_t)(words.data[i / 2] >> (i % 2 * 32));
        if (character > NK_CHARACTER_MAX) status = NK_PUNT;
        if (status == NK_OK) count += nk_character_put(character, bytes + count);
    }
    put_all(text, "~-", 2);
    if (status == NK_OK) status = put_wood(text, bytes, count);
    free(bytes);
    return status;
}

/* ---- scot and scow ---- */

static nk_status render(struct text *text, struct nk_arena *arena, nk_noun kelvin,
                        nk_noun aura_atom, nk_noun atom) {
    unsigned char aura[3];
    uint64_t scratch;
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    nk_atom_read(arena, aura_atom, aura, sizeof aura);
    switch (aura[0]) {
    case 'c':
        return put_character(text, words);
    case 'd':
        if (aura[1] != 'a' && aura[1] != 'r') return put_plain(text, words);
        if (words.count > 2) return NK_PUNT;
        uint64_t fraction = words.count == 0 ? 0 : words.data[0];
        uint64_t seconds = words.count < 2 ? 0 : words.data[1];
        if (aura[1] == 'a') return put_date(text, kelvin, seconds, fraction);
        put_span(text, seconds, fraction);
        return NK_OK;
    case 'f':
        if (atom > 1) return put_plain(text, words);
        put_all(text, atom == 0 ? ".y" : ".n", 2);
        return NK_OK;
    case 'i':
        return put_address(text, aura[1], words);
    case 'n':
        put(text, '~');
        return NK_OK;
    case 'p':
        put_ship(text, words);
        return NK_OK;
    case 'q':
        put_phonetic(text, words);
        return NK_OK;
    case 'r':
        if (!nk_is_float(aura[1])) return put_plain(text, words);
        put_float(text, aura[1], words);
        return NK_OK;
    case 's':
        return put_signed(text, arena, aura[1], atom);
    case 't':
        return put_text(text, aura, (const unsigned char *)words.data,
                        nk_atom_size(arena, atom));
    case 'u':
        return put_unsigned(text, arena, aura[1], words);
    default:
        return put_plain(text, words);
    }
}

static nk_noun tape_of(struct nk_arena *arena, const struct text *text) {
    nk_noun tape = 0;
    for (size_t i = text->count; i-- > 0 && tape != NK_NONE;)
        tape = nk_cons_try(arena, text->data[i], tape);
    return tape;
}

/* ++  rap leaves out what is zero. */
static nk_noun cord_of(struct nk_arena *arena, struct text *text) {
    size_t count = 0;
    for (size_t i = 0; i < text->count; i++) {
        if (text->data[i] != 0) text->data[count++] = text->data[i];
    }
    return nk_atom_from_bytes(arena, text->data, count);
}

/* A tape of %ud is the same in every Hoon. (In that of some small kernels, under
 * the root a50, the arm's own Nock has no aura at all, and crashes.) */
static nk_status print(struct nk_machine *machine, nk_noun core, bool tape,
                       nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun aura, atom, kelvin = nk_kelvin(machine, core);
    if (!nk_sample_atoms(machine, core, &aura, &atom)) return NK_PUNT;
    if (kelvin == 0 && !(tape && aura == NK_CORD_2('u', 'd'))) return NK_PUNT;
    struct text text = {NULL, 0, 0};
    nk_status status = render(&text, arena, kelvin, aura, atom);
    if (status == NK_OK) {
        status =
            nk_answer(tape ? tape_of(arena, &text) : cord_of(arena, &text), product);
    }
    free(text.data);
    return status;
}
static nk_status jet_scot(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return print(machine, core, false, product);
}
static nk_status jet_scow(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    return print(machine, core, true, product);
}

const struct nk_arm nk_arms_text[] = {NK_ARM("qua/scot", jet_scot),
                                      NK_ARM("qua/scow", jet_scow), NK_ARMS_END};
