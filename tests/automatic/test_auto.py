"""`fastrecipes auto`: what it leaves is an ordinary run, also where it is cut short."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import lightning_fastrecipes as fr
from lightning_fastrecipes.automatic import planning, training, trials
from lightning_fastrecipes.automatic.candidates import (
    Candidate,
    candidates,
    images_within,
    table_within,
)
from lightning_fastrecipes.automatic.looking import draft_recipe
from lightning_fastrecipes.automatic.planning import share_to_try
from lightning_fastrecipes.automatic.training import train_within
from lightning_fastrecipes.automatic.trials import (
    TimeIsUpError,
    is_out_of_memory,
    within_memory,
)
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.functional.tables import sizing
from lightning_fastrecipes.recipe.artifacts.run_folder import take_over
from lightning_fastrecipes.recipe.loading import load_recipe

RNG = np.random.default_rng(0)


@pytest.fixture
def table(tmp_path: Path, monkeypatch) -> Path:
    """Write a table whose target is a sum, and make trainings and times the same everywhere."""
    monkeypatch.setattr(sizing, "LEAST_STEPS", 30)
    monkeypatch.setattr(training, "_MOST_SPLITS", 2)
    monkeypatch.setattr(training, "_MOST_MODELS", 2)
    monkeypatch.setattr(planning, "seconds_per_step", lambda *_: 1e-4)
    size, kind = RNG.normal(size=200), np.resize(["a", "b"], 200)
    price = 20 + 5 * size + 3 * (kind == "a") + 0.1 * RNG.normal(size=200)
    path = tmp_path / "prices.csv"
    pd.DataFrame({"size": size, "kind": kind, "price": price}).to_csv(path, index=False)
    return path


def test_a_table_becomes_a_run_of_an_ordinary_recipe(table: Path, tmp_path: Path, caplog) -> None:
    said: list[str] = []
    train_within(table, None, 60, tmp_path / "out", said.append)
    out = tmp_path / "out"
    assert (out / "decisions.txt").read_text().splitlines() == said
    rows = pd.read_csv(out / "trials.csv")
    assert {*rows["name"]} >= {"linear", "network", "regularised"}
    # Other rows are validated on in the second draw.
    assert {*rows["draw"]} == {0, 1}
    assert any(line.startswith("chosen: ") for line in said)
    results = json.loads((out / "results.json").read_text())
    # The deviation of the target is 5.2.
    assert results["val"]["rmse"] < 4
    recipe = load_recipe(out / "recipe.yaml")
    assert recipe.name == "out"
    assert recipe.seeds == 2
    assert len(list((out / "export" / "members").iterdir())) == 2
    frame = pd.read_csv(table)
    with caplog.at_level("INFO"):
        found = fr.load(out).predict(frame)["prediction"]
    # Rows are read once for both models.
    assert sum("predict: 200 rows" in one.message for one in caplog.records) == 1
    assert np.corrcoef(found, frame["price"])[0, 1] > 0.8


def test_the_command_says_what_was_reached_and_reports(
    table: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    frame = pd.read_csv(table)
    frame["split"] = np.resize(["train", "train", "valid", "test"], len(frame))
    frame.to_csv(table, index=False)
    monkeypatch.setattr(training, "_MOST_SPLITS", 1)
    monkeypatch.setattr(training, "_MOST_MODELS", 1)
    monkeypatch.chdir(tmp_path)
    assert main(["auto", str(table), "--target", "price"]) == 0
    printed = capsys.readouterr().out
    assert "\nTest split, 50 samples: rmse " in printed
    assert "; always the mean has " in printed
    said = (
        "Writing the report, which `report: false` leaves out\nReport: runs/prices-auto/report.html"
    )
    assert said in printed
    assert Path("runs/prices-auto/report.html").is_file()


def test_folds_are_trained_of_what_was_chosen(table: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "candidates", lambda document: candidates(document)[:1])
    said: list[str] = []
    train_within(table, None, 60, tmp_path / "out", said.append, folds=3)
    out = tmp_path / "out"
    assert "folds: 3 models, each of other rows, predict together." in said
    results = json.loads((out / "results.json").read_text())
    assert results["folds"] == 3
    assert len(pd.read_csv(out / "predictions_val.csv")) == 200
    assert load_recipe(out / "recipe.yaml").folds == 3
    assert len(list((out / "export" / "members").iterdir())) == 3


def test_folds_for_which_there_is_no_time_leave_one_model(table, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "candidates", lambda document: candidates(document)[:1])
    said: list[str] = []

    def late(*_) -> None:
        raise TimeIsUpError

    monkeypatch.setattr(training, "run_together", late)
    train_within(table, None, 60, tmp_path / "out", said.append, folds=3)
    assert "folds: none, since several did not end in time." in said
    monkeypatch.setattr(training, "SLOWER", 1e6)
    train_within(table, None, 60, tmp_path / "none", said.append, folds=3)
    assert any(re.match("folds: none, since 3 models take .* Give more `minutes`", s) for s in said)
    for name in ("out", "none"):
        assert fr.load(tmp_path / name).predict({"size": 0.0, "kind": "a"}).value
        assert load_recipe(tmp_path / name / "recipe.yaml").folds == 0


def test_folds_that_cannot_be_are_refused_before_anything_is_trained(table, tmp_path) -> None:
    with pytest.raises(RecipeError, match="folds: must be at least 2"):
        train_within(table, None, 60, tmp_path / "one", lambda _: None, folds=1)
    frame = pd.read_csv(table).assign(split=np.resize(["train", "train", "valid"], 200))
    frame.to_csv(table, index=False)
    with pytest.raises(RecipeError, match="Folds draw the rows to validate on"):
        train_within(table, "price", 60, tmp_path / "named", lambda _: None, folds=3)
    assert not (tmp_path / "named" / "trials.csv").exists()


def test_the_time_for_trials_leaves_enough_for_folds(table: Path) -> None:
    found = candidates(draft_recipe(table).document)
    shares = [share_to_try(found, folds) for folds in (0, 2, 5, 10)]
    assert shares[0] == 0.6
    assert shares == sorted(shares, reverse=True)
    for folds, share in zip((2, 5, 10), shares[1:], strict=True):
        assert 1.2 * folds * share / len(found) <= 0.8 * (1 - share) + 1e-9


def test_an_interruption_leaves_the_best_so_far(table: Path, tmp_path: Path, monkeypatch) -> None:
    original = training.run_trial

    def interrupted(candidate: Candidate, *arguments, **options):
        if candidate.name == "network":
            raise KeyboardInterrupt
        return original(candidate, *arguments, **options)

    monkeypatch.setattr(training, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_within(table, None, 60, tmp_path / "out", lambda _: None)
    assert fr.load(tmp_path / "out").predict({"size": 0.0, "kind": "a"}).value
    document = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert document["model"]["init_args"]["network"]["layers"] == []


def test_a_training_ends_with_its_time(table: Path, tmp_path: Path) -> None:
    draft = draft_recipe(table)
    candidate = Candidate("network", draft.document)
    with pytest.raises(TimeIsUpError):
        trials.run_trial(candidate, tmp_path / "run", time.monotonic(), finish=lambda _: True)
    assert not (tmp_path / "run" / "results.json").exists()


def test_too_little_time_for_any_model_is_said(table: Path, tmp_path: Path) -> None:
    for _ in range(2):
        # What trained nothing leaves nothing, so that the folder may be taken again.
        with pytest.raises(DataError, match=r"trained in 0 s\. Give more `minutes`"):
            train_within(table, None, 1e-6, tmp_path / "out", lambda _: None)
    assert [*(tmp_path / "out").iterdir()] == []


def test_what_cannot_be_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(ConfigurationError, match="is not empty"):
        fr.auto({"a": [1], "y": [2]}, out=tmp_path / "out")
    for minutes in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigurationError, match="above 0"):
            fr.auto({"a": [1], "y": [2]}, minutes=minutes, out=tmp_path / "new")


def test_batches_are_halved_until_they_fit(table: Path) -> None:
    sizes, said = [], []

    def attempt(candidate: Candidate) -> int:
        sizes.append(candidate.document["data"]["init_args"]["batch_size"])
        if sizes[-1] > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return sizes[-1]

    candidate = Candidate("network", draft_recipe(table).document)
    assert within_memory(candidate, attempt, said.append) == 4
    assert sizes == [16, 8, 4]
    assert said[0] == "memory: batches of 16 do not fit, those of 8 may."
    with pytest.raises(RuntimeError, match="another"):
        within_memory(candidate, lambda _: (_ for _ in ()).throw(RuntimeError("another")), print)
    assert is_out_of_memory(MemoryError())


def test_a_better_run_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    for name, files in {"old": ["export/a", "results.json"], "new": ["export/b", "c/d"]}.items():
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    take_over(tmp_path / "new", tmp_path / "old")
    found = {
        path.relative_to(tmp_path / "old").as_posix() for path in (tmp_path / "old").rglob("*")
    }
    assert found == {"export", "export/b", "c", "c/d", "results.json"}


def test_fine_tuning_is_fitted_into_the_time() -> None:
    cycle = [{"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 4}}]
    stage = {"max_epochs": 4, "callbacks": cycle}
    document = {
        "seed": 0,
        "data": {"class_path": "x", "init_args": {"image_size": 224, "batch_size": 32}},
        "stages": {"all": stage},
    }
    candidate = Candidate("fine-tuned", document)

    def planned(seconds: float) -> tuple[int, int | None] | None:
        found = images_within(candidate, 10.0, seconds)
        if found is None:
            return None
        changed = found.document["stages"]["all"]
        assert changed["callbacks"][0]["init_args"]["cycle_len"] == changed["max_epochs"]
        return changed["max_epochs"], changed.get("image_size")

    assert planned(100) == (4, None)
    assert planned(30) == (3, None)
    assert planned(25) == (4, 160)
    assert planned(10) == (3, 128)
    assert planned(1) is None
    assert document["stages"]["all"] is stage
    assert stage["max_epochs"] == 4


def test_cycles_of_tables_are_fitted_into_the_time(table: Path) -> None:
    candidate = Candidate("network", draft_recipe(table).document)
    whole = candidate.document["stages"]["all"]["max_epochs"]
    assert table_within(candidate, 1.0, whole).document == candidate.document
    shorter = table_within(candidate, 1.0, 3.5).document["stages"]["all"]
    assert (shorter["max_epochs"], shorter["callbacks"][0]["init_args"]["cycle_len"]) == (3, 1)
    assert table_within(candidate, 1.0, 0.5) is None


@pytest.mark.parametrize("left", [True, False])
def test_the_command_says_what_an_interruption_left(
    table: Path, tmp_path: Path, monkeypatch, capsys, left: bool
) -> None:
    def interrupted(data, target, minutes, folder, say, **more) -> None:
        assert 0 < more["to_report"] < 10
        assert (Path(data), target, minutes) == (table, "price", 0.5)
        assert folder == Path("runs/prices-auto")
        if left:
            folder.mkdir(parents=True)
            (folder / "results.json").touch()
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "train_within", interrupted)
    assert main(["auto", str(table), "--target", "price", "--minutes", "0.5"]) == 1
    said = "the best so far is in runs/prices-auto" if left else "nothing was trained yet"
    assert said in capsys.readouterr().err
