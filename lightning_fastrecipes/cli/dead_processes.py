"""Report which process of a run has died, before Lightning ends the others silently."""

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

from lightning_fastrecipes.cli.output import err
from lightning_fastrecipes.recipe.artifacts.deaths import KILLED

_FAILED = 1
_EVERY = 0.2
_ASKED_TO_END = {-signal.SIGINT, -signal.SIGTERM}


class DeathWatch:
    """End this process, with a line, once another is killed that its runs have started.

    The others may wait for it for ever, and Lightning, which looks every five seconds, kills them.
    An error that comes up first in this process is its own to tell. ``folder`` is the one to go on
    in. It watches until the end of the block.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Any] = []
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "DeathWatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def add(self, run: Any) -> None:
        """Watch what a run will start; nothing is watched of one that is a single process."""
        self._runs.append(run)
        if self._thread is None and str(run.recipe.trainer.get("devices", 1)) != "1":
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY):
            started = [one for run in list(self._runs) for one in run.started_processes()]
            codes = {one.pid: one.poll() or 0 for one in started}
            killed = {pid: -n for pid, n in codes.items() if n < 0 and n not in _ASKED_TO_END}
            if killed:
                self._say(*next(iter(killed.items())))
                for process in started:
                    process.kill()
                os._exit(_FAILED)

    def _say(self, process: int, number: int) -> None:
        name = signal.Signals(number).name
        line = (
            f"Another process of this run ({process}) was killed by {name}. {KILLED} Go on with:"
            f" fastrecipes run --resume {self._folder}"
        )
        logging.getLogger(__name__).error(line)
        err.print(f"fastrecipes: {line}", style="red")
