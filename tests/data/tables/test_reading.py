"""Files of text as people have them: read as they are meant, or refused by what they are."""

import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes import Reading, TableColumns, TabularDataModule, TabularRegressor
from lightning_fastrecipes.data.tables.frames import Roles, read_files, read_frames
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.codes import NO_CATEGORY, numbers_of


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(frame):
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def test_row_names_of_r_are_no_column(tmp_path, caplog):
    text = '"a","x","y"\n"1","u",1.5,2\n"2","v",2.5,3\n"3","u",4.5,5\n'
    path = written(tmp_path, text)
    expected = pd.read_csv(path)  # pandas takes the first field as index
    found = read_frames(path)
    assert found.columns.tolist() == ["a", "x", "y"]
    assert rows(found) == rows(expected.reset_index(drop=True))
    assert "begin with their numbers, which are left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("file,label,note\na.jpg,big,cat,x\nb.jpg,small,dog,y\n", 2),
        ("a,x\nMazda RX4,21,6\nValiant,18,6\n", 2),
        ("a,x\n1,2\n1,2,3\n", 3),
        ("a,x\n1,2,3\n1,2\n", 2),
        ("a,x\n1,2,3,4\n1,2,3,4\n", 2),
    ],
)
def test_rows_that_are_longer_than_the_header_are_refused(tmp_path, text, line):
    with pytest.raises(DataError, match=rf"line {line} has . fields .* `reading: {{header: \[row"):
        read_frames(written(tmp_path, text), reading={"separator": ","})


def test_a_line_above_the_names_is_shown(tmp_path):
    path = written(tmp_path, "# made on Monday\na,x\n1,2\n3,4\n")
    with pytest.raises(DataError, match="says '# made on Monday', and the lines below have 2"):
        read_frames(path)


def test_a_long_row_far_down_is_refused(tmp_path):
    path = written(tmp_path, "a,x\n" + "1,2\n" * 70_000 + "1,2,3\n")
    with pytest.raises(DataError, match="Expected 2 fields in line 70002, saw 3"):
        read_frames(path)


def test_a_second_header_far_down_is_refused(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text(2 * ("a,b\n" + 40 * "x,y\n"))
    with pytest.raises(DataError, match=r"again in row 40, counted from 0\. Remove"):
        read_frames(path)
    path.write_text("\ufeffa,b\nx,y\n\ufeffa,b\nx,z\n")  # put together as they were
    with pytest.raises(DataError, match="again in row 1, counted from 0"):
        read_frames(path)
    path.write_text("a\n" + "a\nb\n")  # one column of words may hold its own name
    assert read_frames(path)["a"].tolist() == ["a", "b"]


def test_the_cure_for_names_of_rows_cures(tmp_path):
    path = written(tmp_path, "a,x\nMazda RX4,21,6\nValiant,18,6\n")
    found = read_frames(path, reading={"header": ["row", "a", "x"]})
    assert rows(found) == [["Mazda RX4", 21, 6], ["Valiant", 18, 6]]


def test_empty_columns_at_the_end_are_read_as_pandas_reads_them(tmp_path):
    path = written(tmp_path, "a,x,y,,\n1,2,3,,\n4,5,6,,\n")
    found = read_frames(path)
    expected = pd.read_csv(path)
    assert found.columns.tolist() == expected.columns.tolist()
    assert rows(found) == rows(expected)
    path = written(tmp_path, "a,x\n1,2,\n4,5,\n")
    assert rows(read_frames(path)) == [[1, 2], [4, 5]]


def test_the_first_line_holds_names_or_none(tmp_path):
    path = written(tmp_path, "1,u\n2,v\n")
    assert read_frames(path, reading={"header": False}).columns.tolist() == ["0", "1"]
    found = read_frames(path, reading={"header": ["n", "kind"]})
    assert found.to_dict("list") == {"n": [1, 2], "kind": ["u", "v"]}
    named = written(tmp_path, "n,kind\n1,u\n", "named.csv")
    assert rows(read_frames(named, reading={"header": ["n", "kind"]})) == [[1, "u"]]
    with pytest.raises(DataError, match="must name all 2 fields"):
        read_frames(path, reading={"header": ["n"]})


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("n;m\n1,5;1.234\n2,25;5\n", {"decimal": ",", "thousands": "."}),
        ("n;m\n1.5;1 234\n2.25;5\n", {"thousands": " "}),
        ("n m\n1.5 1234\n2.25 5\n", {"separator": r"\s+"}),
        ("n::m\n1.5::1234\n2.25::5\n", {"separator": "::"}),
        ('n;m\n"1.5";1234\n2.25;"5"\n', {}),
    ],
)
def test_numbers_as_they_are_written(tmp_path, text, options):
    found = read_frames(written(tmp_path, text), reading=options)
    assert found.to_dict("list") == {"n": [1.5, 2.25], "m": [1234, 5]}
    assert all(dtype.kind in "if" for dtype in found.dtypes)


