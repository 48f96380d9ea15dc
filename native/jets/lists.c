#include "../jet.h"
const struct nk_arm nk_arms_lists[] = {{NULL, NULL, NK_BUILTIN_NONE, NULL}};
