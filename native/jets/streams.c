/* Layer hex: bytestream. A stream of bytes is [position octets], of bits
 * [count accumulator stream]; octets are [size data].
 *
 * Sizes and positions that no stream in memory has decline; so does whatever
 * has another shape. */
#include <stdlib.h>

#include "../stub.h"
#include "octets.h"

#define SIZE_MAX_STREAM (1ull << 40)
#define BITS_MAX (1ull << 20)

struct stream {
    nk_noun noun, octets;
    uint64_t at, size;
    nk_noun data;
    struct nk_octets bytes;
};

static bool take_octets(const struct nk_arena *arena, nk_noun noun, uint64_t *size,
                        nk_noun *data) {
    if (!nk_is_cell(noun)) return false;
    *size = nk_head(arena, noun);
    *data = nk_tail(arena, noun);
    return *size <= SIZE_MAX_STREAM && nk_is_atom(*data);
}

static bool take_stream(const struct nk_arena *arena, nk_noun noun,
                        struct stream *out) {
    if (!nk_is_cell(noun)) return false;
    out->noun = noun;
    out->at = nk_head(arena, noun);
    out->octets = nk_tail(arena, noun);
    if (out->at > SIZE_MAX_STREAM) return false;
    if (!take_octets(arena, out->octets, &out->size, &out->data)) return false;
    nk_octets_of(arena, out->data, &out->bytes);
    return true;
}

static bool sample_of_one(const struct nk_machine *machine, nk_noun core,
                          struct stream *stream) {
    nk_noun noun;
    return nk_sample(machine, core, &noun) &&
           take_stream(&machine->arena, noun, stream);
}

/* A sample [number stream]. */
static bool sample_of_both(const struct nk_machine *machine, nk_noun core,
                           nk_noun *number, struct stream *stream) {
    nk_noun noun;
    return nk_sample_two(machine, core, number, &noun) && nk_is_atom(*number) &&
           take_stream(&machine->arena, noun, stream);
}

static nk_noun pair(struct nk_arena *arena, nk_noun head, nk_noun tail) {
    if (head == NK_NONE || tail == NK_NONE) return NK_NONE;
    return nk_cons_try(arena, head, tail);
}

static nk_noun moved(struct nk_arena *arena, const struct stream *stream, uint64_t to) {
    return pair(arena, to, stream->octets);
}

/* The octets of [size] from [at] on. */
static nk_noun octets_at(struct nk_arena *arena, const struct stream *stream,
                         uint64_t at, uint64_t size) {
    uint64_t have = at < stream->bytes.size ? stream->bytes.size - at : 0;
    if (have > size) have = size;
    const uint8_t *from = have == 0 ? NULL : stream->bytes.data + at;
    return pair(arena, size, nk_atom_from_bytes(arena, from, have));
}

/* ---- octets ---- */

static nk_status jet_rip_octs(struct nk_machine *machine, nk_noun core,
                              nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    nk_noun sample, data, list = 0;
    uint64_t size;
    struct nk_octets bytes;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!take_octets(arena, sample, &size, &data)) return NK_PUNT;
    nk_octets_of(arena, data, &bytes);
    while (size-- > 0 && list != NK_NONE)
        list = nk_cons_try(arena, nk_octet_at(&bytes, size), list);
    return nk_answer(list, product);
}

/* Append [size] octets of [data], cut or filled up with zeros. What follows
 * the last one that is not zero is only counted. */
static bool append(struct nk_arena *arena, struct nk_bytes *out, uint64_t *total,
                   uint64_t size, nk_noun data) {
    struct nk_octets bytes;
    nk_octets_of(arena, data, &bytes);
    uint64_t have = bytes.size < size ? bytes.size : size;
    if (have > 0) {
        while (out->size < *total) {
            if (!nk_bytes_put(out, 0)) return false;
        }
        if (!nk_bytes_append(out, bytes.data, have)) return false;
    }
    *total += size;
    return true;
}

static nk_status joined(struct nk_arena *arena, struct nk_bytes *out, uint64_t total,
                        nk_noun *product) {
    nk_noun data = nk_atom_from_bytes(arena, out->data, out->size);
    return nk_answer(pair(arena, total, data), product);
}

