"""`treadle log`: list, show, top, follow and grep a ship's events.

What it is: words in, lines out, around `log_view`.
Invariants: with --json one object a line. What is printed for people has no
    control characters in it, whatever a guest wrote.
Limits: no trio. A job above GREP_BYTES_MAX is not searched, but for its wire
    and tag, and the end says how many were not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from king import values
from king.costs import EVENTS_MAX
from king.errors import TreadleError
from king.log_child import in_child
from king.log_text import render_job
from king.log_view import BATCH, Entry, Filter, Kinds, Tally, View
from king.progress import Bar
from proto.errors import CueError
from proto.jam import cue
from proto.noun import Cell, Noun
from proto.tank import clean

__all__ = ["add_commands"]

TEXT_MAX = 4000
SHOW_BYTES_MAX = 16 << 20
GREP_BYTES_MAX = 256 << 10
GREP_TEXT_MAX = 1 << 20
AROUND = 40
POLL_S = 0.05
REST_S = 1.0
_BY = ("driver", "tag", "wire")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# --- words --------------------------------------------------------------------


def add_commands(parts: Any) -> None:
    """Beside those that are there already, of `treadle log`."""

    def add(
        name: str, function: Callable[[View, Any], int], text: str
    ) -> argparse.ArgumentParser:
        part: argparse.ArgumentParser = parts.add_parser(
            name, help=text, description=text
        )
        part.set_defaults(function=_run, look=function)
        part.add_argument(
            "pier", type=Path, metavar="PIER", help="the ship's directory"
        )
        part.add_argument(
            "--json",
            action="store_true",
            help="one JSON object a line",
        )
        return part

    part = add("list", _list, "list events, oldest first")
    _add_range(part)
    part.add_argument(
        "--tail", type=values.positive, metavar="N", help="the last N of these"
    )
    _add_filter(part)
    part = add("show", _show, "show one event: when, what, and its job as text")
    part.add_argument("event", type=values.positive, metavar="EVENT")
    part.add_argument(
        "--jam", metavar="FILE", help="write the job's jam to FILE (-: stdout)"
    )
    part.add_argument(
        "--text",
        type=values.positive,
        default=TEXT_MAX,
        metavar="N",
        help=f"letters of the job to show (default {TEXT_MAX})",
    )
    part = add("top", _top, "add up events by driver, tag and wire: what fills the log")
    _add_range(part)
    part.add_argument("--by", choices=_BY, help="one of the three tables alone")
    part.add_argument(
        "--sort", choices=("bytes", "events", "time", "pages"), default="bytes"
    )
    part.add_argument(
        "--limit",
        type=values.positive,
        default=20,
        metavar="N",
        help="rows (default 20)",
    )
    _add_filter(part)
    part = add("follow", _follow, "print events as they become durable, until ^C")
    part.add_argument(
        "--tail",
        type=values.count,
        default=10,
        metavar="N",
        help="begin with the last N (default 10)",
    )
    _add_filter(part)
    part = add(
        "grep",
        _grep,
        "search wires, tags and jobs, as `show` shows them (exit 1: nothing)",
    )
    part.add_argument("pattern", metavar="PATTERN", help="a regular expression")
    _add_range(part)
    part.add_argument("-i", "--ignore-case", action="store_true")
    _add_filter(part)


def _add_range(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "--first", type=values.positive, default=1, metavar="N", help="from event N on"
    )
    part.add_argument("--last", type=values.positive, metavar="N", help="up to event N")


def _add_filter(part: argparse.ArgumentParser) -> None:
    part.add_argument("--tag", metavar="TAG", help="of this tag")
    part.add_argument("--wire", metavar="WIRE", help="on wires that begin so: /e/http")
    part.add_argument("--driver", metavar="NAME", help="of this driver: http, term")
    part.add_argument(
        "--min-bytes",
        type=values.count,
        default=0,
        metavar="N",
        help="of N bytes at least",
    )
    for name, text in (("--since", "not before"), ("--until", "before")):
        part.add_argument(
            name,
            type=_moment,
            metavar="TIME",
            help=f"{text} this: 2026-11-22, 2026-11-22T10:30 (UTC), or 90m, 2h, 3d ago",
        )


def _moment(text: str) -> float:
    """Unix seconds."""
    try:
        match = re.fullmatch(r"(\d{1,6})([smhd])", text)
        if match is not None:
            ago = timedelta(**{_UNITS[match[2]]: int(match[1])})
            return (datetime.now(UTC) - ago).timestamp()
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-11-22T10:30, or 2h"
        ) from error


def _filter(args: argparse.Namespace) -> Filter:
    return Filter(
        tag=args.tag.removeprefix("%") if args.tag else None,
        wire=args.wire,
        driver=args.driver,
        size_min=args.min_bytes,
        since=args.since,
        until=args.until,
    )


def _run(args: argparse.Namespace) -> int:
    return in_child(args.pier, partial(_look, args))


def _look(args: argparse.Namespace) -> int:
    with View(args.pier) as view:
        code: int = args.look(view, args)
        sys.stdout.flush()
        return code


# --- lines --------------------------------------------------------------------


@lru_cache(8)
def _second(unix: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix))
    except (ValueError, OverflowError, OSError):
        return f"@{unix}"


def _time_text(unix: float | None) -> str:
    if unix is None:
        return "-"
    whole = int(unix // 1)
    return f"{_second(whole)}.{int((unix - whole) * 1000):03}"


@lru_cache(4096)
def _clean(text: str | None) -> str:
    return "-" if text is None else clean(text)


_HEAD_LINE = (
    f"{'event':>10} {'time (UTC)':<23} {'bytes':>11} {'ms':>9} {'pages':>6} "
    f"{'driver':<6} tag and wire"
)


def _line(entry: Entry) -> str:
    event, unix, size, _, wire, tag, driver, nanoseconds, pages = entry
    cost = "-" if nanoseconds is None else f"{nanoseconds / 1e6:.3f}"
    dirty = "-" if pages is None else str(pages)
    return (
        f"{event:>10} {_time_text(unix):<23} {size:>11,} {cost:>9} {dirty:>6} "
        f"{_clean(driver):<6} %{_clean(tag)} {_clean(wire)}"
    )


def _object(entry: Entry) -> dict[str, Any]:
    return {
        "event": entry.event,
        "time": None if entry.time is None else _time_text(entry.time),
        "unix": entry.time,
        "bytes": entry.size,
        "mug": f"{entry.mug:08x}" if entry.mug else None,
        "driver": entry.driver,
        "tag": entry.tag,
        "wire": entry.wire,
        "nanoseconds": entry.nanoseconds,
        "pages": entry.pages,
    }


def _print(entry: Entry, as_json: bool) -> None:
    print(json.dumps(_object(entry)) if as_json else _line(entry))


# --- list, follow ---------------------------------------------------------------


def _list(view: View, args: argparse.Namespace) -> int:
    first, last = args.first, args.last
    wanted = _filter(args)
    if args.tail is not None and wanted == Filter():
        first = max(first, min(last or view.last, view.last) - args.tail + 1)
    found = filter(wanted.takes, view.entries(first, last))
    if not args.json:
        print(_HEAD_LINE)
    for entry in found if args.tail is None else deque(found, args.tail):
        _print(entry, args.json)
    return 0


def _follow(view: View, args: argparse.Namespace) -> int:
    takes = _filter(args).takes
    seen = max(view.first - 1, view.last - args.tail, 0)
    parent = os.getppid()
    if not args.json:
        print(_HEAD_LINE)
    if not view.live:
        print("the ship is at rest: waiting for it to run", file=sys.stderr)
    while True:
        for entry in view.entries(seen + 1):
            if takes(entry):
                _print(entry, args.json)
            seen = entry.event
        sys.stdout.flush()
        while not view.look_again():
            if os.getppid() != parent:
                return 0  # nobody reads on
            time.sleep(POLL_S if view.live else REST_S)


# --- show -----------------------------------------------------------------------


def _show(view: View, args: argparse.Namespace) -> int:
    row = view.row(args.event)
    if args.jam == "-":
        sys.stdout.buffer.write(row.job)
        sys.stdout.buffer.flush()
        return 0
    if args.jam is not None:
        _write(Path(args.jam), row.job)
    (entry,) = view.entries(args.event, args.event)
    text, why = _job_text(entry, row.job, args.text)
    if args.json:
        print(json.dumps({**_object(entry), "text": text, "note": why or None}))
        return 0
    cost = "not recorded"
    if entry.nanoseconds is not None:
        cost = f"{entry.nanoseconds / 1e6:.3f} ms, {entry.pages} pages dirtied"
    for name, value in (
        ("event", f"{entry.event:,}"),
        ("time", f"{_time_text(entry.time)} UTC" if entry.time is not None else "-"),
        ("wire", _clean(entry.wire)),
        ("tag", f"%{_clean(entry.tag)}" if entry.tag is not None else "-"),
        ("driver", _clean(entry.driver)),
        ("mug", f"{entry.mug:08x}" if entry.mug else "not logged"),
        ("bytes", f"{entry.size:,}"),
        ("cost", cost),
    ):
        print(f"{name:<7} {value}")
    print(f"\n{text or why}")
    return 0


def _job_text(entry: Entry, job: bytes, limit: int) -> tuple[str | None, str]:
    """What it says (of a job, without its time and wire), or why that is not shown."""
    if len(job) > SHOW_BYTES_MAX:
        return None, f"the job has {len(job):,} bytes: --jam FILE writes it"
    try:
        noun = cue(job)
    except CueError as error:
        return None, f"the job is no jam: {error}"
    return render_job(_card(noun) if entry.wire is not None else noun, limit), ""


def _card(job: Noun) -> Noun:
    assert isinstance(job, Cell)
    assert isinstance(job.tail, Cell)
    return job.tail.tail


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise TreadleError(
            "file-bad", f"cannot write {path}: {error.strerror}"
        ) from error


# --- top ------------------------------------------------------------------------


def _top(view: View, args: argparse.Namespace) -> int:
    takes = _filter(args).takes
    kinds = [Kinds(by) for by in ((args.by,) if args.by else _BY)]
    whole = Tally()
    for entry in _watched(view, args, "adding up"):
        if takes(entry):
            whole.add(entry)
            for each in kinds:
                each.add(entry)
    for each in kinds:
        rows = sorted(each.table.items(), key=lambda row: _weight(args.sort, row[1]))
        rows = rows[: args.limit]
        if args.json:
            for name, tally in rows:
                print(json.dumps({"by": each.by, each.by: name, **_sum(tally)}))
        else:
            _print_table(each, rows, whole)
    if args.json:
        print(json.dumps({"by": "all", **_sum(whole)}))
    else:
        print(
            f"{whole.events:,} events, {whole.bytes:,} bytes of jobs; ms and pages: of "
            f"the {whole.known:,} that were computed live here (the last "
            f"{EVENTS_MAX:,} are kept)"
        )
    return 0


def _weight(sort: str, tally: Tally) -> tuple[int, int]:
    chosen = {
        "bytes": tally.bytes,
        "events": tally.events,
        "time": tally.nanoseconds,
        "pages": tally.pages,
    }[sort]
    return -chosen, -tally.events


def _sum(tally: Tally) -> dict[str, int]:
    return {
        "events": tally.events,
        "bytes": tally.bytes,
        "nanoseconds": tally.nanoseconds,
        "pages": tally.pages,
        "events_with_cost": tally.known,
    }


def _print_table(kinds: Kinds, rows: list[tuple[str, Tally]], whole: Tally) -> None:
    print(f"{'events':>11} {'bytes':>15} {'%':>6} {'ms':>12} {'pages':>9}  {kinds.by}")
    for name, tally in rows:
        share = 100 * tally.bytes / max(whole.bytes, 1)
        known = tally.known > 0
        cost = f"{tally.nanoseconds / 1e6:,.1f}" if known else "-"
        pages = f"{tally.pages:,}" if known else "-"
        shown = _clean(name)
        print(
            f"{tally.events:>11,} {tally.bytes:>15,} {share:>6.1f} {cost:>12} "
            f"{pages:>9}  {shown}"
        )
    print()


def _watched(view: View, args: argparse.Namespace, word: str) -> Iterator[Entry]:
    """Entries of the range, with a bar on a terminal."""
    first, last = args.first, args.last
    bar = Bar(word)
    begin = max(first, view.first)
    total = max((view.last if last is None else min(last, view.last)) - begin + 1, 0)
    try:
        for count, entry in enumerate(view.entries(first, last), 1):
            if count % BATCH == 0 and not args.json:
                bar.show(count, total, "events")
            yield entry
    finally:
        bar.close()


# --- grep -----------------------------------------------------------------------


def _grep(view: View, args: argparse.Namespace) -> int:
    try:
        pattern = re.compile(args.pattern, re.IGNORECASE if args.ignore_case else 0)
    except re.error as error:
        raise TreadleError(
            "usage", f"{args.pattern!r} is no regular expression: {error}"
        ) from error
    takes = _filter(args).takes
    found = skipped = 0
    for entry in _watched(view, args, "searching"):
        if not takes(entry):
            continue
        text = f"%{entry.tag} {entry.wire}"
        match = pattern.search(text)
        if match is None:
            if entry.size > GREP_BYTES_MAX:
                skipped += 1
                continue
            job = view.row(entry.event).job
            text = _job_text(entry, job, GREP_TEXT_MAX)[0] or ""
            match = pattern.search(text)
        if match is not None:
            found += 1
            around = text[max(match.start() - AROUND, 0) : match.end() + AROUND]
            if args.json:
                print(json.dumps({**_object(entry), "match": around}))
            else:
                print(f"{_line(entry)}\n{'':>10} {clean(around)}")
    if skipped:
        print(
            f"{skipped:,} jobs of more than {GREP_BYTES_MAX:,} bytes were not searched "
            "(`show EVENT --jam FILE` writes one)",
            file=sys.stderr,
        )
    return 0 if found else 1
