"""Every public class in Lightning's own command line: from flags, from files, and printed again."""

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from helpers.number_images import draw_numbers
from helpers.trainers import QUIET
from PIL import Image
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import DataError

pytestmark = [
    pytest.mark.both,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*No seed found|.*seed_everything"),
]

OURS = "lightning_fastrecipes."
BACKBONE = {"backbone": "test_resnet.r160_in1k", "head": {"hidden": 8}}

MODELS: dict[str, dict[str, Any]] = {
    "Ensemble": {"members": [{"class_path": "torch.nn.Identity"}]},
    "ImageClassifier": {
        **BACKBONE,
        "num_classes": 2,
        "labels": {"threshold": "per_label", "kind": "multi"},
        "metrics": {"f1": "torchmetrics.classification.MultilabelF1Score"},
        "optim": {"optimizer": "torch.optim.AdamW", "weight_decay": 0.1},
    },
    "ImageRegressor": {**BACKBONE, "numbers": [{"name": "age"}], "loss": "mae"},
    "TabularClassifier": {"network": {"layers": [8]}, "lr": 0.01},
    "TabularMultiTarget": {"loss_weights": {"sales": 2.0}},
    "TabularRegressor": {"y_range": [0.0, 1.0], "metrics": {"rmspe": f"{OURS}RMSPE"}},
}
CALLBACKS: dict[str, dict[str, Any]] = {
    "Averaging": {"kind": "ema", "decay": 0.99},
    "CycleSnapshots": {"keep": 2, "which": "best"},
    "EpochTable": {},
    "FiniteLossCheck": {},
    "FlatCosine": {"flat": 0.5},
    "ImageMixing": {"num_classes": 2},
    "InitialLossCheck": {"tolerance": 0.2},
    "KeepBest": {},
    "LRFinder": {"epochs": [0, 2], "on": "val"},
    "MultiLabelSwitch": {"pos_weight": [1.0, 2.0]},
    "OneCycle": {"momentum_range": [0.8, 0.9]},
    "OverfittingStop": {"gap_patience": 2},
    "ProgressiveResizing": {"sizes": {0: 32, 2: 64}},
    "RisingLossCheck": {"factor": 3.0},
    "SGDR": {"cycle_mult": 2, "by": "step"},
    "SaveEvery": {"every": "5min"},
    "StepSchedule": {"factors": {0: 1.0, 3: 0.1}, "replace_scheduler": True},
    "TestTimeAugmentation": {"preset": "flips", "plain_weight": "learn"},
    "TrainMetrics": {"num_samples": 9},
    "Triangular": {},
    "ValidationGuard": {"loss_name": "val/loss"},
}


SLOWER = sorted(set(MODELS) - {"TabularRegressor"})


def public(base: type) -> set[str]:
    classes = {name: getattr(fr, name) for name in fr.__all__}
    return {n for n, one in classes.items() if inspect.isclass(one) and issubclass(one, base)}


def run(*arguments: Any, args: Any, **options: Any) -> LightningCLI:
    return LightningCLI(*arguments, args=args, save_config_callback=None, **options)


def spec(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": OURS + name, "init_args": arguments}


@pytest.fixture
def data_specs(tmp_path: Path, squares: Path) -> dict[str, dict[str, Any]]:
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in squares.rglob("*.png")]
    (squares / "labels.csv").write_text("\n".join(["file,label", *rows]))
    arrays = {"x": np.zeros((8, 8, 8, 3), np.uint8), "y": np.arange(8) % 2}
    np.savez(tmp_path / "digits.npz", **arrays)
    write_table(tmp_path)
    images = {"image_size": 32, "batch_size": 4, "num_workers": 0}
    folder = {"root": str(squares), "split": {"val": 0.25}, **images}
    return {
        "FeatureDataModule": {
            "images": spec("ImageFolderDataModule", folder),
            "model": spec("ImageClassifier", {**BACKBONE, "num_classes": 2}),
        },
        "ImageArrayDataModule": {"source": str(tmp_path / "digits.npz"), "split": 0.5, **images},
        "ImageCSVDataModule": {
            "csv": str(squares / "labels.csv"),
            "table": {"labels": spec("SingleLabel", {"column": "label"})},
            "geometry": {"resize": "squish"},
            **images,
        },
        "ImageFolderDataModule": {
            **folder,
            "augmentation": {"class_path": f"{OURS}Augmentation", "init_args": {"preset": "basic"}},
        },
        "TabularDataModule": TABLE | {"source": str(tmp_path / "sales.csv")},
    }


TABLE: dict[str, Any] = {
    "columns": {"target": "sales", "categorical": ["shop"], "continuous": ["price"]},
    "split": {"val": 0.25},
    "reading": {"separator": ","},
    "batch_size": 16,
    "cache": False,
}