static nk_status jet_cat_octs(struct nk_machine *machine, nk_noun core,
                              nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct nk_bytes out;
    nk_noun a, b, a_data, b_data;
    uint64_t a_size, b_size, total = 0;
    if (!nk_sample_two(machine, core, &a, &b)) return NK_PUNT;
    if (!take_octets(arena, a, &a_size, &a_data)) return NK_PUNT;
    if (!take_octets(arena, b, &b_size, &b_data)) return NK_PUNT;
    nk_bytes_open(arena, &out);
    nk_status status = NK_MEME;
    if (append(arena, &out, &total, a_size, a_data) &&
        append(arena, &out, &total, b_size, b_data)) {
        status = joined(arena, &out, total, product);
    }
    free(out.data);
    return status;
}

nk_status nk_help_can_octs(struct nk_machine *machine, nk_noun list, nk_noun b,
                           nk_noun c, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct nk_bytes out;
    nk_noun data;
    uint64_t size, total = 0;
    (void)b;
    (void)c;
    nk_bytes_open(arena, &out);
    nk_status status = NK_OK;
    for (; nk_is_cell(list) && status == NK_OK; list = nk_tail(arena, list)) {
        if (!take_octets(arena, nk_head(arena, list), &size, &data)) {
            status = NK_PUNT;
        } else if (!append(arena, &out, &total, size, data)) {
            status = NK_MEME;
        } else if (total > SIZE_MAX_STREAM) {
            status = NK_PUNT;
        }
    }
    if (status == NK_OK && list != 0) status = NK_PUNT;
    if (status == NK_OK) status = joined(arena, &out, total, product);
    free(out.data);
    return status;
}

static nk_status jet_can_octs(struct nk_machine *machine, nk_noun core,
                              nk_noun *product) {
    nk_noun list;
    if (!nk_sample(machine, core, &list)) return NK_PUNT;
    return nk_help_can_octs(machine, list, 0, 0, product);
}

/* ---- bytes ---- */

/* The place of [byte] from the position on, or the stream's size. What lies
 * past the data's end is zero. A position past the size stays. */
static uint64_t place_of(const struct stream *stream, uint64_t byte) {
    uint64_t at = stream->at;
    while (at < stream->size && nk_octet_at(&stream->bytes, at) != byte) {
        if (at >= stream->bytes.size) return stream->size;
        at++;
    }
    return at;
}

static nk_status jet_skip_line(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    if (!sample_of_one(machine, core, &stream)) return NK_PUNT;
    uint64_t at = place_of(&stream, '\n');
    at = at < stream.size ? at + 1 : stream.size;
    return nk_answer(moved(arena, &stream, at), product);
}

static nk_status jet_find_byte(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    nk_noun byte;
    if (!sample_of_both(machine, core, &byte, &stream)) return NK_PUNT;
    uint64_t at = place_of(&stream, byte);
    return nk_answer(at < stream.size ? nk_cons_try(arena, 0, at) : 0, product);
}

static nk_status jet_seek_byte(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    nk_noun byte;
    if (!sample_of_both(machine, core, &byte, &stream)) return NK_PUNT;
    uint64_t at = place_of(&stream, byte);
    if (at >= stream.size) return nk_answer(pair(arena, 0, stream.noun), product);
    nk_noun found = nk_cons_try(arena, 0, at);
    return nk_answer(pair(arena, found, moved(arena, &stream, at)), product);
}

static nk_status jet_read_byte(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    if (!sample_of_one(machine, core, &stream)) return NK_PUNT;
    if (stream.at >= stream.size) return NK_EXIT;
    nk_noun byte = nk_octet_at(&stream.bytes, stream.at);
    return nk_answer(pair(arena, byte, moved(arena, &stream, stream.at + 1)), product);
}

static nk_status jet_read_octs(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    nk_noun count;
    if (!sample_of_both(machine, core, &count, &stream)) return NK_PUNT;
    if (count > SIZE_MAX_STREAM) return NK_PUNT;
    if (stream.at + count > stream.size) return NK_EXIT;
    nk_noun octets = octets_at(arena, &stream, stream.at, count);
    nk_noun rest = moved(arena, &stream, stream.at + count);
    return nk_answer(pair(arena, octets, rest), product);
}

