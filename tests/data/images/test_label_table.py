"""Tables of labels are read in any dialect, and wrong rows are named."""

import pandas as pd
import pytest

from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    FoldSplit,
    GroupSplit,
    RowSplit,
)
from lightning_fastrecipes.data.images.drawn_splits import draw_splits
from lightning_fastrecipes.data.images.label_table import (
    LabelTable,
    Numbers,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import DataError, DataNotFoundError

SOFT = {"labels": SoftLabels(["intact", "broken"], "p")}


def write(folder, text, name="labels.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("file,label\nb.png,x\na.png,y\n", {}, id="commas"),
        pytest.param("file\tlabel\nb.png\tx\na.png\ty\n", {}, id="tabs"),
        pytest.param("file;label\nb.png;x\na.png;y\n", {}, id="semicolons"),
        pytest.param("file   label\nb.png  x\na.png      y\n", {}, id="aligned-by-spaces"),
        pytest.param("\ufefffile,label\nb.png,x\na.png,y\n", {}, id="byte-order-mark"),
        pytest.param('file,label\n"b.png","x"\n"a.png","y"\n', {}, id="quoted"),
        pytest.param("b.png x\na.png y\n", {"column_names": ["file", "label"]}, id="no-header"),
        pytest.param("file::label\nb.png::x\na.png::y\n", {"separator": "::"}, id="own-separator"),
        pytest.param(
            "n,image,kind\n1,b.png,x\n2,a.png,y\n",
            {"file_column": "image", "labels": "kind"},
            id="other-columns",
        ),
    ],
)
def test_any_dialect_gives_the_same_rows_sorted_by_file(tmp_path, text, options):
    listing = list_table(write(tmp_path, text), LabelTable(**options))

    assert listing.folder == tmp_path
    assert listing.rows.to_dict("list") == {
        "file": ["a.png", "b.png"],
        "split": ["train", "train"],
        "label": ["y", "x"],
        "stratum": ["y", "x"],
    }


def test_a_data_frame_serves_as_a_table(tmp_path):
    frame = pd.DataFrame({"file": ["a.png", "b.png"], "label": [1, 0]}, index=[7, 9])

    listing = list_table(frame, LabelTable(folder=str(tmp_path)))

    assert listing.folder == tmp_path
    assert listing.rows["label"].tolist() == ["1", "0"]


def test_labels_that_look_like_numbers_or_gaps_stay_names(tmp_path):
    listing = list_table(write(tmp_path, "file,label\na,007\nb,NA\nc,None\n"), LabelTable())

    assert listing.rows["label"].tolist() == ["007", "NA", "None"]


def test_a_split_column_gives_splits(tmp_path):
    text = "file,label,part\na,x,train\nb,x,valid\nc,x,val\nd,x,test\n"

    listing = list_table(write(tmp_path, text), LabelTable(), ColumnSplit("part"))

    assert listing.rows["split"].tolist() == ["train", "val", "val", "test"]


