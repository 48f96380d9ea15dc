/* The lab's witness: a preloaded library between a process and its disk.
 *
 * It records every call that changes a file, a name or what is durable, below
 * one directory, with data, into a file that all processes of a run map; and
 * it can make one call fail, or be the last thing that a process did. It is no
 * part of the serf's core: `king/lab/witness.py` loads it with LD_PRELOAD, and
 * is its only reader. Without TREADLE_WITNESS in the environment, and until
 * witness_attach(), it does nothing.
 *
 *     TREADLE_WITNESS       the trace, made by the lab, with a control page
 *     TREADLE_WITNESS_ROOT  absolute; what happens elsewhere is not recorded
 *
 * The trace: a control page, then records, each a multiple of 8 bytes. A
 * record's place is taken with one atomic addition *before* its call: that is
 * the one order across threads and processes. `state` says whether the call
 * came to its end.
 *
 * Owns: the mapping; which descriptors lead to files below the root.
 * Invariants: a call that is not interfered with does what it always does,
 *   with the same errno; nothing here opens, locks or allocates after attach,
 *   so that a confined serf may go on using it.
 * Limits: descriptors below FDS_MAX; data written through a mapping is not
 *   seen (LMDB's lock.mdb and the king's `released`, which are hints); dup'ed
 *   descriptors are not followed. Interposing leaves no context to hang state
 *   from: this file alone has static mutable data.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define FDS_MAX 65536

/* --- The trace; king/lab/witness.py knows this layout ---------------------- */

enum kind {
    OPEN = 1, /* of a file below the root, however opened */
    CLOSE,
    WRITE,    /* of whatever name, at `offset`, `length` bytes */
    TRUNCATE, /* to `length` */
    ALLOCATE, /* `offset`, `length` */
    SYNC,     /* fsync, fdatasync, sync_file_range */
    RENAME,
    UNLINK, /* and rmdir */
    LINK,
    MKDIR,
    NOTE, /* of the lab itself */
};

enum fault {
    FAULT_NONE,
    FAULT_ERRNO,  /* fail with `argument` */
    FAULT_SHORT,  /* write half */
    FAULT_SLOW,   /* sleep `argument` microseconds first */
    FAULT_BEFORE, /* die before the call */
    FAULT_TORN,   /* write `argument` bytes at most, then die */
    FAULT_AFTER,  /* die after the call */
    FAULT_HALT,   /* before the call, stand still: the lab does the killing */
};

struct control {
    uint8_t magic[8];
    uint64_t size;         /* of the whole file */
    _Atomic uint64_t used; /* up to here records were begun */
    _Atomic uint64_t calls[2];
    _Atomic uint32_t processes;
    _Atomic uint32_t halted;
    _Atomic uint32_t overflow; /* a record found no room */
    uint32_t with_data;
    /* The fault: at the `at`th counted call of `role`, 1-based; `every`: at
     * each from there on, until the lab clears `kind`. */
    _Atomic uint32_t kind;
    uint32_t role;
    uint64_t at;
    uint32_t argument;
    uint32_t every;
    _Atomic uint32_t hits;
};

struct record {
    uint32_t size; /* with what follows */
    uint16_t kind;
    uint16_t process;
    int32_t fd;
    int32_t flags;
    int64_t offset;
    int64_t length;
    int64_t result;
    int32_t error;
    _Atomic uint32_t state; /* 1: the call has returned */
    uint64_t nanoseconds;
    uint32_t path_size;
    uint32_t other_size;
    /* then path, other path, data */
};

_Static_assert(sizeof(struct record) == 64, "witness.py unpacks 64 bytes");
_Static_assert(offsetof(struct control, kind) == 56, "witness.py packs the fault");

enum { FIRST_RECORD = 4096 };
static const uint8_t magic[8] = {'w', 'i', 't', 'n', 'e', 's', 's', '\n'};

/* --- State ----------------------------------------------------------------- */