def write_table(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"shop": draw.choice(list("abc"), 64), "price": draw.random(64)})
    frame["sales"] = frame["price"] * 3 + 1
    frame.to_csv(folder / "sales.csv", index=False)
    return folder / "sales.csv"


def test_every_public_class_has_a_row(data_specs) -> None:
    assert set(MODELS) == public(pl.LightningModule)
    assert set(CALLBACKS) == public(pl.Callback)
    assert set(data_specs) == public(pl.LightningDataModule)


def built_twice(arguments: dict[str, Any], tmp_path: Path) -> list[LightningCLI]:
    """Build from values, and once more from the file of what was built."""
    clis = []
    for step in range(2):
        options = {"subclass_mode_model": True, "subclass_mode_data": True, "run": False}
        cli = run(pl.LightningModule, pl.LightningDataModule, args=arguments, **options)
        written = tmp_path / f"printed-{step}.yaml"
        written.write_text(cli.parser.dump(cli.config))
        arguments = ["--config", str(written)]
        clis.append(cli)
    first, second = ((tmp_path / f"printed-{step}.yaml").read_text() for step in range(2))
    assert first == second
    return clis


def test_every_model_and_datamodule_is_built_from_class_paths(data_specs, tmp_path) -> None:
    pairs = dict.fromkeys(MODELS, "TabularDataModule") | {
        "Ensemble": "ImageArrayDataModule",
        "ImageClassifier": "ImageCSVDataModule",
        "ImageRegressor": "ImageFolderDataModule",
    }
    assert set(pairs.values()) == set(data_specs) - {"FeatureDataModule"}
    for model, data in pairs.items():
        arguments = {
            "trainer": QUIET,
            "model": spec(model, MODELS[model]),
            "data": spec(data, data_specs[data]),
        }
        for cli in built_twice(arguments, tmp_path):
            assert type(cli.model).__name__ == model
            assert type(cli.datamodule).__name__ == data


def test_features_of_a_model_that_is_not_frozen_are_refused_in_our_words(data_specs) -> None:
    # They are those of the very model that is trained, frozen by a method: a matter of scripts.
    arguments = {"data": spec("FeatureDataModule", data_specs["FeatureDataModule"])}
    arguments |= {"trainer": QUIET, "model": spec("ImageClassifier", {**BACKBONE})}
    options = {"subclass_mode_model": True, "subclass_mode_data": True, "run": False}
    with pytest.raises(ValueError, match=r"need layers that are frozen.*model.freeze\(\)"):
        run(pl.LightningModule, pl.LightningDataModule, args=arguments, **options)


def test_every_callback_is_built_from_class_paths(data_specs, tmp_path) -> None:
    callbacks = [spec(name, arguments) for name, arguments in CALLBACKS.items()]
    arguments = {
        "trainer": QUIET | {"callbacks": callbacks},
        "model": spec("TabularRegressor", {}),
        "data": spec("TabularDataModule", data_specs["TabularDataModule"]),
    }
    for cli in built_twice(arguments, tmp_path):
        found = {type(one).__name__: one for one in cli.trainer.callbacks}
        assert set(CALLBACKS) <= set(found)
        assert found["ProgressiveResizing"].sizes == {0: 32, 2: 64}
        assert found["StepSchedule"].factors == {0: 1.0, 3: 0.1}
        assert found["SGDR"].by == "step"


def test_fit_and_validate_from_the_printed_config(tmp_path, capsys) -> None:
    classes = (fr.TabularRegressor, fr.TabularDataModule)
    flags = [f"--data.source={write_table(tmp_path)}", "--model.lr=0.01", "--trainer.logger=false"]
    flags += [f"--data.{name}={yaml.safe_dump(value, default_flow_style=True).strip()}"
              for name, value in TABLE.items()]  # fmt: skip
    flags += ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--model.network.layers=[8]"]
    flags += [f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false"]
    flags += ["--trainer.callbacks+=lightning_fastrecipes.SGDR", "--trainer.callbacks.cycle_len=2"]
    with pytest.raises(SystemExit) as ended:
        run(*classes, args=["fit", *flags, "--print_config"])
    assert not ended.value.code
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert yaml.safe_load(printed.read_text())["data"]["columns"]["target"] == "sales"

    fitted = run(*classes, args=["fit", f"--config={printed}"])
    assert fitted.trainer.global_step == 6
    assert fitted.trainer.callbacks[0].cycle_len == 2
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    again = [f"--config={printed}", f"--ckpt_path={checkpoint}"]
    validated = run(*classes, args=["validate", *again])
    fitted.trainer.validate(fitted.model, fitted.datamodule, verbose=False)
    assert validated.trainer.callback_metrics["val_loss"] == pytest.approx(
        float(fitted.trainer.callback_metrics["val_loss"])
    )


def test_images_train_and_predict_from_flags_alone(squares, tmp_path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(squares, root / "train")
    (root / "test").mkdir()
    for index, path in enumerate(squares.rglob("*.png")):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(root / "test" / f"{index}.png")
    flags = [f"--data.root={root}", "--data.image_size=32", "--data.batch_size=8"]
    flags += ["--data.split.val=0.25", "--data.num_workers=0", "--data.augmentation=side_on"]
    flags += ["--model.backbone=test_resnet.r160_in1k", "--model.head.hidden=8"]
    options = {name: value for name, value in QUIET.items() if name != "enable_checkpointing"}
    flags += [f"--trainer.{name}={str(value).lower()}" for name, value in options.items()]
    flags += ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}"]
    flags += ["--model.metrics={f1: {class_path: torchmetrics.classification.MulticlassF1Score}}"]
    classes = (fr.ImageClassifier, fr.ImageFolderDataModule)
    fitted = run(*classes, args=["fit", *flags])
    assert "val_f1" in fitted.trainer.callback_metrics
    assert torch.isfinite(fitted.trainer.callback_metrics["val_loss"])

    (checkpoint,) = tmp_path.rglob("*.ckpt")
    predicted = run(*classes, args=["predict", *flags, f"--ckpt_path={checkpoint}"])
    probabilities = torch.cat(predicted.trainer.predict_loop.predictions)
    assert probabilities.shape == (28, 2)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(28))
    expected = torch.cat(fitted.trainer.predict(fitted.model, fitted.datamodule))
    torch.testing.assert_close(probabilities, expected)


