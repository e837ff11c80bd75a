"""Files that the code of commit 59e8b2d wrote are read, predict the same, and are trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.processes import load_script
from helpers.trainers import quiet_trainer
from safetensors.torch import load_file

from lightning_fastrecipes import (
    SGDR,
    ImageClassifier,
    ImageMixing,
    MultiLabelSwitch,
    TabularClassifier,
    TabularRegressor,
    TestTimeAugmentation,
)
from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.cli.main import main

WRITTEN = Path(__file__).parent / "fixtures" / "house_one"
# On the machine that wrote them all numbers are equal to the last bit. Tables hold six digits, and
# an optimizer enlarges the rounding of another CPU; one step of these fits changes weights by 0.01.
CLOSE = {"rtol": 1e-6, "atol": 2e-6}
TRAINED = {"rtol": 1e-3, "atol": 1e-4}

WRITTEN_WITH = json.loads((WRITTEN / "run_folders/photos/results.json").read_text())["versions"]
needs_same_torch = pytest.mark.skipif(
    torch.__version__.split(".")[:2] != WRITTEN_WITH["torch"].split(".")[:2],
    reason="another version of torch draws other numbers",
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all files, which is the working folder as it was when they were written."""
    copy = Path(shutil.copytree(WRITTEN, tmp_path / "house"))
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    return dict(np.load(WRITTEN / "predictions" / "numbers.npz"))


def predicted(name: str, house: Path, *options: str) -> pd.DataFrame:
    """Predict by the command line with what a run exported."""
    is_table = name in {"sales", "kinds"}
    paths = "data/more_sales.csv" if is_table else "data/photos"
    assert main(["predict", f"run_folders/{name}", paths, "--out", "found.csv", *options]) == 0
    found = pd.read_csv(house / "found.csv")
    return found if is_table else found.assign(file=found["file"].str.removeprefix(f"{house}/"))


def check_run(found: Path, expected: Path) -> None:
    """Compare two finished runs: final weights, figures and predictions.

    Of one with drawn views the figures without them alone: what is drawn of an image follows from
    its pixels now, and did from its place in the list.
    """
    has_drawn_views = expected.name == "tags"
    weights = load_file(found / "export" / "model.safetensors")
    for name, value in load_file(expected / "export" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], value, **TRAINED, msg=name)
    results = json.loads((found / "results.json").read_text())
    before = json.loads((expected / "results.json").read_text())
    for today, old in (("val", "valid"), ("test", "test")):
        # How far members agree was not measured then.
        measured = {k: v for k, v in results[today].items() if k not in ("agreement", "deviation")}
        drawn = {name for name in measured if has_drawn_views and name.endswith("_tta")}
        kept = {k: v for k, v in before[old].items() if k not in drawn}
        assert {k: v for k, v in measured.items() if k not in drawn} == pytest.approx(
            kept, rel=1e-4
        )
        rows = expected / f"predictions_{old}.csv"
        if rows.is_file() and not has_drawn_views:
            now = pd.read_csv(found / f"predictions_{today}.csv").drop(
                columns=["file", "agreement", "deviation"], errors="ignore"
            )
            then = pd.read_csv(rows).drop(columns="file", errors="ignore")
            pd.testing.assert_frame_equal(now, then, **TRAINED)


@pytest.mark.parametrize("name", ["photos", "tags", "soft"])
def test_a_checkpoint_of_images_predicts_the_same(name: str, numbers) -> None:
    path = WRITTEN / "run_folders" / name / "checkpoints" / "all.ckpt"
    model = ImageClassifier.load_from_checkpoint(path, weights_only=True).eval()
    with torch.inference_mode():
        found = model.probabilities(model(torch.from_numpy(numbers["images"])))
    np.testing.assert_allclose(found.numpy(), numbers[name], **CLOSE)


@pytest.mark.parametrize(
    ("name", "task"), [("sales", TabularRegressor), ("kinds", TabularClassifier)]
)
def test_a_checkpoint_of_a_table_predicts_the_same(name: str, task, numbers) -> None:
    path = WRITTEN / "run_folders" / name / "checkpoints" / "all.ckpt"
    model = task.load_from_checkpoint(path, weights_only=True).eval()
    codes = torch.from_numpy(numbers["codes"])
    inputs = TableInputs(
        codes[:, :1] if name == "kinds" else codes, torch.from_numpy(numbers["continuous"])
    )
    with torch.inference_mode():
        found = model.probabilities(model(inputs))
    np.testing.assert_allclose(found.numpy(), numbers[name], **CLOSE)


@pytest.mark.parametrize(
    ("name", "expected", "options"),
    [
        pytest.param("photos", "photos", [], id="one-label"),
        pytest.param("tags", "tags_plain", ["--no-tta"], id="several-labels-without-views"),
        pytest.param("soft", "soft", [], id="snapshots-of-soft-labels"),
        pytest.param("digits", "digits", [], id="rungs-that-end-with-two-models"),
        pytest.param("sales", "sales", [], id="regression"),
        pytest.param("kinds", "kinds", [], id="classes"),
    ],
)
def test_an_export_predicts_the_same(name, expected, options, house: Path) -> None:
    before = pd.read_csv(house / "predictions" / f"{expected}.csv")
    pd.testing.assert_frame_equal(predicted(name, house, *options), before, **CLOSE)


