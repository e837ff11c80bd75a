"""Recipes whose stages train late layers on what frozen early layers gave."""

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lightning_fastrecipes.data.common.cache_choice import cache_folder
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.schema import Precompute
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.recipe.run.terminal import print_plan


def late(recipe_file: Path, precompute=None, **model) -> Path:
    """Let the last stage, of three epochs, read the outputs of its frozen first layer group."""
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"] = document["stages"][::2]
    document["stages"][-1] |= {"freeze_to": 1, "precompute": precompute or {"views": "poses"}}
    document["model"]["init_args"] |= model
    document["evaluation"] = {"tta": {"preset": "flips", "n": 7}}
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


def test_the_plan_says_what_is_kept_and_how_large_it_is(recipe_file: Path) -> None:
    recipe = load_recipe(late(recipe_file))
    assert recipe.stages[-1].precompute == Precompute("poses")
    *_, plan = plan_stages(recipe, *build_parts(recipe))
    console = Console(record=True, width=400)
    print_plan(console, plan)
    text = " ".join(console.export_text().split())
    kept = "14 images, 8 views each, 48 x 4 x 4 numbers in float16: 0.2 MiB"
    assert f"augmentation top_down, on precomputed outputs of `layer2`, {kept}" in text


def test_a_run_trains_late_layers_and_evaluates_images_also_when_resumed(
    recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(late(recipe_file, {"views": 2, "storage": "uint8"}))
    whole = Run(recipe, tmp_path / "whole", show_progress=False)
    whole.prepare()
    for index in range(2):
        whole.run_stage(index)
    found = whole.finish()
    assert {"accuracy", "accuracy_tta"} <= set(found["test"])
    names = {path.parent.name for path in cache_folder().glob("features/*/scales.npy")}
    assert len(names) == 2

    shorter = load_recipe(recipe_file, ["stages.all.max_epochs=2"])
    part = Run(shorter, tmp_path / "part", show_progress=False)
    part.prepare()
    part.run_stage(0)
    part.run_stage(1)
    progress = tmp_path / "part" / "progress.json"
    document = json.loads(progress.read_text())
    document["stages"] = document["stages"][:1]  # as if it had been stopped after an epoch
    document["recipe"]["stages"] = recipe.source["stages"]
    progress.write_text(json.dumps(document))
    again = Run(recipe, tmp_path / "part", show_progress=False, resume=True)
    again.prepare()
    again.run_stage(0)
    again.run_stage(1)
    assert again.finish()["test"] == found["test"]


@pytest.mark.parametrize(
    ("precompute", "words"),
    [
        ({"views": "flips"}, r"stages\.all\.precompute\.views"),
        ({"pose": 8}, r"stages\.all\.precompute.*pose"),
        ({"storage": "int4"}, r"stages\.all\.precompute\.storage"),
        (8, r"stages\.all\.precompute"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_named_by_its_key(recipe_file, precompute, words) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(late(recipe_file, precompute))


@pytest.mark.parametrize(
    ("precompute", "model", "words"),
    [
        ({"views": 0}, {}, r"stages\.all: `views` must be 'poses' or a number of at least 1"),
        (True, {"norm_policy": "stats_if_frozen"}, r"stages\.all: .*stored statistics.*`bn1`"),
    ],
    ids=["views", "norms"],
)
def test_what_does_not_fit_is_refused_before_training(
    recipe_file, precompute, model, words
) -> None:
    recipe = load_recipe(late(recipe_file, precompute, **model))
    with pytest.raises(RecipeError, match=words):
        plan_stages(recipe, *build_parts(recipe))
