import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl

import lightning_fastrecipes
from lightning_fastrecipes import DateSplit, FeatureDataModule, TableColumns
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images import table_listing
from lightning_fastrecipes.nn.backbones import create_backbone
from lightning_fastrecipes.recipe.config.catalog import recipes_folder
from lightning_fastrecipes.recipe.config.changes import changed_keys
from lightning_fastrecipes.recipe.config.schema import Precompute, Recipe
from lightning_fastrecipes.recipe.images.views import build_tta
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run import plan
from lightning_fastrecipes.tasks import image_task
from lightning_fastrecipes.tasks.image import ImageClassifier

RECIPES = sorted(recipes_folder().glob("*/recipe.yaml"))
TABLES = [
    path for path in RECIPES if load_recipe(path).data.class_path.endswith(".TabularDataModule")
]
CYCLES = {"cycle_len": 1, "cycle_mult": 1, "warm_in": 0}  # as `SGDR` has them where none is named
TRANSFERS = [path for path in RECIPES if "weights" in load_recipe(path).model.init_args]


def by_name(path: Path) -> str:
    return path.parent.name


def in_full(path: Path) -> Recipe:
    """Return the recipe as it trains all layers: a quick one does so in its variant."""
    recipe = load_recipe(path)
    return recipe.variants.get("thorough", recipe)


@pytest.mark.parametrize("path", RECIPES, ids=by_name)
def test_a_recipe_opens_with_data_and_launch_line(path: Path) -> None:
    head = path.read_text().split("description:")[0]
    assert "# Data:" in head
    assert f"# Launch: fastrecipes run {path.parent.name}" in head
    assert load_recipe(path).name == path.parent.name


@pytest.mark.parametrize("path", TRANSFERS, ids=by_name)
def test_a_recipe_follows_the_steps_of_the_course(path: Path) -> None:
    first, second, *_, last = stages = in_full(path).stages
    assert first.precompute
    assert first.freeze_to == -1
    assert not second.precompute
    assert second.augmentation != "none"
    assert 0 in [stage.freeze_to for stage in stages[1:]]  # everything trains once the head does
    assert last.freeze_to != -1
    assert last.lr_ratio in (3, 10)
    assert last.callbacks[0].name == "SGDR"


GROWING = [path for path in TRANSFERS if by_name(path) != "course"]  # one size, as its lesson


@pytest.mark.parametrize("path", GROWING, ids=by_name)
def test_a_recipe_grows_its_images_and_evaluates_more_than_it_trained_on(path: Path) -> None:
    recipe = in_full(path)
    sizes = []
    for stage in recipe.stages:
        steps = [c.init_args["sizes"] for c in stage.callbacks if c.name == "ProgressiveResizing"]
        fixed = {0: stage.image_size or recipe.data.init_args["image_size"]}
        sizes += [] if stage.precompute else (steps or [fixed])[0].values()
    assert sizes[-1] == max(sizes) > min(sizes)
    assert recipe.evaluation.tta is not None or recipe.evaluation.crop_fraction == 1.0
    assert recipe.data.init_args["augmentation"]["on_device"]


def test_the_quick_recipe_never_trains_on_images() -> None:
    recipe = load_recipe(recipes_folder() / "solar_cells" / "recipe.yaml")
    head, late = recipe.stages
    assert (head.precompute, head.freeze_to) == (True, -1)
    assert (late.precompute, late.freeze_to) == (Precompute("poses"), 1)
    assert late.augmentation == "top_down"
    assert recipe.evaluation.tta is not None


@pytest.mark.parametrize("path", RECIPES, ids=by_name)
def test_a_recipe_has_a_short_script_a_card_and_a_row_in_the_table(path: Path) -> None:
    card = path.with_name("README.md").read_text()
    for title in ("## Run", "## Result", "## From the course"):
        assert title in card
    assert len(card.splitlines()) <= 66  # a page
    assert len(path.with_name("recipe.py").read_text().splitlines()) <= 60
    part = "variant" if load_recipe(path).series else "stage"
    results = path.with_name("results.md")
    assert f"## What each {part} buys" in (results.read_text() if results.is_file() else card)
    assert (
        f"[{path.parent.name}]({path.parent.name}/README.md)"
        in (recipes_folder() / "README.md").read_text()
    )


