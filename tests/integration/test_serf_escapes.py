"""A serf as an enemy: every forbidden system call, tried in a confined serf.

Each is refused by the filter, and the serf goes on as if nothing had been: it
plays, works, prints, answers, collects and saves, and what it saved can be
loaded. `native/confine.c` has the filter; the list of what is allowed stands
here a second time, so that no call is added to it by the way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.message import (
    Done,
    Exit,
    Gauge,
    Gauged,
    Hash,
    Hashed,
    Pack,
    Packed,
    Play,
    Played,
    Save,
    Saved,
    Work,
)
from tests.support.escaping_serf import TRIED
from tests.support.serf_rig import COUNT, ROOT, SerfProcess, boot_row, core, job

ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
    fdatasync fsync sync_file_range fadvise64 ftruncate fallocate fstat close
    ppoll pselect6
    munmap madvise mremap brk mincore msync
    futex set_robust_list get_robust_list rseq membarrier sched_yield
    sched_getaffinity getcpu set_tid_address gettid restart_syscall exit exit_group
    clock_gettime clock_getres clock_nanosleep gettimeofday nanosleep times
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait
    rt_sigsuspend sigaltstack
    getpid getppid getuid geteuid getgid getegid getrusage getrlimit sysinfo uname
    getrandom poll select time
"""
LOOKED_AT = "mmap mprotect clone tgkill prlimit64 fcntl"
"""Allowed with some arguments; what of them is not, is tried below."""
KNOWN = (ALLOWED + LOOKED_AT).split()
NUMBERS_MAX = 512
X32 = 0x40000000
PROBES = (335, 336)
"""Of x86-64: no filter sees them, and they kill whoever is no probed function."""

AT_FDCWD = -100
INET, UNIX = 2, 1
STREAM, DATAGRAM, RAW = 1, 2, 3
READ, WRITE, EXECUTE = 1, 2, 4
PRIVATE_ANONYMOUS = 0x22
NEW_NAMESPACES = 0x7E020000
SIGKILL, SIGCHLD, SIGSTOP = 9, 17, 19

