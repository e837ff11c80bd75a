"""Files that try to run code: none of it runs, and the message names what is not trusted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_fastrecipes import ImageClassifier
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.functional.images.transform_list import read_transforms
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders, write_export
from lightning_fastrecipes.recipe.artifacts.run_folder import kept_inside
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.tables.export import load_table_export
from lightning_fastrecipes.trust import check_document

MODULE = """
from pathlib import Path
import pytorch_lightning as pl
import torch
Path({marker!r}).touch()
class Net(torch.nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, width, 1)
    def forward(self, images):
        return self.layer(images)
class Hook(pl.Callback): pass
class Data(pl.LightningDataModule): pass
class Model(pl.LightningModule): pass
class Adam(torch.optim.Adam): pass
def measure(probabilities, targets):
    return 0.5
"""
FUNCTIONAL = "lightning_fastrecipes.functional"
MLP = "lightning_fastrecipes.nn.small.SmallMLP"
LAMBDA = "pytorch_lightning.callbacks.LambdaCallback"
HOUSE_ONE = Path(__file__).parent / "fixtures" / "house_one" / "run_folders"


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `evilmod` writes when it is imported."""
    folder = tmp_path / "strange"
    folder.mkdir()
    marker = folder / "ran"
    (folder / "evilmod.py").write_text(MODULE.format(marker=str(marker)))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "evilmod", raising=False)
    yield marker
    sys.modules.pop("evilmod", None)


def named(path: str, **init_args) -> dict:
    return {"class_path": path, "init_args": init_args}


def model(**init_args):
    return lambda d: d["model"]["init_args"].update(init_args)


def callback(spec):
    return lambda d: d["stages"][2]["callbacks"].append(spec)


def variants(**changes):
    return lambda d: d.update(variants={"other": changes})


def on_fit_start(value):
    return callback(named(LAMBDA, on_fit_start=value))


RECIPES = {
    "data": lambda d: d["data"].update(class_path="evilmod.Data"),
    "data that is missing": lambda d: d["data"].update(class_path="evilmod.nothing"),
    "data as text": lambda d: d.update(data="evilmod.Data"),
    "model": lambda d: d["model"].update(class_path="evilmod.Model"),
    "model, a function": lambda d: d["model"].update(class_path="evilmod.measure"),
    "callback": callback(named("evilmod.Hook")),
    "callback as text": callback("evilmod.Hook"),
    "backbone": model(backbone=named("evilmod.Net")),
    "backbone in backbone": model(backbone=named(MLP, inner=named("evilmod.Net"))),
    "metric": model(metrics={"m": "evilmod.measure"}),
    "metric as mapping": model(metrics={"m": named("evilmod.measure")}),
    "optimizer": model(optim={"optimizer": "evilmod.Adam"}),
    "optimizer of before": model(optimizer="evilmod.Adam"),
    "optimizer as mapping": model(optim={"optimizer": named("evilmod.Adam")}),
    "logger": lambda d: d["trainer"].update(logger=named("evilmod.Logger")),
    "logger as text": lambda d: d["trainer"].update(logger="evilmod.Logger"),
    "logger in a list": lambda d: d["trainer"].update(logger=["evilmod.Logger"]),
    "logger as YAML in text": lambda d: d["trainer"].update(
        logger='{"class_p\\x61th": "evilmo\\x64.X"}'
    ),
    "plugins": lambda d: d["trainer"].update(plugins=[named("evilmod.Plugin")]),
    "function of a callback": on_fit_start("evilmod.measure"),
    "class of a callback": on_fit_start(named("evilmod.Hook")),
    "class of a callback as YAML": on_fit_start("{class_path: evilmod.Hook}"),
    "variant": variants(data=named("evilmod.Data")),
    "variant, key": variants(**{"model.backbone": named("evilmod.Net")}),
    "variant, class": variants(**{"model.class_path": "evilmod.Model"}),
    "variant, callbacks": variants(**{"stages.all.callbacks": ["evilmod.Hook"]}),
    "variant, metric": variants(**{"model.metrics.m": "evilmod.measure"}),
    "variant, callback": variants(**{"stages.all.callbacks.SGDR.class_path": "evilmod.Hook"}),
    "rung of before": lambda d: d.update(rungs=[{"name": "a", "set": {"data": "evilmod.Data"}}]),
    "deep path": callback("evilmod.sub.module.Hook"),
    "a package that is not installed": callback("lightning.evil.Hook"),
    "colon": callback("evilmod:Hook"),
    "colon in a package": callback("torch:os.system"),
    "private module": callback("lightning_fastrecipes.__main__.main"),
    "list for a path": lambda d: d["data"].update(class_path=["evilmod.Data"]),
    # Modules that are imported already.
    "os.system": on_fit_start("os.system"),
    "re-exported module": on_fit_start("torch.os.system"),
    "function of torch": on_fit_start("torch.hub.load"),
    "metric os.system": model(metrics={"m": "os.system"}),
    "metric of the command": model(metrics={"m": "lightning_fastrecipes.cli.main.main"}),
    "metric through a package": model(metrics={"m": "torch.os.system"}),
    "metric of torch": model(metrics={"m": "torch.load"}),
    "metric of timm": model(metrics={"m": "timm.create_model"}),
    "metric of our command": model(metrics={"m": "lightning_fastrecipes.cli.main.main"}),
    "compiler": model(metrics={"m": "torch.utils.cpp_extension.load"}),
    "process": on_fit_start(named("torch.distributed.elastic.multiprocessing.subprocess_handler"
                                  ".SubprocessHandler", entrypoint="touch")),
    "process as backbone": model(backbone=named("subprocess.Popen", args=["true"])),
    "loading a pickle": model(backbone=named("torch.package.PackageImporter")),
    "other command line": callback(named("pytorch_lightning.cli.LightningCLI")),
    "classmethod": callback(named("pytorch_lightning.LightningModule.load_from_checkpoint")),
}  # fmt: skip


