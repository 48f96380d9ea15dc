/* See watch.h. */
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct watch {
    int fd;
    int exit_code;
};

static void *watch_main(void *context) {
    struct watch watch = *(struct watch *)context;
    free(context);
    for (;;) {
        /* No events asked for: unread data does not wake us, and a hang-up
         * is reported even while some is left. */
        struct pollfd poller = {.fd = watch.fd, .events = 0, .revents = 0};
        int ready = poll(&poller, 1, -1);
        if (ready < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        /* An error or a closed descriptor means as well that no king can be
         * heard any more. */
        _exit(watch.exit_code);
    }
    return NULL;
}

nk_status nk_watch_start(int fd, int exit_code) {
    struct watch *watch = malloc(sizeof *watch);
    pthread_t thread;
    sigset_t all, before;
    NK_ASSERT(watch != NULL);
    watch->fd = fd;
    watch->exit_code = exit_code;
    /* Signals are for the thread that Python runs its handlers in. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, watch_main, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        free(watch);
        return NK_IO;
    }
    pthread_detach(thread);
    return NK_OK;
}
