"""From a table's files to its encoded splits, by way of the caches."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice
from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.sources import cache_folder
from lightning_fastrecipes.data.tables.cache import SOURCE_ROW, MappedTable, cached_table
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.encoding import (
    EncodedSplits,
    cached_encoding,
    encode_splits,
)
from lightning_fastrecipes.data.tables.source import TableSource
from lightning_fastrecipes.data.tables.splits import TableSplit
from lightning_fastrecipes.functional.tables.checks import check_columns


class PreparedTable:
    """A table that is prepared, split and encoded, each once as long as its files stay the same.

    Args:
        source: The table and its steps.
        columns: What the columns are for.
        split: Which row is of which split.
        cache: ``auto`` or true keeps tables in the cache folder and does without where there is no
            room; ``off`` or false keeps none; anything else is a folder to keep them in.
    """

    def __init__(
        self, source: TableSource, columns: TableColumns, split: TableSplit, cache: Cache
    ) -> None:
        self.source = source
        self.columns = columns
        self.split = split
        self.cache = cache_choice(cache)

    def encode(self) -> EncodedSplits:
        """Return the encoded splits, mapped from the cache unless there is none.

        Returns:
            The splits, with the spec that was learned from the training rows.

        Raises:
            NoRoomError: If the folder that was asked for cannot take the table.
        """
        made: list[EncodedSplits] = []

        def make() -> EncodedSplits:
            columns = self.columns
            made.append(encode_splits(self._table(), self.split, columns.names, columns.fit))
            return made[0]

        if self.cache == "off":
            return make()
        columns = {name: str(value) for name, value in asdict(self.columns).items()}
        purpose = {**self._purpose(), "columns": columns, "split": self.split.key()}
        try:
            return cached_encoding(self._folder(), purpose, self.source.origin(), make)
        except NoRoomError as error:
            self._do_without(error)
            return made[0] if made else make()

    def _table(self) -> MappedTable:
        if self.cache == "off":
            return MappedTable.of_frame(*self._prepared())
        origin = self.source.origin()
        try:
            return cached_table(self._folder(), self._purpose(), origin, self._prepared)
        except NoRoomError as error:
            self._do_without(error)
            return MappedTable.of_frame(*self._prepared())

    def _prepared(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        table = self.source.table()
        kept = self._kept_columns()
        check_columns(table.frame, kept)
        # Not by choosing columns, which would copy them.
        frame = table.frame.drop(columns=[name for name in table.frame if name not in kept])
        if self.source.where is not None:
            frame[SOURCE_ROW] = frame.index.to_numpy()
        return frame, {"steps": table.said, "file_rows": table.file_rows}

    def _kept_columns(self) -> list[str]:
        return list(dict.fromkeys([*self.columns.names, *self.split.columns]))

    def _purpose(self) -> dict[str, Any]:
        return self.source.purpose(self._kept_columns())

    def _folder(self) -> Path:
        return self.cache if isinstance(self.cache, Path) else cache_folder() / "tables"

    def _do_without(self, error: NoRoomError) -> None:
        if self.cache != "auto":
            raise error
        rank_zero_warn(f"{error} Until then the table is prepared at every start.")
