"""Strategies that spread the weights over processes are refused in our words, before anything."""

import inspect
import os
from unittest.mock import patch

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from helpers.trainers import QUIET
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader, TensorDataset

import lightning_fastrecipes as fr
from lightning_fastrecipes._lightning import SetupError, keeps_whole_weights
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.cli.main import main

pytestmark = [
    pytest.mark.both,
    pytest.mark.filterwarnings("ignore:.*No seed found|.*LightningCLI's args"),
]

STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
PUBLIC = {name: getattr(fr, name) for name in fr.__all__}
"""Names of the public classes and functions."""
SHARDED = (fr.EpochTable, fr.FiniteLossCheck, fr.RisingLossCheck)
"""What works on shards beside schedules, as ``distributed/test_shards.py`` checks."""


def public(base: type) -> dict[str, type]:
    return {n: one for n, one in PUBLIC.items() if inspect.isclass(one) and issubclass(one, base)}


class StandIn(ModelParallelStrategy):
    """A strategy of Lightning's that needs no GPU, as far as ours may let it come."""

    def setup_environment(self) -> None:
        """Start no group of processes."""

    def setup(self, trainer) -> None:
        pytest.fail("the weights were spread")


class Alone(LightningEnvironment):
    """Starts no process."""

    creates_processes_externally = True


def trainer_of(name: str, *callbacks: pl.Callback) -> pl.Trainer:
    strategy = type(name, (StandIn,), {})()
    options = QUIET | {"strategy": strategy, "plugins": [Alone()], "max_epochs": 1}
    return pl.Trainer(callbacks=list(callbacks), **options)


class Plain(pl.LightningModule):
    """A module that knows nothing of our package, and may not be built."""

    def configure_model(self) -> None:
        pytest.fail("the module was built")

    def training_step(self, batch, batch_idx):
        pytest.fail("it trained")

    predict_step = validation_step = test_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(4, 3)), batch_size=2)


def said(name: str, asker: str) -> str:
    return f"`{asker}` needs whole weights in every process.*but {name} spreads them"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_callback_refuses_shards_before_the_module_is_built(name) -> None:
    required = {"TrainMetrics": (2,), "StepSchedule": ({0: 1.0},), "ProgressiveResizing": ({0: 8},)}
    for asker, cls in public(pl.Callback).items():
        callback = cls(*required.get(asker, ()))
        if not callback.needs_whole_weights:
            assert isinstance(callback, (Schedule, *SHARDED))
            continue
        with pytest.raises(SetupError, match=said(name, asker)):
            trainer_of(name, callback).fit(Plain(), loader())
    with pytest.raises(SetupError, match=said(name, "TestTimeAugmentation")):
        trainer_of(name, fr.TestTimeAugmentation()).predict(Plain(), loader())


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_task_refuses_shards(name) -> None:
    models = {
        "Ensemble": lambda: fr.Ensemble([torch.nn.Identity()]),
        "ImageClassifier": lambda: fr.ImageClassifier("test_resnet.r160_in1k"),
        "ImageRegressor": lambda: fr.ImageRegressor("test_resnet.r160_in1k"),
    }
    for asker, cls in public(pl.LightningModule).items():
        model = models.get(asker, cls)()
        runs = ["predict"] if asker == "Ensemble" else ["fit", "validate", "predict"]
        for run in runs:
            with pytest.raises(SetupError, match=said(name, asker)):
                getattr(trainer_of(name), run)(model, loader())


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_datamodule_refuses_shards_before_it_reads_anything(name, monkeypatch) -> None:
    for asker, cls in public(pl.LightningDataModule).items():
        for hook in ("prepare_data", "setup"):
            monkeypatch.setattr(cls, hook, lambda self, *_: pytest.fail("read"))
        data = cls.__new__(cls)
        pl.LightningDataModule.__init__(data)
        with pytest.raises(SetupError, match=said(name, asker)):
            trainer_of(name).fit(Plain(), datamodule=data)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_finder_refuses_shards(name) -> None:
    strategy = type(name, (StandIn,), {})()
    with pytest.raises(SetupError, match=said(name, "LRFinder")):
        fr.lr_find(Plain(), loader(), accelerator="cpu", strategy=strategy, plugins=[Alone()])


def test_the_command_line_of_lightning_ends_in_our_words(tmp_path) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0] * 8, "y": [0.0, 1.0] * 8})
    frame.to_csv(tmp_path / "table.csv")
    flags = [f"--data.source={tmp_path}/table.csv", "--data.columns.target=y", "--data.cache=off"]
    flags += ["--data.columns.continuous=[x]", "--data.split=0.5", "--trainer.accelerator=cpu"]
    flags += [f"--trainer.{name}=false" for name in ("logger", "enable_checkpointing")]
    strategy = "{class_path: pytorch_lightning.strategies.ModelParallelStrategy}"
    flags += [f"--trainer.strategy={strategy}"]
    message = said("ModelParallelStrategy", "TabularDataModule")
    # Lightning tells the processes that it starts where to meet.
    with patch.dict(os.environ), pytest.raises(SetupError, match=message):
        LightningCLI(
            fr.TabularRegressor, fr.TabularDataModule, args=["fit", *flags],
            save_config_callback=None,
        )  # fmt: skip


@pytest.mark.parametrize(
    "strategy",
    [
        "fsdp",
        "fsdp_cpu_offload",
        "deepspeed",
        "deepspeed_stage_3",
        {"class_path": "pytorch_lightning.strategies.ModelParallelStrategy"},
        {"class_path": "pytorch_lightning.strategies.FSDPStrategy"},
    ],
)
def test_a_recipe_that_asks_for_shards_is_refused_when_it_is_read(
    strategy, recipe_file, capsys
) -> None:
    document = yaml.safe_load(recipe_file.read_text())
    document["trainer"] |= {"strategy": strategy, "devices": 2}
    recipe_file.write_text(yaml.safe_dump(document))
    for command in ("check", "explain", "run"):
        assert main([command, str(recipe_file)]) == 2
        wrong = capsys.readouterr().err
        assert "trainer.strategy: must keep whole weights in every process" in wrong
        assert "Use `ddp`, or leave it out" in wrong
    if isinstance(strategy, str):
        del document["trainer"]["strategy"]
        recipe_file.write_text(yaml.safe_dump(document))
        assert main(["check", str(recipe_file), f"--trainer.strategy={strategy}"]) == 2
        assert "trainer.strategy: must keep whole" in capsys.readouterr().err


def test_strategies_that_keep_whole_weights_are_told_apart() -> None:
    kept = ["auto", "ddp", "ddp_find_unused_parameters_true", "ddp_spawn", "single_device", "zz"]
    assert [name for name in kept if not keeps_whole_weights(name)] == []
    spread = ["fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_2_offload"]
    assert [name for name in spread if keeps_whole_weights(name)] == []
    assert keeps_whole_weights(pl.strategies.DDPStrategy())
    assert not keeps_whole_weights(ModelParallelStrategy())
    for name in STRATEGIES:
        # Without its constructor, which asks for a package or a GPU.
        kind = getattr(pl.strategies, name)
        assert not keeps_whole_weights(kind.__new__(kind))
