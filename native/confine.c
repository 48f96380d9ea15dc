/* See confine.h.
 *
 * The filter is a straight line of BPF. For each allowed call: compare the
 * number, perhaps look at an argument, answer. Arguments that are pointers
 * cannot be looked through, hence no call that takes a path is allowed.
 */
#include "confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "confinement knows x86-64 and aarch64 only"
#endif

/* The same number everywhere; older headers lack them. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

/* --- The filter --------------------------------------------------------- */

#define FILTER_MAX 512u

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short count;
};

static void emit(struct filter *f, unsigned code, unsigned value, unsigned char yes,
                 unsigned char no) {
    NK_ASSERT(f->count < FILTER_MAX);
    f->code[f->count++] = (struct sock_filter){(unsigned short)code, yes, no, value};
}

static void load(struct filter *f, size_t offset) {
    emit(f, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0);
}

static void answer(struct filter *f, unsigned action) {
    emit(f, BPF_RET | BPF_K, action, 0, 0);
}

static size_t argument_low(unsigned index) {
    return offsetof(struct seccomp_data, args) + index * 8;
}

static size_t argument_high(unsigned index) {
    return argument_low(index) + 4;
}

#define REFUSE(code) (SECCOMP_RET_ERRNO | (unsigned)(code))

/* In all of these the accumulator holds the call's number, and does again
 * afterwards: the ends of a call's own checks are always answers. */

static void allow(struct filter *f, long call) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1);
    answer(f, SECCOMP_RET_ALLOW);
}

static void refuse(struct filter *f, long call, int error) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1);
    answer(f, REFUSE(error));
}

/* Only if argument [index] has none ([want] = false) or any of [mask]. */
static void allow_bits(struct filter *f, long call, unsigned index, unsigned mask,
                       bool want) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4);
    load(f, argument_low(index));
    emit(f, BPF_JMP | BPF_JSET | BPF_K, mask, want ? 0 : 1, want ? 1 : 0);
    answer(f, SECCOMP_RET_ALLOW);
    answer(f, REFUSE(EPERM));
}

/* Only if argument [index], an int, is [value]. */
static void allow_int(struct filter *f, long call, unsigned index, unsigned value) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4);
    load(f, argument_low(index));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(f, SECCOMP_RET_ALLOW);
    answer(f, REFUSE(EPERM));
}

/* Limits may be read, our own: pid 0, no new limit. */
static void allow_prlimit(struct filter *f) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 8);
    load(f, argument_low(0));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5);
    load(f, argument_low(2));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(f, argument_high(2));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    answer(f, SECCOMP_RET_ALLOW);
    answer(f, REFUSE(EPERM));
}

/* Flags of a descriptor; not F_SETOWN and F_SETSIG, which aim signals, nor
 * locks, nor F_DUPFD. */
static void allow_fcntl(struct filter *f) {
    static const unsigned commands[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL};
    unsigned char left = sizeof commands / sizeof *commands;
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, (unsigned char)(left + 3));
    load(f, argument_low(1));
    for (unsigned i = 0; left > 0; i++, left--) {
        emit(f, BPF_JMP | BPF_JEQ | BPF_K, commands[i], left, 0);
    }
    answer(f, REFUSE(EPERM));
    answer(f, SECCOMP_RET_ALLOW);
}

static const unsigned short plain_calls[] = {
    /* Descriptors that are kept. */
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_preadv2,
    SYS_pwritev2,
    SYS_lseek,
    SYS_fdatasync,
    SYS_fsync,
    SYS_sync_file_range,
    SYS_fadvise64,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fstat,
    SYS_close,
    SYS_ppoll,
    SYS_pselect6,
    /* Memory; mmap and mprotect see below. */
    SYS_munmap,
    SYS_madvise,
    SYS_mremap,
    SYS_brk,
    SYS_mincore,
    SYS_msync,
    /* Threads; clone see below. */
    SYS_futex,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_rseq,
    SYS_membarrier,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_getcpu,
    SYS_set_tid_address,
    SYS_gettid,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    /* Time. */
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_times,
    /* Signals of our own. */
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_sigaltstack,
    /* Who and what we are. */
    SYS_getpid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrusage,
    SYS_getrlimit,
    SYS_sysinfo,
    SYS_uname,
    SYS_getrandom,
#if defined(__x86_64__)
    SYS_poll,
    SYS_select,
    SYS_time,
#endif
};

