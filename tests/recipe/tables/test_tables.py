"""Recipes whose data is a table: everything that a recipe for images can, and what differs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from helpers.runs import continue_run

import lightning_fastrecipes as fr
from lightning_fastrecipes import TabularDataModule, TabularRegressor
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.tables.steps import parse_steps
from lightning_fastrecipes.errors import DataError, DataNotFoundError, RecipeError
from lightning_fastrecipes.functional.labels.calibration import at_temperature, fit_temperature
from lightning_fastrecipes.recipe.loading import load_recipe, modality_of_export
from lightning_fastrecipes.recipe.run.plan import build_parts
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.recipe.run.series import Series
from lightning_fastrecipes.recipe.tables.export import _with_side_tables, load_table_export

NUM_ROWS = 120


def predict_paths(folders: list[Path], paths: list[Path]):
    return modality_of_export(folders[0]).predict(folders, paths, tta=None)


def write_tables(folder: Path) -> Path:
    """Write sales of shops by day, and a side table of the shops."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    shops = draw.integers(1, 6, NUM_ROWS)
    km = draw.uniform(1, 9, NUM_ROWS).round(2)
    frame = pd.DataFrame(
        {
            "Date": pd.date_range("2020-01-01", periods=NUM_ROWS).strftime("%Y-%m-%d"),
            "Shop": shops,
            "Km": np.where(draw.random(NUM_ROWS) < 0.1, np.nan, km),
            "Noise": draw.normal(size=NUM_ROWS).round(3),
            "Sales": (100.0 * shops + 10 * km).round(2),
        }
    )
    frame["Kind"] = np.where(shops > 3, "big", "small")
    frame.to_csv(folder / "sales.csv", index=False)
    states = pd.DataFrame({"Shop": range(1, 6), "State": list("ABABA")})
    states.to_csv(folder / "shops.csv", index=False)
    return folder


def document(folder: Path) -> dict:
    """Return a recipe of two stages that trains in a second."""
    sgdr = {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 1}}
    return {
        "description": "Sales.",
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "sales.csv"),
                "columns": {
                    "target": "Sales",
                    "categorical": ["Shop", "State", "DayOfWeek"],
                    "continuous": ["Km", "Noise"],
                    "log_target": True,
                },
                "split": {"column": "Date", "val_last": 0.2, "test_last": 0.1},
                "steps": [
                    {"derive": {"Day": "@date(Date)", "DayOfWeek": "Day.dt.day_of_week"}},
                    {"join": {"table": "shops.csv", "keys": ["Shop"]}},
                ],
                "batch_size": 16,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.TabularRegressor",
            "init_args": {"network": {"layers": [16, 8], "dropout": 0.0, "embedding_dropout": 0.0}},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": [
            {"name": "top", "max_epochs": 1, "freeze_to": -1, "lr": 0.01, "batch_size": 8},
            {"name": "all", "max_epochs": 3, "lr": 0.02, "lr_ratio": 2, "callbacks": [sgdr]},
        ],
    }


def classes_document(folder: Path) -> dict:
    """Return the recipe with classes in place of numbers."""
    described = document(folder)
    columns = described["data"]["init_args"]["columns"]
    columns |= {"target": "Kind", "task": "classes", "log_target": False}
    described["model"]["class_path"] = "lightning_fastrecipes.TabularClassifier"
    return described


def write(described: dict, folder: Path) -> Path:
    path = folder / "shops" / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables")


@pytest.fixture
def recipe_file(tables: Path, tmp_path: Path) -> Path:
    return write(document(tables), tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One whole run that no test may change."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRECIPES_CACHE", str(folder / "cache"))
        path = write(document(write_tables(folder / "tables")), folder)
        return run(path, folder / "run")


def run(path: Path, folder: Path, *overrides: str, resume: bool = False, stop=None) -> Run:
    """Run all stages, or those before ``stop``."""
    job = Run(load_recipe(path, overrides), folder, resume=resume, show_progress=False)
    for index in range(len(job.prepare()))[:stop]:
        job.run_stage(index)
    if stop is None:
        job.finish()
    return job