@pytest.mark.parametrize("path", TRANSFERS, ids=by_name)
def test_the_script_trains_the_same_stages(
    path: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = path.with_name("recipe.py")
    table = tmp_path / "squares" / "labels.csv"
    files = [f.relative_to(squares) for f in sorted(squares.rglob("*.png"))]
    is_tagged = "separator" in load_recipe(path).data.init_args.get("table", {}).get("labels", {})
    rows = [f"{f} {n % 2} mono" for n, f in enumerate(files)]
    if is_tagged:
        rows = ["file,label", *(f"{f},small {f.parent}" for f in files)]
    table.write_text("\n".join(rows))
    places = {"csv": table, "folder": squares}
    monkeypatch.setattr(table_listing, "resolve_source", lambda _, argument: places[argument])
    asked = {}

    def small_backbone(name, **options):
        asked.update(options, name=name)
        return create_backbone("test_resnet.r160_in1k")

    monkeypatch.setattr(image_task, "create_backbone", small_backbone)
    fitted = []

    def record(trainer, model, datamodule):
        is_cached = isinstance(datamodule, FeatureDataModule)
        photos = datamodule.images if is_cached else datamodule
        callbacks = {type(c).__name__: c for c in trainer.callbacks}
        schedule, growth = callbacks["SGDR"], callbacks.get("ProgressiveResizing")
        mixing = callbacks.get("ImageMixing")
        fitted.append(
            {
                "max_epochs": trainer.max_epochs,
                "num_frozen": model.num_frozen,
                "lrs": model.group_lrs(),
                "precompute": is_cached,
                "views": datamodule.asked_views if is_cached else None,
                "augmentation": photos.augmentation,
                "network": (repr(model.head), model.norm_policy),
                "cycle": (schedule.cycle_len, schedule.cycle_mult, schedule.warm_in),
                "mixing": mixing and (mixing.method, mixing.alpha),
                "is_found": "LRFinder" in callbacks,
                "until_overfitting": "OverfittingStop" in callbacks,
                "split": photos.split,
                "geometry": photos.geometry,
                "sizes": growth.sizes if growth else {0: photos.image_size},
                "batch_size": photos.batch_size,
            }
        )

    tested = []

    def record_views(trainer, model, datamodule):
        found = [c for c in trainer.callbacks if type(c).__name__ == "TestTimeAugmentation"]
        size, geometry = datamodule.image_size, datamodule.geometry
        tested.append(([views.resolve(datamodule) for views in found], size, geometry))
        return [{}]

    monkeypatch.setattr(pl.Trainer, "fit", record)
    monkeypatch.setattr(pl.Trainer, "validate", lambda *_, **__: [{}])
    monkeypatch.setattr(pl.Trainer, "test", record_views)
    needs_root = "root" in load_recipe(path).data.init_args
    words, overrides = ([str(squares)], [f"data.root={squares}"]) if needs_root else ([], [])
    if is_tagged:
        words = [str(table), str(squares)]
        overrides = [f"data.csv={table}", f"data.table.folder={squares}"]
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")

    recipe = load_recipe(path, overrides)
    assert asked["name"] == recipe.model.init_args["backbone"]
    assert asked["weights"] == recipe.model.init_args["weights"]
    images, model = plan.build_parts(recipe)
    assert len(fitted) == len(recipe.stages)
    for index, (stage, script_stage) in enumerate(zip(recipe.stages, fitted, strict=True)):
        plan.apply_stage(recipe, index, images, model)
        spec = stage.callbacks[0].init_args
        growth = [c.init_args["sizes"] for c in stage.callbacks if c.name == "ProgressiveResizing"]
        mixings = [c.init_args for c in stage.callbacks if c.name == "ImageMixing"]
        mixed = [(settings["method"], settings["alpha"]) for settings in mixings]
        assert script_stage == {
            "max_epochs": stage.max_epochs,
            "num_frozen": model.num_frozen,
            "lrs": pytest.approx(model.group_lrs()),
            "precompute": bool(stage.precompute),
            "views": getattr(stage.precompute, "views", None),
            "augmentation": images.augmentation,
            "network": (repr(model.head), model.norm_policy),
            "cycle": tuple(spec.get(key, default) for key, default in CYCLES.items()),
            "mixing": mixed[0] if mixed else None,
            "is_found": stage.search is not None,
            "until_overfitting": stage.until_overfitting > 0,
            "split": images.split,
            "geometry": images.geometry,
            "sizes": growth[0] if growth else {0: images.image_size},
            "batch_size": images.batch_size,
        }
    views, size = build_tta(recipe, images), evaluated_size(recipe)
    geometry = images.geometry.cropped(recipe.evaluation.crop_fraction)
    assert tested == [([views.resolve(images)] if views else [], size, geometry)]


def evaluated_size(recipe: Recipe) -> int:
    """Tell the image size that a recipe is evaluated with, as a rule that it ends with."""
    if recipe.evaluation.image_size is not None:
        return recipe.evaluation.image_size
    last = recipe.stages[-1]
    growth = [c.init_args["sizes"] for c in last.callbacks if c.name == "ProgressiveResizing"]
    sizes = growth[0] if growth else {0: last.image_size or recipe.data.init_args["image_size"]}
    return list(sizes.values())[-1]


def as_trained(model: ImageClassifier, images, max_epochs: int, schedule: str) -> dict:
    """Return what matters of a model and how it is trained."""
    return {
        "network": repr(model.backbone.model),
        "head": repr(model.head),
        "lrs": model.group_lrs(),
        "num_frozen": model.num_frozen,
        "max_epochs": max_epochs,
        "schedule": schedule,
        "augmentation": images.augmentation,
        "sizes": (images.image_size, images.batch_size),
        "split": images.split,
    }


def test_the_script_trains_the_models_of_every_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    path = recipes_folder() / "mnist_ladder" / "recipe.yaml"
    script = path.with_name("recipe.py")
    pixels = np.random.default_rng(0).integers(0, 256, (420, 28, 28), dtype=np.uint8)
    labels = np.arange(420) % 10
    arrays = {"x_train": pixels[:400], "y_train": labels[:400]}
    np.savez(tmp_path / "digits.npz", **arrays, x_test=pixels[400:], y_test=labels[400:])
    fitted = []

    def record(trainer, model, datamodule):
        datamodule.setup()
        schedule = type(trainer.callbacks[0]).__name__
        fitted.append(as_trained(model, datamodule, trainer.max_epochs, schedule))

    monkeypatch.setattr(pl.Trainer, "fit", record)
    monkeypatch.setattr(pl.Trainer, "test", lambda *_, **__: [{}])
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "digits.npz")])
    runpy.run_path(str(script), run_name="__main__")
    assert "Mean of six: " in capsys.readouterr().out

    expected = []
    recipe = load_recipe(path, [f"data.source={tmp_path / 'digits.npz'}"])
    for variant in recipe.variants.values():
        images, model = plan.build_parts(variant)
        plan.apply_stage(variant, 0, images, model)
        stage = variant.stages[0]
        trained = as_trained(model, images, stage.max_epochs, stage.callbacks[0].name)
        # The first of six is the model of the variant before it.
        expected += [trained] * (1 if variant.seeds == 1 else variant.seeds - 1)
    assert fitted == expected


