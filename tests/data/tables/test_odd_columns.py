"""Types, names and shapes of tables as people have them."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_fastrecipes import TableColumns, TableSpec, TabularDataModule
from lightning_fastrecipes.errors import DataError

ROWS = 40
BASE = pd.DataFrame({"c": [*"abcd"] * 10, "x": np.arange(ROWS) / 7, "y": np.arange(ROWS) % 9})


def built(frame, categorical=("c",), continuous=("x",), **options) -> TabularDataModule:
    columns = TableColumns("y", [*categorical], [*continuous])
    data = TabularDataModule(frame, columns, cache="off", **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize(
    "column",
    [
        pd.arrays.SparseArray(np.arange(ROWS) % 5),
        [Decimal(number % 5) for number in range(ROWS)],
        pd.array([*range(5)] * 8, dtype="int64[pyarrow]"),
        pd.array([*range(5)] * 8, dtype="Float64"),
    ],
    ids=lambda column: type(column).__name__,
)
def test_numbers_of_any_type_are_categories_and_numbers(column) -> None:
    frame = BASE.assign(q=column)
    data = built(frame, ["c", "q"])
    plain = [None if pd.isna(value) else value for value in pd.Series(column).tolist()]
    decoded = data.spec.decode(data.spec.encode(frame).codes)["q"].tolist()
    assert [None if pd.isna(value) else value for value in decoded] == plain
    assert torch.isfinite(next(iter(built(frame, [], ["x", "q"]).train_dataloader()))[0][1]).all()


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pd.period_range("2020-01", periods=ROWS, freq="M"), r"period\[M\]"),
        (pd.to_timedelta(np.arange(ROWS), unit="h"), r"timedelta64"),
        ([pd.Timestamp("2020-01-01").time()] * ROWS, "time values"),
        (np.arange(ROWS) + 1j, "complex"),
        ([b"a"] * ROWS, "bytes"),
        (["a", 1] * 20, "str, and int in rows 1, 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("role", ["categorical", "continuous"])
def test_other_types_are_refused_with_their_column(column, found, role) -> None:
    with pytest.raises(DataError, match=rf"'q' must hold .*{found}"):
        built(BASE.assign(q=column), **{role: ["q"]})


@pytest.mark.parametrize(
    ("column", "cure"),
    [
        (pd.to_timedelta(np.arange(ROWS), unit="h"), "total_seconds"),
        ([pd.Timestamp("2020-01-01").time()] * ROWS, "time.hour"),
        (pd.period_range("2020-01", periods=ROWS, freq="M"), "to_timestamp"),
        (pd.date_range("2020-01-01", periods=ROWS), "date_parts"),
    ],
    ids=["duration", "time", "period", "date"],
)
def test_each_kind_of_time_is_told_its_own_cure(column, cure) -> None:
    with pytest.raises(DataError, match=cure):
        built(BASE.assign(q=column), continuous=["q"])


def test_sparse_columns_are_kept_in_a_cache(tmp_path) -> None:
    sparse = BASE.assign(q=pd.arrays.SparseArray(np.arange(ROWS) % 5))
    dense = BASE.assign(q=np.arange(ROWS) % 5)
    batches = []
    for frame in (sparse, dense):
        data = TabularDataModule(frame, TableColumns("y", ["c"], ["q"]), cache=tmp_path)
        data.prepare_data()
        data.setup("fit")
        batches.append(next(iter(data.val_dataloader())))
    torch.testing.assert_close(*batches, rtol=0, atol=0)


@pytest.mark.parametrize("answers", [["yes", "no"], ["", None]])
def test_words_are_no_true_and_false(answers) -> None:
    spec = TableSpec.fit(
        pd.DataFrame({"q": [True, False] * 5, "y": 0.0}),
        target="y",
        categorical=["q"],
        continuous=[],
    )
    with pytest.raises(DataError, match=r"'q' held .* in training, but has text"):
        spec.encode(pd.DataFrame({"q": answers}), has_target=False)
    assert spec.encode(pd.DataFrame({"q": [1.0, 0.0]}), has_target=False).codes.tolist() == [
        [2],
        [1],
    ]


def test_names_of_any_kind_go_through_a_file(tmp_path) -> None:
    names = [
        "a b",
        "a.b",
        "größe",
        "x[0]",
        "new\nline",
        "index",
        "Unnamed: 0",
        "class",
        "a,b",
        'q"',
    ]
    frame = pd.DataFrame(
        {name: np.arange(ROWS) * (place + 1.0) for place, name in enumerate(names)}
    )
    frame.assign(y=BASE["y"]).to_csv(tmp_path / "odd.csv", index=False)
    data = built(tmp_path / "odd.csv", [], names)
    assert data.spec.continuous == names
    again = TabularDataModule.from_spec(data.spec, tmp_path / "odd.csv")
    again.setup("predict")
    scaled = torch.cat([batch[0][1] for batch in again.predict_dataloader()])
    # They are multiples of one another.
    torch.testing.assert_close(scaled, scaled[:, :1].expand_as(scaled))


def test_a_column_may_be_missing_in_validation_alone() -> None:
    frame = BASE.assign(part=["train"] * 30 + ["val"] * 10)
    frame.loc[30:, "x"] = None
    assert built(frame, split="part").num_rows("val") == 10
    with pytest.raises(DataError, match="'c' must hold at least one value in the training rows"):
        built(BASE.assign(c=None))
    with pytest.raises(DataError, match="'val' must have rows"):
        built(BASE.iloc[:1])