def test_a_run_fills_its_folder(whole: Run) -> None:
    folder = whole.folder.path
    for name in [
        "recipe.yaml", "metrics.csv", "results.json", "curves.png", "table_report.txt",
        "checkpoints/top.ckpt", "checkpoints/all.ckpt", "export/model.safetensors",
        "export/model.json", "predictions_val.csv", "predictions_test.csv", "importance.csv",
        "importance.png", "embeddings.png", "embeddings/00_Shop.csv", "embeddings/01_State.csv",
        "predictions_val.png", "predictions_test.png",
    ]:  # fmt: skip
        assert (folder / name).is_file(), name
    results = json.loads(whole.folder.results.read_text())
    assert [stage["batch_size"] for stage in results["stages"]] == [8, 16]
    assert all(stage["rows_per_second"] > 0 for stage in results["stages"])
    assert set(results["val"]) == {"loss", "mae", "rmse", "rmspe"}
    assert "120 of 120 rows found their row" in (folder / "table_report.txt").read_text()


def test_predictions_are_those_that_were_measured_and_name_their_rows(whole: Run) -> None:
    folder = whole.folder.path
    sales = pd.read_csv(folder.parent / "tables" / "sales.csv")
    for split, rows in (("val", range(84, 108)), ("test", range(108, 120))):
        table = pd.read_csv(folder / f"predictions_{split}.csv")
        assert table.columns.tolist() == ["row", "target", "prediction"]
        assert table["row"].tolist() == list(rows)
        # As in the user's table, whatever the logarithm has lost.
        assert table["target"].tolist() == sales["Sales"][rows].tolist()
        shares = table["prediction"] / table["target"] - 1
        measured = json.loads(whole.folder.results.read_text())[split]["rmspe"]
        assert measured == pytest.approx((shares**2).mean() ** 0.5, rel=1e-4)


