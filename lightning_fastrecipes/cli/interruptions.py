"""End by a signal: at once, with the code that shells and schedulers know, and a line."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end by SIGTERM; handled as an interruption is."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl+C does, in this process alone and not in its workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(_CODES[signal.SIGTERM])
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def interruption(error: BaseException) -> tuple[str, int] | None:
    """Return what ended a run, and the exit code; ``None`` if it was no signal."""
    # Lightning leaves by `SystemExit` when a fit is interrupted.
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(cause, TerminatedError):
        return "terminated", _CODES[signal.SIGTERM]
    return ("interrupted", _CODES[signal.SIGINT]) if isinstance(cause, KeyboardInterrupt) else None
