/* See stub.h. Lines become instructions in one pass; then jumps find their
 * labels; then liveness, backwards until nothing changes. */
#include "stub.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ABSENT UINT32_MAX
#define JUMPS_MAX 2u

static const struct {
    const char *name, *kinds;
} opcodes[] = {
#define ROW(name, words, kinds) {#name, kinds},
    NK_OPCODES(ROW)
#undef ROW
};
static const char *const helpers[] = {
#define ROW(name) #name,
    NK_HELPERS(ROW)
#undef ROW
};

struct name {
    char text[NK_STUB_NAME_MAX];
};

struct label {
    struct name name;
    uint32_t target; /* index of an instruction; ABSENT: not met yet */
};

struct instruction {
    uint32_t start, opcode, line;
    uint32_t jump_words[JUMPS_MAX], jump_labels[JUMPS_MAX], jump_count;
    uint32_t product; /* of a call; ABSENT: it is none */
    uint32_t call_word;
    bool ends;              /* the next one does not follow */
    uint64_t reads, writes; /* registers, a bit each */
    uint64_t live;          /* before it */
    bool reached;
};

struct assembler {
    struct nk_stub *stub;
    const char *at; /* in the text */
    uint32_t line;
    struct name registers[NK_STUB_REGISTERS_MAX];
    uint32_t register_count;
    struct label labels[NK_STUB_LINES_MAX];
    uint32_t label_count;
    struct instruction code[NK_STUB_LINES_MAX];
    uint32_t count;
    uint64_t given;
};

static bool wrong(struct assembler *as, uint32_t line, const char *what) {
    if (as->stub->error_line == 0) {
        as->stub->error_line = line;
        as->stub->error = what;
    }
    return false;
}

/* ---- words ---- */

/* The line's next word; false at its end. */
static bool next_word(struct assembler *as, struct name *word) {
    while (*as->at == ' ')
        as->at++;
    size_t size = strcspn(as->at, " ;\n");
    if (size == 0) return false;
    if (size >= sizeof word->text) return wrong(as, as->line, "a word is too long");
    memcpy(word->text, as->at, size);
    word->text[size] = 0;
    as->at += size;
    return true;
}

static bool is_name(const char *text) {
    for (const char *c = text; *c != 0; c++) {
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && *c != '_') {
            return false;
        }
    }
    return islower((unsigned char)*text);
}

static void put(struct assembler *as, uint32_t word) {
    struct nk_program *program = &as->stub->program;
    NK_ASSERT(program->code_count < NK_STUB_WORDS_MAX);
    as->stub->words[program->code_count++] = word;
}

/* The register called so; a new one where [make]. */
static bool find_register(struct assembler *as, const struct name *name, bool make,
                          uint32_t *reg) {
    for (*reg = 0; *reg < as->register_count; ++*reg) {
        if (strcmp(as->registers[*reg].text, name->text) == 0) return true;
    }
    if (!is_name(name->text)) return wrong(as, as->line, "this is no register");
    if (!make) return wrong(as, as->line, "a register is read that nothing writes");
    if (as->register_count == NK_STUB_REGISTERS_MAX) {
        return wrong(as, as->line, "too many registers");
    }
    as->registers[as->register_count++] = *name;
    return true;
}

static uint32_t find_label(struct assembler *as, const struct name *name) {
    uint32_t i = 0;
    while (i < as->label_count && strcmp(as->labels[i].name.text, name->text) != 0)
        i++;
    if (i == as->label_count)
        as->labels[as->label_count++] = (struct label){*name, ABSENT};
    return i;
}

static bool number_of(const char *text, uint64_t max, uint64_t *number) {
    *number = 0;
    for (const char *c = text; *c != 0; c++) {
        if (!isdigit((unsigned char)*c)) return false;
        *number = *number * 10 + (uint64_t)(*c - '0');
        if (*number > max) return false;
    }
    return *text != 0;
}

