"""Folds: every row is predicted by a model that has not seen it, and all predict together."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images import feature_cache
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.artifacts.kept_predictions import KeptPredictions, read_kept
from lightning_fastrecipes.recipe.images.export import predict_files
from lightning_fastrecipes.recipe.loading import load_recipe

OVERRIDES = ["--folds=3", "--stages.all.max_epochs=1", "--report=false"]


def table_recipe(folder: Path, split: dict, *, classes: bool) -> Path:
    """Write a table of 120 days and a recipe that trains on it in a second."""
    draw = np.random.default_rng(0)
    shops = draw.integers(1, 6, 120)
    frame = pd.DataFrame(
        {
            "Date": pd.date_range("2020-01-01", periods=120).strftime("%Y-%m-%d"),
            "Shop": shops,
            "Owner": draw.integers(0, 20, 120),
            "Km": draw.uniform(1, 9, 120).round(2),
            "Kind": np.where(draw.random(120) < 0.1, "rare", "usual"),
        }
    )
    frame["Sales"] = (100.0 * shops + 10 * frame["Km"]).round(2)
    folder.mkdir(parents=True)
    frame.to_csv(folder / "sales.csv", index=False)
    target = {"target": "Kind", "task": "classes"} if classes else {"target": "Sales"}
    name = "TabularClassifier" if classes else "TabularRegressor"
    columns = {"categorical": ["Shop"], "continuous": ["Km"], **target}
    network = {"layers": [8], "dropout": 0.0, "embedding_dropout": 0.0}
    document = {
        "description": "Sales.",
        "folds": 4,
        "report": False,
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "sales.csv"), "columns": columns, "split": split,
                "batch_size": 16,
            },
        },
        "model": {
            "class_path": f"lightning_fastrecipes.{name}", "init_args": {"network": network}
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {"all": {"max_epochs": 2, "lr": 0.02}},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def assert_means(results: dict) -> None:
    """Check means and their errors by the metrics of each fold."""
    alone = results["members"]["val"]
    assert set(alone) == {f"fold-{number}" for number in range(results["folds"])}
    for name, value in results["val"].items():
        each = [metrics[name] for metrics in alone.values()]
        assert value == pytest.approx(np.mean(each))
        error = results["standard_errors"]["val"][name]
        assert error == pytest.approx(np.std(each, ddof=1) / len(each) ** 0.5)


def test_a_class_that_one_fold_does_not_train_on_is_told_before_the_first(tmp_path, capsys) -> None:
    path = table_recipe(tmp_path / "new", {"column": "Date", "val_last": 0.2}, classes=True)
    table = path.with_name("sales.csv")
    frame = pd.read_csv(table)
    frame.loc[frame.index[-3:], "Kind"] = "new"
    frame.to_csv(table, index=False)
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) != 0
    said = capsys.readouterr()
    assert "must be one of the training classes 'rare', 'usual', but is 'new'" in said.err
    assert "Stage all" not in said.out


def test_every_image_is_predicted_once_by_a_model_that_has_not_seen_it(
    recipe_file, tmp_path, capsys
) -> None:
    folder = tmp_path / "run"
    views = "--evaluation.tta={preset: flips}"
    assert main(["run", str(recipe_file), "--out", str(folder), *OVERRIDES, views]) == 0
    results = results_of(folder)
    assert_means(results)
    said = capsys.readouterr().out
    assert "tiny, fold-2: Squares." in said
    assert " +- " in said
    assert main(["report", str(folder)]) == 0
    assert "this run has 3 folds; the report of a fold" in (folder / "report.html").read_text()
    predicted = pd.read_csv(folder / "predictions_val.csv")
    tested = pd.read_csv(folder / "predictions_test.csv")
    assert Counter(predicted["file"]).most_common(1)[0][1] == 1
    root = Path(yaml.safe_load(recipe_file.read_text())["data"]["init_args"]["root"])
    files = {str(path) for path in root.rglob("*.png")}
    assert set(predicted["file"]) | set(tested["file"]) == files
    assert not set(predicted["file"]) & set(tested["file"])
    for number in range(3):
        own = pd.read_csv(folder / f"fold-{number}" / "predictions_val.csv")
        rows = predicted[predicted["fold"] == number].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, own)
    right = (predicted["prediction"] == predicted["target"]).mean()
    assert results["out_of_fold"]["accuracy_tta"] == pytest.approx(right)

    # The test split is predicted by the mean of all models, as the export does.
    members = [pd.read_csv(folder / f"fold-{n}" / "predictions_test.csv") for n in range(3)]
    classes = [name for name in ("blue", "red") if name in tested]
    mean = sum(one[classes] for one in members) / 3
    np.testing.assert_allclose(tested[classes], mean, atol=2e-6)
    found, _ = predict_files(folder, [Path(file) for file in tested["file"]])
    np.testing.assert_allclose(found[classes], tested[classes], atol=2e-6)


@pytest.mark.parametrize(
    ("split", "classes"),
    [({"val": 0.2, "test": 0.1}, True), ({"val": 0.2}, True), ({"val": 0.2, "test": 0.1}, False)],
)
def test_tables_have_folds_of_their_own_encoding(split, classes, tmp_path, capsys) -> None:
    path = table_recipe(tmp_path / "table", split, classes=classes)
    folder = tmp_path / "run"
    assert main(["run", str(path), "--out", str(folder)]) == 0
    results = results_of(folder)
    assert_means(results)
    predicted = pd.read_csv(folder / "predictions_val.csv")
    num_tested = 12 if "test" in split else 0
    assert len(predicted) == 120 - num_tested
    if classes:
        # Every fold has the same mix of classes.
        rare = predicted[predicted["target"] == "rare"].groupby("fold").size()
        assert rare.max() - rare.min() <= 1
        right = (predicted["prediction"] == predicted["target"]).mean()
        assert results["out_of_fold"]["accuracy"] == pytest.approx(right)
    else:
        rmse = ((predicted["prediction"] - predicted["target"]) ** 2).mean() ** 0.5
        assert results["out_of_fold"]["rmse"] == pytest.approx(rmse, rel=1e-5)
        assert "loss" not in results["out_of_fold"]
    said = capsys.readouterr().out
    if not num_tested:
        assert results["test"] == {}
        assert "Mean of 4 folds, 120 samples: accuracy" in said
        assert " +- " in said
        return
    tested = pd.read_csv(folder / "predictions_test.csv")
    assert len(tested) == num_tested
    sales = pd.read_csv(tmp_path / "table" / "sales.csv")
    rows = sales.drop(columns=["Kind", "Sales"]).iloc[tested["row"]]
    rows.to_csv(tmp_path / "new.csv", index=False)
    new, out = tmp_path / "new.csv", tmp_path / "p.csv"
    assert main(["predict", str(folder), str(new), "--out", str(out)]) == 0
    again = pd.read_csv(out)
    shown = "usual" if classes else "prediction"
    np.testing.assert_allclose(again[shown], tested[shown], rtol=1e-4)


def test_the_record_of_continued_folds_shows_both_parts(tmp_path) -> None:
    path = table_recipe(tmp_path / "table", {"val": 0.2}, classes=True)
    folder = tmp_path / "run"
    assert main(["run", str(path), "--out", str(folder), "--report=false"]) == 0
    before = results_of(folder)
    assert main(["run", "--continue", str(folder), "--stages.all.max_epochs=3"]) == 0
    after = results_of(folder)
    assert [part["epochs"] for part in after["parts"]] == [{"all": 2}, {"all": 1}]
    assert [part["val"] for part in after["parts"]] == [before["val"], after["val"]]
    assert before["val"] != after["val"]


def test_folds_follow_one_another_in_time(tmp_path) -> None:
    split = {"column": "Date", "val_last": 0.2, "test_last": 0.2}
    path, folder = table_recipe(tmp_path / "t", split, classes=False), tmp_path / "run"
    assert main(["run", str(path), "--out", str(folder)]) == 0
    dates = pd.read_csv(tmp_path / "t" / "sales.csv")["Date"]
    predicted = pd.read_csv(folder / "predictions_val.csv")
    tested = pd.read_csv(folder / "predictions_test.csv")
    ends = []
    for number in range(4):
        mine = dates.iloc[predicted[predicted["fold"] == number]["row"]]
        ends.append((mine.min(), mine.max()))
    assert ends == sorted(ends)
    assert all(one[1] < two[0] for one, two in pairwise(ends))
    assert ends[-1][1] < dates.iloc[tested["row"]].min()
    # Only what lies before a fold is trained on.
    counts = [results_of(folder / f"fold-{number}") for number in range(4)]
    assert [one["baselines"]["val"]["samples"] for one in counts] == pytest.approx([19] * 4, abs=1)


def test_whole_groups_lie_in_one_fold(tmp_path) -> None:
    split = {"column": "Owner", "val": 0.2, "test": 0.1}
    path, folder = table_recipe(tmp_path / "t", split, classes=True), tmp_path / "run"
    assert main(["run", str(path), "--out", str(folder)]) == 0
    owners = pd.read_csv(tmp_path / "t" / "sales.csv")["Owner"]
    predicted = pd.read_csv(folder / "predictions_val.csv")
    homes = pd.Series(owners.iloc[predicted["row"]].to_numpy()).groupby(predicted["fold"])
    owned = [set(found) for _, found in homes]
    assert not set.intersection(*owned)
    assert sum(map(len, owned)) == len(set.union(*owned))


def test_an_interrupted_run_of_folds_goes_on_and_ends_with_the_same_bits(
    tmp_path, monkeypatch
) -> None:
    from lightning_fastrecipes.recipe.run.runner import Run

    path = table_recipe(tmp_path / "t", {"val": 0.2, "test": 0.1}, classes=True)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(["run", str(path), "--out", str(whole)]) == 0
    train, seen = Run.run_stage, []

    def interrupted(self, index):
        seen.append(self.folder.path.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return train(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "run_stage", interrupted)
        assert main(["run", str(path), "--out", str(stopped)]) == 130
    assert seen == ["fold-0", "fold-1", "fold-2"]
    assert main(["run", "--resume", str(stopped)]) == 0
    for name in ("predictions_val.csv", "predictions_test.csv"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    ours, theirs = results_of(stopped), results_of(whole)
    for key in ("val", "test", "out_of_fold", "standard_errors"):
        assert ours[key] == theirs[key]
    assert main(["run", "--resume", str(stopped)]) == 0

    # A fold that is run by itself keeps its predictions, too; the run makes up for what is lost.
    (stopped / "fold-2" / "predictions_val.safetensors").unlink()
    (stopped / "fold-2" / "results.json").unlink()
    assert main(["run", "--resume", str(stopped / "fold-2")]) == 0
    assert (stopped / "fold-2" / "predictions_val.safetensors").is_file()
    (stopped / "fold-1" / "predictions_val.safetensors").unlink()
    (stopped / "results.json").unlink()
    assert main(["run", "--resume", str(stopped)]) == 0
    assert results_of(stopped)["out_of_fold"] == theirs["out_of_fold"]
    # The temperature of one model is not that of the mean of several.
    assert "temperature" not in json.loads((stopped / "export" / "ensemble.json").read_text())


def test_damaged_files_of_a_fold_are_named(tmp_path, capsys) -> None:
    path = table_recipe(tmp_path / "t", {"val": 0.2, "test": 0.1}, classes=True)
    whole = tmp_path / "whole"
    assert main(["run", str(path), "--out", str(whole), *OVERRIDES]) == 0
    (whole / "results.json").unlink()
    fold = whole / "fold-1"

    def resumed() -> str:
        capsys.readouterr()
        assert main(["run", "--resume", str(whole)]) == 1
        return capsys.readouterr().err

    def rewritten(split: str, **shapes: tuple[int, ...]) -> None:
        made = {name: torch.zeros(shape) for name, shape in shapes.items()}
        KeptPredictions(**made).write(fold, split)

    known = {split: vars(read_kept(fold, split)) for split in ("val", "test")}
    kept = fold / "predictions_val.safetensors"
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "fold-1/predictions_val.safetensors must hold what was written" in resumed()
    rewritten("val", plain=(9, 7), merged=(9, 7), targets=(9,))
    assert "fold-1/predictions_val.safetensors must fit what the first fold" in resumed()
    KeptPredictions(**known["val"]).write(fold, "val")
    rewritten("test", plain=(2, 2), merged=(2, 2), targets=(2,))
    assert "fold-1/predictions_test.safetensors must fit what the first fold" in resumed()
    KeptPredictions(**known["test"]).write(fold, "test")
    for damaged in (b"", b"\xff\xfe\x00", b"a,b\n" + b"x" * 200_000):
        (fold / "predictions_val.csv").write_bytes(damaged)
        assert "fold-1/predictions_val.csv cannot be read" in resumed()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["folds=1"], "folds: must be at least 2, or 0 for none, but is 1"),
        (["folds=-3"], "folds: must be at least 2"),
        (["folds=3", "seeds=2"], "3 folds are of 3 models already, so `seeds` must be left out"),
        (["folds=3", "evaluation.splits=[test]"], "leaves `val` out"),
        (["folds=3", "data.split=is_valid"], "draw the rows to validate on, but `split` names"),
        (
            ["folds=3", "data.split={column: day, val_from: 2014-08-01}"],
            "draw the rows to validate on, but `split` names",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused(recipe_file, overrides, said) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe_file, overrides)


def test_there_is_a_sample_for_each_fold(tmp_path, capsys) -> None:
    path = table_recipe(tmp_path / "t", {}, classes=True)
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--folds=121"]) == 2
    assert "folds: must be at most 120, one for each sample" in capsys.readouterr().err


def test_images_of_one_class_are_called_so(recipe_file, tmp_path, capsys) -> None:
    for index in range(8):
        (tmp_path / "one" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (index * 9, 0, 0)).save(tmp_path / "one" / "a" / f"{index}.png")
    words = ["explain", str(recipe_file), f"--data.root={tmp_path / 'one'}"]
    assert main(words) == 1
    assert "must be of two classes or more, but all are of 'a'" in capsys.readouterr().err


def test_data_with_images_to_validate_on_have_no_folds(recipe_file, tmp_path, capsys) -> None:
    document = yaml.safe_load(recipe_file.read_text())
    root = tmp_path / "split"
    for split in ("train", "val"):
        for number, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for index in range(6):
                image = Image.new("RGB", (24, 24), (number * 90, index * 9, len(split)))
                image.save(root / split / name / f"{index}.png")
    document["data"]["init_args"] |= {"root": str(root)}
    recipe_file.write_text(yaml.safe_dump(document))
    assert main(["run", str(recipe_file), "--out", str(tmp_path / "run"), "--folds=3"]) == 1
    assert "the data bring images to validate on" in capsys.readouterr().err


def test_frozen_features_are_computed_once_for_all_folds(
    recipe_file, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "cache"))
    computed: list[int] = []
    keep = feature_cache.rounded

    def counting(batch, shape):
        computed.append(len(batch))
        return keep(batch, shape)

    monkeypatch.setattr(feature_cache, "rounded", counting)
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"] = {"head": document["stages"][0]}
    del document["stages"]["head"]["name"]
    recipe_file.write_text(yaml.safe_dump(document, sort_keys=False))
    run = ["run", str(recipe_file), "--folds=4", "--report=false", "--out"]
    assert main([*run, str(tmp_path / "run")]) == 0
    num_images = len(pd.read_csv(tmp_path / "run" / "predictions_val.csv"))
    # Once decoded as images to train on, and once as those to validate on.
    assert sum(computed) == 2 * num_images

    # The features of a fold are those of a run that computes only them.
    alone = tmp_path / "alone"
    split = "--data.split={fold: 1, folds: 4, test: 0.25}"
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "other"))
    assert main([*run[:2], split, "--report=false", "--out", str(alone)]) == 0
    weights = [
        (path / "export" / "model.safetensors").read_bytes()
        for path in (alone, tmp_path / "run" / "fold-1")
    ]
    assert weights[0] == weights[1]