static struct control *control;
static char root[PATH_MAX];
static size_t root_size;
static uint32_t role;
static uint16_t process;
static pid_t owner; /* a vfork'ed child shares our memory: it is not us */

#define FD_KNOWN 1
#define FD_SYNCED 2 /* O_SYNC, O_DSYNC */
static _Atomic uint8_t fds[FDS_MAX];

#define REAL(type, name, ...)                                                          \
    static type (*real)(__VA_ARGS__);                                                  \
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, name)

static bool is_watching(void) {
    return control != NULL && getpid() == owner;
}

static uint8_t fd_flags(int fd) {
    if (!is_watching() || fd < 0 || fd >= FDS_MAX) return 0;
    return atomic_load_explicit(&fds[fd], memory_order_relaxed);
}

/* --- Paths ----------------------------------------------------------------- */

/* [path] as an absolute one without `.`, `..` and double slashes. */
static bool absolute(int folder, const char *path, char out[PATH_MAX]) {
    char whole[2 * PATH_MAX];
    size_t at = 0;
    ssize_t size = 0;
    if (path == NULL) return false;
    if (path[0] != '/') {
        char link[64];
        if (folder == AT_FDCWD) {
            snprintf(link, sizeof link, "/proc/self/cwd");
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        }
        size = readlink(link, whole, PATH_MAX - 1);
        if (size < 0) return false;
    }
    int rest = snprintf(whole + size, sizeof whole - (size_t)size, "/%s", path);
    if (rest < 0 || (size_t)rest >= sizeof whole - (size_t)size) return false;
    for (const char *part = whole; *part != 0;) {
        while (*part == '/')
            part++;
        size_t length = strcspn(part, "/");
        if (length == 2 && memcmp(part, "..", 2) == 0) {
            while (at > 0 && out[--at] != '/') {
            }
        } else if (length > 0 && !(length == 1 && *part == '.')) {
            if (at + length + 2 > PATH_MAX) return false;
            out[at++] = '/';
            memcpy(out + at, part, length);
            at += length;
        }
        part += length;
    }
    out[at] = 0;
    return true;
}

static bool is_below_root(const char *path) {
    return strncmp(path, root, root_size) == 0 &&
           (path[root_size] == '/' || path[root_size] == 0);
}

/* Is [path] ours? Then [out] is its absolute form. */
static bool is_ours(int folder, const char *path, char out[PATH_MAX]) {
    return is_watching() && absolute(folder, path, out) && is_below_root(out);
}

/* --- Recording ------------------------------------------------------------- */

struct call {
    struct record *record; /* NULL where there is no room */
    uint32_t fault;
    uint32_t argument;
};

static void die(void) {
    /* Of the ways to die the only one that a confined serf may choose. */
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGKILL);
}

