"""Entry: `treadle`, or `python -m king`.

Loading takes most of a start, so `run` has its serf load beside itself: see
king/early.py. Nothing is imported before that which can come after.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run one command; its exit code."""
    if sys.argv[1:2] != ["run"]:
        from king import cli

        return cli.main()

    from king.early import EarlySerf

    with EarlySerf() as early:
        from king import cli

        return cli.main(early=early)


if __name__ == "__main__":
    sys.exit(main())
