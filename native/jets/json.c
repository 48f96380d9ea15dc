/* Layer hex: JSON, `++json:html` of zuse.
 *
 * A json is 0 (null), [%a list], [%b loobean], [%n text], [%s text] or
 * [%o map]. What is none is left to Nock. Depth costs memory only.
 */
#include <stdlib.h>
#include <string.h>

#include "octets.h"
#include "treap.h"

#define POLL_STEPS (1u << 16)

/* ---- de: cord to (unit json) ---- */

/* An array or object that is being read. */
struct open {
    bool is_object;
    nk_noun key;   /* object: of the value to come */
    nk_noun whole; /* the list, or the map, so far */
    nk_noun last;  /* array: the list's last cell */
};

struct reader {
    struct nk_arena *arena;
    struct nk_octets text;
    uint64_t at;
    struct nk_bytes string;
    struct open *opened;
    size_t count, capacity;
};

static int peek(const struct reader *reader) {
    return reader->at < reader->text.size ? reader->text.data[reader->at] : -1;
}
static void skip_space(struct reader *reader) {
    int c = peek(reader);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        reader->at++;
        c = peek(reader);
    }
}
static bool take(struct reader *reader, char wanted) {
    if (peek(reader) != (uint8_t)wanted) return false;
    reader->at++;
    return true;
}
static bool take_word(struct reader *reader, const char *word) {
    size_t size = strlen(word);
    if (reader->text.size - reader->at < size) return false;
    if (memcmp(reader->text.data + reader->at, word, size) != 0) return false;
    reader->at += size;
    return true;
}
static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}
static bool take_digits(struct reader *reader) {
    uint64_t start = reader->at;
    while (is_digit(peek(reader)))
        reader->at++;
    return reader->at > start;
}

/* Go past a number. A fraction or an exponent that has no digits is not part
 * of it. */
static bool take_number(struct reader *reader) {
    take(reader, '-');
    if (!take(reader, '0') && !take_digits(reader)) return false;
    uint64_t whole = reader->at;
    if (take(reader, '.') && !take_digits(reader)) reader->at = whole;
    whole = reader->at;
    if (take(reader, 'e') || take(reader, 'E')) {
        if (!take(reader, '+')) take(reader, '-');
        if (!take_digits(reader)) reader->at = whole;
    }
    return true;
}

/* Four hexadecimal digits, or -1. */
static int32_t take_quad(struct reader *reader) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(reader), digit;
        if (is_digit(c)) {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = c - 'A' + 10;
        } else {
            return -1;
        }
        value = value * 16 + digit;
        reader->at++;
    }
    return value;
}

/* A code point as UTF-8. That of 0 is the empty text: [size] is 0. */
static size_t utf8(uint32_t point, uint8_t out[4]) {
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return point != 0;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; point >>= 6)
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
    out[0] = (uint8_t)((0xf00u >> size) | point);
    return size;
}

/* What follows a backslash, as bytes. */
static bool take_escape(struct reader *reader, uint8_t out[4], size_t *size) {
    static const char names[] = "\"/\\btnfr", values[] = "\"/\\\b\t\n\f\r";
    int c = peek(reader);
    if (c <= 0) return false;
    reader->at++;
    *size = 1;
    if (c != 'u') {
        const char *name = strchr(names, c);
        if (name == NULL) return false;
        out[0] = (uint8_t)values[name - names];
        return true;
    }
    int32_t point = take_quad(reader);
    if (point >= 0xd800 && point < 0xdc00) {
        if (!take_word(reader, "\\u")) return false;
        int32_t low = take_quad(reader);
        if (low < 0xdc00 || low >= 0xe000) return false;
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point < 0 || (point >= 0xdc00 && point < 0xe000)) {
        return false;
    }
    *size = utf8((uint32_t)point, out);
    return true;
}

/* The size of the well-formed UTF-8 character at [bytes], or 0. */
static size_t character(const uint8_t *bytes, size_t size) {
    uint8_t first = bytes[0], low = 0x80, high = 0xbf;
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    size_t wanted = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size < wanted) return 0;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    if (bytes[1] < low || bytes[1] > high) return 0;
    for (size_t i = 2; i < wanted; i++) {
        if (bytes[i] < 0x80 || bytes[i] > 0xbf) return 0;
    }
    return wanted;
}