static void rest(uint32_t microseconds) {
    struct timespec time = {microseconds / 1000000,
                            (long)(microseconds % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static struct record *take_record(enum kind kind, size_t payload) {
    uint64_t size = (sizeof(struct record) + payload + 7) / 8 * 8;
    uint64_t at = atomic_fetch_add(&control->used, size);
    if (at + size > control->size) {
        atomic_store(&control->overflow, 1);
        return NULL;
    }
    struct record *record = (struct record *)(void *)((char *)control + at);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    record->size = (uint32_t)size;
    record->kind = (uint16_t)kind;
    record->process = process;
    record->nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return record;
}

/* Which faults can befall which calls. */
static bool can_fail(enum kind kind, int flags, uint32_t error) {
    switch (error) {
    case EINTR:
        return kind == WRITE || kind == SYNC || kind == ALLOCATE;
    case ENOSPC:
        return kind == WRITE || kind == ALLOCATE || kind == MKDIR || kind == LINK ||
               kind == RENAME || (kind == OPEN && (flags & O_CREAT) != 0);
    case EROFS:
        return kind != SYNC;
    default:
        return true;
    }
}

static uint32_t choose_fault(enum kind kind, int flags) {
    uint64_t number = atomic_fetch_add(&control->calls[role], 1) + 1;
    uint32_t fault = atomic_load(&control->kind);
    if (fault == FAULT_NONE || control->role != role) return FAULT_NONE;
    if (control->every ? number < control->at : number != control->at) {
        return FAULT_NONE;
    }
    if (fault == FAULT_ERRNO && !can_fail(kind, flags, control->argument)) {
        return FAULT_NONE;
    }
    atomic_fetch_add(&control->hits, 1);
    return fault;
}

/* Begin a call; `counted`: faults may befall it. */
static struct call begin(enum kind kind, bool counted, int fd, int flags,
                         int64_t offset, int64_t length, const char *path,
                         const char *other, size_t data_size) {
    struct call call = {NULL, FAULT_NONE, 0};
    size_t path_size = path ? strlen(path) : 0, other_size = other ? strlen(other) : 0;
    while (atomic_load(&control->halted) != 0)
        rest(500);
    if (counted) {
        call.fault = choose_fault(kind, flags);
        call.argument = control->argument;
    }
    if (call.fault == FAULT_HALT) {
        atomic_store(&control->halted, (uint32_t)getpid());
        while (atomic_load(&control->halted) != 0)
            rest(500);
    }
    if (call.fault == FAULT_BEFORE) die();
    if (call.fault == FAULT_SLOW) rest(call.argument);
    if (control->with_data == 0) data_size = 0;
    call.record = take_record(kind, path_size + other_size + data_size);
    if (call.record == NULL) return call;
    call.record->fd = fd;
    call.record->flags = flags;
    call.record->offset = offset;
    call.record->length = length;
    call.record->path_size = (uint32_t)path_size;
    call.record->other_size = (uint32_t)other_size;
    char *payload = (char *)(call.record + 1);
    if (path_size > 0) memcpy(payload, path, path_size);
    if (other_size > 0) memcpy(payload + path_size, other, other_size);
    return call;
}

/* End it: what the caller is to be given, errno as the call left it. */
static int64_t end(struct call call, int64_t result) {
    int error = errno;
    if (call.record != NULL) {
        call.record->result = result;
        call.record->error = result < 0 ? error : 0;
    }
    /* Who dies now never knew that the call was over: it is not marked so. */
    if (call.fault == FAULT_AFTER || call.fault == FAULT_TORN) die();
    if (call.record != NULL) atomic_store(&call.record->state, 1);
    errno = error;
    return result;
}

/* Does this call fail? Then errno is set. */
static bool fails(struct call call) {
    if (call.fault != FAULT_ERRNO) return false;
    errno = (int)call.argument;
    return true;
}

/* --- Writing ---------------------------------------------------------------- */

static struct call begin_write(int fd, uint8_t flags, const struct iovec *parts,
                               int count, int64_t offset) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    struct call call = begin(WRITE, true, fd, flags & FD_SYNCED ? O_DSYNC : 0, offset,
                             (int64_t)size, NULL, NULL, size);
    if (call.record != NULL && control->with_data != 0) {
        char *data = (char *)(call.record + 1);
        for (int i = 0; i < count; i++) {
            if (parts[i].iov_len > 0) memcpy(data, parts[i].iov_base, parts[i].iov_len);
            data += parts[i].iov_len;
        }
    }
    return call;
}

/* How much of [size] bytes this call may write. */
static size_t allowed(struct call call, size_t size) {
    if (call.fault == FAULT_SHORT) return size > 1 ? size / 2 : size;
    if (call.fault == FAULT_TORN && size > call.argument) return call.argument;
    return size;
}

static int64_t position(int fd) {
    struct stat stat;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) != 0 && fstat(fd, &stat) == 0) {
        return stat.st_size;
    }
    return lseek(fd, 0, SEEK_CUR);
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    uint8_t flags = fd_flags(fd);
    if (flags == 0) return real(fd, data, size);
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct call call = begin_write(fd, flags, &part, 1, position(fd));
    return end(call, fails(call) ? -1 : real(fd, data, allowed(call, size)));
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    uint8_t flags = fd_flags(fd);
    if (flags == 0) return real(fd, data, size, offset);
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct call call = begin_write(fd, flags, &part, 1, offset);
    return end(call, fails(call) ? -1 : real(fd, data, allowed(call, size), offset));
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
    return pwrite(fd, data, size, offset);
}

