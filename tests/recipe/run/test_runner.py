import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from helpers.runs import StopError, run_recipe
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from lightning_fastrecipes._lightning import LIGHTNING
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run


@pytest.fixture(scope="module")
def whole(shared_recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One whole run that no test may change."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRECIPES_CACHE", str(folder / "cache"))
        return run_recipe(shared_recipe_file, folder / "run")


@pytest.fixture
def whole_copy(whole: Run, tmp_path: Path) -> Path:
    """A copy of the whole run's folder, to be changed."""
    return Path(shutil.copytree(whole.folder.path, tmp_path / "copy"))


@pytest.mark.parametrize("checks", [True, False], ids=["by-default", "switched-off"])
def test_model_and_data_are_checked_before_the_first_step(recipe_file, tmp_path, caplog, checks):
    overrides = [] if checks else ["initial_checks=false"]
    with caplog.at_level("INFO"):
        run_recipe(recipe_file, tmp_path / "run", *overrides)
    told = [record.message for record in caplog.records if "InitialLossCheck" in record.message]
    assert len(told) == checks


@pytest.mark.parametrize("key", ["initial_checks", "validation_guard"])
def test_checks_change_nothing(recipe_file, tmp_path, key):
    run_recipe(recipe_file, tmp_path / "with")
    run_recipe(recipe_file, tmp_path / "without", f"{key}=false")
    ours, theirs = weights(tmp_path / "with"), weights(tmp_path / "without")
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_a_stage_that_makes_the_model_worse_says_so(recipe_file, tmp_path):
    with pytest.warns(UserWarning, match=r"`ValidationGuard`, after epoch 1: \["):
        run_recipe(recipe_file, tmp_path / "run", "stages.all.lr=1000.0", "stages.all.max_epochs=1")
    stages = json.loads((tmp_path / "run" / "results.json").read_text())["stages"]
    assert [stage["guard"] for stage in stages[:2]] == ["fine", "fine"]
    assert "train at a tenth of the rates" in stages[2]["guard"]


def test_a_run_without_the_guard_has_no_verdicts(recipe_file, tmp_path):
    run_recipe(recipe_file, tmp_path / "run", "validation_guard=false", "stages.all.max_epochs=1")
    stages = json.loads((tmp_path / "run" / "results.json").read_text())["stages"]
    assert not any("guard" in stage for stage in stages)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_export(folder)[0].state_dict()


def test_a_run_fills_its_folder(whole: Run) -> None:
    folder = whole.folder.path
    for name in [
        "recipe.yaml", "metrics.csv", "results.json", "confusion_matrix.png", "curves.png",
        "checkpoints/head.ckpt", "checkpoints/augmented.ckpt", "checkpoints/all.ckpt",
        "export/model.safetensors", "export/model.json",
        "predictions_val.csv", "predictions_test.csv",
        "classes_val.csv", "classes_test.csv", "confusion_matrix.csv", "confusion_matrix_val.csv",
    ]:  # fmt: skip
        assert (folder / name).is_file(), name
    results = json.loads((folder / "results.json").read_text())
    assert results["recipe"] == "tiny"
    assert results["seed"] == 0
    assert [stage["name"] for stage in results["stages"]] == ["head", "augmented", "all"]
    for stage in results["stages"]:
        assert stage["seconds"] > 0
        assert stage["images_per_second"] > 0
        assert stage["peak_memory_mib"] > 0
        assert "val_accuracy" in stage["metrics"]
        assert stage["guard"] == "fine"
    lightning = LIGHTNING.partition(".")[0].replace("_", "-")
    assert {lightning, "torch", "timm"} <= set(results["versions"])
    history = pd.read_csv(folder / "metrics.csv")
    assert history["stage"].tolist() == ["head"] * 2 + ["augmented"] + ["all"] * 3
    assert history["epoch"].tolist() == [0, 1, 0, 0, 1, 2]
    assert history["lr"].tolist() == pytest.approx([0.01, 0.01, 1e-3, 0.003, 0.003, 0.003])
    assert history[["train_loss", "val_loss", "val_accuracy", "lr", "seconds"]].notna().all().all()


def test_the_metrics_are_those_of_the_predictions_file(whole: Run) -> None:
    folder = whole.folder.path
    results = json.loads((folder / "results.json").read_text())
    for split in ("val", "test"):
        table = pd.read_csv(folder / f"predictions_{split}.csv")
        accuracy = (table["prediction"] == table["target"]).mean()
        assert results[split]["accuracy"] == pytest.approx(accuracy)
        assert table[["blue", "red"]].sum(axis=1).round(4).eq(1).all()


