"""Tables as a datamodule: read, prepared and encoded once, then served from one tensor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_info, rank_zero_warn
from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice
from lightning_fastrecipes.data.common.samplers import upcoming_epoch
from lightning_fastrecipes.data.common.settings import WholeNumber
from lightning_fastrecipes.data.common.split_choice import SplitChoice, as_split
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.encoding import EncodedSplit, EncodedSplits
from lightning_fastrecipes.data.tables.frames import Roles
from lightning_fastrecipes.data.tables.loader import TableLoader, TableRows, TableSampler
from lightning_fastrecipes.data.tables.preparation import PreparedTable, encode_foreign, roles_of
from lightning_fastrecipes.data.tables.reading import Reading
from lightning_fastrecipes.data.tables.report import TableReport
from lightning_fastrecipes.data.tables.showing import ShowsRows
from lightning_fastrecipes.data.tables.source import Source, TableSource
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.numbers import has_doubles
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.messages import name_some

_DEVICE_SHARE = 0.5
"""Share of an accelerator's free memory that a split may take."""


class TabularDataModule(ShowsRows, pl.OwnDataModule):
    """Serve a table in batches of ``(TableInputs, targets)``; rows to predict without targets.

    The table is read, prepared by ``steps``, split, and turned into numbers by a ``TableSpec`` that
    is learned from the training rows alone. Both the prepared table and the numbers are kept in a
    cache, so that the next start only maps a file. Batches are slices of one tensor, which lives on
    an accelerator if it takes no more than half of the memory that is free there. Rows in messages
    are numbered from 0 as in the source, on from file to file.

    Args:
        source: A CSV, TSV, Parquet or feather file, or a pattern; several files that are put one
            below the other; a table in memory: a data frame, whose index counts only where it has a
            name, a mapping of columns, an array, a frame of polars or the like, or a list of these;
            or a table for each split, ``{"train": "a.csv", "test": "b.csv"}``; others are drawn.
        columns: What the columns are for; not needed with ``spec``.
        spec: How the table becomes numbers, of a model that was trained on another table and is
            trained further, or evaluated, on this one; learned from the training rows if not given.
        split: ``FractionSplit``, ``ColumnSplit``, ``DateSplit``, ``GroupSplit``, ``FoldSplit`` or
            ``RowSplit``, or a mapping with the arguments of one, such as ``{"val": [0, 4]}``; a
            number is the share to validate on, a text the column that names the splits; a fifth is
            validated on if not given.
        steps: What is done to the table first, such as ``[{"date_parts": {"column": "Date"}}]``.
        reading: How files of text are written: a ``Reading`` or its arguments, such as
            ``{"separator": ";", "text": ["zip"]}``; of a frame, ``text`` alone counts.
        where: Condition on prepared rows such as ``Sales > 0``, in the language of the step
            ``derive``; other rows are left out, except of those to predict.
        batch_size: Training rows per step and process, at least 1.
        eval_batch_size: The same without training, at least 1.
        mask_fraction: Share of the codes of training batches, in [0, 1), that are replaced by the
            index of unknown values, so that it is trained; others in every epoch.
        seed: Of shuffling and masking.
        cache: ``auto`` or true keeps tables in the cache folder if there is room; ``off`` or false
            keeps none; anything else is a folder to keep them in.

    Raises:
        ValueError: If an argument is out of its range.
        DataNotFoundError: If a file does not exist.

    Attributes:
        spec: How the table becomes numbers; after ``setup``.
        report: Unmatched keys, unknown values and gaps that were found; after ``setup``.
        folder: What paths in the steps are relative to.
        source_names: The files of the table as they were named; none for a frame.
        predict_rows: Where the rows to predict are in their source; after ``predict_dataloader``.
    """

    batch_size = WholeNumber(at_least=1)
    eval_batch_size = WholeNumber(at_least=1)
    seed = WholeNumber(at_least=0)

    def __init__(
        self,
        source: Source,
        columns: TableColumns | None = None,
        *,
        spec: TableSpec | None = None,
        split: SplitChoice = None,
        steps: Sequence[Mapping[str, Any]] = (),
        reading: Reading | Mapping[str, Any] | None = None,
        where: str | None = None,
        batch_size: int = 512,
        eval_batch_size: int = 4096,
        mask_fraction: float = 0.01,
        seed: int = 0,
        cache: Cache = "auto",
    ) -> None:
        super().__init__()
        if not 0 <= mask_fraction < 1:
            raise ValueError(f"`mask_fraction` must lie in [0, 1), got {mask_fraction}.")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.mask_fraction = mask_fraction
        self.columns = columns = TableColumns.known(columns, spec)
        self.cache = cache_choice(cache)
        self.spec: TableSpec | None = None
        self.report: TableReport | None = None
        roles = roles_of(spec) if spec else Roles(columns.codes)
        origin = TableSource(source, steps, where, reading=reading, roles=roles)
        self.split = origin.split(None if split is None else as_split(split))
        self._table = PreparedTable(origin, columns, self.split, self.cache, spec)
        self.steps = steps
        self.reading = origin.reading
        self.folder = self._table.source.folder
        self.source_names = self._table.source.names
        self.predict_rows: pd.DataFrame | None = None
        self._encoded: EncodedSplits | None = None
        self._to_predict: Source | None = None
        self._stored_spec: TableSpec | None = None
        self._placed: dict[SplitName, TableRows] = {}

    @classmethod
    def from_spec(
        cls,
        spec: TableSpec,
        source: Source,
        *,
        steps: Sequence[Mapping[str, Any]] = (),
        reading: Reading | Mapping[str, Any] | None = None,
        eval_batch_size: int = 4096,
        folder: Path | None = None,
    ) -> "TabularDataModule":
        """Make a datamodule of rows for a model that was trained on others.

        ``Trainer.predict`` does not look at their target; ``Trainer.test`` and ``validate``
        evaluate all of them. To train further on other rows, give ``spec`` to the constructor.

        Args:
            spec: How a table becomes numbers, from the model's checkpoint.
            source: The rows, as for the constructor.
            steps: What was done to the table of the training.
            reading: How files of text are written, as for the constructor.
            eval_batch_size: Rows per step and process, at least 1.
            folder: What paths in the steps are relative to, such as the folder of the training's
                table; that of the rows if not given.

        Returns:
            A datamodule to predict with, and to evaluate.
        """
        module = cls(
            source, spec=spec, steps=steps, reading=reading,
            eval_batch_size=eval_batch_size, cache="off",
        )  # fmt: skip
        module.spec = spec
        module._to_predict = source
        module.folder = folder or module.folder
        return module

    @property
    def train_targets(self) -> Tensor:
        """Targets of the training split, transformed, in the order of the table."""
        return torch.from_numpy(self._splits["train"].target)

    def num_rows(self, split: SplitName) -> int:
        """Count the rows of a split, 0 if there is no such split."""
        return len(self._splits[split].rows) if split in self._splits else 0

    def encoded(self, split: SplitName) -> EncodedSplit:
        """Return the rows of a split as numbers."""
        return self._splits[split]

    def row_names(self, split: SplitName) -> pd.DataFrame:
        """Return where the rows of a split are in the source, to put predictions beside them."""
        rows = self.encoded(split).rows
        return self._table.source.row_names(rows, self._encoded.file_rows if self._encoded else ())

    def prepare_data(self) -> None:
        """Read, prepare and encode the table, once per node, unless the cache has it."""
        if self.cache != "off" and self._encoded is None:
            self._encoded = self._table.encode()

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded splits, or make them without a cache; learn or compare the spec.

        Raise `DataError` if the table cannot be used as it is. Raise `ConfigurationError` if
        the table differs from that of the checkpoint.
        """
        if self.spec is not None:
            return
        if self._encoded is None:
            self._encoded = self._table.encode()
        self.spec, self.report = self._encoded.spec, self._encoded.report
        self._compare_specs()
        rank_zero_info(f"Table of {len(self.columns.names)} columns.\n{self.report}")
        for sentence in self.report.warnings:
            rank_zero_warn(sentence)

    def teardown(self, stage: str) -> None:
        """Free the memory that splits take on an accelerator."""
        self._placed = {}

    def train_dataloader(self) -> TableLoader:
        """Return shuffled batches, some codes masked; a last batch of one row is dropped."""
        rows, is_fixed = self._rows("train"), self._is_overfitting()
        weights = self.columns.draw_weights(self.train_targets)
        sampler = TableSampler(len(rows), None if is_fixed else self.seed, weights=weights)
        if self.trainer is not None and not is_fixed:
            sampler.set_epoch(upcoming_epoch(self.trainer))
        return TableLoader(
            rows, self.batch_size, sampler, self.mask_fraction, is_training=True, is_fixed=is_fixed
        )

    def val_dataloader(self) -> TableLoader | list[TableLoader]:
        """Return the validation split in order, or all rows of ``from_spec``; perhaps nothing."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> TableLoader | list[TableLoader]:
        """Return the test split in order, or all rows of ``from_spec``; perhaps nothing."""
        return self._eval_dataloader("test")

    def eval_dataloader(self, split: SplitName) -> TableLoader:
        """Return the batches of a split in order, to the last row and without masks.

        Raise `DataError` if there is no such split.
        """
        if split not in self._splits:
            raise DataError(
                f"There is no split '{split}', only {name_some(list(self._splits))}. Ask for it by"
                " `split`."
            )
        rows = self._rows(split)
        sampler = TableSampler(len(rows), None)
        return TableLoader(rows, self.eval_batch_size, sampler, is_fixed=self._is_overfitting())

    def predict_dataloader(
        self, source: Source | None = None, keep: Sequence[str] = ()
    ) -> TableLoader:
        """Return rows to predict, in order: prepared by the steps, encoded by the spec.

        What was unknown or missing in them is logged, and added to :attr:`report`.

        Args:
            source: The rows, as for the constructor; those of ``from_spec`` if not given.
            keep: Columns of the prepared rows to put into ``predict_rows``.

        Returns:
            A loader of inputs without targets.

        Raises:
            DataError: If the rows are not like those of the training, or there are none.
            ConfigurationError: If there is no spec yet.
        """
        source = self._to_predict if source is None else source
        if source is None:
            raise DataError(
                "There are no rows to predict. Give them to `predict_dataloader`, or make a"
                " datamodule of them by `TabularDataModule.from_spec`."
            )
        if self.spec is None:
            raise ConfigurationError(
                "The table has not been read yet. Call `setup('fit')`, or use `from_spec`."
            )
        return self._foreign_rows(source, self.spec, keep=keep)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Move a batch to the device, without targets of 64 bits where it has no such numbers."""
        if has_doubles(device) or len(batch) < 2:
            return super().transfer_batch_to_device(batch, device, index)
        inputs, *weights = super().transfer_batch_to_device((batch[0], *batch[2:]), device, index)
        return inputs, batch[1], *weights

    def state_dict(self) -> dict[str, Any]:
        """Store how the table becomes numbers."""
        return {} if self.spec is None else {"spec": self.spec.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise a `ConfigurationError` if the stored spec differs from that of the table."""
        if "spec" in state_dict:
            self._stored_spec = TableSpec.from_dict(state_dict["spec"])
        self._compare_specs()

    @property
    def _splits(self) -> Mapping[SplitName, EncodedSplit]:
        if self._encoded is None or self.spec is None:
            what = "is for prediction alone" if self.spec else "has not read its table yet"
            raise ConfigurationError(
                f"This datamodule {what}. Make one by its constructor, and call `setup('fit')` or"
                " let a Trainer do so."
            )
        return self._encoded.splits

    def _eval_dataloader(self, split: SplitName) -> TableLoader | list[TableLoader]:
        if self._to_predict is not None and self.spec is not None:
            return self._foreign_rows(self._to_predict, self.spec, has_target=True)
        return self.eval_dataloader(split) if split in self._splits else []

    def _foreign_rows(
        self, source: Source, spec: TableSpec, has_target: bool = False, keep: Sequence[str] = ()
    ) -> TableLoader:
        """Return all rows of another table, prepared by the steps and encoded by the spec."""
        origin = TableSource(
            source, self.steps, folder=self.folder, reading=self.reading, roles=roles_of(spec),
            to_predict=True,
        )  # fmt: skip
        encoded, self.predict_rows, report = encode_foreign(origin, spec, has_target, keep)
        # Scripts predict single rows in loops: of these only what is odd is said.
        if len(encoded.rows) > 1 or report.has_findings:
            rank_zero_info(str(report))
        self.report = self.report or TableReport()
        self.report.include(report)
        rows = TableRows.of(encoded)
        sampler = TableSampler(len(rows), None, evens_out=has_target)
        return TableLoader(rows, self.eval_batch_size, sampler)

    def _is_overfitting(self) -> bool:
        """Return whether the trainer wants the same few batches again and again."""
        return bool(getattr(self.trainer, "overfit_batches", 0))

    def _compare_specs(self) -> None:
        if self._stored_spec is None or self.spec is None:
            return
        difference = self._stored_spec.difference(self.spec)
        if difference:
            raise ConfigurationError(
                "The training rows differ from those of the checkpoint, so that the same values"
                f" would become other numbers:\n{difference}\nUse the table it was trained on, or"
                " start afresh."
            )

    def _rows(self, split: SplitName) -> TableRows:
        """Return a split, on the accelerator if it fits, where it is copied once per fit."""
        rows = TableRows.of(self._splits[split])
        if self.trainer is None or (device := self.trainer.strategy.root_device).type != "cuda":
            return rows
        if split not in self._placed:
            free, _ = torch.cuda.mem_get_info(device)
            self._placed[split] = rows.to(device) if rows.num_bytes < _DEVICE_SHARE * free else rows
        return self._placed[split]