static nk_status jet_chunk(struct nk_machine *machine, nk_noun core, nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    nk_noun size, list = 0;
    if (!sample_of_both(machine, core, &size, &stream)) return NK_PUNT;
    if (size == 0) return nk_answer(0, product);
    if (stream.at > stream.size) return NK_EXIT;
    uint64_t left = stream.size - stream.at;
    if (size > left) size = left;
    /* From the last one, which may be short, to the first. */
    uint64_t at = stream.size, piece = size == 0 ? 0 : left % size;
    for (; left > 0 && list != NK_NONE; left -= piece, piece = size) {
        if (piece == 0) piece = size;
        at -= piece;
        list = pair(arena, octets_at(arena, &stream, at, piece), list);
    }
    return nk_answer(list, product);
}

/* ---- a gate says where the octets are ---- */

nk_status nk_help_drained(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                          nk_noun *product) {
    struct stream stream;
    (void)b;
    (void)c;
    if (!take_stream(&machine->arena, a, &stream)) return NK_PUNT;
    return nk_answer_bool(stream.at >= stream.size, product);
}

/* Of a stream that is not drained. */
nk_status nk_help_extract(struct nk_machine *machine, nk_noun a, nk_noun b, nk_noun c,
                          nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct stream stream;
    nk_noun skip = nk_head(arena, b), size = nk_tail(arena, b), list = c;
    if (!take_stream(arena, a, &stream)) return NK_PUNT;
    if (nk_is_cell(skip) || nk_is_cell(size)) return NK_PUNT;
    uint64_t left = stream.size - stream.at;
    if (skip > left || size > left - skip) return NK_EXIT;
    if (size > 0) {
        nk_noun octets = octets_at(arena, &stream, stream.at + skip, size);
        list = pair(arena, octets, list);
    }
    nk_noun rest = moved(arena, &stream, stream.at + skip + size);
    return nk_answer(pair(arena, rest, list), product);
}

/* [stream gate]: the gate makes [skip size] of what is left; [0 0] ends it. */
#define EXTRACT                                                                        \
    "      ld sea core 12\n"                                                           \
    "      ld gate core 13\n"                                                          \
    "      ldk made 0\n"                                                               \
    "next: do drained empty sea\n"                                                     \
    "      jtest empty more\n"                                                         \
    "      jmp end\n"                                                                  \
    "more: slam gate sea -> both\n"                                                    \
    "      ld skip both 2\n"                                                           \
    "      ld size both 3\n"                                                           \
    "      jnek skip 0 some\n"                                                         \
    "      jnek size 0 some\n"                                                         \
    "      jmp end\n"                                                                  \
    "some: do extract state sea both made\n"                                           \
    "      ld sea state 2\n"                                                           \
    "      ld made state 3\n"                                                          \
    "      jmp next\n"                                                                 \
    "end:  do reverse made made\n"

static const char extract[] = EXTRACT "      cons made made sea\n"
                                      "      ret made\n";

static const char fuse_extract[] = EXTRACT "      do can_octs made made\n"
                                           "      cons made made sea\n"
                                           "      ret made\n";

/* ---- bits ---- */

struct bits {
    nk_noun noun, accumulator, stream;
    uint64_t count;
};

static bool take_bits(const struct nk_arena *arena, nk_noun noun, struct bits *out) {
    if (!nk_is_cell(noun) || !nk_is_cell(nk_tail(arena, noun))) return false;
    out->noun = noun;
    out->count = nk_head(arena, noun);
    out->accumulator = nk_head(arena, nk_tail(arena, noun));
    out->stream = nk_tail(arena, nk_tail(arena, noun));
    return out->count <= BITS_MAX && nk_is_atom(out->accumulator);
}

/* A sample [count bits]. */
static bool sample_of_bits(const struct nk_machine *machine, nk_noun core,
                           nk_noun *count, struct bits *bits) {
    nk_noun noun;
    return nk_sample_two(machine, core, count, &noun) && *count <= BITS_MAX &&
           take_bits(&machine->arena, noun, bits);
}