@pytest.mark.parametrize(("split", "ending"), [("val", "_val"), ("test", "")])
def test_each_class_is_measured_by_itself(whole: Run, split, ending) -> None:
    folder = whole.folder.path
    rows = pd.read_csv(folder / f"predictions_{split}.csv")
    names = ["blue", "red"]
    counts = pd.read_csv(folder / f"confusion_matrix{ending}.csv", index_col="true class")
    assert counts.index.tolist() == counts.columns.tolist() == names
    right = confusion_matrix(rows["target"], rows["prediction"], labels=names)
    assert counts.to_numpy().tolist() == right.tolist()
    table = pd.read_csv(folder / f"classes_{split}.csv").set_index("class")
    assert table["support"].is_monotonic_decreasing
    expected = precision_recall_fscore_support(
        rows["target"], rows["prediction"], labels=names, zero_division=np.nan
    )
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert table.loc[names, name].tolist() == pytest.approx(values.tolist(), 1e-5, nan_ok=True)


def test_every_checkpoint_loads_with_weights_only(whole: Run) -> None:
    for path in (whole.folder.path / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["fastrecipes"]["classes"] == ["blue", "red"]


def test_predictions_of_the_export_equal_the_evaluation_row_for_row(
    whole: Run, shared_recipe_file: Path, tmp_path: Path
) -> None:
    folder = whole.folder.path
    squares = Path(shutil.copytree(shared_recipe_file.parent.parent / "squares", tmp_path / "all"))
    expected = pd.read_csv(folder / "predictions_test.csv")
    table, bad = predict_files(folder, [Path(name) for name in expected["file"]])
    assert not bad
    pd.testing.assert_frame_equal(table, expected.drop(columns="target"), atol=2e-6, rtol=0)
    # Another order and other neighbours in the batch change nothing.
    (squares / "red" / "broken.png").write_bytes(b"no image")
    everything, bad = predict_files(folder, [squares])
    assert [Path(name).name for name, _ in bad] == ["broken.png"]
    assert len(everything) == 28
    for table in (expected, everything):
        table["file"] = [Path(name).parts[-2:] for name in table["file"]]
    joined = expected.merge(everything, on="file", suffixes=("", "_again"))
    assert len(joined) == len(expected)
    assert (joined["red"] - joined["red_again"]).abs().max() <= 2e-6


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    shared_recipe_file: Path, whole: Run, tmp_path: Path
) -> None:
    again = run_recipe(shared_recipe_file, tmp_path / "again")
    other = run_recipe(shared_recipe_file, tmp_path / "other", "seed=1")
    expected = weights(whole.folder.path)
    assert all(torch.equal(v, expected[k]) for k, v in weights(again.folder.path).items())
    assert not all(torch.equal(v, expected[k]) for k, v in weights(other.folder.path).items())


