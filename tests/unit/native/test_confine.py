"""Confinement and the watch, in a running CPython as the serf is one.

Each test starts a child interpreter that imports all it needs, loads the C
units through ctypes, confines itself and reports what it still can do.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NATIVE = Path(__file__).parents[3] / "native"

PRELUDE = """
import ctypes, errno, gc, json, mmap, os, random, socket, sys, threading, time
library = ctypes.CDLL(sys.argv[1], use_errno=True)
libc = ctypes.CDLL(None, use_errno=True)

def confine(*keep):
    in_force = ctypes.c_uint32()
    message = ctypes.create_string_buffer(256)
    fds = (ctypes.c_int * len(keep))(*keep)
    status = library.nk_confine(fds, len(keep), ctypes.byref(in_force), message)
    return status, in_force.value, message.value.decode()

def outcome(action):
    try:
        action()
    except OSError as fault:
        return errno.errorcode[fault.errno]
    return "done"

def call(number, *args):
    def action():
        ctypes.set_errno(0)
        if libc.syscall(ctypes.c_long(number), *args) == -1:
            raise OSError(ctypes.get_errno(), "")
    return action

def answer(value):
    os.write(1, json.dumps(value).encode())
"""

X86_64 = {"ptrace": 101, "tkill": 200, "tgkill": 234, "memfd_create": 319}
AARCH64 = {"ptrace": 117, "tkill": 130, "tgkill": 131, "memfd_create": 279}
CALLS = AARCH64 if os.uname().machine == "aarch64" else X86_64
PROBE_LANDLOCK = "libc.syscall(ctypes.c_long(444), None, 0, 1)"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the units as a shared object."""
    path = tmp_path_factory.mktemp("confine") / "confine.so"
    units = [NATIVE / f"{unit}.c" for unit in ("confine", "watch", "status")]
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC"]
    subprocess.run([*command, *units, "-o", path, "-lpthread"], check=True)
    return path


def start(
    library: Path, script: str, *args: object, pass_fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PRELUDE + script, str(library), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=pass_fds)


def ask(library: Path, script: str, *args: object) -> dict[str, Any]:
    with start(library, script, *args) as child:
        assert child.stdout is not None
        answered = child.stdout.read()
    assert child.returncode == 0, child.returncode
    reply: dict[str, Any] = json.loads(answered)
    return reply


def test_all_layers_are_in_force(library: Path) -> None:
    script = f"abi = {PROBE_LANDLOCK}; answer(dict(abi=abi, got=confine(0, 1, 2)))"
    reply = ask(library, script)
    status, in_force, message = reply["got"]
    abi = reply["abi"]
    assert status == 0
    landlock = (abi >= 1) * 8 + (abi >= 4) * 16 + (abi >= 6) * 32
    assert in_force == 7 + landlock
    assert bool(message) == (abi < 1)