static bool put_literal(struct assembler *as, const char *text) {
    struct nk_program *program = &as->stub->program;
    nk_noun literal = 0;
    size_t size = strlen(text);
    if (text[0] == '%' && size >= 2 && size <= 8) {
        memcpy(&literal, text + 1, size - 1);
    } else if (!number_of(text, UINT32_MAX, &literal)) {
        return wrong(as, as->line, "this is no literal");
    }
    uint32_t at = 0;
    while (at < program->literal_count && as->stub->literals[at] != literal)
        at++;
    if (at == program->literal_count) {
        as->stub->literals[program->literal_count++] = literal;
    }
    put(as, at);
    return true;
}

/* The steps of an axis, the first one lowest, under a 1. */
static bool put_path(struct assembler *as, const char *text) {
    uint64_t axis;
    if (!number_of(text, UINT32_MAX, &axis) || axis < 2) {
        return wrong(as, as->line, "this is no axis");
    }
    put(as, nk_path(axis));
    return true;
}

/* ---- lines ---- */

static bool put_operand(struct assembler *as, struct instruction *one, char kind) {
    struct name word;
    uint32_t reg, helper;
    if (kind == 's') {
        put(as, as->stub->program.site_count++);
        return true;
    }
    if (!next_word(as, &word)) {
        /* What a helper has no use for. */
        if (one->opcode != NK_OP_DO || kind != 'a' || one->reads == 0) {
            return wrong(as, as->line, "an operand is missing");
        }
        put(as, as->stub->words[as->stub->program.code_count - 1]);
        return true;
    }
    switch (kind) {
    case 'd':
        if (!find_register(as, &word, true, &reg)) return false;
        one->writes |= 1ull << reg;
        put(as, reg);
        return true;
    case 'a':
        if (!find_register(as, &word, false, &reg)) return false;
        one->reads |= 1ull << reg;
        put(as, reg);
        return true;
    case 'k':
        return put_literal(as, word.text);
    case 'p':
        return put_path(as, word.text);
    case 'j':
        if (!is_name(word.text)) return wrong(as, as->line, "this is no label");
        NK_ASSERT(one->jump_count < JUMPS_MAX);
        one->jump_words[one->jump_count] = as->stub->program.code_count;
        one->jump_labels[one->jump_count++] = find_label(as, &word);
        put(as, 0);
        return true;
    case 'h':
        for (helper = 0; helper < NK_HELPER_COUNT; helper++) {
            if (strcmp(helpers[helper], word.text) == 0) {
                put(as, helper);
                return true;
            }
        }
        return wrong(as, as->line, "this is no helper");
    case '!':
        if (strcmp(word.text, "->") != 0 || !next_word(as, &word)) {
            return wrong(as, as->line, "a call needs -> and a register");
        }
        if (!find_register(as, &word, true, &one->product)) return false;
        one->call_word = as->stub->program.code_count;
        put(as, one->product);
        put(as, 0); /* registers that stay, and the live set: `put_live` */
        put(as, 0);
        put(as, as->stub->program.code_count + 1);
        return true;
    default:
        return wrong(as, as->line, "this instruction is not for programs by hand");
    }
}

static bool find_opcode(const char *text, uint32_t *opcode) {
    char upper[NK_STUB_NAME_MAX] = {0};
    for (size_t i = 0; text[i] != 0; i++)
        upper[i] = (char)toupper((unsigned char)text[i]);
    for (*opcode = 0; *opcode < NK_OP_COUNT; ++*opcode) {
        if (strcmp(opcodes[*opcode].name, upper) == 0)
            return islower((unsigned char)*text);
    }
    return false;
}

/* `ld d a axis`: which load is it? Leaves the words to be read again. */
static uint32_t shortest_load(struct assembler *as) {
    const char *start = as->at;
    struct name word = {{0}};
    uint64_t axis = 0;
    for (int i = 0; i < 3; i++)
        (void)next_word(as, &word);
    as->at = start;
    (void)number_of(word.text, UINT32_MAX, &axis);
    return nk_load_opcode(axis);
}

static bool is_end(uint32_t opcode) {
    switch (opcode) {
    case NK_OP_HALT:
    case NK_OP_BAIL:
    case NK_OP_RET:
    case NK_OP_RETK:
    case NK_OP_JMP:
    case NK_OP_TNOCK:
    case NK_OP_TKICK:
    case NK_OP_TSLAM:
    case NK_OP_DECLINE:
        return true;
    default:
        return false;
    }
}

