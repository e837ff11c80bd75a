"""Steps that prepare a table, as a recipe declares them: joins, dates, events, new columns."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from lightning_fastrecipes.data.tables.column_steps import (
    DateParts,
    Derive,
    Elapsed,
    Map,
    Step,
    set_names,
)
from lightning_fastrecipes.data.tables.frames import frame_files, read_frames
from lightning_fastrecipes.data.tables.joins import TableReport, find_rows, take_rows
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.rows import column_of

__all__ = [
    "DateParts",
    "Derive",
    "Elapsed",
    "Join",
    "Map",
    "Step",
    "TableReport",
    "apply_steps",
    "parse_steps",
    "step_files",
    "steps_to_list",
]


@dataclass(frozen=True)
class Join:
    """Add the columns of a side table where its keys are equal; other rows get missing values.

    Args:
        table: The side table: a file, a pattern such as ``weather/*.csv``, or a list of files, all
            of them one below the other. Relative to the folder of the main table.
        on: Keys that are called the same in both tables.
        left_on: Keys of the main table, in place of ``on``.
        right_on: Keys of the side table in the same order, in place of ``on``.
        columns: Columns of the side table to take; all but the keys if not given.
        suffix: What to append to the names of the columns taken.
        file_column: Name for a column of the side table with the name of each row's file, without
            folder and endings.
        steps: What is done to the side table first.
        text: Columns of the side table that are text whatever they look like.
        separator: What stands between columns of the side table; found out if not given.

    Raises:
        ValueError: If there are no keys, or ``left_on`` and ``right_on`` differ in number.
    """

    key: ClassVar[str] = "join"
    table: str | Sequence[str]
    on: Sequence[str] = ()
    left_on: Sequence[str] = ()
    right_on: Sequence[str] = ()
    columns: Sequence[str] | None = None
    suffix: str = ""
    file_column: str | None = None
    steps: Sequence[Any] = ()
    text: Sequence[str] = ()
    separator: str | None = None

    def __post_init__(self) -> None:
        for name in ("on", "left_on", "right_on", "columns", "text"):
            set_names(self, name)
        object.__setattr__(self, "steps", tuple(parse_steps(self.steps, "join.steps")))
        has_pairs = bool(self.left_on) or bool(self.right_on)
        if has_pairs == bool(self.on) or len(self.left_on) != len(self.right_on):
            raise ValueError(
                "`join` must have either `on`, or `left_on` and `right_on` of the same length, got"
                f" on={list(self.on)}, left_on={list(self.left_on)},"
                f" right_on={list(self.right_on)}."
            )

    def apply(
        self, frame: pd.DataFrame, folder: Path, report: TableReport | None = None
    ) -> pd.DataFrame:
        """Read the side table, prepare it, and add its columns."""
        side = read_frames(
            self.table,
            folder=folder,
            text=self.text,
            separator=self.separator,
            file_column=self.file_column,
        )
        side = apply_steps(self.steps, side, folder, report)
        left, right = self.left_on or self.on, self.right_on or self.on
        table = self.table if isinstance(self.table, str) else ", ".join(self.table)
        for name in left:
            column_of(frame, name)
        taken = [str(name) for name in side if name not in right]
        taken = taken if self.columns is None else list(self.columns)
        for name in [*right, *taken]:
            column_of(side, name, f"'{table}'")
        found = [name + self.suffix for name in taken if name + self.suffix in frame]
        if found:
            raise DataError(
                f"The columns taken from '{table}' must be new, but the table has"
                f" {', '.join(map(repr, found))}. Give a `suffix`, or name the `columns` to take."
            )
        positions, noticed = find_rows(frame, side, left, right, table)
        if report is not None:
            report.joins.append(noticed)
        added = {name + self.suffix: take_rows(side[name], positions) for name in taken}
        new = pd.DataFrame(added, pd.RangeIndex(len(frame)), copy=False)
        return pd.concat([frame, new.set_axis(frame.index)], axis=1)

    def files(self, folder: Path) -> list[Path]:
        """List the files of the side table, and of those that it is joined with."""
        return [*frame_files(self.table, folder, "table"), *step_files(self.steps, folder)]


_STEPS: tuple[Any, ...] = (Join, DateParts, Elapsed, Derive, Map)
_KINDS: dict[str, Any] = {kind.key: kind for kind in _STEPS}


def parse_steps(steps: Sequence[Any], place: str = "steps") -> list[Step]:
    """Turn what a recipe says into steps.

    Args:
        steps: Mappings of one key, such as ``{"join": {"table": "store.csv", "on": ["Store"]}}``;
            a step is given back as it is.
        place: What to call the list in messages.

    Returns:
        The steps in order.

    Raises:
        ValueError: If a step or one of its arguments does not exist, or cannot be right; the
            message names its place and the nearest name.

    Example:
        >>> parse_steps([{"date_parts": {"column": "Date"}}])[0].column
        'Date'
    """
    if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
        raise ValueError(f"`{place}` must be a list of steps, got {steps!r}.")  # noqa: TRY004
    return [_parse_step(step, f"{place}[{index}]") for index, step in enumerate(steps)]


def steps_to_list(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Write steps as ``parse_steps`` reads them, in plain values.

    Args:
        steps: The steps.

    Returns:
        One mapping per step, with the arguments that are not defaults.
    """
    return [{step.key: _arguments(step)} for step in steps]


def apply_steps(
    steps: Sequence[Step], frame: pd.DataFrame, folder: Path, report: TableReport | None = None
) -> pd.DataFrame:
    """Take every step in order.

    Args:
        steps: The steps.
        frame: The table, which is not changed.
        folder: What relative paths of side tables start from.
        report: Where to note what was found.

    Returns:
        A new table of the same rows in the same order.

    Raises:
        DataError: If a step cannot be taken; the message says which.
    """
    for index, step in enumerate(steps):
        try:
            frame = step.apply(frame, folder, report)
        except DataError as error:
            raise DataError(f"steps[{index}].{step.key}: {error}") from error
    return frame


def step_files(steps: Sequence[Step], folder: Path) -> list[Path]:
    """List the files that steps read, so that a cache can tell when they change.

    Args:
        steps: The steps.
        folder: What relative paths start from.

    Returns:
        Files that exist, in order.
    """
    return [file for step in steps for file in step.files(folder)]


def _parse_step(step: Any, place: str) -> Step:
    if isinstance(step, _STEPS):
        found: Step = step
        return found
    if not isinstance(step, Mapping) or len(step) != 1:
        raise ValueError(
            f"`{place}` must be a mapping of one key, one of {', '.join(_KINDS)}, got {step!r}."
        )
    [(key, arguments)] = step.items()
    if key not in _KINDS:
        raise ValueError(f"`{place}` is no step: {_no_such('step', key, list(_KINDS))}")
    if key == "derive":
        arguments = {"columns": arguments}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"`{place}.{key}` must be a mapping of arguments, got {arguments!r}.")  # noqa: TRY004
    # YAML 1.1 reads a plain `on` as true.
    arguments = {"on" if name is True else name: value for name, value in arguments.items()}
    known = [argument.name for argument in fields(_KINDS[key])]
    for name in arguments:
        if name not in known:
            raise ValueError(f"`{place}.{key}`: {_no_such('argument', name, known)}")
    try:
        made: Step = _KINDS[key](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{place}.{key}`: {error}") from error
    return made


def _no_such(what: str, name: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(known)}."
    return f"there is no {what} `{name}`. {hint}"


def _arguments(step: Any) -> dict[str, Any]:
    if isinstance(step, Derive):
        return dict(step.columns)
    given: dict[str, Any] = {}
    for argument in fields(step):
        value = getattr(step, argument.name)
        if value != argument.default:
            plain = list(value) if isinstance(value, tuple) else value
            given[argument.name] = steps_to_list(plain) if argument.name == "steps" else plain
    return given
