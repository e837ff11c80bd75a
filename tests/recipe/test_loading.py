import re
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.documents import dump_document, read_document
from lightning_fastrecipes.recipe.config.schema import Evaluation
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts


def changed(path: Path, change) -> Path:
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_a_recipe_is_read_into_frozen_dataclasses(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe.name == "tiny"
    assert [stage.name for stage in recipe.stages] == ["head", "augmented", "all"]
    assert recipe.stages[0].precompute
    assert recipe.stages[2].callbacks[0].name == "SGDR"
    assert recipe.evaluation == Evaluation()
    with pytest.raises(AttributeError, match="cannot assign"):
        recipe.seed = 1


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda d: d.update(sead=1), ["there is no key `sead`", "Did you mean `seed`"]),
        (lambda d: d.pop("model"), ["the key `model` is missing"]),
        (lambda d: d.update(seed="x"), ["seed: must be int, but is 'x'"]),
        (
            lambda d: d["stages"][1].update(max_epoch=1),
            [r"stages\[1\]: there is no key `max_epoch`", "Did you mean `max_epochs`"],
        ),
        (lambda d: d["stages"][1].update(max_epochs="two"), [r"stages\[1\]", "max_epochs", "two"]),
        (lambda d: d["stages"][1].update(max_epochs=0), [r"stages\[1\].max_epochs: .* at least 1"]),
        (lambda d: d["stages"][1].pop("max_epochs"), [r"stages\[1\]", "max_epochs"]),
        (lambda d: d["stages"][1].update(name="a b"), [r"stages\[1\].name: must be letters"]),
        (lambda d: d["stages"][1].update(name="all"), ["two stages are named 'all'"]),
        (lambda d: d["stages"][0].update(augmentation="sideon"), [r"stages\[0\]", "augmentation"]),
        (lambda d: d.update(stages=[]), ["stages: must be a list of at least one"]),
        (
            lambda d: d["stages"][2]["callbacks"][0]["init_args"].update(cycle_mul=2),
            [r"stages\[2\].callbacks\[0\]: `SGDR` has no argument `cycle_mul`", "`cycle_mult`"],
        ),
        (
            lambda d: d["stages"][2]["callbacks"][0]["init_args"].update(cycle_len="long"),
            [r"stages\[2\].callbacks\[0\]", "cycle_len", "long"],
        ),
        (
            lambda d: d["stages"][2]["callbacks"][0].update(
                class_path="lightning_fastrecipes.SDGR"
            ),
            ["'lightning_fastrecipes.SDGR' cannot be imported", "`lightning_fastrecipes.SGDR`"],
        ),
        (
            lambda d: d["stages"][2]["callbacks"][0].update(class_path="torch.nn.Linear"),
            ["must name a subclass of `Callback`"],
        ),
        (
            lambda d: d["data"]["init_args"].update(rot="x"),
            ["data: `ImageFolderDataModule` has no argument `rot`", "Did you mean `root`"],
        ),
        (
            lambda d: d["data"]["init_args"].update(batch_size="many"),
            ["data", "batch_size", "many"],
        ),
        (lambda d: d["model"]["init_args"].update(lr_ratios=3), ["Did you mean `lr_ratio`"]),
        (lambda d: d["trainer"].update(device=1), ["trainer: .* `device`", "`devices`"]),
        (lambda d: d["trainer"].update(max_epochs=1), ["trainer.max_epochs", "per stage"]),
        (lambda d: d.update(evaluation={"splits": ["train"]}), ["evaluation", "train"]),
    ],
)
def test_a_mistake_is_named_with_file_and_key(recipe_file: Path, change, messages) -> None:
    with pytest.raises(RecipeError, match=re.escape(str(recipe_file))) as caught:
        load_recipe(changed(recipe_file, change))
    for message in messages:
        assert re.search(message, str(caught.value)), str(caught.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(RecipeError, match="the key `seed` stands twice"):
        read_document(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "cannot be read as YAML"), ("- 1\n", "must hold keys"), ("", "must hold keys")],
    ids=["broken", "list", "empty"],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_document(path)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-3\nlrs: [1e-4, 2E+1, .5e0]\n")
    assert read_document(path) == {"lr": 1e-3, "lrs": [1e-4, 20.0, 0.5]}


def test_overrides_reach_every_part(recipe_file: Path) -> None:
    recipe = load_recipe(
        recipe_file,
        [
            "seed=7",
            "data.batch_size=8",
            "data.init_args.num_workers=1",
            "model.backbone=resnet18",
            "model.head.layout=linear",
            "trainer.devices=2",
            "stages.all.lr=[1e-4, 1e-3, 1e-2]",
            "stages.0.max_epochs=5",
            "evaluation.image_size=64",
        ],
    )
    assert recipe.seed == 7
    assert recipe.data.init_args["batch_size"] == 8
    assert recipe.data.init_args["num_workers"] == 1
    assert recipe.model.init_args["backbone"] == "resnet18"
    assert recipe.model.init_args["head"] == {"hidden": 8, "layout": "linear"}
    assert recipe.trainer["devices"] == 2
    assert recipe.stages[2].lr == [1e-4, 1e-3, 1e-2]
    assert recipe.stages[0].max_epochs == 5
    assert recipe.evaluation.image_size == 64


def test_a_path_that_looks_like_a_number_stays_a_path(recipe_file: Path) -> None:
    assert load_recipe(recipe_file, ["data.root=2024"]).data.init_args["root"] == "2024"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "is no override"),
        ("stages.al.lr=1", "there is no stage 'al'. Stages: head, augmented, all"),
        ("stages.all=1", "name one key of one stage"),
        ("seed.x=1", "holds no keys"),
        ("model.backbones=resnet18", "Did you mean `backbone`"),
        ("datta.root=x", "Did you mean `data`"),
    ],
    ids=lambda value: value[:20],
)
def test_a_wrong_override_is_named(recipe_file: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe_file, [override])


def test_the_resolved_document_reads_back_as_the_same_recipe(recipe_file, tmp_path) -> None:
    recipe = load_recipe(recipe_file, ["seed=3", "stages.all.lr=1e-4"])
    copy = tmp_path / "tiny" / "copy.yaml"
    copy.write_text(dump_document(recipe.source))
    assert load_recipe(copy).stages == recipe.stages
    assert load_recipe(copy).source == recipe.source


def test_what_a_constructor_refuses_is_said_with_file_and_key(recipe_file, squares) -> None:
    shutil.rmtree(squares / "red")
    recipe = load_recipe(recipe_file)
    with pytest.raises(RecipeError, match=r"recipe\.yaml: model: `num_classes` must be at least 2"):
        build_parts(recipe)
