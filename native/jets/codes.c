/* Layer hex: checksums, hexadecimal, lines, and the longest common subsequence.
 *
 * Octets are [size data], the first byte lowest. What would take Nock more
 * room or time than there is (a size beyond SIZE_MAX_OCTETS) declines, and so
 * do cells where atoms belong and lists that do not end in 0. */
#include <stdlib.h>
#include <string.h>

#include "../mug.h"
#include "octets.h"

#define SIZE_MAX_OCTETS (1ull << 28)

static bool octets(const struct nk_machine *machine, nk_noun core, uint64_t *size,
                   struct nk_octets *bytes) {
    nk_noun p, q;
    if (!nk_sample_atoms(machine, core, &p, &q) || p > SIZE_MAX_OCTETS) return false;
    *size = p;
    nk_octets_of(&machine->arena, q, bytes);
    return true;
}

/* ++  crc32: of all bytes, which must not be more than the size says. */
static nk_status jet_crc32(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    uint64_t size;
    struct nk_octets bytes;
    uint32_t table[16], sum = 0xffffffffu;
    if (!octets(machine, core, &size, &bytes)) return NK_PUNT;
    if (size == 0) return nk_answer(0, product);
    if (bytes.size > size) return NK_EXIT;
    for (uint32_t i = 0; i < 16; i++) {
        table[i] = i;
        for (int step = 0; step < 4; step++)
            table[i] = table[i] >> 1 ^ ((table[i] & 1) != 0 ? 0xedb88320u : 0);
    }
    for (uint64_t i = 0; i < size; i++) {
        sum ^= nk_octet_at(&bytes, i);
        sum = sum >> 4 ^ table[sum & 15];
        sum = sum >> 4 ^ table[sum & 15];
    }
    return nk_answer(sum ^ 0xffffffffu, product);
}

/* ++  adler32: of as many bytes as the size says. */
static nk_status jet_adler32(struct nk_machine *machine, nk_noun core,
                             nk_noun *product) {
    uint64_t size;
    struct nk_octets bytes;
    uint32_t low = 1, high = 0;
    if (!octets(machine, core, &size, &bytes)) return NK_PUNT;
    for (uint64_t i = 0; i < size; i++) {
        low = (low + nk_octet_at(&bytes, i)) % 65521;
        high = (high + low) % 65521;
    }
    return nk_answer((nk_noun)high << 16 | low, product);
}

/* ---- base16 ---- */

/* ++  en: two digits a byte, the last byte first. */
static nk_status jet_base16_en(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    uint64_t size;
    struct nk_octets bytes;
    if (!octets(machine, core, &size, &bytes)) return NK_PUNT;
    if (size == 0) return nk_answer(0, product);
    size_t words = (size_t)(size * 2 + 7) / 8;
    uint64_t *data = nk_atom_begin(&machine->arena, words);
    if (data == NULL) return NK_MEME;
    uint8_t *out = (uint8_t *)data;
    for (uint64_t i = 0; i < size; i++) {
        uint8_t byte = nk_octet_at(&bytes, size - 1 - i);
        out[2 * i] = (uint8_t)"0123456789abcdef"[byte >> 4];
        out[2 * i + 1] = (uint8_t)"0123456789abcdef"[byte & 15];
    }
    return nk_answer(nk_atom_finish(&machine->arena, data, words), product);
}

/* The value of a digit; 16 where it is none. */
static uint8_t digit_of(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return (uint8_t)(byte - '0');
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? (uint8_t)(byte - 'a' + 10) : 16;
}