def test_one_probability_becomes_two_classes_and_ties_are_positive(tmp_path):
    listing = list_table(write(tmp_path, "file,p\nb,0.25\na,0.5\nc,0\n"), LabelTable(**SOFT))

    assert listing.classes == ["intact", "broken"]
    assert listing.probabilities.tolist() == [[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]
    assert listing.probabilities.dtype == "float32"
    assert listing.rows["label"].tolist() == ["broken", "intact", "intact"]


def test_a_column_per_class_becomes_probabilities(tmp_path):
    text = "file,cat,dog,bird\na,0.2,0.3,0.5\nb,1,0,0\n"

    listing = list_table(
        write(tmp_path, text), LabelTable(labels=SoftLabels(["bird", "cat", "dog"]))
    )

    assert listing.probabilities.tolist() == [
        pytest.approx([0.5, 0.2, 0.3]),
        pytest.approx([0.0, 1.0, 0.0]),
    ]


def test_strata_may_be_several_columns(tmp_path):
    text = "file,p,cell\na,0.3,mono\nb,0.3,poly\nc,0.3,mono\n"

    rows = list_table(write(tmp_path, text), LabelTable(**SOFT, stratify_by=["p", "cell"])).rows

    assert rows["stratum"][0] == rows["stratum"][2] != rows["stratum"][1]


@pytest.mark.parametrize(
    ("text", "labels", "found", "said"),
    [
        ("image,tags\na.jpg,sun sea\nb.jpg,sea\n", Tags(), ["sea\x1fsun", "sea"], "image tags"),
        (
            "Image,Class,is_valid,size\na.jpg,sun,0,3\nb.jpg,sea,1,4\n",
            "label",
            ["sun", "sea"],
            "Image Class",
        ),
        ("photo,kind\na,sun\nb,sea\n", SingleLabel(), ["sun", "sea"], "photo kind"),
        ("of,age\na.jpg,3\nb.jpg,4\n", Numbers(), ["", ""], "of age"),
        # Columns by these names are meant, whatever else there is.
        ("image,tags,file,label\nx.jpg,y,a,sun\nz.jpg,y,b,sea\n", "label", ["sun", "sea"], ""),
    ],
)
def test_columns_that_nobody_names_are_found(tmp_path, text, labels, found, said) -> None:
    listing = list_table(write(tmp_path, text), LabelTable(labels=labels))
    assert [name[0] for name in listing.rows["file"]] == ["a", "b"]
    assert listing.rows["label"].tolist() == found
    files, _, label = said.partition(" ")
    expected = f"columns are taken as they look: '{files}' for files, '{label}' for labels"
    assert listing.reading.partition(";")[0] == (expected if said else "")


def test_columns_are_found_in_a_table_for_each_split(tmp_path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        text = f"label,image\nsun,{split}1.jpg\nsea,{split}2.jpg\n"
        (tmp_path / split / "labels.csv").write_text(text)
    files = ["train/train1.jpg", "train/train2.jpg", "val/val1.jpg", "val/val2.jpg"]
    assert list_table(tmp_path, LabelTable()).rows["file"].tolist() == files
    tables = {split: tmp_path / split / "labels.csv" for split in ("train", "val")}
    assert list_table(tables, LabelTable()).rows["file"].tolist() == files


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        pytest.param(
            "file,kind,size\na,x,1\n",
            {},
            r"no column 'label'; it has 'file', 'kind', 'size'",
            id="column",
        ),
        pytest.param(
            "front,back,label\na.jpg,b.jpg,x\n",
            {},
            r"files of .* may be in 'front', 'back'\. .* as `--data.table.file_column=front`",
            id="several files",
        ),
        pytest.param(
            "file,tags,category\na,x,y\n",
            {},
            r"labels of .* may be in 'tags', 'category'\. .* as `--data.table.labels=tags`",
            id="several labels",
        ),
        pytest.param(
            "file,label\na,x\nb,\n",
            {},
            r"1 rows .* lack a value: 'b \(row 1\)'.*`labels=Tags\('label",
            id="no",
        ),
        pytest.param(
            "file,label\na,x\n./a,y\nb,x\n",
            {"labels": SingleLabel()},
            r"2 rows .* name an image twice: 'a \(row 0\)', './a \(row 1\)'\. Keep one, or give",
            id="duplicate",
        ),
        pytest.param(
            "file,label,part\na,x,train\nb,x,holdout\n",
            {"split": ColumnSplit("part")},
            r"unknown split in 'part', such as 'holdout': 'b \(row 1\)'\. Use train, val, valid, ",
            id="split",
        ),
        pytest.param(
            "file,p\na,0.5\nb,1.5\n", SOFT, r"no probabilities .*'b \(row 1\)'", id="above-1"
        ),
        pytest.param(
            "file,p\na,0.5\nb,high\n", SOFT, r"no probabilities .*'b \(row 1\)'", id="text"
        ),
        pytest.param(
            "file,cat,dog\na,0.5,0.5\nb,0.5,0.4\n",
            {"labels": SoftLabels(["cat", "dog"])},
            r"sum to 1: 'b \(row 1\)'",
            id="sum",
        ),
        pytest.param(
            "file,label\na,x\nb,x,y\n",
            {"separator": ","},
            "line 3 has 3 fields and there are 2. Mend it",
            id="ragged",
        ),
        pytest.param(
            "file,label\na,x\nb,x,y\nc,x\n",
            {},
            r"labels\.csv' must have no row .* line 3 has 3 fields and there are 2",
            id="ragged, of a separator that is found out",
        ),
        pytest.param(
            "file,label\na,x\nb,y\n\x1a\n", {}, r"lack a value: '.* \(row 2\)'", id="end of a file"
        ),
        pytest.param(
            'file,label\na,x\nb,"y\nc,x\nd,y\n',
            {},
            "',': .*EOF inside string",
            id="quote",
        ),
    ],
)
def test_wrong_rows_are_refused_and_named(tmp_path, text, options, message):
    path, options = write(tmp_path, text), dict(options)
    split = options.pop("split", None)

    with pytest.raises(DataError, match=message):
        list_table(path, LabelTable(**options), split)