LADDER = {  # each variant with what it changes, and of which one
    "hidden_layer": ("linear", "model.backbone.hidden"),
    "without_activation": ("hidden_layer", "model.backbone.activation"),
    "deeper": ("hidden_layer", "model.backbone.hidden"),
    "wider": ("hidden_layer", "model.backbone.hidden"),
    "convolutions": ("hidden_layer", "model.backbone"),
    "augmentation": ("convolutions", "data.augmentation"),
    "batch_norm": ("augmentation", "model.backbone.batch_norm"),
    "higher_rate": ("batch_norm", "stages.all.lr"),
    "dropout": ("higher_rate", "model.head.dropout"),
    "mean_of_six": ("dropout", "seeds"),
}


def test_the_ladder_has_the_order_of_the_notes_and_changes_one_thing_at_a_time() -> None:
    recipe = load_recipe(recipes_folder() / "mnist_ladder" / "recipe.yaml")
    assert [*recipe.variants] == ["linear", *LADDER]
    side_steps = [name for name, variant in recipe.variants.items() if variant.is_side_step]
    assert side_steps == ["without_activation", "deeper", "wider"]
    for name, (base, key) in LADDER.items():
        variant = recipe.variants[name]
        changed = changed_keys(recipe.variants[base].source, variant.source)
        del changed["name"]
        assert changed
        assert all(f"{k}.".startswith(f"{key}.") for k in changed), (name, changed)
    # Depth is compared with width at the same number of weights.
    deeper, wider = (
        sum(before * after for before, after in pairwise([3 * 28 * 28, *hidden, 10]))
        for hidden in (
            recipe.variants[name].model.init_args["backbone"]["init_args"]["hidden"]
            for name in ("deeper", "wider")
        )
    )
    assert wider == pytest.approx(deeper, rel=1e-3)