@pytest.fixture
def fitted_specs(tmp_path: Path, data_specs) -> dict[str, tuple[dict, dict]]:
    """Return a model and data for it, for every public model that trains."""
    images = draw_numbers(tmp_path / "numbers", 16)
    numbers = spec("Numbers", {"columns": ["red"]})
    csv = {"csv": str(images / "numbers.csv"), "table": {"labels": numbers}, "split": 0.25}
    csv |= {"image_size": 32, "batch_size": 4, "num_workers": 0}
    table = data_specs["TabularDataModule"]
    classes = {"target": "shop", "continuous": ["price", "sales"], "task": "classes"}
    both = {"target": ["sales", "shop"], "continuous": ["price"]}
    both["task"] = {"sales": "regression", "shop": "classes"}
    return {
        "ImageClassifier": (BACKBONE, spec("ImageCSVDataModule", data_specs["ImageCSVDataModule"])),
        "ImageRegressor": (BACKBONE, spec("ImageCSVDataModule", csv)),
        "TabularClassifier": ({}, spec("TabularDataModule", table | {"columns": classes})),
        "TabularMultiTarget": ({}, spec("TabularDataModule", table | {"columns": both})),
        "TabularRegressor": ({"lr": 0.01}, spec("TabularDataModule", table)),
    }


@pytest.mark.parametrize(
    "name", ["TabularRegressor", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOWER)]
)
def test_every_model_is_printed_fitted_and_validated_in_subclass_mode(
    name, fitted_specs, tmp_path, capsys
) -> None:
    assert {*fitted_specs, "Ensemble"} == set(MODELS) == {*SLOWER, "TabularRegressor"}
    model, data = fitted_specs.get(name) or (MODELS[name], fitted_specs["ImageClassifier"][1])
    config = {
        "model": spec(name, model),
        "data": data,
        "trainer": QUIET | {"enable_checkpointing": True, "max_epochs": 1},
    }
    config["trainer"]["default_root_dir"] = str(tmp_path)
    written, printed = tmp_path / "written.yaml", tmp_path / "printed.yaml"
    written.write_text(yaml.safe_dump(config))

    def start(command: str, *flags: str) -> LightningCLI:
        modes = {"subclass_mode_model": True, "subclass_mode_data": True}
        classes = (pl.LightningModule, pl.LightningDataModule)
        return run(*classes, args=[command, *flags], **modes)

    with pytest.raises(SystemExit) as ended:
        start("fit", f"--config={written}", "--print_config")
    assert not ended.value.code
    printed.write_text(capsys.readouterr().out)
    again = f"--config={printed}"
    if name == "Ensemble":
        with pytest.raises(MisconfigurationException, match="No `training_step"):
            start("fit", again)
        return
    fitted = start("fit", again)
    assert fitted.trainer.global_step > 0
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    validated = start("validate", again, f"--ckpt_path={checkpoint}")
    fitted.trainer.validate(fitted.model, fitted.datamodule, verbose=False)
    assert validated.trainer.callback_metrics["val_loss"] == pytest.approx(
        float(fitted.trainer.callback_metrics["val_loss"]), rel=1e-5
    )
    loaded = type(fitted.model).load_from_checkpoint(checkpoint)
    torch.testing.assert_close(loaded.state_dict(), fitted.model.state_dict())
    with pytest.raises(DataError, match=r"There are no (rows|unlabelled images) to predict"):
        start("predict", again, f"--ckpt_path={checkpoint}")
