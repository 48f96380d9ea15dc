/* units: machine */
/* The assembler: what it makes of a program, and every mistake that it finds.
 * What the programs do is tested with their arms (jets_test, and the property
 * tests). */
#include <string.h>

#include "check.h"
#include "stub.h"

static struct nk_stub stub;

static bool reads(const char *text) {
    bool good = nk_stub_read(&stub, text);
    if (!good) fprintf(stderr, "line %u: %s\n", stub.error_line, stub.error);
    return good;
}

static void test_a_program(void) {
    CHECK(reads("; a loop\n"
                "      ld list core 24\n"
                "      ld gate core 6 ; the head of it\n"
                "      ldk made %done\n"
                "next: jatom list end\n"
                "      ld list list 3\n"
                "      slam gate list -> product\n"
                "      cons made product made\n"
                "      do reverse made made\n"
                "      jmp next\n"
                "\n"
                "end:  ret made"));
    /* clang-format off */
    const uint32_t want[] = {
        NK_OP_LDP, 1, 0, 17,              /* list 1, core 0 */
        NK_OP_LD6, 2, 0,                  /* gate 2 */
        NK_OP_LDK, 3, 0,                  /* made 3 */
        NK_OP_JATOM, 1, 36 - 10,          /* next, at 10 */
        NK_OP_LD3, 1, 1,
        NK_OP_SLAM, 0, 2, 1, 4, 4, 0, 24, /* product 4; four stay */
        NK_OP_CONS, 3, 4, 3,
        NK_OP_DO, NK_HELPER_reverse, 3, 3, 3, 3, /* b and c were left out */
        NK_OP_JMP, (uint32_t)(10 - 34),   /* at 34 */
        NK_OP_RET, 3,                     /* end, at 36 */
    };
    /* clang-format on */
    const struct nk_program *program = &stub.program;
    CHECK(program->code_count == sizeof want / sizeof *want);
    CHECK(memcmp(program->code, want, sizeof want) == 0);
    CHECK(program->registers == 5);
    CHECK(program->site_count == 1);
    nk_noun done;
    memcpy(&done, "done\0\0\0\0", sizeof done);
    CHECK(program->literal_count == 1 && program->literals[0] == done);
    /* While the call is away: list, gate and made; the core is needed no more. */
    CHECK(program->call_count == 1 && program->calls[0].depth == 4);
    CHECK(program->calls[0].dead_count == 1);
    CHECK(program->dead[program->calls[0].dead_start] == 0);
    /* At the end: made alone. */
    const struct nk_live *last = nk_code_point(program, program->code + 36);
    CHECK(last != NULL && last->depth == 4 && last->dead_count == 3);
    /* At the start: the core. */
    const struct nk_live *first = nk_code_point(program, program->code);
    CHECK(first != NULL && first->depth == 1 && first->dead_count == 0);
}

static void test_given(void) {
    CHECK(reads("given gate sample\ntslam gate sample\n"));
    CHECK(stub.program.registers == 2 && stub.program.code_count == 4);
    CHECK(stub.program.code[2] == 0 && stub.program.code[3] == 1);
}

static void test_mistakes(void) {
    const struct {
        uint32_t line;
        const char *what, *text;
    } cases[] = {
        {1, "no such instruction", "frob core"},
        {1, "no such instruction", "RET core"},
        {2, "never reached", "ret core\nret core"},
        {1, "over its end", "ld a core 2"},
        {3, "over its end", "next: ld a core 2\njatom a next2\nnext2: ld a core 3"},
        {1, "empty", "; nothing"},
        {2, "nothing writes", "ld a core 2\nret b"},
        {1, "before it is written", "jatom core end\nldk a 1\nend: ret a"},
        {1, "an operand is missing", "ret"},
        {1, "an operand is missing", "do reverse a"},
        {1, "an operand too many", "ret core core"},
        {1, "no label", "jmp 12"},
        {1, "no such label", "jmp nowhere"},
        {2, "a label stands twice", "a: jatom core a\na: ret core"},
        {2, "only jmp goes backwards", "a: ld b core 2\njatom b a\nret b"},
        {1, "no axis", "ld a core 1"},
        {1, "no axis", "ld a core six"},
        {1, "no literal", "retk zero"},
        {1, "no literal", "retk %eightlet"},
        {1, "no literal", "retk 9999999999"},
        {1, "no register", "ld 7 core 2"},
        {1, "no helper", "do nothing a core"},
        {1, "a call needs ->", "slam core core b"},
        {1, "a call needs ->", "slam core core ->"},
        {1, "an operand is missing", "slam core core"},
        {1, "not for programs by hand", "unbout core core 1"},
        {1, "not for programs by hand", "sham a core core end\nend: ret core"},
        {1, "too long", "ret averyveryverylongname"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool good = nk_stub_read(&stub, cases[i].text);
        if (good) fprintf(stderr, "%s\n", cases[i].text);
        CHECK(!good);
        if (strstr(stub.error, cases[i].what) == NULL) {
            fprintf(stderr, "%s\n%s\n", cases[i].text, stub.error);
        }
        CHECK(strstr(stub.error, cases[i].what) != NULL);
        if (stub.error_line != cases[i].line) {
            fprintf(stderr, "%s\nline %u\n", cases[i].text, stub.error_line);
        }
        CHECK(stub.error_line == cases[i].line);
    }
}

static void test_limits(void) {
    char text[NK_STUB_LINES_MAX * 24 + 100] = "";
    for (uint32_t i = 0; i < NK_STUB_LINES_MAX; i++)
        strcat(text, "ld a core 2\n");
    CHECK(!nk_stub_read(&stub, strcat(text, "ret a\n")));
    CHECK(stub.error_line == NK_STUB_LINES_MAX + 1);
    text[0] = 0;
    for (uint32_t i = 1; i < NK_STUB_REGISTERS_MAX; i++)
        snprintf(text + strlen(text), 24, "ld a%u core 2\n", i);
    CHECK(reads(strcat(text, "ret a1\n")));
    CHECK(stub.program.registers == NK_STUB_REGISTERS_MAX);
    text[strlen(text) - strlen("ret a1\n")] = 0;
    CHECK(!nk_stub_read(&stub, strcat(text, "ld b core 2\nret b\n")));
    CHECK(stub.error_line == NK_STUB_REGISTERS_MAX);
}

int main(void) {
    test_a_program();
    test_given();
    test_mistakes();
    test_limits();
    return 0;
}