@pytest.mark.parametrize("change", RECIPES.values(), ids=RECIPES)
def test_a_recipe_runs_no_code_that_is_not_trusted(recipe_file, ran, change, capsys) -> None:
    document = yaml.safe_load(recipe_file.read_text())
    change(document)
    recipe_file.write_text(yaml.safe_dump(document))
    assert main(["check", str(recipe_file)]) == 2
    assert "recipe.yaml" in capsys.readouterr().err
    assert not ran.exists()
    assert "evilmod" not in sys.modules


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.class_path=evilmod.Data"],
        ["data.class_path=evilmod.Data", "data.root=2024"],
        ["model.backbone={class_path: evilmod.Net}", "model.backbone.width=1"],
        ["model.backbone.class_path=evilmod.Net", "model.backbone.width=1"],
        ["stages.all.callbacks.SGDR.class_path=evilmod.Hook", "stages.all.callbacks.Hook.x=1"],
        ["model.metrics={m: evilmod.measure}"],
        ["model.optim={optimizer: evilmod.Adam}"],
        ["trainer.logger=evilmod.Logger"],
        ["variants={a: {data: evilmod.Data}}"],
    ],
)
def test_an_override_runs_no_code_that_is_not_trusted(recipe_file, ran, overrides) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(recipe_file, overrides)
    assert not ran.exists()