def test_the_export_predicts_what_was_measured_without_the_target(whole: Run, tmp_path) -> None:
    folder = whole.folder.path
    rows = pd.read_csv(folder.parent / "tables" / "sales.csv").iloc[108:]
    rows.drop(columns="Sales").to_csv(tmp_path / "without.csv", index=False)
    rows.assign(Sales="not for sale").to_csv(tmp_path / "nonsense.csv", index=False)
    expected = pd.read_csv(folder / "predictions_test.csv")["prediction"]
    for name in ("without.csv", "nonsense.csv"):
        found = predict_paths([folder], [tmp_path / name]).table
        assert found["row"].tolist() == list(range(12))
        assert found["prediction"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_predictions_name_file_and_row_where_some_rows_are_left_out(tables: Path, tmp_path) -> None:
    sales = pd.read_csv(tables / "sales.csv")
    for name, part in (("old", sales[:100]), ("new", sales[100:])):
        part.to_csv(tables / f"{name}.csv", index=False)
    described = document(tables)
    files = [str(tables / "old.csv"), str(tables / "new.csv")]
    described["data"]["init_args"] |= {"source": files, "where": "Noise < 1"}
    described["stages"] = described["stages"][:1]
    run(write(described, tmp_path), tmp_path / "run")
    for split, expected in (("val", {"old.csv", "new.csv"}), ("test", {"new.csv"})):
        table = pd.read_csv(tmp_path / "run" / f"predictions_{split}.csv")
        assert table.columns.tolist() == ["file", "row", "target", "prediction"]
        assert set(table["file"]) == expected
        for file, rows in table.groupby("file"):
            found = pd.read_csv(tables / file).loc[rows["row"]]
            assert found["Sales"].tolist() == pytest.approx(rows["target"].tolist(), rel=1e-5)
            assert (found["Noise"] < 1).all()


def test_several_tables_are_predicted_one_below_the_other(whole: Run, tmp_path: Path) -> None:
    rows = pd.read_csv(whole.folder.path.parent / "tables" / "sales.csv").iloc[108:]
    for name, part in (("a", rows[:5]), ("b", rows[5:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    expected = pd.read_csv(whole.folder.path / "predictions_test.csv")["prediction"].tolist()
    both = [tmp_path / "a.csv", tmp_path / "b.csv"]
    found = predict_paths([whole.folder.path], both).table
    assert found.columns.tolist() == ["file", "row", "prediction"]
    assert found["file"].tolist() == ["a.csv"] * 5 + ["b.csv"] * 7
    assert found["row"].tolist() == [*range(5), *range(7)]
    assert found["prediction"].tolist() == pytest.approx(expected, rel=1e-5)


def test_unknown_values_and_gaps_are_counted_on_the_command_line(
    whole: Run, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.read_csv(whole.folder.path.parent / "tables" / "sales.csv").iloc[:9]
    rows.assign(Shop=[99] * 3 + [1] * 6, Noise=[None] * 2 + [0.0] * 7).to_csv("new.csv")
    words = ["predict", str(whole.folder.path), "new.csv", "--out", "preds.csv"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "9 predictions written to preds.csv" in printed
    assert "values unknown to training: 'Shop' 3" in printed
    assert "'Noise' 2" in printed
    assert printed.count("missing in 3, such as those of (Shop=99).") == 1
    assert pd.read_csv("preds.csv")["prediction"].notna().all()
    assert main([*words, "--keep", "Noise", "--keep=Shop"]) == 0
    found = pd.read_csv("preds.csv")
    assert found.columns.tolist() == ["row", "Noise", "Shop", "prediction"]
    assert found["Shop"].tolist() == [99] * 3 + [1] * 6
    assert main([*words, "--keep", "nothing"]) == 1
    assert main([*words, "--tta"]) == 2
    assert "is for images" in capsys.readouterr().err


def describe(export: Path, **changes: object) -> None:
    """Change the description of an export by hand."""
    described = json.loads((export / "model.json").read_text()) | {"sha256": ..., **changes}
    described = {key: value for key, value in described.items() if value is not ...}
    (export / "model.json").write_text(json.dumps(described))


def test_side_tables_lie_in_the_export(whole: Run, tmp_path) -> None:
    export = Path(shutil.copytree(whole.folder.export, tmp_path / "moved" / "export"))
    home = whole.folder.path.parent / "tables"
    new = Path(shutil.copy(home / "sales.csv", tmp_path / "sales.csv"))
    expected = predict_paths([whole.folder.path], [home / "sales.csv"]).table
    describe(export, folder=str(tmp_path / "gone"))
    pd.testing.assert_frame_equal(predict_paths([export], [new]).table, expected)
    shops = export / "side_tables" / "shops.csv"
    shops.write_text(shops.read_text() + "\n")
    with pytest.raises(DataError, match=r"shops\.csv must hold what was exported"):
        predict_paths([export], [new])
    shops.unlink()
    with pytest.raises(DataNotFoundError, match=r"shops\.csv is missing"):
        predict_paths([export], [new])
    describe(export, files={})
    shutil.copy(home / "shops.csv", shops)
    with pytest.raises(DataError, match=r"must join tables that were exported .*shops\.csv"):
        predict_paths([export], [new])
    described = json.loads((export / "model.json").read_text())
    steps = json.loads(json.dumps(described["steps"]).replace("shops.csv", str(home / "shops.csv")))
    for files in ({}, {str(home / "shops.csv"): "0" * 64}):
        describe(export, steps=steps, files=files)
        with pytest.raises(DataError, match=r"must join tables|must name files of its folder"):
            predict_paths([export], [new])


def test_side_tables_of_elsewhere_are_copied_into_the_export(tables, tmp_path) -> None:
    home = tmp_path / "far" / "away"
    home.mkdir(parents=True)
    for name in ("shops.csv", "more.csv"):
        shutil.copy(tables / "shops.csv", home / name)
    joined = [str(home / "shops.csv"), "../far/away/m*.csv", ["shops.csv"]]
    found = parse_steps([{"join": {"table": table, "keys": "Shop"}} for table in joined])
    steps, files = _with_side_tables(found, tables, {})
    assert [step.table for step in steps] == [
        "elsewhere_0/shops.csv", "elsewhere_1/more.csv", ["shops.csv"],
    ]  # fmt: skip
    assert sorted(files) == [
        "side_tables/elsewhere_0/shops.csv",
        "side_tables/elsewhere_1/more.csv",
        "side_tables/shops.csv",
    ]
    assert all(path.is_file() for path in files.values())


def test_side_tables_of_earlier_exports_are_found_beside_the_rows_or_missed_by_name(
    whole: Run, tmp_path
) -> None:
    moved = Path(shutil.copytree(whole.folder.path, tmp_path / "moved"))
    describe(moved / "export", folder=str(tmp_path / "gone"), files=...)
    home = whole.folder.path.parent / "tables"
    (tmp_path / "new").mkdir()
    new = Path(shutil.copy(home / "sales.csv", tmp_path / "new" / "sales.csv"))
    with pytest.raises(DataNotFoundError, match=r"(?s)join side tables .*new.*shops\.csv"):
        predict_paths([moved], [new])
    shutil.copy(home / "shops.csv", tmp_path / "new" / "shops.csv")
    expected = predict_paths([whole.folder.path], [home / "sales.csv"]).table
    pd.testing.assert_frame_equal(predict_paths([moved], [new]).table, expected)


def test_two_runs_predict_their_mean(whole: Run, recipe_file: Path, tmp_path: Path) -> None:
    other = run(recipe_file, tmp_path / "other", "seed=1").folder.path
    table = [whole.folder.path.parent / "tables" / "sales.csv"]
    one, two, both = (
        predict_paths(folders, table).table["prediction"]
        for folders in ([whole.folder.path], [other], [whole.folder.path, other])
    )
    assert not np.allclose(one, two)
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-5)
    out = tmp_path / "out.csv"
    words = ["predict", str(whole.folder.path), *map(str, table), "--with", str(other)]
    assert main([*words, "--agreement", "--out", str(out)]) == 0
    apart = pd.read_csv(out)["deviation"]
    np.testing.assert_allclose(apart, (one - two).abs() / 2, rtol=1e-3, atol=1e-3)


def climb(path: Path, folder: Path) -> dict:
    def train(job: Run) -> dict:
        for index in range(len(job.prepare())):
            job.run_stage(index)
        return job.finish()

    series = Series(load_recipe(path), folder, show_progress=False)
    series.check()
    return series.run_all(train)


@pytest.mark.parametrize("described_by", [document, classes_document])
def test_models_of_several_seeds_predict_their_mean(tables, tmp_path, described_by) -> None:
    described = described_by(tables)
    described |= {"series": "cumulative", "variants": {"one": {}, "two": {"seeds": 2}}}
    results = climb(write(described, tmp_path), tmp_path / "run")
    one, two = (tmp_path / "run" / "variants" / name for name in ("one", "two"))
    members = [one, two / "seed-1"]  # the first was trained by the variant before
    merged = pd.read_csv(two / "predictions_test.csv")
    agreement = "agreement" if described_by is classes_document else "deviation"
    shown = merged.columns.drop(agreement)[3 if described_by is classes_document else 2 :]
    each = [pd.read_csv(home / "predictions_test.csv")[shown] for home in members]
    if described_by is document:
        apart = (each[0] - each[1]).abs()["prediction"] / 2
        np.testing.assert_allclose(merged[agreement], apart, rtol=1e-3, atol=1e-3)
    assert results["variants"][1]["test"][agreement] == pytest.approx(merged[agreement].mean())
    assert not np.allclose(each[0], each[1], rtol=1e-3)
    np.testing.assert_allclose(merged[shown], (each[0] + each[1]) / 2, rtol=1e-5)

    measured = json.loads((two / "results.json").read_text())
    assert results["variants"][1]["test"] == measured["test"]
    alone = measured["members"]["test"]
    assert set(alone) == {"seed-0", "seed-1"}
    if described_by is document:
        shares = merged["prediction"] / merged["target"] - 1
        assert measured["test"]["rmspe"] == pytest.approx((shares**2).mean() ** 0.5, rel=1e-4)
        logs = np.log(merged["prediction"]) - np.log(merged["target"])
        assert measured["test"]["loss"] == pytest.approx((logs**2).mean(), rel=1e-4)
        for name in ("mae", "rmse", "rmspe"):
            mean = np.mean([metrics[name] for metrics in alone.values()])
            assert measured["test"][name] <= mean * (1 + 1e-6)
    else:
        right = (merged["prediction"] == merged["target"]).mean()
        assert measured["test"]["accuracy"] == pytest.approx(right)

    rows = pd.read_csv(tables / "sales.csv").iloc[108:]
    rows.drop(columns=["Sales", "Kind"]).to_csv(tables / "new.csv", index=False)
    found = predict_paths([tmp_path / "run"], [tables / "new.csv"])
    np.testing.assert_allclose(found.table[shown], merged[shown], rtol=1e-5)
    assert len([note for note in found.notes if note.startswith("predict:")]) == 1
    assert (tmp_path / "run" / "variants.png").is_file()
    # Vectors and importance are of a trained model, the last one.
    vectors = [(home / "embeddings" / "00_Shop.csv").read_text() for home in (two, members[1])]
    assert vectors[0] == vectors[1]
    errors = [pd.read_csv(home / "importance.csv")["plain_error"] for home in (two, members[1])]
    assert errors[0][0] == errors[1][0]


@pytest.mark.parametrize("ensemble", ["snapshots", "average"])
def test_snapshots_predict_together_or_as_one(recipe_file, tmp_path, tables, ensemble) -> None:
    described = yaml.safe_load(recipe_file.read_text())
    described["stages"][1]["callbacks"].append("lightning_fastrecipes.CycleSnapshots")
    described["evaluation"] = {"ensemble": ensemble}
    recipe_file.write_text(yaml.safe_dump(described))
    folder = run(recipe_file, tmp_path / "run").folder.path
    results = json.loads((folder / "results.json").read_text())
    assert len(results.get("members", {}).get("test", ())) == (3 if ensemble == "snapshots" else 0)
    expected = pd.read_csv(folder / "predictions_test.csv")["prediction"]
    rows = pd.read_csv(tables / "sales.csv").iloc[108:].drop(columns="Sales")
    rows.to_csv(tables / "new.csv", index=False)
    found = predict_paths([folder], [tables / "new.csv"]).table["prediction"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    last = torch.load(folder / "checkpoints" / "all.ckpt", weights_only=True)["state_dict"]
    ours = load_table_export(folder)[0].state_dict()
    is_last = all(torch.equal(value, last[name]) for name, value in ours.items())
    assert is_last == (ensemble == "snapshots")


def test_a_checkpoint_predicts_what_the_export_does(whole: Run) -> None:
    table = whole.folder.path.parent / "tables" / "sales.csv"
    path = whole.folder.checkpoint("all")
    model = TabularRegressor.load_from_checkpoint(path, weights_only=True).eval()
    steps = load_recipe(whole.folder.recipe).data.init_args["steps"]
    rows = TabularDataModule.from_spec(model.spec, table, steps=steps)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = torch.cat(trainer.predict(model, rows))
    expected = predict_paths([whole.folder.path], [table]).table["prediction"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("Km", "must have the columns 'Km'"), ("Shop", "'Shop'"), ("Date", "'Date'")],
)
def test_a_table_to_predict_that_lacks_a_column_is_refused_by_name(
    whole: Run, tmp_path: Path, capsys, missing: str, message: str
) -> None:
    rows = pd.read_csv(whole.folder.path.parent / "tables" / "sales.csv")
    rows.drop(columns=missing).to_csv(tmp_path / "new.csv", index=False)
    words = ["predict", str(whole.folder.path), str(tmp_path / "new.csv"), "--out", "preds.csv"]
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_training_until_overfitting_keeps_the_best_weights(recipe_file, tmp_path) -> None:
    folder = run(recipe_file, tmp_path / "run", "stages.all.until_overfitting=1").folder.path
    rows = pd.read_csv(folder / "metrics.csv")
    best = rows[rows["stage"] == "all"]["val_rmse"].min()
    found = json.loads((folder / "results.json").read_text())["val"]["rmse"]
    assert found == pytest.approx(best, rel=1e-4)


def test_the_importance_tells_what_the_target_depends_on(recipe_file: Path, tmp_path) -> None:
    folder = run(recipe_file, tmp_path / "run", "stages.all.max_epochs=25").folder.path
    table = pd.read_csv(folder / "importance.csv")
    assert sorted(table["column"]) == ["DayOfWeek", "Km", "Noise", "Shop", "State"]
    assert table["column"][0] == "Shop"
    assert set(table["split"]) == {"val"}
    loss = json.loads((folder / "results.json").read_text())["val"]["loss"]
    assert table["plain_error"][0] == pytest.approx(loss**0.5, rel=1e-4)


def test_embeddings_are_those_of_the_model_each_value_by_name(whole: Run) -> None:
    table = pd.read_csv(whole.folder.path / "embeddings" / "01_State.csv")
    assert table["value"].tolist() == ["(unknown)", "A", "B"]
    model, _ = load_table_export(whole.folder.path)
    vectors = model.embedding_weights()["State"].numpy()
    np.testing.assert_allclose(table.drop(columns="value"), vectors, rtol=1e-5)


def test_classes_are_predicted_with_their_probabilities(tables: Path, tmp_path: Path) -> None:
    path = write(classes_document(tables), tmp_path)
    folder = run(path, tmp_path / "run", "stages.all.max_epochs=12").folder.path
    table = pd.read_csv(folder / "predictions_test.csv")
    assert table.columns.tolist() == ["row", "target", "prediction", "big", "small"]
    results = json.loads((folder / "results.json").read_text())["test"]
    assert results["accuracy"] == pytest.approx((table["target"] == table["prediction"]).mean())
    assert results["accuracy"] > 0.8
    assert (folder / "confusion_matrix.png").is_file()
    rows = pd.read_csv(tables / "sales.csv").iloc[108:].drop(columns="Kind")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = predict_paths([folder], [tmp_path / "rows.csv"]).table
    assert found["prediction"].tolist() == table["prediction"].tolist()
    np.testing.assert_allclose(found["big"], table["big"], atol=1e-6)


def test_classes_of_a_table_are_calibrated_at_the_temperature_of_the_run(tables, tmp_path) -> None:
    described = classes_document(tables)
    described["stages"] = described["stages"][:1]  # so short that some rows are wrong
    folder = run(write(described, tmp_path), tmp_path / "run").folder.path
    names = ["big", "small"]
    val = pd.read_csv(folder / "predictions_val.csv")
    targets = np.array([names.index(name) for name in val["target"]])
    wanted = fit_temperature(val[names].to_numpy(), targets)
    rows = pd.read_csv(tables / "sales.csv").iloc[108:].drop(columns="Kind")
    predictor = fr.load(folder)
    plain, mended = predictor.predict(rows), predictor.predict(rows, calibrated=True)
    expected = at_temperature(plain[names].to_numpy(), wanted)
    np.testing.assert_allclose(mended[names], expected, atol=1e-4)
    assert not np.allclose(mended[names], plain[names], atol=1e-3)
    assert mended["prediction"].tolist() == plain["prediction"].tolist()


def test_a_resumed_run_ends_with_the_same_bits(whole: Run, tmp_path: Path, recipe_file) -> None:
    run(recipe_file, tmp_path / "cut", stop=1)
    run(tmp_path / "cut" / "recipe.yaml", tmp_path / "cut", resume=True)
    ours, theirs = (
        load_table_export(folder)[0].state_dict()
        for folder in (tmp_path / "cut", whole.folder.path)
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_one_epoch_and_two_are_three(whole: Run, tmp_path: Path, recipe_file) -> None:
    folder = tmp_path / "run"
    run(recipe_file, folder, "stages.all.max_epochs=1", "train_metrics=20")
    done = continue_run(folder, "stages.all.max_epochs=3")
    ours, theirs = (load_table_export(home)[0].state_dict() for home in (folder, whole.folder.path))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert done.results["test"] == json.loads(whole.folder.results.read_text())["test"]
    assert (folder / "parts" / "1" / "importance.csv").is_file()
    clean = pd.read_csv(folder / "metrics.csv").filter(like="train_clean_")
    assert set(clean) == {f"train_clean_{name}" for name in ("loss", "mae", "rmse", "rmspe")}
    assert clean.notna().all().all()


def test_planned_steps_are_the_steps_that_are_taken(whole: Run) -> None:
    for plan in whole.plans:
        path = whole.folder.checkpoint(plan.stage.name)
        assert torch.load(path, weights_only=True)["global_step"] == plan.num_steps
    top, everything = whole.plans
    assert [group.name for group in top.groups] == ["embeddings", "trunk", "output"]
    assert [group.trained for group in top.groups] == [False, False, True]
    assert [g.lr for g in everything.groups] == pytest.approx([0.005, 0.01, 0.02])
    assert (everything.num_samples, everything.image_size) == (84, None)


def test_summary_prints_the_layers(recipe_file: Path, capsys) -> None:
    assert main(["summary", str(recipe_file)]) == 0
    printed = capsys.readouterr().out
    assert "Embedding" in printed
    assert "463 parameters, 454 of them frozen" in printed


def test_check_and_explain_say_what_is_trained_on(recipe_file: Path, capsys) -> None:
    assert main(["check", str(recipe_file)]) == 0
    assert main(["explain", str(recipe_file)]) == 0
    printed = capsys.readouterr().out
    assert "84 train, 24 val, 12 test rows; target log(Sales)" in printed
    assert "Shop 6x3, State 3x2, DayOfWeek 8x4" in printed
    assert "Continuous columns: Km, Noise, Km_na" in printed
    assert "Stage top: 1 epoch of 11 steps (11), batches of 8" in printed
    assert "frozen" in printed
    assert "px" not in printed


def test_a_trial_run_goes_through_everything(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(recipe_file), "--fast-dev-run", "--out", "trial"]) == 0
    assert (tmp_path / "trial" / "importance.png").is_file()
    assert len(pd.read_csv(tmp_path / "trial" / "predictions_val.csv"))


@pytest.mark.filterwarnings("ignore:`ValidationGuard`, after epoch")  # 84 rows, batches of 4
def test_a_stage_finds_its_rate(recipe_file: Path, tmp_path: Path) -> None:
    finder = {"class_path": "lightning_fastrecipes.LRFinder", "init_args": {"on_refusal": "ignore"}}
    described = yaml.safe_load(recipe_file.read_text())
    described["stages"][1] |= {"callbacks": [finder], "lr": "find", "batch_size": 4}
    recipe_file.write_text(yaml.safe_dump(described))
    run(recipe_file, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "lr_finder_all.json").read_text())
    assert len(found["lrs"]) > 10
    assert found["refusal"] or found["suggestion"] in found["picks"].values()
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert rows["stage"].tolist() == ["top", "all", "all", "all"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.all.image_size=64", r"stages\.all: `image_size` is for images"),
        ("stages.all.augmentation=basic", "`augmentation` is for images"),
        ("stages.top.precompute=true", "`precompute` is for images"),
        ("evaluation.tta=4", r"evaluation\.tta: is for images"),
        ("evaluation.image_size=64", r"evaluation\.image_size: is for images"),
        ("evaluation.crop_fraction=1.0", r"evaluation\.crop_fraction: is for images"),
        ("data.image_size=64", "has no argument `image_size`"),
        ("model.class_path=lightning_fastrecipes.ImageClassifier", "model"),
    ],
    ids=lambda value: value.split("=")[0],
)
def test_what_is_for_images_is_refused_by_name(recipe_file, override, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe_file, [override])


def test_a_callback_for_images_is_refused_by_name(recipe_file: Path) -> None:
    described = yaml.safe_load(recipe_file.read_text())
    described["stages"][0]["callbacks"] = ["lightning_fastrecipes.TestTimeAugmentation"]
    recipe_file.write_text(yaml.safe_dump(described))
    with pytest.raises(RecipeError, match="`TestTimeAugmentation` is for images"):
        load_recipe(recipe_file)


def test_a_model_for_the_other_task_is_refused(recipe_file: Path) -> None:
    described = yaml.safe_load(recipe_file.read_text())
    described["model"]["class_path"] = "lightning_fastrecipes.TabularClassifier"
    recipe_file.write_text(yaml.safe_dump(described))
    with pytest.raises(RecipeError, match="Use `TabularRegressor`"):
        build_parts(load_recipe(recipe_file))


def test_a_column_that_is_not_there_ends_with_1(recipe_file: Path, capsys) -> None:
    described = yaml.safe_load(recipe_file.read_text())
    described["data"]["init_args"]["columns"]["continuous"] = ["Kilometres"]
    recipe_file.write_text(yaml.safe_dump(described))
    assert main(["explain", str(recipe_file)]) == 1
    assert "Kilometres" in capsys.readouterr().err


def test_the_runner_asks_for_no_library_of_images_where_there_is_a_table(
    recipe_file: Path, tmp_path: Path
) -> None:
    # torchmetrics loads torchvision where it is installed; it is our own modules that must not.
    code = f"""
import builtins, sys
load, asked = builtins.__import__, set()
def watched(name, globals=None, *rest, **named):
    if str((globals or {{}}).get("__name__")).startswith("lightning_fastrecipes"):
        asked.add(name.split(".")[0])
    return load(name, globals, *rest, **named)
builtins.__import__ = watched
from lightning_fastrecipes.cli.main import main
assert main(["explain", {str(recipe_file)!r}]) == 0
assert main(["run", {str(recipe_file)!r}, "--fast-dev-run", "--out", "trial"]) == 0
table = {str(recipe_file.parent.parent / "tables" / "sales.csv")!r}
assert main(["predict", "trial", table, "--out", "preds.csv"]) == 0
assert "torchmetrics" in asked
print("asked:", sorted(asked & {{"timm", "torchvision"}}), "timm" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.strip().endswith("asked: [] False"), done.stdout + done.stderr
    # Each remark is printed once, by the commands alone.
    assert done.stdout.count("120 of 120 rows found their row") == 3
    assert "found their row" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [{"join": {"table": "a.csv"}}]}, r"steps\[0\].join` needs the key `keys`"),
        (
            {"steps": [{"elapsed": {"columns": ["a"], "date": "d", "window_days": [7]}}]},
            "whole num",
        ),
        ({"steps": [{"elapsed": {"plugins": 1}}]}, "there is no argument `plugins`"),
        ({"reading": {"decimal": ",,"}}, "`decimal` must be one character"),
        ({"reading": {"sepparator": ";"}}, "sepparator"),
    ],
)
def test_what_prepares_the_table_is_checked_without_it(changes, message, tables, tmp_path) -> None:
    described = document(tables)
    described["data"]["init_args"] |= changes
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(described, tmp_path))


def test_metrics_by_class_path_get_the_number_of_classes_as_in_python(tables, tmp_path) -> None:
    described = classes_document(tables)
    f1 = "torchmetrics.classification.MulticlassF1Score"
    described["model"]["init_args"]["metrics"] = {
        "f1": f1, "mean_f1": {"class_path": f1, "init_args": {"average": "micro"}},
    }  # fmt: skip
    model = build_parts(load_recipe(write(described, tmp_path)))[1]
    built = dict(model.phase_metrics["val_"].items(keep_base=True))
    assert {name: (one.num_classes, one.average) for name, one in built.items()} == {
        "f1": (2, "macro"), "mean_f1": (2, "micro"),
    }  # fmt: skip
