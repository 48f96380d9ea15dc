"""The C core as Python sees it: messages in, messages out.

The only importer of `serf._native`; native/api.h says what its records mean.
Every call releases the GIL. Nothing here decides anything.

Invariants: one thread; what a call returns is copied out of C before the
next call. Records are NamedTuples: dataclasses would cost each start some
milliseconds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple

from proto.jam import cue, jam
from proto.message import (
    Bail,
    Done,
    Effect,
    Flog,
    Goof,
    Jam,
    Plea,
    Row,
    Slog,
    Work,
)
from proto.noun import Cell, noun
from serf._native import ffi, lib
from serf.errors import ImageUnusable, NoMemory, Unconfined

__all__ = [
    "Arm",
    "CheckedImage",
    "CopyFailed",
    "Crashed",
    "Engine",
    "Evaluated",
    "Failed",
    "ImageCopy",
    "Loaded",
    "NotJam",
    "NounFacts",
    "Scrubbed",
    "StoppedPlay",
    "Written",
    "check_image",
    "image_facts",
]

HOME_SIZE = 16 << 30
NURSERY_SIZE = 2 << 30
_WORK_BUDGET_US = 10_000
_UINT64_MAX = (1 << 64) - 1
_BARE = _UINT64_MAX
"""The priority of a clue that has none; see native/api.h."""

_JOB = Struct("<QQQ")
_ROW = Struct("<QQ")
_HEAD = Struct("<IIQ")
_DONE = Struct("<QIIQQ")
_EFFECT = Struct("<III")
_GOOF = Struct("<II")
_SLOG = Struct("<QQQ")


class Failed(Exception):
    """A request that the guest or a limit made fail; the state is as before."""

    def __init__(self, goofs: tuple[Goof, ...]) -> None:
        super().__init__(", ".join(goof.mote for goof in goofs))
        self.goofs = goofs


class NotJam(Exception):
    """Bytes that are not a jam, or not of the noun that was asked for."""


class Loaded(NamedTuple):
    """What was found in the image; `good` False: nothing usable."""

    good: bool
    fell_back: int
    generation: int
    event: int
    mug: int
    ship: bytes
    log: bytes
    note: str


class Written(NamedTuple):
    """What a save wrote."""

    event: int
    mug: int
    generation: int
    pages: int
    bytes_written: int
    elapsed_us: int


class Scrubbed(NamedTuple):
    """A step of a scrub: pages that it passed (0: not now), how far this pass is,
    and how many were completed."""

    stepped: int
    page: int
    pages: int
    passes: int


class StoppedPlay(NamedTuple):
    """Where and why a replay stopped."""

    event: int
    expected: int
    actual: int
    goof: Goof | None


class Pin(NamedTuple):
    """A generation that an image keeps until it is let go."""

    name: str
    generation: int
    event: int


class CheckedImage(NamedTuple):
    """What a verified image holds; `fault` is empty where all is well."""

    fault: str
    good: bool
    generations: int
    generation: int
    event: int
    mug: int
    pages: int
    slots: int
    ship: bytes
    log: bytes
    pins: tuple[Pin, ...]


class Arm(NamedTuple):
    """An arm that the machine stands for, and how often it did."""

    path: str
    kind: str
    hook: str | None
    hits: int
    misses: int
    checked: int
    unchecked: int
    wrong: int


class NounFacts(NamedTuple):
    """Counts of a noun; a tree count is None where it passes 64 bits."""

    jam: Jam
    mug: int
    depth: int
    cells: int
    atoms: int
    cells_tree: int | None
    atoms_tree: int | None


class Evaluated(NamedTuple):
    """A computation's product."""

    jam: Jam
    mug: int
    seconds: float
    thread_seconds: float
    """Of the thread's own clock: load on the machine does not count."""


class Crashed(NamedTuple):
    """A computation that ended in a bail."""

    mote: str
    trace: Jam
    seconds: float
    thread_seconds: float


