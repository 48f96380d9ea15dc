/* Confinement: what the serf can still do once it runs other people's code.
 *
 * After it the process can read and write the descriptors that it keeps,
 * manage its own memory and threads, tell the time, and exit. It cannot open
 * or name a file, make a socket, fork, exec, trace or signal another process,
 * or make memory executable. Whatever is refused answers EPERM; nothing
 * kills the process, so that Python can say what it ran into.
 *
 * Three layers: every descriptor but those named is closed; a seccomp filter
 * that lists what is allowed (for all threads that exist); Landlock without
 * any rule, where the kernel has it (for the calling thread and those that it
 * makes later: so confine before threads are started).
 *
 * Invariants: irrevocable; inherited by everything that comes after.
 * Limits: x86-64 and aarch64 Linux. fstat(2) in glibc 2.33 to 2.38 is refused
 *   (it calls newfstatat, which could name a file): ask for sizes before.
 */
#ifndef NK_CONFINE_H
#define NK_CONFINE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* What came into force. All but NK_CONFINE_LANDLOCK_* are always there. */
#define NK_CONFINE_DESCRIPTORS 1u
#define NK_CONFINE_NO_NEW_PRIVILEGES 2u
#define NK_CONFINE_SECCOMP 4u
#define NK_CONFINE_LANDLOCK_FILES 8u
#define NK_CONFINE_LANDLOCK_NETWORK 16u
#define NK_CONFINE_LANDLOCK_SCOPE 32u /* abstract sockets, signals */

/* Confine this process to [keep_fds] (in any order; those that are not open
 * are ignored). *in_force receives the bits above. NK_IO with [message]: a
 * layer that must be there is not, and the serf must not go on. NK_OK with a
 * [message] that is not empty: a layer that may be missing is. */
nk_status nk_confine(const int *keep_fds, size_t keep_count, uint32_t *in_force,
                     char message[256]);

#endif