@pytest.mark.parametrize("command", ["explain", "show-batch", "lr-find", "run"])
def test_every_command_and_a_resumed_run_ask_for_trust(
    recipe_file, ran, command, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(recipe_file.read_text())
    callback(named("evilmod.Hook"))(document)
    recipe_file.write_text(yaml.safe_dump(document))
    words = [command, str(recipe_file), *(["--stage", "all"] if command == "lr-find" else [])]
    if command == "run":
        assert main(["run", "--resume", str(recipe_file.parent)]) == 2
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "evilmod.Hook" in message
    assert "--trust evilmod" in message
    assert not ran.exists()
    assert main(["check", str(recipe_file), "--trust", "evilmod"]) == 0
    assert ran.exists()


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("mine.Net", "mine"),
        ("mine.parts.Net", "mine.parts"),
        ("torch.load", "torch.load"),
        ("torch.hub.load", "torch.hub"),
        ("torch._inductor.X", "torch._inductor"),
        ("timm.create_model", "timm.create_model"),
        ("pytorch_lightning.Trainer", "pytorch_lightning.Trainer"),
        ("torchvision.datasets.CIFAR10", "torchvision.datasets"),
    ],
)
def test_the_message_asks_for_as_little_trust_as_will_do(path, needed) -> None:
    document = {"model": {"init_args": {"optim": {"optimizer": path}}}}
    with pytest.raises(ConfigurationError, match="trust it") as refused:
        check_document(document)
    assert f"`--trust {needed}`" in str(refused.value)
    assert f"trust=['{needed}']" in str(refused.value)
    if not path.startswith("mine"):
        check_document({"model": named(path)}, [needed])


def test_trust_is_of_a_module_and_not_of_names_that_begin_alike(recipe_file, ran) -> None:
    with pytest.raises(RecipeError, match="evilmod"):
        load_recipe(recipe_file, ["data.class_path=evilmod.Data"], trust=["evil", "evilmod2"])
    assert not ran.exists()
    trusted = ["model.metrics={m: evilmod.measure}", "model.optim={optimizer: evilmod.Adam}"]
    assert load_recipe(recipe_file, trusted, trust=["evilmod"]).model.init_args["metrics"]
    assert ran.exists()


@pytest.mark.parametrize(
    "document",
    [
        {"model": named("lightning_fastrecipes.ImageClassifier", backbone=named(MLP))},
        {"model": {"init_args": {"metrics": {"f": "torchmetrics.functional.accuracy"}}}},
        {"model": {"init_args": {"metrics": {"f": "lightning_fastrecipes.SampleFBeta"}}}},
        {"model": {"init_args": {"metrics": {"f": f"{FUNCTIONAL}.labels.targets.hard_labels"}}}},
        {"model": {"init_args": {"metrics": {"f": named("torchmetrics.F1Score", task="binary")}}}},
        {"model": {"init_args": {"optim": {"optimizer": "torch.optim.SGD"}}}},
        {"trainer": {"logger": named("pytorch_lightning.loggers.CSVLogger", save_dir="x")}},
        {"trainer": {"plugins": [named("pytorch_lightning.plugins.MixedPrecision")]}},
        {"trainer": {"strategy": named("pytorch_lightning.strategies.DDPStrategy")}},
        {"model": {"init_args": {"backbone": named("torchvision.models.ResNet")}}},
        {"model": {"init_args": {"backbone": named("timm.models.resnet.ResNet")}}},
        {"data": {"init_args": {"split": named("lightning_fastrecipes.FractionSplit")}}},
        {"data": {"init_args": {"steps": [{"derive": {"optimizer": "os.system"}}]}}},
    ],
    ids=lambda document: json.dumps(document)[:40],
)
def test_what_recipes_need_may_be_named(document) -> None:
    check_document(document)


# Exports.


@pytest.fixture
def export(tmp_path: Path, ran: Path) -> Path:
    """An export whose backbone is of a module that is not trusted."""
    return write_model(tmp_path / "run" / "export", backbone=named("evilmod.Net"))


