"""Steps that prepare a table, as a recipe declares them: joins, dates, events, new columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.tables.column_steps import (
    DateParts,
    Derive,
    Elapsed,
    Map,
    Step,
    set_names,
)
from lightning_fastrecipes.data.tables.frames import Roles, frame_files, read_frames
from lightning_fastrecipes.data.tables.joins import Joins, find_rows, take_rows
from lightning_fastrecipes.data.tables.reading import Reading, as_reading
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.codes import is_text_column
from lightning_fastrecipes.functional.tables.rows import column_of
from lightning_fastrecipes.messages import shown, suggestion
from lightning_fastrecipes.old_names import join_keys
from lightning_fastrecipes.typed import check_mapping


@dataclass(frozen=True)
class Join(Step):
    """Add the columns of a side table where its keys are equal; other rows get missing values.

    Args:
        table: The side table: a file, a pattern such as ``weather/*.csv``, or a list of files, all
            of them one below the other. Relative to the folder of the main table.
        keys: Columns whose values must be equal: names that both tables have, or a mapping from
            columns of the main table to those of the side table.
        columns: Columns of the side table to take; all but the keys if not given.
        suffix: What to append to the names of the columns taken.
        file_column: Name for a column of the side table with the name of each row's file, without
            folder and endings.
        steps: What is done to the side table first.
        text: Columns of the side table that are text whatever they look like. Keys are read as
            those of the table, and all columns of rows to predict as in training.
        separator: What stands between columns of the side table; found out if not given.
        reading: How files of text are written, as of ``Reading``; with ``text`` and ``separator``
            beside it.

    Raises:
        ValueError: If there are no keys, or an argument is no list of names.
    """

    key: ClassVar[str] = "join"
    table: str | Sequence[str]
    keys: str | Sequence[str] | Mapping[str, str]
    columns: str | Sequence[str] | None = None
    suffix: str = ""
    file_column: str | None = None
    steps: Sequence[Any] = ()
    text: str | Sequence[str] = ()
    separator: str | None = None
    reading: Reading | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("`keys` must name at least one column of both tables, got none.")
        tables = [self.table] if isinstance(self.table, str) else self.table
        if not isinstance(tables, Sequence) or not all(isinstance(name, str) for name in tables):
            raise ValueError(f"`table` must be the name of a file, or several, got {self.table!r}.")
        is_mapping = isinstance(self.keys, Mapping)
        pairs = self.keys.items() if isinstance(self.keys, Mapping) else ()
        if not all(isinstance(name, str) for pair in pairs for name in pair):
            raise ValueError(
                f"`keys` must map names of columns to names of columns, got {shown(dict(pairs))}."
            )
        set_names(self, "columns", "text", *([] if is_mapping else ["keys"]))
        object.__setattr__(self, "steps", tuple(parse_steps(self.steps, "join.steps")))
        _ = self._reading  # which may be refused

    @property
    def _reading(self) -> Reading:
        asked = as_reading(self.reading)
        separator = asked.separator if self.separator is None else self.separator
        return replace(asked, text=(*asked.text, *self.text), separator=separator)

    @override
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        keys = self.keys if isinstance(self.keys, Mapping) else {name: name for name in self.keys}
        left, right = list(keys), list(keys.values())
        table = self.table if isinstance(self.table, str) else ", ".join(self.table)
        for name in left:
            column_of(frame, name)
        side = self._read(frame, folder, joins, keys)
        side = apply_steps(self.steps, side, folder, joins)
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
        must_match = joins is None or joins.must_match
        positions, noticed = find_rows(frame, side, left, right, table, must_match)
        if joins is not None:
            joins.append(noticed)
        added = {name + self.suffix: take_rows(side[name], positions) for name in taken}
        new = pd.DataFrame(added, pd.RangeIndex(len(frame)), copy=False)
        return pd.concat([frame, new.set_axis(frame.index)], axis=1)

    def _read(
        self, frame: pd.DataFrame, folder: Path, joins: Joins, keys: Mapping[str, str]
    ) -> pd.DataFrame:
        """Read the side table: keys as those of the table, other columns as they were learned."""
        roles = Roles() if joins is None else joins.side_roles(self.suffix)
        # Steps may compute with keys before they are compared.
        is_text = {} if self.steps else {keys[n]: is_text_column(frame[n]) for n in keys}
        text = {*roles.text, *(name for name, is_one in is_text.items() if is_one)}
        codes = {*roles.codes} - {*keys.values()}
        side = read_frames(
            self.table,
            folder=folder,
            reading=self._reading,
            file_column=self.file_column,
            roles=replace(roles, text=text, codes=codes),
        )
        for name in self._reading.text:
            column_of(side, name, f"'{self.table}', of which `text` names columns,")
        if joins is not None:
            joins.note_text(side)
        return side

    @override
    def files(self, folder: Path) -> list[Path]:
        return [*frame_files(self.table, folder, "table"), *step_files(self.steps, folder)]


_STEPS: tuple[Any, ...] = (Join, DateParts, Elapsed, Derive, Map)
_CLASSES: dict[str, Any] = {step.key: step for step in _STEPS}


def parse_steps(steps: Sequence[Any], place: str = "steps") -> list[Step]:
    """Turn what a recipe says into steps; ``place`` is what to call the list in messages.

    Steps are mappings of one key, such as ``{"join": {"table": "store.csv", "keys": "Store"}}``; a
    step is returned as it is. Raise `ValueError` if a step or one of its arguments does not exist,
    or cannot be right, with its place and the nearest name.

    >>> parse_steps([{"date_parts": {"column": "Date"}}])[0].column
    'Date'
    """
    if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
        raise ValueError(f"`{place}` must be a list of steps, got {shown(steps)}.")  # noqa: TRY004
    return [_parse_step(step, f"{place}[{index}]") for index, step in enumerate(steps)]


def steps_to_list(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Write steps as ``parse_steps`` reads them: plain values, without those that are defaults."""
    return [{step.key: _arguments(step)} for step in steps]


def apply_steps(
    steps: Sequence[Step], frame: pd.DataFrame, folder: Path, joins: Joins = None
) -> pd.DataFrame:
    """Apply every step in order; a `DataError` says which one cannot be taken."""
    for index, step in enumerate(steps):
        try:
            frame = step.apply(frame, folder, joins)
        except DataError as error:
            raise DataError(f"steps[{index}].{step.key}: {error}") from error
    return frame


def step_files(steps: Sequence[Step], folder: Path) -> list[Path]:
    """List the files that steps read, so that a cache can tell when they change."""
    return [file for step in steps for file in step.files(folder)]


def _parse_step(step: Any, place: str) -> Step:
    if isinstance(step, Step):
        return step
    if not isinstance(step, Mapping) or len(step) != 1:
        raise ValueError(
            f"`{place}` must be a mapping of one key, one of {', '.join(_CLASSES)}, got"
            f" {shown(step)}."
        )
    [(key, arguments)] = step.items()
    if key not in _CLASSES:
        raise ValueError(f"`{place}` is no step: {_no_such('step', key, list(_CLASSES))}")
    if key == "derive":
        arguments = {"columns": arguments}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"`{place}.{key}` must be a mapping of arguments, got {shown(arguments)}.")  # noqa: TRY004
    if key == "join":
        try:
            arguments = join_keys(arguments)
        except TypeError as error:
            raise ValueError(f"`{place}.{key}`: the keys must be names of columns.") from error
    known = [argument.name for argument in fields(_CLASSES[key])]
    for name in arguments:
        if name not in known:
            raise ValueError(f"`{place}.{key}`: {_no_such('argument', name, known)}")
    check_mapping(_CLASSES[key], arguments, f"{place}.{key}")
    try:
        made: Step = _CLASSES[key](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{place}.{key}`: {error}") from error
    return made


def _no_such(what: str, name: Any, known: Sequence[str]) -> str:
    hint = suggestion(str(name), known) or f" There are {', '.join(known)}."
    return f"there is no {what} `{name}`.{hint}"


def _arguments(step: Any) -> dict[str, Any]:
    if isinstance(step, Derive):
        return dict(step.columns)
    given: dict[str, Any] = {}
    for argument in fields(step):
        value = getattr(step, argument.name)
        if value != argument.default:
            plain = asdict(value) if isinstance(value, Reading) else value
            plain = list(plain) if isinstance(plain, tuple) else plain
            given[argument.name] = steps_to_list(value) if argument.name == "steps" else plain
    return given
