"""The value of a formula of a workbook, as far as traces of networks need it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl

_REFERENCE = re.compile(r"(?:'([^']+)'!)?\$?([A-Z]+\d+)(?::([A-Z]+\d+))?(?![A-Za-z(])")
FUNCTIONS = {
    "SUMPRODUCT": lambda *arrays: float(np.sum(np.prod(np.stack(arrays), axis=0))),
    "MAX": lambda *values: max(float(np.max(value)) for value in values),
    "MIN": lambda *values: min(float(np.min(value)) for value in values),
    "SUM": lambda values: float(np.sum(values)),
    "EXP": np.exp,
    "SQRT": np.sqrt,
    "TANH": np.tanh,
}


class Workbook:
    """A workbook that computes its formulas by itself, each once."""

    def __init__(self, path: Path) -> None:
        self.book = openpyxl.load_workbook(path)
        self._known: dict[tuple[str, str], Any] = {}

    def value(self, sheet: str, cell: str) -> Any:
        """Return the value of a cell, computing what it needs."""
        if (sheet, cell) not in self._known:
            found = self.book[sheet][cell].value
            if isinstance(found, str) and found.startswith("="):
                found = self._computed(sheet, found[1:])
            self._known[sheet, cell] = found
        return self._known[sheet, cell]

    def _computed(self, sheet: str, formula: str) -> Any:
        needed: list[Any] = []

        def fetch(match: re.Match[str]) -> str:
            where, first, last = match.groups()
            where = where or sheet
            if last is None:
                needed.append(self.value(where, first))
            else:
                rows = self.book[where][f"{first}:{last}"]
                needed.append(
                    np.array([[self.value(where, one.coordinate) for one in row] for row in rows])
                )
            return f"needed[{len(needed) - 1}]"

        text = _REFERENCE.sub(fetch, formula)
        return eval(text, {"__builtins__": {}}, {"needed": needed, **FUNCTIONS})