def test_a_missing_table_or_folder_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match="`csv` must name something that exists"):
        list_table(tmp_path / "no.csv", LabelTable())
    path = write(tmp_path, "file,label\na,x\n")
    with pytest.raises(DataNotFoundError, match="`folder` must name something that exists"):
        list_table(path, LabelTable(folder=str(tmp_path / "no")))


def test_soft_labels_need_their_class_names():
    with pytest.raises(ValueError, match="`classes` must name two classes, negative and positive"):
        SoftLabels(["only", "three", "names"], "p")
    with pytest.raises(ValueError, match="`classes` must be two or more different names"):
        SoftLabels(["same", "same"])


def test_blanks_around_values_and_column_names_are_left_out(tmp_path):
    text = "file , label,part \na.png, x,train\nb.png ,x ,train \nc.png,y\u00a0, val\n"

    listing = list_table(write(tmp_path, text), LabelTable(), ColumnSplit("part"))

    assert listing.rows["label"].tolist() == ["x", "x", "y"]
    assert listing.rows["split"].tolist() == ["train", "train", "val"]
    assert listing.rows["file"].tolist() == ["a.png", "b.png", "c.png"]
    spaced = list_table(pd.DataFrame({" file": ["a"], " l ": ["x"]}), LabelTable(labels=" l "))
    assert spaced.rows["label"].tolist() == ["x"]
    with pytest.raises(DataError, match=r"lack a value: 'b \(row 1\)'"):
        list_table(pd.DataFrame({"file": ["a", "b"], "label": ["x", "  "]}), LabelTable())


@pytest.mark.parametrize("numbers", [[n / 7 for n in range(24)], [*range(24)]], ids=["", "whole"])
def test_a_target_of_regression_is_named_as_such(numbers):
    frame = pd.DataFrame({"file": [f"{n}.png" for n in range(24)], "label": numbers})

    with pytest.raises(DataError, match=r"holds 24 different numbers in 24 rows.* regression"):
        list_table(frame, LabelTable())
    said = list_table(frame, LabelTable(labels=SingleLabel()))
    assert said.rows["label"].nunique() == 24


@pytest.mark.parametrize(
    "labels",
    [[f"{n:03}" for n in range(24)], [0.5, 1.0, 1.5, 2.0] * 6, [*range(11)] * 3, ["1", "x"] * 12],
    ids=["codes", "grades", "many-classes", "not-all"],
)
def test_numbers_that_may_be_classes_are_classes(labels):
    files = [f"{n}.png" for n in range(len(labels))]
    listing = list_table(pd.DataFrame({"file": files, "label": labels}), LabelTable())
    assert (listing.label_kind, listing.rows["label"].nunique()) == ("single", len({*labels}))


