"""Why a serf cannot go on. Each has the exit code that its death gives.

The guest's failures are no errors: they are answers (Bail, Stuck).
"""

from __future__ import annotations

__all__ = [
    "BrokenPipeline",
    "ImageForeign",
    "ImageUnusable",
    "NoMemory",
    "SerfError",
    "Unconfined",
    "Usage",
]


class SerfError(Exception):
    """Base: one clear line for people, and an exit code."""

    code = 1


class Usage(SerfError):
    """The command line is wrong: the king and the serf do not fit together."""

    code = 64


class ImageForeign(SerfError):
    """The image is another ship's or another log's: give the right one."""

    code = 65


class ImageUnusable(SerfError):
    """The image file cannot be opened or read: look at the disk."""

    code = 66


class NoMemory(SerfError):
    """The system refuses the address space: smaller sizes, or other limits."""

    code = 67


class BrokenPipeline(SerfError):
    """What came through the pipe is not frames of writs: the king is broken."""

    code = 68


class Unconfined(SerfError):
    """The system has not what keeps a guest in: seccomp, threads."""

    code = 69
