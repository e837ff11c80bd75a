"""Both Lightnings: which one the package is built on, and parts of the other one."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from helpers.trainers import QUIET
from torch.utils.data import DataLoader, TensorDataset

import lightning_fastrecipes as fr
from lightning_fastrecipes import _lightning
from lightning_fastrecipes._lightning import LIGHTNING, VARIABLE, SetupError
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.recipe.artifacts.environment import package_versions
from lightning_fastrecipes.recipe.loading import load_recipe

OTHER = {"pytorch_lightning": "lightning.pytorch"}.get(LIGHTNING, "pytorch_lightning")
PUBLIC = {name: getattr(fr, name) for name in fr.__all__}
CALLBACKS = [
    one for one in PUBLIC.values() if inspect.isclass(one) and issubclass(one, pl.Callback)
]
BOTH_NAMED = rf"built on `{LIGHTNING}`, but \w+ is of `{OTHER}`.*set the environment variable"

pytestmark = pytest.mark.both


@pytest.mark.parametrize(
    ("imported", "asked", "expected"),
    [
        ([], None, "pytorch_lightning"),
        (["pytorch_lightning"], None, "pytorch_lightning"),
        (["lightning.pytorch"], None, "lightning.pytorch"),
        (["lightning.pytorch", "pytorch_lightning"], None, "pytorch_lightning"),
        (["lightning"], None, "pytorch_lightning"),  # `lightning.fabric` alone
        (["lightning.pytorch"], "pytorch_lightning", "pytorch_lightning"),
        (["pytorch_lightning"], "lightning", "lightning.pytorch"),
        ([], "lightning.pytorch", "lightning.pytorch"),
    ],
)
def test_the_one_that_is_imported_is_used_unless_asked_otherwise(imported, asked, expected):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pytorch_lightning", "lightning", "lightning.pytorch"):
            patch.delitem(sys.modules, name, raising=False)
        for name in imported:
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setenv(VARIABLE, asked or "")
        found = _lightning._decide()
    assert found == expected


def test_another_value_of_the_variable_is_refused():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "torch")
        with pytest.raises(ConfigurationError, match=r"must be 'lightning' or .*, got 'torch'"):
            _lightning._decide()


def of_the_other(name: str, **attributes) -> object:
    """Stand in for an object of a class of the other Lightning."""
    cls = type(name, (), {"__module__": f"{OTHER}.somewhere", **attributes})
    return type(f"My{name}", (cls,), {"__module__": "users_script"})()


@pytest.mark.parametrize("cls", CALLBACKS, ids=lambda cls: cls.__name__)
def test_every_callback_refuses_the_other_trainer(cls):
    callback = cls.__new__(cls)
    with pytest.raises(SetupError, match=f"`{cls.__name__}` is {BOTH_NAMED}"):
        callback.setup(of_the_other("Trainer"), pl.LightningModule(), "fit")


def test_callbacks_refuse_what_else_is_of_the_other():
    for part in ("callbacks", "datamodule"):
        stranger = of_the_other("EMAWeightAveraging")
        trainer = pl.Trainer(**QUIET)
        setattr(trainer, part, [stranger] if part == "callbacks" else stranger)
        with pytest.raises(SetupError, match=BOTH_NAMED):
            fr.SGDR().setup(trainer, pl.LightningModule(), "fit")


@pytest.mark.parametrize(
    "cls", [fr.TabularDataModule, fr.ImageFolderDataModule, fr.FeatureDataModule]
)
def test_every_datamodule_refuses_the_other_trainer(cls):
    data = cls.__new__(cls)
    with pytest.raises(SetupError, match=f"`{cls.__name__}` is {BOTH_NAMED}"):
        data.trainer = of_the_other("Trainer")
    data.trainer = None
    assert data.trainer is None


def test_the_finder_refuses_parts_of_the_other():
    for arguments in (
        {"model": of_the_other("LightningModule"), "datamodule": []},
        {"model": pl.LightningModule(), "datamodule": of_the_other("LightningDataModule")},
        {"model": None, "datamodule": [], "callbacks": [of_the_other("Callback")]},
    ):
        with pytest.raises(SetupError, match=f"`lr_find` is {BOTH_NAMED}"):
            fr.lr_find(**arguments)


def test_a_recipe_that_names_the_other_gets_the_classes_of_this_one(recipe_file):
    stop = {"class_path": f"{OTHER}.callbacks.EarlyStopping", "init_args": {"monitor": "val_loss"}}
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"][2]["callbacks"].append(stop)
    recipe_file.write_text(yaml.safe_dump(document))
    schedule, found = load_recipe(recipe_file).stages[2].callbacks
    assert schedule.class_path == "lightning_fastrecipes.SGDR"
    assert found.class_path == f"{LIGHTNING}.callbacks.EarlyStopping"
    assert found.load() is pl.callbacks.EarlyStopping


def test_a_run_notes_the_version_of_the_one_that_it_used():
    of_both = {"pytorch-lightning", "lightning"} & set(package_versions())
    assert of_both == {LIGHTNING.partition(".")[0].replace("_", "-")}


# With both of them installed.


@pytest.fixture
def other():
    """The other Lightning; the tests that run in `lightning` have no `pytorch_lightning`."""
    if LIGHTNING != "pytorch_lightning":
        pytest.skip("`pytorch_lightning` is `lightning` here")
    return pytest.importorskip("lightning.pytorch")


def boring(other):
    class Boring(other.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).square().mean()

        validation_step = training_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    return Boring()


def loader():
    return DataLoader(TensorDataset(torch.ones(8, 4)), batch_size=4)


def make(cls):
    required = {"TrainMetrics": (2,), "StepSchedule": ({0: 1.0},), "ProgressiveResizing": ({0: 8},)}
    return cls(*required.get(cls.__name__, ()))


@pytest.mark.parametrize("cls", CALLBACKS, ids=lambda cls: cls.__name__)
def test_the_other_trainer_ends_in_our_sentence(cls, other):
    trainer = other.Trainer(**QUIET, max_epochs=1, callbacks=[make(cls)])
    with pytest.raises(SetupError, match=BOTH_NAMED):
        trainer.fit(boring(other), loader())


def test_data_in_the_other_trainer_end_in_our_sentence(other):
    frame = pd.DataFrame({"x": [1.0, 2.0] * 8, "y": [0.0, 1.0] * 8})
    data = fr.TabularDataModule(frame, fr.TableColumns("y", [], ["x"]), split=0.5, cache="off")
    trainer = other.Trainer(**QUIET, max_epochs=1)
    with pytest.raises(SetupError, match=BOTH_NAMED):
        trainer.fit(boring(other), datamodule=data)


def test_parts_of_the_other_in_our_trainer_end_in_our_sentence(other):
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[fr.SGDR(), other.callbacks.Timer()])
    with pytest.raises(SetupError, match=r"but Timer is of `lightning\.pytorch`"):
        trainer.fit(boring(pl), loader())
    with pytest.raises(SetupError, match=r"but Boring is of `lightning\.pytorch`"):
        fr.lr_find(boring(other), loader())


SCRIPT = """
import lightning.pytorch as pl
import lightning_fastrecipes as fr

assert issubclass(fr.SGDR, pl.Callback)
assert issubclass(fr.TabularRegressor, pl.LightningModule)
assert issubclass(fr.TabularDataModule, pl.LightningDataModule)
"""


@pytest.mark.usefixtures("other")
def test_a_script_of_the_other_gets_its_classes():
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env=environment)


@pytest.mark.slow
@pytest.mark.usefixtures("other")
def test_the_whole_suite_passes_in_the_other():
    tests = Path(__file__).parent
    options = ["-q", "-n", "auto", "--dist", "loadfile", "-p", "no:cacheprovider"]
    paths = os.pathsep.join([str(tests / "twin"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {VARIABLE: "lightning", "PYTHONPATH": paths}
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        check=True, env=environment, cwd=tests.parent,
    )  # fmt: skip