static bool read_instruction(struct assembler *as, const struct name *name) {
    struct name word;
    if (as->count == NK_STUB_LINES_MAX) return wrong(as, as->line, "too many lines");
    struct instruction *one = &as->code[as->count++];
    *one = (struct instruction){
        .start = as->stub->program.code_count, .line = as->line, .product = ABSENT};
    bool load = strcmp(name->text, "ld") == 0;
    if (load) {
        one->opcode = shortest_load(as);
    } else if (!find_opcode(name->text, &one->opcode)) {
        return wrong(as, as->line, "there is no such instruction");
    }
    /* They write their register on one of their ways only. */
    if (one->opcode == NK_OP_MEMO || one->opcode == NK_OP_SHAM) {
        return wrong(as, as->line, "this instruction is not for programs by hand");
    }
    one->ends = is_end(one->opcode);
    put(as, one->opcode);
    for (const char *kind = opcodes[one->opcode].kinds; *kind != 0; kind++) {
        if (!put_operand(as, one, *kind)) return false;
    }
    if (one->opcode == NK_OP_DECLINE) one->reads |= 1;                /* the core */
    if (load && one->opcode != NK_OP_LDP) (void)next_word(as, &word); /* the axis */
    if (next_word(as, &word)) return wrong(as, as->line, "an operand too many");
    return as->stub->error_line == 0;
}

static bool read_given(struct assembler *as) {
    struct name word;
    uint32_t reg;
    while (next_word(as, &word)) {
        if (!find_register(as, &word, true, &reg)) return false;
        as->given |= 1ull << reg;
    }
    return as->stub->error_line == 0;
}

static bool read_line(struct assembler *as) {
    struct name word;
    bool more = next_word(as, &word);
    if (more && as->count == 0 && as->given == 0) {
        if (strcmp(word.text, "given") == 0) return read_given(as);
        as->registers[as->register_count++] = (struct name){"core"};
        as->given = 1;
    }
    while (more && word.text[strlen(word.text) - 1] == ':') {
        word.text[strlen(word.text) - 1] = 0;
        if (!is_name(word.text)) return wrong(as, as->line, "this is no label");
        if (as->label_count == NK_STUB_LINES_MAX) {
            return wrong(as, as->line, "too many labels");
        }
        struct label *label = &as->labels[find_label(as, &word)];
        if (label->target != ABSENT) return wrong(as, as->line, "a label stands twice");
        label->target = as->count;
        more = next_word(as, &word);
    }
    return more ? read_instruction(as, &word) : as->stub->error_line == 0;
}

/* ---- jumps ---- */

static bool set_jumps(struct assembler *as) {
    for (uint32_t i = 0; i < as->count; i++) {
        struct instruction *one = &as->code[i];
        for (uint32_t k = 0; k < one->jump_count; k++) {
            uint32_t target = as->labels[one->jump_labels[k]].target;
            if (target >= as->count) return wrong(as, one->line, "no such label");
            uint32_t distance = as->code[target].start - one->start;
            if (target <= i && one->opcode != NK_OP_JMP) {
                return wrong(as, one->line, "only jmp goes backwards");
            }
            as->stub->words[one->jump_words[k]] = distance;
        }
        if (!one->ends && i + 1 == as->count) {
            return wrong(as, one->line, "the program runs over its end");
        }
    }
    return as->count != 0 || wrong(as, 1, "the program is empty");
}

/* Instructions that may follow the one at [i]. */
static uint32_t successors(const struct assembler *as, uint32_t i,
                           uint32_t next[JUMPS_MAX + 1]) {
    const struct instruction *one = &as->code[i];
    uint32_t count = 0;
    if (!one->ends) next[count++] = i + 1;
    for (uint32_t k = 0; k < one->jump_count; k++)
        next[count++] = as->labels[one->jump_labels[k]].target;
    return count;
}

/* ---- what flows where ---- */