@pytest.mark.parametrize(
    ("labels", "is_said"),
    [
        ([20, 30, 40, 60] * 6, True),
        ([*range(20, 60)] * 6, True),
        ([0.5, 1.0, 1.5] * 8, True),
        ([0, 1, 2, 3] * 6, False),
        ([1, 2, 3] * 8, False),
        ([20, 60] * 12, False),
        (["007", "012", "030"] * 8, False),
        (["20", "30", "x"] * 8, False),
    ],
)
def test_numbers_that_are_taken_for_classes_are_named(labels, is_said):
    files = [f"{n}.png" for n in range(len(labels))]
    frame = pd.DataFrame({"file": files, "age": labels})
    listing = list_table(frame, LabelTable(labels="age"))
    assert ("To predict the number, give `labels=Numbers('age')`" in listing.reading) == is_said
    said = list_table(frame, LabelTable(labels=SingleLabel("age")))
    assert "are taken for classes" not in said.reading


LONG = pd.DataFrame({"file": [*"baabcd"], "label": [*"yxyzxz"]})


def test_one_row_per_image_and_tag_becomes_one_row_per_image():
    listing = list_table(LONG, LabelTable())

    assert listing.label_kind == "multi"
    assert listing.rows[["file", "label"]].values.tolist() == [
        ["a", "x\x1fy"], ["b", "y\x1fz"], ["c", "x"], ["d", "z"],
    ]  # fmt: skip
    assert (
        listing.label_reason == "multi, since 2 of 4 images have several rows with different labels"
    )
    parts = LONG.assign(part=[*"tttvvt"]).replace({"part": {"t": "train", "v": "val"}})
    with pytest.raises(DataError, match=r"say another split of the same image: .*'b \(row 3\)'"):
        list_table(parts, LabelTable(), ColumnSplit("part"))
    parts.loc[3, "part"] = "train"
    rows = list_table(parts, LabelTable(), ColumnSplit("part")).rows
    assert rows["split"].tolist() == ["train", "train", "val", "train"]


def test_groups_and_strata_of_one_row_per_tag_are_kept():
    frame = LONG.assign(patient=[*"122134"])
    rows = list_table(frame, LabelTable(stratify_by=["patient"]), GroupSplit("patient")).rows
    assert rows["group"].tolist() == rows["stratum"].tolist() == [*"2134"]


@pytest.mark.parametrize(
    ("frame", "table"),
    [
        pytest.param(LONG, LabelTable(labels=SingleLabel()), id="one-label-is-said"),
        pytest.param(
            pd.DataFrame({"file": [*"aabc"], "label": [*"xxyx"]}), LabelTable(), id="same-row-twice"
        ),
        pytest.param(
            pd.DataFrame({"file": ["0", *map(str, range(40))], "label": ["y", *["x", "y"] * 20]}),
            LabelTable(),
            id="a-single-mistake",
        ),
        pytest.param(
            pd.DataFrame({"file": [*"aa"], "x": [0, 1], "y": [1, 0]}), LabelTable(), id="columns"
        ),
    ],
)
def test_an_image_that_is_named_twice_by_mistake_is_refused(frame, table):
    with pytest.raises(DataError, match="name an image twice"):
        list_table(frame, table)


def test_tags_that_are_meant_are_taken_from_all_rows():
    frame = pd.DataFrame({"file": [*"aabc"], "label": ["x", "x y", "y", None]})
    rows = list_table(frame, LabelTable(labels=Tags())).rows
    assert rows["label"].tolist() == ["x\x1fy", "y", ""]
    with pytest.raises(DataError, match="'Confidence' is 0, which say that the label is not there"):
        list_table(LONG.assign(Confidence=[1, 1, 0, 1, 1, 1]), LabelTable())


ROWS = "file,label,who\n" + "".join(f"{n}.png,{'xy'[n % 2]},{'abc'[n // 2]}\n" for n in range(6))


def test_lists_say_which_rows_of_a_table_are_in_which_split(tmp_path):
    csv = write(tmp_path, ROWS + "6.png,,c\n")  # a row without a label, which is in no list
    listing = list_table(csv, LabelTable(), RowSplit([0, 3, 5], [1, 2], [4]))

    assert listing.rows["split"].tolist() == ["train", "val", "val", "train", "test", "train"]
    assert listing.rows["file"].tolist() == [f"{n}.png" for n in range(6)]
    assert "1 of 7 rows are in no list and left out" in listing.reading
    named = list_table(write(tmp_path, ROWS), LabelTable(), RowSplit(val=["b"], column="who"))
    assert named.rows["split"].tolist() == ["train"] * 2 + ["val"] * 2 + ["train"] * 2
    groups = list_table(write(tmp_path, ROWS), LabelTable(), FoldSplit(column="who"))
    assert groups.rows["group"].tolist() == [*"aabbcc"]