/* What reads answers NK_BAD where there is no JSON. */

/* ++  sune: all characters well-formed? */
static bool sane(const struct nk_bytes *string) {
    for (size_t at = 0, size; at < string->size; at += size) {
        size = character(string->data + at, string->size - at);
        if (size == 0) return false;
    }
    return true;
}

static nk_status read_string(struct reader *reader, nk_noun *out) {
    reader->string.size = 0;
    if (!take(reader, '"')) return NK_BAD;
    for (;;) {
        int c = peek(reader);
        if (c < ' ') return NK_BAD;
        reader->at++;
        if (c == '"') break;
        uint8_t bytes[4] = {(uint8_t)c};
        size_t size = 1;
        if (c == '\\' && !take_escape(reader, bytes, &size)) return NK_BAD;
        if (!nk_bytes_append(&reader->string, bytes, size)) return NK_MEME;
    }
    if (!sane(&reader->string)) return NK_BAD;
    *out = nk_atom_from_bytes(reader->arena, reader->string.data, reader->string.size);
    return *out == NK_NONE ? NK_MEME : NK_OK;
}

/* An object's next key and the colon. */
static nk_status read_key(struct reader *reader) {
    skip_space(reader);
    nk_status status = read_string(reader, &reader->opened[reader->count - 1].key);
    if (status != NK_OK) return status;
    skip_space(reader);
    return take(reader, ':') ? NK_OK : NK_BAD;
}

static void push(struct reader *reader, bool is_object) {
    if (reader->count == reader->capacity) {
        reader->capacity = reader->capacity * 2 + 64;
        reader->opened =
            realloc(reader->opened, reader->capacity * sizeof *reader->opened);
        NK_ASSERT(reader->opened != NULL);
    }
    reader->opened[reader->count++] = (struct open){.is_object = is_object};
}

/* Append [value] to the innermost array, or put it into the innermost map. */
static nk_status add(struct reader *reader, nk_noun value) {
    struct nk_arena *arena = reader->arena;
    struct open *open = &reader->opened[reader->count - 1];
    nk_noun made = nk_cons_try(arena, open->is_object ? open->key : value,
                               open->is_object ? value : 0);
    if (made == NK_NONE) return NK_MEME;
    if (open->is_object) return nk_map_put(arena, &open->whole, made);
    if (open->whole == 0) {
        open->whole = made;
    } else {
        nk_cell_at(arena, open->last)->tail = made;
    }
    open->last = made;
    return NK_OK;
}

/* A value that holds no other, or the start of one that does: *opens. */
static nk_status read_value(struct reader *reader, nk_noun *value, bool *opens) {
    struct nk_arena *arena = reader->arena;
    nk_noun text;
    nk_status status = NK_OK;
    uint64_t start = reader->at;
    *opens = false;
    switch (peek(reader)) {
    case '[':
    case '{':
        push(reader, reader->text.data[reader->at++] == '{');
        *opens = true;
        return NK_OK;
    case '"':
        status = read_string(reader, &text);
        if (status != NK_OK) return status;
        *value = nk_cons_try(arena, 's', text);
        break;
    case 'n':
        *value = 0;
        return take_word(reader, "null") ? NK_OK : NK_BAD;
    case 't':
        if (!take_word(reader, "true")) return NK_BAD;
        *value = nk_cons_try(arena, 'b', 0);
        break;
    case 'f':
        if (!take_word(reader, "false")) return NK_BAD;
        *value = nk_cons_try(arena, 'b', 1);
        break;
    default:
        if (!take_number(reader)) return NK_BAD;
        text = nk_atom_from_bytes(arena, reader->text.data + start, reader->at - start);
        *value = text == NK_NONE ? NK_NONE : nk_cons_try(arena, 'n', text);
    }
    return *value == NK_NONE ? NK_MEME : NK_OK;
}

