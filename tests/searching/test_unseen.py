"""Rows on which the choice of a search is checked: which splits give some away, and how many."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.searches import write_table
from PIL import Image

from lightning_fastrecipes.data.common.split_choice import as_split
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.merging import searched_document
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import build_parts
from lightning_fastrecipes.searching.definition import define
from lightning_fastrecipes.searching.unseen import with_unseen

DAYS = {"column": "day", "val_from": "2014-08-01", "val_until": "2014-08-31"}


@pytest.mark.parametrize(
    ("split", "changed"),
    [
        (0.2, {"val": 0.1, "test": 0.1, "seed": 0}),
        (None, {"val": 0.1, "test": 0.1, "seed": 0}),
        ({"val": 0.4, "seed": 3}, {"val": 0.2, "test": 0.2, "seed": 3}),
        (
            {"column": "patient", "val": 0.2},
            {"column": "patient", "val": 0.1, "test": 0.1, "seed": 0},
        ),
        (
            {"fold": 1, "folds": 5, "column": "patient"},
            {"fold": 1, "folds": 5, "test": 0.1, "seed": 0, "column": "patient"},
        ),
        ("split", {"column": "split", "missing": {"val": 0.0, "test": 0.1}}),
        (
            {"column": "split", "missing": {"val": 0.2}},
            {"column": "split", "missing": {"val": 0.2, "test": 0.1, "seed": 0}},
        ),
        (
            {"column": "day", "val_last": 0.2},
            {"column": "day", "past_only": False, "val_last": 0.1, "test_last": 0.1,
             "gap_days": 0.0},
        ),
        (
            DAYS,
            {"column": "day", "val_from": "2014-08-01", "val_until": "2014-08-15",
             "test_from": "2014-08-16", "test_until": "2014-08-31", "past_only": False,
             "val_last": 0.0, "test_last": 0.0, "gap_days": 0.0},
        ),
        ({"column": "day", "val_from": "2014-08-01"}, None),
    ],
)  # fmt: skip
def test_half_of_what_is_validated_on_is_given_away(split, changed) -> None:
    found = with_unseen({"data": {"class_path": "a.B", "init_args": {"split": split}}})
    if changed is None:
        assert found is None
        return
    assert found["data"]["init_args"]["split"] == changed
    as_split(changed)


def test_lists_of_rows_are_divided() -> None:
    document = {"data": {"class_path": "a.B", "init_args": {"split": {"val": [*range(10)]}}}}
    split = with_unseen(document)["data"]["init_args"]["split"]
    assert len(split["val"]) == len(split["test"]) == 5
    assert sorted(split["val"] + split["test"]) == [*range(10)]
    as_split(split)


def unseen_of(recipe: Path, *overrides: str):
    place = Place(recipe)
    document, _ = searched_document(place, overrides)
    return define(document, place, 4)


def rows_of(definition, path: Path) -> dict[str, int]:
    recipe = definition.recipe(definition.values([0.5] * len(definition.ranges)), path)
    data, _ = build_parts(recipe)
    return {s: modality_of(recipe).num_samples(data, s) for s in ("train", "val", "test")}


def test_groups_stay_together_and_training_rows_stay(tmp_path: Path) -> None:
    recipe = write_table(tmp_path / "late")
    frame = pd.read_csv(tmp_path / "late/late.csv").assign(who=np.arange(240) // 6)
    frame.to_csv(tmp_path / "late/late.csv", index=False)
    found = unseen_of(recipe, "data.split={column: who, val: 0.4}")
    assert found.unseen.startswith("48 samples that were held out of the validation split")
    assert rows_of(found, recipe) == {"train": 144, "val": 48, "test": 48}


def test_a_folder_with_its_own_validation_gives_away_training_images(
    squares: Path, tmp_path: Path
) -> None:
    root = tmp_path / "own"
    for name in ("blue", "red"):
        for number, path in enumerate(sorted((squares / name).iterdir())):
            place = root / ("val" if number < 4 else "train") / name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(place)
    recipe = tmp_path / "squares.yaml"
    recipe.write_text(
        "description: Squares.\n"
        "data:\n  class_path: lightning_fastrecipes.ImageFolderDataModule\n"
        f"  init_args: {{root: {root}, image_size: 32}}\n"
        "model:\n  class_path: lightning_fastrecipes.ImageClassifier\n"
        "  init_args: {backbone: test_resnet.r160_in1k}\n"
        "stages:\n  all: {max_epochs: 2, lr: {log_uniform: [1e-4, 1e-1]}}\n"
    )
    found = unseen_of(recipe)
    assert "held out of the training split" in found.unseen
    assert rows_of(found, recipe) == {"train": 18, "val": 8, "test": 2}
    # Which dates are validated on is not known before the table is read, and stays as it is.
    table = write_table(tmp_path / "late")
    frame = pd.read_csv(tmp_path / "late/late.csv")
    frame["day"] = pd.date_range("2014-01-01", periods=len(frame)).astype(str)
    frame.to_csv(tmp_path / "late/late.csv", index=False)
    assert unseen_of(table, "data.split={column: day, val_from: 2014-07-01}").unseen == ""
