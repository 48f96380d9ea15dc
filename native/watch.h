/* Watch: the serf leaves when its king is gone.
 *
 * A thread polls the pipe that the king writes to, for hang-up alone. The
 * event thread may be deep in a long event, or the pipe full of writs that
 * nobody will ever want answered: it leaves all the same, at once, so that
 * an orphan never holds the pier's lock. Dying at any point is safe: what
 * matters is in the king's log, and a torn save only hits what no good
 * superblock refers to.
 *
 * Owns: one detached thread. Started after confinement.
 * Limits: hang-up of a pipe or socket only; no way to stop it. A king that
 *   wants an orderly end keeps its end open until the serf has exited.
 */
#ifndef NK_WATCH_H
#define NK_WATCH_H

#include "status.h"

/* Start watching [fd]; the process ends by _exit([exit_code]) when no one
 * holds the other end. NK_IO where no thread can be made. */
nk_status nk_watch_start(int fd, int exit_code);

#endif
