/* Text as atoms: the bytes, the first one lowest. */
#ifndef NK_CORD_H
#define NK_CORD_H

#include "noun.h"

#define NK_CORD_2(a, b) ((nk_noun)(a) | (nk_noun)(b) << 8)
#define NK_CORD_3(a, b, c) (NK_CORD_2(a, b) | (nk_noun)(c) << 16)
#define NK_CORD_4(a, b, c, d) (NK_CORD_3(a, b, c) | (nk_noun)(d) << 24)

#endif