/* ++  de: a unit of octets; nothing where a byte is no digit. */
static nk_status jet_base16_de(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun text, value = 0;
    struct nk_octets digits;
    if (!nk_sample(machine, core, &text) || nk_is_cell(text)) return NK_PUNT;
    nk_octets_of(arena, text, &digits);
    for (uint64_t i = 0; i < digits.size; i++) {
        if (digit_of(digits.data[i]) == 16) return nk_answer(0, product);
    }
    uint64_t size = (digits.size + 1) / 2;
    if (size > 0) {
        size_t words = (size_t)(size + 7) / 8;
        uint64_t *data = nk_atom_begin(arena, words);
        if (data == NULL) return NK_MEME;
        uint8_t *out = (uint8_t *)data;
        for (uint64_t i = 0; i < digits.size; i++) {
            uint8_t digit = digit_of(digits.data[digits.size - 1 - i]);
            out[i / 2] = (uint8_t)(out[i / 2] | digit << (i % 2 * 4));
        }
        value = nk_atom_finish(arena, data, words);
    }
    nk_noun made = nk_cons_try(arena, size, value);
    if (made == NK_NONE) return NK_MEME;
    return nk_answer(nk_cons_try(arena, 0, made), product);
}

/* ---- lines ---- */

/* The pieces of [text] between newlines up to [end], the last one first in
 * the making. */
static nk_status lines_of(struct nk_arena *arena, nk_noun text, uint64_t end,
                          nk_noun *product) {
    struct nk_octets bytes;
    nk_noun lines = 0, line;
    nk_octets_of(arena, text, &bytes);
    for (uint64_t i = end;; i--) {
        if (i > 0 && bytes.data[i - 1] != '\n') continue;
        nk_status status = nk_atom_cut(arena, text, i * 8, (end - i) * 8, &line);
        if (status != NK_OK) return status;
        lines = nk_cons_try(arena, line, lines);
        if (lines == NK_NONE) return NK_MEME;
        if (i == 0) break;
        end = i - 1;
    }
    return nk_answer(lines, product);
}

/* ++  leer: the pieces between newlines; none of an empty text. */
static nk_status jet_leer(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    nk_noun text;
    if (!nk_sample(machine, core, &text) || nk_is_cell(text)) return NK_PUNT;
    if (text == 0) return nk_answer(0, product);
    return lines_of(&machine->arena, text, nk_atom_size(&machine->arena, text),
                    product);
}

/* ++  lune: each line ends in a newline; where the last one does not, Nock
 * says so and crashes. */
static nk_status jet_lune(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun text;
    struct nk_octets bytes;
    if (!nk_sample(machine, core, &text) || nk_is_cell(text)) return NK_PUNT;
    if (text == 0) return nk_answer(0, product);
    nk_octets_of(arena, text, &bytes);
    if (bytes.data[bytes.size - 1] != '\n') return NK_PUNT;
    return lines_of(arena, text, bytes.size - 1, product);
}

/* ---- loss: the longest common subsequence ---- */

#define NO_INDEX UINT32_MAX
#define STEPS_MAX (1u << 27)

/* A common subsequence: its last item's place in the second list, and the
 * rest of it. */
struct step {
    uint32_t place, before;
};

struct loss {
    struct nk_arena *arena;
    const nk_noun *items; /* of the second list */
    uint32_t *buckets;    /* by mug: the first place of an item */
    uint32_t mask;
    uint32_t *next; /* the next place of an equal item */
    uint32_t *best; /* of each length less one: the step that ends first */
    uint32_t length;
    struct step *steps;
    uint32_t step_count, step_capacity;
    uint32_t *found; /* one merge's new steps: (length less one, place) */
};

static uint32_t *bucket_of(const struct loss *loss, nk_noun item) {
    uint32_t at = nk_mug(loss->arena, item) & loss->mask;
    while (loss->buckets[at] != NO_INDEX &&
           !nk_equal(loss->arena, loss->items[loss->buckets[at]], item))
        at = (at + 1) & loss->mask;
    return &loss->buckets[at];
}

/* Extend by an item that stands at [place] and its successors. False where
 * that takes too many steps. */