def test_quoted_line_breaks_do_not_hide_the_separator(tmp_path):
    notes = [f'"one, of many,\nlines {number}"' for number in range(60)]
    lines = [f"{number};{note};x" for number, note in enumerate(notes)]
    found = read_frames(written(tmp_path, "\n".join(["n;note;kind", *lines])))
    assert found["n"].tolist() == list(range(60))
    assert found["note"].iloc[7] == "one, of many,\nlines 7"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    path = written(tmp_path, "Stadt;n\nKöln;1\nZürich;2\n".encode(encoding))
    if encoding in ("cp1252", "utf-16-le"):
        with pytest.raises(
            DataError, match=r"must be UTF-8, but is .* `reading: {encoding: cp1252"
        ):
            read_frames(path)
        found = read_frames(path, reading={"encoding": encoding})
    else:
        found = read_frames(path)
    assert found.to_dict("list") == {"Stadt": ["Köln", "Zürich"], "n": [1, 2]}


def test_a_byte_that_is_no_utf_8_far_down_is_named(tmp_path):
    text = "Stadt,n\n" + "Bonn,1\n" * 30_000 + "Köln,2\n"
    with pytest.raises(DataError, match=r"must be UTF-8, but is not .* Give `reading: {encoding"):
        read_frames(written(tmp_path, text.encode("cp1252")))
    found = read_frames(tmp_path / "t.csv", reading={"encoding": "latin-1"})
    assert found["Stadt"].iloc[-1] == "Köln"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04\x14\0", "a zip archive or an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel workbook of an old kind"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"a,b\n1,\x00\x01\x02\n" + bytes(range(1, 255)), "bytes of 0"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, kind):
    with pytest.raises(DataError, match=f"must be text, but (is|has) {kind}"):
        read_frames(written(tmp_path, content))
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
        archive.writestr("b.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match="must hold one table, but holds 2"):
        read_frames(tmp_path / "t.csv.zip")


@pytest.mark.parametrize("length", [131_073, 3_000_000])
def test_long_fields(tmp_path, length):
    text = "x" * length
    found = read_frames(written(tmp_path, f"a;b\n1;{text}\n2;y\n"))
    assert found["a"].tolist() == [1, 2]
    assert found["b"].tolist() == [text, "y"]


def test_what_options_cannot_be():
    for options, message in (
        ({"decimal": ",,"}, "`decimal` must be one character"),
        ({"decimal": ",", "thousands": ","}, "must differ"),
        ({"text": "zip"}, "`text` must be a list of texts, got 'zip'"),
        ({"header": ["a", "a"]}, "must name each column once"),
        ({"separator": ""}, "must be a character"),
    ):
        with pytest.raises(ValueError, match=message):
            Reading(**options)


FIELDS = st.text(st.sampled_from('ab,;\n" é0.'), max_size=6)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(FIELDS, FIELDS, FIELDS), min_size=1, max_size=6), st.sampled_from(",;\t|")
)
def test_every_field_of_text_is_that_of_the_csv_module(tmp_path_factory, table, separator):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("one", "two", "three"), *table])
    path = tmp_path_factory.mktemp("fields") / "t.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8")
    found = read_frames(path, reading={"text": ["one", "two", "three"]})
    expected = [[field or None for field in row] for row in table]
    assert rows(found) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["7", "8", "8"], [7, 8, 8]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["1E3", "1000", "1"], ["1E3", "1000", "1"]),
        (
            ["12345678901234567", None, "12345678901234568"],
            [12345678901234567, None, 12345678901234568],
        ),
        (["7.0", None, "8.5"], [7.0, None, 8.5]),
        (["True", None, "FALSE"], [True, None, False]),
        (["a", "7", None], ["a", "7", None]),
        (["-1", "0", "10"], [-1, 0, 10]),
        (["1.10", "1.1", "2"], ["1.10", "1.1", "2"]),
        (["1.50", "1.25", "2"], [1.5, 1.25, 2.0]),
        (["1", "1.0", "2.5"], [1.0, 1.0, 2.5]),
    ],
)
def test_categories_are_numbers_where_that_loses_nothing(tmp_path, words, expected):
    text = "\n".join(["c", *(word or '""' for word in words), "\n"])
    found, _ = read_files([written(tmp_path, text)], Reading(), Roles(codes=["c"]))
    column = found["c"].astype(object)
    assert column.where(column.notna(), None).tolist() == expected
    column = numbers_of(pd.Series(words, dtype=object)).astype(object)
    assert column.where(column.notna(), None).tolist() == expected


