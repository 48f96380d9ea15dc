/* Nouns written as text, for tests: 12, %term, [a b c]. No recursion either. */
#ifndef TEXT_H
#define TEXT_H
#include <stdarg.h>
#include <string.h>

#include "check.h"
#include "nursery.h"

#define TEXT_DEPTH 256

/* Reads one noun; lists in brackets are right-nested. */
static inline nk_noun text_noun(struct nk_arena *arena, const char *text) {
    struct {
        nk_noun items[64];
        int count;
    } levels[TEXT_DEPTH];
    int depth = 0;
    levels[0].count = 0;
    for (const char *at = text; *at != 0;) {
        nk_noun noun;
        if (*at == ' ' || *at == '\n') {
            at++;
            continue;
        }
        if (*at == '[') {
            CHECK(++depth < TEXT_DEPTH);
            levels[depth].count = 0;
            at++;
            continue;
        }
        if (*at == ']') {
            int last = levels[depth].count - 1;
            CHECK(last >= 1 && depth > 0);
            noun = levels[depth].items[last];
            while (last-- > 0) {
                noun = nk_cons_try(arena, levels[depth].items[last], noun);
                CHECK(noun != NK_NONE);
            }
            depth--;
            at++;
        } else if (*at == '%') {
            size_t length = strcspn(++at, " []\n");
            noun = nk_atom_from_bytes(arena, at, length);
            at += length;
        } else {
            char *end;
            CHECK(*at >= '0' && *at <= '9');
            noun = nk_atom_from_u64(arena, strtoull(at, &end, 0));
            at = end;
        }
        CHECK(levels[depth].count < 64);
        levels[depth].items[levels[depth].count++] = noun;
    }
    CHECK(depth == 0 && levels[0].count == 1);
    return levels[0].items[0];
}

/* The same, printf-style. */
__attribute__((format(printf, 2, 3))) static inline nk_noun
noun_of(struct nk_arena *arena, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    CHECK(length >= 0 && (size_t)length < sizeof text);
    return text_noun(arena, text);
}
#endif
