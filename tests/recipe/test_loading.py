import re
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_fastrecipes.errors import DataError, RecipeError
from lightning_fastrecipes.old_names import translate_recipe
from lightning_fastrecipes.recipe.config.documents import dump_document, read_document
from lightning_fastrecipes.recipe.config.schema import Evaluation
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts
from lightning_fastrecipes.trust import class_paths


def changed(path: Path, change) -> Path:
    document = translate_recipe(yaml.safe_load(path.read_text()))
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
        (lambda d: d.update(seed="x"), ["seed: must be a whole number, but is 'x'"]),
        (
            lambda d: d["stages"]["augmented"].update(max_epoch=1),
            [r"stages\.augmented: there is no key `max_epoch`", "Did you mean `max_epochs`"],
        ),
        (
            lambda d: d["stages"]["augmented"].update(max_epochs="two"),
            [r"stages\.augmented", "max_epochs", "two"],
        ),
        (
            lambda d: d["stages"]["augmented"].update(max_epochs=0),
            [r"stages\.augmented.max_epochs: .* at least 1"],
        ),
        (
            lambda d: d["stages"]["augmented"].pop("max_epochs"),
            [r"stages\.augmented", "max_epochs"],
        ),
        (
            lambda d: d["stages"].update({"a b": {"max_epochs": 1}}),
            ["stages.a b: a name must be letters"],
        ),
        (lambda d: d["stages"].update({1: {}}), ["stages.1: a name must be letters"]),
        (lambda d: d["stages"].update(all=3), ["stages.all: must be a mapping, but is 3"]),
        (
            lambda d: d.update(stages=[{"name": "all", "max_epochs": 1}] * 2),
            ["stages: must be a mapping .* in a list, each stage needs a name of its own"],
        ),
        (
            lambda d: d["stages"]["head"].update(augmentation="sideon"),
            [r"stages\.head", "augmentation"],
        ),
        (lambda d: d.update(stages=[]), ["stages: must be a mapping with at least one stage"]),
        (
            lambda d: d["stages"]["all"]["callbacks"][0]["init_args"].update(cycle_mul=2),
            [r"stages\.all.callbacks\[0\]: `SGDR` has no argument `cycle_mul`", "`cycle_mult`"],
        ),
        (
            lambda d: d["stages"]["all"]["callbacks"][0]["init_args"].update(cycle_len="long"),
            [r"stages\.all.callbacks\[0\]", "cycle_len", "long"],
        ),
        (
            lambda d: d["stages"]["all"]["callbacks"][0].update(
                class_path="lightning_fastrecipes.SDGR"
            ),
            ["'lightning_fastrecipes.SDGR' cannot be imported", "`lightning_fastrecipes.SGDR`"],
        ),
        (
            lambda d: d["stages"]["all"]["callbacks"][0].update(class_path="torch.nn.Linear"),
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
        (
            lambda d: d["model"]["init_args"].update(lr=0.1),
            ["model.lr: has no effect .* every stage has its own", r"`stages\.NAME\.lr`"],
        ),
        (
            lambda d: d["model"]["init_args"].update(optim={"lr_ratio": 3, "weight_decay": 0.1}),
            ["model.optim.lr_ratio: has no effect in a recipe"],
        ),
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


def test_a_rate_of_the_model_in_a_run_of_before_is_told(recipe_file: Path) -> None:
    path = changed(recipe_file, lambda d: d["model"]["init_args"].update(lr=0.1))
    path.with_name("progress.json").write_text("{}")
    with pytest.warns(UserWarning, match="model.lr: has no effect in a recipe"):
        assert load_recipe(path).stages


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
            "stages.all.callbacks.SGDR.cycle_len=3",
            "stages.all.callbacks.0.init_args.floor=0.1",
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
    assert recipe.stages[2].callbacks[0].init_args == {"cycle_len": 3, "floor": 0.1}
    assert recipe.evaluation.image_size == 64


def test_a_list_of_stages_reads_as_the_mapping_of_their_names(recipe_file: Path, tmp_path) -> None:
    as_list = load_recipe(recipe_file)
    assert isinstance(yaml.safe_load(recipe_file.read_text())["stages"], list)
    assert list(as_list.source["stages"]) == ["head", "augmented", "all"]
    again = tmp_path / "tiny" / "mapping.yaml"
    again.write_text(dump_document(as_list.source))
    assert load_recipe(again).stages == as_list.stages


def test_class_paths_are_listed_before_anything_is_imported() -> None:
    callbacks = [{"class_path": "a.B"}, "c.D", {"class_path": "e.F", "init_args": {"g": 1}}]
    nested = {"class_path": "h.I", "init_args": {"net": {"class_path": "j.K"}}}
    document = {"model": nested, "stages": {"all": {"callbacks": callbacks}}}
    assert list(class_paths(document)) == [
        ("model", "h.I"),
        ("model.init_args.net", "j.K"),
        ("stages.all.callbacks.0", "a.B"),
        ("stages.all.callbacks.1", "c.D"),
        ("stages.all.callbacks.2", "e.F"),
    ]


def test_a_path_that_looks_like_a_number_stays_a_path(recipe_file: Path) -> None:
    assert load_recipe(recipe_file, ["data.root=2024"]).data.init_args["root"] == "2024"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "is no override"),
        ("data." + "a." * 3000 + "a=1", "must have at most 50 parts"),
        ("data.root=a: b: c", "as YAML: mapping values are not allowed here in line 1, column 5$"),
        ("stages.al.lr=1", "there is no stage 'al'. Stages: head, augmented, all"),
        ("stages.all=1", "name one key of one stage"),
        ("stages.all.callbacks.SGDR=1", "name one key of one callback"),
        ("stages.all.callbacks.SGRD.floor=1", "there is no callback 'SGRD'. Callbacks: SGDR"),
        ("stages.all.callbacks.SGDR.flor=1", "Did you mean `floor`"),
        ("seed.x=1", "`seed` is 0, which holds no keys. Write the whole value: `--seed=...`."),
        ("description.x.y=1", "`description` is .*, which holds no keys"),
        ("model.backbones=resnet18", "Did you mean `backbone`"),
        ("datta.root=x", "Did you mean `data`"),
    ],
    ids=lambda value: value[:20],
)
def test_a_wrong_override_is_named(recipe_file: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe_file, [override])


def test_a_key_of_views_goes_beside_their_number(recipe_file: Path) -> None:
    views = load_recipe(
        recipe_file, ["evaluation.tta=3", "evaluation.tta.preset=augmentation"]
    ).evaluation.tta
    assert (views.n, views.preset) == (3, "augmentation")


def test_the_resolved_document_reads_back_as_the_same_recipe(recipe_file, tmp_path) -> None:
    recipe = load_recipe(recipe_file, ["seed=3", "stages.all.lr=1e-4"])
    copy = tmp_path / "tiny" / "copy.yaml"
    copy.write_text(dump_document(recipe.source))
    assert load_recipe(copy).stages == recipe.stages
    assert load_recipe(copy).source == recipe.source


def test_what_a_constructor_refuses_is_said_with_file_and_key(recipe_file) -> None:
    recipe = load_recipe(recipe_file, ["model.num_classes=1"])
    with pytest.raises(RecipeError, match=r"recipe\.yaml: model: `num_classes` must be at least 2"):
        build_parts(recipe)


def test_images_of_one_class_are_no_task(recipe_file, squares) -> None:
    shutil.rmtree(squares / "red")
    with pytest.raises(DataError, match="two classes or more, but all are of 'blue'"):
        build_parts(load_recipe(recipe_file))
