"""Whatever holds a table is one, or is refused by what it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lightning_fastrecipes import TableColumns, TabularDataModule
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.inputs import as_frame, is_in_memory

PLAIN = pd.DataFrame({"a": [1, 2, 3, 4], "b": ["x", "y", "x", "y"], "y": [0.5, 1.5, 2.5, 3.5]})


class Stream:
    """A frame of another library, by the Arrow interface alone."""

    def __arrow_c_stream__(self, schema=None):
        return pa.Table.from_pandas(PLAIN).__arrow_c_stream__(schema)


class Interchange:
    """A frame of another library, by the data frame interchange protocol alone."""

    def __dataframe__(self, *options, **more):
        return PLAIN.__dataframe__(*options, **more)


SOURCES = {
    "frame": PLAIN,
    "mapping": PLAIN.to_dict("list"),
    "arrays": {name: PLAIN[name].to_numpy() for name in PLAIN},
    "frames": [PLAIN[:1], PLAIN[1:].iloc[:, ::-1]],
    "rows": PLAIN.to_dict("records"),
    "series": [row for _, row in PLAIN.iterrows()],
    "records": PLAIN.to_records(index=False),
    "arrow": pa.Table.from_pandas(PLAIN),
    "stream": Stream(),
    "interchange": Interchange(),
}


@pytest.mark.filterwarnings("ignore:The DataFrame Interchange Protocol")
@pytest.mark.parametrize("name", SOURCES)
def test_any_table_is_the_same_table(name):
    assert is_in_memory(SOURCES[name])
    found = as_frame(SOURCES[name])
    assert found[PLAIN.columns.tolist()].astype(object).to_numpy().tolist() == (
        PLAIN.astype(object).to_numpy().tolist()
    )
    data = TabularDataModule(SOURCES[name], TableColumns("y", ["b"], ["a"]), cache="off")
    data.setup("fit")
    assert sum(data.num_rows(split) for split in ("train", "val")) == 4


def test_an_array_has_numbered_columns():
    found = as_frame(PLAIN[["a", "y"]].to_numpy())
    assert found.to_dict("list") == {"0": [1, 2, 3, 4], "1": [0.5, 1.5, 2.5, 3.5]}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((PLAIN[["a"]].to_numpy(), PLAIN["y"].to_numpy()), "must have two axes"),
        ((PLAIN[["a"]], PLAIN[["y"]]), "must have the same columns, but differ in .'a', 'y'."),
        ([PLAIN, "more.csv"], "Got list of several kinds. Put a target beside"),
        (7, "`source` must be a file, .* Got int"),
        ({"a": [1, 2], "b": [1]}, "must hold a table: columns of one length"),
        (np.zeros(3), "must have two axes"),
    ],
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        TabularDataModule(source, TableColumns("y", ["b"], ["a"]))


def test_files_are_named():
    for source in ("a.csv", Path("a.csv"), ["a.csv", Path("b.csv")], []):
        assert not is_in_memory(source)


def test_columns_may_be_an_index_and_are_refused_by_what_they_are():
    columns = TableColumns("y", PLAIN.columns[1:2], PLAIN.select_dtypes("int").columns)
    assert (columns.categorical, columns.continuous) == (["b"], ["a"])
    assert TableColumns(PLAIN.columns[:2], ["c"]).target == PLAIN.columns[:2].tolist()
    with pytest.raises(ValueError, match=r"`target` must be the name of a column, or a list of n"):
        TableColumns(["y", 3], ["b"])


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_columns_of_lists_and_the_like_do_no_harm_unless_they_are_used(tmp_path, cache):
    odd = PLAIN.assign(
        tags=[["u", "v"], [], None, ["u"]], meta=[{"k": 1}] * 4, kinds=[{1}, {2}, {3}, set()]
    )
    cache = tmp_path if cache == "folder" else cache
    TabularDataModule(odd, TableColumns("y", ["b"], ["a"]), cache=cache).setup("fit")
    for name, columns in (
        ("tags", TableColumns("tags", ["b"], ["a"], task="classes")),
        ("tags", TableColumns("tags", ["b"], ["a"])),
        ("meta", TableColumns("y", ["meta"])),
        ("kinds", TableColumns("y", ["b"], ["kinds"])),
    ):
        with pytest.raises(DataError, match=f"[Cc]olumn '{name}' must hold"):
            TabularDataModule(odd, columns, cache=cache).setup("fit")


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_intervals_and_ordered_classes_keep_their_order(tmp_path, cache):
    cache = tmp_path if cache == "folder" else cache
    frame = pd.DataFrame({"a": np.arange(60.0), "size": pd.cut(np.arange(60.0), [-1, 5, 20, 60])})
    frame["word"] = pd.Categorical(
        np.resize(["mid", "low", "high"], 60), ["low", "mid", "high"], ordered=True
    )
    for target, classes in (
        ("size", ["(-1, 5]", "(5, 20]", "(20, 60]"]),
        ("word", ["low", "mid", "high"]),
    ):
        columns = TableColumns(target, continuous=["a"], task="classes")
        data = TabularDataModule(frame, columns, cache=cache)
        data.setup("fit")
        assert data.spec.classes == classes
        rows = data.encoded("train").rows
        named = [classes[code] for code in data.encoded("train").target]
        assert named == frame[target].astype(str).iloc[rows].tolist()
