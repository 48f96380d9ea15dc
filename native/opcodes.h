/* The instructions of the Nock machine, one line each: name, length in words,
 * kinds of the operands (d result, a read, k literal, p path, j jump, s site,
 * n number, h helper, ! the four words of a call).
 *
 * An instruction is a run of 32-bit words, the opcode first. Operands:
 *     d    register that receives the result
 *     a b  registers read; v a value, c a core, s a subject, f a formula
 *     k    index of a literal
 *     p    a path: one bit a step, lowest first, under a sentinel 1
 *     j    jump distance in words from the start of the instruction
 *     h    index of a helper (stub.h)
 *     call site, and the four words of a call (see NK_CALL_WORDS)
 * Registers are numbered from the frame's base; register 0 receives the
 * subject. An instruction changes no register before it is certain to
 * complete, so it can be started again after a collection.
 */
#ifndef NK_OPCODES_H
#define NK_OPCODES_H

#include <stdint.h>

/* What every call ends with, read backwards from the return address:
 *     [-4] register for the product     [-2] index of the call's live set
 *     [-3] registers that stay below    [-1] offset from the code's start */
#define NK_CALL_WORDS 4u

#define NK_OPCODES(X)                                                                  \
    X(HALT, 2, "a")        /* a: the run's product */                                  \
    X(BAIL, 1, "")         /* crash */                                                 \
    X(RET, 2, "a")         /* a */                                                     \
    X(RETK, 2, "k")        /* k */                                                     \
    X(MOVE, 3, "da")       /* d a */                                                   \
    X(LDK, 3, "dk")        /* d k */                                                   \
    X(LD2, 3, "da")        /* d a: slots by small axis */                              \
    X(LD3, 3, "da")        /* d a */                                                   \
    X(LD4, 3, "da")        /* d a */                                                   \
    X(LD5, 3, "da")        /* d a */                                                   \
    X(LD6, 3, "da")        /* d a */                                                   \
    X(LD7, 3, "da")        /* d a */                                                   \
    X(LD12, 3, "da")       /* d a: a gate's sample: its parts */                       \
    X(LD13, 3, "da")       /* d a */                                                   \
    X(LD14, 3, "da")       /* d a */                                                   \
    X(LD15, 3, "da")       /* d a */                                                   \
    X(LDP, 4, "dap")       /* d a p */                                                 \
    X(LDBIG, 4, "dak")     /* d a k */                                                 \
    X(CONS, 4, "daa")      /* d a b */                                                 \
    X(CONSK, 4, "dka")     /* d k b */                                                 \
    X(INC, 3, "da")        /* d a */                                                   \
    X(ISCELL, 3, "da")     /* d a */                                                   \
    X(EQ, 4, "daa")        /* d a b */                                                 \
    X(EQK, 4, "dak")       /* d a k, a direct atom */                                  \
    X(JMP, 2, "j")         /* j */                                                     \
    X(JNE, 4, "aaj")       /* a b j */                                                 \
    X(JNEK, 4, "akj")      /* a k j, a direct atom */                                  \
    X(JATOM, 3, "aj")      /* a j */                                                   \
    X(JTEST, 3, "aj")      /* a j: 0 goes on, 1 jumps, else crash */                   \
    X(JEQ, 4, "aaj")       /* a b j: direct atoms */                                   \
    X(COUNTED, 3, "sj")    /* s j: unless its call runs this program, jump */          \
    X(COUNTER, 5, "dapj")  /* d a p j: a slot that is a direct atom, or jump */        \
    X(UP, 4, "daj")        /* d a j: one more, or jump where that is not direct */     \
    X(ROUND, 4, "daj")     /* d a j: move, and go back */                              \
    X(EDIT2, 4, "daa")     /* d a v */                                                 \
    X(EDIT3, 4, "daa")     /* d a v */                                                 \
    X(EDIT6, 4, "daa")     /* d a v */                                                 \
    X(EDIT7, 4, "daa")     /* d a v */                                                 \
    X(EDITP, 5, "daap")    /* d a v p */                                               \
    X(EDITBIG, 5, "daak")  /* d a v k */                                               \
    X(NOCK, 8, "saa!")     /* site s f call */                                         \
    X(TNOCK, 4, "saa")     /* site s f */                                              \
    X(KICK, 7, "sa!")      /* site c call */                                           \
    X(TKICK, 3, "sa")      /* site c */                                                \
    X(SLAM, 8, "saa!")     /* site c v call: 9 2 10 [6 v] c */                         \
    X(TSLAM, 4, "saa")     /* site c v */                                              \
    X(TRACE, 3, "ka")      /* k a: push [k a] on the trace */                          \
    X(UNTRACE, 1, "")      /* pop it */                                                \
    X(SLOG, 2, "a")        /* a */                                                     \
    X(FAST, 3, "aa")       /* c a: register core c with clue a */                      \
    X(MEMO, 6, "daakj")    /* d a s k j: clue a; on a hit set d and jump */            \
    X(MEMOPUT, 5, "aaak")  /* v a s k */                                               \
    X(LOOP, 3, "ak")       /* s k: fail if in progress, else note it */                \
    X(UNLOOP, 1, "")       /* */                                                       \
    X(JINX, 3, "da")       /* d a: deadline a; d keeps the outer one */                \
    X(UNJINX, 2, "a")      /* a */                                                     \
    X(BOUT, 2, "d")        /* d: the time */                                           \
    X(UNBOUT, 4, "aan")    /* a b: since a; clue b where [3] is not 0 */               \
    X(HINT, 2, "k")        /* k: a hint for the operator */                            \
    X(SHAM, 5, "daaj")     /* d a c j: jet named a on core c; jump if it ran */        \
    X(SCRY, 7, "aa!")      /* a b call: opcode 12 */                                   \
    X(SCRYDONE, 5, "daaa") /* d v a b */                                               \
    X(MINK, 9, "aaaj!")    /* s f v j call: handler v; j: it crashed or blocked */     \
    X(MINKDONE, 3, "da")   /* d a: its product was a */                                \
    X(UNWOUND, 2, "d")     /* d: what a mink that crashed or blocked makes */          \
    X(HOOK, 4, "dak")      /* d c k: formula of the arm that c's core calls k */       \
    X(CHECK, 8, "ajj!")    /* c j l call: run the jet that is to be checked; j: its    \
                              answer stands; l: it declined */                         \
    X(RECHECK, 2, "a")     /* v: what it gave; now for the Nock of it */               \
    X(CHECKED, 3, "aa")    /* v w: was it the same? */                                 \
    X(RECALL, 5, "ddaj") /* d k c j: k is what core c is remembered by; hit: set d */  \
    X(RECORD, 4, "aaa")  /* v k c: remember v by k, unless k is 0 */                   \
    X(DO, 6, "hdaaa")    /* h d a b c: what a helper makes of them */                  \
    X(DECLINE, 1, "")    /* this arm's own Nock, with the core in register 0 */

