"""The conversation: read writs, do them, write pleas.

One thread, blocking. Reads are large, answers to works are written in
batches as they gather (none waits for a long work behind it), every answer in
the order of its request; but a save goes on beside what follows, and is
answered when it is done. The king
always reads, so a blocking write cannot deadlock; a king that has gone away
ends the loop (and, in the middle of a long event, the watch thread ends the
process).

Owns: the two ends of the pipe that it is given, and the eventfd that tells the
    end of a save.
Invariants: the first plea is Ripe; every writ but Exit gets one answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
from typing import assert_never

from proto.codec import WritReader, pack_pleas
from proto.errors import ProtoError
from proto.jam import jam
from proto.message import (
    PROTOCOL,
    Bail,
    Done,
    Exit,
    Flog,
    Gauge,
    Gauged,
    Goof,
    Hash,
    Hashed,
    Pack,
    Packed,
    Peek,
    Peeked,
    Play,
    Played,
    Plea,
    Ripe,
    Save,
    Saved,
    Stuck,
    Work,
    Writ,
)
from proto.noun import listed, noun
from proto.record import Action, Notes
from serf.engine import Engine, Failed, Loaded
from serf.errors import BrokenPipeline
from serf.scrub import Scrub

__all__ = ["RUNTIME", "Loop"]

RUNTIME = "treadle-0.1.0"
_READ_SIZE = 1 << 16  # larger buffers come fresh from the system: 16 us a read


class Loop:
    """One serf's service of one king."""

    def __init__(
        self,
        engine: Engine,
        read_fd: int,
        write_fd: int,
        wake_fd: int,
        notes: Notes | None = None,
        scrub: Scrub | None = None,
    ) -> None:
        self._engine = engine
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._wake_fd = wake_fd
        self._saving: Save | None = None
        self._doors = select.poll()
        self._doors.register(read_fd, select.POLLIN)
        self._doors.register(wake_fd, select.POLLIN)
        self._notes = notes
        self._scrub = scrub
        self._door = select.poll()
        self._door.register(read_fd, select.POLLIN)

    def run(self, loaded: Loaded) -> int:
        """Greet, then serve until told to leave; the exit code.

        :raises BrokenPipeline: where the king's bytes are not writs.
        :raises ImageUnusable: where a page turns out to be rotten.
        """
        ripe = _ripe(loaded)
        if self._notes is not None:
            self._notes(Action.LOAD, ripe.event)
        try:
            self._send([ripe])
            return self._serve()
        except BrokenPipeError:
            return 0  # The king is gone; nothing to tell, nobody to tell it to.

    def _serve(self) -> int:
        reader = WritReader()
        while True:
            while self._saving is not None and not self._tend_save():
                pass
            self._idle()
            data = os.read(self._read_fd, _READ_SIZE)
            if not data:
                return 0
            try:
                writs = reader.feed(data)
            except ProtoError as error:
                self._send([Flog(f"serf: bad frame: {error}")])
                raise BrokenPipeline(f"bad frame: {error}") from error
            self._engine.check_rot()
            code = self._handle(writs)
            if code is not None:
                return code

    def _idle(self) -> None:
        """Scrub until there is something to read."""
        scrub = self._scrub
        if scrub is None or self._saving is not None:
            return
        while not self._door.poll(scrub.patience_s * 1e3):
            scrub.step()

    def _handle(self, writs: list[Writ]) -> int | None:
        works: list[Work] = []
        for writ in writs:
            if isinstance(writ, Work):
                works.append(writ)
                continue
            self._work(works)
            works = []
            if isinstance(writ, Exit):
                return writ.code & 0xFF
            answer = self._answer(writ)
            if answer is not None:
                self._note(writ, answer)
                self._send([*self._engine.slogs(), *self._engine.notices(), answer])
        self._work(works)
        return None

    def _work(self, works: list[Work]) -> None:
        if works:
            for pleas in self._engine.work(works, self._tell_early):
                self._tell_work(pleas)

    def _tell_work(self, pleas: list[Plea]) -> None:
        if self._notes is not None:
            self._note_work(pleas, self._notes)
        self._send(pleas)

    def _tell_early(self, pleas: list[Plea]) -> None:
        # A king that is gone is found out by whoever writes next.
        with contextlib.suppress(BrokenPipeError):
            self._tell_work(pleas)

    def _note(self, writ: Writ, answer: Plea) -> None:
        if self._notes is None:
            return
        if isinstance(writ, Play):
            self._notes(Action.REPLAY, self._engine.event)
        elif isinstance(writ, Save):
            self._notes(Action.FREEZE, writ.request, 0)

    def _note_work(self, pleas: list[Plea], notes: Notes) -> None:
        for plea in pleas:
            if isinstance(plea, Done):
                notes(Action.APPLY, plea.request, plea.event)
            elif isinstance(plea, Bail):
                notes(Action.APPLY, plea.request, 0)

    def _answer(self, writ: Peek | Play | Save | Pack | Hash | Gauge) -> Plea | None:
        try:
            match writ:
                case Peek():
                    result = self._engine.peek(
                        writ.sample, writ.deadline_ms, writ.request
                    )
                    return Peeked(writ.request, result)
                case Play():
                    return self._play(writ)
                case Save():
                    return self._save(writ)
                case Pack():
                    return Packed(writ.request, *self._engine.pack())
                case Hash():
                    digest = hashlib.sha256(self._engine.kernel()).digest()
                    return Hashed(writ.request, self._engine.event, digest)
                case Gauge():
                    scrubbed = self._scrub.gauges() if self._scrub else ()
                    return Gauged(writ.request, scrubbed + self._engine.gauges())
                case _:
                    assert_never(writ)
        except Failed as failure:
            return Bail(writ.request, failure.goofs)

    def _play(self, writ: Play) -> Plea:
        engine = self._engine
        if writ.first != engine.event + 1:
            return _refuse(
                writ.request,
                f"play begins at event {writ.first}; the serf is at {engine.event}",
            )
        stopped = engine.play(writ.life, writ.rows, writ.request)
        if stopped is None:
            return Played(writ.request, engine.event, engine.mug)
        return Stuck(
            writ.request,
            stopped.event,
            stopped.expected,
            stopped.actual,
            stopped.goof,
        )

    def _save(self, writ: Save) -> Plea | None:
        engine = self._engine
        if writ.event != engine.event:
            return _refuse(
                writ.request,
                f"event {writ.event} is durable; the serf is at {engine.event}",
            )
        if self._saving is not None:
            return _refuse(writ.request, "a save is under way")
        engine.begin_save(self._wake_fd, writ.pin, writ.unpin, writ.pace)
        self._saving = writ
        if self._notes is not None:
            self._notes(Action.FREEZE, writ.request, engine.event)
        return None

    def _tend_save(self) -> bool:
        """Wait for a writ or for the save's end, and answer that; was it a writ?"""
        assert self._saving is not None
        if not self._engine.save_is_done():
            ready = [fd for fd, _ in self._doors.poll()]
            if self._wake_fd not in ready:
                return True
        os.read(self._wake_fd, 8)
        writ, self._saving = self._saving, None
        answer: Plea
        try:
            answer = Saved(writ.request, *self._engine.end_save())
        except Failed as failure:
            answer = Bail(writ.request, failure.goofs)
        if self._notes is not None:
            event = writ.event if isinstance(answer, Saved) else 0
            self._notes(Action.DO_SAVE, writ.request, event)
        self._send([answer])
        return False

    def _send(self, pleas: list[Plea]) -> None:
        data = memoryview(pack_pleas(pleas))
        while data:
            data = data[os.write(self._write_fd, data) :]


def _ripe(loaded: Loaded) -> Ripe:
    return Ripe(
        protocol=PROTOCOL,
        runtime=RUNTIME,
        ship=loaded.ship,
        log=loaded.log,
        event=loaded.event if loaded.good else 0,
        mug=loaded.mug if loaded.good else 0,
        generation=loaded.generation,
        fell_back=loaded.fell_back,
        note=loaded.note,
    )


def _refuse(request: int, why: str) -> Bail:
    """Fail a request in our own words: a tang of one %leaf."""
    tape = listed([ord(letter) for letter in why])
    tang = listed([noun("leaf", tape)])
    return Bail(request, (Goof("fail", jam(tang)),))
