"""From a table's files to its encoded splits, by way of the caches."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice, cached_if_possible
from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.tables.cache import SOURCE_ROW, MappedTable, cached_table
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.encoding import (
    EncodedSplit,
    EncodedSplits,
    cached_encoding,
    encode_rows,
    encode_splits,
)
from lightning_fastrecipes.data.tables.frames import Roles
from lightning_fastrecipes.data.tables.report import TableReport
from lightning_fastrecipes.data.tables.source import TableSource
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.checks import check_columns
from lightning_fastrecipes.functional.tables.rows import column_of
from lightning_fastrecipes.functional.tables.spec import TableSpec

_Cached = TypeVar("_Cached")


class PreparedTable:
    """A table that is prepared, split and encoded, each once as long as its files stay the same.

    The spec is learned from the training rows unless it is given.
    """

    def __init__(
        self,
        source: TableSource,
        columns: TableColumns,
        split: Split,
        cache: Cache,
        spec: TableSpec | None = None,
    ) -> None:
        self.spec = spec
        self.source = source
        self.columns = columns
        self.split = split
        self.cache = cache_choice(cache)

    def encode(self) -> EncodedSplits:
        """Return the encoded splits, mapped from the cache unless there is none.

        Raise `NoRoomError` if the folder that was asked for cannot take the table.
        """
        made: list[EncodedSplits] = []

        def encode() -> EncodedSplits:
            table = self._table()
            text = tuple(table.notes.get("text", ()))
            side_text = tuple(map(tuple, table.notes.get("side_text", ())))

            def fit(rows: pd.DataFrame) -> TableSpec:
                return self.spec or replace(
                    self.columns.fit(rows), source_text=text, side_text=side_text
                )

            columns, weight = self.columns.names, self.columns.weight
            made.append(encode_splits(table, self.split, columns, fit, weight=weight))
            return made[0]

        given = None if self.spec is None else self.spec.to_dict()
        columns = {name: str(value) for name, value in asdict(self.columns).items()}
        found = self._cached(
            lambda folder: cached_encoding(
                folder,
                {**self._key(), "columns": columns, "split": self.split.key(), "spec": given},
                self.source.fingerprint(),
                encode,
            )
        )
        if found is None:
            return made[0] if made else encode()
        return found

    def _table(self) -> MappedTable:
        fingerprint = self.source.fingerprint()
        found = self._cached(
            lambda folder: cached_table(folder, self._key(), fingerprint, self._prepared)
        )
        return MappedTable.of_frame(*self._prepared()) if found is None else found

    def _cached(self, use: Callable[[Path], _Cached]) -> _Cached | None:
        otherwise = "the table is prepared at every start"
        return cached_if_possible(self.cache, "tables", use, otherwise)

    def _prepared(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        table = self.source.table()
        check_columns(table.frame, self._kept_columns())
        kept = set(self._kept_columns())
        # Not by choosing columns, which would copy them.
        frame = table.frame.drop(columns=[name for name in table.frame if name not in kept])
        if self.source.where is not None:
            frame[SOURCE_ROW] = frame.index.to_numpy()
        return frame, {
            "steps": table.said, "file_rows": table.file_rows, "text": table.text,
            "side_text": table.side_text,
        }  # fmt: skip

    def _kept_columns(self) -> list[str]:
        weight = [] if self.columns.weight is None else [self.columns.weight]
        return list(dict.fromkeys([*self.columns.names, *weight, *self.split.columns]))

    def _key(self) -> dict[str, Any]:
        return self.source.key(self._kept_columns())


def encode_foreign(
    source: TableSource, spec: TableSpec, has_target: bool, keep: Sequence[str]
) -> tuple[EncodedSplit, pd.DataFrame, TableReport]:
    """Encode all rows of another table than that of the training.

    Return them, where they are in the source with the columns to ``keep``, and what was found.
    """
    table = source.table()
    encoded, report = encode_rows(table.frame, spec, has_target)
    rows = source.row_names(encoded.rows, table.file_rows)
    for name in keep:
        if name in rows or name == "prediction" or name in (spec.classes or ()):
            raise DataError(
                f"A column to keep must not be called {name!r}, as another one of the predictions"
                " is. Rename it, and name each once."
            )
        rows[name] = source.as_written(name, column_of(table.frame, name)).to_numpy()
    report.steps = table.said
    return encoded, rows, report


def roles_of(spec: TableSpec) -> Roles:
    """Return how the columns of another table are read than that which a spec was learned from."""
    numbers = [column.name for column in spec.category_columns if column.kind != "text"]
    columns = [*spec.category_columns, *(target.categories for target in spec.target_columns)]
    words = {
        c.name: {*map(str, [*c.values, *c.rare])}
        for c in columns
        if c is not None and c.kind == "text"
    }
    return Roles((), spec.source_text, numbers, words, spec.side_text)
