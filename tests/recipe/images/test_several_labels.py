"""A recipe of images with several labels, from its CSV to predictions in the shell."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score, fbeta_score, precision_score, recall_score

from lightning_fastrecipes import SampleFBeta
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.images.reports import prediction_table
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run

CLASSES = ["blue", "green", "rare", "red"]
SPLITS = ("val", "test")


def write(folder: Path, content: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def whole(tagged_images, tagged_document, tmp_path_factory) -> Path:
    """The folder of one run from the shell, which no test may change."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRECIPES_CACHE", str(folder / "cache"))
        recipe = write(folder / "tags", tagged_document(tagged_images))
        assert main(["run", str(recipe), "--out", str(folder / "run")]) == 0
    return folder / "run"


def tags(cell: str) -> list[float]:
    return [float(name in cell.split()) for name in CLASSES]


def read_predictions(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


def test_thresholds_are_tuned_on_what_predicts(
    tagged_images, tagged_document, tmp_path, monkeypatch
) -> None:
    document = tagged_document(tagged_images)
    document["evaluation"] = {"tta": {"preset": "scales", "n": 4, "plain_weight": 0.0}}
    recipe = write(tmp_path / "tags", document)
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) == 0
    exported = json.loads((tmp_path / "run" / "export" / "model.json").read_text())["thresholds"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    tables = {s: read_predictions(tmp_path / "run" / f"predictions_{s}.csv") for s in SPLITS}
    merged = {s: torch.tensor(table[CLASSES].to_numpy()).float() for s, table in tables.items()}
    targets = {s: torch.tensor([tags(c) for c in table["target"]]) for s, table in tables.items()}
    metric = SampleFBeta(len(CLASSES), threshold="per_label")
    metric.update(merged["val"], targets["val"])
    assert float(metric.compute()) == pytest.approx(results["val"]["f2_tta"], abs=1e-4)
    assert list(exported.values()) == pytest.approx(metric.best_thresholds.tolist())

    fixed = SampleFBeta(len(CLASSES), threshold="per_label")
    fixed.fix(metric.best_thresholds)
    fixed.update(merged["test"], targets["test"])
    assert float(fixed.compute()) == pytest.approx(results["test"]["f2_tta"], abs=1e-4)

    # Plain predictions have thresholds of their own, in the run and without views.
    found = json.loads((tmp_path / "run" / "export" / "model.json").read_text())
    own = list(found["plain_thresholds"].values())
    assert own != list(found["thresholds"].values())
    for split, name in (("val", "val"), ("test", "test")):
        files = [Path(file) for file in tables[split]["file"]]
        plain, _ = predict_files(tmp_path / "run", files, tta=False)
        probabilities = torch.tensor(plain[CLASSES].to_numpy()).float()
        decided = (probabilities >= torch.tensor(own)).float()
        assert [tags(cell) for cell in plain["prediction"]] == decided.tolist(), name
        fixed = SampleFBeta(len(CLASSES))
        fixed.fix(torch.tensor(own))
        fixed.update(probabilities, targets[split])
        assert float(fixed.compute()) == pytest.approx(results[split]["f2"], abs=1e-4)


def test_predictions_are_the_tags_that_reach_their_thresholds(whole) -> None:
    thresholds = json.loads((whole / "export" / "model.json").read_text())["thresholds"]
    assert list(thresholds) == CLASSES
    results = json.loads((whole / "results.json").read_text())
    for split in ("val", "test"):
        table = read_predictions(whole / f"predictions_{split}.csv")
        assert len(table) in (9, 10, 11)
        decided = table[CLASSES].to_numpy() >= np.array([thresholds[name] for name in CLASSES])
        predicted = np.array([tags(cell) for cell in table["prediction"]])
        assert (decided == predicted).all()
        truth = np.array([tags(cell) for cell in table["target"]])
        score = fbeta_score(truth, predicted, beta=2, average="samples", zero_division=1)
        assert results[split]["f2"] == pytest.approx(score, abs=1e-6)


def test_each_label_is_measured_by_itself(whole) -> None:
    predictions = read_predictions(whole / "predictions_test.csv")
    truth, predicted = (
        np.array([tags(cell) for cell in predictions[column]])
        for column in ("target", "prediction")
    )
    table = pd.read_csv(whole / "labels_test.csv").set_index("label")
    assert table["count"].is_monotonic_decreasing
    for index, name in enumerate(CLASSES):
        row, pair = table.loc[name], (truth[:, index], predicted[:, index])
        assert row["count"] == truth[:, index].sum()
        if not truth[:, index].any() or not predicted[:, index].any():
            continue
        assert row["precision"] == pytest.approx(precision_score(*pair), abs=1e-6)
        assert row["recall"] == pytest.approx(recall_score(*pair), abs=1e-6)
        assert row["f2"] == pytest.approx(fbeta_score(*pair, beta=2), abs=1e-6)
        precision = average_precision_score(truth[:, index], predictions[name])
        assert row["average_precision"] == pytest.approx(precision, abs=1e-3)


def test_which_labels_go_together_is_counted_and_drawn(whole) -> None:
    truth = np.array(
        [tags(cell) for cell in read_predictions(whole / "predictions_test.csv")["target"]]
    )
    table = pd.read_csv(whole / "label_cooccurrence.csv")
    assert table["label"].tolist() == CLASSES
    assert (table[CLASSES].to_numpy() == truth.T @ truth).all()
    for name in ("label_cooccurrence.png", "label_cooccurrence_val.png", "labels_val.csv"):
        assert (whole / name).is_file()
    assert not (whole / "confusion_matrix.png").exists()


def test_the_shell_predicts_tags_as_the_evaluation_did(whole, tmp_path) -> None:
    expected = read_predictions(whole / "predictions_test.csv")
    out = tmp_path / "out.csv"
    assert main(["predict", str(whole), *expected["file"], "--out", str(out)]) == 0
    found = read_predictions(out)
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(found[CLASSES], expected[CLASSES], atol=2e-6)


def test_the_reason_is_printed(tagged_images, tagged_document, tmp_path, capsys) -> None:
    recipe = write(tmp_path / "tags", tagged_document(tagged_images))
    assert main(["explain", str(recipe)]) == 0
    assert "Labels: multi, since" in capsys.readouterr().out


def test_model_and_data_pass_the_checks_before_the_first_step(whole) -> None:
    log = (whole / "log.txt").read_text()
    assert "`InitialLossCheck`: [" not in log
    model, _ = load_export(whole)
    assert model.label_kind == "multi"


class StopError(Exception):
    """What an interruption raises."""


class StopInSecondEpoch(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            raise StopError


@pytest.mark.parametrize("stage", [0, 1])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    whole, tagged_images, tagged_document, tmp_path, stage
) -> None:
    recipe = write(tmp_path / "tags", tagged_document(tagged_images))
    folder = tmp_path / "run"
    job = Run(load_recipe(recipe), folder, show_progress=False)
    job.prepare()
    make_trainer = job._trainer
    for index in range(stage):
        job.run_stage(index)
    job._trainer = lambda callbacks, **rest: make_trainer([*callbacks, StopInSecondEpoch()], **rest)
    with pytest.raises(StopError):
        job.run_stage(stage)

    assert main(["run", "--resume", str(folder)]) == 0

    ours, theirs = load_export(folder)[0].state_dict(), load_export(whole)[0].state_dict()
    assert "thresholds" in ours
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    ours, theirs = (json.loads((place / "results.json").read_text()) for place in (folder, whole))
    assert ours["test"] == theirs["test"]


def test_data_that_now_have_one_label_each_do_not_flip_a_finished_stage(whole, tmp_path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    source = Path(content["data"]["init_args"]["csv"])
    changed = pd.read_csv(source, keep_default_na=False)
    changed["tags"] = [CLASSES[row % 4] for row in range(len(changed))]
    changed.to_csv(tmp_path / "tags.csv", index=False)
    content["data"]["init_args"] |= {"csv": str(tmp_path / "tags.csv")}
    content["data"]["init_args"]["table"]["folder"] = str(source.parent)
    del content["model"]["init_args"]["labels"]
    path = write(folder, content)
    # As earlier versions wrote it, so that the other keys are not known.
    progress = json.loads((folder / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps({"stages": progress["stages"]}))
    job = Run(load_recipe(path), folder, resume=True, show_progress=False)
    job.prepare()
    with pytest.raises(DataError, match=r"head.ckpt: .* 'single', but the checkpoint has 'multi'"):
        job.run_stage(0)


def test_snapshots_predict_together_with_thresholds_of_their_own(
    tagged_images, tagged_document, tmp_path
) -> None:
    content = tagged_document(tagged_images) | {"evaluation": {"ensemble": "snapshots"}}
    folder = tmp_path / "run"
    assert main(["run", str(write(tmp_path / "tags", content)), "--out", str(folder)]) == 0

    table = read_predictions(folder / "predictions_test.csv")
    noted = json.loads((folder / "export" / "ensemble.json").read_text())["thresholds"]
    decided = table[CLASSES].to_numpy() >= np.array([noted[name] for name in CLASSES])
    predicted = np.array([tags(cell) for cell in table["prediction"]])
    assert (decided == predicted).all()
    truth = np.array([tags(cell) for cell in table["target"]])
    results = json.loads((folder / "results.json").read_text())
    score = fbeta_score(truth, predicted, beta=2, average="samples", zero_division=1)
    assert results["test"]["f2"] == pytest.approx(score, abs=1e-6)
    found, _ = predict_files(folder, [Path(file) for file in table["file"]])
    assert found["prediction"].tolist() == table["prediction"].tolist()
    # Tuned on what the members predict together, not on what the last of them does.
    merged = read_predictions(folder / "predictions_val.csv")
    metric = SampleFBeta(4, threshold="per_label")
    targets = torch.tensor([tags(cell) for cell in merged["target"]])
    metric.update(torch.tensor(merged[CLASSES].to_numpy(), dtype=torch.float32), targets)
    assert results["val"]["f2"] == pytest.approx(float(metric.compute()), abs=1e-6)
    assert list(noted.values()) == pytest.approx(metric.best_thresholds.tolist())


def test_models_of_several_seeds_predict_with_the_thresholds_of_their_mean(
    tagged_images, tagged_document, tmp_path
) -> None:
    content = tagged_document(tagged_images)
    content["stages"] = content["stages"][:1]
    content["variants"] = {"mean": {"seeds": 2, "stages.head.max_epochs": 1}}
    content["series"] = "cumulative"
    folder = tmp_path / "run"
    assert main(["run", str(write(tmp_path / "tags", content)), "--out", str(folder)]) == 0

    variant = folder / "variants" / "mean"
    expected = read_predictions(variant / "predictions_test.csv")
    notes = [json.loads((f / "export" / "ensemble.json").read_text()) for f in (folder, variant)]
    assert notes[0]["thresholds"] == notes[1]["thresholds"]
    found, _ = predict_files(folder, [Path(file) for file in expected["file"]])
    assert found["prediction"].tolist() == expected["prediction"].tolist()


def test_runs_of_one_and_of_several_labels_do_not_predict_together(
    whole, recipe_file, tmp_path, tagged_images
) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    root = Path(content["data"]["init_args"]["root"])
    for number, name in enumerate(("green", "rare")):
        shutil.copytree(root / "red", root / name)
        for index, path in enumerate(sorted((root / name).iterdir())):
            Image.new("RGB", (24, 24), (number, index, 9)).save(path)
    other = tmp_path / "other"
    assert main(["run", str(write(tmp_path / "one", content)), "--out", str(other)]) == 0
    for folders in ([whole, other], [other, whole]):
        with pytest.raises(DataError, match="some give one label per image, and others several"):
            predict_files(folders, [tagged_images / "1.png"])


def test_names_with_spaces_are_joined_by_another_sign() -> None:
    table = prediction_table(
        ["a.png"],
        torch.tensor([[0.9, 0.8]]),
        ["palm tree", "sea"],
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([0.5, 0.5]),
    )
    assert table.loc[0, ["prediction", "target"]].tolist() == ["palm tree,sea", "sea"]
