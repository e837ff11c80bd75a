"""Training rows of a table as the model gets them, written as people read them."""

import math
from abc import ABC
from typing import Any

import numpy as np
import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.common.self_description import DescribesItself
from lightning_fastrecipes.data.tables.encoding import EncodedSplit, EncodedSplits
from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.tables.spec import FLAG_SUFFIX, TableSpec


class ShowsRows(DescribesItself, ABC):
    """What a datamodule of tables shows of itself."""

    _encoded: EncodedSplits | None

    @override
    def _about(self) -> dict[str, str]:
        return {"": "not read yet"} if self._encoded is None else self._encoded.facts()

    def show_batch(self, num_rows: int = 9) -> pd.DataFrame:
        """Return some training rows as the model gets them, in the table's own units.

        Args:
            num_rows: How many rows, at least 1; fewer if there are fewer.

        Returns:
            The columns of the model and the target, at the number of each row in the source. Gaps,
            and categories too rare to have an index of their own, are missing.

        Raises:
            ConfigurationError: If the number is out of its range.
        """
        check_at_least("num_rows", num_rows, 1)
        own: Any = self
        own.prepare_data()
        own.setup("fit")
        split = own.encoded("train")
        count = len(split.rows)
        places = np.unique(np.linspace(0, count - 1, min(num_rows, count)).round().astype(int))
        return _readable(own.spec, split, places)


def _readable(spec: TableSpec, split: EncodedSplit, places: Any) -> pd.DataFrame:
    table, numbers = spec.decode(split.codes[places]), split.continuous[places].astype(np.float64)
    flags = {name: place for place, name in enumerate(spec.continuous_columns)}
    for place, column in enumerate(spec.number_columns):
        values = numbers[:, place] * column.std + column.mean
        if column.has_flag:
            values[numbers[:, flags[f"{column.name}{FLAG_SUFFIX}"]] == 1] = np.nan
        table[column.name] = np.round(values, _decimals(column.std))
    targets = np.asarray(split.target)[places].reshape(len(places), -1)
    for place, target in enumerate(spec.target_columns):
        values = targets[:, place]
        if target.classes is not None:
            table[target.name] = [target.classes[int(code)] for code in values]
        else:
            found = values.astype(np.float64)
            table[target.name] = np.exp(found) if target.log else found
    return table.set_axis(pd.Index(split.rows[places], name="row"))


def _decimals(std: float) -> int:
    """Return how many decimals 32 bits keep of numbers that are divided by their deviation."""
    return 6 - math.floor(math.log10(std)) if std > 0 else 7