def test_rows_that_lists_leave_in_keep_their_numbers_in_messages(tmp_path):
    csv = write(tmp_path, ROWS + "6.png,,c\n")
    with pytest.raises(DataError, match=r"'6.png \(row 6\)'"):
        list_table(csv, LabelTable(), RowSplit([2, 6], [1]))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (RowSplit(val=[6]), "numbered from 0, does not have: '6'"),
        (RowSplit(val=["d"], column="who"), "by the column 'who', does not have: 'd'"),
        (RowSplit(val=["d"], column="whom"), "has no column 'whom'"),
    ],
    ids=str,
)
def test_lists_of_rows_that_are_not_there_are_refused(tmp_path, split, message):
    with pytest.raises(DataError, match=message):
        list_table(write(tmp_path, ROWS), LabelTable(), split)


def test_lists_are_refused_where_rows_could_be_others(tmp_path):
    frame = pd.DataFrame({"file": ["a", "b"], "label": ["x", "y"]}, index=[1, 0])
    with pytest.raises(DataError, match="index of the frame has other labels"):
        list_table(frame, LabelTable(), RowSplit(val=[1]))
    twice = write(tmp_path, "file,label\na.png,x\nb.png,y\na.png,x\n")
    with pytest.raises(DataError, match="must name different images"):
        list_table(twice, LabelTable(), RowSplit(val=[2]))
    tables = {"train": write(tmp_path, ROWS), "val": write(tmp_path, ROWS, "b.csv")}
    with pytest.raises(DataError, match="lists rows, but there is one table per split"):
        list_table(tables, LabelTable(), RowSplit(val=[1]))


def test_groups_that_look_the_same_are_named(tmp_path) -> None:
    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": "x", "patient": ["P1", "p1 ", "q"]})
    split = GroupSplit("patient", val=0.4)
    listing = list_table(frame, LabelTable(folder=str(tmp_path)), split)
    with pytest.warns(UserWarning, match="'patient' has 'P1', 'p1' as different groups"):
        draw_splits(listing, split)


def test_a_table_in_another_encoding_says_how_to_read_it(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("file,label\na.png,Löwe\n".encode("cp1252"))
    with pytest.raises(
        DataError, match=r"must be UTF-8, but is not .* 'a.png,Löwe'\. Give `encoding='cp1252'` of"
    ):
        list_table(path, LabelTable())
    for csv in (path, {"train": path}):
        rows = list_table(csv, LabelTable(encoding="cp1252")).rows
        assert rows["label"].tolist() == ["Löwe"]
    with pytest.raises(DataError, match="`encoding` must be one of text that Python knows"):
        LabelTable(encoding="zlib")
    (tmp_path / "labels.csv").write_bytes("\ufefffile;label\na.png;Löwe\n".encode())
    assert list_table(tmp_path / "labels.csv", LabelTable()).rows["label"].tolist() == ["Löwe"]


def test_a_column_that_is_there_twice_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="must have each column once, but has 'label' more than"):
        list_table(write(tmp_path, "file,label,label\na.png,x,y\n"), LabelTable())
    for text in ("file,label, label\na.png,x,y\n", "file, label,label\na.png,x,y\n"):
        with pytest.raises(DataError, match="but has 'label' again with blanks"):
            list_table(write(tmp_path, text), LabelTable())
    unused = "file,label,note, note\na.png,x,y,z\n"
    assert list_table(write(tmp_path, unused), LabelTable()).rows["label"].tolist() == ["x"]


def test_an_empty_table_is_called_so(tmp_path):
    (tmp_path / "labels.csv").write_text(" \n")
    with pytest.raises(DataError, match="must have rows, but is empty"):
        list_table(tmp_path / "labels.csv", LabelTable())
