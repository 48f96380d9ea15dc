"""Read a log in a child: LMDB may die of a damaged page, and people must be told.

What it is: a fork that does all of the work, with our terminal; what went wrong in
    it comes back by a pipe.
Invariants: no log is open when it forks; the child is gone when we return.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from king.errors import TreadleError
from king.log.rehearsal import check_lived

__all__ = ["in_child"]

_INTERRUPTED = 130


def in_child(pier: Path, work: Callable[[], int]) -> int:
    """What `work` returns, from a child that does it.

    :raises TreadleError: as `work`; log-bad where the child died of reading
    """
    sys.stdout.flush()
    hear, say = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(hear)
        _work(work, say)
    os.close(say)
    with os.fdopen(hear, "rb") as words:
        try:
            told = words.read()
            status = os.waitpid(pid, 0)[1]
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            return _INTERRUPTED
    if told:
        fault = json.loads(told)
        raise TreadleError(fault["error"], fault["message"], fault["hint"])
    code = os.waitstatus_to_exitcode(status)
    check_lived(pier, code)
    return code


def _work(work: Callable[[], int], say: int) -> NoReturn:
    code = 1
    try:
        code = work()
    except TreadleError as error:
        os.write(say, json.dumps(error.as_json()).encode())
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        code = 0  # whoever read our output has seen enough
    except Exception:
        traceback.print_exc()  # a bug of ours: a fork that leaves so says nothing
    finally:
        os._exit(code)