enum nk_opcode {
#define NK_OPCODE_ENUM(name, words, kinds) NK_OP_##name,
    NK_OPCODES(NK_OPCODE_ENUM)
#undef NK_OPCODE_ENUM
        NK_OP_COUNT
};

/* The path to an axis of 2 or more that LDP takes: turns, the last one lowest,
 * under a sentinel. */
static inline uint32_t nk_path(uint64_t axis) {
    uint32_t path = 1;
    for (; axis > 1; axis >>= 1)
        path = path << 1 | (uint32_t)(axis & 1);
    return path;
}

static inline uint32_t nk_opcode_words(enum nk_opcode op) {
    static const uint8_t words[] = {
#define NK_OPCODE_WORDS(name, words, kinds) words,
        NK_OPCODES(NK_OPCODE_WORDS)
#undef NK_OPCODE_WORDS
    };
    return words[op];
}

/* The load of a slot: LDP where no shorter one is made for it. */
static inline uint32_t nk_load_opcode(uint64_t axis) {
    if (axis >= 2 && axis <= 7) return NK_OP_LD2 + (uint32_t)(axis - 2);
    if (axis >= 12 && axis <= 15) return NK_OP_LD12 + (uint32_t)(axis - 12);
    return NK_OP_LDP;
}

#endif