def test_everything_outside_is_refused(library: Path, tmp_path: Path) -> None:
    script = f"""
outside = os.open(sys.argv[2], os.O_RDONLY)
folder = os.open(os.path.dirname(sys.argv[2]), os.O_RDONLY)
early, late = threading.Event(), {{}}
def from_an_older_thread():
    early.wait()
    late["open"] = outcome(lambda: os.open("/etc/passwd", os.O_RDONLY))
thread = threading.Thread(target=from_an_older_thread)
thread.start()
king = os.getppid()
assert confine(0, 1, 2, folder)[0] == 0
early.set()
thread.join()
numbers = {CALLS!r}
one = socket.AF_INET, socket.SOCK_STREAM
answer({{
    "closed": outcome(lambda: os.read(outside, 1)),
    "open": outcome(lambda: open(sys.argv[2])),
    "open_at": outcome(lambda: os.open("file", os.O_RDONLY, dir_fd=folder)),
    "older_thread": late["open"],
    "create": outcome(lambda: os.open(sys.argv[2] + "x", os.O_CREAT | os.O_WRONLY)),
    "list": outcome(lambda: os.listdir("/")),
    "stat": outcome(lambda: os.stat("/etc/passwd")),
    "unlink": outcome(lambda: os.unlink(sys.argv[2])),
    "rename": outcome(lambda: os.rename(sys.argv[2], sys.argv[2] + "y")),
    "chdir": outcome(lambda: os.chdir("/")),
    "proc": outcome(lambda: open(f"/proc/{{king}}/mem", "rb")),
    "self": outcome(lambda: open("/proc/self/maps")),
    "tcp": outcome(lambda: socket.socket(*one)),
    "udp": outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "unix": outcome(lambda: socket.socket(socket.AF_UNIX)),
    "pair": outcome(lambda: socket.socketpair()),
    "fork": outcome(os.fork),
    "exec": outcome(lambda: os.execv("/bin/true", ["true"])),
    "spawn": outcome(lambda: os.posix_spawn("/bin/true", ["true"], {{}})),
    "kill": outcome(lambda: os.kill(king, 0)),
    "tkill": outcome(call(numbers["tkill"], king, 0)),
    "tgkill": outcome(call(numbers["tgkill"], king, king, 0)),
    "ptrace": outcome(call(numbers["ptrace"], 16, king, 0, 0)),
    "memfd": outcome(call(numbers["memfd_create"], b"name", 0)),
    "io_uring": outcome(call(425, 8, ctypes.create_string_buffer(256))),
    "pidfd": outcome(call(434, king, 0)),
    "clone3": outcome(call(435, ctypes.create_string_buffer(88), 88)),
    "exec_map": outcome(
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_READ)),
    "dup": outcome(lambda: os.dup(1)),
    "nice": outcome(lambda: os.nice(1)),
}})
"""
    (tmp_path / "file").write_text("secret")
    refused = ask(library, script, tmp_path / "file")
    assert refused.pop("closed") == "EBADF"
    assert refused.pop("clone3") == "ENOSYS"
    assert set(refused.values()) == {"EPERM"}, refused
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_what_a_serf_needs_still_works(library: Path, tmp_path: Path) -> None:
    script = """
image = os.open(sys.argv[2], os.O_RDWR)
reader, writer = os.pipe()
assert confine(writer, image, 2, 1, 0, reader, 0, 9999)[0] == 0
def echo():
    os.write(writer, os.pread(image, 5, 0))
threads = [threading.Thread(target=echo) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
piped = os.read(reader, 1000).decode()
os.pwrite(image, b"HELLO", 0)
os.posix_fallocate(image, 0, 1 << 16)
os.fdatasync(image)
blob = bytearray(64 << 20)
blob[::4096] = b"x" * len(blob[::4096])
del blob
gc.collect()
started = time.monotonic()
time.sleep(0.001)
# mmap.mmap stats its descriptor; C code does not.
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [
    ctypes.c_long]
shown = libc.mmap(None, 4096, 3, 2, image, 0)
try:
    open("/etc/passwd")
except PermissionError as fault:
    named = str(fault)
answer({
    "piped": piped,
    "shown": ctypes.string_at(shown, 5).decode(),
    "size": os.lseek(image, 0, os.SEEK_END),
    "slept": time.monotonic() > started,
    "random": len(os.urandom(16)) + len(random.randbytes(16)),
    "anonymous": len(mmap.mmap(-1, 4096)),
    "named": named,
    "processors": len(os.sched_getaffinity(0)) > 0,
})
"""
    (tmp_path / "image").write_text("hello")
    assert ask(library, script, tmp_path / "image") == {
        "piped": "hello" * 8,
        "shown": "HELLO",
        "size": 1 << 16,
        "slept": True,
        "random": 32,
        "anonymous": 4096,
        "named": f"[Errno {errno.EPERM}] Operation not permitted: '/etc/passwd'",
        "processors": True,
    }


def test_our_own_bug_still_aborts(library: Path) -> None:
    script = "assert confine(0, 1, 2)[0] == 0; os.abort()"
    with start(library, script) as child:
        pass
    assert child.returncode == -signal.SIGABRT


def test_watch_leaves_with_the_king_though_busy(library: Path) -> None:
    script = """
king = int(sys.argv[2])
assert confine(1, king)[0] == 0
assert library.nk_watch_start(king, 77) == 0
os.write(1, b"ready")
while True: pass
"""
    reader, writer = os.pipe()
    with start(library, script, reader, pass_fds=(reader,)) as child:
        os.close(reader)
        assert child.stdout is not None
        assert child.stdout.read(5) == b"ready"
        os.write(writer, b"a writ that nobody reads")
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.05)
        os.close(writer)
        assert child.wait(20) == 77
