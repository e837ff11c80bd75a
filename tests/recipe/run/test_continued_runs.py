"""A finished run is trained further in a new part; a resumed one keeps its keys."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import StopError, continue_run, run_recipe

from lightning_fastrecipes import OneCycle
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.changes import NO_RESULT, changed_keys
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.parts import continued_recipe

LONGER = "stages.all.max_epochs=3"
SAME = ["stage", "epoch", "train_loss", "val_loss", "val_accuracy", "lr"]


def shortened(recipe_file: Path, *callbacks: dict, stages: int = 2, **keys) -> Path:
    """Leave the first and the last stage, or the last alone, an epoch each."""
    document = yaml.safe_load(recipe_file.read_text())
    head, _, last = document["stages"]
    last |= {"max_epochs": 1, "callbacks": list(callbacks)} | keys
    document["stages"] = [head | {"max_epochs": 1}, last][-stages:]
    path = recipe_file.parent / "short" / "recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def callback(name: str, **arguments) -> dict:
    return {"class_path": f"lightning_fastrecipes.{name}", "init_args": arguments}


@pytest.fixture(scope="module")
def one_epoch(shared_recipe_file: Path, tmp_path_factory) -> Path:
    """The folder of a finished run of an epoch, which no test may change."""
    folder = tmp_path_factory.mktemp("one-epoch") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRECIPES_CACHE", str(folder.parent / "cache"))
        run_recipe(shortened(shared_recipe_file), folder)
    return folder


@pytest.fixture
def finished(one_epoch: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_epoch, tmp_path / "finished"))


def state_of(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "all.ckpt", weights_only=True)


def assert_same_training(folder: Path, expected: Path) -> None:
    """Compare weights, optimizer and history, bit for bit."""
    ours, theirs = state_of(folder), state_of(expected)
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], rtol=0, atol=0)
    for one, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
    assert ours["global_step"] == theirs["global_step"]
    found = [pd.read_csv(home / "metrics.csv")[SAME] for home in (folder, expected)]
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize("kind", ["cycles", "precomputed"])
def test_one_epoch_and_two_are_three_resumed_or_not(recipe_file, tmp_path, kind):
    if kind == "cycles":
        path = shortened(recipe_file, callback("SGDR"), stages=1)
    else:
        path = shortened(recipe_file, stages=1, freeze_to=-1, precompute=True)
    run_recipe(path, tmp_path / "three", LONGER)
    folder = tmp_path / "run"
    run_recipe(path, folder)
    with pytest.raises(StopError):
        continue_run(folder, LONGER, stop=(0, 1))
    assert not (folder / "results.json").exists()
    run_recipe(folder / "recipe.yaml", folder, resume=True)
    assert_same_training(folder, tmp_path / "three")


def test_a_schedule_as_long_as_the_training_covers_the_added_epochs(recipe_file, tmp_path):
    path = shortened(recipe_file, callback("OneCycle"), callback("CycleSnapshots"), stages=1)
    folder = tmp_path / "run"
    run_recipe(path, folder)
    continued = continue_run(folder, LONGER)
    # The recipe of the continued run does all of it at once.
    whole = run_recipe(folder / "recipe.yaml", tmp_path / "whole")
    assert_same_training(tmp_path / "whole", folder)
    assert whole.results["test"] == continued.results["test"]
    assert [part["epochs"] for part in whole.results["parts"]] == [{"all": 1}, {"all": 2}]
    rates = pd.read_csv(folder / "metrics.csv")["lr"].tolist()
    expected = OneCycle().simulate(2, 4, lr=0.003).reshape(2, 4).amax(dim=1).tolist()
    assert rates[1:] == pytest.approx(expected)
    names = {snapshot.name for snapshot in (folder / "snapshots" / "all").iterdir()}
    assert names == {"cycle-1.ckpt", "cycle-2.ckpt"}


def test_the_record_shows_both_parts(finished: Path, capsys):
    before = json.loads((finished / "results.json").read_text())
    old_export = (finished / "export" / "model.safetensors").read_bytes()
    # Of runs with several labels.
    of_labels = ["labels_test.csv", "label_cooccurrence.csv", "label_cooccurrence_val.png"]
    old_tables = [*of_labels, "classes_test.csv", "confusion_matrix_val.csv"]
    for name in of_labels:
        (finished / name).touch()
    words = ["run", "--continue", str(finished), "--stages.all.max_epochs=2", "--tta"]
    assert main(words) == 0
    assert all((finished / "parts" / "1" / name).is_file() for name in old_tables)
    assert not any((finished / name).exists() for name in of_labels)
    results = json.loads((finished / "results.json").read_text())
    assert [part["epochs"] for part in results["parts"]] == [{"head": 1, "all": 1}, {"all": 1}]
    assert results["parts"][0]["test"] == before["test"]
    assert results["parts"][1]["test"] == results["test"]
    assert "accuracy_tta" in results["test"]
    assert [stage["epochs"] for stage in results["stages"]] == [1, 2]
    assert results["stages"][1]["seconds"] > before["stages"][1]["seconds"]
    document = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert document["parts"] == [{"all": 1}]
    assert document["stages"]["all"]["max_epochs"] == 2
    assert pd.read_csv(finished / "metrics.csv")["part"].tolist() == [1, 1, 2]
    assert (finished / "parts/1/export/model.safetensors").read_bytes() == old_export
    assert json.loads((finished / "parts/1/results.json").read_text()) == before
    assert load_recipe(finished / "parts/1/recipe.yaml").stages[-1].max_epochs == 1
    assert (finished / "curves.png").is_file()
    exported = finished / "export" / "model.safetensors"
    assert exported.read_bytes() != old_export
    # Nothing more to do: the same words again are refused, and so are none.
    for again in (words, ["run", "--continue", str(finished)]):
        assert main(again) == 2
        assert "nothing is said that it should train further" in capsys.readouterr().err


def test_a_stage_is_added_and_trains_from_the_last_weights(finished: Path, tmp_path: Path):
    keys = ["stages.more.max_epochs=1", "stages.more.lr=0.0001", "stages.more.freeze_to=-1"]
    done = continue_run(finished, *keys, add=("more",))
    assert [part["epochs"] for part in done.results["parts"]] == [
        {"head": 1, "all": 1},
        {"more": 1},
    ]
    before = state_of(finished)["state_dict"]
    after = torch.load(finished / "checkpoints/more.ckpt", weights_only=True)["state_dict"]
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("head", "phase_")) for name in moved)
    with pytest.raises(RecipeError, match=r"stages\.another: needs `max_epochs`"):
        continued_recipe(finished, [], ["another"])


def test_another_evaluation_alone_is_a_part_that_trains_nothing(finished: Path):
    before = (finished / "metrics.csv").read_text()
    done = continue_run(finished, "evaluation.tta=2")
    assert [part["epochs"] for part in done.results["parts"]] == [{"head": 1, "all": 1}, {}]
    assert "accuracy_tta" in done.results["test"]
    assert (finished / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.head.max_epochs=2"], "`stages.head.max_epochs` was 1 and would be 2"),
        (["stages.all.lr=0.1", LONGER], "`stages.all.lr` was 0.003 and would be 0.1"),
        (["seed=3", LONGER], "`seed` was 0 and would be 3"),
        (
            ["stages.all.callbacks=[lightning_fastrecipes.SGDR]"],
            r"callbacks\.SGDR\.class_path` was",
        ),
        (["stages.al.max_epochs=3"], "there is no stage 'al'"),
    ],
)
def test_other_keys_of_a_finished_run_do_not_change(one_epoch, overrides, message):
    with pytest.raises(RecipeError, match=message):
        continued_recipe(one_epoch, overrides)


@pytest.mark.parametrize(
    "key", ["stages.all.max_epochs=3", "evaluation.tta=2", "data.batch_size=2"]
)
def test_changed_keys_of_a_resumed_run_are_refused_by_name(one_epoch, key, capsys):
    before = {path: path.stat().st_mtime_ns for path in one_epoch.rglob("*")}
    assert main(["run", "--resume", str(one_epoch), f"--{key}"]) == 2
    assert f"`{key.partition('=')[0]}` was " in capsys.readouterr().err.replace("\n", " ")
    kept = {path: path.stat().st_mtime_ns for path in before if path.name != "log.txt"}
    assert kept == {path: time for path, time in before.items() if path.name != "log.txt"}


def test_what_cannot_change_a_result_may_change(finished: Path):
    document = yaml.safe_load((finished / "recipe.yaml").read_text())
    document["trainer"]["log_every_n_steps"] = 7
    (finished / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    run_recipe(finished / "recipe.yaml", finished, "data.num_workers=1", resume=True)
    # An edited file is compared with what was started, as an override is.
    document["stages"]["all"]["max_epochs"] = 3
    (finished / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(RecipeError, match=r"`stages\.all\.max_epochs` was 1 and would be 3"):
        run_recipe(finished / "recipe.yaml", finished, resume=True)


def test_a_run_of_an_earlier_version_is_continued(finished: Path, tmp_path: Path):
    progress = json.loads((finished / "progress.json").read_text())
    for stage in progress["stages"]:
        del stage["epochs"], stage["max_epochs"]
    (finished / "progress.json").write_text(json.dumps({"stages": progress["stages"]}))
    lied = Path(shutil.copytree(finished, tmp_path / "lied"))
    done = continue_run(finished, "stages.all.max_epochs=2")
    assert state_of(finished)["epoch"] == 1
    assert [part["epochs"] for part in done.results["parts"]] == [{"head": 1, "all": 1}, {"all": 1}]
    # Its `--resume` with more epochs trained none of them.
    path = lied / "recipe.yaml"
    path.write_text(
        path.read_text().replace("max_epochs: 1\n    lr: 0.003", "max_epochs: 3\n    lr: 0.003")
    )
    with pytest.raises(RecipeError, match="stopped after 1 of 3 epochs"):
        continued_recipe(lied, ["stages.all.max_epochs=4"])


def test_a_stage_that_stopped_early_is_not_continued(recipe_file, tmp_path):
    stop = {"monitor": "val_loss", "patience": 1, "mode": "max"}
    early = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": stop}
    path = shortened(recipe_file, early)
    run_recipe(path, tmp_path / "run", "stages.all.max_epochs=9", "stages.all.lr=0.00001")
    with pytest.raises(RecipeError, match=r"stopped after . of 9 epochs"):
        continued_recipe(tmp_path / "run", ["stages.all.max_epochs=12"])
    continued_recipe(tmp_path / "run", ["stages.more.max_epochs=1"], ["more"])


def test_an_unfinished_run_is_to_be_resumed_first(recipe_file, tmp_path, capsys):
    with pytest.raises(StopError):
        run_recipe(shortened(recipe_file), tmp_path / "run", "stages.all.max_epochs=2", stop=(1, 0))
    assert main(["run", "--continue", str(tmp_path / "run"), f"--{LONGER}"]) == 2
    assert f"fastrecipes run --resume {tmp_path / 'run'}" in capsys.readouterr().err


def test_several_seeds_are_continued_and_each_survives_an_interruption(
    recipe_file, tmp_path, capsys
):
    path, folder = shortened(recipe_file, stages=1), tmp_path / "run"
    assert main(["run", str(path), "--seeds=2", "--out", str(folder)]) == 0
    old = json.loads((folder / "results.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_fastrecipes.recipe.run.runner.Run.finish", interrupt)
        with pytest.raises(StopError):
            main(["run", "--continue", str(folder), f"--{LONGER}"])
    assert not (folder / "results.json").exists()
    assert main(["run", "--resume", str(folder)]) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["members"]["test"] != old["members"]["test"]
    assert results["parts"][0]["test"] == old["test"]
    for seed in (0, 1):
        assert state_of(folder / f"seed-{seed}")["epoch"] == 2
        part = json.loads((folder / f"seed-{seed}" / "parts/1/results.json").read_text())
        assert part["test"] == old["members"]["test"][f"seed-{seed}"]
    capsys.readouterr()
    assert main(["run", "--continue", str(folder / "seed-0"), "--stages.all.max_epochs=5"]) == 2
    assert f"belongs to the run {folder}" in capsys.readouterr().err


def interrupt(*_, **__):
    raise StopError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--continue", "nowhere"], "is no run folder"),
        (["run", "--continue", "nowhere", "--fast-dev-run"], "trains in earnest"),
        (["run", "--resume", "a", "--continue", "b"], "leave out everything but overrides"),
        (["run", "cats_dogs", "--add", "more"], "`--continue DIR --add NAME`"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"data": "a.B"}, {"data": {"class_path": "a.B", "init_args": {}}}, []),
        ({"trainer": None}, {}, []),
        ({"evaluation": {}}, {"evaluation": {"tta": {}}}, ["evaluation.tta"]),
        ({"data": {"class_path": "a.B", "init_args": {"x": 1}}}, {"data": "a.B"}, ["data.x"]),
        (
            {"stages": {"a": {"callbacks": ["m.C", {"class_path": "m.D"}]}}},
            {"stages": {"a": {"callbacks": [{"class_path": "m.C", "init_args": {"n": 2}}, "m.D"]}}},
            ["stages.a.callbacks.C.n"],
        ),
        ({"description": 1, "initial_checks": 1}, {}, []),
        ({"data": {"class_path": "a.B", "init_args": {"num_workers": 1}}}, {"data": "a.B"}, []),
    ],
)
def test_changed_keys_are_those_that_mean_something_else(before, after, changed):
    assert list(changed_keys(before, after)) == changed
    assert "data.num_workers" in NO_RESULT


@pytest.mark.parametrize("parts", [3, [3], [{"nose": 1}], [{"all": 0}], [{"all": 2}, {"all": 1}]])
def test_parts_that_cannot_be_are_refused(one_epoch, parts):
    document = load_recipe(one_epoch / "recipe.yaml").source | {"parts": parts}
    with pytest.raises(RecipeError, match=r"recipe\.yaml: parts: "):
        load_recipe(one_epoch / "recipe.yaml", document=document)
