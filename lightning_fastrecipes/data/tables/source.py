"""Where a table comes from, and what is done to it before it is split and encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from lightning_fastrecipes.data.common.row_splits import refuse_other_index
from lightning_fastrecipes.data.common.split_choice import ColumnSplit, FractionSplit, Split
from lightning_fastrecipes.data.common.split_names import (
    SPLIT_COLUMN,
    SplitName,
    named_splits,
    split_name,
)
from lightning_fastrecipes.data.tables.cache import file_facts, frame_digest, plain_index
from lightning_fastrecipes.data.tables.column_steps import Elapsed, Step
from lightning_fastrecipes.data.tables.frames import Roles, frame_files, read_files, read_frames
from lightning_fastrecipes.data.tables.joins import JoinNotes
from lightning_fastrecipes.data.tables.reading import Reading, as_reading
from lightning_fastrecipes.data.tables.splits import Rows
from lightning_fastrecipes.data.tables.steps import (
    apply_steps,
    parse_steps,
    step_files,
    steps_to_list,
)
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.tables.codes import as_text, is_text_column
from lightning_fastrecipes.functional.tables.expressions import select_rows
from lightning_fastrecipes.functional.tables.inputs import as_frame, is_in_memory
from lightning_fastrecipes.functional.tables.narrowing import narrow_frame
from lightning_fastrecipes.functional.tables.rows import column_of

_COPIES_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3
"""Whether pandas copies the numbers of a frame when one of its copies is changed."""

Source = str | Path | Sequence[Any] | pd.DataFrame | Mapping[str, Any] | Any


class SourceTable(NamedTuple):
    """A table as it was read and prepared, with what its steps say.

    The index of ``frame`` are the numbers of the rows in the source, from 0, on from file to file.
    ``file_rows`` is how many rows each file has, ``text`` names the columns that were text as they
    were read, and ``side_text`` those of each side table, in the order they were read.
    """

    frame: pd.DataFrame
    said: list[str]
    file_rows: list[int]
    text: list[str]
    side_text: list[list[str]]


class TableSource:
    """A table in files or in memory, with the steps that prepare it.

    ``source`` is a file or pattern, several that are put one below the other, or a table in memory,
    as of ``functional.tables.inputs.as_frame``; or a mapping from splits to such, whose rows then
    have the column ``SPLIT_COLUMN``. ``where`` is a condition on the prepared rows, in the language
    of ``expressions.evaluate``; other rows are left out. Paths in steps are relative to ``folder``;
    to that of the first file if not given. ``reading`` and ``roles`` say how files are read.
    ``names`` are the files as they were named.
    In rows ``to_predict``, a join need not find any row. Raise `DataNotFoundError` if a file does
    not exist, `DataError` if the source is a folder or names nothing.
    """

    def __init__(
        self,
        source: Source,
        steps: Sequence[Mapping[str, Any] | Step] = (),
        where: str | None = None,
        folder: Path | None = None,
        *,
        reading: Reading | Mapping[str, Any] | None = None,
        roles: Roles = Roles(),  # noqa: B008 - frozen
        to_predict: bool = False,
    ) -> None:
        self.where = where
        self.reading = as_reading(reading)
        self._roles = roles
        self._to_predict = to_predict
        self.names: list[str] = []
        self._steps = parse_steps(steps)
        parts = _by_split(source)
        self.is_by_split = parts is not None
        self._frame: pd.DataFrame | None = None
        self._files: list[Path] = []
        # Of each file, or of each row in memory.
        self._splits: list[SplitName] = []
        for split, part in (parts or {"train": source}).items():
            if is_in_memory(part):
                found = as_frame(part)
                if found is part:  # as it is now, whatever is done to it later
                    found = found.copy(deep=not _COPIES_ON_WRITE)
                self._frame = found if self._frame is None else as_frame([self._frame, found])
                self._splits += [split] * len(found) if parts else []
            else:
                files = frame_files(cast(Any, part))
                self._files += files
                self._splits += [split] * len(files)
                self.names += [str(x) for x in ([part] if isinstance(part, (str, Path)) else part)]
        if self._files and self._frame is not None:
            raise DataError(
                "`source` must name files for all splits, or hold tables for all, but has both."
                " Read the files first, such as by `pandas.read_csv`."
            )
        self.folder = folder or (self._files[0].parent if self._files else Path())
        self._digest: str | None = None

    def split(self, choice: Split | None) -> Split:
        """Return how the rows are split: by the table that each is in, or as is asked for.

        A split that has no table of its own is drawn. Raise `ConfigurationError` if anything but
        shares is asked for where each split has its table, `DataError` if numbers of rows are for
        a frame whose index has other numbers.
        """
        if not self.is_by_split:
            if self._frame is not None:
                refuse_other_index(choice, self._frame)
            return choice or FractionSplit()
        missing = choice or FractionSplit()
        if not isinstance(missing, FractionSplit) or missing.stratify is not None:
            raise ConfigurationError(
                "`split` must be shares to draw the splits by that `source` has no table for, such"
                f" as 0.2, got {choice}. Leave it out, or give one `source`."
            )
        return ColumnSplit(SPLIT_COLUMN, missing)

    def key(self, columns: Sequence[str]) -> dict[str, Any]:
        """Describe what the prepared table is for, for the key of its cache."""
        if self._frame is not None and self._digest is None:
            self._digest = frame_digest(plain_index(self._frame))
        by_split = {"splits": list(self._splits)} if self.is_by_split and self._files else {}
        return {
            **by_split,
            "files": [str(file.absolute()) for file in self._files],
            "frame": self._digest,
            "folder": str(self.folder.absolute()) if self._steps else None,
            "steps": steps_to_list(self._steps),
            "where": self.where,
            "columns": list(columns),
            "reading": asdict(self.reading),
            "codes": sorted(self._roles.codes),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and time of the files that the table is made from, side tables included."""
        return {"files": file_facts([*self._files, *step_files(self._steps, self.folder)])}

    def row_names(self, rows: Rows, file_rows: Sequence[int]) -> pd.DataFrame:
        """Return where rows, numbered on from file to file, are in the source.

        Column ``row`` counts from 0 in each file. Where there are several files, a column ``file``
        comes before it: their names, or their paths if two have the same name.
        """
        if len(self._files) < 2:
            return pd.DataFrame({"row": rows})
        names = [path.name for path in self._files]
        if len({*names}) < len({*self._files}):
            names = [path.as_posix() for path in self._files]
        ends = np.cumsum(file_rows)
        places = np.searchsorted(ends, rows, side="right")
        starts = ends - file_rows
        files = np.array(names, dtype=object)[places]
        return pd.DataFrame({"file": files, "row": rows - starts[places]})

    def as_written(self, name: str, prepared: "pd.Series[Any]") -> "pd.Series[Any]":
        """Return a column of the files as it is written there, if that says more than a number.

        Such are 007, 1E3, and 17 digits beside a gap. ``prepared`` is the column after all steps;
        it is returned if it says as much, or they have changed it.
        """
        if not self._files:
            return prepared
        reading = replace(self.reading, text=[*{*self.reading.text, name}])
        try:
            texts = read_frames(self._files, columns=[name], reading=reading)[name].astype(object)
        except DataError:  # a column that steps have made
            return prepared
        texts = texts.set_axis(prepared.index) if len(texts) == len(prepared) else prepared
        plain = prepared.astype(object)
        is_there = plain.notna()
        numbers = pd.to_numeric(texts, errors="coerce")
        is_same = (numbers == pd.to_numeric(plain, errors="coerce")) | (
            texts.astype(str).str.lower() == plain.astype(str).str.lower()
        )
        says_more = bool((texts.astype(str) != plain.astype(str))[texts.notna()].any())
        return texts if says_more and bool(is_same[is_there].all()) else prepared

    def table(self) -> SourceTable:
        """Read and prepare the table; `DataError` if a step cannot be taken, or no row is left."""
        file_rows: list[int] = []
        if self._frame is None:
            frame, file_rows = read_files(self._files, self.reading, self._roles)
        else:
            frame = narrow_frame(as_text(plain_index(self._frame), self.reading.text))
        for name in () if self._to_predict else self.reading.text:
            column_of(frame, name, "The table of `reading.text`")
        text = [str(name) for name in frame if is_text_column(frame[name])]
        said = []
        if self.is_by_split:
            counts = file_rows or [1] * len(self._splits)
            splits = pd.Series(np.repeat(np.array(self._splits, dtype=object), counts))
            frame = frame.assign(**{SPLIT_COLUMN: splits.astype("category")})
        joins = JoinNotes(must_match=not self._to_predict, roles=self._roles)
        frame = apply_steps(self._steps, frame, self.folder, joins)
        kept = frame if self.where is None else select_rows(frame, self.where)
        said += [str(join) for join in joins]
        if self._to_predict and any(isinstance(step, Elapsed) for step in self._steps):
            said.append(
                "elapsed: days are counted among these rows alone, so that the rows before and"
                " after them must be there as well"
            )
        if len(kept) < len(frame):
            num_left_out = len(frame) - len(kept)
            said.append(f"where '{self.where}': {num_left_out:,} of {len(frame):,} rows left out.")
        return SourceTable(kept, said, file_rows, text, joins.side_text)


def _by_split(source: Any) -> dict[SplitName, Any] | None:
    """Return the tables of a mapping from splits; ``None`` if it is of columns, or no mapping."""
    if not isinstance(source, Mapping) or "train" not in map(split_name, map(str, source)):
        return None
    are_tables = all(
        isinstance(part, (str, Path, pd.DataFrame))
        or (isinstance(part, (list, tuple)) and all(isinstance(x, (str, Path)) for x in part))
        for part in source.values()
    )
    return named_splits(source, "source") if are_tables else None
