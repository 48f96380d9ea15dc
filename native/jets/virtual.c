/* Layer qua: virtualisation. mule and mole run their trap once, through what
 * their parent calls mute and mure: the layer, or, in 135, a door in it (vi). */
#include "sample.h"

static const char mink[] = "        ld subject core 24\n"
                           "        ld formula core 25\n"
                           "        ld handler core 13\n"
                           "        mink subject formula handler unwound -> product\n"
                           "        minkdone product product\n"
                           "        ret product\n"
                           "unwound: unwound product\n"
                           "        ret product\n";

/* [hook]: the arm of the parent that makes a formula for the trap. */
#define TRAP(hook)                                                                     \
    "ld parent core 7\n"                                                               \
    "hook formula parent " hook "\n"                                                   \
    "nock parent formula -> gate\n"                                                    \
    "ld trap core 6\n"                                                                 \
    "tslam gate trap\n"

const struct nk_arm nk_arms_virtual[] = {NK_ARM_PROGRAM("qua/mink", mink),
                                         {"qua/mule", NULL, TRAP("%mute"), "mute"},
                                         {"qua/mole", NULL, TRAP("%mure"), "mure"},
                                         {"qua/vi/mule", NULL, TRAP("%mute"), "mute"},
                                         {"qua/vi/mole", NULL, TRAP("%mure"), "mure"},
                                         NK_ARMS_END};