class Engine:
    """One ship's machine."""

    def __init__(
        self,
        home_size: int = HOME_SIZE,
        nursery_size: int = NURSERY_SIZE,
        interrupt_fd: int = -1,
    ) -> None:
        message = ffi.new("char[256]")
        serf = lib.nk_serf_new(home_size, nursery_size, interrupt_fd, message)
        if serf == ffi.NULL:
            raise NoMemory(_text(message))
        self._serf = ffi.gc(serf, lib.nk_serf_free)
        self._message = ffi.new("char[256]")

    @property
    def event(self) -> int:
        """The last event; 0 where there is no kernel."""
        return int(lib.nk_serf_event(self._serf))

    @property
    def mug(self) -> int:
        """The kernel's mug."""
        return int(lib.nk_serf_mug(self._serf))

    # --- the process ---

    def confine(self, fds: Sequence[int]) -> str:
        """Give up all that a serf does not need; see native/confine.h. What
        could not be given up, in words.

        :raises Unconfined: a layer that must be there is not.
        """
        in_force = ffi.new("uint32_t *")
        message = ffi.new("char[256]")
        keep = [fd for fd in fds if fd >= 0]
        status = lib.nk_serf_confine(self._serf, keep, len(keep), in_force, message)
        if status:
            raise Unconfined(_text(message))
        return _text(message)

    def watch(self, fd: int) -> None:
        """Leave the process when the other end of `fd` is closed."""
        if lib.nk_serf_watch(fd, 0):
            raise Unconfined("no thread to watch the pipe")

    # --- events ---

    def work(
        self, works: Sequence[Work], early: Callable[[list[Plea]], None] | None = None
    ) -> Iterator[list[Plea]]:
        """Do `works` in order; yield the answers as they gather, slogs first.

        Those that would wait for a long work behind them are given to `early`
        while that runs. It must not raise, nor use the engine.
        """
        parts: list[bytes] = []
        for work in works:
            parts.append(_JOB.pack(work.request, work.deadline_ms, len(work.job)))
            parts.append(work.job)
        data = b"".join(parts)
        size = len(data)
        base = ffi.from_buffer("uint8_t[]", data)
        tell, handle = ffi.NULL, ffi.NULL
        if early is not None:
            tell, handle = lib.tell_early, ffi.new_handle((self, early))
        at = 0
        while at < size:
            done = lib.nk_serf_work(
                self._serf, base + at, size - at, _WORK_BUDGET_US, tell, handle
            )
            assert done > 0, "our own job records are malformed"
            at += done
            yield self.take_answers()

    def take_answers(self) -> list[Plea]:
        """What the works have left: slogs, notices, answers."""
        pleas: list[Plea] = [*self.slogs(), *self.notices()]
        _read_answers(self._out(), pleas)
        return pleas

    def play(
        self, life: int, rows: Sequence[Row], request: int = 0
    ) -> StoppedPlay | None:
        """Apply logged events; None when all went well."""
        parts: list[bytes] = []
        for row in rows:
            parts.append(_ROW.pack(row.mug, len(row.job)))
            parts.append(row.job)
        data = b"".join(parts)
        base = ffi.from_buffer("uint8_t[]", data)
        played = ffi.new("struct nk_played *")
        status = lib.nk_serf_play(self._serf, request, life, base, len(data), played)
        if status == 0:
            return None
        goofs = self._goofs()
        return StoppedPlay(
            event=played.event,
            expected=played.expected,
            actual=played.actual if not goofs else played.expected,
            goof=goofs[0] if goofs else None,
        )

    def peek(self, sample: Jam, deadline_ms: int, request: int = 0) -> Jam:
        """Slam the peek arm.

        :raises Failed: with one goof.
        """
        size = len(sample)
        if lib.nk_serf_peek(self._serf, request, sample, size, deadline_ms):
            raise Failed(self._goofs())
        return Jam(self._out())

    def kernel(self) -> memoryview:
        """The kernel's jam, in place: valid until the next call.

        :raises Failed: where there is no kernel.
        """
        if lib.nk_serf_kernel(self._serf):
            raise Failed(self._goofs())
        return memoryview(self._buffer())

    def slogs(self) -> list[Slog]:
        """Take what the guest printed since the last time."""
        return [
            slog if slog.priority != _BARE else slog._replace(priority=0)
            for slog in self._take_slogs()
        ]

    def notices(self) -> list[Flog]:
        """Take what the machine itself has to warn of."""
        notice = _text(lib.nk_serf_notice(self._serf))
        return [Flog(notice)] if notice else []

    def clues(self) -> list[Jam]:
        """As `slogs`, but the very clues: [priority tank], or what was there
        in its place."""
        return [
            slog.tank
            if slog.priority == _BARE
            else jam(Cell(slog.priority, cue(slog.tank)))
            for slog in self._take_slogs()
        ]

    def _take_slogs(self) -> list[Slog]:
        size = lib.nk_serf_slogs_size(self._serf)
        dropped = lib.nk_serf_slogs_dropped(self._serf)
        if not size and not dropped:
            return []
        raw = bytes(ffi.buffer(lib.nk_serf_slogs(self._serf), size)) if size else b""
        lib.nk_serf_slogs_clear(self._serf)
        slogs: list[Slog] = []
        at = 0
        while at < size:
            priority, event, tank_size = _SLOG.unpack_from(raw, at)
            at += _SLOG.size + tank_size
            slogs.append(Slog(priority, event, Jam(raw[at - tank_size : at])))
        if dropped:
            slogs.append(Slog(3, self.event, _cord_jam(f"{dropped} slogs dropped")))
        return slogs

    # --- the image ---

    def open_image(self, path: str) -> None:
        """Open or create the image file.

        :raises ImageUnusable: it cannot be opened, or is no image.
        """
        message = ffi.new("char[256]")
        if lib.nk_serf_image_open(self._serf, os.fsencode(path), message):
            raise ImageUnusable(_text(message) or f"cannot open {path}")

    def load(self, event_max: int, verify: bool, ship: bytes, log: bytes) -> Loaded:
        """Load the newest good generation with event <= event_max.

        :raises ImageUnusable: the file cannot be read, or what its checksums
            vouch for does not fit together.
        """
        loaded = ffi.new("struct nk_loaded *")
        status = lib.nk_serf_load(self._serf, event_max, verify, ship, log, loaded)
        note = _text(loaded.message)
        if status:
            raise ImageUnusable(note or self._mote(status))
        return Loaded(
            good=bool(loaded.good),
            fell_back=loaded.fell_back,
            generation=loaded.generation,
            event=loaded.event,
            mug=loaded.mug,
            ship=bytes(ffi.buffer(loaded.ship)),
            log=bytes(ffi.buffer(loaded.log)),
            note=note,
        )

    def start_verification(self) -> None:
        """Read all that was loaded, in a thread of its own."""
        message = ffi.new("char[256]")
        if lib.nk_serf_verify_start(self._serf, message):
            raise ImageUnusable(_text(message) or "no thread for verification")

    def check_rot(self) -> None:
        """Has that thread found a bad page?

        :raises ImageUnusable: it has; what was computed may be wrong.
        """
        if lib.nk_serf_is_rotten(self._serf, self._message):
            raise ImageUnusable(_text(self._message))

    def scrub(self) -> Scrubbed:
        """Read a few pages of the newest generation again, unless something is
        being saved or verified.

        :raises ImageUnusable: one is bad; what was computed may be wrong.
        """
        scrubbed = ffi.new("struct nk_scrubbed *")
        if lib.nk_serf_scrub(self._serf, scrubbed, self._message):
            raise ImageUnusable(_text(self._message))
        return Scrubbed(
            scrubbed.stepped, scrubbed.page, scrubbed.pages, scrubbed.passes
        )

    def begin_save(
        self, wake_fd: int, pin: str = "", unpin: str = "", pace: int = 0
    ) -> None:
        """Begin to write the state as it now is, beside what is done next.

        An eventfd is written to when that is done. The others: see Save.

        :raises Failed: with one goof that says why.
        """
        # C ends a text at a zero; a name may not have one, nor a `?`.
        names = [name.replace("\0", "?").encode() for name in (pin, unpin)]
        if lib.nk_serf_save_begin(self._serf, wake_fd, *names, pace):
            raise Failed(self._goofs())

    def save_is_done(self) -> bool:
        """Would `end_save` return at once?"""
        return bool(lib.nk_serf_save_is_done(self._serf))

    def end_save(self) -> Written:
        """Wait for the save that was begun; what it wrote.

        :raises Failed: with one goof that says why; it may be tried again.
        """
        saved = ffi.new("struct nk_saved *")
        if lib.nk_serf_save_end(self._serf, saved):
            raise Failed(self._goofs())
        return Written(
            saved.event,
            saved.mug,
            saved.generation,
            saved.pages,
            saved.bytes_written,
            saved.elapsed_us,
        )

    # --- observation ---

    def probe(self, *, interval_us: int = 0, check: bool = False) -> None:
        """Count, sample and check what runs from now on; see native/probe.h."""
        lib.nk_serf_probe(self._serf, interval_us, check)

    def enable_jets(self, enabled: bool) -> None:
        lib.nk_serf_enable_jets(self._serf, enabled)

    def stats(self) -> dict[str, int]:
        """What the machine and its probe counted; `group:name` or `name`."""
        return dict(self._counters(lib.nk_serf_stat))

    def arms(self) -> list[Arm]:
        """Every arm that the machine knows."""
        facts = ffi.new("struct nk_arm_facts *")
        arms: list[Arm] = []
        while lib.nk_serf_arm(self._serf, len(arms), facts):
            hook = None if facts.hook == ffi.NULL else _text(facts.hook)
            arms.append(
                Arm(
                    _text(facts.path),
                    _text(facts.kind),
                    hook,
                    facts.hits,
                    facts.misses,
                    facts.checked,
                    facts.unchecked,
                    facts.wrong,
                )
            )
        return arms

    def profile(self) -> str:
        """Folded stacks: lines of `name;name count`."""
        lib.nk_serf_profile(self._serf)
        return self._out().decode("utf-8", "replace")

    def disassemble(self, jam: bytes) -> str:
        """The programs of the formula of `[subject formula]`. Raises as `noun`."""
        why = ffi.new("char const **")
        self._check(lib.nk_serf_disassemble(self._serf, jam, len(jam), why), why)
        return self._out().decode("utf-8", "replace")

    def state(self) -> Jam:
        """Jam of `[kernel cold]`, all that a state is; see native/jet.h.

        :raises Failed: if there is no kernel, or no memory.
        """
        if lib.nk_serf_state(self._serf):
            raise Failed(self._goofs())
        return Jam(self._out())

    def install(self, state: bytes, event: int) -> None:
        """Be in such a state, as after `event`; once, and where nothing was loaded.

        :raises NotJam: it is none, or there is no memory for it.
        """
        why = ffi.new("char const **")
        self._check(lib.nk_serf_install(self._serf, state, len(state), event, why), why)

    # --- upkeep ---

    def pack(self) -> tuple[int, int]:
        """Collect home and drop caches; bytes in use before and after."""
        before = ffi.new("uint64_t *")
        after = ffi.new("uint64_t *")
        lib.nk_serf_pack(self._serf, before, after)
        return before[0], after[0]

    def gauges(self) -> tuple[tuple[str, int], ...]:
        """Every counter of the machine."""
        return tuple(self._counters(lib.nk_serf_gauge))

    def _counters(self, read: Any) -> list[tuple[str, int]]:
        value = ffi.new("uint64_t *")
        counters: list[tuple[str, int]] = []
        while True:
            name = read(self._serf, len(counters), value)
            if name == ffi.NULL:
                return counters
            counters.append((_text(name), value[0]))

    # --- tools ---

    def noun(self, jam: bytes) -> NounFacts:
        """Count a noun.

        :raises NotJam: with the word that says which way.
        """
        facts = ffi.new("struct nk_noun_facts *")
        why = ffi.new("char const **")
        self._check(lib.nk_serf_noun(self._serf, jam, len(jam), facts, why), why)
        return NounFacts(
            jam=Jam(self._out()),
            mug=facts.mug,
            depth=facts.depth,
            cells=facts.cells_distinct,
            atoms=facts.atoms_distinct,
            cells_tree=_unless_full(facts.cells_tree),
            atoms_tree=_unless_full(facts.atoms_tree),
        )

    def rejam(self, jam: bytes) -> tuple[Jam, int]:
        """The canonical jam, and the mug. Raises as `noun`."""
        mug = ffi.new("uint32_t *")
        why = ffi.new("char const **")
        self._check(lib.nk_serf_rejam(self._serf, jam, len(jam), mug, why), why)
        return Jam(self._out()), mug[0]

    def nock(self, jam: bytes, jets: bool) -> Evaluated | Crashed:
        """Evaluate the jam of `[subject formula]`. Raises as `noun`."""
        nanoseconds = ffi.new("uint64_t[2]")
        mug = ffi.new("uint32_t *")
        why = ffi.new("char const **")
        status = lib.nk_serf_nock(
            self._serf, jam, len(jam), jets, nanoseconds, mug, why
        )
        if _is_bad(status) or (status and why[0] != ffi.NULL and _text(why[0])):
            self._check(status, why)
        wall, thread = nanoseconds[0] / 1e9, nanoseconds[1] / 1e9
        if status:
            return Crashed(self._mote(status), Jam(self._out()), wall, thread)
        return Evaluated(Jam(self._out()), mug[0], wall, thread)

    # --- inside ---

    def _check(self, status: int, why: Any) -> None:
        if status:
            known = why[0] != ffi.NULL and _text(why[0])
            raise NotJam(known or self._mote(status))

    def _mote(self, status: int) -> str:
        return _text(lib.nk_serf_mote(status))

    def _buffer(self) -> Any:
        return ffi.buffer(lib.nk_serf_out(self._serf), lib.nk_serf_out_size(self._serf))

    def _out(self) -> bytes:
        if not lib.nk_serf_out_size(self._serf):
            return b""
        return bytes(self._buffer())

    def _goofs(self) -> tuple[Goof, ...]:
        count = lib.nk_serf_goofs(self._serf)
        return _read_goofs(self._out(), 0, count)[0]