/* The whole text. */
static nk_status read_all(struct reader *reader, nk_noun *value) {
    struct nk_arena *arena = reader->arena;
    nk_noun made = 0;
    for (uint64_t steps = 1;; steps++) {
        if (steps % POLL_STEPS == 0) {
            nk_status status = nk_arena_poll(arena);
            if (status != NK_OK) return status;
        }
        bool opens;
        skip_space(reader);
        nk_status status = read_value(reader, &made, &opens);
        if (status != NK_OK) return status;
        skip_space(reader);
        if (opens) {
            bool is_object = reader->opened[reader->count - 1].is_object;
            if (peek(reader) != (is_object ? '}' : ']')) {
                if (is_object) status = read_key(reader);
                if (status != NK_OK) return status;
                continue;
            }
        }
        for (;; skip_space(reader)) {
            if (reader->count == 0) {
                *value = made;
                return reader->at == reader->text.size ? NK_OK : NK_BAD;
            }
            struct open *open = &reader->opened[reader->count - 1];
            status = opens ? NK_OK : add(reader, made);
            if (status != NK_OK) return status;
            opens = false;
            if (take(reader, ',')) {
                if (open->is_object) status = read_key(reader);
                if (status != NK_OK) return status;
                break;
            }
            if (!take(reader, open->is_object ? '}' : ']')) return NK_BAD;
            made = nk_cons_try(arena, open->is_object ? 'o' : 'a', open->whole);
            if (made == NK_NONE) return NK_MEME;
            reader->count--;
        }
    }
}

static nk_status jet_json_de(struct nk_machine *machine, nk_noun core,
                             nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct reader reader = {.arena = arena};
    nk_noun text, value = 0;
    if (!nk_sample(machine, core, &text) || nk_is_cell(text)) return NK_PUNT;
    nk_octets_of(arena, text, &reader.text);
    nk_bytes_open(arena, &reader.string);
    nk_status status = read_all(&reader, &value);
    free(reader.string.data);
    free(reader.opened);
    if (status == NK_BAD) return nk_answer(0, product);
    return status == NK_OK ? nk_answer(nk_cons_try(arena, 0, value), product) : status;
}

/* ---- en: json to cord ---- */

/* What is still to be written. Every value is followed by a comma; what ends
 * an array, an object or the text takes the last one away. */
struct pending {
    enum { VALUE, ITEMS, TREE, MEMBER, MAP_END } what;
    nk_noun noun;
};

struct writer {
    struct nk_arena *arena;
    struct nk_bytes out;
    struct pending *pending;
    size_t count, capacity;
};

static void later(struct writer *writer, int what, nk_noun noun) {
    if (writer->count == writer->capacity) {
        writer->capacity = writer->capacity * 2 + 64;
        writer->pending =
            realloc(writer->pending, writer->capacity * sizeof *writer->pending);
        NK_ASSERT(writer->pending != NULL);
    }
    writer->pending[writer->count++] = (struct pending){what, noun};
}

static bool write_text(struct writer *writer, const char *text) {
    return nk_bytes_append(&writer->out, text, strlen(text));
}

/* ++  scap: between quotes, control characters, quotes and backslashes
 * escaped. */
static nk_status write_string(struct writer *writer, nk_noun text) {
    static const char digits[] = "0123456789abcdef";
    struct nk_octets octets;
    if (nk_is_cell(text)) return NK_PUNT;
    nk_octets_of(writer->arena, text, &octets);
    bool fits = nk_bytes_put(&writer->out, '"');
    for (uint64_t at = 0; at < octets.size && fits; at++) {
        uint8_t c = octets.data[at];
        if (c == '\n') {
            fits = write_text(writer, "\\n");
        } else if (c == '"' || c == '\\') {
            fits = nk_bytes_put(&writer->out, '\\') && nk_bytes_put(&writer->out, c);
        } else if (c < ' ' || c == 0x7f) {
            char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15], 0};
            fits = write_text(writer, escape);
        } else {
            fits = nk_bytes_put(&writer->out, c);
        }
    }
    return fits && nk_bytes_put(&writer->out, '"') ? NK_OK : NK_MEME;
}

