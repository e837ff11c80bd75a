"""Decisions of a report become a table of labels; images and old tables stay as they are."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images.label_table import (
    LabelTable,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.loading import load_recipe, modality_of
from lightning_fastrecipes.reporting.cleaning import Decision, _changed_labels, _clean_arrays, clean

HEADER = "file,split,given,action,label\n"


def write(path, *rows):
    path.write_text(HEADER + "".join(f"{','.join(row)}\n" for row in rows))
    return path


def test_a_folder_becomes_a_table_that_the_next_run_reads(run, evil, tmp_path, capsys) -> None:
    before = {
        path: path.read_bytes() for path in (run.parent / "images").rglob("*") if path.is_file()
    }
    relabelled, removed, kept = (f"{evil[0]}/{number}<b>.png" for number in (1, 2, 3))
    table = write(
        tmp_path / "relabel.csv",
        (relabelled, "train", evil[0], "relabel", evil[1]),
        (removed, "val", evil[0], "remove", ""),
        (kept, "test", evil[0], "unsure", ""),
    )
    assert main(["clean", str(run), "--apply", str(table)]) == 0
    said = capsys.readouterr().out
    assert "1 changed, 1 images left out, 1 as they were" in said
    assert f"Next: fastrecipes run {run / 'clean' / 'recipe.yaml'}" in said
    labels = pd.read_csv(run / "clean" / "labels.csv").set_index("file")["label"]
    assert len(labels) == 27
    assert labels[relabelled] == evil[1]
    assert labels[kept] == evil[0]
    assert removed not in labels
    # The next run has the same splits, but for what was taken out.
    old, _ = modality_of(load_recipe(run / "recipe.yaml")).build_parts(
        load_recipe(run / "recipe.yaml")
    )
    recipe = load_recipe(run / "clean" / "recipe.yaml")
    new, _ = modality_of(recipe).build_parts(recipe)
    for split in ("train", "val", "test"):
        expected = {file for file in old.eval_dataset(split).files if not file.endswith(removed)}
        assert set(new.eval_dataset(split).files) == expected
    assert new.classes == old.classes
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("no.png", "train", "", "remove", ""), "must be one of the run"),
        (("a.png", "train", "", "delete", ""), "`action` of 'a.png' must be one of"),
        (("a.png", "train", "", "relabel", "horse"), "label of 'a.png' must be one of"),
    ],
)
def test_what_is_no_decision_is_refused(run, tmp_path, row, message) -> None:
    with pytest.raises(DataError, match=message):
        clean(run, write(tmp_path / "relabel.csv", row))


def test_labels_are_written_through_no_link_out_of_the_run_folder(run, tmp_path) -> None:
    table = write(tmp_path / "relabel.csv")
    (tmp_path / "mine").mkdir()
    shutil.rmtree(run / "clean", ignore_errors=True)
    (run / "clean").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match=r"must lie in the run folder, but is a link to .*mine"):
        clean(run, table)
    assert not [*(tmp_path / "mine").iterdir()]
    (run / "clean").unlink()
    clean(run, table)


def test_another_table_is_refused(run, tmp_path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="must have the columns"):
        clean(run, tmp_path / "other.csv")


CHANGES = {
    "a": Decision("relabel", ("sea",)),
    "b": Decision("remove", ()),
    "c": Decision("relabel", ("sun", "sea")),
}


def changed(frame, labels, kind):
    data = SimpleNamespace(
        table=LabelTable(labels=labels), label_kind=kind, classes=["sea", "sky", "sun"]
    )
    keys = frame["file"]
    return _changed_labels(frame, keys, CHANGES, data.table, data).set_index("file")


@pytest.mark.parametrize("separator", [" ", ", ", ";"])
def test_tags_keep_their_way_of_writing(separator) -> None:
    values = ["sun", "sky", separator.join(["sky", "sun"]), "sky"]
    frame = pd.DataFrame({"file": list("abcd"), "label": values, "more": range(4)})
    found = changed(frame, "label", "multi")
    assert found["label"].to_dict() == {
        "a": "sea", "c": (separator.strip() or " ").join(["sun", "sea"]), "d": "sky"
    }  # fmt: skip
    assert found["more"].tolist() == [0, 2, 3]


def test_an_image_with_a_row_for_each_label_keeps_one() -> None:
    frame = pd.DataFrame({"file": list("aac"), "label": ["sky", "sun", "sky"]})
    found = changed(frame, Tags(separator=";"), "multi")
    assert found["label"].to_dict() == {"a": "sea", "c": "sun;sea"}


def test_columns_of_flags_and_probabilities() -> None:
    frame = pd.DataFrame({"file": list("abcd"), "sea": "0", "sky": "1", "sun": "0"})
    for labels, kind in (
        (Tags(columns=["sea", "sky", "sun"]), "multi"),
        (SingleLabel(one_hot=["sea", "sky", "sun"]), "single"),
        (SoftLabels(["sea", "sky", "sun"]), "soft"),
    ):
        found = changed(frame, labels, kind)
        assert found.loc["a"].tolist() == ["1", "0", "0"]
        assert found.loc["d"].tolist() == ["0", "1", "0"]
        assert "b" not in found.index
    frame = pd.DataFrame({"file": list("abcd"), "defect": "0.3"})
    found = changed(frame, SoftLabels(["sky", "sea"], probability_column="defect"), "soft")
    assert found["defect"].to_dict() == {"a": "1", "c": "1", "d": "0.3"}


def test_arrays_are_written_anew(tmp_path) -> None:
    source = tmp_path / "digits.npz"
    pixels = np.arange(6, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    np.savez(source, x_train=pixels, y_train=np.array([0, 1, 0, 1, 0, 1]))
    content = source.read_bytes()
    names = [f"/somewhere/train/{number}" for number in range(6)]
    split = SimpleNamespace(files=names, targets=np.array([0, 1, 0, 1, 0, 1]))
    nothing = SimpleNamespace(files=[], targets=np.array([]))
    data = SimpleNamespace(
        source=source, label_kind="single", classes=["0", "1"],
        eval_dataset=lambda name: split if name == "train" else nothing,
    )  # fmt: skip
    spec = SimpleNamespace(class_path="x.Y", init_args={"source": "old", "image_size": 4})
    run = SimpleNamespace(data=data, recipe=SimpleNamespace(data=spec))
    changes = {"train/1": Decision("relabel", ("0",)), "train/4": Decision("remove", ())}
    target, document = _clean_arrays(run, changes, tmp_path / "clean.npz")
    with np.load(target) as found:
        assert found["y_train"].tolist() == [0, 0, 0, 1, 1]
        assert found["x_train"][:, 0, 0].tolist() == [0, 1, 2, 3, 5]
    assert document["init_args"] == {"source": str(target), "image_size": 4}
    assert source.read_bytes() == content


def test_a_packed_table_that_is_damaged_is_named(run, tmp_path, capsys) -> None:
    path = tmp_path / "relabel.csv.gz"
    path.write_bytes(b"\x1f\x8bjunk")
    assert main(["clean", str(run), "--apply", str(path)]) == 1
    assert "must be a table, but is not" in capsys.readouterr().err
