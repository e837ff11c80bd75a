"""Recipes of tables with several targets, on the command line from check to predict."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import StopError, run_recipe
from sklearn.datasets import load_diabetes

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.series import Series

TASKS = {"progress": "regression", "bmi": "regression", "sick": "classes"}


def write(folder: Path, **model: object) -> Path:
    """Write scikit-learn's table of diabetes, and a recipe of two stages for three targets."""
    frame = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progress"})
    frame["sick"] = np.where(frame["progress"] > 150, "yes", "no")
    frame.to_csv(folder / "diabetes.csv", index=False)
    described = {
        "description": "Three targets.",
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "diabetes.csv"),
                "columns": {
                    "target": list(TASKS), "task": TASKS, "categorical": ["sex"],
                    "continuous": ["age", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
                },
                "split": {"val": 0.15, "test": 0.15},
                "batch_size": 64,
                "cache": "off",
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.TabularMultiTarget",
            "init_args": {
                "network": {"layers": [32, 16], "dropout": 0.1},
                "loss_weights": {"bmi": 0.5},
                "metrics": {
                    "sick": {"auc": "torchmetrics.classification.MulticlassAUROC"},
                    "progress": {"r2": "torchmetrics.R2Score"},
                },
            } | model,
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {
            "top": {"max_epochs": 1, "freeze_to": -1, "lr": 0.005},
            "all": {"max_epochs": 4, "lr": 0.005},
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    run_recipe(write(folder), folder / "run")
    return folder / "run"


def test_a_run_measures_and_writes_each_target(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())["test"]
    assert {*results} == {"loss", "r2_progress", "mae_bmi", "rmse_bmi", "auc_sick"}
    found = pd.read_csv(whole / "predictions_test.csv")
    assert found.columns.tolist() == [
        "row", "target_progress", "target_bmi", "target_sick", "prediction_progress",
        "prediction_bmi", "prediction_sick", "sick=no", "sick=yes",
    ]  # fmt: skip
    source = pd.read_csv(whole.parent / "diabetes.csv").loc[found["row"]]
    for name in TASKS:
        assert found[f"target_{name}"].tolist() == source[name].tolist()
    mae = (found["prediction_bmi"] - found["target_bmi"]).abs().mean()
    assert results["mae_bmi"] == pytest.approx(mae, rel=1e-6)
    errors = (found["prediction_progress"] - found["target_progress"]) ** 2
    spread = found["target_progress"].var(ddof=0)
    assert results["r2_progress"] == pytest.approx(1 - errors.mean() / spread, rel=1e-5)
    for name in [
        "predictions_test_progress.png", "predictions_val_bmi.png", "confusion_matrix_sick.png",
        "confusion_matrix_val_sick.csv", "classes_val_sick.csv", "classes_test_sick.csv",
        "confusion_matrix_val_sick.png", "importance.csv", "embeddings/00_sex.csv",
    ]:  # fmt: skip
        assert (whole / name).is_file(), name
    assert not (whole / "confusion_matrix.png").exists()


def test_the_export_predicts_what_was_measured(whole: Path, tmp_path: Path) -> None:
    expected = pd.read_csv(whole / "predictions_test.csv")
    rows = pd.read_csv(whole.parent / "diabetes.csv").loc[expected["row"]]
    rows.drop(columns=list(TASKS)).to_csv(tmp_path / "new.csv", index=False)
    words = ["predict", str(whole), str(tmp_path / "new.csv"), "--out", str(tmp_path / "out.csv")]
    assert main(words) == 0
    found = pd.read_csv(tmp_path / "out.csv")
    shown = [name for name in expected if not name.startswith(("row", "target_"))]
    pd.testing.assert_frame_equal(found[shown], expected[shown], rtol=1e-6)
    assert main([*words, "--with", str(whole), "--agreement"]) == 0
    both = pd.read_csv(tmp_path / "out.csv")
    assert both["deviation_bmi"].tolist() == [0.0] * len(both)
    assert both["agreement_sick"].tolist() == [1.0] * len(both)
    pd.testing.assert_frame_equal(both[shown], expected[shown], rtol=1e-6)


def test_explain_names_every_target_and_its_weight(whole: Path, capsys) -> None:
    assert main(["explain", str(whole.parent / "recipe.yaml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "targets progress, predicted in deviations of" in said
    assert "sick, 2 classes; the loss is the mean of theirs" in said
    assert "with the weights progress 1, bmi 0.5, sick 1" in said


def test_a_stopped_run_resumes_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(StopError):
        run_recipe(path, tmp_path / "run", stop=(1, 1))
    run_recipe(path, tmp_path / "run", resume=True)
    states = [
        torch.load(home / "checkpoints" / "all.ckpt", weights_only=True)["state_dict"]
        for home in (whole, tmp_path / "run")
    ]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    names = ("predictions_test.csv", "importance.csv")
    for name in names:
        assert (whole / name).read_text() == (tmp_path / "run" / name).read_text()


def test_models_of_several_seeds_predict_their_mean(tmp_path: Path) -> None:
    path = write(tmp_path)
    described = yaml.safe_load(path.read_text()) | {"seeds": 2}
    path.write_text(yaml.safe_dump(described, sort_keys=False))

    def train(job):
        for index in range(len(job.prepare())):
            job.run_stage(index)
        return job.finish()

    series = Series(load_recipe(path), tmp_path / "run", show_progress=False)
    series.check()
    measured = series.run_all(train)["test"]
    home = tmp_path / "run"
    merged = pd.read_csv(home / "predictions_test.csv")
    shown = ["prediction_progress", "prediction_bmi", "sick=no", "sick=yes"]
    each = [pd.read_csv(home / f"seed-{n}" / "predictions_test.csv")[shown] for n in (0, 1)]
    assert not np.allclose(each[0], each[1], rtol=1e-3)
    np.testing.assert_allclose(merged[shown], (each[0] + each[1]) / 2, rtol=1e-6)
    apart = (each[0] - each[1])["prediction_bmi"].abs() / 2
    np.testing.assert_allclose(merged["deviation_bmi"], apart, atol=1e-6)
    assert measured["deviation_bmi"] == pytest.approx(apart.mean(), rel=1e-6)
    mae = (merged["prediction_bmi"] - merged["target_bmi"]).abs().mean()
    assert measured["mae_bmi"] == pytest.approx(mae, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": ["bmi", "bmi"]}, r"\['bmi'\] are named twice"),
        ({"target": ["bmi", "age"], "task": "regression"}, r"\['age'\] are named twice"),
        ({"target": "bmi", "task": "regression"}, "Use `TabularRegressor`"),
        ({"task": {"bmi": "classes"}}, "`task` must have one task for each of"),
    ],
)
def test_check_says_what_is_wrong_before_any_data_are_read(
    tmp_path: Path, capsys, change: dict, message: str
) -> None:
    path = write(tmp_path)
    (tmp_path / "diabetes.csv").unlink()
    assert main(["check", str(path)]) == 0
    described = yaml.safe_load(path.read_text())
    described["data"]["init_args"]["columns"] |= change
    path.write_text(yaml.safe_dump(described))
    capsys.readouterr()
    assert main(["check", str(path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said


def test_metrics_of_a_target_are_no_way_to_run_code(tmp_path: Path, capsys) -> None:
    path = write(tmp_path, metrics={"bmi": {"mae": "os.system"}})
    assert main(["check", str(path)]) == 2
    assert "os.system" in capsys.readouterr().err
