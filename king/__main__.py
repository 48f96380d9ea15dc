"""Entry: `treadle`, or `python -m king`."""

from __future__ import annotations

import sys

from king.cli import main

if __name__ == "__main__":
    sys.exit(main())