class CopyFailed(Exception):
    """A copy that was not made; `code` is one of king/errors.py."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class ImageCopy:
    """One generation of an image on its way to the empty file `to`.

    :raises CopyFailed: of each method: image-damaged, image-overwritten,
        image-event-missing, disk-full, disk-error
    """

    def __init__(self, source: str, event: int, to: int) -> None:
        self._state = ffi.new("struct nk_copied *")
        self._message = ffi.new("char[256]")
        self._source = source
        what = ffi.new("struct nk_checked *")
        copy = ffi.new("nk_image_copy **")
        status = lib.nk_copy_begin(os.fsencode(source), event, to, copy, what)
        if status:
            lacks = _is_bad(status) and not what.good
            code = "image-event-missing" if lacks else ""
            raise self._fault(code, status, _text(what.message))
        self._copy = ffi.gc(copy[0], lib.nk_copy_end)
        self.what = _checked(what, "")

    def step(self) -> bool:
        """Some MiB more; is all of it written, read again and good?"""
        status = lib.nk_copy_step(self._copy, self._state, self._message)
        if status:
            code = "image-overwritten" if self._state.overwritten else ""
            raise self._fault(code, status, _text(self._message))
        return bool(self._state.done)

    @property
    def verifying(self) -> bool:
        return bool(self._state.verifying)

    @property
    def done(self) -> int:
        return int(self._state.bytes_done)

    @property
    def total(self) -> int:
        return int(self._state.bytes_total)

    @property
    def pages(self) -> int:
        return int(self._state.pages)

    @property
    def bytes(self) -> int:
        return int(self._state.bytes)

    def _fault(self, code: str, status: int, why: str) -> CopyFailed:
        if not code and _is_bad(status):
            code = "image-damaged"
        elif not code:
            full = os.strerror(errno.ENOSPC) in why
            code = "disk-full" if full else "disk-error"
        return CopyFailed(code, f"{self._source}: {why}")


def _tell_early(handle: Any) -> None:
    """C calls it in the middle of a work; see nk_serf_work."""
    engine, early = ffi.from_handle(handle)
    early(engine.take_answers())


ffi.def_extern("tell_early")(_tell_early)


def check_image(path: str, deep: bool = False) -> CheckedImage:
    """Verify every generation of an image file; `deep`: and every noun."""
    return _look_at_image(lib.nk_check_image, path, deep)


def image_facts(path: str) -> CheckedImage:
    """What the superblocks say; `generations` counts the good ones. Nothing
    else is read."""
    return _look_at_image(lib.nk_image_facts, path)


def _look_at_image(look: Any, path: str, *how: bool) -> CheckedImage:
    checked = ffi.new("struct nk_checked *")
    status = look(os.fsencode(path), *how, checked)
    message = _text(checked.message)
    if status and not message:
        message = _text(lib.nk_serf_mote(status))
    return _checked(checked, message if status else "")


def _checked(checked: Any, fault: str) -> CheckedImage:
    return CheckedImage(
        fault=fault,
        good=bool(checked.good),
        generations=checked.generations,
        generation=checked.generation,
        event=checked.event,
        mug=checked.mug,
        pages=checked.pages,
        slots=checked.slots,
        ship=bytes(ffi.buffer(checked.ship)),
        log=bytes(ffi.buffer(checked.log)),
        pins=tuple(
            Pin(_text(pin.name), pin.generation, pin.event)
            for pin in checked.pins[0 : checked.pin_count]
        ),
    )


def _is_bad(status: int) -> bool:
    """Malformed input, as opposed to what the system or a limit refused."""
    return _text(lib.nk_serf_mote(status)) == "bad"


def _text(raw: Any) -> str:
    return str(ffi.string(raw).decode("utf-8", "replace"))


def _unless_full(count: int) -> int | None:
    return None if count == _UINT64_MAX else count


def _cord_jam(text: str) -> Jam:
    return jam(noun(text))


def _read_answers(raw: bytes, pleas: list[Plea]) -> None:
    at = 0
    end = len(raw)
    while at < end:
        kind, second, request = _HEAD.unpack_from(raw, at)
        at += 16
        if kind == 1:
            event, job_size, effect_count, cost, pages = _DONE.unpack_from(raw, at)
            at += 32
            job = None
            if job_size:
                job = Jam(raw[at : at + job_size])
                at += job_size
            effects: list[Effect] = []
            for _ in range(effect_count):
                effect, at = _read_effect(raw, at)
                effects.append(effect)
            pleas.append(Done(request, event, second, tuple(effects), job, cost, pages))
        else:
            goofs, at = _read_goofs(raw, at, second)
            pleas.append(Bail(request, goofs))


def _read_effect(raw: bytes, at: int) -> tuple[Effect, int]:
    knot_count, tag_size, data_size = _EFFECT.unpack_from(raw, at)
    at += 12
    body = at + 4 * knot_count
    wire: list[bytes] = []
    for place in range(at, body, 4):
        end = body + int.from_bytes(raw[place : place + 4], "little")
        wire.append(raw[body:end])
        body = end
    tag_end = body + tag_size
    end = tag_end + data_size
    return Effect(tuple(wire), raw[body:tag_end], Jam(raw[tag_end:end])), end


def _read_goofs(raw: bytes, at: int, count: int) -> tuple[tuple[Goof, ...], int]:
    goofs: list[Goof] = []
    for _ in range(count):
        mote_size, tang_size = _GOOF.unpack_from(raw, at)
        at += 8
        mote = raw[at : at + mote_size].decode()
        at += mote_size
        goofs.append(Goof(mote, Jam(raw[at : at + tang_size])))
        at += tang_size
    return tuple(goofs), at
