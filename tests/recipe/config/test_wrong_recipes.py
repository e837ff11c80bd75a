"""Wrong values, names and arguments: ``check`` says in plain words what must be and what came."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.loading import load_recipe

RAW = re.compile(r"Parser key|ubtypes|<class|Traceback|Namespace|unexpected keyword|Union"
                 r"|not supported between|has no len|NoneType")  # fmt: skip
M, D, T, S = "model.init_args.", "data.init_args.", "trainer.", "stages.all."
PL = "pytorch_lightning.callbacks."


def named(path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": init_args}


F1 = "torchmetrics.classification.MulticlassF1Score"
WRONG: list[tuple[str, Any, str]] = [
    ("seed", -1, "seed: must be from 0 to 4,000,000"),
    ("seed", 10**20, "seed: must be from 0"),
    ("seed", "x", "seed: must be a whole number, but is 'x'"),
    ("name", 3, "name: must be text, but is 3"),
    ("initial_checks", "yes", "must be true or false"),
    ("variants", 3, "variants: must be a mapping"),
    ("stages", [], "at least one stage"),
    (S + "max_epochs", "three", r"stages\.all\.max_epochs: must be a whole number, but is 'three'"),
    (S + "max_epochs", True, "must be a whole number, but is True"),
    (S + "max_epochs", None, "must be a whole number, but is None"),
    (S + "lr", "fast", "must be a number, a list .each a number., 'find' or 'as_before'"),
    (S + "lr", None, r"stages\.all\.lr: must be a number, a list .*, but is None"),
    (S + "lr", -1, "`lr` must be above 0"),
    (S + "lr_ratio", 0, "`lr_ratio` must be at least 1"),
    (S + "freeze_to", 9, "`freeze_to` must be between"),
    (S + "freeze_to", "head", "must be a whole number"),
    (S + "image_size", [32, 32], "must be a whole number or null"),
    (S + "image_size", 0, "`image_size` must be at least 1"),
    (S + "batch_size", 0, "`batch_size` must be at least 1"),
    (S + "augmentation", "zz", "must be 'none', 'basic'"),
    (S + "augmentation", {"zz": 3}, "has no key 'zz'. Known: preset"),
    (S + "augmentation", {"max_zoom": "x"}, r"`augmentation\.max_zoom` must be a number"),
    (S + "lr", {"find": "zz"}, r"stages\.all\.lr\.find: must be 'midway'"),
    (S + "epochs", 3, "Did you mean `max_epochs`"),
    ("trainer", 0, "trainer: must be a mapping, but is 0"),
    ("evaluation", "", "evaluation: must be a mapping, but is ''"),
    ("parts", False, "parts: must be a list"),
    ("data", "torch.nn.Linear", "must name a subclass of `LightningDataModule` .* is none"),
    ("variants", "x" * 3000, "variants: must be a mapping"),
    ("description", "\ud800", "text holds half of a character"),
    (T + "max_epoch", 3, "no key `max_epoch`, and `max_epochs` is set by the runner: set it per"),
    (T + "devices", 0, "trainer: must have values that Lightning takes"),
    (T + "devices", "x", "trainer: must have values"),
    (T + "accelerator", "zz", "trainer: must have values"),
    (T + "strategy", "zz", "trainer: must have values"),
    (T + "max_steps", None, r"trainer\.max_steps: must be a whole number, but is None"),
    (T + "overfit_batches", None, r"trainer\.overfit_batches: must be a .*number, but is None"),
    (S + "name", "zz", r"stages\.all\.name: must be left out, since the stage is called 'all'"),
    (S + "callbacks", "", "callbacks: must be a list, but is ''"),
    (T + "max_time", "zz", "trainer: must have values"),
    (T + "overfit_batches", -1, "trainer: must have values"),
    (T + "num_nodes", 0, r"trainer\.num_nodes: must be at least 1"),
    (T + "accumulate_grad_batches", 0, r"trainer\.accumulate_grad_batches: must be at least 1"),
    (T + "check_val_every_n_epoch", 0, "must be at least 1"),
    (T + "gradient_clip_val", -1, "must be at least 0"),
    (T + "gradient_clip_val", "x", r"trainer\.gradient_clip_val: must be a number or null"),
    (T + "limit_train_batches", 0, "with which nothing is trained"),
    (T + "limit_val_batches", 0, "with which nothing is validated"),
    (T + "limit_test_batches", 0.0, "with which nothing is tested"),
    (T + "max_steps", 0, "with which nothing is trained"),
    (T + "precision", "17", r"trainer\.precision: must be 64, 32, 16"),
    (T + "benchmark", "perhaps", "must be true or false or null"),
    (T + "logger", "csv", r"trainer\.logger: must be a `Logger`"),
    (T + "logger", named("pytorch_lightning.loggers.CSVLogger", zz=1), "has no argument 'zz'"),
    (T + "plugins", ["zz"], r"trainer\.plugins\[0\]: must be a `Precision`"),
    (S + "callbacks", [named(PL + "EarlyStopping")], r"callbacks\[0\]: needs `monitor`"),
    (S + "callbacks", [named(PL + "EarlyStopping", monitor=3)], r"\.monitor: must be text"),
    (S + "callbacks", [named(PL + "EarlyStopping", monitor="a", mode="zz")], "can be min, max"),
    (S + "callbacks", [named(PL + "ModelCheckpoint")], "cannot stand beside the checkpoint"),
    (S + "callbacks", [named(PL + "Timer", duration="zz")], "not a valid duration"),
    (S + "callbacks", [named(PL + "LambdaCallback", on_fit_start="print")], "must be a function"),
    (S + "callbacks", [named("lightning_fastrecipes.SGDR", cycle_len=0)], "`cycle_len` must be"),
    (S + "callbacks", [named("lightning_fastrecipes.SGDR", cycle_len="x")], "a whole number"),
    (D + "root", 3, r"data\.root: must be text, but is 3"),
    (D + "root", ..., "data: needs `root`"),
    (D + "split", [0.2, 0.2], r"data\.split: must be a mapping \(val, test, seed, stratify\)"),
    (D + "split", {"val": 2}, r"data\.split: .*\[0, 1\), got 2"),
    (D + "split", {"val": "x"}, r"`split\.val` must be a number, but is 'x'"),
    (D + "split", {"folds": 1}, "`folds` must lie between 2 and 1,000"),
    (D + "split", {"fold": 5}, "`fold` must be one of 0 to 4"),
    (D + "split", {"val": [1, 1]}, "lists rows more than once"),
    (D + "split", {"column": 3}, r"`split\.column` must be text, but is 3"),
    (D + "image_size", "big", r"data\.image_size: must be a whole number, but is 'big'"),
    (D + "geometry", {"crop_fraction": 2}, r"data\.geometry: `crop_fraction` must lie in \(0, 1\]"),
    (D + "geometry", {"crop_fractoin": 1}, "Did you mean `crop_fraction`"),
    (D + "geometry", {"white_level": "zz"}, r"data\.geometry\.white_level: must be"),
    (D + "augmentation", {"max_zoom": float("nan")}, r"data\.augmentation: .*max_zoom"),
    (D + "geometry", {"background": None}, r"data\.geometry\.background: must be text, but is N"),
    (D + "geometry", {"max_megapixels": None}, r"geometry\.max_megapixels: must be a number"),
    (D + "augmentation", {"max_angle": None}, r"augmentation\.max_angle: must be a number"),
    (D + "split", {"val": None}, r"split\.val: must be a number, but is None"),
    (D + "split", {"val": named("torch.nn.Linear")}, r"split\.val: must be a number"),
    (D + "root", named("torch.nn.ReLU"), r"data\.root: must be text, but is \{"),
    (D + "layout", {}, r"data\.layout: must be 'auto', 'splits', 'classes' or a mapping"),
    (M + "head", {"hidden": None}, r"head\.hidden: must be a whole number, but is None"),
    (M + "head", {"dropout": named("torch.nn.ReLU")}, r"head\.dropout: must be a number"),
    (M + "labels", {"kind": named("torch.nn.Linear")}, r"labels\.kind: must be"),
    (M + "backbone", 5, r"model\.backbone: must be text, a mapping or a `Module`"),
    (M + "backbone", ..., "model: needs `backbone`"),
    (S + "callbacks", [named(PL + "WeightAveraging", avg_fn=3)], r"\[0\]\.avg_fn: must be what `W"),
    (S + "callbacks", [named(PL + "EMAWeightAveraging", decay="x")], r"\.decay: must be what `EMA"),
    (S + "callbacks", [named(PL + "EMAWeightAveraging", zz=1)], "has no argument 'zz'"),
    (M + "backbone", named("torch.nn.MultiheadAttention", embed_dim=3, num_heads=2), "does not t"),
    (M + "backbone", named("torch.nn.GroupNorm", num_groups=0, num_channels=2), "does not take"),
    (M + "backbone", named("torch.nn.Embedding", num_embeddings=-3, embedding_dim=2), "not take"),
    (M + "backbone", "resnet51", "`backbone` must be a name that timm"),
    (M + "backbone", named("torch.nn.Linear", in_features=3), "`Linear` needs 'out_f"),
    (M + "backbone", named("torch.fx.GraphModule", root={}, graph="x"), "does not take"),
    (M + "weights", 3, r"model\.weights: must be text or null"),
    (M + "weights", "nowhere.safetensors", "there is none at 'nowhere.safetensors'"),
    (M + "optim", {"optimizer": "AdamX"}, r"model\.optim: .*leads nowhere"),
    (M + "optim", {"optimizer": 3}, r"`optim\.optimizer` must be text or a mapping"),
    (M + "optim", {"optimizer": "torch.nn.Linear"}, "must name a subclass of `torch.optim"),
    (M + "optim", {"lr": "x"}, r"model\.optim\.lr: has no effect in a recipe"),
    (M + "optim", {"lrr": 1}, "Did you mean `lr`"),
    (M + "optim", {"weight_decay": -1}, "`weight_decay` must be at least 0"),
    (M + "head", {"hiden": 8}, "Did you mean `hidden`"),
    (M + "head", {"hidden": "x"}, r"`head\.hidden` must be a whole number, but is 'x'"),
    (M + "head", 3, "must be 'course', 'linear' or a mapping"),
    (M + "num_groups", 99, "`num_groups` must be between"),
    (M + "labels", {"zz": 1}, "has no key 'zz'"),
    (M + "labels", {"kind": "zz"}, r"`labels\.kind` must be"),
    (M + "labels", {"threshold": "zz"}, r"`labels\.threshold` must be"),
    (M + "labels", {"pos_weight": "zz"}, "`labels.pos_weight` must be|`pos_weight` must be"),
    (M + "labels", {"loss": 3}, "must be"),
    (M + "labels", {"loss": {"smoothing": 1}}, r"`loss\.smoothing` must lie in \[0, 1\), got 1"),
    (M + "labels", {"loss": {"smoothing": "x"}}, "smoothing` must"),
    (M + "labels", {"loss": {"smoothin": 0.1}}, "Did you mean `smoothing`"),
    (M + "labels", {"loss": {"focal_gamma": -1}}, r"`loss\.focal_gamma` must be a number"),
    (M + "labels", {"loss": {"focal_gamma": float("nan")}}, r"`loss\.focal_gamma` must be"),
    (M + "labels", {"loss": {"class_weight": "zz"}}, r"loss\.class_weight` must be"),
    (M + "labels", {"loss": {"class_weight": [-1, 1]}}, r"loss\.class_weight` must be"),
    (M + "labels", {"loss": "torch.nn.Nothing"}, "torch.nn.Nothing"),
    (M + "labels", {"loss": "torch.nn.Linear"}, "Linear"),
    (M + "metrics", [F1], r"model\.metrics: must be a mapping from names to metrics"),
    (M + "metrics", {"loss": F1}, "but got 'loss'. Give that metric another name"),
    (M + "metrics", {"a.b": F1}, r"names of text without a full stop.* but got 'a\.b'"),
    (M + "metrics", {"train": F1}, "but got 'train'. Give that metric another name"),
    (M + "metrics", {"": F1}, "but got ''"),
    (M + "metrics", {1: F1}, "but got 1"),
    (M + "metrics", {"f1": 3}, r"`metrics\.f1` must be a torchmetrics metric"),
    (M + "metrics", {"f1": named(F1, average="zz")}, "does not take .* or choose a metric of cla"),
    (M + "metrics", {"f1": "torchmetrics.MetricTracker"}, "but got 'torchmetrics.MetricTracker'"),
    (M + "metrics", {"f1": {"class_path": F1, "init_args": 3}}, "must be a mapping of arguments"),
    ("model", "lightning_fastrecipes.TabularRegressor", "images need a model of images"),
    ("evaluation", {"splits": "val"}, r"evaluation\.splits: must be a list"),
    ("evaluation", {"splits": ["vall"]}, r"evaluation\.splits\[0\]: must be 'val' or 'test'"),
    ("evaluation", {"crop_fraction": 5}, r"`crop_fraction` must lie in"),
    ("evaluation", {"batch_size": 0}, "must be at least 1, but is 0"),
    ("evaluation", {"tta": "x"}, r"evaluation\.tta: must be a whole number, a mapping"),
    ("evaluation", {"tta": -2}, "`n` must be at least 1"),
    ("evaluation", {"tta": {"preset": "zz"}}, r"evaluation\.tta\.preset: must be 'training'"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}"[:70]) for case in WRONG],
)
def test_check_says_what_is_wrong_in_plain_words(recipe_file, capsys, key, value, message) -> None:
    assert main(["check", str(_changed(recipe_file, {key: value}))]) in (1, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
    assert not RAW.search(said), said
    assert len(said) < 1200


OURS = "lightning_fastrecipes."
REFUSED: list[tuple[dict, str]] = [
    (named(OURS + "Tags", column=None), r"data\.table\.labels\.column: must be text, but is None"),
    (named(OURS + "Tags", separator=""), r"data\.table\.labels: `separator` must"),
    ({"separator": "", "columns": None}, r"data\.table\.labels: `separator` must"),
    (named(OURS + "SoftLabels", classes=["a"]), r"labels: `classes` must be two or more"),
    (named(OURS + "Numbers", columns="n", log=["zz"]), r"labels: `log` of `Numbers` must be"),
    (named(OURS + "Tags", colum="x"), r"labels: has no key 'colum'\. Did you mean `column`"),
]


@pytest.mark.parametrize(("labels", "message"), REFUSED)
def test_the_class_that_is_meant_says_what_it_refuses(recipe_file, capsys, labels, message) -> None:
    table = named(OURS + "ImageCSVDataModule", csv="t.csv", image_size=32, table={"labels": labels})
    assert main(["check", str(_changed(recipe_file, {"data": table}))]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
    assert not RAW.search(said), said


def test_check_builds_what_it_can_and_reads_no_data(recipe_file, capsys, monkeypatch) -> None:
    changes = {D + "root": "nowhere", M + "metrics": {"f1": F1}, "evaluation": {"tta": 4}}
    assert main(["check", str(_changed(recipe_file, changes))]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "fine (3 stages); the data were not read: `fastrecipes explain` reads them" in said
    # Nor does it fetch weights.
    monkeypatch.setattr("timm.models._builder.load_pretrained", None)
    assert main(["check", str(_changed(recipe_file, {M + "pretrained": True}))]) == 0


@pytest.mark.parametrize(
    ("monitor", "message"),
    [("val_acc", "Did you mean `val_accuracy`"), ("zz", "train_loss, val_loss, val_accuracy")],
)
def test_what_no_stage_logs_is_refused_before_training(
    recipe_file, tmp_path, capsys, monitor, message
) -> None:
    stop = named(PL + "EarlyStopping", monitor=monitor)
    path = _changed(recipe_file, {S + "callbacks": [stop]})
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "callbacks[0].monitor: must be what the stage logs" in said
    assert message in " ".join(said.split())
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"val_check_interval": 5000}, "the training batches of an epoch, but is 5000"),
        ({"val_check_interval": 2, "limit_train_batches": 1}, "must be at most 1,"),
        ({"val_check_interval": 5000, "check_val_every_n_epoch": None}, ""),
        ({"val_check_interval": 3}, ""),
    ],
)
def test_an_epoch_has_the_batches_after_which_it_is_validated(
    recipe_file, capsys, trainer, message
) -> None:
    changes = {T + name: value for name, value in trainer.items()}
    path = _changed(recipe_file, changes)
    assert main(["explain", str(path)]) == (2 if message else 0)
    assert message in " ".join(capsys.readouterr().err.split())


def test_whole_numbers_of_a_trainer_are_not_shares(recipe_file) -> None:
    path = _changed(recipe_file, {T + "limit_train_batches": 1, T + "limit_val_batches": 1.0})
    found = load_recipe(path).trainer
    assert type(found["limit_train_batches"]) is int
    assert type(found["limit_val_batches"]) is float


def test_a_checkpoint_of_ones_own_stands_beside_that_of_the_stage(recipe_file, tmp_path) -> None:
    best = named(PL + "ModelCheckpoint", monitor="val_loss", dirpath="best")
    path = _changed(recipe_file, {S + "callbacks": [best], S + "max_epochs": 1})
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 0
    assert [*(tmp_path / "run" / "best").glob("*.ckpt")]


def _changed(path: Path, changes: dict[str, Any]) -> Path:
    document = yaml.safe_load(path.read_text())
    if isinstance(document["stages"], list):
        document["stages"] = {stage.pop("name"): stage for stage in document["stages"]}
    for key, value in changes.items():
        *above, last = key.split(".")
        part = document
        for name in above:
            part = part[name]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_a_table_need_not_be_there_to_be_checked(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "rossmann"]) == 0
