#include "../jet.h"
const struct nk_arm nk_arms_serial[] = {{NULL, NULL, NK_BUILTIN_NONE, NULL}};