@pytest.mark.parametrize(
    ("stop", "workers"),
    [
        pytest.param((0, 0), 0, id="in-the-first-stage"),
        pytest.param((1, -1), 0, id="at-the-second-stage"),
        pytest.param((2, -1), 0, id="at-the-last-stage"),
        pytest.param((2, 0), 0, id="after-its-first-epoch"),
        pytest.param((2, 1), 1, id="before-its-last-epoch-with-a-worker"),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(
    shared_recipe_file: Path, whole: Run, tmp_path: Path, stop: tuple[int, int], workers: int
) -> None:
    option = f"data.num_workers={workers}"
    with pytest.raises(StopError):
        run_recipe(shared_recipe_file, tmp_path / "cut", option, stop=stop)
    cut = tmp_path / "cut"
    run_recipe(cut / "recipe.yaml", cut, resume=True)
    expected = weights(whole.folder.path)
    assert all(torch.equal(v, expected[k]) for k, v in weights(cut).items())
    columns = ["stage", "epoch", "train_loss", "val_loss", "val_accuracy", "lr"]
    pd.testing.assert_frame_equal(
        pd.read_csv(cut / "metrics.csv")[columns],
        pd.read_csv(whole.folder.metrics)[columns],
    )
    assert json.loads((cut / "results.json").read_text())["recipe"] == "tiny"


def test_resuming_a_finished_run_trains_nothing(whole_copy: Path) -> None:
    folder = whole_copy
    before = (folder / "metrics.csv").read_text()
    run_recipe(folder / "recipe.yaml", folder, resume=True)
    assert (folder / "metrics.csv").read_text() == before


def test_resuming_with_other_stages_is_refused(whole_copy: Path) -> None:
    path = whole_copy / "recipe.yaml"
    document = yaml.safe_load(path.read_text())
    del document["stages"]["head"]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(
        RecipeError, match=r"`stages\.head\.max_epochs` was 2 and would be left out"
    ):
        run_recipe(path, path.parent, resume=True)


def test_a_missing_checkpoint_of_a_finished_stage_is_named(whole_copy: Path) -> None:
    folder = whole_copy
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RecipeError, match=r"head\.ckpt is missing"):
        run_recipe(folder / "recipe.yaml", folder, resume=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.all.freeze_to=3", r"stages\.all: `freeze_to` must be between"),
        ("stages.augmented.lr=[0.1, -0.2]", r"stages\.augmented: `lr` must be above 0, got -0.2"),
        ("stages.all.precompute=true", r"stages\.all: .* all of the backbone is to be trained"),
        ("stages.all.image_size=0", r"stages\.all: `image_size`"),
        ("stages.all.lr_ratio=0.5", r"stages\.all: `lr_ratio` must be at least 1"),
    ],
    ids=lambda value: value.split("=")[0],
)
def test_a_stage_that_does_not_fit_is_refused_before_any_training(
    recipe_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    job = Run(load_recipe(recipe_file, [override]), tmp_path / "run", show_progress=False)
    with pytest.raises(RecipeError, match=message):
        job.prepare()


def test_the_plan_says_what_each_stage_trains(recipe_file: Path, tmp_path: Path) -> None:
    job = Run(load_recipe(recipe_file), tmp_path / "run", show_progress=False)
    head, augmented, everything = job.prepare()
    assert [group.trained for group in head.groups] == [False, False, True]
    assert head.augmentation == "none"
    assert augmented.augmentation == "side_on"
    assert [group.trained for group in everything.groups] == [True, True, True]
    lrs = [group.lr for group in everything.groups]
    assert lrs == pytest.approx([0.003 / 9, 0.003 / 3, 0.003])
    assert everything.num_samples == 14
    assert everything.steps_per_epoch == 4
    assert everything.num_steps == 12
    sizes = sum(group.num_parameters for group in everything.groups)
    assert sizes == sum(parameter.numel() for parameter in job.model.parameters())


def test_planned_steps_are_the_steps_that_are_taken(whole: Run) -> None:
    for plan in whole.plans:
        path = whole.folder.checkpoint(plan.stage.name)
        assert torch.load(path, weights_only=True)["global_step"] == plan.num_steps


def test_the_trained_head_carries_over_from_precomputed_features(
    recipe_file: Path, tmp_path: Path
) -> None:
    job = Run(load_recipe(recipe_file), tmp_path / "run", show_progress=False)
    job.prepare()
    job.run_stage(0)
    trained = {k: v.clone() for k, v in job.model.head.state_dict().items()}
    seen = {}

    class Look(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            seen.update({k: v.clone() for k, v in pl_module.head.state_dict().items()})

    make_trainer = job._trainer
    job._trainer = lambda callbacks, **rest: make_trainer([*callbacks, Look()], **rest)
    job.run_stage(1)
    assert all(torch.equal(trained[name], seen[name]) for name in trained)


def test_a_skipped_file_is_listed_in_the_run_folder(
    recipe_file: Path, squares: Path, tmp_path: Path
) -> None:
    (squares / "red" / "broken.png").write_bytes(b"no image")
    recipe = load_recipe(recipe_file, ["data.on_bad_file=skip"])
    job = Run(recipe, tmp_path / "run", show_progress=False)
    with pytest.warns(UserWarning, match="1 unreadable files are left out"):
        job.prepare()
    table = pd.read_csv(tmp_path / "run" / "skipped_files.csv")
    assert table["file"].tolist() == [str(squares / "red" / "broken.png")]


def test_without_validation_or_test_images_a_run_still_ends(recipe_file, tmp_path) -> None:
    options = ["data.split=0"]
    job = run_recipe(recipe_file, tmp_path / "run", *options)
    results = json.loads(job.folder.results.read_text())
    assert results["val"] == results["test"] == {}
    assert (tmp_path / "run" / "curves.png").is_file()
