"""A run that stops in the midst of an epoch goes on from its last checkpoint, bit for bit."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from helpers.run_content import assert_same_content, run_content
from helpers.runs import StopError, run_recipe

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:`ValidationGuard`", "ignore:The training loss has risen", "ignore:`LRFinder` is skipped"
)


class StopAtStep(pl.Callback):
    """Interrupt a fit before a step; no time is left for anything else."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise StopError


def interrupted(recipe: Path, folder: Path, stage: int, step: int, *overrides: str) -> None:
    """Run a recipe until a step of a stage."""
    run = Run(load_recipe(recipe, overrides), folder, show_progress=False)
    make = run._trainer
    run.prepare()
    for index in range(stage):
        run.run_stage(index)
    run._trainer = lambda callbacks, **rest: make([*callbacks, StopAtStep(step)], **rest)
    with pytest.raises(StopError):
        run.run_stage(stage)


def callback(name: str, **arguments) -> dict:
    return {"class_path": f"lightning_fastrecipes.{name}", "init_args": arguments}


@pytest.fixture
def recipe(recipe_file: Path) -> Path:
    """A stage on features, and one that grows its images, mixes them and takes snapshots."""
    document = yaml.safe_load(recipe_file.read_text())
    head, _, last = document["stages"]
    head |= {"max_epochs": 1}
    last |= {
        "max_epochs": 2,
        "callbacks": [
            callback("SGDR", cycle_len=1),
            callback("CycleSnapshots"),
            callback("ProgressiveResizing", sizes={0: 32, 1: 48}),
            callback("ImageMixing"),
        ],
    }
    document |= {"stages": [head, last], "save_every": 1, "train_metrics": 4}
    document["model"]["init_args"]["head"]["dropout"] = 0.3
    recipe_file.write_text(yaml.safe_dump(document, sort_keys=False))
    return recipe_file


@pytest.fixture
def whole(recipe, tmp_path) -> dict:
    run_recipe(recipe, tmp_path / "whole")
    return run_content(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_images_go_on_at_any_step_with_any_workers(recipe, whole, tmp_path, workers) -> None:
    folder = tmp_path / "run"
    workers = f"data.num_workers={workers}"
    interrupted(recipe, folder, 0, 2, workers)
    assert (folder / "checkpoints" / "head.begun.ckpt").is_file()
    run = Run(load_recipe(folder / "recipe.yaml"), folder, show_progress=False, resume=True)
    run.prepare()
    run.run_stage(0)
    for step in (2, 5):  # within the first epoch and, on larger images, within the second
        make = run._trainer
        run._trainer = lambda callbacks, make=make, step=step, **rest: make(
            [*callbacks, StopAtStep(step)], **rest
        )
        with pytest.raises(StopError):
            run.run_stage(1)
        run = Run(load_recipe(folder / "recipe.yaml"), folder, show_progress=False, resume=True)
        run.prepare()
        run.run_stage(0)
    run.run_stage(1)
    run.finish()
    found = run_content(folder)
    for name in ("recipe.yaml", "progress.json"):  # which say how many workers there were
        del found[name], whole[name]
    assert_same_content(found, whole)


def test_a_begun_epoch_that_is_older_than_its_end_is_not_gone_back_to(recipe, tmp_path) -> None:
    folder = tmp_path / "run"
    interrupted(recipe, folder, 0, 2)
    begun = folder / "checkpoints" / "head.begun.ckpt"
    content = begun.read_bytes()
    run = run_recipe(folder / "recipe.yaml", folder, resume=True)
    assert not begun.exists()
    expected = run_content(folder)
    begun.write_bytes(content)
    (folder / "progress.json").unlink()
    assert (
        run_recipe(folder / "recipe.yaml", folder, resume=True).results["val"]
        == (run.results["val"])
    )
    assert_same_content(run_content(folder), expected)


def test_a_begun_epoch_on_another_number_of_processes_is_refused(recipe, tmp_path) -> None:
    folder = tmp_path / "run"
    interrupted(recipe, folder, 0, 2)
    before = run_content(folder)
    other = load_recipe(folder / "recipe.yaml", ["trainer.devices=2"])
    with pytest.raises(RecipeError, match=r"resumed with the keys .* but `trainer\.devices`"):
        Run(other, folder, show_progress=False, resume=True).prepare()
    assert_same_content(run_content(folder), before)


def test_times_and_steps_are_read_and_others_are_refused(recipe_file) -> None:
    assert load_recipe(recipe_file, ["save_every=5min"]).save_every == "5min"
    assert load_recipe(recipe_file, ["save_every=200"]).save_every == 200
    for wrong in ("0", "-1", "often", "true", "1.5", "[1]", "0min"):
        with pytest.raises(RecipeError, match=r"save_every.*number of steps"):
            load_recipe(recipe_file, [f"save_every={wrong}"])