@pytest.mark.parametrize("codes", [["1.000", "1", "2"], ["1.000", "x", "1"]])
def test_categories_have_the_marks_of_other_numbers(tmp_path, codes):
    text = "\n".join(["c;x", *(f"{code};1,5" for code in codes), ""])
    reading = Reading(decimal=",", thousands=".")
    learned, _ = read_files([written(tmp_path, text)], reading, Roles(codes=["c"]))
    assert learned["c"].tolist() == (codes if "x" in codes else [1000, 1, 2])

    later, _ = read_files([written(tmp_path, text)], reading, Roles(numbers=["c"]))
    assert later["c"].tolist() == [
        NO_CATEGORY if c == "x" else int(c.replace(".", "")) for c in codes
    ]


def shops(zips, n=40):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"zip": np.resize(zips, n), "km": draw.normal(size=n)})
    return frame.assign(y=frame["km"] * 2)


def predicted(model, data, source, **options):
    loader = TabularDataModule.from_spec(
        model.spec, source, reading=data.reading, **options
    ).predict_dataloader()
    return next(model.eval()(batch[0]) for batch in loader).tolist()


@pytest.mark.parametrize(
    ("zips", "new"),
    [
        (["02139", "AB1", "73"], ["02139", "73", "AB1", "02139"]),
        (["NA", "0", "b"], ["0", "NA", "b", "0"]),
        (["12", "13", "14"], ["12", "AB1", "014", "14"]),
        (["True", "False", ""], ["True", "", "False", "True"]),
        (["0.5", "2", "3"], ["2", "x", "3.0", "0.5"]),
    ],
)
def test_a_row_of_a_file_is_predicted_the_same_whatever_rows_are_beside_it(tmp_path, zips, new):
    path = tmp_path / "train.csv"
    shops(zips).to_csv(path, index=False)
    data = TabularDataModule(path, TableColumns("y", ["zip"], ["km"]), cache="off")
    data.setup("fit")
    model = TabularRegressor(data.spec, network={"layers": [8], "dropout": 0.0})
    model.backbone.embeddings.tables[0].weight.data.normal_(0, 9)
    table = pd.DataFrame({"zip": new, "km": [0.1, 0.2, 0.3, 0.4]})
    table.to_csv(tmp_path / "all.csv", index=False)
    whole = predicted(model, data, tmp_path / "all.csv")
    for row in range(len(table)):
        table.iloc[[row]].to_csv(tmp_path / "one.csv", index=False)
        assert predicted(model, data, tmp_path / "one.csv") == pytest.approx(
            whole[row : row + 1], abs=1e-6
        )
    assert len({round(number, 4) for number in whole}) > 2


def test_a_frame_and_a_file_of_the_same_text_have_one_spec(tmp_path):
    # Few digits, which every reader of text rounds alike.
    table = shops(["NA", "None", "007"]).round(3)
    table.to_csv(tmp_path / "t.csv", index=False)
    columns, reading = TableColumns("y", ["zip"], ["km"]), {"text": ["zip"]}
    specs = []
    for source in (tmp_path / "t.csv", table):
        data = TabularDataModule(source, columns, reading=reading, cache="off")
        data.setup("fit")
        specs.append(data.spec)
    assert specs[0] == specs[1]
    assert specs[0].category_columns[0].values == ("007", "NA", "None")


def test_a_file_is_predicted_as_the_frame_of_the_training_whose_categories_are_words_for_gaps(
    tmp_path,
):
    table = shops(["NA", "None", "b"]).assign(late=["NA", "no"] * 20)
    table.to_csv(tmp_path / "t.csv", index=False)
    columns = TableColumns("late", ["zip"], ["km"], task="classes")
    data = TabularDataModule(table, columns, cache="off")
    data.setup("fit")
    later = TabularDataModule.from_spec(data.spec, tmp_path / "t.csv")
    (inputs, targets), *_ = later.test_dataloader()
    assert inputs.codes[:4, 0].tolist() == [1, 2, 3, 1]
    assert targets[:4].tolist() == [0, 1, 0, 1]


def test_text_columns_that_are_not_there_are_named(tmp_path) -> None:
    rows = pd.DataFrame({"zip": ["007", "012"] * 10, "y": range(20)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    columns = TableColumns("y", ["zip"])
    for source in (rows, tmp_path / "rows.csv"):
        data = TabularDataModule(source, columns, reading={"text": ["zipp"]}, cache="off")
        with pytest.raises(DataError, match=r"`reading\.text` must have one column 'zipp'"):
            data.setup("fit")
