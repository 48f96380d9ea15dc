/* A look at the head of a jam: when, on which wire, with which tag.
 *
 * A job is [now [wire [tag data]]], and a jam has its parts in that order: so
 * the first few hundred bytes tell all of it but the data, however much that
 * is. Nothing is allocated, and nothing beyond those bytes is read. Twin:
 * proto/jam.py, which reads all.
 */
#ifndef NK_GLANCE_H
#define NK_GLANCE_H

#include <stdint.h>

#define NK_GLANCE_WIRE 512 /* bytes of a wire as text */
#define NK_GLANCE_TAG 128

enum nk_glance_kind {
    NK_GLANCE_JOB = 0,     /* all of it was found */
    NK_GLANCE_STRANGE = 1, /* it is no such noun, or its wire or tag is too long */
    NK_GLANCE_SHORT = 2    /* more bytes of it are needed to tell */
};

struct nk_glance {
    uint32_t kind;
    uint32_t wire_size; /* of `text`; the tag follows */
    uint32_t tag_size;
    uint64_t now_low;
    uint64_t now_high;
    uint8_t text[NK_GLANCE_WIRE + NK_GLANCE_TAG];
};

/* The wire's text: a slash before each knot, its bytes as they are. */
void nk_glance(const uint8_t *bytes, uint64_t size, struct nk_glance *out);

#endif
