"""What a file may ask for, and what only the command line may: sizes, and where is written."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lightning_fastrecipes._lightning import LIGHTNING
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.documents import is_bounded_yaml
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run

Change = Callable[[dict], object]
LOGGERS = "pytorch_lightning.loggers"
CSV = f"{LOGGERS}.CSVLogger"
PROFILER = "pytorch_lightning.profilers.SimpleProfiler"
KEEP = "lightning_fastrecipes.CycleSnapshots"


def named(path: str, **init_args: object) -> dict:
    return {"class_path": path, "init_args": init_args}


def changed(path: Path, change: Change) -> Path:
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def callback(**init_args: object) -> Change:
    spec = named("pytorch_lightning.callbacks.ModelCheckpoint", **init_args)
    return lambda d: d["stages"][2]["callbacks"].append(spec)


def logger(path: str = CSV, **init_args: object) -> Change:
    return lambda d: d["trainer"].update(logger=named(path, **init_args))


@pytest.mark.parametrize(
    "change",
    [
        callback(dirpath="/tmp/x"),
        callback(dirpath="../x"),
        callback(dirpath="a/../../x"),
        callback(dirpath="~/x"),
        callback(dirpath="s3://host/x"),
        callback(filename="../x"),
        # The name of a metric is written, too, and 47 is a slash.
        callback(filename="{../../x}"),
        callback(filename="{/tmp/x}"),
        callback(filename="{step:c}tmp{step:c}x", auto_insert_metric_name=False),
        callback(filename="{step:99999999999}"),
        callback(dirpath="C:\\x"),
        logger(save_dir="/tmp"),
        logger(save_dir=".", name="../x"),
        logger(save_dir=".", version=".."),
        lambda d: d["trainer"].update(profiler=named(PROFILER, dirpath="/x")),
        lambda d: d.update(variants={"a": {"stages.all.callbacks": [named(KEEP, dirpath="/x")]}}),
        lambda d: d.update(variants={"a": {"trainer.logger": named(CSV, save_dir="/x")}}),
    ],
)  # fmt: skip
def test_what_a_file_makes_others_write_lies_in_the_run_folder(recipe_file, change) -> None:
    with pytest.raises(
        RecipeError, match=r"must be written below the run folder.*on the command line"
    ):
        load_recipe(changed(recipe_file, change))


@pytest.mark.parametrize("name", ["WandbLogger", "MLFlowLogger", "CometLogger"])
def test_a_file_sends_nothing_over_the_network_unless_it_is_trusted(recipe_file, name) -> None:
    with pytest.raises(RecipeError, match=rf"over the network.*--trust {LIGHTNING}\.loggers"):
        load_recipe(changed(recipe_file, logger(f"{LOGGERS}.{name}")))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["trainer"].update(logger=json.dumps(named(CSV, save_dir="/tmp/x"))),
        lambda d: d["trainer"].update(logger=json.dumps(named(CSV, save_dir="logs"))),
        lambda d: d["trainer"].update(logger=f"[{json.dumps(named(CSV, save_dir='logs'))}]"),
        lambda d: d["trainer"].update(logger=f'{{"a": 1, "a": 2, {json.dumps(named(CSV))[1:]}'),
        lambda d: d["trainer"].update(
            strategy="{class_path: pytorch_lightning.strategies.DDPStrategy, dict_kwargs:"
            " {init_method: 'tcp://host:1'}}"
        ),
    ],
)  # fmt: skip
def test_classes_are_not_named_within_text(recipe_file, change) -> None:
    with pytest.raises(RecipeError, match="must not name a class within text"):
        load_recipe(changed(recipe_file, change))


def test_names_of_files_may_hold_metrics(recipe_file) -> None:
    for name in ("{epoch}-{val_loss:.2f}", "{epoch:02d}", "{val/loss:.3g}"):
        recipe = load_recipe(changed(recipe_file, callback(filename=name)))
        assert recipe.stages[2].callbacks[-1].init_args["filename"] == name


def test_numbers_within_text_are_bounded(recipe_file) -> None:
    for change in (
        lambda d: d["model"]["init_args"].update(head="{hidden: 70000}"),
        lambda d: d["model"]["init_args"].update(head={"hidden": "70000"}),
        lambda d: d["stages"][0].update(max_epochs="200000"),
    ):
        before = recipe_file.read_text()
        with pytest.raises(RecipeError, match="must be at most"):
            load_recipe(changed(recipe_file, change))
        recipe_file.write_text(before)


def test_folders_are_free_on_the_command_line(recipe_file, tmp_path) -> None:
    path = changed(recipe_file, callback(dirpath="kept"))
    key = f"stages.all.callbacks.ModelCheckpoint.dirpath={tmp_path / 'mine'}"
    recipe = load_recipe(path, [key])
    assert recipe.stages[2].callbacks[1].init_args["dirpath"] == str(tmp_path / "mine")
    placed = Run(recipe, tmp_path / "run").recipe.stages[2].callbacks[1]
    assert placed.init_args["dirpath"] == str(tmp_path / "mine")


def test_relative_folders_lie_in_the_run_folder(recipe_file, tmp_path, monkeypatch) -> None:
    def change(document: dict) -> None:
        callback(dirpath="kept", monitor="val_loss")(document)
        logger(save_dir="logs", name="mine")(document)
        document["stages"] = document["stages"][2:]
        document["stages"][0]["max_epochs"] = 1

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    run = Run(load_recipe(changed(recipe_file, change)), Path("run"), show_progress=False)
    run.prepare()
    run.run_stage(0)
    assert [path.name for path in home.iterdir()] == ["run"]
    assert list((home / "run" / "kept").glob("*.ckpt"))
    assert list((home / "run" / "logs" / "mine").rglob("metrics.csv"))
    assert yaml.safe_load(run.folder.recipe.read_text())["trainer"]["logger"]["init_args"][
        "save_dir"
    ] == "logs"  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.image_size", 100_000),
        ("data.batch_size", 10**9),
        ("data.num_workers", 100_000),
        ("stages.all.image_size", 5_000),
        ("stages.all.max_epochs", 200_000),
        ("evaluation.image_size", 10**6),
        ("evaluation.tta.n", 10**6),
        ("model.head.hidden", 10**6),
        ("trainer.devices", 10**6),
        ("seeds", 10**6),
    ],
)
def test_numbers_in_a_file_are_bounded(recipe_file, key, value) -> None:
    def change(document: dict) -> None:
        document["stages"] = {stage.pop("name"): stage for stage in document["stages"]}
        document["variants"] = {"large": {key: value}}

    with pytest.raises(RecipeError, match=rf"variants\.large\.{key}: must be at most .*--variants"):
        load_recipe(changed(recipe_file, change))


def test_numbers_are_free_on_the_command_line(recipe_file) -> None:
    recipe = load_recipe(recipe_file, ["stages.all.image_size=5000", "data.batch_size=2000000"])
    assert recipe.stages[2].image_size == 5000
    with pytest.raises(RecipeError, match="at most 1,000,000"):
        load_recipe(recipe_file, ["stages.all.max_epochs=1000000000"])


@pytest.mark.parametrize("key", ["data.seed", "data.image_size", "seeds", "stages.all.batch_size"])
def test_numbers_fit_into_64_bits_wherever_they_are_said(recipe_file, key) -> None:
    with pytest.raises(RecipeError, match=rf"{key}: must fit into 64 bits, but is 9+\."):
        load_recipe(recipe_file, [f"{key}={'9' * 20}"])
    assert load_recipe(recipe_file, [f"data.root={'9' * 20}"]).data.init_args["root"] == "9" * 20


LEVELS = (f"&{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
BOMB = f"[&a [1,1,1,1], {', '.join(LEVELS)}]"


@pytest.mark.parametrize("text", [BOMB, "[" * 3000, "{a: " * 2000, "[" + "1," * 20_000 + "]"])
@pytest.mark.parametrize("key", ["trainer.logger", "model.head", "data.split", "stages.all.lr"])
def test_yaml_in_text_is_bounded(recipe_file, text, key) -> None:
    def change(document: dict) -> None:
        document["stages"] = {stage.pop("name"): stage for stage in document["stages"]}
        document["variants"] = {"a": {key: text}}

    started = time.process_time()
    with pytest.raises(RecipeError, match=r"at most .* levels deep|must not be long or deep YAML"):
        load_recipe(recipe_file, [f"{key}={text}"])
    with pytest.raises(RecipeError, match=r"at most .* levels deep|must not be long or deep YAML"):
        load_recipe(recipe_file, [f"{key}='{text}'"])
    with pytest.raises(RecipeError, match="must not be long or deep YAML"):
        load_recipe(changed(recipe_file, change))
    assert time.process_time() - started < 20


def test_plain_text_is_no_yaml_bomb() -> None:
    for text in ("Photos: of *cats* & [dogs", "*.jpg", "a" * 100_000, "{a: b}", "[1, 2]"):
        assert is_bounded_yaml(text)


@pytest.mark.parametrize("command", ["check", "show", "explain"])
def test_names_of_any_length_and_other_files_are_refused(command, capsys, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("root:x:0:0:root:/root:/bin/bash\n")
    for name in (
        "x" * 5000,
        "a/" * 3000,
        "/etc/passwd",
        str(tmp_path / "notes.txt"),
        str(tmp_path),
    ):
        assert main([command, name]) == 2
        said = capsys.readouterr()
        assert "root:x:0:0" not in said.out
        assert len(said.err) < 1500