/* [parts], but no more than [size] bytes of them, in [out]. */
static int cut_parts(const struct iovec *parts, int count, size_t size,
                     struct iovec out[IOV_MAX]) {
    int kept = 0;
    for (; kept < count && kept < IOV_MAX && size > 0; kept++) {
        out[kept] = parts[kept];
        if (out[kept].iov_len > size) out[kept].iov_len = size;
        size -= out[kept].iov_len;
    }
    return kept;
}

static size_t parts_size(const struct iovec *parts, int count) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    return size;
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    struct iovec some[IOV_MAX];
    uint8_t flags = fd_flags(fd);
    if (flags == 0) return real(fd, parts, count);
    struct call call = begin_write(fd, flags, parts, count, position(fd));
    if (fails(call)) return end(call, -1);
    int kept = cut_parts(parts, count, allowed(call, parts_size(parts, count)), some);
    return end(call, real(fd, some, kept));
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    struct iovec some[IOV_MAX];
    uint8_t flags = fd_flags(fd);
    if (flags == 0) return real(fd, parts, count, offset);
    struct call call = begin_write(fd, flags, parts, count, offset);
    if (fails(call)) return end(call, -1);
    int kept = cut_parts(parts, count, allowed(call, parts_size(parts, count)), some);
    return end(call, real(fd, some, kept, offset));
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev(fd, parts, count, offset);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset,
                        int flags) {
    REAL(ssize_t, "pwritev2", int, const struct iovec *, int, off_t, int);
    if (fd_flags(fd) == 0) return real(fd, parts, count, offset, flags);
    /* Flags are hints, but for those that make it a synchronous write. */
    if (offset == -1) return writev(fd, parts, count);
    return pwritev(fd, parts, count, offset);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset,
                           int flags) {
    return pwritev2(fd, parts, count, offset, flags);
}

/* --- Size and sync ----------------------------------------------------------- */

EXPORT int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (fd_flags(fd) == 0) return real(fd, size);
    struct call call = begin(TRUNCATE, true, fd, 0, 0, size, NULL, NULL, 0);
    return (int)end(call, fails(call) ? -1 : real(fd, size));
}

EXPORT int ftruncate64(int fd, off_t size) {
    return ftruncate(fd, size);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size) {
    REAL(int, "fallocate", int, int, off_t, off_t);
    if (fd_flags(fd) == 0) return real(fd, mode, offset, size);
    struct call call = begin(ALLOCATE, true, fd, mode, offset, size, NULL, NULL, 0);
    return (int)end(call, fails(call) ? -1 : real(fd, mode, offset, size));
}

/* Answers with the error, not with -1. */
EXPORT int posix_fallocate(int fd, off_t offset, off_t size) {
    REAL(int, "posix_fallocate", int, off_t, off_t);
    if (fd_flags(fd) == 0) return real(fd, offset, size);
    struct call call = begin(ALLOCATE, true, fd, 0, offset, size, NULL, NULL, 0);
    int failed = fails(call) ? errno : real(fd, offset, size);
    if (failed != 0) errno = failed;
    end(call, failed != 0 ? -1 : 0);
    return failed;
}

EXPORT int posix_fallocate64(int fd, off_t offset, off_t size) {
    return posix_fallocate(fd, offset, size);
}

