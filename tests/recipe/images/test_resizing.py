"""Recipes whose stages change their size from epoch to epoch."""

import json

import pytest
import yaml

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.runner import Run


def resized(recipe_file, **init_args):
    """Let the last stage, of three epochs, train at 32 and then at 48 px."""
    document = yaml.safe_load(recipe_file.read_text())
    callback = {"class_path": "lightning_fastrecipes.ProgressiveResizing"}
    callback["init_args"] = {"sizes": {0: 32, 2: 48}, **init_args}
    document["stages"][-1]["callbacks"].append(callback)
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


def test_the_plan_counts_the_steps_of_every_size(recipe_file):
    recipe = load_recipe(resized(recipe_file, batch_sizes={0: 7, 1: 4}))
    images, model = build_parts(recipe)
    plan = plan_stages(recipe, images, model)[-1]
    num_images = len(images.eval_dataset("train"))
    assert num_images == 14
    assert (plan.image_size, plan.batch_size, plan.steps_per_epoch) == (32, 7, 2)
    assert plan.num_steps == 2 + 4 + 4
    assert " 32 px, then 48 px from epoch 3, batches of 7" in plan.title
    assert images.image_size == 48


def test_a_run_is_evaluated_and_exported_at_the_last_size_also_when_resumed(recipe_file, tmp_path):
    recipe, folder = load_recipe(resized(recipe_file)), tmp_path / "run"
    found = []
    for resume in (False, True):
        run = Run(recipe, folder, show_progress=False, resume=resume)
        run.prepare()
        for index in range(len(run.plans)):
            run.run_stage(index)
        results = run.finish()
        found.append(results["test"])
        exported = json.loads((folder / "export" / "model.json").read_text())
        assert exported["geometry"]["image_size"] == 48
        assert results["stages"][-1]["image_size"] == 48
    assert found[0] == found[1]


def test_sizes_that_the_backbone_does_not_take_are_refused_before_training(recipe_file):
    recipe = load_recipe(resized(recipe_file), ["model.backbone=test_vit.r160_in1k"])
    images, model = build_parts(recipe)
    spec = model.backbone.input_spec
    model.backbone.input_spec = type(spec)(image_size=32, fixed_size=True)
    message = r"stages\.all: `ProgressiveResizing`: .* must be 32 for .* got 48"
    with pytest.raises(RecipeError, match=message):
        plan_stages(recipe, images, model)


def test_precomputed_features_are_refused(recipe_file):
    document = yaml.safe_load(resized(recipe_file).read_text())
    head, last = document["stages"][0], document["stages"][-1]
    head["callbacks"] = last["callbacks"]
    recipe_file.write_text(yaml.safe_dump(document))
    recipe = load_recipe(recipe_file)
    with pytest.raises(RecipeError, match="precomputed features have one size"):
        plan_stages(recipe, *build_parts(recipe))
