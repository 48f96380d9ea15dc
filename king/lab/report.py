"""A page of what the lab has tried: one file, pictures inside, no network.

Owns: the look of the page. All numbers are the ledger's.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from king.config import RUNTIME
from king.lab.ledger import Ledger, live_bins

__all__ = ["write_report"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66788a;
  --paper: #fbfaf7; --bar: #3c6e91; --line: #d9d5cc; --bad: #a8322a;
  --good: #2f7d4f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e3dc; --soft: #93a1ae; --paper: #15191e; --bar: #6ea3c7;
    --line: #333b44; --bad: #e0736a; --good: #6fc08f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 60rem; margin: 2.5rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.lead { color: var(--soft); margin: .2rem 0 1.6rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem;
  min-width: 8.5rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg rect { fill: var(--bar); }
svg line { stroke: var(--line); }
.bad { color: var(--bad); }
.good { color: var(--good); }
pre { background: color-mix(in srgb, var(--line) 35%, transparent);
  padding: .6rem .8rem; border-radius: 6px; font-size: .8rem;
  white-space: pre-wrap; }
"""

_WIDTH, _ROW, _LABEL, _NUMBER = 860, 24, 240, 70

_SECTIONS = (
    ("states", "States that power cuts leave, opened in one process"),
    ("blocks", "Disks that power cuts leave under real filesystems"),
    ("pairs", "Some of both, started as whole ships"),
    ("points", "Blows at whole ships, by kind"),
    ("recoveries", "How the ships recovered"),
    ("damage", "Piers with damaged files"),
    ("lies", "Serfs that lie"),
    ("cuts", "Real power cuts of a mounted filesystem"),
    ("simulation", "The king's core in a simulated world"),
)


def _bars(rows: Sequence[tuple[str, int]]) -> str:
    """A horizontal bar each; lengths are proportional."""
    most = max((number for _, number in rows), default=0) or 1
    room = _WIDTH - _LABEL - _NUMBER
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_ROW * len(rows)}" role="img">']
    for index, (label, number) in enumerate(rows):
        top = index * _ROW
        width = max(room * number / most, 1.0 if number else 0.0)
        parts.append(
            f'<text x="{_LABEL - 10}" y="{top + 16}" text-anchor="end">'
            f"{html.escape(label)}</text>"
            f'<rect x="{_LABEL}" y="{top + 4}" width="{width:.1f}" height="{_ROW - 8}"'
            ' rx="2"/>'
            f'<text class="soft" x="{_LABEL + width + 8:.1f}" y="{top + 16}">'
            f"{number:,}</text>"
        )
    return "".join([*parts, "</svg>"])


def _histogram(rows: Sequence[tuple[str, int]]) -> str:
    """Columns, left to right."""
    most = max((number for _, number in rows), default=0) or 1
    height, step = 170, _WIDTH / max(len(rows), 1)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height + 40}" role="img">']
    parts.append(f'<line x1="0" x2="{_WIDTH}" y1="{height}" y2="{height}"/>')
    for index, (label, number) in enumerate(rows):
        tall = (height - 24) * number / most
        left, middle = index * step + 4, (index + 0.5) * step
        parts.append(
            f'<rect x="{left:.1f}" y="{height - tall:.1f}" width="{step - 8:.1f}"'
            f' height="{tall:.1f}" rx="2"/>'
            f'<text x="{middle:.1f}" y="{height + 18}" text-anchor="middle"'
            f' class="soft">{html.escape(label)}</text>'
        )
        if number:
            parts.append(
                f'<text x="{middle:.1f}" y="{height - tall - 6:.1f}"'
                f' text-anchor="middle">{number:,}</text>'
            )
    return "".join([*parts, "</svg>"])


def _cards(ledger: Ledger) -> str:
    cards = [
        (f"{ledger.total('states:'):,}", "crash states judged"),
        (f"{ledger.total('pairs:') + ledger.total('points:'):,}", "whole-ship trials"),
        (f"{ledger.total('starts'):,}", "starts that came live"),
        (f"{ledger.seconds / 60:,.0f} min", "spent on it"),
    ]
    found = len(ledger.findings)
    tone = "bad" if found else "good"
    parts = [
        f'<div class="card"><b>{n}</b><span>{text}</span></div>' for n, text in cards
    ]
    text = f'<b class="{tone}">{found}</b><span>broken promises</span>'
    parts.append(f'<div class="card">{text}</div>')
    return f'<div class="cards">{"".join(parts)}</div>'


def _findings(ledger: Ledger) -> str:
    if not ledger.findings:
        return '<p class="good">Nothing: every promise held in every trial.</p>'
    parts: list[str] = []
    for finding in ledger.findings:
        faults = "\n".join(finding.faults)
        parts.append(
            f"<h3>{html.escape(finding.scenario)}: {html.escape(finding.what)}</h3>"
            f'<p class="bad">{html.escape(faults)[:4000]}</p>'
            f"<pre>{html.escape(finding.again)}</pre>"
        )
    return "".join(parts)


def write_report(ledger: Ledger, out: Path) -> None:
    """Write the page.

    :raises OSError: as the disk has it
    """
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        "<title>treadle: crash lab</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style>",
        "<h1>The crash lab</h1>",
        f'<p class="lead">{html.escape(RUNTIME)}: what was done to ships, and whether '
        "they kept what they had promised.</p>",
        _cards(ledger),
        "<h2>What was found</h2>",
        _findings(ledger),
    ]
    for prefix, title in _SECTIONS:
        rows = [
            (name.partition(":")[2], number)
            for name, number in ledger.counts.items()
            if name.startswith(f"{prefix}:")
        ]
        if rows:
            rows.sort(key=lambda row: -row[1])
            parts += [f"<h2>{html.escape(title)}</h2>", _bars(rows)]
    if ledger.live:
        rows = [(label, ledger.live.get(key, 0)) for key, label in live_bins()]
        parts += ["<h2>From start to live, in seconds at most</h2>", _histogram(rows)]
    out.write_text("\n".join(parts) + "\n", encoding="utf-8")
