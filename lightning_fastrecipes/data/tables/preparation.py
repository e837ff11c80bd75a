"""From a table's files to its encoded splits, by way of the caches."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice, cached_if_possible
from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.tables.cache import SOURCE_ROW, MappedTable, cached_table
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.encoding import EncodedSplits, cached_encoding, encode_splits
from lightning_fastrecipes.data.tables.source import TableSource
from lightning_fastrecipes.functional.tables.checks import check_columns

_Cached = TypeVar("_Cached")


class PreparedTable:
    """A table that is prepared, split and encoded, each once as long as its files stay the same."""

    def __init__(
        self, source: TableSource, columns: TableColumns, split: Split, cache: Cache
    ) -> None:
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
            columns = self.columns
            made.append(encode_splits(self._table(), self.split, columns.names, columns.fit))
            return made[0]

        columns = {name: str(value) for name, value in asdict(self.columns).items()}
        found = self._cached(
            lambda folder: cached_encoding(
                folder,
                {**self._key(), "columns": columns, "split": self.split.key()},
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
        }  # fmt: skip

    def _kept_columns(self) -> list[str]:
        return list(dict.fromkeys([*self.columns.names, *self.split.columns]))

    def _key(self) -> dict[str, Any]:
        return self.source.key(self._kept_columns())
