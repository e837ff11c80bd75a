"""Progress of work that takes long: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lightning_fastrecipes._lightning import rank_zero_only
from lightning_fastrecipes.messages import printable

_Item = TypeVar("_Item")

FIRST_LINE, NEXT_LINES = 5.0, 20.0
"""Seconds after which the first line is written, and between the next ones."""

_REFRESH = 0.2
"""Seconds between two looks of a bar, so that short steps do not spend their time on it."""


def track(
    items: Iterable[_Item], what: str, total: int, size: Callable[[_Item], int] = lambda _: 1
) -> Iterator[_Item]:
    """Yield items, and say on the error stream how many of ``total`` are done.

    ``what`` is what is done to what, such as ``Decoding images``; ``size`` is how many an item
    counts for. Work of a few seconds leaves no line. Only the first process says something.
    """
    # Lightning sets the number of the process, or reads it from the environment.
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield from items
        return
    with LifeSign(what, total) as sign:
        done = 0
        for item in items:
            yield item
            done += size(item)
            sign.show(done)


class LifeSign:
    """A sign of work that goes on: a bar on a terminal, else a line now and then.

    ``due`` is the time of the monotonic clock before which no line is written.
    """

    def __init__(self, what: str, total: int, due: float | None = None) -> None:
        self.what = what
        self.total = total
        self._looked = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.due = self._looked + FIRST_LINE if due is None else due
        self._bar = _bar(what, total) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; lines stay."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, note: Callable[[], str] | None = None) -> None:
        """Show how much is done, if it is time to; ``note`` replaces the time left.

        Nobody calls ``note`` where nothing is shown.
        """
        now = time.monotonic()
        self._first = self._first or (done, now)
        if self._bar is not None:
            if now - self._looked >= _REFRESH or done >= self.total:
                self._looked = now
                text = note() if note else self._left(done, now)
                self._bar.update(self._bar.task_ids[0], completed=done, note=printable(text))
        elif now >= self.due and done < self.total:
            self.due = now + NEXT_LINES
            text = note() if note else self._left(done, now)
            sys.stderr.write(f"{self.what}: {done:,} of {self.total:,}, {printable(text)}\n")
            sys.stderr.flush()

    def _left(self, done: int, now: float) -> str:
        # Not from the start: the first step also loads and warms up what the others find ready.
        first, since = self._first or (done, now)
        if done <= first:
            return "time left not known yet"
        left = (now - since) / (done - first) * (self.total - done)
        return f"about {duration(left)} left"


def _bar(what: str, total: int) -> Progress:
    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(20)]
    columns += [MofNCompleteColumn(), TextColumn("{task.fields[note]}", markup=False)]
    # What a pipe is to get must not go to the terminal of the bar.
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    bar.add_task(printable(what), total=total, note="")
    return bar


def duration(seconds: float) -> str:
    """Write a time as people say it.

    >>> duration(7.4), duration(100), duration(4000), duration(90000)
    ('7 s', '2 min', '67 min', '25 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"