#define SYNC_CALL(name)                                                                \
    EXPORT int name(int fd) {                                                          \
        REAL(int, #name, int);                                                         \
        if (fd_flags(fd) == 0) return real(fd);                                        \
        struct call call = begin(SYNC, true, fd, 0, 0, 0, NULL, NULL, 0);              \
        return (int)end(call, fails(call) ? -1 : real(fd));                            \
    }

SYNC_CALL(fsync)
SYNC_CALL(fdatasync)

/* It promises nothing about metadata: recorded, and never relied upon. */
EXPORT int sync_file_range(int fd, off_t offset, off_t size, unsigned flags) {
    REAL(int, "sync_file_range", int, off_t, off_t, unsigned);
    if (fd_flags(fd) == 0) return real(fd, offset, size, flags);
    struct call call = begin(SYNC, true, fd, 1, offset, size, NULL, NULL, 0);
    return (int)end(call, fails(call) ? -1 : real(fd, offset, size, flags));
}

/* --- Opening and closing ------------------------------------------------------ */

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char whole[PATH_MAX];
    if (!is_watching()) return real(folder, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE || !is_ours(folder, path, whole)) {
        int fd = real(folder, path, flags, mode);
        if (fd >= 0 && fd < FDS_MAX) atomic_store(&fds[fd], 0);
        return fd;
    }
    struct call call = begin(OPEN, (flags & (O_CREAT | O_TRUNC)) != 0, -1, flags, 0, 0,
                             whole, NULL, 0);
    int fd = fails(call) ? -1 : real(folder, path, flags, mode);
    if (fd >= 0 && fd < FDS_MAX) {
        bool synced = (flags & (O_DSYNC | O_SYNC)) != 0;
        atomic_store(&fds[fd], (uint8_t)(FD_KNOWN | (synced ? FD_SYNCED : 0)));
        if (call.record != NULL) call.record->fd = fd;
    }
    return (int)end(call, fd);
}

static mode_t mode_of(int flags, va_list args) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(args, int) : 0;
}

#define OPEN_CALL(name)                                                                \
    EXPORT int name(const char *path, int flags, ...) {                                \
        va_list args;                                                                  \
        va_start(args, flags);                                                         \
        mode_t mode = mode_of(flags, args);                                            \
        va_end(args);                                                                  \
        return open_at(AT_FDCWD, path, flags, mode);                                   \
    }
#define OPENAT_CALL(name)                                                              \
    EXPORT int name(int folder, const char *path, int flags, ...) {                    \
        va_list args;                                                                  \
        va_start(args, flags);                                                         \
        mode_t mode = mode_of(flags, args);                                            \
        va_end(args);                                                                  \
        return open_at(folder, path, flags, mode);                                     \
    }

OPEN_CALL(open)
OPEN_CALL(open64)
OPENAT_CALL(openat)
OPENAT_CALL(openat64)

/* What the calls above become where the compiler checks their arguments. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int folder, const char *path, int flags);
EXPORT int __openat64_2(int folder, const char *path, int flags);

EXPORT int __open_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int folder, const char *path, int flags) {
    return open_at(folder, path, flags, 0);
}

EXPORT int __openat64_2(int folder, const char *path, int flags) {
    return open_at(folder, path, flags, 0);
}

EXPORT int close(int fd) {
    REAL(int, "close", int);
    if (fd_flags(fd) == 0) return real(fd);
    atomic_store(&fds[fd], 0);
    struct call call = begin(CLOSE, false, fd, 0, 0, 0, NULL, NULL, 0);
    return (int)end(call, real(fd));
}

/* --- Names -------------------------------------------------------------------- */

static int rename_at(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char whole[PATH_MAX], other[PATH_MAX];
    if (!is_ours(from_folder, from, whole) || !is_ours(to_folder, to, other)) {
        return real(from_folder, from, to_folder, to, flags);
    }
    struct call call = begin(RENAME, true, -1, (int)flags, 0, 0, whole, other, 0);
    return (int)end(call,
                    fails(call) ? -1 : real(from_folder, from, to_folder, to, flags));
}