def write_model(folder: Path, task="image classification", model=None, **architecture) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"num_classes": 2, **architecture}
    spec = {"mean": [0, 0, 0], "std": [1, 1, 1], "image_size": 8}
    write_export(
        folder, model or torch.nn.Linear(2, 2),
        {"task": task, "architecture": whole, "classes": ["a", "b"], "label_kind": "single",
         "thresholds": None, "input": spec, "batch_size": 2, "steps": [], "folder": ".",
         "package": None,
         "geometry": {"image_size": 8, "crop_fraction": 1.0}},
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "architecture",
    [
        {"backbone": named("evilmod.Net")},
        {"backbone": named(MLP, inner=[named("evilmod.Net")])},
        {"backbone": "resnet18", "metrics": {"m": "evilmod.measure"}},
        {"backbone": "resnet18", "optim": {"optimizer": "evilmod.Adam"}},
        {"backbone": "resnet18", "weights": "stranger.pth"},
        {"backbone": "resnet18", "pretrained": True},
        {"backbone": "resnet18", "trust": ["evilmod"]},
        {"backbone": "hf-hub:any/name"},
        {"backbone": "HF_HUB:any/name"},
        {"backbone": "local-dir:/tmp"},
        {"backbone": "hf\t-hub:any/name"},
        {"backbone": "\0hf-hub:any/name"},
        {"backbone": "\ufefflocal-\u200bdir:/tmp"},
        {"backbone": named("torch" + ".a" * 5000)},
        {"backbone": "https://host/x"},
        {"backbone": named("lightning_fastrecipes.ImageClassifier", backbone="hf-hub:any/name")},
        {"backbone": named("torchmetrics.image.LearnedPerceptualImagePatchSimilarity")},
        {"backbone": named("torch.hub.load", repo_or_dir="a/b", model="c")},
        {"backbone": named("torch.os.system", command="true")},
        {"backbone": named("timm.create_model", model_name="hf-hub:a/b")},
        {"backbone": named("torch.serialization.load", f="x")},
    ],
    ids=str,
)
def test_an_export_runs_no_code_and_fetches_nothing(tmp_path, ran, architecture) -> None:
    folder = write_model(tmp_path / "export", **architecture)
    with pytest.raises(DataError, match="is not loaded"):
        load_export(folder)
    assert not ran.exists()


def test_an_export_of_a_table_takes_no_other_keys(tmp_path, ran) -> None:
    folder = write_model(tmp_path / "x", "table regression", metrics={"m": "evilmod.measure"})
    with pytest.raises(DataError, match="must have spec, network"):
        load_table_export(folder)
    assert not ran.exists()


def test_the_command_predicts_with_a_strange_export_only_if_it_is_trusted(
    export, ran, squares, capsys
) -> None:
    words = ["predict", str(export.parent), str(squares), "--out", str(export.parent / "o.csv")]
    assert main(words) == 1
    assert "--trust evilmod" in capsys.readouterr().err
    assert not ran.exists()
    main([*words, "--trust", "evilmod"])
    assert ran.exists()


