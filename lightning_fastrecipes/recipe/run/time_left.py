"""How long a run still takes: from what it has done so far, and from what it still has to do."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["arithmetic", "steps"]

_FORGET = 0.25
"""How much what was measured in a phase counts beside the next one, which is more like what comes.
"""


class Part(NamedTuple):
    """A part of a phase, such as one epoch's training: multiply-adds, or a number of steps."""

    kind: Kind
    amount: float


class _Phase:
    """The parts of a stage or of the evaluation, in order, and how far they are done."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.place = 0
        self.share = 0.0

    def left(self) -> Iterable[Part]:
        for kind, amount in self.parts[self.place : self.place + 1]:
            yield Part(kind, amount * (1 - self.share))
        yield from self.parts[self.place + 1 :]


class TimeLeft:
    """Estimate the time left of one run, or of a series of them.

    Arithmetic and steps have a speed each, that of what was done so far; recent phases count more.

    >>> time_left = TimeLeft()
    >>> run, epochs = Path("run"), [Part("steps", 100.0), Part("steps", 300.0)]
    >>> time_left.expect(run, {"head": epochs, "evaluation": [Part("steps", 50.0)]})
    >>> time_left.seconds() is None
    True
    >>> time_left.advance(run, "head", 0, share=0.5, seconds=10.0)
    >>> time_left.seconds()
    80.0
    """

    def __init__(self) -> None:
        self._phases: dict[tuple[str, str], _Phase] = {}
        self._seen: dict[Kind, list[float]] = {}
        self._trials: dict[Kind, float] = {}

    def expect(self, run: Path, phases: Mapping[str, Sequence[Part]]) -> None:
        """Set what a run has left to do, instead of what was set before."""
        self.drop(run)
        self._phases |= {(str(run), name): _Phase(parts) for name, parts in phases.items()}

    def drop(self, run: Path, phase: str | None = None) -> None:
        """Forget a run, or one phase of it, which is finished or will not be done."""
        self._phases = {
            key: value
            for key, value in self._phases.items()
            if key[0] != str(run) or phase not in (None, key[1])
        }
        for seen in self._seen.values():
            seen[:] = [_FORGET * number for number in seen]

    def advance(self, run: Path, phase: str, place: int, *, share: float, seconds: float) -> None:
        """Note that a share of a part is done, and all before it, with ``seconds`` since the last.

        No seconds are those of something else: then the place moves alone.
        """
        found = self._phases.get((str(run), phase))
        if found is None or place >= len(found.parts):
            return
        kind, amount = found.parts[place]
        before = found.share if found.place == place else 0.0
        found.place, found.share = place, min(share, 1.0)
        if seconds > 0 and share > before and amount > 0:
            seen = self._seen.setdefault(kind, [0.0, 0.0])
            seen[0] += amount * (share - before)
            seen[1] += seconds

    def next_part(self, run: Path, phase: str) -> int:
        """Return the number of the part of a phase that comes next."""
        found = self._phases.get((str(run), phase))
        return 0 if found is None else found.place + (found.share > 0)

    def try_out(self, kind: Kind, amount: float, seconds: float) -> None:
        """Note what a trial took, which counts until there is something real."""
        self._trials[kind] = seconds / amount

    def needs_trial(self) -> bool:
        """Return whether there is arithmetic to do, whose speed is not known."""
        kinds = {part.kind for phase in self._phases.values() for part in phase.left()}
        return "arithmetic" in kinds and self._speed("arithmetic") is None

    def seconds(self) -> float | None:
        """Return how long all that is left takes; ``None`` if nothing like it was done."""
        total = 0.0
        for part in (part for phase in self._phases.values() for part in phase.left()):
            speed = self._speed(part.kind)
            if speed is None and part.kind == "arithmetic" and part.amount > 0:
                return None
            # Steps without arithmetic are short beside it.
            total += part.amount * (speed or 0.0)
        return total if self._seen or self._trials else None

    def _speed(self, kind: Kind) -> float | None:
        """Return the seconds that one unit takes."""
        amount, seconds = self._seen.get(kind, (0.0, 0.0))
        return seconds / amount if amount > 0 else self._trials.get(kind)