/* Registers that hold what is still needed after the one at [i]; [call]:
 * while it is away. */
static uint64_t live_after(const struct assembler *as, uint32_t i, bool call) {
    const struct instruction *one = &as->code[i];
    uint64_t live = one->ends ? 0 : as->code[i + 1].live;
    for (uint32_t k = 0; k < one->jump_count; k++)
        live |= as->code[as->labels[one->jump_labels[k]].target].live;
    return call ? live & ~(1ull << one->product) : live;
}

static void flow_backwards(struct assembler *as) {
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = as->count; i-- > 0;) {
            struct instruction *one = &as->code[i];
            uint64_t live = live_after(as, i, one->product != ABSENT);
            live = (live & ~one->writes) | one->reads;
            changed |= live != one->live;
            one->live = live;
        }
    }
}

static bool flow_forwards(struct assembler *as) {
    as->code[0].reached = true;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < as->count; i++) {
            const struct instruction *one = &as->code[i];
            uint32_t next[JUMPS_MAX + 1];
            if (!one->reached) continue;
            for (uint32_t k = successors(as, i, next); k-- > 0;) {
                changed |= !as->code[next[k]].reached;
                as->code[next[k]].reached = true;
            }
        }
    }
    for (uint32_t i = 0; i < as->count; i++) {
        const struct instruction *one = &as->code[i];
        if (!one->reached) return wrong(as, one->line, "this is never reached");
    }
    return true;
}

/* ---- the program ---- */

static struct nk_live put_live(struct assembler *as, uint32_t ip, uint64_t live) {
    struct nk_program *program = &as->stub->program;
    struct nk_live set = {ip, 0, program->dead_count, 0};
    while (set.depth < 64 && live >> set.depth != 0)
        set.depth++;
    for (uint32_t reg = 0; reg < set.depth; reg++) {
        if ((live >> reg & 1) == 0) as->stub->dead[program->dead_count++] = reg;
    }
    set.dead_count = program->dead_count - set.dead_start;
    return set;
}

static void finish(struct assembler *as) {
    struct nk_stub *stub = as->stub;
    struct nk_program *program = &stub->program;
    for (uint32_t i = 0; i < as->count; i++) {
        const struct instruction *one = &as->code[i];
        stub->points[program->point_count++] = put_live(as, one->start, one->live);
        if (one->product == ABSENT) continue;
        struct nk_live kept = put_live(as, one->start, live_after(as, i, true));
        stub->words[one->call_word + 1] = kept.depth;
        stub->words[one->call_word + 2] = program->call_count;
        stub->calls[program->call_count++] = kept;
    }
    program->formula = NK_NONE;
    program->code = stub->words;
    program->literals = stub->literals;
    program->points = stub->points;
    program->calls = stub->calls;
    program->dead = stub->dead;
    program->registers = as->register_count;
}

bool nk_stub_read(struct nk_stub *stub, const char *text) {
    struct assembler *as = calloc(1, sizeof *as);
    NK_ASSERT(as != NULL);
    memset(stub, 0, sizeof *stub);
    as->stub = stub;
    as->at = text;
    bool good = true;
    while (good && *as->at != 0) {
        as->line++;
        good = read_line(as);
        as->at += strcspn(as->at, "\n");
        as->at += *as->at == '\n';
    }
    good = good && set_jumps(as);
    if (good) {
        flow_backwards(as);
        if ((as->code[0].live & ~as->given) != 0) {
            good =
                wrong(as, as->code[0].line, "a register is read before it is written");
        }
    }
    good = good && flow_forwards(as);
    if (good) finish(as);
    free(as);
    return good;
}

struct nk_program *nk_stub_new(struct nk_code *code, const char *name,
                               const char *text) {
    struct nk_stub *stub = malloc(sizeof *stub);
    NK_ASSERT(stub != NULL);
    if (!nk_stub_read(stub, text)) {
        fprintf(stderr, "%s, line %u: %s\n", name, stub->error_line, stub->error);
        NK_ASSERT(!"a program of the machine is wrong");
    }
    struct nk_program *program = nk_code_stub(code, &stub->program);
    free(stub);
    return program;
}