@pytest.mark.parametrize("path", TABLES, ids=by_name)
def test_the_script_for_a_table_trains_what_the_recipe_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = path.with_name("recipe.py")
    recipe = load_recipe(path)
    said = recipe.data.init_args
    asked, fitted = {}, []

    def remember(source, columns, **named):
        asked.update(named, source=source, columns=columns)
        return type("Table", (), {"seed": 0})()

    class DoneError(Exception):
        pass

    def record(trainer, model, datamodule):
        fitted.append((trainer, model))
        raise DoneError

    monkeypatch.setattr(lightning_fastrecipes, "TabularDataModule", remember, raising=False)
    monkeypatch.setattr(pl.Trainer, "fit", record)
    monkeypatch.syspath_prepend(script.parent)  # as if it ran as a script
    is_given = not said["source"].startswith("package:")
    monkeypatch.setattr(sys, "argv", [str(script), *([said["source"]] if is_given else [])])
    with pytest.raises(DoneError):
        runpy.run_path(str(script), run_name="__main__")

    assert asked["source"] == said["source"]
    assert asked["columns"] == TableColumns(**said["columns"])
    assert asked["split"] == DateSplit(**said["split"])
    for name in ("steps", "where", "batch_size"):
        assert asked[name] == said[name]
    [(trainer, model)], [stage] = fitted, recipe.stages
    assert trainer.max_epochs == stage.max_epochs
    expected = lightning_fastrecipes.TabularRegressor(**recipe.model.init_args, lr=stage.lr)
    assert model.optim == expected.optim
    assert model.architecture == expected.architecture
    [schedule] = [c for c in trainer.callbacks if type(c).__name__ == "SGDR"]
    assert {n: getattr(schedule, n) for n in stage.callbacks[0].init_args} == (
        stage.callbacks[0].init_args
    )


def test_rossmann_and_its_script_run_on_tables_like_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = runpy.run_path(str(Path(__file__).with_name("rossmann_tables.py")))
    source = str(tables["write_rossmann"](tmp_path / "rossmann"))
    monkeypatch.chdir(tmp_path)
    words = ["run", "rossmann", "--data.source", source, "--fast-dev-run", "--out", "run"]
    assert main(words) == 0
    report = (tmp_path / "run" / "table_report.txt").read_text()
    assert len(re.findall(r"276 of 276 rows found their row", report)) == 5
    assert "where 'Sales > 0': 39 of 276 rows left out." in report  # Sundays
    # Rows before and after the range of the validation train.
    assert "train: 114 rows" in report
    assert "val: 123 rows" in report
    assert (tmp_path / "run" / "export" / "model.json").is_file()

    script = recipes_folder() / "rossmann" / "recipe.py"
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), source])
    capsys.readouterr()
    runpy.run_path(str(script), run_name="__main__")
    assert re.search(r"rmspe of the snapshots' mean: 0\.\d{4}", capsys.readouterr().out)
    assert len(list(tmp_path.glob("rossmann/seed-0/cycle-*.ckpt"))) == 2