static void make_filter(struct filter *f) {
    f->count = 0;
    load(f, offsetof(struct seccomp_data, arch));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
    answer(f, REFUSE(EPERM));
    load(f, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    /* The x32 calls have the same arch and a bit of their own. */
    emit(f, BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1);
    answer(f, REFUSE(EPERM));
#endif
    for (size_t i = 0; i < sizeof plain_calls / sizeof *plain_calls; i++) {
        allow(f, plain_calls[i]);
    }
    allow_bits(f, SYS_mmap, 2, PROT_EXEC, false);
    allow_bits(f, SYS_mprotect, 2, PROT_EXEC, false);
    allow_bits(f, SYS_clone, 0, CLONE_THREAD, true);
    /* Its flags lie behind a pointer; glibc then falls back to clone. */
    refuse(f, SYS_clone3, ENOSYS);
    /* abort() and pthread_kill(), of our own threads. */
    allow_int(f, SYS_tgkill, 0, (unsigned)getpid());
    allow_prlimit(f);
    allow_fcntl(f);
    answer(f, REFUSE(EPERM));
}

/* --- Landlock ------------------------------------------------------------ */

/* struct landlock_ruleset_attr as of ABI 6; the kernel takes any length up to
 * what it knows, and the build machine's headers may know less. */
struct ruleset {
    uint64_t files;
    uint64_t network;
    uint64_t scope;
};

#define RULESET_VERSION 1u /* LANDLOCK_CREATE_RULESET_VERSION */

/* Every access right that the kernel's ABI knows, and no rule that grants
 * one. */
static uint32_t landlock(char message[256]) {
    struct ruleset rules = {0, 0, 0};
    uint32_t in_force = NK_CONFINE_LANDLOCK_FILES;
    size_t size = sizeof rules.files;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, RULESET_VERSION);
    if (abi < 1) {
        snprintf(message, 256, "confine: no Landlock: %s", strerror(errno));
        return 0;
    }
    rules.files = (1ull << 13) - 1;
    if (abi >= 2) rules.files |= 1ull << 13; /* refer */
    if (abi >= 3) rules.files |= 1ull << 14; /* truncate */
    if (abi >= 5) rules.files |= 1ull << 15; /* ioctl on devices */
    if (abi >= 4) {
        rules.network = 3; /* bind and connect, TCP */
        size = offsetof(struct ruleset, scope);
        in_force |= NK_CONFINE_LANDLOCK_NETWORK;
    }
    if (abi >= 6) {
        rules.scope = 3; /* abstract sockets, signals */
        size = sizeof rules;
        in_force |= NK_CONFINE_LANDLOCK_SCOPE;
    }
    long fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) != 0) {
        snprintf(message, 256, "confine: Landlock refused: %s", strerror(errno));
        in_force = 0;
    }
    if (fd >= 0) close((int)fd);
    return in_force;
}

/* --- Descriptors ---------------------------------------------------------- */

static int by_number(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static bool close_range_all(unsigned first, unsigned last) {
    if (syscall(SYS_close_range, first, last, 0) == 0) return true;
    if (errno != ENOSYS && errno != EPERM) return false;
    /* A kernel before 5.9, or a container's filter that knows no better. */
    long most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > 1 << 20) most = 1 << 20;
    for (unsigned fd = first; fd <= last && fd < (unsigned)most; fd++) {
        (void)close((int)fd);
    }
    return true;
}

static bool close_others(const int *keep_fds, size_t count) {
    int *keep = malloc((count + 1) * sizeof *keep);
    unsigned first = 0;
    bool done = true;
    NK_ASSERT(keep != NULL);
    memcpy(keep, keep_fds, count * sizeof *keep);
    qsort(keep, count, sizeof *keep, by_number);
    for (size_t i = 0; i < count && done; i++) {
        if (keep[i] < 0 || (unsigned)keep[i] < first) continue;
        unsigned fd = (unsigned)keep[i];
        if (fd > first) done = close_range_all(first, fd - 1);
        first = fd + 1;
    }
    if (done) done = close_range_all(first, ~0u);
    free(keep);
    return done;
}

nk_status nk_confine(const int *keep_fds, size_t keep_count, uint32_t *in_force,
                     char message[256]) {
    struct filter *filter = malloc(sizeof *filter);
    nk_status status = NK_IO;
    NK_ASSERT(filter != NULL);
    *in_force = 0;
    message[0] = 0;
    if (!close_others(keep_fds, keep_count)) {
        snprintf(message, 256, "confine: cannot close: %s", strerror(errno));
        goto done;
    }
    *in_force |= NK_CONFINE_DESCRIPTORS;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        snprintf(message, 256, "confine: no_new_privs: %s", strerror(errno));
        goto done;
    }
    *in_force |= NK_CONFINE_NO_NEW_PRIVILEGES;
    *in_force |= landlock(message);
    make_filter(filter);
    struct sock_fprog program = {filter->count, filter->code};
    /* A thread that cannot follow is answered by its id, above zero. */
    long refused = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                           SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (refused != 0) {
        snprintf(message, 256, "confine: seccomp: %s",
                 refused > 0 ? "a thread cannot follow" : strerror(errno));
        goto done;
    }
    *in_force |= NK_CONFINE_SECCOMP;
    status = NK_OK;
done:
    free(filter);
    return status;
}