ACTS: dict[str, list[int | str]] = {
    "open the passwords": ["open", "/etc/passwd", 0],
    "open what lies here": ["open", "pyproject.toml", 0],
    "open a parent": ["openat", AT_FDCWD, "../../../etc/passwd", 0],
    "open the root": ["openat", AT_FDCWD, "/", os.O_DIRECTORY],
    "open by a path alone": ["openat", AT_FDCWD, "/", os.O_PATH],
    "open a nameless file": ["openat", AT_FDCWD, "/tmp", os.O_TMPFILE | 2, 0o600],
    "open by descriptor": ["openat", 2, "x", 0],
    "open as of late": ["openat2", AT_FDCWD, "/etc/passwd", "@buffer", 24],
    "open by handle": ["open_by_handle_at", AT_FDCWD, "@buffer", 0],
    "open own memory": ["open", "/proc/self/mem", 2],
    "open own descriptors": ["open", "/proc/self/fd/1", 1],
    "open the memory of all": ["open", "/dev/mem", 2],
    "create": ["creat", "/tmp/serf-was-here", 0o600],
    "create a device": ["mknodat", AT_FDCWD, "/tmp/serf-was-here", 0o10600, 0],
    "create a folder": ["mkdirat", AT_FDCWD, "/tmp/serf-was-here", 0o700],
    "link": ["linkat", AT_FDCWD, "/etc/passwd", AT_FDCWD, "/tmp/serf-was-here", 0],
    "link by name": ["symlinkat", "/etc/passwd", AT_FDCWD, "/tmp/serf-was-here"],
    "rename": ["renameat2", AT_FDCWD, "/tmp", AT_FDCWD, "/pmt", 1],
    "unlink": ["unlinkat", AT_FDCWD, "/no/such", 0],
    "truncate": ["truncate", "/no/such", 0],
    "change a mode": ["fchmodat", AT_FDCWD, "/no/such", 0o777],
    "change a mode by descriptor": ["fchmod", 2, 0o777],
    "change an owner": ["fchownat", AT_FDCWD, "/no/such", 0, 0, 0],
    "change times": ["utimensat", AT_FDCWD, "/no/such", 0, 0],
    "set an attribute": ["setxattr", "/no/such", "user.x", "x", 1, 0],
    "look at a file": ["newfstatat", AT_FDCWD, "/etc/passwd", "@buffer", 0],
    "look closer": ["statx", AT_FDCWD, "/etc/passwd", 0, 0xFFF, "@buffer"],
    "ask whether": ["faccessat", AT_FDCWD, "/etc/passwd", 0],
    "read a link": ["readlinkat", AT_FDCWD, "/proc/self/exe", "@buffer", 4096],
    "list a folder": ["getdents64", 2, "@buffer", 4096],
    "watch files": ["inotify_init1", 0],
    "change the folder": ["chdir", ".."],
    "change the root": ["chroot", "/tmp"],
    "copy a descriptor": ["dup", 2],
    "move a descriptor": ["dup3", 2, 99, 0],
    "copy by fcntl": ["fcntl", 2, 0, 0],
    "lock": ["fcntl", 2, 6, "@buffer"],
    "aim signals at the king": ["fcntl", 2, 8, "@king"],
    "control a device": ["ioctl", 2, 0x5412, "x"],
    "splice": ["splice", 0, 0, 1, 0, 1, 0],
    "make a pipe": ["pipe2", "@buffer", 0],
    "wait for many": ["epoll_create1", 0],
    "tcp": ["socket", INET, STREAM, 0],
    "udp": ["socket", INET, DATAGRAM, 0],
    "raw": ["socket", INET, RAW, 1],
    "the other internet": ["socket", 10, STREAM, 0],
    "a socket with a name": ["socket", UNIX, STREAM, 0],
    "a socket without a file": ["socket", UNIX, DATAGRAM, 0],
    "the kernel's sockets": ["socket", 16, RAW, 0],
    "virtual sockets": ["socket", 40, STREAM, 0],
    "two sockets": ["socketpair", UNIX, STREAM, 0, "@buffer"],
    "connect": ["connect", 0, "\1\0\0serf", 8],
    "bind": ["bind", 0, "\1\0\0serf", 8],
    "send": ["sendto", 1, "x", 1, 0, 0, 0],
    "send descriptors": ["sendmsg", 1, "@buffer", 0],
    "fork": ["fork"],
    "fork quickly": ["vfork"],
    "fork by clone": ["clone", SIGCHLD, 0, 0, 0, 0],
    "fork into namespaces": ["clone", NEW_NAMESPACES | SIGCHLD, 0, 0, 0, 0],
    "execute": ["execve", "/bin/true", 0, 0],
    "execute by descriptor": ["execveat", 1, "", 0, 0, 0x1000],
    "trace the king": ["ptrace", 16, "@king", 0, 0],
    "be traced": ["ptrace", 0, 0, 0, 0],
    "read the king's memory": [
        "process_vm_readv",
        "@king",
        "@buffer",
        1,
        "@page",
        1,
        0,
    ],
    "write the king's memory": [
        "process_vm_writev",
        "@king",
        "@buffer",
        1,
        "@page",
        1,
        0,
    ],
    "compare with the king": ["kcmp", "@self", "@king", 0, 1, 1],
    "kill the king": ["kill", "@king", SIGKILL],
    "stop the king": ["kill", "@king", SIGSTOP],
    "probe the king": ["kill", "@king", 0],
    "kill everyone": ["kill", -1, 0],
    "kill the group": ["kill", 0, 0],
    "kill a task of the king": ["tkill", "@king", 0],
    "kill a thread of the king": ["tgkill", "@king", "@king", 0],
    "queue a signal": ["rt_sigqueueinfo", "@king", 0, "@buffer"],
    "hold the king": ["pidfd_open", "@king", 0],
    "signal what is held": ["pidfd_send_signal", 1, 0, 0, 0],
    "take the king's descriptors": ["pidfd_getfd", 1, 0, 0],
    "limit the king": ["prlimit64", "@king", 7, 0, "@buffer"],
    "limit itself": ["prlimit64", 0, 7, "@buffer", 0],
    "be nice": ["setpriority", 0, 0, 19],
    "be scheduled otherwise": ["sched_setaffinity", 0, 8, "@buffer"],
    "memory with a name": ["memfd_create", "x", 0],
    "secret memory": ["memfd_secret", 0],
    "shared memory": ["shmget", 0, 4096, 0o1600],
    "messages": ["msgget", 0, 0o1600],
    "a key": ["add_key", "user", "x", "x", 1, -2],
    "keys": ["keyctl", 0, -2, 1],
    "mount": ["mount", "x", "/tmp", "tmpfs", 0, 0],
    "mount as of late": ["open_tree", AT_FDCWD, "/", 1],
    "pivot": ["pivot_root", "/", "/"],
    "leave for namespaces": ["unshare", NEW_NAMESPACES],
    "enter namespaces": ["setns", 1, 0],
    "a ring": ["io_uring_setup", 8, "@buffer"],
    "a program in the kernel": ["bpf", 0, "@buffer", 72],
    "counters": ["perf_event_open", "@buffer", 0, -1, -1, 0],
    "handle page faults": ["userfaultfd", 0],
    "module": ["init_module", "@buffer", 0, ""],
    "another kernel": ["kexec_load", 0, 0, "@buffer", 0],
    "restart the machine": ["reboot", 0, 0, 0, 0],
    "set the clock": ["clock_settime", 0, "@buffer"],
    "set the name": ["sethostname", "serf", 4],
    "be root": ["setuid", 0],
    "be able": ["capset", "@buffer", "@buffer"],
    "be another": ["personality", 0x0400000],
    "a session": ["setsid"],
    "dumpable": ["prctl", 4, 1, 0, 0, 0],
    "privileges again": ["prctl", 38, 0, 0, 0, 0],
    "another filter": ["seccomp", 1, 0, "@buffer"],
    "no king to die with": ["prctl", 1, 0, 0, 0, 0],
    "another ruleset": ["landlock_create_ruleset", "@buffer", 8, 0],
    "code": ["mmap", 0, 4096, READ | EXECUTE, PRIVATE_ANONYMOUS, -1, 0],
    "code that changes": ["mmap", 0, 4096, 7, PRIVATE_ANONYMOUS, -1, 0],
    "data as code": ["mprotect", "@page", 4096, READ | EXECUTE],
    "data as code by key": ["pkey_mprotect", "@page", 4096, READ | EXECUTE, -1],
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What this machine calls the calls; those it does not have are left out."""
    names = {str(act[0]) for act in ACTS.values()} | {*KNOWN, "clone3"}
    source = tmp_path_factory.mktemp("numbers") / "numbers.c"
    lines = [f"{name} = __NR_{name}" for name in sorted(names)]
    source.write_text("#include <asm/unistd.h>\n" + "\n".join(lines))
    shown = subprocess.run(
        ["cc", "-E", "-P", source], check=True, capture_output=True, text=True
    )
    rows = (line.split(" = ") for line in shown.stdout.splitlines() if " = " in line)
    return {name: int(value) for name, value in rows if value.isdigit()}


def start(image: Path, calls: dict[str, list[int | str]]) -> SerfProcess:
    module = "tests.support.escaping_serf"
    command = [sys.executable, "-m", module, json.dumps(calls)]
    return SerfProcess(image, command=command)


def check_serves(serf: SerfProcess, image: Path) -> None:
    """All that a serf does for a living, ending in a snapshot that loads."""
    serf.ripe()
    assert isinstance(
        serf.ask(Play(1, 1, 1, (boot_row(core(((1, 0), COUNT))),))), Played
    )
    for number in range(2, 12):
        done = serf.ask(Work(number, 10_000, job(number, ["x"], "more")))
        assert isinstance(done, Done)
        assert done.event == number
    assert isinstance(serf.ask(Save(12, 11)), Saved)
    hashed = serf.ask(Hash(13))
    assert isinstance(hashed, Hashed)
    assert isinstance(serf.ask(Gauge(14)), Gauged)
    assert isinstance(serf.ask(Pack(15)), Packed)
    serf.send(Exit(0))
    with SerfProcess(image, "--verify") as heir:
        assert heir.ripe().event == 11
        again = heir.ask(Hash(1))
        assert isinstance(again, Hashed)
        assert again.sha256 == hashed.sha256


def tried(serf: SerfProcess) -> dict[str, str]:
    assert serf.process.stdout is not None
    for line in serf.process.stdout:
        if line.startswith(TRIED):
            found: dict[str, str] = json.loads(line[len(TRIED) :])
            return found
    raise AssertionError(f"it did not try: {serf.last_words()}")


def test_every_forbidden_act_is_refused_and_the_serf_goes_on(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    calls = {
        name: [numbers[str(call)], *values]
        for name, (call, *values) in ACTS.items()
        if call in numbers
    }
    assert len(calls) > 0.8 * len(ACTS), "this machine knows hardly any of them"
    with start(tmp_path / "image", calls) as serf:
        assert tried(serf) == dict.fromkeys(calls, "EPERM")
        check_serves(serf, tmp_path / "image")
    assert not Path("/tmp/serf-was-here").exists()


def test_no_call_is_allowed_but_those_that_are_known(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    known = {numbers[name] for name in KNOWN if name in numbers}
    known.update(PROBES)
    fewer = {str(n): [n, *[-1] * 6] for n in range(NUMBERS_MAX) if n not in known}
    if os.uname().machine == "x86_64":
        fewer |= {f"x32 {n}": [X32 | n, *[-1] * 6] for n in range(NUMBERS_MAX)}
    with start(tmp_path / "image", fewer) as serf:
        found = tried(serf)
        assert found.pop(str(numbers["clone3"])) == "ENOSYS"
        assert {n for n, fault in found.items() if fault != "EPERM"} == set()
        check_serves(serf, tmp_path / "image")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 has this gate")
def test_the_gate_of_32_bit_programs_is_closed(tmp_path: Path) -> None:
    """Its numbers are others: its 1 is exit, its 20 getpid, its 11 execve."""
    script = "from tests.support.escaping_serf import old_gate; print(old_gate()(20))"
    command = [sys.executable, "-c", script]
    if subprocess.run(command, capture_output=True, cwd=ROOT).returncode:
        pytest.skip("this kernel has no gate for 32-bit programs")
    calls: dict[str, list[int | str]] = {str(n): [-n] for n in (20, 11, 5, 2, 102, 364)}
    with start(tmp_path / "image", calls) as serf:
        assert tried(serf) == dict.fromkeys(calls, "EPERM")
        check_serves(serf, tmp_path / "image")
