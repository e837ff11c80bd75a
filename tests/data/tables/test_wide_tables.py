"""What a table of many columns costs grows with their number."""

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes import TableColumns, TabularDataModule


class Counted(str):
    """A name that counts how often it is compared."""

    count = 0

    def __eq__(self, other):
        Counted.count += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("ending", ["csv", "feather", "parquet"])
def test_names_are_compared_a_few_times_each(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    counts = []
    for num_columns in (100, 400):
        names = [Counted(f"c{place}") for place in range(num_columns)]
        table = pd.DataFrame(np.arange(8.0 * num_columns).reshape(8, -1), columns=map(str, names))
        table = table.assign(y=range(8), k=list("ab") * 4)
        table.to_csv(path, index=False) if ending == "csv" else getattr(table, f"to_{ending}")(path)
        Counted.count = 0
        data = TabularDataModule(path, TableColumns("y", ["k"], names), cache="off")
        data.setup("fit")
        assert data.encoded("train").continuous.shape[1] == num_columns
        counts.append(Counted.count)
    assert counts[1] < 6 * counts[0] + 100