@pytest.mark.parametrize(
    ("name", "expected", "options"), [("photos", "photos_tta", ["--tta"]), ("tags", "tags", [])]
)
def test_an_export_with_drawn_views_predicts_as_another_seed_would(
    name, expected, options, house: Path
) -> None:
    before = pd.read_csv(house / "predictions" / f"{expected}.csv")
    found = predicted(name, house, *options)
    pd.testing.assert_series_equal(found["file"], before["file"])
    classes = [*before.columns[2:]]
    # Another seed moves one by 0.087.
    np.testing.assert_allclose(found[classes], before[classes], atol=0.1, rtol=0)


def test_an_export_with_views_of_whole_images_predicts_plainly_and_says_so(house: Path) -> None:
    path = house / "run_folders" / "photos" / "export" / "model.json"
    views = {"preset": "whole", "n": 2, "augmentation": "none", "max_zoom": 1.2, "seed": 3}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tta": views}))
    with pytest.warns(UserWarning, match="`preset: whole`, which this version does not have"):
        found = predicted("photos", house)
    expected = pd.read_csv(house / "predictions" / "photos.csv")
    pd.testing.assert_frame_equal(found, expected, **CLOSE)


def test_a_recipe_with_views_of_whole_images_is_read_and_says_so(house: Path) -> None:
    path = house / "recipes" / "photos.yaml"
    path.write_text(path.read_text() + "  tta: {preset: whole}\n")
    with pytest.warns(UserWarning, match=r"evaluation.tta: .* `preset: whole`"):
        assert main(["check", str(path)]) == 0


@needs_same_torch
@pytest.mark.parametrize(
    ("stopped", "finished"),
    [
        pytest.param("photos_between_stages", "photos", id="images-between-stages"),
        pytest.param("tags_in_a_stage", "tags", id="images-in-a-stage"),
        pytest.param("sales_in_a_stage", "sales", id="table-in-a-stage"),
    ],
)
def test_an_interrupted_run_ends_with_the_same_weights(stopped, finished, house: Path) -> None:
    folder = house / "run_folders"
    assert main(["run", "--resume", str(folder / stopped)]) == 0
    check_run(folder / stopped, folder / finished)
    columns = ["stage", "epoch", "train_loss", "val_loss", "lr"]
    found = pd.read_csv(folder / stopped / "metrics.csv")[columns]
    expected = pd.read_csv(folder / finished / "metrics.csv")[columns]
    pd.testing.assert_frame_equal(found, expected, **TRAINED)


@needs_same_torch
@pytest.mark.parametrize("name", ["tags", "soft", "sales", "kinds"])
def test_an_old_recipe_trains_the_same_weights(name: str, house: Path) -> None:
    assert main(["run", f"recipes/{name}.yaml", "--out", "again"]) == 0
    check_run(house / "again", house / "run_folders" / name)


@needs_same_torch
def test_images_are_mixed_as_the_version_did_that_began_the_run(house: Path) -> None:
    folder = house / "again"
    folder.mkdir()
    (folder / "progress.json").write_text('{"stages": []}')
    shutil.copy(house / "run_folders" / "photos" / "recipe.yaml", folder)
    assert main(["run", "--resume", "again"]) == 0
    check_run(folder, house / "run_folders" / "photos")
    assert json.loads((folder / "progress.json").read_text())["seeds_first"] is False


@needs_same_torch
def test_rungs_end_with_the_same_weights(house: Path) -> None:
    assert main(["run", "recipes/digits.yaml", "--out", "again"]) == 0
    for name in ("linear", "hidden", "two"):
        (found,) = (house / "again").glob(f"*/{name}")
        check_run(found, house / "run_folders" / "digits" / "rungs" / name)


@needs_same_torch
def test_interrupted_rungs_go_on(house: Path) -> None:
    folder = house / "run_folders" / "digits_stopped"
    finished = {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")}
    assert main(["run", "--resume", str(folder)]) == 0
    assert all(path.stat().st_mtime_ns == written for path, written in finished.items())
    (found,) = folder.glob("*/two")
    check_run(found, house / "run_folders" / "digits" / "rungs" / "two")
    expected = pd.read_csv(house / "predictions" / "digits.csv")
    pd.testing.assert_frame_equal(predicted("digits_stopped", house), expected, **TRAINED)


def test_a_finished_run_trains_no_more(house: Path) -> None:
    folder = house / "run_folders" / "photos"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["run", "--resume", str(folder)]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    (folder / "results.json").unlink()
    assert main(["run", "--resume", str(folder)]) == 0  # measures again
    check_run(folder, WRITTEN / "run_folders" / "photos")
    assert (folder / "metrics.csv").read_bytes() == before[folder / "metrics.csv"]


@needs_same_torch
def test_a_module_of_ones_own_goes_on_with_its_callbacks(house: Path, numbers) -> None:
    own = load_script(house / "own_module.py")
    views = TestTimeAugmentation(n=2, preset="flips", plain_weight="learn", during_fit=True)
    trainer = quiet_trainer(
        MultiLabelSwitch(threshold="per_label", pos_weight=[1.0, 2.0, 1.0]),
        SGDR(cycle_len=1, cycle_mult=2),
        ImageMixing("cutmix", alpha=0.5),
        views,
        max_epochs=3,
    )
    pl.seed_everything(0, verbose=False)
    module = own.Own()
    trainer.fit(module, own.Data(), ckpt_path="own/epoch=1.ckpt", weights_only=True)
    weight = json.loads((house / "predictions" / "own.json").read_text())["weight"]
    assert views.learned_weight == pytest.approx(weight)
    state = module.state_dict()
    np.testing.assert_allclose(state["layer.weight"].numpy(), numbers["own"], **TRAINED)
    np.testing.assert_allclose(state["thresholds"].numpy(), numbers["own_thresholds"], **TRAINED)