/* ++  drop-bits */
static nk_status dropped(struct nk_arena *arena, const struct bits *bits,
                         uint64_t count, nk_noun *product) {
    nk_noun rest;
    if (count == 0) return nk_answer(bits->noun, product);
    uint64_t left = bits->count > count ? bits->count - count : 0;
    nk_status status =
        nk_atom_cut(arena, bits->accumulator, count, SIZE_MAX_STREAM * 8, &rest);
    if (status != NK_OK) return status;
    return nk_answer(pair(arena, left, pair(arena, rest, bits->stream)), product);
}

static nk_status jet_need_bits(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct bits bits;
    struct stream stream;
    nk_noun wanted, fresh;
    if (!sample_of_bits(machine, core, &wanted, &bits)) return NK_PUNT;
    if (bits.count >= wanted) return nk_answer(bits.noun, product);
    if (!take_stream(arena, bits.stream, &stream)) return NK_PUNT;
    uint64_t bytes = (wanted - bits.count + 7) / 8;
    if (stream.at + bytes > stream.size) return NK_EXIT;
    nk_noun octets = octets_at(arena, &stream, stream.at, bytes);
    if (octets == NK_NONE) return NK_MEME;
    nk_status status =
        nk_atom_shift_left(arena, nk_tail(arena, octets), bits.count, &fresh);
    if (status == NK_OK) status = nk_atom_add(arena, bits.accumulator, fresh, &fresh);
    if (status != NK_OK) return status;
    nk_noun rest = pair(arena, fresh, moved(arena, &stream, stream.at + bytes));
    return nk_answer(pair(arena, bits.count + bytes * 8, rest), product);
}

static nk_status jet_drop_bits(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct bits bits;
    nk_noun count;
    if (!sample_of_bits(machine, core, &count, &bits)) return NK_PUNT;
    return dropped(&machine->arena, &bits, count, product);
}

static nk_status jet_peek_bits(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct bits bits;
    nk_noun count;
    if (!sample_of_bits(machine, core, &count, &bits)) return NK_PUNT;
    if (bits.count < count) return NK_EXIT;
    return nk_atom_cut(&machine->arena, bits.accumulator, 0, count, product);
}

static nk_status jet_read_bits(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct nk_arena *arena = &machine->arena;
    struct bits bits;
    nk_noun count, low, rest;
    if (!sample_of_bits(machine, core, &count, &bits)) return NK_PUNT;
    if (bits.count < count) return NK_EXIT;
    nk_status status = nk_atom_cut(arena, bits.accumulator, 0, count, &low);
    if (status == NK_OK) status = dropped(arena, &bits, count, &rest);
    return status == NK_OK ? nk_answer(pair(arena, low, rest), product) : status;
}

/* ++  byte-bits: drop to the byte's boundary. */
static nk_status jet_byte_bits(struct nk_machine *machine, nk_noun core,
                               nk_noun *product) {
    struct bits bits;
    nk_noun sample;
    if (!nk_sample(machine, core, &sample)) return NK_PUNT;
    if (!take_bits(&machine->arena, sample, &bits)) return NK_PUNT;
    return dropped(&machine->arena, &bits, bits.count % 8, product);
}

#define ARM(name, jet) NK_ARM("hex/bytestream-v0/" name, jet)
#define PROGRAM(name, text) NK_ARM_PROGRAM("hex/bytestream-v0/" name, text)

const struct nk_arm nk_arms_streams[] = {ARM("byte-bits", jet_byte_bits),
                                         ARM("can-octs", jet_can_octs),
                                         ARM("cat-octs", jet_cat_octs),
                                         ARM("chunk", jet_chunk),
                                         ARM("drop-bits", jet_drop_bits),
                                         ARM("find-byte", jet_find_byte),
                                         ARM("need-bits", jet_need_bits),
                                         ARM("peek-bits", jet_peek_bits),
                                         ARM("read-bits", jet_read_bits),
                                         ARM("read-byte", jet_read_byte),
                                         ARM("read-octs", jet_read_octs),
                                         ARM("rip-octs", jet_rip_octs),
                                         ARM("seek-byte", jet_seek_byte),
                                         ARM("skip-line", jet_skip_line),
                                         PROGRAM("extract", extract),
                                         PROGRAM("fuse-extract", fuse_extract),
                                         NK_ARMS_END};
