/* See listing.h. */
#include "listing.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LITERAL_TEXT_MAX 48u
#define PROGRAMS_MAX 256u
#define AXES_MAX 256u

void nk_text_put(struct nk_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    NK_ASSERT(size >= 0);
    size_t need = text->size + (size_t)size + 1;
    if (need > text->capacity) {
        text->capacity = need * 2;
        text->data = realloc(text->data, text->capacity);
        NK_ASSERT(text->data != NULL);
    }
    va_start(arguments, format);
    vsnprintf(text->data + text->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    text->size += (size_t)size;
}

void nk_text_free(struct nk_text *text) {
    free(text->data);
    memset(text, 0, sizeof *text);
}

/* ---- nouns ---- */

static bool is_term(const char *bytes, size_t size) {
    if (size < 2 || bytes[0] < 'a' || bytes[0] > 'z') return false;
    for (size_t i = 1; i < size; i++) {
        bool lower = bytes[i] >= 'a' && bytes[i] <= 'z';
        bool digit = bytes[i] >= '0' && bytes[i] <= '9';
        if (!lower && !digit && bytes[i] != '-') return false;
    }
    return true;
}

static void put_atom(struct nk_text *text, const struct nk_arena *arena, nk_noun atom) {
    char bytes[24];
    size_t size = nk_atom_size(arena, atom);
    if (size <= sizeof bytes) {
        nk_atom_read(arena, atom, bytes, size);
        if (is_term(bytes, size)) {
            nk_text_put(text, "%%%.*s", (int)size, bytes);
            return;
        }
    }
    if (nk_is_direct(atom)) {
        nk_text_put(text, "%llu", (unsigned long long)atom);
        return;
    }
    uint64_t scratch;
    struct nk_words words = nk_atom_words(arena, atom, &scratch);
    nk_text_put(text, "0x%llx", (unsigned long long)words.data[words.count - 1]);
    for (size_t i = words.count - 1; i-- > 0;) {
        if (words.count - i > 4) {
            nk_text_put(text, "...(%zu bytes)", size);
            return;
        }
        nk_text_put(text, "%016llx", (unsigned long long)words.data[i]);
    }
}

void nk_text_noun(struct nk_text *text, const struct nk_arena *arena, nk_noun noun,
                  size_t limit) {
    /* What is still to be printed; NK_NONE stands for a closing bracket. A
     * noun deeper than this has long passed any limit. */
    nk_noun todo[256];
    size_t count = 0, end = text->size + limit;
    bool space = false, cut = false;
    todo[count++] = noun;
    while (count != 0) {
        noun = todo[--count];
        if (noun == NK_NONE) {
            nk_text_put(text, "]");
            continue;
        }
        if (cut) continue;
        if (space) nk_text_put(text, " ");
        space = true;
        if (text->size > end || count + 3 > sizeof todo / sizeof *todo) {
            nk_text_put(text, "...");
            cut = true;
        } else if (nk_is_atom(noun)) {
            put_atom(text, arena, noun);
        } else {
            /* A list in tail position opens no bracket of its own, so the
             * tail waits marked by its place: printed flat below. */
            nk_text_put(text, "[");
            space = false;
            todo[count++] = NK_NONE;
            size_t first = count;
            while (nk_is_cell(noun) && count + 2 < sizeof todo / sizeof *todo) {
                todo[count++] = nk_head(arena, noun);
                noun = nk_tail(arena, noun);
                if (count - first > limit / 2 + 1) break;
            }
            todo[count++] = noun;
            for (size_t low = first, high = count - 1; low < high; low++, high--) {
                nk_noun swap = todo[low];
                todo[low] = todo[high];
                todo[high] = swap;
            }
        }
    }
}

/* ---- programs ---- */

static const struct {
    const char *name, *kinds;
    uint32_t words;
} opcodes[] = {
#define NK_OPCODE_ROW(name, words, kinds) {#name, kinds, words},
    NK_OPCODES(NK_OPCODE_ROW)
#undef NK_OPCODE_ROW
};

const char *nk_opcode_name(enum nk_opcode op) {
    return op < NK_OP_COUNT ? opcodes[op].name : "?";
}

static uint64_t axis_of(uint32_t path) {
    uint64_t axis = 1;
    for (; path > 1; path >>= 1)
        axis = axis << 1 | (path & 1);
    return axis;
}

static void put_operand(struct nk_text *text, const struct nk_arena *arena,
                        const struct nk_program *program, uint32_t at, char kind,
                        const uint32_t *word) {
    switch (kind) {
    case 'd':
    case 'a':
        nk_text_put(text, " r%u", *word);
        break;
    case 'k':
        nk_text_put(text, " ");
        nk_text_noun(text, arena, program->literals[*word], LITERAL_TEXT_MAX);
        break;
    case 'p':
        nk_text_put(text, " /%llu", (unsigned long long)axis_of(*word));
        break;
    case 'j':
        nk_text_put(text, " ->%u", at + *word);
        break;
    case 's':
        if (program->sites[*word].axis != 0) {
            nk_text_put(text, " arm /%llu",
                        (unsigned long long)program->sites[*word].axis);
        }
        break;
    case '!':
        nk_text_put(text, " => r%u (keeps %u)", word[0], word[1]);
        break;
    default:
        nk_text_put(text, " %u", *word);
    }
}

void nk_list_program(struct nk_text *text, const struct nk_arena *arena,
                     const struct nk_program *program) {
    nk_text_put(text, "  %u words, %u registers, %u literals\n", program->code_count,
                program->registers, program->literal_count);
    for (uint32_t at = 0; at < program->code_count;) {
        uint32_t op = program->code[at];
        nk_text_put(text, "  %5u  %-8s", at, nk_opcode_name((enum nk_opcode)op));
        if (op >= NK_OP_COUNT) break;
        const uint32_t *word = &program->code[at + 1];
        for (const char *kind = opcodes[op].kinds; *kind != 0; kind++) {
            put_operand(text, arena, program, at, *kind, word);
            word += *kind == '!' ? NK_CALL_WORDS : 1;
        }
        nk_text_put(text, "\n");
        at += opcodes[op].words;
    }
}

struct listed {
    nk_noun formulas[PROGRAMS_MAX];
    char titles[PROGRAMS_MAX][64];
    size_t count;
    uint64_t axes[AXES_MAX]; /* below the battery, of all kicks so far */
    size_t axis_count;
};

static void list_later(struct listed *listed, nk_noun formula, const char *title) {
    for (size_t i = 0; i < listed->count; i++) {
        if (listed->formulas[i] == formula) return;
    }
    if (listed->count == PROGRAMS_MAX) return;
    listed->formulas[listed->count] = formula;
    snprintf(listed->titles[listed->count++], 64, "%s", title);
}

static void note_axes(struct listed *listed, const struct nk_program *program) {
    for (uint32_t i = 0; i < program->site_count; i++) {
        uint64_t axis = program->sites[i].axis;
        if (axis < 2) continue;
        unsigned bits = 63u - (unsigned)__builtin_clzll(axis);
        uint64_t below = (axis & ((1ull << (bits - 1)) - 1)) | 1ull << (bits - 1);
        bool known = listed->axis_count == AXES_MAX;
        for (size_t k = 0; k < listed->axis_count; k++)
            known |= listed->axes[k] == below;
        if (!known) listed->axes[listed->axis_count++] = below;
    }
}

/* Is this more than a constant or a slot? Data looks like those by chance. */
static bool does_something(const struct nk_program *program) {
    uint32_t op = program->code[0];
    return op != NK_OP_BAIL && op != NK_OP_RETK && op != NK_OP_RET &&
           program->code_count > 5;
}

nk_status nk_list_formula(struct nk_text *text, struct nk_code *code,
                          struct nk_arena *arena, nk_noun formula) {
    struct listed *listed = calloc(1, sizeof *listed);
    NK_ASSERT(listed != NULL);
    nk_status status = NK_OK;
    list_later(listed, formula, "the formula");
    for (size_t at = 0; at < listed->count && status == NK_OK; at++) {
        struct nk_program *program = NULL;
        status = nk_code_get(code, arena, listed->formulas[at], &program);
        if (status != NK_OK) break;
        if (at > 0 && !does_something(program)) continue;
        nk_text_put(text, "%sprogram %zu: %s\n", at == 0 ? "" : "\n", at,
                    listed->titles[at]);
        nk_list_program(text, arena, program);
        note_axes(listed, program);
        for (uint32_t i = 0; i < program->literal_count; i++) {
            nk_noun literal = program->literals[i];
            for (size_t k = 0; nk_is_cell(literal) && k < listed->axis_count; k++) {
                nk_noun arm = nk_slot(arena, literal, listed->axes[k]);
                char title[64];
                snprintf(title, sizeof title, "literal %u of program %zu, axis %llu", i,
                         at, (unsigned long long)listed->axes[k]);
                if (arm != NK_NONE && nk_is_cell(arm)) list_later(listed, arm, title);
            }
        }
    }
    free(listed);
    return status;
}
