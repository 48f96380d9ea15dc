/* Layer qua: virtualisation. Programs of the machine (nock.c). mule and
 * mole run their trap once, through what their parent calls mute and mure. */
#include "sample.h"

const struct nk_arm nk_arms_virtual[] = {{"qua/mink", NULL, NK_BUILTIN_MINK, NULL},
                                         {"qua/mule", NULL, NK_BUILTIN_MULE, "mute"},
                                         {"qua/mole", NULL, NK_BUILTIN_MOLE, "mure"},
                                         NK_ARMS_END};