def test_other_weights_than_those_exported_are_refused(tmp_path) -> None:
    folder = shutil.copytree(HOUSE_ONE / "soft", tmp_path / "soft") / "export"
    model, description = load_export(folder)  # without a digest, as earlier versions wrote it
    description.pop("format_version")
    write_export(folder, model, description)
    load_export(folder)
    other = torch.nn.Linear(2, 2)
    write_export(tmp_path / "soft", other, {})
    shutil.move(tmp_path / "soft" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(DataError, match="must hold what was exported"):
        load_export(folder)


@pytest.mark.parametrize(
    "members",
    [
        ["../../elsewhere"],
        ["/tmp"],
        ["members/../../../x"],
        ["members/a"] * 2000,
        [".", "./"],
        "ab",
    ],
    ids=lambda members: str(members)[:30],
)
def test_members_lie_in_the_run_folder_and_are_listed_once(tmp_path, members) -> None:
    home = tmp_path / "run" / "export"
    home.mkdir(parents=True)
    (home / "ensemble.json").write_text(json.dumps({"members": members}))
    with pytest.raises(DataError, match=r"must (be a )?list"):
        member_folders(tmp_path / "run")
    with pytest.raises(DataError, match=r"must (be a )?list"):
        predict_files(home, [])


def test_a_link_out_of_the_run_folder_is_no_member(tmp_path) -> None:
    home = tmp_path / "run" / "export"
    home.mkdir(parents=True)
    (home / "out").symlink_to(tmp_path)
    (home / "ensemble.json").write_text('{"members": ["out"]}')
    with pytest.raises(DataError, match="must list"):
        member_folders(home)


def test_members_of_earlier_versions_are_found() -> None:
    assert len(member_folders(HOUSE_ONE / "digits")) == 2
    assert len(member_folders(HOUSE_ONE / "soft")) == 2


# Checkpoints.


def write_checkpoint(path: Path, key: str = "hyper_parameters", **hparams) -> Path:
    torch.save({key: {"num_classes": 2, **hparams}, "state_dict": {},
                "pytorch-lightning_version": "2.6.6"}, path)  # fmt: skip
    return path


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
@pytest.mark.parametrize(
    "hparams",
    [
        {"backbone": named("evilmod.Net")},
        {"backbone": "resnet18", "metrics": {"m": "evilmod.measure"}},
        {"backbone": "resnet18", "optim": {"optimizer": "evilmod.Adam"}},
        {"backbone": "resnet18", "optimizer": "evilmod.Adam"},
        {"backbone": "hf-hub:any/name"},
        {"backbone": "resnet18", "_class_path": "evilmod.Model"},
    ],
    ids=str,
)
def test_a_checkpoint_runs_no_code_and_fetches_nothing(tmp_path, ran, key, hparams) -> None:
    path = write_checkpoint(tmp_path / "x.ckpt", key, **hparams)
    with pytest.raises(ConfigurationError, match=r"trust it|without fetching"):
        ImageClassifier.load_from_checkpoint(path)
    with path.open("rb") as file, pytest.raises(ConfigurationError):
        ImageClassifier.load_from_checkpoint(file)
    assert not ran.exists()


def test_weights_that_a_checkpoint_names_are_not_fetched(tmp_path) -> None:
    path = write_checkpoint(tmp_path / "x.ckpt", backbone="test_resnet.r160_in1k",
                            pretrained=True, weights="stranger.pth")  # fmt: skip
    model = ImageClassifier.load_from_checkpoint(path, strict=False)
    assert not model.backbone.pretrained


def test_a_checkpoint_of_a_network_of_ones_own_loads_where_it_is_trusted(tmp_path, ran) -> None:
    path = write_checkpoint(tmp_path / "x.ckpt", backbone=named("evilmod.Net"), num_groups=2)
    model = ImageClassifier.load_from_checkpoint(path, trust=["evilmod"], strict=False)
    assert ran.exists()
    assert model.hparams["backbone"]["class_path"] == "evilmod.Net"
    with pytest.raises(ConfigurationError, match="hparams_file"):
        ImageClassifier.load_from_checkpoint(path, hparams_file="x.yaml")


# Names and YAML.


@pytest.mark.parametrize(
    "name", ["../../../escaped", "/abs/x", "..", ".", "", "a\\b", "C:x", "a\nb", "x" * 5000]
)
def test_a_name_is_a_plain_name(recipe_file, name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(recipe_file.read_text()) | {"name": name}
    recipe_file.write_text(yaml.safe_dump(document))
    assert main(["lr-find", str(recipe_file), "--stage", "all"]) == 2
    assert not (tmp_path / "runs").exists()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "every alias written out"),
        (f"stages: {{{BOMB.replace(chr(10), ', ')}}}", "every alias written out"),
        ("a: &a [*a]", "every alias written out"),
        ("a: &a {x: 1}\n<<: [" + ", ".join(["*a"] * 9000) + "]", "every alias written out"),
        ("[" * 3000, "levels deep"),
        ("{a: " * 2000, "levels deep"),
        ("[" * 100 + "]" * 100, "levels deep"),
        ("# " + "x" * 2_000_000, "characters long"),
        ("description: 2020-13-45", "none of YAML's"),
        ("seed: 0x_", "none of YAML's"),
        ("seed: !!int x", "none of YAML's"),
        ("seed: !!bool abc", "none of YAML's"),
        ("seed: !!timestamp abc", "none of YAML's"),
        ('seed: "\\UFFFFFFFF"', "none of YAML's"),
        ("? [a]\n: b", "none of YAML's"),
        ("seed: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: &a {x: 1}\nb: {<<: *a}", "keys are not merged by `<<`: write them out in line 2"),
    ],
    ids=lambda value: value[:30],
)
def test_yaml_is_bounded_and_its_errors_are_named(tmp_path, text, message) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", ["[a", "%x", "*.jpg", "@x", "'", "{a: *b}", "!foo", "[" * 3000])
def test_an_override_that_is_no_yaml_is_named(recipe_file, value) -> None:
    with pytest.raises(RecipeError, match=r"override --data\.root: .* cannot be read as YAML"):
        load_recipe(recipe_file, [f"data.root={value}"])


def test_the_working_directory_is_not_imported_from(recipe_file, ran) -> None:
    """As `python -m lightning_fastrecipes`, which puts it on the path of imports."""
    words = [sys.executable, "-m", "lightning_fastrecipes", "check", str(recipe_file.resolve())]
    done = subprocess.run([*words, "--data.class_path=evilmod.Data"], cwd=ran.parent,
                          capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "evilmod.Data" in done.stderr
    assert not ran.exists()


# Transforms.

V2 = "torchvision.transforms.v2"


@pytest.mark.parametrize(
    "spec",
    [
        named("torchmetrics.image.LearnedPerceptualImagePatchSimilarity"),
        named("torch.nn.Upsample", scale_factor=500),
        named("pytorch_lightning.loggers.TensorBoardLogger", save_dir="x"),
        named("lightning_fastrecipes.ImageClassifier", backbone="hf-hub:a/b", pretrained=True),
        named(f"{V2}.Compose", transforms=[named("torch.nn.Conv2d")]),
    ],
)
def test_transforms_in_files_are_of_torchvision(spec) -> None:
    for document in (
        {"transforms": [spec]},
        {"data": {"init_args": {"augmentation": [spec]}}},
        {"variants": {"a": {"stages.all.augmentation": {"transforms": [spec]}}}},
    ):
        with pytest.raises(ConfigurationError, match=r"is no transform of `torchvision"):
            check_document(document)
    check_document({"transforms": [named(f"{V2}.RandomApply", transforms=[f"{V2}.RandomInvert"])]})


@pytest.mark.parametrize(
    "spec",
    [
        named(f"{V2}.Pad", padding=500),
        named(f"{V2}.Resize", size=1000),
        named(f"{V2}.Compose", transforms=[named(f"{V2}.RandomZoomOut", side_range=[1, 900])]),
        named(f"{V2}.RandomRotation", degrees=45, expand=True),
    ],
)
def test_transforms_that_change_the_size_are_refused_before_they_take_memory(spec) -> None:
    with pytest.raises(ConfigurationError, match="must keep the size of images"):
        read_transforms([spec])


def test_transforms_of_a_stage_may_hold_others_whose_numbers_are_bounded(recipe_file) -> None:
    document = yaml.safe_load(recipe_file.read_text())
    spec = named(f"{V2}.RandomApply", transforms=[named(f"{V2}.RandomInvert")])
    for form in ([spec], {"transforms": [spec]}):
        document["stages"][1]["augmentation"] = form
        recipe_file.write_text(yaml.safe_dump(document))
        assert load_recipe(recipe_file).stages[1].augmentation == form
    document["stages"][1]["augmentation"] = [named(f"{V2}.RandAugment", num_ops=10**7)]
    recipe_file.write_text(yaml.safe_dump(document))
    with pytest.raises(RecipeError, match="must be at most 1,000"):
        load_recipe(recipe_file)


@pytest.mark.parametrize("name", ["/run/checkpoints/../../home", "..\\x", "sftp://host/x"])
def test_a_checkpoint_lets_no_callback_delete_what_lies_elsewhere(name) -> None:
    for state in ({"kth_best_model_path": name}, {"best_k_models": {name: 0.5}}, {"a": [name]}):
        with pytest.raises(ConfigurationError, match="must name files of the run folder"):
            kept_inside({"ModelCheckpoint{}": state}, "callbacks")
    kept_inside({"ModelCheckpoint{}": {"best_model_path": "/run/a..b/x.ckpt"}}, "callbacks")