static bool merge(struct loss *loss, uint32_t place) {
    uint32_t index = 0, count = 0;
    while (place != NO_INDEX && index <= loss->length) {
        if (index > 0 && place <= loss->steps[loss->best[index - 1]].place) {
            place = loss->next[place];
        } else if (index < loss->length &&
                   place >= loss->steps[loss->best[index]].place) {
            index++;
        } else {
            loss->found[2 * count] = index++;
            loss->found[2 * count + 1] = place;
            place = loss->next[place];
            count++;
        }
    }
    /* From the longest one down, so that each is built on the old ones. */
    while (count-- > 0) {
        index = loss->found[2 * count];
        if (loss->step_count == loss->step_capacity) {
            if (loss->step_count == STEPS_MAX) return false;
            loss->step_capacity = loss->step_capacity * 2 + 64;
            loss->steps =
                realloc(loss->steps, loss->step_capacity * sizeof *loss->steps);
            NK_ASSERT(loss->steps != NULL);
        }
        uint32_t before = index == 0 ? NO_INDEX : loss->best[index - 1];
        loss->steps[loss->step_count] =
            (struct step){loss->found[2 * count + 1], before};
        loss->best[index] = loss->step_count++;
        if (index == loss->length) loss->length++;
    }
    return true;
}

static void *array(size_t count, size_t size) {
    void *made = malloc((count + 1) * size);
    NK_ASSERT(made != NULL);
    return made;
}

static nk_status jet_loss(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun a, b, result = 0;
    uint64_t count = 0;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    nk_noun l = a;
    while (nk_is_cell(l))
        l = nk_tail(arena, l);
    if (l != 0) return NK_PUNT;
    for (l = b; nk_is_cell(l); l = nk_tail(arena, l))
        count++;
    if (l != 0 || count >= STEPS_MAX) return NK_PUNT;
    nk_noun *items = array(count, sizeof *items);
    struct loss loss = {.arena = arena, .items = items};
    loss.mask = 15;
    while (loss.mask < 2 * count)
        loss.mask = loss.mask * 2 + 1;
    loss.buckets = array(loss.mask, sizeof *loss.buckets);
    memset(loss.buckets, 0xff, ((size_t)loss.mask + 1) * sizeof *loss.buckets);
    loss.next = array(count, sizeof *loss.next);
    loss.best = array(count, sizeof *loss.best);
    loss.found = array(count, 2 * sizeof *loss.found);
    count = 0;
    for (l = b; l != 0; l = nk_tail(arena, l))
        items[count++] = nk_head(arena, l);
    while (count-- > 0) {
        uint32_t *bucket = bucket_of(&loss, items[count]);
        loss.next[count] = *bucket;
        *bucket = (uint32_t)count;
    }
    nk_status status = NK_OK;
    for (l = a; l != 0 && status == NK_OK; l = nk_tail(arena, l)) {
        if (!merge(&loss, *bucket_of(&loss, nk_head(arena, l)))) status = NK_PUNT;
    }
    if (status == NK_OK && loss.length > 0) {
        uint32_t at = loss.best[loss.length - 1];
        for (; at != NO_INDEX && result != NK_NONE; at = loss.steps[at].before)
            result = nk_cons_try(arena, items[loss.steps[at].place], result);
    }
    free(items);
    free(loss.buckets);
    free(loss.next);
    free(loss.best);
    free(loss.found);
    free(loss.steps);
    return status == NK_OK ? nk_answer(result, product) : status;
}

const struct nk_arm nk_arms_codes[] = {
    NK_ARM("hex/checksum/adler/adler32", jet_adler32),
    NK_ARM("hex/checksum/crc/crc32", jet_crc32),
    NK_ARM("hex/crc/crc32", jet_crc32),
    NK_ARM("hex/mimes/base16/de", jet_base16_de),
    NK_ARM("hex/mimes/base16/en", jet_base16_en),
    NK_ARM("hex/leer", jet_leer),
    NK_ARM("hex/loss", jet_loss),
    NK_ARM("hex/lune", jet_lune),
    NK_ARMS_END};
