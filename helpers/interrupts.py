"""Ctrl-C at any moment: one line and exit 130, no traceback.

Without this, Python shows a traceback where an import is interrupted, and some libraries take the KeyboardInterrupt for
a part of theirs that is missing, and go on without it.
"""

from __future__ import annotations  # fewer imports: each is a moment in which Ctrl-C is not ours yet

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType


def install() -> None:
    """From now on Ctrl-C ends the program at once; the start has nothing to lose. Where it is ignored, as after nohup,
    it stays so.
    """
    sys.excepthook = _without_traceback  # for the time until the next lines are done
    import signal

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def allow_cleanup(allowed: bool) -> None:
    """With True, if `install` was called: Ctrl-C raises KeyboardInterrupt, but in the middle of an import it ends the
    program at once. With False: always at once.
    """
    import signal

    if signal.getsignal(signal.SIGINT) in (_leave, _interrupt):
        signal.signal(signal.SIGINT, _interrupt if allowed else _leave)


def _interrupt(number: int, frame: FrameType | None) -> None:
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, frame)
        inner = inner.f_back
    raise KeyboardInterrupt


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _leave(2, None)
    sys.__excepthook__(kind, error, trace)


def _leave(_number: int, _frame: FrameType | None) -> None:
    program = sys.argv[0].rpartition(os.sep)[2]
    try:
        sys.stdout.flush()
        os.write(2, f"{program}: error: interrupted\n".encode())
    except (AttributeError, OSError, ValueError):  # a stream is closed
        pass
    os._exit(130)
