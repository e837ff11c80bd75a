"""What a page is made of: sections of blocks, plain values that its script draws.

Nothing in them is markup. Names and values become text, whatever they contain.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

Block = dict[str, Any]
_DIGITS = 6


@dataclass
class Section:
    """A part of a page under a heading; ``name`` is that of its place on the page."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Page:
    """A whole page; ``images`` is what galleries, maps and tables point to by number."""

    title: str
    subtitle: str
    sections: list[Section] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, title: str, blocks: Iterable[Block | None]) -> None:
        """Append a section, unless there is nothing in it."""
        found = [block for block in blocks if block]
        if found:
            self.sections.append(Section(name, title, found))


def text(content: str, kind: str = "note") -> Block:
    """Return a paragraph; ``kind`` is ``note`` or ``warning``."""
    return {"type": "text", "text": content, "kind": kind}


def code(title: str, content: str) -> Block:
    """Return text that is shown as it is, folded behind its title."""
    return {"type": "code", "title": title, "text": content}


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
) -> Block | None:
    """Return a table that can be sorted, or nothing without rows."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        return None
    return {"type": "table", "title": title, "columns": list(columns), "rows": cells, "note": note}


def frame_table(title: str, frame: pd.DataFrame, note: str = "") -> Block | None:
    """Return a frame as a table."""
    return table(title, [str(name) for name in frame], frame.itertuples(index=False), note)


def plot(
    title: str,
    series: Sequence[Mapping[str, Any]],
    *,
    x: str,
    y: str,
    **options: Any,
) -> Block | None:
    """Return a plot of series, or nothing if none has a point.

    A series has a ``name``, a ``kind`` (``line``, ``points`` or ``bars``) and ``points``, pairs of
    numbers, of which those that are not finite are left out. Options are ``marks`` (positions on
    ``x`` and their texts), ``log_x``, ``log_y``, ``diagonal``, and ``unit_y`` for shares.
    """
    kept = []
    for one in series:
        pairs = [[plain(a), plain(b)] for a, b in one["points"]]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            kept.append({"kind": "line", **one, "points": pairs})
    if not kept:
        return None
    return {"type": "plot", "title": title, "series": kept, "x": x, "y": y, **options}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: whole numbers, floats of six digits, text, nothing for NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    return str(value)