static bool write_end(struct writer *writer, char bracket) {
    writer->out.data[writer->out.size - 1] = (uint8_t)bracket;
    return nk_bytes_put(&writer->out, ',');
}

static nk_status write_value(struct writer *writer, nk_noun value) {
    struct nk_arena *arena = writer->arena;
    bool fits;
    if (value == 0) return write_text(writer, "null,") ? NK_OK : NK_MEME;
    if (nk_is_atom(value)) return NK_PUNT;
    nk_noun held = nk_tail(arena, value);
    switch (nk_head(arena, value)) {
    case 'a':
    case 'o':
        fits = write_text(writer, nk_head(arena, value) == 'a' ? "[," : "{,");
        if (nk_head(arena, value) == 'o') {
            later(writer, MAP_END, 0);
            later(writer, TREE, held);
        } else {
            later(writer, ITEMS, held);
        }
        /* Where there is nothing inside, its comma is that of what opens. */
        if (held != 0) writer->out.size -= fits;
        return fits ? NK_OK : NK_MEME;
    case 'b':
        if (held > 1) return NK_PUNT;
        return write_text(writer, held == 0 ? "true," : "false,") ? NK_OK : NK_MEME;
    case 'n': {
        struct nk_octets text;
        if (nk_is_cell(held)) return NK_PUNT;
        nk_octets_of(arena, held, &text);
        fits = nk_bytes_append(&writer->out, text.data, text.size) &&
               nk_bytes_put(&writer->out, ',');
        return fits ? NK_OK : NK_MEME;
    }
    case 's': {
        nk_status status = write_string(writer, held);
        if (status != NK_OK) return status;
        return nk_bytes_put(&writer->out, ',') ? NK_OK : NK_MEME;
    }
    default:
        return NK_PUNT;
    }
}

static nk_status write_next(struct writer *writer) {
    struct nk_arena *arena = writer->arena;
    struct pending next = writer->pending[--writer->count];
    struct nk_node node;
    switch (next.what) {
    case VALUE:
        return write_value(writer, next.noun);
    case ITEMS:
        if (next.noun == 0) return write_end(writer, ']') ? NK_OK : NK_MEME;
        if (nk_is_atom(next.noun)) return NK_PUNT;
        later(writer, ITEMS, nk_tail(arena, next.noun));
        later(writer, VALUE, nk_head(arena, next.noun));
        return NK_OK;
    case TREE: /* in the order of ++tap */
        if (next.noun == 0) return NK_OK;
        if (!nk_node_take(arena, next.noun, true, &node)) return NK_PUNT;
        later(writer, TREE, node.left);
        later(writer, MEMBER, node.item);
        later(writer, TREE, node.right);
        return NK_OK;
    case MEMBER: {
        nk_status status = write_string(writer, nk_head(arena, next.noun));
        later(writer, VALUE, nk_tail(arena, next.noun));
        if (status != NK_OK) return status;
        return nk_bytes_put(&writer->out, ':') ? NK_OK : NK_MEME;
    }
    case MAP_END:
        return write_end(writer, '}') ? NK_OK : NK_MEME;
    }
    return NK_PUNT;
}

static nk_status jet_json_en(struct nk_machine *machine, nk_noun core,
                             nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct writer writer = {.arena = arena};
    nk_noun value;
    if (!nk_sample(machine, core, &value)) return NK_PUNT;
    nk_bytes_open(arena, &writer.out);
    later(&writer, VALUE, value);
    nk_status status = NK_OK;
    for (uint64_t steps = 1; status == NK_OK && writer.count > 0; steps++) {
        status = write_next(&writer);
        if (status == NK_OK && steps % POLL_STEPS == 0) status = nk_arena_poll(arena);
    }
    if (status == NK_OK) {
        nk_noun text = nk_atom_from_bytes(arena, writer.out.data, writer.out.size - 1);
        status = nk_answer(text, product);
    }
    free(writer.out.data);
    free(writer.pending);
    return status;
}

const struct nk_arm nk_arms_json[] = {NK_ARM("hex/json/de", jet_json_de),
                                      NK_ARM("hex/json/en", jet_json_en), NK_ARMS_END};
