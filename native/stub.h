/* The assembler: programs of the machine written by hand, as text.
 *
 * A program is lines of one instruction each, with its operands in the order
 * of opcodes.h; a label in front of it ends with a colon, a comment begins
 * with a semicolon.
 *
 *             ld list core 12
 *     next:   jatom list end
 *             ld item list 2
 *             ld list list 3
 *             slam gate item -> product
 *             jmp next
 *
 *     d, a     a register by name. The first line may say which ones the
 *              program is given (`given core`, if it does not); another one
 *              begins where it is first named
 *     k        a literal: a number, or %term of at most seven letters
 *     p        an axis
 *     j        a label; only jmp goes backwards
 *     h        a helper's name (below)
 *     s        not written: each instruction has a site of its own
 *     !        the product: -> and a register
 *
 * `ld d a axis` stands for the shortest load. A helper's last operands may be
 * left out. The assembler works out which registers hold nouns at each
 * instruction, and refuses what reads one that may not have been written,
 * what is never reached, and what runs over its end.
 *
 * An arm that is a program begins with its core in register 0. `decline`
 * leaves it to the arm's own Nock, on the same core: at any time, for nothing
 * that Nock does can be seen twice; but what was called is called again. */
#ifndef NK_STUB_H
#define NK_STUB_H

#include "code.h"
#include "nock.h"

/* Helpers: what `do` calls. They read nouns and make one; they answer like a
 * jet (jet.h): NK_MEME collects and asks again, NK_PUNT declines. */
typedef nk_status (*nk_helper_fn)(struct nk_machine *machine, nk_noun a, nk_noun b,
                                  nk_noun c, nk_noun *product);
#define NK_HELPERS(X)                                                                  \
    X(reverse)  /* a: a list, from its end */                                          \
    X(last)     /* a b: the farther hair */                                            \
    X(stew)     /* a b: nail and tree of rules: the rule, or 0 */                      \
    X(gor)      /* a b: 0 where a goes left of b */                                    \
    X(set_put)  /* a b: the set a with b */                                            \
    X(drained)  /* a: a byte stream: is nothing left? */                               \
    X(extract)  /* a b c: of a stream, [skip size], and a list: [stream list], with    \
                   the octets in front */                                              \
    X(can_octs) /* a: octets in a list, as one */
enum nk_helper {
#define NK_HELPER_ENUM(name) NK_HELPER_##name,
    NK_HELPERS(NK_HELPER_ENUM)
#undef NK_HELPER_ENUM
        NK_HELPER_COUNT
};
#define NK_HELPER_DECLARE(name)                                                        \
    nk_status nk_help_##name(struct nk_machine *machine, nk_noun a, nk_noun b,         \
                             nk_noun c, nk_noun *product);
NK_HELPERS(NK_HELPER_DECLARE)
#undef NK_HELPER_DECLARE

#define NK_STUB_REGISTERS_MAX 32u
#define NK_STUB_LINES_MAX 128u
#define NK_STUB_WORDS_MAX (NK_STUB_LINES_MAX * 10)
#define NK_STUB_NAME_MAX 16u

/* A program as it was read. */
struct nk_stub {
    uint32_t words[NK_STUB_WORDS_MAX];
    nk_noun literals[NK_STUB_LINES_MAX];
    struct nk_live points[NK_STUB_LINES_MAX], calls[NK_STUB_LINES_MAX];
    uint32_t dead[2 * NK_STUB_LINES_MAX * NK_STUB_REGISTERS_MAX];
    struct nk_program program; /* shows these; has neither sites nor formula */
    uint32_t error_line;       /* 0: none */
    const char *error;
};

/* False: [stub] says what is wrong where. */
bool nk_stub_read(struct nk_stub *stub, const char *text);

/* Assemble a program that lives as long as [code]. [name] is for the message
 * that a mistake ends the process with. */
struct nk_program *nk_stub_new(struct nk_code *code, const char *name,
                               const char *text);

#endif