EXPORT int rename(const char *from, const char *to) {
    return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return rename_at(from_folder, from, to_folder, to, 0);
}

EXPORT int renameat2(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned flags) {
    return rename_at(from_folder, from, to_folder, to, flags);
}

EXPORT int linkat(int from_folder, const char *from, int to_folder, const char *to,
                  int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    char whole[PATH_MAX], other[PATH_MAX];
    if (!is_ours(from_folder, from, whole) || !is_ours(to_folder, to, other)) {
        return real(from_folder, from, to_folder, to, flags);
    }
    struct call call = begin(LINK, true, -1, flags, 0, 0, whole, other, 0);
    return (int)end(call,
                    fails(call) ? -1 : real(from_folder, from, to_folder, to, flags));
}

EXPORT int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char whole[PATH_MAX];
    if (!is_ours(folder, path, whole)) return real(folder, path, flags);
    struct call call = begin(UNLINK, true, -1, flags, 0, 0, whole, NULL, 0);
    return (int)end(call, fails(call) ? -1 : real(folder, path, flags));
}

EXPORT int unlink(const char *path) {
    return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path) {
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char whole[PATH_MAX];
    if (!is_ours(folder, path, whole)) return real(folder, path, mode);
    struct call call = begin(MKDIR, true, -1, (int)mode, 0, 0, whole, NULL, 0);
    return (int)end(call, fails(call) ? -1 : real(folder, path, mode));
}

EXPORT int mkdir(const char *path, mode_t mode) {
    return mkdirat(AT_FDCWD, path, mode);
}

/* --- Attaching ----------------------------------------------------------------- */

/* Map the trace at [path] and watch what happens below [below]; [as]: 0 king,
 * 1 serf. 0, or -1 with errno. May be called again, for another trace. */
EXPORT int witness_attach(const char *path, const char *below, uint32_t as);
/* The lab's own words, in the order of everything else. */
EXPORT int witness_note(const char *text);

EXPORT int witness_attach(const char *path, const char *below, uint32_t as) {
    struct stat stat;
    if (as > 1 || strlen(below) >= sizeof root) {
        errno = EINVAL;
        return -1;
    }
    if (control != NULL) munmap(control, control->size);
    control = NULL;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return -1;
    void *map = MAP_FAILED;
    if (fstat(fd, &stat) == 0 && stat.st_size > FIRST_RECORD) {
        map =
            mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (map == MAP_FAILED) return -1;
    struct control *found = map;
    if (memcmp(found->magic, magic, sizeof magic) != 0 ||
        found->size != (uint64_t)stat.st_size) {
        errno = EINVAL;
        return -1;
    }
    strcpy(root, below);
    root_size = strlen(root);
    role = as;
    owner = getpid();
    for (int i = 0; i < FDS_MAX; i++)
        atomic_store_explicit(&fds[i], 0, memory_order_relaxed);
    process = (uint16_t)atomic_fetch_add(&found->processes, 1);
    control = found;
    return 0;
}

EXPORT int witness_note(const char *text) {
    if (control == NULL) {
        errno = EINVAL;
        return -1;
    }
    struct record *record = take_record(NOTE, strlen(text));
    if (record == NULL) {
        errno = ENOSPC;
        return -1;
    }
    record->path_size = (uint32_t)strlen(text);
    memcpy(record + 1, text, record->path_size);
    atomic_store(&record->state, 1);
    return 0;
}

__attribute__((constructor)) static void attach_at_start(void) {
    const char *path = getenv("TREADLE_WITNESS"),
               *below = getenv("TREADLE_WITNESS_ROOT");
    if (path == NULL || below == NULL) return;
    if (witness_attach(path, below, 1) != 0) {
        fprintf(stderr, "witness: cannot attach to %s: %s\n", path, strerror(errno));
    }
}
